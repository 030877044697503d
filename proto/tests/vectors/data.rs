//! Classic AEAD packets: tag in front, 32-bit packet id.

use core::net::{Ipv4Addr, SocketAddr};

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::data::{HEADROOM, Payload, RecvKey, Slot, TAILROOM, Table};
use oxivpn_proto::keys::data_key::{DataKey, KeyLimits, TlsRole};
use oxivpn_proto::wire::ids::{KeyId, PeerId};
use oxivpn_proto::{Directive, DropReason, Instant, Path, PeerRef};
use zeroize::Zeroizing;

pub(crate) const PING: [u8; 16] =
    [0x2a, 0x18, 0x7b, 0xf3, 0x64, 0x1e, 0xb4, 0xcb, 0x07, 0xed, 0x2d, 0x0a, 0x98, 0x1f, 0xc7, 0x48];
const IP28: &str = "4500001c000140004001264e0a0900010a0900020800f7fd00010001";

/// The key block that the "PRF data keys" vector of the control channel derives.
pub(crate) const PRF_BLOCK: &str = concat!(
    "5083f6ce6e319037168e5cd5d21f9a5b31d696e2dc7a161dadeaaefbeb518fa8",
    "3eecc95720370c24cb12b7fb59ee817823acff1574d4d32eea6a05316d67ebd5",
    "0d7b8256afc6bd7c9b347fe0e2aa3e1a791aad6dfbb6ee75a6484eb78b798cb5",
    "c383948924112562be8a44a227b2b80341847f01a4d3ff7691fde8d8294bdaa1",
    "d5a3f0b6cd9db39463fabc4ef744e2189b5572846bc2e41e4e56084f431f5715",
    "c3625110ac120f5e3e510402aa91ff8df4608c960f818dc77775b6f0f9600181",
    "022922cf7165ecc97a24ae492ee2b79d2de9e752aeb1d0411a402131078b2b85",
    "a176e9e0f9533aeaf3938ad18cb4c934ac4b65a9eb6ea0cf5359593b2914edbd",
);

pub(crate) fn counting_block() -> [u8; 256] {
    core::array::from_fn(|i| i as u8)
}

pub(crate) fn prf_block() -> [u8; 256] {
    hex::decode(PRF_BLOCK).unwrap().try_into().unwrap()
}

pub(crate) fn params(cipher: DataCipher, format: DataFormat) -> DataParams {
    DataParams::new(cipher, format)
}

pub(crate) fn data_key(block: [u8; 256], role: TlsRole) -> DataKey {
    DataKey::new(Zeroizing::new(block), role, KeyLimits::default())
}

struct Case {
    block: [u8; 256],
    cipher: DataCipher,
    format: DataFormat,
    key: u8,
    sender: TlsRole,
    id: u32,
    plain: Vec<u8>,
    packet: &'static str,
}

fn other(role: TlsRole) -> TlsRole {
    match role {
        TlsRole::Client => TlsRole::Server,
        TlsRole::Server => TlsRole::Client,
    }
}

fn receiver(case: &Case) -> RecvKey {
    let key = KeyId::from_low_bits(case.key);
    data_key(case.block, other(case.sender)).into_keys(key, &params(case.cipher, case.format)).1
}

fn header_len(case: &Case) -> usize {
    if case.format == DataFormat::V1 { 1 } else { 4 }
}

