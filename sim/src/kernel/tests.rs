use core::net::{Ipv4Addr, SocketAddr};

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::data::{HEADROOM, Payload, TAILROOM};
use oxivpn_proto::keys::data_key::{DataKey, KeyLimits, TlsRole};
use oxivpn_proto::report::Wear;
use oxivpn_proto::wire::ids::PeerId;
use zeroize::Zeroizing;

use super::*;

const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(0), generation: 1 };

const MS: Duration = Duration::from_millis(1);

const fn key(number: u8) -> KeyId {
    KeyId::from_low_bits(number)
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn path(last: u8) -> Path {
    Path::udp(0, SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 1194)))
}

/// Each message takes exactly 10 ms.
fn quirks() -> KernelQuirks {
    let delay = (10 * MS, 10 * MS);
    KernelQuirks {
        order_delay: delay,
        answer_delay: delay,
        notice_delay: delay,
        moves_peers: true,
        ..KernelQuirks::WORKERS
    }
}

/// A kernel and what the control machine has of it.
struct Machine {
    kernel: FakeKernel,
    last: u64,
    told: Vec<(u64, Report)>,
}

impl Machine {
    fn new(quirks: KernelQuirks, seed: u64) -> Self {
        Self { kernel: FakeKernel::new(quirks, &SeedTree::new(seed)), last: 0, told: Vec::new() }
    }

    /// With a peer and its first key from 100 ms on, and nothing told so far.
    fn up(quirks: KernelQuirks, seed: u64, role: TlsRole) -> Self {
        let mut machine = Self::new(quirks, seed);
        machine.order(0, add());
        machine.order(0, install(0, role));
        machine.order(0, Directive::PromoteKey { peer: PEER, key: key(0) });
        machine.run(100);
        assert_eq!(machine.kernel.deadline(), None);
        machine.told.clear();
        machine
    }

    fn order(&mut self, millis: u64, directive: Directive) {
        self.last += 1;
        self.kernel.apply(at(millis), Order { seq: self.last, directive });
    }

    fn run(&mut self, until: u64) {
        loop {
            while let Some(report) = self.kernel.poll_report() {
                self.told.push((0, report));
            }
            let Some(next) = self.kernel.deadline().filter(|&next| next <= at(until)) else { break };
            self.kernel.handle_timeout(next);
            while let Some(report) = self.kernel.poll_report() {
                self.told.push((next.as_nanos() / 1_000_000, report));
            }
        }
    }

    fn seal(&mut self, millis: u64) -> Result<Vec<u8>, SealError> {
        let mut buf = [0; HEADROOM + 20 + TAILROOM];
        buf[HEADROOM] = 0x45;
        let sealed = self.kernel.seal(at(millis), PEER, &mut Slot::new(&mut buf, HEADROOM, 20))?;
        Ok(buf[sealed.start..sealed.start + sealed.len].to_vec())
    }

    fn open(&mut self, millis: u64, from: Path, packet: &[u8]) -> Result<usize, DropReason> {
        match self.kernel.open(at(millis), from, &mut packet.to_vec())?.payload {
            Payload::Packet(inner) => Ok(inner.len()),
            Payload::Handled => Ok(0),
        }
    }
}

fn add() -> Directive {
    let params = DataParams {
        // Strict order, which the kernel doesn't know.
        replay: ReplayWindow { packets: 0, time: Duration::ZERO },
        float: true,
        ..DataParams::new(DataCipher::ChaCha20Poly1305, DataFormat::V2(PEER.id))
    };
    Directive::AddPeer { peer: PEER, path: path(1), params }
}

fn install(number: u8, role: TlsRole) -> Directive {
    let data = DataKey::new(Zeroizing::new([number; 256]), role, KeyLimits::default());
    Directive::InstallKey { peer: PEER, key: key(number), data }
}

