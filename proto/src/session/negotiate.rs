//! What a client makes of the server's answer.

use crate::config::ClientConfig;
use crate::config::cipher::DataCipher;
use crate::config::params::{DataFormat, DataParams};
use crate::data::mss::mss_for;
use crate::event::CloseCause;
use crate::options::compression::Compression;
use crate::options::pushed::Pushed;
use crate::path::Path;
use crate::plane::Capabilities;
use crate::wire::ids::PeerId;

use super::framing;
use super::hello::ECN_FLAG;
pub(crate) use super::hello::{PeerHello, options_string, peer_info};

/// Features that both sides agreed on (`protocol-flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag on the wire")]
pub(crate) struct Flags {
    pub(crate) cc_exit: bool,
    pub(crate) tls_ekm: bool,
    pub(crate) dyn_tls_crypt: bool,
    pub(crate) aead_epoch: bool,
    pub(crate) ecn: bool,
}

impl core::fmt::Display for Flags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let words = [
            (self.cc_exit, "cc-exit"),
            (self.tls_ekm, "tls-ekm"),
            (self.dyn_tls_crypt, "dyn-tls-crypt"),
            (self.aead_epoch, "aead-epoch"),
            (self.ecn, ECN_FLAG),
        ];
        let words: Vec<&str> = words.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
        f.write_str(&words.join(" "))
    }
}

/// What the negotiation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) params: DataParams,
    pub(crate) flags: Flags,
    pub(crate) tun_mtu: u16,
}

/// Decides on cipher, format and features (the client's side of NCP;
/// `openvpn: init.c`, `do_deferred_options` and `ssl_ncp.c`).
pub(crate) fn agree(
    config: &ClientConfig,
    capabilities: Capabilities,
    path: &Path,
    server: &PeerHello,
    options: &[Pushed],
) -> Result<(Agreed, Vec<String>), CloseCause> {
    let mut flags = Flags::default();
    let mut ignored = Vec::new();
    let (mut cipher, mut peer_id, mut tun_mtu) = (None, None, config.channel.tun_mtu);
    let mut compression = Compression::Stub(config.channel.framing);
    for option in options {
        match option {
            Pushed::Cipher(name) => cipher = Some(name.as_str()),
            Pushed::PeerId(id) => peer_id = id.map(PeerId::from_low_bits),
            Pushed::TunMtu(mtu) if *mtu <= config.tun_mtu_max => tun_mtu = *mtu,
            Pushed::TunMtu(mtu) => ignored.push(format!(
                "tun-mtu {mtu}: larger than tun-mtu-max {}, which can be raised",
                config.tun_mtu_max
            )),
            Pushed::KeyDerivationEkm => flags.tls_ekm = true,
            Pushed::ProtocolFlags(words) => read_flags(words, capabilities, &mut flags, &mut ignored),
            Pushed::Compression(line) => compression = *line,
            _ => {}
        }
    }
    let cipher = choose_cipher(config, server, cipher)?;
    let framing =
        framing::taken(compression, config.allow_compression, capabilities).map_err(CloseCause::Push)?;
    let asymmetric = if capabilities.asymmetric_ids { server.peer_id() } else { None };
    let format = match (asymmetric.or(peer_id), flags.aead_epoch) {
        (Some(id), true) if capabilities.epoch => DataFormat::Epoch(id),
        (_, true) => {
            let text = "the server pushed aead-epoch without a peer-id, or although it was not offered";
            return Err(CloseCause::Push(text.into()));
        }
        (Some(id), false) => DataFormat::V2(id),
        (None, false) if capabilities.data_v1 => DataFormat::V1,
        (None, false) => {
            let text = "the server pushed no peer-id, which this data plane needs";
            return Err(CloseCause::Push(text.into()));
        }
    };
    let outer_ipv6 = match path {
        Path::Datagram { remote, .. } => Some(remote.is_ipv6()),
        Path::Stream(_) => None,
    };
    let mss = mss_for(config.channel.mssfix, format, framing, tun_mtu, path.is_stream(), outer_ipv6);
    let params = DataParams {
        cipher,
        format,
        framing,
        replay: config.channel.replay,
        mss,
        by_path: true,
        float: config.channel.float,
        ecn: flags.ecn,
    };
    Ok((Agreed { params, flags, tun_mtu }, ignored))
}

