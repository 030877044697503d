//! The life of a client: which server to try, what to do with what comes back, when to leave.
//!
//! [`Client`] owns the packet path and reacts to its events. Like the path it never waits: a loop calls
//! [`Client::work`] when something is ready or due and sleeps as it says.

mod connect;
pub mod credentials;
mod events;
pub mod explain;
pub mod halves;
mod hooks;
mod managed;
mod names;
pub mod options;
mod point;
mod tunnel;

use core::time::Duration;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use oxivpn_host::plan::VpnOptions;
use oxivpn_net::tcp::Connecting;
use oxivpn_net::{Resolver, Ticket};
use oxivpn_profile::Profile;
use oxivpn_proto::config::{ClientConfig, Credentials, NodeConfig};
use oxivpn_proto::options::pushed::Pushed;
use oxivpn_proto::plane::{Capabilities, DataPlane as _};
use oxivpn_proto::tls::TlsFactory;
use oxivpn_proto::tls::rustls::RustlsFactory;
use oxivpn_proto::{DropCounters, Instant, Node, SessionHandle};

use crate::gremlin::Faults;
use crate::lane::Rest;
use crate::link::Transport;
use crate::log::Log;
use crate::manage::Manage;
use crate::privileges::Identity;
use crate::retry::{Action, Retry, Rules};
use crate::scripts::around::Around;
use crate::scripts::verify::{Peer, Verifying};
use crate::status::StatusFile;
use crate::turn::{Link as _, Ready, Traffic, Turn};
use crate::{clock, entropy, process, say};
use connect::Servers;
pub(crate) use connect::text as address_text;
use credentials::{Prompt, Terminal, Vault};
use halves::Halves;
use hooks::{Descent, Rise};
use point::{Accepting, Point};
pub(crate) use tunnel::HostSide;
pub use tunnel::{Tun, recover};

/// How long leaving may take beyond what `explicit-exit-notify` asks for.
const LEAVE_GRACE: Duration = Duration::from_secs(3);

/// Requests to leave within this time are one.
const SAME_SIGNAL: Duration = Duration::from_millis(300);

/// A request from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: leave.
    Int,
    /// SIGTERM: leave.
    Term,
    /// SIGHUP: read the profile again and connect anew.
    Hup,
    /// SIGUSR1: connect anew.
    Usr1,
    /// SIGUSR2: write statistics to the log.
    Usr2,
}

impl Signal {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
        }
    }
}

/// What a loop does after [`Client::work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call again when a descriptor is ready, the resolver wakes, or at this time.
    Wait(Option<Instant>),
    /// Call again at once.
    Again,
    /// The client is done.
    Over(Outcome),
}

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked for, or as the server or the profile wants it: exit code 0, as in OpenVPN.
    Left,
    /// Read the profile again and start over.
    Reload,
}

/// Descriptors to watch; they change over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// The outer socket: to be read if `link_read`, and written if `link_write`; one of them is set.
    pub link: Option<RawFd>,
    /// Whether to watch if the socket can be read: not if a thread of its own does that.
    pub link_read: bool,
    /// Whether to watch if the socket can be written. A datagram socket tells of every datagram that has left, so only
    /// while it is full.
    pub link_write: bool,
    /// The device: to be read.
    pub device: Option<RawFd>,
    /// The management interface: to be read and written; see [`Client::manage_ready`].
    pub manage: Option<RawFd>,
    /// Changes whenever one of them was opened anew, perhaps under the number of the one before.
    pub serial: u64,
}

type PacketPath = Turn<Transport, Tun, Halves, Node>;

/// A client with all that belongs to it.
pub struct Client {
    profile: Profile,
    log: Arc<Log>,
    configs: Vec<Arc<ClientConfig>>,
    servers: Servers,
    retry: Retry,
    vault: Vault,
    /// Asked for before the first attempt, for that attempt.
    asked: Option<Credentials>,
    prompt: Box<dyn Prompt>,
    resolver: Resolver,
    path: PacketPath,
    rest: Option<Rest>,
    host: HostSide,
    around: Around,
    peer: Peer,
    identity: Identity,
    /// What scripts were told of the tunnel that stands.
    told: Option<VpnOptions>,
    rise: Option<Rise>,
    descent: Option<Descent>,
    phase: Phase,
    attempt: Attempt,
    links: u64,
    serial: u64,
    up_since: Option<Instant>,
    manage: Option<Manage>,
    status: Option<StatusFile>,
    /// Set if this is one end of a point-to-point tunnel.
    point: Option<Point>,
}

