//! Many datagrams a call, against the kernel.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;

use super::*;

/// A socket for batches. The buffers are large enough for what one test sends at once, whoever runs it.
fn fast(family: Family, local: &str, packet_info: bool, ecn: bool) -> UdpSocket {
    let local = Some(local.parse().unwrap());
    let options = UdpOptions { local, packet_info, offload: true, ..UdpOptions::new(family) };
    let socket = UdpSocket::bind(&options).unwrap();
    if ecn {
        socket.hear_ecn().unwrap();
    }
    socket
}

fn wait(socket: &UdpSocket, what: PollFlags) {
    let mut polled = [PollFd::new(socket.as_fd(), what)];
    assert_eq!(poll(&mut polled, PollTimeout::from(5_000u16)), Ok(1), "nothing within 5 s");
}

fn recv_many(socket: &UdpSocket, buf: &mut [u8]) -> ReceivedMany {
    loop {
        match socket.recv_many(buf) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(socket, PollFlags::POLLIN),
            received => return received.unwrap(),
        }
    }
}

/// The datagrams of the next `len` bytes, and whether any came merged.
fn collect(socket: &UdpSocket, len: usize, mut check: impl FnMut(&ReceivedMany)) -> (Vec<Vec<u8>>, bool) {
    let mut buf = vec![0; 65_535];
    let (mut got, mut merged, mut datagrams) = (0, false, Vec::new());
    while got < len {
        let received = recv_many(socket, &mut buf);
        check(&received);
        got += received.len;
        merged |= received.len > received.segment;
        datagrams.extend(received.datagrams(&mut buf).map(|datagram| datagram.to_vec()));
    }
    (datagrams, merged)
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (((i + seed) * 7) >> 2) as u8).collect()
}

/// Sends `run` and checks that the datagrams arrive as they are; whether any came merged.
fn trip(from: &UdpSocket, to: &UdpSocket, at: SocketAddr, run: &[u8], segment: usize) -> bool {
    assert_eq!(from.send_many(run, segment, at, None, Ecn::NotEct).unwrap(), run.len());
    let (datagrams, merged) = collect(to, run.len(), |_| {});
    assert!(datagrams.iter().map(Vec::as_slice).eq(run.chunks(segment)), "{} bytes, {segment}", run.len());
    merged
}

#[test]
fn runs_of_all_sizes_arrive_as_they_left() {
    for (family, any, ip) in [
        (Family::V4, "0.0.0.0:0", "127.0.0.1"),
        (Family::V6, "[::]:0", "::1"),
        (Family::Any, "[::]:0", "127.0.0.1"),
        (Family::Any, "[::]:0", "::1"),
    ] {
        for (packet_info, ecn) in [(false, false), (true, false), (false, true), (true, true)] {
            let server = fast(family, any, packet_info, ecn);
            let client = fast(family, any, packet_info, ecn);
            let ip: IpAddr = ip.parse().unwrap();
            let at = SocketAddr::new(ip, server.local_addr().unwrap().port());
            let sender = SocketAddr::new(ip, client.local_addr().unwrap().port());
            let marks = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce].into_iter().cycle();
            let sizes =
                [(40 * 1_400 + 700, 1_400), (1, 1), (65 * 10, 10), (65_000, 65_000), (60_001, 20_000)];
            for ((len, segment), mark) in sizes.into_iter().chain([(100 * 1_300, 1_300)]).zip(marks) {
                let run = bytes(len, segment);
                let from = packet_info.then_some(ip);
                assert_eq!(client.send_many(&run, segment, at, from, mark).unwrap(), len);
                let (datagrams, merged) = collect(&server, len, |received| {
                    assert_eq!((received.remote, received.local), (sender, packet_info.then_some(ip)));
                    assert_eq!(received.ecn, if ecn { mark } else { Ecn::NotEct });
                });
                assert!(datagrams.iter().map(Vec::as_slice).eq(run.chunks(segment)), "{len} by {segment}");
                assert_eq!(merged, len > segment, "{len} by {segment}");
            }
            assert_eq!((client.take_notice(), server.take_notice()), (None, None));
            assert!(client.take_complaint().is_none());
        }
    }
}

/// An ECN mark leaves the rest of the TOS byte alone, and no mark does too.
#[test]
fn marks_and_codepoints_do_not_touch_each_other() {
    for (any, ip) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let options = UdpOptions { local: any.parse().ok(), dscp: 46, ..UdpOptions::new(Family::Any) };
        let from = UdpSocket::bind(&options).unwrap();
        let ip: IpAddr = ip.parse().unwrap();
        let to = std::net::UdpSocket::bind((ip, 0)).unwrap();
        let (level, name) = match ip {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVTOS),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
        };
        sys::set_int(to.as_fd(), level, name, 1).unwrap();
        for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce, Ecn::NotEct] {
            assert_eq!(from.send_many(b"abab", 2, to.local_addr().unwrap(), None, ecn).unwrap(), 4);
            for _ in 0..2 {
                let incoming = sys::recv(to.as_fd(), &mut [0; 9]).unwrap();
                assert_eq!((incoming.len, incoming.tos), (2, 46 << 2 | ecn.bits()), "{ip} {ecn:?}");
            }
        }
    }
}

