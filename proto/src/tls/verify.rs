//! OpenVPN's certificate rules over webpki and x509-parser.
//!
//! With a CA, webpki builds and checks the chain; what OpenSSL checks beyond that (validity and CA flag of
//! the trusted certificate itself, key usage of issuers) is added in `chain`. Then OpenVPN's own rules hold
//! for the leaf (`openvpn: ssl_verify.c`, `verify_cert`, `verify_peer_cert`).
//!
//! Two kinds of leaf that webpki refuses are taken where no chain is needed: a version 1 certificate or one
//! marked as CA, if it is named by `peer-fingerprint` without `ca`, or if it is itself, byte by byte and
//! self-signed, in `ca`. A version 1 leaf below a CA is refused, because webpki can't check its chain.
//!
//! As in OpenVPN, `peer-fingerprint` without `ca` decides alone: neither validity nor issuer nor signature of
//! the certificate matter, but its key must still be strong enough.

pub(crate) mod cert;
mod chain;

use std::sync::{Arc, PoisonError, RwLock};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use subtle::ConstantTimeEq;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use self::cert::{Cert, purpose_oid};
use self::chain::{Case, Link};
use super::{PeerIdentity, TlsFailure, TlsFailureKind};
use crate::limits::MAX_SENT_CERTS;

/// What the peer's leaf certificate must fulfil beside a chain to a trusted certificate.
#[derive(Clone, Debug, Default)]
pub struct PeerRules {
    /// `peer-fingerprint`: SHA-256 of acceptable leaf certificates. If there is no CA, one of them is
    /// all that is needed.
    pub fingerprints: Vec<[u8; 32]>,
    /// `remote-cert-tls`.
    pub role: Option<CertRole>,
    /// `remote-cert-ku`: any one of these key usage masks, as OpenVPN writes them (hex).
    pub key_usage: Vec<u16>,
    /// `remote-cert-eku`: this OID, dotted or by OpenSSL's name.
    pub extended_key_usage: Option<String>,
    /// `verify-x509-name`.
    pub name: Option<NameRule>,
    /// `crl-verify`: lists in DER.
    pub crls: Vec<Vec<u8>>,
    /// `crl-verify DIR dir`: revoked serial numbers, decimal.
    pub revoked_serials: Vec<String>,
}

/// `remote-cert-tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertRole {
    /// `server`.
    Server,
    /// `client`.
    Client,
}

/// `verify-x509-name NAME TYPE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// `subject`: the whole subject.
    Subject(String),
    /// `name`: the common name.
    Name(String),
    /// `name-prefix`: the start of the common name.
    NamePrefix(String),
}

/// Longest chain with the leaf (`openvpn: ssl_common.h`, `MAX_CERT_DEPTH`).
pub(crate) const MAX_CERT_DEPTH: usize = 16;

impl CertRole {
    /// What messages call such a peer.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// OID of the extended key usage that such a peer needs.
    fn purpose(self) -> &'static str {
        match self {
            Self::Server => "1.3.6.1.5.5.7.3.1",
            Self::Client => "1.3.6.1.5.5.7.3.2",
        }
    }

    /// Bits of key usage of which such a peer needs one: digital signature, key agreement, and for a server also
    /// key encipherment.
    fn key_usage(self) -> u16 {
        match self {
            Self::Server => 0x80 | 0x20 | 0x08,
            Self::Client => 0x80 | 0x08,
        }
    }
}

/// Why a peer's certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For the user: certificate, reason, cure.
    pub(crate) message: String,
    /// For the peer.
    pub(crate) alert: RefusalAlert,
}

/// What the peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalAlert {
    BadCertificate,
    Expired,
    Revoked,
    UnknownCa,
    Unsupported,
    AccessDenied,
}

impl Refusal {
    fn new(alert: RefusalAlert, message: impl Into<String>) -> Self {
        Self { message: message.into(), alert }
    }
}

/// The [`Verifier`] of all handshakes that begin now.
pub(crate) struct CurrentVerifier(RwLock<Arc<Verifier>>);

impl CurrentVerifier {
    pub(crate) fn new(verifier: Verifier) -> Self {
        Self(RwLock::new(Arc::new(verifier)))
    }

    pub(crate) fn get(&self) -> Arc<Verifier> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, verifier: Verifier) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(verifier);
    }
}