#[test]
fn orders_take_time_and_are_answered_in_order() {
    let mut machine = Machine::new(quirks(), 1);
    machine.order(0, add());
    machine.order(3, install(0, TlsRole::Client));
    machine.order(3, Directive::PromoteKey { peer: PEER, key: key(0) });
    machine.order(3, Directive::AskActivity { peer: PEER });
    machine.run(9);
    assert!(matches!(machine.seal(9), Err(SealError::NoPeer)));
    machine.run(10);
    assert!(matches!(machine.seal(10), Err(SealError::NoKey)));
    machine.run(13);
    assert!(machine.seal(13).is_ok());
    machine.run(100);
    let applied: Vec<_> = machine.told.iter().filter(|(_, report)| subject(report).is_none()).collect();
    let expected = [
        (20, Report::Applied(1)),
        (23, Report::Applied(2)),
        (23, Report::Applied(3)),
        (23, Report::Applied(4)),
    ];
    assert_eq!(applied, expected.iter().collect::<Vec<_>>());
    assert!(
        matches!(machine.told[3], (23, Report::Activity { peer: PEER, last_rx, .. }) if last_rx == at(10))
    );
    assert_eq!((machine.kernel.deadline(), machine.kernel.stats().orders), (None, 4));
    machine.order(100, Directive::RemovePeer { peer: PEER });
    assert!(machine.seal(109).is_ok());
    machine.run(110);
    assert!(machine.seal(110).is_err());
}

#[test]
fn packets_pass_at_once_by_the_rules_of_the_kernel() {
    let mut a = Machine::up(quirks(), 1, TlsRole::Client);
    let mut b = Machine::up(quirks(), 2, TlsRole::Server);
    let packets: Vec<_> = (0..3).map(|_| a.seal(200).unwrap()).collect();
    assert_eq!(b.open(200, path(1), &packets[2]), Ok(20));
    assert_eq!(b.open(200, path(1), &packets[0]), Ok(20), "late, and never seen");
    assert_eq!(b.open(200, path(1), &packets[0]), Err(DropReason::DataReplay));
    assert_eq!(b.kernel.drops().get(DropReason::DataReplay), 1);
    let last = (0..2050).map(|_| a.seal(201).unwrap()).last().unwrap();
    assert_eq!(b.open(201, path(1), &last), Ok(20));
    assert_eq!(b.open(201, path(1), &packets[1]), Err(DropReason::DataReplay), "beyond 2,048");
    b.run(300);
    assert_eq!(b.told, [(210, Report::FirstReceive { peer: PEER, key: key(0) })]);
    assert_eq!(b.kernel.usage(PEER).unwrap().rx_packets, 3);
}

#[test]
fn a_peer_moves_before_it_is_told() {
    let mut a = Machine::up(quirks(), 1, TlsRole::Client);
    let silent = KernelQuirks { tells_first_receive: false, ..quirks() };
    let mut b = Machine::up(silent, 2, TlsRole::Server);
    assert_eq!(b.open(200, path(2), &a.seal(200).unwrap()), Ok(20));
    assert_eq!(b.kernel.peer_path(PEER), Some(path(2)));
    b.run(300);
    assert_eq!(b.told, [(210, Report::Floated { peer: PEER, to: path(2) })]);

    let mut c = Machine::up(KernelQuirks { moves_peers: false, ..silent }, 2, TlsRole::Server);
    assert_eq!(c.open(200, path(2), &a.seal(200).unwrap()), Ok(20));
    assert_eq!(c.kernel.peer_path(PEER), Some(path(1)));
    c.run(210);
    c.order(210, Directive::MovePeer { peer: PEER, path: path(2) });
    c.run(220);
    assert_eq!(c.kernel.peer_path(PEER), Some(path(2)));
}

#[test]
fn what_is_lost_is_found_out_later_or_never() {
    let lossy = KernelQuirks { notice_loss: Rate::ALWAYS, resync: Some(500 * MS), ..quirks() };
    let mut a = Machine::up(quirks(), 1, TlsRole::Client);
    let mut b = Machine::up(lossy, 2, TlsRole::Server);
    for (at, from) in [(200, 2), (460, 3)] {
        assert_eq!(b.open(at, path(from), &a.seal(at).unwrap()), Ok(20));
    }
    b.run(1000);
    assert_eq!(b.told, [(710, Report::Floated { peer: PEER, to: path(3) })], "not where it was between");
    let stats = b.kernel.stats();
    assert_eq!((stats.notices, stats.lost), (3, 3));

    b.told.clear();
    let never = KernelQuirks { resync: None, ..lossy };
    let mut c = Machine::up(never, 2, TlsRole::Server);
    c.open(200, path(2), &a.seal(200).unwrap()).unwrap();
    c.run(100_000);
    assert_eq!(c.told, []);
}

