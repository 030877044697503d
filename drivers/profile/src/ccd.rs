//! Files of `client-config-dir`, and what a `client-connect` script writes: options of one client.

use core::net::Ipv4Addr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use oxivpn_proto::limits::MAX_USER_PASS;
use oxivpn_proto::options::compression::Compression;
use oxivpn_proto::options::{lexer, values};
use oxivpn_proto::pool::{ClientOverrides, Ifconfig6Push, IfconfigPush, PushEdit};

use crate::draft::Fault;
use crate::error::ProfileError;
use crate::grammar::Line;
use crate::load::{Files, reason};
use crate::reader::unrecognized;
use crate::table::{self, server};
use crate::warn::Origin;

/// Name of the file for clients that have none of their own.
pub const DEFAULT: &str = "DEFAULT";

/// What a text says about one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFile {
    /// Options that are in force.
    pub overrides: ClientOverrides,
    /// Lines that are not, each with file, line and cure. OpenVPN logs them and lets the client in.
    pub problems: Vec<ProfileError>,
}

/// Files that one client's may go on in.
const MAX_FILES: u32 = 32;

/// Reads the options of one client. `name` stands in messages as the file's name. `config FILE` goes on in another
/// file.
pub fn parse(files: &dyn Files, name: &str, text: &str) -> ClientFile {
    let (mut found, mut left) = (ClientFile::default(), MAX_FILES);
    add(&mut found, files, name, text, &mut left);
    found
}

fn add(found: &mut ClientFile, files: &dyn Files, name: &str, text: &str, left: &mut u32) {
    let file: Arc<str> = name.into();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, raw) in text.lines().enumerate() {
        let origin = Origin { file: Arc::clone(&file), line: index as u32 + 1 };
        let words = match lexer::split(raw) {
            Ok(words) => words,
            Err(error) => {
                let cure = "Quotes come in pairs, and a backslash is written twice";
                found.problems.push(ProfileError::at(&origin, error.to_string()).cure(cure));
                continue;
            }
        };
        let mut words = words.into_iter().map(std::borrow::Cow::into_owned);
        let Some(name) = words.next() else { continue };
        let name = name.strip_prefix("--").unwrap_or(&name).to_string();
        let line = Line { name, words: words.collect(), inline: None, origin };
        let result = match line.name.as_str() {
            "config" => include(found, files, &line, left),
            _ => apply(&mut found.overrides, &line),
        };
        if let Err(error) = result {
            found.problems.push(error);
        }
    }
}

/// `config FILE`. What can't be read might keep the client out, and does so: OpenVPN lets it in.
fn include(
    found: &mut ClientFile,
    files: &dyn Files,
    line: &Line,
    left: &mut u32,
) -> Result<(), ProfileError> {
    let [name] = line.words.as_slice() else {
        return Err(unrecognized(&line.origin, &line.name).cure("Write `config FILE`"));
    };
    let Some(fewer) = left.checked_sub(1) else {
        found.overrides.disable = true;
        let text = format!("config: {name} is one of more than {MAX_FILES} files; the client is disabled");
        return Err(ProfileError::at(&line.origin, text).cure("A file must not name itself"));
    };
    *left = fewer;
    match files.read(Path::new(name)) {
        Ok(bytes) => {
            add(found, files, name, &String::from_utf8_lossy(&bytes), left);
            Ok(())
        }
        Err(error) => {
            found.overrides.disable = true;
            let (why, cure) = reason(&error);
            let text = format!("config: cannot read {name}: {why}; the client is disabled");
            Err(ProfileError::at(&line.origin, text).cure(cure))
        }
    }
}

