//! The way from the leaf to a trusted certificate, and why there is none.

use core::cell::RefCell;
use core::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::cert::{Cert, date};
use super::{CertRole, MAX_CERT_DEPTH, Refusal, RefusalAlert, Verifier};

/// Key usage `keyCertSign`.
const KU_CERT_SIGN: u16 = 0x04;

/// What is judged: the peer's role, what it sent, and the time in seconds since 1970.
pub(super) struct Case<'a> {
    pub(super) peer: CertRole,
    pub(super) leaf: &'a CertificateDer<'a>,
    /// The leaf, read.
    pub(super) cert: &'a Cert<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) unix: u64,
}

/// A certificate of an accepted chain, with what is said of it.
pub(super) struct Link {
    pub(super) der: Vec<u8>,
    pub(super) subject: String,
    pub(super) serial: String,
}

impl Link {
    pub(super) fn new(cert: &Cert<'_>) -> Self {
        Self { der: cert.der.to_vec(), subject: cert.subject(), serial: cert.serial() }
    }
}

/// A finding on one certificate: OpenSSL's words for it and what helps.
struct Finding {
    alert: RefusalAlert,
    error: &'static str,
    cure: String,
}

impl Verifier {
    /// The chain from the leaf up to the trusted certificate, both included.
    pub(super) fn build_chain(
        &self,
        case: &Case<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Link>, Refusal> {
        if self.is_trusted_itself(case) {
            return check_trusted_leaf(case);
        }
        let crls: Vec<_> = self.crls.iter().collect();
        let (found, links) = (RefCell::new(None), RefCell::new(None));
        let beyond_webpki = |path: &VerifiedPath<'_>| {
            let checked = self.check_path(path, case).map_err(|refusal| {
                *found.borrow_mut() = Some(refusal);
                Error::UnknownIssuer
            })?;
            *links.borrow_mut() = Some(checked);
            Ok(())
        };
        let refuse = |e| match found.take() {
            Some(refusal) => refusal,
            None => self.diagnose(&e, case),
        };
        let end_entity = match EndEntityCert::try_from(case.leaf) {
            Ok(end_entity) => end_entity,
            Err(e) => return Err(refuse(e)),
        };
        let path = end_entity.verify_for_usage(
            self.algorithms,
            &self.anchors,
            case.intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(case.unix)),
            match case.peer {
                CertRole::Server => KeyUsage::server_auth(),
                CertRole::Client => KeyUsage::client_auth(),
            },
            revocation(&crls),
            Some(&beyond_webpki),
        );
        match path {
            Ok(path) => {
                self.warn_of_missing_crls(&path, warnings);
                links.take().ok_or_else(|| refuse(Error::UnknownIssuer))
            }
            Err(e) => Err(refuse(e)),
        }
    }

    /// Whether the leaf stands in `ca` itself, self-signed. webpki doesn't know such a chain of one.
    fn is_trusted_itself(&self, case: &Case<'_>) -> bool {
        self.crls.is_empty() && self.ca.iter().any(|ca| ca == case.leaf) && case.cert.is_self_issued()
    }

    /// The certificates of a path from the leaf up. `None` if the anchor is not one of ours.
    fn path_certs<'p>(&'p self, path: &'p VerifiedPath<'_>) -> Option<Vec<CertificateDer<'p>>> {
        let anchor = self.anchors.iter().position(|a| {
            core::ptr::eq(
                core::ptr::from_ref(a).cast::<()>(),
                core::ptr::from_ref(path.anchor()).cast::<()>(),
            )
        })?;
        let leaf: &webpki::Cert<'_> = path.end_entity();
        let mut certs = vec![leaf.der()];
        certs.extend(path.intermediate_certificates().map(|cert| cert.der()));
        certs.push(CertificateDer::from(self.ca[anchor].as_ref()));
        Some(certs)
    }

    /// What OpenSSL checks and webpki doesn't.
    fn check_path(&self, path: &VerifiedPath<'_>, case: &Case<'_>) -> Result<Vec<Link>, Refusal> {
        let certs = self.path_certs(path).ok_or_else(|| refuse_unread(0, "chain to an unknown CA"))?;
        if certs.len() > MAX_CERT_DEPTH {
            return Err(Refusal::new(
                RefusalAlert::BadCertificate,
                format!(
                    "Convoluted certificate chain detected with depth [{}] greater than {MAX_CERT_DEPTH}",
                    certs.len() - 1
                ),
            ));
        }
        let mut links = Vec::with_capacity(certs.len());
        links.push(Link::new(case.cert));
        if let Some(finding) = check_leaf_purpose(case.peer, case.cert) {
            return Err(finding.on(case.cert, 0));
        }
        for (depth, der) in certs.iter().enumerate().skip(1) {
            let cert = Cert::parse(der).map_err(|why| refuse_unread(depth, &why))?;
            if let Some(why) = cert.key().objection() {
                return Err(unusable(&cert, depth, &why));
            }
            let finding =
                check_validity(&cert, case.unix).or_else(|| check_issuer(case.peer, &cert, depth - 1));
            if let Some(finding) = finding {
                return Err(finding.on(&cert, depth));
            }
            links.push(Link::new(&cert));
        }
        Ok(links)
    }

    /// `openvpn: ssl_verify_openssl.c`, `verify_callback`: a missing list is logged and let pass.
    fn warn_of_missing_crls(&self, path: &VerifiedPath<'_>, warnings: &mut Vec<String>) {
        if self.crls.is_empty() {
            return;
        }
        let leaf: &webpki::Cert<'_> = path.end_entity();
        let certs = core::iter::once(leaf).chain(path.intermediate_certificates());
        for (depth, cert) in certs.enumerate() {
            if !self.crls.iter().any(|crl| crl.issuer() == cert.issuer()) {
                let der = cert.der();
                let subject = Cert::parse(&der).map_or_else(|why| why, |cert| cert.subject());
                warnings
                    .push(format!("VERIFY WARNING: depth={depth}, unable to get certificate CRL: {subject}"));
            }
        }
    }

    /// Finds the certificate that `error` is about, along the names.
    fn diagnose(&self, error: &Error, case: &Case<'_>) -> Refusal {
        let chain = self.chain_by_name(case);
        for (depth, cert) in chain.iter().enumerate() {
            if let Some(why) = cert.key().objection() {
                return unusable(cert, depth, &why);
            }
            let trusted = depth + 1 == chain.len() && self.ca.iter().any(|ca| ca.as_ref() == cert.der);
            if let Some(digest) = cert.weak_digest().filter(|_| !trusted && !cert.is_self_issued()) {
                let why = format!(
                    "signed with {digest}, which can be forged; have the certificate issued anew with SHA-256"
                );
                return unusable(cert, depth, &why);
            }
        }
        let (finding, depth) = self.explain(error, &chain, case);
        match chain.get(depth) {
            Some(cert) => finding.on(cert, depth),
            None => refuse_unread(depth, finding.error),
        }
    }

    /// Leaf, then issuers by name as far as there are any.
    fn chain_by_name<'c>(&'c self, case: &'c Case<'_>) -> Vec<Cert<'c>> {
        let mut chain: Vec<Cert<'c>> = Cert::parse(case.leaf).into_iter().collect();
        while let Some(last) = chain.last() {
            if chain.len() >= MAX_CERT_DEPTH || last.is_self_issued() {
                break;
            }
            let trusted =
                self.ca.iter().filter_map(|der| Cert::parse(der).ok()).find(|ca| last.issued_by(ca));
            if let Some(ca) = trusted {
                chain.push(ca);
                break;
            }
            let sent = case.intermediates.iter().filter_map(|der| Cert::parse(der).ok());
            match sent.into_iter().find(|cert| last.issued_by(cert)) {
                Some(cert) => chain.push(cert),
                None => break,
            }
        }
        chain
    }

    fn explain(&self, error: &Error, chain: &[Cert<'_>], case: &Case<'_>) -> (Finding, usize) {
        let (peer, who) = (case.peer, case.peer.noun());
        let first = |test: &dyn Fn(&Cert<'_>) -> bool| chain.iter().position(test).unwrap_or(0);
        let outside = |cert: &Cert<'_>| check_validity(cert, case.unix).is_some();
        match error {
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } => {
                let depth = first(&outside);
                let finding = chain.get(depth).and_then(|cert| check_validity(cert, case.unix));
                (finding.unwrap_or_else(|| other(error)), depth)
            }
            Error::UnknownIssuer => self.explain_unknown_issuer(peer, chain),
            Error::CertRevoked => (
                finding(
                    RefusalAlert::Revoked,
                    "certificate revoked",
                    format!("Its owner withdrew it; the {who} needs a new one"),
                ),
                first(&|cert| self.is_listed(cert)),
            ),
            Error::CrlExpired { next_update, .. } => (
                finding(
                    RefusalAlert::UnknownCa,
                    "CRL has expired",
                    format!(
                        "The list in `crl-verify` was good until {}; fetch a new one from the CA (easy-rsa gen-crl)",
                        date(i64::try_from(next_update.as_secs()).unwrap_or(i64::MAX))
                    ),
                ),
                0,
            ),
            Error::InvalidSignatureForPublicKey => (
                finding(
                    RefusalAlert::UnknownCa,
                    "certificate signature failure",
                    format!(
                        "`ca` holds a CA of the same name with another key, probably of an older or another set-up; \
                         use the CA certificate that this {who}'s certificate was issued with"
                    ),
                ),
                0,
            ),
            Error::UnsupportedCertVersion => (
                finding(
                    RefusalAlert::Unsupported,
                    "unsupported certificate version",
                    "A version 1 certificate below a CA is not supported; issue it anew as version 3 (with \
                     extensions), or name it with `peer-fingerprint` in place of `ca`",
                ),
                first(&|cert| cert.is_v1()),
            ),
            Error::CaUsedAsEndEntity => (
                finding(
                    RefusalAlert::Unsupported,
                    match peer {
                        CertRole::Server => "CA certificate used as server certificate",
                        CertRole::Client => "CA certificate used as client certificate",
                    },
                    format!(
                        "Issue the {who} a certificate without CA:TRUE, or name this one with `peer-fingerprint` in \
                         place of `ca`"
                    ),
                ),
                0,
            ),
            Error::EndEntityUsedAsCa => (invalid_ca(), 1),
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
                (wrong_purpose(peer), first(&|cert| check_leaf_purpose(peer, cert).is_some()))
            }
            _ => (other(error), 0),
        }
    }

    fn explain_unknown_issuer(&self, peer: CertRole, chain: &[Cert<'_>]) -> (Finding, usize) {
        let depth = chain.len().saturating_sub(1);
        let error = match chain.last() {
            Some(last) if last.is_self_issued() && depth == 0 => "self-signed certificate",
            Some(last) if last.is_self_issued() => "self-signed certificate in certificate chain",
            _ => "unable to get local issuer certificate",
        };
        let issuer = chain.last().map_or_else(String::new, |last| last.issuer());
        let have: Vec<String> =
            self.ca.iter().take(4).filter_map(|der| Cert::parse(der).ok()).map(|ca| ca.subject()).collect();
        let cure = format!(
            "The {who}'s certificate is not signed by a CA in `ca`: its issuer is \"{issuer}\", `ca` holds \"{}\". \
             Use the CA certificate that belongs to this {who}, or have the {who} send its intermediate certificates",
            have.join("\", \""),
            who = peer.noun()
        );
        (finding(RefusalAlert::UnknownCa, error, cure), depth)
    }

    fn is_listed(&self, cert: &Cert<'_>) -> bool {
        let der = CertificateDer::from(cert.der);
        EndEntityCert::try_from(&der).is_ok_and(|cert| {
            self.crls.iter().any(|crl| {
                crl.issuer() == cert.issuer() && matches!(crl.find_serial(cert.serial()), Ok(Some(_)))
            })
        })
    }
}