/// Where the client is.
enum Phase {
    /// Before the first attempt.
    Idle,
    /// Until the next attempt may begin.
    Pausing { until: Instant },
    /// Until the management interface says `hold release`.
    Holding,
    /// Until user name and password came from there.
    Asking,
    /// A name is being looked up; `again` is the time of the next try after a failure.
    Resolving { ticket: Option<Ticket>, since: Instant, again: Option<Instant> },
    /// A TCP connection is being made.
    Connecting { connecting: Option<Connecting>, until: Instant },
    /// The core is at work.
    Session { handle: SessionHandle },
    /// The other side of a point-to-point tunnel is to begin; and the session, once it has.
    Listening { session: Option<SessionHandle> },
    /// So, by a TCP connection.
    Accepting(Accepting),
    /// A session is ending because we want it to.
    Closing { handle: SessionHandle, then: Then, since: Instant, until: Instant },
    /// On the way down for good.
    Ending,
    /// Done.
    Over(Outcome),
}

/// What comes after a session that we ended.
#[derive(Clone, Copy)]
enum Then {
    Leave { signal: &'static str, words: &'static str },
    Restart,
    Reload,
}

/// What is known about the present attempt, for messages.
#[derive(Default)]
struct Attempt {
    reached: bool,
    tls_done: bool,
    server: Option<String>,
    username: Option<String>,
    complaint: Option<String>,
    /// Own outer address, if the profile wants one.
    bound: Option<std::net::SocketAddr>,
    drops: DropCounters,
    pushed: Vec<Pushed>,
}

impl Client {
    /// A client for `profile`. Host names in its routes are looked up here. `wake` is called from
    /// another thread when there is something to do: the resolver has an answer, or the thread that receives has news.
    pub fn new(profile: Profile, log: Arc<Log>, wake: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        Self::with_prompt(profile, log, wake, Box::new(Terminal))
    }

