//! What option lines say, before files are read and defaults depend on each other.

pub(crate) mod scope;
pub(crate) mod server;

use core::net::IpAddr;
use core::time::Duration;
use std::path::{Path, PathBuf};

use oxivpn_proto::config::params::ReplayWindow;
use oxivpn_proto::config::{Keepalive, Mssfix, PullPolicy, Timing};
use oxivpn_proto::options::compression::Compression;
use oxivpn_proto::options::values::OptionError;
use oxivpn_proto::tls::rustls::TlsVersion;
use oxivpn_proto::tls::verify::{CertRole, NameRule};
use oxivpn_proto::wrap::static_key::KeyDirection;
use zeroize::Zeroizing;

use crate::command::Show;
use crate::grammar::Line;
use crate::profile::{
    AuthRetry, DeviceKind, Family, HostOptions, LogOptions, ProcessOptions, Protocol, SocketOptions,
    StaticChallenge,
};
use crate::warn::{Origin, Warning};
use scope::ScopedLine;
use server::{ManagementDraft, ScriptDraft, ServerDraft};

/// Where the content of an option stands.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) place: Place,
    pub(crate) origin: Origin,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    File(String),
    Inline(Zeroizing<String>),
}

/// Options that a `<connection>` block may set.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each option")]
pub(crate) struct Connection {
    pub(crate) remote: Option<RemoteLine>,
    pub(crate) remote_port: Option<u16>,
    pub(crate) local_port: Option<u16>,
    pub(crate) protocol: Protocol,
    pub(crate) family: Family,
    pub(crate) local: Option<Option<IpAddr>>,
    /// `lport` with a port other than 0.
    pub(crate) lport: bool,
    pub(crate) bind: bool,
    pub(crate) ipv6_only: bool,
    pub(crate) nobind: bool,
    pub(crate) retry_wait: Duration,
    pub(crate) retry_wait_max: Duration,
    pub(crate) poll_timeout: Duration,
    pub(crate) float: bool,
    pub(crate) tun_mtu: u16,
    pub(crate) tun_mtu_max: u16,
    pub(crate) mssfix: Mssfix,
    pub(crate) max_packet_size: u16,
    pub(crate) exit_notify: Option<u8>,
    pub(crate) wrap: WrapDraft,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            remote: None,
            remote_port: None,
            local_port: None,
            protocol: Protocol::Udp,
            family: Family::Any,
            local: None,
            lport: false,
            bind: false,
            ipv6_only: false,
            nobind: false,
            retry_wait: Duration::from_secs(1),
            retry_wait_max: Duration::from_secs(300),
            poll_timeout: Duration::from_secs(120),
            float: false,
            tun_mtu: 1500,
            tun_mtu_max: 1600,
            mssfix: Mssfix::Default,
            max_packet_size: 1250,
            exit_notify: None,
            wrap: WrapDraft::default(),
        }
    }
}

/// `remote`.
#[derive(Clone, Debug)]
pub(crate) struct RemoteLine {
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Option<(Protocol, Family)>,
    pub(crate) origin: Origin,
}

/// `tls-auth`, `tls-crypt`, `tls-crypt-v2`, `key-direction`.
#[derive(Clone, Debug, Default)]
pub(crate) struct WrapDraft {
    pub(crate) auth: Option<Source>,
    pub(crate) crypt: Option<Source>,
    pub(crate) crypt_v2: Option<Source>,
    pub(crate) direction: KeyDirection,
}

impl WrapDraft {
    pub(crate) const fn is_empty(&self) -> bool {
        self.auth.is_none() && self.crypt.is_none() && self.crypt_v2.is_none()
    }
}

/// `crl-verify`.
#[derive(Clone, Debug)]
pub(crate) enum Revoked {
    List(Source),
    Directory(Source),
}

/// TLS options.
#[derive(Debug)]
pub(crate) struct TlsDraft {
    pub(crate) ca: Option<Source>,
    pub(crate) cert: Option<Source>,
    pub(crate) extra_certs: Option<Source>,
    pub(crate) key: Option<Source>,
    /// `Some(None)`: ask.
    pub(crate) askpass: Option<Option<Source>>,
    pub(crate) fingerprints: Vec<[u8; 32]>,
    pub(crate) role: Option<CertRole>,
    pub(crate) key_usage: Vec<u16>,
    pub(crate) extended_key_usage: Option<String>,
    pub(crate) name: Option<NameRule>,
    pub(crate) revoked: Option<Revoked>,
    pub(crate) min_version: TlsVersion,
    pub(crate) max_version: TlsVersion,
    pub(crate) suites12: Vec<String>,
    pub(crate) suites13: Vec<String>,
    pub(crate) groups: Vec<String>,
}

/// `auth-user-pass`.
#[derive(Clone, Debug)]
pub(crate) enum UserPass {
    Prompt,
    From(Source),
}

