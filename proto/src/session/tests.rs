use core::net::SocketAddr;

use super::negotiate::options_string;
use super::*;
use crate::config::PeerConfig;
use crate::config::cipher::DataCipher;
use crate::keys::data_key::TlsRole;
use crate::tls::fake::FakeFactory;
use crate::wrap::WrapConfig;

fn path() -> Path {
    Path::udp(0, SocketAddr::from(([192, 0, 2, 1], 1194)))
}

fn peer_config(role: TlsRole) -> PeerConfig {
    let channel = ChannelConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    PeerConfig { channel, role, tls_crypt_v2: None, remote: None }
}

/// A peer that can't negotiate compares the cipher in the options string with its own
/// (`openvpn: options.c`, `options_string`).
#[test]
fn a_peer_names_the_cipher_that_it_falls_back_to() {
    let mut config = peer_config(TlsRole::Server);
    let text = |config: &PeerConfig| options_string(&Side::Peer(Arc::new(config.clone())), &path());
    assert!(!text(&config).contains("cipher"));
    config.channel.fallback = Some(DataCipher::Aes192Gcm);
    let named = text(&config);
    assert!(named.contains(",proto UDPv4,cipher AES-192-GCM,auth SHA1,"), "{named}");
    assert!(named.ends_with(",key-method 2,tls-server"), "{named}");
}
