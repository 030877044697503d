//! A server: many clients, one or more threads for their packets and one for everything else.
//!
//! [`Server`] is the last of them: sessions, scripts, addresses, log. Like a client it never waits: a loop calls
//! [`Server::work`] when it is woken or something is due, and sleeps as it says. The packets of tunnels never pass
//! here, so that a slow login or a hundred handshakes delay none of them; see [`worker`].

mod admit;
mod ccd;
mod clients;
mod connections;
mod events;
mod hooks;
mod leave;
mod login;
mod manage;
mod open;
mod ration;
mod report;
mod revocation;
mod words;
pub mod worker;

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use oxivpn_net::UdpSocket;
use oxivpn_profile::Profile;
use oxivpn_profile::server::{Role, ServerOptions};
use oxivpn_proto::config::NodeConfig;
use oxivpn_proto::config::server::ServerConfig;
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::Capabilities;
use oxivpn_proto::pool::Addressing;
use oxivpn_proto::{DropReason, Instant, Node, Path, PeerRef, Report, StreamChange, StreamId, Transmit};
use zeroize::Zeroizing;

use crate::client::{HostSide, Next};
use crate::gremlin::Faults;
use crate::log::Log;
use crate::privileges::Identity;
use crate::scripts::Scripts;
use crate::scripts::around::Around;
use crate::status::StatusFile;
use crate::turn::leaves;
use crate::{clock, entropy, notify, process, say};
use admit::Admissions;
use clients::{Client, Clients};
use connections::Connections;
use hooks::Hooks;
use leave::Phase;
use login::Logins;
use manage::Managed;
use open::Sockets;
use ration::Ration;
use revocation::Revocation;
use worker::{Command, Common, Crew, News, Packets, Totals};

/// How often files of scripts that answer later are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A server with all that belongs to it.
pub struct Server {
    profile: Profile,
    options: Arc<ServerOptions>,
    log: Arc<Log>,
    config: Arc<ServerConfig>,
    node: Node,
    crew: Crew,
    /// A socket for each local address again: control packets are sent from here.
    udp: Vec<UdpSocket>,
    connections: Connections,
    /// Lines about connections of nobody.
    strangers: Ration,
    clients: Clients,
    logins: Logins,
    admissions: Admissions,
    addressing: Addressing,
    /// Addresses were given out since the pool's file was written.
    pool_changed: bool,
    /// The pool's file, open since before privileges were given up.
    pool_file: Option<File>,
    pool_due: Option<Instant>,
    hooks: Hooks,
    host: HostSide,
    around: Around,
    status: Option<StatusFile>,
    phase: Phase,
    /// Clients whose last sums are on their way, and the orders after which those must have come.
    leaving: HashMap<PeerRef, Client>,
    leaving_order: VecDeque<(u64, PeerRef)>,
    last_order: u64,
    /// When to look at scripts' files.
    look_at: Option<Instant>,
    /// As last heard.
    totals: Totals,
    /// Bytes of control packets sent as datagrams, which the packet thread does not see.
    control_sent: u64,
    /// The status file waits for fresh sums.
    status_asked: bool,
    /// SIGUSR2 waits for them.
    statistics_wanted: bool,
    managed: Managed,
    /// Clients that were turned away because there are too many, as far as that was told.
    refused: u64,
    revocation: Option<Revocation>,
    faults: Option<Arc<Faults>>,
    commands: Vec<Command>,
    news: Vec<News>,
    /// Of each worker.
    packets: Vec<Packets>,
    out: Box<[u8; MAX_CONTROL_DATAGRAM]>,
}

