//! Roles, device, servers, retries, sockets (man sections protocol, link, client).

use core::net::Ipv4Addr;
use std::time::Duration;

use oxivpn_proto::config::PingTimeout;
use oxivpn_proto::options::values;

use super::{Entry, MANY, honoured, not_built, quiet, refused, structural, warned};
use crate::draft::server::{End, LocalLine, ProtocolWord};
use crate::draft::{Draft, Fault, RemoteLine};
use crate::grammar::Line;
use crate::profile::{Family, Protocol};

const PROXY: &str = "Connect directly and remove the line, or use the OpenVPN client";

pub(super) const ENTRIES: &[Entry] = &[
    honoured("client", 0, 0, |d, l| {
        d.server.client = Some(l.origin.clone());
        d.tls_client = true;
        d.pull = true;
        Ok(())
    }),
    honoured("pull", 0, 0, |d, _| {
        d.pull = true;
        Ok(())
    })
    .not_server("--pull cannot be used with --mode server", "Remove the line; only clients pull"),
    honoured("tls-client", 0, 0, |d, _| {
        d.tls_client = true;
        Ok(())
    }),
    honoured("mode p2p|server", 1, 1, mode),
    honoured("dev NAME", 1, 1, |d, l| {
        d.device = Some((l.first()?.into(), l.origin.clone()));
        Ok(())
    }),
    honoured("dev-type tun", 1, 1, |d, l| {
        d.device_type = Some((l.first()?.into(), l.origin.clone()));
        Ok(())
    }),
    honoured("dev-node /dev/net/tun", 1, 1, dev_node),
    not_built("lladdr", "the hardware address of a tap device", "Use `dev tun` without `lladdr`"),
    quiet("disable-dco"),
    structural("connection"),
    honoured("remote HOST [PORT] [PROTO]", 1, 3, remote).in_block().not_server(
        "--remote cannot be used with --mode server",
        "Remove the line; a server waits for clients, `local ADDRESS` says where",
    ),
    honoured("proto udp|tcp-client", 1, 1, |d, l| {
        let word = protocol(d, l, l.first()?)?;
        (d.connection.protocol, d.connection.family) = (word.protocol, word.family);
        if !d.in_block {
            d.server.protocol = Some((word, l.origin.clone()));
        }
        Ok(())
    })
    .in_block(),
    honoured("proto-force udp|tcp-client", 1, 1, |d, l| {
        d.protocol_force = Some(protocol(d, l, l.first()?)?.protocol);
        Ok(())
    }),
    honoured("port PORT", 1, 1, |d, l| {
        d.connection.remote_port = Some(port(l.first()?, 1)?);
        d.connection.local_port = d.connection.remote_port;
        d.server.port = d.connection.local_port;
        Ok(())
    })
    .in_block(),
    honoured("rport PORT", 1, 1, |d, l| {
        d.connection.remote_port = Some(port(l.first()?, 1)?);
        Ok(())
    })
    .in_block(),
    honoured("lport PORT", 1, 1, |d, l| {
        let port = port(l.first()?, 0)?;
        d.connection.local_port = Some(port);
        d.connection.lport = port != 0;
        d.server.port = Some(port);
        Ok(())
    })
    .in_block(),
    honoured("local ADDRESS", 1, 3, local).in_block(),
    honoured("bind [ipv6only]", 0, 1, |d, l| {
        match l.word(0) {
            None => {}
            Some("ipv6only") => d.connection.ipv6_only = true,
            Some(other) => return Err(Fault::Value(format!("unknown parameter '{other}'"))),
        }
        d.connection.bind = true;
        Ok(())
    })
    .in_block(),
    honoured("nobind", 0, 0, |d, _| {
        d.connection.nobind = true;
        Ok(())
    })
    .in_block()
    .not_server(
        "--nobind cannot be used with --mode server",
        "Remove the line; a server listens on its `port`",
    ),
    honoured("multihome", 0, 0, |d, _| {
        d.server.multihome = true;
        Ok(())
    })
    .listener_or_warn("is ignored: only servers need it, and this is a client; remove the line"),
    honoured("float", 0, 0, |d, _| {
        d.connection.float = true;
        Ok(())
    })
    .in_block(),
    honoured("remote-random", 0, 0, |d, _| {
        d.shuffle = true;
        Ok(())
    }),
    honoured("remote-random-hostname", 0, 0, |d, _| {
        d.random_hostname = true;
        Ok(())
    }),
    honoured("resolv-retry SECONDS|infinite", 1, 1, |d, l| {
        d.resolve = if l.first()? == "infinite" { None } else { Some(values::seconds(l.first()?)?) };
        Ok(())
    }),
    quiet("preresolve"),
    not_built("ip-remote-hint", "an address in place of the resolved one", "Write the address in `remote`"),
    honoured("connect-retry SECONDS [MAX-SECONDS]", 1, 2, connect_retry).in_block(),
    honoured("connect-retry-max N", 1, 1, |d, l| {
        let rounds = values::integer(l.first()?)?;
        d.rounds = (rounds != 0).then_some(rounds);
        Ok(())
    })
    .in_block(),
    honoured("connect-timeout SECONDS", 1, 1, poll_timeout).in_block(),
    honoured("server-poll-timeout SECONDS", 1, 1, poll_timeout).in_block(),
    honoured("explicit-exit-notify [ATTEMPTS]", 0, 1, |d, l| {
        let attempts = l.word(0).map_or(Ok(1), values::integer)?;
        d.connection.exit_notify = (attempts != 0).then(|| u8::try_from(attempts).unwrap_or(u8::MAX));
        Ok(())
    })
    .in_block(),
    honoured("keepalive INTERVAL TIMEOUT", 2, 2, |d, l| {
        let interval = values::number(l.first()?, 1, 86_400)? as u32;
        let timeout = values::number(l.word(1).ok_or(Fault::Parameters)?, 1, 86_400)? as u32;
        d.server.keepalive = Some(((interval, timeout), l.origin.clone()));
        d.keepalive.ping = Some(Duration::from_secs(interval.into()));
        d.keepalive.timeout = Some(PingTimeout::Restart(Duration::from_secs(timeout.into())));
        Ok(())
    }),
    honoured("ping SECONDS", 1, 1, |d, l| {
        d.server.ping = Some(l.origin.clone());
        let time = values::seconds(l.first()?)?;
        d.keepalive.ping = (!time.is_zero()).then_some(time);
        Ok(())
    }),
    honoured("ping-restart SECONDS", 1, 1, |d, l| {
        d.server.ping = Some(l.origin.clone());
        d.keepalive.timeout = Some(PingTimeout::Restart(values::seconds(l.first()?)?));
        Ok(())
    }),
    honoured("ping-exit SECONDS", 1, 1, |d, l| {
        d.server.ping = Some(l.origin.clone());
        let time = values::seconds(l.first()?)?;
        let exit = PingTimeout::Exit(time);
        d.keepalive.timeout = Some(if time.is_zero() { PingTimeout::Restart(time) } else { exit });
        Ok(())
    }),
    quiet("ping-timer-rem"),
    honoured("inactive SECONDS [BYTES]", 1, 2, |d, l| {
        let bytes = l.word(1).map_or(Ok(0), |word| values::number(word, 0, i64::MAX as u64))?;
        let time = values::seconds(l.first()?)?;
        d.keepalive.inactive = (!time.is_zero()).then_some((time, bytes));
        Ok(())
    }),
    honoured("session-timeout SECONDS", 1, 1, |d, l| {
        let time = values::seconds(l.first()?)?;
        d.keepalive.session = (!time.is_zero()).then_some(time);
        Ok(())
    }),
    honoured("sndbuf BYTES", 1, 1, |d, l| {
        let size = values::integer(l.first()?)?;
        d.socket.send_buffer = (size != 0).then_some(size);
        Ok(())
    }),
    honoured("rcvbuf BYTES", 1, 1, |d, l| {
        let size = values::integer(l.first()?)?;
        d.socket.receive_buffer = (size != 0).then_some(size);
        Ok(())
    }),
    honoured("socket-flags [TCP_NODELAY]..", 0, MANY, |d, l| {
        for flag in &l.words {
            if flag == "TCP_NODELAY" {
                d.socket.tcp_nodelay = true;
            } else {
                d.warn(&l.origin, format!("unknown socket flag {flag} is ignored; remove it"));
            }
        }
        Ok(())
    }),
    honoured("tcp-nodelay", 0, 0, |d, _| {
        d.server.tcp_nodelay = true;
        d.socket.tcp_nodelay = true;
        Ok(())
    }),
    honoured("mark VALUE", 1, 1, mark),
    honoured("bind-dev INTERFACE", 1, 1, |d, l| {
        let name = l.first()?;
        if name.is_empty() || name.len() > 15 {
            return Err(Fault::Value(format!("'{name}' is not an interface name of up to 15 characters")));
        }
        d.socket.bind_device = Some(name.into());
        Ok(())
    }),
    not_built(
        "passtos",
        "copying the TOS byte to the outer packet",
        "Remove the line; QoS marks then stay inside",
    ),
    quiet("fast-io"),
    honoured("persist-remote-ip", 0, 0, |d, _| {
        d.keep_address = true;
        Ok(())
    }),
    quiet("persist-local-ip"),
    warned("single-session", "is ignored: only a listening side needs it; remove the line"),
    honoured("tls-exit", 0, 0, |d, _| {
        d.process.tls_exit = true;
        Ok(())
    }),
    not_built("http-proxy", "the HTTP proxy", PROXY),
    not_built("http-proxy-option", "the HTTP proxy", PROXY),
    not_built("http-proxy-user-pass", "the HTTP proxy", PROXY),
    not_built("http-proxy-override", "the HTTP proxy", PROXY),
    quiet("http-proxy-retry"),
    quiet("http-proxy-timeout"),
    not_built("socks-proxy", "the SOCKS proxy", PROXY),
    quiet("socks-proxy-retry"),
    // Only `--genkey --secret FILE` is taken.
    honoured("secret FILE [DIRECTION]", 1, 2, |d, l| {
        let file = if l.inline.is_some() { "[inline]" } else { l.first()? };
        d.secret = Some((file.into(), l.origin.clone()));
        Ok(())
    })
    .inline(),
    refused(
        "allow-deprecated-insecure-static-crypto",
        "static-key tunnels are not built",
        "Use TLS: `client`, `ca`, `cert`, and `key`, or `peer-fingerprint`",
    ),
];

