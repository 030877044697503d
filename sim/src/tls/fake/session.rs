//! One session of the fake TLS.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256, digest};
use oxivpn_proto::limits::{MAX_TLS_BUFFER, MAX_TLS_PLAINTEXT, MAX_TLS_RECORDS};
use oxivpn_proto::tls::rustls::TlsVersion;
use oxivpn_proto::tls::verify::CertRole;
use oxivpn_proto::tls::{PeerIdentity, TlsFailure, TlsFailureKind, TlsPhase, TlsSession};
use zeroize::Zeroizing;

use super::Setup;
use super::flights::{
    CERTIFICATE, CLIENT_HELLO, FINISHED, Paper, SERVER_HELLO, VERIFY, client_hello, message,
    read_server_hello, server_hello, take_message,
};
use super::records::{ALERT, DATA, HANDSHAKE, HEADER, Lane, Secret, body_len, plain};
use crate::tls::stream;

/// Longest piece of a handshake message in one record.
const MAX_PIECE: usize = 1400;

/// Alerts and their levels (RFC 8446, 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const CERTIFICATE_UNSUPPORTED: u8 = 43;
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;
const DECODE_ERROR: u8 = 50;
const DECRYPT_ERROR: u8 = 51;

/// What the peer must send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hello,
    Certificate,
    Verify,
    Finished,
    /// Data; the handshake is done.
    Data,
}

/// Keys of a session, once both hellos are there.
struct Keys {
    own: Lane,
    peer: Lane,
    finished: Secret,
    exporter: Secret,
    /// A record of the peer was opened: nothing without protection is taken any more.
    heard: bool,
}

/// An end of a connection.
pub(super) struct Session {
    setup: Arc<Setup>,
    is_client: bool,
    unix: u64,
    step: Step,
    /// Whether the server finishes after the client.
    server_last: bool,
    /// Hash over all handshake messages so far.
    transcript: digest::Context,
    keys: Option<Keys>,
    peer: Option<Paper>,
    /// A record that is not complete yet.
    partial: Vec<u8>,
    /// Handshake messages that are not complete yet.
    messages: Vec<u8>,
    records: VecDeque<Zeroizing<Vec<u8>>>,
    unread: usize,
    outgoing: Vec<u8>,
    settled: bool,
    closed: bool,
    failure: Option<TlsFailure>,
}

impl Session {
    pub(super) fn client(setup: Arc<Setup>, unix: Duration) -> Self {
        let mut session = Self::new(setup, true, unix);
        session.say(&client_hello());
        session
    }

    pub(super) fn server(setup: Arc<Setup>, unix: Duration) -> Self {
        Self::new(setup, false, unix)
    }

    fn new(setup: Arc<Setup>, is_client: bool, unix: Duration) -> Self {
        Self {
            server_last: setup.version == TlsVersion::V12,
            setup,
            is_client,
            unix: unix.as_secs(),
            step: Step::Hello,
            transcript: digest::Context::new(&SHA256),
            keys: None,
            peer: None,
            partial: Vec::new(),
            messages: Vec::new(),
            records: VecDeque::new(),
            unread: 0,
            outgoing: Vec::new(),
            settled: false,
            closed: false,
            failure: None,
        }
    }

    fn peer_role(&self) -> CertRole {
        if self.is_client { CertRole::Server } else { CertRole::Client }
    }

