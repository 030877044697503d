//! Key method 2 messages and the keys that follow from them by the PRF.

use oxivpn_proto::keys::method2::{ClientMessage, ClientSource, ServerMessage, ServerSource};
use oxivpn_proto::keys::prf;
use oxivpn_proto::wire::ids::SessionId;
use zeroize::Zeroizing;

const CLIENT_SESSION: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const SERVER_SESSION: [u8; 8] = [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];

fn counting<const N: usize>(from: u8) -> Zeroizing<[u8; N]> {
    Zeroizing::new(core::array::from_fn(|i| from + i as u8))
}

fn client() -> ClientSource {
    ClientSource { pre_master: counting(0), random1: counting(0x30), random2: counting(0x50) }
}

fn server() -> ServerSource {
    ServerSource { random1: counting(0x70), random2: counting(0x90) }
}

const KEY2: &str = "5083f6ce6e319037168e5cd5d21f9a5b31d696e2dc7a161dadeaaefbeb518fa8\
                    3eecc95720370c24cb12b7fb59ee817823acff1574d4d32eea6a05316d67ebd5\
                    0d7b8256afc6bd7c9b347fe0e2aa3e1a791aad6dfbb6ee75a6484eb78b798cb5\
                    c383948924112562be8a44a227b2b80341847f01a4d3ff7691fde8d8294bdaa1\
                    d5a3f0b6cd9db39463fabc4ef744e2189b5572846bc2e41e4e56084f431f5715\
                    c3625110ac120f5e3e510402aa91ff8df4608c960f818dc77775b6f0f9600181\
                    022922cf7165ecc97a24ae492ee2b79d2de9e752aeb1d0411a402131078b2b85\
                    a176e9e0f9533aeaf3938ad18cb4c934ac4b65a9eb6ea0cf5359593b2914edbd";

#[test]
fn prf_gives_the_master_secret_and_the_key_block() {
    let mut master = [0; 48];
    let seeds: [&[u8]; 2] = [&*counting::<32>(0x30), &*counting::<32>(0x70)];
    prf::prf(&*counting::<48>(0), b"OpenVPN master secret", &seeds, &mut master);
    assert_eq!(
        hex::encode(master),
        "229883ac5358fb9089fb5833c52bceac5f3a5e821e5b61ff489c250ed342fafb\
         f9103f3999f2115fd917576ce0e1b7c5"
    );
    let sessions = [CLIENT_SESSION, SERVER_SESSION].map(|id| SessionId::new(id).unwrap());
    let block = prf::derive_block(&client(), &server(), sessions[0], sessions[1]);
    assert_eq!(hex::encode(*block), KEY2);
}

const CLIENT_MESSAGE: &str = "\
    0000000002000102030405060708090a0b0c0d0e0f101112131415161718191a\
    1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a\
    3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a\
    5b5c5d5e5f606162636465666768696a6b6c6d6e6f006556342c6465762d7479\
    70652074756e2c6c696e6b2d6d747520313534312c74756e2d6d747520313530\
    302c70726f746f2055445076342c6175746820534841312c6b657973697a6520\
    3132382c6b65792d6d6574686f6420322c746c732d636c69656e74000006616c\
    69636500000773656372657400003e49565f5645523d322e362e300a49565f50\
    524f544f3d3939300a49565f434950484552533d4145532d3235362d47434d3a\
    4145532d3132382d47434d0a00";

const OPTIONS: &str =
    "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,key-method 2,tls-";

#[test]
fn client_message_is_emitted_to_the_bit() {
    let message = ClientMessage {
        source: &client(),
        options: &format!("{OPTIONS}client"),
        login: Some(("alice", "secret")),
        peer_info: "IV_VER=2.6.0\nIV_PROTO=990\nIV_CIPHERS=AES-256-GCM:AES-128-GCM\n",
    };
    assert_eq!(hex::encode(&*message.emit().unwrap()), CLIENT_MESSAGE);
}

const SERVER_MESSAGE: &str = "\
    0000000002707172737475767778797a7b7c7d7e7f808182838485868788898a\
    8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aa\
    abacadaeaf006556342c6465762d747970652074756e2c6c696e6b2d6d747520\
    313534312c74756e2d6d747520313530302c70726f746f2055445076342c6175\
    746820534841312c6b657973697a65203132382c6b65792d6d6574686f642032\
    2c746c732d73657276657200000000000000";

#[test]
fn server_message_is_read() {
    let message = ServerMessage::parse(&hex::decode(SERVER_MESSAGE).unwrap()).unwrap();
    assert_eq!(*message.source.random1, *counting::<32>(0x70));
    assert_eq!(*message.source.random2, *counting::<32>(0x90));
    assert_eq!(message.options, format!("{OPTIONS}server"));
    assert_eq!(message.peer_info, "");
}