impl Server {
    /// A server for `profile`, whose role must be that of a server. Everything is checked before the device is opened,
    /// and the process goes to the background before, if the profile wants it.
    /// `wake` is called from other threads when there is something to do.
    pub fn new(profile: Profile, log: Arc<Log>, wake: Arc<dyn Fn() + Send + Sync>) -> Result<Self> {
        let Role::Server(options) = &profile.role else {
            bail!("Options error: this is no server's profile")
        };
        let mut options = (**options).clone();
        open::anchor(&profile.process, &mut options)?;
        let options = Arc::new(options);
        let tls = open::tls(&profile, &log)?;
        let drawn = Zeroizing::new(entropy::seed()?);
        let source = profile.tls.revocation.clone();
        let revocation = source.map(|source| Revocation::new(source, tls.clone(), clock::now()));
        let config = Arc::new(profile.server_config(&options, &drawn, tls));
        let mut addressing = open::addressing(&profile, &options, &log)?;
        open::restore(&options, &mut addressing, &log)?;
        let pool_file = open::pool_file(&options)?;
        open::check_status(&profile)?;
        let workers = open::workers(&profile);
        let sockets = Sockets::bind(&profile, &options, workers)?;
        let udp = sockets.for_control().context("no descriptor left")?;
        process::begin(&profile)?;
        let capabilities = profile.process.narrow(Capabilities { ecn: true, ..Capabilities::USERSPACE });
        let capabilities = Capabilities { synchronous: false, ..capabilities };
        let node = Node::new(Arc::new(NodeConfig { capabilities }), entropy::seed()?, clock::anchor());

        let mut host = HostSide::new(log.clone());
        host.queues = workers;
        let mut around = Around::new(&profile, log.clone(), || {});
        let device = host.set_up(&profile, options.tun_mtu, &mut around)?;
        sockets.tell(&log);
        let unclaimed = options.max_clients / 4 + 16;
        let connections = Connections::new(unclaimed, options.max_clients + unclaimed);
        let faults = Faults::new(profile.process.gremlin, clock::now(), &log)?;
        let own =
            [addressing.plan().own.map(IpAddr::V4), addressing.plan().own6.map(|own| own.addr().into())];
        let common = Common {
            mtu: options.tun_mtu,
            own: own.into_iter().flatten().collect(),
            client_to_client: options.client_to_client,
            max_streams: options.max_clients + unclaimed,
            stream_queue: options.tcp_queue_limit,
            faults: faults.clone(),
        };
        let waker = wake.clone();
        let mut crew = Crew::start(&common, sockets.shares, move || waker())
            .context("cannot start the packet threads")?;
        if workers > 1 {
            say!(log, Info, "up to {workers} threads move packets");
        }
        crew.set_device(device);
        // Scripts about clients know of the tunnel too.
        let mut env = around.base().clone();
        env.extend(around.env());
        let scripts = Scripts::new(&profile.scripts, env, move || wake());
        let now = clock::now();
        let status = profile.status.as_ref().map(|status| StatusFile::open(status, &log, now));
        Identity::find(&profile.process)?.assume(&log)?;
        process::settle(&profile.process);
        let mut server = Self {
            pool_due: options.pool_persist.as_ref().map(|(_, every)| now + *every),
            profile,
            options,
            log,
            config,
            node,
            packets: crew.packets(),
            crew,
            udp,
            connections,
            strangers: Ration::default(),
            clients: Clients::default(),
            logins: Logins::new(),
            admissions: Admissions::new(),
            addressing,
            pool_changed: false,
            pool_file,
            hooks: Hooks::new(scripts),
            host,
            around,
            status,
            phase: Phase::Running,
            leaving: HashMap::new(),
            leaving_order: VecDeque::new(),
            last_order: 0,
            look_at: None,
            totals: Totals::default(),
            control_sent: 0,
            status_asked: false,
            statistics_wanted: false,
            managed: Managed::default(),
            refused: 0,
            revocation,
            faults,
            commands: Vec::new(),
            news: Vec::new(),
            out: Box::new([0; MAX_CONTROL_DATAGRAM]),
        };
        server.begin();
        Ok(server)
    }

    /// Takes clients from now on.
    fn begin(&mut self) {
        self.node.listen(self.config.clone());
        let plan = self.addressing.plan();
        say!(self.log, Info, "MULTI: multi_init called, r=256 v=256");
        if let Some((first, last)) = plan.pool {
            let size = u32::from(last) - u32::from(first) + 1;
            let size =
                if plan.topology == oxivpn_proto::options::pushed::Topology::Net30 { size / 4 } else { size };
            say!(self.log, Info, "IFCONFIG POOL IPv4: base={first} size={size}");
        }
        if let Some(pool) = plan.pool6 {
            say!(
                self.log,
                Info,
                "IFCONFIG POOL IPv6: base={} size={} netbits={}",
                pool.addr(),
                1u64 << (128 - pool.prefix_len()).min(16),
                pool.prefix_len()
            );
        }
        say!(self.log, Info, "Initialization Sequence Completed");
        notify::status("Initialization Sequence Completed");
        self.log.hold();
    }

