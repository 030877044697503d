//! How sessions and key negotiations begin.

use std::collections::VecDeque;
use std::sync::Arc;

use super::exchange::{Exchange, Greeting, Opening};
use super::handover::Handover;
use super::keepalive::Keepalive;
use super::side::{ClientSide, ServerSide, Side};
use super::slots::Slots;
use super::{NEVER, Now, Phase, Session, negotiate};
use crate::config::server::ServerConfig;
use crate::config::{ClientConfig, Credentials, PeerConfig};
use crate::directive::PeerRef;
use crate::entropy::{Entropy, EntropyStream, Purpose};
use crate::error::ConnectError;
use crate::event::{CloseCause, Event};
use crate::handle::SessionHandle;
use crate::keys::data_key::TlsRole;
use crate::keys::method2::{ClientSource, ServerSource};
use crate::limits::MAX_USER_PASS;
use crate::path::Path;
use crate::plane::Capabilities;
use crate::wire::ids::{KeyId, PeerId, SessionId};
use crate::wire::opcode::Opcode;
use crate::wrap::static_key::StaticKey;
use crate::wrap::{Wrap, WrapConfig};

/// What every session is made of.
pub(crate) struct Setup {
    pub(crate) handle: SessionHandle,
    pub(crate) peer: PeerRef,
    pub(crate) path: Path,
    pub(crate) capabilities: Capabilities,
    pub(crate) entropy: Entropy,
}

/// How a session began that the other side asked for.
pub(crate) struct Accepted {
    pub(crate) local: SessionId,
    pub(crate) remote: SessionId,
    pub(crate) wrap: Wrap,
    pub(crate) base_key: Option<Arc<StaticKey>>,
    pub(crate) metadata: Option<Vec<u8>>,
    /// Our reset is still to be sent, reliably.
    pub(crate) stateful: bool,
}

impl Session {
    /// Starts connecting as a client: the first packet is ready to be polled.
    pub(crate) fn connect(
        now: Now,
        setup: Setup,
        config: Arc<ClientConfig>,
        credentials: Option<Credentials>,
    ) -> Result<Self, ConnectError> {
        let fits = |text: &str| text.len() < MAX_USER_PASS;
        if credentials.as_ref().is_some_and(|c| !fits(&c.username) || !fits(&c.password)) {
            return Err(ConnectError::CredentialsTooLong);
        }
        Self::initiate(now, setup, Side::Client(Box::new(ClientSide::new(config, credentials))))
    }

    /// Starts connecting as the `tls-client` of a point-to-point tunnel.
    pub(crate) fn connect_peer(
        now: Now,
        setup: Setup,
        config: Arc<PeerConfig>,
    ) -> Result<Self, ConnectError> {
        Self::initiate(now, setup, Side::Peer(config))
    }

    fn initiate(now: Now, setup: Setup, side: Side) -> Result<Self, ConnectError> {
        let local = draw_session_id(&mut setup.entropy.fork(Purpose::SessionId, 0));
        let channel = side.channel();
        let reset = match channel.wrap {
            WrapConfig::TlsCryptV2 { .. } => Opcode::HardResetClientV3,
            WrapConfig::None | WrapConfig::TlsAuth { .. } | WrapConfig::TlsCrypt { .. } => {
                Opcode::HardResetClientV2
            }
        };
        let wrap = Wrap::new(&channel.wrap, TlsRole::Client, now.unix_seconds(), channel.replay);
        let own_id = own_id(&side, &setup);
        let parts = Parts {
            side: &side,
            capabilities: setup.capabilities,
            path: &setup.path,
            own_id,
            source: &mut setup.entropy.fork(Purpose::KeyMethod, 0),
        };
        let exchange = Box::new(parts.exchange(now, KeyId::FIRST, Opening::Send(reset))?);
        Ok(Self::assemble(
            now,
            setup,
            side,
            exchange,
            Identity { local, remote: None, own_id, wrap, base_key: None },
        ))
    }

    /// Goes on with a connection that a client began.
    pub(crate) fn accept(
        now: Now,
        setup: Setup,
        config: Arc<ServerConfig>,
        mut accepted: Accepted,
    ) -> Result<Self, ConnectError> {
        let side = ServerSide::new(config, accepted.metadata.take());
        Self::respond(now, setup, Side::Server(Box::new(side)), accepted)
    }

    /// Goes on with a connection that the `tls-client` of a point-to-point tunnel began.
    pub(crate) fn accept_peer(
        now: Now,
        setup: Setup,
        config: Arc<PeerConfig>,
        accepted: Accepted,
    ) -> Result<Self, ConnectError> {
        Self::respond(now, setup, Side::Peer(config), accepted)
    }

    fn respond(now: Now, setup: Setup, side: Side, accepted: Accepted) -> Result<Self, ConnectError> {
        let Accepted { local, remote, wrap, base_key, metadata: _, stateful } = accepted;
        let own_id = own_id(&side, &setup);
        let parts = Parts {
            side: &side,
            capabilities: setup.capabilities,
            path: &setup.path,
            own_id,
            source: &mut setup.entropy.fork(Purpose::KeyMethod, 0),
        };
        let opening = if stateful { Opening::Send(Opcode::HardResetServerV2) } else { Opening::Done };
        let exchange = Box::new(parts.exchange(now, KeyId::FIRST, opening)?);
        let (handle, path) = (setup.handle, setup.path);
        let identity = Identity { local, remote: Some(remote), own_id, wrap, base_key };
        let mut session = Self::assemble(now, setup, side, exchange, identity);
        session.events.push_back(Event::Incoming { session: handle, path, remote });
        Ok(session)
    }

