//! What the two sides tell of themselves in key method 2: options string and peer info.

use core::fmt::Write as _;

use super::framing;
use super::side::Side;
use crate::config::cipher::DataCipher;
use crate::config::params::Framing;
use crate::keys::data_key::TlsRole;
use crate::path::Path;
use crate::plane::Capabilities;
use crate::wire::ids::PeerId;
use crate::wrap::WrapConfig;
use crate::wrap::static_key::{HmacDigest, KeyDirection};

/// Bits of `IV_PROTO` (`openvpn: ssl.h`).
pub(super) mod iv_proto {
    pub(in super::super) const DATA_V2: u32 = 1 << 1;
    pub(in super::super) const REQUEST_PUSH: u32 = 1 << 2;
    pub(in super::super) const TLS_KEY_EXPORT: u32 = 1 << 3;
    pub(in super::super) const AUTH_PENDING_KW: u32 = 1 << 4;
    pub(in super::super) const NCP_P2P: u32 = 1 << 5;
    pub(in super::super) const CC_EXIT_NOTIFY: u32 = 1 << 7;
    pub(in super::super) const AUTH_FAIL_TEMP: u32 = 1 << 8;
    pub(in super::super) const DYN_TLS_CRYPT: u32 = 1 << 9;
    pub(in super::super) const DATA_EPOCH: u32 = 1 << 10;
    pub(in super::super) const PUSH_UPDATE: u32 = 1 << 12;
}

/// Peer info of whoever copies ECN bits to the outer header and back, RFC 6040's normal mode: an extension of our own,
/// which OpenVPN passes on to scripts like any other line (`openvpn: misc.c`, `validate_peer_info_line`). A sender may
/// only do it if the receiver does, because a router marks such packets where it would drop others, and a receiver that
/// throws the mark away hides the congestion. So a client announces that it heeds marks, and a server that does too
/// answers it with [`ECN_FLAG`]; of two peers each goes by the other's line.
pub(super) const ECN_LINE: &str = "IV_OXIVPN_ECN";

/// Word of `protocol-flags`, for clients with [`ECN_LINE`] alone: one that it is unknown to gives the connection up.
pub(super) const ECN_FLAG: &str = "oxivpn-ecn";

/// What the peer said of itself in key method 2.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerHello {
    /// Its options string.
    pub(crate) options: String,
    /// Its peer-info lines.
    pub(crate) peer_info: String,
}

impl PeerHello {
    /// Cipher of the options string.
    pub(super) fn cipher(&self) -> Option<&str> {
        self.options.split(',').find_map(|item| item.strip_prefix("cipher "))
    }

    /// The peer-id it wants on packets to it (`openvpn: ssl_util.c`, `extract_asymmetric_peer_id`).
    pub(super) fn peer_id(&self) -> Option<PeerId> {
        u32::from_str_radix(self.value("ID")?, 16)
            .ok()
            .filter(|&id| id < PeerId::UNDEFINED.get())
            .map(PeerId::from_low_bits)
    }

    /// The value of a line.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.peer_info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    /// `IV_PROTO`.
    pub(super) fn proto(&self) -> u32 {
        self.value("IV_PROTO").and_then(|bits| bits.trim().parse().ok()).unwrap_or(0)
    }

    /// Whether it announces a bit of `IV_PROTO`.
    pub(super) fn can(&self, bit: u32) -> bool {
        self.proto() & bit != 0
    }

    /// Whether it takes a pushed cipher (`openvpn: ssl_ncp.c`, `tls_peer_supports_ncp`).
    pub(super) fn negotiates(&self) -> bool {
        self.value("IV_CIPHERS").is_some() || self.ncp() >= 2
    }

    /// Whether it heeds congestion marks in the outer header.
    pub(super) fn heeds_marks(&self) -> bool {
        self.value(ECN_LINE) == Some("1")
    }

    fn ncp(&self) -> u32 {
        self.value("IV_NCP").and_then(|level| level.trim().parse().ok()).unwrap_or(0)
    }

    /// Ciphers it can do (`openvpn: ssl_ncp.c`, `tls_peer_ncp_list`).
    pub(super) fn ciphers(&self) -> impl Iterator<Item = &str> {
        let list = match self.value("IV_CIPHERS") {
            Some(list) => list,
            None if self.ncp() >= 2 => "AES-256-GCM:AES-128-GCM",
            None => "",
        };
        list.split(':').filter(|name| !name.is_empty())
    }
}

