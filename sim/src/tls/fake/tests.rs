use oxivpn_proto::tls::{TlsPhase, TlsSession};
use zeroize::Zeroizing;

use super::*;
use crate::tls::tests::{Pair, UNIX, drained};
use crate::tls::{Authority, Kind, Stream};

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V12, TlsVersion::V13];

fn pair(version: TlsVersion, seed: u8) -> Pair {
    let authority = Authority::new(Kind::Fake, [5; 32]).with_version(version);
    Pair::new(&*authority.client("client1"), &*authority.server(), seed)
}

/// Splits what was sent into its records.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(header) = bytes.first_chunk::<5>() {
        let (record, rest) = bytes.split_at(5 + usize::from(u16::from_be_bytes([header[3], header[4]])));
        records.push(record.to_vec());
        bytes = rest;
    }
    records
}

/// Runs a handshake and a message each way with a man in the middle, who is given the number and the bytes of each
/// flight. Whether both ends were ready, and got what was sent.
fn tampered(version: TlsVersion, seed: u8, mut change: impl FnMut(usize, Vec<u8>) -> Vec<u8>) -> bool {
    let mut pair = pair(version, seed);
    let mut stream = Stream::new([seed; 32]);
    let mut sent = [false; 2];
    for number in 0..12 {
        let to_server = number % 2 == 0;
        let (from, to) = match to_server {
            true => (&mut pair.client, &mut pair.server),
            false => (&mut pair.server, &mut pair.client),
        };
        if from.phase() == TlsPhase::Ready && !sent[number % 2] {
            sent[number % 2] = true;
            from.write_record(b"message").unwrap();
        }
        let flight = change(number, drained(from.as_mut()));
        // A failure shows in the phase.
        let _ = stream.enter(|| to.feed(&flight));
    }
    let got = [&mut pair.client, &mut pair.server].map(|end| {
        let mut got = Zeroizing::new(Vec::new());
        while end.read_record(&mut got) {}
        got
    });
    assert!(got.iter().all(|got| got.is_empty() || got.as_slice() == b"message"), "never anything else");
    pair.phases() == [TlsPhase::Ready; 2] && got.iter().all(|got| !got.is_empty())
}

#[test]
fn each_flipped_bit_is_fatal() {
    for version in VERSIONS {
        let mut lengths = Vec::new();
        assert!(tampered(version, 1, |_, flight| {
            lengths.push(flight.len());
            flight
        }));
        assert!(lengths.iter().sum::<usize>() > 2000, "{lengths:?}");
        for (number, len) in lengths.into_iter().enumerate() {
            for at in 0..len {
                let bit = 1 << ((at + number) % 8);
                let survived = tampered(version, 1, |n, mut flight| {
                    if n == number {
                        flight[at] ^= bit;
                    }
                    flight
                });
                assert!(!survived, "{version:?}: flight {number}, byte {at}, bit {bit}");
            }
        }
    }
}

/// Changes the record with this number.
type Change = fn(&mut Vec<Vec<u8>>, usize);

#[test]
fn missing_repeated_and_swapped_records_are_fatal() {
    let changes: [Change; 3] = [
        |records, at| drop(records.remove(at)),
        |records, at| records.insert(at, records[at].clone()),
        |records, at| {
            let other = (at + 1) % records.len();
            records.swap(at, other);
        },
    ];
    for version in VERSIONS {
        let mut counts = Vec::new();
        tampered(version, 2, |_, flight| {
            counts.push(records(&flight).len());
            flight
        });
        for (number, count) in counts.into_iter().enumerate() {
            for (n, change) in changes.iter().enumerate() {
                for at in (0..count).filter(|_| n < 2 || count > 1) {
                    let survived = tampered(version, 2, |this, flight| {
                        let mut records = records(&flight);
                        if this == number {
                            change(&mut records, at);
                        }
                        records.concat()
                    });
                    assert!(!survived, "{version:?}: flight {number}, record {at}, change {n}");
                }
            }
        }
    }
}

