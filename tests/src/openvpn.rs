//! The real servers: the distribution's `openvpn` and a newer one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use crate::{
    certs::Identity,
    netns::{Lab, Side},
    process::{Process, command_in, run},
};

/// How long a server may take to be ready.
const START: Duration = Duration::from_secs(10);

/// Which real OpenVPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// The distribution's, 2.6.
    Distribution,
    /// 2.7 or later, from `tests/openvpn-newer.sh`.
    Newer,
}

impl Release {
    /// Both, in the order in which they are tested.
    pub const ALL: [Self; 2] = [Self::Distribution, Self::Newer];

    /// Word for the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Distribution => "distribution",
            Self::Newer => "newer",
        }
    }

    /// Path of the program; found, or unpacked, once.
    pub fn program(self) -> Result<&'static Path> {
        static DISTRIBUTION: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static NEWER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let found = match self {
            Self::Distribution => DISTRIBUTION.get_or_init(|| distribution().map_err(|e| format!("{e:#}"))),
            Self::Newer => NEWER.get_or_init(|| newer().map_err(|e| format!("{e:#}"))),
        };
        found.as_deref().map_err(|e| anyhow!("{e}"))
    }
}

fn distribution() -> Result<PathBuf> {
    if let Some(path) = env::var_os("OXIVPN_TEST_OPENVPN") {
        return Ok(path.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join("openvpn"))
        .find(|candidate| candidate.is_file())
        .context("no `openvpn` in PATH; install the distribution's package openvpn")
}

fn newer() -> Result<PathBuf> {
    if let Some(path) = env::var_os("OXIVPN_TEST_NEWER") {
        return Ok(path.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("openvpn-newer.sh");
    let path = run::<&str>(&script.to_string_lossy(), &[]).context("no newer openvpn")?;
    Ok(path.trim().into())
}

/// First line of `openvpn --version`, as far as the platform's name.
pub fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

/// Protection of the control channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// None: plain TLS.
    None,
    /// `tls-auth` with `key-direction 1` at the client.
    TlsAuthDirection,
    /// `tls-auth` without a direction.
    TlsAuth,
    /// `tls-crypt`.
    TlsCrypt,
    /// `tls-crypt-v2`.
    TlsCryptV2,
}

impl Wrap {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::None, Self::TlsAuthDirection, Self::TlsAuth, Self::TlsCrypt, Self::TlsCryptV2];

    /// Word for the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "plain",
            Self::TlsAuthDirection => "tls-auth-1",
            Self::TlsAuth => "tls-auth",
            Self::TlsCrypt => "tls-crypt",
            Self::TlsCryptV2 => "tls-crypt-v2",
        }
    }

    /// Makes keys with `openvpn --genkey` in a new folder `dir`; returns the server's and the client's lines.
    pub fn generate(self, dir: &Path) -> Result<WrapLines> {
        fs::create_dir_all(dir)?;
        let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let genkey = |args: &[&str]| -> Result<String> {
            run(&Release::Distribution.program()?.to_string_lossy(), args)?;
            Ok(fs::read_to_string(args[args.len() - 1])?)
        };
        let mut lines = WrapLines::default();
        let shared = path("shared.key");
        if self == Self::TlsCryptV2 {
            let (server, client) = (path("v2-server.key"), path("v2-client.key"));
            genkey(&["--genkey", "tls-crypt-v2-server", &server])?;
            let text = genkey(&["--tls-crypt-v2", &server, "--genkey", "tls-crypt-v2-client", &client])?;
            lines.server.push(format!("tls-crypt-v2 {server}"));
            lines.client.push(inline("tls-crypt-v2", &text));
        } else if self != Self::None {
            let text = genkey(&["--genkey", "secret", &shared])?;
            let word = if self == Self::TlsCrypt { "tls-crypt" } else { "tls-auth" };
            let direction = if self == Self::TlsAuthDirection { " 0" } else { "" };
            lines.server.push(format!("{word} {shared}{direction}"));
            lines.client.push(inline(word, &text));
            if self == Self::TlsAuthDirection {
                lines.client.push("key-direction 1".into());
            }
        }
        Ok(lines)
    }
}

/// Configuration lines that belong to one set of keys.
#[derive(Clone, Debug, Default)]
pub struct WrapLines {
    /// For the server, with file names.
    pub server: Vec<String>,
    /// For the client, with inline blocks.
    pub client: Vec<String>,
}

/// `<word>` ... `</word>`.
pub fn inline(word: &str, text: &str) -> String {
    format!("<{word}>\n{}\n</{word}>", text.trim_end())
}