impl Finding {
    /// OpenVPN's line (`openvpn: ssl_verify_openssl.c`, `verify_callback`) with the cure behind it.
    fn on(&self, cert: &Cert<'_>, depth: usize) -> Refusal {
        Refusal::new(
            self.alert,
            format!(
                "VERIFY ERROR: depth={depth}, error={}: {}, serial={}. {}",
                self.error,
                cert.subject(),
                cert.serial(),
                self.cure
            ),
        )
    }
}

/// Refuses a certificate for its key or signature.
pub(super) fn unusable(cert: &Cert<'_>, depth: usize, why: &str) -> Refusal {
    Refusal::new(RefusalAlert::Unsupported, format!("VERIFY ERROR: depth={depth}, {}: {why}", cert.subject()))
}

pub(super) fn refuse_unread(depth: usize, why: &str) -> Refusal {
    Refusal::new(
        RefusalAlert::BadCertificate,
        format!("VERIFY ERROR: depth={depth}, certificate cannot be used: {why}"),
    )
}

fn finding(alert: RefusalAlert, error: &'static str, cure: impl Into<String>) -> Finding {
    Finding { alert, error, cure: cure.into() }
}

fn other(error: &Error) -> Finding {
    let text = match error {
        Error::PathLenConstraintViolated => "path length constraint exceeded",
        Error::NameConstraintViolation => "permitted subtree violation",
        Error::UnsupportedCriticalExtension => "unhandled critical extension",
        Error::InvalidCrlSignatureForPublicKey => "CRL signature failure",
        Error::IssuerNotCrlSigner => "key usage does not include CRL signing",
        Error::UnsupportedCrlSignatureAlgorithmContext(_) => {
            "CRL signed with an algorithm that is too weak or unknown"
        }
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => "unsupported signature algorithm",
        Error::InvalidCertValidity => "format error in certificate's validity",
        Error::CertDistrusted => "certificate rejected",
        _ => "invalid certificate",
    };
    finding(RefusalAlert::BadCertificate, text, format!("The TLS library says: {error}"))
}

