//! A client node and the small server, with a link and a clock between them, for tests and fuzzers.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::ledger::Ledger;
use super::server::{PEER, Server};
use crate::clock::{Anchor, Instant};
use crate::config::{ClientConfig, Credentials, NodeConfig};
use crate::data::{HEADROOM, Opened, Payload, Slot, TAILROOM};
use crate::directive::PeerRef;
use crate::entropy::{Entropy, EntropyStream, Purpose};
use crate::event::Event;
use crate::handle::SessionHandle;
use crate::limits::{MAX_CONTROL_DATAGRAM, MAX_EVENTS};
use crate::node::Node;
use crate::path::Path;
use crate::plane::local::LocalPlane;
use crate::plane::{Capabilities, DataPlane as _};
use crate::tls::fake::FakeFactory;
use crate::wire::data::{Peek, peek};
use crate::wrap::WrapConfig;
use crate::wrap::static_key::{HmacDigest, KeyDirection, StaticKey};
use crate::wrap::tls_crypt_v2::ClientKeyV2;

const DELAY: Duration = Duration::from_millis(10);

/// What one drain can yield at most: two full windows with acks, pings, and an alert.
const MAX_BURST: usize = 64;

/// Events that are never dropped, on top of [`MAX_EVENTS`].
const MAX_ESSENTIAL_EVENTS: usize = 64;

/// Where the server is at first.
pub(crate) const PATH: Path = Path::udp(0, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1194));

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the link does to packets, in percent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    pub(crate) corrupt: u64,
    /// Leaves data packets alone.
    pub(crate) control_only: bool,
}

/// A client node and a server with a link and a clock between them.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) node: Node,
    pub(crate) plane: LocalPlane,
    pub(crate) session: SessionHandle,
    pub(crate) peer: Option<PeerRef>,
    pub(crate) server: Server,
    /// Where packets of the server come from.
    pub(crate) path: Path,
    pub(crate) faults: Faults,
    rng: EntropyStream,
    /// Packets in flight by arrival and sequence; whether to the server.
    pub(crate) link: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    sequence: u64,
    pub(crate) events: Vec<Event>,
    /// Inner packets that arrived, at the client and at the server.
    pub(crate) inner: [Vec<Vec<u8>>; 2],
    /// Control packets that the client sent, with the time.
    pub(crate) sent: Vec<(Instant, u8)>,
    /// Orders that the client's data plane got.
    pub(crate) ledger: Ledger,
}

pub(crate) fn config(wrap: WrapConfig) -> ClientConfig {
    ClientConfig::new(wrap, Arc::new(FakeFactory::new()))
}

pub(crate) fn key() -> Arc<StaticKey> {
    Arc::new(StaticKey::new(Zeroizing::new(core::array::from_fn(|i| i as u8))))
}

/// One of every protection.
pub(crate) fn wraps() -> Vec<WrapConfig> {
    let v2 = include_str!("../../tests/fixtures/tls-crypt-v2-client.key");
    vec![
        WrapConfig::None,
        WrapConfig::TlsAuth {
            key: key(),
            direction: KeyDirection::Bidirectional,
            digest: HmacDigest::Sha512,
        },
        WrapConfig::TlsCrypt { key: key() },
        WrapConfig::TlsCryptV2 { key: Arc::new(ClientKeyV2::from_pem(v2).expect("a good key file")) },
    ]
}

/// An inner packet that can be told from others.
pub(crate) fn inner_packet(mark: u32) -> [u8; 24] {
    let mut packet = [0; 24];
    packet[0] = 0x45;
    packet[20..].copy_from_slice(&mark.to_be_bytes());
    packet
}

