//! One rustls connection: records in and out.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{AlertDescription, ClientConfig, Connection, ContentType, Error, ProtocolVersion, ServerConfig};
use zeroize::Zeroizing;

use super::desk::Lease;
use super::records::{Opened, Records, Refused};
use super::verifier::SessionVerifier;
use super::{TlsFailure, TlsFailureKind, failure, local, suites};
use crate::limits::{MAX_RECORD_PLAINTEXT, MAX_TLS_BUFFER, MAX_TLS_PLAINTEXT, MAX_TLS_RECORDS};
use crate::tls::verify::{CertRole, cert::Cert};
use crate::tls::{PeerIdentity, TlsPhase, TlsSession};

/// Type, version and length in front of each record.
pub(super) const RECORD_HEADER: usize = 5;

/// Longest record with its header: encryption may add 2,048 bytes (RFC 5246, 6.2.3).
const MAX_RECORD: usize = RECORD_HEADER + MAX_RECORD_PLAINTEXT + 2048;

/// A TLS session as client or server.
pub(super) struct RustlsSession {
    /// What the peer is.
    peer: CertRole,
    line: Line,
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

/// Who does the records.
enum Line {
    Whole(Box<Whole>),
    /// After [`settle`](TlsSession::settle).
    Settled(Records),
    Lost,
}

/// A connection with all that the handshake needs.
pub(super) struct Whole {
    pub(super) conn: Connection,
    pub(super) verifier: Arc<SessionVerifier>,
    /// Given up after the connection.
    pub(super) _lease: AnyLease,
}

/// The use of a configuration of either side.
#[expect(dead_code, reason = "held, not read")]
pub(super) enum AnyLease {
    Client(Lease<ClientConfig>),
    Server(Lease<ServerConfig>),
}

impl RustlsSession {
    pub(super) fn new(whole: Whole) -> Result<Self, TlsFailure> {
        let mut session = Self {
            peer: whole.verifier.peer(),
            line: Line::Whole(Box::new(whole)),
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
        self.protocol(format!("the {} {what}", self.peer.noun()))
    }

    fn whole(&self) -> Option<&Whole> {
        match &self.line {
            Line::Whole(whole) => Some(whole),
            Line::Settled(_) | Line::Lost => None,
        }
    }

    /// Moves what rustls has to send into `outgoing`.
    fn collect_outgoing(&mut self) -> Result<(), TlsFailure> {
        if let Line::Whole(whole) = &mut self.line {
            while whole.conn.wants_write() {
                // Writing to a Vec cannot fail.
                if whole.conn.write_tls(&mut self.outgoing).is_err() {
                    break;
                }
            }
        }
        if self.outgoing.len() > MAX_TLS_BUFFER {
            self.outgoing = Vec::new();
            return Err(self.misbehaved("makes us send more than it reads"));
        }
        Ok(())
    }

    /// Takes exactly one record with its header and keeps its plaintext. Of a record that is `hopeless` only the
    /// header comes.
    fn process_record(&mut self, record: &mut [u8], hopeless: bool) -> Result<(), TlsFailure> {
        match &mut self.line {
            Line::Whole(_) => self.give_to_rustls(record),
            Line::Settled(_) if hopeless => {
                let error = Error::PeerSentOversizedRecord;
                Err(self.refuse(Refused { error, alert: Some(AlertDescription::RecordOverflow) }))
            }
            Line::Settled(records) => match records.open(record) {
                Ok(Opened::Data(data)) => {
                    let data = Zeroizing::new(data.to_vec());
                    self.keep(data)
                }
                Ok(Opened::Empty) => Ok(()),
                Ok(Opened::Closed) => {
                    self.closed = true;
                    Ok(())
                }
                Err(refused) => Err(self.refuse(refused)),
            },
            Line::Lost => Ok(()),
        }
    }

    /// Ends a settled session, with an alert for the peer.
    fn refuse(&mut self, refused: Refused) -> TlsFailure {
        const FATAL: u8 = 2;
        if let (Line::Settled(records), Some(alert)) = (&mut self.line, refused.alert)
            && let Ok(sealed) = records.seal(ContentType::Alert, &[FATAL, alert.into()])
        {
            self.outgoing.extend_from_slice(&sealed);
        }
        self.fail(failure::describe(&refused.error, self.peer))
    }

    fn give_to_rustls(&mut self, mut record: &[u8]) -> Result<(), TlsFailure> {
        while !record.is_empty() && !self.closed {
            let Line::Whole(whole) = &mut self.line else { return Ok(()) };
            match whole.conn.read_tls(&mut record) {
                Ok(0) => self.closed = true,
                Ok(_) => {}
                Err(e) => return Err(self.protocol(format!("{e}"))),
            }
            let result = whole.conn.process_new_packets();
            let refusal = result.as_ref().err().and_then(|_| whole.verifier.take_refusal());
            let flushed = self.collect_outgoing();
            match result {
                Ok(state) => {
                    flushed?;
                    self.closed |= state.peer_has_closed();
                    self.take_plaintext(state.plaintext_bytes_to_read())?;
                }
                Err(e) => {
                    let failure = refusal.unwrap_or_else(|| failure::describe(&e, self.peer));
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
        let mut plain = Zeroizing::new(vec![0; len]);
        let Line::Whole(whole) = &mut self.line else { return Ok(()) };
        if let Err(e) = whole.conn.reader().read_exact(&mut plain) {
            return Err(self.protocol(format!("{e}")));
        }
        self.keep(plain)
    }

    fn keep(&mut self, plain: Zeroizing<Vec<u8>>) -> Result<(), TlsFailure> {
        if self.records.len() >= MAX_TLS_RECORDS || self.unread + plain.len() > MAX_TLS_BUFFER {
            return Err(self.misbehaved("sends records faster than it may"));
        }
        self.unread += plain.len();
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
            // What can't be a record is handed on with its header, so that rustls answers with the right alert.
            let hopeless = len > MAX_RECORD || !is_tls(&self.partial);
            if self.partial.len() < len && !hopeless {
                continue;
            }
            let mut record = core::mem::take(&mut self.partial);
            self.process_record(&mut record, hopeless)?;
            if hopeless {
                return Err(self.misbehaved("sent what is not a TLS record, or one longer than TLS allows"));
            }
        }
        Ok(())
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> usize {
        // Not `append`, which would leave the buffer with its room.
        let bytes = core::mem::take(&mut self.outgoing);
        out.extend_from_slice(&bytes);
        bytes.len()
    }

    fn read_record(&mut self, out: &mut Zeroizing<Vec<u8>>) -> bool {
        let Some(record) = self.records.pop_front() else { return false };
        self.unread -= record.len();
        out.extend_from_slice(&record);
        if self.records.is_empty() {
            self.records = VecDeque::new();
        }
        true
    }

    fn write_record(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.phase() != TlsPhase::Ready {
            return Err(local("nothing can be sent before the handshake is done or after the end"));
        }
        if bytes.is_empty() || bytes.len() > MAX_TLS_PLAINTEXT {
            return Err(local("a message must have 1 to 2,048 bytes"));
        }
        match &mut self.line {
            Line::Whole(whole) => {
                let written = whole.conn.writer().write_all(bytes);
                written.map_err(|_| local("the TLS library takes no more bytes"))?;
            }
            Line::Settled(records) => match records.seal(ContentType::ApplicationData, bytes) {
                Ok(sealed) => self.outgoing.extend_from_slice(&sealed),
                Err(e) => return Err(failure::describe(&e, self.peer)),
            },
            Line::Lost => {}
        }
        self.collect_outgoing()
    }

    fn export(&mut self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        let Some(whole) = self.whole() else {
            return Err(local("the secrets of this TLS session are gone; nothing can be exported any more"));
        };
        match whole.conn.export_keying_material(out, label.as_bytes(), None) {
            Ok(_) => Ok(()),
            Err(e) => Err(local(format!("keying material cannot be exported: {e}"))),
        }
    }

    fn peer(&self) -> Option<PeerIdentity> {
        // The certificate alone proves nothing: the handshake shows that the peer has its key.
        self.whole().filter(|whole| !whole.conn.is_handshaking())?.verifier.accepted()
    }

    fn phase(&self) -> TlsPhase {
        if self.failure.is_some() || self.closed {
            TlsPhase::Closed
        } else if self.whole().is_some_and(|whole| whole.conn.is_handshaking()) {
            TlsPhase::Handshaking
        } else {
            TlsPhase::Ready
        }
    }

    /// As OpenVPN prints it (`openvpn: ssl_openssl.c`, `print_details`).
    fn description(&self) -> Option<String> {
        let conn = &self.whole().filter(|whole| !whole.conn.is_handshaking())?.conn;
        let version = match conn.protocol_version()? {
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let suite = suites::openssl_name(conn.negotiated_cipher_suite()?.suite());
        let mut text = format!("{version}, cipher {version} {suite}");
        if let Some(Ok(cert)) = conn.peer_certificates().and_then(<[_]>::first).map(|der| Cert::parse(der)) {
            let (key, signature) = (cert.key().describe(), cert.signature_name());
            text.push_str(&format!(", peer certificate: {key}, signature: {signature}"));
        }
        if let Some(group) = conn.negotiated_key_exchange_group() {
            text.push_str(&format!(", peer temporary key: {}", suites::group_name(group.name())));
        }
        Some(text)
    }

    /// Only of a server's session, of which there are many. A client's goes on to take session tickets.
    fn settle(&mut self) {
        if self.peer == CertRole::Server || self.phase() != TlsPhase::Ready {
            return;
        }
        match core::mem::replace(&mut self.line, Line::Lost) {
            Line::Whole(whole) => match Records::take(whole.conn) {
                Ok(records) => self.line = Line::Settled(records),
                Err(e) => {
                    self.fail(failure::describe(&e, self.peer));
                }
            },
            other => self.line = other,
        }
        self.records.shrink_to_fit();
        self.partial.shrink_to_fit();
        self.outgoing.shrink_to_fit();
    }
}

/// Whether a record of a known type and a version of TLS or SSL 3 begins here.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=24, 3, ..])
}

/// Length of a record with its header, once the header is there.
fn record_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, _, _, high, low, ..] => Some(RECORD_HEADER + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}
