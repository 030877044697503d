//! The listening side of a node: who may come in, and who is in.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::attempts::Attempts;
use super::{Entry, Node};
use crate::clock::Instant;
use crate::config::PeerConfig;
use crate::config::server::ServerConfig;
use crate::drops::DropReason;
use crate::endpoint::Endpoint;
use crate::endpoint::doorman::{Doorman, Knock, Welcome};
use crate::entropy::{Entropy, Purpose};
use crate::event::{CloseCause, Event};
use crate::handle::SessionHandle;
use crate::limits::{MAX_EVENTS, MAX_PEER_SESSIONS, MAX_STATELESS_REPLIES};
use crate::path::Path;
use crate::session::side::welcomes;
use crate::session::{Accepted, Session};
use crate::transmit::Transmit;
use crate::wire::ids::SessionId;
use crate::wire::opcode::Opcode;
use crate::wrap::WrapConfig;

/// How long a handshake is not given up for another one from the same address.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Whom a node listens for.
#[derive(Clone)]
enum Audience {
    Clients(Arc<ServerConfig>),
    Peer(Arc<PeerConfig>),
}

impl Audience {
    /// Whether nothing protects the control channel.
    fn takes_anybody(&self) -> bool {
        let (channel, v2) = match self {
            Self::Clients(config) => (&config.channel, &config.tls_crypt_v2),
            Self::Peer(config) => (&config.channel, &config.tls_crypt_v2),
        };
        matches!(channel.wrap, WrapConfig::None) && v2.is_none()
    }
}

/// State of the listening side; what strangers send makes none of it grow.
#[derive(Default)]
pub(super) struct Door {
    open: Option<(Audience, Doorman)>,
    /// How many times it was opened.
    openings: u64,
    replies: VecDeque<(Path, Vec<u8>)>,
    spare: Vec<u8>,
    /// Sessions that came in here.
    inside: BTreeSet<SessionHandle>,
    /// Those of them that have not shown who they are.
    attempts: Attempts,
    /// Those of them that were let in, by common name, where a name may be in only once.
    names: BTreeMap<String, SessionHandle>,
}

impl Door {
    pub(super) fn open_for_clients(&mut self, entropy: &Entropy, config: Arc<ServerConfig>) {
        let secret = self.secret(entropy);
        let (initial, connect) = (config.initial_rate, config.connect_rate);
        let doorman = Doorman::new(&config.channel, config.tls_crypt_v2.as_ref(), initial, connect, &secret);
        self.open = Some((Audience::Clients(config), doorman));
    }

    pub(super) fn open_for_peer(&mut self, entropy: &Entropy, config: Arc<PeerConfig>) {
        let secret = self.secret(entropy);
        let doorman = Doorman::new(&config.channel, config.tls_crypt_v2.as_ref(), None, None, &secret);
        self.open = Some((Audience::Peer(config), doorman));
    }

    fn secret(&mut self, entropy: &Entropy) -> zeroize::Zeroizing<[u8; 32]> {
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        entropy.fork(Purpose::Cookie, self.openings).fill(&mut *secret);
        self.openings += 1;
        secret
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Writes the next stateless answer to `out`.
    pub(super) fn poll_reply(&mut self, out: &mut [u8]) -> Option<Transmit> {
        let (path, reply) = self.replies.pop_front()?;
        let len = reply.len();
        out.get_mut(..len)?.copy_from_slice(&reply);
        self.spare = reply;
        Some(Transmit { path, len })
    }

    /// A session was let in under `name`; the session that had the name, if there can be only one.
    pub(super) fn enter(&mut self, session: SessionHandle, name: String) -> Option<SessionHandle> {
        let unique = match &self.open {
            Some((Audience::Clients(config), _)) => !config.duplicate_cn && !name.is_empty(),
            // Of a tunnel between two there is one.
            Some((Audience::Peer(_), _)) => true,
            None => false,
        };
        if !unique {
            return None;
        }
        self.names.insert(name, session).filter(|&before| before != session)
    }

    /// A client has shown who it is.
    pub(super) fn know(&mut self, session: SessionHandle) {
        self.attempts.remove(session);
    }

    pub(super) fn leave(&mut self, handle: SessionHandle, session: &Session) {
        self.inside.remove(&handle);
        self.attempts.remove(handle);
        if self.names.get(session.common_name()) == Some(&handle) {
            self.names.remove(session.common_name());
        }
    }
}

/// Whether a first packet at the path of a client that is up may be anybody's. An answer makes OpenVPN's client
/// begin anew at once, whoever asked for it; so it has to be asked for twice, as a client does that has begun anew.
fn is_lure(
    endpoint: &Endpoint,
    sessions: &mut BTreeMap<SessionHandle, Entry>,
    path: &Path,
    bytes: &[u8],
) -> bool {
    let reset = bytes
        .first()
        .is_some_and(|&first| matches!(Opcode::parse(first), Ok((Opcode::HardResetClientV2, _))));
    let caller = bytes.get(1..9).and_then(|id| SessionId::new(id.try_into().ok()?));
    let Some(entry) = endpoint.find(path).and_then(|handle| sessions.get_mut(&handle)) else { return false };
    if !reset || path.is_stream() || !entry.session.is_up() {
        return false;
    }
    let before = core::mem::replace(&mut entry.caller, caller);
    before.is_none() || before != caller
}

impl Node {
    /// A control packet of no session.
    pub(super) fn knock(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        let unix = self.anchor.unix_at(now);
        let Some((audience, doorman)) = &mut self.door.open else {
            return self.drops.count(DropReason::UnknownPath);
        };
        if let Audience::Peer(config) = audience
            && !welcomes(config, path.remote())
        {
            return self.drops.count(DropReason::UnknownPath);
        }
        if audience.takes_anybody() && is_lure(&self.endpoint, &mut self.sessions, &path, bytes) {
            return self.drops.count(DropReason::UnderWay);
        }
        let mut reply = core::mem::take(&mut self.door.spare);
        match doorman.take(now, unix, &path, bytes, &mut reply) {
            Knock::Reply if self.door.replies.len() < MAX_STATELESS_REPLIES => {
                self.door.replies.push_back((path, reply));
            }
            Knock::Reply => self.drops.count(DropReason::RateLimited),
            Knock::Drop(reason) => {
                self.door.spare = reply;
                self.drops.count(reason);
                self.turn_away(now, path, reason);
            }
            Knock::Welcome(welcome, verified) => {
                self.door.spare = reply;
                let audience = audience.clone();
                let Ok((opcode, _)) = Opcode::parse(verified.header()) else { return };
                self.take_in(now, path, audience, *welcome, (opcode, verified.body()));
            }
        }
    }

