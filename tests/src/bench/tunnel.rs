//! Tunnels between two namespaces: who plays an end, how they are set up, and how they are started.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use oxivpn_tests::{
    certs::{KeyKind, Pki},
    client::{Client, ClientSpec, Program, build},
    netns::{Lab, Side},
    openvpn::{READY, Server, ServerSpec, Transport, version, without_settings},
    ping::Ping,
    process::{Process, run},
    scenario::CONNECT,
};

use super::{options::Options, wireguard};

/// Address of the server in the tunnel, and of the client.
pub(crate) const INSIDE: [&str; 2] = ["10.8.0.1", "10.8.0.2"];

/// Who plays an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vpn {
    /// This project's.
    Own,
    /// OpenVPN.
    Real,
    /// A newer OpenVPN.
    Newer,
    /// `wireguard-go`, at both ends only.
    WireGuard,
}

/// The programs that are compared.
#[derive(Debug)]
pub(crate) struct Programs {
    /// This project's.
    pub(crate) own: Program,
    /// OpenVPN.
    pub(crate) real: Program,
    /// Its name and version.
    pub(crate) real_name: String,
    /// A newer OpenVPN, where it is needed and can be had.
    pub(crate) newer: Option<Program>,
    /// `wireguard-go`, if it is installed.
    pub(crate) wireguard: Option<PathBuf>,
}

impl Programs {
    /// Finds them; builds `oxivpn` unless another one is named.
    pub(crate) fn find(options: &Options) -> Result<Self> {
        let own = match &options.own {
            Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
            None => build(true)?,
        };
        let real = options.release.program()?.to_owned();
        let path = env::var_os("PATH").unwrap_or_default();
        let wireguard =
            env::split_paths(&path).map(|folder| folder.join("wireguard-go")).find(|file| file.is_file());
        Ok(Self {
            own: Program::at(own)?,
            real_name: version(&real)?.to_lowercase(),
            real: Program::at(real)?,
            newer: None,
            wireguard,
        })
    }

    fn get(&self, vpn: Vpn) -> Result<&Program> {
        match vpn {
            Vpn::Own => Ok(&self.own),
            Vpn::Real => Ok(&self.real),
            Vpn::Newer => self.newer.as_ref().context("no newer openvpn"),
            Vpn::WireGuard => Err(anyhow!("wireguard-go talks with wireguard-go only")),
        }
    }

    /// Name for the tables.
    pub(crate) fn name(&self, vpn: Vpn) -> &str {
        match vpn {
            Vpn::Own => "oxivpn",
            Vpn::Real => &self.real_name,
            Vpn::Newer => "newer openvpn",
            Vpn::WireGuard => "wireguard-go",
        }
    }

    /// Lines about them for the beginning of the output.
    pub(crate) fn describe(&self) -> Result<String> {
        let iperf = run("iperf3", &["--version"]).context("iperf3 is needed")?;
        let iperf = iperf.lines().next().unwrap_or_default().to_owned();
        let wireguard = match &self.wireguard {
            Some(path) => format!(
                "{} at {} (device MTU {})",
                run(&path.to_string_lossy(), &["--version"])?.lines().next().unwrap_or_default(),
                path.display(),
                wireguard::MTU
            ),
            None => "wireguard-go: not installed".into(),
        };
        let own = run(&self.own.path.to_string_lossy(), &["--version"])?;
        Ok(format!(
            "- {} at {}\n- {} at {}\n- {wireguard}\n- {iperf}",
            own.lines().next().unwrap_or_default(),
            self.own.path.display(),
            self.real_name,
            self.real.path.display(),
        ))
    }
}

/// How a tunnel is set up.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// Who plays the server, and who the client.
    pub(crate) ends: [Vpn; 2],
    /// Data channel's cipher.
    pub(crate) cipher: &'static str,
    /// Below the tunnel.
    pub(crate) transport: Transport,
    /// More lines for both ends.
    pub(crate) lines: Vec<String>,
}

impl Recipe {
    /// AES-256-GCM over UDP.
    pub(crate) fn new(server: Vpn, client: Vpn) -> Self {
        Self { ends: [server, client], cipher: "AES-256-GCM", transport: Transport::Udp4, lines: Vec::new() }
    }

    /// The same program at both ends.
    pub(crate) fn both(vpn: Vpn) -> Self {
        Self::new(vpn, vpn)
    }

    /// Sets the cipher.
    pub(crate) fn cipher(mut self, cipher: &'static str) -> Self {
        self.cipher = cipher;
        self
    }

    /// Sets the transport.
    pub(crate) fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Adds a line to both profiles.
    pub(crate) fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }
}

#[derive(Debug)]
enum Ends {
    OpenVpn { server: Server, client: Client, _pki: Box<Pki> },
    WireGuard(Box<[wireguard::End; 2]>),
}

