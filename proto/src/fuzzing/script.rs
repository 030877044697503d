//! What the scripts of the session targets are made of.

use core::net::{Ipv4Addr, SocketAddr};

use super::world::PATH;
use crate::clock::Instant;
use crate::directive::PeerRef;
use crate::path::{Path, StreamId};
use crate::report::{Misframed, Report, Totals, Wear};
use crate::wire::ids::{KeyId, PeerId};

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

/// News of a data plane, true or not: mostly of the peer that `known` finds by a number, and moves are to the place that
/// `place` finds by a key.
pub(crate) fn report(
    script: &mut Script<'_>,
    known: impl FnOnce(u8) -> Option<PeerRef>,
    place: impl FnOnce(&mut Script<'_>, KeyId) -> Path,
) -> Report {
    let (kind, who) = (script.byte(), script.byte());
    let stranger = PeerRef { id: PeerId::from_low_bits(who.into()), generation: u32::from(who) };
    let peer = known(who).filter(|_| who < 192).unwrap_or(stranger);
    let key = KeyId::from_low_bits(script.byte());
    match kind % 9 {
        0 => Report::Applied(script.long()),
        1 => Report::FirstReceive { peer, key },
        2 => Report::KeyWorn { peer, key, why: Wear::Usage },
        3 => Report::KeySpent { peer, key },
        4 => Report::Floated { peer, to: place(script, key) },
        5 => Report::PeerExit { peer },
        6 => Report::PeerLost { peer },
        7 => Report::Misframed { peer, found: Misframed::Other(script.byte()) },
        _ => {
            let mut totals = || Totals {
                rx_packets: script.long(),
                rx_bytes: script.long(),
                tx_packets: script.long(),
                tx_bytes: script.long(),
            };
            let (totals, key_totals) = (totals(), totals());
            let last_rx = Instant::from_nanos(script.long());
            let last_tx = Instant::from_nanos(script.long());
            Report::Activity { peer, last_rx, last_tx, totals, key_totals }
        }
    }
}
