//! Scripts about clients: which are under way, and what their ends mean.

use core::time::Duration;
use std::collections::HashMap;

use ipnet::IpNet;
use oxivpn_profile::server::ServerOptions;
use oxivpn_proto::config::server::LoginPolicy;
use oxivpn_proto::event::login::Login;
use oxivpn_proto::options::pushed::Topology;
use oxivpn_proto::pool::Lease;
use oxivpn_proto::tls::PeerIdentity;
use oxivpn_proto::tls::facts::facts;
use oxivpn_proto::{Instant, SessionHandle};

use super::Server;
use super::clients::Client;
use super::words;
use crate::scripts::answers::ResponseFile;
use crate::scripts::kinds::{self, Learned};
use crate::scripts::variables::{self, ClientAddresses};
use crate::scripts::{Environment, Finished, Job, JobId, Refusal, Scripts};
use crate::{clock, say};

/// How long scripts may take that no client waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a script runs.
pub(super) enum Purpose {
    /// A step of a login.
    Login(SessionHandle),
    /// A login's answer to a challenge; the file goes with it.
    Response(SessionHandle, #[expect(dead_code, reason = "is removed when dropped")] ResponseFile),
    /// `client-connect`.
    Connect(SessionHandle),
    /// `learn-address` for an address that a client gets.
    Learn(SessionHandle, IpNet),
    /// Nobody waits for it.
    Notice,
}

impl Purpose {
    /// Which client it is about, if one waits for it.
    const fn session(&self) -> Option<SessionHandle> {
        match self {
            Self::Login(session)
            | Self::Response(session, _)
            | Self::Connect(session)
            | Self::Learn(session, _) => Some(*session),
            Self::Notice => None,
        }
    }
}

/// The runner, and what it runs.
pub(super) struct Hooks {
    pub(super) scripts: Scripts,
    jobs: HashMap<JobId, (&'static str, Purpose)>,
    warned: bool,
}

impl Hooks {
    pub(super) fn new(scripts: Scripts) -> Self {
        Self { scripts, jobs: HashMap::new(), warned: false }
    }

    /// Starts a job.
    pub(super) fn start(&mut self, job: Job, purpose: Purpose) -> Result<JobId, Refusal> {
        let hook = job.hook;
        let id = self.scripts.start(job)?;
        self.jobs.insert(id, (hook, purpose));
        Ok(id)
    }

    /// The next job that ended.
    fn poll(&mut self) -> Option<(JobId, &'static str, Purpose, Finished)> {
        loop {
            let (id, finished) = self.scripts.poll()?;
            if let Some((hook, purpose)) = self.jobs.remove(&id) {
                return Some((id, hook, purpose, finished));
            }
        }
    }

    /// Whether the words about `script-security` are still to be said.
    fn must_warn(&mut self, refusal: Refusal) -> bool {
        refusal == Refusal::Security && !core::mem::replace(&mut self.warned, true)
    }
}

impl Server {
    /// Starts a job about a client; says why if it can't.
    pub(super) fn start_job(&mut self, prefix: &str, mut job: Job, purpose: Purpose) -> Option<JobId> {
        let hook = job.hook;
        // A client's addresses are of our own making, and there may be many.
        let asks = !matches!(purpose, Purpose::Learn(..));
        job.share =
            purpose.session().filter(|_| asks).and_then(|session| self.clients.get(session)).map(|client| {
                // A name that is only claimed must not use another's share up.
                let known = client.connected && !self.options.duplicate_cn && !client.name.is_empty();
                if known { client.name.clone() } else { words::source(client.remote).into() }
            });
        match self.hooks.start(job, purpose) {
            Ok(id) => Some(id),
            Err(refusal) => {
                if self.hooks.must_warn(refusal) {
                    say!(self.log, Warn, "{}", crate::scripts::runner::SECURITY_WARNING);
                }
                say!(self.log, Warn, "{prefix}{}", kinds::failed(hook, &refusal));
                None
            }
        }
    }

    /// Takes the ends of scripts.
    pub(super) fn poll_scripts(&mut self, now: Instant) {
        while let Some((id, hook, purpose, finished)) = self.hooks.poll() {
            let session = purpose.session();
            // A login that a script defers or refuses says so by its status.
            let silent = matches!(purpose, Purpose::Login(_)) && matches!(finished, Finished::Exited(1..=2));
            if !finished.is_success() && !silent {
                let prefix = session.and_then(|session| self.clients.get(session)).map_or("", |c| &*c.prefix);
                say!(self.log, Warn, "{prefix}{}", kinds::failed(hook, &finished));
            }
            match purpose {
                Purpose::Login(session) => self.on_login_script(now, session, id, &finished),
                Purpose::Response(session, _) => self.on_response_script(now, session, &finished),
                Purpose::Connect(session) => self.on_connect_script(now, session, &finished),
                Purpose::Learn(session, net) if !finished.is_success() => self.unlearn(now, session, net),
                Purpose::Learn(..) | Purpose::Notice => {}
            }
        }
    }

