//! The verifier of one handshake, which keeps its reason, and the time that it judges by.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{EndEntityCert, RawPublicKeyEntity};

use super::{ClientCertMode, TlsFailure, TlsFailureKind, failure};
use crate::tls::PeerIdentity;
use crate::tls::verify::{CertRole, CurrentVerifier, Refusal, cert::Cert};

/// The calendar time given by the caller, in seconds since 1970; no clock is read.
#[derive(Debug)]
pub(super) struct GivenTime(AtomicU64);

impl GivenTime {
    pub(super) fn new(unix: Duration) -> Self {
        Self(AtomicU64::new(unix.as_secs()))
    }

    pub(super) fn set(&self, unix: Duration) {
        self.0.store(unix.as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for GivenTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

/// The rules for one handshake. Keeps the outcome, of which rustls passes on only a code.
pub(super) struct SessionVerifier {
    /// What the peer is.
    peer: CertRole,
    rules: Arc<CurrentVerifier>,
    provider: Arc<CryptoProvider>,
    /// Whether a client needs a certificate.
    mode: ClientCertMode,
    /// Names of the CAs, which a client is told.
    ca_names: Arc<[DistinguishedName]>,
    outcome: Mutex<Option<Result<PeerIdentity, Refusal>>>,
}

impl fmt::Debug for SessionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionVerifier").finish_non_exhaustive()
    }
}

impl SessionVerifier {
    /// What the peer is.
    pub(super) fn peer(&self) -> CertRole {
        self.peer
    }

    pub(super) fn of_server(rules: Arc<CurrentVerifier>, provider: Arc<CryptoProvider>) -> Self {
        let (mode, ca_names) = (ClientCertMode::None, Arc::default());
        Self { peer: CertRole::Server, rules, provider, mode, ca_names, outcome: Mutex::new(None) }
    }

    pub(super) fn of_client(
        rules: Arc<CurrentVerifier>,
        provider: Arc<CryptoProvider>,
        mode: ClientCertMode,
        ca_names: Arc<[DistinguishedName]>,
    ) -> Self {
        Self { peer: CertRole::Client, rules, provider, mode, ca_names, outcome: Mutex::new(None) }
    }

    /// Judges the peer's certificate and keeps the outcome.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let outcome = self.rules.get().verify(self.peer, leaf, intermediates, now.as_secs());
        let alert = outcome.as_ref().err().map(|refusal| refusal.alert);
        *self.slot() = Some(outcome);
        match alert {
            None => Ok(()),
            Some(alert) => Err(failure::refusal_error(alert)),
        }
    }

    fn check_tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if EndEntityCert::try_from(cert).is_ok() {
            return verify_tls12_signature(message, cert, dss, algorithms);
        }
        let spki = raw_key(cert)?;
        let key = RawPublicKeyEntity::try_from(&spki).map_err(|_| bad_encoding())?;
        let (_, candidates) = algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == dss.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // TLS 1.2 doesn't bind the scheme to a curve, so several algorithms may stand for it.
        let valid = candidates.iter().any(|alg| key.verify_signature(*alg, message, dss.signature()).is_ok());
        if valid {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }

    fn check_tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if EndEntityCert::try_from(cert).is_ok() {
            return verify_tls13_signature(message, cert, dss, algorithms);
        }
        verify_tls13_signature_with_raw_key(message, &raw_key(cert)?, dss, algorithms)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Result<PeerIdentity, Refusal>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the outcome, for another handshake.
    pub(super) fn clear(&self) {
        *self.slot() = None;
    }

    pub(super) fn accepted(&self) -> Option<PeerIdentity> {
        self.slot().clone()?.ok()
    }

    pub(super) fn take_refusal(&self) -> Option<TlsFailure> {
        let refusal = self.slot().take()?.err()?;
        Some(TlsFailure { kind: TlsFailureKind::Certificate, message: refusal.message })
    }
}

/// What both roles' traits ask about signatures of a handshake.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.check_tls12(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.check_tls13(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for SessionVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for SessionVerifier {
    fn offer_client_auth(&self) -> bool {
        self.mode != ClientCertMode::None
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mode == ClientCertMode::Require
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.ca_names
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}

/// The public key of a certificate that webpki can't read, which is one of version 1 that was accepted without a
/// chain.
fn raw_key(cert: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let cert = Cert::parse(cert).map_err(|_| bad_encoding())?;
    Ok(SubjectPublicKeyInfoDer::from(cert.spki().to_vec()))
}

fn bad_encoding() -> Error {
    Error::InvalidCertificate(CertificateError::BadEncoding)
}
