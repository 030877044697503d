use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::*;
use crate::SocketSettings;

fn connect(remote: SocketAddr, options: &TcpOptions) -> Result<TcpLink, crate::BindError> {
    let mut connecting = start_connect(remote, options)?;
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match connecting.finish()? {
            Progress::Connected(link) => return Ok(link),
            Progress::Pending(still) => connecting = still,
        }
        assert!(Instant::now() < end, "no connection to {remote}");
        std::thread::yield_now();
    }
}

fn pair(options: &TcpOptions) -> (TcpLink, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let link = connect(listener.local_addr().unwrap(), options).unwrap();
    let (peer, from) = listener.accept().unwrap();
    assert_eq!(from, link.local_addr().unwrap());
    assert_eq!(link.remote_addr(), listener.local_addr().unwrap());
    (link, peer)
}

#[test]
fn frames_arrive_with_their_length_in_front() {
    let (mut link, mut peer) = pair(&TcpOptions::default());
    for frame in [&b"a"[..], b"bcd", &[7; 300]] {
        link.write_frame(frame).unwrap();
    }
    assert_eq!(link.queued(), 1 + 3 + 300 + 3 * 2);
    assert_eq!(link.flush().unwrap(), Flush::Done);
    let mut wire = [0; 310];
    peer.read_exact(&mut wire).unwrap();
    let mut expected = b"\x00\x01a\x00\x03bcd\x01\x2c".to_vec();
    expected.extend([7; 300]);
    assert_eq!(wire[..], expected[..]);
}

#[test]
fn reads_give_bytes_then_would_block_then_the_end() {
    let (mut link, mut peer) = pair(&TcpOptions::default());
    let mut buf = [0; 16];
    assert_eq!(link.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    peer.write_all(b"\x00\x02hi").unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    let mut read = |link: &mut TcpLink| loop {
        match link.read(&mut buf) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::yield_now()
            }
            result => return buf[..result.unwrap()].to_vec(),
        }
    };
    assert_eq!(read(&mut link), b"\x00\x02hi");
    drop(peer);
    assert_eq!(read(&mut link), b"");
}

#[test]
fn a_slow_reader_fills_the_queue_and_no_frame_is_torn() {
    let options = TcpOptions {
        socket: SocketSettings { sndbuf: Some(4_096), ..SocketSettings::default() },
        queue_limit: 64 * 1024,
        ..TcpOptions::default()
    };
    let (mut link, mut peer) = pair(&options);
    let mut sent = 0u32;
    let mut frame = vec![0; 1_400];
    loop {
        frame[..4].copy_from_slice(&sent.to_be_bytes());
        match link.write_frame(&frame) {
            Ok(()) => sent += 1,
            Err(FrameError::Full) if link.flush().unwrap() == Flush::Blocked && !link.has_room(1_400) => {
                break;
            }
            Err(FrameError::Full) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(link.queued() <= 64 * 1024);
    let reader = std::thread::spawn(move || {
        for expected in 0..sent {
            let mut frame = [0; 1_402];
            peer.read_exact(&mut frame).unwrap();
            assert_eq!(frame[..2], 1_400u16.to_be_bytes());
            assert_eq!(frame[2..6], expected.to_be_bytes());
        }
        peer
    });
    while link.flush().unwrap() == Flush::Blocked {
        std::thread::yield_now();
    }
    drop(reader.join().unwrap());
    assert_eq!(link.queued(), 0);
}

#[test]
fn frames_without_a_writable_length_are_refused() {
    let (mut link, _peer) = pair(&TcpOptions { queue_limit: 16, ..TcpOptions::default() });
    assert_eq!(link.write_frame(b""), Err(FrameError::Length(0)));
    assert_eq!(link.write_frame(&vec![0; 65_536]), Err(FrameError::Length(65_536)));
    assert_eq!(link.queued(), 0);
    // The first frame always fits, or a limit below the packet size would stall the link for ever.
    link.write_frame(&[0; 100]).unwrap();
    assert_eq!(link.write_frame(b"x"), Err(FrameError::Full));
}

#[test]
fn a_refused_connection_says_who_refused() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = connect(closed, &TcpOptions::default()).unwrap_err();
    assert_eq!(error.io().kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&closed.to_string()), "{error}");
}

#[test]
fn a_connection_made_elsewhere_can_be_adopted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut link = TcpLink::try_from((listener.accept().unwrap().0, 1_024)).unwrap();
    link.write_frame(b"hello").unwrap();
    assert_eq!(link.flush().unwrap(), Flush::Done);
    let mut wire = [0; 7];
    peer.read_exact(&mut wire).unwrap();
    assert_eq!(&wire, b"\x00\x05hello");
}

