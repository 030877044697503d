//! Point to point: a `tls-server` and a `tls-client`, neither of them with options that the other pushes.

use std::{fs, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;

use crate::{
    certs::{KeyKind, Pki},
    client::{self, Kind, Program},
    netns::{SERVER_V4, SERVER_V6},
    openvpn::{Release, Transport, Wrap, compose, without_settings},
    ping::Ping,
    process::{Process, command_in},
    scenario::{LEAVE, merge},
    star::Star,
};

/// Address of the `tls-server` in the tunnel, and of the `tls-client`.
pub const INSIDE: [&str; 2] = ["10.8.0.1", "10.8.0.2"];
/// The same, IPv6.
pub const INSIDE_V6: [&str; 2] = ["fd08::1", "fd08::2"];

/// Who plays an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// The program under test.
    Own,
    /// A real one.
    Real(Release),
}

impl Player {
    /// Word for the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Real(release) => release.name(),
        }
    }
}

/// What is to be set up; plain UDP over IPv4 unless changed.
#[derive(Debug)]
pub struct Plan {
    players: [Player; 2],
    wrap: Wrap,
    transport: Transport,
    lines: [Vec<String>; 2],
}

impl Plan {
    /// Who is the `tls-server` and who the `tls-client`.
    pub fn new(server: Player, client: Player) -> Self {
        Self {
            players: [server, client],
            wrap: Wrap::None,
            transport: Transport::Udp4,
            lines: [Vec::new(), Vec::new()],
        }
    }

    /// Sets the protection of the control channel.
    pub fn wrap(mut self, wrap: Wrap) -> Self {
        self.wrap = wrap;
        self
    }

    /// Sets the transport.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Adds a line to the `tls-server`, in place of defaults with the same first word.
    pub fn server(mut self, line: impl Into<String>) -> Self {
        self.lines[0].push(line.into());
        self
    }

    /// Adds a line to the `tls-client`.
    pub fn client(mut self, line: impl Into<String>) -> Self {
        self.lines[1].push(line.into());
        self
    }

    /// Adds a line to both.
    pub fn each(self, line: &str) -> Self {
        self.server(line).client(line)
    }

    /// Starts both and runs `test`. A failure carries both logs.
    pub fn started(self, test: impl FnOnce(&mut Pair) -> Result<()>) -> Result<()> {
        let mut pair = self.start()?;
        test(&mut pair).map_err(|e| anyhow!("{e:#}\n{}", pair.logs()))
    }

    fn start(self) -> Result<Pair> {
        let star = Star::new(1)?;
        let pki = Pki::new(KeyKind::EcdsaP256)?;
        let wrap = self.wrap.generate(&star.dir().join("keys"))?;
        let (proto, host) = match self.transport {
            Transport::Udp4 => (["udp4", "udp4"], SERVER_V4),
            Transport::Udp6 => (["udp6", "udp6"], SERVER_V6),
            Transport::Tcp4 => (["tcp4-server", "tcp4-client"], SERVER_V4),
        };
        let mut programs = Vec::new();
        for (index, player) in self.players.into_iter().enumerate() {
            programs.push(match player {
                Player::Real(release) => Program::at(release.program()?.to_owned())?,
                Player::Own if index == 0 => client::server_program()?.clone(),
                Player::Own => client::program()?.clone(),
            });
        }
        let [server_lines, client_lines] = self.lines;
        let own = [merge(wrap.server, server_lines), merge(wrap.client, client_lines)];
        for (index, lines) in own.into_iter().enumerate() {
            let identity = [&pki.server, &pki.client][index];
            let mut defaults = vec![
                "dev tun".into(),
                format!("proto {}", proto[index]),
                format!("ifconfig {} {}", INSIDE[index], INSIDE[1 - index]),
                format!("ifconfig-ipv6 {}/64 {}", INSIDE_V6[index], INSIDE_V6[1 - index]),
                format!("ca {}", pki.ca.display()),
                format!("cert {}", identity.cert.display()),
                format!("key {}", identity.key.display()),
                "keepalive 1 6".into(),
                "verb 4".into(),
            ];
            defaults.extend(match index {
                0 => ["tls-server", "port 1194", "dh none", "remote-cert-tls client"]
                    .map(str::to_owned)
                    .to_vec(),
                _ => vec![
                    "tls-client".into(),
                    format!("remote {host} 1194"),
                    "nobind".into(),
                    "remote-cert-tls server".into(),
                    "connect-retry 1 1".into(),
                ],
            });
            if programs[index].kind != Kind::Oxivpn {
                defaults.push("disable-dco".into());
            }
            fs::write(star.dir().join(format!("{index}.ovpn")), compose(defaults, &lines))?;
        }
        let mut pair = Pair { processes: [None, None], programs, _pki: pki, star };
        pair.start(0)?;
        pair.start(1)?;
        Ok(pair)
    }
}

