//! A whole client session: the input is a script of what link, server, application and clock do.
//!
//! ```text
//! 4 bytes setup | greeting, if the setup says so | operations: u8 kind, arguments
//! ```
//!
//! A block of bytes is a length byte and so many bytes. Numbers that are too large wrap around.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::script::{Script, report, some_path};
use super::server::{PEER, PUSH, Server};
use super::world::{Faults, PATH, World, config, inner_packet, secs, wraps};
use crate::config::params::Framing;
use crate::config::{ClientConfig, Credentials};
use crate::directive::{Directive, Order};
use crate::event::Event;
use crate::path::{Path, StreamChange, StreamId};
use crate::plane::{Capabilities, DataPlane as _};
use crate::report::Report;
use crate::tls::fake::FakeFactory;
use crate::tls::{TlsFailure, TlsFailureKind};
use crate::wire::ack::AckList;
use crate::wire::ids::MessageId;

/// Operations of one input.
const MAX_OPERATIONS: usize = 200;

/// Things that may happen while time passes, in all operations together.
const MAX_STEPS: usize = 3000;

/// Packets in flight; the oldest are lost beyond it.
const MAX_IN_FLIGHT: usize = 200;

/// What servers say in earnest.
const WORDS: [&str; 16] = [
    PUSH,
    "PUSH_REPLY,ping 1,push-continuation 2",
    "PUSH_REPLY,ifconfig 10.8.0.2 255.255.255.0,cipher AES-128-GCM,peer-id 1,push-continuation 1",
    "PUSH_REPLY,cipher CHACHA20-POLY1305,protocol-flags aead-epoch tls-ekm,peer-id 5,inactive 3 100",
    "PUSH_REPLY,cipher AES-256-GCM,ping 2,ping-exit 5,session-timeout 20,auth-token T,explicit-exit-notify 3",
    "PUSH_REPLY,auth-token T2,auth-token-user dQ==",
    "AUTH_FAILED,SESSION: token expired",
    "AUTH_FAILED,TEMP[backoff 9,advance addr]:later",
    "AUTH_PENDING,timeout 30",
    "AUTH_PENDING,timeout 4294967295",
    "RESTART,[P]",
    "HALT,maintenance",
    "EXIT",
    "INFO,hello",
    "INFO_PRE,CR_TEXT:E:code",
    "CR_RESPONSE,x",
];

/// What was said and done so far, to compare with.
#[derive(Default)]
struct Record {
    marks: [BTreeSet<u32>; 2],
    next_mark: u32,
    steps: usize,
    /// Whether control packets can't be changed on the link.
    protected: bool,
    /// Of the current session.
    seen: BTreeSet<&'static str>,
}

/// `data` is a script.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let mut setup = Setup::read(&mut script);
    let mut world = setup.world();
    let mut record = Record { protected: setup.flags & 3 != 0, ..Record::default() };
    drain(&mut world, &mut record);
    for _ in 0..MAX_OPERATIONS {
        if script.is_empty() {
            break;
        }
        operate(&mut world, &mut script, &mut setup, &mut record);
        drain(&mut world, &mut record);
    }
    world.node.abort(world.now, world.session);
    drain(&mut world, &mut record);
    assert_eq!(world.node.deadline(), None, "a session is over and yet wants to be called");
    assert!(record.seen.contains("Closed"), "a session ended without a word");
    assert!(world.ledger.is_empty(), "a session is over and its peer is still in the data plane");
}

/// What a session begins with.
struct Setup {
    flags: u16,
    faults: u8,
    timing: u8,
    greeting: Option<Vec<u8>>,
}

impl Setup {
    fn read(script: &mut Script<'_>) -> Self {
        let (flags, faults, timing) = (script.word(), script.byte(), script.byte());
        let greeting = (flags & 0x300 == 0x300).then(|| script.block().to_vec());
        Self { flags, faults, timing, greeting }
    }

    fn config(&self) -> ClientConfig {
        let mut wraps = wraps();
        let mut config = config(wraps.swap_remove(usize::from(self.flags & 3)));
        if self.flags & 4 != 0 {
            config.channel.exit_notify = Some(3);
        }
        if self.flags & 0xc00 == 0xc00 {
            let mut factory = FakeFactory::new();
            let kind = TlsFailureKind::Certificate;
            factory.refuse = Some(TlsFailure { kind, message: "refused".into() });
            config.channel.tls = Arc::new(factory);
        }
        let timing = &mut config.channel.timing;
        let pick = |shift: u8, choice: [u64; 4]| choice[usize::from(self.timing >> shift & 3)];
        timing.reneg = secs(pick(0, [3600, 0, 4, 60]));
        timing.hand_window = secs(pick(2, [60, 600, 5, 1]));
        timing.server_poll = secs(pick(4, [120, 4, 60, 600]));
        timing.reneg_packets = pick(6, [0, 0, 3, 1]);
        timing.reneg_bytes = pick(6, [0, 100, 0, 1]);
        config.channel.max_packet_size = [1250, 154, 2048, 400][usize::from(self.flags >> 3 & 3)];
        config.channel.float = self.flags & 0x80 != 0;
        config.channel.framing = Framing::ALL[usize::from(self.faults >> 6)];
        config.allow_compression = self.flags & 0x8000 != 0;
        config
    }

