//! What the core needs of a profile.

use std::sync::Arc;

use oxivpn_proto::config::server::{ServerConfig, TokenConfig};
use oxivpn_proto::config::{ChannelConfig, ClientConfig, PeerConfig, PeerInfo, Timing};
use oxivpn_proto::keys::data_key::TlsRole;
use oxivpn_proto::tls::TlsFactory;
use oxivpn_proto::tls::rustls::{ClientCertMode, TlsOptions};
use oxivpn_proto::wrap::WrapConfig;
use zeroize::Zeroizing;

use crate::error::ProfileError;
use crate::keys;
use crate::profile::{PrivateKey, Profile, Remote};
use crate::server::{PeerOptions, Role, ServerOptions};

impl Profile {
    /// What holds for a channel of any kind; sizes and the like are set by the caller.
    fn channel(&self, wrap: WrapConfig, tls: Arc<dyn TlsFactory>) -> ChannelConfig {
        ChannelConfig {
            ciphers: self.tunnel.ciphers.clone(),
            fallback: self.tunnel.fallback,
            auth_name: self.tunnel.auth_name.clone(),
            timing: self.tunnel.timing,
            keepalive: self.tunnel.keepalive,
            framing: self.tunnel.compression.framing,
            replay: self.tunnel.replay,
            peer_info: PeerInfo {
                version: env!("CARGO_PKG_VERSION").into(),
                platform: platform().into(),
                extra: self.tunnel.peer_info.clone(),
            },
            ..ChannelConfig::new(wrap, tls)
        }
    }

    /// The channel to `remote`.
    fn channel_to(&self, remote: &Remote, tls: Arc<dyn TlsFactory>) -> ChannelConfig {
        let channel = self.channel(remote.wrap.clone(), tls);
        ChannelConfig {
            timing: Timing { server_poll: remote.poll_timeout, ..channel.timing },
            max_packet_size: remote.max_packet_size,
            tun_mtu: remote.tun_mtu,
            mssfix: remote.mssfix,
            exit_notify: remote.exit_notify,
            float: remote.float,
            ..channel
        }
    }

    /// What the core needs for a connection to `remote`, one of `remotes`. `peer_info.version` is this
    /// crate's, `platform` the system's; a caller with a name of its own changes them.
    pub fn client_config(&self, remote: &Remote, tls: Arc<dyn TlsFactory>) -> ClientConfig {
        let channel = self.channel_to(remote, tls);
        ClientConfig {
            channel,
            pull: self.tunnel.pull.clone(),
            tun_mtu_max: remote.tun_mtu_max,
            allow_compression: self.tunnel.compression.allow,
        }
    }

    /// What the core needs to be the server that `server`, of `role`, describes. `drawn` is random and becomes the
    /// secret of tokens if no file gives one; it should live as long as tokens are to be good. Clients may float.
    pub fn server_config(
        &self,
        server: &ServerOptions,
        drawn: &Zeroizing<[u8; 32]>,
        tls: Arc<dyn TlsFactory>,
    ) -> ServerConfig {
        // What is looked at for each key, whatever it is that lets the client in.
        let looks =
            self.scripts.tls_verify.is_some() || server.tls_crypt_v2_verify.is_some() || server.ccd_exclusive;
        let asks = server.auth_verify.is_some()
            || self.management.as_ref().is_some_and(|management| management.client_auth);
        ServerConfig {
            channel: ChannelConfig {
                max_packet_size: server.max_packet_size,
                tun_mtu: server.tun_mtu,
                mssfix: server.mssfix,
                float: true,
                ..self.channel(server.wrap.clone(), tls)
            },
            tls_crypt_v2: server.tls_crypt_v2.clone(),
            max_clients: server.max_clients,
            initial_rate: server.connect_freq_initial,
            connect_rate: server.connect_freq,
            login: server.login,
            ask_login: asks || looks,
            ask_with_token: looks,
            username_as_common_name: server.username_as_common_name,
            duplicate_cn: server.duplicate_cn,
            token: server.token.as_ref().map(|token| TokenConfig {
                lifetime: token.lifetime,
                renewal: token.renewal,
                external: token.external,
                secret: token.secret.clone().unwrap_or_else(|| drawn.clone()),
            }),
            require_tls_ekm: server.require_tls_ekm,
            migrate_compression: self.tunnel.compression.migrate,
        }
    }

