//! What is told without being asked: states, log lines, echoes, notices.

use core::fmt::Write as _;
use std::net::SocketAddr;

use super::super::codec::one_line;
use super::super::history::cut;
use super::super::request::{ClientNews, Notice, State, StateDetails};
use super::{Desk, Ending, Mode, Moment};
use crate::log::Level;

/// Variables that `env-filter 1` and `2` show, by the beginnings of their names (`openvpn: manage.c`,
/// `env_filter_match`).
const FILTERED: [&str; 16] = [
    "username",
    "password",
    "X509_0_CN",
    "tls_serial_",
    "untrusted_ip",
    "ifconfig_local",
    "ifconfig_netmask",
    "daemon_start_time",
    "daemon_pid",
    "dev",
    "ifconfig_pool_remote_ip",
    "ifconfig_pool_netmask",
    "time_duration",
    "bytes_",
    "session_id",
    "session_state",
];

impl Desk {
    /// The connection's state changed.
    pub(in super::super) fn state(&mut self, at: Moment, state: State, details: &StateDetails<'_>) {
        if self.settings.mode == Mode::Server && !state.is_of_servers() {
            return;
        }
        let line = state_line(at.unix, state, details);
        if self.connection.as_ref().is_some_and(|connection| connection.real_time.state) {
            self.remark(Level::Detail, format!("MANAGEMENT: >STATE:{line}"));
            self.notify_line(&format!(">STATE:{line}"));
        }
        self.state.add(line);
    }

    /// A line of the log.
    pub(in super::super) fn log_line(&mut self, unix: u64, level: Level, text: &str) {
        let line: String = format!("{unix},{},", flags(level)).chars().chain(one_line(cut(text))).collect();
        if self.connection.as_ref().is_some_and(|connection| connection.real_time.log) {
            self.notify_line(&format!(">LOG:{line}"));
        }
        self.log.add(line);
        if level == Level::Fatal {
            self.notify_line(&format!(">FATAL:{}", cut(text)));
            if let Some(connection) = &mut self.connection {
                connection.ending = Some(Ending::Orderly);
            }
        }
    }

    /// An `echo` option.
    pub(in super::super) fn echo(&mut self, at: Moment, text: &str) {
        let line = format!("{},{}", at.unix, cut(text));
        if self.connection.as_ref().is_some_and(|connection| connection.real_time.echo) {
            self.notify_line(&format!(">ECHO:{line}"));
        }
        self.echo.add(line);
    }

    /// Anything else.
    pub(in super::super) fn notify(&mut self, notice: &Notice<'_>) {
        match *notice {
            Notice::ByteCount { received, sent } => {
                self.notify_line(&format!(">BYTECOUNT:{received},{sent}"))
            }
            Notice::ByteCountClient { cid, received, sent } => {
                self.notify_line(&format!(">BYTECOUNT_CLI:{cid},{received},{sent}"));
            }
            Notice::VerificationFailed { kind, reason: None } => {
                self.notify_line(&format!(">PASSWORD:Verification Failed: '{kind}'"));
            }
            Notice::VerificationFailed { kind, reason: Some(reason) } => {
                self.notify_line(&format!(">PASSWORD:Verification Failed: '{kind}' ['{reason}']"));
            }
            Notice::AuthToken(token) => self.notify_line(&format!(">PASSWORD:Auth-Token:{token}")),
            Notice::InfoMessage(text) => self.notify_line(&format!(">INFOMSG:{text}")),
            Notice::UpDown { .. } if !self.settings.options.up_down => {}
            Notice::UpDown { word, env } => {
                self.notify_line(&format!(">UPDOWN:{word}"));
                env.iter().for_each(|(name, value)| self.notify_line(&format!(">UPDOWN:ENV,{name}={value}")));
                self.notify_line(">UPDOWN:ENV,END");
            }
            Notice::Client { news, clients, env } => self.client(news, clients, env),
        }
    }

    fn client(&mut self, news: ClientNews<'_>, clients: usize, env: &[(&str, &str)]) {
        // As OpenVPN: that a tunnel stands is told in any case.
        if !self.settings.options.client_auth && !matches!(news, ClientNews::Established { .. }) {
            return;
        }
        let counted = !matches!(news, ClientNews::Disconnect { .. });
        let head = match news {
            ClientNews::Connect { cid, kid } => format!("CONNECT,{cid},{kid}"),
            ClientNews::Reauth { cid, kid } => format!("REAUTH,{cid},{kid}"),
            ClientNews::Established { cid } => format!("ESTABLISHED,{cid}"),
            ClientNews::Disconnect { cid } => format!("DISCONNECT,{cid}"),
            ClientNews::CrResponse { cid, kid, response } => format!("CR_RESPONSE,{cid},{kid},{response}"),
            ClientNews::Address { cid, address, primary } => {
                return self.notify_line(&format!(">CLIENT:ADDRESS,{cid},{address},{}", u8::from(primary)));
            }
        };
        let level = self.connection.as_ref().map_or(0, |connection| connection.env_filter);
        self.notify_line(&format!(">CLIENT:{head}"));
        if counted && level == 0 {
            self.notify_line(&format!(">CLIENT:ENV,n_clients={clients}"));
        }
        for (name, value) in env.iter().filter(|(name, _)| passes(level, name)) {
            // In parts: one of the values may be a password.
            self.notify_parts(&[">CLIENT:ENV,", name, "=", value]);
        }
        self.notify_line(">CLIENT:ENV,END");
    }
}

/// Whether `env-filter` lets a variable through. What the peer says of itself always comes.
fn passes(level: i64, name: &str) -> bool {
    let peer_info = name.starts_with("IV_") || name.starts_with("UV_");
    level == 0
        || peer_info
        || level <= 1 && name.starts_with("X509_")
        || level <= 2
            && FILTERED.iter().any(|front| match front.strip_suffix('_') {
                Some(_) => name.starts_with(front),
                None => name == *front,
            })
}

/// Nine fields; the last is left out if there is none (`openvpn: manage.c`, `log_entry_print`).
fn state_line(unix: u64, state: State, details: &StateDetails<'_>) -> String {
    let address = |address: Option<SocketAddr>| {
        address.map_or_else(|| ",".to_owned(), |address| format!("{},{}", address.ip(), address.port()))
    };
    let mut line = format!(
        "{unix},{},{},{},{},{}",
        state.name(),
        cut(details.detail),
        details.ip4.map(|ip| ip.to_string()).unwrap_or_default(),
        address(details.remote),
        address(details.local),
    );
    if let Some(ip) = details.ip6 {
        // Writing to a string can't fail.
        let _ = write!(line, ",{ip}");
    }
    line
}

/// Second field of a log line (`openvpn: error.c`, `msg_flags_string`).
const fn flags(level: Level) -> &'static str {
    match level {
        Level::Fatal => "F",
        Level::Error => "N",
        Level::Warn => "W",
        Level::Info => "I",
        Level::Notice | Level::Detail => "",
        Level::Debug | Level::Trace => "D",
    }
}
