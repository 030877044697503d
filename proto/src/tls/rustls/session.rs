//! One rustls connection: records in and out, and the verifier that keeps its reason.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, Connection, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    ProtocolVersion, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{EndEntityCert, RawPublicKeyEntity};
use zeroize::Zeroizing;

use super::{ClientCertMode, TlsFailure, TlsFailureKind, failure, suites};
use crate::limits::{MAX_RECORD_PLAINTEXT, MAX_TLS_BUFFER, MAX_TLS_PLAINTEXT, MAX_TLS_RECORDS};
use crate::tls::verify::{CertRole, Refusal, Verifier, cert::Cert};
use crate::tls::{PeerIdentity, TlsPhase, TlsSession};

/// Type, version and length in front of each record.
const RECORD_HEADER: usize = 5;

/// What encryption may add to a record (RFC 5246, 6.2.3).
const MAX_EXPANSION: usize = 2048;

/// A TLS session as client or server.
pub(super) struct RustlsSession {
    conn: Connection,
    verifier: Arc<SessionVerifier>,
    /// Bytes of a record that is not complete yet.
    partial: Vec<u8>,
    /// Plaintext of records not read yet, and its bytes.
    records: VecDeque<Zeroizing<Vec<u8>>>,
    unread: usize,
    /// Sealed bytes not drained yet.
    outgoing: Vec<u8>,
    failure: Option<TlsFailure>,
    closed: bool,
}

impl RustlsSession {
    pub(super) fn new(conn: Connection, verifier: Arc<SessionVerifier>) -> Result<Self, TlsFailure> {
        let mut session = Self {
            conn,
            verifier,
            partial: Vec::new(),
            records: VecDeque::new(),
            unread: 0,
            outgoing: Vec::new(),
            failure: None,
            closed: false,
        };
        session.collect_outgoing()?;
        Ok(session)
    }

    fn fail(&mut self, failure: TlsFailure) -> TlsFailure {
        self.records.clear();
        self.unread = 0;
        self.partial = Vec::new();
        self.failure.get_or_insert(failure).clone()
    }

    fn protocol(&mut self, message: impl Into<String>) -> TlsFailure {
        self.fail(TlsFailure { kind: TlsFailureKind::Protocol, message: message.into() })
    }

    /// As [`protocol`](Self::protocol), of the peer, by what it is.
    fn misbehaved(&mut self, what: &str) -> TlsFailure {
        self.protocol(format!("the {} {what}", self.verifier.peer.noun()))
    }

    /// Moves what rustls has to send into `outgoing`.
    fn collect_outgoing(&mut self) -> Result<(), TlsFailure> {
        while self.conn.wants_write() {
            // Writing to a Vec cannot fail.
            if self.conn.write_tls(&mut self.outgoing).is_err() {
                break;
            }
        }
        if self.outgoing.len() > MAX_TLS_BUFFER {
            self.outgoing.clear();
            return Err(self.misbehaved("makes us send more than it reads"));
        }
        Ok(())
    }

    /// Gives exactly one record, with its header, to rustls and keeps its plaintext.
    fn process_record(&mut self, mut record: &[u8]) -> Result<(), TlsFailure> {
        while !record.is_empty() && !self.closed {
            match self.conn.read_tls(&mut record) {
                Ok(0) => self.closed = true,
                Ok(_) => {}
                Err(e) => return Err(self.protocol(format!("{e}"))),
            }
            let result = self.conn.process_new_packets();
            let flushed = self.collect_outgoing();
            match result {
                Ok(state) => {
                    flushed?;
                    self.closed |= state.peer_has_closed();
                    self.take_plaintext(state.plaintext_bytes_to_read())?;
                }
                Err(e) => {
                    let failure = self
                        .verifier
                        .take_refusal()
                        .unwrap_or_else(|| failure::describe(&e, self.verifier.peer));
                    return Err(self.fail(failure));
                }
            }
        }
        Ok(())
    }

    fn take_plaintext(&mut self, len: usize) -> Result<(), TlsFailure> {
        if len == 0 {
            return Ok(());
        }
        if self.records.len() >= MAX_TLS_RECORDS || self.unread + len > MAX_TLS_BUFFER {
            return Err(self.misbehaved("sends records faster than it may"));
        }
        let mut plain = Zeroizing::new(vec![0; len]);
        if let Err(e) = self.conn.reader().read_exact(&mut plain) {
            return Err(self.protocol(format!("{e}")));
        }
        self.unread += len;
        self.records.push_back(plain);
        Ok(())
    }
}