/// [`PeerRules`] and trusted certificates, checked and ready for use in any number of handshakes.
pub(crate) struct Verifier {
    /// DER of the trusted certificates, in step with `anchors`.
    ca: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    crls: Vec<CertRevocationList<'static>>,
    rules: PeerRules,
    /// Dotted OIDs that the leaf's extended key usage must hold, with the text of the option.
    purposes: Vec<(String, String)>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

impl Verifier {
    /// Checks rules and trusted certificates. Errors are [`TlsFailureKind::Local`].
    pub(crate) fn new(
        ca: Vec<Vec<u8>>,
        rules: PeerRules,
        algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    ) -> Result<Self, TlsFailure> {
        if ca.is_empty() && rules.fingerprints.is_empty() {
            return Err(local(
                "nothing says whom to trust: give the CA certificate with `ca` or the peer's certificate with \
                 `peer-fingerprint`",
            ));
        }
        let ca: Vec<CertificateDer<'static>> = ca.into_iter().map(CertificateDer::from).collect();
        let anchors = trust_anchors(&ca)?;
        let purposes = required_purposes(&rules)?;
        let unlisted = Self { ca, anchors, crls: Vec::new(), rules, purposes, algorithms };
        unlisted.renewed(&unlisted.rules.crls, unlisted.rules.revoked_serials.clone())
    }

    /// The same with other revoked certificates (`openvpn: ssl.c`, `tls_ctx_reload_crl`). Errors are
    /// [`TlsFailureKind::Local`].
    pub(crate) fn renewed(&self, crls: &[Vec<u8>], revoked_serials: Vec<String>) -> Result<Self, TlsFailure> {
        let crls = load_crls(crls)?;
        if !crls.is_empty() && self.ca.is_empty() {
            return Err(local("`crl-verify` needs `ca`: without a CA no revocation list can be checked"));
        }
        let rules = PeerRules { crls: Vec::new(), revoked_serials, ..self.rules.clone() };
        let (ca, anchors, purposes) = (self.ca.clone(), self.anchors.clone(), self.purposes.clone());
        Ok(Self { ca, anchors, crls, rules, purposes, algorithms: self.algorithms })
    }

    /// Judges the certificate of a peer in the role `peer` as it is at `unix`, in seconds since 1970.
    pub(crate) fn verify(
        &self,
        peer: CertRole,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        unix: u64,
    ) -> Result<PeerIdentity, Refusal> {
        let cert = Cert::parse(leaf).map_err(|why| {
            Refusal::new(
                RefusalAlert::BadCertificate,
                format!("VERIFY ERROR: depth=0, the {}'s certificate cannot be read: {why}", peer.noun()),
            )
        })?;
        if let Some(why) = cert.key().objection() {
            return Err(chain::unusable(&cert, 0, &why));
        }
        if intermediates.len() > MAX_SENT_CERTS {
            return Err(Refusal::new(
                RefusalAlert::BadCertificate,
                format!(
                    "VERIFY ERROR: depth=0, {}: the {} sent {} certificates, at most {} are taken",
                    cert.subject(),
                    peer.noun(),
                    intermediates.len() + 1,
                    MAX_SENT_CERTS + 1
                ),
            ));
        }
        let mut warnings = Vec::new();
        let path = if self.anchors.is_empty() {
            vec![Link::new(&cert)]
        } else {
            self.build_chain(&Case { peer, leaf, cert: &cert, intermediates, unix }, &mut warnings)?
        };
        self.check_fingerprint(peer, &cert)?;
        let common_name = self.check_leaf(peer, &cert)?;
        let chain = self.check_serials(peer, &path)?;
        let subject = path.first().map_or_else(|| cert.subject(), |link| link.subject.clone());
        let fingerprint = cert.fingerprint();
        let certificates = path.into_iter().map(|link| link.der).collect();
        Ok(PeerIdentity {
            subject,
            common_name: Some(common_name),
            fingerprint,
            chain,
            warnings,
            certificates,
        })
    }

    /// Contents of the subjects of the trusted certificates, in DER without the outer SEQUENCE.
    pub(crate) fn ca_names(&self) -> impl Iterator<Item = &[u8]> {
        self.anchors.iter().map(|anchor| anchor.subject.as_ref())
    }

    /// `openvpn: ssl_verify.c`, `verify_cert`, verify-hash list.
    fn check_fingerprint(&self, peer: CertRole, cert: &Cert<'_>) -> Result<(), Refusal> {
        let got = cert.fingerprint();
        let known = |wanted: &[u8; 32]| bool::from(wanted.ct_eq(&got));
        if self.rules.fingerprints.is_empty() || self.rules.fingerprints.iter().any(known) {
            return Ok(());
        }
        let hex: Vec<String> = got.iter().map(|b| format!("{b:02x}")).collect();
        Err(Refusal::new(
            RefusalAlert::AccessDenied,
            format!(
                "--tls-verify/--peer-fingerprint certificate hash verification failed. (got certificate \
                 fingerprint: {}). If the {} has a new certificate, compare this with its owner's fingerprint \
                 and put it into `peer-fingerprint`; else this is another machine",
                hex.join(":"),
                peer.noun()
            ),
        ))
    }

