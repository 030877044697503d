//! Packets of the epoch format. Key schedules alone are checked beside the ratchet.

use core::net::{Ipv4Addr, SocketAddr};

use oxivpn_proto::config::cipher::DataCipher::{self, Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
use oxivpn_proto::config::params::DataFormat;
use oxivpn_proto::data::{HEADROOM, Slot, TAILROOM, Table};
use oxivpn_proto::keys::data_key::TlsRole;
use oxivpn_proto::wire::ids::{KeyId, PeerId};
use oxivpn_proto::{Directive, DropReason, Instant, Path, PeerRef};

use crate::data::{PING, counting_block, data_key, params, prf_block};

const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(0), generation: 1 };

struct Case {
    block: [u8; 256],
    cipher: DataCipher,
    id: u32,
    key: u8,
    packets: [&'static str; 2],
}

/// Packets with counter 1 of epochs 1 and 2, client to server, payload a ping.
fn cases() -> [Case; 4] {
    let counting = |cipher, packets| Case { block: counting_block(), cipher, id: 0x12_3456, key: 0, packets };
    [
        counting(
            Aes256Gcm,
            [
                "481234560001000000000001c2fe07b4542687fb92a265089da510f7aceecfd6e61ea03f500e6b7ea4762a56",
                "481234560002000000000001b2b1afbd0d32ea732be948cf8ca9d09aa2102a0abd4adf755451ac1f94581e9d",
            ],
        ),
        counting(
            Aes128Gcm,
            [
                "48123456000100000000000199adbeec51ccc1472c36aca86d5f3dda90c01e99d008c8b0273af131de1158db",
                "481234560002000000000001c99c0eb9f1829060677f9c2ce9968355f2002b5a41fe84b95aa897767a4d35e4",
            ],
        ),
        counting(
            ChaCha20Poly1305,
            [
                "4812345600010000000000018b29a9092b1b1b334d6325c85e3c6d19068d9055af2e1371d2c14d6d379c7413",
                "481234560002000000000001e2f7fb01ed9a8d935794f90cec43581d742b646bc91130a638cfb509435d4942",
            ],
        ),
        Case {
            block: prf_block(),
            cipher: Aes256Gcm,
            id: 5,
            key: 2,
            packets: [
                "4a0000050001000000000001b813a974a53049a42e595c7eab491b9d1cd7684e0ae997d6f9ad3932e3be0cde",
                "4a00000500020000000000015166a99cd0aa942a4f432e69d1cfdeb494f9be15dacb5fcc22cc5d3e1521a810",
            ],
        },
    ]
}

fn path() -> Path {
    Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 1194)))
}

fn table(case: &Case, role: TlsRole) -> Table {
    let mut table = Table::new();
    let (now, key) = (Instant::ZERO, KeyId::from_low_bits(case.key));
    let params = params(case.cipher, DataFormat::Epoch(PeerId::from_low_bits(case.id)));
    table.apply(now, Directive::AddPeer { peer: PEER, path: path(), params });
    table.apply(now, Directive::InstallKey { peer: PEER, key, data: data_key(case.block, role) });
    table.apply(now, Directive::PromoteKey { peer: PEER, key });
    table
}

fn seal(table: &mut Table, payload: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; HEADROOM + payload.len() + TAILROOM];
    buf[HEADROOM..HEADROOM + payload.len()].copy_from_slice(payload);
    let sealed = table.seal(Instant::ZERO, PEER, &mut Slot::new(&mut buf, HEADROOM, payload.len())).unwrap();
    buf[sealed.start..sealed.start + sealed.len].to_vec()
}

#[test]
fn first_epoch_is_bit_exact() {
    for (i, case) in cases().iter().enumerate() {
        assert_eq!(hex::encode(seal(&mut table(case, TlsRole::Client), &PING)), case.packets[0], "case {i}");
    }
}

#[test]
fn both_epochs_open_in_either_order() {
    for case in cases() {
        for order in [[0, 1], [1, 0]] {
            let mut server = table(&case, TlsRole::Server);
            for n in order {
                let mut packet = hex::decode(case.packets[n]).unwrap();
                server.open(Instant::ZERO, path(), &mut packet).unwrap();
                let mut again = hex::decode(case.packets[n]).unwrap();
                let replayed = server.open(Instant::ZERO, path(), &mut again).unwrap_err();
                assert_eq!(replayed, DropReason::DataReplay);
            }
        }
    }
}

#[test]
fn the_sender_follows_to_epoch_two() {
    for case in cases() {
        let mut server = table(&case, TlsRole::Server);
        assert_eq!(seal(&mut server, &PING)[4..12], [0, 1, 0, 0, 0, 0, 0, 1]);
        let mut packet = hex::decode(case.packets[1]).unwrap();
        server.open(Instant::ZERO, path(), &mut packet).unwrap();
        assert_eq!(seal(&mut server, &PING)[4..12], [0, 2, 0, 0, 0, 0, 0, 1]);
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    let case = &cases()[0];
    let good = hex::decode(case.packets[0]).unwrap();
    // The first byte and the peer-id choose key and peer; the tag covers them as well.
    for bit in 0..good.len() * 8 {
        let mut packet = good.clone();
        packet[bit / 8] ^= 1 << (bit % 8);
        assert!(table(case, TlsRole::Server).open(Instant::ZERO, path(), &mut packet).is_err(), "bit {bit}");
    }
}
