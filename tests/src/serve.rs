//! The server under test with several clients, which are real ones or this project's.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;

use crate::{
    certs::{Identity, KeyKind, Pki},
    client::{self, ClientSpec, Kind, Program},
    management::Management,
    matrix::Skip,
    openvpn::{READY, Release, Server, ServerSpec, Tls, Transport, Wrap, without_settings},
    ping::Ping,
    process::{Process, command_in, poll},
    scenario::{CONNECT, LEAVE, merge},
    star::Star,
};

/// Name of the management interface's socket in the server's folder, for `management m.sock unix`.
pub const MANAGEMENT: &str = "m.sock";

/// A client that is to come.
#[derive(Clone, Debug)]
pub struct Guest {
    name: String,
    /// `None` is the client under test.
    release: Option<Release>,
    /// Its certificate; made for its name unless set.
    pub identity: Option<Identity>,
    transport: Option<Transport>,
    lines: Vec<String>,
}

impl Guest {
    /// A real client with a certificate of this name.
    pub fn real(release: Release, name: &str) -> Self {
        Self { name: name.into(), release: Some(release), identity: None, transport: None, lines: Vec::new() }
    }

    /// This project's client.
    pub fn own(name: &str) -> Self {
        Self { name: name.into(), release: None, identity: None, transport: None, lines: Vec::new() }
    }

    /// Adds a line to its profile, in place of defaults with the same first word.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Sets a transport of its own.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Its user name and password, in the profile.
    pub fn login(self, user: &str, password: &str) -> Self {
        self.line(format!("<auth-user-pass>\n{user}\n{password}\n</auth-user-pass>"))
    }
}

/// The distribution's client as `alice`, the newer one as `bob`.
pub fn both() -> [Guest; 2] {
    [Guest::real(Release::Distribution, "alice"), Guest::real(Release::Newer, "bob")]
}

/// [`both`] and this project's client as `carol`.
pub fn all() -> [Guest; 3] {
    let [alice, bob] = both();
    [alice, bob, Guest::own("carol")]
}

/// What is to be set up; plain UDP over IPv4 with ECDSA certificates unless changed.
pub struct Service {
    /// The authority of all certificates.
    pub pki: Pki,
    program: Program,
    wrap: Wrap,
    transport: Transport,
    tls: Option<Tls>,
    lines: Vec<String>,
    wrap_option: Option<&'static str>,
    guests: Vec<Guest>,
    preparations: Vec<Prepare>,
}

