//! What a server's session does with what no client of good will sends, at each stage.

use super::server::{accept, meet, server_options};
use super::*;
use crate::limits::MAX_SENT_CERTS;

const BOTH: [TlsVersion; 2] = [TlsVersion::V12, TlsVersion::V13];

/// How far the client's bytes have come in when the attack begins.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Start,
    /// The server has sent its flight.
    Hello,
    Ready,
    Settled,
}

const STAGES: [Stage; 4] = [Stage::Start, Stage::Hello, Stage::Ready, Stage::Settled];

/// Both ends at `stage`.
fn at(stage: Stage, version: TlsVersion) -> (Box<dyn TlsSession>, Box<dyn TlsSession>) {
    let mut client = client(with_identity(options(&["ca"]), "client-p256"));
    let mut server = accept(server_options("server", version));
    match stage {
        Stage::Start => {}
        Stage::Hello => {
            server.feed(&drained(client.as_mut())).unwrap();
            client.feed(&drained(server.as_mut())).unwrap();
        }
        Stage::Ready | Stage::Settled => {
            assert_eq!(meet(client.as_mut(), server.as_mut(), 1000), (Ok(()), Ok(())));
        }
    }
    if matches!(stage, Stage::Settled) {
        server.settle();
        assert_eq!(server.phase(), TlsPhase::Ready);
    }
    (client, server)
}

/// Whether the server ended with a failure that stays, has said at most an alert, and holds no more.
fn ended(server: &mut dyn TlsSession, case: &str) {
    assert_eq!(server.phase(), TlsPhase::Closed, "{case}");
    assert!(drained(server).len() <= 64, "{case}: more than an alert");
    let failure = server.feed(b"more").unwrap_err();
    assert_eq!(server.write_record(b"x").unwrap_err(), failure, "{case}");
    assert_eq!(server.peer(), None, "{case}");
}

#[test]
fn rubbish_ends_the_session_at_every_stage() {
    let long = [&[23, 3, 3, 0x49, 1][..], &[0; 300]].concat();
    let cases: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 100],
        &[0xff; 100],
        &[22, 3, 3, 0xff, 0xff],
        &[23, 3, 3, 0, 0],
        &[20, 3, 3, 0, 1, 2],
        &[24, 3, 3, 0, 3, 1, 0x40, 0],
        &[22, 3, 3, 0, 4, 14, 0, 0, 0],
        &long,
    ];
    for version in BOTH {
        for stage in STAGES {
            for bytes in cases {
                let (_, mut server) = at(stage, version);
                let case = format!("{version:?} {stage:?} {bytes:?}");
                let result = bytes.chunks(7).try_for_each(|piece| server.feed(piece));
                assert!(result.is_err(), "{case}");
                drained(server.as_mut());
                ended(server.as_mut(), &case);
            }
        }
    }
}

#[test]
fn a_settled_session_goes_on() {
    for version in BOTH {
        let (mut client, mut server) = at(Stage::Settled, version);
        assert_eq!((server.peer(), server.description()), (None, None));
        assert_eq!(server.export("EXPORTER-x", &mut [0; 16]).unwrap_err().kind, TlsFailureKind::Local);
        server.settle();
        for message in [&b"AUTH_FAILED\0"[..], &[1; 2048]] {
            server.write_record(message).unwrap();
            client.feed(&drained(server.as_mut())).unwrap();
            let mut got = Zeroizing::new(Vec::new());
            assert!(client.read_record(&mut got));
            client.write_record(&got).unwrap();
            got.clear();
            drained(client.as_mut()).chunks(3).for_each(|piece| server.feed(piece).unwrap());
            assert!(server.read_record(&mut got));
            assert_eq!(got.as_slice(), message);
        }
        assert!(server.write_record(&[0; 2049]).is_err());
        for _ in 0..64 {
            client.write_record(b"x").unwrap();
        }
        server.feed(&drained(client.as_mut())).unwrap();
        client.write_record(b"x").unwrap();
        let failure = server.feed(&drained(client.as_mut())).unwrap_err();
        assert!(failure.message.contains("faster than it may"), "{failure}");
    }
}

#[test]
fn a_session_does_not_settle_before_its_time() {
    for version in BOTH {
        for stage in [Stage::Start, Stage::Hello] {
            let (mut client, mut server) = at(stage, version);
            server.settle();
            assert_eq!(meet(client.as_mut(), server.as_mut(), 1000), (Ok(()), Ok(())));
            assert!(server.peer().is_some() && server.description().is_some());
        }
        let (mut client, mut server) = at(Stage::Ready, version);
        client.settle();
        assert!(client.peer().is_some(), "a client's session stays whole");
        server.feed(b"rubbish").unwrap_err();
        server.settle();
        assert_eq!(server.phase(), TlsPhase::Closed);
    }
}

