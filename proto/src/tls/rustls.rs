//! TLS by rustls on memory buffers; with its submodules the only place that names rustls.
//!
//! What rustls does not have, and OpenSSL has: DHE and static RSA key exchange, CBC suites, the groups
//! secp521r1 and secp256k1, Ed448, RSA-PSS keys, TLS below 1.2. A server that has nothing else is refused with
//! a message that says so. For want of the group, P-521 certificates of either side work with OpenSSL in
//! TLS 1.3 only.
//!
//! Our own certificate may be of version 1; the peer's only as [`verify`] says.
//!
//! There is no resumption: no tickets, no session cache, no early data, as each key negotiation of OpenVPN is a
//! full handshake.

mod desk;
mod failure;
mod key_log;
mod records;
mod session;
mod suites;
mod verifier;

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConnection, DistinguishedName, ServerConnection, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use self::desk::{Desk, Desks};
use self::key_log::Secrets;
use self::session::{AnyLease, RustlsSession, Whole};
use self::verifier::{GivenTime, SessionVerifier};
use super::{TlsFactory, TlsFailure, TlsFailureKind, TlsSession};
use crate::limits::MAX_CA_NAMES;
use crate::tls::verify::cert::{Cert, date};
use crate::tls::verify::{self, CurrentVerifier, PeerRules, Verifier};

pub use self::key_log::KeyLog;

/// Material and settings of TLS sessions, not yet checked. Certificates and keys are in DER.
pub struct TlsOptions {
    /// Trusted certificates; messages count them from 1. May be empty if `rules.fingerprints` is not.
    pub ca: Vec<Vec<u8>>,
    /// Our own certificate, leaf first, then intermediates; empty if we have none.
    pub certs: Vec<Vec<u8>>,
    /// Our private key: PKCS#8, PKCS#1 or SEC1 DER.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// What the peer's certificate must fulfil beside the chain.
    pub rules: PeerRules,
    /// `tls-version-min`.
    pub min_version: TlsVersion,
    /// `tls-version-max`.
    pub max_version: TlsVersion,
    /// `tls-cipher`: allowed TLS 1.2 suites by OpenSSL or IANA name; empty for all.
    pub suites12: Vec<String>,
    /// `tls-ciphersuites`: allowed TLS 1.3 suites; empty for all.
    pub suites13: Vec<String>,
    /// `tls-groups`; empty for all.
    pub groups: Vec<String>,
    /// `verify-client-cert`: whether our clients need a certificate. Of no meaning to a TLS client.
    pub client_cert: ClientCertMode,
}

/// Whether a TLS server asks its clients for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertMode {
    /// A client needs one.
    #[default]
    Require,
    /// A client is asked for one, which must be good if there is one.
    Optional,
    /// A client is not asked.
    None,
}

/// TLS protocol versions that exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("ca", &self.ca.len())
            .field("certs", &self.certs.len())
            .field("key", &self.key.as_ref().map(|_| "[redacted]"))
            .field("rules", &self.rules)
            .field("min_version", &self.min_version)
            .field("max_version", &self.max_version)
            .field("suites12", &self.suites12)
            .field("suites13", &self.suites13)
            .field("groups", &self.groups)
            .field("client_cert", &self.client_cert)
            .finish()
    }
}

/// Makes rustls sessions.
pub struct RustlsFactory {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    verifier: Arc<CurrentVerifier>,
    identity: Option<Arc<SingleCertAndKey>>,
    client_cert: ClientCertMode,
    /// Names of the trusted CAs, as a server tells them to its clients.
    ca_names: Arc<[DistinguishedName]>,
    client_desks: Arc<Desks<ClientConfig>>,
    server_desks: Arc<Desks<ServerConfig>>,
    key_log: Option<Arc<Secrets>>,
    notes: Vec<String>,
    /// When our own certificate becomes valid and when it expires, in seconds since 1970.
    validity: Option<(i64, i64)>,
}

impl fmt::Debug for RustlsFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RustlsFactory").field("versions", &self.versions).finish_non_exhaustive()
    }
}

