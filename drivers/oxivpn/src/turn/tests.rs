//! The packet path over fakes: bounded work, order of the drain, backpressure, readiness.

use core::time::Duration;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;

use oxivpn_proto::data::Outgoing;
use oxivpn_proto::deadline::Timer;
use oxivpn_proto::directive::Directive;
use oxivpn_proto::plane::{Capabilities, DataPlane};
use oxivpn_proto::wire::ids::PeerId;
use oxivpn_proto::{Order, Report, StreamId, Transmit};
use oxivpn_tun::offload::VnetHeader;

use crate::lane::outbox::Run;

use super::*;

fn server() -> SocketAddr {
    "192.0.2.1:1194".parse().unwrap()
}

fn path() -> Path {
    Path::udp(0, server())
}

const PEER: PeerRef = PeerRef { id: PeerId::UNDEFINED, generation: 1 };
const CONTROL: u8 = 0x40;
const DATA: u8 = 0x48;

#[derive(Default)]
struct FakeLink {
    inbox: VecDeque<Vec<u8>>,
    outbox: Vec<Vec<u8>>,
    /// How many more packets it takes.
    room: usize,
    stream: bool,
    broken: bool,
}

impl Link for FakeLink {
    fn recv(&mut self, inbox: &mut Inbox) -> io::Result<bool> {
        if self.broken {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let packet = self.inbox.pop_front().ok_or(ErrorKind::WouldBlock)?;
        inbox.room()[..packet.len()].copy_from_slice(&packet);
        inbox.push_datagrams(self.path(), packet.len(), packet.len());
        Ok(false)
    }

    fn send(&mut self, run: &Run, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        for packet in bytes.chunks(run.segment).take(self.room) {
            self.outbox.push(packet.to_vec());
            taken += packet.len();
            self.room -= 1;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn path(&self) -> Path {
        if self.stream { Path::Stream(StreamId(9)) } else { path() }
    }
}

#[derive(Default)]
struct FakeDevice {
    inbox: VecDeque<Vec<u8>>,
    outbox: Vec<Vec<u8>>,
    reads: usize,
    gone: Option<fn() -> io::Error>,
}

impl Device for FakeDevice {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<(VnetHeader, usize)> {
        self.reads += 1;
        if let Some(error) = self.gone {
            return Err(error());
        }
        let packet = self.inbox.pop_front().ok_or(ErrorKind::WouldBlock)?;
        buf[..packet.len()].copy_from_slice(&packet);
        Ok((VnetHeader::PLAIN, packet.len()))
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        assert_eq!(*parts[0], VnetHeader::PLAIN.to_bytes());
        self.outbox.push(parts[1..].iter().flat_map(|part| part.to_vec()).collect());
        Ok(())
    }

    fn offload(&self) -> Offload {
        Offload::NONE
    }
}

/// Seals by putting [`DATA`] and three zeroes in front, opens by taking four bytes away.
#[derive(Default)]
struct FakePlane {
    orders: Vec<u64>,
    reports: VecDeque<Report>,
    own: usize,
}

impl DataPlane for FakePlane {
    fn apply(&mut self, _: Instant, order: Order) {
        self.orders.push(order.seq);
        if let Directive::AskActivity { peer } = order.directive {
            self.reports.push_back(Report::PeerLost { peer });
        }
    }

    fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::USERSPACE
    }
}

impl Plane for FakePlane {
    fn outgoing(&mut self, peer: PeerRef) -> Option<Outgoing> {
        assert_eq!(peer, PEER);
        Some(Outgoing { path: path(), front: 4, tail: 1, ecn: false })
    }

    fn seal(
        &mut self,
        _: Instant,
        peer: PeerRef,
        cell: &mut [u8],
        start: usize,
        len: usize,
    ) -> Result<Sealed, DropReason> {
        assert_eq!((peer, start, cell.len()), (PEER, 4, start + len + 1));
        if cell[start] == 0 {
            return Err(DropReason::NoKey);
        }
        cell[start - 4..start].copy_from_slice(&[DATA, 0, 0, 0]);
        Ok(Sealed { path: path(), start: start - 4, len: len + 4 })
    }

    fn open<'b>(&mut self, _: Instant, _: Path, datagram: &'b mut [u8]) -> Result<Payload<'b>, DropReason> {
        match datagram {
            [_, _, _, _] => Ok(Payload::Handled),
            [_, _, _, _, 0xff, ..] => Err(DropReason::DataAuthentication),
            _ => Ok(Payload::Packet(&mut datagram[4..])),
        }
    }