#[test]
fn an_altered_flight_never_makes_a_session() {
    for version in BOTH {
        for stage in [Stage::Start, Stage::Hello] {
            let (mut client, _) = at(stage, version);
            let len = drained(client.as_mut()).len();
            let mut failed = 0;
            for at_byte in (0..len).step_by(if matches!(stage, Stage::Start) { 3 } else { 19 }) {
                let (mut client, mut server) = at(stage, version);
                let mut flight = drained(client.as_mut());
                // Signatures differ in length by a byte or two.
                let Some(byte) = flight.get_mut(at_byte) else { break };
                *byte ^= 0x41;
                let case = format!("{version:?} {stage:?} byte {at_byte}");
                match server.feed(&flight) {
                    Err(_) => {
                        drained(server.as_mut());
                        ended(server.as_mut(), &case);
                        failed += 1;
                    }
                    // Random values, or a length that makes the server wait for more. The end of the handshake
                    // shows the change.
                    Ok(()) => {
                        let (at_client, at_server) = meet(client.as_mut(), server.as_mut(), 1000);
                        let done = at_client.is_ok() && at_server.is_ok();
                        assert!(!done || server.phase() == TlsPhase::Handshaking, "{case}");
                        assert_eq!(server.peer(), None, "{case}");
                    }
                }
            }
            assert!(failed > 5, "{version:?} {stage:?}: {failed}");
        }
    }
}

#[test]
fn a_flight_cut_short_waits() {
    for version in BOTH {
        for stage in [Stage::Start, Stage::Hello] {
            let (mut client, mut server) = at(stage, version);
            let flight = drained(client.as_mut());
            for byte in &flight[..flight.len() - 1] {
                server.feed(&[*byte]).unwrap();
                assert_eq!((server.phase(), server.peer()), (TlsPhase::Handshaking, None));
            }
            server.feed(&flight[flight.len() - 1..]).unwrap();
            assert_eq!(meet(client.as_mut(), server.as_mut(), 1000), (Ok(()), Ok(())));
        }
    }
}

/// Feeds `next(i)` until the session refuses; fails if it takes more than `most` bytes.
fn refused_within(server: &mut dyn TlsSession, most: usize, next: impl Fn(usize) -> Vec<u8>) {
    let mut taken = 0;
    for i in 0.. {
        let bytes = next(i);
        if server.feed(&bytes).is_err() {
            return;
        }
        taken += bytes.len();
        assert!(taken <= most, "{taken} bytes taken");
    }
}

#[test]
fn endless_handshakes_are_bounded() {
    // A ClientHello that says it has 16 MiB, in full records; and one that comes byte by byte.
    let huge = |i| match i {
        0 => [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &vec![0; 16380]].concat(),
        _ => [&[22, 3, 3, 0x40, 0][..], &vec![0; 16384]].concat(),
    };
    refused_within(accept(server_options("server", TlsVersion::V13)).as_mut(), 100_000, huge);
    let slow = |i| vec![22, 3, 3, 0, 1, if i == 0 { 1 } else { 0xff }];
    refused_within(accept(server_options("server", TlsVersion::V13)).as_mut(), 500_000, slow);
    for record in [&[22, 3, 3, 0, 0][..], &[21, 3, 3, 0, 2, 1, 90], &[20, 3, 3, 0, 1, 1]] {
        for stage in [Stage::Start, Stage::Hello] {
            for version in BOTH {
                let (_, mut server) = at(stage, version);
                refused_within(server.as_mut(), 1000, |_| record.to_vec());
            }
        }
    }
}

#[test]
fn a_long_chain_is_refused() {
    for version in BOTH {
        for extra in [MAX_SENT_CERTS, MAX_SENT_CERTS + 1, 300] {
            let mut ours = with_identity(options(&["ca"]), "client-p256");
            ours.certs.extend((0..extra).map(|_| cert("sub")));
            let mut client = client(ours);
            let mut server = accept(server_options("server", version));
            let (at_client, at_server) = meet(client.as_mut(), server.as_mut(), 1000);
            if extra == MAX_SENT_CERTS {
                assert_eq!((at_client, at_server), (Ok(()), Ok(())));
                continue;
            }
            // A handshake message of over 64 KiB is not even read.
            let failure = at_server.unwrap_err();
            if extra < 100 {
                assert_eq!(at_client.unwrap_err().kind, TlsFailureKind::Alert);
                assert!(failure.message.contains("sent 34 certificates, at most 33"), "{failure}");
            }
        }
    }
}

#[test]
fn a_hello_again_is_refused() {
    // In clear after the handshake, which no peer may do; encrypted, see `records`.
    for version in BOTH {
        let hello = drained(client(options(&["ca"])).as_mut());
        for stage in [Stage::Hello, Stage::Ready, Stage::Settled] {
            let (_, mut server) = at(stage, version);
            server.feed(&hello).unwrap_err();
            drained(server.as_mut());
            ended(server.as_mut(), &format!("{version:?} {stage:?}"));
        }
    }
}