    fn assemble(now: Now, setup: Setup, side: Side, exchange: Box<Exchange>, identity: Identity) -> Self {
        let Setup { handle, peer, path, capabilities, entropy } = setup;
        let Identity { local, remote, own_id, wrap, base_key } = identity;
        let pulls = matches!(side, Side::Client(_));
        Self {
            handle,
            peer,
            path,
            capabilities,
            entropy,
            negotiations: 1,
            own_id,
            came_in: remote.is_some(),
            local,
            remote,
            wrap,
            base_key,
            dynamic_wrap: None,
            resend_wkc: false,
            started: now.at,
            exchange,
            previous: None,
            tls_reported: false,
            renegotiate_at: None,
            lame_until: None,
            phase: Phase::Connecting,
            agreed: None,
            exit_notify: side.channel().exit_notify,
            slots: Slots::new(peer),
            keepalive: Keepalive::new(now.at, side.channel().keepalive, pulls),
            drops: None,
            directives: VecDeque::new(),
            events: VecDeque::new(),
            side,
        }
    }

    pub(super) fn start_renegotiation(&mut self, now: Now) {
        let parts = Parts {
            side: &self.side,
            capabilities: self.capabilities,
            path: &self.path,
            own_id: self.own_id,
            source: &mut self.entropy.fork(Purpose::KeyMethod, self.negotiations),
        };
        let next = parts.exchange(now, self.exchange.key().next(), Opening::Send(Opcode::SoftResetV1));
        match next {
            Ok(exchange) => {
                self.negotiations += 1;
                let before = core::mem::replace(&mut self.exchange, Box::new(exchange));
                self.previous = self.lame_until.take().is_none().then_some(before);
                self.tls_reported = false;
                self.renegotiate_at = None;
                let handover = Handover::new(now.at, &self.channel().timing);
                if let Some(key) = self.slots.rotate(now.at, handover, &mut self.directives) {
                    self.on_promoted(key);
                }
            }
            Err(ConnectError::Tls(failure)) => self.fail(CloseCause::Tls(failure)),
            Err(_) => self.fail(CloseCause::Protocol("the key exchange message became too long")),
        }
    }

    /// `reneg-sec max [min]`; with 0 it is left to the other side. A server without minimum spreads its clients
    /// over the last tenth (`openvpn: ssl.c`, `tls_process`).
    pub(super) fn draw_renegotiation(&self, now: Now) -> crate::Instant {
        let timing = self.channel().timing;
        if timing.reneg.is_zero() {
            return NEVER;
        }
        let spread = match timing.reneg_min {
            Some(min) => timing.reneg.saturating_sub(min),
            None if matches!(self.side, Side::Server(_)) => timing.reneg / 10,
            None => core::time::Duration::ZERO,
        };
        let mut jitter = self.entropy.fork(Purpose::Jitter, self.negotiations);
        let early = core::time::Duration::from_millis(jitter.below(spread.as_millis() as u64));
        now.at + (timing.reneg - early)
    }
}

/// What makes a session known to the other side.
struct Identity {
    local: SessionId,
    remote: Option<SessionId>,
    own_id: Option<PeerId>,
    wrap: Wrap,
    base_key: Option<Arc<StaticKey>>,
}

/// The peer-id that we ask for: a server's is its index of the client, others draw one.
fn own_id(side: &Side, setup: &Setup) -> Option<PeerId> {
    setup.capabilities.asymmetric_ids.then(|| match side {
        Side::Server(_) => setup.peer.id,
        Side::Client(_) | Side::Peer(_) => {
            let id = setup.entropy.fork(Purpose::PeerId, 0).below(u64::from(PeerId::UNDEFINED.get()));
            PeerId::from_low_bits(id as u32)
        }
    })
}

fn draw_session_id(entropy: &mut EntropyStream) -> SessionId {
    loop {
        let mut bytes = [0; 8];
        entropy.fill(&mut bytes);
        if let Some(id) = SessionId::new(bytes) {
            return id;
        }
    }
}

/// What an exchange is started from.
struct Parts<'a> {
    side: &'a Side,
    capabilities: Capabilities,
    path: &'a Path,
    own_id: Option<PeerId>,
    source: &'a mut EntropyStream,
}

impl Parts<'_> {
    fn exchange(self, now: Now, key: KeyId, opening: Opening) -> Result<Exchange, ConnectError> {
        let channel = self.side.channel();
        let timeout = channel.timing.tls_timeout;
        if self.side.tls_role() == TlsRole::Server {
            let tls = channel.tls.server(now.unix).map_err(ConnectError::Tls)?;
            let source = ServerSource::generate(self.source);
            return Ok(Exchange::server(now.at, key, opening, timeout, tls, source));
        }
        let tls = channel.tls.client(now.unix).map_err(ConnectError::Tls)?;
        let login = match self.side {
            Side::Client(client) => {
                client.credentials.as_ref().map(|c| (c.username.clone(), c.password.clone()))
            }
            Side::Server(_) | Side::Peer(_) => None,
        };
        let greeting = Greeting {
            source: ClientSource::generate(self.source),
            options: negotiate::options_string(self.side, self.path, None),
            login,
            peer_info: negotiate::peer_info(self.side, self.capabilities, self.own_id),
        };
        let reset = match opening {
            Opening::Send(reset) => reset,
            Opening::Done => Opcode::HardResetClientV2,
        };
        Exchange::client(now.at, key, reset, timeout, tls, greeting).ok_or(ConnectError::PeerInfoTooLong)
    }
}