    /// The rules for the leaf in OpenVPN's order; returns its common name.
    fn check_leaf(&self, peer: CertRole, cert: &Cert<'_>) -> Result<String, Refusal> {
        let denied = |message: String| Refusal::new(RefusalAlert::AccessDenied, message);
        let subject = cert.subject();
        let Some(common_name) = cert.common_name().filter(|cn| !cn.is_empty()) else {
            return Err(denied(format!(
                "VERIFY ERROR: could not extract CN from X509 subject string ('{subject}') -- note that the field \
                 length is limited to 64 characters. The {} needs a certificate with a common name",
                peer.noun()
            )));
        };
        self.check_key_usage(peer, cert, &subject).map_err(denied)?;
        self.check_purposes(peer, cert, &subject).map_err(denied)?;
        self.check_name(peer, &subject, &common_name).map_err(denied)?;
        Ok(common_name)
    }

    /// `remote-cert-ku` and the key usage half of `remote-cert-tls`.
    fn check_key_usage(&self, peer: CertRole, cert: &Cert<'_>, subject: &str) -> Result<(), String> {
        if self.rules.role.is_none() && self.rules.key_usage.is_empty() {
            return Ok(());
        }
        let who = peer.noun();
        let usage = cert.key_usage().map_err(|why| format!("VERIFY KU ERROR: {subject}: {why}"))?;
        let Some(usage) = usage else {
            return Err(format!(
                "VERIFY KU ERROR: {subject}: Certificate does not have key usage extension, which \
                 `remote-cert-tls` and `remote-cert-ku` ask for. Issue the {who}'s certificate with key usage, \
                 as easy-rsa's build-{who}-full does"
            ));
        };
        let wanted = &self.rules.key_usage;
        if wanted.is_empty() || wanted.iter().any(|mask| *mask != 0 && usage & mask == *mask) {
            return Ok(());
        }
        let wanted: Vec<String> = wanted.iter().map(|mask| format!("{mask:04x}")).collect();
        Err(format!(
            "VERIFY KU ERROR: {subject}: Certificate has key usage {usage:04x}, expected one of: {}. Correct \
             `remote-cert-ku` or issue the {who}'s certificate anew",
            wanted.join(", ")
        ))
    }

    /// `remote-cert-eku` and the extended key usage half of `remote-cert-tls`.
    fn check_purposes(&self, peer: CertRole, cert: &Cert<'_>, subject: &str) -> Result<(), String> {
        if self.purposes.is_empty() {
            return Ok(());
        }
        let who = peer.noun();
        let has = cert.extended_key_usage().map_err(|why| format!("VERIFY EKU ERROR: {subject}: {why}"))?;
        let Some(has) = has else {
            return Err(format!(
                "VERIFY EKU ERROR: {subject}: Certificate does not have extended key usage extension, which \
                 `remote-cert-tls` and `remote-cert-eku` ask for. Issue the {who}'s certificate with it, as \
                 easy-rsa's build-{who}-full does"
            ));
        };
        match self.purposes.iter().find(|(oid, _)| !has.contains(oid)) {
            None => Ok(()),
            Some((_, wanted)) => Err(format!(
                "VERIFY EKU ERROR: {subject}: Certificate has EKU {}, expects {wanted}. {}",
                has.join(", "),
                match peer {
                    CertRole::Server => "This may be another client's certificate that poses as the server",
                    CertRole::Client =>
                        "Issue the client a certificate of its own, as easy-rsa's build-client-full does",
                }
            )),
        }
    }

    /// `verify-x509-name`.
    fn check_name(&self, peer: CertRole, subject: &str, common_name: &str) -> Result<(), String> {
        let (good, got, must, wanted) = match &self.rules.name {
            None => return Ok(()),
            Some(NameRule::Subject(name)) => (subject == name, subject, "be", name),
            Some(NameRule::Name(name)) => (common_name == name, common_name, "be", name),
            Some(NameRule::NamePrefix(name)) => {
                (common_name.starts_with(name.as_str()), common_name, "start with", name)
            }
        };
        if good {
            return Ok(());
        }
        Err(format!(
            "VERIFY X509NAME ERROR: {got}, must {must} {wanted}. Correct `verify-x509-name` if this is the right {}",
            peer.noun()
        ))
    }