fn invalid_ca() -> Finding {
    finding(
        RefusalAlert::UnknownCa,
        "invalid CA certificate",
        "This certificate may not issue others; use the real CA's certificate in `ca`",
    )
}

fn wrong_purpose(peer: CertRole) -> Finding {
    let cure = match peer {
        CertRole::Server => {
            "It is not meant for a TLS server; issue the server's certificate with extended key usage serverAuth, as \
             easy-rsa's build-server-full does. It may also be another client that poses as the server"
        }
        CertRole::Client => {
            "It is not meant for a TLS client; issue the client a certificate of its own with extended key usage \
             clientAuth, as easy-rsa's build-client-full does"
        }
    };
    finding(RefusalAlert::Unsupported, "unsuitable certificate purpose", cure)
}

/// Checks a leaf that is trusted itself.
fn check_trusted_leaf(case: &Case<'_>) -> Result<Vec<Link>, Refusal> {
    match check_validity(case.cert, case.unix).or_else(|| check_leaf_purpose(case.peer, case.cert)) {
        Some(finding) => Err(finding.on(case.cert, 0)),
        None => Ok(vec![Link::new(case.cert)]),
    }
}

fn check_validity(cert: &Cert<'_>, unix: u64) -> Option<Finding> {
    let now = i64::try_from(unix).unwrap_or(i64::MAX);
    if now < cert.not_before() {
        let cure = format!(
            "It begins on {}, and the clock here says {}: set this machine's clock, or wait",
            date(cert.not_before()),
            date(now)
        );
        return Some(finding(RefusalAlert::Expired, "certificate is not yet valid", cure));
    }
    (now > cert.not_after()).then(|| {
        let cure = format!(
            "It ended on {}, and the clock here says {}: it must be renewed, unless the clock is wrong",
            date(cert.not_after()),
            date(now)
        );
        finding(RefusalAlert::Expired, "certificate has expired", cure)
    })
}

