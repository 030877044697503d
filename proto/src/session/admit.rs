//! A server lets a client in: login, verdict, configuration; and what it does for it later.
//!
//! Each question to the application is an event with a ticket. The session waits for the answer with a deadline;
//! no other session waits with it.

use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::configure::without_tokens;
use super::exchange::State;
use super::hello::{iv_proto, options_string};
use super::offer::{Offer, offer};
use super::push::messages;
use super::side::{Locked, Question, Renamed, ServerSide, Side, TokenLife};
use super::slots::Slots;
use super::{Admitting, Now, Phase, Session};
use crate::config::params::Framing;
use crate::config::server::{ClientSettings, LoginPolicy};
use crate::deadline::{Deadline, Timer};
use crate::directive::{Directive, PeerRef};
use crate::drops::DropReason;
use crate::entropy::Purpose;
use crate::event::login::{Admission, AdmitTicket, Login, LoginTicket, Token, TokenState, Verdict};
use crate::event::{CloseCause, Event};
use crate::keys::token::{Checked, Series};
use crate::limits::MAX_USER_PASS;
use crate::session::message::ControlMessage;
use crate::tls::PeerIdentity;
use crate::wire::ids::KeyId;

/// What a client is told whose token is too old.
const TOKEN_EXPIRED: &str = "SESSION: token expired";

/// Answers to challenges for one login: attempts to type a code.
const MAX_RESPONSES: u8 = 8;

/// What the client of a negotiation claims to be.
struct Claim {
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    identity: Option<PeerIdentity>,
}

impl Session {
    pub(super) fn server(&self) -> Option<&ServerSide> {
        match &self.side {
            Side::Server(server) => Some(server),
            Side::Client(_) | Side::Peer(_) => None,
        }
    }

    fn server_mut(&mut self) -> Option<&mut ServerSide> {
        match &mut self.side {
            Side::Server(server) => Some(server),
            Side::Client(_) | Side::Peer(_) => None,
        }
    }

    /// The client as its application knows it: common name, or user name in its place.
    pub(crate) fn common_name(&self) -> &str {
        self.server().map_or("", |server| &server.common_name)
    }

    /// Whether another session belongs to the same client, by certificate and user name
    /// (`openvpn: multi.c`, `multi_process_float`).
    pub(crate) fn is_same_client(&self, other: &Self) -> bool {
        match (self.server(), other.server()) {
            (Some(a), Some(b)) => {
                a.locked.as_ref().is_some_and(Locked::names_somebody) && a.locked == b.locked
            }
            _ => false,
        }
    }

    /// Whether this session may take over the number in the data plane that `before` has: it is the same client, and
    /// was not told another one.
    pub(crate) fn can_succeed(&self, before: &Self) -> bool {
        let told =
            self.exchange.hello().is_some_and(|hello| hello.peer_id().is_some()) && self.own_id.is_some();
        self.agreed.is_none() && self.is_same_client(before) && !told
    }

    /// Takes it over.
    pub(crate) fn succeed(&mut self, peer: PeerRef) {
        // It was told none, but may ask at a renegotiation.
        self.own_id = self.own_id.map(|_| peer.id);
        self.peer = peer;
        self.slots = Slots::new(peer);
    }

    /// Whether the current key may be used: a server has let its client in, others need nobody's leave.
    pub(super) fn is_granted(&self) -> bool {
        self.server().is_none_or(|server| server.granted == Some(self.exchange.key()))
    }

    /// The client's key method 2 message is there: ours follows at once, then its login is looked at.
    pub(super) fn answer_client(&mut self, now: Now) {
        let options = options_string(&self.side, &self.path, self.exchange.hello());
        // A server says only which peer-id it wants, and only to who asked likewise; a peer tells as much as the other.
        let peer_info = match (&self.side, self.own_id) {
            (Side::Peer(_), own_id) => super::negotiate::peer_info(&self.side, self.capabilities, own_id),
            (_, Some(id)) if self.exchange.hello().is_some_and(|hello| hello.peer_id().is_some()) => {
                format!("ID={:x}\n", id.get())
            }
            _ => String::new(),
        };
        let sizes = self.sizes();
        if let Err(failure) = self.exchange.answer(now.at, options, peer_info, sizes) {
            return self.fail_exchange(now, failure.into());
        }
        self.judge(now);
    }