    fn poll_transmit(&mut self, _: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.own = self.own.checked_sub(1)?;
        out[0] = DATA;
        Some(Transmit { path: path(), len: 1 })
    }
}

#[derive(Default)]
struct FakeControl {
    received: Vec<Vec<u8>>,
    reports: usize,
    timeouts: Vec<Instant>,
    closed: Vec<StreamId>,
    orders: VecDeque<Order>,
    outgoing: VecDeque<Vec<u8>>,
    deadline: Option<Instant>,
}

impl Control for FakeControl {
    fn handle_datagram(&mut self, _: Instant, _: Path, bytes: &mut [u8]) {
        self.received.push(bytes.to_vec());
    }

    fn handle_stream(&mut self, _: Instant, id: StreamId, _: StreamChange) {
        self.closed.push(id);
    }

    fn handle_report(&mut self, _: Instant, _: Report) {
        self.reports += 1;
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.timeouts.push(now);
        self.deadline = None;
    }

    fn poll_directive(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    fn poll_transmit(&mut self, _: Instant, out: &mut [u8]) -> Option<Transmit> {
        assert!(out.len() >= MAX_CONTROL_DATAGRAM);
        assert!(self.orders.is_empty(), "orders are carried out before packets leave");
        let packet = self.outgoing.pop_front()?;
        out[..packet.len()].copy_from_slice(&packet);
        Some(Transmit { path: path(), len: packet.len() })
    }

    fn deadline(&self) -> Option<Deadline> {
        self.deadline.map(|at| Deadline { at, why: Timer::Retransmit })
    }
}

type Fake = Turn<FakeLink, FakeDevice, FakePlane, FakeControl>;

fn now() -> Instant {
    Instant::from_nanos(1_000_000_000)
}

fn fake() -> Fake {
    let mut turn = Turn::new(FakeControl::default(), FakePlane::default());
    turn.set_link(FakeLink { room: usize::MAX, ..FakeLink::default() });
    turn.set_device(FakeDevice::default());
    turn.set_peer(Some(PEER));
    turn
}

fn link(turn: &mut Fake) -> &mut FakeLink {
    turn.link.as_mut().unwrap()
}

fn device(turn: &mut Fake) -> &mut FakeDevice {
    turn.device.as_mut().unwrap()
}

const NONE: Ready = Ready { link_read: false, link_write: false, device_read: false };

#[test]
fn packets_are_sorted_by_kind() {
    let mut turn = fake();
    link(&mut turn).inbox.extend([
        vec![CONTROL, 1],
        vec![DATA, 0, 0, 0, 0x45, 2],
        vec![0xff, 3],
        vec![DATA, 0, 0, 0, 0xff],
        vec![DATA, 0, 0, 0],
    ]);
    let turned = turn.turn(now(), NONE);
    assert!(turned.failure.is_none() && !turned.again, "{turned:?}");
    assert_eq!(turn.control.received, [[CONTROL, 1]]);
    assert_eq!(device(&mut turn).outbox, [[0x45, 2]]);
    assert_eq!(turn.drops().get(DropReason::UnknownOpcode), 1);
    assert_eq!(turn.drops().get(DropReason::DataAuthentication), 1);
    let traffic = turn.traffic();
    assert_eq!((traffic.link_read, traffic.authentic, traffic.device_write), (19, 10, 2));
}

#[test]
fn only_connections_are_given_up_for_a_packet_that_does_not_open() {
    let stream = Path::Stream(StreamId(7));
    for reason in [DropReason::DataAuthentication, DropReason::DataReplay] {
        assert!(ends_stream(stream, reason) && !ends_stream(path(), reason));
    }
    assert!(!ends_stream(stream, DropReason::NoKey));
}

#[test]
fn a_connection_is_given_up_at_a_packet_that_does_not_open() {
    let mut turn = fake();
    link(&mut turn).stream = true;
    link(&mut turn).inbox.extend([
        vec![DATA, 0, 0, 0, 0x45, 1],
        vec![DATA, 0, 0, 0, 0xff],
        vec![DATA, 0, 0, 0, 0x45, 2],
    ]);
    let turned = turn.turn(now(), NONE);
    assert!(
        matches!(turned.failure, Some(Failure::Link(ref error)) if error.kind() == ErrorKind::InvalidData)
    );
    assert_eq!(turn.control.closed, [StreamId(9)]);
    assert_eq!(device(&mut turn).outbox, [[0x45, 1]]);
    assert_eq!(turn.drops().get(DropReason::DataAuthentication), 1);
    assert!(turn.link().is_none());
}

#[test]
fn data_before_the_device_exists_is_counted() {
    let mut turn = fake();
    turn.take_device();
    link(&mut turn).inbox.push_back(vec![DATA, 0, 0, 0, 0x45]);
    turn.turn(now(), NONE);
    assert_eq!(turn.drops().get(DropReason::NotUp), 1);
}

#[test]
fn a_turn_is_bounded_and_says_so() {
    let mut turn = fake();
    link(&mut turn).inbox.extend(core::iter::repeat_n(vec![CONTROL, 0], 3 * BATCH + 1));
    for batches in 1..=3 {
        assert!(turn.turn(now(), NONE).again);
        assert_eq!(turn.control.received.len(), batches * BATCH);
    }
    assert!(!turn.turn(now(), NONE).again);
    assert_eq!(turn.control.received.len(), 3 * BATCH + 1);
    turn.turn(now(), NONE);
}

#[test]
fn device_packets_are_sealed_in_place_and_sent_in_order() {
    let mut turn = fake();
    device(&mut turn).inbox.extend((1..=5).map(|n| vec![n; usize::from(n) * 250]));
    let turned = turn.turn(now(), NONE);
    assert!(!turned.again && turned.interests.device_read && !turned.interests.link_write);
    let sent = &link(&mut turn).outbox;
    assert_eq!(sent.len(), 5);
    for (n, packet) in (1u8..).zip(sent) {
        assert_eq!(packet[..4], [DATA, 0, 0, 0]);
        assert_eq!(packet[4..], vec![n; usize::from(n) * 250]);
    }
}

#[test]
fn what_cannot_be_sealed_is_counted_and_the_rest_goes_on() {
    let mut turn = fake();
    device(&mut turn).inbox.extend([vec![0], vec![1]]);
    turn.turn(now(), NONE);
    assert_eq!(link(&mut turn).outbox.len(), 1);
    assert_eq!(turn.drops().get(DropReason::NoKey), 1);
}

#[test]
fn packets_that_go_nowhere_do_not_hold_the_turn() {
    for useless in [vec![0], vec![]] {
        let mut turn = fake();
        device(&mut turn).inbox.extend(core::iter::repeat_n(useless, 3 * BATCH));
        for batches in 1..=3 {
            assert!(turn.turn(now(), NONE).again);
            assert_eq!(device(&mut turn).reads, batches * BATCH);
        }
        assert!(!turn.turn(now(), NONE).again);
    }
}

#[test]
fn a_full_link_stops_the_device_and_loses_nothing() {
    let mut turn = fake();
    link(&mut turn).room = 3;
    device(&mut turn).inbox.extend((1..=200).map(|n| vec![n]));
    let turned = turn.turn(now(), NONE);
    assert!(!turned.again && turned.interests.link_write && !turned.interests.device_read, "{turned:?}");
    let reads = device(&mut turn).reads;
    assert_eq!(reads, BATCH);
    turn.turn(now(), Ready { device_read: true, ..NONE });
    assert_eq!(device(&mut turn).reads, reads, "not read while the link is full");
    link(&mut turn).room = usize::MAX;
    let mut turned = turn.turn(now(), Ready { link_write: true, ..NONE });
    while turned.again {
        turned = turn.turn(now(), NONE);
    }
    let sent: Vec<u8> = link(&mut turn).outbox.iter().map(|packet| packet[4]).collect();
    assert_eq!(sent, (1..=200).collect::<Vec<u8>>());
}

#[test]
fn nothing_is_read_from_the_device_before_the_peer_is_known() {
    let mut turn = fake();
    turn.set_peer(None);
    device(&mut turn).inbox.push_back(vec![1]);
    let turned = turn.turn(now(), Ready { device_read: true, ..NONE });
    assert!(!turned.again && !turned.interests.device_read);
    assert_eq!(device(&mut turn).reads, 0);
    turn.set_peer(Some(PEER));
    turn.turn(now(), NONE);
    assert_eq!(link(&mut turn).outbox.len(), 1);
}

#[test]
fn orders_come_before_control_packets_and_reports_go_back() {
    let mut turn = fake();
    turn.control.orders.extend([
        Order { seq: 1, directive: Directive::AskActivity { peer: PEER } },
        Order { seq: 2, directive: Directive::SendPing { peer: PEER } },
    ]);
    turn.control.outgoing.push_back(vec![CONTROL, 7]);
    turn.plane.own = 1;
    turn.turn(now(), NONE);
    assert_eq!(turn.plane.orders, [1, 2]);
    assert_eq!(turn.control.reports, 1);
    assert_eq!(link(&mut turn).outbox, [vec![CONTROL, 7], vec![DATA]]);
}

#[test]
fn timers_run_when_due_and_not_before() {
    let mut turn = fake();
    turn.control.deadline = Some(now() + Duration::from_nanos(1));
    assert_eq!(turn.turn(now(), NONE).deadline.map(|deadline| deadline.at), turn.control.deadline);
    assert!(turn.control.timeouts.is_empty());
    let later = now() + Duration::from_nanos(1);
    turn.turn(later, NONE);
    assert_eq!(turn.control.timeouts, [later]);
}

#[test]
fn a_stream_that_ends_is_told_once() {
    let mut turn = fake();
    turn.set_link(FakeLink { stream: true, broken: true, ..FakeLink::default() });
    let turned = turn.turn(now(), NONE);
    assert!(matches!(turned.failure, Some(Failure::Link(_))));
    assert_eq!(turn.control.closed, [StreamId(9)]);
    let turned = turn.turn(now(), Ready { link_read: true, link_write: true, device_read: true });
    assert!(turned.failure.is_none() && !turned.again);
    assert_eq!(turn.control.closed.len(), 1);
}

#[test]
fn a_vanished_device_is_a_failure() {
    let errors: [fn() -> io::Error; 2] =
        [|| io::Error::from_raw_os_error(libc::EBADFD), || ErrorKind::UnexpectedEof.into()];
    for error in errors {
        let mut turn = fake();
        device(&mut turn).gone = Some(error);
        assert!(matches!(turn.turn(now(), NONE).failure, Some(Failure::Device(_))));
    }
}

#[test]
fn a_large_mtu_gets_room() {
    let mut turn = fake();
    turn.set_device(FakeDevice::default());
    device(&mut turn).inbox.push_back(vec![7; 9000]);
    turn.turn(now(), NONE);
    assert_eq!(link(&mut turn).outbox[0].len(), 9004);
}

#[test]
fn faults_on_purpose_reach_all_packets_of_the_link() {
    let faults = Faults::quiet(1632, 1);
    let mut turn = fake();
    turn.set_faults(Some(faults.clone()));
    for round in 0..100u8 {
        link(&mut turn).inbox.extend(core::iter::repeat_n(vec![CONTROL, 1, 2, round], 20));
        device(&mut turn).inbox.extend(core::iter::repeat_n(vec![1, 2, 3], 20));
        turn.control.outgoing.extend(core::iter::repeat_n(vec![CONTROL, 7], 5));
        turn.plane.own = 5;
        let mut ready = Ready { link_read: true, device_read: true, ..NONE };
        while turn.turn(now(), core::mem::replace(&mut ready, NONE)).again {}
    }
    let counts = faults.counts();
    assert_eq!((counts.incoming, counts.outgoing), (2000, 3000));
    for (count, packets) in
        [(counts.incoming_dropped, 2000), (counts.corrupted, 2000), (counts.outgoing_dropped, 3000)]
    {
        assert!((packets / 100..packets / 25).contains(&count), "{counts:?}");
    }
    assert_eq!(link(&mut turn).outbox.len() as u64, 3000 - counts.outgoing_dropped);
    let whole =
        turn.control.received.iter().filter(|packet| matches!(packet[..], [CONTROL, 1, 2, _])).count();
    assert!(
        (whole as u64) < 2000 - counts.incoming_dropped - counts.corrupted / 3,
        "{whole} are as they were"
    );
    assert!(whole as u64 >= 2000 - counts.incoming_dropped - counts.corrupted, "{whole} are as they were");
}
