//! Options of servers (man section server).

use std::time::Duration;

use ipnet::Ipv4Net;
use oxivpn_proto::config::server::Rate;
use oxivpn_proto::options::values;

use super::{Entry, honoured, not_built, quiet, refused, warned};
use crate::draft::server::{PoolLine, ServerLine, TokenLine};
use crate::draft::{Draft, Fault};
use crate::grammar::Line;
use crate::server::{ClientCert, VerifyVia};

const TAP: &str = "Use `dev tun` with `server`, and routes instead of a bridge, or run OpenVPN";
const USELESS: &str = "is ignored: it has a meaning only with `mode server`; remove the line";

/// Largest peer-id is 24 bits of ones, which means none (`openvpn: options.c`, `MAX_PEER_ID`).
const MAX_CLIENTS: u64 = 0x00ff_fffe;

/// More threads for packets than anybody has processors for.
const MAX_WORKERS: u64 = 64;

/// An option of a client's own file.
const fn per_client(name: &'static str) -> Entry {
    refused(
        name,
        "it cannot be used in this context, as it is about one client",
        "Write it into a file named after the client's common name, in the directory of `client-config-dir`",
    )
}

pub(super) const ENTRIES: &[Entry] = &[
    honoured("tls-server", 0, 0, |d, l| {
        d.server.tls_server = Some(l.origin.clone());
        Ok(())
    }),
    honoured("server NETWORK NETMASK [nopool]", 2, 3, server),
    honoured("server-ipv6 NETWORK/BITS", 1, 1, |d, l| {
        d.server.server6 = Some((pool6(l, "--server-ipv6 settings: network")?, l.origin.clone()));
        Ok(())
    }),
    not_built("server-bridge", "a bridge of tap devices", TAP),
    honoured("push OPTION", 1, 1, push).or_warn(
        "is ignored: without `mode server` nothing is pushed; write the option into the other side's profile",
    ),
    per_client("push-reset"),
    per_client("push-remove"),
    honoured("ifconfig-pool FIRST LAST [NETMASK]", 2, 3, pool).server_only(),
    honoured("ifconfig-pool-persist FILE [SECONDS]", 1, 2, |d, l| {
        let every = l.word(1).map_or(Ok(Duration::from_secs(600)), values::seconds)?;
        d.server.persist = Some(((l.first()?.into(), every), l.origin.clone()));
        Ok(())
    })
    .server_only(),
    honoured("ifconfig-ipv6-pool ADDRESS/BITS", 1, 1, |d, l| {
        d.server.pool6 = Some((pool6(l, "--ifconfig-ipv6-pool settings: network")?, l.origin.clone()));
        Ok(())
    })
    .server_only(),
    per_client("ifconfig-push"),
    honoured("ifconfig-push-constraint NETWORK NETMASK", 2, 2, |d, l| {
        let network = values::address4(l.first()?)?;
        let netmask = values::netmask(l.word(1).ok_or(Fault::Parameters)?)?;
        let net = Ipv4Net::with_netmask(network, netmask);
        d.server.constraint = Some(net.map_err(|error| Fault::Value(error.to_string()))?.trunc());
        Ok(())
    })
    .or_warn(USELESS),
    per_client("ifconfig-ipv6-push"),
    per_client("iroute"),
    per_client("iroute-ipv6"),
    honoured("client-config-dir DIRECTORY", 1, 1, |d, l| {
        d.server.client_config_dir = Some((l.first()?.into(), l.origin.clone()));
        Ok(())
    })
    .server_only(),
    honoured("ccd-exclusive", 0, 0, |d, l| {
        d.server.ccd_exclusive = Some(l.origin.clone());
        Ok(())
    })
    .server_only(),
    honoured("client-to-client", 0, 0, |d, _| {
        d.server.client_to_client = true;
        Ok(())
    })
    .server_only(),
    honoured("duplicate-cn", 0, 0, |d, _| {
        d.server.duplicate_cn = true;
        Ok(())
    })
    .server_only(),
    per_client("disable"),
    honoured("max-clients N", 1, 1, |d, l| {
        d.server.max_clients = values::number(l.first()?, 1, MAX_CLIENTS)? as usize;
        Ok(())
    })
    .or_warn(USELESS),
    honoured("max-routes-per-client N", 1, 1, |d, l| {
        d.server.max_routes = values::number(l.first()?, 1, i32::MAX as u64)? as usize;
        Ok(())
    })
    .or_warn(USELESS),
    warned(
        "stale-routes-check",
        "is ignored: addresses of clients are never learned, so that none gets stale; remove the line",
    ),
    not_built(
        "port-share",
        "sharing a port with a web server",
        "Give the web server a port or address of its own",
    ),
    honoured("connect-freq N SECONDS", 2, 2, |d, l| {
        d.server.connect_freq = Some((rate(l)?, l.origin.clone()));
        Ok(())
    })
    .server_only(),
    honoured("connect-freq-initial N SECONDS", 2, 2, |d, l| {
        d.server.connect_freq_initial = rate(l)?;
        Ok(())
    })
    .or_warn(USELESS),
    honoured("tls-crypt-v2-max-age DAYS", 1, 1, |d, l| {
        let days = values::number(l.first()?, 1, i32::MAX as u64)?;
        d.server.max_age = Some(Duration::from_secs(days * 86_400));
        Ok(())
    })
    .or_warn(USELESS),
    honoured("auth-gen-token [LIFETIME] [RENEWAL] [external-auth]", 0, 3, token).server_only(),
    honoured("auth-gen-token-secret FILE", 1, 1, |d, l| {
        d.server.token_secret = l.source()?.or_else(|| d.server.token_secret.take());
        Ok(())
    })
    .inline()
    .or_warn(USELESS),
    honoured("auth-user-pass-verify \"COMMAND\" via-env|via-file", 2, 2, |d, l| {
        d.server.verify_via = match l.word(1) {
            Some("via-env") => VerifyVia::Env,
            Some("via-file") => VerifyVia::File,
            _ => {
                return Err(Fault::Value(
                    "second parm to --auth-user-pass-verify must be 'via-env' or 'via-file'".into(),
                ));
            }
        };
        super::scripts::command(d, l, "auth-user-pass-verify")
    })
    .server_only(),
    honoured("auth-user-pass-optional", 0, 0, |d, l| {
        d.server.login_optional = Some(l.origin.clone());
        Ok(())
    })
    .server_only(),
    honoured("verify-client-cert [none|optional|require]", 0, 1, |d, l| {
        let wanted = match l.word(0) {
            None | Some("require") => ClientCert::Require,
            Some("optional") => ClientCert::Optional,
            Some("none") => ClientCert::None,
            Some(_) => {
                return Err(Fault::Value(
                    "parameter to --verify-client-cert must be 'none', 'optional' or 'require'".into(),
                ));
            }
        };
        d.server.client_cert = Some((wanted, l.origin.clone()));
        Ok(())
    })
    .server_only(),
    honoured("username-as-common-name", 0, 0, |d, l| {
        d.server.username_as_common_name = Some(l.origin.clone());
        Ok(())
    })
    .server_only(),
    per_client("override-username"),
    honoured("force-tls-key-material-export", 0, 0, |d, _| {
        d.server.require_tls_ekm = true;
        Ok(())
    })
    .server_only(),
    not_built("vlan-tagging", "VLAN tags on tap devices", TAP),
    not_built("vlan-accept", "VLAN tags on tap devices", TAP),
    not_built("vlan-pvid", "VLAN tags on tap devices", TAP),
    honoured("tmp-dir DIRECTORY", 1, 1, |d, l| {
        d.server.tmp_dir = Some((l.first()?.into(), l.origin.clone()));
        Ok(())
    }),
    quiet("hash-size"),
    quiet("bcast-buffers"),
    honoured("tcp-queue-limit N", 1, 1, |d, l| {
        d.server.queue_limit = values::number(l.first()?, 1, i32::MAX as u64)? as usize;
        Ok(())
    })
    .or_warn("is ignored: only servers queue packets for many clients; remove the line"),
    // Ours alone.
    honoured("workers N|auto", 1, 1, |d, l| {
        d.server.workers = match l.first()? {
            "auto" => None,
            word => Some(values::number(word, 1, MAX_WORKERS)? as usize),
        };
        Ok(())
    }),
    refused(
        "client-cert-not-required",
        "it was removed in OpenVPN 2.5",
        "A server writes `verify-client-cert none`",
    ),
    refused("ifconfig-pool-linear", "it was removed in OpenVPN 2.5", "A server writes `topology p2p`"),
];