#[test]
fn records_are_cut_anywhere() {
    let lengths: Vec<usize> = (0..20)
        .flat_map(|seed| {
            let mut pair = pair(TlsVersion::V13, seed);
            pair.run(1000);
            records(&pair.flights.concat())
        })
        .map(|record| record.len())
        .collect();
    for part in [0..100, 100..500, 500..1000, 1000..1500] {
        assert!(lengths.iter().any(|len| part.contains(len)), "{part:?} in {lengths:?}");
    }
    assert!(tampered(TlsVersion::V13, 1, |_, flight| {
        // Other borders between plain records make no difference, as in TLS.
        let records = records(&flight);
        match records.first() {
            Some(first) if first[0] == records::HANDSHAKE && records.len() == 1 && first.len() > 50 => {
                let (a, b) = first[5..].split_at(3);
                let mut out = Vec::new();
                records::plain(records::HANDSHAKE, a, &mut out);
                records::plain(records::HANDSHAKE, b, &mut out);
                out
            }
            _ => flight,
        }
    }));
}

#[test]
fn without_the_secret_of_the_world_nobody_gets_in() {
    for version in VERSIONS {
        let [world, other] =
            [[5; 32], [6; 32]].map(|secret| Authority::new(Kind::Fake, secret).with_version(version));
        let mut pair = Pair::new(&*other.client("client1"), &*world.server(), 1);
        assert!(pair.run(500).iter().any(Option::is_some));
        assert_eq!(pair.phases(), [TlsPhase::Closed; 2]);
        assert_eq!((pair.client.peer(), pair.server.peer()), (None, None));
    }
}

#[test]
fn what_one_handshake_said_is_no_use_in_another() {
    for version in VERSIONS {
        let mut old = Vec::new();
        assert!(tampered(version, 1, |_, flight| {
            old.push(flight.clone());
            flight
        }));
        // A whole client, repeated: the server says another random.
        let survived = tampered(version, 2, |number, flight| match number % 2 {
            0 => old[number].clone(),
            _ => flight,
        });
        assert!(!survived, "{version:?}");
    }
}

#[test]
fn an_end_is_told() {
    let authority = Authority::new(Kind::Fake, [5; 32]);
    let mut pair = Pair::new(&*authority.client("client1"), &*authority.server(), 1);
    assert_eq!(pair.run(500), [None, None]);
    // The same client once more, to be closed by hand.
    let (identity, seed) = (certs::identity(Root::Own, super::super::CertRole::Client, "client1"), [5; 32]);
    let FakeFactory(setup) = FakeFactory::new(&seed, &identity, Root::Own, TlsVersion::V13);
    let (mut client, mut server) = Stream::new([1; 32]).enter(|| {
        let client = Session::client(setup, UNIX);
        (client, authority.server().server(UNIX).unwrap())
    });
    Stream::new([2; 32]).enter(|| {
        for _ in 0..2 {
            server.feed(&drained(&mut client)).unwrap();
            client.feed(&drained(server.as_mut())).unwrap();
        }
    });
    assert_eq!([client.phase(), server.phase()], [TlsPhase::Ready; 2]);
    client.close();
    server.feed(&drained(&mut client)).unwrap();
    assert_eq!(server.phase(), TlsPhase::Closed);
    assert!(server.write_record(b"more").is_err());
    server.feed(b"what comes after the end is let pass").unwrap();
}

#[test]
fn rubbish_is_refused_and_never_kept() {
    let long = [22, 3, 3, 0x41, 1];
    let message = [22, 3, 3, 0, 4, 1, 0xff, 0xff, 0xff];
    for bytes in
        [&b"HTTP/1.1 400 Bad Request\r\n"[..], &long, &message, &[23, 3, 3, 0, 1, 0], &[22, 3, 3, 0, 0]]
    {
        let mut server = pair(TlsVersion::V13, 1).server;
        let failure = server.feed(bytes).unwrap_err();
        assert_eq!(server.phase(), TlsPhase::Closed, "{bytes:?}");
        assert_eq!(server.feed(b"more").unwrap_err(), failure, "a failure stays");
        assert_eq!(drained(server.as_mut())[0], records::ALERT);
    }
    let mut pair = pair(TlsVersion::V13, 1);
    assert_eq!(pair.run(500), [None, None]);
    for _ in 0..64 {
        pair.client.write_record(b"x").unwrap();
        pair.carry(true, 100).unwrap();
    }
    pair.client.write_record(b"x").unwrap();
    assert!(pair.carry(true, 100).is_err(), "unread records are bounded");
}
