use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::config::params::ReplayWindow;
use crate::keys::data_key::TlsRole;
use crate::limits::MAX_CONTROL_DATAGRAM;
use crate::path::StreamId;
use crate::tls::fake::FakeFactory;
use crate::wrap::WrapConfig;
use crate::wrap::static_key::{HmacDigest, KeyDirection};
use crate::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2};

mod attacks;
mod client_keys;
mod vectors;

/// Start of the tests on both time lines.
const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
const UNIX: Duration = Duration::from_secs(0x6600_0000);
const SECOND: Duration = Duration::from_secs(1);

const CLIENT: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// Metadata of a key made at [`UNIX`].
const DATED: [u8; 9] = [1, 0, 0, 0, 0, 0x66, 0, 0, 0];

fn udp(port: u16) -> Path {
    Path::udp(0, ([192, 0, 2, 1], port).into())
}

fn key() -> Arc<StaticKey> {
    Arc::new(StaticKey::new(zeroize::Zeroizing::new(core::array::from_fn(|i| i as u8))))
}

fn server_key() -> Arc<ServerKeyV2> {
    Arc::new(ServerKeyV2::new(&core::array::from_fn(|i| i as u8)))
}

fn v2() -> TlsCryptV2 {
    TlsCryptV2 { key: server_key(), force_cookie: false, max_age: None }
}

fn tls_auth(direction: KeyDirection) -> WrapConfig {
    WrapConfig::TlsAuth { key: key(), direction, digest: HmacDigest::Sha1 }
}

fn doorman(wrap: WrapConfig, v2: Option<&TlsCryptV2>) -> Doorman {
    let channel = ChannelConfig::new(wrap, Arc::new(FakeFactory::new()));
    Doorman::new(&channel, v2, None, None, &[9; 32])
}

fn wrapped(metadata: &[u8]) -> Vec<u8> {
    server_key().wrap(&key(), metadata).unwrap()
}

fn client_file(metadata: &[u8]) -> Arc<ClientKeyV2> {
    let text = STANDARD.encode([&key().expose()[..], &wrapped(metadata)].concat());
    let label = "OpenVPN tls-crypt-v2 client key";
    Arc::new(
        ClientKeyV2::from_pem(&format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")).unwrap(),
    )
}

/// Each protection with the client that fits: wrap of the client, wrap of the server, tls-crypt-v2 of the server.
fn protections() -> Vec<(WrapConfig, WrapConfig, Option<TlsCryptV2>)> {
    let crypt = || WrapConfig::TlsCrypt { key: key() };
    let own = || WrapConfig::TlsCryptV2 { key: client_file(&DATED) };
    let auth = tls_auth;
    vec![
        (WrapConfig::None, WrapConfig::None, None),
        (auth(KeyDirection::Inverse), auth(KeyDirection::Normal), None),
        (auth(KeyDirection::Bidirectional), auth(KeyDirection::Bidirectional), None),
        (crypt(), crypt(), None),
        (own(), WrapConfig::None, Some(v2())),
        (own(), auth(KeyDirection::Normal), Some(v2())),
        (crypt(), crypt(), Some(v2())),
    ]
}

/// A client as far as its first packets go.
struct Client {
    wrap: Wrap,
    /// Appended to packets for which the wrap does not do so.
    tail: Vec<u8>,
    id: SessionId,
    v2: bool,
}

impl Client {
    fn new(config: &WrapConfig) -> Self {
        let unix = UNIX.as_secs() as u32;
        Self {
            wrap: Wrap::new(config, TlsRole::Client, unix, ReplayWindow::DEFAULT),
            tail: Vec::new(),
            id: SessionId::new(CLIENT).unwrap(),
            v2: matches!(config, WrapConfig::TlsCryptV2 { .. }),
        }
    }

    /// A client with a key of its own that counts packets from 1, as before early negotiation.
    fn old(metadata: &[u8]) -> Self {
        let plain = Self::new(&WrapConfig::TlsCrypt { key: key() });
        Self { tail: wrapped(metadata), v2: true, ..plain }
    }

    fn packet(&mut self, opcode: Opcode, body: &ControlBody<'_>) -> Vec<u8> {
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        body.emit(&mut plain);
        self.wrap.seal(UNIX.as_secs() as u32, opcode.header(KeyId::FIRST), self.id, &plain, &mut out);
        if opcode.has_wkc() {
            out.extend_from_slice(&self.tail);
        }
        out
    }

    fn reset(&mut self) -> Vec<u8> {
        let opcode = if self.v2 { Opcode::HardResetClientV3 } else { Opcode::HardResetClientV2 };
        self.packet(opcode, &plain_body(&[], None, Some(0)))
    }

    /// The packet after the server's reset.
    fn second(&mut self, ours: SessionId) -> Vec<u8> {
        let opcode = if self.v2 { Opcode::ControlWkcV1 } else { Opcode::ControlV1 };
        self.packet(opcode, &plain_body(&[0], Some(ours), Some(1)))
    }

    /// Our session id out of an answer, which must be as clients expect it.
    fn meet(&mut self, reply: &[u8]) -> SessionId {
        let mut reply = reply.to_vec();
        let verified = self.wrap.open(NOW, &mut reply).expect("the client opens the answer");
        assert_eq!(verified.header(), Opcode::HardResetServerV2.header(KeyId::FIRST));
        let body = ControlBody::parse(Opcode::HardResetServerV2, verified.body()).unwrap();
        assert_eq!((body.acks.as_slice(), body.message), (&[MessageId(0)][..], Some(MessageId(0))));
        assert_eq!(body.remote_session, Some(self.id));
        assert_eq!(EarlyNegotiation::parse(body.payload), Ok(EarlyNegotiation { resend_wkc: self.v2 }));
        verified.session()
    }
}

fn plain_body(acks: &[u32], ours: Option<SessionId>, message: Option<u32>) -> ControlBody<'static> {
    ControlBody {
        acks: acks.iter().map(|&n| MessageId(n)).collect(),
        remote_session: ours,
        message: message.map(MessageId),
        payload: b"",
    }
}

