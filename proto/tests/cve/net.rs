//! A server and its clients, with true TLS, on a link without delay where a test may lay hands on each packet.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oxivpn_proto::config::server::{ClientSettings, ServerConfig, TlsCryptV2};
use oxivpn_proto::config::{ClientConfig, Credentials, NodeConfig, PingTimeout};
use oxivpn_proto::data::{HEADROOM, Payload, Slot, TAILROOM};
use oxivpn_proto::event::login::{Login, LoginTicket, Verdict};
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::plane::{Capabilities, DataPlane as _};
use oxivpn_proto::tls::rustls::{ClientCertMode, RustlsFactory, TlsOptions, TlsVersion};
use oxivpn_proto::tls::verify::PeerRules;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::wrap::WrapConfig;
use oxivpn_proto::wrap::static_key::{HmacDigest, KeyDirection, StaticKey};
use oxivpn_proto::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2};
use oxivpn_proto::{Anchor, Event, Instant, Node, Path, PeerRef, Report, SessionHandle};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// 2026-01-01 in seconds since 1970.
pub(crate) const NOW: u64 = 1_767_225_600;

/// What buffers for outgoing packets hold before.
const FILL: u8 = 0xa5;

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// DER of a fixture.
pub(crate) fn cert(name: &str) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap().to_vec()
}

pub(crate) fn key(name: &str) -> Zeroizing<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key.pem"))).unwrap();
    Zeroizing::new(key.secret_der().to_vec())
}

pub(crate) fn tls_options(name: &str) -> TlsOptions {
    TlsOptions {
        ca: vec![cert("ca")],
        certs: vec![cert(name)],
        key: Some(key(name)),
        rules: PeerRules::default(),
        min_version: TlsVersion::V12,
        max_version: TlsVersion::V13,
        suites12: Vec::new(),
        suites13: Vec::new(),
        groups: Vec::new(),
        client_cert: ClientCertMode::Require,
    }
}

pub(crate) fn factory(options: TlsOptions) -> Arc<RustlsFactory> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Arc::new(RustlsFactory::new(options, provider).unwrap())
}

fn static_key() -> Arc<StaticKey> {
    Arc::new(StaticKey::new(Zeroizing::new(core::array::from_fn(|i| i as u8))))
}

/// A server's and a client's configuration that fit together.
pub(crate) type Pair = (ServerConfig, ClientConfig);

fn pair(ours: WrapConfig, theirs: WrapConfig) -> Pair {
    let mut server = ServerConfig::new(ours, factory(tls_options("server")));
    let mut client = ClientConfig::new(theirs, factory(tls_options("client-p256")));
    // Tests flood from one address after another, and let clients with one certificate in.
    server.initial_rate = None;
    server.duplicate_cn = true;
    server.channel.keepalive.timeout = Some(PingTimeout::Restart(secs(60)));
    server.channel.timing.reneg = Duration::ZERO;
    client.channel.timing.reneg = Duration::ZERO;
    (server, client)
}

pub(crate) fn plain() -> Pair {
    pair(WrapConfig::None, WrapConfig::None)
}

pub(crate) fn tls_crypt() -> Pair {
    let wrap = WrapConfig::TlsCrypt { key: static_key() };
    pair(wrap.clone(), wrap)
}

pub(crate) fn tls_auth() -> Pair {
    let (key, digest) = (static_key(), HmacDigest::Sha256);
    let wrap = WrapConfig::TlsAuth { key, direction: KeyDirection::Bidirectional, digest };
    pair(wrap.clone(), wrap)
}

pub(crate) fn tls_crypt_v2() -> Pair {
    let key = ServerKeyV2::new(&[0x5a; 128]);
    let wrapped = key.wrap(&static_key(), &[0, 7]).unwrap();
    let text = STANDARD.encode([static_key().expose().as_slice(), &wrapped].concat());
    let label = "OpenVPN tls-crypt-v2 client key";
    let pem = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
    let theirs = WrapConfig::TlsCryptV2 { key: Arc::new(ClientKeyV2::from_pem(&pem).unwrap()) };
    let (mut server, client) = pair(WrapConfig::None, theirs);
    server.tls_crypt_v2 = Some(TlsCryptV2 { key: Arc::new(key), force_cookie: false, max_age: None });
    (server, client)
}

pub(crate) fn pairs() -> [Pair; 4] {
    [plain(), tls_auth(), tls_crypt(), tls_crypt_v2()]
}

pub(crate) fn login(name: &str, password: &str) -> Credentials {
    let password = Zeroizing::new(password.to_owned());
    Credentials { username: name.into(), password, is_token: false }
}

/// A machine with its plane and what it was told.
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) plane: LocalPlane,
    pub(crate) session: Option<SessionHandle>,
    pub(crate) peer: Option<PeerRef>,
    pub(crate) events: Vec<Event>,
    pub(crate) inner: Vec<Vec<u8>>,
}

