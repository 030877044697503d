//! The process and logging (man sections generic, log, unsupported).

use std::path::PathBuf;
use std::time::Duration;

use oxivpn_proto::gremlin::Mask;
use oxivpn_proto::options::values;

use super::tls::signed;
use super::{Entry, honoured, not_built, quiet, refused, structural, warned};
use crate::command::{self, Show};
use crate::draft::{Draft, Fault};
use crate::grammar::Line;
use crate::profile::{GremlinOptions, LogFile, NewestFormat, RestartAs};

const ONE_SHOT: &str = "commands other than connecting";
/// Name in the system's log if none is given.
const PROGRAM: &str = "oxivpn";

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
    honoured("daemon [NAME]", 0, 1, |d, l| {
        if d.process.daemon.is_none() {
            d.process.daemon = Some(l.word(0).unwrap_or(PROGRAM).into());
        } else if let Some(name) = l.word(0) {
            d.warn(&l.origin, format!("Multiple --daemon directives specified, ignoring --daemon {name}"));
        }
        Ok(())
    }),
    honoured("syslog [NAME]", 0, 1, |d, l| {
        d.process.syslog = Some(l.word(0).unwrap_or(PROGRAM).into());
        Ok(())
    }),
    refused("inetd", "it was removed in OpenVPN 2.6", "Use a systemd socket unit"),
    honoured("status FILE [SECONDS]", 1, 2, |d, l| {
        let every = l.word(1).map_or(Ok(Duration::from_secs(60)), values::seconds)?;
        d.status = Some((l.first()?.into(), every));
        Ok(())
    }),
    honoured("status-version VERSION", 1, 1, |d, l| {
        d.status_version = values::number(l.first()?, 1, 3)? as u8;
        Ok(())
    }),
    honoured("user NAME", 1, 1, |d, l| {
        d.process.user = Some(l.first()?.into());
        Ok(())
    }),
    honoured("group NAME", 1, 1, |d, l| {
        d.process.group = Some(l.first()?.into());
        Ok(())
    }),
    honoured("chroot DIRECTORY", 1, 1, |d, l| {
        d.process.chroot = Some(PathBuf::from(l.first()?));
        Ok(())
    }),
    not_built("setcon", "SELinux contexts", "Remove the line; under systemd write `SELinuxContext=`"),
    not_built("mlock", "locking memory", "Remove the line, and encrypt or disable swap"),
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
    honoured("gremlin MASK [SEED]", 1, 2, |d, l| {
        let mask = Mask::from(values::integer(l.first()?)?);
        let seed = l.word(1).map(|word| values::number(word, 0, u64::MAX)).transpose()?;
        d.process.gremlin = Some(GremlinOptions { mask, seed }).filter(|_| !mask.is_empty());
        Ok(())
    }),
    honoured("data-format v1|v2|epoch", 1, 1, |d, l| {
        d.process.data_format = match l.first()? {
            "v1" => NewestFormat::V1,
            "v2" => NewestFormat::V2,
            "epoch" => NewestFormat::Epoch,
            other => return Err(Fault::Value(format!("'{other}' must be v1, v2 or epoch"))),
        };
        Ok(())
    }),
    honoured("ecn on|off", 1, 1, |d, l| {
        d.process.without_ecn = match l.first()? {
            "on" => false,
            "off" => true,
            other => return Err(Fault::Value(format!("'{other}' must be on or off"))),
        };
        Ok(())
    }),
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