type Prepare = Box<dyn Fn(&Star) -> Result<()>>;

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("lines", &self.lines)
            .field("guests", &self.guests)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// The server under test, without clients.
    pub fn new() -> Result<Self> {
        Ok(Self {
            pki: Pki::new(KeyKind::EcdsaP256)?,
            program: client::server_program()?.clone(),
            wrap: Wrap::None,
            transport: Transport::Udp4,
            tls: None,
            lines: Vec::new(),
            wrap_option: None,
            guests: Vec::new(),
            preparations: Vec::new(),
        })
    }

    /// Which program serves.
    pub fn kind(&self) -> Kind {
        self.program.kind
    }

    /// Takes the newer OpenVPN if an older one is the server under test: for what only 2.7 and this project have.
    pub fn since_2_7(mut self) -> Result<Self> {
        if self.program.kind == (Kind::OpenVpn { newer: false }) {
            self.program = Program::at(Release::Newer.program()?.to_owned())?;
        }
        Ok(self)
    }

    /// Skips the test with this reason if a real OpenVPN is the server under test.
    pub fn kind_is_own(&self, reason: &str) -> Result<()> {
        ensure!(self.program.kind == Kind::Oxivpn, Skip(reason.into()));
        Ok(())
    }

    /// Sets the protection of the control channel.
    pub fn wrap(mut self, wrap: Wrap) -> Self {
        self.wrap = wrap;
        self
    }

    /// Adds a word to the line which names the server's control channel key, `force-cookie` for instance.
    pub fn wrap_option(mut self, word: &'static str) -> Self {
        self.wrap_option = Some(word);
        self
    }

    /// Sets the transport.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Sets the version of TLS that the server insists on.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Adds a line to the server's configuration, in place of defaults with the same first word.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Adds a client.
    pub fn guest(mut self, guest: Guest) -> Self {
        self.guests.push(guest);
        self
    }

    /// Adds clients.
    pub fn guests(mut self, guests: impl IntoIterator<Item = Guest>) -> Self {
        self.guests.extend(guests);
        self
    }

    /// Adds a line to the profiles of the clients so far.
    pub fn each(mut self, line: &str) -> Self {
        self.guests.iter_mut().for_each(|guest| guest.lines.push(line.into()));
        self
    }

    /// Does something with the lab before anything starts in it.
    pub fn prepare(mut self, prepare: impl Fn(&Star) -> Result<()> + 'static) -> Self {
        self.preparations.push(Box::new(prepare));
        self
    }

    /// Puts a file into the server's folder, which is its working directory.
    pub fn file(self, name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        self.prepare(move |star| {
            let path = star.dir().join(name);
            fs::create_dir_all(path.parent().context("a file has a folder")?)?;
            Ok(fs::write(path, &text)?)
        })
    }

    /// Puts a shell script into the server's folder.
    pub fn script(self, name: &'static str, text: &'static str) -> Self {
        self.prepare(move |star| write_script(&star.dir().join(name), text))
    }

    /// Opens the management interface, for [`Serving::management`].
    pub fn managed(self) -> Self {
        self.line(format!("management {MANAGEMENT} unix"))
    }

    /// Starts all, waits until every client is connected, runs `test`. A failure carries all logs.
    pub fn connected(self, test: impl FnOnce(&mut Serving) -> Result<()>) -> Result<()> {
        self.started(|serving| {
            serving.wait_connected(1)?;
            test(serving)
        })
    }

    /// Starts all and runs `test` at once. A failure carries all logs.
    pub fn started(self, test: impl FnOnce(&mut Serving) -> Result<()>) -> Result<()> {
        let mut serving = self.start()?;
        test(&mut serving).map_err(|e| anyhow!("{e:#}\n{}", serving.logs()))
    }

    /// Runs the server, which must end by itself with exit code 1, print a line that the pattern matches and leave the
    /// host as it was. This project's server must print exactly one such line. Returns the log.
    pub fn refuses(self, pattern: &str) -> Result<String> {
        let kind = self.program.kind;
        let serving = self.lay_out()?;
        let (dir, ns) = (serving.star.dir(), serving.star.server());
        let sockets = || -> Result<String> {
            let tables = ["tcp", "tcp6", "udp", "udp6"].map(|name| format!("/proc/net/{name}"));
            let shown = serving
                .star
                .exec(ns, &["cut", "-c", "1-35", &tables[0], &tables[1], &tables[2], &tables[3]])?;
            Ok(shown.lines().filter(|line| line.contains(":04AA")).collect::<Vec<_>>().join("\n"))
        };
        let before = sockets()?;
        let config = dir.join("server.ovpn");
        fs::write(&config, serving.spec.text(dir))?;
        let mut command = command_in(ns, &serving.spec.program);
        command.arg("--config").arg(&config);
        let mut process = Process::spawn("server", command, &dir.join("server.log"))?;
        let result = (|| {
            let status = process.wait_exit(Duration::from_secs(10))?;
            ensure!(status.code() == Some(1), "{status} instead of exit code 1");
            let lines = process.lines(pattern)?;
            ensure!(!lines.is_empty(), "no line like /{pattern}/");
            ensure!(
                kind != Kind::Oxivpn || lines.len() == 1,
                "more than one line like /{pattern}/: {lines:#?}"
            );
            serving.host_as_before()?;
            let after = sockets()?;
            ensure!(after == before, "sockets: {after} instead of {before}");
            Ok(process.log())
        })();
        result.map_err(|e: anyhow::Error| anyhow!("{e:#}\n{}", serving.logs()))
    }

    fn start(self) -> Result<Serving> {
        let mut serving = self.lay_out()?;
        serving.start()?;
        for visit in &mut serving.visits {
            visit.start()?;
        }
        Ok(serving)
    }

    /// Makes the namespaces and all files; starts nothing.
    fn lay_out(self) -> Result<Serving> {
        let star = Star::new(self.guests.len())?;
        let mut wrap = self.wrap.generate(&star.dir().join("keys"))?;
        if let (Some(word), Some(line)) = (self.wrap_option, wrap.server.first_mut()) {
            *line = format!("{line} {word}");
        }
        for prepare in &self.preparations {
            prepare(&star)?;
        }
        let spec = ServerSpec {
            program: self.program.path,
            transport: self.transport,
            tls: self.tls,
            ca: self.pki.ca.clone(),
            identity: self.pki.server.clone(),
            lines: merge(wrap.server, self.lines),
        };
        let before = star.state(star.server())?;
        let mut visits = Vec::new();
        for (index, guest) in self.guests.into_iter().enumerate() {
            let program = match guest.release {
                Some(release) => Program::at(release.program()?.to_owned())?,
                None => client::program()?.clone(),
            };
            let mut lines = merge(wrap.client.clone(), guest.lines);
            if program.kind != Kind::Oxivpn {
                // The kernel's data channel, where there is one, would hide the cipher from the log.
                lines.push("disable-dco".into());
            }
            let identity = match guest.identity {
                Some(identity) => identity,
                None => self.pki.client_named(&guest.name)?,
            };
            let transport = guest.transport.unwrap_or(self.transport);
            let spec = ClientSpec { transport, ca: Some(self.pki.ca.clone()), identity, lines };
            let dir = star.dir().join(&guest.name);
            fs::create_dir_all(&dir)?;
            visits.push(Visit {
                ns: star.client(index).to_owned(),
                process: None,
                name: guest.name,
                spec,
                program,
                dir,
            });
        }
        Ok(Serving { visits, server: None, spec, before, pki: self.pki, star })
    }
}