    fn hash(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.transcript.clone().finish().as_ref());
        out
    }

    /// Sends a handshake message, cut into records anywhere.
    fn say(&mut self, message: &[u8]) {
        self.transcript.update(message);
        let mut rest = message;
        while !rest.is_empty() {
            let (piece, later) = rest.split_at((1 + stream::below(MAX_PIECE)).min(rest.len()));
            self.send(HANDSHAKE, piece);
            rest = later;
        }
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        match &mut self.keys {
            Some(keys) => keys.own.seal(kind, body, &mut self.outgoing),
            None => plain(kind, body, &mut self.outgoing),
        }
    }

    fn fail(&mut self, kind: TlsFailureKind, alert: Option<u8>, message: impl Into<String>) -> TlsFailure {
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        if let Some(alert) = alert {
            self.send(ALERT, &[FATAL, alert]);
        }
        self.records.clear();
        self.unread = 0;
        self.partial = Vec::new();
        self.failure.insert(TlsFailure { kind, message: message.into() }).clone()
    }

    fn protocol(&mut self, alert: u8, message: &str) -> TlsFailure {
        self.fail(TlsFailureKind::Protocol, Some(alert), format!("the peer {message}"))
    }

    /// Makes the keys out of both hellos.
    fn derive_keys(&mut self) {
        let base = self.setup.world.child("keys", &self.hash());
        let [client, server] = ["client", "server"].map(|side| Lane::new(base.derive(side, &[])));
        let (own, peer) = if self.is_client { (client, server) } else { (server, client) };
        let (finished, exporter) = (base.child("finished", &[]), base.child("exporter", &[]));
        self.keys = Some(Keys { own, peer, finished, exporter, heard: false });
    }

    /// What an end sends as finished after this transcript.
    fn finished(&self, is_client: bool, transcript: &[u8]) -> Option<[u8; 32]> {
        let label = if is_client { "client" } else { "server" };
        Some(self.keys.as_ref()?.finished.derive(label, transcript))
    }

    fn say_certificate(&mut self) {
        let setup = self.setup.clone();
        self.say(&setup.own.message());
        let proof = setup.own.proof(&setup.own_root, &self.hash());
        self.say(&message(VERIFY, &proof));
    }

    fn say_finished(&mut self) {
        let finished = self.finished(self.is_client, &self.hash()).unwrap_or_default();
        self.say(&message(FINISHED, &finished));
    }

    fn process_message(&mut self, message: &[u8]) -> Result<(), TlsFailure> {
        let (kind, body) = (message[0], &message[4..]);
        let before = self.hash();
        self.transcript.update(message);
        match (self.step, kind) {
            (Step::Hello, CLIENT_HELLO) if !self.is_client => self.process_client_hello(body),
            (Step::Hello, SERVER_HELLO) if self.is_client => self.process_server_hello(body),
            (Step::Certificate, CERTIFICATE) => self.process_certificate(body),
            (Step::Verify, VERIFY) => self.process_verify(body, &before),
            (Step::Finished, FINISHED) => self.process_finished(body, &before),
            _ => Err(self.protocol(UNEXPECTED_MESSAGE, "sent a handshake message out of turn")),
        }
    }

    fn process_client_hello(&mut self, body: &[u8]) -> Result<(), TlsFailure> {
        if body.len() < 32 {
            return Err(self.protocol(DECODE_ERROR, "sent a hello without random"));
        }
        self.say(&server_hello(self.server_last));
        self.derive_keys();
        self.say_certificate();
        if !self.server_last {
            self.say_finished();
        }
        self.step = Step::Certificate;
        Ok(())
    }

    fn process_server_hello(&mut self, body: &[u8]) -> Result<(), TlsFailure> {
        let Some(last) = read_server_hello(body) else {
            return Err(self.protocol(DECODE_ERROR, "sent a hello that cannot be read"));
        };
        self.server_last = last;
        self.derive_keys();
        self.step = Step::Certificate;
        Ok(())
    }

    fn process_certificate(&mut self, body: &[u8]) -> Result<(), TlsFailure> {
        let Some(paper) = Paper::read(body) else {
            return Err(self.protocol(DECODE_ERROR, "sent a certificate that cannot be read"));
        };
        let (name, trusted) = (&paper.name, self.setup.trusted.name());
        let refusal = if paper.issuer != trusted {
            Some((UNKNOWN_CA, format!("depth=1, CN={}: not signed by CN={trusted}", paper.issuer)))
        } else if !(paper.not_before..=paper.not_after).contains(&self.unix) {
            Some((CERTIFICATE_EXPIRED, format!("depth=0, CN={name}: not valid at {}", self.unix)))
        } else if paper.role != self.peer_role() {
            Some((CERTIFICATE_UNSUPPORTED, format!("depth=0, CN={name}: not for this side of TLS")))
        } else {
            None
        };
        if let Some((alert, why)) = refusal {
            return Err(self.fail(TlsFailureKind::Certificate, Some(alert), format!("VERIFY ERROR: {why}")));
        }
        self.peer = Some(paper);
        self.step = Step::Verify;
        Ok(())
    }

    fn process_verify(&mut self, body: &[u8], transcript: &[u8]) -> Result<(), TlsFailure> {
        let proof = self.peer.as_ref().map(|paper| paper.proof(&self.setup.trusted_root, transcript));
        if proof.is_none_or(|proof| verify_slices_are_equal(&proof, body).is_err()) {
            let why = "VERIFY ERROR: the peer does not have the key of its certificate";
            return Err(self.fail(TlsFailureKind::Certificate, Some(DECRYPT_ERROR), why));
        }
        if self.is_client && self.server_last {
            self.turn(true);
        } else {
            self.step = Step::Finished;
        }
        Ok(())
    }

    fn process_finished(&mut self, body: &[u8], transcript: &[u8]) -> Result<(), TlsFailure> {
        let right = self.finished(!self.is_client, transcript);
        if right.is_none_or(|right| verify_slices_are_equal(&right, body).is_err()) {
            return Err(self.protocol(DECRYPT_ERROR, "finished another handshake than this"));
        }
        self.turn(false);
        Ok(())
    }

    /// The peer's flight is over: says what is ours to say, and waits for the peer to finish if `more`.
    fn turn(&mut self, more: bool) {
        if self.is_client && (more || !self.server_last) {
            self.say_certificate();
            self.say_finished();
        } else if !self.is_client && self.server_last {
            self.say_finished();
        }
        self.step = if more { Step::Finished } else { Step::Data };
    }

    /// Length of the record that begins in `partial`, with its header, or of the header as long as that is not there.
    /// `None` if no record begins like this.
    fn record_len(&self) -> Option<usize> {
        match self.partial.first_chunk::<HEADER>() {
            None => Some(HEADER),
            Some(header) => body_len(header).map(|len| HEADER + len),
        }
    }

    fn process_record(&mut self, mut record: Vec<u8>) -> Result<(), TlsFailure> {
        let kind = record[0];
        let heard = self.keys.as_ref().is_some_and(|keys| keys.heard);
        let bare_alert = kind == ALERT && !heard;
        if let Some(keys) = self.keys.as_mut().filter(|_| !bare_alert) {
            let opened =
                keys.peer.open(&mut record).map(|(kind, body)| (kind, Zeroizing::new(body.to_vec())));
            keys.heard |= opened.is_some();
            match opened {
                Some((kind, body)) => self.process(kind, body),
                None => Err(self.protocol(BAD_RECORD_MAC, "sent a record that was changed, lost or made up")),
            }
        } else {
            self.process(kind, Zeroizing::new(record.split_off(HEADER)))
        }
    }

    fn process(&mut self, kind: u8, body: Zeroizing<Vec<u8>>) -> Result<(), TlsFailure> {
        match (kind, self.step) {
            (ALERT, _) => match body.as_slice() {
                // One that nothing protects ends nothing.
                [WARNING, CLOSE_NOTIFY] => {
                    self.closed |= self.step == Step::Data;
                    Ok(())
                }
                [_, code] => {
                    let text = format!("received fatal alert {code}");
                    Err(self.fail(TlsFailureKind::Alert, None, text))
                }
                _ => Err(self.protocol(DECODE_ERROR, "sent an alert that cannot be read")),
            },
            (DATA, Step::Data) => {
                if self.records.len() >= MAX_TLS_RECORDS || self.unread + body.len() > MAX_TLS_BUFFER {
                    return Err(self.protocol(UNEXPECTED_MESSAGE, "sends records faster than it may"));
                }
                self.unread += body.len();
                self.records.push_back(body);
                Ok(())
            }
            (HANDSHAKE, step) if step != Step::Data => self.process_handshake(&body),
            _ => Err(self.protocol(UNEXPECTED_MESSAGE, "sent a record of a kind that is out of turn")),
        }
    }

    fn process_handshake(&mut self, piece: &[u8]) -> Result<(), TlsFailure> {
        self.messages.extend_from_slice(piece);
        loop {
            let had_keys = self.keys.is_some();
            match take_message(&mut self.messages) {
                Ok(Some(message)) => self.process_message(&message)?,
                Ok(None) => return Ok(()),
                Err(()) => return Err(self.protocol(DECODE_ERROR, "sent a message that is too long")),
            }
            // Keys change between records only, and the handshake ends with one.
            let border = had_keys != self.keys.is_some() || self.step == Step::Data;
            if border && !self.messages.is_empty() {
                return Err(self.protocol(UNEXPECTED_MESSAGE, "said more in a record than may be in it"));
            }
        }
    }

    fn not_ready(&self) -> TlsFailure {
        let message = "nothing can be sent or exported before the handshake is done or after the end".into();
        self.failure.clone().unwrap_or(TlsFailure { kind: TlsFailureKind::Local, message })
    }

    /// Tells the peer that nothing more comes.
    #[cfg(test)]
    pub(super) fn close(&mut self) {
        self.send(ALERT, &[WARNING, CLOSE_NOTIFY]);
    }
}

