//! What the table knows of one peer.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use ipnet::IpNet;

use super::Span;
use super::key_slot::KeySlot;
use super::send::SealError;
use super::slot::{Sealed, Slot};
use crate::clock::Instant;
use crate::config::params::DataParams;
use crate::directive::PeerRef;
use crate::drops::DropReason;
use crate::path::Path;
use crate::report::{Misframed, Report, Totals};
use crate::wire::data::DataHeader;
use crate::wire::ids::KeyId;

/// Reports that remote packets can cause any number of (`Floated`) stop at this backlog; the next packet
/// causes them again.
const MAX_BACKLOG: usize = 1024;

/// A peer moves so often at most: whoever changes its address with each packet costs no more.
const FLOAT_PAUSE: Duration = Duration::from_millis(250);

/// One peer.
pub(super) struct Entry {
    pub(super) peer: PeerRef,
    pub(super) path: Path,
    pub(super) params: DataParams,
    /// Indexed by key id.
    keys: [Option<Box<KeySlot>>; 8],
    sending: Option<KeyId>,
    last_rx: Instant,
    last_tx: Instant,
    totals: Totals,
    /// What isn't in `totals` because it carried no tunnel packet.
    overhead: Totals,
    /// Inner addresses it has.
    pub(super) owned: BTreeSet<IpNet>,
    /// Its packets must come from an inner address of its own, be there any or not: it was given one once, or is one
    /// of many.
    pub(super) filtered: bool,
    floated: Option<Path>,
    /// Not told before this time that it has moved again.
    float_after: Instant,
    exit_reported: bool,
    misframed_reported: bool,
}

impl Entry {
    pub(super) fn new(now: Instant, peer: PeerRef, path: Path, params: DataParams) -> Self {
        Self {
            peer,
            path,
            params,
            keys: [const { None }; 8],
            sending: None,
            last_rx: now,
            last_tx: now,
            totals: Totals::default(),
            overhead: Totals::default(),
            owned: BTreeSet::new(),
            filtered: false,
            floated: None,
            float_after: Instant::ZERO,
            exit_reported: false,
            misframed_reported: false,
        }
    }

    /// Puts a key in its place, instead of one that had the id before.
    pub(super) fn install(&mut self, key: KeyId, slot: KeySlot) {
        self.retire(key);
        self.keys[usize::from(key.get())] = Some(Box::new(slot));
    }

    /// Sends with `key` from now on, and never again with the key before it. No effect without such a key.
    pub(super) fn promote(&mut self, key: KeyId) {
        if self.keys[usize::from(key.get())].is_none() {
            return;
        }
        if let Some(old) = self.sending.replace(key)
            && old != key
            && let Some(old) = self.keys[usize::from(old.get())].as_deref_mut()
        {
            old.stop_sending();
        }
    }

    pub(super) fn retire(&mut self, key: KeyId) {
        self.keys[usize::from(key.get())] = None;
        if self.sending == Some(key) {
            self.sending = None;
        }
    }

    pub(super) fn move_to(&mut self, path: Path) {
        self.path = path;
        self.floated = None;
    }

    pub(super) fn activity(&self) -> Report {
        let sending = self.sending.and_then(|k| self.keys[usize::from(k.get())].as_deref());
        Report::Activity {
            peer: self.peer,
            last_rx: self.last_rx,
            last_tx: self.last_tx,
            totals: self.totals,
            key_totals: sending.map(KeySlot::totals).unwrap_or_default(),
        }
    }

    /// Everything that was received and sealed.
    pub(super) const fn usage(&self) -> Totals {
        Totals {
            rx_packets: self.totals.rx_packets + self.overhead.rx_packets,
            rx_bytes: self.totals.rx_bytes + self.overhead.rx_bytes,
            tx_packets: self.totals.tx_packets + self.overhead.tx_packets,
            tx_bytes: self.totals.tx_bytes + self.overhead.tx_bytes,
        }
    }