/// Writes a program of `/bin/sh`.
pub fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// A client, running or not.
#[derive(Debug)]
pub struct Visit {
    /// Name of its certificate.
    pub name: String,
    /// Its namespace.
    pub ns: String,
    /// Its profile.
    pub spec: ClientSpec,
    /// Its program.
    pub program: Program,
    process: Option<Process>,
    dir: PathBuf,
}

impl Visit {
    /// Starts it; its log goes on in the same file.
    pub fn start(&mut self) -> Result<()> {
        let profile = self.dir.join("client.ovpn");
        fs::write(&profile, self.spec.text()?)?;
        let mut command = command_in(&self.ns, &self.program.path);
        command.arg("--config").arg(&profile).current_dir(&self.dir);
        self.process = Some(Process::spawn(&self.name, command, &self.dir.join("log"))?);
        Ok(())
    }

    /// Its process.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("{} is not running", self.name))
    }

    /// Ends it with KILL, which gives it no time for a word to the server.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it with TERM, exit code 0.
    pub fn leave(&mut self) -> Result<()> {
        let process = self.process()?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait_exit(LEAVE)?;
        ensure!(status.code() == Some(0), "{} left with {status} instead of exit code 0", self.name);
        self.process = None;
        Ok(())
    }

    /// Waits until it has been connected `times` times since the lab was made.
    pub fn wait_connected(&mut self, times: usize) -> Result<()> {
        self.process()?.wait_for_count(READY, times, CONNECT).map(drop)
    }

    /// Waits for a line in its log.
    pub fn wait_for(&mut self, pattern: &str) -> Result<String> {
        self.process()?.wait_for(pattern, CONNECT)
    }

    /// Requires that it has been connected `times` times, no more and no less.
    pub fn connected_times(&mut self, times: usize) -> Result<()> {
        let seen = self.process()?.lines(READY)?.len();
        ensure!(seen == times, "{} connected {seen} times instead of {times}", self.name);
        Ok(())
    }
}

/// A running server with its clients. These are dropped first, then the server, then the namespaces.
#[derive(Debug)]
pub struct Serving {
    /// The clients, in order.
    pub visits: Vec<Visit>,
    /// The server; `None` while a test has it stopped.
    pub server: Option<Server>,
    /// To start the server again.
    pub spec: ServerSpec,
    /// The server's host before the server ran.
    pub before: crate::netns::HostState,
    /// The authority.
    pub pki: Pki,
    /// The namespaces.
    pub star: Star,
}

impl Serving {
    /// Starts the server again, with the same log.
    pub fn start(&mut self) -> Result<()> {
        self.server = Some(Server::start_in(self.star.server(), self.star.dir(), &self.spec)?);
        Ok(())
    }

    /// Ends the server with TERM: exit code 0 and the host as before.
    pub fn stop(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the server is not running")?;
        server.process.signal(Signal::SIGTERM)?;
        let status = server.process.wait_exit(LEAVE)?;
        ensure!(status.code() == Some(0), "the server ended with {status} instead of exit code 0");
        self.host_as_before()
    }