#[test]
fn datagrams_of_different_sizes_keep_their_ends() {
    let (here, there) = (fast(Family::V4, "127.0.0.1:0", false, false), bind(Family::V4, "127.0.0.1:0"));
    let at = here.local_addr().unwrap();
    let mut buf = vec![0; 65_535];
    for len in [5usize, 0, 7, 7, 3] {
        there.send_to(&bytes(len, 0), at).unwrap();
        let received = recv_many(&here, &mut buf);
        assert_eq!(
            (received.len, received.segment, received.remote),
            (len, len, there.local_addr().unwrap())
        );
        assert_eq!(received.datagrams(&mut buf).count(), usize::from(len > 0));
    }
    assert_eq!(there.send_many(&[], 5, at, None, Ecn::NotEct).unwrap(), 0);
    assert_eq!(here.recv_many(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_receiver_that_merges_nothing_gets_them_one_by_one() {
    let (from, to) = (fast(Family::V4, "127.0.0.1:0", false, false), bind(Family::V4, "127.0.0.1:0"));
    let at = to.local_addr().unwrap();
    assert!(!trip(&from, &to, at, &bytes(9_500, 1), 1_000));
    // And a sender without batches.
    assert!(!trip(&to, &from, from.local_addr().unwrap(), &bytes(9_500, 1), 1_000));
}

#[test]
fn a_kernel_that_refuses_batches_gets_datagrams_and_is_told_of_once() {
    let (from, to) =
        (fast(Family::V4, "127.0.0.1:0", false, false), fast(Family::V4, "127.0.0.1:0", false, false));
    let clone = from.try_clone().unwrap();
    let at = to.local_addr().unwrap();
    assert!(trip(&from, &to, at, &bytes(5_000, 0), 1_000), "loopback does batches");
    assert_eq!(from.take_notice(), None);
    // Without checksums the kernel refuses batches: EINVAL, as from some drivers.
    sys::set_int(from.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    assert!(!trip(&from, &to, at, &bytes(60_500, 1), 1_000));
    assert_eq!(clone.take_notice(), Some(Notice::NoSegmentation { errno: libc::EINVAL }));
    assert_eq!(from.take_notice(), None);
    assert!(!trip(&clone, &to, at, &bytes(60_500, 2), 1_000));
    assert_eq!((from.take_notice(), clone.take_notice()), (None, None));
    assert!(from.take_complaint().is_none());
}

#[test]
fn what_the_network_refuses_is_gone_and_complained_of() {
    let socket = fast(Family::V4, "127.0.0.1:0", false, false);
    let run = bytes(5_000, 0);
    let v6 = "[::1]:9".parse().unwrap();
    assert_eq!(socket.send_many(&run, 1_000, v6, None, Ecn::NotEct).unwrap(), 5_000);
    assert_eq!(classify(&socket.take_complaint().unwrap()), Fault::Unreachable);
    assert!(socket.take_complaint().is_none());
    // An address that is not ours: EINVAL from the kernel, and no reason to give up batches.
    let to = bind(Family::V4, "127.0.0.1:0");
    let at = to.local_addr().unwrap();
    let foreign = Some("192.0.2.99".parse().unwrap());
    assert_eq!(socket.send_many(&run, 1_000, at, foreign, Ecn::NotEct).unwrap(), 5_000);
    assert!(socket.take_complaint().is_some());
    assert_eq!(socket.take_notice(), None);
}

#[test]
fn the_mtu_of_a_path_is_known() {
    in_namespace("1300", || {
        let socket = fast(Family::Any, "[::]:0", false, false);
        let mtu = |to: &str, from: Option<IpAddr>| socket.path_mtu(to.parse().unwrap(), from);
        assert_eq!(mtu("127.0.0.1:9", None).unwrap(), 1_300 - 28);
        assert_eq!(mtu("127.0.0.1:9", Some("127.0.0.2".parse().unwrap())).unwrap(), 1_300 - 28);
        assert_eq!(mtu("[::1]:9", None).unwrap(), 1_300 - 48);
        assert!(mtu("127.0.0.1:9", Some("192.0.2.99".parse().unwrap())).is_err());
        assert!(mtu("192.0.2.99:9", None).is_err());
    });
}

#[test]
fn sockets_share_a_port_if_all_want_to() {
    let options = |port| UdpOptions {
        local: Some(SocketAddr::new("127.0.0.1".parse().unwrap(), port)),
        reuse_port: true,
        ..UdpOptions::new(Family::V4)
    };
    let first = UdpSocket::bind(&options(0)).unwrap();
    let port = first.local_addr().unwrap().port();
    let second = UdpSocket::bind(&options(port)).unwrap();
    assert_eq!(second.local_addr().unwrap(), first.local_addr().unwrap());
    let third = UdpSocket::bind(&UdpOptions { reuse_port: false, ..options(port) }).unwrap_err();
    assert_eq!(third.io().kind(), ErrorKind::AddrInUse);
}

#[test]
fn buffers_grow_unless_the_user_said_otherwise() {
    let plain = bind(Family::V4, "127.0.0.1:0");
    let wide = fast(Family::V4, "127.0.0.1:0", false, false);
    let sizes = |socket: &UdpSocket| {
        let socket = SockRef::from(socket);
        (socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap())
    };
    assert!(sizes(&wide).0 >= sizes(&plain).0 && sizes(&wide).1 >= sizes(&plain).1);
    let socket = SocketSettings { rcvbuf: Some(50_000), ..SocketSettings::default() };
    let mine = UdpSocket::bind(&UdpOptions { socket, offload: true, ..UdpOptions::new(Family::V4) }).unwrap();
    assert_eq!(sizes(&mine), (100_000, sizes(&wide).1));
}

/// Runs `test` in a network namespace where `lo` has this MTU.
fn in_namespace(mtu: &str, test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let body = || {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                // Past the test harness, which would swallow the line of a test that passes.
                let _ = writeln!(
                    io::stderr(),
                    "SKIPPED: cannot make a network namespace: {error}; run this test as root"
                );
                return;
            }
            run("ip", &format!("link set lo up mtu {mtu}"));
            test();
        };
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn run(tool: &str, arguments: &str) {
    let output = Command::new(tool).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{tool} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn datagrams_above_the_mtu_are_fragmented_and_batches_come_back_with_the_mtu() {
    in_namespace("1300", || {
        for (family, local) in [(Family::V4, "127.0.0.1:0"), (Family::V6, "[::1]:0")] {
            run("ip", "link set lo mtu 1300");
            let (from, to) = (fast(family, local, false, false), fast(family, local, false, false));
            let at = to.local_addr().unwrap();
            let run_of = bytes(20 * 1_400 + 1, 3);
            assert!(!trip(&from, &to, at, &run_of, 1_400));
            assert!(!trip(&from, &to, at, &run_of, 1_400));
            assert!(trip(&from, &to, at, &run_of, 1_200), "what fits still goes in batches");
            assert!(from.take_complaint().is_none());
            run("ip", "link set lo mtu 65536");
            let small = bytes(2 * 1_400, 4);
            let tries = (0..1_000).take_while(|_| !trip(&from, &to, at, &small, 1_400)).count();
            assert!((100..500).contains(&tries), "batches after {tries} runs");
            assert_eq!(from.take_notice(), None);
        }
    });
}

/// Keeps the calling thread to one processor.
fn stay() {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let first = (0..CpuSet::count()).find(|&number| all.is_set(number) == Ok(true)).unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

#[test]
fn a_full_socket_takes_the_front_and_the_rest_follows_in_order() {
    in_namespace("1500", || {
        // What one processor takes out of the queue can overtake what another one did.
        stay();
        run("tc", "qdisc add dev lo root tbf rate 20mbit burst 20kb latency 10s");
        let socket = SocketSettings { sndbuf: Some(4_096), ..SocketSettings::default() };
        for offload in [true, false] {
            let options = UdpOptions {
                local: Some("127.0.0.1:0".parse().unwrap()),
                socket: socket.clone(),
                offload,
                ..UdpOptions::new(Family::V4)
            };
            let from = UdpSocket::bind(&options).unwrap();
            let to = fast(Family::V4, "127.0.0.1:0", false, false);
            let at = to.local_addr().unwrap();
            let (mut run, segment) = (bytes(300_500, 9), 1_000);
            for (number, part) in (0u16..).zip(run.chunks_mut(segment)) {
                part[..2].copy_from_slice(&number.to_be_bytes());
            }
            let (mut sent, mut partial, mut refused) = (0, 0, 0);
            let mut got = Vec::new();
            let mut buf = vec![0; 65_535];
            while got.len() < 301 {
                match from.send_many(&run[sent..], segment, at, None, Ecn::NotEct) {
                    Ok(taken) => {
                        sent += taken;
                        assert!(sent == run.len() || taken > 0 && taken % segment == 0, "{taken}");
                        partial += usize::from(sent < run.len());
                    }
                    Err(error) => {
                        assert_eq!(classify(&error), Fault::WouldBlock);
                        refused += 1;
                        wait(&from, PollFlags::POLLOUT);
                    }
                }
                while let Ok(received) = to.recv_many(&mut buf) {
                    got.extend(received.datagrams(&mut buf).map(|datagram| datagram.to_vec()));
                }
                if sent == run.len() && got.len() < 301 {
                    wait(&to, PollFlags::POLLIN);
                }
            }
            let numbers = got.iter().map(|one| u16::from_be_bytes([one[0], one[1]]));
            let strays: Vec<_> = (0..).zip(numbers).filter(|(place, number)| place != number).collect();
            assert!(strays.is_empty(), "offload {offload}: place and number {strays:?}");
            assert!(got.iter().map(Vec::as_slice).eq(run.chunks(segment)));
            assert!(partial > 0 && refused > 0, "offload {offload}: {partial} partial, {refused} refused");
        }
    });
}