/// The peer-info lines of a client or peer (`openvpn: ssl.c`, `push_peer_info`). Only what is true is announced.
pub(crate) fn peer_info(side: &Side, capabilities: Capabilities, own_id: Option<PeerId>) -> String {
    use iv_proto::*;
    let config = side.channel();
    let mut info = String::with_capacity(256);
    let mut line = |name: &str, value: &dyn core::fmt::Display| {
        // Writing to a String can't fail.
        let _ = writeln!(info, "{name}={value}");
    };
    if let Some(id) = own_id {
        line("ID", &format_args!("{:x}", id.get()));
    }
    let names = || config.ciphers.iter().map(|cipher| cipher.name()).collect::<Vec<_>>().join(":");
    let format = match (capabilities.data_v2, capabilities.epoch) {
        (true, true) => DATA_V2 | DATA_EPOCH,
        (true, false) => DATA_V2,
        (false, _) => 0,
    };
    let common = format | TLS_KEY_EXPORT | CC_EXIT_NOTIFY | DYN_TLS_CRYPT;
    let client = match side {
        Side::Server(_) => return info,
        Side::Peer(_) => {
            line("IV_CIPHERS", &names());
            line("IV_PROTO", &(common | NCP_P2P));
            if capabilities.ecn {
                line(ECN_LINE, &1);
            }
            return info;
        }
        Side::Client(client) => client,
    };
    line("IV_VER", &config.peer_info.version);
    line("IV_PLAT", &config.peer_info.platform);
    line("IV_TCPNL", &1);
    line("IV_MTU", &client.config.tun_mtu_max);
    let both_gcm = [DataCipher::Aes128Gcm, DataCipher::Aes256Gcm];
    if both_gcm.iter().all(|cipher| config.ciphers.contains(cipher)) {
        line("IV_NCP", &2);
    }
    line("IV_CIPHERS", &names());
    line("IV_PROTO", &(common | REQUEST_PUSH | AUTH_PENDING_KW | AUTH_FAIL_TEMP));
    if capabilities.framing {
        ["IV_LZO_STUB", "IV_COMP_STUB", "IV_COMP_STUBv2"].iter().for_each(|name| line(name, &1));
    }
    if capabilities.ecn {
        line(ECN_LINE, &1);
    }
    for (name, value) in &config.peer_info.extra {
        line(name, value);
    }
    info
}

/// The options string ("OCC"): what OpenVPN sends with default options. Peers compare it only for
/// warnings (`openvpn: options.c`, `options_string`). A client that is got off compression hears what it says itself
/// (`openvpn: ssl_util.c`, `options_string_compat_lzo`).
pub(crate) fn options_string(side: &Side, path: &Path, remote: Option<&PeerHello>) -> String {
    let config = side.channel();
    let digest = HmacDigest::from_name(&config.auth_name).map_or(20, HmacDigest::output_len);
    let stream = path.is_stream();
    let framing = match (side, remote) {
        (Side::Server(server), Some(hello)) if framing::migrates(&server.config, hello) => Framing::Stub,
        _ => config.framing,
    };
    let comp_lzo = if framing == Framing::None { "" } else { ",comp-lzo" };
    let link_mtu =
        usize::from(config.tun_mtu) + framing.overhead() + 21 + digest + if stream { 2 } else { 0 };
    let (proto, role) = match (stream, side.tls_role()) {
        (false, TlsRole::Client) => ("UDPv4", "tls-client"),
        (false, TlsRole::Server) => ("UDPv4", "tls-server"),
        (true, TlsRole::Client) => ("TCPv4_CLIENT", "tls-client"),
        (true, TlsRole::Server) => ("TCPv4_SERVER", "tls-server"),
    };
    let (keydir, tls_auth) = match &config.wrap {
        WrapConfig::TlsAuth { direction, .. } => {
            let keydir = match direction {
                KeyDirection::Bidirectional => "",
                KeyDirection::Normal => ",keydir 0",
                KeyDirection::Inverse => ",keydir 1",
            };
            (keydir, ",tls-auth")
        }
        WrapConfig::None | WrapConfig::TlsCrypt { .. } | WrapConfig::TlsCryptV2 { .. } => ("", ""),
    };
    // A peer that can't negotiate goes by the cipher that is named here.
    let cipher = match (side, config.fallback) {
        (Side::Peer(_), Some(fallback)) => format!(",cipher {}", fallback.name()),
        _ => String::new(),
    };
    let (mtu, auth) = (config.tun_mtu, &config.auth_name);
    format!(
        "V4,dev-type tun,link-mtu {link_mtu},tun-mtu {mtu},proto {proto}{comp_lzo}{keydir}{cipher},auth {auth},\
         keysize 128{tls_auth},key-method 2,{role}"
    )
}
