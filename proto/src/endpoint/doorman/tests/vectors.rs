//! Packets of an independent implementation, and what they cost.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

/// A first packet as a stock server takes it, and the answer to it under the session id 1112131415161718.
struct Exchange {
    wrap: WrapConfig,
    v2: Option<TlsCryptV2>,
    packet: Vec<u8>,
    answer: Vec<u8>,
}

fn exchanges() -> Vec<Exchange> {
    let v3 = "5001020304050607080f00000166000000a3665341dbc38392e5a1ac59f121de8051c7e203b336984b408e27208690ae352\
              356901d57";
    vec![
        Exchange {
            wrap: WrapConfig::None,
            v2: None,
            packet: bytes("3801020304050607080000000000"),
            answer: bytes("4011121314151617180100000000010203040506070800000000"),
        },
        Exchange {
            wrap: tls_auth(KeyDirection::Normal),
            v2: None,
            packet: bytes(
                "380102030405060708aff471c9b26d2bea9b8e02196fe5c71bdf69cedd00000001660000000000000000",
            ),
            answer: bytes(
                "401112131415161718159c65599cb4a548159b6f1d051b39ba5afd53bb00000001660000000100000000010203040506070\
                 800000000",
            ),
        },
        Exchange {
            wrap: WrapConfig::TlsCrypt { key: key() },
            v2: None,
            packet: bytes(
                "3801020304050607080000000166000000aadc0b992fb70a7ead903acc7bd1fbcfb7faa18ece91cb208fd3209c82051eaa5\
                 c6bd3d750",
            ),
            answer: bytes(
                "401112131415161718000000016600000073262ef562d9782028c17b603e048c8baf6df5f4df56cfd8b9cffcfcf748f309c\
                 1ef36e45188e743e9458930a26f5b4a7b",
            ),
        },
        Exchange {
            wrap: WrapConfig::None,
            v2: Some(v2()),
            packet: [bytes(v3), wrapped(&DATED)].concat(),
            answer: bytes(
                "40111213141516171800000001660000009738b64402227617b6a54c203667a33ad98420706487db97aee74f2925f500b38\
                 6adf2930fbbd3725e0315a7e3ddca6924892b677b0633",
            ),
        },
    ]
}

#[test]
fn answers_agree_with_the_reference_vectors() {
    for Exchange { wrap, v2, packet, answer } in exchanges() {
        let doorman = doorman(wrap, v2.as_ref());
        let mut datagram = packet.clone();
        let entrant = doorman.gate.open(UNIX, &mut datagram).unwrap();
        assert_eq!(entrant.verified().session().as_bytes(), &CLIENT);
        let (mut early, mut body, mut out) = (Vec::new(), Vec::new(), Vec::new());
        EarlyNegotiation { resend_wkc: entrant.resends_key() }.emit(&mut early);
        ControlBody { payload: &early, ..plain_body(&[0], SessionId::new(CLIENT), Some(0)) }.emit(&mut body);
        let session = SessionId::new([0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]).unwrap();
        entrant.answer(UNIX.as_secs() as u32, 0x40, session, &body, &mut out);
        assert_eq!(hex::encode(out), hex::encode(answer));
    }
}

#[test]
fn an_answer_is_at_most_twelve_bytes_longer_than_what_caused_it() {
    let mut sizes = Vec::new();
    for Exchange { wrap, v2, packet, answer } in exchanges() {
        let mut doorman = doorman(wrap, v2.as_ref());
        let reply = knock(&mut doorman, NOW, udp(1), &packet).reply();
        assert_eq!(reply.len(), answer.len());
        sizes.push((packet.len(), reply.len()));
    }
    assert_eq!(sizes, [(14, 26), (42, 54), (54, 66), (353, 72)]);
    for digest in [HmacDigest::Sha224, HmacDigest::Sha256, HmacDigest::Sha384, HmacDigest::Sha512] {
        let config = WrapConfig::TlsAuth { key: key(), direction: KeyDirection::Bidirectional, digest };
        let reset = Client::new(&config).reset();
        let reply = knock(&mut doorman(config, None), NOW, udp(1), &reset).reply();
        assert_eq!(reply.len(), reset.len() + 12, "{digest:?}");
    }
    let smallest = Client::new(&WrapConfig::TlsCryptV2 { key: client_file(b"") }).reset();
    let reply = knock(&mut doorman(WrapConfig::None, Some(&v2())), NOW, udp(1), &smallest).reply();
    assert_eq!((smallest.len(), reply.len()), (344, 72));
}