impl Host {
    fn new(seed: u8, now: Instant) -> Self {
        let config = Arc::new(NodeConfig { capabilities: Capabilities::USERSPACE });
        Self {
            node: Node::new(config, [seed; 32], Anchor::new(now, secs(NOW))),
            plane: LocalPlane::new(),
            session: None,
            peer: None,
            events: Vec::new(),
            inner: Vec::new(),
        }
    }

    /// Texts of the events whose name begins with `name`.
    pub(crate) fn told(&self, name: &str) -> Vec<String> {
        self.events.iter().map(|event| format!("{event:?}")).filter(|text| text.starts_with(name)).collect()
    }

    fn seal(&mut self, now: Instant, peer: PeerRef, inner: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; HEADROOM + inner.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(inner);
        let sealed = self.plane.seal(now, peer, &mut Slot::new(&mut buffer, HEADROOM, inner.len())).unwrap();
        buffer[sealed.start..sealed.start + sealed.len].to_vec()
    }

    /// Takes a packet as a driver does.
    pub(crate) fn take(&mut self, now: Instant, from: Path, packet: &mut [u8]) {
        if !matches!(peek(packet), Peek::Data(_)) {
            return self.node.handle_datagram(now, from, packet);
        }
        if let Ok(opened) = self.plane.open(now, from, packet)
            && let Payload::Packet(inner) = opened.payload
        {
            self.inner.push(inner.to_vec());
        }
    }

    fn outgoing(&mut self, now: Instant) -> Vec<(Path, Vec<u8>)> {
        loop {
            while let Some(order) = self.node.poll_directive() {
                self.plane.apply(now, order);
            }
            let Some(report) = self.plane.poll_report() else { break };
            self.report(now, report);
        }
        let mut sent = Vec::new();
        loop {
            let mut out = [FILL; MAX_CONTROL_DATAGRAM];
            let transmit = self.node.poll_transmit(now, &mut out);
            let Some(transmit) = transmit.or_else(|| self.plane.poll_transmit(now, &mut out)) else {
                return sent;
            };
            let packet = out[..transmit.len].to_vec();
            assert!(
                !packet.windows(8).any(|w| w == [FILL; 8]),
                "what was in the buffer before leaves with it"
            );
            sent.push((transmit.path, packet));
        }
    }

    fn report(&mut self, now: Instant, report: Report) {
        self.node.handle_report(now, report);
    }
}

/// A packet on its way.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) client: u16,
    pub(crate) to_server: bool,
    pub(crate) bytes: Vec<u8>,
}

/// The server and clients 1, 2, ...
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) server: Host,
    pub(crate) clients: BTreeMap<u16, Host>,
    pub(crate) verdict: fn(&Login) -> Option<Verdict>,
    /// Questions without answer.
    pub(crate) open: Vec<LoginTicket>,
    /// All packets that were sent.
    pub(crate) seen: Vec<Packet>,
    link: VecDeque<Packet>,
    seed: u8,
}