impl TlsSession for RustlsSession {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TlsFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        while !bytes.is_empty() && !self.closed {
            let want = match record_len(&self.partial) {
                Some(len) => len,
                None => RECORD_HEADER,
            };
            let (now, later) = bytes.split_at(bytes.len().min(want - self.partial.len()));
            self.partial.extend_from_slice(now);
            bytes = later;
            let Some(len) = record_len(&self.partial) else { continue };
            // A record too long is handed on with its header, so that rustls answers with the right alert.
            let too_long = len > RECORD_HEADER + MAX_RECORD_PLAINTEXT + MAX_EXPANSION;
            if self.partial.len() < len && !too_long {
                continue;
            }
            let record = core::mem::take(&mut self.partial);
            self.process_record(&record)?;
            if too_long {
                return Err(self.misbehaved("sent a record longer than TLS allows"));
            }
        }
        Ok(())
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> usize {
        let len = self.outgoing.len();
        out.append(&mut self.outgoing);
        len
    }

    fn read_record(&mut self, out: &mut Zeroizing<Vec<u8>>) -> bool {
        let Some(record) = self.records.pop_front() else { return false };
        self.unread -= record.len();
        out.extend_from_slice(&record);
        true
    }

    fn write_record(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        let local = |message: &str| TlsFailure { kind: TlsFailureKind::Local, message: message.into() };
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.phase() != TlsPhase::Ready {
            return Err(local("nothing can be sent before the handshake is done or after the end"));
        }
        if bytes.is_empty() || bytes.len() > MAX_TLS_PLAINTEXT {
            return Err(local("a message must have 1 to 2,048 bytes"));
        }
        if self.conn.writer().write_all(bytes).is_err() {
            return Err(local("the TLS library takes no more bytes"));
        }
        self.collect_outgoing()
    }

    fn export(&mut self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        match self.conn.export_keying_material(out, label.as_bytes(), None) {
            Ok(_) => Ok(()),
            Err(e) => Err(TlsFailure {
                kind: TlsFailureKind::Local,
                message: format!("keying material cannot be exported: {e}"),
            }),
        }
    }

    fn peer(&self) -> Option<PeerIdentity> {
        // The certificate alone proves nothing: the handshake shows that the peer has its key.
        if self.conn.is_handshaking() { None } else { self.verifier.accepted() }
    }

    fn phase(&self) -> TlsPhase {
        if self.failure.is_some() || self.closed {
            TlsPhase::Closed
        } else if self.conn.is_handshaking() {
            TlsPhase::Handshaking
        } else {
            TlsPhase::Ready
        }
    }

    /// As OpenVPN prints it (`openvpn: ssl_openssl.c`, `print_details`).
    fn description(&self) -> Option<String> {
        if self.conn.is_handshaking() {
            return None;
        }
        let version = match self.conn.protocol_version()? {
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let suite = suites::openssl_name(self.conn.negotiated_cipher_suite()?.suite());
        let mut text = format!("{version}, cipher {version} {suite}");
        if let Some(Ok(cert)) =
            self.conn.peer_certificates().and_then(<[_]>::first).map(|der| Cert::parse(der))
        {
            let (key, signature) = (cert.key().describe(), cert.signature_name());
            text.push_str(&format!(", peer certificate: {key}, signature: {signature}"));
        }
        if let Some(group) = self.conn.negotiated_key_exchange_group() {
            text.push_str(&format!(", peer temporary key: {}", suites::group_name(group.name())));
        }
        Some(text)
    }
}

/// Length of a record with its header, once the header is there.
fn record_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, _, _, high, low, ..] => Some(RECORD_HEADER + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// The calendar time given by the caller; no clock is read.
#[derive(Debug)]
pub(super) struct FixedTime(UnixTime);

impl FixedTime {
    pub(super) fn at(unix: Duration) -> Self {
        Self(UnixTime::since_unix_epoch(unix))
    }
}

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// [`Verifier`] for one handshake. Keeps the outcome, of which rustls passes on only a code.
pub(super) struct SessionVerifier {
    /// What the peer is.
    peer: CertRole,
    rules: Arc<Verifier>,
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
    pub(super) fn of_server(rules: Arc<Verifier>, provider: Arc<CryptoProvider>) -> Self {
        let (mode, ca_names) = (ClientCertMode::None, Arc::default());
        Self { peer: CertRole::Server, rules, provider, mode, ca_names, outcome: Mutex::new(None) }
    }

    pub(super) fn of_client(
        rules: Arc<Verifier>,
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
        let outcome = self.rules.verify(self.peer, leaf, intermediates, now.as_secs());
        let alert = outcome.as_ref().err().map(|refusal| refusal.alert);
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
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

    fn outcome(&self) -> Option<Result<PeerIdentity, Refusal>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn accepted(&self) -> Option<PeerIdentity> {
        self.outcome()?.ok()
    }

    fn take_refusal(&self) -> Option<TlsFailure> {
        let refusal = self.outcome()?.err()?;
        Some(TlsFailure { kind: TlsFailureKind::Certificate, message: refusal.message })
    }
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
