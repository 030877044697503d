//! TLS that goes wrong.

use core::time::Duration;
use std::sync::Arc;

use oxivpn_proto::tls::{PeerIdentity, TlsFactory, TlsFailure, TlsFailureKind, TlsPhase, TlsSession};
use zeroize::Zeroizing;

use super::stream;
use crate::seed::Rate;

/// How often sessions of one factory fail, and in which way. Drawn anew for each session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFaults {
    /// A client says hello and nothing more; a server says nothing.
    pub silence: Rate,
    /// The peer's certificate is refused, as if its CA were not trusted.
    pub refusal: Rate,
    /// What the peer says first is answered with a fatal alert, which nothing protects.
    pub alert: Rate,
    /// Code of that alert (RFC 8446, 6).
    pub code: u8,
}

impl TlsFaults {
    /// All goes well.
    pub const NONE: Self =
        Self { silence: Rate::NEVER, refusal: Rate::NEVER, alert: Rate::NEVER, code: HANDSHAKE_FAILURE };
}

impl Default for TlsFaults {
    fn default() -> Self {
        Self::NONE
    }
}

const FATAL: u8 = 2;
const HANDSHAKE_FAILURE: u8 = 40;

/// A factory, another one that refuses what the first takes, and how often which is asked.
pub(super) struct Faulty {
    pub(super) good: Arc<dyn TlsFactory>,
    pub(super) refusing: Arc<dyn TlsFactory>,
    pub(super) faults: TlsFaults,
}

impl Faulty {
    fn start(
        &self,
        make: impl Fn(&dyn TlsFactory) -> Result<Box<dyn TlsSession>, TlsFailure>,
    ) -> Result<Box<dyn TlsSession>, TlsFailure> {
        let TlsFaults { silence, refusal, alert, code } = self.faults;
        // All are drawn each time, so that one rate doesn't move the draws of the others.
        let [silent, refuses, alerts] = [silence, refusal, alert].map(stream::hit);
        let inner = make(if refuses { &*self.refusing } else { &*self.good })?;
        Ok(match (silent, alerts) {
            (false, false) => inner,
            (true, _) => Box::new(Stub { inner, alert: None, out: Vec::new(), failure: None }),
            (false, true) => Box::new(Stub { inner, alert: Some(code), out: Vec::new(), failure: None }),
        })
    }
}

impl TlsFactory for Faulty {
    fn client(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        self.start(|factory| factory.client(unix))
    }

    fn server(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        self.start(|factory| factory.server(unix))
    }
}

/// A session that gets no further than its first flight.
struct Stub {
    inner: Box<dyn TlsSession>,
    /// What it answers with, if it does.
    alert: Option<u8>,
    out: Vec<u8>,
    failure: Option<TlsFailure>,
}

impl TlsSession for Stub {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(code) = self.alert.filter(|_| !bytes.is_empty()) else { return Ok(()) };
        self.out.extend_from_slice(&[21, 3, 3, 0, 2, FATAL, code]);
        let message = format!("simulated: the handshake is given up with alert {code}");
        let failure = TlsFailure { kind: TlsFailureKind::Protocol, message };
        Err(self.failure.insert(failure).clone())
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> usize {
        let hello = self.inner.drain(out);
        let len = self.out.len();
        out.append(&mut self.out);
        hello + len
    }

    fn read_record(&mut self, _: &mut Zeroizing<Vec<u8>>) -> bool {
        false
    }

    fn write_record(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => self.inner.write_record(bytes),
        }
    }

    fn export(&mut self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        self.inner.export(label, out)
    }

    fn peer(&self) -> Option<PeerIdentity> {
        None
    }

    fn phase(&self) -> TlsPhase {
        if self.failure.is_some() { TlsPhase::Closed } else { TlsPhase::Handshaking }
    }

    fn description(&self) -> Option<String> {
        None
    }
}
