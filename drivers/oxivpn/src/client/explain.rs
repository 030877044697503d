//! Failures in words: what happened, why it may be, what to do. One line each.

use core::time::Duration;

use oxivpn_profile::profile::Protocol;
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::event::CloseCause;
use oxivpn_proto::wrap::WrapConfig;
use oxivpn_proto::wrap::static_key::KeyDirection;
use oxivpn_proto::{DropCounters, DropReason};

/// What is known about an attempt that failed.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The server, as in log lines.
    pub remote: &'a str,
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Protection of the control channel.
    pub wrap: &'a WrapConfig,
    /// Whether any valid packet came from the server.
    pub reached: bool,
    /// Whether TLS got done.
    pub tls_done: bool,
    /// `hand-window`.
    pub hand_window: Duration,
    /// `server-poll-timeout`.
    pub poll_timeout: Duration,
    /// Control packets dropped during this attempt.
    pub drops: &'a DropCounters,
    /// What the network said about our packets, if anything.
    pub complaint: Option<&'a str>,
    /// `data-ciphers`.
    pub ciphers: &'a [DataCipher],
    /// Common name of the server, if known.
    pub server: Option<&'a str>,
}

/// Lines that tell a person about `cause`: OpenVPN's own line first, where other programs may wait for it.
pub fn lines(cause: &CloseCause, attempt: &Attempt<'_>) -> Vec<String> {
    let prefix = attempt.server.map_or_else(String::new, |name| format!("[{name}] "));
    match cause {
        CloseCause::ServerPoll => vec!["Server poll timeout, restarting".into(), silence(attempt)],
        CloseCause::HandWindow => vec![
            format!(
                "TLS Error: TLS key negotiation failed to occur within {} seconds (check your network connectivity)",
                attempt.hand_window.as_secs()
            ),
            if attempt.reached { stalled(attempt) } else { silence(attempt) },
            "TLS Error: TLS handshake failed".into(),
        ],
        CloseCause::Tls(failure) => {
            // Programs look for `VERIFY ERROR` at the start of a line.
            let verify = failure.message.starts_with("VERIFY");
            let prefix = if verify { "" } else { "TLS Error: " };
            vec![format!("{prefix}{}", failure.message), "TLS Error: TLS handshake failed".into()]
        }
        CloseCause::NoPushReply => vec![
            "No reply from server to push requests. The server accepted the connection but sent no configuration: \
             it still waits for its authentication backend, or it is no `mode server` (then leave `pull` and \
             `client` out)"
                .into(),
        ],
        CloseCause::PingRestart => vec![format!("{prefix}Inactivity timeout (--ping-restart), restarting")],
        CloseCause::PingExit => vec![format!("{prefix}Inactivity timeout (--ping-exit), exiting")],
        CloseCause::Inactive => vec!["Inactivity timeout (--inactive), exiting".into()],
        CloseCause::SessionTimeout => vec!["Session timeout, exiting".into()],
        CloseCause::AuthFailed { reason, was_token } => auth_failed(reason, *was_token, attempt.ciphers),
        CloseCause::AuthTemporary { reason, backoff, .. } => vec![
            format!("AUTH: Received control message: AUTH_FAILED,TEMP:{reason}"),
            format!(
                "The server refuses for the moment{}; trying again",
                backoff.map_or_else(String::new, |seconds| format!(" and asks to wait {seconds} s"))
            ),
        ],
        CloseCause::Restart { reason, .. } => {
            vec![format!("Connection reset command was pushed by server ('{reason}')")]
        }
        CloseCause::Halt { reason } => vec![format!("Halt command was pushed by server ('{reason}')")],
        CloseCause::Cipher(text) => vec![
            format!("OPTIONS ERROR: {text}"),
            "OPTIONS ERROR: failed to import crypto options".into(),
        ],
        CloseCause::RejectedOption(text) => {
            vec![format!("Pushed option rejected by filter: '{text}'.")]
        }
        CloseCause::Push(text) => vec![format!("ERROR: Failed to apply push options: {text}")],
        CloseCause::StreamClosed => vec![closed_stream(attempt)],
        CloseCause::PeerExit => vec![format!("{prefix}The server says that it leaves")],
        CloseCause::Local => Vec::new(),
        other => vec![format!("Connection ended: {other}")],
    }
}