fn mode(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    match line.first()? {
        "p2p" => {
            draft.server.mode = None;
            Ok(())
        }
        "server" => {
            draft.server.mode = Some(line.origin.clone());
            Ok(())
        }
        other => Err(Fault::Value(format!("Bad --mode parameter: {other}"))),
    }
}

fn dev_node(_: &mut Draft, line: &Line) -> Result<(), Fault> {
    match line.first()? {
        "/dev/net/tun" => Ok(()),
        other => Err(Fault::Refused(
            format!("`dev-node {other}` is not built yet"),
            "Only /dev/net/tun can be used; remove the line, or hand an open device over with `dev fd:N`"
                .into(),
        )),
    }
}

fn remote(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let host = line.first()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() || bare.len() > 253 || bare.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Fault::Value(format!("'{}' is not a host name or address", host.escape_debug())));
    }
    let remote = RemoteLine {
        host: bare.into(),
        port: line.word(1).map(|word| port(word, 1)).transpose()?,
        protocol: match line.word(2) {
            None => None,
            Some(word) => Some(protocol(draft, line, word)?).map(|word| (word.protocol, word.family)),
        },
        origin: line.origin.clone(),
    };
    if draft.in_block {
        draft.connection.remote = Some(remote);
    } else {
        draft.remotes.push(remote);
    }
    Ok(())
}

