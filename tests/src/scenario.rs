//! One server, one client, one test.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;

use crate::{
    certs::{Identity, KeyKind, Pki},
    client::{self, Client, ClientSpec, Program},
    netns::{HostState, Lab, Side},
    openvpn::{READY, Release, Server, ServerSpec, Tls, Transport, Wrap, without_settings},
    ping::Ping,
    process::poll,
};

/// How long a client may take to connect. One that comes back from the same port, which happens, is sent its options by
/// OpenVPN only when 30 s have passed since the last time (`push.c`, `process_incoming_push_request`).
pub const CONNECT: Duration = Duration::from_secs(40);
/// How long a client may take to leave.
pub const LEAVE: Duration = Duration::from_secs(10);

/// What is to be set up; plain UDP over IPv4 with ECDSA certificates unless changed.
pub struct Scenario {
    /// The authority; its certificates are what the next fields begin with.
    pub pki: Pki,
    /// The server's certificate.
    pub server_identity: Identity,
    /// The client's certificate.
    pub client_identity: Identity,
    /// The authority that the client trusts.
    pub client_ca: Option<PathBuf>,
    /// Whether the client gets control channel keys of its own, which the server doesn't know.
    pub foreign_wrap_key: bool,
    /// Whether the server is left out.
    pub without_server: bool,
    without_client_wrap: bool,
    server_wrap_option: Option<&'static str>,
    program: Option<Program>,
    release: Release,
    wrap: Wrap,
    transport: Transport,
    tls: Option<Tls>,
    server_lines: Vec<String>,
    client_lines: Vec<String>,
    preparations: Vec<Prepare>,
}

type Prepare = Box<dyn Fn(&Lab) -> Result<()>>;

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario")
            .field("release", &self.release)
            .field("wrap", &self.wrap)
            .field("transport", &self.transport)
            .field("server_lines", &self.server_lines)
            .field("client_lines", &self.client_lines)
            .finish_non_exhaustive()
    }
}

impl Scenario {
    /// A server of this release.
    pub fn new(release: Release) -> Result<Self> {
        Self::with_keys(release, KeyKind::EcdsaP256)
    }

    /// A server of this release; all certificates with keys of this kind.
    pub fn with_keys(release: Release, kind: KeyKind) -> Result<Self> {
        let pki = Pki::new(kind)?;
        Ok(Self {
            server_identity: pki.server.clone(),
            client_identity: pki.client.clone(),
            client_ca: Some(pki.ca.clone()),
            pki,
            foreign_wrap_key: false,
            without_server: false,
            without_client_wrap: false,
            server_wrap_option: None,
            program: None,
            release,
            wrap: Wrap::None,
            transport: Transport::Udp4,
            tls: None,
            server_lines: Vec::new(),
            client_lines: Vec::new(),
            preparations: Vec::new(),
        })
    }