/// A tunnel that has carried a ping. The ends are dropped before the namespaces.
#[derive(Debug)]
pub(crate) struct Link {
    ends: Ends,
    /// The namespaces.
    pub(crate) lab: Lab,
}

impl Link {
    /// Starts both ends and waits until a ping passes. A failure carries both logs.
    pub(crate) fn start(programs: &Programs, recipe: &Recipe) -> Result<Self> {
        let lab = Lab::new()?;
        let with_logs = |error: anyhow::Error, lab: &Lab| anyhow!("{error:#}\n{}", logs(lab));
        let ends = match recipe.ends {
            [Vpn::WireGuard, Vpn::WireGuard] => {
                let program = programs.wireguard.as_ref().context("wireguard-go is not installed")?;
                wireguard::start(&lab, program).map(|ends| Ends::WireGuard(Box::new(ends)))
            }
            _ => start_openvpn(&lab, programs, recipe),
        };
        let mut link = Self { ends: ends.map_err(|error| with_logs(error, &lab))?, lab };
        link.first_ping().map_err(|error| with_logs(error, &link.lab))?;
        Ok(link)
    }

    fn first_ping(&mut self) -> Result<()> {
        for _ in 0..10 {
            self.alive()?;
            let ping = Ping { count: 1, ..Ping::new(self.lab.ns(Side::Client), INSIDE[0]) };
            if ping.lost()? == 0 {
                return Ok(());
            }
        }
        Err(anyhow!("no ping passes through the tunnel"))
    }

    fn processes(&mut self) -> [&mut Process; 2] {
        match &mut self.ends {
            Ends::OpenVpn { server, client, .. } => [&mut server.process, &mut client.process],
            Ends::WireGuard(ends) => ends.each_mut().map(|end| &mut end.process),
        }
    }

    /// CPU time of the server's and the client's process so far, all threads, user and system.
    pub(crate) fn cpu(&mut self) -> Result<[Duration; 2]> {
        let [server, client] = self.processes();
        Ok([server.cpu()?, client.cpu()?])
    }

    /// Fails if an end has died or connected anew.
    pub(crate) fn alive(&mut self) -> Result<()> {
        let openvpn = matches!(self.ends, Ends::OpenVpn { .. });
        for (process, name) in self.processes().into_iter().zip(["server", "client"]) {
            let ended = process.try_status()?;
            ensure!(ended.is_none(), "the {name} died: {ended:?}");
            let times = process.lines(READY)?.len();
            ensure!(!openvpn || times == 1, "the {name} connected {times} times");
        }
        Ok(())
    }

    /// A failure of `what`, with the end of both logs behind its cause.
    pub(crate) fn failure(&self, what: &str, error: &anyhow::Error) -> anyhow::Error {
        anyhow!("{what}: {error:#}\n{}", logs(&self.lab))
    }

    /// What the client has printed.
    pub(crate) fn client_log(&mut self) -> String {
        let [_, client] = self.processes();
        client.log()
    }
}

fn start_openvpn(lab: &Lab, programs: &Programs, recipe: &Recipe) -> Result<Ends> {
    let [server, client] = recipe.ends;
    let (server, client) = (programs.get(server)?, programs.get(client)?);
    let pki = Box::new(Pki::new(KeyKind::EcdsaP256)?);
    // Logging as in an ordinary profile; the kernel's data channel is another program's.
    let mut lines = vec!["verb 3".to_owned(), "disable-dco".into()];
    lines.extend(recipe.lines.iter().cloned());
    let ciphers = format!("data-ciphers {}", recipe.cipher);
    let server_spec = ServerSpec {
        program: server.path.clone(),
        transport: recipe.transport,
        tls: None,
        ca: pki.ca.clone(),
        identity: pki.server.clone(),
        lines: [lines.clone(), vec![ciphers.clone()]].concat(),
    };
    let client_spec = ClientSpec {
        transport: recipe.transport,
        ca: Some(pki.ca.clone()),
        identity: pki.client.clone(),
        lines: [lines, vec![ciphers]].concat(),
    };
    let server = Server::start(lab, &server_spec)?;
    let mut client = Client::start(lab, client, &client_spec)?;
    client.process.wait_for(READY, CONNECT)?;
    let agreed = format!("Data Channel: cipher '{}'", recipe.cipher);
    client.process.wait_for(&agreed, Duration::from_secs(2)).context("another cipher")?;
    Ok(Ends::OpenVpn { server, client, _pki: pki })
}

fn logs(lab: &Lab) -> String {
    let read = |name: &str| {
        let text = std::fs::read(lab.dir().join(name)).unwrap_or_default();
        let text = without_settings(&String::from_utf8_lossy(&text));
        // wireguard-go begins with an advertisement in a frame.
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(['┌', '│', '└'])).collect();
        lines[lines.len().saturating_sub(6)..].join("\n")
    };
    format!(
        "----- end of server's log\n{}\n----- end of client's log\n{}",
        read("server.log"),
        read("client.log")
    )
}
