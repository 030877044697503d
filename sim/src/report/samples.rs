//! Tapes that no world made, to test reports with.

use core::net::SocketAddr;

use oxivpn_proto::Instant;

use super::Head;
use crate::trace::{Keep, MachineId, Tape, What};

pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) fn head(failure: Option<&str>) -> Head<'_> {
    Head {
        seed: 7,
        commit: "0123456789abcdef",
        plan: "star, 2 clients\nwrap tls-crypt-v2, udp, symmetric NAT\nloss 3 %, reneg-sec 60",
        replay: "cargo run --release -p oxivpn-sim -- storm --seed 7",
        failure,
        end: Instant::from_nanos(600 * SECOND),
    }
}

/// Each kind of record once.
pub(crate) fn every_what() -> Tape {
    let mut tape = Tape::new(Keep::Records);
    tape.names = vec!["alice".to_owned(), "b<o>b & \"co\"".to_owned()];
    let addr = SocketAddr::from(([192, 0, 2, 9], 4_321));
    let session = 3;
    let (peer, key) = (1, 2);
    for (n, what) in [
        What::Started,
        What::Connecting { session },
        What::Established { session, summary: "AES-256-GCM <x>".to_owned() },
        What::KeyInstalled { peer, key },
        What::KeyPromoted { peer, key },
        What::Weather("burst & loss".to_owned()),
        What::Cleared("burst & loss".to_owned()),
        What::Sample { sent: 5, sent_bytes: 500, received: 4, received_bytes: 400 },
        What::Floated { session, to: addr.to_string() },
        What::ClockJump(-3_600),
        What::Moved(addr),
        What::Suspended,
        What::Resumed,
        What::KeyRetired { peer, key },
        What::Closed { session, cause: "ping <timeout>".to_owned() },
        What::Crashed,
        What::Started,
        What::Note("a note & more".to_owned()),
        What::Healed,
        What::Violation("payload 17 arrived <twice>".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        tape.record(Instant::from_nanos(SECOND / 2 + n as u64 * SECOND), Some(MachineId(1)), what);
    }
    tape.record(Instant::from_nanos(30 * SECOND), None, What::Weather("black hole".to_owned()));
    tape.record(Instant::from_nanos(40 * SECOND), None, What::Healed);
    tape
}

/// A world that never was.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) clients: u16,
    pub(crate) seconds: u64,
    pub(crate) renegotiate: u64,
    pub(crate) violation: bool,
}

/// Numbers that look drawn.
struct Draws(u64);

