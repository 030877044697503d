//! Servers and peers that contradict themselves or lack something: one message with place, cause and cure.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Memory, SERVER};
use oxivpn_profile::{Profile, ProfileError};

/// The first line that is added to the server.
const PLACE: &str = "Options error: In server.conf:9: ";
const SECOND: &str = "Options error: In server.conf:10: ";
const WHOLE: &str = "Options error: ";
/// The line with `server`.
const FIRST: &str = "Options error: In server.conf:1: ";
const NETWORK: &str = "server 10.8.0.0 255.255.255.0";

fn read(text: &str) -> Result<Profile, ProfileError> {
    let mut files = Memory::usual();
    files.add("secret/alice", "");
    files.add("empty", "\n");
    files.denied = vec!["locked".into(), "/bin/locked".into()];
    Profile::from_text("server.conf", text, &files)
}

fn check(text: &str, what: &str, start: &str, rest: &str) {
    let Err(error) = read(text) else { panic!("accepted: {what}") };
    let message = error.to_string();
    assert!(message.starts_with(start), "{what}: {message}");
    assert!(message.contains(rest), "{what}: {message}");
    assert!(!message.contains('\n'), "{what}: {message}");
    assert!(error.cure.is_some_and(|cure| cure.len() > 8 && !cure.ends_with('.')), "{what}: {message}");
}

/// Rows: lines after the server, start of the message, what it must contain.
fn refuses(table: &[(&str, &str, &str)]) {
    for &(lines, start, rest) in table {
        check(&format!("{SERVER}{lines}\n"), lines, start, rest);
    }
}

#[test]
fn the_server_itself_is_sound() {
    assert_eq!(read(SERVER).unwrap().warnings, []);
}

#[test]
fn something_is_missing() {
    let without = |line: &str| SERVER.replace(line, "");
    let by_hand = |line: &str| SERVER.replace(NETWORK, &format!("mode server\ntls-server\n{line}"));
    let table = [
        (without("ca ca.crt\n"), "You must define CA file (--ca) and/or peer fingerprint"),
        (without("cert client.crt\n"), "You must define certificate file (--cert)"),
        (without("key client.key\n"), "You must define private key file (--key)"),
        (
            without("cert client.crt\n").replace("key client.key\n", ""),
            "You must define certificate file (--cert)",
        ),
        (SERVER.replace("ca.crt", "nope.crt"), "In server.conf:4: ca: cannot read nope.crt: No such file"),
        (SERVER.replace("ca.crt", "locked"), "In server.conf:4: ca: cannot read locked: Permission denied"),
        (SERVER.replace(NETWORK, "mode server"), "--mode server requires --tls-server"),
        (by_hand("ifconfig-pool 10.8.0.5 10.8.0.9"), "In server.conf:3: --ifconfig-pool needs --ifconfig"),
        (
            by_hand("ifconfig-ipv6-pool fd00::5/64"),
            "In server.conf:3: --ifconfig-ipv6-pool needs --ifconfig-ipv6",
        ),
        (by_hand("ifconfig-pool-persist a"), "--ifconfig-pool-persist must be used with --ifconfig-pool or"),
        (by_hand("proto tcp"), "In server.conf:3: --proto tcp is ambiguous in this context"),
    ];
    for (text, expected) in table {
        check(&text, expected, WHOLE, expected);
    }
}

