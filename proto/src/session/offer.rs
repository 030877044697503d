//! What a server and a client have in common: cipher, format, features (`openvpn: multi.c`, `multi_client_set_protocol_options`).

use super::framing;
use super::hello::{PeerHello, iv_proto};
use super::negotiate::{Agreed, Flags};
use crate::config::cipher::DataCipher;
use crate::config::params::{DataFormat, DataParams, Framing};
use crate::config::server::ServerConfig;
use crate::data::mss::mss_for;
use crate::path::Path;
use crate::plane::Capabilities;
use crate::wire::ids::PeerId;

/// What a client is told by a server that has no cipher for it.
const NO_CIPHER: &str = "Data channel cipher negotiation failed (no shared cipher)";

/// What a client is told that can't do `key-derivation tls-ekm` at a server that demands it.
const NO_EXPORTER: &str = "Client incompatible with this server. Keying Material Exporters (RFC 5705) support missing. Upgrade to a \
     client that supports this feature (OpenVPN 2.6.0+).";

/// Which side of the tunnel packets of a client are for.
pub(super) struct Offer {
    pub(super) agreed: Agreed,
    /// Options that say so, in the order of OpenVPN.
    pub(super) options: Vec<String>,
}

/// Decides for one client; `framing` was decided before. The error is the text after `AUTH_FAILED,`.
pub(super) fn offer(
    config: &ServerConfig,
    capabilities: Capabilities,
    path: &Path,
    own: PeerId,
    framing: Option<Framing>,
    hello: &PeerHello,
) -> Result<Offer, &'static str> {
    use iv_proto::*;
    let mut options = Vec::new();
    let channel = &config.channel;
    let cipher = choose_cipher(&channel.ciphers, channel.fallback, hello).ok_or(NO_CIPHER)?;
    let flags = Flags {
        cc_exit: hello.can(CC_EXIT_NOTIFY),
        tls_ekm: hello.can(TLS_KEY_EXPORT),
        dyn_tls_crypt: hello.can(DYN_TLS_CRYPT),
        aead_epoch: hello.can(DATA_EPOCH) && hello.can(DATA_V2) && capabilities.epoch,
        // The answer needs a client that reads `protocol-flags`.
        ecn: hello.can(CC_EXIT_NOTIFY) && hello.heeds_marks() && capabilities.ecn,
    };
    if config.require_tls_ekm && !flags.tls_ekm {
        return Err(NO_EXPORTER);
    }
    let (framing, told) = framing::offered(config, framing, capabilities, hello)?;
    let announced = if capabilities.asymmetric_ids { hello.peer_id() } else { None };
    let theirs = match announced {
        Some(id) => Some(id),
        None if hello.can(DATA_V2) => {
            options.push(format!("peer-id {}", own.get()));
            Some(own)
        }
        None => None,
    };
    let format = match theirs {
        Some(id) if flags.aead_epoch => DataFormat::Epoch(id),
        Some(id) => DataFormat::V2(id),
        None if capabilities.data_v1 => DataFormat::V1,
        None => return Err("this server needs clients that understand peer-id (OpenVPN 2.4 or later)"),
    };
    if hello.negotiates() {
        options.push(format!("cipher {}", cipher.name()));
    }
    push_flags(flags, hello.can(CC_EXIT_NOTIFY), &mut options);
    if hello.value("IV_MTU").is_some() {
        options.push(format!("tun-mtu {}", channel.tun_mtu));
    }
    options.extend(told.map(String::from));
    let outer_ipv6 = path.remote().map(|remote| remote.is_ipv6());
    let params = DataParams {
        cipher,
        format,
        framing,
        replay: channel.replay,
        mss: mss_for(channel.mssfix, format, framing, channel.tun_mtu, path.is_stream(), outer_ipv6),
        by_path: theirs.is_none(),
        float: theirs.is_some() && !path.is_stream(),
        ecn: flags.ecn,
    };
    Ok(Offer { agreed: Agreed { params, flags, tun_mtu: channel.tun_mtu }, options })
}

/// `key-derivation` and `protocol-flags`. Clients from before `protocol-flags` know the former only.
fn push_flags(flags: Flags, knows_flags: bool, options: &mut Vec<String>) {
    let mut listed = flags;
    if flags.tls_ekm && !knows_flags {
        options.push("key-derivation tls-ekm".into());
        listed.tls_ekm = false;
    }
    let words = listed.to_string();
    if !words.is_empty() {
        options.push(format!("protocol-flags {words}"));
    }
}

