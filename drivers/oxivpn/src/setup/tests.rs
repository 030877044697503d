use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;

use oxivpn_profile::server::Role;
use oxivpn_profile::{Command, Disk, Profile, parse_args};
use oxivpn_proto::tls::rustls::RustlsFactory;
use oxivpn_proto::tls::{TlsFactory as _, TlsPhase, TlsSession};

use super::authority::Facts;
use super::plan::client_name;
use super::run;
use crate::clock;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(Into::into).collect()
}

/// Makes `DIR/vpn` with these options.
fn setup(dir: &Path, options: &str) -> anyhow::Result<String> {
    let path = dir.join("vpn");
    run("setup", &[vec![path.to_str().unwrap().to_string()], words(options)].concat())
}

fn on(verb: &str, dir: &Path, names: &str) -> anyhow::Result<String> {
    run(verb, &[vec![dir.join("vpn").to_str().unwrap().to_string()], words(names)].concat())
}

fn load(path: &Path) -> Profile {
    match parse_args(&[path.to_str().unwrap().to_string()], &Disk) {
        Ok(Command::Run(profile)) => *profile,
        Ok(other) => panic!("{other:?}"),
        Err(error) => panic!("{error}"),
    }
}

fn factory(profile: &Profile) -> RustlsFactory {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    RustlsFactory::new(profile.tls_options(None).unwrap(), provider).unwrap()
}