#[test]
fn addresses_that_cannot_be() {
    let network = |words: &str| SERVER.replace("10.8.0.0 255.255.255.0", words);
    let table = [
        (network("10.8.0.0 255.255.255.252"), "must define a subnet of 255.255.255.248 (/29) or lower"),
        (network("10.8.0.0 255.0.255.0"), "server: --server directive netmask is invalid: '255.0.255.0'"),
        (network("10.8.0.5 255.255.255.0"), "network/netmask combination is invalid: 10.8.0.5"),
        (network("10.0.0.0 255.0.0.0"), "--server directive netmask allows for too many host addresses"),
        (network("10.8.0.0 255.255.255.248").replace("subnet", "net30"), "--server directive leaves no pool"),
        (network("10.8.0.0 255.255.255.0 pool"), "error parsing --server: pool is not a recognized flag"),
        (network("10.8.0.0"), "missing or extra parameter(s) in server.conf:1: server"),
        (network("vpn 255.255.255.0"), "'vpn' is not an IPv4 address"),
    ];
    for (text, expected) in table {
        check(&text, expected, WHOLE, expected);
        assert!(read(&text).unwrap_err().message.contains("server.conf:1"), "{expected}");
    }
    refuses(&[
        ("ifconfig-pool 10.8.0.5 10.8.0.9", FIRST, "--server already defines an ifconfig-pool"),
        (
            "ifconfig-pool 10.8.0.9 10.8.0.5",
            PLACE,
            "--ifconfig-pool start IP [10.8.0.9] is greater than end IP",
        ),
        ("server-ipv6 fd00::/48", PLACE, "must be between /64 and /124 (not /48)"),
        (
            "server-ipv6 fd00::/64\nifconfig-ipv6-pool fd00::5/64",
            PLACE,
            "--server-ipv6 already defines an ifconfig-ipv6-pool",
        ),
        ("ifconfig-pool-persist a b", PLACE, "cannot parse 'b' as non-negative integer"),
        ("topology ring", PLACE, "topology 'ring' must be net30, p2p, or subnet"),
        ("ifconfig-push-constraint 10.8.0.0 255.0.255.0", PLACE, "'255.0.255.0' is not a netmask"),
    ]);
    let manual = SERVER.replace(NETWORK, "mode server\ntls-server\nifconfig 10.8.0.1 255.255.255.0");
    let table = [
        ("ifconfig-pool 10.8.0.1 10.8.0.9", "has two owners of an address: 10.8.0.1 is the server's own"),
        ("ifconfig-pool 10.9.0.1 10.9.0.9", "is not in the server's own network 10.8.0.0/24"),
        ("ifconfig-pool 10.8.0.5 10.8.0.5", "--ifconfig-pool 10.8.0.5 10.8.0.5 is too small"),
        ("ifconfig-pool 10.0.0.0 10.255.0.0", "is not in the server's own network"),
    ];
    for (line, expected) in table {
        check(&format!("{manual}{line}"), line, "Options error: In server.conf:11: ", expected);
    }
    let net30 = manual.replace("topology subnet", "topology net30").replace("255.255.255.0", "10.8.0.2");
    let mask = "ifconfig-pool 10.8.0.8 10.8.0.99 255.255.255.0";
    check(
        &format!("{net30}{mask}"),
        mask,
        WHOLE,
        "third parameter to --ifconfig-pool (netmask) is only valid",
    );
    let nopool = SERVER.replace("255.255.255.0", "255.255.255.0 nopool");
    check(
        &format!("{nopool}server-ipv6 fd00::/64"),
        "nopool",
        WHOLE,
        "--server-ipv6 is incompatible with 'nopool'",
    );
}

#[test]
fn options_of_others() {
    let clients = [
        "pull",
        "remote a 1194",
        "nobind",
        "auth-user-pass login",
        "redirect-gateway def1",
        "route-delay 5",
        "up-delay",
    ];
    for line in clients {
        let option = line.split(' ').next().unwrap_or_default();
        refuses(&[(line, PLACE, &format!("--{option} cannot be used with --mode server"))]);
    }
    refuses(&[
        ("client", FIRST, "--server and --client cannot be used together"),
        ("tls-client", FIRST, "specify only one of --tls-server, --tls-client, or --secret"),
        ("ipchange /bin/hook", PLACE, "--ipchange cannot be used with --mode server (use --client-connect"),
        ("<connection>\nremote a 1\n</connection>", SECOND, "--remote cannot be used with --mode server"),
        ("secret ta.key", PLACE, "`secret` is not built yet"),
        ("iroute 10.0.0.0 255.0.0.0", PLACE, "`iroute` is refused: it cannot be used in this context"),
        ("ifconfig-push 10.8.0.5 255.255.255.0", PLACE, "directory of `client-config-dir`"),
        ("disable", PLACE, "`disable` is refused"),
        ("server-bridge", PLACE, "`server-bridge` is not built yet"),
        ("port-share 127.0.0.1 443", PLACE, "`port-share` is not built yet"),
        ("vlan-tagging", PLACE, "`vlan-tagging` is not built yet"),
        ("comp-lzo never", PLACE, "bad comp-lzo option: never -- must be 'yes', 'no', or 'adaptive'"),
        ("compress snappy", PLACE, "bad comp option: snappy"),
        (
            "compress lz4\nallow-compression no",
            PLACE,
            "Compression is not allowed since allow-compression is set",
        ),
        (
            "allow-compression no\nallow-compression asym",
            SECOND,
            "Cannot set allow-compression to 'asym' after set to 'no'",
        ),
        ("plugin a.so", PLACE, "`plugin` is not built yet"),
        ("dev tap", PLACE, "tap devices (`dev tap`) are not built yet"),
        ("client-cert-not-required", PLACE, "A server writes `verify-client-cert none`"),
    ]);
}

