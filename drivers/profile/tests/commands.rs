//! Command lines that ask for keys and lists.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{Memory, error};
use oxivpn_profile::{Command, Genkey, KeyKind, ProfileError, Show, parse_args};
use oxivpn_proto::wrap::static_key::StaticKey;

fn read(line: &str) -> Result<Command, ProfileError> {
    let args: Vec<String> = line.split(' ').map(Into::into).collect();
    parse_args(&args, &Memory::usual())
}

fn genkey(line: &str) -> Genkey {
    match read(line) {
        Ok(Command::Genkey(genkey)) => genkey,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn keys_of_all_kinds() {
    for line in ["--genkey secret a.key", "--genkey tls-auth a.key", "--genkey tls-crypt a.key"] {
        let genkey = genkey(line);
        assert!(matches!(genkey.kind, KeyKind::Static), "{line}");
        assert_eq!(genkey.file.as_deref(), Some(Path::new("a.key")), "{line}");
        assert_eq!(genkey.warnings.len(), 0);
    }
    assert_eq!(genkey("--genkey secret").file, None);
    assert_eq!(genkey("--cd /etc --genkey secret a").file.as_deref(), Some(Path::new("/etc/a")));
    assert!(matches!(genkey("--genkey auth-token a").kind, KeyKind::AuthToken));
    assert!(matches!(genkey("--genkey tls-crypt-v2-server a").kind, KeyKind::TlsCryptV2Server));
    for line in ["--genkey --secret a.key", "--secret a.key --genkey"] {
        let genkey = genkey(line);
        assert_eq!(genkey.file.as_deref(), Some(Path::new("a.key")), "{line}");
        assert!(genkey.warnings[0].text.contains("--genkey --secret filename is DEPRECATED"), "{line}");
    }
}

#[test]
fn a_client_key_is_wrapped_by_the_servers() {
    let plain = genkey("--tls-crypt-v2 v2-server.key --genkey tls-crypt-v2-client a");
    let KeyKind::TlsCryptV2Client { server, metadata: None } = plain.kind else { panic!("{plain:?}") };
    let wrapped = server.wrap(&StaticKey::new([9; 256].into()), &[0, 1]).unwrap();
    assert_eq!(server.unwrap(&wrapped).unwrap().metadata, [0, 1]);
    let with = genkey("--genkey tls-crypt-v2-client a aGVsbG8= --tls-crypt-v2 v2-server.key");
    let KeyKind::TlsCryptV2Client { metadata, .. } = with.kind else { panic!("{with:?}") };
    assert_eq!(metadata.as_deref(), Some(b"hello".as_slice()));
}

#[test]
fn mistakes_are_named() {
    let long = format!("--tls-crypt-v2 v2-server.key --genkey tls-crypt-v2-client a {}", "AAAA".repeat(245));
    let table = [
        ("--genkey rsa a", "In [CMD-LINE]:1: genkey: unknown genkey type: rsa. Write `genkey"),
        ("--genkey secret a b", "missing or extra parameter(s) in [CMD-LINE]:1: genkey"),
        ("--genkey secret a --secret b", "to either --genkey or --secret, not both"),
        ("--genkey auth-token --secret b", "Using --genkey type with --secret filename is not supported"),
        ("--genkey tls-crypt-v2-client a", "requires a server key to be set via --tls-crypt-v2"),
        (
            "--genkey tls-crypt-v2-client a --tls-crypt-v2 v2.key",
            "this is the key of a client, not of a server",
        ),
        ("--genkey tls-crypt-v2-client a --tls-crypt-v2 ta.key", "In [CMD-LINE]:2: tls-crypt-v2: "),
        ("--genkey tls-crypt-v2-client a !? --tls-crypt-v2 v2-server.key", "base64 decode provided metadata"),
        (&long, "metadata too long (735 bytes, max 733 bytes)"),
    ];
    for (line, expected) in table {
        let error = read(line).unwrap_err();
        assert!(error.to_string().contains(expected), "{line}: {error}");
        assert!(error.cure.is_some(), "{line}");
    }
    assert!(error("genkey secret a").contains("belong to the command line"));
    assert!(error("show-tls").contains("belong to the command line"));
}

#[test]
fn lists_come_in_order() {
    let show = |line| match read(line) {
        Ok(Command::Show(show)) => show,
        other => panic!("{other:?}"),
    };
    assert_eq!(show("--show-ciphers"), [Show::Ciphers]);
    assert_eq!(show("--show-digests --show-tls"), [Show::Digests, Show::Tls]);
    assert_eq!(show("--show-curves --show-groups"), [Show::Groups, Show::Groups]);
}