fn accept(listener: &Listener) -> TcpLink {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match listener.accept() {
            Ok(link) => return link,
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_listener_takes_both_ip_versions_and_shows_ipv4_as_ipv4() {
    let listener = Listener::bind(&ListenOptions::new(crate::Family::Any)).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let port = listener.local_addr().unwrap().port();
    for ip in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(ip.parse().unwrap(), port);
        let mut far = TcpStream::connect(to).unwrap();
        let mut near = accept(&listener);
        assert_eq!(near.remote_addr(), far.local_addr().unwrap());
        near.write_frame(b"hi").unwrap();
        assert_eq!(near.flush().unwrap(), Flush::Done);
        let mut wire = [0; 4];
        far.read_exact(&mut wire).unwrap();
        assert_eq!(&wire, b"\x00\x02hi");
    }
}

#[test]
fn a_port_that_is_listened_on_is_named() {
    let options = ListenOptions {
        local: Some("127.0.0.1:0".parse().unwrap()),
        ..ListenOptions::new(crate::Family::V4)
    };
    let first = Listener::bind(&options).unwrap();
    let local = first.local_addr().unwrap();
    let error = Listener::bind(&ListenOptions { local: Some(local), ..options }).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&local.to_string()) && text.contains("another socket has this port"), "{text}");
}

/// `frame` with its length in front.
fn framed(frame: &[u8]) -> Vec<u8> {
    [&u16::try_from(frame.len()).unwrap().to_be_bytes()[..], frame].concat()
}

#[test]
fn ready_frames_leave_at_once_behind_what_was_queued() {
    let (mut link, mut peer) = pair(&TcpOptions::default());
    let frames = [framed(b"one"), framed(&[2; 500])].concat();
    assert_eq!(link.write_frames(&frames).unwrap(), frames.len());
    assert_eq!(link.queued(), 0);
    link.write_frame(b"queued").unwrap();
    assert_eq!(link.write_frames(&frames).unwrap(), frames.len());
    assert_eq!(link.queued(), 0);
    assert_eq!(link.write_frames(&[]).unwrap(), 0);
    let expected = [&frames[..], &framed(b"queued"), &frames].concat();
    let mut wire = vec![0; expected.len()];
    peer.read_exact(&mut wire).unwrap();
    assert_eq!(wire, expected);
}

#[test]
fn ready_frames_pass_a_tiny_buffer_whole_and_in_order() {
    let socket = SocketSettings { sndbuf: Some(4_096), ..SocketSettings::default() };
    let (mut link, mut peer) = pair(&TcpOptions { socket, queue_limit: 64 * 1024, ..TcpOptions::default() });
    // Batches of frames of many sizes, each frame filled with its number.
    let mut batches = Vec::new();
    for number in 0..600usize {
        let frame = vec![number as u8; 1 + number * 37 % 3_000];
        if number % 7 == 0 {
            batches.push(Vec::new());
        }
        batches.last_mut().unwrap().extend(framed(&frame));
    }
    let stream = batches.concat();
    let (full, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        // Nobody reads before the link is full.
        told.recv().unwrap();
        let mut wire = Vec::new();
        peer.read_to_end(&mut wire).unwrap();
        wire
    });
    let mut refused = 0;
    for (number, batch) in batches.iter().enumerate() {
        loop {
            let queued = link.queued();
            match link.write_frames(batch) {
                Ok(taken) => {
                    assert_eq!(taken, batch.len());
                    assert!(link.queued() <= 64 * 1024);
                    break;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "batch {number}");
                    assert!(link.queued() <= queued && !link.has_room(batch.len()));
                    refused += 1;
                    let _ = full.send(());
                    std::thread::yield_now();
                }
            }
        }
    }
    assert!(refused > 0, "the link was never full");
    while link.flush().unwrap() == Flush::Blocked {
        std::thread::yield_now();
    }
    drop(link);
    assert!(reader.join().unwrap() == stream, "the stream was torn");
}

#[test]
fn ready_frames_tell_of_a_peer_that_is_gone() {
    let (mut link, peer) = pair(&TcpOptions::default());
    link.write_frames(&framed(b"unread")).unwrap();
    drop(peer);
    let end = Instant::now() + Duration::from_secs(5);
    while link.write_frames(&framed(b"x")).is_ok() {
        assert!(Instant::now() < end, "no error");
        std::thread::yield_now();
    }
}
