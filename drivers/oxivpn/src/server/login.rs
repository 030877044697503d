//! May a client in, or go on with a new key? Scripts and the management interface decide.

use std::collections::BTreeMap;

use oxivpn_proto::event::login::{Login, LoginTicket, TokenState, Verdict};
use oxivpn_proto::wire::ids::KeyId;
use oxivpn_proto::{Instant, SessionHandle};

use super::Server;
use super::clients::Facts;
use super::hooks::Purpose;
use crate::say;
use crate::scripts::answers::{Call, LoginAnswer, LoginCheck, MetadataCheck};
use crate::scripts::{Finished, JobId, kinds};

/// Questions that wait for an answer; at most one of each session.
pub(super) type Logins = BTreeMap<SessionHandle, PendingLogin>;

/// One question.
pub(super) struct PendingLogin {
    ticket: LoginTicket,
    login: Box<Login>,
    step: Step,
    /// The script that runs.
    job: Option<JobId>,
    metadata: Option<MetadataCheck>,
    check: Option<LoginCheck>,
    script: Asked,
    manage: Asked,
    /// Key id of the management interface.
    kid: u64,
}

/// Which check is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// `tls-crypt-v2-verify`.
    Metadata,
    /// `tls-verify` for the certificate this deep in the chain, and those below.
    Certificate(usize),
    /// Who else has a say.
    User,
}

/// One of those who have a say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    /// It has none.
    #[default]
    No,
    /// It has not answered.
    Waiting,
    /// It has answered later than at once: look at its files.
    Deferred,
    /// Yes.
    Agrees,
}

impl Server {
    pub(super) fn on_login(&mut self, now: Instant, ticket: LoginTicket, login: Box<Login>) {
        let session = login.session;
        let Some(client) = self.clients.get_mut(session) else { return };
        client.name = login.common_name.as_str().into();
        client.username = login.username.as_deref().map(Into::into);
        // From 1, as OpenVPN numbers them.
        client.logins += 1;
        let kid = client.logins;
        let prefix = client.prefix.clone();
        if login.key == KeyId::FIRST {
            self.tell_peer_info(&prefix, &login.peer_info);
        }
        self.keep_facts(session, || Facts {
            identity: login.identity.clone(),
            peer_info: login.peer_info.clone(),
            token: login.token.clone(),
        });
        let depth = login.identity.as_ref().map_or(0, |identity| identity.certificates.len());
        // Metadata is of the connection, not of the key.
        let first = login.key == KeyId::FIRST && login.metadata.is_some();
        let step = if first { Step::Metadata } else { Step::Certificate(depth) };
        let pending = PendingLogin {
            ticket,
            login,
            step,
            job: None,
            metadata: None,
            check: None,
            script: Asked::No,
            manage: Asked::No,
            kid,
        };
        self.logins.insert(session, pending);
        self.go_on_with_login(now, session);
    }

    /// Starts the next check, or gives the verdict.
    fn go_on_with_login(&mut self, now: Instant, session: SessionHandle) {
        let Some(mut pending) = self.logins.remove(&session) else { return };
        let Some(client) = self.clients.get(session) else { return };
        let (prefix, env) = (client.prefix.clone(), self.login_env(client, &pending.login));
        let limit = self.config.channel.timing.hand_window;
        loop {
            match pending.step {
                Step::Metadata => {
                    let depth = pending.login.identity.as_ref().map_or(0, |i| i.certificates.len());
                    pending.step = Step::Certificate(depth);
                    let (Some(command), Some(metadata)) =
                        (&self.options.tls_crypt_v2_verify, &pending.login.metadata)
                    else {
                        continue;
                    };
                    let call = Call { command, env: &env, tmp_dir: &self.options.tmp_dir, limit };
                    let made = MetadataCheck::new(call, metadata);
                    let job = made.map(|(job, check)| {
                        pending.metadata = Some(check);
                        job
                    });
                    return self.start_login_job(now, &prefix, pending, job);
                }
                Step::Certificate(0) => pending.step = Step::User,
                Step::Certificate(deep) => {
                    let depth = deep - 1;
                    pending.step = Step::Certificate(depth);
                    let Some(command) = &self.profile.scripts.tls_verify else { continue };
                    let der = pending.login.identity.as_ref().and_then(|i| i.certificates.get(depth));
                    let Some(facts) = der.and_then(|der| oxivpn_proto::tls::facts::facts(der)) else {
                        // The script can't be asked about what can't be read.
                        return self.judge(now, &prefix, pending, Verdict::Drop);
                    };
                    let job = kinds::tls_verify(command, &env, depth, &facts.subject, limit);
                    return self.start_login_job(now, &prefix, pending, Ok(job));
                }
                Step::User => break,
            }
        }
        self.ask_about_user(now, &prefix, pending, &env);
    }

