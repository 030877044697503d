//! Control packets under every protection, wrapped client keys, dynamic tls-crypt.

mod packets;

use std::sync::Arc;

use base64::Engine;
use oxivpn_proto::config::params::ReplayWindow;
use oxivpn_proto::keys::data_key::TlsRole;
use oxivpn_proto::wire::ack::AckList;
use oxivpn_proto::wire::control::{ControlBody, EarlyNegotiation};
use oxivpn_proto::wire::ids::{KeyId, MessageId, SessionId};
use oxivpn_proto::wire::opcode::Opcode;
use oxivpn_proto::wrap::static_key::{HmacDigest, KeyDirection, StaticKey};
use oxivpn_proto::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2, split_wkc};
use oxivpn_proto::wrap::{Wrap, WrapConfig};
use oxivpn_proto::{DropReason, Instant};
use zeroize::Zeroizing;

const CLIENT: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const SERVER: [u8; 8] = [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];
const TIME: u32 = 0x6600_0000;
const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// Bytes 00 01 02 ... ff.
fn counting() -> [u8; 256] {
    core::array::from_fn(|i| i as u8)
}

fn static_key() -> Arc<StaticKey> {
    Arc::new(StaticKey::new(Zeroizing::new(counting())))
}

fn bytes(hex_text: &str) -> Vec<u8> {
    hex::decode(hex_text).unwrap()
}

fn tls_auth(direction: KeyDirection, digest: HmacDigest) -> WrapConfig {
    WrapConfig::TlsAuth { key: static_key(), direction, digest }
}

fn tls_crypt() -> WrapConfig {
    WrapConfig::TlsCrypt { key: static_key() }
}

fn new(config: &WrapConfig, role: TlsRole) -> Wrap {
    Wrap::new(config, role, TIME, ReplayWindow::DEFAULT)
}

/// A packet of one of the two sides, with the session ids of the vectors.
struct Packet<'a> {
    opcode: Opcode,
    key: u8,
    from: [u8; 8],
    acks: &'a [u32],
    to: [u8; 8],
    message: Option<u32>,
    payload: &'a [u8],
}

const CLIENT_RESET: Packet<'_> = Packet {
    opcode: Opcode::HardResetClientV2,
    key: 0,
    from: CLIENT,
    acks: &[],
    to: SERVER,
    message: Some(0),
    payload: &[],
};

const SERVER_RESET: Packet<'_> =
    Packet { opcode: Opcode::HardResetServerV2, from: SERVER, acks: &[0], to: CLIENT, ..CLIENT_RESET };

const CLIENT_ACK: Packet<'_> = Packet { opcode: Opcode::AckV1, acks: &[0], message: None, ..CLIENT_RESET };

impl Packet<'_> {
    fn header(&self) -> u8 {
        self.opcode.header(KeyId::from_low_bits(self.key))
    }

    fn body(&self) -> ControlBody<'_> {
        let acks: AckList = self.acks.iter().copied().map(MessageId).collect();
        ControlBody {
            acks,
            remote_session: if acks.is_empty() { None } else { SessionId::new(self.to) },
            message: self.message.map(MessageId),
            payload: self.payload,
        }
    }

    fn sealed_by(&self, wrap: &mut Wrap) -> Vec<u8> {
        let mut body = Vec::new();
        self.body().emit(&mut body);
        let mut out = vec![0xee];
        wrap.seal(0, self.header(), SessionId::new(self.from).unwrap(), &body, &mut out);
        assert_eq!(out.remove(0), 0xee, "sealing appends");
        out
    }

    /// Opens the packet and compares every field.
    fn is_what(&self, wrap: &mut Wrap, mut datagram: Vec<u8>) {
        let opened = wrap.open(NOW, &mut datagram).unwrap();
        assert_eq!(opened.header(), self.header());
        assert_eq!(opened.session().as_bytes(), &self.from);
        let (opcode, _) = Opcode::parse(opened.header()).unwrap();
        assert_eq!(ControlBody::parse(opcode, opened.body()).unwrap(), self.body());
    }
}