    /// The same, with somebody else to ask for what the profile lacks.
    pub fn with_prompt(
        mut profile: Profile,
        log: Arc<Log>,
        wake: impl Fn() + Send + Sync + 'static,
        mut prompt: Box<dyn Prompt>,
    ) -> Result<Self> {
        let identity = process::check(&profile.process)?;
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(wake);
        let scripts_wake = wake.clone();
        names::look_up(&mut profile.host.routes, names::system);
        let passphrase = match profile.needs_passphrase() {
            true => {
                Some(prompt.secret("Enter Private Key Password: ").context("the private key is encrypted")?)
            }
            false => None,
        };
        let material = profile.tls_options(passphrase.as_ref().map(|text| text.as_str()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = Arc::new(
            RustlsFactory::new(material, provider)
                .map_err(|failure| anyhow::anyhow!("Options error: {failure}"))?,
        );
        for note in tls.notes(clock::unix()) {
            say!(log, Warn, "{note}");
        }
        let around = Around::new(&profile, log.clone(), move || scripts_wake());
        let peer = Peer::default();
        let tls: Arc<dyn TlsFactory> =
            Verifying::around(tls, &profile.scripts, around.base().clone(), peer.clone(), log.clone());
        let point = Point::new(&mut profile, &tls);
        let configs = match &point {
            Some(point) => point.client_configs(&profile),
            None => {
                let config = |remote| Arc::new(profile.client_config(remote, tls.clone()));
                profile.remotes.iter().map(config).collect()
            }
        };
        let rules = Rules {
            remotes: u32::try_from(profile.remotes.len()).unwrap_or(u32::MAX),
            rounds: profile.retry.rounds,
            auth: profile.auth.retry,
            tls_exit: profile.process.tls_exit,
            remap: profile.process.remap_usr1,
        };
        let faults = Faults::new(profile.process.gremlin, clock::now(), &log)?;
        let plane = match threads(&profile) {
            1 => Halves::together(),
            _ => Halves::parted(faults.clone(), wake.clone()),
        };
        let capabilities = profile.process.narrow(Capabilities { ecn: true, ..plane.capabilities() });
        let config = Arc::new(NodeConfig { capabilities });
        let node = Node::new(config, entropy::seed()?, clock::anchor());
        let mut path = Turn::new(node, plane);
        path.set_faults(faults);
        let status = profile.status.as_ref().map(|options| StatusFile::open(options, &log, clock::now()));
        Ok(Self {
            status,
            manage: None,
            point,
            servers: Servers::new(profile.remotes.len(), profile.retry.shuffle, entropy::seed()?),
            retry: Retry::new(rules),
            vault: Vault::new(profile.auth.clone()),
            asked: None,
            prompt,
            resolver: Resolver::new(move || wake()),
            path,
            rest: None,
            host: HostSide::new(log.clone()),
            around,
            peer,
            identity,
            told: None,
            rise: None,
            descent: None,
            phase: Phase::Idle,
            attempt: Attempt::default(),
            links: 0,
            serial: 0,
            up_since: None,
            profile,
            log,
            configs,
        })
    }

    /// Asks for user name and password if the profile wants them and doesn't have them. Without this call
    /// they are asked for when the first connection is made. Blocks while a person types.
    pub fn ask(&mut self) -> Result<()> {
        if !self.asks_elsewhere() {
            self.asked = self.vault.current(&mut *self.prompt)?;
        }
        Ok(())
    }

    /// Makes a daemon of this process, if the profile wants one, and does what comes with it; see
    /// [`process::begin`]. Only a program of its own calls this, once everything has been typed.
    pub fn begin(&self) -> Result<()> {
        process::begin(&self.profile)
    }

    /// What to watch.
    pub fn descriptors(&self) -> Descriptors {
        let link = match &self.phase {
            Phase::Connecting { connecting: Some(connecting), .. } => Some(connecting.as_raw_fd()),
            Phase::Accepting(accepting) => Some(accepting.as_raw_fd()),
            _ => self.path.link().map(Transport::as_raw_fd),
        };
        let is_datagrams = self.path.link().is_some_and(|link| !link.path().is_stream());
        let link_write = !is_datagrams || self.path.is_blocked();
        let device = self.path.device().and_then(Tun::as_raw_fd);
        let (manage, serial) = self.manage.as_ref().map_or((None, 0), Manage::descriptor);
        let is_relay = self.path.link().is_some_and(Transport::is_relay);
        // Nothing to watch for: a thread of its own reads it, and it is not full.
        let link = link.filter(|_| !is_relay || link_write);
        Descriptors { link, link_write, link_read: !is_relay, device, manage, serial: self.serial + serial }
    }

    /// What a loop does well to do before it waits for descriptors, see [`Turned::rest`](crate::turn::Turned).
    pub const fn rest(&self) -> Option<Rest> {
        self.rest
    }

    /// Does what is ready and due. An error is fatal; its text is for the user.
    pub fn work(&mut self, now: Instant, ready: Ready) -> Result<Next> {
        self.advance(now)?;
        let link_read = ready.link_read || self.path.plane.has_packets();
        let mut turned = self.path.turn(now, Ready { link_read, ..ready });
        let failure = turned.failure.take();
        if let Some(failure) = failure.or_else(|| self.path.plane.take_failure()) {
            self.on_failure(now, failure)?;
        }
        self.rest = turned.rest;
        self.note_complaint();
        let mut busy = turned.again;
        busy |= self.poll_scripts(now)?;
        while let Some(event) = self.path.control.poll_event() {
            self.on_event(now, event)?;
            busy = true;
        }
        busy |= self.flood_connections(now);
        busy |= self.serve(now);
        self.write_status(now, false);
        if let Phase::Over(outcome) = self.phase {
            return Ok(Next::Over(outcome));
        }
        if busy {
            return Ok(Next::Again);
        }
        let own = self.own_deadline();
        if own.is_some_and(|at| at <= now) {
            return Ok(Next::Again);
        }
        let core = turned.deadline.map(|deadline| deadline.at);
        let manage = self.manage.as_ref().and_then(Manage::deadline);
        let status = self.status.as_ref().and_then(StatusFile::deadline);
        Ok(Next::Wait([own, core, manage, status].into_iter().flatten().min()))
    }

    /// Ends what got as far as the profile's `gremlin` lets it, to connect anew (`openvpn: ssl.c`, `tls_multi_process`);
    /// whether there was such a session.
    fn flood_connections(&mut self, now: Instant) -> bool {
        let Some(level) = self.path.faults().and_then(Faults::connection_flood) else { return false };
        let reached = self.path.control.sessions_at(level);
        for session in &reached {
            match self.phase {
                Phase::Session { handle } | Phase::Listening { session: Some(handle) }
                    if handle == *session =>
                {
                    say!(self.log, Info, "SIGUSR1[soft,tls-error] received, process restarting");
                    self.tell_end(now, false, "tls-error");
                    self.end_session(now, Then::Restart);
                }
                _ => self.path.control.abort(now, *session),
            }
        }
        !reached.is_empty()
    }

    /// Says once for each attempt and kind what the network has against our packets.
    fn note_complaint(&mut self) {
        if let Some(notice) = self.path.link().and_then(Transport::take_notice) {
            say!(self.log, Notice, "NOTE: {notice}");
        }
        let sent = self.path.link_mut().and_then(Transport::take_complaint);
        let Some(error) = sent.or_else(|| self.path.plane.take_complaint()) else { return };
        let words = connect::words(&error);
        if self.attempt.complaint.as_deref() != Some(&words) {
            say!(self.log, Notice, "write UDP: {words}");
            self.attempt.complaint = Some(words);
        }
    }

    fn own_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Idle => Some(Instant::ZERO),
            // Scripts of the connection before come first.
            Phase::Pausing { .. } if self.descent.is_some() => None,
            Phase::Pausing { until } | Phase::Connecting { until, .. } | Phase::Closing { until, .. } => {
                Some(*until)
            }
            Phase::Resolving { again, .. } => *again,
            Phase::Session { .. }
            | Phase::Listening { .. }
            | Phase::Accepting(_)
            | Phase::Holding
            | Phase::Asking
            | Phase::Ending
            | Phase::Over(_) => None,
        }
    }

