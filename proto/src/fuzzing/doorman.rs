//! Packets from nobody at a server's door: garbage, forgeries by people with the keys, and honest clients.
//!
//! ```text
//! u8 protection | u8 rates | operations: u8 kind, u8 path, arguments
//! ```
//!
//! A block of bytes is a length (`u8`, in steps of 4) and so many bytes.

use core::time::Duration;
use std::sync::Arc;

use crate::clock::Instant;
use crate::config::ChannelConfig;
use crate::config::params::ReplayWindow;
use crate::config::server::{Rate, TlsCryptV2};
use crate::endpoint::doorman::{Doorman, Knock};
use crate::keys::data_key::TlsRole;
use crate::path::{Path, StreamId};
use crate::tls::fake::FakeFactory;
use crate::wire::control::ControlBody;
use crate::wire::ids::{KeyId, MessageId, SessionId};
use crate::wire::opcode::Opcode;
use crate::wrap::static_key::{HmacDigest, KeyDirection, StaticKey};
use crate::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2};
use crate::wrap::{Wrap, WrapConfig, generate};

const UNIX: Duration = Duration::from_secs(1_700_000_000);
const PERIOD: Duration = Duration::from_secs(10);

/// How long a session id is good for with a hand window of 60 s.
const LIFE: Duration = Duration::from_secs(90);

/// Operations of one input.
const MAX_OPERATIONS: usize = 100;

/// An id that was given out.
struct Issued {
    at: Instant,
    path: Path,
    client: [u8; 8],
    ours: SessionId,
}

struct Door {
    now: Instant,
    doorman: Doorman,
    client: Wrap,
    own_key: bool,
    has_v2: bool,
    /// Tokens of the initial rate, if there is one.
    tokens: Option<u32>,
    issued: Vec<Issued>,
    /// Answers and stateful welcomes on datagrams, less those whose senders proved their address.
    taken: u64,
}

/// Runs a script.
pub fn run(data: &[u8]) {
    let Some((&[protection, rates], mut script)) = data.split_first_chunk() else { return };
    let mut door = Door::new(protection, rates);
    for _ in 0..MAX_OPERATIONS {
        let Some((&[kind, path], rest)) = script.split_first_chunk() else { return };
        script = rest;
        door.operate(kind, self::path(path), &mut script);
    }
}

fn path(n: u8) -> Path {
    match n % 4 {
        0 => Path::Stream(StreamId(u64::from(n / 4))),
        1 => Path::udp(0, ([192, 0, 2, n / 4], 1194).into()),
        2 => Path::udp(u16::from(n / 4), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 1194).into()),
        _ => Path::Datagram { socket: 0, remote: ([192, 0, 2, 1], 1194).into(), local: Some([n; 4].into()) },
    }
}

fn block<'d>(script: &mut &'d [u8]) -> &'d [u8] {
    let Some((&len, rest)) = script.split_first() else { return &[] };
    let (block, rest) = rest.split_at(rest.len().min(usize::from(len) * 4));
    *script = rest;
    block
}

impl Door {
    fn new(protection: u8, rates: u8) -> Self {
        let random = core::array::from_fn(|i| i as u8);
        let key = Arc::new(StaticKey::from_slice(&random));
        let server_key = ServerKeyV2::new(&[0x33; 128]);
        let file = generate::client_key(&server_key, &random, &generate::made_at(UNIX)).unwrap_or_default();
        let own = ClientKeyV2::from_pem(&file).expect("what we write we read");
        let auth =
            |direction| WrapConfig::TlsAuth { key: Arc::clone(&key), direction, digest: HmacDigest::Sha256 };
        let own_key = protection & 4 != 0;
        let (base, server) = match protection % 4 {
            0 => (WrapConfig::None, WrapConfig::None),
            1 => (auth(KeyDirection::Inverse), auth(KeyDirection::Normal)),
            _ => (WrapConfig::TlsCrypt { key: Arc::clone(&key) }, WrapConfig::TlsCrypt { key }),
        };
        let client = if own_key { WrapConfig::TlsCryptV2 { key: Arc::new(own) } } else { base };
        let v2 = TlsCryptV2 {
            key: Arc::new(server_key),
            force_cookie: protection & 8 != 0,
            max_age: (protection & 16 != 0).then_some(PERIOD),
        };
        let has_v2 = own_key || protection & 32 != 0;
        let rate = |n: u8| (n != 0).then(|| Rate { events: u32::from(n), period: PERIOD });
        let channel = ChannelConfig::new(server, Arc::new(FakeFactory::new()));
        let (initial, connect) = (rate(rates % 16), rate(rates / 16));
        Self {
            now: Instant::from_nanos(1_000_000_000_000),
            doorman: Doorman::new(&channel, has_v2.then_some(&v2), initial, connect, &[1; 32]),
            client: Wrap::new(&client, TlsRole::Client, UNIX.as_secs() as u32, ReplayWindow::DEFAULT),
            own_key,
            has_v2,
            tokens: initial.map(|rate| rate.events),
            issued: Vec::new(),
            taken: 0,
        }
    }