/// Sealing gives `expected`, opening gives the fields, a second time is a replay, and each flipped bit or
/// missing end is noticed.
fn check(packet: &Packet<'_>, seal: &mut Wrap, open: impl Fn() -> Wrap, expected: &str) {
    let expected = bytes(expected);
    assert_eq!(hex::encode(packet.sealed_by(seal)), hex::encode(&expected));
    let mut wrap = open();
    packet.is_what(&mut wrap, expected.clone());
    let again = wrap.open(NOW, &mut expected.clone()).map(|_| ());
    assert_eq!(again, Err(DropReason::WrapReplay));

    // None of what follows may move the replay window, so that the packet is still good at the end.
    let mut wrap = open();
    for bit in 0..expected.len() * 8 {
        let mut bent = expected.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        let got = wrap.open(NOW, &mut bent).map(|_| ());
        assert_eq!(got, Err(DropReason::WrapAuthentication), "bit {bit}");
    }
    for len in 0..expected.len() {
        assert!(wrap.open(NOW, &mut expected[..len].to_vec()).is_err(), "{len} bytes");
    }
    packet.is_what(&mut wrap, expected);
}

#[test]
fn no_wrapping() {
    let cases = [
        (CLIENT_RESET, packets::PLAIN_CLIENT_RESET),
        (SERVER_RESET, packets::PLAIN_SERVER_RESET),
        (CLIENT_ACK, packets::PLAIN_ACK),
    ];
    for (packet, expected) in cases {
        let mut wrap = new(&WrapConfig::None, TlsRole::Client);
        assert_eq!(hex::encode(packet.sealed_by(&mut wrap)), expected);
        packet.is_what(&mut wrap, bytes(expected));
        packet.is_what(&mut wrap, bytes(expected));
        assert_eq!(wrap.overhead(), 0);
    }
}

#[test]
fn tls_auth_packets() {
    use HmacDigest::{Sha1, Sha256};
    use KeyDirection::{Bidirectional, Inverse, Normal};
    let cases = [
        (CLIENT_RESET, Inverse, Normal, Sha1, packets::AUTH_INVERSE_SHA1),
        (CLIENT_RESET, Bidirectional, Bidirectional, Sha1, packets::AUTH_BOTH_SHA1),
        (CLIENT_RESET, Inverse, Normal, Sha256, packets::AUTH_INVERSE_SHA256),
        (SERVER_RESET, Normal, Inverse, Sha1, packets::AUTH_SERVER_SHA1),
    ];
    for (packet, out, back, digest, expected) in cases {
        let mut seal = new(&tls_auth(out, digest), TlsRole::Client);
        let open = || new(&tls_auth(back, digest), TlsRole::Client);
        check(&packet, &mut seal, open, expected);
        assert_eq!(seal.overhead(), expected.len() / 2 - 9 - packet.body().len());
    }
}

#[test]
fn tls_crypt_packets() {
    let server = || new(&tls_crypt(), TlsRole::Server);
    let client = || new(&tls_crypt(), TlsRole::Client);
    let mut seal = client();
    check(&CLIENT_RESET, &mut seal, server, packets::CRYPT_CLIENT_RESET);
    check(&CLIENT_ACK, &mut seal, server, packets::CRYPT_ACK);
    check(&SERVER_RESET, &mut server(), client, packets::CRYPT_SERVER_RESET);
    assert_eq!(seal.overhead(), 56);
}

fn server_key() -> ServerKeyV2 {
    ServerKeyV2::new(counting().first_chunk().unwrap())
}

fn metadata() -> Vec<u8> {
    let mut metadata = vec![1];
    metadata.extend_from_slice(&u64::from(TIME).to_be_bytes());
    metadata
}

