//! `oxivpn setup`: a whole small deployment out of nothing, and its clients afterwards.
//!
//! A directory holds all of it, and nothing else does: the certificates in it are the list of clients, `crl.pem` tells
//! which of them are revoked, and `client.conf` is what each client's profile begins with.

mod authority;
mod clients;
mod deploy;
mod files;
mod plan;
#[cfg(test)]
mod tests;
mod words;

use std::path::PathBuf;

use anyhow::{Result, bail};

use plan::Plan;

/// First words of command lines that are for [`run`].
pub const VERBS: [&str; 4] = ["setup", "add-client", "revoke", "list-clients"];

const HELP: &str = "\
Makes a server with its clients: certificates, keys and profiles.

  oxivpn setup DIR --host NAME [options]   make all of it in the new directory DIR
  oxivpn add-client DIR NAME...            one more client: DIR/clients/NAME.ovpn
  oxivpn revoke DIR NAME...                this client may not come in any more
  oxivpn list-clients DIR                  who there is, until when, and who is revoked

Options of setup:
  --host NAME          where clients find the server: a host name, or an address
  --client NAME        a client to begin with; may be repeated; client1 if there is none
  --proto udp|tcp      udp is faster, tcp gets through more firewalls; udp if not given
  --port N             1194 if not given
  --network NET/BITS   addresses of the tunnel, 10.8.0.0/24 if not given
  --network6 NET/BITS  IPv6 as well, such as fd00:1:2:3::/64; or `none`
  --internet           clients reach the whole internet through the server, names included
  --dns ADDRESS        name server for the clients; may be repeated

The server then runs with `oxivpn DIR/server.conf`. Any OpenVPN program can use these files, too.
";

/// Does what `verb`, one of [`VERBS`], asks for with `args` behind it; returns what to tell the user.
pub fn run(verb: &str, args: &[String]) -> Result<String> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Ok(HELP.into());
    }
    if verb == "setup" {
        return deploy::make(&Plan::parse(args)?);
    }
    let (dir, names) = match args {
        [] => bail!("which directory? Write `oxivpn {verb} DIR`, with what `oxivpn setup` has made"),
        [dir, names @ ..] => (PathBuf::from(dir), names),
    };
    match (verb, names) {
        ("list-clients", []) => clients::list(&dir),
        ("list-clients", _) => bail!("takes a directory and nothing else"),
        (_, []) => bail!("which client? Write `oxivpn {verb} DIR NAME`"),
        ("add-client", names) => clients::add(&dir, names),
        (_, names) => clients::revoke(&dir, names),
    }
}
