//! What the application wants to know, or must act upon.

pub mod login;

use core::fmt;

use zeroize::Zeroizing;

use crate::config::params::DataParams;
use crate::directive::PeerRef;
use crate::handle::SessionHandle;
use crate::options::pushed::Pushed;
use crate::tls::{PeerIdentity, TlsFailure};
use crate::wire::ids::{KeyId, SessionId};
use login::{Admission, AdmitTicket, Login, LoginTicket};

/// News from a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The first valid answer of the server arrived.
    Reached {
        /// Which session.
        session: SessionHandle,
        /// The server's session id, for the log.
        remote: SessionId,
    },
    /// The server's certificate was accepted and TLS is up, for the first or a further key.
    TlsReady {
        /// Which session.
        session: SessionHandle,
        /// Who the server is.
        peer: Option<PeerIdentity>,
        /// Version and suite.
        description: String,
        /// Which key.
        key: KeyId,
    },
    /// Key exchange done, the configuration is being asked for.
    AwaitingConfig(SessionHandle),
    /// A PUSH_REPLY arrived, the only one or a part: its text for the log, session tokens left out.
    PushReply {
        /// Which session.
        session: SessionHandle,
        /// The whole message.
        text: String,
    },
    /// The whole PUSH_REPLY arrived: set the host up with it. Data flows as soon as the device exists.
    Configure {
        /// Which session.
        session: SessionHandle,
        /// Options in the order they came, after `pull-filter`.
        options: Vec<Pushed>,
        /// Options that are unknown or malformed, as text, for a warning.
        ignored: Vec<String>,
    },
    /// The data channel is ready.
    Established {
        /// Which session.
        session: SessionHandle,
        /// Its peer in the data plane.
        peer: PeerRef,
        /// What was negotiated.
        params: DataParams,
        /// Inner MTU: pushed or configured.
        tun_mtu: u16,
        /// Which features are on, for the log: `cc-exit tls-ekm dyn-tls-crypt aead-epoch`.
        flags: String,
    },
    /// A further key is in use.
    Rekeyed {
        /// Which session.
        session: SessionHandle,
        /// The new key.
        key: KeyId,
    },
    /// The control channel is dead, on a listening side; data goes on under the keys that exist until the other side
    /// negotiates anew or comes back, `tran-window` at most.
    ControlLost {
        /// Which session.
        session: SessionHandle,
        /// Of what it died.
        cause: CloseCause,
    },
    /// The server moved (`float`).
    Floated {
        /// Which session.
        session: SessionHandle,
        /// Where it is now.
        to: crate::Path,
    },
    /// A session token to use in place of the password from now on, also for later connections.
    Token {
        /// Which session.
        session: SessionHandle,
        /// User name that goes with it, if another one.
        username: Option<String>,
        /// The token.
        token: Zeroizing<String>,
    },
    /// Text from the server to show (`INFO`, `INFO_PRE`, `AUTH_PENDING`).
    Message {
        /// Which session.
        session: SessionHandle,
        /// The whole message.
        text: String,
    },
    /// A client or peer came to the listening side and proved that it is where its packets come from.
    Incoming {
        /// Which session.
        session: SessionHandle,
        /// From where.
        path: crate::Path,
        /// The client's session id, for the log.
        remote: SessionId,
    },
    /// What came on this byte stream is of no session, and makes none. OpenVPN closes such a connection
    /// (`openvpn: forward.c`, `check_tls_errors_co`).
    Unwelcome(crate::StreamId),
    /// Answer with [`Node::answer_login`](crate::Node::answer_login).
    Login(LoginTicket, Box<Login>),
    /// Answer with [`Node::admit`](crate::Node::admit).
    Admit(AdmitTicket, Box<Admission>),
    /// A PUSH_REPLY or PUSH_UPDATE was sent: its text for the log, session tokens left out.
    Pushed {
        /// Which session.
        session: SessionHandle,
        /// The whole message.
        text: String,
    },
    /// The client's answer to a challenge (`CR_RESPONSE`), still in base64.
    ChallengeResponse {
        /// Which session.
        session: SessionHandle,
        /// Text after the comma.
        response: Zeroizing<String>,
    },
    /// The cipher negotiation of a point-to-point tunnel is done.
    PeerNegotiated {
        /// Which session.
        session: SessionHandle,
        /// The line that OpenVPN prints: `TLS_export=1, DATA_v2=1, peer-id 1234, epoch_data=1, cipher=AES-256-GCM`.
        summary: String,
    },
    /// The other side's packets are of no use, by its configuration or ours: a line for the user, with the cure.
    Warning {
        /// Which session.
        session: SessionHandle,
        /// What is wrong.
        text: String,
    },
    /// The session is over; its handle is invalid from now on.
    Closed {
        /// Which session.
        session: SessionHandle,
        /// Why.
        cause: CloseCause,
    },
}

