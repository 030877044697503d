//! What is refused: each message names PLACE, reason and cure.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{BASE, Memory, PKI, error, read, static_key, warnings, with};
use oxivpn_profile::{Profile, parse_args};

const UNRECOGNIZED: &str =
    "Options error: Unrecognized option or missing or extra parameter(s) in client.ovpn:7: ";
const PLACE: &str = "Options error: In client.ovpn:7: ";

/// Rows: lines after the base profile, start of the message, what it must contain.
fn refuses(table: &[(&str, &str, &str)]) {
    let mut files = Memory::usual();
    files.add("empty", "\n");
    for &(lines, start, rest) in table {
        let Err(error) = Profile::from_text("client.ovpn", &format!("{BASE}{lines}\n"), &files) else {
            panic!("accepted: {lines}")
        };
        let text = error.to_string();
        assert!(text.starts_with(start), "{lines}: {text}");
        assert!(text.contains(rest), "{lines}: {text}");
        assert!(error.cure.is_some_and(|cure| !cure.is_empty()), "{lines}: no cure");
    }
}

#[test]
fn values_and_words() {
    refuses(&[
        ("remot a", UNRECOGNIZED, "remot. Did you mean `remote`?"),
        (
            "frobnicate",
            UNRECOGNIZED,
            "frobnicate. Remove the line, or skip it with `ignore-unknown-option frobnicate`",
        ),
        ("remote", UNRECOGNIZED, "remote. Write `remote HOST [PORT] [PROTO]`"),
        ("remote a 1 udp x", UNRECOGNIZED, "remote. Write `remote HOST"),
        ("nobind x", UNRECOGNIZED, "nobind. Write `nobind`"),
        ("verb x", PLACE, "verb: cannot parse 'x' as non-negative integer. Write `verb LEVEL`"),
        ("remote a 99999", PLACE, "remote: Bad port: '99999'. A port is a number from 1 to 65535"),
        ("remote a 1 sctp", PLACE, "Bad protocol: 'sctp'. Allowed are udp, udp4"),
        ("proto tcp-server", PLACE, "`tcp-server` is not built yet. A client writes `tcp-client`"),
        ("mssfix 20", PLACE, "mssfix needs to be >= 154, not 20"),
        ("keepalive 0 10", PLACE, "'0' is not a number from 1 to 86400"),
        ("key-direction 2", PLACE, "Unknown key direction '2', must be '0' or '1'"),
        ("replay-window 70000", PLACE, "'70000' is not a number from 0 to 65536"),
        ("local host.example.com", PLACE, "'host.example.com' is not an address of this host"),
        ("route 10.0.0.0 255.0.255.0", PLACE, "route: '255.0.255.0' is not a netmask. Write `route NETWORK"),
        ("topology ring", PLACE, "topology 'ring' must be net30, p2p, or subnet"),
        ("ifconfig 10.0.0.1 10.0.0.1", PLACE, "addresses must be different"),
        ("pull-filter drop x", PLACE, "Unknown --pull-filter type: drop"),
        ("nice 40", PLACE, "'40' is not a number from -20 to 19"),
        ("data-format v3", PLACE, "'v3' must be v1, v2 or epoch. Write `data-format v1|v2|epoch`"),
        ("gremlin drop", PLACE, "cannot parse 'drop' as non-negative integer. Write `gremlin MASK [SEED]`"),
        ("gremlin 1632 0x7", PLACE, "cannot parse '0x7' as non-negative integer"),
        ("remap-usr1 SIGINT", PLACE, "--remap-usr1 parm must be 'SIGHUP' or 'SIGTERM'"),
        ("static-challenge code 1 raw", PLACE, "'raw' must be scrv1 or concat"),
        ("auth-retry maybe", PLACE, "'maybe' must be none, nointeract, or interact"),
        ("peer-fingerprint AB:CD", PLACE, "is not a SHA-256 fingerprint of 32 hex bytes"),
        ("tls-version-max 1.1", PLACE, "TLS 1.1 is broken and not supported. Remove the line"),
        ("tls-version-min 2.0", PLACE, "unknown tls-version-min parameter: 2.0"),
        ("dev tap", PLACE, "tap devices (`dev tap`) are not built yet. Use `dev tun`"),
        ("dev wlan0", PLACE, "I don't recognize device wlan0"),
        ("dev fd:x", PLACE, "'x' is not a file descriptor"),
        ("dev tun0123456789abcdef", PLACE, "is not an interface name"),
        (
            "data-ciphers AES-256-GCN",
            PLACE,
            "Unsupported cipher in --data-ciphers: AES-256-GCN. Did you mean AES-256-GCM?",
        ),
        (
            "data-ciphers AES-256-CBC",
            PLACE,
            "--data-ciphers list contains unsupported ciphers or is too long",
        ),
        ("cipher FOO", PLACE, "Unsupported cipher in --cipher: FOO"),
        ("setenv GENERIC_CONFIG 1", PLACE, "this is a generic configuration and cannot directly be used"),
        ("remote-cert-tls both", PLACE, "--remote-cert-tls must be 'client' or 'server'"),
        ("remote-cert-ku 0", PLACE, "'0' is not a key usage in hex"),
    ]);
}