fn cases() -> Vec<Case> {
    use DataCipher::{Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
    let v2 = DataFormat::V2(PeerId::from_low_bits(0x12_3456));
    let ping = |cipher, format, packet| Case {
        block: counting_block(),
        cipher,
        format,
        key: 0,
        sender: TlsRole::Client,
        id: 1,
        plain: PING.to_vec(),
        packet,
    };
    let prf = |cipher, sender, packet| Case {
        block: prf_block(),
        cipher,
        format: DataFormat::V2(PeerId::from_low_bits(5)),
        key: 2,
        sender,
        id: 7,
        plain: PING.to_vec(),
        packet,
    };
    vec![
        ping(
            Aes256Gcm,
            v2,
            "4812345600000001766bd02ee7ed9b39b2e3e0e60832ce15e1d3004e0fa812021253797dec29cf6b",
        ),
        ping(
            Aes256Gcm,
            DataFormat::V1,
            "300000000121555309ee48f8dad080917adf916bbee1d3004e0fa812021253797dec29cf6b",
        ),
        ping(
            Aes128Gcm,
            v2,
            "4812345600000001025562e54bb335a123bd8cd0248dd6c2f81b8714b8cd8e5b853004a780a8bde5",
        ),
        ping(
            Aes128Gcm,
            DataFormat::V1,
            "300000000110438b3eeb8b95a32b00e79f37623d20f81b8714b8cd8e5b853004a780a8bde5",
        ),
        ping(
            ChaCha20Poly1305,
            v2,
            "4812345600000001632726f43c0ac9a2b735f65f7fa51536249c493797b2d7f5945bcaf9ded73aa2",
        ),
        ping(
            ChaCha20Poly1305,
            DataFormat::V1,
            "3000000001e8be951f1f69689d50689476f1492d80249c493797b2d7f5945bcaf9ded73aa2",
        ),
        Case {
            block: counting_block(),
            cipher: Aes256Gcm,
            format: DataFormat::V2(PeerId::from_low_bits(7)),
            key: 3,
            sender: TlsRole::Server,
            id: 0x0102_0304,
            plain: hex::decode(IP28).unwrap(),
            packet: "4b0000070102030405df9bf23aef22528f2ba1a729923bb7e09af6ede8aaed92dbc13d5a3ba9ec7080f5b41de80745360e4922cf",
        },
        prf(
            Aes256Gcm,
            TlsRole::Client,
            "4a00000500000007bc94bacf577412c8a0852a0f6226f7f5966610ff4229aed7fb1447845e586c9a",
        ),
        prf(
            ChaCha20Poly1305,
            TlsRole::Client,
            "4a0000050000000762667299de85a5374891ea0bc9dfe58c178b9d9e2a4f67f0722630ead6e2829e",
        ),
        prf(
            Aes256Gcm,
            TlsRole::Server,
            "4a00000500000007c708b689df9a7be946458f40bb8b6e48ff68a74984264f607d2765ec6587b5e6",
        ),
    ]
}

#[test]
fn sealed_packets_are_bit_exact() {
    for (i, case) in cases().iter().enumerate() {
        let keys = data_key(case.block, case.sender);
        let (send, _) = keys.into_keys(KeyId::from_low_bits(case.key), &params(case.cipher, case.format));
        let skipped = send.permit(case.id - 1).unwrap();
        drop(skipped);
        let mut buf = vec![0; HEADROOM + case.plain.len() + TAILROOM];
        buf[HEADROOM..HEADROOM + case.plain.len()].copy_from_slice(&case.plain);
        let mut slot = Slot::new(&mut buf, HEADROOM, case.plain.len());
        let range = send.permit(1).unwrap().seal(&mut slot).unwrap();
        assert_eq!(hex::encode(&buf[range]), case.packet, "case {i}");
    }
}

#[test]
fn packets_open_once() {
    for (i, case) in cases().iter().enumerate() {
        let mut key = receiver(case);
        let mut packet = hex::decode(case.packet).unwrap();
        let range = key.open(Instant::ZERO, header_len(case), &mut packet).unwrap();
        assert_eq!(packet[range], case.plain, "case {i}");
        let mut again = hex::decode(case.packet).unwrap();
        assert_eq!(
            key.open(Instant::ZERO, header_len(case), &mut again),
            Err(DropReason::DataReplay),
            "case {i}"
        );
    }
}

#[test]
fn any_flipped_bit_is_noticed_except_in_the_v1_header() {
    for (i, case) in cases().iter().enumerate() {
        let good = hex::decode(case.packet).unwrap();
        for bit in 0..good.len() * 8 {
            let mut packet = good.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            let opened = receiver(case).open(Instant::ZERO, header_len(case), &mut packet);
            if case.format == DataFormat::V1 && bit < 8 {
                assert!(opened.is_ok(), "case {i}, bit {bit}");
            } else {
                // A flip that makes the packet id 0 is already refused by the window.
                let zero =
                    case.id.count_ones() == 1 && packet[header_len(case)..header_len(case) + 4] == [0; 4];
                let expected = if zero { DropReason::DataReplay } else { DropReason::DataAuthentication };
                assert_eq!(opened, Err(expected), "case {i}, bit {bit}");
            }
        }
    }
}

#[test]
fn shorter_packets_are_malformed() {
    let case = &cases()[0];
    let good = hex::decode(case.packet).unwrap();
    for len in 0..=24 {
        let mut packet = good[..len].to_vec();
        assert_eq!(receiver(case).open(Instant::ZERO, 4, &mut packet), Err(DropReason::Malformed), "{len}");
    }
}

/// A V2 sender's peer reads V1 packets too, and the other way round.
#[test]
fn a_table_takes_both_headers() {
    let (peer, path) = (
        PeerRef { id: PeerId::from_low_bits(0), generation: 1 },
        Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 1194))),
    );
    for case in cases().iter().filter(|c| c.key == 0) {
        for format in [DataFormat::V1, DataFormat::V2(PeerId::from_low_bits(9))] {
            let mut table = Table::new();
            let now = Instant::ZERO;
            table.apply(now, Directive::AddPeer { peer, path, params: params(case.cipher, format) });
            let data = data_key(case.block, other(case.sender));
            table.apply(now, Directive::InstallKey { peer, key: KeyId::FIRST, data });
            let mut packet = hex::decode(case.packet).unwrap();
            let opened = table.open(now, path, &mut packet).unwrap();
            assert_eq!(opened.peer, peer);
            assert!(matches!(opened.payload, Payload::Handled));
        }
    }
}