/// A running pair.
#[derive(Debug)]
pub struct Pair {
    processes: [Option<Process>; 2],
    programs: Vec<Program>,
    _pki: Pki,
    /// The namespaces.
    pub star: Star,
}

impl Pair {
    /// Namespace of the `tls-server`, 0, or of the `tls-client`, 1.
    pub fn ns(&self, end: usize) -> &str {
        if end == 0 { self.star.server() } else { self.star.client(0) }
    }

    /// Starts one end, with the same log as before.
    pub fn start(&mut self, end: usize) -> Result<()> {
        let mut command = command_in(self.ns(end), &self.programs[end].path);
        command.arg("--config").arg(self.star.dir().join(format!("{end}.ovpn"))).current_dir(self.star.dir());
        let name = ["tls-server", "tls-client"][end];
        let process = Process::spawn(name, command, &self.star.dir().join(format!("{end}.log")))?;
        self.processes[end] = Some(process);
        Ok(())
    }

    /// Ends one end with KILL.
    pub fn kill(&mut self, end: usize) {
        self.processes[end] = None;
    }

    /// Ends one end with TERM, exit code 0.
    pub fn leave(&mut self, end: usize) -> Result<()> {
        let process = self.process(end)?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait_exit(LEAVE)?;
        ensure!(status.code() == Some(0), "end {end} left with {status} instead of exit code 0");
        Ok(())
    }

    /// The process of one end.
    pub fn process(&mut self, end: usize) -> Result<&mut Process> {
        self.processes[end].as_mut().with_context(|| format!("end {end} is not running"))
    }

    /// Waits until both ends have `count` such lines in their logs.
    pub fn wait_both(&mut self, pattern: &str, count: usize, within: Duration) -> Result<[Vec<String>; 2]> {
        let mut found = [Vec::new(), Vec::new()];
        for (end, found) in found.iter_mut().enumerate() {
            *found = self.process(end)?.wait_for_count(pattern, count, within)?;
        }
        Ok(found)
    }

    /// Pings each way over both families, small and big.
    pub fn ping_both_ways(&self) -> Result<()> {
        for from in 0..2 {
            for to in [INSIDE[1 - from], INSIDE_V6[1 - from]] {
                for size in [56, 2_000] {
                    Ping { size, ..Ping::new(self.ns(from), to) }.all()?;
                }
            }
        }
        Ok(())
    }

    /// Both logs, for a failure's message.
    pub fn logs(&self) -> String {
        let read = |end: usize| {
            let text = fs::read(self.star.dir().join(format!("{end}.log"))).unwrap_or_default();
            without_settings(&String::from_utf8_lossy(&text))
        };
        let shown = |end: usize| self.programs[end].path.display();
        format!(
            "----- tls-server's log ({})\n{}----- tls-client's log ({})\n{}-----",
            shown(0),
            read(0),
            shown(1),
            read(1)
        )
    }
}