/// A handshake of both; what the server says if it fails.
fn handshake(server: &Profile, client: &Profile) -> Result<(), String> {
    let mut server = factory(server).server(clock::unix()).unwrap();
    let mut client = factory(client).client(clock::unix()).unwrap();
    let pass = |from: &mut Box<dyn TlsSession>, to: &mut Box<dyn TlsSession>| {
        let mut bytes = Vec::new();
        from.drain(&mut bytes);
        to.feed(&bytes).map_err(|failure| failure.message)
    };
    for _ in 0..4 {
        // The client may have heard of a failure first, of which only the server knows the reason.
        let heard = pass(&mut server, &mut client);
        pass(&mut client, &mut server)?;
        heard?;
    }
    assert_eq!((server.phase(), client.phase()), (TlsPhase::Ready, TlsPhase::Ready));
    Ok(())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_made_can_be_read_and_fits_together() {
    let dir = tempfile::tempdir().unwrap();
    let text = setup(dir.path(), "--host vpn.example.org --client phone --client laptop").unwrap();
    let vpn = dir.path().join("vpn");
    assert!(text.contains(&format!("oxivpn {}/server.conf", vpn.display())), "{text}");
    assert!(text.contains(&format!("{}/clients/phone.ovpn", vpn.display())), "{text}");

    let server = load(&vpn.join("server.conf"));
    assert_eq!(server.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    let Role::Server(options) = &server.role else { panic!("{:?}", server.role) };
    assert_eq!((options.listen.len(), options.listen[0].port), (1, 1194));
    assert_eq!(options.pool.unwrap().network.to_string(), "10.8.0.0/24");
    assert_eq!(options.pool6, None);
    assert!(!options.push.iter().any(|option| option.contains("redirect") || option.contains("DNS")));
    for name in ["phone", "laptop"] {
        let client = load(&vpn.join("clients").join(format!("{name}.ovpn")));
        assert_eq!(client.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
        handshake(&server, &client).unwrap();
        assert_eq!(mode(&vpn.join("clients").join(format!("{name}.ovpn"))), 0o600);
    }
    for name in ["ca.key", "server.key", "tls-crypt-v2.key"] {
        assert_eq!(mode(&vpn.join(name)), 0o600, "{name}");
    }
    for (name, mode_wanted) in [("", 0o755), ("crl.pem", 0o644), ("clients", 0o700)] {
        assert_eq!(mode(&vpn.join(name)), mode_wanted, "{name}");
    }
    let serial = |name: &str| Facts::of(&fs::read_to_string(vpn.join(name)).unwrap()).unwrap().serial;
    let serials = ["ca.crt", "server.crt", "clients/phone.crt", "clients/laptop.crt"].map(serial);
    assert!(serials.iter().all(|serial| serial.len() == 16), "{serials:02x?}");
    assert!(serials.windows(2).all(|pair| pair[0] != pair[1]), "{serials:02x?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn options_reach_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        "--host 2001:db8::7 --proto tcp --port 443 --network 172.20.0.0/20 --internet --dns 10.0.0.53";
    let text = setup(dir.path(), options).unwrap();
    let server = load(&dir.path().join("vpn/server.conf"));
    let Role::Server(options) = &server.role else { panic!("{:?}", server.role) };
    assert_eq!(options.listen[0].port, 443);
    assert_eq!(options.pool.unwrap().network.to_string(), "172.20.0.0/20");
    let network6 = options.pool6.unwrap().to_string();
    assert!(network6.starts_with("fd"), "{network6}");
    assert_eq!(options.push[..2], ["redirect-gateway def1 ipv6", "dhcp-option DNS 10.0.0.53"]);
    assert!(text.contains("ip saddr 172.20.0.0/20 ") && text.contains("tcp dport 443"), "{text}");
    let client = load(&dir.path().join("vpn/clients/client1.ovpn"));
    assert_eq!((client.remotes[0].host.as_str(), client.remotes[0].port), ("2001:db8::7", 443));
    handshake(&server, &client).unwrap();
}

#[test]
fn clients_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    setup(dir.path(), "--host vpn.example.org --client phone").unwrap();
    let vpn = dir.path().join("vpn");
    let server = || load(&vpn.join("server.conf"));
    let client = |name: &str| load(&vpn.join("clients").join(format!("{name}.ovpn")));
    on("add-client", dir.path(), "tablet laptop").unwrap();
    let (phone, tablet) = (client("phone"), client("tablet"));
    handshake(&server(), &tablet).unwrap();
    let error = on("add-client", dir.path(), "tablet").unwrap_err().to_string();
    assert!(error.contains("a client tablet already"), "{error}");

    let text = on("revoke", dir.path(), "tablet").unwrap();
    assert!(text.starts_with("tablet is revoked.\n"), "{text}");
    let refused = handshake(&server(), &tablet).unwrap_err();
    assert!(refused.contains("revoked"), "{refused}");
    handshake(&server(), &phone).unwrap();
    assert!(!vpn.join("clients/tablet.ovpn").exists());

    // The name is free, and who had it before stays out.
    on("add-client", dir.path(), "tablet").unwrap();
    handshake(&server(), &client("tablet")).unwrap();
    handshake(&server(), &tablet).unwrap_err();
    on("revoke", dir.path(), "phone").unwrap();
    handshake(&server(), &phone).unwrap_err();
    handshake(&server(), &tablet).unwrap_err();

    let text = on("list-clients", dir.path(), "").unwrap();
    let rows: Vec<_> = text.lines().map(words).map(|row| (row[0].clone(), row[2].clone())).collect();
    let wanted = [
        ("CLIENT", "STATE"),
        ("laptop", "valid"),
        ("tablet", "valid"),
        ("phone", "revoked"),
        ("tablet", "revoked"),
    ];
    assert_eq!(rows, wanted.map(|(a, b)| (a.to_string(), b.to_string())), "{text}");

    let error = on("revoke", dir.path(), "laptop nobody").unwrap_err().to_string();
    assert!(error.contains("no client nobody, so nobody was revoked"), "{error}");
    assert!(on("list-clients", dir.path(), "").unwrap().contains("laptop"), "still there");
    handshake(&server(), &client("laptop")).unwrap();
}

/// What another program thinks of the certificates, where there is one.
#[test]
fn openssl_agrees() {
    if Process::new("openssl").arg("version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    setup(dir.path(), "--host vpn.example.org --client phone --client lost").unwrap();
    on("revoke", dir.path(), "lost").unwrap();
    let vpn = dir.path().join("vpn");
    let revoked = fs::read_dir(vpn.join("revoked")).unwrap().next().unwrap().unwrap().path();
    let verify = |purpose: &str, path: &Path| {
        let options =
            ["verify", "-x509_strict", "-crl_check", "-CAfile", "ca.crt", "-CRLfile", "crl.pem", "-purpose"];
        let output =
            Process::new("openssl").args(options).arg(purpose).arg(path).current_dir(&vpn).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(verify("sslserver", Path::new("server.crt")), (true, String::new()));
    assert_eq!(verify("sslclient", Path::new("clients/phone.crt")), (true, String::new()));
    assert!(!verify("sslserver", Path::new("clients/phone.crt")).0, "a client can't pose as the server");
    let (good, text) = verify("sslclient", &revoked);
    assert!(!good && text.contains("certificate revoked"), "{text}");
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    setup(dir.path(), "--host vpn.example.org").unwrap();
    let before = fs::read_to_string(dir.path().join("vpn/ca.crt")).unwrap();
    let error = setup(dir.path(), "--host vpn.example.org").unwrap_err().to_string();
    assert!(error.contains("exists and is not empty"), "{error}");
    assert_eq!(fs::read_to_string(dir.path().join("vpn/ca.crt")).unwrap(), before);

    fs::write(dir.path().join("file"), "").unwrap();
    let path = dir.path().join("file").to_str().unwrap().to_string();
    let error = format!("{:#}", run("setup", &[path, "--host".into(), "a".into()]).unwrap_err());
    assert!(error.contains("file is in the way"), "{error}");
}

#[test]
fn a_name_with_a_space_leads_to_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my \"vpn\"");
    let args = [path.to_str().unwrap().to_string(), "--host".into(), "vpn.example.org".into()];
    let text = run("setup", &args).unwrap();
    assert!(text.contains("oxivpn '"), "{text}");
    load(&path.join("server.conf"));
}

#[test]
fn mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (options, message) in [
        ("", "--host NAME"),
        ("--host", "--host needs a value"),
        ("--host --internet", "--host needs a value"),
        ("--host a:1", "a port goes into --port"),
        ("--host http://a/", "give a host name"),
        ("--host a --port 0", "from 1 to 65535"),
        ("--host a --proto sctp", "`udp` and `tcp`"),
        ("--host a --network 10.8.0.0", "such as 10.8.0.0/24"),
        ("--host a --network 10.8.0.1/24", "write --network 10.8.0.0/24"),
        ("--host a --network 10.8.0.0/30", "from /16 to /29"),
        ("--host a --network6 fd00::/48", "from /64 to /112"),
        ("--host a --dns here", "an IP address"),
        ("--host a --client x --client x", "there twice"),
        ("--host a --client ../x", "can't be the name of a client"),
        ("--host a --tls", "is no option"),
        ("b --host a", "a directory is there already"),
    ] {
        let error = format!("{:#}", setup(dir.path(), options).unwrap_err());
        assert!(error.contains(message), "{options}: {error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    for name in ["", ".x", "-x", "a/b", "a b", "a\n", "ä", &"x".repeat(65)] {
        client_name(name).unwrap_err();
    }
    for name in ["x", "anna@example.org", "Phone_2", &"x".repeat(64)] {
        assert_eq!(client_name(name).unwrap(), name);
    }
    for verb in ["add-client", "revoke", "list-clients"] {
        let error =
            format!("{:#}", on(verb, dir.path(), if verb == "list-clients" { "" } else { "x" }).unwrap_err());
        assert!(error.contains("`oxivpn setup` has made"), "{verb}: {error}");
        assert!(run(verb, &[]).unwrap_err().to_string().contains("which directory?"));
    }
}
