//! Protected control packets: as they come, and sealed from arbitrary plaintext so that what lies behind the
//! HMAC is reached.

use std::sync::Arc;

use super::control_packet;
use crate::clock::Instant;
use crate::config::params::ReplayWindow;
use crate::drops::DropReason;
use crate::keys::data_key::TlsRole;
use crate::limits::MAX_CONTROL_DATAGRAM;
use crate::wire::ids::SessionId;
use crate::wrap::static_key::{HmacDigest, KeyDirection, StaticKey};
use crate::wrap::tls_crypt_v2::{MAX_METADATA, ServerKeyV2, split_wkc};
use crate::wrap::{Wrap, WrapConfig};

const NOW: Instant = Instant::from_nanos(1);

/// The first byte of `data` chooses the protection, the second and third a bit to flip, the rest is the packet.
pub fn run(data: &[u8]) {
    let Some((&[mode, flip_high, flip_low], packet)) = data.split_first_chunk() else { return };
    let (client, server) = configs(mode);
    let mut wrap = new(&server, TlsRole::Server);
    if let Ok(opened) = wrap.open(NOW, &mut packet.to_vec()) {
        assert!(matches!(server, WrapConfig::None), "a packet nobody sealed was opened");
        assert_eq!(opened.header(), packet[0]);
        assert_eq!(opened.body(), &packet[9..]);
    }
    seal_and_open(&client, &server, packet, u16::from_be_bytes([flip_high, flip_low]));
    client_key(packet, flip_low);
}

fn seal_and_open(client: &WrapConfig, server: &WrapConfig, packet: &[u8], flip: u16) {
    let Some((&header, body)) = packet.split_first() else { return };
    if body.len() > MAX_CONTROL_DATAGRAM - 128 {
        return;
    }
    let session = SessionId::new([0x42; 8]).expect("not all zero");
    let mut sealed = Vec::new();
    new(client, TlsRole::Client).seal(100, header, session, body, &mut sealed);

    let mut receiver = new(server, TlsRole::Server);
    let protected = !matches!(server, WrapConfig::None);
    if protected {
        let mut bent = sealed.clone();
        let bit = usize::from(flip) % (bent.len() * 8);
        bent[bit / 8] ^= 1 << (bit % 8);
        let got = receiver.open(NOW, &mut bent).map(|_| ());
        assert_eq!(got, Err(DropReason::WrapAuthentication), "bit {bit}");
    }
    let mut copy = sealed.clone();
    let opened = receiver.open(NOW, &mut copy).expect("what the peer sealed opens");
    assert_eq!((opened.header(), opened.session(), opened.body()), (header, session, body));
    control_packet::run(&[&[header], opened.body()].concat());
    let again = receiver.open(NOW, &mut sealed).map(|_| ());
    assert_eq!(again, if protected { Err(DropReason::WrapReplay) } else { Ok(()) });
}

/// A wrapped client key behind a packet, good and bad.
fn client_key(packet: &[u8], flip: u8) {
    let server = ServerKeyV2::new(&[0x33; 128]);
    if let Ok((_, wkc)) = split_wkc(&mut packet.to_vec()) {
        assert!(server.unwrap(wkc).is_err(), "a key nobody wrapped was unwrapped");
    }
    let metadata = &packet[..packet.len().min(MAX_METADATA)];
    let wkc = server.wrap(&key(), metadata).expect("metadata is short enough");
    let mut datagram = [packet, &wkc].concat();
    let (head, tail) = split_wkc(&mut datagram).expect("the length field is right");
    assert_eq!((&*head, tail), (packet, &wkc[..]));
    let got = server.unwrap(tail).expect("what was wrapped unwraps");
    assert_eq!((got.key.expose(), &got.metadata[..]), (key().expose(), metadata));
    let mut bent = wkc;
    bent[usize::from(flip)] ^= 1;
    assert!(server.unwrap(&bent).is_err());
}

/// Configurations of client and server that fit together.
fn configs(mode: u8) -> (WrapConfig, WrapConfig) {
    use HmacDigest::{Sha1, Sha224, Sha256, Sha384, Sha512};
    let digests = [Sha1, Sha224, Sha256, Sha384, Sha512];
    let auth = |direction| {
        let digest = digests[usize::from(mode / 4) % digests.len()];
        WrapConfig::TlsAuth { key: key(), direction, digest }
    };
    match mode % 4 {
        0 => (WrapConfig::None, WrapConfig::None),
        1 => (auth(KeyDirection::Inverse), auth(KeyDirection::Normal)),
        2 => (auth(KeyDirection::Bidirectional), auth(KeyDirection::Bidirectional)),
        _ => (WrapConfig::TlsCrypt { key: key() }, WrapConfig::TlsCrypt { key: key() }),
    }
}

fn key() -> Arc<StaticKey> {
    let mut bytes = zeroize::Zeroizing::new([0; 256]);
    bytes.iter_mut().zip(0u8..=255).for_each(|(b, i)| *b = i.wrapping_mul(7) ^ 0x5a);
    Arc::new(StaticKey::new(bytes))
}

fn new(config: &WrapConfig, role: TlsRole) -> Wrap {
    Wrap::new(config, role, 100, ReplayWindow::DEFAULT)
}