    /// Makes a session of a stranger who is where it says it is.
    fn take_in(
        &mut self,
        now: Instant,
        path: Path,
        audience: Audience,
        welcome: Welcome,
        first: (Opcode, &[u8]),
    ) {
        let Welcome { local, remote, wrap, base_key, metadata, stateful } = welcome;
        if !self.make_way(now, &path) {
            return self.drops.count(DropReason::UnderWay);
        }
        match &audience {
            Audience::Clients(config)
                if self.door.inside.len() >= config.max_clients && !self.make_room(now, &path) =>
            {
                return self.drops.count(DropReason::Full);
            }
            Audience::Peer(_) if self.door.inside.len() >= MAX_PEER_SESSIONS => self.drop_oldest_attempt(now),
            Audience::Clients(_) | Audience::Peer(_) => {}
        }
        let accepted = Accepted { local, remote, wrap, base_key, metadata, stateful };
        let created = self.create(now, path, |now, setup| match audience {
            Audience::Clients(config) => Session::accept(now, setup, config, accepted),
            Audience::Peer(config) => Session::accept_peer(now, setup, config, accepted),
        });
        let Ok(handle) = created else {
            return self.drops.count(DropReason::Refused);
        };
        self.seat(path, handle, remote);
        self.with(now, handle, |session, now| session.handle_first(now, first.0, first.1));
    }

    /// A client that starts anew gives its earlier attempt up; a session that is up stays until the new one is let in.
    /// An attempt that has only just begun stays too, so that recorded packets don't end it; whether there is room.
    fn make_way(&mut self, now: Instant, path: &Path) -> bool {
        let at_path = [self.endpoint.challenger(path), self.endpoint.find(path)];
        for handle in at_path.into_iter().flatten() {
            let Some(entry) = self.sessions.get(&handle) else { continue };
            if !entry.session.is_up() {
                if now - entry.session.started() < ATTEMPT {
                    return false;
                }
                self.give_up(now, handle);
            }
        }
        true
    }

    /// What came on a byte stream makes no session.
    fn turn_away(&mut self, now: Instant, path: Path, reason: DropReason) {
        let Path::Stream(id) = path else { return };
        let of_nobody = !self.distrust(now, path, reason);
        if of_nobody && reason != DropReason::RateLimited && self.events.len() < MAX_EVENTS {
            self.events.push_back(Event::Unwelcome(id));
        }
    }

    /// There are as many clients as may be. Handshakes count, as in OpenVPN (`openvpn: multi.c`,
    /// `multi_create_instance`), but strangers can't keep others out with them: of a crowd from one place the oldest
    /// gives way, or else whoever takes long.
    fn make_room(&mut self, now: Instant, path: &Path) -> bool {
        let takes_long = |handle: &SessionHandle| {
            self.sessions.get(handle).is_some_and(|entry| now - entry.session.started() >= ATTEMPT)
        };
        let attempts = &self.door.attempts;
        let victim = attempts.crowd(path).or_else(|| attempts.oldest().filter(takes_long));
        if let Some(victim) = victim {
            self.drops.count(DropReason::Full);
            self.give_up(now, victim);
        }
        victim.is_some()
    }

    fn drop_oldest_attempt(&mut self, now: Instant) {
        let oldest = self.door.inside.iter().copied().find(|&handle| !self.is_up(handle));
        if let Some(handle) = oldest {
            self.drops.count(DropReason::Full);
            self.give_up(now, handle);
        }
    }

    fn is_up(&self, handle: SessionHandle) -> bool {
        self.sessions.get(&handle).is_some_and(|entry| entry.session.is_up())
    }

    fn give_up(&mut self, now: Instant, handle: SessionHandle) {
        self.with(now, handle, |session, _| session.abort(CloseCause::Replaced));
    }

    fn seat(&mut self, path: Path, handle: SessionHandle, remote: SessionId) {
        if !self.endpoint.insert(path, handle, Some(remote)) {
            self.endpoint.challenge(path, handle, remote);
        }
        self.door.inside.insert(handle);
        self.door.attempts.insert(handle, &path);
    }
}
