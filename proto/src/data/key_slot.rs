//! One key id of a peer: both directions, their use and what was said about it.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::epoch::{Chain, EpochReceiver, FUTURE, SendChain};
use super::recv::{Opener, RecvKey};
use super::send::{KeySpent, SealError, SendKey, SendKeyParts, SendPermit};
use super::slot::Slot;
use super::usage::{Bounds, blocks};
use super::{NONCE_LEN, Span, TAG_LEN};
use crate::clock::Instant;
use crate::config::params::{DataFormat, DataParams};
use crate::drops::DropReason;
use crate::keys::data_key::{DataKey, KeyHalf, KeyLimits, Part};
use crate::report::{Totals, Wear};
use crate::wire::ids::KeyId;

/// Packet ids taken at a time, so that the shared counter is touched once per batch. The owner of the slot
/// seals in order, so a batch leaves no gap that a peer's replay window would see.
const PERMIT_BATCH: u32 = 64;

/// Everything about one key id of one peer.
pub(super) struct KeySlot {
    /// `None` when another key has taken over.
    send: Option<SendSide>,
    recv: RecvSide,
    part: Part,
    bounds: Bounds,
    limits: KeyLimits,
    totals: Totals,
    reported: u8,
    first_received: bool,
    spent_reported: bool,
}

/// The sending direction.
pub(super) struct SendSide {
    permit: SendPermit,
    chain: Option<SendChain>,
    /// Blocks sealed with the present send key.
    blocks: u64,
}

/// The receiving direction.
pub(super) enum RecvSide {
    Classic(RecvKey),
    Epoch(Box<EpochReceiver>),
}

/// Cuts a key block into its two directions.
pub(super) fn split(data: DataKey, key: KeyId, params: &DataParams, bounds: &Bounds) -> (SendSide, RecvSide) {
    let raw = data.expose();
    let cipher = params.cipher;
    match params.format {
        DataFormat::V1 | DataFormat::V2(_) => {
            let send = Arc::new(SendKey::new(SendKeyParts {
                cipher,
                material: &*raw.send.cipher,
                iv: classic_iv(&raw.send),
                format: params.format,
                key,
                epoch: 0,
                last: bounds.id_last,
            }));
            let opener = Opener::new(cipher, &*raw.recv.cipher, classic_iv(&raw.recv), bounds, 0);
            let recv = RecvKey::new(opener, params.replay);
            (SendSide::new(&send, None), RecvSide::Classic(recv))
        }
        DataFormat::Epoch(_) => {
            let chain = SendChain::new(Chain::first(&raw.send.cipher), cipher, params.format, key, bounds);
            let recv = EpochReceiver::new(Chain::first(&raw.recv.cipher), cipher, params.replay, bounds);
            (SendSide::new(&chain.make_key(), Some(chain)), RecvSide::Epoch(Box::new(recv)))
        }
    }
}

/// Packet id in the first 4 bytes of the nonce, then 8 bytes of the HMAC slice.
fn classic_iv(half: &KeyHalf) -> Zeroizing<[u8; NONCE_LEN]> {
    let mut iv = Zeroizing::new([0; NONCE_LEN]);
    iv[4..].copy_from_slice(&half.hmac[..8]);
    iv
}

impl SendSide {
    fn new(key: &Arc<SendKey>, chain: Option<SendChain>) -> Self {
        Self { permit: key.empty_permit(), chain, blocks: 0 }
    }

    pub(super) fn into_key(self) -> Arc<SendKey> {
        Arc::clone(self.permit.key())
    }

    /// Blocks plus packets under the present send key.
    const fn used(&self) -> u64 {
        self.blocks + self.permit.last_used()
    }

    /// Steps forward to `epoch`, if the chain isn't there yet.
    fn raise(&mut self, epoch: u16) {
        if let Some(chain) = &mut self.chain
            && chain.epoch() < epoch
        {
            self.permit = chain.raise(epoch).empty_permit();
            self.blocks = 0;
        }
    }

    /// Takes ids, down to the last one of the key.
    #[inline]
    fn refill(&mut self) -> Result<(), KeySpent> {
        if self.permit.remaining() == 0 {
            let key = Arc::clone(self.permit.key());
            self.permit = key.permit(PERMIT_BATCH).or_else(|_| key.permit(1))?;
        }
        Ok(())
    }
}

