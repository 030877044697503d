//! The process, logging, scripts, the management interface (man sections generic, log, script, management).

use std::path::PathBuf;

use oxivpn_proto::options::values;

use super::tls::signed;
use super::{Entry, honoured, not_built, quiet, refused, structural, warned};
use crate::command::{self, Show};
use crate::draft::{Draft, Fault};
use crate::grammar::Line;
use crate::profile::{LogFile, RestartAs};

const SCRIPT: (&str, &str) =
    ("running scripts", "Remove the line; start what it did from a wrapper around this program");
const MANAGEMENT: (&str, &str) = ("the management interface", "Remove the line, or use the OpenVPN client");
const ONE_SHOT: &str = "commands other than connecting";
const SYSTEMD: &str = "Remove the line and run this program as a service, for example under systemd";

pub(super) const ENTRIES: &[Entry] = &[
    structural("help"),
    structural("version"),
    structural("config"),
    honoured("verb LEVEL", 1, 1, |d, l| {
        d.log.verbosity = values::integer(l.first()?)?.min(11) as u8;
        Ok(())
    }),
    honoured("mute N", 1, 1, |d, l| {
        d.log.mute = values::integer(l.first()?)?;
        Ok(())
    }),
    honoured("suppress-timestamps", 0, 0, |d, _| {
        d.log.no_timestamps = true;
        Ok(())
    }),
    honoured("machine-readable-output", 0, 0, |d, _| {
        d.log.machine_readable = true;
        Ok(())
    }),
    honoured("log FILE", 1, 1, |d, l| {
        d.log.file = Some(LogFile { path: PathBuf::from(l.first()?), append: false });
        Ok(())
    }),
    honoured("log-append FILE", 1, 1, |d, l| {
        d.log.file = Some(LogFile { path: PathBuf::from(l.first()?), append: true });
        Ok(())
    }),
    warned("errors-to-stderr", "is ignored: all messages go one way; redirect the output or write `log`"),
    honoured("writepid FILE", 1, 1, |d, l| {
        d.process.pid_file = Some(PathBuf::from(l.first()?));
        Ok(())
    }),
    honoured("cd DIRECTORY", 1, 1, |d, l| {
        d.process.directory = Some(d.path(l.first()?));
        Ok(())
    }),
    honoured("nice N", 1, 1, |d, l| {
        d.process.nice = Some(signed(l.first()?, -20, 19)?);
        Ok(())
    }),
    honoured("remap-usr1 SIGHUP|SIGTERM", 1, 1, |d, l| {
        d.process.remap_usr1 = Some(match l.first()? {
            "SIGHUP" => RestartAs::Hup,
            "SIGTERM" => RestartAs::Term,
            _ => return Err(Fault::Value("--remap-usr1 parm must be 'SIGHUP' or 'SIGTERM'".into())),
        });
        Ok(())
    }),
    honoured("setenv NAME [VALUE]", 1, 2, setenv),
    honoured("setenv-safe NAME [VALUE]", 1, 2, |d, l| {
        let name = format!("OPENVPN_{}", l.first()?);
        d.process.environment.push((name, l.word(1).unwrap_or_default().into()));
        Ok(())
    }),
    honoured("script-security LEVEL", 1, 1, |_, l| {
        values::number(l.first()?, 0, 3)?;
        Ok(())
    }),
    honoured("persist-tun", 0, 0, |d, _| {
        d.persist_tun = true;
        Ok(())
    }),
    quiet("persist-key"),
    honoured("txqueuelen N", 1, 1, |d, l| {
        d.queue_len = Some(values::integer(l.first()?)?);
        Ok(())
    }),
    quiet("opt-verify"),
    not_built("daemon", "going to the background", SYSTEMD),
    not_built(
        "syslog",
        "writing to syslog",
        "Remove the line; under systemd the journal takes all messages, or write `log`",
    ),
    refused("inetd", "it was removed in OpenVPN 2.6", "Use a systemd socket unit"),
    not_built("status", "the status file", "Remove the line; the log tells when the connection changes"),
    quiet("status-version"),
    not_built(
        "user",
        "dropping privileges",
        "Remove the line; under systemd write `CapabilityBoundingSet=CAP_NET_ADMIN`",
    ),
    not_built(
        "group",
        "dropping privileges",
        "Remove the line; under systemd write `CapabilityBoundingSet=CAP_NET_ADMIN`",
    ),
    not_built(
        "chroot",
        "changing the root directory",
        "Remove the line; under systemd write `RootDirectory=`",
    ),
    not_built("setcon", "SELinux contexts", "Remove the line; under systemd write `SELinuxContext=`"),
    not_built("mlock", "locking memory", "Remove the line, and encrypt or disable swap"),
    not_built("up", SCRIPT.0, SCRIPT.1),
    not_built("down", SCRIPT.0, SCRIPT.1),
    // Without `up` and `down` these three change nothing.
    quiet("down-pre"),
    quiet("up-delay"),
    quiet("up-restart"),
    not_built("route-up", SCRIPT.0, SCRIPT.1),
    not_built("route-pre-down", SCRIPT.0, SCRIPT.1),
    not_built("ipchange", SCRIPT.0, SCRIPT.1),
    not_built("plugin", "plug-ins", "Remove the line, or use the OpenVPN client"),
    warned("iproute", "is ignored: addresses and routes are set without the `ip` program; remove the line"),
    not_built("management", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-client", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-client-user", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-client-group", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-query-passwords", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-query-remote", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-query-proxy", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-hold", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-signal", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-forget-disconnect", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-up-down", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-client-auth", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-external-key", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-external-cert", MANAGEMENT.0, MANAGEMENT.1),
    not_built("management-log-cache", MANAGEMENT.0, MANAGEMENT.1),
    refused(
        "management-client-pf",
        "packet filters were removed in OpenVPN 2.6",
        "Filter with `nft` on the tunnel device",
    ),
    not_built("mktun", ONE_SHOT, "Make the device with `ip tuntap add dev NAME mode tun`"),
    not_built("rmtun", ONE_SHOT, "Remove the device with `ip tuntap del dev NAME mode tun`"),
    honoured("genkey [TYPE] [FILE] [METADATA]", 0, 3, command::genkey),
    honoured("show-ciphers", 0, 0, |d, _| show(d, Show::Ciphers)),
    honoured("show-digests", 0, 0, |d, _| show(d, Show::Digests)),
    honoured("show-tls", 0, 0, |d, _| show(d, Show::Tls)),
    honoured("show-groups", 0, 0, |d, _| show(d, Show::Groups)),
    honoured("show-curves", 0, 0, |d, _| show(d, Show::Groups)),
    not_built("show-engines", ONE_SHOT, "Engines do not exist in this TLS library"),
    not_built("show-gateway", ONE_SHOT, "Ask the system with `ip route get ADDRESS`"),
    not_built("show-pkcs11-ids", ONE_SHOT, "List objects with `p11tool --list-all`"),
    not_built(
        "test-crypto",
        ONE_SHOT,
        "The test suite of this program checks the ciphers against known answers",
    ),
    refused(
        "gremlin",
        "faults at random belong to tests",
        "Remove the line; `tc qdisc add dev DEVICE root netem` drops and delays packets",
    ),
    warned("memstats", "is ignored: it was removed in OpenVPN 2.7; remove the line"),
];

#[expect(clippy::unnecessary_wraps, reason = "what the table calls")]
fn show(draft: &mut Draft, what: Show) -> Result<(), Fault> {
    draft.show.push(what);
    Ok(())
}

fn setenv(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let name = line.first()?;
    let value = line.word(1);
    match (name, value) {
        ("REMOTE_RANDOM_HOSTNAME", None) => draft.random_hostname = true,
        ("PUSH_PEER_INFO", None) => draft.push_peer_info = true,
        ("SERVER_POLL_TIMEOUT", Some(word)) => draft.connection.poll_timeout = values::seconds(word)?,
        ("GENERIC_CONFIG", _) => {
            return Err(Fault::Refused(
                "this is a generic configuration and cannot directly be used".into(),
                "Download a profile for your own user from the server's web page".into(),
            ));
        }
        _ => {
            if (name, value) == ("FORWARD_COMPATIBLE", Some("1")) {
                draft.forward_compatible = true;
            }
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(legal) {
                return Err(Fault::Value(format!("'{}' is not a variable's name", name.escape_debug())));
            }
            let value = value.unwrap_or_default();
            if value.chars().any(char::is_control) {
                return Err(Fault::Value(format!("the value of {name} has a control character")));
            }
            draft.process.environment.push((name.into(), value.into()));
        }
    }
    Ok(())
}
