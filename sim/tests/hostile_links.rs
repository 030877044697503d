//! A client with a real TLS stack, for virtual hours, on links that lose, throw back or spoil all it sends.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "common/tls.rs"]
mod tls;

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use oxivpn_proto::config::{ClientConfig, NodeConfig};
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::Capabilities;
use oxivpn_proto::wrap::WrapConfig;
use oxivpn_proto::wrap::static_key::{HmacDigest, KeyDirection, StaticKey};
use oxivpn_proto::{Anchor, CloseCause, Event, Instant, Node, Path};
use oxivpn_sim::{Counters, Faults, Link, Purpose, Rate, SeedTree};
use zeroize::Zeroizing;

const HOURS: Duration = Duration::from_secs(3 * 3600);
const RATE: Rate = Rate::percent(20);

fn config(wrap: WrapConfig) -> Arc<ClientConfig> {
    Arc::new(ClientConfig::new(wrap, tls::factory("client-p256")))
}

fn wraps() -> [WrapConfig; 3] {
    let key = Arc::new(StaticKey::new(Zeroizing::new(core::array::from_fn(|i| i as u8))));
    let (direction, digest) = (KeyDirection::Bidirectional, HmacDigest::Sha256);
    [
        WrapConfig::None,
        WrapConfig::TlsAuth { key: key.clone(), direction, digest },
        WrapConfig::TlsCrypt { key },
    ]
}

/// What a run shows.
struct Run {
    /// When each attempt sent its packets, in seconds after its start.
    attempts: Vec<Vec<u64>>,
    /// What the link away from the client did, and the one back.
    links: [Counters; 2],
}

/// Connects again and again for `HOURS`. `to` leads away from the client; what arrives at its end goes into
/// `back`, with a random packet beside it if `garbage`.
fn run(wrap: WrapConfig, [mut to, mut back]: [Link; 2], seeds: &SeedTree, garbage: bool) -> Run {
    let path = Path::udp(0, SocketAddr::from(([192, 0, 2, 1], 1194)));
    let mut now = Instant::ZERO;
    let mut secret = [0; 32];
    seeds.draws(Purpose::Content, 0, 0).fill(&mut secret);
    let capabilities = Capabilities::USERSPACE;
    let anchor = Anchor::new(now, Duration::from_secs(1_767_225_600));
    let mut node = Node::new(Arc::new(NodeConfig { capabilities }), secret, anchor);
    let config = config(wrap);
    let (mut attempts, mut out) = (Vec::new(), [0; MAX_CONTROL_DATAGRAM]);
    let (mut start, mut connected) = (now, false);
    loop {
        if !connected {
            node.connect(now, path, config.clone(), None).unwrap();
            (start, connected) = (now, true);
            attempts.push(Vec::new());
        }
        node.handle_timeout(now);
        while let Some(transmit) = node.poll_transmit(now, &mut out) {
            to.send(now, out[..transmit.len].to_vec(), ());
            attempts.last_mut().unwrap().push((now - start).as_secs());
        }
        while let Some(((), echo)) = to.poll(now) {
            back.send(now, echo, ());
            if garbage {
                let mut draws = seeds.draws(Purpose::Content, 1, back.counters().sent);
                let mut packet = vec![0; draws.below(200) as usize];
                draws.fill(&mut packet);
                back.send(now, packet, ());
            }
        }
        while let Some(((), mut packet)) = back.poll(now) {
            let before: u64 = node.drops().iter().map(|(_, n)| n).sum();
            node.handle_datagram(now, path, &mut packet);
            let after: u64 = node.drops().iter().map(|(_, n)| n).sum();
            assert_eq!(after, before + 1, "{seeds:?}: not accounted for: {packet:02x?}");
        }
        assert!(node.poll_directive().is_none(), "{seeds:?}: no data plane is needed");
        while let Some(event) = node.poll_event() {
            let Event::Closed { cause, .. } = event else { panic!("{seeds:?}: {event:?}") };
            assert_eq!((cause, (now - start).as_secs()), (CloseCause::HandWindow, 60), "{seeds:?}");
            connected = false;
        }
        let deadlines = [node.deadline().map(|deadline| deadline.at), to.deadline(), back.deadline()];
        let next = deadlines.into_iter().flatten().min();
        assert!(!connected || next.is_some_and(|at| at > now), "{seeds:?}: stuck at {now:?}: {deadlines:?}");
        now = next.filter(|_| connected).unwrap_or(now);
        if now > Instant::ZERO + HOURS {
            return Run { attempts, links: [*to.counters(), *back.counters()] };
        }
    }
}

/// Attempts follow each other all the time, and each backs off and gives up.
fn assert_patient(run: &Run, seeds: &SeedTree) {
    let (last, whole) = run.attempts.split_last().unwrap();
    assert_eq!(whole.len() as u64, HOURS.as_secs() / 60, "{seeds:?}");
    assert!(whole.iter().all(|sent| *sent == [0, 2, 6, 14, 30]), "{seeds:?}: {:?}", run.attempts);
    assert_eq!(run.links[0].sent, (whole.len() * 5 + last.len()) as u64, "{seeds:?}");
}

#[test]
fn a_silent_server() {
    for wrap in wraps() {
        let seeds = SeedTree::new(1);
        let links = [0, 1].map(|index| Link::new(Faults::BLACK_HOLE, &seeds, index));
        let run = run(wrap, links, &seeds, false);
        assert_patient(&run, &seeds);
        assert_eq!((run.links[0].lost, run.links[1].sent), (run.links[0].sent, 0));
    }
}

#[test]
fn echoes_and_garbage() {
    let delay = Duration::from_millis(40);
    let faults = Faults { delay, jitter: delay, duplication: RATE, reordering: RATE, ..Faults::NONE };
    let hold = Duration::from_secs(20);
    let faults = Faults { hold, loss: RATE, corruption: RATE, truncation: RATE, ..faults };
    for (seed, wrap) in (1..).zip(wraps()) {
        let seeds = SeedTree::new(seed);
        let links = [0, 1].map(|index| Link::new(faults, &seeds, index));
        let run = run(wrap, links, &seeds, true);
        assert_patient(&run, &seeds);
        for c in run.links {
            let faults = [c.lost, c.duplicated, c.reordered, c.corrupted, c.truncated];
            assert!(faults.iter().all(|&n| n > c.sent / 50), "{seeds:?}: {c:?}");
            assert!(c.delivered > c.sent / 2, "{seeds:?}: {c:?}");
        }
    }
}