impl Event {
    /// Whether nothing has to be done about it, so that it may be lost if nobody drains events.
    pub(crate) const fn is_informative(&self) -> bool {
        match self {
            Self::TlsReady { .. }
            | Self::PushReply { .. }
            | Self::Rekeyed { .. }
            | Self::ControlLost { .. }
            | Self::Floated { .. }
            | Self::Incoming { .. }
            | Self::Unwelcome(_)
            | Self::Pushed { .. }
            | Self::PeerNegotiated { .. }
            | Self::Warning { .. }
            | Self::Message { .. } => true,
            Self::Reached { .. }
            | Self::AwaitingConfig(_)
            | Self::Configure { .. }
            | Self::Established { .. }
            | Self::Token { .. }
            | Self::Login(..)
            | Self::Admit(..)
            | Self::ChallengeResponse { .. }
            | Self::Closed { .. } => false,
        }
    }
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCause {
    /// We were told to close it.
    Local,
    /// No answer at all within `server-poll-timeout`.
    ServerPoll,
    /// Key negotiation did not finish within `hand-window`.
    HandWindow,
    /// No PUSH_REPLY came.
    NoPushReply,
    /// Nothing arrived for `ping-restart`.
    PingRestart,
    /// Nothing arrived for `ping-exit`.
    PingExit,
    /// Less traffic than `inactive` demands.
    Inactive,
    /// The data plane did not answer, a minute long: there is no telling whether the tunnel works.
    PlaneSilent,
    /// `session-timeout` is over.
    SessionTimeout,
    /// TLS failed.
    Tls(TlsFailure),
    /// The server refused our credentials; text after `AUTH_FAILED,`.
    AuthFailed {
        /// Reason as sent, without the leading comma; empty if none.
        reason: String,
        /// Whether the credentials that failed were a token.
        was_token: bool,
    },
    /// `AUTH_FAILED,TEMP`: try again.
    AuthTemporary {
        /// Wait at least so many seconds.
        backoff: Option<u32>,
        /// Where to try next.
        advance: Advance,
        /// Text for a person.
        reason: String,
    },
    /// `RESTART`: connect again.
    Restart {
        /// `[P]`: keep the credentials.
        keep_credentials: bool,
        /// `[N]`: go to the next server.
        advance: bool,
        /// Text for a person.
        reason: String,
    },
    /// `HALT`: do not connect again.
    Halt {
        /// Text for a person.
        reason: String,
    },
    /// The server said that it leaves.
    PeerExit,
    /// The negotiated cipher is not allowed or none is common.
    Cipher(String),
    /// A pushed option was refused by `pull-filter reject`.
    RejectedOption(String),
    /// The server pushed something we cannot obey.
    Push(String),
    /// The application refused the client, or its token was refused: text after `AUTH_FAILED,`, or empty.
    Denied(String),
    /// The application did not answer a question within `hand-window`.
    Unanswered,
    /// The same client connected anew, or floated onto this one's address; or a handshake gave way to that of another
    /// client, because there were too many.
    Replaced,
    /// The byte stream ended.
    StreamClosed,
    /// The peer broke the protocol.
    Protocol(&'static str),
}

/// Where to try next after a temporary refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Advance {
    /// Same address.
    #[default]
    No,
    /// Next address of the same remote.
    Address,
    /// Next remote.
    Remote,
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed by this side"),
            Self::ServerPoll => f.write_str("no answer from the server"),
            Self::HandWindow => f.write_str("TLS key negotiation did not finish in time"),
            Self::NoPushReply => f.write_str("no PUSH_REPLY from the server"),
            Self::PingRestart => f.write_str("ping-restart"),
            Self::PingExit => f.write_str("ping-exit"),
            Self::Inactive => f.write_str("inactive"),
            Self::PlaneSilent => f.write_str("the data plane does not answer"),
            Self::SessionTimeout => f.write_str("session-timeout"),
            Self::Tls(failure) => write!(f, "TLS failed: {failure}"),
            Self::AuthFailed { reason, .. } => write!(f, "AUTH_FAILED,{reason}"),
            Self::AuthTemporary { reason, .. } => write!(f, "AUTH_FAILED,TEMP:{reason}"),
            Self::Restart { reason, .. } => write!(f, "server asks for a restart {reason}"),
            Self::Halt { reason } => write!(f, "server asks to stop {reason}"),
            Self::PeerExit => f.write_str("remote-exit"),
            Self::Cipher(text) | Self::Push(text) => f.write_str(text),
            Self::RejectedOption(text) => write!(f, "offending option received from server: {text}"),
            Self::Denied(reason) => write!(f, "refused: AUTH_FAILED,{reason}"),
            Self::Unanswered => f.write_str("no verdict in time"),
            Self::Replaced => f.write_str("replaced by a newer connection of the same client"),
            Self::StreamClosed => f.write_str("connection closed by the other side"),
            Self::Protocol(text) => write!(f, "protocol error: {text}"),
        }
    }
}