    /// `learn-address` refused an address: the client doesn't have it.
    fn unlearn(&mut self, now: Instant, session: SessionHandle, net: IpNet) {
        let Some(client) = self.clients.get_mut(session) else { return };
        say!(
            self.log,
            Detail,
            "{}MULTI: Learn FAILED: {} -> {}",
            client.prefix,
            words::inner(net),
            client.who()
        );
        client.refused.push(net);
        let Some(lease) = &client.lease else { return };
        let left = lease.nets().iter().filter(|net| !client.refused.contains(net)).copied().collect();
        self.node.set_routes(now, session, left);
    }

    /// Tells scripts that a client has its addresses.
    pub(super) fn learn(&mut self, session: SessionHandle, taken: &[IpNet]) {
        let Some(command) = self.options.learn_address.clone() else { return };
        let Some(client) = self.clients.get(session) else { return };
        let env = self.client_env(client);
        let nets: Vec<IpNet> = client.lease.iter().flat_map(|lease| lease.nets()).copied().collect();
        let (name, prefix) = (client.name.clone(), client.prefix.clone());
        for net in nets {
            let learned = if taken.contains(&net) { Learned::Update(&name) } else { Learned::Add(&name) };
            let job = kinds::learn_address(&command, &env, learned, &words::inner(net), PATIENCE);
            if self.start_job(&prefix, job, Purpose::Learn(session, net)).is_none() {
                self.unlearn(clock::now(), session, net);
            }
        }
    }

    /// Tells scripts that addresses have no owner any more.
    pub(super) fn forget(&mut self, client: &Client) {
        let (Some(command), Some(lease)) = (self.options.learn_address.clone(), &client.lease) else {
            return;
        };
        let env = Environment::new();
        for net in lease.nets() {
            let job = kinds::learn_address(&command, &env, Learned::Delete, &words::inner(*net), PATIENCE);
            self.start_job(&client.prefix, job, Purpose::Notice);
        }
    }

    /// Tells scripts that a client is gone.
    pub(super) fn tell_disconnect(&mut self, client: &Client) {
        let Some(command) = self.options.client_disconnect.clone() else { return };
        let env = self.gone_env(client);
        let job = kinds::client_disconnect(&command, &env, PATIENCE);
        self.start_job(&client.prefix, job, Purpose::Notice);
    }

    /// Variables of a client that has left.
    pub(super) fn gone_env(&self, client: &Client) -> Environment {
        let mut env = self.client_env(client);
        let duration = clock::unix().saturating_sub(client.since);
        variables::sums(&mut env, client.received(), client.sent(), duration);
        env
    }

    /// Variables of a client that was authenticated.
    pub(super) fn client_env(&self, client: &Client) -> Environment {
        let mut env = Environment::new();
        if let Some(facts) = &client.facts {
            certificates(&mut env, facts.identity.as_ref());
            variables::peer_info(&mut env, &facts.peer_info);
            let username = client.username.as_deref().unwrap_or_default();
            variables::login(&mut env, username, &client.name, facts.token.as_ref());
            if client.username.is_none() {
                env.remove("username");
            }
        }
        variables::untrusted(&mut env, client.remote);
        variables::trusted(&mut env, client.remote);
        env.set("common_name", &client.name);
        if let Some(lease) = &client.lease {
            addresses(&mut env, &self.options, lease);
        }
        variables::since(&mut env, client.since);
        env
    }

    /// Variables of a client that wants to be let in.
    pub(super) fn login_env(&self, client: &Client, login: &Login) -> Environment {
        let mut env = Environment::new();
        certificates(&mut env, login.identity.as_ref());
        variables::peer_info(&mut env, &login.peer_info);
        variables::untrusted(&mut env, client.remote);
        if let Some(username) = &login.username {
            variables::login(&mut env, username, &login.common_name, login.token.as_ref());
        } else if self.config.login != LoginPolicy::None {
            env.set("username", "");
        }
        env.set("common_name", &login.common_name);
        env
    }
}

/// Variables of a client's inner addresses.
pub(super) fn addresses(env: &mut Environment, options: &ServerOptions, lease: &Lease) {
    let addresses = ClientAddresses {
        v4: lease.v4().map(|v4| (v4.local, v4.remote_or_netmask)),
        subnet: options.topology == Topology::Subnet,
        v6: lease.v6().map(|(net, remote)| (net.addr(), net.prefix_len(), remote)),
    };
    variables::client_addresses(env, &addresses);
}

fn certificates(env: &mut Environment, identity: Option<&PeerIdentity>) {
    let Some(identity) = identity else { return };
    for (depth, der) in identity.certificates.iter().enumerate() {
        if let Some(facts) = facts(der) {
            variables::certificate(env, depth, &facts);
        }
    }
}