    /// What the core needs to be the end of a point-to-point tunnel that `peer`, of `role`, describes. `remote` is
    /// one of `remotes`, if there are any. Which address a `tls-server` answers to is left open (`remote: None`), as
    /// names are not looked up here.
    pub fn peer_config(
        &self,
        peer: &PeerOptions,
        remote: Option<&Remote>,
        tls: Arc<dyn TlsFactory>,
    ) -> PeerConfig {
        let channel = match remote {
            Some(remote) => self.channel_to(remote, tls),
            None => ChannelConfig {
                max_packet_size: peer.max_packet_size,
                tun_mtu: peer.tun_mtu,
                mssfix: peer.mssfix,
                exit_notify: peer.exit_notify,
                float: peer.float,
                ..self.channel(peer.wrap.clone(), tls)
            },
        };
        let role = if peer.server { TlsRole::Server } else { TlsRole::Client };
        PeerConfig { channel, role, tls_crypt_v2: peer.tls_crypt_v2.clone(), remote: None }
    }

    /// Whether the private key is encrypted and `askpass` doesn't say how to open it: ask for the
    /// passphrase and give it to [`tls_options`](Self::tls_options).
    pub fn needs_passphrase(&self) -> bool {
        matches!(self.tls.key, PrivateKey::Encrypted(_)) && self.tls.passphrase.is_none()
    }

    /// Material for `RustlsFactory`. `passphrase` opens an encrypted private key; without it that of
    /// `askpass` is used. Fails if the passphrase is missing or wrong, or the encryption is unknown.
    pub fn tls_options(&self, passphrase: Option<&str>) -> Result<TlsOptions, ProfileError> {
        let own = self.tls.passphrase.as_ref().map(|own| own.as_str());
        let key = match (&self.tls.key, passphrase.or(own)) {
            (PrivateKey::None, _) => None,
            (PrivateKey::Plain(der), _) => Some(der.clone()),
            (PrivateKey::Encrypted(der), Some(passphrase)) => {
                let opened = keys::decrypt(der, passphrase);
                Some(opened.map_err(|(why, cure)| ProfileError::whole(format!("key: {why}"), cure))?)
            }
            (PrivateKey::Encrypted(_), None) => {
                return Err(ProfileError::whole(
                    "key: the private key is encrypted and there is no passphrase",
                    "Write it into a file and name it with `askpass FILE`, or start from a terminal",
                ));
            }
        };
        Ok(TlsOptions {
            ca: self.tls.ca.clone(),
            certs: self.tls.certs.clone(),
            key,
            rules: self.tls.rules.clone(),
            min_version: self.tls.min_version,
            max_version: self.tls.max_version,
            suites12: self.tls.suites12.clone(),
            suites13: self.tls.suites13.clone(),
            groups: self.tls.groups.clone(),
            client_cert: match &self.role {
                Role::Server(server) => server.client_cert.into(),
                Role::Client | Role::Peer(_) => ClientCertMode::Require,
            },
        })
    }
}

/// `IV_PLAT` of this system.
const fn platform() -> &'static str {
    if cfg!(target_os = "linux") {
        "linux"
    } else if cfg!(target_os = "macos") {
        "mac"
    } else if cfg!(windows) {
        "win"
    } else if cfg!(target_os = "freebsd") {
        "freebsd"
    } else if cfg!(target_os = "openbsd") {
        "openbsd"
    } else if cfg!(target_os = "netbsd") {
        "netbsd"
    } else if cfg!(target_os = "android") {
        "android"
    } else {
        "unknown"
    }
}