/// What a doorman makes of a packet.
#[derive(Debug)]
enum Got {
    Reply(Vec<u8>),
    Welcome(Box<Welcome>, u8, Vec<u8>),
    Drop(DropReason),
}

fn knock(doorman: &mut Doorman, now: Instant, path: Path, packet: &[u8]) -> Got {
    let (mut datagram, mut reply) = (packet.to_vec(), vec![0xee; 3]);
    match doorman.take(now, UNIX, &path, &mut datagram, &mut reply) {
        Knock::Reply => Got::Reply(reply),
        Knock::Welcome(welcome, verified) => {
            assert!(reply.is_empty());
            Got::Welcome(welcome, verified.header(), verified.body().to_vec())
        }
        Knock::Drop(reason) => {
            assert!(reply.is_empty());
            Got::Drop(reason)
        }
    }
}

impl Got {
    fn reply(self) -> Vec<u8> {
        match self {
            Self::Reply(reply) => reply,
            other => panic!("no reply: {other:?}"),
        }
    }

    fn welcome(self) -> Welcome {
        match self {
            Self::Welcome(welcome, ..) => *welcome,
            other => panic!("no welcome: {other:?}"),
        }
    }

    fn reason(self) -> DropReason {
        match self {
            Self::Drop(reason) => reason,
            other => panic!("not dropped: {other:?}"),
        }
    }
}

/// A doorman and a client that has its answer.
fn acquainted(
    client: &WrapConfig,
    server: &WrapConfig,
    v2: Option<&TlsCryptV2>,
) -> (Doorman, Client, SessionId) {
    let (mut doorman, mut client) = (doorman(server.clone(), v2), Client::new(client));
    let reset = client.reset();
    let reply = knock(&mut doorman, NOW, udp(1), &reset).reply();
    let ours = client.meet(&reply);
    (doorman, client, ours)
}

#[test]
fn clients_of_every_protection_get_in() {
    for (client, server, v2) in protections() {
        let (mut doorman, mut client, ours) = acquainted(&client, &server, v2.as_ref());
        let second = client.second(ours);
        let Got::Welcome(mut welcome, header, body) = knock(&mut doorman, NOW, udp(1), &second) else {
            panic!("not let in: {server:?}");
        };
        assert_eq!((welcome.local, welcome.remote, welcome.stateful), (ours, client.id, false));
        assert_eq!(header, Opcode::ControlV1.header(KeyId::FIRST));
        assert_eq!(ControlBody::parse(Opcode::ControlV1, &body), Ok(plain_body(&[0], Some(ours), Some(1))));
        let base = welcome.base_key.as_ref().map(|key| *key.expose());
        assert_eq!(base, (client.v2 || server.static_key().is_some()).then(|| *key().expose()));
        assert_eq!(welcome.metadata.as_deref(), client.v2.then_some(&DATED[..]));

        // The session goes on under the same keys, and knows the packet it began with.
        let protected = !matches!(welcome.wrap.overhead(), 0);
        let again = welcome.wrap.open(NOW, &mut second.clone()).map(|_| ());
        assert_eq!(again, if protected { Err(DropReason::WrapReplay) } else { Ok(()) });
        let mut repeated = client.second(ours);
        let opened = welcome.wrap.open(NOW, &mut repeated).unwrap();
        assert_eq!((opened.header(), opened.body()), (header, &*body));
        let mut packet = Vec::new();
        welcome.wrap.seal(UNIX.as_secs() as u32, 0x20, ours, &body, &mut packet);
        assert!(client.wrap.open(NOW, &mut packet).is_ok(), "replay ids go on after the answer's");
    }
}

