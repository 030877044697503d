//! Point-to-point tunnels: either side of one, which may also be the one that waits for the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use oxivpn_net::tcp::{ListenOptions, Listener};
use oxivpn_net::{Family, UdpOptions, UdpSocket};
use oxivpn_profile::Profile;
use oxivpn_profile::profile::{self, Protocol, Remote};
use oxivpn_profile::server::{Listen, PeerOptions, Role};
use oxivpn_proto::config::{ClientConfig, PeerConfig, PullPolicy};
use oxivpn_proto::event::CloseCause;
use oxivpn_proto::tls::TlsFactory;
use oxivpn_proto::{Instant, Path, SessionHandle, StreamId};

use super::connect::text;
use super::{Client, Phase};
use crate::link::{Transport, settings};
use crate::retry::Action;
use crate::say;
use crate::turn::Link as _;

/// What only a point-to-point tunnel has.
pub(super) struct Point {
    options: PeerOptions,
    /// Whether the profile names the other side.
    named: bool,
    /// One for each remote.
    configs: Vec<Arc<PeerConfig>>,
}

impl Point {
    /// That of `profile`, if it is one. A profile without remotes gets one that stands for whoever comes, so that all
    /// else need not know the difference.
    pub(super) fn new(profile: &mut Profile, tls: &Arc<dyn TlsFactory>) -> Option<Self> {
        let Role::Peer(options) = &profile.role else { return None };
        let options = options.clone();
        let named = !profile.remotes.is_empty();
        let config = |remote| Arc::new(profile.peer_config(&options, remote, tls.clone()));
        let configs = match named {
            true => profile.remotes.iter().map(|remote| config(Some(remote))).collect(),
            false => vec![config(None)],
        };
        if !named {
            profile.remotes.push(anybody(&options));
        }
        Some(Self { options, named, configs })
    }

    /// The same for those who know of clients only.
    pub(super) fn client_configs(&self, profile: &Profile) -> Vec<Arc<ClientConfig>> {
        let remotes = self.configs.iter().zip(&profile.remotes);
        remotes
            .map(|(config, remote)| {
                let channel = config.channel.clone();
                let pull = PullPolicy::default();
                Arc::new(ClientConfig {
                    channel,
                    pull,
                    tun_mtu_max: remote.tun_mtu_max,
                    allow_compression: false,
                })
            })
            .collect()
    }
}

/// A remote that stands for whoever comes.
fn anybody(options: &PeerOptions) -> Remote {
    let listen = options.listen.first();
    Remote {
        host: String::new(),
        port: 0,
        protocol: listen.map_or(Protocol::Udp, |listen| listen.protocol),
        family: listen.map_or(profile::Family::Any, |listen| listen.family),
        bind: None,
        poll_timeout: core::time::Duration::from_secs(120),
        retry_wait: core::time::Duration::from_secs(1),
        retry_wait_max: core::time::Duration::from_secs(300),
        wrap: options.wrap.clone(),
        tun_mtu: options.tun_mtu,
        tun_mtu_max: options.tun_mtu.max(1600),
        mssfix: options.mssfix,
        max_packet_size: options.max_packet_size,
        exit_notify: options.exit_notify,
        float: options.float,
        origin: listen.map_or_else(
            || oxivpn_profile::warn::Origin { file: "profile".into(), line: 0 },
            |listen| listen.origin.clone(),
        ),
    }
}

/// Waits for the other side's TCP connection.
pub(super) struct Accepting(Listener);