fn apply(client: &mut ClientOverrides, line: &Line) -> Result<(), ProfileError> {
    let (usage, least, most, take): (&str, usize, usize, Take) = match line.name.as_str() {
        "disable" => ("disable", 0, 0, |c, _| {
            c.disable = true;
            Ok(())
        }),
        "ifconfig-push" => ("ifconfig-push ADDRESS NETMASK-OR-FAR-END [ALIAS]", 2, 3, ifconfig_push),
        "ifconfig-ipv6-push" => ("ifconfig-ipv6-push ADDRESS/BITS [FAR-END]", 1, 2, ifconfig_ipv6_push),
        "iroute" => ("iroute NETWORK [NETMASK]", 1, 2, iroute),
        "iroute-ipv6" => ("iroute-ipv6 NETWORK/BITS", 1, 1, iroute_ipv6),
        "push" => ("push \"OPTION\"", 1, 1, |c, l| {
            c.push.push(PushEdit::Add(server::pushed(l)?.into()));
            Ok(())
        }),
        "push-remove" => ("push-remove \"BEGINNING\"", 1, 1, |c, l| {
            c.push.push(PushEdit::Remove(l.first()?.into()));
            Ok(())
        }),
        "push-reset" => ("push-reset", 0, 0, |c, _| {
            c.push.push(PushEdit::Reset);
            Ok(())
        }),
        "session-timeout" => ("session-timeout SECONDS", 1, 1, |c, l| {
            c.session_timeout = Some(values::seconds(l.first()?)?);
            Ok(())
        }),
        "inactive" => ("inactive SECONDS [BYTES]", 1, 2, |c, l| {
            let bytes = l.word(1).map_or(Ok(0), |word| values::number(word, 0, i64::MAX as u64))?;
            c.inactive = Some((values::seconds(l.first()?)?, bytes));
            Ok(())
        }),
        "comp-lzo" => ("comp-lzo [no|yes|adaptive]", 0, 1, compression),
        "compress" => ("compress [stub|stub-v2|migrate|lzo|lz4|lz4-v2]", 0, 1, compression),
        "override-username" => ("override-username NAME", 1, 1, override_username),
        // They change nothing here.
        "echo" | "parameter" | "ping-timer-rem" | "socket-flags" => return Ok(()),
        _ => return Err(not_here(line)),
    };
    let cure = || format!("Write `{usage}`");
    if !(least..=most).contains(&line.words.len()) {
        return Err(unrecognized(&line.origin, &line.name).cure(cure()));
    }
    take(client, line).map_err(|fault| match fault {
        Fault::Parameters => unrecognized(&line.origin, &line.name).cure(cure()),
        Fault::Value(text) => ProfileError::at(&line.origin, format!("{}: {text}", line.name)).cure(cure()),
        Fault::Refused(text, cure) => ProfileError::at(&line.origin, text).cure(cure),
    })
}

type Take = fn(&mut ClientOverrides, &Line) -> Result<(), Fault>;

/// What OpenVPN takes for a client (`openvpn: multi.h`, `CLIENT_CONNECT_OPT_MASK`) and is the same for all here.
const FOR_ALL: [&str; 11] = [
    "max-routes-per-client",
    "ping",
    "ping-exit",
    "ping-restart",
    "cipher",
    "data-ciphers",
    "ncp-ciphers",
    "data-ciphers-fallback",
    "auth-token",
    "auth-token-user",
    "vlan-pvid",
];

fn not_here(line: &Line) -> ProfileError {
    let name = line.name.as_str();
    if FOR_ALL.contains(&name) {
        let text = format!("`{name}` for one client is not built yet, the line is skipped");
        return ProfileError::at(&line.origin, text)
            .cure("Write it into the server's profile, where it holds for all");
    }
    if table::find(name).is_some() {
        let text = format!("option '{name}' cannot be used in this context ({})", line.origin.file);
        return ProfileError::at(&line.origin, text).cure(format!(
            "Write it into the server's profile, or push it to the client: `push \"{name} ..\"`"
        ));
    }
    let error = unrecognized(&line.origin, name);
    match table::nearest(name) {
        Some(name) => error.cure(format!("Did you mean `{name}`?")),
        None => error.cure("Remove the line"),
    }
}

fn compression(client: &mut ClientOverrides, line: &Line) -> Result<(), Fault> {
    client.framing = Some(Compression::parse(&line.all())?.framing());
    Ok(())
}