#[test]
fn files_and_directories() {
    refuses(&[
        (
            "client-config-dir nope",
            PLACE,
            "--client-config-dir fails with 'nope': No such file or directory. Check",
        ),
        ("ccd-exclusive", PLACE, "--ccd-exclusive must be used with --client-config-dir"),
        ("tmp-dir nope", PLACE, "--tmp-dir fails with 'nope': No such file or directory"),
        ("management 127.0.0.1 7505 nope", PLACE, "management: cannot read nope: No such file or directory"),
        ("management 127.0.0.1 7505 locked", PLACE, "management: cannot read locked: Permission denied"),
        ("management 127.0.0.1 7505 empty", PLACE, "management: the password file is empty"),
        ("crl-verify nope", PLACE, "crl-verify: cannot read nope"),
        ("auth-gen-token\nauth-gen-token-secret nope", SECOND, "auth-gen-token-secret: cannot read nope"),
        (
            "auth-gen-token\nauth-gen-token-secret ta.key",
            SECOND,
            "auth-gen-token-secret: OpenVPN auth-token server key: ",
        ),
        ("tls-crypt-v2 v2.key", PLACE, "tls-crypt-v2: this is the key of a client, not of a server"),
        ("tls-crypt-v2 ta.key", PLACE, "tls-crypt-v2: OpenVPN tls-crypt-v2 server key: "),
        ("tls-auth ta.key\ntls-crypt ta.key", SECOND, "mutually exclusive"),
        ("tls-crypt-v2 v2-server.key sometimes", PLACE, "Unsupported tls-crypt-v2 argument: sometimes"),
    ]);
    let client =
        common::BASE.replace("auth-user-pass login\n", "auth-user-pass login\ntls-crypt-v2 v2-server.key\n");
    let error = common::read(&client).unwrap_err().to_string();
    assert!(error.contains("a server key, for the option tls-crypt-v2 of servers only"), "{error}");
}

#[test]
fn sockets() {
    refuses(&[
        ("local 127.0.0.1\nlocal 127.0.0.1", SECOND, "two owners, the line at server.conf:9 names it too"),
        ("local 127.0.0.1 5 udp\nlocal 127.0.0.1 5 udp4", SECOND, "two owners"),
        ("local 127.0.0.1 5 tcp-client", PLACE, "only supports --proto values of udp, tcp-server"),
        ("local 127.0.0.1 5 udp6", PLACE, "an IPv4 address, and the protocol is for IPv6 only"),
        ("local ::1 5 udp4", PLACE, "an IPv6 address, and the protocol is for IPv4 only"),
        ("local vpn.example.com", PLACE, "'vpn.example.com' is not an address of this host"),
        ("proto tcp-client", PLACE, "only supports --proto values of udp, tcp-server"),
        ("proto sctp", PLACE, "Bad protocol: 'sctp'"),
        ("port 99999", PLACE, "Bad port: '99999'"),
        (
            "proto tcp-server\nconnect-freq 1 1",
            SECOND,
            "--connect-freq only works with --mode server --proto udp",
        ),
    ]);
}

