//! A client that was let in: its addresses and what it is pushed.

use std::collections::BTreeMap;
use std::path::Path;

use ipnet::IpNet;
use oxivpn_profile::Disk;
use oxivpn_proto::config::server::{ClientSettings, LoginPolicy};
use oxivpn_proto::event::CloseCause;
use oxivpn_proto::event::login::{Admission, AdmitTicket};
use oxivpn_proto::pool::{ClientOverrides, Lease, Notice};
use oxivpn_proto::{Instant, SessionHandle};

use super::clients::Facts;
use super::hooks::Purpose;
use super::{Server, ccd, words};
use crate::scripts::Finished;
use crate::scripts::answers::{Call, ConnectAnswer, ConnectCheck};
use crate::{clock, say};

/// Length of a user name that becomes a common name (`openvpn: ssl_verify.h`, `TLS_USERNAME_LEN`).
const MAX_COMMON_NAME: usize = 64;

/// Clients that wait for their configuration.
pub(super) type Admissions = BTreeMap<SessionHandle, PendingAdmission>;

/// One of them.
pub(super) struct PendingAdmission {
    ticket: AdmitTicket,
    lease: Lease,
    overrides: Vec<ClientOverrides>,
    check: Option<ConnectCheck>,
    /// The script answers later: look at its files.
    deferred: bool,
}

impl PendingAdmission {
    /// The client is gone; its lease has to be given back.
    pub(super) fn into_lease(self) -> Lease {
        self.lease
    }
}

impl Server {
    pub(super) fn on_admit(&mut self, now: Instant, ticket: AdmitTicket, admission: Box<Admission>) {
        let session = admission.session;
        let Some(client) = self.clients.get_mut(session) else { return };
        let before = client.prefix.clone();
        let asked = client.logins > 0;
        client.name = admission.common_name.as_str().into();
        client.username = admission.username.as_deref().map(Into::into);
        client.since = clock::unix();
        client.set_prefix();
        let description = client.description.take();
        let (remote, name) = (words::address(client.remote), client.shown_name().to_owned());
        if !asked {
            self.tell_peer_info(&before, &admission.peer_info);
        }
        if let Some(description) = description {
            say!(self.log, Info, "{before}Control Channel: {description}");
        }
        say!(self.log, Info, "{before}[{name}] Peer Connection Initiated with {remote}");
        if !asked {
            self.keep_facts(session, || Facts {
                identity: admission.identity.clone(),
                peer_info: admission.peer_info.clone(),
                token: None,
            });
        }
        let Some(client) = self.clients.get(session) else { return };
        let (prefix, name) = (client.prefix.clone(), client.name.clone());
        let mut overrides = Vec::new();
        match self.client_config(&prefix, &name) {
            Ok(from_file) => overrides.extend(from_file),
            Err(refusal) => {
                say!(self.log, Info, "{prefix}MULTI: {refusal}");
                self.node.admit(now, ticket, Err(String::new()));
                return;
            }
        }
        // Scripts need not be asked about one that may not come in.
        let disabled = overrides.iter().any(|from| from.disable);
        overrides.extend(self.take_manage_config(session));
        let mut lease = self.addressing.lease(&name);
        self.tell_pool(&prefix, &lease);
        // Scripts see the fixed address rather than the pool's; what is wrong with it is said at the end.
        self.addressing.preview(&mut lease, &overrides);
        let pending = PendingAdmission { ticket, lease, overrides, check: None, deferred: false };
        self.admissions.insert(session, pending);
        if disabled || !self.ask_connect_script(now, session) {
            self.finish_admission(now, session);
        }
    }

    /// The file of `client-config-dir`; the error is why the client may not come in.
    fn client_config(&self, prefix: &str, name: &str) -> Result<Option<ClientOverrides>, String> {
        let Some(dir) = &self.options.client_config_dir else { return Ok(None) };
        match ccd::read(dir, name, self.options.ccd_exclusive) {
            Ok(Some((path, file))) => {
                say!(
                    self.log,
                    Detail,
                    "{prefix}OPTIONS IMPORT: reading client specific options from: {}",
                    path.display()
                );
                for problem in &file.problems {
                    say!(self.log, Warn, "{prefix}{problem}");
                }
                Ok(Some(file.overrides))
            }
            Ok(None) if self.options.ccd_exclusive => Err(no_client_config(dir, name)),
            Ok(None) => Ok(None),
            Err(error) => Err(format!("client has been rejected: {error}")),
        }
    }

    /// Why a client may not go on with a new key: with `ccd-exclusive` its file has to be there each time
    /// (`openvpn: ssl_verify.c`, `verify_final_auth_checks`). Its text is not read again.
    pub(super) fn lacks_client_config(&self, name: &str) -> Option<String> {
        let dir = self.options.client_config_dir.as_ref().filter(|_| self.options.ccd_exclusive)?;
        match ccd::read(dir, name, true) {
            Ok(Some(_)) => None,
            Ok(None) => Some(no_client_config(dir, name)),
            Err(error) => Some(format!("client has been rejected: {error}")),
        }
    }