impl RecvSide {
    /// The receive key, of epoch 1 if there are epochs.
    pub(super) fn into_key(self) -> RecvKey {
        match self {
            Self::Classic(key) => key,
            Self::Epoch(receiver) => receiver.into_current(),
        }
    }

    fn current(&self) -> &RecvKey {
        match self {
            Self::Classic(key) => key,
            Self::Epoch(receiver) => receiver.current(),
        }
    }
}

impl KeySlot {
    pub(super) fn new(data: DataKey, key: KeyId, params: &DataParams, bounds: Bounds) -> Self {
        let limits = data.limits();
        let part = data.part().clone();
        let (send, recv) = split(data, key, params, &bounds);
        Self {
            send: Some(send).filter(|_| !matches!(part, Part::Opening(_))),
            recv,
            part,
            bounds,
            limits,
            totals: Totals::default(),
            reported: 0,
            first_received: false,
            spent_reported: false,
        }
    }

    /// Use of the key.
    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Seals the slot's payload.
    #[inline]
    pub(super) fn seal(&mut self, slot: &mut Slot<'_>) -> Result<Span, SealError> {
        if self.is_epoch() {
            self.roll_if_due();
        }
        let send = self.send.as_mut().ok_or(SealError::NoKey)?;
        send.refill()?;
        let span = send.permit.seal(slot)?;
        let tag = if send.chain.is_some() { TAG_LEN } else { 0 };
        send.blocks += blocks(span.len() - tag);
        self.totals.tx_packets += 1;
        self.totals.tx_bytes += span.len() as u64;
        Ok(span)
    }