impl TlsSession for Session {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TlsFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        while !bytes.is_empty() && !self.closed {
            let Some(want) = self.record_len() else {
                return Err(self.protocol(DECODE_ERROR, "sent what is not a TLS record"));
            };
            let (now, later) = bytes.split_at(bytes.len().min(want - self.partial.len()));
            self.partial.extend_from_slice(now);
            bytes = later;
            if self.partial.len() == want && want > HEADER {
                let record = core::mem::take(&mut self.partial);
                self.process_record(record)?;
            }
        }
        match self.record_len() {
            Some(_) => Ok(()),
            None => Err(self.protocol(DECODE_ERROR, "sent what is not a TLS record")),
        }
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
        true
    }

    fn write_record(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        if self.phase() != TlsPhase::Ready {
            return Err(self.not_ready());
        }
        if bytes.is_empty() || bytes.len() > MAX_TLS_PLAINTEXT {
            let message = format!("a message must have 1 to {MAX_TLS_PLAINTEXT} bytes");
            return Err(TlsFailure { kind: TlsFailureKind::Local, message });
        }
        self.send(DATA, bytes);
        Ok(())
    }

    fn export(&mut self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        let ready = self.step == Step::Data && !self.settled && self.failure.is_none();
        let Some(keys) = self.keys.as_ref().filter(|_| ready) else { return Err(self.not_ready()) };
        for (block, part) in (0_u32..).zip(out.chunks_mut(32)) {
            part.copy_from_slice(&keys.exporter.derive(label, &block.to_be_bytes())[..part.len()]);
        }
        Ok(())
    }

    fn peer(&self) -> Option<PeerIdentity> {
        let paper = self.peer.as_ref().filter(|_| self.step == Step::Data)?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, &paper.der).as_ref());
        let subject = format!("CN={}", paper.name);
        Some(PeerIdentity {
            chain: vec![format!("depth=1, CN={}", paper.issuer), format!("depth=0, {subject}")],
            subject,
            common_name: Some(paper.name.clone()),
            fingerprint,
            warnings: Vec::new(),
            certificates: [paper.der.clone(), self.setup.trusted_der.clone()].into(),
        })
    }

    fn phase(&self) -> TlsPhase {
        if self.failure.is_some() || self.closed {
            TlsPhase::Closed
        } else if self.step == Step::Data {
            TlsPhase::Ready
        } else {
            TlsPhase::Handshaking
        }
    }

    fn description(&self) -> Option<String> {
        let version = if self.server_last { "TLSv1.2" } else { "TLSv1.3" };
        self.peer.as_ref().filter(|_| self.step == Step::Data)?;
        Some(format!("{version}, cipher {version} SIMULATED"))
    }

    /// Of a server's session, as of a real one.
    fn settle(&mut self) {
        if !self.is_client && self.phase() == TlsPhase::Ready {
            self.settled = true;
            self.peer = None;
        }
    }
}