    /// Seals a payload with the sending key, framed.
    #[inline]
    pub(super) fn seal(
        &mut self,
        now: Instant,
        slot: &mut Slot<'_>,
        reports: &mut VecDeque<Report>,
    ) -> Result<Sealed, SealError> {
        let id = self.sending.ok_or(SealError::NoKey)?;
        let key = self.keys[usize::from(id.get())].as_deref_mut().ok_or(SealError::NoKey)?;
        self.params.framing.add(slot)?;
        let span = match key.seal(slot) {
            Ok(span) => span,
            Err(e) => {
                if matches!(e, SealError::Spent(_)) && key.take_spent() {
                    reports.push_back(Report::KeySpent { peer: self.peer, key: id });
                }
                return Err(e);
            }
        };
        if let Some(why) = key.take_wear() {
            reports.push_back(Report::KeyWorn { peer: self.peer, key: id, why });
        }
        self.last_tx = now;
        self.totals.tx_packets += 1;
        self.totals.tx_bytes += span.len() as u64;
        Ok(Sealed { path: self.path, start: span.start, len: span.len() })
    }

    /// Opens a packet that was found to be this peer's.
    #[inline]
    pub(super) fn open(
        &mut self,
        now: Instant,
        header: DataHeader,
        packet: &mut [u8],
        reports: &mut VecDeque<Report>,
    ) -> Result<Span, DropReason> {
        let id = header.key;
        let key = self.keys[usize::from(id.get())].as_deref_mut().ok_or(DropReason::NoKey)?;
        let opened = key.open(now, header.len, packet);
        if opened.is_ok() && key.take_first_receive() {
            reports.push_back(Report::FirstReceive { peer: self.peer, key: id });
        }
        if let Some(why) = key.take_wear() {
            reports.push_back(Report::KeyWorn { peer: self.peer, key: id, why });
        }
        let span = opened?;
        self.last_rx = now;
        self.totals.rx_packets += 1;
        self.totals.rx_bytes += packet.len() as u64;
        Ok(span)
    }

    /// Takes the framing off the payload that [`open`](Self::open) found. The error is told once.
    #[inline]
    pub(super) fn unframe(
        &mut self,
        packet: &mut [u8],
        span: Span,
        reports: &mut VecDeque<Report>,
    ) -> Result<Span, DropReason> {
        match self.params.framing.strip(&mut packet[span.clone()]) {
            Ok((front, tail)) => Ok(span.start + front..span.end - tail),
            Err(found) => {
                self.uncount_received(packet.len());
                self.note_misframed(found, reports);
                Err(match found {
                    Misframed::Compressed => DropReason::Compressed,
                    Misframed::Other(_) => DropReason::Framing,
                })
            }
        }
    }

    /// The packet just received was no tunnel packet: `inactive` must not take it for activity.
    #[inline]
    pub(super) fn uncount_received(&mut self, bytes: usize) {
        self.totals.rx_packets -= 1;
        self.totals.rx_bytes -= bytes as u64;
        self.overhead.rx_packets += 1;
        self.overhead.rx_bytes += bytes as u64;
    }

    /// As [`uncount_received`](Self::uncount_received), for the packet just sealed.
    pub(super) fn uncount_sent(&mut self, bytes: usize) {
        self.totals.tx_packets -= 1;
        self.totals.tx_bytes -= bytes as u64;
        self.overhead.tx_packets += 1;
        self.overhead.tx_bytes += bytes as u64;
    }

    /// Whether packets from `from` are looked at: from the peer's path, or from another of the same kind if
    /// the peer may float.
    #[inline]
    pub(super) fn may_come_from(&self, from: &Path) -> bool {
        self.path == *from
            || self.params.float && self.path.is_stream() == from.is_stream() && !from.is_stream()
    }

    /// An authenticated packet came from `from`.
    #[inline]
    pub(super) fn note_path(&mut self, now: Instant, from: Path, reports: &mut VecDeque<Report>) {
        if from == self.path {
            return;
        }
        if self.floated != Some(from) && now >= self.float_after && reports.len() < MAX_BACKLOG {
            self.floated = Some(from);
            self.float_after = now + FLOAT_PAUSE;
            reports.push_back(Report::Floated { peer: self.peer, to: from });
        }
    }

    pub(super) fn note_misframed(&mut self, found: Misframed, reports: &mut VecDeque<Report>) {
        if !core::mem::replace(&mut self.misframed_reported, true) {
            reports.push_back(Report::Misframed { peer: self.peer, found });
        }
    }

    pub(super) fn note_exit(&mut self, reports: &mut VecDeque<Report>) {
        if !core::mem::replace(&mut self.exit_reported, true) {
            reports.push_back(Report::PeerExit { peer: self.peer });
        }
    }

    #[cfg(test)]
    pub(super) fn key_mut(&mut self, key: KeyId) -> Option<&mut KeySlot> {
        self.keys[usize::from(key.get())].as_deref_mut()
    }
}