    /// Does what came in and is due. An error is fatal; its text is for the user.
    pub fn work(&mut self, now: Instant) -> Result<Next> {
        let next = self.do_work(now);
        self.log.flush();
        next
    }

    fn do_work(&mut self, now: Instant) -> Result<Next> {
        self.take_news(now)?;
        self.poll_scripts(now);
        self.poll_manage(now);
        if self.node.deadline().is_some_and(|deadline| deadline.at <= now) {
            self.node.handle_timeout(now);
        }
        self.on_time(now);
        self.drain(now);
        self.flood_connections(now);
        self.advance(now)?;
        self.drain(now);
        if let Phase::Over(outcome) = self.phase {
            return Ok(Next::Over(outcome));
        }
        let node = self.node.deadline().map(|deadline| deadline.at);
        Ok(Next::Wait([node, self.own_deadline()].into_iter().flatten().min()))
    }

    fn own_deadline(&self) -> Option<Instant> {
        let status = self.status.as_ref().filter(|_| !self.status_asked).and_then(StatusFile::deadline);
        let pool = self.pool_due.filter(|_| self.pool_changed);
        let manage = self.manage_deadline();
        [self.connections.deadline(), status, pool, manage, self.look_at, self.phase.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// From the packet threads.
    fn take_news(&mut self, now: Instant) -> Result<()> {
        let (mut news, mut packets) = (core::mem::take(&mut self.news), core::mem::take(&mut self.packets));
        self.crew.take(&mut news, &mut packets);
        let mut ended = Vec::new();
        // Reports first: they may be what lets an answer to a packet leave.
        for item in news.drain(..) {
            match item {
                News::Closed(id) => ended.push(id),
                item => self.on_news(now, item)?,
            }
        }
        self.drain(now);
        for (path, packet) in packets.iter_mut().flat_map(Packets::iter_mut) {
            // Of a session that begins or ends with it, too.
            let (bytes, counted) = (packet.len(), self.clients.count_received(&path, packet.len()));
            self.node.handle_datagram(now, path, packet);
            self.drain_core(now);
            if !counted {
                self.clients.count_received(&path, bytes);
            }
        }
        self.drain(now);
        // Last: what came on a connection came before its end.
        for id in ended {
            self.on_news(now, News::Closed(id))?;
        }
        if packets.iter().any(|packets| !packets.is_empty()) && self.clients.len() >= self.options.max_clients
        {
            self.tell_full(now);
        }
        packets.iter_mut().for_each(Packets::clear);
        (self.news, self.packets) = (news, packets);
        Ok(())
    }

    /// Says that clients were turned away.
    fn tell_full(&mut self, now: Instant) {
        let refused = self.node.drops_outside().get(DropReason::Full);
        if refused > self.refused {
            self.refused = refused;
            let most = self.options.max_clients;
            self.say_of_strangers(now, || {
                format!("MULTI: new incoming connection would exceed maximum number of clients ({most})")
            });
        }
    }

    /// Says something that anybody can cause as often as he likes.
    fn say_of_strangers(&mut self, now: Instant, line: impl FnOnce() -> String) {
        if let Some(held) = self.strangers.take(now) {
            if held > 0 {
                say!(self.log, Info, "{held} more lines about connections of strangers were left out");
            }
            say!(self.log, Info, "{}", line());
        }
    }

    /// Ends a connection of nobody.
    pub(super) fn shed(&mut self, now: Instant, id: StreamId) {
        if !self.connections.is_claimed(id) && self.connections.close(now, id) {
            self.commands.push(Command::Close(id));
        }
    }

    fn on_news(&mut self, now: Instant, news: News) -> Result<()> {
        match news {
            News::Report(report) => self.on_report(now, report),
            News::Usage(peer, totals) => {
                let client = self.clients.of_peer(peer).or_else(|| self.leaving.get_mut(&peer));
                if let Some(client) = client {
                    client.totals = totals;
                }
            }
            News::Accepted { id, remote } => {
                self.say_of_strangers(now, || {
                    format!("TCP connection established with {}", words::address(remote))
                });
                let late = now + self.config.channel.timing.hand_window;
                if let Some(oldest) = self.connections.insert(id, remote, late) {
                    self.shed(now, oldest);
                }
            }
            News::Closed(id) => {
                self.node.handle_stream(now, id, StreamChange::Closed);
                self.drain(now);
                self.connections.remove(id);
            }
            News::Refused(remote) => {
                let (real, most) = (words::real(remote), self.options.max_clients);
                self.say_of_strangers(now, || {
                    format!("{real} MULTI: new incoming connection would exceed maximum number of clients ({most})")
                });
            }
            News::Totals(totals) => {
                self.totals = *totals;
                self.on_totals(now);
            }
            News::Broken(text) => bail!(text),
            News::Ended => bail!("the thread that moves packets has ended; this is a fault of the program"),
        }
        Ok(())
    }

    fn on_report(&mut self, now: Instant, report: Report) {
        if let Report::Applied(seq) = report {
            while let Some(&(_, peer)) = self.leaving_order.front().filter(|(order, _)| *order <= seq) {
                self.leaving_order.pop_front();
                if let Some(client) = self.leaving.remove(&peer) {
                    self.on_gone(client);
                }
            }
        }
        self.node.handle_report(now, report);
    }

    /// As [`drain_core`](Self::drain_core), and gives the orders to the packet thread.
    fn drain(&mut self, now: Instant) {
        self.drain_core(now);
        self.crew.commands(&mut self.commands);
    }

    /// Orders, then packets, then events, until there is none.
    fn drain_core(&mut self, now: Instant) {
        loop {
            self.take_orders();
            while let Some(transmit) = self.node.poll_transmit(now, &mut self.out[..]) {
                self.send(now, transmit);
            }
            let mut silent = true;
            while let Some(event) = self.node.poll_event() {
                self.take_orders();
                self.on_event(now, event);
                silent = false;
            }
            if silent {
                return;
            }
        }
    }

    /// All orders so far. The one that removes a client's peer is among them when the client's end is told.
    fn take_orders(&mut self) {
        while let Some(order) = self.node.poll_directive() {
            self.last_order = order.seq;
            self.commands.push(Command::Order(order));
        }
    }

    /// The packet thread decides about faults of what goes through it.
    fn send(&mut self, now: Instant, transmit: Transmit) {
        self.clients.count_sent(&transmit.path, transmit.len);
        let bytes = &self.out[..transmit.len];
        match transmit.path {
            Path::Stream(id) => self.commands.push(Command::Frame(id, bytes.to_vec())),
            Path::Datagram { socket, remote, local } => {
                if let Some(socket) = self.udp.get(usize::from(socket) / self.crew.count())
                    && leaves(self.faults.as_deref(), now)
                {
                    self.control_sent += bytes.len() as u64;
                    // What is lost here is repeated, as if the network had lost it.
                    let _ = socket.send_msg(bytes, remote, local);
                }
            }
        }
    }

    /// Ends clients that got as far as `gremlin` lets them (`openvpn: ssl.c`, `tls_multi_process`).
    fn flood_connections(&mut self, now: Instant) {
        let level = self.faults.as_ref().and_then(|faults| faults.connection_flood());
        let reached = level.map(|level| self.node.sessions_at(level)).unwrap_or_default();
        for session in reached {
            self.node.abort(now, session);
        }
    }

    /// What is due beside the core.
    fn on_time(&mut self, now: Instant) {
        // Certificates come in later packets than those that woke us.
        if let Some(revocation) = &mut self.revocation {
            revocation.look(now, &self.log);
        }
        while let Some(id) = self.connections.overdue(now) {
            self.commands.push(Command::Close(id));
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at_logins(now);
            self.look_at_admissions(now);
            self.look_at = None;
        }
        if self.look_at.is_none() && (self.has_deferred_login() || self.has_deferred_admission()) {
            self.look_at = Some(now + LOOK);
        }
        if !self.status_asked && self.status.as_ref().is_some_and(|status| status.is_due(now)) {
            self.status_asked = true;
            self.commands.extend([Command::AskUsage, Command::AskTotals]);
        }
        if self.pool_changed && self.pool_due.is_some_and(|due| due <= now) {
            self.write_pool(now);
        }
    }
}