#[test]
fn lines_and_files() {
    refuses(&[
        ("x \"a", PLACE, "No closing quotation (\") at column 3"),
        ("x 'a", PLACE, "No closing single quotation (') at column 3"),
        ("ca c:\\keys\\ca.crt", PLACE, "Bad backslash ('\\') usage, write two of them for one at column 6"),
        ("route 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7", PLACE, "More than 16 parameters"),
        ("<ca>", PLACE, "Endtag </ca> missing"),
        ("<verb>\n3\n</verb>", PLACE, "option 'verb' cannot be given as an inline block"),
        ("</ca>", PLACE, "</ca> closes a block that is not open. Remove the line"),
        ("<<<<<<< HEAD", PLACE, "The line is a merge marker"),
        ("-----BEGIN CERTIFICATE-----", PLACE, "stands outside of any block"),
        ("<connection>\n</connection>", PLACE, "must contain exactly one 'remote' directive"),
        ("config", UNRECOGNIZED, "config. Write `config FILE`"),
        (
            "config none.ovpn",
            PLACE,
            "Error opening configuration file: none.ovpn: No such file or directory. Check",
        ),
        ("ca missing.crt", PLACE, "ca: cannot read missing.crt: No such file or directory. Check the name"),
        ("ca login", PLACE, "ca: no certificate found in login. The text must have lines"),
        (
            "cert client.crt\nkey login",
            "Options error: In client.ovpn:8: ",
            "key: no private key found in login",
        ),
        ("tls-auth login", PLACE, "tls-auth: "),
        ("tls-crypt login", PLACE, "tls-crypt: "),
        ("tls-crypt-v2 ta.key", PLACE, "tls-crypt-v2: "),
        ("crl-verify ca.crt", PLACE, "crl-verify: no revocation list found in ca.crt"),
        ("crl-verify none dir", PLACE, "crl-verify: cannot list none: No such file or directory"),
        (
            "tls-auth ta.key\nauth MD5",
            "Options error: In client.ovpn:8: ",
            "auth MD5 cannot be used with tls-auth",
        ),
        (
            "auth-user-pass empty",
            PLACE,
            "auth-user-pass: there is no user name. Write the user name on the first line",
        ),
        ("askpass empty", PLACE, "askpass: the file is empty"),
    ]);
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let words = [
        "fragment 1300",
        "http-proxy p 8080",
        "socks-proxy p",
        "plugin a.so",
        "secret s.key",
        "port-share a 1",
        "server-bridge",
        "vlan-tagging",
        "management-query-remote",
        "management-external-key",
        "shaper 1000",
        "passtos",
        "mtu-test",
        "mtu-disc yes",
        "mlock",
        "pkcs12 a.p12",
        "capath d",
        "pkcs11-id x",
        "verify-hash AB",
        "route-table 5",
        "replay-persist f",
        "client-nat snat a b c",
        "lladdr a",
    ];
    for line in words {
        let name = line.split(' ').next().unwrap();
        let text = error(line);
        assert!(text.contains(&format!("In client.ovpn:7: `{name}` is not built yet: ")), "{text}");
    }
    for name in ["no-replay", "no-iv", "engine", "inetd", "tls-remote", "compat-names", "mtu-dynamic"] {
        let text = error(name);
        assert!(text.contains(&format!("In client.ovpn:7: `{name}` is refused: ")), "{text}");
    }
    assert!(error("key-method 1").contains("Write `key-method 2`"));
    assert!(error("<pkcs12>\nAAAA\n</pkcs12>").contains("`pkcs12` is not built yet"));
}

