//! Which data keys exist and which one sends.
//!
//! A new key is installed for receiving as soon as it is derived. The old one goes on sending until the
//! peer was seen using the new one, or until the time by which the peer must have it ([`Handover`]); so no packet is
//! ever sealed with a key that the other side doesn't know yet (`openvpn: ssl.c`, `tls_select_encryption_key`).

use std::collections::VecDeque;

use super::NEVER;
use super::handover::Handover;
use crate::clock::Instant;
use crate::deadline::{Deadline, Timer};
use crate::directive::{Directive, PeerRef};
use crate::keys::data_key::DataKey;
use crate::wire::ids::KeyId;

#[derive(Debug)]
pub(crate) struct Slots {
    peer: PeerRef,
    sending: Option<KeyId>,
    /// Installed, and from when on it sends in any case.
    pending: Option<(KeyId, Instant)>,
    /// Received with only, until then.
    old: Option<(KeyId, Instant)>,
    /// The end of the key that sends now, known from the moment its successor is negotiated.
    handover: Option<Handover>,
    /// The key that sends can't seal any more.
    spent: bool,
}

impl Slots {
    pub(crate) const fn new(peer: PeerRef) -> Self {
        Self { peer, sending: None, pending: None, old: None, handover: None, spent: false }
    }

    /// Whether there is a key to send with.
    pub(crate) const fn is_usable(&self) -> bool {
        self.sending.is_some() && !self.spent
    }

    #[cfg(test)]
    pub(crate) const fn sending(&self) -> Option<KeyId> {
        self.sending
    }

    /// Whether `key` is installed and the newest.
    pub(crate) fn knows(&self, key: KeyId) -> bool {
        match self.pending {
            Some((pending, _)) => pending == key,
            None => self.sending == Some(key),
        }
    }

    /// If `key` waits for proof, it sends from `at` on also without.
    pub(crate) fn promote_by(&mut self, key: KeyId, at: Instant) {
        if let Some((_, due)) = self.pending.as_mut().filter(|(pending, _)| *pending == key) {
            *due = at;
        }
    }

    /// By when the newest key sends, if it doesn't yet.
    pub(crate) fn settles_at(&self) -> Option<Instant> {
        self.pending.map(|(_, at)| at)
    }

    /// A key is derived. The first one sends at once, and so does one after a spent key; gives the key that
    /// took over from another. Others wait for proof, or for what [`promote_by`](Self::promote_by) says.
    pub(crate) fn install(
        &mut self,
        now: Instant,
        key: KeyId,
        data: DataKey,
        out: &mut VecDeque<Directive>,
    ) -> Option<KeyId> {
        // The peer came along to this key, so what it sends is under the one before at least.
        self.retire_old(out);
        out.push_back(Directive::InstallKey { peer: self.peer, key, data });
        self.pending = Some((key, NEVER));
        if self.sending.is_none() {
            self.promote(now, out);
            return None;
        }
        if self.spent { self.promote(now, out) } else { None }
    }

    /// A negotiation begins, and a key that waits for proof sends now; gives that key. What the peer used before
    /// it may still use until it hears of the negotiation.
    pub(crate) fn rotate(
        &mut self,
        now: Instant,
        handover: Handover,
        out: &mut VecDeque<Directive>,
    ) -> Option<KeyId> {
        let promoted = self.promote(now, out);
        self.handover = Some(handover);
        promoted
    }

    /// `key` can't seal any more. If it is the one that sends, its successor takes over as soon as there is
    /// one: the server may not have it yet, but otherwise nothing could be sent at all. The key that was
    /// promoted.
    pub(crate) fn on_spent(
        &mut self,
        now: Instant,
        key: KeyId,
        out: &mut VecDeque<Directive>,
    ) -> Option<KeyId> {
        if self.sending != Some(key) {
            return None;
        }
        self.spent = true;
        self.promote(now, out)
    }

    /// The peer uses `key`.
    pub(crate) fn on_first_receive(
        &mut self,
        now: Instant,
        key: KeyId,
        out: &mut VecDeque<Directive>,
    ) -> bool {
        let proven = self.pending.is_some_and(|(pending, _)| pending == key);
        if proven {
            self.promote(now, out);
        }
        proven
    }