    /// Opens a packet with a header of `header_len` bytes.
    #[inline]
    pub(super) fn open(
        &mut self,
        now: Instant,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<Span, DropReason> {
        if matches!(self.part, Part::Sealing(_)) {
            return Err(DropReason::NoKey);
        }
        let span = match &mut self.recv {
            RecvSide::Classic(key) => key.open(now, header_len, packet)?,
            RecvSide::Epoch(_) if header_len != 4 => return Err(DropReason::UnexpectedOpcode),
            RecvSide::Epoch(receiver) => {
                let span = receiver.open(now, packet)?;
                let epoch = receiver.epoch();
                // The peer went ahead; it counts on being followed.
                if let Some(send) = &mut self.send {
                    send.raise(epoch);
                }
                if let Part::Opening(seen) = &self.part {
                    // Relaxed: the number orders no other memory.
                    seen.store(epoch, Ordering::Relaxed);
                }
                span
            }
        };
        self.totals.rx_packets += 1;
        self.totals.rx_bytes += packet.len() as u64;
        Ok(span)
    }

    /// The epoch that the peer was seen in.
    fn seen(&self, receiver: &EpochReceiver) -> u16 {
        match &self.part {
            Part::Sealing(other) => other.load(Ordering::Relaxed).max(receiver.epoch()),
            Part::Whole | Part::Opening(_) => receiver.epoch(),
        }
    }

    const fn is_epoch(&self) -> bool {
        matches!(self.recv, RecvSide::Epoch(_))
    }

    /// Seals nothing more, since another key has taken over; frees the half that sealed.
    pub(super) fn stop_sending(&mut self) {
        self.send = None;
    }

    /// Steps to the next epoch if the present one is used up (`openvpn: crypto_epoch.c`,
    /// `epoch_check_send_iterate`).
    fn roll_if_due(&mut self) {
        let (RecvSide::Epoch(receiver), Some(send)) = (&self.recv, &mut self.send) else { return };
        let mut seen = receiver.epoch();
        if let Part::Sealing(other) = &self.part {
            seen = other.load(Ordering::Relaxed).max(seen);
            // The peer went ahead, as in `open`.
            send.raise(seen);
        }
        if epoch_is_used_up(receiver, send, &self.bounds) && may_roll(seen, send, &self.bounds) {
            send.raise(send.permit.key().epoch() + 1);
        }
    }

    /// True once, after the first packet that authenticated.
    pub(super) const fn take_first_receive(&mut self) -> bool {
        !core::mem::replace(&mut self.first_received, true)
    }

    /// True once, for the hard limit.
    pub(super) const fn take_spent(&mut self) -> bool {
        !core::mem::replace(&mut self.spent_reported, true)
    }

    /// A reason to replace the key that wasn't given before.
    #[inline]
    pub(super) fn take_wear(&mut self) -> Option<Wear> {
        let found = self.wear() & !self.reported;
        if found == 0 {
            return None;
        }
        let bit = found & found.wrapping_neg();
        self.reported |= bit;
        WEAR.into_iter().find(|&(b, _)| b == bit).map(|(_, why)| why)
    }

    #[inline]
    fn wear(&self) -> u8 {
        let (recv, bounds) = (self.recv.current(), &self.bounds);
        let mut found = 0;
        match (&self.recv, &self.send) {
            (RecvSide::Classic(_), send) => {
                let (last, used) = send.as_ref().map_or((0, 0), |s| (s.permit.last_used(), s.used()));
                if last >= bounds.id_soft {
                    found |= PACKET_ID;
                }
                if bounds.usage_worn(used) || bounds.usage_worn(recv.used()) {
                    found |= USAGE;
                }
            }
            (RecvSide::Epoch(receiver), Some(send)) => {
                if send.permit.key().epoch() >= bounds.epoch_soft {
                    found |= EPOCH;
                }
                if bounds.usage_over(send.used()) && !may_roll(self.seen(receiver), send, bounds) {
                    found |= USAGE;
                }
            }
            (RecvSide::Epoch(_), None) => {}
        }
        if recv.forgeries() > bounds.forgeries_soft {
            found |= FORGERIES;
        }
        let KeyLimits { bytes, packets } = self.limits;
        if bytes > 0 && self.totals.rx_bytes + self.totals.tx_bytes >= bytes
            || packets > 0 && self.totals.rx_packets + self.totals.tx_packets >= packets
        {
            found |= CONFIGURED;
        }
        found
    }

    #[cfg(test)]
    pub(super) fn skip_to(&mut self, counter: u64) {
        let send = self.send.as_mut().expect("a key that seals");
        let key = Arc::clone(send.permit.key());
        key.skip_to(counter);
        send.permit = key.empty_permit();
    }

    #[cfg(test)]
    pub(super) fn set_forgeries(&mut self, n: u64) {
        match &mut self.recv {
            RecvSide::Classic(key) => key.set_forgeries(n),
            RecvSide::Epoch(receiver) => receiver.current_mut().set_forgeries(n),
        }
    }
}

fn epoch_is_used_up(receiver: &EpochReceiver, send: &SendSide, bounds: &Bounds) -> bool {
    if send.permit.last_used() >= bounds.epoch_counter_last {
        return true;
    }
    if bounds.usage.is_none() {
        return false;
    }
    // When the receive key is worn, going ahead makes the peer follow.
    let nudge = send.permit.key().epoch() == receiver.epoch()
        && (bounds.usage_over(receiver.current().used())
            || receiver.current().forgeries() > bounds.forgeries_soft);
    nudge || bounds.usage_over(send.used())
}

/// A peer holds [`FUTURE`] keys beyond the newest epoch it has seen from us, and what it has seen it doesn't tell. As
/// it follows us, the epoch it sends with is the measure for that; and an epoch in which we sent nothing is not left,
/// since following the peer there may have been a leap already.
fn may_roll(seen: u16, send: &SendSide, bounds: &Bounds) -> bool {
    let epoch = send.permit.key().epoch();
    send.permit.last_used() > 0 && epoch < bounds.epoch_last && epoch < seen.saturating_add(FUTURE)
}

const PACKET_ID: u8 = 1;
const USAGE: u8 = 2;
const FORGERIES: u8 = 4;
const EPOCH: u8 = 8;
const CONFIGURED: u8 = 16;
const WEAR: [(u8, Wear); 5] = [
    (PACKET_ID, Wear::PacketId),
    (USAGE, Wear::Usage),
    (FORGERIES, Wear::Forgeries),
    (EPOCH, Wear::Epoch),
    (CONFIGURED, Wear::Configured),
];