fn auth_failed(reason: &str, was_token: bool, ciphers: &[DataCipher]) -> Vec<String> {
    let detail = if reason.is_empty() { String::new() } else { format!(",{reason}") };
    let mut lines = vec![format!("AUTH: Received control message: AUTH_FAILED{detail}")];
    lines.push(if reason.contains("cipher negotiation failed") {
        let ours: Vec<&str> = ciphers.iter().map(|cipher| cipher.name()).collect();
        format!(
            "The server takes none of our data ciphers ({}). Put one of the server's `data-ciphers` into the profile's; \
             the program knows AES-256-GCM, AES-192-GCM, AES-128-GCM and CHACHA20-POLY1305",
            ours.join(":")
        )
    } else if was_token {
        "The server does not take its session token any more; logging in with user name and password again"
            .into()
    } else {
        "The server refused the login: user name or password is wrong, or the account may not connect. Check \
         `auth-user-pass`; `auth-retry interact` asks again instead of leaving"
            .into()
    });
    lines
}

/// Nothing valid came from the server.
fn silence(attempt: &Attempt<'_>) -> String {
    let forged = attempt.drops.get(DropReason::WrapAuthentication);
    if forged > 0 {
        return format!(
            "{} answers, but {forged} of its packets fail the {} check: {}",
            attempt.remote,
            wrap_name(attempt.wrap),
            wrap_cure(attempt.wrap)
        );
    }
    let network = attempt.complaint.map_or_else(String::new, |text| format!(" The network says: {text}."));
    let transport = match attempt.protocol {
        Protocol::Udp => "UDP",
        Protocol::Tcp => "TCP",
    };
    format!(
        "No valid answer from {} over {transport}.{network} Likely causes: the server is down or elsewhere; a firewall \
         on the way; another port or protocol than the server's (`remote`, `proto`); {}, which a server ignores \
         without a word",
        attempt.remote,
        wrap_suspect(attempt.wrap)
    )
}

/// The server answered but the handshake did not end.
fn stalled(attempt: &Attempt<'_>) -> String {
    if attempt.tls_done {
        format!(
            "{} finished TLS but not the key exchange: its log tells why (refused client certificate, user check, \
             options)",
            attempt.remote
        )
    } else {
        format!(
            "{} answered but TLS did not finish: it refused our certificate without an alert (see its log), or large \
             packets are lost on the way (try `max-packet-size 1000`)",
            attempt.remote
        )
    }
}

fn closed_stream(attempt: &Attempt<'_>) -> String {
    let base = "Connection reset, restarting [0]";
    if attempt.reached {
        return base.into();
    }
    format!(
        "{base}: {} closed the connection before a valid answer. Likely causes: {}; no OpenVPN server on this TCP port",
        attempt.remote,
        wrap_suspect(attempt.wrap)
    )
}

const fn wrap_name(wrap: &WrapConfig) -> &'static str {
    match wrap {
        WrapConfig::None => "session",
        WrapConfig::TlsAuth { .. } => "tls-auth",
        WrapConfig::TlsCrypt { .. } => "tls-crypt",
        WrapConfig::TlsCryptV2 { .. } => "tls-crypt-v2",
    }
}

const fn wrap_suspect(wrap: &WrapConfig) -> &'static str {
    match wrap {
        WrapConfig::None => "the server wants tls-auth or tls-crypt and the profile has no such key",
        WrapConfig::TlsAuth { direction: KeyDirection::Bidirectional, .. } => {
            "the tls-auth key, its missing key-direction or the `auth` digest is not the server's"
        }
        WrapConfig::TlsAuth { .. } => {
            "the tls-auth key, its key-direction (1 for clients, if the server has 0) or the `auth` digest is not the \
             server's"
        }
        WrapConfig::TlsCrypt { .. } => "the tls-crypt key is not the server's",
        WrapConfig::TlsCryptV2 { .. } => "the tls-crypt-v2 client key was not made with the server's key",
    }
}