/// The first of ours that the client has (`openvpn: ssl_ncp.c`, `ncp_get_best_cipher`).
fn choose_cipher(own: &[DataCipher], fallback: Option<DataCipher>, hello: &PeerHello) -> Option<DataCipher> {
    let announced = hello.value("IV_CIPHERS").is_some();
    let remote = hello.cipher().filter(|_| !announced);
    let common = own
        .iter()
        .find(|ours| hello.ciphers().any(|name| name == ours.name()) || remote == Some(ours.name()));
    match common {
        Some(cipher) => Some(*cipher),
        None if hello.negotiates() || remote.is_some() => None,
        None => fallback,
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::tls::fake::FakeFactory;
    use crate::wrap::WrapConfig;

    fn config() -> ServerConfig {
        ServerConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()))
    }

    fn offered(config: &ServerConfig, options: &str, info: &str) -> Result<Offer, &'static str> {
        let path = Path::udp(0, SocketAddr::from(([192, 0, 2, 9], 1000)));
        let hello = PeerHello { options: options.into(), peer_info: info.into() };
        let capabilities = Capabilities { ecn: true, ..Capabilities::USERSPACE };
        offer(config, capabilities, &path, PeerId::from_low_bits(5), None, &hello)
    }

    #[test]
    fn what_released_clients_get() {
        let pushed = |info: &str| offered(&config(), "V4", info).unwrap().options.join(",");
        let ciphers = "IV_CIPHERS=AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305";
        assert_eq!(
            pushed(&format!("IV_VER=2.6.14\nIV_MTU=1600\nIV_NCP=2\n{ciphers}\nIV_PROTO=990\n")),
            "peer-id 5,cipher AES-256-GCM,protocol-flags cc-exit tls-ekm dyn-tls-crypt,tun-mtu 1500"
        );
        assert_eq!(
            pushed(&format!("IV_VER=2.7.0\nIV_MTU=1600\n{ciphers}\nIV_PROTO=8094\n")),
            "peer-id 5,cipher AES-256-GCM,protocol-flags cc-exit tls-ekm dyn-tls-crypt aead-epoch,tun-mtu 1500"
        );
        assert_eq!(
            pushed(&format!("ID=77\n{ciphers}\nIV_PROTO=8094\n")),
            "cipher AES-256-GCM,protocol-flags cc-exit tls-ekm dyn-tls-crypt aead-epoch"
        );
        assert_eq!(pushed("IV_NCP=2\nIV_PROTO=2\n"), "peer-id 5,cipher AES-256-GCM");
        assert_eq!(
            pushed(&format!("{ciphers}\nIV_PROTO=14\n")),
            "peer-id 5,cipher AES-256-GCM,key-derivation tls-ekm"
        );
    }

    #[test]
    fn the_extension_of_our_own_is_for_those_who_announce_it() {
        let flags = |info: &str| {
            let Offer { agreed, options } = offered(&config(), "V4", info).unwrap();
            let pushed = options.iter().any(|option| option.contains("oxivpn-ecn"));
            assert_eq!((agreed.params.ecn, agreed.flags.ecn), (pushed, pushed), "{info}");
            pushed
        };
        let ciphers = "IV_CIPHERS=AES-256-GCM\n";
        assert!(flags(&format!("{ciphers}IV_PROTO=1950\nIV_OXIVPN_ECN=1\n")));
        for info in ["IV_PROTO=1950\n", "IV_PROTO=1950\nIV_OXIVPN_ECN=0\n", "IV_PROTO=1950\nUV_ECN=1\n"] {
            assert!(!flags(&format!("{ciphers}{info}")), "{info}");
        }
        // Whoever reads no `protocol-flags` can't be answered.
        assert!(!flags(&format!("{ciphers}IV_PROTO=2\nIV_OXIVPN_ECN=1\n")));
    }

    #[test]
    fn the_server_prefers_and_the_fallback_is_for_those_who_say_nothing() {
        let cipher = |config: &ServerConfig, options: &str, info: &str| {
            offered(config, options, info).map(|offer| offer.agreed.params.cipher)
        };
        let mut config = config();
        assert_eq!(
            cipher(&config, "V4", "IV_CIPHERS=CHACHA20-POLY1305:AES-128-GCM\n"),
            Ok(DataCipher::Aes128Gcm)
        );
        assert_eq!(cipher(&config, "V4,cipher AES-128-GCM", ""), Ok(DataCipher::Aes128Gcm));
        assert_eq!(cipher(&config, "V4,cipher AES-128-GCM", "IV_CIPHERS=X\n"), Err(NO_CIPHER));
        assert_eq!(cipher(&config, "V4", ""), Err(NO_CIPHER));
        config.channel.fallback = Some(DataCipher::Aes192Gcm);
        assert_eq!(cipher(&config, "V4", ""), Ok(DataCipher::Aes192Gcm));
        assert_eq!(cipher(&config, "V4,cipher BF-CBC", ""), Err(NO_CIPHER));
        assert_eq!(cipher(&config, "V4", "IV_CIPHERS=X\n"), Err(NO_CIPHER));
    }

    #[test]
    fn a_client_without_peer_id_is_found_by_its_address() {
        let old = offered(&config(), "V4,cipher AES-256-GCM", "").unwrap();
        assert_eq!(old.agreed.params.format, DataFormat::V1);
        assert!(old.agreed.params.by_path && !old.agreed.params.float);
        let new = offered(&config(), "V4", "IV_NCP=2\nIV_PROTO=2\n").unwrap();
        assert_eq!(new.agreed.params.format, DataFormat::V2(PeerId::from_low_bits(5)));
        assert!(!new.agreed.params.by_path && new.agreed.params.float);
    }

    #[test]
    fn a_client_without_exporter_can_be_refused() {
        let mut config = config();
        config.require_tls_ekm = true;
        assert_eq!(offered(&config, "V4", "IV_NCP=2\nIV_PROTO=2\n").err(), Some(NO_EXPORTER));
        assert!(offered(&config, "V4", "IV_NCP=2\nIV_PROTO=10\n").is_ok());
    }
}
