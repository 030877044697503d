//! One key negotiation: its own reliable layer, its own TLS connection, one key-id.
//!
//! ```text
//! Reset ──own reset acked, peer's received──► Handshake
//!   client: ──TLS ready, own key method 2 written──► SentKey ──server's read──► GotKey
//!   server: ──TLS ready, client's key method 2 read──► Asked ──own written──► GotKey
//! GotKey ──all own packets acked──► Active
//! ```

use core::time::Duration;
use std::collections::VecDeque;

use zeroize::{Zeroize, Zeroizing};

use crate::clock::Instant;
use crate::keys::data_key::TlsRole;
use crate::keys::method2::{
    ClientMessage, ClientSource, Introduction, Method2Error, ServerMessage, ServerSource,
};
use crate::keys::prf;
use crate::limits::{MAX_QUEUED_MESSAGES, MAX_TLS_PLAINTEXT};
use crate::reliable::{Accept, AckDebt, Incoming, ReliableRecv, ReliableSend};
use crate::session::negotiate::PeerHello;
use crate::tls::{TlsFailure, TlsPhase, TlsSession};
use crate::wire::ack::AckList;
use crate::wire::ids::{KeyId, MessageId, SessionId};
use crate::wire::opcode::Opcode;

/// How far a negotiation is (`openvpn: ssl_common.h`, `S_PRE_START` to `S_ACTIVE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Reset,
    Handshake,
    /// Client: our message is written.
    SentKey,
    /// Server: the client's message is read, ours is to be written.
    Asked,
    /// Both messages are through TLS.
    GotKey,
    Active,
}

/// Why a negotiation failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Tls(TlsFailure),
    Protocol(&'static str),
}

/// What goes into a client's key-method-2 message.
pub(crate) struct Greeting {
    pub(crate) source: ClientSource,
    pub(crate) options: String,
    pub(crate) login: Option<(String, Zeroizing<String>)>,
    pub(crate) peer_info: String,
}

/// User name and password that a client sent.
pub(crate) struct ReceivedLogin {
    /// Both are there, though one may be empty.
    pub(crate) given: bool,
    pub(crate) username: String,
    pub(crate) password: Zeroizing<String>,
    /// One of them was longer than the protocol allows, and is not here.
    pub(crate) too_long: bool,
}

/// Our secrets of key method 2, and the peer's.
enum Secrets {
    Client {
        own: ClientSource,
        server: Option<ServerSource>,
    },
    Server {
        own: ServerSource,
        client: Option<ClientSource>,
    },
    /// Keys were derived.
    Gone,
}

/// How the two resets went before there was state.
pub(crate) enum Opening {
    /// Ours is to be sent with this opcode.
    Send(Opcode),
    /// Both are through: the other side answered a stateless one.
    Done,
}

/// Sizes that change from packet to packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// TLS bytes that fit one packet.
    pub(crate) payload: usize,
    /// Bytes to leave free in message 1 for the wrapped client key, if the server asked for it.
    pub(crate) resend_wkc: Option<usize>,
}

pub(crate) struct Exchange {
    key: KeyId,
    state: State,
    started: Instant,
    /// When it became active.
    active_at: Option<Instant>,
    peer_reset: bool,
    send: ReliableSend,
    recv: ReliableRecv,
    acks: AckDebt,
    tls: Box<dyn TlsSession>,
    /// TLS bytes that wait for room in the send window.
    backlog: Vec<u8>,
    role: TlsRole,
    secrets: Secrets,
    /// A client's message, until TLS can take it.
    greeting: Option<Zeroizing<Vec<u8>>>,
    /// The peer's message as far as it has come.
    partial: Zeroizing<Vec<u8>>,
    hello: Option<PeerHello>,
    login: Option<ReceivedLogin>,
    /// Records with control messages, held until the exchange is active.
    records: VecDeque<Zeroizing<Vec<u8>>>,
    /// Our own control messages, until the key method messages are through.
    unsent: VecDeque<Zeroizing<Vec<u8>>>,
}