    fn start_login_job(
        &mut self,
        now: Instant,
        prefix: &str,
        mut pending: PendingLogin,
        job: std::io::Result<crate::scripts::Job>,
    ) {
        let session = pending.login.session;
        pending.job = match job {
            Ok(job) => self.start_job(prefix, job, Purpose::Login(session)),
            Err(error) => {
                say!(self.log, Warn, "{prefix}{error}");
                None
            }
        };
        if pending.job.is_some() {
            self.logins.insert(session, pending);
        } else {
            let verdict =
                if pending.step == Step::User { Verdict::Deny(String::new()) } else { Verdict::Drop };
            self.judge(now, prefix, pending, verdict);
        }
    }

    /// Asks the script and the management interface at once.
    fn ask_about_user(
        &mut self,
        now: Instant,
        prefix: &str,
        mut pending: PendingLogin,
        env: &crate::scripts::Environment,
    ) {
        let limit = self.config.channel.timing.hand_window;
        let session = pending.login.session;
        if self.is_proven_by_token(&pending.login) {
            return self.judge(now, prefix, pending, Verdict::Accept);
        }
        // Who gives neither is asked about with both empty (`openvpn: ssl.c`, `key_method_2_read`).
        let username = pending.login.username.as_deref().unwrap_or_default();
        let password = pending.login.password.as_ref().map_or("", |password| password.as_str());
        if self.manage_decides() {
            pending.manage = Asked::Waiting;
            self.ask_manage(session, pending.kid, &pending.login, env);
        }
        if let Some((command, via)) = &self.options.auth_verify {
            pending.script = Asked::Waiting;
            let call = Call { command, env, tmp_dir: &self.options.tmp_dir, limit };
            let made = LoginCheck::new(call, *via, username, password);
            let job = made.map(|(job, check)| {
                pending.check = Some(check);
                job
            });
            return self.start_login_job(now, prefix, pending, job);
        }
        self.settle_login(now, prefix, pending);
    }

    /// Whether a token stands for the password, so that nobody has to be asked about that.
    fn is_proven_by_token(&self, login: &Login) -> bool {
        let external = self.config.token.as_ref().is_none_or(|token| token.external);
        !external && login.token.as_ref().is_some_and(|token| token.state == TokenState::Authenticated)
    }

    /// Waits on, or lets the client in.
    fn settle_login(&mut self, now: Instant, prefix: &str, pending: PendingLogin) {
        let waits = |asked| matches!(asked, Asked::Waiting | Asked::Deferred);
        if waits(pending.script) || waits(pending.manage) {
            self.logins.insert(pending.login.session, pending);
        } else {
            self.judge(now, prefix, pending, Verdict::Accept);
        }
    }

    fn judge(&mut self, now: Instant, prefix: &str, pending: PendingLogin, mut verdict: Verdict) {
        if verdict == Verdict::Accept
            && pending.login.key != KeyId::FIRST
            && let Some(why) = self.lacks_client_config(&pending.login.common_name)
        {
            say!(self.log, Info, "{prefix}TLS Auth Error: {why}");
            verdict = Verdict::Deny(String::new());
        }
        match &verdict {
            Verdict::Accept => {
                if let Some(username) = &pending.login.username
                    && (pending.script != Asked::No || pending.manage != Asked::No)
                {
                    say!(
                        self.log,
                        Detail,
                        "{prefix}TLS: Username/Password authentication succeeded for username '{username}' "
                    );
                }
            }
            Verdict::Deny(_) | Verdict::Revoke(_) => {
                say!(
                    self.log,
                    Info,
                    "{prefix}TLS Auth Error: Auth Username/Password verification failed for peer"
                );
            }
            Verdict::Drop => say!(self.log, Info, "{prefix}TLS Error: TLS handshake failed"),
        }
        self.node.answer_login(now, pending.ticket, verdict);
    }

    /// A script of a login ended.
    pub(super) fn on_login_script(
        &mut self,
        now: Instant,
        session: SessionHandle,
        id: JobId,
        finished: &Finished,
    ) {
        // An older question's script decides nothing.
        let Some(mut pending) = self.logins.remove(&session) else { return };
        if pending.job != Some(id) {
            self.logins.insert(session, pending);
            return;
        }
        pending.job = None;
        let prefix = self.clients.get(session).map_or_else(Box::default, |client| client.prefix.clone());
        match (pending.step, &mut pending.check) {
            (Step::User, Some(check)) => {
                let answer = check.finished(finished, &pending.login.peer_info);
                self.on_login_answer(now, &prefix, pending, answer);
            }
            (step, _) => {
                if let Step::Certificate(depth) = step
                    && pending.metadata.take().is_none()
                {
                    let good = if finished.is_success() { "OK" } else { "ERROR" };
                    let chain =
                        pending.login.identity.iter().flat_map(|identity| identity.chain.iter().rev());
                    if let Some(line) = chain.into_iter().nth(depth) {
                        say!(self.log, Info, "{prefix}VERIFY SCRIPT {good}: {line}");
                    }
                }
                if finished.is_success() {
                    self.logins.insert(session, pending);
                    self.go_on_with_login(now, session);
                } else {
                    self.judge(now, &prefix, pending, Verdict::Drop);
                }
            }
        }
    }