#[test]
fn wrapped_client_keys() {
    for (metadata, expected) in [(Vec::new(), packets::WKC_BARE), (metadata(), packets::WKC_TIME)] {
        let wkc = server_key().wrap(&static_key(), &metadata).unwrap();
        assert_eq!(hex::encode(&wkc), expected);
        let got = server_key().unwrap(&wkc).unwrap();
        assert_eq!(got.key.expose(), &counting());
        assert_eq!(got.metadata, metadata);
        for bit in 0..wkc.len() * 8 {
            let mut bent = wkc.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let got = server_key().unwrap(&bent).map(|_| ());
            let in_length = bit / 8 >= wkc.len() - 2;
            let reason = if in_length { DropReason::Malformed } else { DropReason::WrapAuthentication };
            assert_eq!(got, Err(reason), "bit {bit}");
        }
    }
}

#[test]
fn tls_crypt_v2_packets() {
    let mut file = counting().to_vec();
    file.extend(bytes(packets::WKC_TIME));
    let pem = format!(
        "-----BEGIN OpenVPN tls-crypt-v2 client key-----\n{}\n-----END OpenVPN tls-crypt-v2 client key-----\n",
        base64::engine::general_purpose::STANDARD.encode(file)
    );
    let config = WrapConfig::TlsCryptV2 { key: Arc::new(ClientKeyV2::from_pem(&pem).unwrap()) };
    let reset = Packet { opcode: Opcode::HardResetClientV3, ..CLIENT_RESET };
    let mut client = new(&config, TlsRole::Client);
    assert_eq!(client.client_key_len(), 299);
    let mut whole = reset.sealed_by(&mut client);
    let expected = packets::V2_CLIENT_RESET.to_owned() + packets::WKC_TIME;
    assert_eq!(hex::encode(&whole), expected);

    let (packet, wkc) = split_wkc(&mut whole).unwrap();
    assert_eq!(hex::encode(&packet), packets::V2_CLIENT_RESET);
    let key = Arc::new(server_key().unwrap(wkc).unwrap().key);
    let unwrapped = WrapConfig::TlsCrypt { key };
    reset.is_what(&mut new(&unwrapped, TlsRole::Server), packet.to_vec());

    let mut payload = Vec::new();
    EarlyNegotiation { resend_wkc: true }.emit(&mut payload);
    let answer = Packet { payload: &payload, ..SERVER_RESET };
    let open = || new(&config, TlsRole::Client);
    check(&answer, &mut new(&unwrapped, TlsRole::Server), open, packets::V2_SERVER_RESET);
}

#[test]
fn dynamic_tls_crypt() {
    let exported: [u8; 256] = bytes(packets::EXPORTED).try_into().unwrap();
    let combined: Vec<u8> = exported.iter().zip(counting()).map(|(a, b)| a ^ b).collect();
    for (at, expected) in [
        (0, packets::DYNAMIC_SERVER_KE),
        (64, packets::DYNAMIC_SERVER_KA),
        (128, packets::DYNAMIC_CLIENT_KE),
        (192, packets::DYNAMIC_CLIENT_KA),
    ] {
        assert_eq!(hex::encode(&combined[at..at + 32]), expected);
    }
    let dynamic = |base: Option<&StaticKey>, exported: &[u8; 256], role| {
        Wrap::dynamic(base, exported, role, TIME, ReplayWindow::DEFAULT)
    };
    let packet = Packet { opcode: Opcode::SoftResetV1, key: 1, ..CLIENT_RESET };
    let base = static_key();
    let mut seal = dynamic(Some(&base), &exported, TlsRole::Client);
    let open = || dynamic(Some(&base), &exported, TlsRole::Server);
    check(&packet, &mut seal, open, packets::DYNAMIC_SOFT_RESET);
    // Without a static key the exported bytes are the key, as they are.
    let whole: [u8; 256] = combined.try_into().unwrap();
    let mut seal = dynamic(None, &whole, TlsRole::Client);
    let open = || dynamic(None, &whole, TlsRole::Server);
    check(&packet, &mut seal, open, packets::DYNAMIC_SOFT_RESET);
}
