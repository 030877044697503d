//! From the choice of a server to the first packet: names, addresses, sockets.

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use anyhow::{Result, anyhow, bail};
use oxivpn_net::tcp::{Connecting, Progress, TcpLink, TcpOptions, start_connect};
use oxivpn_net::{ResolveError, Ticket, UdpOptions, UdpSocket};
use oxivpn_profile::profile::{Family, Protocol, Remote};
use oxivpn_proto::entropy::{Entropy, Purpose};
use oxivpn_proto::{Instant, StreamId};

use super::{Attempt, Client, Phase};
use crate::link::{Transport, settings};
use crate::log::Level;
use crate::manage::State;
use crate::retry::{Action, Next};
use crate::scripts::variables;
use crate::turn::{Failure, Link};
use crate::{entropy, say};

/// Wait between look-ups of one name (`openvpn: socket.c`, `openvpn_getaddrinfo`).
const RESOLVE_WAIT: Duration = Duration::from_secs(5);

/// The servers in the order in which they are tried, and the addresses of the present one.
#[derive(Debug)]
pub(super) struct Servers {
    order: Vec<usize>,
    position: usize,
    addresses: Vec<SocketAddr>,
    address: usize,
}

impl Servers {
    pub(super) fn new(count: usize, shuffle: bool, seed: [u8; 32]) -> Self {
        let mut order: Vec<usize> = (0..count).collect();
        if shuffle {
            let mut random = Entropy::new(seed).fork(Purpose::Jitter, 0);
            for last in (1..count).rev() {
                let other = random.below(last as u64 + 1);
                order.swap(last, usize::try_from(other).unwrap_or(0));
            }
        }
        Self { order, position: 0, addresses: Vec::new(), address: 0 }
    }

    /// Index of the present server in the profile.
    pub(super) fn current(&self) -> usize {
        self.order.get(self.position).copied().unwrap_or(0)
    }

    fn select(&mut self, position: usize) {
        (self.position, self.address) = (position, 0);
        self.addresses.clear();
    }

    fn has_more_addresses(&self) -> bool {
        self.address + 1 < self.addresses.len()
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.address).copied()
    }
}

impl Client {
    /// Moves on what depends on time, the resolver or a TCP connection.
    pub(super) fn advance(&mut self, now: Instant) -> Result<()> {
        match &mut self.phase {
            Phase::Idle => self.start(now),
            Phase::Pausing { until } if *until <= now && self.descent.is_none() => self.begin_attempt(now),
            Phase::Resolving { .. } => self.advance_resolving(now),
            Phase::Connecting { .. } => self.advance_connecting(now),
            Phase::Accepting(_) => self.advance_accepting(now),
            Phase::Closing { then, until, .. } if *until <= now => {
                let then = *then;
                self.after(now, then);
                Ok(())
            }
            Phase::Pausing { .. }
            | Phase::Holding
            | Phase::Asking
            | Phase::Closing { .. }
            | Phase::Session { .. }
            | Phase::Listening { .. }
            | Phase::Ending
            | Phase::Over(_) => Ok(()),
        }
    }

    fn start(&mut self, now: Instant) -> Result<()> {
        if self.holds(0) {
            self.phase = Phase::Holding;
            return Ok(());
        }
        self.begin_attempt(now)
    }

    fn begin_attempt(&mut self, now: Instant) -> Result<()> {
        if self.asks() {
            self.phase = Phase::Asking;
            return Ok(());
        }
        self.attempt = Attempt { drops: self.path.control.drops(), ..Attempt::default() };
        match self.retry.next(self.servers.has_more_addresses()) {
            Next::GiveUp => bail!(
                "All connections have been connect-retry-max ({}) times unsuccessful, exiting",
                self.profile.retry.rounds.unwrap_or(0)
            ),
            _ if self.waits_for_anybody() => self.open_anybody(now),
            Next::SameAddress if self.servers.address().is_some() => self.open(now),
            Next::SameAddress => {
                self.look_up(now, now);
                Ok(())
            }
            Next::NextAddress => {
                self.servers.address += 1;
                self.open(now)
            }
            Next::Remote(position) => {
                self.servers.select(position);
                self.look_up(now, now);
                Ok(())
            }
        }
    }

    fn remote(&self) -> &Remote {
        &self.profile.remotes[self.servers.current()]
    }

    fn look_up(&mut self, now: Instant, since: Instant) {
        let remote = self.remote();
        let mut host = remote.host.clone();
        if self.profile.retry.random_hostname
            && host.parse::<IpAddr>().is_err()
            && let Ok(seed) = entropy::seed()
        {
            let label: String = seed[..6].iter().map(|byte| format!("{byte:02x}")).collect();
            host = format!("{label}.{host}");
        }
        if host.parse::<IpAddr>().is_err() {
            self.tell_plain(now, State::Resolve);
        }
        let remote = &self.profile.remotes[self.servers.current()];
        let ticket = self.resolver.start(&host, remote.port, family(remote.family));
        self.phase = Phase::Resolving { ticket: Some(ticket), since, again: None };
        // A literal address is answered already.
        if let Err(error) = self.advance_resolving(now) {
            say!(self.log, Error, "{error:#}");
        }
    }