fn server(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let network = values::address4(line.first()?)?;
    let netmask = values::netmask(line.word(1).ok_or(Fault::Parameters)?)
        .map_err(|error| Fault::Value(format!("--server directive netmask is invalid: {error}")))?;
    let no_pool = match line.word(2) {
        None => false,
        Some("nopool") => true,
        Some(other) => {
            return Err(Fault::Value(format!("error parsing --server: {other} is not a recognized flag")));
        }
    };
    draft.server.server = Some((ServerLine { network, netmask, no_pool }, line.origin.clone()));
    Ok(())
}

fn pool(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let first = values::address4(line.first()?)?;
    let last = values::address4(line.word(1).ok_or(Fault::Parameters)?)?;
    let netmask = line.word(2).map(values::netmask).transpose()?;
    if first > last {
        return Err(Fault::Value(format!(
            "--ifconfig-pool start IP [{first}] is greater than end IP [{last}]"
        )));
    }
    if let Some((_, origin)) = &draft.server.pool {
        let text =
            format!("ifconfig-pool stands at {origin} already; that line is ignored, remove one of them");
        draft.warn(&line.origin, text);
    }
    draft.server.pool = Some((PoolLine { first, last, netmask }, line.origin.clone()));
    Ok(())
}

fn pool6(line: &Line, what: &str) -> Result<(core::net::Ipv6Addr, u8), Fault> {
    let (address, bits) = values::prefix6(line.first()?)?;
    if !(64..=124).contains(&bits) {
        return Err(Fault::Value(format!("{what} must be between /64 and /124 (not /{bits})")));
    }
    Ok((address, bits))
}