impl Accepting {
    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Client {
    /// Whether there is nobody to look up: the other side comes by itself.
    pub(super) fn waits_for_anybody(&self) -> bool {
        self.point.as_ref().is_some_and(|point| !point.named)
    }

    /// Opens what is needed to be reached by whoever comes.
    pub(super) fn open_anybody(&mut self, now: Instant) -> Result<()> {
        match self.open_point(now, None) {
            // What is taken may be free soon; the first time the person who starts this wants to know.
            Err(error) if self.links > 0 => {
                for line in format!("{error:#}").lines() {
                    say!(self.log, Error, "{line}");
                }
                self.act(now, Action::Restart, "soft", "socket-bind-failed");
                Ok(())
            }
            Ok(false) => bail!("Options error: nobody to connect to, and nowhere to listen"),
            result => result.map(drop),
        }
    }

    /// Opens what a point-to-point tunnel needs to reach `address`, or to be reached; `false` if that is as for a
    /// client.
    pub(super) fn open_point(&mut self, now: Instant, address: Option<SocketAddr>) -> Result<bool> {
        let Some(point) = &self.point else { return Ok(false) };
        let listen = point.options.listen.first().cloned();
        match (self.profile.remotes[self.servers.current()].protocol, listen) {
            (Protocol::Udp, listen) => self.open_point_udp(now, address, listen.as_ref())?,
            (Protocol::Tcp, Some(listen)) => self.listen_tcp(&listen)?,
            (Protocol::Tcp, None) => return Ok(false),
        }
        Ok(true)
    }

    fn open_point_udp(
        &mut self,
        now: Instant,
        address: Option<SocketAddr>,
        listen: Option<&Listen>,
    ) -> Result<()> {
        self.serial += 1;
        let family = match address {
            Some(address) => Family::of(address.ip()),
            None => family(listen),
        };
        let options = UdpOptions {
            local: listen.map(|listen| local(listen, family)),
            socket: settings(&self.profile.socket),
            offload: true,
            ..UdpOptions::new(family)
        };
        let bound = UdpSocket::bind(&options).or_else(|error| match (address, family, listen) {
            // A kernel without IPv6 serves IPv4.
            (None, Family::Any, Some(listen)) if listen.address.is_none() => {
                let local = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listen.port);
                UdpSocket::bind(&UdpOptions { local: Some(local), family: Family::V4, ..options.clone() })
                    .map_err(|_| error)
            }
            _ => Err(error),
        });
        let socket = match bound {
            Ok(socket) => socket,
            Err(error) => {
                let what = error.io();
                bail!(
                    "TCP/UDP: Socket bind failed on local address {}: {} (errno={})\n{error}",
                    options.local.map_or_else(|| "[undef]".into(), text),
                    super::connect::words(what),
                    what.raw_os_error().unwrap_or(0)
                );
            }
        };
        self.links += 1;
        let number = (self.links & 0xffff) as u16;
        let near = socket.local_addr().ok();
        self.tell_point_link("UDP", "", near.filter(|_| listen.is_some()), address);
        let placeholder = near.unwrap_or_else(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        let transport = Transport::udp(socket, number, address.unwrap_or(placeholder));
        self.start_point(now, transport, address)
    }

    fn listen_tcp(&mut self, listen: &Listen) -> Result<()> {
        self.serial += 1;
        let family = family(Some(listen));
        let options = ListenOptions {
            local: Some(local(listen, family)),
            socket: settings(&self.profile.socket),
            ..ListenOptions::new(family)
        };
        let listener = Listener::bind(&options).map_err(|error| {
            let what = error.io();
            anyhow!(
                "TCP/UDP: Socket bind failed on local address {}: {} (errno={})\n{error}",
                text(local(listen, family)),
                super::connect::words(what),
                what.raw_os_error().unwrap_or(0)
            )
        })?;
        if let Ok(near) = listener.local_addr() {
            say!(self.log, Info, "Listening for incoming TCP connection on {}", text(near));
        }
        self.phase = Phase::Accepting(Accepting(listener));
        Ok(())
    }

    /// Takes the other side's connection, if it came.
    pub(super) fn advance_accepting(&mut self, now: Instant) -> Result<()> {
        let Phase::Accepting(Accepting(listener)) = &self.phase else { return Ok(()) };
        // What is wrong with a connection that is gone again is nobody's affair.
        let Ok(link) = listener.accept() else { return Ok(()) };
        self.serial += 1;
        let remote = link.remote_addr();
        say!(self.log, Info, "TCP connection established with {}", text(remote));
        self.tell_point_link("TCP", "_SERVER", link.local_addr().ok(), Some(remote));
        self.links += 1;
        self.start_point(now, Transport::tcp(link, StreamId(self.links)), Some(remote))
    }

    fn tell_point_link(
        &self,
        protocol: &str,
        role: &str,
        bound: Option<SocketAddr>,
        remote: Option<SocketAddr>,
    ) {
        let version = if remote.or(bound).is_none_or(|address| address.is_ipv4()) { "v4" } else { "v6" };
        let near = bound.map_or_else(|| ": (not bound)".into(), |near| format!(" (bound): {}", undef(near)));
        say!(self.log, Info, "{protocol}{version}{role} link local{near}");
        let far = remote.map_or_else(|| "[AF_UNSPEC]".into(), text);
        say!(self.log, Info, "{protocol}{version}{role} link remote: {far}");
    }

    /// Hands a socket to the core: begins, or waits for the other side to begin.
    pub(super) fn start_point(
        &mut self,
        now: Instant,
        transport: Transport,
        remote: Option<SocketAddr>,
    ) -> Result<()> {
        let Some(point) = &self.point else { return Ok(()) };
        let Some(config) = point.configs.get(self.servers.current()).cloned() else { return Ok(()) };
        let path = transport.path();
        let listens = point.options.server;
        let stream = path.is_stream();
        self.set_link(transport)?;
        if listens {
            let only = remote.filter(|_| !config.channel.float && !stream);
            let config = PeerConfig { remote: only, ..(*config).clone() };
            self.path.control.listen_peer(Arc::new(config));
            self.phase = Phase::Listening { session: None };
        } else {
            let connected = self.path.control.connect_peer(now, path, config);
            let handle = connected.map_err(|error| anyhow!("Options error: {error}"))?;
            self.phase = Phase::Session { handle };
        }
        Ok(())
    }

    /// The other side came and has proved where it is.
    pub(super) fn on_incoming(&mut self, session: SessionHandle, path: Path) {
        self.attempt.reached = true;
        self.follow(path);
        if let Phase::Listening { session: current } = &mut self.phase {
            // One that stands goes on until the new one stands.
            if current.is_none() || self.up_since.is_none() {
                *current = Some(session);
            }
        }
    }

    /// The tunnel stands with this session.
    pub(super) fn on_point_established(&mut self, session: SessionHandle) {
        if let Phase::Listening { session: current } = &mut self.phase {
            *current = Some(session);
        }
    }

    /// The other side is there now.
    pub(super) fn follow(&mut self, path: Path) {
        if let (Path::Datagram { remote, .. }, Some(link)) = (path, self.path.link_mut()) {
            link.set_remote(remote);
        }
    }

    /// A session that was waited for has ended; whether there is nothing more to do about it: it made way for a newer
    /// one, or never stood. Then only `tls-exit` ends the wait for a better one.
    pub(super) fn goes_on_listening(&mut self, cause: &CloseCause) -> bool {
        if *cause == CloseCause::Replaced {
            // The newer one is about to stand.
            self.path.set_peer(None);
            self.up_since = None;
            self.phase = Phase::Listening { session: None };
            return true;
        }
        let over_stream = self.path.link().is_some_and(|link| link.path().is_stream());
        let tls = matches!(cause, CloseCause::HandWindow | CloseCause::Tls(_) | CloseCause::Protocol(_));
        if over_stream || self.up_since.is_some() || !tls || self.profile.process.tls_exit {
            return false;
        }
        let words = match cause {
            CloseCause::Tls(failure) => format!("TLS Error: {failure}"),
            other => format!("TLS Error: {other}"),
        };
        say!(self.log, Error, "{words}");
        say!(self.log, Error, "TLS Error: TLS handshake failed");
        if let Phase::Listening { session } = &mut self.phase {
            *session = None;
        }
        true
    }

    /// Whoever waits without a session waits no longer.
    pub(super) fn stop_point(&mut self) {
        if self.point.is_some() {
            self.path.control.stop_listening();
        }
    }
}

fn family(listen: Option<&Listen>) -> Family {
    match listen.map(|listen| (listen.ipv6_only, listen.family)) {
        Some((true, _)) => Family::V6,
        Some((_, profile::Family::V4)) => Family::V4,
        Some((_, profile::Family::Any | profile::Family::V6)) | None => Family::Any,
    }
}

fn local(listen: &Listen, family: Family) -> SocketAddr {
    let any = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 | Family::Any => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(listen.address.unwrap_or(any), listen.port)
}

/// As in `[AF_INET][undef]:1194`.
fn undef(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return text(address);
    }
    let family = if address.is_ipv4() { "[AF_INET]" } else { "[AF_INET6]" };
    format!("{family}[undef]:{}", address.port())
}