const fn wrap_cure(wrap: &WrapConfig) -> &'static str {
    match wrap {
        WrapConfig::None => "something on the way changes packets",
        WrapConfig::TlsAuth { .. } => {
            "the tls-auth key file, key-direction or `auth` digest differs from the server's. Compare them: with \
             `tls-auth ta.key 0` on the server a client has 1, without a direction there has none"
        }
        WrapConfig::TlsCrypt { .. } | WrapConfig::TlsCryptV2 { .. } => {
            "the key file differs from the server's. Get the present one from the server's administrator"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oxivpn_proto::tls::{TlsFailure, TlsFailureKind};
    use oxivpn_proto::wrap::static_key::{HmacDigest, StaticKey};
    use zeroize::Zeroizing;

    use super::*;

    fn told(cause: &CloseCause, wrap: &WrapConfig, drops: &DropCounters) -> String {
        let attempt = Attempt {
            remote: "[AF_INET]192.0.2.1:1194",
            protocol: Protocol::Udp,
            wrap,
            reached: false,
            tls_done: false,
            hand_window: Duration::from_secs(60),
            poll_timeout: Duration::from_secs(120),
            drops,
            complaint: None,
            ciphers: &[DataCipher::Aes192Gcm],
            server: Some("server"),
        };
        lines(cause, &attempt).join("\n")
    }

    fn key() -> Arc<StaticKey> {
        Arc::new(StaticKey::new(Zeroizing::new([7; 256])))
    }

    #[test]
    fn a_silent_server_names_all_candidates() {
        let direction = KeyDirection::Inverse;
        let wrap = WrapConfig::TlsAuth { key: key(), direction, digest: HmacDigest::Sha1 };
        let text = told(&CloseCause::ServerPoll, &wrap, &DropCounters::default());
        for word in ["192.0.2.1:1194", "down", "firewall", "port", "proto", "tls-auth key", "key-direction"] {
            assert!(text.contains(word), "{word} is missing in {text}");
        }
        let wrap = WrapConfig::TlsCrypt { key: key() };
        let text = told(&CloseCause::ServerPoll, &wrap, &DropCounters::default());
        assert!(text.contains("tls-crypt key is not the server's"), "{text}");
    }

    #[test]
    fn packets_that_fail_the_check_are_named() {
        let mut drops = DropCounters::default();
        drops.count(DropReason::WrapAuthentication);
        drops.count(DropReason::WrapAuthentication);
        let text = told(&CloseCause::ServerPoll, &WrapConfig::TlsCrypt { key: key() }, &drops);
        assert!(text.contains("2 of its packets fail the tls-crypt check"), "{text}");
        assert!(!text.contains("firewall"), "{text}");
    }

    #[test]
    fn lines_that_programs_wait_for_are_openvpns() {
        let none = DropCounters::default();
        let text = told(&CloseCause::HandWindow, &WrapConfig::None, &none);
        assert!(text.starts_with(
            "TLS Error: TLS key negotiation failed to occur within 60 seconds (check your network connectivity)\n"
        ));
        assert!(text.ends_with("\nTLS Error: TLS handshake failed"));
        let failed = CloseCause::AuthFailed { reason: String::new(), was_token: false };
        let text = told(&failed, &WrapConfig::None, &none);
        assert!(text.starts_with("AUTH: Received control message: AUTH_FAILED\n"), "{text}");
        let failed = CloseCause::AuthFailed { reason: "no such user".into(), was_token: false };
        let text = told(&failed, &WrapConfig::None, &none);
        assert!(text.starts_with("AUTH: Received control message: AUTH_FAILED,no such user\n"), "{text}");
        assert_eq!(
            told(&CloseCause::PingRestart, &WrapConfig::None, &none),
            "[server] Inactivity timeout (--ping-restart), restarting"
        );
    }

    #[test]
    fn a_missing_common_cipher_is_no_matter_of_passwords() {
        let reason = "Data channel cipher negotiation failed (no shared cipher)".into();
        let failed = CloseCause::AuthFailed { reason, was_token: false };
        let text = told(&failed, &WrapConfig::None, &DropCounters::default());
        assert!(
            text.contains("none of our data ciphers (AES-192-GCM)") && !text.contains("password"),
            "{text}"
        );
    }

    #[test]
    fn certificate_errors_begin_the_line() {
        let failure =
            TlsFailure { kind: TlsFailureKind::Certificate, message: "VERIFY ERROR: depth=1".into() };
        let text = told(&CloseCause::Tls(failure), &WrapConfig::None, &DropCounters::default());
        assert!(text.starts_with("VERIFY ERROR: depth=1\n"), "{text}");
    }

    #[test]
    fn tls_failures_keep_their_own_words() {
        let failure = TlsFailure { kind: TlsFailureKind::Certificate, message: "CN=x expired".into() };
        let text = told(&CloseCause::Tls(failure), &WrapConfig::None, &DropCounters::default());
        assert_eq!(text, "TLS Error: CN=x expired\nTLS Error: TLS handshake failed");
    }
}