impl Exchange {
    /// Starts a client's negotiation by queueing `reset`. `None` if the greeting is too long for the protocol.
    pub(crate) fn client(
        now: Instant,
        key: KeyId,
        reset: Opcode,
        timeout: Duration,
        tls: Box<dyn TlsSession>,
        greeting: Greeting,
    ) -> Option<Self> {
        let message = ClientMessage {
            source: &greeting.source,
            options: &greeting.options,
            login: greeting.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str())),
            peer_info: &greeting.peer_info,
        }
        .emit()?;
        let secrets = Secrets::Client { own: greeting.source, server: None };
        let mut exchange = Self::new(now, key, Opening::Send(reset), timeout, tls, secrets);
        exchange.greeting = Some(message);
        Some(exchange)
    }

    /// Starts a server's negotiation.
    pub(crate) fn server(
        now: Instant,
        key: KeyId,
        opening: Opening,
        timeout: Duration,
        tls: Box<dyn TlsSession>,
        source: ServerSource,
    ) -> Self {
        Self::new(now, key, opening, timeout, tls, Secrets::Server { own: source, client: None })
    }

    fn new(
        now: Instant,
        key: KeyId,
        opening: Opening,
        timeout: Duration,
        tls: Box<dyn TlsSession>,
        secrets: Secrets,
    ) -> Self {
        let done = matches!(opening, Opening::Done);
        let role = match secrets {
            Secrets::Client { .. } => TlsRole::Client,
            Secrets::Server { .. } | Secrets::Gone => TlsRole::Server,
        };
        let (send, recv) = match opening {
            Opening::Send(reset) => {
                let mut send = ReliableSend::new(timeout);
                send.push(now, reset, Vec::new());
                (send, ReliableRecv::new())
            }
            Opening::Done => {
                (ReliableSend::with_first(MessageId(1), timeout), ReliableRecv::starting_at(MessageId(1)))
            }
        };
        Self {
            key,
            state: State::Reset,
            started: now,
            active_at: None,
            peer_reset: done,
            send,
            recv,
            acks: AckDebt::default(),
            tls,
            backlog: Vec::new(),
            role,
            secrets,
            greeting: None,
            partial: Zeroizing::default(),
            hello: None,
            login: None,
            records: VecDeque::new(),
            unsent: VecDeque::new(),
        }
    }

    pub(crate) fn key(&self) -> KeyId {
        self.key
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn active_at(&self) -> Option<Instant> {
        self.active_at
    }

    pub(crate) fn tls(&mut self) -> &mut dyn TlsSession {
        &mut *self.tls
    }

    /// What the peer said of itself.
    pub(crate) fn hello(&self) -> Option<&PeerHello> {
        self.hello.as_ref()
    }

    /// User name and password of a client; only once.
    pub(crate) fn take_login(&mut self) -> Option<ReceivedLogin> {
        self.login.take()
    }

    /// The key block by the PRF, while both sides' secrets are there.
    pub(crate) fn derive_prf(&self, local: SessionId, remote: SessionId) -> Option<Zeroizing<[u8; 256]>> {
        match &self.secrets {
            Secrets::Client { own, server: Some(server) } => {
                Some(prf::derive_block(own, server, local, remote))
            }
            Secrets::Server { own, client: Some(client) } => {
                Some(prf::derive_block(client, own, remote, local))
            }
            Secrets::Client { .. } | Secrets::Server { .. } | Secrets::Gone => None,
        }
    }

    /// Nothing will be derived any more: forgets what it would take, and gives spare memory back.
    pub(crate) fn settle(&mut self) {
        self.secrets = Secrets::Gone;
        self.login = None;
        self.tls.settle();
        self.backlog.shrink_to_fit();
        self.records.shrink_to_fit();
        self.unsent.shrink_to_fit();
        self.send.shrink();
        self.recv.shrink();
    }

    /// The peer's reset arrived; all outstanding packets go out again at once, as it now listens.
    pub(crate) fn on_peer_reset(&mut self, now: Instant) {
        if !self.peer_reset {
            self.peer_reset = true;
            self.send.expedite(now);
        }
    }

    pub(crate) fn acknowledge(&mut self, acks: &AckList) {
        self.send.acknowledge(acks);
    }

    /// Takes a reliable packet. What is accepted or a duplicate is owed an ack; if too many are owed
    /// already, the peer has to send it again.
    pub(crate) fn accept(&mut self, message: MessageId, opcode: Opcode, payload: &[u8]) -> Accept {
        let accept = self.recv.accept(message, opcode, payload);
        match accept {
            Accept::New | Accept::Duplicate => {
                self.acks.owe(message);
            }
            Accept::OutOfWindow => {}
        }
        accept
    }

    /// Goes as far as what has arrived allows.
    pub(crate) fn advance(&mut self, now: Instant, sizes: Sizes) -> Result<(), Failure> {
        if self.state == State::Reset && self.peer_reset && self.send.is_empty() {
            self.state = State::Handshake;
        }
        while let Some(Incoming { opcode, payload, .. }) = self.recv.pop() {
            if !opcode.is_reset()
                && let Err(failure) = self.tls.feed(&payload)
            {
                self.queue_tls(now, sizes);
                return Err(Failure::Tls(failure));
            }
        }
        if self.state == State::Handshake
            && self.tls.phase() == TlsPhase::Ready
            && let Some(message) = self.greeting.take()
        {
            self.tls.write_record(&message).map_err(Failure::Tls)?;
            self.state = State::SentKey;
        }
        self.read_records()?;
        if self.state >= State::GotKey {
            self.write_unsent()?;
        }
        if self.state >= State::Handshake {
            self.queue_tls(now, sizes);
        }
        if self.state == State::GotKey && self.is_flushed() {
            self.state = State::Active;
            self.active_at = Some(now);
        }
        Ok(())
    }

    /// The peer was seen to have everything that was sent; whether that made the exchange active.
    pub(crate) fn conclude(&mut self, now: Instant) -> bool {
        let flushed = self.backlog.is_empty() && self.tls.phase() == TlsPhase::Ready;
        let missing_acks_only = self.state == State::GotKey && flushed;
        if missing_acks_only {
            self.state = State::Active;
            self.active_at = Some(now);
        }
        missing_acks_only
    }

    fn read_records(&mut self) -> Result<(), Failure> {
        loop {
            let mut record = Zeroizing::new(Vec::new());
            if !self.tls.read_record(&mut record) {
                return Ok(());
            }
            match self.state {
                State::Handshake if self.role == TlsRole::Server => self.read_client_message(&record)?,
                State::Reset | State::Handshake => {
                    return Err(Failure::Protocol("application data before the TLS handshake was done"));
                }
                State::SentKey => self.read_server_message(&record)?,
                State::Asked | State::GotKey | State::Active => {
                    if self.records.len() >= MAX_QUEUED_MESSAGES {
                        return Err(Failure::Protocol("too many control messages at once"));
                    }
                    self.records.push_back(record);
                }
            }
        }
    }

    /// Adds to the peer's message. Bytes that grow where they are may leave copies behind.
    fn gather(&mut self, record: &[u8]) {
        let mut whole = Zeroizing::new(Vec::with_capacity(self.partial.len() + record.len()));
        whole.extend_from_slice(&self.partial);
        whole.extend_from_slice(record);
        self.partial = whole;
    }

    fn read_server_message(&mut self, record: &[u8]) -> Result<(), Failure> {
        self.gather(record);
        match ServerMessage::parse(&self.partial) {
            Ok(ServerMessage { source, options, peer_info }) => {
                self.hello = Some(PeerHello { options, peer_info });
                if let Secrets::Client { server, .. } = &mut self.secrets {
                    *server = Some(source);
                }
                self.partial = Zeroizing::default();
                self.state = State::GotKey;
                Ok(())
            }
            Err(Method2Error::Incomplete) if self.partial.len() < MAX_TLS_PLAINTEXT => Ok(()),
            Err(Method2Error::Incomplete | Method2Error::TooLong) => {
                Err(Failure::Protocol("the server's key method 2 message is malformed"))
            }
            Err(Method2Error::Method) => Err(Failure::Protocol("the server does not speak key method 2")),
        }
    }

    fn read_client_message(&mut self, record: &[u8]) -> Result<(), Failure> {
        self.gather(record);
        match Introduction::parse(&self.partial) {
            Ok(introduction) => {
                let Introduction {
                    source,
                    options,
                    login_given,
                    username,
                    password,
                    login_too_long,
                    peer_info,
                } = introduction;
                self.hello = Some(PeerHello { options, peer_info });
                self.login =
                    Some(ReceivedLogin { given: login_given, username, password, too_long: login_too_long });
                if let Secrets::Server { client, .. } = &mut self.secrets {
                    *client = Some(source);
                }
                self.partial = Zeroizing::default();
                self.state = State::Asked;
                Ok(())
            }
            Err(Method2Error::Incomplete) if self.partial.len() < MAX_TLS_PLAINTEXT => Ok(()),
            Err(Method2Error::Incomplete | Method2Error::TooLong) => {
                Err(Failure::Protocol("the client's key method 2 message is malformed"))
            }
            Err(Method2Error::Method) => Err(Failure::Protocol("the client does not speak key method 2")),
        }
    }

    /// Answers the client's message with ours.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        options: String,
        peer_info: String,
        sizes: Sizes,
    ) -> Result<(), Failure> {
        let Secrets::Server { own, client } = core::mem::replace(&mut self.secrets, Secrets::Gone) else {
            return Ok(());
        };
        let message = ServerMessage { source: own, options, peer_info };
        let text = message.emit().ok_or(Failure::Protocol("our key method 2 message is too long"))?;
        self.secrets = Secrets::Server { own: message.source, client };
        self.tls.write_record(&text).map_err(Failure::Tls)?;
        self.state = State::GotKey;
        self.write_unsent()?;
        self.queue_tls(now, sizes);
        Ok(())
    }

    /// Cuts waiting TLS bytes into packets as far as the window allows.
    fn queue_tls(&mut self, now: Instant, sizes: Sizes) {
        self.tls.drain(&mut self.backlog);
        let mut sent = 0;
        while sent < self.backlog.len() && self.send.can_push() {
            let first = self.send.next_message() == MessageId(1);
            let (opcode, room) = match sizes.resend_wkc.filter(|_| first) {
                Some(wkc) => (Opcode::ControlWkcV1, sizes.payload.saturating_sub(wkc).max(16)),
                None => (Opcode::ControlV1, sizes.payload),
            };
            let len = room.min(self.backlog.len() - sent);
            self.send.push(now, opcode, self.backlog[sent..sent + len].to_vec());
            sent += len;
        }
        self.backlog.drain(..sent);
    }

    /// Whether everything that was sent has been acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        self.backlog.is_empty() && self.send.is_empty()
    }

    /// The next record with control messages; only once active.
    pub(crate) fn pop_record(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        if self.state == State::Active { self.records.pop_front() } else { None }
    }

    /// Sends a control message as one record. Before the key method messages are through it waits for them: the key
    /// before is no way round, as OpenVPN reads nothing under it any more once it knows of this negotiation
    /// (`openvpn: ssl.c`, `tls_send_payload`, `tls_pre_decrypt`).
    pub(crate) fn send_message(&mut self, now: Instant, text: &str, sizes: Sizes) -> Result<(), Failure> {
        let mut record = Zeroizing::new(Vec::with_capacity(text.len() + 1));
        record.extend_from_slice(text.as_bytes());
        record.push(0);
        self.unsent.push_back(record);
        if self.state >= State::GotKey {
            self.write_unsent()?;
            self.queue_tls(now, sizes);
        }
        Ok(())
    }

    fn write_unsent(&mut self) -> Result<(), Failure> {
        while let Some(record) = self.unsent.pop_front() {
            self.tls.write_record(&record).map_err(Failure::Tls)?;
        }
        Ok(())
    }

    pub(crate) fn reliable(&mut self) -> (&mut ReliableSend, &mut AckDebt) {
        (&mut self.send, &mut self.acks)
    }

    pub(crate) fn retransmit_at(&self) -> Option<Instant> {
        self.send.deadline()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.backlog.zeroize();
    }
}

#[cfg(test)]
mod tests;