/// Cipher options.
#[derive(Debug, Default)]
pub(crate) struct CipherDraft {
    pub(crate) list: Option<(String, Origin)>,
    pub(crate) single: Option<(String, Origin)>,
    pub(crate) fallback: Option<(String, Origin)>,
    pub(crate) auth: Option<(String, Origin)>,
}

/// `comp-lzo`, `compress` and `allow-compression`.
#[derive(Debug, Default)]
pub(crate) struct CompressionDraft {
    pub(crate) line: Option<(Compression, Origin)>,
    pub(crate) allow: Option<Allow>,
}

/// `allow-compression`; `yes` means `asym`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allow {
    No,
    Asym,
}

/// `genkey`.
#[derive(Clone, Debug)]
pub(crate) struct GenkeyLine {
    pub(crate) kind: String,
    pub(crate) file: Option<String>,
    pub(crate) metadata: Option<String>,
    pub(crate) origin: Origin,
}

/// All that option lines have said so far.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each option")]
pub(crate) struct Draft {
    pub(crate) tls_client: bool,
    pub(crate) pull: bool,
    /// Settings outside of blocks, or within the block that is being read.
    pub(crate) connection: Connection,
    pub(crate) in_block: bool,
    pub(crate) remotes: Vec<RemoteLine>,
    pub(crate) blocks: Vec<Connection>,
    pub(crate) block_at: Option<Origin>,
    /// Wrap keys outside of blocks.
    pub(crate) wrap: WrapDraft,
    pub(crate) protocol_force: Option<Protocol>,
    pub(crate) shuffle: bool,
    pub(crate) random_hostname: bool,
    pub(crate) resolve: Option<Duration>,
    pub(crate) rounds: Option<u32>,
    pub(crate) keep_address: bool,
    pub(crate) device: Option<(String, Origin)>,
    pub(crate) device_type: Option<(String, Origin)>,
    pub(crate) queue_len: Option<u32>,
    pub(crate) persist_tun: bool,
    pub(crate) socket: SocketOptions,
    pub(crate) user_pass: Option<UserPass>,
    pub(crate) user_pass_at: Option<Origin>,
    pub(crate) no_cache: bool,
    pub(crate) auth_retry: AuthRetry,
    pub(crate) challenge: Option<StaticChallenge>,
    pub(crate) host: HostOptions,
    pub(crate) log: LogOptions,
    pub(crate) process: ProcessOptions,
    pub(crate) ciphers: CipherDraft,
    pub(crate) compression: CompressionDraft,
    pub(crate) timing: Timing,
    pub(crate) keepalive: Keepalive,
    pub(crate) replay: ReplayWindow,
    pub(crate) policy: PullPolicy,
    pub(crate) push_peer_info: bool,
    pub(crate) tls: TlsDraft,
    pub(crate) server: ServerDraft,
    pub(crate) scripts: ScriptDraft,
    pub(crate) management: ManagementDraft,
    /// `status`: file and period.
    pub(crate) status: Option<(String, Duration)>,
    pub(crate) status_version: u8,
    /// Lines whose options belong to some kinds of profiles only.
    pub(crate) scoped: Vec<ScopedLine>,
    pub(crate) genkey: Option<GenkeyLine>,
    pub(crate) show: Vec<Show>,
    pub(crate) secret: Option<(String, Origin)>,
    pub(crate) forward_compatible: bool,
    /// `ignore-unknown-option`.
    pub(crate) optional: Vec<String>,
    pub(crate) warnings: Vec<Warning>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            tls_client: false,
            pull: false,
            connection: Connection::default(),
            in_block: false,
            remotes: Vec::new(),
            blocks: Vec::new(),
            block_at: None,
            wrap: WrapDraft::default(),
            protocol_force: None,
            shuffle: false,
            random_hostname: false,
            resolve: None,
            rounds: None,
            keep_address: false,
            device: None,
            device_type: None,
            queue_len: None,
            persist_tun: false,
            socket: SocketOptions::default(),
            user_pass: None,
            user_pass_at: None,
            no_cache: false,
            auth_retry: AuthRetry::None,
            challenge: None,
            host: HostOptions::default(),
            log: LogOptions {
                verbosity: 1,
                mute: 0,
                no_timestamps: false,
                machine_readable: false,
                file: None,
                mute_replay: false,
            },
            process: ProcessOptions::default(),
            ciphers: CipherDraft::default(),
            compression: CompressionDraft::default(),
            timing: Timing::default(),
            keepalive: Keepalive::default(),
            replay: ReplayWindow::DEFAULT,
            policy: PullPolicy::default(),
            push_peer_info: false,
            tls: TlsDraft {
                ca: None,
                cert: None,
                extra_certs: None,
                key: None,
                askpass: None,
                fingerprints: Vec::new(),
                role: None,
                key_usage: Vec::new(),
                extended_key_usage: None,
                name: None,
                revoked: None,
                min_version: TlsVersion::V12,
                max_version: TlsVersion::V13,
                suites12: Vec::new(),
                suites13: Vec::new(),
                groups: Vec::new(),
            },
            server: ServerDraft::default(),
            scripts: ScriptDraft::default(),
            management: ManagementDraft::default(),
            status: None,
            status_version: 1,
            scoped: Vec::new(),
            genkey: None,
            show: Vec::new(),
            secret: None,
            forward_compatible: false,
            optional: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl Draft {
    pub(crate) fn warn(&mut self, origin: &Origin, text: impl Into<String>) {
        self.warnings.push(Warning { origin: Some(origin.clone()), text: text.into() });
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.warnings.push(Warning { origin: None, text: text.into() });
    }

    /// Where the wrap keys of the current scope go.
    pub(crate) const fn wrap_mut(&mut self) -> &mut WrapDraft {
        if self.in_block { &mut self.connection.wrap } else { &mut self.wrap }
    }

    /// A path of the profile, resolved against `cd`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match &self.process.directory {
            Some(directory) => directory.join(name),
            None => name.into(),
        }
    }

    /// A path that is used once `chroot` is done: its name in there, and where it is until then.
    pub(crate) fn path_inside(&self, name: &str) -> (PathBuf, PathBuf) {
        match &self.process.chroot {
            None => (self.path(name), self.path(name)),
            Some(root) => {
                let inside = Path::new("/").join(name);
                let root = self.path(&root.to_string_lossy());
                let outside = root.join(inside.strip_prefix("/").unwrap_or(&inside));
                (inside, outside)
            }
        }
    }
}

