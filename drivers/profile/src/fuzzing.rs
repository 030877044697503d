//! Body of the fuzz target for profile text; compiled and fed by every test run too.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oxivpn_proto::tls::{TlsFactory, TlsFailure, TlsFailureKind, TlsSession};
use zeroize::Zeroizing;

use crate::ccd;
use crate::load::Files;
use crate::profile::Profile;
use crate::server::Role;
use crate::{Command, parse_args};

/// Files whose content is all the same: what follows the first NUL of the input.
struct Echo<'d>(&'d [u8]);

impl Files for Echo<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path.to_string_lossy().len().is_multiple_of(3) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(self.0.to_vec())
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        Ok(self.0.to_vec())
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        Ok(vec!["17".into(), String::from_utf8_lossy(self.0).into_owned()])
    }

    fn executable(&self, path: &Path) -> io::Result<()> {
        self.read(path).map(|_| ())
    }

    fn open_to_others(&self, path: &Path) -> bool {
        path.to_string_lossy().len().is_multiple_of(2)
    }
}

struct NoTls;

impl TlsFactory for NoTls {
    fn client(&self, _unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        Err(TlsFailure { kind: TlsFailureKind::Local, message: "no TLS in this test".into() })
    }

    fn server(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        self.client(unix)
    }
}

/// Profile text, a NUL, and the content of every file that it names. The words of the first line are read
/// as a command line too.
pub fn run(data: &[u8]) {
    let (text, file) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let text = String::from_utf8_lossy(text);
    let files = Echo(file);
    match Profile::from_text("fuzz.ovpn", &text, &files) {
        Ok(profile) => check(&profile),
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!(error.cure.as_ref().is_some_and(|cure| !cure.is_empty()), "no cure: {error}");
        }
    }
    let client = ccd::parse(&files, "fuzz", &text);
    assert!(client.problems.iter().all(|problem| problem.cure.as_ref().is_some_and(|cure| !cure.is_empty())));
    let args: Vec<String> = text.lines().next().unwrap_or_default().split(' ').map(Into::into).collect();
    if let Ok(Command::Run(profile)) = parse_args(&args, &files) {
        check(&profile);
    }
}

/// What holds for every profile.
fn check(profile: &Profile) {
    assert!(!profile.tunnel.ciphers.is_empty());
    let tls: Arc<dyn TlsFactory> = Arc::new(NoTls);
    let channel = match &profile.role {
        Role::Client => {
            assert!(!profile.remotes.is_empty());
            None
        }
        Role::Server(server) => {
            assert!(profile.remotes.is_empty() && !server.listen.is_empty());
            assert!(server.push.iter().all(|option| !option.contains(',')));
            assert!(server.token.as_ref().is_none_or(|token| !token.renewal.is_zero()));
            Some(profile.server_config(server, &Zeroizing::new([1; 32]), Arc::clone(&tls)).channel)
        }
        Role::Peer(peer) => {
            assert!(!peer.listen.is_empty() || !profile.remotes.is_empty());
            Some(profile.peer_config(peer, None, Arc::clone(&tls)).channel)
        }
    };
    assert!(channel.is_none_or(|channel| (154..=2048).contains(&channel.max_packet_size)));
    assert!(!profile.tls.ca.is_empty() || !profile.tls.rules.fingerprints.is_empty());
    for remote in &profile.remotes {
        assert!(remote.port != 0 && !remote.host.is_empty());
        let config = profile.client_config(remote, Arc::clone(&tls));
        assert!(config.channel.tun_mtu <= config.tun_mtu_max);
        assert!((154..=2048).contains(&config.channel.max_packet_size));
    }
    // Key derivation is slow by design, so only its refusal is checked.
    if profile.needs_passphrase() {
        assert!(profile.tls_options(None).is_err());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::table;

    fn option_line() -> impl Strategy<Value = String> {
        let names: Vec<&'static str> = table::entries().map(|entry| entry.name).collect();
        let words = prop_oneof![
            Just(String::new()),
            Just("1".to_string()),
            Just("udp".to_string()),
            Just("10.0.0.1".to_string()),
            Just("\"a b\"".to_string()),
            Just("server".to_string()),
            Just("AES-256-GCM".to_string()),
            "[ -~]{0,10}",
        ];
        (proptest::sample::select(names), proptest::collection::vec(words, 0..4), 0..8_u8).prop_map(
            |(name, words, kind)| match kind {
                0 => format!("<{name}>\n{}\n</{name}>", words.join("\n")),
                1 => format!("setenv opt {name} {}", words.join(" ")),
                2 => format!("<connection>\nremote a\n{name} {}\n</connection>", words.join(" ")),
                _ => format!("{name} {}", words.join(" ")),
            },
        )
    }

    proptest! {
        #[test]
        fn random_bytes(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::run(&data);
        }

        #[test]
        fn random_options(lines in proptest::collection::vec(option_line(), 0..6)) {
            let base = "client\nremote host 1194\nauth-user-pass\npeer-fingerprint ";
            let base = format!("{base}{}\n", ["00"; 32].join(":"));
            super::run(format!("{base}{}\0user\npass", lines.join("\n")).as_bytes());
            let server = "server 10.8.0.0 255.255.255.0\ndev tun\nca a\ncert a\nkey a\npeer-fingerprint ";
            let server = format!("{server}{}\n", ["00"; 32].join(":"));
            super::run(format!("{server}{}\0user\npass", lines.join("\n")).as_bytes());
            super::run(lines.join("\n").as_bytes());
        }
    }
}