#[test]
fn what_is_missing_is_named() {
    let table = [
        (BASE.replace("client\n", ""), "neither `client` nor `tls-client`. Add a line `client`"),
        (
            BASE.replace("client\n", "tls-client\n"),
            "In client.ovpn:5: --auth-user-pass requires --pull. Remove",
        ),
        (
            format!("{BASE}tls-server"),
            "specify only one of --tls-server, --tls-client, or --secret. Keep the one",
        ),
        (
            format!("{BASE}server 10.8.0.0 255.255.255.0"),
            "--server and --client cannot be used together. Keep",
        ),
        (
            format!("{BASE}client-to-client"),
            "In client.ovpn:7: --client-to-client requires --mode server. Remove",
        ),
        (BASE.replace("remote vpn.example.com 1194\n", ""), "names no server. Add a line `remote HOST PORT`"),
        (BASE.replace("ca ca.crt\n", ""), "You must define CA file (--ca) and/or peer fingerprint"),
        (
            BASE.replace("auth-user-pass login\n", ""),
            "No client-side authentication method is specified. Use `cert`",
        ),
        (format!("{BASE}cert client.crt"), "You must define private key file (--key)"),
        (format!("{BASE}key client.key"), "You must define certificate file (--cert)"),
        (
            format!("{BASE}tls-auth ta.key\ntls-crypt ta.key"),
            "mutually exclusive in client mode. Keep the one",
        ),
        (format!("{BASE}bind\nnobind"), "--bind and --nobind can't be used together"),
        (format!("{BASE}lport 5\nnobind"), "--lport and --nobind don't make sense"),
        (format!("{BASE}local 10.0.0.1\nnobind"), "--local and --nobind don't make sense"),
        (format!("{BASE}proto-force tcp"), "proto-force leaves no remote"),
        (format!("{BASE}tls-version-min 1.3\ntls-version-max 1.2"), "greater than tls-version-max"),
    ];
    for (text, expected) in table {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn warnings_name_place_and_cure() {
    let table = [
        (
            "dhcp-option DNS 10.0.0.1",
            "option `dhcp-option` is ignored: name servers of the host are not set; set",
        ),
        ("dns server 1 address 10.0.0.1", "option `dns` is ignored"),
        ("block-outside-dns", "option `block-outside-dns` is ignored"),
        ("link-mtu 1500", "option `link-mtu` is ignored; write `tun-mtu`"),
        ("keysize 128", "option `keysize` is ignored"),
        ("ncp-disable", "option `ncp-disable` is ignored"),
        ("dh dh.pem", "option `dh` is ignored"),
        ("multihome", "option `multihome` is ignored: only servers need it"),
        ("tcp-queue-limit 5", "option `tcp-queue-limit` is ignored: only servers queue packets"),
        ("tls-crypt-v2-verify a", "option `tls-crypt-v2-verify` is ignored: it has a meaning only with"),
        ("max-clients 5", "option `max-clients` is ignored: it has a meaning only with `mode server`"),
        ("ns-cert-type server", "write `remote-cert-tls server`"),
        ("auth none", "auth none has no effect"),
        ("allow-compression asym", "compressed packets are never accepted"),
        ("comp-lzo", "Compression has been used in the past to break encryption"),
        ("compress lz4-v2", "write `comp-lzo no` or `compress stub-v2` on both sides"),
        ("tls-cipher DEFAULT:@SECLEVEL=0", "wildcards in tls-cipher are not known here"),
        ("tls-cert-profile insecure", "RSA keys under 2048 bits and SHA-1 are never accepted"),
        ("max-packet-size 9999", "max-packet-size must be 154 to 2048, 2048 is used"),
        ("connect-retry 99999", "truncated to 65535 seconds"),
        ("socket-flags FAST", "unknown socket flag FAST"),
        ("data-ciphers AES-256-GCM:BF-CBC", "cipher BF-CBC is not offered"),
        ("peer-id 5", "has a meaning only when a server pushes it"),
    ];
    for (line, text) in table {
        let all = warnings(&with(line));
        assert_eq!(all.len(), 1, "{line}: {all:?}");
        assert!(all[0].starts_with("WARNING: ") && all[0].ends_with("(in client.ovpn:7)"), "{all:?}");
        assert!(all[0].contains(text), "{all:?}");
    }
    let unchecked = read(&BASE.replace("remote-cert-tls server\n", "")).unwrap();
    assert!(warnings(&unchecked)[0].contains("No server certificate verification method has been enabled"));
    let tcp = with("remote b 443 tcp\nproto-force tcp\nexplicit-exit-notify");
    assert!(warnings(&tcp)[0].contains("explicit-exit-notify is ignored for TCP"));
}

#[test]
fn secrets_that_others_can_read_are_told() {
    let mut files = Memory::usual();
    files.open = ["client.key", "login", "ta.key", "ca.crt", "client.crt"].map(String::from).into();
    let text = format!("{BASE}cert client.crt\nkey client.key\ntls-crypt ta.key\n");
    let profile = Profile::from_text("client.ovpn", &text, &files).unwrap();
    let mut all = warnings(&profile);
    all.sort();
    assert_eq!(
        all,
        [
            "WARNING: file 'client.key' is group or others accessible; write `chmod 600 client.key` (in client.ovpn:8)",
            "WARNING: file 'login' is group or others accessible; write `chmod 600 login` (in client.ovpn:5)",
            "WARNING: file 'ta.key' is group or others accessible; write `chmod 600 ta.key` (in client.ovpn:9)",
        ]
    );
    let mut old = Memory::usual();
    old.add(
        "client.key",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----",
    );
    let error = Profile::from_text("client.ovpn", &text, &old).unwrap_err().to_string();
    assert!(
        error.contains("in OpenSSL's old format in client.key. Convert it with `openssl pkcs8 -topk8"),
        "{error}"
    );
    files.denied = vec!["client.key".into()];
    let error = Profile::from_text("client.ovpn", &text, &files).unwrap_err().to_string();
    assert!(
        error.contains("In client.ovpn:8: key: cannot read client.key: Permission denied. Let this user"),
        "{error}"
    );
}

#[test]
fn options_may_be_optional() {
    let all = warnings(&with("setenv opt frobnicate 1\nsetenv opt fragment 1300\nsetenv opt verb x"));
    assert_eq!(all.len(), 3);
    assert!(all[0].contains("optional `frobnicate` is skipped"), "{all:?}");
    assert_eq!(with("setenv opt verb 5").log.verbosity, 5);
    assert_eq!(with("ignore-unknown-option foo --bar\nfoo 1\nbar").warnings.len(), 2);
    assert_eq!(with("setenv FORWARD_COMPATIBLE 1\nfoo 1").warnings.len(), 1);
    assert!(error("setenv FORWARD_COMPATIBLE 1\nfragment 9").contains("`fragment` is not built yet"));
    assert!(error("foo\nignore-unknown-option foo").contains("client.ovpn:7: foo"));
    assert!(error("setenv opt").contains("setenv opt"));
}

#[test]
fn blocks_take_only_what_belongs_there() {
    let text = error("<connection>\nremote a 1\nverb 3\n</connection>");
    assert!(text.contains("In client.ovpn:9: option 'verb' cannot be used in this context"), "{text}");
    let text = error("<connection>\nremote a 1\n<connection>\nremote b\n</connection>\n</connection>");
    assert!(text.contains("client.ovpn:"), "{text}");
    let text = error("<connection>\nremote a 1\nhttp-proxy p 80\n</connection>");
    assert!(text.contains("In client.ovpn:9: `http-proxy` is not built yet"), "{text}");
}

#[test]
fn includes_are_bounded() {
    let mut files = Memory::usual();
    files.add("loop.ovpn", "config loop.ovpn\n");
    files.add("tree.ovpn", &"config leaf.ovpn\n".repeat(300));
    files.add("leaf.ovpn", "verb 3\n");
    for name in ["loop.ovpn", "tree.ovpn"] {
        let error = parse_args(&[name.to_string()], &files).unwrap_err().to_string();
        assert!(error.contains("Maximum recursive include levels exceeded"), "{error}");
    }
    for depth in 1..=9 {
        let next = if depth == 9 { BASE.to_string() } else { format!("config {}.ovpn\n", depth + 1) };
        files.add(&format!("{depth}.ovpn"), &next);
    }
    assert!(parse_args(&["1.ovpn".to_string()], &files).is_ok());
}

#[test]
fn grammar_survives_what_real_files_hold() {
    let tidy = format!("{:?}", with("verb 4\nmute 5"));
    for text in [
        format!("\u{feff}{BASE}verb 4\nmute 5"),
        format!("{BASE}verb 4\nmute 5\n").replace('\n', "\r\n"),
        format!("{BASE}\tverb\t4  # loud\n;comment\n   \n--mute 5"),
        format!("{BASE}verb 3\nverb \"4\"\nmute '5' ; five"),
        format!("{BASE}verb 4\nmute 5\n# \u{e4}\u{f6}\u{fc} \u{3042}"),
    ] {
        assert_eq!(format!("{:?}", read(&text).unwrap()), tidy, "{text}");
    }
    let inline = format!("ca missing.crt\n<ca>\n# a comment\n{}\n  </ca>\n", PKI.ca);
    assert_eq!(with(&inline).tls.ca, std::slice::from_ref(&PKI.ca_der));
    let indented: String = PKI.ca.lines().map(|line| format!("  {line}\r\n")).collect();
    assert_eq!(with(&format!("<ca>\r\n{indented}</ca>\r\n")).tls.ca, std::slice::from_ref(&PKI.ca_der));
    assert!(error(&format!("<tls-crypt>\n{}\n", static_key())).contains("Endtag </tls-crypt> missing"));
}

#[test]
fn command_line_errors() {
    let files = Memory::usual();
    let error = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        parse_args(&args, &files).unwrap_err().to_string()
    };
    let text = error(&["f.ovpn", "--verb", "3"]);
    assert!(text.contains("I'm trying to parse \"f.ovpn\" as an --option parameter"), "{text}");
    assert!(text.contains("write `--config f.ovpn`"), "{text}");
    assert!(error(&["--frob"]).contains("in [CMD-LINE]:1: frob"));
    assert!(error(&["--client", "--verb", "x"]).contains("In [CMD-LINE]:2: verb"));
    assert!(error(&["none.ovpn"]).contains("Error opening configuration file: none.ovpn: No such file"));
    assert!(error(&["--connection", "x"]).contains("connection. Write a block"));
}

#[test]
fn errors_carry_the_warnings_before_them() {
    let error = read(&format!("{BASE}link-mtu 1500\nfrobnicate")).unwrap_err();
    assert_eq!(error.warnings.len(), 1);
    assert_eq!(error.origin.unwrap().line, 8);
}