    /// Takes a signal.
    pub fn signal(&mut self, now: Instant, signal: Signal) {
        match signal {
            Signal::Usr2 => self.statistics(),
            Signal::Int | Signal::Term => self.on_leave(now, signal),
            // Whoever asked to leave is not overruled, nor is SIGHUP by SIGUSR1.
            Signal::Hup | Signal::Usr1
                if matches!(
                    self.phase,
                    Phase::Over(_) | Phase::Ending | Phase::Closing { then: Then::Leave { .. }, .. }
                ) => {}
            Signal::Usr1 if matches!(self.phase, Phase::Closing { then: Then::Reload, .. }) => {}
            Signal::Hup | Signal::Usr1 => {
                say!(self.log, Info, "{}[hard,] received, process restarting", signal.name());
                self.tell_end(now, false, signal.name());
                self.end_session(now, if signal == Signal::Hup { Then::Reload } else { Then::Restart });
            }
        }
    }

    /// The first request says goodbye to the server where the profile wants it, a second one cuts that short.
    fn on_leave(&mut self, now: Instant, signal: Signal) {
        match self.phase {
            Phase::Session { handle } | Phase::Listening { session: Some(handle) } => {
                let notify = self.current_config().channel.exit_notify.filter(|_| self.up_since.is_some());
                let seconds = notify.unwrap_or(0);
                let words = if notify.is_some() {
                    say!(self.log, Info, "{} received, sending exit notification to peer", signal.name());
                    "soft,exit-with-notification"
                } else {
                    "hard,"
                };
                self.path.control.close(now, handle);
                let until = now + Duration::from_secs(seconds.into()) + LEAVE_GRACE;
                let then = Then::Leave { signal: signal.name(), words };
                self.phase = Phase::Closing { handle, then, since: now, until };
            }
            // Supervisors that signal a process and its group do it twice within an instant.
            Phase::Closing { then: Then::Leave { .. }, since, .. } if now - since < SAME_SIGNAL => {}
            Phase::Ending | Phase::Over(_) => self.hurry(now),
            _ => self.leave(now, "hard,", signal.name()),
        }
    }

    /// Ends the session without a word to the server, or whatever else is under way.
    fn end_session(&mut self, now: Instant, then: Then) {
        match self.phase {
            Phase::Session { handle } | Phase::Listening { session: Some(handle) } => {
                self.path.control.abort(now, handle);
                self.phase = Phase::Closing { handle, then, since: now, until: now + LEAVE_GRACE };
            }
            _ => self.after(now, then),
        }
    }

    /// What was planned for the end of the session.
    fn after(&mut self, now: Instant, then: Then) {
        match then {
            Then::Leave { signal, words } => self.leave(now, words, signal),
            Then::Restart => self.restart(now, "sigusr1"),
            Then::Reload => self.end(now, "sighup", Outcome::Reload, None),
        }
    }

    fn leave(&mut self, now: Instant, words: &str, signal: &str) {
        // Scripts get the reason if there is one, else the signal's name.
        let reason = match words.split_once(',') {
            Some((_, reason)) if !reason.is_empty() => reason.to_owned(),
            _ => signal.to_ascii_lowercase(),
        };
        let shown = words.split_once(',').map_or("", |(_, reason)| reason);
        self.tell_end(now, true, if shown.is_empty() { signal } else { shown });
        let farewell = format!("{signal}[{words}] received, process exiting");
        self.end(now, &reason, Outcome::Left, Some(farewell));
    }

