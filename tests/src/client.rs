//! The programs under test, and the client.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    certs::Identity,
    netns::{Lab, SERVER_V4, SERVER_V6, Side},
    openvpn::{Transport, compose, inline},
    process::{Process, command_in},
};

/// Which program it is; some messages and features differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This project's.
    Oxivpn,
    /// A real OpenVPN, to check the tests themselves or to compare with.
    OpenVpn {
        /// Whether it is 2.7 or later.
        newer: bool,
    },
}

/// The program under test.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// The client under test: `OXIVPN_TEST_CLIENT`, or else this workspace's `oxivpn`, built first.
pub fn program() -> Result<&'static Program> {
    static PROGRAM: OnceLock<Result<Program, String>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| locate("OXIVPN_TEST_CLIENT").map_err(|e| format!("{e:#}")))
        .as_ref()
        .map_err(|e| anyhow!("{e}"))
}

/// The server under test: `OXIVPN_TEST_SERVER`, or else this workspace's `oxivpn`, built first.
pub fn server_program() -> Result<&'static Program> {
    static PROGRAM: OnceLock<Result<Program, String>> = OnceLock::new();
    let find = || locate("OXIVPN_TEST_SERVER").map_err(|e| format!("{e:#}"));
    PROGRAM.get_or_init(find).as_ref().map_err(|e| anyhow!("{e}"))
}

fn locate(variable: &str) -> Result<Program> {
    let path = match env::var_os(variable) {
        Some(path) => path.into(),
        None => build(false)?,
    };
    Program::at(path)
}

impl Program {
    /// Asks the program at `path` what it is.
    pub fn at(path: PathBuf) -> Result<Self> {
        let output =
            Command::new(&path).arg("--version").output().with_context(|| format!("{}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let kind = match text.strip_prefix("OpenVPN 2.") {
            Some(rest) => {
                let minor = rest.split(['.', '_', ' ']).next().and_then(|m| m.parse::<u32>().ok());
                Kind::OpenVpn { newer: minor.is_some_and(|m| m >= 7) }
            }
            None => Kind::Oxivpn,
        };
        Ok(Self { path, kind })
    }
}

/// Builds the workspace's `oxivpn` into the target folder that this program runs from and returns its path.
///
/// The profile is this program's own, or release if `release` is set.
pub fn build(release: bool) -> Result<PathBuf> {
    Ok(build_part(["--bin", "oxivpn"], release)?.join("oxivpn"))
}

/// As [`build`], for an example of package `oxivpn` with profile release.
pub fn build_example(name: &str) -> Result<PathBuf> {
    Ok(build_part(["--example", name], true)?.join("examples").join(name))
}

/// Builds a part of package `oxivpn` and returns the profile's folder.
fn build_part(part: [&str; 2], release: bool) -> Result<PathBuf> {
    let own = env::current_exe()?;
    // target/PROFILE/deps/interop-1234 or target/PROFILE/throughput
    let profile = own
        .ancestors()
        .find(|p| matches!(p.file_name().and_then(|n| n.to_str()), Some("debug" | "release")))
        .context("not run from a target folder of cargo; set OXIVPN_TEST_CLIENT")?;
    let target = profile.parent().context("target folder")?;
    let release = release || profile.ends_with("release");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "oxivpn"]).args(part).arg("--target-dir").arg(target);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    if release {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cannot run cargo; set OXIVPN_TEST_CLIENT")?;
    ensure!(
        status.success(),
        "cargo build --package oxivpn failed; set OXIVPN_TEST_CLIENT to test another client"
    );
    Ok(target.join(if release { "release" } else { "debug" }))
}

/// All that decides a client's profile.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// Transport to the server.
    pub transport: Transport,
    /// Its authority, if it has one.
    pub ca: Option<PathBuf>,
    /// Its certificate.
    pub identity: Identity,
    /// More lines; they replace defaults that begin with the same word.
    pub lines: Vec<String>,
}

impl ClientSpec {
    /// The profile.
    pub fn text(&self) -> Result<String> {
        let (proto, host) = match self.transport {
            Transport::Udp4 => ("udp4", SERVER_V4),
            Transport::Udp6 => ("udp6", SERVER_V6),
            Transport::Tcp4 => ("tcp4-client", SERVER_V4),
        };
        let block = |word: &str, path: &Path| -> Result<String> {
            Ok(inline(word, &fs::read_to_string(path).with_context(|| path.display().to_string())?))
        };
        let mut defaults = vec![
            "client".into(),
            "dev tun".into(),
            format!("proto {proto}"),
            format!("remote {host} 1194"),
            "nobind".into(),
            "remote-cert-tls server".into(),
            "connect-retry 1 1".into(),
            "verb 4".into(),
            block("cert", &self.identity.cert)?,
            block("key", &self.identity.key)?,
        ];
        if let Some(ca) = &self.ca {
            defaults.push(block("ca", ca)?);
        }
        Ok(compose(defaults, &self.lines))
    }
}

/// A running client.
#[derive(Debug)]
pub struct Client {
    /// The process with its log.
    pub process: Process,
}

impl Client {
    /// Starts it in the client's namespace; doesn't wait for anything.
    pub fn start(lab: &Lab, program: &Program, spec: &ClientSpec) -> Result<Self> {
        let profile = lab.dir().join("client.ovpn");
        fs::write(&profile, spec.text()?)?;
        let mut command = command_in(lab.ns(Side::Client), &program.path);
        command.arg("--config").arg(&profile).current_dir(lab.dir());
        let process = Process::spawn("client", command, &lab.dir().join("client.log"))?;
        Ok(Self { process })
    }
}
