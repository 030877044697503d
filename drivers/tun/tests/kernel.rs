//! Offload and queues with the kernel at both ends: two TUN devices in two network namespaces, and a pump between them
//! that takes super-packets apart and puts them together again.
//!
//! A thread unshares the first namespace, makes a device and sockets there, and unshares the second; what was made
//! stays where it is. Without root these tests say on stderr that they are skipped.

#![expect(clippy::unwrap_used, reason = "tests")]

mod packets;
mod program;
mod pump;
mod raw;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use std::{io, iter, thread};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use oxivpn_tun::offload::{Gso, Offload};
use oxivpn_tun::{Device, OpenError, Options};
use packets::filler;
use program::{close, ip};
use pump::{MTU, while_pumping};

const PATIENCE: Duration = Duration::from_secs(10);

fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let body = || match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => test(),
            Err(error) => {
                // Past the test harness, which would swallow the line of a test that passes.
                let why = format!("SKIPPED: cannot make a network namespace: {error}; run this test as root");
                let _ = writeln!(io::stderr(), "{why}");
            }
        };
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A device that is up, with the addresses `10.8.0.host` and `fd00::host`.
fn open(options: Options, host: u8) -> Device {
    let device = Device::open(&options.mtu(MTU)).unwrap();
    ip(&format!("address add 10.8.0.{host}/24 dev {}", device.name()));
    ip(&format!("address add fd00::{host}/64 dev {} nodad", device.name()));
    device.set_up(true).unwrap();
    device
}

/// Sends `ours` and checks that what comes is `theirs`, both at once.
fn exchange(stream: TcpStream, ours: Vec<u8>, theirs: &[u8]) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    thread::scope(|scope| {
        let mut writer = stream.try_clone().unwrap();
        let sending = scope.spawn(move || {
            writer.write_all(&ours).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        (&stream).read_to_end(&mut received).unwrap();
        assert!(received == theirs, "{} bytes of {} came, or others", received.len(), theirs.len());
        sending.join().unwrap();
    });
}

fn tcp_transfer(address: &str) {
    in_namespace(|| {
        const LEN: usize = 4 << 20;
        let a = open(Options::new("tun").offload(true), 1);
        let listener = TcpListener::bind(address).unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let b = open(Options::new("tun").offload(true), 2);
        assert!(a.offload().tcp && b.offload().tcp);
        let (from_a, from_b) = (filler(LEN, 1), filler(LEN, 2));
        let seen = while_pumping(&a, &b, || {
            let client = TcpStream::connect_timeout(&listener.local_addr().unwrap(), PATIENCE).unwrap();
            let (server, _) = listener.accept().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| exchange(server, from_a.clone(), &from_b));
                exchange(client, from_b.clone(), &from_a);
            });
        });
        for seen in [seen.0, seen.1] {
            // Most of the packets come in super-packets and leave in super-packets.
            assert!(seen.tcp_reads > 0 && seen.packets > LEN / 1_400, "{seen:?}");
            assert!(seen.merged > seen.packets / 2, "{seen:?}");
        }
    });
}

#[test]
fn a_tcp_transfer_over_ipv4_is_whole() {
    tcp_transfer("10.8.0.1:0");
}

#[test]
fn a_tcp_transfer_over_ipv6_is_whole() {
    tcp_transfer("[fd00::1]:0");
}

/// One end without offload: super-packets stay on the other side.
#[test]
fn a_device_without_offload_takes_part() {
    in_namespace(|| {
        let a = open(Options::new("tun"), 1);
        assert_eq!(a.offload(), Offload::NONE);
        let listener = TcpListener::bind("10.8.0.1:0").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let b = open(Options::new("tun").offload(true), 2);
        let bytes = filler(1 << 20, 3);
        let (from_a, from_b) = while_pumping(&a, &b, || {
            let client = TcpStream::connect_timeout(&listener.local_addr().unwrap(), PATIENCE).unwrap();
            let (server, _) = listener.accept().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| exchange(server, bytes.clone(), &bytes));
                exchange(client, bytes.clone(), &bytes);
            });
        });
        assert!(from_a.tcp_reads == 0 && from_a.merged > 0, "{from_a:?}");
        assert!(from_b.tcp_reads > 0 && from_b.merged == 0, "{from_b:?}");
    });
}

/// A burst of datagrams in one system call.
fn send_burst(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], segment: i32) {
    setsockopt(socket, sockopt::UdpGsoSegment, &segment).unwrap();
    assert_eq!(socket.send_to(bytes, to).unwrap(), bytes.len());
}

