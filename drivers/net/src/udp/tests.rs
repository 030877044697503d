use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::*;
use crate::{Fault, classify};

mod many;

fn bind(family: Family, local: &str) -> UdpSocket {
    UdpSocket::bind(&UdpOptions { local: Some(local.parse().unwrap()), ..UdpOptions::new(family) }).unwrap()
}

fn recv(socket: &UdpSocket, buf: &mut [u8]) -> (usize, SocketAddr) {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match socket.recv_from(buf) {
            Ok(received) => return received,
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::yield_now()
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_dual_stack_socket_shows_ipv4_as_ipv4_and_answers_both() {
    let dual = UdpSocket::bind(&UdpOptions::new(Family::Any)).unwrap();
    let port = dual.local_addr().unwrap().port();
    let mut buf = [0; 64];
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let peer = bind(Family::Any, local);
        let ip = peer.local_addr().unwrap().ip();
        assert_eq!(peer.send_to(b"hello", SocketAddr::new(ip, port)).unwrap(), 5);
        let (len, from) = recv(&dual, &mut buf);
        assert_eq!((&buf[..len], from), (&b"hello"[..], peer.local_addr().unwrap()));
        dual.send_to(b"answer", from).unwrap();
        let (len, from) = recv(&peer, &mut buf);
        assert_eq!((&buf[..len], from.port()), (&b"answer"[..], port));
        assert_eq!(from.is_ipv4(), ip.is_ipv4());
    }
}

#[test]
fn nothing_waiting_is_would_block() {
    let socket = bind(Family::V4, "127.0.0.1:0");
    let error = socket.recv_from(&mut [0; 8]).unwrap_err();
    assert_eq!(classify(&error), Fault::WouldBlock);
}

#[test]
fn one_bad_datagram_leaves_the_socket_usable() {
    let socket = bind(Family::V4, "127.0.0.1:0");
    let peer = bind(Family::V4, "127.0.0.1:0");
    let to = peer.local_addr().unwrap();
    assert_eq!(classify(&socket.send_to(&vec![0; 65_536], to).unwrap_err()), Fault::TooLarge);
    let v6 = "[::1]:9".parse().unwrap();
    assert_eq!(classify(&socket.send_to(b"x", v6).unwrap_err()), Fault::Unreachable);
    let broadcast = "255.255.255.255:9".parse().unwrap();
    assert!(classify(&socket.send_to(b"x", broadcast).unwrap_err()).is_transient());
    socket.send_to(b"fine", to).unwrap();
    assert_eq!(recv(&peer, &mut [0; 8]).0, 4);
}

#[test]
fn an_address_of_the_wrong_version_is_refused() {
    let options = UdpOptions { local: Some("127.0.0.1:0".parse().unwrap()), ..UdpOptions::new(Family::V6) };
    let error = UdpSocket::bind(&options).unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:0") && error.contains("IP version"), "{error}");
}

#[test]
fn a_taken_port_is_named_with_the_cure() {
    let taken = bind(Family::V4, "127.0.0.1:0");
    let local = taken.local_addr().unwrap();
    let error =
        UdpSocket::bind(&UdpOptions { local: Some(local), ..UdpOptions::new(Family::V4) }).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&local.to_string()) && text.contains("another socket has this port"), "{text}");
}

#[test]
fn an_unknown_interface_is_named() {
    let options = UdpOptions {
        socket: SocketSettings { device: Some("nosuchdev0".to_owned()), ..SocketSettings::default() },
        ..UdpOptions::new(Family::V4)
    };
    let text = UdpSocket::bind(&options).unwrap_err().to_string();
    assert!(text.contains("SO_BINDTODEVICE") && text.contains("nosuchdev0"), "{text}");
}

#[test]
fn buffer_sizes_reach_the_kernel() {
    let options = UdpOptions {
        socket: SocketSettings { rcvbuf: Some(16_384), sndbuf: Some(16_384), ..SocketSettings::default() },
        ..UdpOptions::new(Family::V4)
    };
    let socket = UdpSocket::bind(&options).unwrap();
    let socket = SockRef::from(&socket);
    assert_eq!(socket.recv_buffer_size().unwrap(), 2 * 16_384);
    assert_eq!(socket.send_buffer_size().unwrap(), 2 * 16_384);
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    let mut buf = [0; 64];
    for (family, any, asked) in [
        (Family::V4, "0.0.0.0:0", "127.0.0.2"),
        (Family::Any, "[::]:0", "127.0.0.3"),
        (Family::Any, "[::]:0", "::1"),
    ] {
        let options =
            UdpOptions { local: Some(any.parse().unwrap()), packet_info: true, ..UdpOptions::new(family) };
        let server = UdpSocket::bind(&options).unwrap();
        let asked: IpAddr = asked.parse().unwrap();
        let client = bind(Family::Any, if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
        let port = server.local_addr().unwrap().port();
        client.send_to(b"hello", SocketAddr::new(asked, port)).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        let got = loop {
            match server.recv_msg(&mut buf) {
                Ok(got) => break got,
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!((&buf[..got.len], got.local), (&b"hello"[..], Some(asked)));
        assert_eq!(got.remote, client.local_addr().unwrap());
        server.send_msg(b"answer", got.remote, got.local).unwrap();
        let (len, from) = recv(&client, &mut buf);
        assert_eq!((&buf[..len], from), (&b"answer"[..], SocketAddr::new(asked, port)));
    }
}

#[test]
fn a_clone_is_the_same_socket() {
    let socket = bind(Family::V4, "127.0.0.1:0");
    let other = socket.try_clone().unwrap();
    let peer = bind(Family::V4, "127.0.0.1:0");
    other.send_to(b"x", peer.local_addr().unwrap()).unwrap();
    assert_eq!(recv(&peer, &mut [0; 8]), (1, socket.local_addr().unwrap()));
}
