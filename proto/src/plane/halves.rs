//! One plane of two halves: one seals, the other opens, each in a thread of its own.
//!
//! Orders are parted by [`part`], reports of both go through one [`Joiner`]. The key of a direction is in one half
//! alone (see [`DataKey::split`](crate::keys::data_key::DataKey::split)), so that a half needs no word of the other
//! for a packet.

use std::collections::BTreeMap;

use crate::directive::{Directive, Order, PeerRef};
use crate::report::{Report, Totals};

/// The order for the half that seals, and the one for the half that opens, which has nothing to send.
pub fn part(order: Order) -> (Order, Option<Order>) {
    let Order { seq, directive } = order;
    let (sealing, opening) = match directive {
        Directive::InstallKey { peer, key, data } => {
            let (sealing, opening) = data.split();
            let opening = Directive::InstallKey { peer, key, data: opening };
            (Directive::InstallKey { peer, key, data: sealing }, Some(opening))
        }
        Directive::AddPeer { peer, path, params } => {
            (Directive::AddPeer { peer, path, params }, Some(Directive::AddPeer { peer, path, params }))
        }
        Directive::PromoteKey { peer, key } => {
            (Directive::PromoteKey { peer, key }, Some(Directive::PromoteKey { peer, key }))
        }
        Directive::RetireKey { peer, key } => {
            (Directive::RetireKey { peer, key }, Some(Directive::RetireKey { peer, key }))
        }
        Directive::AddRoute { peer, inner } => {
            (Directive::AddRoute { peer, inner }, Some(Directive::AddRoute { peer, inner }))
        }
        Directive::RemoveRoute { peer, inner } => {
            (Directive::RemoveRoute { peer, inner }, Some(Directive::RemoveRoute { peer, inner }))
        }
        Directive::MovePeer { peer, path } => {
            (Directive::MovePeer { peer, path }, Some(Directive::MovePeer { peer, path }))
        }
        Directive::AskActivity { peer } => {
            (Directive::AskActivity { peer }, Some(Directive::AskActivity { peer }))
        }
        Directive::RemovePeer { peer } => {
            (Directive::RemovePeer { peer }, Some(Directive::RemovePeer { peer }))
        }
        sent @ (Directive::SendPing { .. } | Directive::SendExit { .. }) => (sent, None),
    };
    (Order { seq, directive: sealing }, opening.map(|directive| Order { seq, directive }))
}

/// Joins what both halves tell.
#[derive(Debug, Default)]
pub struct Joiner {
    /// Answers of one half to questions that the other has not answered yet.
    waiting: BTreeMap<PeerRef, Report>,
}

impl Joiner {
    /// What there is to tell after one of the halves told `report`. Both answer a question about activity; the answer
    /// is what was sealed by the one and opened by the other.
    pub fn join(&mut self, report: Report) -> Option<Report> {
        let Report::Activity { peer, .. } = report else { return Some(report) };
        let Some(other) = self.waiting.remove(&peer) else {
            self.waiting.insert(peer, report);
            return None;
        };
        Some(joined(other, report))
    }

    /// A peer is gone: what was told of it is of no use.
    pub fn forget(&mut self, peer: PeerRef) {
        self.waiting.remove(&peer);
    }
}

/// Either half has counted nothing of what the other does.
fn joined(one: Report, other: Report) -> Report {
    let (
        Report::Activity { peer, last_rx, last_tx, totals, key_totals },
        Report::Activity { last_rx: rx, last_tx: tx, totals: more, key_totals: key_more, .. },
    ) = (one, other)
    else {
        return other;
    };
    Report::Activity {
        peer,
        last_rx: last_rx.max(rx),
        last_tx: last_tx.max(tx),
        totals: sum(totals, more),
        key_totals: sum(key_totals, key_more),
    }
}