impl RustlsFactory {
    /// Checks `options` and builds a factory with the ciphers, groups and randomness of `provider`.
    ///
    /// Hybrid post-quantum groups are offered only if `groups` names them: they would make the first
    /// flight some 1,200 bytes longer.
    ///
    /// # Errors
    ///
    /// [`TlsFailureKind::Local`], naming the option and the certificate: no trusted certificate, one that cannot
    /// be read or is too weak, a key that doesn't fit, no usable version, suite or group.
    pub fn new(options: TlsOptions, provider: Arc<CryptoProvider>) -> Result<Self, TlsFailure> {
        let mut notes = Vec::new();
        let versions = versions(options.min_version, options.max_version)?;
        let provider = Arc::new(restrict(&provider, &options, &mut notes)?);
        let own = options.certs.first().and_then(|der| Cert::parse(der).ok());
        let validity = own.map(|cert| (cert.not_before(), cert.not_after()));
        let identity = load_identity(&options, &provider)?.map(|key| Arc::new(SingleCertAndKey::from(key)));
        let algorithms = provider.signature_verification_algorithms.all;
        let verifier = Verifier::new(options.ca, options.rules, algorithms)?;
        let factory = Self {
            provider,
            versions,
            ca_names: ca_names(&verifier),
            verifier: Arc::new(CurrentVerifier::new(verifier)),
            identity,
            client_cert: options.client_cert,
            client_desks: Desks::new(),
            server_desks: Desks::new(),
            key_log: None,
            notes,
            validity,
        };
        factory.start(Duration::ZERO)?;
        Ok(factory)
    }

    /// Hands the secrets of all sessions to `log`, which by default nobody gets.
    ///
    /// **Who has them reads what the sessions carry, and can forge it**: they are for captures in tests and
    /// simulators, and for nothing else.
    #[must_use]
    pub fn with_key_log(mut self, log: KeyLog) -> Self {
        self.key_log = Some(Arc::new(Secrets(log)));
        // Those there are know of no log.
        (self.client_desks, self.server_desks) = (Desks::new(), Desks::new());
        self
    }

    /// Takes other revocation lists (`crl-verify`, in DER) and revoked serial numbers (`crl-verify DIR dir`, decimal)
    /// in place of those it has, for all certificates that are judged from now on. Sessions that are established stay.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new); what it has stays in use then.
    pub fn set_revoked(&self, crls: &[Vec<u8>], serials: Vec<String>) -> Result<(), TlsFailure> {
        let renewed = self.verifier.get().renewed(crls, serials)?;
        self.verifier.set(renewed);
        Ok(())
    }

    /// Warnings for the log, one line each: what was skipped of `tls-cipher`, `tls-ciphersuites` and
    /// `tls-groups`, and whether our own certificate is out of its time at `unix`
    /// (`openvpn: ssl_openssl.c`, `tls_ctx_check_cert_time`).
    pub fn notes(&self, unix: Duration) -> Vec<String> {
        let mut notes = self.notes.clone();
        let now = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
        match self.validity {
            Some((from, _)) if now < from => notes.push(format!(
                "WARNING: Your certificate is not yet valid! It begins on {}; is this host's clock right?",
                date(from)
            )),
            Some((_, until)) if now > until => {
                notes.push(format!(
                    "WARNING: Your certificate has expired! It ended on {}; renew `cert`",
                    date(until)
                ));
            }
            _ => {}
        }
        notes
    }

    fn start(&self, unix: Duration) -> Result<RustlsSession, TlsFailure> {
        let lease = self.client_desks.lease(unix, || self.client_desk(unix))?;
        let desk = lease.desk();
        // rustls wants a name; it is neither sent nor compared.
        let name =
            ServerName::try_from("openvpn.invalid").map_err(|e| local(format!("TLS server name: {e}")))?;
        let conn = ClientConnection::new(desk.config.clone(), name).map_err(|e| unusable(&e))?;
        let verifier = desk.verifier.clone();
        RustlsSession::new(Whole { conn: conn.into(), verifier, _lease: AnyLease::Client(lease) })
    }