/// Why an option line can't be taken.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Missing or extra parameters.
    Parameters,
    /// What is wrong with a value.
    Value(String),
    /// Legal in OpenVPN but refused here: what and why, and the cure.
    Refused(String, String),
}

impl From<OptionError> for Fault {
    fn from(error: OptionError) -> Self {
        match error {
            OptionError::Parameters => Self::Parameters,
            other => Self::Value(other.to_string()),
        }
    }
}

impl Line {
    /// The first parameter; the table makes sure that required ones are there.
    pub(crate) fn first(&self) -> Result<&str, Fault> {
        self.words.first().map(String::as_str).ok_or(Fault::Parameters)
    }

    /// The parameter with this index from 0.
    pub(crate) fn word(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(String::as_str)
    }

    /// Name and parameters.
    pub(crate) fn all(&self) -> Vec<&str> {
        core::iter::once(self.name.as_str()).chain(self.words.iter().map(String::as_str)).collect()
    }

    /// All parameters.
    pub(crate) fn strs(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// The inline text or the file that the first parameter names. `None` for the word `[inline]`, which
    /// only announces a block.
    pub(crate) fn source(&self) -> Result<Option<Source>, Fault> {
        let place = match &self.inline {
            Some(inline) => Place::Inline(inline.0.clone()),
            None if self.first()? == "[inline]" => return Ok(None),
            None => Place::File(self.first()?.into()),
        };
        Ok(Some(Source { place, origin: self.origin.clone() }))
    }
}

/// The device that `dev` and `dev-type` name.
pub(crate) fn device_kind(name: Option<&str>, kind: Option<&str>) -> Result<DeviceKind, Fault> {
    let name = name.unwrap_or("tun");
    let tap = || {
        let text = "tap devices (`dev tap`) are not built yet".to_string();
        Fault::Refused(text, "Use `dev tun` on both sides, or the OpenVPN client".into())
    };
    match kind {
        Some("tap") => return Err(tap()),
        Some("tun") | None => {}
        Some(other) => return Err(Fault::Value(format!("dev-type '{other}' must be tun"))),
    }
    if let Some(number) = name.strip_prefix("fd:") {
        return match number.parse::<i32>() {
            Ok(number) if number >= 0 => Ok(DeviceKind::Descriptor(number)),
            _ => Err(Fault::Value(format!("'{number}' is not a file descriptor"))),
        };
    }
    if name == "null" && kind.is_none() {
        return Ok(DeviceKind::Null);
    }
    if kind.is_none() && name.starts_with("tap") {
        return Err(tap());
    }
    if kind.is_none() && !name.starts_with("tun") {
        return Err(Fault::Value(format!(
            "I don't recognize device {name} as a tun, tap, or null device; add `dev-type tun`"
        )));
    }
    if name == "tun" {
        return Ok(DeviceKind::Tun(None));
    }
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    if name.len() > 15 || !name.bytes().all(legal) || matches!(name, "." | "..") {
        return Err(Fault::Value(format!("'{name}' is not an interface name of up to 15 characters")));
    }
    Ok(DeviceKind::Tun(Some(name.into())))
}