    /// Gives up what belongs to one attempt only.
    fn stop_attempt(&mut self) {
        if let Phase::Resolving { ticket: Some(ticket), .. } = self.phase {
            self.resolver.cancel(ticket);
        }
        self.stop_point();
        self.path.take_link();
        self.path.set_peer(None);
        self.rise = None;
        self.up_since = None;
    }

    /// After a connection ended: waits, then tries again. Without `persist-tun` the device goes meanwhile. `reason` is
    /// for scripts.
    fn restart(&mut self, now: Instant, reason: &str) {
        self.stop_attempt();
        if let Some(manage) = &mut self.manage {
            manage.stop_waiting();
        }
        let remote = &self.profile.remotes[self.servers.current()];
        let floods = self.path.faults().and_then(Faults::connection_flood).is_some();
        let wait = if floods { Duration::ZERO } else { remote.retry_wait };
        let pause = self.retry.pause(wait, remote.retry_wait_max);
        // As OpenVPN: a hold takes the place of the pause.
        if self.holds(pause.as_secs()) {
            self.phase = Phase::Holding;
        } else {
            if !pause.is_zero() {
                say!(self.log, Notice, "Restart pause, {} second(s)", pause.as_secs());
            }
            self.phase = Phase::Pausing { until: now + pause };
        }
        self.descend(now, reason);
    }

    fn act(&mut self, now: Instant, action: Action, source: &str, reason: &str) {
        match action {
            Action::Leave => {
                self.tell_end(now, true, reason);
                let farewell = format!("SIGTERM[{source},{reason}] received, process exiting");
                self.end(now, reason, Outcome::Left, Some(farewell));
            }
            Action::Restart => {
                say!(self.log, Info, "SIGUSR1[{source},{reason}] received, process restarting");
                self.tell_end(now, false, reason);
                self.restart(now, reason);
            }
            Action::Reload => {
                say!(self.log, Info, "SIGHUP[{source},{reason}] received, process restarting");
                self.tell_end(now, false, reason);
                self.end(now, reason, Outcome::Reload, None);
            }
        }
    }

    fn current_config(&self) -> &Arc<ClientConfig> {
        &self.configs[self.servers.current()]
    }

    /// What all threads have moved.
    fn traffic(&self) -> Traffic {
        self.path.traffic() + self.path.plane.totals().traffic
    }

    /// Hands the link over to the packet path, its way in to a thread of its own if there is one.
    fn set_link(&mut self, transport: Transport) -> Result<()> {
        let device = self.path.device().map(Tun::writer);
        let parted = self.path.plane.part(transport, device);
        let transport = parted.context("cannot receive in a second thread")?;
        self.path.set_link(transport);
        Ok(())
    }

    /// SIGUSR2: the sums, as OpenVPN prints them.
    fn statistics(&self) {
        let totals = self.path.plane.totals();
        let traffic = self.path.traffic() + totals.traffic;
        say!(self.log, Info, "OpenVPN STATISTICS");
        say!(self.log, Info, "TUN/TAP read bytes,{}", traffic.device_read);
        say!(self.log, Info, "TUN/TAP write bytes,{}", traffic.device_write);
        say!(self.log, Info, "TCP/UDP read bytes,{}", traffic.link_read);
        say!(self.log, Info, "TCP/UDP write bytes,{}", traffic.link_write);
        say!(self.log, Info, "Auth read bytes,{}", traffic.authentic);
        if traffic.congested > 0 {
            say!(self.log, Info, "congestion marks passed on,{}", traffic.congested);
        }
        let mut drops = self.path.control.drops();
        drops.merge(self.path.drops());
        drops.merge(&totals.drops);
        for (reason, count) in drops.iter() {
            say!(self.log, Info, "dropped {reason:?},{count}");
        }
        if totals.control_dropped > 0 {
            say!(
                self.log,
                Info,
                "control packets dropped before they were looked at,{}",
                totals.control_dropped
            );
        }
        if let Some(faults) = self.path.faults() {
            faults.statistics();
        }
        say!(self.log, Info, "END");
    }
}

/// Threads that move packets: one for each direction at most. Without a word for it a second one needs a processor that
/// neither the first nor the programs behind the tunnel use.
fn threads(profile: &Profile) -> usize {
    let spare =
        || std::thread::available_parallelism().map_or(1, |count| count.get().saturating_sub(1).max(1));
    profile.workers.unwrap_or_else(spare).min(2)
}