    /// Starts `client-connect`; whether the client has to wait for it.
    fn ask_connect_script(&mut self, now: Instant, session: SessionHandle) -> bool {
        let Some(command) = self.options.client_connect.clone() else { return false };
        let Some(client) = self.clients.get(session) else { return true };
        let mut env = self.client_env(client);
        let Some(pending) = self.admissions.get_mut(&session) else { return true };
        super::hooks::addresses(&mut env, &self.options, &pending.lease);
        let prefix = client.prefix.clone();
        let limit = self.config.channel.timing.hand_window;
        let call = Call { command: &command, env: &env, tmp_dir: &self.options.tmp_dir, limit };
        let started = match ConnectCheck::new(call) {
            Ok((job, check)) => {
                pending.check = Some(check);
                self.start_job(&prefix, job, Purpose::Connect(session)).is_some()
            }
            Err(error) => {
                say!(self.log, Warn, "{prefix}{error}");
                false
            }
        };
        if !started {
            self.refuse_admission(now, session);
        }
        true
    }

    pub(super) fn on_connect_script(&mut self, now: Instant, session: SessionHandle, finished: &Finished) {
        let answer = self.admissions.get(&session).and_then(|pending| pending.check.as_ref());
        let answer = answer.map(|check| check.finished(finished));
        if let Some(answer) = answer {
            self.on_connect_answer(now, session, answer);
        }
    }

    fn on_connect_answer(&mut self, now: Instant, session: SessionHandle, answer: ConnectAnswer) {
        let Some(pending) = self.admissions.get_mut(&session) else { return };
        let prefix = self.clients.get(session).map_or_else(Box::default, |client| client.prefix.clone());
        match answer {
            ConnectAnswer::Deferred => pending.deferred = true,
            ConnectAnswer::Deny(_) => self.refuse_admission(now, session),
            ConnectAnswer::Accept(text) => {
                let parsed = oxivpn_profile::ccd::parse(&Disk, "client-connect", &text);
                for problem in &parsed.problems {
                    say!(self.log, Warn, "{prefix}{problem}");
                }
                pending.overrides.push(parsed.overrides);
                self.finish_admission(now, session);
            }
        }
    }

    /// Looks whether scripts that answer later have answered.
    pub(super) fn look_at_admissions(&mut self, now: Instant) {
        let answered: Vec<(SessionHandle, ConnectAnswer)> = self
            .admissions
            .iter()
            .filter(|(_, pending)| pending.deferred)
            .filter_map(|(session, pending)| Some((*session, pending.check.as_ref()?.look()?)))
            .collect();
        for (session, answer) in answered {
            self.on_connect_answer(now, session, answer);
        }
    }

    /// Whether a script has still to answer by file.
    pub(super) fn has_deferred_admission(&self) -> bool {
        self.admissions.values().any(|pending| pending.deferred)
    }

    fn refuse_admission(&mut self, now: Instant, session: SessionHandle) {
        let Some(pending) = self.admissions.remove(&session) else { return };
        self.addressing.give_back(pending.lease);
        if let Some(client) = self.clients.get(session) {
            say!(
                self.log,
                Info,
                "{}MULTI: client has been rejected by its client-connect script",
                client.prefix
            );
        }
        self.node.admit(now, pending.ticket, Err(String::new()));
    }

    /// Everything about the client has been said.
    fn finish_admission(&mut self, now: Instant, session: SessionHandle) {
        let Some(mut pending) = self.admissions.remove(&session) else { return };
        let Some(client) = self.clients.get(session) else {
            return self.addressing.give_back(pending.lease);
        };
        let prefix = client.prefix.clone();
        let granted = match self.addressing.settings(&mut pending.lease, &pending.overrides) {
            Ok(granted) => granted,
            Err(refusal) => {
                say!(self.log, Info, "{prefix}MULTI: {refusal}");
                self.addressing.give_back(pending.lease);
                self.node.admit(now, pending.ticket, Err(String::new()));
                return;
            }
        };
        if let Some(username) = &granted.settings.username
            && let Err(refusal) = self.rename(session, username)
        {
            say!(self.log, Info, "{prefix}{refusal}");
            self.addressing.give_back(pending.lease);
            self.node.admit(now, pending.ticket, Err(String::new()));
            return;
        }
        self.replace_others(now, session, &pending.ticket, &granted.settings);
        let Some(client) = self.clients.get(session) else { return };
        let mut taken = Vec::new();
        for notice in &granted.notices {
            say!(self.log, Info, "{}MULTI: {notice}", client.prefix);
            if let Notice::TakenOver { net, .. } = notice {
                taken.push(*net);
            }
        }
        self.tell_learned(session, &pending.lease);
        self.tell_addresses(session, &pending.lease);
        if let Some(client) = self.clients.get_mut(session) {
            client.lease = Some(pending.lease);
        }
        self.clients.set_connected(session);
        self.node.admit(now, pending.ticket, Ok(granted.settings));
        self.learn(session, &taken);
        self.pool_changed = true;
    }