    fn advance_resolving(&mut self, now: Instant) -> Result<()> {
        let Phase::Resolving { ticket, since, again } = self.phase else { return Ok(()) };
        if again.is_some_and(|at| at <= now) {
            self.look_up(now, since);
            return Ok(());
        }
        while let Some(answer) = self.resolver.poll() {
            if Some(answer.ticket) != ticket {
                continue;
            }
            return match answer.addrs {
                Ok(addresses) => {
                    self.servers.addresses = addresses;
                    self.servers.address = 0;
                    self.open(now)
                }
                Err(error) => {
                    self.on_unresolved(now, since, &error);
                    Ok(())
                }
            };
        }
        Ok(())
    }

    fn on_unresolved(&mut self, now: Instant, since: Instant, error: &ResolveError) {
        let remote = self.remote();
        say!(
            self.log,
            Error,
            "RESOLVE: Cannot resolve host address: {}:{} ({error})",
            remote.host,
            remote.port
        );
        match self.profile.retry.resolve {
            // `resolv-retry n`: go on with this name for a while.
            Some(limit) if now - since + RESOLVE_WAIT < limit => {
                self.phase =
                    Phase::Resolving { ticket: None::<Ticket>, since, again: Some(now + RESOLVE_WAIT) };
            }
            _ => self.act(now, Action::Restart, "soft", "host name not resolved"),
        }
    }

    /// Opens a socket to the present address.
    fn open(&mut self, now: Instant) -> Result<()> {
        let Some(address) = self.servers.address() else { bail!("no address to connect to") };
        self.serial += 1;
        say!(self.log, Info, "TCP/UDP: Preserving recently used remote address: {}", text(address));
        if self.open_point(now, Some(address))? {
            return Ok(());
        }
        match self.remote().protocol {
            Protocol::Udp => self.open_udp(now, address),
            Protocol::Tcp => self.open_tcp(now, address),
        }
    }

    fn open_udp(&mut self, now: Instant, address: SocketAddr) -> Result<()> {
        let options = UdpOptions {
            local: local(self.remote(), address),
            socket: settings(&self.profile.socket),
            offload: true,
            ..UdpOptions::new(oxivpn_net::Family::of(address.ip()))
        };
        match UdpSocket::bind(&options) {
            Ok(socket) => {
                self.links += 1;
                let number = (self.links & 0xffff) as u16;
                self.start_session(now, Transport::udp(socket, number, address))
            }
            Err(error) => {
                say!(self.log, Error, "TCP/UDP: {error}");
                self.act(now, Action::Restart, "soft", "socket-bind-failed");
                Ok(())
            }
        }
    }

    fn open_tcp(&mut self, now: Instant, address: SocketAddr) -> Result<()> {
        let options = TcpOptions {
            local: local(self.remote(), address),
            socket: settings(&self.profile.socket),
            ..TcpOptions::default()
        };
        say!(self.log, Info, "Attempting to establish TCP connection with {}", text(address));
        self.tell_plain(now, State::TcpConnect);
        match start_connect(address, &options) {
            Ok(connecting) => {
                let until = now + self.remote().poll_timeout;
                self.phase = Phase::Connecting { connecting: Some(connecting), until };
                Ok(())
            }
            Err(error) => {
                self.on_unconnected(now, address, &words(error.io()));
                Ok(())
            }
        }
    }