    /// `crl-verify DIR dir` for each certificate, and the lines for the log.
    fn check_serials(&self, peer: CertRole, path: &[Link]) -> Result<Vec<String>, Refusal> {
        let mut lines = Vec::with_capacity(path.len());
        for (depth, Link { subject, serial, .. }) in path.iter().enumerate().rev() {
            if self.rules.revoked_serials.contains(serial) {
                return Err(Refusal::new(
                    RefusalAlert::Revoked,
                    format!(
                        "VERIFY CRL: depth={depth}, {subject}, serial={serial} is revoked. Its owner withdrew this \
                         certificate; the {} needs a new one",
                        peer.noun()
                    ),
                ));
            }
            lines.push(format!("depth={depth}, {subject}"));
        }
        Ok(lines)
    }
}

fn local(message: impl Into<String>) -> TlsFailure {
    TlsFailure { kind: TlsFailureKind::Local, message: message.into() }
}

/// Reads the trusted certificates. One weak certificate among several may stay, as it is refused when a
/// peer's chain leads to it; if none is of use, that is said at once.
fn trust_anchors(ca: &[CertificateDer<'static>]) -> Result<Vec<TrustAnchor<'static>>, TlsFailure> {
    let mut anchors = Vec::with_capacity(ca.len());
    let mut objections = Vec::new();
    for (i, der) in ca.iter().enumerate() {
        let place = format!("`ca`, certificate {}", i + 1);
        let cert = Cert::parse(der).map_err(|why| local(format!("{place}: {why}")))?;
        let anchor = webpki::anchor_from_trusted_cert(der)
            .map_err(|e| local(format!("{place} ({}): not usable as CA: {e}", cert.subject())))?;
        anchors.push(anchor.to_owned());
        objections.extend(cert.key().objection().map(|why| format!("{place} ({}): {why}", cert.subject())));
    }
    match objections.into_iter().next() {
        Some(first) if ca.iter().all(|der| has_objection(der)) => Err(local(first)),
        _ => Ok(anchors),
    }
}

fn has_objection(der: &[u8]) -> bool {
    Cert::parse(der).is_ok_and(|cert| cert.key().objection().is_some())
}

/// Newest first, since webpki takes the first list that fits an issuer.
fn load_crls(lists: &[Vec<u8>]) -> Result<Vec<CertRevocationList<'static>>, TlsFailure> {
    let mut dated = Vec::with_capacity(lists.len());
    for (i, der) in lists.iter().enumerate() {
        let bad = |why: String| {
            local(format!(
                "`crl-verify`, list {}: {why}. Make the list anew as X.509 CRL version 2, as easy-rsa's gen-crl does",
                i + 1
            ))
        };
        let (_, parsed) = CertificateRevocationList::from_der(der)
            .map_err(|e| bad(format!("not a DER revocation list ({e})")))?;
        let issued = parsed.last_update().timestamp();
        let owned = OwnedCertRevocationList::from_der(der).map_err(|e| bad(format!("not usable: {e}")))?;
        dated.push((issued, CertRevocationList::from(owned)));
    }
    dated.sort_by_key(|(issued, _)| core::cmp::Reverse(*issued));
    Ok(dated.into_iter().map(|(_, crl)| crl).collect())
}

fn required_purposes(rules: &PeerRules) -> Result<Vec<(String, String)>, TlsFailure> {
    let role = rules.role.map(|role| match role {
        CertRole::Server => "TLS Web Server Authentication",
        CertRole::Client => "TLS Web Client Authentication",
    });
    let wanted = role.into_iter().chain(rules.extended_key_usage.as_deref());
    wanted
        .map(|name| match purpose_oid(name) {
            Some(oid) => Ok((oid, name.to_owned())),
            None => Err(local(format!(
                "`remote-cert-eku {name}`: unknown name; write OpenSSL's name, such as \"TLS Web Server \
                 Authentication\", or a dotted OID"
            ))),
        })
        .collect()
}

/// Checks one of our own certificates, which the peer will judge by rules like ours. A self-signed one need
/// not have a strong signature.
pub(crate) fn check_own(der: &[u8], position: usize) -> Result<Cert<'_>, TlsFailure> {
    let place = format!("`cert`, certificate {}", position + 1);
    let cert = Cert::parse(der).map_err(|why| local(format!("{place}: {why}")))?;
    let subject = cert.subject();
    if let Some(why) = cert.key().objection() {
        return Err(local(format!("{place} ({subject}): {why}")));
    }
    match cert.weak_digest() {
        Some(digest) if !cert.is_self_issued() => Err(local(format!(
            "{place} ({subject}): signed with {digest}, which can be forged; have the certificate issued anew with \
             SHA-256"
        ))),
        _ => Ok(cert),
    }
}