#[test]
fn logins_and_scripts() {
    refuses(&[
        (
            "auth-user-pass-verify /bin/hook via-file",
            PLACE,
            "unless '--script-security 2' or higher is enabled. Add",
        ),
        (
            "script-security 2\nauth-user-pass-verify /bin/hook via-env",
            SECOND,
            "unless '--script-security 3' is enabled",
        ),
        (
            "script-security 2\nauth-user-pass-verify /bin/nope via-file",
            SECOND,
            "script fails with '/bin/nope': No such file",
        ),
        ("script-security 2\nup /bin/locked", SECOND, "Make it executable with `chmod +x /bin/locked`"),
        ("script-security 2\nup \"\"", SECOND, "No path to executable"),
        ("script-security 2\nup \"'a\"", SECOND, "No closing single quotation"),
        ("up /bin/hook a", "Options error: Unrecognized option", "server.conf:9: up. Write `up \"COMMAND\"`"),
        (
            "auth-user-pass-verify /bin/hook",
            "Options error: Unrecognized option",
            "Write `auth-user-pass-verify",
        ),
        ("auth-user-pass-verify /bin/hook via-mail", PLACE, "must be 'via-env' or 'via-file'"),
        ("tls-verify /bin/hook", PLACE, "--tls-verify: external program may not be called"),
        (
            "auth-user-pass-optional",
            PLACE,
            "--auth-user-pass-optional must be used with --management-client-auth, an",
        ),
        (
            "username-as-common-name",
            PLACE,
            "--username-as-common-name must be used with --management-client-auth",
        ),
        ("verify-client-cert none", PLACE, "--verify-client-cert none|optional must be used with"),
        ("verify-client-cert perhaps", PLACE, "must be 'none', 'optional' or 'require'"),
        (
            "auth-gen-token 0 60",
            PLACE,
            "--auth-gen-token renewal time needs to be at least two times --hand-window (60)",
        ),
        ("auth-gen-token 0 60 maybe", PLACE, "Invalid argument to auth-gen-token: maybe"),
        ("auth-gen-token\nreneg-sec 0", PLACE, "--auth-gen-token needs a non-infinite --renegotiate_seconds"),
        ("script-security 4", PLACE, "'4' is not a number from 0 to 3"),
    ]);
}

#[test]
fn values() {
    refuses(&[
        ("status-version 9", PLACE, "status-version: '9' is not a number from 1 to 3"),
        ("status s x", PLACE, "cannot parse 'x' as non-negative integer"),
        ("max-clients 0", PLACE, "'0' is not a number from 1 to 16777214"),
        ("max-routes-per-client 0", PLACE, "'0' is not a number"),
        ("tcp-queue-limit 0", PLACE, "'0' is not a number"),
        ("workers 0", PLACE, "'0' is not a number from 1 to 64"),
        ("workers many", PLACE, "cannot parse 'many' as non-negative integer"),
        ("connect-freq 0 1", PLACE, "'0' is not a number"),
        ("connect-freq-initial 1 0", PLACE, "'0' is not a number"),
        ("push \"route 10.0.0.0,x\"", PLACE, "PUSH OPTION FAILED (illegal comma (',') in string)"),
        ("push route 10.0.0.0", "Options error: Unrecognized option", "Write `push OPTION`"),
        ("ping 5", PLACE, "--keepalive conflicts with --ping, --ping-exit, or --ping-restart"),
        (
            "keepalive 10 15",
            PLACE,
            "must be at least twice the value of the first parameter (ping interval=10)",
        ),
        ("keepalive 10 80000", PLACE, "keepalive: the timeout of keepalive (80000 s) must not be longer"),
        ("tls-crypt-v2-max-age 0", PLACE, "'0' is not a number"),
        ("management-hold", PLACE, "--management is not specified, however one or more options"),
        (
            "management localhost 5\nmanagement-client-user root",
            SECOND,
            "can only be used on unix domain sockets",
        ),
        ("management here 5", PLACE, "management: 'here' is not an IP address"),
        ("management 127.0.0.1 port", PLACE, "'port' is neither a port nor the word unix"),
        ("management tunnel 5", PLACE, "not built yet"),
        ("management 127.0.0.1 5 stdin", PLACE, "not built yet"),
        ("management 127.0.0.1 5\nmanagement-log-cache 0", SECOND, "'0' is not a number"),
        ("mode both", PLACE, "Bad --mode parameter: both"),
        ("tls-version-min 1.3\ntls-version-max 1.2", WHOLE, "greater than tls-version-max"),
    ]);
}