    fn advance_connecting(&mut self, now: Instant) -> Result<()> {
        let Phase::Connecting { connecting: slot, until } = &mut self.phase else { return Ok(()) };
        let until = *until;
        let Some(connecting) = slot.take() else { return Ok(()) };
        let address = connecting.remote();
        match connecting.finish() {
            Ok(Progress::Connected(link)) => self.on_connected(now, address, link),
            Ok(Progress::Pending(connecting)) if now < until => self.keep_connecting(connecting, until),
            Ok(Progress::Pending(_)) => {
                self.on_unconnected(now, address, "no answer within server-poll-timeout");
                Ok(())
            }
            Err(error) => {
                self.on_unconnected(now, address, &words(error.io()));
                Ok(())
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "one arm of a match whose other arms fail")]
    fn keep_connecting(&mut self, connecting: Connecting, until: Instant) -> Result<()> {
        self.phase = Phase::Connecting { connecting: Some(connecting), until };
        Ok(())
    }

    fn on_connected(&mut self, now: Instant, address: SocketAddr, link: TcpLink) -> Result<()> {
        say!(self.log, Info, "TCP connection established with {}", text(address));
        self.links += 1;
        self.start_session(now, Transport::tcp(link, StreamId(self.links)))
    }

    fn on_unconnected(&mut self, now: Instant, address: SocketAddr, why: &str) {
        say!(self.log, Error, "TCP: connect to {} failed: {why}", text(address));
        say!(
            self.log,
            Error,
            "No TCP connection to the server. Likely causes: the server is down, listens on another port, or speaks UDP \
             only (`proto udp`); a firewall on the way"
        );
        self.act(now, Action::Restart, "connection failed(soft)", "connection-failed");
    }

    /// Hands a working socket to the core.
    fn start_session(&mut self, now: Instant, transport: Transport) -> Result<()> {
        let remote = transport.remote();
        let kind = match (self.remote().protocol, remote.is_ipv4()) {
            (Protocol::Udp, true) => "UDPv4",
            (Protocol::Udp, false) => "UDPv6",
            (Protocol::Tcp, true) => "TCPv4_CLIENT",
            (Protocol::Tcp, false) => "TCPv6_CLIENT",
        };
        let bound = local(self.remote(), remote).and_then(|_| transport.local().ok());
        self.attempt.bound = bound;
        let near =
            bound.map_or_else(|| "(not bound)".to_owned(), |address| format!("(bound) {}", text(address)));
        say!(self.log, Info, "{kind} link local: {near}");
        say!(self.log, Info, "{kind} link remote: {}", text(remote));
        if self.log.shows(Level::Debug) {
            say!(self.log, Debug, "socket descriptor {}", transport.as_raw_fd());
        }
        let credentials = match self.asked.take() {
            None => self.vault.current(&mut *self.prompt)?,
            asked => asked,
        };
        self.attempt.username = credentials.as_ref().map(|credentials| credentials.username.clone());
        variables::untrusted(self.around.env(), remote);
        if let Ok(mut env) = self.peer.lock() {
            variables::untrusted(&mut env, remote);
        }
        if self.point.is_some() {
            return self.start_point(now, transport, Some(remote));
        }
        let path = transport.path();
        self.set_link(transport)?;
        let config = self.current_config().clone();
        let handle = self
            .path
            .control
            .connect(now, path, config, credentials)
            .map_err(|error| anyhow!("Options error: {error}"))?;
        self.phase = Phase::Session { handle };
        self.tell_plain(now, State::Wait);
        Ok(())
    }

    /// Something below the core broke.
    pub(super) fn on_failure(&mut self, now: Instant, failure: Failure) -> Result<()> {
        match failure {
            Failure::Device(error) => Err(anyhow!(
                "the tunnel device is gone ({error}): another program deleted it. Start again to make a new one"
            )),
            Failure::Thread => Err(anyhow!("the thread that receives packets has ended; start again")),
            Failure::Link(error) => {
                self.attempt.complaint = Some(words(&error));
                // The end of a stream comes back from the core as the end of the session.
                if self.remote().protocol == Protocol::Udp {
                    say!(self.log, Error, "UDP socket failed: {error}");
                    self.end_session(now, super::Then::Restart);
                } else if error.kind() == std::io::ErrorKind::InvalidData {
                    say!(self.log, Error, "Fatal error on the TCP connection: {error}");
                }
                Ok(())
            }
        }
    }
}

/// The system's words without its number: `Connection refused`.
pub(super) fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

/// As in log lines: `[AF_INET]192.0.2.1:1194`.
pub(crate) fn text(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => format!("[AF_INET]{address}"),
        SocketAddr::V6(address) => format!("[AF_INET6]{}:{}", address.ip(), address.port()),
    }
}

const fn family(family: Family) -> oxivpn_net::Family {
    match family {
        Family::Any => oxivpn_net::Family::Any,
        Family::V4 => oxivpn_net::Family::V4,
        Family::V6 => oxivpn_net::Family::V6,
    }
}

/// Where to bind to, if the profile says so.
fn local(remote: &Remote, to: SocketAddr) -> Option<SocketAddr> {
    let bind = remote.bind?;
    let any = oxivpn_net::Family::of(to.ip());
    let address = bind.address.unwrap_or(match any {
        oxivpn_net::Family::V4 => IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
    });
    Some(SocketAddr::new(address, bind.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_keeps_every_server_once() {
        let servers = Servers::new(20, true, [3; 32]);
        let mut sorted = servers.order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
        assert_ne!(servers.order, sorted, "seed 3 shuffles");
        assert_eq!(Servers::new(3, false, [3; 32]).order, [0, 1, 2]);
    }

    #[test]
    fn the_systems_words_come_without_numbers() {
        assert_eq!(words(&std::io::Error::from_raw_os_error(111)), "Connection refused");
        assert_eq!(words(&std::io::Error::other("plain")), "plain");
    }

    #[test]
    fn addresses_look_as_in_openvpns_log() {
        assert_eq!(text("192.0.2.1:1194".parse().unwrap()), "[AF_INET]192.0.2.1:1194");
        assert_eq!(text("[2001:db8::1]:443".parse().unwrap()), "[AF_INET6]2001:db8::1:443");
    }
}