    fn client_desk(&self, unix: Duration) -> Result<Desk<ClientConfig>, TlsFailure> {
        let time = Arc::new(GivenTime::new(unix));
        let verifier = Arc::new(SessionVerifier::of_server(self.verifier.clone(), self.provider.clone()));
        let builder = ClientConfig::builder_with_details(self.provider.clone(), time.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|e| unusable(&e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match &self.identity {
            Some(identity) => builder.with_client_cert_resolver(identity.clone()),
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        if let Some(log) = &self.key_log {
            config.key_log = log.clone();
        }
        Ok(Desk { config: Arc::new(config), verifier, time })
    }

    fn accept(&self, unix: Duration) -> Result<RustlsSession, TlsFailure> {
        let lease = self.server_desks.lease(unix, || self.server_desk(unix))?;
        let desk = lease.desk();
        let conn = ServerConnection::new(desk.config.clone()).map_err(|e| unusable(&e))?;
        let verifier = desk.verifier.clone();
        RustlsSession::new(Whole { conn: conn.into(), verifier, _lease: AnyLease::Server(lease) })
    }

    fn server_desk(&self, unix: Duration) -> Result<Desk<ServerConfig>, TlsFailure> {
        let identity = self.identity.clone().ok_or_else(|| {
            local("a TLS server needs a certificate of its own and the key: give them with `cert` and `key`")
        })?;
        let time = Arc::new(GivenTime::new(unix));
        let verifier = Arc::new(SessionVerifier::of_client(
            self.verifier.clone(),
            self.provider.clone(),
            self.client_cert,
            self.ca_names.clone(),
        ));
        let mut config = ServerConfig::builder_with_details(self.provider.clone(), time.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|e| unusable(&e))?
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(identity);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if let Some(log) = &self.key_log {
            config.key_log = log.clone();
        }
        // `openvpn: ssl_openssl.c`, `tls_ctx_set_options`, SSL_OP_CIPHER_SERVER_PREFERENCE.
        config.ignore_client_order = true;
        config.enable_secret_extraction = true;
        Ok(Desk { config: Arc::new(config), verifier, time })
    }
}

fn unusable(error: &rustls::Error) -> TlsFailure {
    local(format!("TLS settings are unusable: {error}"))
}

impl TlsFactory for RustlsFactory {
    fn client(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        Ok(Box::new(self.start(unix)?))
    }

    fn server(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        Ok(Box::new(self.accept(unix)?))
    }
}

/// Names of the trusted CAs, as long as they are not so many that they would make the server's flight long; no
/// client needs them (`openvpn: ssl_openssl.c`, `tls_ctx_load_ca`, SSL_CTX_set_client_CA_list).
fn ca_names(verifier: &Verifier) -> Arc<[DistinguishedName]> {
    let names: Vec<_> = verifier.ca_names().map(DistinguishedName::in_sequence).collect();
    let len: usize = names.iter().map(|name| name.as_ref().len()).sum();
    if len > MAX_CA_NAMES { Arc::default() } else { names.into() }
}

fn local(message: impl Into<String>) -> TlsFailure {
    TlsFailure { kind: TlsFailureKind::Local, message: message.into() }
}

fn versions(min: TlsVersion, max: TlsVersion) -> Result<Vec<&'static SupportedProtocolVersion>, TlsFailure> {
    if min > max {
        return Err(local("`tls-version-min` is above `tls-version-max`: no TLS version is left"));
    }
    let all = [(TlsVersion::V13, &rustls::version::TLS13), (TlsVersion::V12, &rustls::version::TLS12)];
    Ok(all.into_iter().filter(|(v, _)| (min..=max).contains(v)).map(|(_, version)| version).collect())
}

/// The provider with the suites and groups that `options` allow.
fn restrict(
    provider: &CryptoProvider,
    options: &TlsOptions,
    notes: &mut Vec<String>,
) -> Result<CryptoProvider, TlsFailure> {
    let mut suites = Vec::new();
    if options.max_version == TlsVersion::V13 {
        suites.extend(suites::tls13(&provider.cipher_suites, &options.suites13, notes)?);
    }
    if options.min_version == TlsVersion::V12 {
        suites.extend(suites::tls12(&provider.cipher_suites, &options.suites12, notes)?);
    }
    let kx_groups = suites::groups(&provider.kx_groups, &options.groups, notes)?;
    Ok(CryptoProvider { cipher_suites: suites, kx_groups, ..provider.clone() })
}

/// Our own chain with its key. Built without rustls' check of the leaf, which refuses version 1.
fn load_identity(
    options: &TlsOptions,
    provider: &CryptoProvider,
) -> Result<Option<CertifiedKey>, TlsFailure> {
    let (leaf, der) = match (options.certs.first(), &options.key) {
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(local("there is a `cert` but no `key`: give the private key that belongs to it"));
        }
        (None, Some(_)) => {
            return Err(local("there is a `key` but no `cert`: give the certificate that belongs to it"));
        }
        (Some(leaf), Some(key)) => (leaf, key),
    };
    for (position, der) in options.certs.iter().enumerate() {
        verify::check_own(der, position)?;
    }
    let leaf = verify::check_own(leaf, 0)?;
    let parsed = PrivateKeyDer::try_from(der.as_slice())
        .map_err(|why| local(format!("`key` is not a private key in PKCS#8, PKCS#1 or SEC1 form: {why}")))?;
    let key = provider.key_provider.load_private_key(parsed.clone_key()).map_err(|e| {
        local(format!(
            "`key` cannot be used: {e}. RSA of at least 2048 bits, ECDSA P-256, P-384, P-521 and Ed25519 are supported"
        ))
    })?;
    let public = key.public_key();
    let same = public.as_ref().is_some_and(|spki| {
        SubjectPublicKeyInfo::from_der(spki)
            .is_ok_and(|(_, spki)| *spki.subject_public_key.data == *leaf.key_bits())
    });
    if !same {
        return Err(local(format!(
            "`key` does not belong to `cert` ({}): its public key is another one. Take both from the same set",
            leaf.subject()
        )));
    }
    let chain = options.certs.iter().cloned().map(CertificateDer::from).collect();
    Ok(Some(CertifiedKey::new(chain, key)))
}
