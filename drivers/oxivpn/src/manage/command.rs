//! Commands, one line each (`openvpn: manage.c`, `man_dispatch_command`).

use core::fmt;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use core::time::Duration;

use oxivpn_profile::profile::{AuthRetry, Protocol};
use zeroize::Zeroizing;

use super::history::HistoryOrder;
use super::request::Victim;
use crate::client::Signal;

/// A command with its parameters.
#[derive(PartialEq, Eq)]
pub(super) enum Command {
    AuthRetry(Option<AuthRetry>),
    ByteCount(Duration),
    Certificate,
    /// `client-auth`, which begins a block, and `client-auth-nt`, which doesn't.
    ClientAuth {
        cid: u64,
        kid: u64,
        block: bool,
    },
    ClientDeny {
        cid: u64,
        kid: u64,
        reason: String,
        client_reason: Option<String>,
    },
    ClientKill {
        cid: u64,
        message: Option<String>,
    },
    ClientPending {
        cid: u64,
        kid: u64,
        extra: String,
        timeout: Duration,
    },
    Clients,
    CrResponse(Zeroizing<String>),
    Echo(Vec<HistoryOrderOr>),
    EnvFilter(i64),
    Exit,
    ForgetPasswords,
    Help,
    Hold(Option<String>),
    Kill(Victim),
    LoadStats,
    Log(Vec<HistoryOrderOr>),
    Mute(Option<i64>),
    NeedOk,
    NeedString,
    Net,
    Password {
        kind: String,
        value: Option<Zeroizing<String>>,
    },
    Pid,
    Pkcs11Count,
    Pkcs11Get(i64),
    Proxy,
    PushUpdate {
        cid: Option<u64>,
        options: String,
    },
    Remote,
    RemoteCount,
    RemoteGet {
        from: usize,
        to: usize,
    },
    Signal {
        signal: Option<Signal>,
        word: String,
    },
    Signature(&'static str),
    State(Vec<HistoryOrderOr>),
    Status(i64),
    Test(i64),
    Username {
        kind: String,
        value: Zeroizing<String>,
    },
    Verb(Option<i64>),
    Version(Option<i64>),
}

/// An order to a history, or nothing that is one.
pub(super) type HistoryOrderOr = Option<HistoryOrder>;

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Command(..)")
    }
}

/// The number at the front of a word, as `sscanf` takes it.
pub(super) fn number(word: &str) -> Option<u64> {
    let end = word.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(word.len());
    word[..end].parse().ok()
}

/// As C's `atoi`: what is no number is 0.
fn integer(word: &str) -> i64 {
    match word.strip_prefix('-') {
        Some(rest) => number(rest).map_or(0, |n| i64::try_from(n).map_or(i64::MIN, |n| -n)),
        None => number(word).map_or(0, |n| i64::try_from(n).unwrap_or(i64::MAX)),
    }
}

/// The words after the command's name.
struct Words<'w> {
    name: &'w str,
    words: &'w [Zeroizing<String>],
}

impl<'w> Words<'w> {
    fn get(&self, index: usize) -> Option<&'w str> {
        self.words.get(index).map(|word| word.as_str())
    }

    fn owned(&self, index: usize) -> Option<String> {
        self.get(index).map(str::to_owned)
    }

    /// The first `N` parameters; `least` if more may follow.
    fn need<const N: usize>(&self, least: bool) -> Result<[&'w str; N], String> {
        if self.words.len() < N {
            let least = if least { "at least " } else { "" };
            let plural = if N > 1 { "s" } else { "" };
            return Err(format!("ERROR: the '{}' command requires {least}{N} parameter{plural}", self.name));
        }
        Ok(core::array::from_fn(|index| self.words[index].as_str()))
    }

    fn histories(&self) -> Vec<HistoryOrderOr> {
        self.words.iter().take(2).map(|word| HistoryOrder::parse(word)).collect()
    }
}

fn cid(word: &str) -> Result<u64, String> {
    number(word).ok_or_else(|| "ERROR: cannot parse CID".to_owned())
}