/// A comma ends an option in PUSH_REPLY (`openvpn: push.c`, `push_option_ex`).
fn push(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    draft.server.push.push(pushed(line)?.into());
    Ok(())
}

/// The option that `push` names.
pub(crate) fn pushed(line: &Line) -> Result<&str, Fault> {
    let text = line.first()?;
    if text.contains(',') {
        return Err(Fault::Value(format!("PUSH OPTION FAILED (illegal comma (',') in string): '{text}'")));
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Fault::Value("there is no option to push".into()));
    }
    Ok(text)
}

fn rate(line: &Line) -> Result<Rate, Fault> {
    let events = values::number(line.first()?, 1, i32::MAX as u64)? as u32;
    let period = values::number(line.word(1).ok_or(Fault::Parameters)?, 1, i32::MAX as u64)?;
    Ok(Rate { events, period: Duration::from_secs(period) })
}

fn token(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let lifetime = line.word(0).map_or(Ok(Duration::ZERO), values::seconds)?;
    let mut token = TokenLine { lifetime, renewal: None, external: false };
    for (index, word) in line.words.iter().enumerate().skip(1) {
        if word == "external-auth" {
            token.external = true;
        } else if index == 1 {
            token.renewal = Some(values::seconds(word)?).filter(|time| !time.is_zero());
        } else {
            return Err(Fault::Value(format!("Invalid argument to auth-gen-token: {word}")));
        }
    }
    draft.server.token = Some((token, line.origin.clone()));
    Ok(())
}