    /// Looks at the login of the current negotiation; asks the application where it has to.
    fn judge(&mut self, now: Now) {
        let Some(login) = self.exchange.take_login() else { return };
        let first = self.exchange.key() == KeyId::FIRST;
        let peer_info = self.exchange.hello().map(|hello| hello.peer_info.clone()).unwrap_or_default();
        let identity = self.exchange.tls().peer();
        let Some(server) = self.server_mut() else { return };
        let config = server.config.clone();
        if login.too_long {
            return self.deny(now, "");
        }
        if config.login == LoginPolicy::Required && !login.given {
            let cause = "Auth Username/Password was not provided by peer";
            return self.dismiss(now, "AUTH_FAILED", CloseCause::Protocol(cause));
        }
        // A password may be empty, for those who are asked about it to decide (`openvpn: ssl.c`, `key_method_2_read`).
        // What was left out proves nothing, and nothing may follow from the other half.
        let wanted = login.given && config.login != LoginPolicy::None;
        let mut claim = Claim {
            username: wanted.then(|| without_controls(&login.username)),
            password: wanted.then_some(login.password),
            identity,
        };
        if claim.identity.is_none() && claim.username.is_none() {
            return self.deny(now, "");
        }
        if let Some(renamed) = self.server().and_then(|server| server.renamed.as_ref())
            && claim.username == renamed.sent
        {
            claim.username = Some(renamed.name.clone());
        }
        let token = match self.check_token(now, &claim) {
            Ok(token) => token,
            Err(reason) => return self.deny(now, reason),
        };
        if token.as_ref().is_some_and(|token| !token.state.proves_name()) {
            claim.username = Some(String::new());
        }
        let Some(server) = self.server_mut() else { return };
        let by_certificate = claim.identity.as_ref().and_then(|identity| identity.common_name.clone());
        let common_name = match &claim.username {
            Some(name) if config.username_as_common_name => name.clone(),
            _ => by_certificate.unwrap_or_default(),
        };
        let locked = Locked::new(&common_name, claim.username.as_deref(), claim.identity.as_ref());
        if first {
            server.common_name = common_name;
            server.username.clone_from(&claim.username);
            server.locked = Some(locked);
        } else if server.locked.as_ref() != Some(&locked) {
            return self.revoke(now, "");
        }
        server.granted = None;
        let by_token = token.as_ref().is_some_and(|token| token.state != TokenState::Initial);
        let trusted = by_token && config.token.as_ref().is_some_and(|token| !token.external);
        if trusted && !config.ask_with_token || !config.ask_login {
            return self.grant(now);
        }
        self.ask(now, claim, token, peer_info);
    }

    fn ask(&mut self, now: Now, claim: Claim, token: Option<Token>, peer_info: String) {
        let (session, path, key) = (self.handle, self.path, self.exchange.key());
        let until = now.at + self.channel().timing.hand_window;
        let Some(server) = self.server_mut() else { return };
        server.last_question = server.last_question.wrapping_add(1);
        let serial = server.last_question;
        server.question = Some(Question { serial, until, responses: 0 });
        let login = Login {
            session,
            path,
            key,
            identity: claim.identity,
            common_name: server.common_name.clone(),
            username: claim.username,
            password: claim.password,
            token,
            peer_info,
            metadata: server.metadata.clone(),
        };
        self.events.push_back(Event::Login(LoginTicket { session, serial }, Box::new(login)));
    }

