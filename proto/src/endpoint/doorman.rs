//! Meets packets that belong to no session (`openvpn: mudp.c`, `do_pre_decrypt_check`).

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use super::cookie::Cookies;
use super::rate::Bucket;
use crate::clock::Instant;
use crate::config::ChannelConfig;
use crate::config::server::{Rate, TlsCryptV2};
use crate::drops::DropReason;
use crate::path::Path;
use crate::wire::ack::AckList;
use crate::wire::control::{ControlBody, EarlyNegotiation};
use crate::wire::ids::{KeyId, MessageId, SessionId};
use crate::wire::opcode::Opcode;
use crate::wrap::gate::{Admitted, Entrant, Gate};
use crate::wrap::static_key::StaticKey;
use crate::wrap::{Verified, Wrap};

/// Highest message id and ack of a packet that begins a session: the reset has 0, what follows it 1.
const LAST_EARLY_MESSAGE: MessageId = MessageId(1);

/// Keeper of the door of one listening configuration. What it holds doesn't depend on how many packets it saw.
///
/// ```text
/// client                       server
/// HARD_RESET_CLIENT  ────────►           answers, forgets
///                    ◄────────  HARD_RESET_SERVER_V2 under a session id that is a MAC of the sender
/// CONTROL or ACK, naming that id ──►     checks the MAC: welcome
/// ```
///
/// # How much comes back
///
/// One packet has at most one answer, and only if it passes the protection. The answer to a HARD_RESET_CLIENT_V3 is
/// much shorter than that (72 to at least 344 bytes). The answer to a HARD_RESET_CLIENT_V2 is 12 bytes longer: 26 to
/// 14 bytes without protection, 66 to 54 with tls-crypt, and 28 or 48 bytes of IP and UDP around each. The 12 bytes
/// are an ack and the client's session id. Without them the client can't know that the answer is from somebody who
/// saw its packet, and goes on only after it repeated its reset and that was acknowledged: one more round trip for
/// everybody. Clients can't make their reset longer either, stock ones don't, and servers read a payload as early
/// negotiation. So what a forged sender address can draw onto its owner is bounded by the rate instead:
/// `connect-freq-initial`, by default 100 answers in 10 s, which is 120 bytes a second more than went in.
pub(crate) struct Doorman {
    gate: Gate,
    cookies: Cookies,
    initial: Option<Bucket>,
    connect: Option<Bucket>,
    body: Vec<u8>,
}

/// What to do about a packet.
pub(crate) enum Knock<'d> {
    /// Send what was written to `reply`.
    Reply,
    /// The sender is where it says it is: state may be created, and takes this as its first packet.
    Welcome(Box<Welcome>, Verified<'d>),
    /// Count it.
    Drop(DropReason),
}

/// What a new session starts with.
pub(crate) struct Welcome {
    /// Our session id.
    pub(crate) local: SessionId,
    /// The client's session id.
    pub(crate) remote: SessionId,
    /// Protection, with the first packet counted as seen.
    pub(crate) wrap: Wrap,
    /// What dynamic tls-crypt builds on: the static key of the base wrap, or the client's own key.
    pub(crate) base_key: Option<Arc<StaticKey>>,
    /// Metadata of the client's key; `None` without tls-crypt-v2.
    pub(crate) metadata: Option<Vec<u8>>,
    /// Whether nothing was answered yet: the packet is the client's reset (message 0), and ours is to be sent
    /// reliably as message 0, without early negotiation records. Else both resets are done and acknowledged, and
    /// messages in both directions go on with 1.
    pub(crate) stateful: bool,
}

impl Doorman {
    /// `secret` is random and known to nobody else.
    pub(crate) fn new(
        channel: &ChannelConfig,
        v2: Option<&TlsCryptV2>,
        initial: Option<Rate>,
        connect: Option<Rate>,
        secret: &[u8; 32],
    ) -> Self {
        Self {
            gate: Gate::new(&channel.wrap, v2, channel.replay),
            cookies: Cookies::new(secret, channel.timing.hand_window),
            initial: initial.map(Bucket::new),
            connect: connect.map(Bucket::new),
            body: Vec::new(),
        }
    }