    /// Takes this program as client instead of the one under test.
    pub fn program(mut self, program: Program) -> Self {
        self.program = Some(program);
        self
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

    /// Sets the version of TLS that the server insists on.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Adds a line to the server's configuration, in place of defaults with the same first word.
    pub fn server(mut self, line: impl Into<String>) -> Self {
        self.server_lines.push(line.into());
        self
    }

    /// Adds a line to the client's profile, in place of defaults with the same first word.
    pub fn client(mut self, line: impl Into<String>) -> Self {
        self.client_lines.push(line.into());
        self
    }

    /// Adds a word to the line which names the server's control channel key, `force-cookie` for instance.
    pub fn server_wrap_option(mut self, word: &'static str) -> Self {
        self.server_wrap_option = Some(word);
        self
    }

    /// Does something with the lab before anything starts in it, such as to put a file into its folder, which is the
    /// working directory of both ends.
    pub fn prepare(mut self, prepare: impl Fn(&Lab) -> Result<()> + 'static) -> Self {
        self.preparations.push(Box::new(prepare));
        self
    }

    /// Leaves the control channel's key out of the client's profile.
    pub fn without_client_wrap(mut self) -> Self {
        self.without_client_wrap = true;
        self
    }

    /// Leaves `ca` out of the client's profile.
    pub fn without_client_ca(mut self) -> Self {
        self.client_ca = None;
        self
    }

    /// Starts both, waits until the client is connected, runs `test`. A failure carries both logs.
    pub fn connected(self, test: impl FnOnce(&mut Tunnel) -> Result<()>) -> Result<()> {
        self.started(|tunnel| {
            tunnel.wait_connected(1)?;
            test(tunnel)
        })
    }

    /// Starts both and runs `test` at once. A failure carries both logs.
    pub fn started(self, test: impl FnOnce(&mut Tunnel) -> Result<()>) -> Result<()> {
        let mut tunnel = self.start()?;
        test(&mut tunnel).map_err(|e| anyhow!("{e:#}\n{}", tunnel.logs()))
    }

    fn start(self) -> Result<Tunnel> {
        let lab = Lab::new()?;
        for prepare in &self.preparations {
            prepare(&lab)?;
        }
        let program = match self.program {
            Some(program) => program,
            None => client::program()?.clone(),
        };
        let mut wrap = self.wrap.generate(&lab.dir().join("keys"))?;
        if let (Some(word), Some(line)) = (self.server_wrap_option, wrap.server.first_mut()) {
            *line = format!("{line} {word}");
        }
        let client_wrap = if self.without_client_wrap {
            Vec::new()
        } else if self.foreign_wrap_key {
            self.wrap.generate(&lab.dir().join("foreign-keys"))?.client
        } else {
            wrap.client
        };
        // The test's own lines come last and drop lines of the wrap with the same word, `key-direction` for instance.
        let server_spec = ServerSpec {
            program: self.release.program()?.to_owned(),
            transport: self.transport,
            tls: self.tls,
            ca: self.pki.ca.clone(),
            identity: self.server_identity,
            lines: merge(wrap.server, self.server_lines),
        };
        let client_spec = ClientSpec {
            transport: self.transport,
            ca: self.client_ca,
            identity: self.client_identity,
            lines: merge(client_wrap, self.client_lines),
        };
        let server = if self.without_server { None } else { Some(Server::start(&lab, &server_spec)?) };
        let before = lab.state(Side::Client)?;
        let client = Client::start(&lab, &program, &client_spec)?;
        Ok(Tunnel { client, server, before, server_spec, client_spec, program, _pki: self.pki, lab })
    }
}

/// The lines of a wrap without those whose first word a test's own lines have, then these.
pub(crate) fn merge(wrap: Vec<String>, own: Vec<String>) -> Vec<String> {
    let word = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> =
        wrap.into_iter().filter(|w| !own.iter().any(|o| word(o) == word(w))).collect();
    lines.extend(own);
    lines
}

/// A running pair. The client is dropped first, then the server, then the namespaces.
#[derive(Debug)]
pub struct Tunnel {
    /// The client under test.
    pub client: Client,
    /// The real server; `None` while a test has it stopped.
    pub server: Option<Server>,
    /// The client's host before the client ran.
    pub before: HostState,
    /// To start the server again.
    pub server_spec: ServerSpec,
    /// To start the client again.
    pub client_spec: ClientSpec,
    /// The client's program.
    pub program: Program,
    _pki: Pki,
    /// The namespaces.
    pub lab: Lab,
}

impl Tunnel {
    /// Waits until the client has been connected `times` times since its start.
    pub fn wait_connected(&mut self, times: usize) -> Result<()> {
        self.client.process.wait_for_count(READY, times, CONNECT).map(drop)
    }

    /// The server, which must run.
    pub fn server(&mut self) -> Result<&mut Server> {
        self.server.as_mut().context("the server is not running")
    }

    /// Starts the server again, with the same configuration and one more log in the same file.
    pub fn start_server(&mut self) -> Result<()> {
        self.server = Some(Server::start(&self.lab, &self.server_spec)?);
        Ok(())
    }

    /// The tunnel's address on one side, waited for.
    pub fn address(&self, side: Side, v6: bool) -> Result<String> {
        poll(Duration::from_secs(2), || self.lab.tunnel_address(side, v6))?
            .with_context(|| format!("no tunnel address (IPv6: {v6}) on the side of the {side:?}"))
    }

    /// Three pings each way over IPv4, none lost.
    pub fn ping_both_ways(&self) -> Result<()> {
        self.ping_size(56, false)
    }

    /// Three pings each way of `size` bytes, none lost.
    pub fn ping_size(&self, size: u32, v6: bool) -> Result<()> {
        for (from, to) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
            let address = self.address(to, v6)?;
            let ping = Ping { size, ..Ping::new(self.lab.ns(from), &address) };
            ping.all().with_context(|| format!("from {from:?} to {to:?}"))?;
        }
        Ok(())
    }

    /// Ends the client with TERM: exit code 0 and the host as before.
    pub fn leave(&mut self) -> Result<()> {
        self.client.process.signal(Signal::SIGTERM)?;
        let status = self.client.process.wait_exit(LEAVE)?;
        ensure!(status.code() == Some(0), "client left with {status} instead of exit code 0");
        self.host_as_before()
    }

    /// Requires that the client's host looks as it did before the client ran.
    pub fn host_as_before(&self) -> Result<()> {
        let mut difference = String::new();
        // The kernel removes a tun device and its routes a moment after the last descriptor is closed.
        poll(Duration::from_secs(2), || {
            difference = self.before.difference(&self.lab.state(Side::Client)?);
            Ok(difference.is_empty().then_some(()))
        })?
        .with_context(|| format!("host is not as it was before:\n{difference}"))
    }

    /// Both logs, for a failure's message.
    pub fn logs(&self) -> String {
        let read = |name: &str| {
            let text = std::fs::read(self.lab.dir().join(name)).unwrap_or_default();
            without_settings(&String::from_utf8_lossy(&text))
        };
        format!("----- client's log\n{}----- server's log\n{}-----", read("client.log"), read("server.log"))
    }
}