/// Transport below the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
    /// TCP over IPv4.
    Tcp4,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Udp4, Self::Udp6, Self::Tcp4];

    /// Word for the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp4 => "udp4",
            Self::Udp6 => "udp6",
            Self::Tcp4 => "tcp4",
        }
    }
}

/// TLS version that the server insists on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

impl Tls {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V12, Self::V13];

    /// Word for the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::V12 => "tls12",
            Self::V13 => "tls13",
        }
    }

    /// As OpenVPN's log writes it.
    pub fn in_log(self) -> &'static str {
        match self {
            Self::V12 => "TLSv1.2",
            Self::V13 => "TLSv1.3",
        }
    }
}

/// All that decides a server's configuration.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// Which program.
    pub program: PathBuf,
    /// Transport it listens on.
    pub transport: Transport,
    /// Version of TLS; `None` leaves the program's default.
    pub tls: Option<Tls>,
    /// Its authority.
    pub ca: PathBuf,
    /// Its certificate.
    pub identity: Identity,
    /// More lines; they replace defaults that begin with the same word.
    pub lines: Vec<String>,
}

impl ServerSpec {
    /// The configuration file.
    pub fn text(&self, dir: &Path) -> String {
        let proto = match self.transport {
            Transport::Udp4 => "udp4",
            Transport::Udp6 => "udp6",
            Transport::Tcp4 => "tcp4-server",
        };
        let path = |p: &Path| p.to_string_lossy().into_owned();
        let mut defaults = vec![
            format!("cd {}", path(dir)),
            "dev tun".into(),
            format!("proto {proto}"),
            "port 1194".into(),
            "topology subnet".into(),
            "server 10.8.0.0 255.255.255.0".into(),
            "server-ipv6 fd08::/64".into(),
            format!("ca {}", path(&self.ca)),
            format!("cert {}", path(&self.identity.cert)),
            format!("key {}", path(&self.identity.key)),
            "dh none".into(),
            "keepalive 10 60".into(),
            "script-security 2".into(),
            // The kernel's data channel, where there is one, would hide the cipher from the log.
            "disable-dco".into(),
            "verb 4".into(),
        ];
        match self.tls {
            Some(Tls::V12) => defaults.push("tls-version-max 1.2".into()),
            Some(Tls::V13) => defaults.push("tls-version-min 1.3".into()),
            None => {}
        }
        compose(defaults, &self.lines)
    }
}

/// The defaults whose first word no line of `lines` has, then `lines`. A line `!word` only drops the default.
pub fn compose(defaults: Vec<String>, lines: &[String]) -> String {
    fn word(line: &str) -> &str {
        line.trim_start_matches(['<', '!']).split([' ', '>', '\n']).next().unwrap_or_default()
    }
    let kept = defaults.into_iter().filter(|default| !lines.iter().any(|line| word(line) == word(default)));
    let mut text: String = kept.map(|line| line + "\n").collect();
    for line in lines.iter().filter(|line| !line.starts_with('!')) {
        text += line;
        text.push('\n');
    }
    text
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// The process with its log.
    pub process: Process,
}

impl Server {
    /// Starts it in the server's namespace and waits until it accepts clients.
    pub fn start(lab: &Lab, spec: &ServerSpec) -> Result<Self> {
        Self::start_in(lab.ns(Side::Server), lab.dir(), spec)
    }

    /// Starts it in the namespace `ns` with its files in `dir` and waits until it accepts clients.
    pub fn start_in(ns: &str, dir: &Path, spec: &ServerSpec) -> Result<Self> {
        let config = dir.join("server.ovpn");
        fs::write(&config, spec.text(dir))?;
        let mut command = command_in(ns, &spec.program);
        command.arg("--config").arg(&config);
        // One log over several starts, each with its number of lines "Initialization Sequence Completed".
        let log = dir.join("server.log");
        let before = fs::read_to_string(&log).unwrap_or_default().matches(READY).count();
        let mut process = Process::spawn("server", command, &log)?;
        process
            .wait_for_count(READY, before + 1, START)
            .with_context(|| format!("server's log:\n{}", without_settings(&process.log())))?;
        Ok(Self { process })
    }
}

/// Drops the hundred lines of settings, `name = value`, that OpenVPN prints first at `verb 4`.
pub fn without_settings(log: &str) -> String {
    let setting = |line: &str| line.contains("   ") && line.contains(" = ") || line.contains(" [UNDEF]");
    log.lines().filter(|line| !setting(line)).map(|line| format!("{line}\n")).collect()
}

/// The line that OpenVPN prints when it is ready, as a client and as a server.
pub const READY: &str = "Initialization Sequence Completed";