#[test]
fn a_peer_given_up_is_missed_by_the_next_order() {
    let lossy = KernelQuirks { notice_loss: Rate::ALWAYS, resync: None, ..quirks() };
    let mut machine = Machine::up(lossy, 1, TlsRole::Client);
    machine.kernel.give_up(at(200), PEER);
    assert!(machine.seal(200).is_err());
    machine.run(300);
    assert_eq!(machine.told, []);
    machine.order(300, Directive::AskActivity { peer: PEER });
    machine.run(400);
    assert_eq!(machine.told, [(320, Report::PeerLost { peer: PEER }), (320, Report::Applied(4))]);
    machine.told.clear();
    machine.order(400, Directive::RemovePeer { peer: PEER });
    machine.run(500);
    assert_eq!(machine.told, [(420, Report::Applied(5))]);

    let mut told = Machine::up(quirks(), 1, TlsRole::Client);
    told.kernel.give_up(at(200), PEER);
    told.run(300);
    assert_eq!(told.told, [(210, Report::PeerLost { peer: PEER })]);
}

#[test]
fn there_is_room_for_two_keys() {
    let mut a = Machine::up(quirks(), 1, TlsRole::Client);
    let mut b = Machine::up(quirks(), 2, TlsRole::Server);
    a.order(200, install(1, TlsRole::Client));
    b.order(200, install(1, TlsRole::Server));
    a.order(200, Directive::PromoteKey { peer: PEER, key: key(1) });
    a.run(300);
    b.run(300);
    let packet = a.seal(300).unwrap();
    assert_eq!(b.open(300, path(1), &packet), Ok(20));
    assert_eq!((a.kernel.stats().overwritten, b.kernel.stats().overwritten), (0, 0));
    b.order(300, install(2, TlsRole::Server));
    b.run(400);
    assert_eq!(b.kernel.stats().overwritten, 1);
    assert_eq!(b.open(400, path(1), &a.seal(400).unwrap()), Err(DropReason::NoKey));
    assert!(b.seal(400).is_ok(), "the one that sends stays");
}

#[test]
fn a_kernel_tells_what_it_can() {
    let told = |quirks: KernelQuirks, report| {
        let mut kernel = FakeKernel::new(quirks, &SeedTree::new(1));
        kernel.take_news(Instant::ZERO, report);
        kernel.handle_timeout(at(1000));
        kernel.poll_report() == Some(report)
    };
    let news = [
        Report::FirstReceive { peer: PEER, key: key(0) },
        Report::KeyWorn { peer: PEER, key: key(0), why: Wear::Usage },
        Report::PeerExit { peer: PEER },
        Report::KeySpent { peer: PEER, key: key(0) },
        Report::Floated { peer: PEER, to: path(9) },
    ];
    assert_eq!(news.map(|report| told(KernelQuirks::WORKERS, report)), [true; 5]);
    assert_eq!(news.map(|report| told(KernelQuirks::OVPN, report)), [false, false, false, true, true]);
}

#[test]
fn delays_follow_from_the_seed_and_keep_the_order() {
    let run = |seed| {
        let quirks = KernelQuirks { order_delay: (Duration::ZERO, 50 * MS), ..quirks() };
        let mut machine = Machine::new(quirks, seed);
        for number in 0..50 {
            machine.order(number, Directive::SendPing { peer: PEER });
        }
        machine.run(1000);
        machine.told
    };
    let told = run(1);
    let sequence: Vec<Report> = told.iter().map(|(_, report)| *report).collect();
    assert_eq!(sequence, (1..=50).map(Report::Applied).collect::<Vec<_>>());
    assert_eq!(told, run(1));
    assert_ne!(told, run(2));
    let drawn: BTreeSet<String> =
        (0..20).map(|seed| format!("{:?}", KernelQuirks::drawn(&SeedTree::new(seed)))).collect();
    assert_eq!(drawn.len(), 20);
}
