//! Lines of a server's log, in OpenVPN's words where programs read them.

use core::time::Duration;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use oxivpn_proto::event::CloseCause;

/// As in log lines: `[AF_INET]192.0.2.1:1194`.
pub(super) fn address(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => format!("[AF_INET]{address}"),
        SocketAddr::V6(address) => format!("[AF_INET6]{}:{}", address.ip(), address.port()),
    }
}

/// As in `[AF_INET][undef]:1194`, for any address.
pub(super) fn bound(local: SocketAddr) -> String {
    match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("[AF_INET][undef]:{}", local.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("[AF_INET6][undef]:{}", local.port()),
        _ => address(local),
    }
}

/// As in the prefix of a client's lines: `192.0.2.1:1194`; IPv6 has no port there (`openvpn: mroute.c`,
/// `mroute_addr_print_ex`).
pub(super) fn real(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.to_string(),
        SocketAddr::V6(address) => address.ip().to_string(),
    }
}

/// Where a stranger comes from, as far as that can't be many places: an IPv4 address, or the /64 of an IPv6 address.
pub(super) fn source(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("{}/64", Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
    }
}

/// As in `MULTI: Learn`: an address, or a network with its prefix length.
pub(super) fn inner(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// What the log says about the end of a client: lines of explanation, and what OpenVPN's last line calls it, if there
/// is one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// Lines, in order.
    pub(super) lines: Vec<String>,
    /// `SIGTERM[soft,remote-exit] received, client-instance exiting`.
    pub(super) signal: Option<&'static str>,
}

/// Lines about `cause`. `name` is the client's, as in its other lines.
pub(super) fn ending(cause: &CloseCause, name: &str, hand_window: Duration) -> Ending {
    let failed = || "TLS Error: TLS handshake failed".to_owned();
    let restart = |what| match what {
        "tls-error" => "SIGUSR1[soft,tls-error] received, client-instance restarting",
        "connection-reset" => "SIGUSR1[soft,connection-reset] received, client-instance restarting",
        _ => "SIGUSR1[soft,ping-restart] received, client-instance restarting",
    };
    let (lines, signal) = match cause {
        CloseCause::HandWindow => (
            vec![
                format!(
                    "TLS Error: TLS key negotiation failed to occur within {} seconds (check your network \
                     connectivity)",
                    hand_window.as_secs()
                ),
                failed(),
            ],
            Some(restart("tls-error")),
        ),
        CloseCause::Unanswered => (
            vec![
                format!(
                    "TLS Auth Error: no verdict about this client within hand-window ({} seconds): the program or \
                     person that decides did not answer",
                    hand_window.as_secs()
                ),
                failed(),
            ],
            Some(restart("tls-error")),
        ),
        CloseCause::Tls(failure) => {
            let verify = failure.message.starts_with("VERIFY");
            let prefix = if verify { "" } else { "TLS Error: " };
            (vec![format!("{prefix}{}", failure.message), failed()], Some(restart("tls-error")))
        }
        CloseCause::Protocol(text) => {
            (vec![format!("TLS Error: {text}"), failed()], Some(restart("tls-error")))
        }
        CloseCause::Cipher(text) => {
            (vec![text.clone()], Some("SIGTERM[soft,delayed-exit] received, client-instance exiting"))
        }
        CloseCause::PingRestart => {
            (vec![format!("[{name}] Inactivity timeout (--ping-restart), restarting")], Some(restart("")))
        }
        CloseCause::PingExit => (
            vec![format!("[{name}] Inactivity timeout (--ping-exit), exiting")],
            Some("SIGTERM[soft,ping-exit] received, client-instance exiting"),
        ),
        CloseCause::Inactive => (
            vec!["Inactivity timeout (--inactive), exiting".into()],
            Some("SIGTERM[soft,inactive] received, client-instance exiting"),
        ),
        CloseCause::SessionTimeout => (
            vec!["Session timeout, exiting".into()],
            Some("SIGTERM[soft,session-timeout] received, client-instance exiting"),
        ),
        CloseCause::PeerExit => {
            (Vec::new(), Some("SIGTERM[soft,remote-exit] received, client-instance exiting"))
        }
        CloseCause::StreamClosed => {
            (vec!["Connection reset, restarting [0]".into()], Some(restart("connection-reset")))
        }
        CloseCause::Denied(_) => {
            (Vec::new(), Some("SIGTERM[soft,delayed-exit] received, client-instance exiting"))
        }
        // A newer session of the client goes on in its place.
        CloseCause::Replaced => (Vec::new(), None),
        CloseCause::Local => (Vec::new(), Some("SIGTERM[soft,] received, client-instance exiting")),
        other => (vec![format!("Connection ended: {other}")], None),
    };
    Ending { lines, signal }
}

#[cfg(test)]
mod tests {
    use oxivpn_proto::tls::{TlsFailure, TlsFailureKind};

    use super::*;

    #[test]
    fn addresses_look_as_in_openvpns_log() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(address(at("192.0.2.1:1194")), "[AF_INET]192.0.2.1:1194");
        assert_eq!(address(at("[2001:db8::1]:443")), "[AF_INET6]2001:db8::1:443");
        assert_eq!(bound(at("0.0.0.0:1194")), "[AF_INET][undef]:1194");
        assert_eq!(bound(at("[::]:1194")), "[AF_INET6][undef]:1194");
        assert_eq!(bound(at("192.0.2.1:1")), "[AF_INET]192.0.2.1:1");
        assert_eq!(real(at("192.0.2.1:1194")), "192.0.2.1:1194");
        assert_eq!(real(at("[2001:db8::1]:443")), "2001:db8::1");
        assert_eq!(source(at("[::ffff:192.0.2.1]:1194")), "192.0.2.1");
        assert_eq!(source(at("[2001:db8::1:2:3:4]:443")), "2001:db8::/64");
        assert_eq!(inner("10.8.0.2/32".parse().unwrap()), "10.8.0.2");
        assert_eq!(inner("10.9.0.0/16".parse().unwrap()), "10.9.0.0/16");
    }

    #[test]
    fn the_end_of_a_client_is_told_as_openvpn_does() {
        let told = |cause: &CloseCause| {
            let ending = ending(cause, "c1", Duration::from_secs(60));
            ending.lines.into_iter().chain(ending.signal.map(str::to_owned)).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            told(&CloseCause::PingRestart),
            "[c1] Inactivity timeout (--ping-restart), restarting\n\
             SIGUSR1[soft,ping-restart] received, client-instance restarting"
        );
        assert_eq!(
            told(&CloseCause::HandWindow),
            "TLS Error: TLS key negotiation failed to occur within 60 seconds (check your network connectivity)\n\
             TLS Error: TLS handshake failed\nSIGUSR1[soft,tls-error] received, client-instance restarting"
        );
        let failure = TlsFailure {
            kind: TlsFailureKind::Certificate,
            message: "VERIFY ERROR: depth=0, error=certificate revoked: CN=c1".into(),
        };
        assert!(
            told(&CloseCause::Tls(failure)).starts_with("VERIFY ERROR: depth=0, error=certificate revoked")
        );
        assert_eq!(told(&CloseCause::Replaced), "");
        assert_eq!(
            told(&CloseCause::PeerExit),
            "SIGTERM[soft,remote-exit] received, client-instance exiting"
        );
    }
}