/// Sums of both halves.
pub const fn sum(a: Totals, b: Totals) -> Totals {
    Totals {
        rx_packets: a.rx_packets + b.rx_packets,
        rx_bytes: a.rx_bytes + b.rx_bytes,
        tx_packets: a.tx_packets + b.tx_packets,
        tx_bytes: a.tx_bytes + b.tx_bytes,
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, SocketAddr};

    use zeroize::Zeroizing;

    use super::*;
    use crate::clock::Instant;
    use crate::config::cipher::DataCipher;
    use crate::config::params::{DataFormat, DataParams};
    use crate::data::{HEADROOM, SealError, Slot, TAILROOM, Table};
    use crate::drops::DropReason;
    use crate::keys::data_key::{DataKey, KeyLimits, TlsRole};
    use crate::path::Path;
    use crate::wire::ids::{KeyId, PeerId};

    const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(0), generation: 1 };
    const KEY: KeyId = KeyId::FIRST;

    fn path() -> Path {
        Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 1194)))
    }

    fn orders(role: TlsRole, format: DataFormat) -> [Directive; 3] {
        let params = DataParams::new(DataCipher::Aes256Gcm, format);
        let data =
            DataKey::new(Zeroizing::new(core::array::from_fn(|i| i as u8)), role, KeyLimits::default());
        [
            Directive::AddPeer { peer: PEER, path: path(), params },
            Directive::InstallKey { peer: PEER, key: KEY, data },
            Directive::PromoteKey { peer: PEER, key: KEY },
        ]
    }

    /// A client in two halves, and a server in one piece.
    fn ends(format: DataFormat) -> (Table, Table, Table) {
        let (mut sealing, mut opening, mut server) = (Table::new(), Table::new(), Table::new());
        for (seq, directive) in (1..).zip(orders(TlsRole::Client, format)) {
            let (first, second) = part(Order { seq, directive });
            sealing.apply(Instant::ZERO, first.directive);
            opening.apply(Instant::ZERO, second.unwrap().directive);
        }
        for directive in orders(TlsRole::Server, format) {
            server.apply(Instant::ZERO, directive);
        }
        (sealing, opening, server)
    }

    fn seal(table: &mut Table) -> Result<Vec<u8>, SealError> {
        let mut buf = [0; HEADROOM + 20 + TAILROOM];
        buf[HEADROOM] = 0x45;
        let sealed = table.seal(Instant::ZERO, PEER, &mut Slot::new(&mut buf, HEADROOM, 20))?;
        Ok(buf[sealed.start..sealed.start + sealed.len].to_vec())
    }

    fn open(table: &mut Table, mut packet: Vec<u8>) -> Result<(), DropReason> {
        table.open(Instant::ZERO, path(), &mut packet).map(drop)
    }

    #[test]
    fn each_half_does_its_part_and_cannot_do_the_other() {
        for format in [DataFormat::V1, DataFormat::V2(PEER.id), DataFormat::Epoch(PEER.id)] {
            let (mut sealing, mut opening, mut server) = ends(format);
            let there = seal(&mut sealing).unwrap();
            open(&mut server, there.clone()).unwrap();
            assert_eq!(open(&mut server, there), Err(DropReason::DataReplay));
            let back = seal(&mut server).unwrap();
            assert_eq!(open(&mut sealing, back.clone()), Err(DropReason::NoKey), "{format:?}");
            open(&mut opening, back).unwrap();
            assert_eq!(seal(&mut opening), Err(SealError::NoKey), "{format:?}");
        }
    }

    #[test]
    fn activity_is_told_when_both_have_answered() {
        let (mut sealing, mut opening, mut server) = ends(DataFormat::V2(PEER.id));
        let mut joiner = Joiner::default();
        for _ in 0..3 {
            open(&mut server, seal(&mut sealing).unwrap()).unwrap();
        }
        open(&mut opening, seal(&mut server).unwrap()).unwrap();
        assert_eq!(
            opening.poll_report().and_then(|report| joiner.join(report)),
            Some(Report::FirstReceive { peer: PEER, key: KEY })
        );
        let (first, second) = part(Order { seq: 9, directive: Directive::AskActivity { peer: PEER } });
        sealing.apply(Instant::ZERO, first.directive);
        opening.apply(Instant::ZERO, second.unwrap().directive);
        assert_eq!(joiner.join(opening.poll_report().unwrap()), None);
        let Some(Report::Activity { totals, key_totals, .. }) = joiner.join(sealing.poll_report().unwrap())
        else {
            panic!("no answer")
        };
        assert_eq!((totals.rx_packets, totals.tx_packets), (1, 3));
        assert_eq!((key_totals.rx_packets, key_totals.tx_packets), (1, 3));
        joiner.join(Report::Activity {
            peer: PEER,
            last_rx: Instant::ZERO,
            last_tx: Instant::ZERO,
            totals,
            key_totals,
        });
        joiner.forget(PEER);
        assert!(joiner.waiting.is_empty());
    }

    #[test]
    fn what_is_to_be_sent_goes_to_the_half_that_seals() {
        for directive in [Directive::SendPing { peer: PEER }, Directive::SendExit { peer: PEER }] {
            assert!(part(Order { seq: 1, directive }).1.is_none());
        }
    }
}
