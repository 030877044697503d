//! A TLS client that says what it is told to in place of what its session wants to say.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::tls::fake::FakeFactory;
use crate::tls::{PeerIdentity, TlsFactory, TlsFailure, TlsPhase, TlsSession};

/// Records that replace the next ones.
#[derive(Clone, Default)]
pub(crate) struct Words(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl Words {
    pub(crate) fn push(&self, record: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(record.to_vec());
    }

    fn pop(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// A key method 2 message of a client with these texts; any of them may be too long.
pub(crate) fn hello(texts: [&[u8]; 4]) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 2];
    message.resize(5 + 48 + 64, 7);
    for text in texts {
        let len = u16::try_from(text.len() + 1).unwrap_or(u16::MAX);
        message.extend_from_slice(&len.to_be_bytes());
        message.extend_from_slice(text);
        message.push(0);
    }
    message
}

/// Makes sessions that say [`Words`].
pub(crate) struct MoleFactory {
    inner: FakeFactory,
    words: Words,
}

impl MoleFactory {
    pub(crate) fn new(words: Words) -> Self {
        Self { inner: FakeFactory::new(), words }
    }
}

impl TlsFactory for MoleFactory {
    fn client(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        Ok(Box::new(Mole { inner: self.inner.client(unix)?, words: self.words.clone() }))
    }

    fn server(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        self.inner.server(unix)
    }
}

struct Mole {
    inner: Box<dyn TlsSession>,
    words: Words,
}

impl TlsSession for Mole {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        self.inner.feed(bytes)
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> usize {
        self.inner.drain(out)
    }

    fn read_record(&mut self, out: &mut Zeroizing<Vec<u8>>) -> bool {
        self.inner.read_record(out)
    }

    fn write_record(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        match self.words.pop() {
            Some(words) => self.inner.write_record(&words),
            None => self.inner.write_record(bytes),
        }
    }

    fn export(&mut self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        self.inner.export(label, out)
    }

    fn peer(&self) -> Option<PeerIdentity> {
        self.inner.peer()
    }

    fn phase(&self) -> TlsPhase {
        self.inner.phase()
    }

    fn description(&self) -> Option<String> {
        self.inner.description()
    }
}