impl Draws {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// A server and its clients, with all that can happen to them.
pub(crate) fn star(plan: Plan) -> Tape {
    let mut tape = Tape::new(Keep::Records);
    tape.names.push("server".to_owned());
    tape.names.extend((1..=plan.clients).map(|n| format!("client-{n}")));
    let mut events: Vec<(u64, Option<u16>, What)> = vec![(0, Some(0), What::Started)];
    let mut draws = Draws(plan.seconds ^ u64::from(plan.clients) << 32);
    let end = plan.seconds * SECOND;
    let hole = (end * 4 / 10, end * 4 / 10 + (end / 20).min(90 * SECOND));
    let holes = "black hole between server and all clients";
    events.push((hole.0, None, What::Weather(holes.to_owned())));
    events.push((hole.1, None, What::Cleared(holes.to_owned())));
    events.push((end / 10, None, What::Weather("loss 5 %, Gilbert-Elliott".to_owned())));
    events.push((end * 9 / 10, None, What::Healed));
    for client in 1..=plan.clients {
        life(&mut events, &mut draws, plan, client, hole);
    }
    samples(&mut events, &mut draws, plan, hole);
    if plan.violation {
        let at = end * 7 / 10 + 123_456_789;
        let text = "payload 4711 of client-2 arrived twice at server (packet-id 0x1f3, key 3)";
        events.push((at, Some(0), What::Violation(text.to_owned())));
        events.retain(|(when, ..)| *when <= at + 2 * SECOND);
    }
    events.retain(|(when, ..)| *when <= end);
    events.sort_by_key(|(at, who, _)| (*at, *who));
    for (at, who, what) in events {
        tape.record(Instant::from_nanos(at), who.map(MachineId), what);
    }
    tape
}

type Events = Vec<(u64, Option<u16>, What)>;

/// Sessions and keys of a client, here and at the server.
fn life(events: &mut Events, draws: &mut Draws, plan: Plan, client: u16, hole: (u64, u64)) {
    let end = plan.seconds * SECOND;
    let peer = u32::from(client);
    let mut at = draws.below(5 * SECOND);
    let both = |events: &mut Events, at: u64, what: &dyn Fn(u64) -> What, id: u64| {
        events.push((at, Some(client), what(id)));
        events.push((at + 20_000_000, Some(0), what(u64::from(client) * 1_000 + id)));
    };
    let mut id = 0;
    while at < end {
        id += 1;
        let up = at + 300_000_000 + draws.below(4 * SECOND);
        both(events, at, &|session| What::Connecting { session }, id);
        both(
            events,
            up,
            &|session| What::Established { session, summary: "AES-256-GCM, tls-ekm, epoch".to_owned() },
            id,
        );
        // Through the black hole or until something else ends it.
        let natural = up + end / 6 + draws.below(end);
        let stop = if up < hole.0 && natural > hole.0 { hole.0 + 40 * SECOND } else { natural };
        let mut key = 0;
        let mut key_at = up;
        while key_at < stop.min(end) {
            let next = key_at + plan.renegotiate * SECOND + draws.below(SECOND);
            for who in [client, 0] {
                events.push((key_at, Some(who), What::KeyInstalled { peer, key }));
                events.push((key_at + 400_000_000, Some(who), What::KeyPromoted { peer, key }));
                let gone = (next + plan.renegotiate * SECOND / 4).min(stop);
                events.push((gone, Some(who), What::KeyRetired { peer, key }));
            }
            key = key % 7 + 1;
            key_at = next;
        }
        let causes =
            ["ping timeout", "restart by the server", "TLS: peer closed the session", "address changed"];
        let cause = causes[draws.below(4) as usize].to_owned();
        both(events, stop, &|session| What::Closed { session, cause: cause.clone() }, id);
        at = stop + SECOND + draws.below(5 * SECOND);
        match draws.below(4) {
            0 => {
                events.push((at, Some(client), What::Crashed));
                at += draws.below(end / 20 + 1);
                events.push((at, Some(client), What::Started));
            }
            1 => {
                events.push((at, Some(client), What::Suspended));
                at += draws.below(end / 15 + 1);
                events.push((at, Some(client), What::Resumed));
                events.push((at, Some(client), What::ClockJump(-7)));
            }
            2 => {
                let to = SocketAddr::from(([203, 0, 113, client as u8], 1_000 + draws.below(60_000) as u16));
                events.push((at, Some(client), What::Moved(to)));
                events.push((at + SECOND, Some(0), What::Floated { session: id, to: to.to_string() }));
            }
            _ => {
                events.push((at, Some(client), What::Weather("one-way partition".to_owned())));
                events.push((at + end / 30, Some(client), What::Cleared("one-way partition".to_owned())));
            }
        }
    }
}

/// What the hosts sent.
fn samples(events: &mut Events, draws: &mut Draws, plan: Plan, hole: (u64, u64)) {
    let every = (plan.seconds / 600).max(1);
    for second in (every..=plan.seconds).step_by(every as usize) {
        let at = second * SECOND;
        let dead = hole.0 < at && at < hole.1;
        let mut all = (0, 0);
        for client in 1..=plan.clients {
            let sent = (10 + draws.below(40) as u32) * every as u32;
            let got = if dead { 0 } else { sent - draws.below(u64::from(sent) / 8 + 1) as u32 };
            let what = What::Sample {
                sent,
                sent_bytes: u64::from(sent) * 1_400,
                received: got,
                received_bytes: u64::from(got) * 900,
            };
            events.push((at, Some(client), what));
            all = (all.0 + sent, all.1 + got);
        }
        let what = What::Sample {
            sent: all.1,
            sent_bytes: u64::from(all.1) * 1_000,
            received: all.1,
            received_bytes: u64::from(all.1) * 1_400,
        };
        events.push((at, Some(0), what));
    }
}
