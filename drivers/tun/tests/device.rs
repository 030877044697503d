//! Devices of the kernel, each test in a network namespace of its own, and devices that need none.
//!
//! A test unshares the namespace of a thread made for it, so the namespace and the interfaces in it vanish with the
//! thread however the test ends. Without root these tests say on stderr that they are skipped.

#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, thread};

use nix::sched::{CloneFlags, unshare};
use oxivpn_tun::{Device, OpenError, Options};
use program::{close, ip, none_runs, run};

fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let body = || match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => test(),
            Err(error) => {
                eprintln!("SKIPPED: cannot make a network namespace: {error}; run this test as root")
            }
        };
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Past the test harness, which would swallow the line of a test that passes.
fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}; run this test as root");
}

fn recv(device: &Device) -> Vec<u8> {
    let mut packet = [0; 2048];
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match device.recv(&mut packet) {
            // The kernel's own IPv6 chatter (router solicitations) is not ours.
            Ok(len) if packet[0] >> 4 == 4 => return packet[..len].to_vec(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                thread::yield_now()
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// An IPv4 UDP packet without checksum over UDP.
fn udp_packet(from: [u8; 4], to: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(28 + payload.len()).unwrap().to_be_bytes();
    let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from);
    packet.extend(to);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend([0x30, 0x39]);
    packet.extend(port.to_be_bytes());
    packet.extend(length);
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

#[test]
fn packets_pass_both_ways_without_a_header() {
    in_namespace(|| {
        let device = Device::open(&Options::new("tun3").mtu(1400).txqueuelen(123)).unwrap();
        assert_eq!(device.name(), "tun3");
        assert!(device.has_interface() && device.as_raw_fd().is_some());
        let link = ip("-o link show tun3");
        assert!(
            link.contains("mtu 1400") && link.contains("qlen 123") && link.contains("state DOWN"),
            "{link}"
        );
        let mut buf = [0; 64];
        assert_eq!(device.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);

        let hello = udp_packet([10, 8, 0, 1], [10, 8, 0, 2], 4_000, b"hello");
        assert_eq!(device.send(&hello).unwrap_err().raw_os_error(), Some(libc::EIO), "the interface is down");
        device.set_up(true).unwrap();
        ip("address add 10.8.0.2/24 dev tun3");
        let socket = std::net::UdpSocket::bind("10.8.0.2:4000").unwrap();
        assert_eq!(device.send(&hello).unwrap(), hello.len());
        let (len, from) = socket.recv_from(&mut buf).unwrap();
        assert_eq!((&buf[..len], from), (&b"hello"[..], "10.8.0.1:12345".parse().unwrap()));

        socket.send_to(b"answer", from).unwrap();
        let packet = recv(&device);
        assert_eq!(packet[..2], [0x45, 0]);
        assert_eq!(packet[12..20], [10, 8, 0, 2, 10, 8, 0, 1]);
        assert_eq!(packet[28..], *b"answer");

        assert_eq!(device.send(&[0; 40]).unwrap_err().raw_os_error(), Some(libc::EINVAL), "no IP version");
        device.set_mtu(1300).unwrap();
        assert_eq!(device.mtu().unwrap(), 1300);
        device.set_txqueuelen(77).unwrap();
        assert!(ip("-o link show tun3").contains("qlen 77"));
    });
}

#[test]
fn the_kernel_picks_a_name_and_takes_the_interface_away_again() {
    in_namespace(|| {
        let first = Device::open(&Options::new("tun")).unwrap();
        let second = Device::open(&Options::new("tun")).unwrap();
        assert_eq!((first.name(), second.name()), ("tun0", "tun1"));
        let free = Device::open(&Options::new("corp-vpn")).unwrap();
        assert_eq!(free.name(), "corp-vpn");
        close((first, second, free));
        assert_eq!(ip("-o link show type tun"), "");
    });
}

#[test]
fn persistence_is_set_and_cleared() {
    in_namespace(|| {
        close(Device::open(&Options::new("keep0").persist(true).owner(54_321).group(54_322)).unwrap());
        let link = ip("-d -o link show keep0");
        assert!(link.contains("persist on user 54321 group 54322"), "{link}");
        // Unset leaves it as it is.
        close(Device::open(&Options::new("keep0")).unwrap());
        assert!(ip("-o link show type tun").contains("keep0"));
        close(Device::open(&Options::new("keep0").persist(false)).unwrap());
        assert_eq!(ip("-o link show type tun"), "");
    });
}

#[test]
fn a_busy_or_foreign_interface_is_refused_with_the_cure() {
    in_namespace(|| {
        let _open = Device::open(&Options::new("tun0")).unwrap();
        let error = Device::open(&Options::new("tun0")).unwrap_err();
        assert!(
            error.to_string().contains("\"tun0\"") && error.to_string().contains("another process has"),
            "{error}"
        );
        let error = Device::open(&Options::new("lo")).unwrap_err();
        assert!(error.to_string().contains("no single-queue tun device"), "{error}");
        let held = none_runs();
        let error = Device::open(&Options::new("tun1").mtu(10)).unwrap_err();
        drop(held);
        assert!(matches!(error, OpenError::Setting { setting: "mtu", .. }), "{error}");
        assert!(!ip("-o link show type tun").contains("tun1"), "a half-configured device is closed");
    });
}

#[test]
fn a_deleted_interface_is_a_final_error() {
    in_namespace(|| {
        let device = Device::open(&Options::new("tun0")).unwrap();
        device.set_up(true).unwrap();
        ip("link del tun0");
        assert_eq!(device.recv(&mut [0; 64]).unwrap_err().raw_os_error(), Some(libc::EBADFD));
        assert_eq!(device.send(&[0x45; 20]).unwrap_err().raw_os_error(), Some(libc::EBADFD));
    });
}

#[test]
fn a_tun_descriptor_from_outside_is_taken_over() {
    in_namespace(|| {
        let opened = Device::open(&Options::new("tun5")).unwrap();
        let fd: OwnedFd = opened.as_fd().unwrap().try_clone_to_owned().unwrap();
        drop(opened);
        let device = Device::from_fd(fd).unwrap();
        assert_eq!(device.name(), "tun5");
        assert!(device.has_interface());
        ip("link set tun5 up");
        ip("address add 10.8.0.2/24 dev tun5");
        let socket = std::net::UdpSocket::bind("10.8.0.2:0").unwrap();
        socket.send_to(b"out", "10.8.0.9:9").unwrap();
        assert_eq!(recv(&device)[28..], *b"out");
        device.set_persist(true).unwrap();
        device.set_persist(false).unwrap();
        let error = device.set_mtu(1300).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        drop(device);
        // A child of another test holds the descriptors of this process for a moment, until it executes its program.
        let end = Instant::now() + Duration::from_secs(5);
        while !ip("-o link show type tun").is_empty() {
            assert!(Instant::now() < end, "the interface outlives its last descriptor");
        }
    });
}

#[test]
fn a_tun_descriptor_without_interface_is_refused() {
    let node = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let node = match node {
        Ok(node) => node,
        Err(error) => return skipped(&format!("cannot open /dev/net/tun: {error}")),
    };
    let error = Device::from_fd(node.into()).unwrap_err();
    assert!(error.to_string().contains("attached to no interface"), "{error}");
}

#[test]
fn a_datagram_socket_pair_serves_as_a_device() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let device = Device::from_fd(ours.into()).unwrap();
    assert!(!device.has_interface());
    assert!(device.name().starts_with("fd"));
    let mut buf = [0; 64];
    assert_eq!(device.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    theirs.send(b"packet").unwrap();
    assert_eq!(device.recv(&mut buf).unwrap(), 6);
    assert_eq!(device.send(b"answer!").unwrap(), 7);
    assert_eq!(theirs.recv(&mut buf).unwrap(), 7);
    assert_eq!(device.set_persist(true).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn the_end_of_a_sequenced_pair_is_told_and_an_empty_datagram_is_none() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let pair = |kind| socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let (ours, theirs) = pair(SockType::SeqPacket);
    let device = Device::from_fd(ours).unwrap();
    let mut buf = [0; 64];
    assert_eq!(device.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    close(theirs);
    assert_eq!(device.recv(&mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let device = Device::from_fd(ours.into()).unwrap();
    theirs.send(b"").unwrap();
    assert_eq!(device.recv(&mut buf).unwrap(), 0);
    assert_eq!(device.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn descriptors_without_packets_are_refused() {
    let (stream, _far) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    for fd in [OwnedFd::from(stream), file.into()] {
        let error = Device::from_fd(fd).unwrap_err();
        assert!(error.to_string().contains("keeps packets apart"), "{error}");
    }
}

#[test]
fn the_null_device_swallows_everything() {
    let device = Device::null();
    assert_eq!((device.name(), device.as_raw_fd(), device.has_interface()), ("null", None, false));
    assert_eq!(device.send(&[0; 1500]).unwrap(), 1500);
    assert_eq!(device.recv(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let refused: io::Error = device.set_up(true).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(device.as_fd().map(|fd| fd.as_raw_fd()).is_none());
}

/// The test runs itself again without the privilege.
#[test]
fn a_missing_privilege_is_named_with_the_cure() {
    const CHILD: &str = "OXIVPN_TEST_UNPRIVILEGED";
    if env::var_os(CHILD).is_some() {
        let error = Device::open(&Options::new("tun")).unwrap_err().to_string();
        assert!(error.contains("root or CAP_NET_ADMIN") && error.contains("ip tuntap add"), "{error}");
        return;
    }
    in_namespace(|| {
        let mut command = Command::new("setpriv");
        command
            .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "a_missing_privilege_is_named_with_the_cure", "--nocapture"])
            .env(CHILD, "1");
        let output = run(&mut command);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    });
}
