//! Hosts with a TCP/IP stack, inside tunnels and on the open network.
//!
//! A [`Host`] is smoltcp with applications on top. IP packets go in and out, the time comes with each call, and
//! all that is random follows from a seed. Nothing here knows of a VPN.
//!
//! ```
//! use core::time::Duration;
//!
//! use oxivpn_proto::Instant;
//! use oxivpn_sim::SeedTree;
//! use oxivpn_sim::host::{Host, Pings};
//!
//! let seeds = SeedTree::new(7);
//! let mut a = Host::new(&["10.0.0.1/24".parse().unwrap()], 1500, &seeds);
//! let mut b = Host::new(&["10.0.0.2/24".parse().unwrap()], 1500, &seeds);
//! let plan = Pings { count: 1, interval: Duration::from_secs(1), size: 56 };
//! let ping = a.ping(Instant::ZERO, [10, 0, 0, 2].into(), plan);
//!
//! let request = a.poll_packet(Instant::ZERO).unwrap();
//! b.handle_packet(Instant::ZERO, &request);
//! let answer = b.poll_packet(Instant::ZERO).unwrap();
//! a.handle_packet(Instant::ZERO + Duration::from_millis(3), &answer);
//!
//! let stats = a.pings(ping).unwrap();
//! assert_eq!((stats.answered, stats.longest), (1, Some(Duration::from_millis(3))));
//! ```

mod content;
mod device;
mod ping;
mod tcp;
mod udp;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;

use ipnet::IpNet;
use oxivpn_proto::Instant;
use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

pub use ping::{PingStats, Pings};
pub use tcp::{Control, Progress, ServerStats, TcpSettings, Transfer, TransferStats};
pub use udp::{Flood, FloodStats, UdpStats};

use crate::{Purpose, SeedTree};
use device::Wire;

/// The least MTU that a host takes: room for headers and a little.
const MIN_MTU: usize = 128;

/// Addresses of a host.
const MAX_ADDRESSES: usize = 8;

/// What the stack says is due although it was just called: asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// Number of an application on its [`Host`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(u32);

/// A host with a TCP/IP stack and applications.
///
/// After every call with a time drain [`poll_packet`](Self::poll_packet), and call it again at
/// [`deadline`](Self::deadline). Echo requests are answered, segments to closed ports are reset. There is no
/// fragmentation: what is larger than the MTU is not sent.
pub struct Host {
    interface: Interface,
    sockets: SocketSet<'static>,
    addresses: Vec<IpNet>,
    mtu: usize,
    tcp: TcpSettings,
    apps: Vec<App>,
    sent: VecDeque<Vec<u8>>,
    /// There is work to do whatever the time.
    busy: bool,
    next: Option<Instant>,
    seeds: SeedTree,
    drawn: u64,
    first_port: u16,
}

enum App {
    Ping(ping::Ping),
    Client(tcp::Client),
    Server(tcp::Server),
    Sender(udp::Sender),
    Receiver(udp::Receiver),
    PingStopped(PingStats),
    ClientStopped(TransferStats),
    ServerStopped(ServerStats),
    SenderStopped(FloodStats),
    ReceiverStopped(UdpStats),
}

/// What applications may know of their host.
struct Outlook<'a> {
    addresses: &'a [IpNet],
    mtu: usize,
}

impl Outlook<'_> {
    /// Whether there is an address of the same kind.
    fn can_reach(&self, to: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr().is_ipv4() == to.is_ipv4())
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }
}

/// Length of the IP header of packets to `to`.
const fn header_len(to: IpAddr) -> usize {
    if to.is_ipv4() { 20 } else { 40 }
}

/// So many things, one after another at an even rate.
#[derive(Debug)]
struct Pace {
    next: Option<Instant>,
    count: u64,
    interval: Duration,
    /// Of the last one, from 1.
    number: u64,
}

impl Pace {
    fn new(now: Instant, count: u64, interval: Duration) -> Self {
        let interval = interval.max(Duration::from_micros(1));
        Self { next: (count > 0).then_some(now), count, interval, number: 0 }
    }

    const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn stop(&mut self) {
        self.next = None;
    }