fn read_flags(words: &[String], capabilities: Capabilities, flags: &mut Flags, ignored: &mut Vec<String>) {
    for word in words {
        match word.as_str() {
            "cc-exit" => flags.cc_exit = true,
            "tls-ekm" => flags.tls_ekm = true,
            "dyn-tls-crypt" => flags.dyn_tls_crypt = true,
            "aead-epoch" => flags.aead_epoch = true,
            ECN_FLAG if capabilities.ecn => flags.ecn = true,
            other => ignored.push(format!("protocol-flags {other}: unknown flag")),
        }
    }
}

/// A pushed cipher decides; else the one of the server's options string if it is allowed; else the fallback.
fn choose_cipher(
    config: &ClientConfig,
    server: &PeerHello,
    pushed: Option<&str>,
) -> Result<DataCipher, CloseCause> {
    let allowed = |name: &str| {
        DataCipher::from_name(name)
            .filter(|c| config.channel.ciphers.contains(c) || config.channel.fallback == Some(*c))
    };
    let list = || config.channel.ciphers.iter().map(|c| c.name()).collect::<Vec<_>>().join(":");
    if let Some(name) = pushed {
        return allowed(name).ok_or_else(|| {
            CloseCause::Cipher(format!(
                "negotiated cipher not allowed - {name} not in {}; add it to data-ciphers if it is one of {}",
                list(),
                DataCipher::ALL.map(DataCipher::name).join(", ")
            ))
        });
    }
    if let Some(cipher) = server.cipher().and_then(allowed) {
        return Ok(cipher);
    }
    if server.cipher().is_none()
        && let Some(fallback) = config.channel.fallback
    {
        return Ok(fallback);
    }
    Err(CloseCause::Cipher(format!(
        "failed to negotiate cipher with server: it pushed none, and its own ({}) is not in {}; configure \
         data-ciphers on the server, or data-ciphers-fallback here",
        server.cipher().unwrap_or("none named"),
        list()
    )))
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::config::Credentials;
    use crate::session::side::{ClientSide, Side};
    use crate::tls::fake::FakeFactory;
    use crate::wrap::WrapConfig;

    fn config() -> ClientConfig {
        ClientConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()))
    }

    fn side(config: ClientConfig) -> Side {
        Side::Client(Box::new(ClientSide::new(Arc::new(config), None::<Credentials>)))
    }

    fn path() -> Path {
        Path::udp(0, SocketAddr::from(([192, 0, 2, 1], 1194)))
    }

    fn hello(peer_info: &str) -> PeerHello {
        PeerHello { options: "V4,cipher AES-128-GCM,tls-server".into(), peer_info: peer_info.into() }
    }

    fn agreed(
        capabilities: Capabilities,
        server: &PeerHello,
        options: &[Pushed],
    ) -> Result<Agreed, CloseCause> {
        agree(&config(), capabilities, &path(), server, options).map(|(agreed, _)| agreed)
    }

    fn id(n: u32) -> PeerId {
        PeerId::from_low_bits(n)
    }

    #[test]
    fn the_id_a_server_announces_goes_before_a_pushed_one() {
        let own = hello("IV_PROTO=746\nID=1a2b\n");
        let announced = agreed(Capabilities::USERSPACE, &own, &[]).unwrap();
        assert_eq!(announced.params.format, DataFormat::V2(id(0x1a2b)));
        let pushed = [Pushed::PeerId(Some(7))];
        let both = agreed(Capabilities::USERSPACE, &own, &pushed).unwrap();
        assert_eq!(both.params.format, DataFormat::V2(id(0x1a2b)));
        let one_id_only = Capabilities { asymmetric_ids: false, ..Capabilities::USERSPACE };
        assert_eq!(agreed(one_id_only, &own, &pushed).unwrap().params.format, DataFormat::V2(id(7)));
        for odd in ["ID=\n", "ID=xyz\n", "ID=ffffff\n", "ID=1000000\n", "XID=5\n"] {
            let format = agreed(Capabilities::USERSPACE, &hello(odd), &[]).unwrap().params.format;
            assert_eq!(format, DataFormat::V1, "{odd}");
        }
        assert!(
            peer_info(&side(config()), Capabilities::USERSPACE, Some(id(0xabc)))
                .starts_with("ID=abc\nIV_VER=")
        );
        assert!(peer_info(&side(config()), one_id_only, None).starts_with("IV_VER="));
    }

    #[test]
    fn what_a_plane_cannot_do_is_neither_offered_nor_accepted() {
        let classic = Capabilities { epoch: false, data_v1: false, ..Capabilities::USERSPACE };
        assert!(peer_info(&side(config()), classic, None).contains("\nIV_PROTO=926\n"));
        assert!(peer_info(&side(config()), Capabilities::USERSPACE, None).contains("\nIV_PROTO=1950\n"));
        let epoch = [Pushed::PeerId(Some(7)), Pushed::ProtocolFlags(vec!["aead-epoch".into()])];
        assert!(agreed(Capabilities::USERSPACE, &hello(""), &epoch).is_ok());
        assert!(matches!(agreed(classic, &hello(""), &epoch), Err(CloseCause::Push(_))));
        assert!(matches!(agreed(classic, &hello(""), &[]), Err(CloseCause::Push(_))));
        assert!(matches!(agreed(Capabilities::USERSPACE, &hello(""), &epoch[1..]), Err(CloseCause::Push(_))));
    }

    /// What RFC 6040 asks for: a mark only for who is known to heed it.
    #[test]
    fn ecn_is_announced_and_taken_only_where_marks_are_heeded() {
        let heeds = Capabilities { ecn: true, ..Capabilities::USERSPACE };
        let pushed =
            [Pushed::PeerId(Some(7)), Pushed::ProtocolFlags(vec!["cc-exit".into(), ECN_FLAG.into()])];
        for (capabilities, ecn) in [(heeds, true), (Capabilities::USERSPACE, false)] {
            let info = peer_info(&side(config()), capabilities, None);
            assert_eq!(info.contains("\nIV_OXIVPN_ECN=1\n"), ecn, "{info}");
            let (agreed, ignored) = agree(&config(), capabilities, &path(), &hello(""), &pushed).unwrap();
            assert_eq!((agreed.params.ecn, agreed.flags.ecn, ignored.is_empty()), (ecn, ecn, ecn));
            assert!(!agree(&config(), capabilities, &path(), &hello(""), &[]).unwrap().0.params.ecn);
        }
        assert!(!heeds.on(&Path::Stream(crate::StreamId(1))).ecn && heeds.on(&path()).ecn);
    }

    #[test]
    fn iv_ncp_is_announced_only_with_both_gcm_ciphers() {
        let mut config = config();
        config.channel.ciphers = vec![DataCipher::Aes256Gcm, DataCipher::ChaCha20Poly1305];
        let info = peer_info(&side(config), Capabilities::USERSPACE, None);
        assert!(
            !info.contains("IV_NCP") && info.contains("IV_CIPHERS=AES-256-GCM:CHACHA20-POLY1305\n"),
            "{info}"
        );
    }

    #[test]
    fn the_servers_options_string_names_the_cipher_of_last_resort() {
        let by_options = agreed(Capabilities::USERSPACE, &hello(""), &[]).unwrap();
        assert_eq!(by_options.params.cipher, DataCipher::Aes128Gcm);
        let silent = PeerHello::default();
        assert!(matches!(agreed(Capabilities::USERSPACE, &silent, &[]), Err(CloseCause::Cipher(_))));
        let mut config = config();
        config.channel.fallback = Some(DataCipher::Aes192Gcm);
        let (fallback, _) = agree(&config, Capabilities::USERSPACE, &path(), &silent, &[]).unwrap();
        assert_eq!(fallback.params.cipher, DataCipher::Aes192Gcm);
    }

    #[test]
    fn options_string_is_the_one_of_openvpn_with_default_options() {
        assert_eq!(
            options_string(&side(config()), &path(), None),
            "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,key-method 2,tls-client"
        );
        let stream = Path::Stream(crate::StreamId(1));
        assert!(
            options_string(&side(config()), &stream, None)
                .contains("link-mtu 1543,tun-mtu 1500,proto TCPv4_CLIENT,")
        );
    }

    #[test]
    fn a_pushed_mtu_is_capped_and_unknown_flags_are_told() {
        let options = [
            Pushed::TunMtu(1700),
            Pushed::ProtocolFlags(vec!["tls-ekm".into(), "new-thing".into()]),
            Pushed::Cipher("AES-256-GCM".into()),
        ];
        let (agreed, ignored) =
            agree(&config(), Capabilities::USERSPACE, &path(), &hello(""), &options).unwrap();
        assert_eq!((agreed.tun_mtu, agreed.flags.to_string()), (1500, "tls-ekm".into()));
        assert_eq!(ignored.len(), 2, "{ignored:?}");
    }
}