    fn login(&self) -> Option<Credentials> {
        let (username, password) = ("alice".into(), Zeroizing::new("secret".into()));
        (self.flags & 0x20 != 0).then_some(Credentials { username, password, is_token: false })
    }

    fn path(&self) -> Path {
        if self.flags & 0x40 != 0 { Path::Stream(StreamId(3)) } else { PATH }
    }

    fn synchronous(&self) -> bool {
        self.flags & 0x1000 == 0
    }

    fn world(&self) -> World {
        let capabilities = Capabilities {
            synchronous: self.synchronous(),
            epoch: self.flags & 0x2000 == 0,
            asymmetric_ids: self.flags & 0x4000 == 0,
            ..Capabilities::USERSPACE
        };
        let seed = [self.faults; 32];
        let mut world = World::start(self.config(), self.login(), seed, self.path(), capabilities);
        self.prepare(&mut world.server);
        world.faults = [
            Faults::default(),
            Faults { drop: 20, duplicate: 10, reorder: 30, corrupt: 5, control_only: false },
            Faults { reorder: 80, ..Faults::default() },
            Faults { drop: 40, control_only: true, ..Faults::default() },
        ][usize::from(self.faults & 3)];
        world
    }

    fn prepare(&self, server: &mut Server) {
        match (&self.greeting, self.flags & 0x300) {
            (Some(greeting), _) => server.greeting = vec![String::from_utf8_lossy(greeting).into_owned()],
            (None, 0x200) => server.greeting.clear(),
            _ => {}
        }
    }
}

fn operate(world: &mut World, script: &mut Script<'_>, setup: &mut Setup, record: &mut Record) {
    let now = world.now;
    match script.byte() % 24 {
        0 => pass(world, Duration::from_millis(u64::from(script.byte()) * 10), record),
        1 => pass(world, secs(script.byte().into()), record),
        2 => {
            // As after a suspend: nothing was served in between.
            world.now = now + secs(script.long() % 100_000_000);
        }
        3..=6 => tamper(world, script),
        7 | 8 => forge(world, script),
        9 => world.server.say_record(now, script.block()),
        10 => world.server.say(now, WORDS[usize::from(script.byte()) % WORDS.len()]),
        11 => {
            let text = format!("{}{}", WORDS[0], String::from_utf8_lossy(script.block()));
            world.server.say(now, &text);
        }
        12 => world.server.babble(now, script.block()),
        13 => world.server.renegotiate(now),
        14 => world.node.renegotiate(now, world.session),
        15 => world.node.close(now, world.session),
        16 | 17 => {
            for to_server in [true, false] {
                record.next_mark += 1;
                if world.try_send_inner(to_server, record.next_mark) {
                    record.marks[usize::from(to_server)].insert(record.next_mark);
                }
            }
        }
        18 => {
            let peer = world.peer;
            let report = report(script, |_| peer, |script, _| some_path(script));
            world.node.handle_report(now, report);
        }
        19 => {
            let seq = world.ledger.last();
            world.node.handle_report(now, Report::Applied(seq));
        }
        20 => notify(world, script.byte()),
        21 => stranger(world, script),
        22 => world.server.hello = Some(script.block().to_vec()),
        _ => reconnect(world, script, setup, record),
    }
}

/// Lets time pass as long as the budget lasts.
fn pass(world: &mut World, time: Duration, record: &mut Record) {
    let end = world.now + time;
    while record.steps < MAX_STEPS && world.step(end) {
        record.steps += 1;
        inspect(world, record);
    }
}

/// Does something to a packet in flight.
fn tamper(world: &mut World, script: &mut Script<'_>) {
    let (kind, pick) = (script.byte(), usize::from(script.byte()));
    let count = world.link.len();
    let Some(&at) = (count > 0).then(|| world.link.keys().nth(pick % count)).flatten() else { return };
    let Some((to_server, mut packet)) = world.link.remove(&at) else { return };
    match kind % 5 {
        0 => {}
        1 => world.deliver(to_server, &mut packet),
        2 => {
            world.deliver(to_server, &mut packet.clone());
            world.link.insert(at, (to_server, packet));
        }
        3 => {
            let place = usize::from(script.word()) % packet.len();
            packet[place] ^= script.byte();
            world.deliver(to_server, &mut packet);
        }
        _ => {
            let len = usize::from(script.word()) % (packet.len() + 1);
            world.deliver(to_server, &mut packet[..len]);
        }
    }
}