impl World {
    /// A client that has just begun to connect; nothing is drained yet.
    pub(crate) fn start(
        config: ClientConfig,
        login: Option<Credentials>,
        seed: [u8; 32],
        path: Path,
        capabilities: Capabilities,
    ) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let anchor = Anchor::new(now, secs(1_700_000_000));
        let mut node = Node::new(Arc::new(NodeConfig { capabilities }), seed, anchor);
        let server = Server::new(config.channel.wrap.clone(), path);
        let session = node.connect(now, path, Arc::new(config), login).expect("a usable configuration");
        Self {
            now,
            node,
            plane: LocalPlane::new(),
            session,
            peer: None,
            server,
            path,
            faults: Faults::default(),
            rng: Entropy::new(seed).fork(Purpose::Jitter, 99),
            link: BTreeMap::new(),
            sequence: 0,
            events: Vec::new(),
            inner: [Vec::new(), Vec::new()],
            sent: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    fn hit(&mut self, percent: u64) -> bool {
        percent > 0 && self.rng.below(100) < percent
    }

    /// Sends a packet over the link.
    pub(crate) fn put(&mut self, to_server: bool, mut packet: Vec<u8>) {
        let Some(first) = packet.first() else { return };
        let spared = self.faults.control_only && matches!(first >> 3, 6 | 9);
        let faults = if spared { Faults::default() } else { self.faults };
        if self.hit(faults.drop) {
            return;
        }
        if self.hit(faults.corrupt) {
            let at = self.rng.below(packet.len() as u64) as usize;
            packet[at] ^= 1 << self.rng.below(8);
        }
        let copies = 1 + usize::from(self.hit(faults.duplicate));
        for _ in 0..copies {
            let late = if self.hit(faults.reorder) { self.rng.below(200) } else { 0 };
            self.sequence += 1;
            let at = self.now + DELAY + Duration::from_millis(late);
            self.link.insert((at, self.sequence), (to_server, packet.clone()));
        }
    }

    /// Moves everything out of the machines: directives, transmits, events, in this order.
    pub(crate) fn drain(&mut self) {
        let mut out = [0; MAX_CONTROL_DATAGRAM];
        for round in 0.. {
            assert!(round <= MAX_BURST, "orders and reports chase each other");
            while let Some(order) = self.node.poll_directive() {
                self.ledger.enter(&order);
                self.plane.apply(self.now, order);
            }
            let Some(report) = self.plane.poll_report() else { break };
            self.node.handle_report(self.now, report);
        }
        let mut burst = 0;
        while let Some(transmit) = self.node.poll_transmit(self.now, &mut out) {
            self.sent.push((self.now, out[0]));
            self.put(true, out[..transmit.len].to_vec());
            burst += 1;
        }
        while let Some(transmit) = self.plane.poll_transmit(self.now, &mut out) {
            self.put(true, out[..transmit.len].to_vec());
            burst += 1;
        }
        assert!(burst <= MAX_BURST, "{burst} packets at once");
        while let Some(packet) = self.server.poll_transmit(self.now) {
            self.put(false, packet);
        }
        let before = self.events.len();
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::Established { peer, .. } => self.peer = Some(peer),
                Event::Floated { to, .. } => self.path = to,
                _ => {}
            }
            self.events.push(event);
        }
        assert!(self.events.len() - before <= MAX_EVENTS + MAX_ESSENTIAL_EVENTS);
        assert!(
            self.node.deadline().is_none_or(|deadline| deadline.at > self.now),
            "drained, and yet {:?} at {:?}",
            self.node.deadline(),
            self.now
        );
    }

    /// Gives a packet to its receiver.
    pub(crate) fn deliver(&mut self, to_server: bool, packet: &mut [u8]) {
        if to_server {
            if let Some(inner) = self.server.handle(self.now, packet) {
                self.inner[1].push(inner.to_vec());
            }
        } else if matches!(peek(packet), Peek::Data(_)) {
            if let Ok(Opened { payload: Payload::Packet(inner), .. }) =
                self.plane.open(self.now, self.path, packet)
            {
                self.inner[0].push(inner.to_vec());
            }
        } else {
            self.node.handle_datagram(self.now, self.path, packet);
        }
    }

    /// Goes to the next thing that happens before `end`; `false` if there is none.
    pub(crate) fn step(&mut self, end: Instant) -> bool {
        let arrival = self.link.first_key_value().map(|((at, _), _)| *at);
        let timers = [self.node.deadline().map(|d| d.at), self.server.deadline()];
        let Some(next) = timers.into_iter().chain([arrival]).flatten().min().filter(|&at| at <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next)
            && let Some((_, (to_server, mut packet))) = self.link.pop_first()
        {
            self.deliver(to_server, &mut packet);
        }
        self.node.handle_timeout(self.now);
        self.drain();
        true
    }

    /// Sends [`inner_packet`]; `false` if the sender has no key to seal it with.
    pub(crate) fn try_send_inner(&mut self, to_server: bool, mark: u32) -> bool {
        let inner = inner_packet(mark);
        let mut buffer = [0; HEADROOM + 24 + TAILROOM];
        buffer[HEADROOM..HEADROOM + 24].copy_from_slice(&inner);
        let mut slot = Slot::new(&mut buffer, HEADROOM, 24);
        let sealed = match (to_server, self.peer) {
            (true, Some(peer)) => self.plane.seal(self.now, peer, &mut slot),
            (true, None) => return false,
            (false, _) => self.server.plane.seal(self.now, PEER, &mut slot),
        };
        let Ok(sealed) = sealed else { return false };
        self.put(to_server, buffer[sealed.start..sealed.start + sealed.len].to_vec());
        true
    }
}