fn ifconfig_push(client: &mut ClientOverrides, line: &Line) -> Result<(), Fault> {
    client.ifconfig_push = Some(IfconfigPush {
        local: values::address4(line.first()?)?,
        remote_or_netmask: values::address4(line.word(1).ok_or(Fault::Parameters)?)?,
        alias: line.word(2).map(values::address4).transpose()?,
    });
    Ok(())
}

fn ifconfig_ipv6_push(client: &mut ClientOverrides, line: &Line) -> Result<(), Fault> {
    let (address, bits) = values::prefix6(line.first()?)?;
    let local = Ipv6Net::new(address, bits).map_err(|error| Fault::Value(error.to_string()))?;
    client.ifconfig_ipv6_push =
        Some(Ifconfig6Push { local, remote: line.word(1).map(values::address6).transpose()? });
    Ok(())
}

fn iroute(client: &mut ClientOverrides, line: &Line) -> Result<(), Fault> {
    let network = values::address4(line.first()?)?;
    let netmask = line.word(1).map_or(Ok(Ipv4Addr::BROADCAST), values::netmask)?;
    let net = Ipv4Net::with_netmask(network, netmask).map_err(|error| Fault::Value(error.to_string()))?;
    client.iroutes.push(net.trunc());
    Ok(())
}

fn iroute_ipv6(client: &mut ClientOverrides, line: &Line) -> Result<(), Fault> {
    let (network, bits) = values::prefix6(line.first()?)?;
    let net = Ipv6Net::new(network, bits).map_err(|error| Fault::Value(error.to_string()))?;
    client.iroutes6.push(net.trunc());
    Ok(())
}

/// A name that can't be had keeps the client out, as it would get in under another (`openvpn: options.c`).
fn override_username(client: &mut ClientOverrides, line: &Line) -> Result<(), Fault> {
    let name = line.first()?;
    if name.is_empty() || name.len() >= MAX_USER_PASS || name.chars().any(char::is_control) {
        client.disable = true;
        return Err(Fault::Value(format!(
            "override-username must have 1 to {} characters, none of them a control character; the client is disabled",
            MAX_USER_PASS - 1
        )));
    }
    client.override_username = Some(name.into());
    Ok(())
}

/// A common name as the name of a file (`openvpn: platform.c`, `platform_gen_path`): what could lead to another
/// directory becomes `_`, and names that mean directories have no file.
pub fn file_name(common_name: &str) -> Option<String> {
    let plain = |c: char| if c == '/' || c.is_control() { '_' } else { c };
    let name: String = common_name.chars().map(plain).collect();
    (!matches!(name.as_str(), "" | "." | "..")).then_some(name)
}

