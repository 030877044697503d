//! Scripts (man section script).

use oxivpn_proto::options::values;

use super::{Entry, honoured, not_built, warned};
use crate::draft::{Draft, Fault};
use crate::grammar::Line;

pub(super) const ENTRIES: &[Entry] = &[
    honoured("script-security LEVEL", 1, 1, |d, l| {
        d.scripts.security = values::number(l.first()?, 0, 3)? as u8;
        Ok(())
    }),
    honoured("up \"COMMAND\"", 1, 1, |d, l| command(d, l, "up")),
    honoured("down \"COMMAND\"", 1, 1, |d, l| command(d, l, "down")),
    honoured("down-pre", 0, 0, |d, _| {
        d.scripts.down_pre = true;
        Ok(())
    }),
    // Clients and peers open the device once the tunnel stands, with or without it.
    honoured("up-delay", 0, 0, |_, _| Ok(()))
        .not_server("--up-delay cannot be used with --mode server", "Remove the line"),
    honoured("up-restart", 0, 0, |d, _| {
        d.scripts.up_restart = true;
        Ok(())
    }),
    honoured("route-up \"COMMAND\"", 1, 1, |d, l| command(d, l, "route-up")),
    honoured("route-pre-down \"COMMAND\"", 1, 1, |d, l| command(d, l, "route-pre-down")),
    honoured("ipchange \"COMMAND\"", 1, 1, |d, l| command(d, l, "ipchange")).not_server(
        "--ipchange cannot be used with --mode server (use --client-connect instead)",
        "Write `client-connect` or `learn-address` in its place",
    ),
    honoured("tls-verify \"COMMAND\"", 1, 1, |d, l| command(d, l, "tls-verify")),
    honoured("client-connect \"COMMAND\"", 1, 1, |d, l| command(d, l, "client-connect")).server_only(),
    honoured("client-disconnect \"COMMAND\"", 1, 1, |d, l| command(d, l, "client-disconnect")).server_only(),
    honoured("client-crresponse \"COMMAND\"", 1, 1, |d, l| command(d, l, "client-crresponse")).server_only(),
    honoured("learn-address \"COMMAND\"", 1, 1, |d, l| command(d, l, "learn-address")).server_only(),
    honoured("tls-crypt-v2-verify \"COMMAND\"", 1, 1, |d, l| command(d, l, "tls-crypt-v2-verify"))
        .or_warn("is ignored: it has a meaning only with `mode server`; remove the line"),
    not_built("plugin", "plug-ins", "Remove the line, or use the OpenVPN client"),
    warned("iproute", "is ignored: addresses and routes are set without the `ip` program; remove the line"),
];

/// Keeps the command line of a script. Commas of `ipchange` and `tls-verify` stand for blanks, as in OpenVPN.
pub(super) fn command(draft: &mut Draft, line: &Line, name: &'static str) -> Result<(), Fault> {
    let mut text = line.first()?.to_string();
    if matches!(name, "ipchange" | "tls-verify") {
        text = text.replace(',', " ");
    }
    if draft.scripts.commands.insert(name, (text, line.origin.clone())).is_some() {
        let text =
            format!("Multiple --{name} scripts defined.  The previously configured script is overridden.");
        draft.warn(&line.origin, text);
    }
    Ok(())
}
