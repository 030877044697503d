//! What the interface asks of the program, and what the program tells it.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::net::SocketAddr;

use oxivpn_profile::profile::{AuthRetry, Protocol};
use zeroize::Zeroizing;

use crate::client::Signal;

/// Something for the program to do. Where a variant says so the client waits for [`super::Manage::answer`].
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// The status table in this version, 1 to 3. Answer: [`Answer::Text`], as [`crate::status::render`] makes it.
    Status {
        /// Version of the table.
        version: u8,
    },
    /// Sums of the whole process. Answer: [`Answer::Load`].
    LoadStats,
    /// How many clients a server has. Answer: [`Answer::Count`].
    Clients,
    /// End sessions of a server. Answer: [`Answer::Count`], how many there were.
    Kill(Victim),
    /// End a client's session, with a message (`RESTART` if there is none). Answer: done or failed.
    ClientKill {
        /// Which client.
        cid: u64,
        /// What to send, such as `HALT,reason`.
        message: Option<String>,
    },
    /// Let a client in that a [`ClientNews::Connect`] or [`ClientNews::Reauth`] asked about. Answer: done or failed.
    ClientAuth {
        /// Which client.
        cid: u64,
        /// Which of its keys.
        kid: u64,
        /// Options as in a file of `client-config-dir`, one in each line; `None` for `client-auth-nt`.
        lines: Option<Vec<String>>,
    },
    /// Refuse it. Answer: done or failed.
    ClientDeny {
        /// Which client.
        cid: u64,
        /// Which of its keys.
        kid: u64,
        /// For the log.
        reason: String,
        /// For the client, in `AUTH_FAILED`.
        client_reason: Option<String>,
    },
    /// Tell it that the verdict takes a while. Answer: done or failed.
    ClientPending {
        /// Which client.
        cid: u64,
        /// Which of its keys.
        kid: u64,
        /// For `INFO_PRE`, such as `WEB_AUTH::https://..`.
        extra: String,
        /// How long it may take.
        timeout: Duration,
    },
    /// Change options of one client, or of all if there is no `cid`. Answer: done or failed.
    PushUpdate {
        /// Which client.
        cid: Option<u64>,
        /// Options, with commas between them.
        options: String,
    },
    /// Send `CR_RESPONSE` with this (base64) to the server. Answer: done or failed.
    CrResponse(Zeroizing<String>),
    /// How many servers the profile has. Answer: [`Answer::Count`].
    RemoteCount,
    /// Servers `from..to` of the profile, cut to those that are there. Answer: [`Answer::Lines`], such as
    /// `0,vpn.example.com,1194,udp,enabled`.
    Remotes {
        /// First.
        from: usize,
        /// One after the last.
        to: usize,
    },
    /// Act as on a signal. No answer.
    Signal {
        /// Which one, after `remap-usr1`.
        signal: Signal,
        /// Why, if no command asked for it: `management-disconnect`, `management-exit`.
        soft: Option<&'static str>,
    },
    /// Go on after [`super::Manage::hold`]. No answer.
    HoldRelease,
    /// All that [`super::Manage::ask`] asked for. No answer.
    Entered(Entered),
    /// Forget what was typed, and tokens. No answer.
    ForgetPasswords,
    /// Change `auth-retry`. No answer.
    AuthRetry(AuthRetry),
    /// Change `verb`. No answer.
    Verb(u8),
    /// Change `mute`. No answer.
    Mute(u32),
    /// It is time for [`Notice::ByteCount`], or one [`Notice::ByteCountClient`] for each client. No answer.
    ByteCounts,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages and options may be somebody's secret.
        let name = match self {
            Self::Status { .. } => "Status",
            Self::LoadStats => "LoadStats",
            Self::Clients => "Clients",
            Self::Kill(_) => "Kill",
            Self::ClientKill { .. } => "ClientKill",
            Self::ClientAuth { .. } => "ClientAuth",
            Self::ClientDeny { .. } => "ClientDeny",
            Self::ClientPending { .. } => "ClientPending",
            Self::PushUpdate { .. } => "PushUpdate",
            Self::CrResponse(_) => "CrResponse",
            Self::RemoteCount => "RemoteCount",
            Self::Remotes { .. } => "Remotes",
            Self::Signal { .. } => "Signal",
            Self::HoldRelease => "HoldRelease",
            Self::Entered(_) => "Entered",
            Self::ForgetPasswords => "ForgetPasswords",
            Self::AuthRetry(_) => "AuthRetry",
            Self::Verb(_) => "Verb",
            Self::Mute(_) => "Mute",
            Self::ByteCounts => "ByteCounts",
        };
        f.write_str(name)
    }
}

/// Whom `kill` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Victim {
    /// All clients with this common name.
    Name(String),
    /// The client at this outer address.
    Address {
        /// Its transport; `None` for either.
        protocol: Option<Protocol>,
        /// Its address.
        address: SocketAddr,
    },
}

/// Answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It could not be done.
    Failed,
    /// Lines that end in `\n`, among them their own end mark.
    Text(String),
    /// Lines without end mark.
    Lines(Vec<String>),
    /// A number.
    Count(usize),
    /// For [`Request::LoadStats`].
    Load {
        /// Clients of a server; 0 for a client.
        clients: usize,
        /// Bytes received.
        received: u64,
        /// Bytes sent.
        sent: u64,
    },
}

/// A question for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What for: `Auth`, `Private Key`.
    pub kind: String,
    /// Whether a user name is wanted too.
    pub username: bool,
    /// Text and flags of a static challenge.
    pub challenge: Option<Challenge>,
}

/// `static-challenge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What to show.
    pub text: String,
    /// Whether the response may be seen while it is typed.
    pub echo: bool,
    /// Whether the response follows the password without more ado, rather than in base64 after `SCRV1`.
    pub concat: bool,
}

/// What a person entered.
#[derive(Clone, PartialEq, Eq)]
pub struct Entered {
    /// As in the question.
    pub kind: String,
    /// User name, empty if none was wanted.
    pub username: String,
    /// Password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// State of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are OpenVPN's, and management-notes.txt describes them")]
pub enum State {
    Connecting,
    Resolve,
    TcpConnect,
    Wait,
    Auth,
    AuthPending,
    GetConfig,
    AssignIp,
    AddRoutes,
    Connected,
    Reconnecting,
    Exiting,
}

impl State {
    /// OpenVPN's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "CONNECTING",
            Self::Resolve => "RESOLVE",
            Self::TcpConnect => "TCP_CONNECT",
            Self::Wait => "WAIT",
            Self::Auth => "AUTH",
            Self::AuthPending => "AUTH_PENDING",
            Self::GetConfig => "GET_CONFIG",
            Self::AssignIp => "ASSIGN_IP",
            Self::AddRoutes => "ADD_ROUTES",
            Self::Connected => "CONNECTED",
            Self::Reconnecting => "RECONNECTING",
            Self::Exiting => "EXITING",
        }
    }

    /// Whether servers have it.
    pub(super) const fn is_of_servers(self) -> bool {
        matches!(
            self,
            Self::Connecting
                | Self::AssignIp
                | Self::AddRoutes
                | Self::Connected
                | Self::Reconnecting
                | Self::Exiting
        )
    }
}

/// What a change of state shows beside its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateDetails<'t> {
    /// Reason or result: `SUCCESS`, `ping-restart`.
    pub detail: &'t str,
    /// Own inner address.
    pub ip4: Option<Ipv4Addr>,
    /// Own inner address.
    pub ip6: Option<Ipv6Addr>,
    /// The server's outer address.
    pub remote: Option<SocketAddr>,
    /// Own outer address, if bound.
    pub local: Option<SocketAddr>,
}

/// Something that a client of the interface is told without having asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'t> {
    /// `>BYTECOUNT`: bytes received and sent on the link since the start.
    ByteCount {
        /// Received.
        received: u64,
        /// Sent.
        sent: u64,
    },
    /// `>BYTECOUNT_CLI`.
    ByteCountClient {
        /// Which client.
        cid: u64,
        /// Received from it.
        received: u64,
        /// Sent to it.
        sent: u64,
    },
    /// `>PASSWORD:Verification Failed`.
    VerificationFailed {
        /// `Auth` or `Private Key`.
        kind: &'t str,
        /// The server's words, among them `CRV1:..` challenges.
        reason: Option<&'t str>,
    },
    /// `>PASSWORD:Auth-Token`.
    AuthToken(&'t str),
    /// `>INFOMSG`: what follows `INFO,` or `INFO_PRE,` in a control message.
    InfoMessage(&'t str),
    /// `>CLIENT` with its environment; of a server with `management-client-auth`.
    Client {
        /// What happened.
        news: ClientNews<'t>,
        /// How many clients there are.
        clients: usize,
        /// Environment, as a script would get it. Not shown for [`ClientNews::Address`].
        env: &'t [(&'t str, &'t str)],
    },
    /// `>UPDOWN`, with `management-up-down`.
    UpDown {
        /// `UP` or `DOWN`.
        word: &'t str,
        /// Environment of the script.
        env: &'t [(String, String)],
    },
}

/// What happened to a client of a server. `cid` is a number of its own for each session, from 0; `kid` numbers the
/// keys of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the same everywhere, and described above")]
pub enum ClientNews<'t> {
    /// It logs in: let it in or not.
    Connect { cid: u64, kid: u64 },
    /// It logs in again with a new key: as above.
    Reauth { cid: u64, kid: u64 },
    /// Its tunnel stands.
    Established { cid: u64 },
    /// It is gone.
    Disconnect { cid: u64 },
    /// It has an inner address (`primary`) or network (`10.1.0.0/255.255.0.0`).
    Address { cid: u64, address: &'t str, primary: bool },
    /// It answered a challenge, in base64.
    CrResponse { cid: u64, kid: u64, response: &'t str },
}
