//! Two ends over a bad network, in virtual time.

use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Instant;
use crate::entropy::{Entropy, EntropyStream, Purpose};
use crate::limits::{MAX_ACKS, MAX_PIGGYBACK_ACKS};
use crate::wire::control::ControlBody;
use crate::wire::ids::{KeyId, SessionId};
use crate::wire::opcode::Opcode;

const TIMEOUT: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3600);

/// Chances in percent, and the longest delay.
#[derive(Clone, Copy, Debug)]
struct Weather {
    drop: u64,
    duplicate: u64,
    delay: Duration,
}

const FAIR: Weather = Weather { drop: 0, duplicate: 0, delay: Duration::ZERO };

struct End {
    session: SessionId,
    send: ReliableSend,
    recv: ReliableRecv,
    debt: AckDebt,
    to_send: u32,
    delivered: Vec<u32>,
    /// Reliable packets put on the wire, repetitions included.
    transmissions: usize,
}

struct Flying {
    arrives: Instant,
    /// Breaks ties, so that a run depends on its seed only.
    number: u64,
    to: usize,
    bytes: Vec<u8>,
}

struct Pair {
    ends: [End; 2],
    air: Vec<Flying>,
    weather: Weather,
    rng: EntropyStream,
    sent: u64,
    now: Instant,
}

impl End {
    fn new(id: u8, to_send: u32, first: MessageId) -> Self {
        Self {
            session: SessionId::new([id; 8]).unwrap(),
            send: ReliableSend::with_first(first, TIMEOUT),
            recv: ReliableRecv::starting_at(first),
            debt: AckDebt::new(),
            to_send,
            delivered: Vec::new(),
            transmissions: 0,
        }
    }

    /// All that this end has to say at `now`.
    fn speak(&mut self, now: Instant, peer: SessionId) -> Vec<Vec<u8>> {
        while self.to_send > 0 && self.send.can_push() {
            let id = self.send.next_message();
            self.send.push(now, Opcode::ControlV1, id.0.to_be_bytes().to_vec());
            self.to_send -= 1;
        }
        let mut packets = Vec::new();
        while let Some(out) = self.send.poll(now) {
            let acks = self.debt.take(MAX_PIGGYBACK_ACKS);
            let remote_session = (!acks.is_empty()).then_some(peer);
            let body = ControlBody { acks, remote_session, message: Some(out.message), payload: out.payload };
            packets.push(encode(out.opcode, &body));
            self.transmissions += 1;
        }
        if self.debt.pending() {
            let acks = self.debt.take(MAX_ACKS);
            let body = ControlBody { acks, remote_session: Some(peer), message: None, payload: &[] };
            packets.push(encode(Opcode::AckV1, &body));
        }
        packets
    }

    fn hear(&mut self, bytes: &[u8]) {
        let (opcode, _) = Opcode::parse(bytes[0]).unwrap();
        let body = ControlBody::parse(opcode, &bytes[1..]).unwrap();
        assert!(body.remote_session.is_none_or(|s| s == self.session));
        self.send.acknowledge(&body.acks);
        let Some(message) = body.message else { return };
        match self.recv.accept(message, opcode, body.payload) {
            Accept::New | Accept::Duplicate => {
                self.debt.owe(message);
            }
            Accept::OutOfWindow => panic!("{message:?} exceeds the window"),
        }
        while let Some(packet) = self.recv.pop() {
            assert_eq!(packet.payload, packet.message.0.to_be_bytes());
            self.delivered.push(packet.message.0);
        }
    }
}

fn encode(opcode: Opcode, body: &ControlBody<'_>) -> Vec<u8> {
    let mut bytes = vec![opcode.header(KeyId::FIRST)];
    body.emit(&mut bytes);
    bytes
}