    /// What the password is worth as a token. The error is the text after `AUTH_FAILED,`.
    fn check_token(&mut self, now: Now, claim: &Claim) -> Result<Option<Token>, &'static str> {
        let fresh = {
            let mut id = [0; 12];
            self.entropy.fork(Purpose::Token, 0).fill(&mut id);
            id
        };
        let Some(server) = self.server_mut() else { return Ok(None) };
        let (Some(config), Some(password)) = (server.config.token.clone(), &claim.password) else {
            return Ok(None);
        };
        let username = claim.username.clone().unwrap_or_default();
        let known = server.token.as_ref().map(|life| life.series);
        let checked = Checked::new(&config, &username, password, known.as_ref(), now.unix);
        // By a token for nobody the client could take any name.
        let good = matches!(checked.state, TokenState::Initial | TokenState::Authenticated);
        if !good && !config.external {
            return Err(match checked.state {
                TokenState::Expired | TokenState::ExpiredEmptyUser => TOKEN_EXPIRED,
                _ => "",
            });
        }
        let series = checked.series.or(known).unwrap_or(Series { session: fresh, begun: now.unix.as_secs() });
        if server.token.is_none() {
            let username = if checked.state.proves_name() { username } else { String::new() };
            server.token = Some(TokenLife { series, username, renew_at: None });
        }
        Ok(Some(Token { session: series.name(), state: checked.state }))
    }

    /// Takes the application's verdict.
    pub(crate) fn answer_login(&mut self, now: Now, ticket: &LoginTicket, verdict: Verdict) {
        let Some(server) = self.server_mut() else { return };
        if server.question.as_ref().is_none_or(|question| question.serial != ticket.serial) {
            return;
        }
        server.question = None;
        match verdict {
            Verdict::Accept => self.grant(now),
            Verdict::Deny(reason) => self.deny(now, &reason),
            Verdict::Revoke(reason) => self.revoke(now, &reason),
            Verdict::Drop => self.fail(CloseCause::Denied(String::new())),
        }
    }

    /// The verdict takes longer: tells the client, and moves the deadlines (`openvpn: push.c`,
    /// `send_auth_pending_messages`).
    pub(crate) fn defer_login(&mut self, now: Now, ticket: &LoginTicket, timeout: Duration, method: &str) {
        let timing = self.channel().timing;
        let most = (timing.reneg / 2).max(timing.hand_window);
        let timeout = timeout.min(most);
        let Some(server) = self.server_mut() else { return };
        let Some(question) = server.question.as_mut().filter(|q| q.serial == ticket.serial) else { return };
        question.until = now.at + timeout;
        if let Phase::Admitting(admitting) = &mut self.phase {
            admitting.give_up = admitting.give_up.max(now.at + timeout);
        }
        let keyword = self.exchange.hello().is_some_and(|hello| hello.can(iv_proto::AUTH_PENDING_KW));
        match keyword {
            true => self.send_message(now, &format!("AUTH_PENDING,timeout {}", timeout.as_secs())),
            false => self.send_message(now, "AUTH_PENDING"),
        }
        if !method.is_empty() {
            self.send_message(now, &format!("INFO_PRE,{method}"));
        }
    }

    /// The client may use the current key.
    fn grant(&mut self, now: Now) {
        let key = self.exchange.key();
        let Some(server) = self.server_mut() else { return };
        server.granted = Some(key);
        self.make_token(now);
        if key == KeyId::FIRST {
            self.go_on_admitting(now);
        } else {
            self.take_next_key(now);
        }
    }

    /// Refuses the client: it is told, then the session ends.
    fn deny(&mut self, now: Now, reason: &str) {
        let message = match reason {
            "" => "AUTH_FAILED".to_owned(),
            reason => format!("AUTH_FAILED,{reason}"),
        };
        self.dismiss(now, &message, CloseCause::Denied(reason.to_owned()));
    }

    /// Refuses the client, and takes its keys at once: it became somebody else, or failed a challenge. Whoever is only
    /// refused has them until it is told (`openvpn: ssl_verify.c`, `tls_deauthenticate`; `push.c`, `send_auth_failed`).
    fn revoke(&mut self, now: Now, reason: &str) {
        self.slots.clear(&mut self.directives);
        self.deny(now, reason);
    }

    /// Asks the application for the client's settings, and pushes them, as soon as each can be done.
    pub(super) fn go_on_admitting(&mut self, now: Now) {
        let (session, path, granted) = (self.handle, self.path, self.is_granted());
        let identity = self.exchange.tls().peer();
        let hello = self.exchange.hello().cloned().unwrap_or_default();
        let Phase::Admitting(Admitting { asked, give_up }) = &mut self.phase else { return };
        if !granted {
            return;
        }
        if !*asked {
            *asked = true;
            *give_up = now.at + self.side.channel().timing.hand_window;
            let Side::Server(server) = &mut self.side else { return };
            server.requested |= hello.can(iv_proto::REQUEST_PUSH);
            server.takes_updates = hello.can(iv_proto::PUSH_UPDATE);
            let admission = Admission {
                session,
                path,
                identity,
                common_name: server.common_name.clone(),
                username: server.username.clone(),
                peer_info: hello.peer_info,
            };
            self.events.push_back(Event::Admit(AdmitTicket { session }, Box::new(admission)));
            return;
        }
        let Side::Server(server) = &mut self.side else { return };
        if server.requested
            && let Some(settings) = server.settings.take()
        {
            self.come_up_as_server(now, settings);
        }
    }

    /// Whether nothing but the application's decision keeps the client out.
    pub(crate) fn is_admissible(&self) -> bool {
        let asked = matches!(self.phase, Phase::Admitting(Admitting { asked: true, .. }));
        asked && self.offer(None).is_some_and(|offer| offer.is_ok())
    }

    /// What is agreed upon with the client, by what it said of itself and the framing that was decided for it.
    fn offer(&self, framing: Option<Framing>) -> Option<Result<Offer, &'static str>> {
        let (server, hello) = (self.server()?, self.exchange.hello()?);
        Some(offer(&server.config, self.capabilities, &self.path, self.peer.id, framing, hello))
    }

    /// The client bears another user name from now on.
    pub(crate) fn rename(&mut self, now: Now, name: Option<&str>) {
        let Some(server) = self.server_mut() else { return };
        let Some(name) = name.filter(|_| server.config.login != LoginPolicy::None) else { return };
        if server.renamed.is_some() || server.username.as_deref() == Some(name) {
            return;
        }
        let sent = server.username.replace(name.to_owned());
        server.renamed = Some(Renamed { sent, name: name.to_owned() });
        if server.config.username_as_common_name {
            name.clone_into(&mut server.common_name);
        }
        if let Some(locked) = &mut server.locked {
            locked.username = Some(name.to_owned());
            locked.common_name.clone_from(&server.common_name);
        }
        if let Some(life) = server.token.as_mut().filter(|life| !life.username.is_empty()) {
            name.clone_into(&mut life.username);
        }
        self.make_token(now);
    }

    /// Options that bring the client its token, with the name that it is good for if that is not the client's own
    /// (`openvpn: push.c`, `prepare_auth_token_push_reply`).
    fn token_options(&self) -> Zeroizing<Vec<String>> {
        let Some(server) = self.server() else { return Zeroizing::default() };
        let Some(token) = &server.new_token else { return Zeroizing::default() };
        let name = server.renamed.as_ref().map(|renamed| STANDARD.encode(&renamed.name));
        let name = name.filter(|name| name.len() < MAX_USER_PASS);
        let word = "auth-token ";
        let mut option = String::with_capacity(word.len() + token.len());
        option.push_str(word);
        option.push_str(token);
        let name = name.map(|name| format!("auth-token-user {name}"));
        Zeroizing::new(core::iter::once(option).chain(name).collect())
    }

    /// Takes the application's decision about the client.
    pub(crate) fn admit(&mut self, now: Now, settings: Result<ClientSettings, String>) {
        if !matches!(self.phase, Phase::Admitting(Admitting { asked: true, .. })) {
            return;
        }
        match settings {
            Ok(settings) => {
                let Some(server) = self.server_mut() else { return };
                server.settings.get_or_insert(settings);
                self.go_on_admitting(now);
            }
            Err(reason) => self.deny(now, &reason),
        }
    }

    /// Agrees with the client, installs its first key, and pushes its configuration.
    fn come_up_as_server(&mut self, now: Now, settings: ClientSettings) {
        let Some(offer) = self.offer(settings.framing) else { return };
        let Offer { agreed, options } = match offer {
            Ok(offer) => offer,
            Err(reason) => return self.deny(now, reason),
        };
        // Before the cipher, behind the peer-id (`openvpn: push.c`, `prepare_push_reply`).
        let at = usize::from(options.first().is_some_and(|option| option.starts_with("peer-id ")));
        let (first, last) = options.split_at(at);
        let tokens = self.token_options();
        let all = settings.push.iter().chain(first).chain(tokens.iter()).chain(last).map(String::as_str);
        let texts = match messages("PUSH_REPLY", all) {
            Ok(texts) => Zeroizing::new(texts),
            Err(too_long) => {
                let text = format!("the option `{}...` is too long to be pushed", too_long.0);
                return self.fail(CloseCause::Push(text));
            }
        };
        self.agreed = Some(agreed);
        if !self.take_first_key(now, agreed) {
            return;
        }
        self.phase = Phase::Up;
        self.set_routes(settings.routes);
        self.keepalive.restrict(settings.session_timeout, settings.inactive);
        self.keepalive.start(now.at, &[]);
        for text in texts.iter() {
            self.push_text(now, text);
        }
        self.schedule_token(now);
        let (session, peer) = (self.handle, self.peer);
        let (params, tun_mtu, flags) = (agreed.params, agreed.tun_mtu, agreed.flags.to_string());
        self.events.push_back(Event::Established { session, peer, params, tun_mtu, flags });
    }

    fn push_text(&mut self, now: Now, text: &str) {
        self.send_message(now, text);
        self.events.push_back(Event::Pushed { session: self.handle, text: without_tokens(text) });
    }

    /// Gives the client these inner addresses and no others.
    pub(crate) fn set_routes(&mut self, routes: Vec<IpNet>) {
        let peer = self.peer;
        if self.agreed.is_none() {
            return;
        }
        let Some(server) = self.server_mut() else { return };
        let before = core::mem::replace(&mut server.routes, routes);
        let now: Vec<IpNet> = server.routes.clone();
        let gone = before.iter().filter(|net| !now.contains(net));
        let removed = gone.map(|&inner| Directive::RemoveRoute { peer, inner });
        let new = now.iter().filter(|net| !before.contains(net));
        let added = new.map(|&inner| Directive::AddRoute { peer, inner });
        self.directives.extend(removed.chain(added));
    }

    /// Sends PUSH_UPDATE; whether the client takes it, the options fit, and there is a control channel.
    pub(crate) fn push_update(&mut self, now: Now, options: &[String]) -> bool {
        let takes = self.server().is_some_and(|server| server.takes_updates);
        if !takes || !matches!(self.phase, Phase::Up) || self.is_lame() {
            return false;
        }
        let Ok(texts) = messages("PUSH_UPDATE", options.iter().map(String::as_str)) else { return false };
        texts.iter().for_each(|text| self.push_text(now, text));
        true
    }

    /// A message of the client.
    pub(super) fn handle_client_message(&mut self, now: Now, message: ControlMessage) {
        match message {
            ControlMessage::PushRequest => {
                if let Some(server) = self.server_mut() {
                    server.requested = true;
                }
                self.go_on_admitting(now);
            }
            ControlMessage::ChallengeResponse(text) if self.may_respond() => {
                self.events.push_back(Event::ChallengeResponse { session: self.handle, response: text });
            }
            ControlMessage::Exit => self.fail(CloseCause::PeerExit),
            _ => self.count(DropReason::ControlMessage),
        }
    }

    /// Counts an answer to a challenge; each may cost the application a script.
    fn may_respond(&mut self) -> bool {
        let question = self.server_mut().and_then(|server| server.question.as_mut());
        question.is_some_and(|question| {
            question.responses = question.responses.saturating_add(1);
            question.responses <= MAX_RESPONSES
        })
    }

    /// Makes a token, for the first time or anew.
    fn make_token(&mut self, now: Now) {
        let Some(server) = self.server_mut() else { return };
        let (Some(config), Some(life)) = (server.config.token.clone(), &server.token) else { return };
        server.new_token = Some(life.series.issue(&config.secret, &life.username, now.unix));
    }

    /// Pushes a renewed token by itself.
    pub(super) fn push_token(&mut self, now: Now) {
        let options = self.token_options();
        if options.is_empty() {
            return;
        }
        if let Ok(texts) = messages("PUSH_REPLY", options.iter().map(String::as_str)).map(Zeroizing::new) {
            texts.iter().for_each(|text| self.push_text(now, text));
        }
        self.schedule_token(now);
    }

    fn schedule_token(&mut self, now: Now) {
        let reneg = self.channel().timing.reneg;
        let Some(server) = self.server_mut() else { return };
        server.new_token = None;
        let renewal = server.config.token.as_ref().map(|token| token.renewal);
        // A renegotiation brings a new one anyway.
        let sooner = renewal.filter(|renewal| reneg.is_zero() || *renewal < reneg);
        if let (Some(life), Some(renewal)) = (&mut server.token, sooner) {
            life.renew_at = Some(now.at + renewal);
        }
    }

    /// Deadlines that only servers have.
    pub(super) fn serve_deadline(&self) -> Option<Deadline> {
        if !matches!(self.phase, Phase::Connecting | Phase::Admitting(_) | Phase::Up) {
            return None;
        }
        let server = self.server()?;
        let verdict = server.question.as_ref().map(|q| Deadline { at: q.until, why: Timer::Verdict });
        let renew_at = server.token.as_ref().and_then(|life| life.renew_at);
        Deadline::earliest(verdict, renew_at.map(|at| Deadline { at, why: Timer::Token }))
    }

    /// Does what is due on a server.
    pub(super) fn serve_timeout(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Connecting | Phase::Admitting(_) | Phase::Up) {
            return;
        }
        let Some(server) = self.server_mut() else { return };
        if server.question.as_ref().is_some_and(|question| question.until <= now.at) {
            server.question = None;
            return self.dismiss(now, "AUTH_FAILED", CloseCause::Unanswered);
        }
        let renews = server.token.as_mut().and_then(|life| life.renew_at.take_if(|at| *at <= now.at));
        // A negotiation that is under way brings a token of its own, and has no channel for this one yet.
        if renews.is_some() && self.exchange.state() == State::Active {
            self.make_token(now);
            self.push_token(now);
        }
    }
}

/// A user name as all will see it (`openvpn: ssl_verify.c`, `verify_user_pass`): in the log, in file names, and compared
/// with others.
fn without_controls(username: &str) -> String {
    username.chars().map(|c| if c.is_control() { '_' } else { c }).collect()
}
