//! Point to point: both sides decide by what the other said of itself (`openvpn: ssl_ncp.c`, `p2p_mode_ncp`).

use super::exchange::Failure;
use super::framing;
use super::hello::{PeerHello, iv_proto};
use super::negotiate::{Agreed, Flags};
use super::side::Side;
use super::{Now, Phase, Session};
use crate::config::PeerConfig;
use crate::config::cipher::DataCipher;
use crate::config::params::{DataFormat, DataParams};
use crate::data::mss::mss_for;
use crate::directive::Directive;
use crate::event::{CloseCause, Event};
use crate::keys::data_key::TlsRole;
use crate::wire::ids::PeerId;

/// Label of the exporter for the peer-id of both directions (`openvpn: ssl_ncp.c`, `p2p_ncp_set_options`).
const PEER_ID: &str = "EXPORTER-OpenVPN-p2p-peerid";

/// Peer-id of both directions without exporter: "vpn".
const VPN: PeerId = PeerId::from_low_bits(0x0076_706e);

impl Session {
    /// The first exchange of a point-to-point session is active: it is up.
    pub(super) fn come_up_as_peer(&mut self, now: Now) {
        let Side::Peer(config) = &self.side else { return };
        let config = config.clone();
        let hello = self.exchange.hello().cloned().unwrap_or_default();
        let agreed = match self.agree_as_peer(&config, &hello) {
            Ok(agreed) => agreed,
            Err(Failure::Tls(failure)) => return self.fail(CloseCause::Tls(failure)),
            Err(Failure::Protocol(text)) => return self.fail(CloseCause::Cipher(text.into())),
        };
        self.agreed = Some(agreed);
        if !self.take_first_key(now, agreed) {
            return;
        }
        self.keepalive.start(now.at, &[]);
        self.phase = Phase::Up;
        let Agreed { params, flags, tun_mtu } = agreed;
        let (session, peer) = (self.handle, self.peer);
        if hello.can(iv_proto::NCP_P2P) {
            self.events.push_back(Event::PeerNegotiated { session, summary: summary(&agreed) });
        }
        self.events.push_back(Event::Established {
            session,
            peer,
            params,
            tun_mtu,
            flags: flags.to_string(),
        });
    }

    /// Adds the peer and its first key to the data plane; `false` if that failed.
    pub(super) fn take_first_key(&mut self, now: Now, agreed: Agreed) -> bool {
        let derived = self.derive().and_then(|data| self.protect_renegotiations(now, agreed).map(|()| data));
        match derived {
            Ok(data) => {
                let params = agreed.params;
                self.directives.push_back(Directive::AddPeer { peer: self.peer, path: self.path, params });
                self.install(now, data);
                true
            }
            Err(failure) => {
                self.agreed = None;
                self.fail(CloseCause::Tls(failure));
                false
            }
        }
    }

    fn agree_as_peer(&mut self, config: &PeerConfig, hello: &PeerHello) -> Result<Agreed, Failure> {
        use iv_proto::*;
        let channel = &config.channel;
        let negotiates = hello.can(NCP_P2P);
        let common = if negotiates { common_cipher(config, hello) } else { None };
        let cipher = common.or(channel.fallback).ok_or(Failure::Protocol(
            "no data channel cipher in common with the peer; let `data-ciphers` of both sides overlap, or name \
             the peer's cipher with `data-ciphers-fallback`",
        ))?;
        let flags = Flags {
            cc_exit: negotiates && hello.can(CC_EXIT_NOTIFY),
            tls_ekm: negotiates && hello.can(TLS_KEY_EXPORT),
            dyn_tls_crypt: negotiates && hello.can(DYN_TLS_CRYPT),
            aead_epoch: negotiates
                && hello.can(DATA_EPOCH)
                && hello.can(DATA_V2)
                && self.capabilities.epoch
                && common.is_some(),
            ecn: hello.heeds_marks() && self.capabilities.ecn,
        };
        let announced = if self.capabilities.asymmetric_ids { hello.peer_id() } else { None };
        let id = match (negotiates && hello.can(DATA_V2), flags.tls_ekm) {
            (false, _) => None,
            (true, true) if announced.is_some() => announced,
            (true, true) => {
                let mut bytes = [0; 3];
                self.exchange.tls().export(PEER_ID, &mut bytes).map_err(Failure::Tls)?;
                Some(PeerId::from_low_bits(u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]])))
            }
            (true, false) => Some(VPN),
        };
        let format = match id {
            Some(id) if flags.aead_epoch => DataFormat::Epoch(id),
            Some(id) => DataFormat::V2(id),
            None if self.capabilities.data_v1 => DataFormat::V1,
            None => {
                return Err(Failure::Protocol("the peer knows no peer-id, which this data plane needs"));
            }
        };
        let framing = framing::fit(channel.framing, self.capabilities).map_err(|_| {
            Failure::Protocol("compression framing is configured, which this data plane can't do")
        })?;
        let outer_ipv6 = self.path.remote().map(|remote| remote.is_ipv6());
        let mss =
            mss_for(channel.mssfix, format, framing, channel.tun_mtu, self.path.is_stream(), outer_ipv6);
        let params = DataParams {
            cipher,
            format,
            framing,
            replay: channel.replay,
            mss,
            by_path: true,
            float: channel.float,
            ecn: flags.ecn,
        };
        Ok(Agreed { params, flags, tun_mtu: channel.tun_mtu })
    }
}

/// The first of the TLS server's that the TLS client has, too.
fn common_cipher(config: &PeerConfig, hello: &PeerHello) -> Option<DataCipher> {
    let ours = &config.channel.ciphers;
    match config.role {
        TlsRole::Server => {
            ours.iter().copied().find(|own| hello.ciphers().any(|theirs| theirs == own.name()))
        }
        TlsRole::Client => {
            hello.ciphers().filter_map(DataCipher::from_name).find(|theirs| ours.contains(theirs))
        }
    }
}

fn summary(agreed: &Agreed) -> String {
    let (v2, epoch, id) = match agreed.params.format {
        DataFormat::V1 => (0, 0, 0),
        DataFormat::V2(id) => (1, 0, id.get()),
        DataFormat::Epoch(id) => (1, 1, id.get()),
    };
    format!(
        "TLS_export={}, DATA_v2={v2}, peer-id {id}, epoch={epoch}, cipher={}",
        u8::from(agreed.flags.tls_ekm),
        agreed.params.cipher.name()
    )
}
