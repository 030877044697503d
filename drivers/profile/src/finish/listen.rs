//! Sockets that wait for others: `local`, `port`, `proto`, `bind` (`openvpn: options.c`,
//! `options_postprocess_mutate_le`).

use core::net::IpAddr;

use super::role::Kind;
use crate::draft::Draft;
use crate::draft::server::{End, LocalLine, ProtocolWord};
use crate::error::ProfileError;
use crate::profile::{Family, Protocol};
use crate::server::Listen;
use crate::warn::Origin;

const DEFAULT_PORT: u16 = 1194;

/// All sockets of a server or of a peer; a peer that connects by TCP has none.
pub(super) fn sockets(draft: &Draft, kind: Kind) -> Result<Vec<Listen>, ProfileError> {
    let lines = &draft.server.locals;
    if let (Kind::Peer(_), [_, second, ..]) = (kind, lines.as_slice()) {
        let text = "multiple --local statements only allowed in --server mode".into();
        return Err(ProfileError::at(&second.origin, text).cure("Keep one of them"));
    }
    let global = protocol(draft, kind)?;
    if lines.is_empty() {
        let origin = draft.server.protocol.as_ref().map_or_else(command_line, |(_, origin)| origin.clone());
        let line = LocalLine { address: None, port: None, protocol: None, origin };
        return Ok(one(draft, kind, &line, &global)?.into_iter().collect());
    }
    let mut found: Vec<Listen> = Vec::new();
    for line in lines {
        let Some(listen) = one(draft, kind, line, &global)? else { continue };
        let twin = found.iter().find(|other| {
            let same = (other.address, other.port, other.protocol, other.family);
            listen.port != 0 && same == (listen.address, listen.port, listen.protocol, listen.family)
        });
        if let Some(twin) = twin {
            let text = format!("local: this socket has two owners, the line at {} names it too", twin.origin);
            return Err(ProfileError::at(&line.origin, text)
                .cure("Remove one of the lines, or give one another address, port, or protocol"));
        }
        found.push(listen);
    }
    Ok(found)
}

fn command_line() -> Origin {
    Origin { file: crate::grammar::COMMAND_LINE.into(), line: 0 }
}

fn one(
    draft: &Draft,
    kind: Kind,
    line: &LocalLine,
    global: &ProtocolWord,
) -> Result<Option<Listen>, ProfileError> {
    // A peer's own line can't change the protocol, as in OpenVPN.
    let word = match (&line.protocol, kind) {
        (Some(word), Kind::Server) => word,
        _ => global,
    };
    let at = |text: String, cure: &str| Err(ProfileError::at(&line.origin, text).cure(cure));
    if word.end == End::Client {
        return match kind {
            Kind::Server => at(only_these(), "Write `tcp-server`"),
            _ => Ok(None),
        };
    }
    let named = if word.family == Family::Any { draft.connection.family } else { word.family };
    let family = match line.address {
        None => named,
        Some(IpAddr::V4(_)) if named == Family::V6 => {
            return at(
                "local: an IPv4 address, and the protocol is for IPv6 only".into(),
                "Write `udp` or `tcp-server`",
            );
        }
        Some(IpAddr::V6(_)) if named == Family::V4 => {
            return at(
                "local: an IPv6 address, and the protocol is for IPv4 only".into(),
                "Write `udp` or `tcp-server`",
            );
        }
        Some(IpAddr::V4(_)) => Family::V4,
        Some(IpAddr::V6(_)) => Family::V6,
    };
    Ok(Some(Listen {
        address: line.address,
        port: line.port.or(draft.server.port).unwrap_or(DEFAULT_PORT),
        protocol: word.protocol,
        family,
        ipv6_only: draft.connection.ipv6_only && family != Family::V4,
        origin: line.origin.clone(),
    }))
}

/// The `proto` that holds where a line says nothing else.
fn protocol(draft: &Draft, kind: Kind) -> Result<ProtocolWord, ProfileError> {
    let Some((word, origin)) = draft.server.protocol.clone() else {
        let word = ProtocolWord { protocol: Protocol::Udp, family: Family::Any, end: End::Both };
        return Ok(word);
    };
    let at = |text: String, cure: &str| Err(ProfileError::at(&origin, text).cure(cure));
    match (word.end, kind) {
        // `server` makes clear which end is meant; `mode server` alone does not.
        (End::Open, Kind::Server) if draft.server.server.is_none() => at(
            "--proto tcp is ambiguous in this context. Please specify --proto tcp-server or --proto tcp-client".into(),
            "Write `proto tcp-server`",
        ),
        (End::Client, Kind::Server) => at(only_these(), "Write `proto tcp-server`"),
        (End::Open, Kind::Server) => Ok(ProtocolWord { end: End::Server, ..word }),
        (End::Open, _) => Ok(ProtocolWord { end: End::Client, ..word }),
        _ => Ok(word),
    }
}

fn only_these() -> String {
    "--mode server currently only supports --proto values of udp, tcp-server, tcp4-server, or tcp6-server"
        .into()
}