    /// Takes a control packet from a path without a session; `datagram` is clobbered, and `reply` holds nothing but
    /// the answer if there is one. `unix` is the time since 1970.
    ///
    /// A token of `connect-freq-initial` is taken for each answer to a datagram, and comes back when the sender has
    /// proved its address (`openvpn: mudp.c`, `reflect_filter_rate_limit_decrease`).
    pub(crate) fn take<'d>(
        &mut self,
        now: Instant,
        unix: Duration,
        path: &Path,
        datagram: &'d mut [u8],
        reply: &mut Vec<u8>,
    ) -> Knock<'d> {
        reply.clear();
        self.judge(now, unix, path, datagram, reply).unwrap_or_else(Knock::Drop)
    }

    fn judge<'d>(
        &mut self,
        now: Instant,
        unix: Duration,
        path: &Path,
        datagram: &'d mut [u8],
        reply: &mut Vec<u8>,
    ) -> Result<Knock<'d>, DropReason> {
        let (opcode, key) = Opcode::parse(*datagram.first().ok_or(DropReason::Malformed)?)?;
        let resets = match opcode {
            Opcode::HardResetClientV2 | Opcode::HardResetClientV3 => true,
            Opcode::ControlV1 | Opcode::AckV1 | Opcode::ControlWkcV1 => false,
            Opcode::SoftResetV1 | Opcode::DataV1 | Opcode::HardResetServerV2 | Opcode::DataV2 => {
                return Err(DropReason::UnexpectedOpcode);
            }
        };
        if key != KeyId::FIRST {
            return Err(DropReason::WrongKeyId);
        }
        let entrant = self.gate.open(unix, datagram)?;
        let body = ControlBody::parse(opcode, entrant.verified().body())?;
        let unix_seconds = u32::try_from(unix.as_secs()).unwrap_or(u32::MAX);
        if !resets {
            let local = self.check_cookie(now, path, entrant.verified().session(), &body)?;
            let knock = self.welcome(now, unix_seconds, entrant, local, false)?;
            if !path.is_stream() {
                self.initial.iter_mut().for_each(Bucket::give_back);
            }
            return Ok(knock);
        }
        if body.message != Some(MessageId(0)) {
            return Err(DropReason::Malformed);
        }
        let stateless = !entrant.is_v2() || (entrant.resends_key() && !path.is_stream());
        if !stateless && !path.is_stream() && self.gate.forces_cookie() {
            return Err(DropReason::CookieUnsupported);
        }
        // Who has a stream has shown its address.
        if !path.is_stream() && self.initial.as_mut().is_some_and(|bucket| !bucket.take(now)) {
            return Err(DropReason::RateLimited);
        }
        let local = self.cookies.make(now, path, entrant.verified().session());
        if stateless {
            self.answer(unix_seconds, &entrant, local, reply);
            Ok(Knock::Reply)
        } else {
            self.welcome(now, unix_seconds, entrant, local, true)
        }
    }

    /// Our session id, if the packet names it and can be one of the first.
    fn check_cookie(
        &self,
        now: Instant,
        path: &Path,
        client: SessionId,
        body: &ControlBody<'_>,
    ) -> Result<SessionId, DropReason> {
        let local = body.remote_session.ok_or(DropReason::Cookie)?;
        let early = |id: &MessageId| *id <= LAST_EARLY_MESSAGE;
        let first = body.acks.as_slice().iter().all(early) && body.message.as_ref().is_none_or(early);
        if first && self.cookies.check(now, path, client, local) {
            Ok(local)
        } else {
            Err(DropReason::Cookie)
        }
    }

    fn welcome<'d>(
        &mut self,
        now: Instant,
        unix_seconds: u32,
        entrant: Entrant<'d>,
        local: SessionId,
        stateful: bool,
    ) -> Result<Knock<'d>, DropReason> {
        let Admitted { verified, wrap, base_key, metadata } =
            self.gate.admit(now, unix_seconds, entrant, !stateful)?;
        if self.connect.as_mut().is_some_and(|bucket| !bucket.take(now)) {
            return Err(DropReason::RateLimited);
        }
        let remote = verified.session();
        let welcome = Welcome { local, remote, wrap, base_key, metadata, stateful };
        Ok(Knock::Welcome(Box::new(welcome), verified))
    }

    fn answer(&mut self, unix_seconds: u32, entrant: &Entrant<'_>, local: SessionId, reply: &mut Vec<u8>) {
        let mut early = Vec::new();
        EarlyNegotiation { resend_wkc: entrant.is_v2() }.emit(&mut early);
        let answer = ControlBody {
            acks: AckList::from_iter([MessageId(0)]),
            remote_session: Some(entrant.verified().session()),
            message: Some(MessageId(0)),
            payload: &early,
        };
        self.body.clear();
        answer.emit(&mut self.body);
        let header = Opcode::HardResetServerV2.header(KeyId::FIRST);
        entrant.answer(unix_seconds, header, local, &self.body, reply);
    }
}

impl fmt::Debug for Doorman {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorman").field("initial", &self.initial).field("connect", &self.connect).finish()
    }
}

impl fmt::Debug for Knock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply => f.write_str("Reply"),
            Self::Welcome(welcome, _) => welcome.fmt(f),
            Self::Drop(reason) => write!(f, "Drop({reason:?})"),
        }
    }
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Welcome")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("wrap", &self.wrap)
            .field("stateful", &self.stateful)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