/// A control packet that no honest server sends, under the right keys.
fn forge(world: &mut World, script: &mut Script<'_>) {
    let kind = script.byte();
    let packet = match kind % 3 {
        0 => {
            let header = script.byte();
            world.server.forge(header, script.block())
        }
        1 => {
            let (header, message) = (script.byte(), script.long() as u32);
            let mut acks = AckList::EMPTY;
            for id in script.block() {
                acks.push(MessageId(u32::from(*id)));
            }
            world.server.forge_message(header, acks, message, script.block())
        }
        _ => {
            let Some((header, mut body)) = world.server.last.clone() else { return };
            let place = usize::from(script.word()) % body.len();
            body[place] ^= script.byte();
            world.server.forge(header, &body)
        }
    };
    let mut packet = packet;
    world.deliver(false, &mut packet);
}

/// The server says something on the data channel.
fn notify(world: &mut World, kind: u8) {
    let directive = match kind % 4 {
        0 => Directive::SendExit { peer: PEER },
        _ => Directive::SendPing { peer: PEER },
    };
    if world.server.keys > 0 {
        world.server.plane.apply(world.now, Order { seq: 0, directive });
    }
}

fn stranger(world: &mut World, script: &mut Script<'_>) {
    let path = some_path(script);
    let bytes = script.block();
    let now = world.now;
    if bytes.is_empty() {
        world.node.handle_stream(now, StreamId(3), StreamChange::Closed);
    }
    world.node.handle_datagram(now, path, &mut bytes.to_vec());
    let opened = world.plane.open(now, path, &mut bytes.to_vec()).is_ok();
    assert!(!opened, "a datagram that nobody sealed was accepted");
}

/// Ends the session; a new one meets a new server, and packets of the old one are still in flight.
fn reconnect(world: &mut World, script: &mut Script<'_>, setup: &mut Setup, record: &mut Record) {
    world.node.abort(world.now, world.session);
    drain(world, record);
    setup.timing = script.byte();
    let login = setup.login();
    let config = setup.config();
    world.server = Server::new(config.channel.wrap.clone(), setup.path());
    setup.prepare(&mut world.server);
    world.path = setup.path();
    world.peer = None;
    record.seen.clear();
    let session = world.node.connect(world.now, world.path, Arc::new(config), login);
    world.session = session.expect("the session before is gone");
}

fn drain(world: &mut World, record: &mut Record) {
    // As every driver does; what arrived may have made something due that began long ago.
    world.node.handle_timeout(world.now);
    world.drain();
    inspect(world, record);
}

/// What holds after every drain; takes the news out of `world`.
fn inspect(world: &mut World, record: &mut Record) {
    for event in world.events.drain(..) {
        assert!(!record.seen.contains("Closed"), "after the end: {event:?}");
        let once = match event {
            Event::Reached { .. } => "Reached",
            Event::AwaitingConfig(_) => "AwaitingConfig",
            Event::Configure { .. } => "Configure",
            Event::Established { .. } => "Established",
            Event::Closed { .. } => "Closed",
            _ => continue,
        };
        assert!(record.seen.insert(once), "{once} twice");
    }
    for (end, inner) in world.inner.iter_mut().enumerate() {
        for packet in inner.drain(..) {
            let mark = packet.last_chunk().map(|bytes| u32::from_be_bytes(*bytes)).unwrap_or_default();
            assert_eq!(packet, inner_packet(mark), "changed on the way");
            assert!(record.marks[end].remove(&mark), "packet {mark} arrived twice, or from nowhere");
        }
    }
    world.sent.clear();
    // Without a wrap, and with a TLS that protects nothing, the link can put words into the client's mouth.
    if record.protected {
        let known = |text: &String| text == "PUSH_REQUEST" || text == "EXIT";
        assert!(world.server.heard.iter().all(known), "{:?} is no message", world.server.heard);
        let introduction = &world.server.introduction;
        assert!(introduction.is_empty() || introduction.contains("IV_PROTO="), "{introduction}");
    }
    world.server.heard.clear();
    while world.link.len() > MAX_IN_FLIGHT {
        world.link.pop_first();
    }
    while world.server.plane.poll_report().is_some() {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// A quiet hour with data, renegotiations from both sides, a restart and another session.
    #[test]
    fn a_whole_life() {
        for flags in 0..4 {
            let script = [
                &[0, flags, 0, 0][..],
                &[1, 2, 16, 0, 50, 13, 0, 50, 16, 14, 0, 50, 17, 1, 100],
                &[10, 5, 10, 13, 0, 20, 10, 10, 1, 1, 23, 0, 1, 2, 16, 1, 1, 15, 1, 5],
            ];
            super::run(&script.concat());
        }
    }

    proptest! {
        #[test]
        fn random_scripts(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::run(&data);
        }

        #[test]
        fn random_scripts_after_a_good_start(flags in 0..64_u8, data in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::run(&[&[0, flags, 0, 0, 1, 2], &data[..]].concat());
        }
    }
}