    /// Requires that the server's host looks as it did before the server ran.
    pub fn host_as_before(&self) -> Result<()> {
        let mut difference = String::new();
        // The kernel removes a tun device and its routes a moment after the last descriptor is closed.
        poll(Duration::from_secs(2), || {
            difference = self.before.difference(&self.star.state(self.star.server())?);
            Ok(difference.is_empty().then_some(()))
        })?
        .with_context(|| format!("the server's host is not as it was before:\n{difference}"))
    }

    /// The server's process, which must run.
    pub fn process(&mut self) -> Result<&mut Process> {
        Ok(&mut self.server.as_mut().context("the server is not running")?.process)
    }

    /// Waits for a line in the server's log.
    pub fn wait_for(&mut self, pattern: &str) -> Result<String> {
        self.process()?.wait_for(pattern, Duration::from_secs(10))
    }

    /// The client of this name.
    pub fn visit(&mut self, name: &str) -> Result<&mut Visit> {
        self.visits.iter_mut().find(|visit| visit.name == name).with_context(|| format!("there is no {name}"))
    }

    /// The namespace of `server` or of the client of this name.
    pub fn ns(&self, name: &str) -> Result<&str> {
        if name == "server" {
            return Ok(self.star.server());
        }
        let visit = self.visits.iter().find(|visit| visit.name == name);
        Ok(&visit.with_context(|| format!("there is no {name}"))?.ns)
    }

    /// Waits until every client has been connected `times` times.
    pub fn wait_connected(&mut self, times: usize) -> Result<()> {
        self.visits.iter_mut().try_for_each(|visit| visit.wait_connected(times))
    }

    /// Tunnel's address of `server` or of a client, waited for.
    pub fn address(&self, name: &str, v6: bool) -> Result<String> {
        let ns = self.ns(name)?;
        poll(Duration::from_secs(3), || Ok(self.star.state(ns)?.tunnel_address(v6)))?
            .with_context(|| format!("{name} has no tunnel address (IPv6: {v6})"))
    }

    /// A few pings from one tunnel address to another.
    pub fn ping(&self, from: &str, to: &str) -> Result<()> {
        self.ping_size(from, to, 56, false)
    }

    /// A few pings of `size` bytes; none may be lost.
    pub fn ping_size(&self, from: &str, to: &str, size: u32, v6: bool) -> Result<()> {
        let address = self.address(to, v6)?;
        let ping = Ping { size, ..Ping::new(self.ns(from)?, &address) };
        ping.all().with_context(|| format!("from {from} to {to}"))
    }

    /// Pings from every client to the server and back.
    pub fn ping_all(&self) -> Result<()> {
        for visit in &self.visits {
            self.ping(&visit.name, "server")?;
            self.ping("server", &visit.name)?;
        }
        Ok(())
    }

    /// Every client pings the server `count` times, `interval` seconds apart, all at the same time; none may be lost.
    pub fn ping_long(&self, count: u32, interval: f32) -> Result<()> {
        let server = self.address("server", false)?;
        let mut running = Vec::new();
        for visit in &self.visits {
            let ping = Ping { count, interval, ..Ping::new(&visit.ns, &server) };
            running.push((&visit.name, ping.start()?));
        }
        for (name, ping) in running {
            let lost = ping.lost()?;
            ensure!(lost == 0, "{lost} of {count} pings of {name} lost");
        }
        Ok(())
    }

    /// Requires that nothing passes from one to another.
    pub fn no_ping(&self, from: &str, to: &str) -> Result<()> {
        let address = self.address(to, false)?;
        ensure!(!passes(self.ns(from)?, &address)?, "{from} reaches {to} at {address}");
        Ok(())
    }

    /// Connects to the management interface.
    pub fn management(&self) -> Result<Management> {
        Management::connect(&self.star.dir().join(MANAGEMENT))
    }

    /// All logs, for a failure's message.
    pub fn logs(&self) -> String {
        let read =
            |path: PathBuf| without_settings(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()));
        let mut text = String::new();
        for visit in &self.visits {
            let shown = visit.program.path.display();
            text += &format!("----- log of {} ({shown})\n{}", visit.name, read(visit.dir.join("log")));
        }
        text + &format!("----- log of the server\n{}-----", read(self.star.dir().join("server.log")))
    }
}

/// Whether one ping of two gets an answer within a second.
pub fn passes(ns: &str, address: &str) -> Result<bool> {
    let words = ["ping", "-n", "-c", "2", "-i", "0.2", "-w", "1", address];
    Ok(crate::process::output_in(ns, &words)?.status.success())
}