/// Waits until datagrams arrive, which are one byte long: the kernel drops those of a device that is new until it has
/// noticed that there is a queue.
fn passes(sender: &UdpSocket, receiver: &UdpSocket) {
    receiver.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        sender.send_to(b"?", receiver.local_addr().unwrap()).unwrap();
        match receiver.recv(&mut [0; 8]) {
            Ok(_) => break,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn bursts_of_datagrams_pass_in_one_piece() {
    for address in ["10.8.0.1:0", "[fd00::1]:0"] {
        in_namespace(|| {
            let a = open(Options::new("tun").offload(true), 1);
            let receiver = UdpSocket::bind(address).unwrap();
            receiver.set_read_timeout(Some(PATIENCE)).unwrap();
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let b = open(Options::new("tun").offload(true), 2);
            if !b.offload().udp {
                let _ = writeln!(io::stderr(), "SKIPPED: this kernel has no USO for tun devices (Linux 6.2)");
                return;
            }
            let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let sender = UdpSocket::bind(any).unwrap();
            let bytes = filler(20 * 1_001 + 17, 4);
            let (_, seen) = while_pumping(&a, &b, || {
                passes(&sender, &receiver);
                send_burst(&sender, receiver.local_addr().unwrap(), &bytes, 1_001);
                let mut buf = [0; 2_000];
                for datagram in bytes.chunks(1_001) {
                    let mut next = || receiver.recv(&mut buf).unwrap();
                    let len = iter::repeat_with(&mut next).find(|len| *len > 1).unwrap();
                    assert_eq!(&buf[..len], datagram);
                }
            });
            assert!(seen.udp_reads == 1 && seen.merged == 20, "{seen:?}");
        });
    }
}

/// Waits for a packet of UDP over IPv4, and returns it with the kind it came as.
fn next_udp(mut read: impl FnMut(&mut [u8]) -> io::Result<(Gso, usize)>) -> (Gso, usize) {
    let mut buf = vec![0; 65_536];
    let end = Instant::now() + PATIENCE;
    loop {
        match read(&mut buf) {
            // The kernel's own IPv6 chatter is not ours.
            Ok((gso, len)) if buf[0] >> 4 == 4 => return (gso, len),
            Ok(_) => assert!(Instant::now() < end, "only other packets came"),
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                thread::yield_now()
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_persistent_interface_is_left_without_offload() {
    in_namespace(|| {
        let device = open(Options::new("keep0").offload(true).multi_queue(true).persist(true), 1);
        if !device.offload().udp {
            let _ = writeln!(io::stderr(), "SKIPPED: this kernel has no USO for tun devices (Linux 6.2)");
            return;
        }
        let socket = UdpSocket::bind("10.8.0.1:0").unwrap();
        let to = "10.8.0.9:9".parse().unwrap();
        send_burst(&socket, to, &[1; 5_000], 1_000);
        let seen = next_udp(|buf| device.read(buf).map(|(header, len)| (header.gso, len)));
        assert_eq!(seen, (Gso::UdpL4, 5_028));
        // The last queue clears the mask, even one that is detached.
        let last = device.add_queue().unwrap();
        last.set_attached(false).unwrap();
        close(device);
        close(last);
        let mut plain = raw::sys::attach_plain("keep0", libc::IFF_MULTI_QUEUE);
        // The kernel notices that there is a queue again when it has time for that, and drops packets until then.
        let seen = next_udp(|buf| {
            send_burst(&socket, to, &[1; 5_000], 1_000);
            plain.read(buf).map(|len| (Gso::None, len))
        });
        assert_eq!(seen, (Gso::None, 1_028));
    });
}

#[test]
fn recv_is_refused_and_send_works_with_offload() {
    in_namespace(|| {
        let device = open(Options::new("tun").offload(true), 1);
        let error = device.recv(&mut [0; 2_000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("use read"), "{error}");
        let receiver = UdpSocket::bind("10.8.0.1:50000").unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut packet = packets::Packet::new(false, false);
        packet.hosts = (2, 1);
        packet.payload = b"hello".to_vec();
        assert_eq!(device.send(&packet.bytes()).unwrap(), 33);
        let mut buf = [0; 64];
        assert_eq!(receiver.recv(&mut buf).unwrap(), 5);
        // A wrong checksum is the kernel's to find.
        let mut bad = packet.bytes();
        bad[30] ^= 1;
        device.send(&bad).unwrap();
        device.send(&packet.bytes()).unwrap();
        assert_eq!((receiver.recv(&mut buf).unwrap(), &buf[..5]), (5, &b"hello"[..]));
    });
}

#[test]
fn plain_devices_take_the_header_off_and_no_super_packets() {
    use oxivpn_tun::offload::VnetHeader;
    use std::io::IoSlice;
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let device = Device::from_fd(ours.into()).unwrap();
    let plain = VnetHeader::PLAIN.to_bytes();
    device.write(&[IoSlice::new(&plain), IoSlice::new(b"pac"), IoSlice::new(b"ket")]).unwrap();
    let mut buf = [0; 64];
    assert_eq!((theirs.recv(&mut buf).unwrap(), &buf[..6]), (6, &b"packet"[..]));
    theirs.send(b"back").unwrap();
    assert_eq!(device.read(&mut buf).unwrap(), (VnetHeader::PLAIN, 4));
    assert_eq!(device.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    let header = VnetHeader { flags: VnetHeader::NEEDS_CHECKSUM, ..VnetHeader::PLAIN }.to_bytes();
    for parts in [&[][..], &[IoSlice::new(b"short")], &[IoSlice::new(&header), IoSlice::new(b"packet")]] {
        assert_eq!(device.write(parts).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let null = Device::null();
    null.write(&[IoSlice::new(&plain), IoSlice::new(b"packet")]).unwrap();
    assert_eq!(null.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!((null.offload(), device.offload()), (Offload::NONE, Offload::NONE));
    assert_eq!(null.add_queue().unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn queues_share_the_packets_and_can_be_detached() {
    in_namespace(|| {
        let first = open(Options::new("tun").offload(true).multi_queue(true), 1);
        let second = first.add_queue().unwrap();
        assert_eq!((second.name(), second.offload()), (first.name(), first.offload()));
        let count = |device: &Device| {
            let mut packets = 0;
            while let Ok((_, _)) = device.read(&mut [0; 2_000]) {
                packets += 1;
            }
            packets
        };
        let send = || {
            for _ in 0..64 {
                UdpSocket::bind("10.8.0.1:0").unwrap().send_to(b"x", "10.8.0.9:9").unwrap();
            }
        };
        send();
        let (one, two) = (count(&first), count(&second));
        assert!(one > 0 && two > 0 && one + two >= 64, "{one} and {two}");
        second.set_attached(false).unwrap();
        assert_eq!(second.set_attached(false).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        send();
        assert!(count(&first) >= 64);
        assert_eq!(second.read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
        // It still takes packets.
        let receiver = UdpSocket::bind("10.8.0.1:50000").unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let packet = packets::Packet { hosts: (2, 1), ..packets::Packet::new(false, false) };
        second.send(&packet.bytes()).unwrap();
        assert_eq!(receiver.recv(&mut [0; 64]).unwrap(), 0);
        second.set_attached(true).unwrap();
        send();
        assert!(count(&first) < 64 && count(&second) > 0);
        // Either queue may go first.
        close(first);
        send();
        assert!(count(&second) >= 64);
    });
}

/// What speaks against detaching a queue while there is traffic: answers come to the queue that the questions went to,
/// as long as it is attached, and what waits in it is freed, not moved (`linux: drivers/net/tun.c`, `tun_flow_update`,
/// `__tun_detach`).
#[test]
fn a_flow_stays_with_its_queue_and_is_lost_with_it() {
    const FLOWS: u16 = 32;
    in_namespace(|| {
        let first = open(Options::new("tun").offload(true).multi_queue(true), 1);
        let second = first.add_queue().unwrap();
        let socket = UdpSocket::bind("10.8.0.1:50000").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = |queue: &Device| {
            for port in 0..FLOWS {
                let ports = (40_000 + port, 50_000);
                let packet = packets::Packet { hosts: (2, 1), ports, ..packets::Packet::new(false, false) };
                queue.send(&packet.bytes()).unwrap();
                let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
                socket.send_to(b"answer", from).unwrap();
            }
        };
        let answers = |device: &Device| {
            let (mut buf, mut count) = ([0; 2_000], 0);
            while let Ok((_, len)) = device.read(&mut buf) {
                count += u16::from(buf[..len].ends_with(b"answer"));
            }
            count
        };
        ask(&second);
        assert_eq!((answers(&first), answers(&second)), (0, FLOWS));
        ask(&first);
        assert_eq!((answers(&first), answers(&second)), (FLOWS, 0));
        ask(&second);
        second.set_attached(false).unwrap();
        second.set_attached(true).unwrap();
        assert_eq!((answers(&first), answers(&second)), (0, 0));
    });
}

#[test]
fn the_number_of_queues_of_a_persistent_interface_is_told() {
    in_namespace(|| {
        ip("tuntap add dev one0 mode tun");
        ip("tuntap add dev many0 mode tun multi_queue");
        let error = Device::open(&Options::new("one0").multi_queue(true)).unwrap_err();
        assert!(matches!(error, OpenError::Queues { multi_queue: true, .. }), "{error}");
        assert!(error.to_string().contains("ip tuntap add dev one0 mode tun multi_queue"), "{error}");
        let error = Device::open(&Options::new("many0")).unwrap_err();
        assert!(matches!(error, OpenError::Queues { multi_queue: false, .. }), "{error}");
        assert!(error.to_string().contains("several queues"), "{error}");
        let many = Device::open(&Options::new("many0").multi_queue(true)).unwrap();
        many.add_queue().unwrap();
        let one = Device::open(&Options::new("one0")).unwrap();
        assert_eq!(one.add_queue().unwrap_err().kind(), ErrorKind::Unsupported);
    });
}