    /// `override-username`. The error is why the client may not come in (`openvpn: multi.c`,
    /// `override_locked_username`).
    fn rename(&mut self, session: SessionHandle, username: &str) -> Result<(), String> {
        if self.config.login == LoginPolicy::None {
            return Err("MULTI: Ignoring override-username as no user/password method is enabled. Enable \
                        --management-client-auth or --auth-user-pass-verify."
                .into());
        }
        let names = self.config.username_as_common_name;
        if names && username.len() > MAX_COMMON_NAME {
            return Err(format!(
                "TLS Auth Error: --username-as-common name specified and username is longer than the maximum \
                 permitted Common Name length of {MAX_COMMON_NAME} characters"
            ));
        }
        let Some(client) = self.clients.get_mut(session) else { return Ok(()) };
        let before = client.username.replace(username.into()).unwrap_or_default();
        if *before == *username {
            return Ok(());
        }
        say!(
            self.log,
            Info,
            "{}MULTI: Note, override-username changes username from '{before}' to '{username}'",
            client.prefix
        );
        if names {
            client.name = username.into();
            client.set_prefix();
        }
        Ok(())
    }

    /// The client is let in, and others have to go. Scripts hear of their end before they hear of the client's
    /// addresses. One that is refused does not get here, and replaces nobody.
    fn replace_others(
        &mut self,
        now: Instant,
        session: SessionHandle,
        ticket: &AdmitTicket,
        settings: &ClientSettings,
    ) {
        self.warn_of_namesake(session);
        let ended = self.node.replace(now, ticket, settings);
        self.take_orders();
        for other in ended {
            self.on_closed(now, other, &CloseCause::Replaced);
        }
    }

    /// OpenVPN's lines about the addresses of a client.
    fn tell_learned(&self, session: SessionHandle, lease: &Lease) {
        let Some(client) = self.clients.get(session) else { return };
        let (prefix, who) = (&client.prefix, client.who());
        let primary = |net: &IpNet| {
            lease.v4().is_some_and(|v4| net.addr() == v4.local)
                || lease.v6().is_some_and(|(own, _)| net.addr() == own.addr())
        };
        for net in lease.nets() {
            if !primary(net) {
                say!(self.log, Detail, "{prefix}MULTI: internal route {} -> {who}", words::inner(*net));
            }
            say!(self.log, Detail, "{prefix}MULTI: Learn: {} -> {who}", words::inner(*net));
        }
        if let Some(v4) = lease.v4() {
            say!(self.log, Detail, "{prefix}MULTI: primary virtual IP for {who}: {}", v4.local);
        }
        if let Some((net, _)) = lease.v6() {
            say!(self.log, Detail, "{prefix}MULTI: primary virtual IPv6 for {who}: {}", net.addr());
        }
    }

    fn tell_pool(&self, prefix: &str, lease: &Lease) {
        if self.addressing.plan().pool.is_none() && self.addressing.plan().pool6.is_none() {
            return;
        }
        let none = || "(Not enabled)".to_owned();
        let v4 = lease.v4().map_or_else(none, |v4| v4.local.to_string());
        let v6 = lease.v6().map_or_else(none, |(net, _)| net.addr().to_string());
        say!(self.log, Info, "{prefix}MULTI_sva: pool returned IPv4={v4}, IPv6={v6}");
    }

    /// Says that a client with the same name has to go.
    fn warn_of_namesake(&self, session: SessionHandle) {
        let Some(client) = self.clients.get(session) else { return };
        if self.options.duplicate_cn
            || client.name.is_empty()
            || !self.clients.has_other(session, &client.name)
        {
            return;
        }
        say!(
            self.log,
            Info,
            "{}MULTI: new connection by client '{}' will cause previous active sessions by this client to be dropped.  \
             Remember to use the --duplicate-cn option if you want multiple clients using the same certificate or \
             username to concurrently connect.",
            client.prefix,
            client.name
        );
    }

    pub(super) fn tell_peer_info(&self, prefix: &str, peer_info: &str) {
        for line in peer_info.lines() {
            say!(self.log, Info, "{prefix}peer info: {line}");
        }
    }

    /// Keeps what scripts are told about a client, if there are any.
    pub(super) fn keep_facts(&mut self, session: SessionHandle, facts: impl FnOnce() -> Facts) {
        let options = &self.options;
        let wanted = options.client_connect.is_some()
            || options.client_disconnect.is_some()
            || options.learn_address.is_some()
            || self.manage_decides();
        if wanted && let Some(client) = self.clients.get_mut(session) {
            client.facts = Some(Box::new(facts()));
        }
    }
}

/// Why a client without a file of its own has no business here.
fn no_client_config(dir: &Path, name: &str) -> String {
    let name = Path::new(name).display();
    format!("client has been rejected due to 'ccd-exclusive': there is no file {name} in {}", dir.display())
}