    fn on_login_answer(
        &mut self,
        now: Instant,
        prefix: &str,
        mut pending: PendingLogin,
        answer: LoginAnswer,
    ) {
        match answer {
            LoginAnswer::Accept => pending.script = Asked::Agrees,
            LoginAnswer::Deny(reason) => return self.judge(now, prefix, pending, Verdict::Deny(reason)),
            LoginAnswer::Deferred => pending.script = Asked::Deferred,
            LoginAnswer::Pending { timeout, extra } => {
                pending.script = Asked::Deferred;
                self.node.defer_login(now, &pending.ticket, timeout, &extra);
            }
        }
        self.settle_login(now, prefix, pending);
    }

    /// Looks whether scripts that answer later have answered.
    pub(super) fn look_at_logins(&mut self, now: Instant) {
        let answered: Vec<(SessionHandle, LoginAnswer)> = self
            .logins
            .iter()
            .filter(|(_, pending)| pending.script == Asked::Deferred)
            .filter_map(|(session, pending)| Some((*session, pending.check.as_ref()?.look()?)))
            .collect();
        for (session, answer) in answered {
            let Some(pending) = self.logins.remove(&session) else { continue };
            let prefix = self.clients.get(session).map_or_else(Box::default, |client| client.prefix.clone());
            self.on_login_answer(now, &prefix, pending, answer);
        }
    }

    /// Whether a script has still to answer by file.
    pub(super) fn has_deferred_login(&self) -> bool {
        self.logins.values().any(|pending| pending.script == Asked::Deferred)
    }

    /// A client answered a challenge.
    pub(super) fn on_response(&mut self, now: Instant, session: SessionHandle, response: &str) {
        self.tell_response(session, response);
        let Some(client) = self.clients.get(session) else { return };
        let Some(pending) = self.logins.get(&session) else { return };
        let (Some(command), Some(check)) = (&self.options.client_crresponse, &pending.check) else { return };
        let mut env = self.login_env(client, &pending.login);
        env.set("crresponse", response);
        let limit = self.config.channel.timing.hand_window;
        let call = Call { command, env: &env, tmp_dir: &self.options.tmp_dir, limit };
        let prefix = client.prefix.clone();
        match check.response(call, response) {
            Ok((job, file)) => {
                if self.start_job(&prefix, job, Purpose::Response(session, file)).is_none() {
                    self.revoke_login(now, session);
                }
            }
            Err(error) => {
                say!(self.log, Warn, "{prefix}{error}");
                self.revoke_login(now, session);
            }
        }
    }

    pub(super) fn on_response_script(&mut self, now: Instant, session: SessionHandle, finished: &Finished) {
        if finished.is_success() {
            self.look_at_logins(now);
        } else {
            self.revoke_login(now, session);
        }
    }

    /// A wrong answer costs the client the keys it has, too (`openvpn: ssl_verify.c`, `verify_crresponse_script`).
    fn revoke_login(&mut self, now: Instant, session: SessionHandle) {
        let Some(pending) = self.logins.remove(&session) else { return };
        let prefix = self.clients.get(session).map_or_else(Box::default, |client| client.prefix.clone());
        self.judge(now, &prefix, pending, Verdict::Revoke(String::new()));
    }

    /// The management interface answered; whether it was asked.
    pub(super) fn on_manage_verdict(
        &mut self,
        now: Instant,
        session: SessionHandle,
        kid: u64,
        verdict: Result<(), String>,
    ) -> bool {
        let Some(mut pending) = self.logins.remove(&session) else { return false };
        if pending.kid != kid || pending.manage != Asked::Waiting {
            self.logins.insert(session, pending);
            return false;
        }
        let prefix = self.clients.get(session).map_or_else(Box::default, |client| client.prefix.clone());
        match verdict {
            Ok(()) => {
                pending.manage = Asked::Agrees;
                self.settle_login(now, &prefix, pending);
            }
            Err(reason) => self.judge(now, &prefix, pending, Verdict::Deny(reason)),
        }
        true
    }

    /// The management interface wants the client told that it takes a while; whether it was asked.
    pub(super) fn on_manage_pending(
        &mut self,
        now: Instant,
        session: SessionHandle,
        kid: u64,
        timeout: core::time::Duration,
        extra: &str,
    ) -> bool {
        match self.logins.get(&session) {
            Some(pending) if pending.kid == kid && pending.manage == Asked::Waiting => {
                self.node.defer_login(now, &pending.ticket, timeout, extra);
                true
            }
            _ => false,
        }
    }
}
