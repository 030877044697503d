//! Arbitrary datagrams against a table with peers of every kind: none may authenticate, each is counted.

use core::net::{Ipv4Addr, SocketAddr};

use zeroize::Zeroizing;

use crate::clock::Instant;
use crate::config::cipher::DataCipher;
use crate::config::params::{DataFormat, DataParams, Framing};
use crate::data::Table;
use crate::directive::{Directive, PeerRef};
use crate::drops::DropReason;
use crate::keys::data_key::{DataKey, KeyLimits, TlsRole};
use crate::path::{Path, StreamId};
use crate::wire::ids::{KeyId, PeerId};

const PEERS: [(DataFormat, bool, bool); 5] = [
    (DataFormat::V1, false, false),
    (DataFormat::V2(PeerId::from_low_bits(1)), false, true),
    (DataFormat::V2(PeerId::from_low_bits(2)), true, false),
    (DataFormat::Epoch(PeerId::from_low_bits(3)), false, true),
    (DataFormat::Epoch(PeerId::from_low_bits(4)), true, true),
];

/// Chunks: length byte with the path in its upper bits, then the datagram.
pub fn run(mut data: &[u8]) {
    let mut table = table();
    let mut sent = 0;
    while let Some((&head, rest)) = data.split_first() {
        let len = usize::from(head & 0x3f).min(rest.len());
        let (datagram, rest) = rest.split_at(len);
        data = rest;
        let mut datagram = datagram.to_vec();
        let result = table.open(Instant::ZERO, path(usize::from(head >> 6)), &mut datagram);
        assert!(result.is_err(), "a datagram that nobody sealed was accepted");
        sent += 1;
    }
    let counted: u64 = DropReason::ALL.iter().map(|&r| table.drops().get(r)).sum();
    assert_eq!(counted, sent);
    assert_eq!(table.poll_report(), None);
}

fn path(n: usize) -> Path {
    match n {
        4 => Path::Stream(StreamId(4)),
        n => Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + n as u16))),
    }
}

fn table() -> Table {
    let mut table = Table::new();
    for (i, (format, by_path, float)) in PEERS.into_iter().enumerate() {
        let peer = PeerRef { id: PeerId::from_low_bits(i as u32), generation: 1 };
        let (cipher, framing) = (DataCipher::ALL[i % 4], Framing::ALL[i % 4]);
        let params = DataParams { framing, by_path, float, ..DataParams::new(cipher, format) };
        table.apply(Instant::ZERO, Directive::AddPeer { peer, path: path(i), params });
        for key in 0..3 {
            let block = Zeroizing::new([key ^ i as u8; 256]);
            let data = DataKey::new(block, TlsRole::Server, KeyLimits::default());
            let key = KeyId::from_low_bits(key);
            table.apply(Instant::ZERO, Directive::InstallKey { peer, key, data });
        }
    }
    table
}