/// OpenSSL's `check_ca` for a certificate with `below` intermediates under it: marked as CA, or version 1, or
/// without that mark but with the right to sign certificates.
fn check_issuer(peer: CertRole, cert: &Cert<'_>, below: usize) -> Option<Finding> {
    let (Ok(constraints), Ok(usage), Ok(purposes)) =
        (cert.basic_constraints(), cert.key_usage(), cert.extended_key_usage())
    else {
        return Some(invalid_ca());
    };
    if usage.is_some_and(|usage| usage & KU_CERT_SIGN == 0) {
        return Some(invalid_ca());
    }
    match constraints {
        Some((false, _)) => return Some(invalid_ca()),
        Some((true, Some(most))) if usize::try_from(most).is_ok_and(|most| below > most) => {
            return Some(other(&Error::PathLenConstraintViolated));
        }
        None if !cert.is_v1() && usage.is_none() => return Some(invalid_ca()),
        _ => {}
    }
    purposes.is_some_and(|has| !has.iter().any(|oid| oid == peer.purpose())).then(|| wrong_purpose(peer))
}

/// OpenSSL's purpose check of a TLS server's or client's certificate.
fn check_leaf_purpose(peer: CertRole, cert: &Cert<'_>) -> Option<Finding> {
    let (Ok(usage), Ok(purposes)) = (cert.key_usage(), cert.extended_key_usage()) else {
        return Some(wrong_purpose(peer));
    };
    let wrong = usage.is_some_and(|usage| usage & peer.key_usage() == 0)
        || purposes.is_some_and(|has| !has.iter().any(|oid| oid == peer.purpose()));
    wrong.then(|| wrong_purpose(peer))
}

/// `X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL` as OpenVPN has it: all certificates, lists must be
/// current, a missing one is let pass.
fn revocation<'a>(crls: &'a [&'a webpki::CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    let builder = RevocationOptionsBuilder::new(crls).ok()?;
    Some(
        builder
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build(),
    )
}
