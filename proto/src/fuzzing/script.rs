//! What the scripts of the session targets are made of.

use core::net::{Ipv4Addr, SocketAddr};

use crate::path::{Path, StreamId};

use super::world::PATH;

/// Reads a script.
pub(crate) struct Script<'d>(&'d [u8]);

impl<'d> Script<'d> {
    pub(crate) fn new(data: &'d [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn long(&mut self) -> u64 {
        // Either small or near the end of the range.
        let (kind, low) = (self.byte(), u64::from(self.word()));
        if kind >= 128 { u64::MAX - low } else { u64::from(kind) << 32 | low << (kind & 15) }
    }

    pub(crate) fn block(&mut self) -> &'d [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (block, rest) = self.0.split_at(len);
        self.0 = rest;
        block
    }
}

/// A path that is likely to be nobody's, or that of the server.
pub(crate) fn some_path(script: &mut Script<'_>) -> Path {
    match script.byte() {
        n @ 0..64 => Path::Stream(StreamId(u64::from(n))),
        n @ 64..128 => Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, n.into()))),
        _ => PATH,
    }
}