#[test]
fn a_bare_ack_is_a_second_packet() {
    let (mut doorman, mut client, ours) = acquainted(&WrapConfig::None, &WrapConfig::None, None);
    let ack = client.packet(Opcode::AckV1, &plain_body(&[0], Some(ours), None));
    assert!(!knock(&mut doorman, NOW, udp(1), &ack).welcome().stateful);
}

#[test]
fn streams_are_asked_for_the_session_id_too() {
    for (client, server, v2) in protections().into_iter().take(4) {
        let (mut doorman, mut client) = (doorman(server, v2.as_ref()), Client::new(&client));
        let path = Path::Stream(StreamId(5));
        let reply = knock(&mut doorman, NOW, path, &client.reset()).reply();
        let ours = client.meet(&reply);
        let second = client.second(ours);
        assert_eq!(knock(&mut doorman, NOW, Path::Stream(StreamId(6)), &second).reason(), DropReason::Cookie);
        assert_eq!(knock(&mut doorman, NOW, path, &second).welcome().local, ours);
    }
}

#[test]
fn answers_are_the_same_within_a_slot() {
    let (mut doorman, mut client) = (doorman(WrapConfig::None, None), Client::new(&WrapConfig::None));
    let reset = client.reset();
    let first = knock(&mut doorman, NOW, udp(1), &reset).reply();
    assert_eq!(knock(&mut doorman, NOW + SECOND, udp(1), &reset).reply(), first);
    assert_ne!(knock(&mut doorman, NOW + 30 * SECOND, udp(1), &reset).reply(), first);
}

#[test]
fn rates_hold_and_honest_clients_do_not_use_them_up() {
    let rate = |events| Some(Rate { events, period: 10 * SECOND });
    let channel = ChannelConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    let mut doorman = Doorman::new(&channel, None, rate(3), rate(5), &[9; 32]);
    let mut client = Client::new(&WrapConfig::None);
    let reset = client.reset();
    // A second packet gives the token of its answer back.
    for port in 0..5 {
        let ours = client.meet(&knock(&mut doorman, NOW, udp(port), &reset).reply());
        let second = client.second(ours);
        knock(&mut doorman, NOW, udp(port), &second).welcome();
    }
    let ours = client.meet(&knock(&mut doorman, NOW, udp(9), &reset).reply());
    let second = client.second(ours);
    assert_eq!(knock(&mut doorman, NOW, udp(9), &second).reason(), DropReason::RateLimited, "connect-freq");
    for port in 10..12 {
        knock(&mut doorman, NOW, udp(port), &reset).reply();
    }
    assert_eq!(knock(&mut doorman, NOW, udp(12), &reset).reason(), DropReason::RateLimited);
    knock(&mut doorman, NOW + 4 * SECOND, udp(12), &reset).reply();
    knock(&mut doorman, NOW + 4 * SECOND, udp(9), &second).welcome();
}

#[test]
fn the_rate_of_answers_is_for_datagrams() {
    let once = Some(Rate { events: 1, period: 10 * SECOND });
    let channel = ChannelConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    let mut doorman = Doorman::new(&channel, None, once, None, &[9; 32]);
    let mut client = Client::new(&WrapConfig::None);
    let reset = client.reset();
    knock(&mut doorman, NOW, udp(1), &reset).reply();
    for n in 0..5 {
        let path = Path::Stream(StreamId(n));
        let ours = client.meet(&knock(&mut doorman, NOW, path, &reset).reply());
        let second = client.second(ours);
        knock(&mut doorman, NOW, path, &second).welcome();
    }
    // And no stream gives the token back.
    assert_eq!(knock(&mut doorman, NOW, udp(2), &reset).reason(), DropReason::RateLimited);
}

#[test]
fn debug_text_shows_no_key() {
    let (mut doorman, mut client, ours) = acquainted(
        &WrapConfig::TlsCryptV2 { key: client_file(&DATED) },
        &WrapConfig::TlsCrypt { key: key() },
        Some(&v2()),
    );
    assert_eq!(format!("{doorman:?}"), "Doorman { initial: None, connect: None }");
    assert_eq!(format!("{:?} {:?}", doorman.gate, doorman.cookies), "Gate([redacted]) Cookies([redacted])");
    let second = client.second(ours);
    let welcome = knock(&mut doorman, NOW, udp(1), &second).welcome();
    let expected = format!(
        "Welcome {{ local: {ours:?}, remote: 0102030405060708, wrap: Wrap::TlsCrypt([redacted]), stateful: false, .. }}"
    );
    assert_eq!(format!("{welcome:?}"), expected);
}