    /// The number of the one that is due. What was missed is not made up for.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let due = self.next.filter(|&due| due <= now)?;
        self.number += 1;
        let regular = due + self.interval;
        let next = if regular > now { regular } else { now + self.interval };
        self.next = (self.number < self.count).then_some(next);
        Some(self.number)
    }
}

impl Host {
    /// A host with these addresses, at most eight; packets of at most `mtu` bytes, at least 128.
    pub fn new(addresses: &[IpNet], mtu: usize, seeds: &SeedTree) -> Self {
        let (mut sent, mtu, mut drawn) = (VecDeque::new(), mtu.max(MIN_MTU), 0);
        let interface = interface(mtu, &mut sent, draw(seeds, &mut drawn));
        let first_port = draw(seeds, &mut drawn) as u16;
        let mut host = Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            addresses: Vec::new(),
            mtu,
            tcp: TcpSettings::default(),
            apps: Vec::new(),
            sent,
            busy: false,
            next: None,
            seeds: seeds.clone(),
            drawn,
            first_port,
        };
        host.set_addresses(addresses);
        host
    }

    /// Gives the host other addresses. Connections from addresses that it has no longer end.
    pub fn set_addresses(&mut self, addresses: &[IpNet]) {
        self.addresses = addresses.iter().copied().take(MAX_ADDRESSES).collect();
        self.interface.update_ip_addrs(|list| {
            list.clear();
            for net in &self.addresses {
                // It holds as many as are here.
                let _ = list.push(IpCidr::new(net.addr().into(), net.prefix_len()));
            }
        });
        self.busy = true;
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// Changes the largest packet that it sends, in bytes, at least 128. Open connections follow.
    pub fn set_mtu(&mut self, mtu: usize) {
        let mtu = mtu.max(MIN_MTU);
        if mtu == self.mtu {
            return;
        }
        self.mtu = mtu;
        let seed = draw(&self.seeds, &mut self.drawn);
        // The stack takes the MTU only when it is made; connections are not in it.
        self.interface = interface(mtu, &mut self.sent, seed);
        let addresses = core::mem::take(&mut self.addresses);
        self.set_addresses(&addresses);
    }

    /// Its MTU.
    pub const fn mtu(&self) -> usize {
        self.mtu
    }

    /// Sets TCP up for the connections and servers that come.
    pub const fn set_tcp(&mut self, settings: TcpSettings) {
        self.tcp = settings;
    }

    // Packets

    /// Takes an IP packet.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        if let Some(ends) = first_segment(packet) {
            let sockets = &mut self.sockets;
            for app in &self.apps {
                if let App::Server(server) = app
                    && server.hide_from(sockets, ends)
                {
                    break;
                }
            }
        }
        let mut wire = Wire { mtu: self.mtu, packet: Some(packet), sent: &mut self.sent };
        self.interface.poll_ingress_single(at(now), &mut wire, &mut self.sockets);
        self.receive(now);
        self.busy = true;
    }

    /// The next IP packet that it sends, if there is one at this time.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.sent.is_empty() && (self.busy || self.next.is_some_and(|next| next <= now)) {
            self.work(now);
        }
        self.sent.pop_front()
    }

    /// When to call [`poll_packet`](Self::poll_packet) although no packet came; `None` if nothing will be due.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.busy || !self.sent.is_empty() { Some(now) } else { self.next }
    }

    /// Applications look what came.
    fn receive(&mut self, now: Instant) {
        let sockets = &mut self.sockets;
        for app in &mut self.apps {
            match app {
                App::Ping(ping) => ping.receive(now, sockets),
                App::Client(client) => client.pump(now, sockets, |_| Progress::Reset),
                App::Server(server) => server.pump(sockets, |_| Progress::Reset),
                App::Receiver(receiver) => receiver.receive(now, sockets),
                _ => {}
            }
        }
    }

    /// Everything that is due.
    fn work(&mut self, now: Instant) {
        let outlook = Outlook { addresses: &self.addresses, mtu: self.mtu };
        let sockets = &mut self.sockets;
        for app in &mut self.apps {
            match app {
                App::Ping(ping) => ping.act(now, sockets, &outlook),
                App::Sender(sender) => sender.act(now, sockets, &outlook),
                _ => {}
            }
        }
        let mut wire = Wire { mtu: self.mtu, packet: None, sent: &mut self.sent };
        while self.interface.poll_egress(at(now), &mut wire, sockets) == PollResult::SocketStateChanged {}
        let closed = |local| if outlook.has(local) { Progress::TimedOut } else { Progress::NoAddress };
        for app in &mut self.apps {
            match app {
                App::Client(client) => client.pump(now, sockets, closed),
                App::Server(server) => server.pump(sockets, closed),
                _ => {}
            }
        }
        self.busy = false;
        let due = self.interface.poll_at(at(now), sockets).map(|due| {
            let due = Instant::from_nanos(u64::try_from(due.total_micros()).unwrap_or_default() * 1000);
            if due > now { due } else { now + ASK_AGAIN }
        });
        let apps = self.apps.iter().filter_map(|app| match app {
            App::Ping(ping) => ping.deadline(),
            App::Sender(sender) => sender.deadline(),
            _ => None,
        });
        self.next = apps.chain(due).min();
    }

    // Applications

    fn add(&mut self, app: App) -> AppId {
        self.busy = true;
        self.apps.push(app);
        AppId(u32::try_from(self.apps.len() - 1).unwrap_or(u32::MAX))
    }

    fn draw(&mut self) -> u64 {
        draw(&self.seeds, &mut self.drawn)
    }

    /// A port that no other application of this host has.
    fn port(&self) -> u16 {
        49152 + (usize::from(self.first_port) + self.apps.len()) as u16 % 16384
    }

    /// Sends echo requests, the first one now.
    pub fn ping(&mut self, now: Instant, to: IpAddr, plan: Pings) -> AppId {
        let (ident, seed) = (self.port(), self.draw());
        let ping = ping::Ping::new(now, &mut self.sockets, (ident, seed), to, plan);
        self.add(App::Ping(ping))
    }

    /// Takes transfers at a port of all its addresses. Not for port 0.
    pub fn serve_tcp(&mut self, port: u16) -> AppId {
        let server = tcp::Server::new(&mut self.sockets, self.tcp, port);
        self.add(App::Server(server))
    }

    /// Connects to a server made by [`serve_tcp`](Self::serve_tcp), sends and fetches so much.
    pub fn send_tcp(&mut self, now: Instant, to: SocketAddr, plan: Transfer) -> AppId {
        let (port, seed) = (self.port(), self.draw());
        let outlook = Outlook { addresses: &self.addresses, mtu: self.mtu };
        let local = self.interface.get_source_address(&to.ip().into()).filter(|_| outlook.can_reach(to.ip()));
        let local = local.map(|address| SocketAddr::new(address.into(), port));
        let stack = (&mut self.sockets, self.interface.context());
        let client = tcp::Client::new(now, stack, &self.tcp, local, to, (seed, plan));
        self.add(App::Client(client))
    }

    /// Sends numbered datagrams, the first one now.
    pub fn flood_udp(&mut self, now: Instant, to: SocketAddr, plan: Flood) -> AppId {
        let (port, seed) = (self.port(), self.draw());
        let sender = udp::Sender::new(now, &mut self.sockets, (port, seed), to, plan);
        self.add(App::Sender(sender))
    }

    /// Counts the datagrams of floods that come to a port. Not for port 0.
    pub fn receive_udp(&mut self, port: u16) -> AppId {
        let receiver = udp::Receiver::new(&mut self.sockets, port);
        self.add(App::Receiver(receiver))
    }

    /// Ends an application without a word to the other side. What it counted stays.
    pub fn stop(&mut self, app: AppId) {
        let sockets = &mut self.sockets;
        let Some(app) = self.apps.get_mut(app.0 as usize) else { return };
        *app = match app {
            App::Ping(ping) => {
                ping.stop(sockets);
                App::PingStopped(ping.stats)
            }
            App::Client(client) => {
                client.stop(sockets);
                App::ClientStopped(client.stats)
            }
            App::Server(server) => {
                server.stop(sockets);
                App::ServerStopped(server.stats)
            }
            App::Sender(sender) => {
                sender.stop(sockets);
                App::SenderStopped(sender.stats)
            }
            App::Receiver(receiver) => {
                receiver.stop(sockets);
                App::ReceiverStopped(receiver.stats)
            }
            _ => return,
        };
        self.busy = true;
    }

    // Questions

    fn app(&self, app: AppId) -> Option<&App> {
        self.apps.get(app.0 as usize)
    }

    /// How an application made by [`ping`](Self::ping) does.
    pub fn pings(&self, app: AppId) -> Option<&PingStats> {
        match self.app(app)? {
            App::Ping(ping::Ping { stats, .. }) | App::PingStopped(stats) => Some(stats),
            _ => None,
        }
    }

    /// How an application made by [`send_tcp`](Self::send_tcp) does.
    pub fn transfer(&self, app: AppId) -> Option<&TransferStats> {
        match self.app(app)? {
            App::Client(tcp::Client { stats, .. }) | App::ClientStopped(stats) => Some(stats),
            _ => None,
        }
    }

    /// How an application made by [`serve_tcp`](Self::serve_tcp) does.
    pub fn server(&self, app: AppId) -> Option<&ServerStats> {
        match self.app(app)? {
            App::Server(tcp::Server { stats, .. }) | App::ServerStopped(stats) => Some(stats),
            _ => None,
        }
    }

    /// How an application made by [`flood_udp`](Self::flood_udp) does.
    pub fn flood(&self, app: AppId) -> Option<&FloodStats> {
        match self.app(app)? {
            App::Sender(udp::Sender { stats, .. }) | App::SenderStopped(stats) => Some(stats),
            _ => None,
        }
    }

    /// How an application made by [`receive_udp`](Self::receive_udp) does.
    pub fn received(&self, app: AppId) -> Option<&UdpStats> {
        match self.app(app)? {
            App::Receiver(udp::Receiver { stats, .. }) | App::ReceiverStopped(stats) => Some(stats),
            _ => None,
        }
    }

    /// How often any application got content that nobody sent: bytes of TCP, packets of others, and connections that
    /// ended in order with bytes missing. Whoever drops spoiled packets below never sees any.
    pub fn violations(&self) -> u64 {
        let of = |app: &App| match app {
            App::Ping(ping::Ping { stats, .. }) | App::PingStopped(stats) => stats.corrupt,
            App::Client(tcp::Client { stats, .. }) | App::ClientStopped(stats) => {
                stats.corrupt + u64::from(stats.progress == Progress::Wrong)
            }
            App::Server(tcp::Server { stats, .. }) | App::ServerStopped(stats) => stats.corrupt + stats.wrong,
            App::Receiver(udp::Receiver { stats, .. }) | App::ReceiverStopped(stats) => stats.corrupt,
            App::Sender(_) | App::SenderStopped(_) => 0,
        };
        self.apps.iter().map(of).sum()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("addresses", &self.addresses)
            .field("apps", &self.apps.len())
            .finish_non_exhaustive()
    }
}

/// A stack without addresses.
fn interface(mtu: usize, sent: &mut VecDeque<Vec<u8>>, seed: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    Interface::new(config, &mut Wire { mtu, packet: None, sent }, smoltcp::time::Instant::ZERO)
}

fn draw(seeds: &SeedTree, drawn: &mut u64) -> u64 {
    *drawn += 1;
    seeds.draws(Purpose::Secret, 0, *drawn).below(u64::MAX)
}

fn at(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}

/// Where a packet is from and to if it opens a TCP connection.
fn first_segment(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (from, to, segment): (IpAddress, IpAddress, _) = match packet.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            (packet.next_header() == IpProtocol::Tcp).then_some(())?;
            (packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
        }
        6 => {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            (packet.next_header() == IpProtocol::Tcp).then_some(())?;
            (packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
        }
        _ => return None,
    };
    let segment = TcpPacket::new_checked(segment).ok()?;
    (segment.syn() && !segment.ack()).then_some(())?;
    let end = |address: IpAddress, port| SocketAddr::new(address.into(), port);
    Some((end(from, segment.src_port()), end(to, segment.dst_port())))
}

#[cfg(test)]
mod tests;