/// `proto` words (`openvpn: socket.c`, `proto_names`).
fn protocol(draft: &mut Draft, line: &Line, word: &str) -> Result<ProtocolWord, Fault> {
    let (protocol, family, end) = match word {
        "udp" => (Protocol::Udp, Family::Any, End::Both),
        "udp4" => (Protocol::Udp, Family::V4, End::Both),
        "udp6" => (Protocol::Udp, Family::V6, End::Both),
        "tcp" => (Protocol::Tcp, Family::Any, End::Open),
        "tcp4" => (Protocol::Tcp, Family::V4, End::Open),
        "tcp6" => (Protocol::Tcp, Family::V6, End::Open),
        "tcp-client" => (Protocol::Tcp, Family::Any, End::Client),
        "tcp4-client" => (Protocol::Tcp, Family::V4, End::Client),
        "tcp6-client" => (Protocol::Tcp, Family::V6, End::Client),
        "tcp-server" => (Protocol::Tcp, Family::Any, End::Server),
        "tcp4-server" => (Protocol::Tcp, Family::V4, End::Server),
        "tcp6-server" => (Protocol::Tcp, Family::V6, End::Server),
        other => {
            let known = "udp, udp4, udp6, tcp-client, tcp4-client, tcp6-client";
            return Err(Fault::Value(format!("Bad protocol: '{other}'. Allowed are {known}")));
        }
    };
    if end == End::Server {
        draft.server.tcp_server.get_or_insert_with(|| (word.into(), line.origin.clone()));
    }
    Ok(ProtocolWord { protocol, family, end })
}

fn port(word: &str, min: u64) -> Result<u16, Fault> {
    values::number(word, min, u16::MAX.into())
        .map(|port| port as u16)
        .map_err(|_| Fault::Value(format!("Bad port: '{word}'. A port is a number from {min} to 65535")))
}

fn local(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let address = match line.first()? {
        "*" => None,
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        word => {
            Some(word.parse().map_err(|_| Fault::Value(format!("'{word}' is not an address of this host")))?)
        }
    };
    let port = line.word(1).map(|word| port(word, 0)).transpose()?;
    if let Some(port) = port {
        draft.connection.local_port = Some(port);
        draft.connection.lport = port != 0;
    }
    let protocol = line.word(2).map(|word| protocol(draft, line, word)).transpose()?;
    draft.connection.local = Some(address);
    if !draft.in_block {
        draft.server.locals.push(LocalLine { address, port, protocol, origin: line.origin.clone() });
    }
    Ok(())
}

fn connect_retry(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    const LONGEST: Duration = Duration::from_secs(0xffff);
    let mut wait = values::seconds(line.first()?)?;
    if wait > LONGEST {
        wait = LONGEST;
        draft.warn(&line.origin, "connect retry wait interval truncated to 65535 seconds; write less");
    }
    draft.connection.retry_wait = wait;
    if let Some(word) = line.word(1) {
        draft.connection.retry_wait_max = values::seconds(word)?;
    }
    draft.connection.retry_wait_max = draft.connection.retry_wait_max.max(wait);
    Ok(())
}

fn poll_timeout(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    draft.connection.poll_timeout = values::seconds(line.first()?)?;
    Ok(())
}

fn mark(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let word = line.first()?;
    let mark = match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    draft.socket.mark =
        Some(mark.ok_or_else(|| Fault::Value(format!("'{word}' is not a number from 0 to 4294967295")))?);
    Ok(())
}