impl Net {
    pub(crate) fn new(config: ServerConfig) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut server = Host::new(1, now);
        server.node.listen(Arc::new(config));
        Self {
            now,
            server,
            clients: BTreeMap::new(),
            verdict: |_| Some(Verdict::Accept),
            open: Vec::new(),
            seen: Vec::new(),
            link: VecDeque::new(),
            seed: 1,
        }
    }

    /// Where the server sees a client.
    pub(crate) fn address(client: u16) -> Path {
        Path::udp(0, SocketAddr::from(([10, 9, (client >> 8) as u8, client as u8], 1194)))
    }

    fn number(path: Path) -> u16 {
        let Some(SocketAddr::V4(address)) = path.remote() else { panic!("{path:?}") };
        let [_, _, high, low] = address.ip().octets();
        u16::from_be_bytes([high, low])
    }

    pub(crate) fn join(&mut self, number: u16, config: &ClientConfig, login: Option<Credentials>) {
        self.seed = self.seed.checked_add(1).unwrap();
        let mut host = Host::new(self.seed, self.now);
        let path = Path::udp(0, SocketAddr::from(([192, 0, 2, 1], 1194)));
        host.session = Some(host.node.connect(self.now, path, Arc::new(config.clone()), login).unwrap());
        self.clients.insert(number, host);
    }

    /// Collects what all have to send, and does the application's part.
    pub(crate) fn drain(&mut self) {
        loop {
            let mut sent = Vec::new();
            for (path, bytes) in self.server.outgoing(self.now) {
                sent.push(Packet { client: Self::number(path), to_server: false, bytes });
            }
            for (&client, host) in &mut self.clients {
                let bytes = host.outgoing(self.now);
                sent.extend(bytes.into_iter().map(|(_, bytes)| Packet { client, to_server: true, bytes }));
                while let Some(event) = host.node.poll_event() {
                    if let Event::Established { peer, .. } = event {
                        host.peer = Some(peer);
                    }
                    host.events.push(event);
                }
            }
            let decided = self.decide();
            if sent.is_empty() && !decided {
                return;
            }
            self.seen.extend(sent.iter().cloned());
            self.link.extend(sent);
        }
    }

    fn decide(&mut self) -> bool {
        let mut acted = false;
        while let Some(event) = self.server.node.poll_event() {
            acted = true;
            match event {
                Event::Login(ticket, login) => match (self.verdict)(&login) {
                    Some(verdict) => self.server.node.answer_login(self.now, ticket, verdict),
                    None => self.open.push(ticket),
                },
                Event::Admit(ticket, admission) => {
                    let client = Self::number(admission.path);
                    let inner = format!("10.8.{}.{}/32", client >> 8, client & 255).parse().unwrap();
                    let push = vec!["ping 10".into(), "route 10.1.0.0 255.255.0.0".into()];
                    let settings = ClientSettings { push, routes: vec![inner], ..ClientSettings::default() };
                    self.server.node.admit(self.now, ticket, Ok(settings));
                }
                Event::Established { session, peer, .. } => {
                    (self.server.session, self.server.peer) = (Some(session), Some(peer));
                    self.server.events.push(event);
                }
                event => self.server.events.push(event),
            }
        }
        acted
    }

    /// The next packet on the link.
    pub(crate) fn next(&mut self) -> Option<Packet> {
        self.drain();
        self.link.pop_front()
    }

    pub(crate) fn deliver(&mut self, packet: &Packet) {
        let mut bytes = packet.bytes.clone();
        if packet.to_server {
            self.server.take(self.now, Self::address(packet.client), &mut bytes);
        } else if let Some(host) = self.clients.get_mut(&packet.client) {
            let path = Path::udp(0, SocketAddr::from(([192, 0, 2, 1], 1194)));
            host.take(self.now, path, &mut bytes);
        }
    }

    /// A packet from any address to the server, and how many packets go back there. What the server sends to
    /// clients at the same time takes its way.
    pub(crate) fn attack(&mut self, from: Path, bytes: &[u8]) -> usize {
        self.server.take(self.now, from, &mut bytes.to_vec());
        let mut answers = 0;
        for (path, bytes) in self.server.outgoing(self.now) {
            let client = Self::number(path);
            answers += usize::from(path == from);
            assert!(
                path == from || self.clients.contains_key(&client),
                "an answer to somebody else: {path:?}"
            );
            if self.clients.contains_key(&client) {
                let packet = Packet { client, to_server: false, bytes };
                self.seen.push(packet.clone());
                self.link.push_back(packet);
            }
        }
        answers
    }

    /// Carries packets and lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(packet) = self.next() {
                self.deliver(&packet);
            }
            let deadlines =
                self.clients.values().chain([&self.server]).filter_map(|host| host.node.deadline());
            let Some(at) = deadlines.map(|deadline| deadline.at).min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.server.node.handle_timeout(self.now);
            self.clients.values_mut().for_each(|host| host.node.handle_timeout(self.now));
        }
    }

    /// Sends an inner packet from a client; whether the client's plane took it.
    pub(crate) fn carry_up(&mut self, number: u16, inner: &[u8]) -> bool {
        let host = self.clients.get_mut(&number).unwrap();
        let mut buffer = vec![0; HEADROOM + inner.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(inner);
        let mut slot = Slot::new(&mut buffer, HEADROOM, inner.len());
        let Ok(sealed) = host.plane.seal(self.now, host.peer.unwrap(), &mut slot) else { return false };
        let bytes = buffer[sealed.start..sealed.start + sealed.len].to_vec();
        self.deliver(&Packet { client: number, to_server: true, bytes });
        true
    }

    pub(crate) fn is_up(&self, number: u16) -> bool {
        self.clients[&number].peer.is_some()
    }

    /// Data goes through both ways.
    pub(crate) fn assert_alive(&mut self, number: u16, why: &str) {
        let address = [10, 8, (number >> 8) as u8, number as u8];
        let mut inner = [0; 24];
        inner[12..16].copy_from_slice(&address);
        inner[0] = 0x45;
        inner[16..20].copy_from_slice(&address);
        let host = self.clients.get_mut(&number).unwrap();
        let before = (self.server.inner.len(), host.inner.len());
        let bytes = host.seal(self.now, host.peer.expect(why), &inner);
        self.deliver(&Packet { client: number, to_server: true, bytes });
        let peer = self.server.plane.lookup(&inner).expect(why);
        let bytes = self.server.seal(self.now, peer, &inner);
        self.deliver(&Packet { client: number, to_server: false, bytes });
        let after = (self.server.inner.len(), self.clients[&number].inner.len());
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{why}: {:?}", self.server.plane.drops());
    }
}

/// Numbers without pattern, the same in each run.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