    /// Does what is due; the key that was promoted.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<Directive>) -> Option<KeyId> {
        if self.old.is_some_and(|(_, ends)| ends <= now) {
            self.retire_old(out);
        }
        if self.pending.is_none_or(|(_, at)| at > now) {
            return None;
        }
        self.promote(now, out)
    }

    /// Forgets all keys: nothing passes any more.
    pub(crate) fn clear(&mut self, out: &mut VecDeque<Directive>) {
        let gone = core::mem::replace(self, Self::new(self.peer));
        let keys = [gone.old.map(|(key, _)| key), gone.sending, gone.pending.map(|(key, _)| key)];
        out.extend(keys.into_iter().flatten().map(|key| Directive::RetireKey { peer: self.peer, key }));
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let promote =
            self.pending.filter(|(_, at)| *at < NEVER).map(|(_, at)| Deadline { at, why: Timer::Promote });
        let retire = self.old.map(|(_, at)| Deadline { at, why: Timer::RetireKey });
        Deadline::earliest(promote, retire)
    }

    /// The key that waits sends from now on.
    fn promote(&mut self, now: Instant, out: &mut VecDeque<Directive>) -> Option<KeyId> {
        let (key, _) = self.pending.take()?;
        self.spent = false;
        out.push_back(Directive::PromoteKey { peer: self.peer, key });
        if let (Some(before), Some(handover)) = (self.sending.replace(key), self.handover.take()) {
            self.retire_old(out);
            self.old = Some((before, handover.forgets(now)));
        }
        Some(key)
    }

    fn retire_old(&mut self, out: &mut VecDeque<Directive>) {
        if let Some((key, _)) = self.old.take() {
            out.push_back(Directive::RetireKey { peer: self.peer, key });
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use zeroize::Zeroizing;

    use super::*;
    use crate::config::Timing;
    use crate::keys::data_key::{KeyLimits, TlsRole};
    use crate::wire::ids::PeerId;

    const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(3), generation: 1 };

    fn key(n: u8) -> KeyId {
        KeyId::from_low_bits(n)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + secs(seconds)
    }

    fn data() -> DataKey {
        DataKey::new(Zeroizing::new([7; 256]), TlsRole::Client, KeyLimits::default())
    }

    /// A negotiation that begins at `began`, after which the old key is taken until `ends`.
    fn handover(began: u64, ends: u64) -> Handover {
        let tran_window = Duration::from_secs(ends - began);
        Handover::new(at(began), &Timing { tran_window, ..Timing::default() })
    }

    /// A key is derived at the beginning of time, that sends from `by` on.
    fn install(slots: &mut Slots, n: u8, by: u64, out: &mut VecDeque<Directive>) -> Option<KeyId> {
        let promoted = slots.install(at(0), key(n), data(), out);
        slots.promote_by(key(n), at(by));
        promoted
    }

    fn orders(out: &mut VecDeque<Directive>) -> Vec<String> {
        let name = |order: Directive| match order {
            Directive::InstallKey { key, .. } => format!("install {}", key.get()),
            Directive::PromoteKey { key, .. } => format!("promote {}", key.get()),
            Directive::RetireKey { key, .. } => format!("retire {}", key.get()),
            other => format!("{other:?}"),
        };
        out.drain(..).map(name).collect()
    }

    #[test]
    fn the_first_key_sends_at_once_and_its_successor_when_proven() {
        let (mut slots, mut out) = (Slots::new(PEER), VecDeque::new());
        install(&mut slots, 0, 60, &mut out);
        assert_eq!(orders(&mut out), ["install 0", "promote 0"]);
        slots.rotate(at(0), handover(0, 3600), &mut out);
        install(&mut slots, 1, 60, &mut out);
        assert_eq!(orders(&mut out), ["install 1"]);
        assert!(!slots.on_first_receive(at(1), key(0), &mut out));
        assert!(slots.on_first_receive(at(1), key(1), &mut out));
        assert_eq!(orders(&mut out), ["promote 1"]);
        assert_eq!(slots.deadline(), Some(Deadline { at: at(3600), why: Timer::RetireKey }));
        assert_eq!(slots.handle_timeout(at(3600), &mut out), None);
        assert_eq!(orders(&mut out), ["retire 0"]);
    }

    #[test]
    fn without_proof_the_new_key_sends_when_its_time_has_come() {
        let (mut slots, mut out) = (Slots::new(PEER), VecDeque::new());
        install(&mut slots, 0, 0, &mut out);
        slots.rotate(at(0), handover(0, 3600), &mut out);
        slots.install(at(0), key(1), data(), &mut out);
        orders(&mut out);
        assert_eq!(slots.settles_at(), Some(NEVER));
        slots.promote_by(key(0), at(30));
        slots.promote_by(key(1), at(60));
        assert_eq!(slots.settles_at(), Some(at(60)));
        assert_eq!(slots.handle_timeout(at(59), &mut out), None);
        assert_eq!(slots.handle_timeout(at(60), &mut out), Some(key(1)));
        assert_eq!(orders(&mut out), ["promote 1"]);
    }

    /// The handshake took as long as the transition window: what the peer sent before it saw the new key is still on
    /// its way, whatever the new key was promoted for.
    #[test]
    fn a_key_that_is_taken_over_late_is_left_some_time() {
        type Promotion = fn(&mut Slots, &mut VecDeque<Directive>) -> bool;
        let promotions: [Promotion; 4] = [
            |slots, out| slots.handle_timeout(at(20), out) == Some(key(1)),
            |slots, out| slots.rotate(at(20), handover(20, 40), out) == Some(key(1)),
            |slots, out| slots.on_first_receive(at(20), key(1), out),
            |slots, out| slots.on_spent(at(20), key(0), out) == Some(key(1)),
        ];
        for promote in promotions {
            let (mut slots, mut out) = (Slots::new(PEER), VecDeque::new());
            install(&mut slots, 0, 0, &mut out);
            slots.rotate(at(0), handover(0, 20), &mut out);
            install(&mut slots, 1, 20, &mut out);
            orders(&mut out);
            assert!(promote(&mut slots, &mut out));
            // Once more, as the renegotiation comes before it.
            assert_eq!(slots.handle_timeout(at(20), &mut out), None);
            assert_eq!(orders(&mut out), ["promote 1"]);
            assert_eq!(slots.handle_timeout(at(34), &mut out), None);
            assert_eq!(orders(&mut out), [""; 0]);
            slots.handle_timeout(at(35), &mut out);
            assert_eq!(orders(&mut out), ["retire 0"]);
        }
    }

    #[test]
    fn all_keys_can_be_taken_at_once() {
        let (mut slots, mut out) = (Slots::new(PEER), VecDeque::new());
        for n in 0..3 {
            install(&mut slots, n, 60, &mut out);
            if n < 2 {
                slots.rotate(at(0), handover(0, 3600), &mut out);
            }
        }
        orders(&mut out);
        slots.clear(&mut out);
        assert_eq!(orders(&mut out), ["retire 1", "retire 2"]);
        assert!(!slots.is_usable() && slots.deadline().is_none());
    }

    #[test]
    fn the_successor_of_a_spent_key_sends_without_proof() {
        let (mut slots, mut out) = (Slots::new(PEER), VecDeque::new());
        install(&mut slots, 0, 0, &mut out);
        assert_eq!(slots.on_spent(at(0), key(0), &mut out), None, "there is no successor yet");
        slots.rotate(at(0), handover(0, 3600), &mut out);
        assert_eq!(install(&mut slots, 1, 60, &mut out), Some(key(1)));
        assert_eq!(orders(&mut out), ["install 0", "promote 0", "install 1", "promote 1"]);
        slots.rotate(at(0), handover(0, 7200), &mut out);
        assert_eq!(install(&mut slots, 2, 3660, &mut out), None);
        assert_eq!(slots.on_spent(at(0), key(0), &mut out), None, "which doesn't send");
        assert_eq!(slots.on_spent(at(0), key(1), &mut out), Some(key(2)));
        assert_eq!(orders(&mut out), ["retire 0", "install 2", "promote 2"]);
        assert_eq!(slots.deadline(), Some(Deadline { at: at(7200), why: Timer::RetireKey }));
    }

    #[test]
    fn a_fast_next_negotiation_never_leaves_a_forgotten_key_sending() {
        let (mut slots, mut out) = (Slots::new(PEER), VecDeque::new());
        install(&mut slots, 0, 0, &mut out);
        slots.rotate(at(0), handover(0, 3600), &mut out);
        install(&mut slots, 1, 60, &mut out);
        assert_eq!(slots.rotate(at(0), handover(0, 3604), &mut out), Some(key(1)));
        assert_eq!(orders(&mut out), ["install 0", "promote 0", "install 1", "promote 1"]);
        assert_eq!(slots.sending(), Some(key(1)));
        install(&mut slots, 2, 64, &mut out);
        assert!(slots.on_first_receive(at(1), key(2), &mut out));
        assert_eq!(orders(&mut out), ["retire 0", "install 2", "promote 2"]);
    }
}