fn kid(word: &str) -> Result<u64, String> {
    number(word).ok_or_else(|| "ERROR: cannot parse KID".to_owned())
}

/// The command in a line of at least one word. The error is the reply.
pub(super) fn parse(line: &[Zeroizing<String>]) -> Result<Command, String> {
    let (name, words) = line.split_first().ok_or_else(unknown)?;
    let words = Words { name, words };
    Ok(match name.as_str() {
        "exit" | "quit" => Command::Exit,
        "help" => Command::Help,
        "version" => Command::Version(words.get(0).map(integer)),
        "pid" => Command::Pid,
        "nclients" => Command::Clients,
        "env-filter" => Command::EnvFilter(words.get(0).map_or(0, integer)),
        "signal" => {
            let [word] = words.need(false)?;
            Command::Signal { signal: signal(word), word: word.to_owned() }
        }
        "load-stats" => Command::LoadStats,
        "status" => Command::Status(words.get(0).map_or(0, integer)),
        "kill" => Command::Kill(victim(words.need::<1>(false)?[0])?),
        "verb" => Command::Verb(words.get(0).map(integer)),
        "mute" => Command::Mute(words.get(0).map(integer)),
        "auth-retry" => Command::AuthRetry(words.get(0).map(auth_retry).transpose()?),
        "state" if words.words.is_empty() => Command::State(vec![Some(HistoryOrder::Last(1))]),
        "state" => Command::State(words.histories()),
        "log" => {
            words.need::<1>(true)?;
            Command::Log(words.histories())
        }
        "echo" => {
            words.need::<1>(true)?;
            Command::Echo(words.histories())
        }
        "forget-passwords" => Command::ForgetPasswords,
        "net" => Command::Net,
        "hold" => Command::Hold(words.owned(0)),
        "bytecount" => {
            let [seconds] = words.need(false)?;
            Command::ByteCount(Duration::from_secs(u64::try_from(integer(seconds)).unwrap_or(0)))
        }
        _ => return questions(&words),
    })
}

/// Answers to questions, and the rest.
fn questions(words: &Words<'_>) -> Result<Command, String> {
    Ok(match words.name {
        "username" => {
            let [kind, value] = words.need(false)?;
            Command::Username { kind: kind.to_owned(), value: Zeroizing::new(value.to_owned()) }
        }
        "password" => {
            let Some(kind) = words.get(0) else {
                return Err("ERROR: the 'password' command requires 2 parameters".to_owned());
            };
            let value = words.owned(1).map(Zeroizing::new);
            Command::Password { kind: kind.to_owned(), value }
        }
        "needok" => words.need::<2>(false).map(|_| Command::NeedOk)?,
        "needstr" => words.need::<2>(false).map(|_| Command::NeedString)?,
        "cr-response" => Command::CrResponse(Zeroizing::new(words.need::<1>(false)?[0].to_owned())),
        "rsa-sig" => Command::Signature("rsa-sig"),
        "pk-sig" => Command::Signature("pk-sig"),
        "certificate" => Command::Certificate,
        "pkcs11-id-count" => Command::Pkcs11Count,
        "pkcs11-id-get" => Command::Pkcs11Get(integer(words.need::<1>(false)?[0])),
        "remote-entry-count" => Command::RemoteCount,
        "remote-entry-get" => {
            let [first] = words.need(true)?;
            let index = |word: &str| number(word).map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX));
            let from = index(first);
            let to = words.get(1).map_or_else(|| from.saturating_add(1), index);
            match first {
                "all" => Command::RemoteGet { from: 0, to: usize::MAX },
                _ => Command::RemoteGet { from, to },
            }
        }
        "proxy" => words.need::<1>(true).map(|_| Command::Proxy)?,
        "remote" => words.need::<1>(true).map(|_| Command::Remote)?,
        "test" => Command::Test(integer(words.need::<1>(false)?[0])),
        _ => return clients(words),
    })
}

