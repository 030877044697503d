//! What leaves: control packets, and when to be called next.

use super::exchange::{Sizes, State};
use super::{Configuring, Leaving, NEVER, Now, Phase, Session};
use crate::deadline::{Deadline, Timer};
use crate::limits::{MAX_ACKS, MAX_PIGGYBACK_ACKS};
use crate::path::Path;
use crate::reliable::AckDebt;
use crate::wire::control::ControlBody;
use crate::wire::ids::{KeyId, SessionId};
use crate::wire::opcode::Opcode;
use crate::wrap::WrapConfig;

/// Buffers for making packets, shared by all sessions.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    body: Vec<u8>,
    packet: Vec<u8>,
}

impl Session {
    /// When to call `handle_timeout`, or to poll a transmit. What can't be sent yet (`held`) must not wake
    /// anybody.
    pub(crate) fn deadline(&self, held: bool) -> Option<Deadline> {
        let at = |at, why| Some(Deadline { at, why });
        let timing = &self.channel().timing;
        let phase = match &self.phase {
            Phase::Dead => return None,
            Phase::Dying(_) if held => return None,
            Phase::Dying(_) => return at(self.started, Timer::Transmit),
            Phase::Configuring(Configuring { next_request, give_up, .. }) => {
                Deadline::earliest(at(*next_request, Timer::PushRequest), at(*give_up, Timer::PushTimeout))
            }
            Phase::Admitting(admitting) => at(admitting.give_up, Timer::Verdict),
            Phase::Up => {
                self.renegotiate_at.filter(|&due| due < NEVER).and_then(|due| at(due, Timer::Renegotiate))
            }
            Phase::Leaving(Leaving { until, next_exit, .. }) => {
                at(next_exit.map_or(*until, |due| due.min(*until)), Timer::Leave)
            }
            Phase::Connecting => None,
        };
        let negotiation = match (self.lame_until, self.exchange.state(), self.remote) {
            (Some(until), _, _) => at(until, Timer::RetireKey),
            (None, State::Active, _) => None,
            (None, _, None) if timing.server_poll < timing.hand_window => {
                at(self.started + timing.server_poll, Timer::ServerPoll)
            }
            (None, _, _) => at(self.exchange.started() + timing.hand_window, Timer::HandWindow),
        };
        let retransmit = self.exchange.retransmit_at().filter(|_| !held && self.lame_until.is_none());
        let retransmit = retransmit.and_then(|due| at(due, Timer::Retransmit));
        let keepalive = match self.phase {
            Phase::Leaving(_) => None,
            _ => self.keepalive.deadline(),
        };
        [phase, negotiation, retransmit, keepalive, self.slots.deadline(), self.serve_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Writes the next control packet to `out`; its length.
    pub(crate) fn poll_transmit(&mut self, now: Now, scratch: &mut Scratch, out: &mut [u8]) -> Option<usize> {
        if self.is_dead() {
            return None;
        }
        let Some(header) = self.next_packet(now, &mut scratch.body) else {
            if let Phase::Dying(cause) = &self.phase {
                let cause = cause.clone();
                self.finish(cause);
            }
            return None;
        };
        let (opcode, key) = header;
        scratch.packet.clear();
        let wrap = match &mut self.dynamic_wrap {
            Some(dynamic) if key != KeyId::FIRST => dynamic,
            _ => &mut self.wrap,
        };
        wrap.seal(now.unix_seconds(), opcode.header(key), self.local, &scratch.body, &mut scratch.packet);
        self.keepalive.on_control_sent(now.at);
        out.get_mut(..scratch.packet.len())?.copy_from_slice(&scratch.packet);
        Some(scratch.packet.len())
    }

    /// Builds the body of the next packet: a reliable one with acks riding on it, else acks alone.
    fn next_packet(&mut self, now: Now, out: &mut Vec<u8>) -> Option<(Opcode, KeyId)> {
        if self.lame_until.is_some() {
            return None;
        }
        let key = self.exchange.key();
        // SoftEther drops plain packets with more than four acks (`openvpn: ssl.c`, `calc_control_channel_frame_overhead`).
        let plain = matches!(self.channel().wrap, WrapConfig::None) && self.agreed.is_none();
        let alone = if plain { MAX_PIGGYBACK_ACKS } else { MAX_ACKS };
        let remote = self.remote;
        out.clear();
        if let Some(previous) = self.previous.as_mut() {
            let (key, (_, acks)) = (previous.key(), previous.reliable());
            if acks.pending() {
                acks_body(acks, alone, remote).emit(out);
                return Some((Opcode::AckV1, key));
            }
        }
        let (send, acks) = self.exchange.reliable();
        if let Some(outgoing) = send.poll(now.at) {
            let acks = if remote.is_some() { acks.take(MAX_PIGGYBACK_ACKS) } else { Default::default() };
            let body = ControlBody {
                acks,
                remote_session: remote,
                message: Some(outgoing.message),
                payload: outgoing.payload,
            };
            body.emit(out);
            return Some((outgoing.opcode, key));
        }
        if !acks.pending() || remote.is_none() {
            return None;
        }
        acks_body(acks, alone, remote).emit(out);
        Some((Opcode::AckV1, key))
    }

    /// How much fits a packet (`openvpn: ssl.c`, `calc_control_channel_frame_overhead`). As there, outer
    /// headers count as those of UDP even on TCP, and the base wrap counts even when the dynamic one is in use.
    pub(super) fn sizes(&self) -> Sizes {
        let outer = match self.path {
            Path::Datagram { remote, .. } if remote.is_ipv4() => 28,
            Path::Datagram { .. } | Path::Stream(_) => 48,
        };
        let header = 1 + 8 + (1 + 8 + 4 * MAX_PIGGYBACK_ACKS) + 4;
        let used = outer + header + self.wrap.overhead();
        let payload = usize::from(self.channel().max_packet_size).saturating_sub(used).max(16);
        let resend_wkc =
            (self.resend_wkc && self.exchange.key() == KeyId::FIRST).then(|| self.wrap.client_key_len());
        Sizes { payload, resend_wkc }
    }
}

/// A packet of nothing but acks.
fn acks_body(acks: &mut AckDebt, most: usize, remote_session: Option<SessionId>) -> ControlBody<'static> {
    ControlBody { acks: acks.take(most), remote_session, message: None, payload: &[] }
}