/// The file of the client with this common name and its text: its own, or [`DEFAULT`]; `None` if there is neither. With
/// `exclusive` (`ccd-exclusive`) only its own counts, and `None` means that it may not come in. A file that is there and
/// can't be read is an error, and no reason to let the client in as if there were none.
pub fn read(
    files: &dyn Files,
    directory: &Path,
    common_name: &str,
    exclusive: bool,
) -> Result<Option<(PathBuf, String)>, ProfileError> {
    let own = file_name(common_name).filter(|name| !exclusive || name != DEFAULT);
    let default = (!exclusive).then(|| DEFAULT.to_string());
    for name in own.into_iter().chain(default) {
        let path = directory.join(name);
        match files.read(&path) {
            Ok(bytes) => return Ok(Some((path, String::from_utf8_lossy(&bytes).into_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let (why, cure) = reason(&error);
                let text = format!("--client-config-dir: cannot read {}: {why}", path.display());
                return Err(ProfileError::whole(text, cure));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use oxivpn_proto::config::params::Framing;

    use super::*;
    use crate::Disk;

    fn options(text: &str) -> ClientOverrides {
        let found = parse(&Disk, "c1", text);
        assert_eq!(found.problems, []);
        found.overrides
    }

    #[test]
    fn all_options() {
        let text = "# a comment\r\n\nifconfig-push 10.8.0.9 255.255.255.0 192.0.2.1\nifconfig-ipv6-push fd00::9/64 fd00::1\n\
                    iroute 192.168.4.7 255.255.255.0\niroute 192.0.2.9\niroute-ipv6 2001:db8::5/48\n\
                    push \"route 10.0.0.0 255.0.0.0\"\npush-remove route\npush-reset\nsession-timeout 60\ninactive 9 5\n\
                    override-username alice\n--disable\necho x\ncompress\ncomp-lzo no";
        let client = options(text);
        let push = client.ifconfig_push.unwrap();
        assert_eq!((push.local, push.alias), ([10, 8, 0, 9].into(), Some([192, 0, 2, 1].into())));
        assert_eq!(push.remote_or_netmask, Ipv4Addr::from([255, 255, 255, 0]));
        let push = client.ifconfig_ipv6_push.unwrap();
        assert_eq!((push.local, push.remote), ("fd00::9/64".parse().unwrap(), "fd00::1".parse().ok()));
        assert_eq!(client.iroutes, ["192.168.4.0/24".parse().unwrap(), "192.0.2.9/32".parse().unwrap()]);
        assert_eq!(client.iroutes6, ["2001:db8::/48".parse().unwrap()]);
        let edits = [
            PushEdit::Add("route 10.0.0.0 255.0.0.0".into()),
            PushEdit::Remove("route".into()),
            PushEdit::Reset,
        ];
        assert_eq!(client.push, edits);
        assert_eq!(client.session_timeout, Some(core::time::Duration::from_secs(60)));
        assert_eq!(client.inactive, Some((core::time::Duration::from_secs(9), 5)));
        assert_eq!(client.override_username.as_deref(), Some("alice"));
        assert_eq!(client.framing, Some(Framing::Stub));
        assert!(client.disable);
        assert_eq!(options(""), ClientOverrides::default());
    }

    #[test]
    fn problems_name_their_line_and_spare_the_others() {
        let table = [
            (
                "ifconfig-push 10.8.0.9",
                "parameter(s) in ccd/c1:2: ifconfig-push. Write `ifconfig-push ADDRESS",
            ),
            ("ifconfig-push a b", "In ccd/c1:2: ifconfig-push: 'a' is not an IPv4 address"),
            ("iroute 10.0.0.0 255.0.255.0", "In ccd/c1:2: iroute: '255.0.255.0' is not a netmask"),
            ("iroute-ipv6 fd00::/129", "In ccd/c1:2: iroute-ipv6: '129' is not a number"),
            ("push \"a,b\"", "PUSH OPTION FAILED (illegal comma (',') in string): 'a,b'"),
            ("dissable", "in ccd/c1:2: dissable. Did you mean `disable`?"),
            ("frobnicate", "in ccd/c1:2: frobnicate. Remove the line"),
            ("dev tun", "option 'dev' cannot be used in this context (ccd/c1)"),
            ("compress snappy", "In ccd/c1:2: compress: bad comp option: snappy"),
            ("cipher AES-256-GCM", "`cipher` for one client is not built yet"),
            ("push \"a", "In ccd/c1:2: No closing quotation"),
        ];
        for (line, expected) in table {
            let found = parse(&Disk, "ccd/c1", &format!("iroute 10.1.0.0\n{line}\ndisable"));
            let [error] = found.problems.as_slice() else { panic!("{line}: {:?}", found.problems) };
            assert!(error.to_string().starts_with("Options error: "), "{error}");
            assert!(error.to_string().contains(expected), "{line}: {error}");
            assert!(error.cure.is_some());
            assert!(found.overrides.disable && found.overrides.iroutes.len() == 1, "{line}");
        }
        let long = parse(&Disk, "c", &format!("override-username {}", "a".repeat(200)));
        assert!(long.overrides.disable && long.problems.len() == 1);
    }

    #[test]
    fn names_stay_in_the_directory() {
        let table = [
            ("client-1", Some("client-1")),
            ("a/../../b", Some("a_.._.._b")),
            ("/etc/passwd", Some("_etc_passwd")),
            ("a\0b\n", Some("a_b_")),
            ("Zo\u{eb}", Some("Zo\u{eb}")),
            ("..", None),
            (".", None),
            ("", None),
        ];
        for (name, file) in table {
            assert_eq!(file_name(name).as_deref(), file, "{name:?}");
        }
    }
}
