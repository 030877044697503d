//! A small server for tests of the client: one session, fake TLS, every wrap, renegotiation from both sides.
//!
//! It says what it is told to say and checks nothing, so that tests and fuzzers can misbehave with it.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use crate::clock::Instant;
use crate::config::cipher::DataCipher;
use crate::config::params::{DataFormat, DataParams, ReplayWindow};
use crate::directive::{Directive, Order, PeerRef};
use crate::keys::data_key::{DataKey, KeyLimits, TlsRole};
use crate::keys::ekm;
use crate::keys::method2::{ServerMessage, ServerSource};
use crate::path::Path;
use crate::plane::DataPlane as _;
use crate::plane::local::LocalPlane;
use crate::reliable::{AckDebt, ReliableRecv, ReliableSend};
use crate::tls::fake::{FakeFactory, FakeServer};
use crate::tls::{TlsPhase, TlsSession};
use crate::wire::ack::AckList;
use crate::wire::control::ControlBody;
use crate::wire::ids::{KeyId, MessageId, PeerId, SessionId};
use crate::wire::opcode::Opcode;
use crate::wrap::{Wrap, WrapConfig};

/// Flags that the default PUSH_REPLY has.
pub(crate) const PUSH: &str = "PUSH_REPLY,route-gateway 10.8.0.1,topology subnet,ping 10,ping-restart 60,\
                               ifconfig 10.8.0.2 255.255.255.0,peer-id 5,cipher AES-256-GCM,\
                               protocol-flags cc-exit tls-ekm dyn-tls-crypt,tun-mtu 1500";

pub(crate) const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(5), generation: 1 };

/// A good key method 2 message.
fn hello() -> Vec<u8> {
    let source = ServerSource { random1: Zeroizing::new([7; 32]), random2: Zeroizing::new([7; 32]) };
    let message = ServerMessage { source, options: "V4".into(), peer_info: String::new() };
    message.emit().map(|bytes| bytes.to_vec()).unwrap_or_default()
}

/// One key negotiation of the server.
struct Negotiation {
    key: KeyId,
    send: ReliableSend,
    recv: ReliableRecv,
    acks: AckDebt,
    tls: FakeServer,
    backlog: Vec<u8>,
    greeted: bool,
    active: bool,
}

impl Negotiation {
    fn new(now: Instant, key: KeyId, reset: Opcode) -> Self {
        let mut send = ReliableSend::new(core::time::Duration::from_secs(2));
        send.push(now, reset, Vec::new());
        Self {
            key,
            send,
            recv: ReliableRecv::new(),
            acks: AckDebt::default(),
            tls: FakeServer::new(&FakeFactory::new().flights, 77),
            backlog: Vec::new(),
            greeted: false,
            active: false,
        }
    }
}

pub(crate) struct Server {
    config: WrapConfig,
    local: SessionId,
    remote: Option<SessionId>,
    wrap: Wrap,
    dynamic: Option<Wrap>,
    current: Option<Negotiation>,
    pub(crate) plane: LocalPlane,
    path: Path,
    /// What is said as soon as the first key is exchanged.
    pub(crate) greeting: Vec<String>,
    /// Records that the client sent after its key method 2 message.
    pub(crate) heard: Vec<String>,
    /// Peer info and credentials part of the client's last key method 2 message, as text.
    pub(crate) introduction: String,
    /// How many keys were exchanged.
    pub(crate) keys: usize,
    /// Whether nothing is acknowledged, as if those packets were lost.
    pub(crate) withholds_acks: bool,
    /// Said in place of a good key method 2 message.
    pub(crate) hello: Option<Vec<u8>>,
    /// Header and body of the control packet that was sealed last.
    pub(crate) last: Option<(u8, Vec<u8>)>,
    orders: VecDeque<Directive>,
}

impl Server {
    /// A server for a client at `path`.
    pub(crate) fn new(config: WrapConfig, path: Path) -> Self {
        Self {
            wrap: Wrap::new(&config, TlsRole::Server, 1, ReplayWindow::DEFAULT),
            config,
            local: SessionId::new([9; 8]).expect("not zero"),
            remote: None,
            dynamic: None,
            current: None,
            plane: LocalPlane::new(),
            path,
            greeting: vec![PUSH.into()],
            heard: Vec::new(),
            introduction: String::new(),
            keys: 0,
            withholds_acks: false,
            hello: None,
            last: None,
            orders: VecDeque::new(),
        }
    }