    fn operate(&mut self, kind: u8, path: Path, script: &mut &[u8]) {
        let id = SessionId::new([kind | 1; 8]).expect("not zero");
        let reset = if self.own_key { Opcode::HardResetClientV3 } else { Opcode::HardResetClientV2 };
        match kind % 6 {
            0 => self.knock(path, block(script)),
            // A body of somebody with the keys.
            1 => {
                let Some((&header, body)) = block(script).split_first() else { return };
                let packet = self.seal(header, id, body);
                self.knock(path, &packet);
            }
            2 => {
                let packet = self.seal(reset.header(KeyId::FIRST), id, &[0, 0, 0, 0, 0]);
                self.knock(path, &packet);
            }
            3 => {
                let packet = self.second(kind, path);
                self.knock(path, &packet);
            }
            // The same with a bit of it wrong.
            4 => {
                let mut packet = self.second(kind, path);
                let Some((&[high, low], rest)) = script.split_first_chunk() else { return };
                *script = rest;
                let bit = usize::from(u16::from_be_bytes([high, low])) % (packet.len() * 8);
                packet[bit / 8] ^= 1 << (bit % 8);
                self.knock(path, &packet);
            }
            _ => self.now = self.now + Duration::from_millis(u64::from(kind) * u64::from(kind) * 2),
        }
    }

    fn seal(&mut self, header: u8, id: SessionId, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.client.seal(UNIX.as_secs() as u32, header, id, body, &mut out);
        out
    }

    /// What the client at `path` sends after its reset, or sends under an id that it guessed.
    fn second(&mut self, kind: u8, path: Path) -> Vec<u8> {
        let known = self.issued.iter().rev().find(|issued| issued.path == path);
        let known = known.or_else(|| self.issued.last()).map(|issued| (issued.client, issued.ours));
        let guess = [kind | 1; 8];
        let (client, ours) = known.unwrap_or_else(|| (guess, SessionId::new(guess).expect("not zero")));
        let body = ControlBody {
            acks: [MessageId(0)].into_iter().collect(),
            remote_session: Some(ours),
            message: Some(MessageId(1)),
            payload: b"",
        };
        let mut plain = Vec::new();
        body.emit(&mut plain);
        let opcode = if self.own_key { Opcode::ControlWkcV1 } else { Opcode::ControlV1 };
        self.seal(opcode.header(KeyId::FIRST), SessionId::new(client).expect("not zero"), &plain)
    }

    fn knock(&mut self, path: Path, packet: &[u8]) {
        let (mut datagram, mut reply) = (packet.to_vec(), vec![0xee; 7]);
        let opcode = packet.first().map_or(0, |header| header >> 3);
        let reset = [7, 10].contains(&opcode);
        match self.doorman.take(self.now, UNIX, &path, &mut datagram, &mut reply) {
            Knock::Drop(_) => assert!(reply.is_empty()),
            Knock::Reply => {
                assert!(reset, "an answer to a packet of kind {opcode}");
                assert!(reply.len() <= packet.len() + 12);
                assert!(opcode == 7 || reply.len() < packet.len());
                let ours = *reply[1..].first_chunk().expect("a session id");
                let ours = SessionId::new(ours).expect("never the undefined id");
                let client = *packet[1..].first_chunk().expect("a session id");
                self.issued.push(Issued { at: self.now, path, client, ours });
                self.taken += u64::from(!path.is_stream());
            }
            Knock::Welcome(welcome, verified) => {
                assert!(reply.is_empty());
                assert_eq!(verified.session(), welcome.remote);
                let header = Opcode::parse(verified.header()).expect("a known opcode");
                assert_ne!(header.0, Opcode::ControlWkcV1);
                assert_eq!(welcome.stateful, reset);
                if welcome.stateful {
                    assert!(self.has_v2 && opcode == 10);
                    self.taken += u64::from(!path.is_stream());
                } else {
                    let remote = welcome.remote.as_bytes();
                    let proved = self.issued.iter().any(|issued| {
                        (issued.path, &issued.client, issued.ours) == (path, remote, welcome.local)
                            && self.now - issued.at < LIFE
                    });
                    assert!(proved, "state for somebody who didn't get our id");
                    self.taken = self.taken.saturating_sub(u64::from(!path.is_stream()));
                }
            }
        }
        self.check_rate();
    }

    /// A full bucket and what flowed in are an upper bound of what was taken.
    fn check_rate(&self) {
        let Some(tokens) = self.tokens else { return };
        let passed = self.now - Instant::from_nanos(1_000_000_000_000);
        let flowed = passed.as_nanos() * u128::from(tokens) / PERIOD.as_nanos();
        assert!(u128::from(self.taken) <= u128::from(tokens) + flowed + 1, "{} of {tokens}", self.taken);
    }
}