/// Commands about the clients of a server.
fn clients(words: &Words<'_>) -> Result<Command, String> {
    Ok(match words.name {
        "client-kill" => {
            let [id] = words.need(true)?;
            Command::ClientKill { cid: cid(id)?, message: words.owned(1) }
        }
        "client-deny" => {
            let [id, key, reason] = words.need(true)?;
            let (cid, kid) = (cid(id)?, kid(key)?);
            Command::ClientDeny { cid, kid, reason: reason.to_owned(), client_reason: words.owned(3) }
        }
        name @ ("client-auth" | "client-auth-nt") => {
            let [id, key] = words.need(false)?;
            Command::ClientAuth { cid: cid(id)?, kid: kid(key)?, block: name == "client-auth" }
        }
        "client-pending-auth" => {
            let [id, key, extra, timeout] = words.need(false)?;
            let (cid, kid) = (cid(id)?, kid(key)?);
            let seconds = number(timeout).ok_or_else(|| "ERROR: cannot parse TIMEOUT".to_owned())?;
            Command::ClientPending {
                cid,
                kid,
                extra: extra.to_owned(),
                timeout: Duration::from_secs(seconds),
            }
        }
        "push-update-broad" => {
            let [options] = words.need(false)?;
            Command::PushUpdate { cid: None, options: options.to_owned() }
        }
        "push-update-cid" => {
            let [id, options] = words.need(false)?;
            Command::PushUpdate { cid: Some(cid(id)?), options: options.to_owned() }
        }
        _ => return Err(unknown()),
    })
}

fn unknown() -> String {
    "ERROR: unknown command, enter 'help' for more options".to_owned()
}

fn signal(word: &str) -> Option<Signal> {
    Some(match word {
        "SIGHUP" => Signal::Hup,
        "SIGTERM" => Signal::Term,
        "SIGUSR1" => Signal::Usr1,
        "SIGUSR2" => Signal::Usr2,
        "SIGINT" => Signal::Int,
        _ => return None,
    })
}

fn auth_retry(word: &str) -> Result<AuthRetry, String> {
    match word {
        "none" => Ok(AuthRetry::None),
        "interact" => Ok(AuthRetry::Interact),
        "nointeract" => Ok(AuthRetry::NoInteract),
        // Two lines, as OpenVPN answers.
        _ => Err("--auth-retry method must be 'interact', 'nointeract', or 'none'\nERROR: bad auth-retry parameter"
            .to_owned()),
    }
}

/// A name, or an address as 2.6 has it (`IP:port`), as later versions have it (`udp:IP:port`), or `[IPv6]:port`.
fn victim(word: &str) -> Result<Victim, String> {
    // Beyond OpenVPN, which has no way to name these.
    if let Ok(address) = word.parse::<SocketAddrV6>() {
        return Ok(Victim::Address { protocol: None, address: address.into() });
    }
    let mut parts = word.splitn(3, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (first, second, third) = (next(), next(), next());
    if first.is_empty() {
        return Err("ERROR: kill parse".to_owned());
    }
    if second.is_empty() {
        return Ok(Victim::Name(first.to_owned()));
    }
    let (protocol, ip, port) = match (first, third) {
        (_, "") => (None, first, second),
        ("tcp", _) => (Some(Protocol::Tcp), second, third),
        ("udp", _) => (Some(Protocol::Udp), second, third),
        _ => return Err(format!("ERROR: port number or protocol out of range: {third} {first}")),
    };
    let ip: Ipv4Addr = ip.parse().map_err(|_| format!("ERROR: error parsing IP address: {ip}"))?;
    match u16::try_from(number(port).unwrap_or(0)) {
        Ok(number) if number > 0 => {
            Ok(Victim::Address { protocol, address: SocketAddr::new(ip.into(), number) })
        }
        _ => Err(match protocol {
            None => format!("ERROR: port number is out of range: {port}"),
            Some(_) => format!("ERROR: port number or protocol out of range: {port} {first}"),
        }),
    }
}