    /// Takes a packet; an inner packet in it is returned.
    pub(crate) fn handle<'b>(&mut self, now: Instant, bytes: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let (opcode, key) = Opcode::parse(*bytes.first()?).ok()?;
        if opcode.is_data() {
            return match self.plane.open(now, self.path, bytes).ok()?.payload {
                crate::data::Payload::Packet(packet) => Some(packet),
                crate::data::Payload::Handled => None,
            };
        }
        let len = bytes.len().checked_sub(if opcode.has_wkc() { self.wrapped_len() } else { 0 })?;
        let wrap = match &mut self.dynamic {
            Some(dynamic) if key != KeyId::FIRST => dynamic,
            _ => &mut self.wrap,
        };
        let verified = wrap.open(now, &mut bytes[..len]).ok()?;
        self.remote = Some(verified.session());
        let body = ControlBody::parse(opcode, verified.body()).ok()?;
        let next =
            self.current.as_ref().map_or(KeyId::FIRST, |n| if n.active { n.key.next() } else { n.key });
        let mine = self.current.as_ref().is_some_and(|n| n.key == key);
        if opcode.is_reset() && !mine && key == next {
            let answer =
                if opcode == Opcode::SoftResetV1 { Opcode::SoftResetV1 } else { Opcode::HardResetServerV2 };
            self.current = Some(Negotiation::new(now, key, answer));
        }
        let negotiation = self.current.as_mut().filter(|n| n.key == key)?;
        negotiation.send.acknowledge(&body.acks);
        if let Some(message) = body.message {
            negotiation.recv.accept(message, opcode, body.payload);
            negotiation.acks.owe(message);
        }
        self.advance(now);
        None
    }

    fn wrapped_len(&self) -> usize {
        match &self.config {
            WrapConfig::TlsCryptV2 { key } => key.wrapped().len(),
            _ => 0,
        }
    }

    fn advance(&mut self, now: Instant) {
        let Some(negotiation) = &mut self.current else { return };
        while let Some(incoming) = negotiation.recv.pop() {
            if !incoming.opcode.is_reset() {
                let _ = negotiation.tls.feed(&incoming.payload);
            }
        }
        loop {
            let mut record = Zeroizing::new(Vec::new());
            if !negotiation.tls.read_record(&mut record) {
                break;
            }
            if negotiation.greeted {
                self.heard.push(String::from_utf8_lossy(&record).trim_end_matches('\0').into());
            } else {
                negotiation.greeted = true;
                self.introduction = String::from_utf8_lossy(record.get(117..).unwrap_or_default()).into();
                let hello = self.hello.clone().unwrap_or_else(hello);
                let _ = negotiation.tls.write_record(&hello);
            }
        }
        // All acknowledged: the client has read our message and installed the key.
        let flushed = negotiation.send.is_empty() && negotiation.backlog.is_empty();
        let ready = negotiation.greeted && negotiation.tls.phase() == TlsPhase::Ready;
        self.queue(now);
        let Some(negotiation) = &mut self.current else { return };
        if ready && flushed && negotiation.send.is_empty() && !negotiation.active {
            negotiation.active = true;
            self.on_active(now);
            self.queue(now);
        }
    }

    fn on_active(&mut self, now: Instant) {
        let Some(negotiation) = &mut self.current else { return };
        let key = negotiation.key;
        self.keys += 1;
        let Ok(block) = ekm::export_block(&mut negotiation.tls, ekm::DATA_KEYS) else { return };
        if key == KeyId::FIRST {
            let Ok(exported) = ekm::export_block(&mut negotiation.tls, ekm::DYNAMIC_TLS_CRYPT) else {
                return;
            };
            let window = ReplayWindow::DEFAULT;
            let base = self.config.static_key();
            self.dynamic = Some(Wrap::dynamic(base, &exported, TlsRole::Server, 1, window));
            for text in &self.greeting {
                let _ = negotiation.tls.write_record(format!("{text}\0").as_bytes());
            }
            let params = DataParams::new(DataCipher::Aes256Gcm, DataFormat::V2(PEER.id));
            self.orders.push_back(Directive::AddPeer { peer: PEER, path: self.path, params });
        }
        let data = DataKey::new(block, TlsRole::Server, KeyLimits::default());
        self.orders.push_back(Directive::InstallKey { peer: PEER, key, data });
        self.orders.push_back(Directive::PromoteKey { peer: PEER, key });
        for directive in self.orders.drain(..) {
            self.plane.apply(now, Order { seq: 0, directive });
        }
    }

    /// Says something on the control channel.
    pub(crate) fn say(&mut self, now: Instant, text: &str) {
        self.say_record(now, format!("{text}\0").as_bytes());
    }

    /// Says a record as it is.
    pub(crate) fn say_record(&mut self, now: Instant, record: &[u8]) {
        if let Some(negotiation) = &mut self.current {
            let _ = negotiation.tls.write_record(record);
        }
        self.queue(now);
    }

    /// Sends bytes in the place of TLS records.
    pub(crate) fn babble(&mut self, now: Instant, bytes: &[u8]) {
        if let Some(negotiation) = &mut self.current {
            negotiation.tls.babble(bytes);
        }
        self.queue(now);
    }

    /// Seals any body with the keys of the control channel.
    pub(crate) fn forge(&mut self, header: u8, body: &[u8]) -> Vec<u8> {
        let key = Opcode::parse(header).map_or(KeyId::FIRST, |(_, key)| key);
        let wrap = match &mut self.dynamic {
            Some(dynamic) if key != KeyId::FIRST => dynamic,
            _ => &mut self.wrap,
        };
        let mut out = Vec::new();
        wrap.seal(1, header, self.local, body, &mut out);
        out
    }

    /// A packet with this message id and payload and acks, as the client would expect it.
    pub(crate) fn forge_message(
        &mut self,
        header: u8,
        acks: AckList,
        message: u32,
        payload: &[u8],
    ) -> Vec<u8> {
        let ack_only = Opcode::parse(header).is_ok_and(|(opcode, _)| opcode == Opcode::AckV1);
        let message = (!ack_only).then_some(MessageId(message));
        let mut body = Vec::new();
        ControlBody { acks, remote_session: self.remote, message, payload }.emit(&mut body);
        self.forge(header, &body)
    }

    /// Starts a renegotiation.
    pub(crate) fn renegotiate(&mut self, now: Instant) {
        if let Some(key) = self.current.as_ref().filter(|n| n.active).map(|n| n.key.next()) {
            self.current = Some(Negotiation::new(now, key, Opcode::SoftResetV1));
        }
    }

    fn queue(&mut self, now: Instant) {
        let Some(negotiation) = &mut self.current else { return };
        negotiation.tls.drain(&mut negotiation.backlog);
        while !negotiation.backlog.is_empty() && negotiation.send.can_push() {
            let rest = negotiation.backlog.split_off(negotiation.backlog.len().min(1100));
            let payload = core::mem::replace(&mut negotiation.backlog, rest);
            negotiation.send.push(now, Opcode::ControlV1, payload);
        }
    }

    /// The next packet to the client.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.queue(now);
        let mut out = vec![0; crate::limits::MAX_CONTROL_DATAGRAM];
        if let Some(transmit) = self.plane.poll_transmit(now, &mut out) {
            out.truncate(transmit.len);
            return Some(out);
        }
        let negotiation = self.current.as_mut()?;
        let mut body = Vec::new();
        let early = matches!(self.config, WrapConfig::TlsCryptV2 { .. });
        let (opcode, message, payload) = match negotiation.send.poll(now) {
            Some(packet) if packet.opcode == Opcode::HardResetServerV2 && early => {
                (packet.opcode, Some(packet.message), [0, 1, 0, 2, 0, 1].to_vec())
            }
            Some(packet) => (packet.opcode, Some(packet.message), packet.payload.to_vec()),
            None if negotiation.acks.pending() && !self.withholds_acks => (Opcode::AckV1, None, Vec::new()),
            None => return None,
        };
        let most = if message.is_some() { 4 } else { 8 };
        let acks = if self.withholds_acks { Default::default() } else { negotiation.acks.take(most) };
        ControlBody { acks, remote_session: self.remote, message, payload: &payload }.emit(&mut body);
        let header = opcode.header(negotiation.key);
        let packet = self.forge(header, &body);
        self.last = Some((header, body));
        Some(packet)
    }

    /// When to poll again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.current.as_ref()?.send.deadline()
    }
}
