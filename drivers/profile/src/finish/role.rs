//! Client, server or peer, and which options go with it (`openvpn: options.c`, `options_postprocess_verify_ce`).

use crate::draft::Draft;
use crate::draft::scope::Scope;
use crate::error::ProfileError;

/// What a profile describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Client,
    Server,
    /// Point to point; whether it is the TLS server.
    Peer(bool),
}

/// Finds out what the profile describes, and refuses or warns of options that don't go with it.
pub(super) fn kind(draft: &mut Draft) -> Result<Kind, ProfileError> {
    only_tunnels(draft)?;
    let kind = choose(draft)?;
    scopes(draft, kind)?;
    Ok(kind)
}

/// Refuses what is no tunnel, or none that is built.
fn only_tunnels(draft: &Draft) -> Result<(), ProfileError> {
    if let Some((_, origin)) = &draft.secret {
        let text = "`secret` is not built yet: a static-key tunnel without TLS".into();
        return Err(ProfileError::at(origin, text)
            .cure("Use TLS: `client`, `ca`, `cert`, and `key`, or `peer-fingerprint`"));
    }
    if draft.genkey.is_some() || !draft.show.is_empty() {
        let text = "`genkey` and `show-..` belong to the command line";
        return Err(ProfileError::whole(text, "Remove the line"));
    }
    Ok(())
}

fn choose(draft: &Draft) -> Result<Kind, ProfileError> {
    let server = &draft.server;
    let macros = [
        ("server", server.server.as_ref().map(|(_, origin)| origin)),
        ("server-ipv6", server.server6.as_ref().map(|(_, origin)| origin)),
        ("mode server", server.mode.as_ref()),
    ];
    let Some((name, origin)) = macros.into_iter().find_map(|(name, origin)| Some((name, origin?))) else {
        return choose_without_server(draft);
    };
    let at = |text: String, cure: &str| Err(ProfileError::at(origin, text).cure(cure));
    if server.client.is_some() {
        let text = format!("--{name} and --client cannot be used together");
        return at(text, "Keep `client` to connect to a server, or the other line to be one");
    }
    if draft.tls_client {
        let text = format!(
            "specify only one of --tls-server, --tls-client, or --secret; --{name} needs --tls-server"
        );
        return at(text, "Remove `tls-client`");
    }
    if name == "mode server" && server.tls_server.is_none() {
        return at("--mode server requires --tls-server".into(), "Add a line `tls-server`");
    }
    Ok(Kind::Server)
}

fn choose_without_server(draft: &Draft) -> Result<Kind, ProfileError> {
    match (draft.tls_client, &draft.server.tls_server) {
        (false, None) => Err(ProfileError::whole(
            "The profile says neither `client` nor `tls-client`",
            "Add a line `client`, or for a server `server NETWORK NETMASK`, or for one end of a point-to-point tunnel \
             `tls-server` or `tls-client`",
        )),
        (true, Some(origin)) => {
            let text = "specify only one of --tls-server, --tls-client, or --secret".into();
            Err(ProfileError::at(origin, text).cure("Keep the one that the other side does not have"))
        }
        (true, None) if draft.pull => Ok(Kind::Client),
        (true, None) => Ok(Kind::Peer(false)),
        (false, Some(origin)) if draft.pull => {
            let text = "`pull` needs --tls-client, and this is --tls-server".into();
            Err(ProfileError::at(origin, text).cure("Remove `pull`"))
        }
        (false, Some(_)) => Ok(Kind::Peer(true)),
    }
}

fn scopes(draft: &mut Draft, kind: Kind) -> Result<(), ProfileError> {
    for line in std::mem::take(&mut draft.scoped) {
        match (line.scope, kind) {
            (Scope::Server, Kind::Client | Kind::Peer(_)) => {
                let text = format!("--{} requires --mode server", line.name);
                return Err(ProfileError::at(&line.origin, text)
                    .cure("Remove the line, or write `server NETWORK NETMASK` to be a server"));
            }
            (Scope::NotServer(text, cure), Kind::Server) => {
                return Err(ProfileError::at(&line.origin, text.into()).cure(cure));
            }
            (Scope::ServerOrWarn(text), Kind::Client | Kind::Peer(_))
            | (Scope::ListenerOrWarn(text), Kind::Client) => {
                draft.scripts.commands.remove(line.name);
                draft.warn(&line.origin, format!("option `{}` {text}", line.name));
            }
            _ => {}
        }
    }
    if let (Kind::Server, Some(origin)) = (kind, &draft.block_at) {
        let text = "<connection> cannot be used with --mode server".into();
        return Err(
            ProfileError::at(origin, text).cure("Name sockets with `local ADDRESS PORT PROTO` in its place")
        );
    }
    match (kind, &draft.server.tcp_server, &draft.user_pass_at) {
        (Kind::Client, Some((word, origin)), _) => {
            Err(ProfileError::at(origin, format!("`{word}` is not built yet"))
                .cure("A client writes `tcp-client`"))
        }
        (Kind::Peer(_), _, Some(origin)) => {
            Err(ProfileError::at(origin, "--auth-user-pass requires --pull".into())
                .cure("Remove the line; the ends of a point-to-point tunnel know each other by certificate"))
        }
        _ => Ok(()),
    }
}