impl Pair {
    fn new(seed: u64, weather: Weather, counts: [u32; 2], first: MessageId) -> Self {
        let mut tree = [0; 32];
        tree[..8].copy_from_slice(&seed.to_be_bytes());
        Self {
            ends: [End::new(1, counts[0], first), End::new(2, counts[1], first)],
            air: Vec::new(),
            weather,
            rng: Entropy::new(tree).fork(Purpose::Session, 0),
            sent: 0,
            now: Instant::ZERO,
        }
    }

    fn put_in_the_air(&mut self, to: usize, bytes: Vec<u8>) {
        // Waits double without a bound, so a run surely ends only if the loss does.
        let storm = self.now < Instant::ZERO + HOUR;
        let copies = if self.rng.below(100) < self.weather.drop && storm {
            0
        } else {
            1 + u64::from(self.rng.below(100) < self.weather.duplicate)
        };
        for _ in 0..copies {
            let delay = self.rng.below(self.weather.delay.as_nanos() as u64 + 1);
            self.sent += 1;
            let arrives = self.now + Duration::from_nanos(delay);
            self.air.push(Flying { arrives, number: self.sent, to, bytes: bytes.clone() });
        }
    }

    fn speak(&mut self) {
        for from in 0..2 {
            let peer = self.ends[1 - from].session;
            for packet in self.ends[from].speak(self.now, peer) {
                self.put_in_the_air(1 - from, packet);
            }
        }
    }

    /// Runs until nothing flies and no timer runs.
    fn run(&mut self) {
        loop {
            self.speak();
            let arrival = self.air.iter().map(|f| (f.arrives, f.number)).min();
            let timer = self.ends.iter().filter_map(|e| e.send.deadline()).min();
            match (arrival, timer) {
                (None, None) => return,
                (Some((at, number)), timer) if timer.is_none_or(|t| at <= t) => {
                    self.now = self.now.max(at);
                    let index = self.air.iter().position(|f| f.number == number).unwrap();
                    let packet = self.air.swap_remove(index);
                    self.ends[packet.to].hear(&packet.bytes);
                }
                (_, Some(timer)) => self.now = self.now.max(timer),
                (Some(_), None) => unreachable!("covered by the guard above"),
            }
            assert!(self.now < Instant::ZERO + 4 * HOUR, "no end in sight");
        }
    }

    fn check_all_delivered(&self, counts: [u32; 2], first: MessageId) {
        for (end, count) in self.ends.iter().zip([counts[1], counts[0]]) {
            let expected: Vec<u32> = (0..count).map(|i| first.0.wrapping_add(i)).collect();
            assert_eq!(end.delivered, expected);
            assert!(end.send.is_empty() && end.to_send == 0);
        }
    }
}

#[test]
fn nothing_is_repeated_on_a_lossless_network() {
    let counts = [40, 25];
    let mut pair = Pair::new(1, FAIR, counts, MessageId(0));
    pair.run();
    pair.check_all_delivered(counts, MessageId(0));
    assert_eq!(pair.ends[0].transmissions, 40);
    assert_eq!(pair.ends[1].transmissions, 25);
    assert_eq!(pair.now, Instant::ZERO);
}

#[test]
fn reordering_alone_delivers_without_a_timer() {
    let counts = [60, 60];
    let weather = Weather { delay: Duration::from_millis(100), ..FAIR };
    let mut pair = Pair::new(7, weather, counts, MessageId(0));
    pair.run();
    pair.check_all_delivered(counts, MessageId(0));
    assert!(pair.now < Instant::ZERO + Duration::from_secs(30), "{:?}", pair.now);
}

proptest! {
    #[test]
    fn delivers_everything_in_order_exactly_once(
        seed in any::<u64>(),
        drop in 0u64..50,
        duplicate in 0u64..50,
        delay in 0u64..3000,
        counts in [0u32..40, 0u32..40],
        first in proptest::sample::select(&[0, 1, u32::MAX - 5][..]),
    ) {
        let weather = Weather { drop, duplicate, delay: Duration::from_millis(delay) };
        let mut pair = Pair::new(seed, weather, counts, MessageId(first));
        pair.run();
        pair.check_all_delivered(counts, MessageId(first));
    }
}
