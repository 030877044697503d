//! OpenVPN's public vulnerabilities as tests.
//!
//! | CVE | What it was | Here |
//! |---|---|---|
//! | 2014-8104 | too short control packet ends the server | [`cve_2014_8104_control_packets_of_every_length`] |
//! | 2017-7478 | too long control packet ends the server before login | [`cve_2017_7478_oversized_control_packets`] |
//! | 2017-7479 | packet-id runs over | `data::table::tests::limits::classic_ids_end_for_good`, `the_last_classic_id_is_all_ones`; `reliable::{send, recv}::tests`, at the end of 32 bits |
//! | 2017-7508 | odd inner IPv6 packet with `mssfix` ends the process | [`cve_2017_7508_odd_inner_packets_with_mssfix`]; `data::mss::tests` |
//! | 2017-7520 | NTLM proxy answer read from the stack | no NTLM, and no proxies: `http-proxy` is refused |
//! | 2017-7521 | leaks and double free on odd certificates | [`cve_2017_7521_damaged_certificates`]; memory is the language's |
//! | 2017-7522 | NUL inside a certificate's name | [`cve_2017_7522_a_name_with_nul_is_not_its_beginning`] |
//! | 2017-12166 | key method 1 overflows a buffer | [`cve_2017_12166_key_method_1_is_refused`] |
//! | 2018-9336, 2024-4877, -24974, -27459, -27903, 2025-13751, 2026-63649 | Windows service, its pipes and paths | there is no such service |
//! | 2020-11810 | data from elsewhere during login moves or stops a client | [`cve_2020_11810_nothing_floats_before_login`]; `node::tests::serve::a_client_floats_and_nobody_takes_its_place_unauthenticated` |
//! | 2020-15078 | configuration pushed before the deferred verdict | [`cve_2020_15078_nothing_is_given_before_the_verdict`] |
//! | 2022-0547 | two deferred verdicts, of which the second counts | [`cve_2022_0547_a_verdict_is_for_its_question_only`]; a ticket is moved into its one answer, and each key negotiation asks anew |
//! | 2023-46849 | `fragment` with size 0 divides by zero | no fragments: the option is refused, `profile: tests/providers.rs`, `fragments_are_refused` |
//! | 2023-46850 | freed memory sent to the peer | safe code; [`cve_2023_46850_no_secret_leaves_in_clear`] |
//! | 2024-5594 | control characters from the peer reach logs and scripts | `session::message::tests::text_without_nul_or_with_control_characters_is_dropped`, `keys::method2::tests::a_login_is_made_harmless`; [`cve_2024_5594_control_characters_in_a_login`] |
//! | 2024-28882 | repeated exit notices prolong a session | [`cve_2024_28882_exit_notices_do_not_prolong`] |
//! | 2025-2704 | replayed or damaged early tls-crypt-v2 packets end the server | [`cve_2025_2704_damaged_and_repeated_early_packets`] |
//! | 2025-10680 | pushed DNS settings reach a shell | no shell is ever called: scripts are started as programs with their arguments, pushed values reach them in the environment without control characters, `oxivpn::scripts::environment` |
//! | 2025-12106 | IPv6 text read beyond its end | addresses are read by the standard library; fuzz targets `push_reply` and `profile` |
//! | 2025-13086 | inverted comparison: any address passes the cookie check | [`cve_2025_13086_every_bit_of_the_cookie_counts`]; `endpoint::cookie::tests`, `endpoint::doorman::tests::attacks` |
//! | 2026-11771 | one byte beyond an NTLMv2 buffer | no NTLM |
//! | 2026-12932, -13698 | leaks of half-open tls-crypt-v2 clients | [`cve_2026_12932_half_open_clients_are_forgotten`] |
//! | 2026-12996, -13117 | freed buffers used in renegotiations | safe code; `node::tests::serve::renegotiations_from_either_side_lose_no_data`, with loss and reordering |
//! | 2026-13122 | odd token with `auth-gen-token external-auth` ends the server | [`cve_2026_13122_odd_tokens`]; `keys::token::tests::no_changed_token_is_taken` |
//! | 2026-13379 | state of Windows' DNS search list | not on Windows; changes of the system are journalled and undone, `host: tests/netns.rs`, `a_crash_is_undone_at_the_next_start` |
//! | 2026-35058 | damaged packet behind a good tls-crypt-v2 key ends the server | [`cve_2026_35058_rubbish_behind_the_wrap`] |
//! | 2026-40215 | race in the handshake sends a packet that was there before | each packet is written into the caller's buffer as a whole; every test here fails if a byte stays that was there before (`Host::outgoing`) |
//! | 2026-63650 | `x509-username-field` accepts wrongly | the option is refused; names by table, `tls::tests::verification::names` |
//! | 2026-84732 | waits for an ack grow without bound; acks for packets that cannot be under way | an ack for an id that is not in flight has no effect, `reliable::send::tests::three_later_acks_resend_at_once_but_repetitions_do_not`; waits do grow, and `hand-window` ends the exchange or the session, `session::tests`, `node::tests::serve::broken` |
//! | 2026-84790 | NUL in a certificate's subject makes somebody another | [`cve_2017_7522_a_name_with_nul_is_not_its_beginning`] |
//! | 2026-84471 | as 2026-12996 | safe code |
//! | 2026-84256, -88964 | Windows and Android: commands, DNS search lists | not on those systems |
//!
//! Faults of the same kind without a number: a first packet that does not begin the sequence
//! ([`a_reset_that_is_not_the_first_message_begins_nothing`]), an answer that leaves by another socket
//! ([`answers_leave_where_the_question_came_in`]).

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

#[path = "cve/net.rs"]
mod net;

use core::net::SocketAddr;
use core::time::Duration;

use net::{
    NOW, Net, Noise, Packet, factory, login, pairs, plain, secs, tls_crypt, tls_crypt_v2, tls_options,
};
use oxivpn_proto::Path;
use oxivpn_proto::config::params::ReplayWindow;
use oxivpn_proto::config::server::{LoginPolicy, TokenConfig};
use oxivpn_proto::event::login::Verdict;
use oxivpn_proto::keys::data_key::TlsRole;
use oxivpn_proto::tls::facts::facts;
use oxivpn_proto::tls::verify::NameRule;
use oxivpn_proto::tls::{TlsFactory, TlsFailure};
use oxivpn_proto::wire::ids::SessionId;
use oxivpn_proto::wrap::{Wrap, WrapConfig};
use zeroize::Zeroizing;

const CONTROL_V1: u8 = 4;
const ACK_V1: u8 = 5;

/// An address that is nobody's.
fn stranger() -> Path {
    Path::udp(0, SocketAddr::from(([203, 0, 113, 9], 4000)))
}

/// Seals packets as somebody does who has the client's keys, a little later than the client.
struct Insider(Wrap);

impl Insider {
    fn new(wrap: &WrapConfig) -> Self {
        Self(Wrap::new(wrap, TlsRole::Client, u32::try_from(NOW).unwrap() + 1000, ReplayWindow::DEFAULT))
    }

    fn seal(&mut self, header: u8, session: [u8; 8], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let session = SessionId::new(session).unwrap();
        self.0.seal(u32::try_from(NOW).unwrap() + 1000, header, session, body, &mut out);
        out
    }
}

/// The session id that stands in clear in each control packet.
fn session_of(packet: &[u8]) -> [u8; 8] {
    packet[1..9].try_into().unwrap()
}

/// Runs a client's handshake until `packets` packets were delivered, or to its end.
fn advance(net: &mut Net, packets: usize) {
    for _ in 0..packets {
        match net.next() {
            Some(packet) => net.deliver(&packet),
            None => return,
        }
    }
}

/// Points of a handshake of some 20 packets at which an attack may begin.
const STAGES: [usize; 6] = [0, 1, 2, 5, 9, 100];

/// The server still lets a new client in.
fn assert_open(net: &mut Net, client: &oxivpn_proto::config::ClientConfig, why: &str) {
    net.join(9, client, None);
    net.run(secs(3));
    assert!(net.is_up(9), "{why}: {:?}", net.server.node.drops());
    net.assert_alive(9, why);
}

#[test]
fn cve_2014_8104_control_packets_of_every_length() {
    for (n, (server, client)) in pairs().into_iter().enumerate() {
        for stage in STAGES {
            let case = format!("pair {n}, stage {stage}");
            let mut net = Net::new(server.clone());
            net.join(1, &client, None);
            net.drain();
            let session = session_of(&net.seen[0].bytes);
            advance(&mut net, stage);
            let mut insider = Insider::new(&client.channel.wrap);
            for opcode in 0..32 {
                let header = opcode << 3;
                // Cut within the fixed part, from the client's own address.
                for len in 0..14 {
                    let whole = [&[header][..], &session, &[0; 5]].concat();
                    net.attack(Net::address(1), &whole[..len]);
                }
                // Authenticated and too short; one byte is enough for an ack packet.
                if matches!(client.channel.wrap, WrapConfig::None) {
                    continue;
                }
                for len in 0..if opcode == ACK_V1 { 1 } else { 5 } {
                    let packet = insider.seal(header, session, &vec![0; len]);
                    net.attack(Net::address(1), &packet);
                }
            }
            net.run(secs(5));
            assert!(net.is_up(1), "{case}: {:?}", net.server.node.drops());
            net.assert_alive(1, &case);
        }
    }
}

#[test]
fn cve_2017_7478_oversized_control_packets() {
    for (n, (server, client)) in pairs().into_iter().enumerate() {
        for stage in STAGES {
            let mut net = Net::new(server.clone());
            net.join(1, &client, None);
            net.drain();
            let session = session_of(&net.seen[0].bytes);
            advance(&mut net, stage);
            let mut insider = Insider::new(&client.channel.wrap);
            for len in [1400, 1700, 2900, 3100, 9000, 65_000] {
                for message in 0..8_u32 {
                    let body = [&[0][..], &message.to_be_bytes(), &vec![0x16; len]].concat();
                    for header in [CONTROL_V1 << 3, 7 << 3, 10 << 3, 11 << 3] {
                        let packet = insider.seal(header, session, &body);
                        net.attack(Net::address(1), &packet);
                        assert!(net.attack(stranger(), &packet) <= 1);
                    }
                }
            }
            net.run(secs(120));
            assert_open(&mut net, &client, &format!("pair {n}, stage {stage}"));
        }
    }
}

#[test]
fn cve_2017_12166_key_method_1_is_refused() {
    use oxivpn_proto::keys::method2::{Introduction, Method2Error};
    for method in [0, 1, 3, 255] {
        let message = [&[0, 0, 0, 0, method][..], &[64; 300]].concat();
        assert_eq!(Introduction::parse(&message).err(), Some(Method2Error::Method), "{method}");
    }
}

#[test]
fn cve_2017_7521_damaged_certificates() {
    let mut noise = Noise(1);
    for name in ["client-p256", "server-names", "self-v1", "client-ed25519"] {
        let good = net::cert(name);
        assert!(facts(&good).is_some());
        for len in 0..good.len() {
            assert_eq!(facts(&good[..len]), None);
        }
        for _ in 0..4000 {
            let mut bad = good.clone();
            for _ in 0..=noise.below(3) {
                let at = noise.below(bad.len());
                bad[at] = noise.next() as u8;
            }
            if let Some(facts) = facts(&bad) {
                assert!(!facts.subject.contains(|c: char| c.is_ascii_control()), "{:?}", facts.subject);
            }
        }
    }
}

/// Inner packets of all lengths, with headers that are nearly right.
fn odd_inner_packet(noise: &mut Noise) -> Vec<u8> {
    let len = noise.below(140);
    let mut packet = noise.bytes(len);
    let version = [0x45, 0x46, 0x4f, 0x40, 0x60, 0x6f, 0x00, 0xff][noise.below(8)];
    if let Some(first) = packet.first_mut() {
        *first = version;
    }
    if noise.below(4) > 0 {
        // TCP with SYN behind an IPv4 or IPv6 header, with a length of options that may lead out of the packet.
        let (at, protocol) = if version >> 4 == 6 { (40, 6) } else { (20, 9) };
        for (at, value) in [(protocol, 6), (at + 12, noise.next() as u8 & 0xf0), (at + 13, 2), (at + 20, 2)] {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        // What the headers say of the length.
        for at in [2, 3, 4, 5] {
            let value = if at % 2 == 0 { 0 } else { noise.below(160) as u8 };
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
    }
    packet
}

#[test]
fn cve_2017_7508_odd_inner_packets_with_mssfix() {
    let mut noise = Noise(6);
    let mut net = Net::new(plain().0);
    let (_, client) = plain();
    net.join(1, &client, None);
    net.run(secs(2));
    assert!(net.is_up(1));
    let mut through = 0;
    for _ in 0..20_000 {
        through += usize::from(net.carry_up(1, &odd_inner_packet(&mut noise)));
    }
    assert!(through > 100, "{through} of 20,000 were sealed and opened");
    net.assert_alive(1, "afterwards");
}

/// A CA, and a certificate of it with the common name `name` and its key.
fn issue(name: &str) -> (Vec<u8>, Vec<u8>, Zeroizing<Vec<u8>>) {
    use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
    let params = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = params("CVE-CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = ca.self_signed(&ca_key).unwrap().der().to_vec();
    let leaf = params(name).signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap().der().to_vec();
    (own, leaf, Zeroizing::new(key.serialize_der()))
}

/// How a handshake with a client of this name ends for a server that wants `admin`.
fn handshake_as(name: &str, rule: NameRule) -> Result<Option<String>, TlsFailure> {
    let (ca, leaf, key) = issue(name);
    let mut ours = tls_options("server");
    (ours.ca, ours.rules.name) = (vec![ca], Some(rule));
    let mut theirs = tls_options("client-p256");
    (theirs.certs, theirs.key) = (vec![leaf], Some(key));
    let mut server = factory(ours).server(secs(NOW)).unwrap();
    let mut client = factory(theirs).client(secs(NOW)).unwrap();
    let mut pipe = Vec::new();
    for _ in 0..4 {
        client.drain(&mut pipe);
        server.feed(&std::mem::take(&mut pipe))?;
        server.drain(&mut pipe);
        client.feed(&std::mem::take(&mut pipe)).unwrap();
    }
    Ok(server.peer().and_then(|peer| peer.common_name))
}

#[test]
fn cve_2017_7522_a_name_with_nul_is_not_its_beginning() {
    let name = |text: &str| NameRule::Name(text.into());
    assert_eq!(handshake_as("admin", name("admin")).unwrap().as_deref(), Some("admin"));
    for trick in ["admin\0.evil.example", "admin\0", "\0admin", "admin\n", "adm\0in"] {
        let failure = handshake_as(trick, name("admin")).unwrap_err();
        assert!(failure.message.contains("VERIFY X509NAME ERROR"), "{failure}");
        assert!(!failure.message.contains(|c: char| c.is_ascii_control()), "{failure:?}");
        let subject = NameRule::Subject("CN=admin".into());
        assert!(handshake_as(trick, subject).is_err(), "{trick:?}");
        // What is let in by another rule goes on without control characters.
        let shown = handshake_as(trick, NameRule::NamePrefix(String::new())).unwrap().unwrap();
        assert!(shown != "admin" && !shown.contains(|c: char| c.is_ascii_control()), "{shown:?}");
    }
}

#[test]
fn cve_2020_11810_nothing_floats_before_login() {
    let (mut server, client) = tls_crypt();
    (server.ask_login, server.login) = (true, LoginPolicy::Required);
    let mut net = Net::new(server);
    net.verdict = |_| None;
    net.join(1, &client, Some(login("alice", "secret")));
    net.run(secs(2));
    let ticket = net.open.pop().unwrap();
    let mut noise = Noise(2);
    for id in 0..40_u32 {
        for key in 0..8 {
            let header = ((9 << 3 | key) << 24 | id).to_be_bytes();
            for from in [stranger(), Net::address(1), Net::address(2)] {
                net.attack(from, &[&header[..], &noise.bytes(60)].concat());
                net.attack(from, &[&[6 << 3 | key as u8][..], &noise.bytes(60)].concat());
            }
        }
    }
    net.run(secs(1));
    assert!(net.server.told("Floated").is_empty() && net.server.inner.is_empty());
    net.server.node.answer_login(net.now, ticket, Verdict::Accept);
    net.run(secs(2));
    assert!(net.is_up(1));
    net.assert_alive(1, "after the attack");
}

#[test]
fn cve_2020_15078_nothing_is_given_before_the_verdict() {
    for verdict in [Verdict::Accept, Verdict::Deny("no".into()), Verdict::Drop] {
        let (mut server, client) = tls_crypt();
        (server.ask_login, server.login) = (true, LoginPolicy::Required);
        let mut net = Net::new(server);
        net.verdict = |_| None;
        net.join(1, &client, Some(login("alice", "secret")));
        // Long enough for the client to ask for its configuration several times.
        net.run(secs(20));
        assert_eq!(net.open.len(), 1);
        let told = &net.clients[&1];
        assert!(
            told.told("PushReply").is_empty() && told.told("Configure").is_empty() && told.peer.is_none()
        );
        assert!(net.server.told("Pushed").is_empty() && net.server.told("Established").is_empty());
        let mut inner = [0; 24];
        (inner[0], inner[19]) = (0x45, 1);
        inner[16..20].copy_from_slice(&[10, 8, 0, 1]);
        assert_eq!(net.server.plane.lookup(&inner), None, "no address before the verdict");
        let ticket = net.open.pop().unwrap();
        net.server.node.answer_login(net.now, ticket, verdict.clone());
        net.run(secs(10));
        assert_eq!(net.is_up(1), verdict == Verdict::Accept, "{verdict:?}");
        assert_eq!(net.server.plane.lookup(&inner).is_some(), verdict == Verdict::Accept, "{verdict:?}");
        assert_eq!(net.clients[&1].told("PushReply").is_empty(), verdict != Verdict::Accept, "{verdict:?}");
    }
}

#[test]
fn cve_2022_0547_a_verdict_is_for_its_question_only() {
    for verdict in [Verdict::Deny(String::new()), Verdict::Accept] {
        let (mut server, client) = tls_crypt();
        (server.ask_login, server.login) = (true, LoginPolicy::Required);
        let mut net = Net::new(server);
        net.verdict = |_| None;
        net.join(1, &client, Some(login("alice", "secret")));
        net.run(secs(2));
        let old = net.open.pop().unwrap();
        // Another session from the same address takes the place of the first; the answer is for that.
        net.join(1, &client, Some(login("mallory", "guess")));
        net.run(secs(12));
        let new = net.open.pop().unwrap();
        net.server.node.answer_login(net.now, old, Verdict::Accept);
        net.run(secs(5));
        assert!(!net.is_up(1) && net.server.told("Established").is_empty(), "{:?}", net.server.events);
        net.server.node.answer_login(net.now, new, verdict.clone());
        net.run(secs(10));
        assert_eq!(net.is_up(1), verdict == Verdict::Accept, "{verdict:?}");
    }
}

#[test]
fn cve_2023_46850_no_secret_leaves_in_clear() {
    const PASSWORD: &str = "correct horse battery staple";
    for (n, (mut server, client)) in pairs().into_iter().enumerate() {
        (server.ask_login, server.login) = (true, LoginPolicy::Required);
        server.token = Some(TokenConfig {
            lifetime: None,
            renewal: secs(60),
            external: false,
            secret: Zeroizing::new([7; 32]),
        });
        let mut net = Net::new(server);
        net.join(1, &client, Some(login("alice", PASSWORD)));
        net.run(secs(3));
        assert!(net.is_up(1), "pair {n}");
        net.server.node.renegotiate(net.now, net.server.session.unwrap());
        net.run(secs(10));
        for secret in
            [&PASSWORD.as_bytes()[8..20], b"PUSH_REQUEST", b"PUSH_REPLY", b"SESS_ID_AT", b"IV_PROTO"]
        {
            let found =
                net.seen.iter().position(|packet| packet.bytes.windows(secret.len()).any(|w| w == secret));
            assert_eq!(found, None, "pair {n}: {}", String::from_utf8_lossy(secret));
        }
        let logged = format!("{:?} {:?}", net.server.events, net.clients[&1].events);
        assert!(!logged.contains(PASSWORD) && !logged.contains("SESS_ID_AT"), "pair {n}: {logged}");
    }
}

#[test]
fn cve_2024_5594_control_characters_in_a_login() {
    let (mut server, client) = tls_crypt();
    (server.ask_login, server.login) = (true, LoginPolicy::Required);
    let mut net = Net::new(server);
    net.verdict = |login| {
        let name = login.username.as_deref().unwrap();
        assert!(!name.contains(|c: char| c.is_ascii_control()), "{name:?}");
        let info = &login.peer_info;
        assert!(!info.contains(|c: char| c.is_ascii_control() && c != '\n'), "{info:?}");
        Some(Verdict::Accept)
    };
    net.join(1, &client, Some(login("al\nice\x1b[2J\r\x07", "x")));
    net.run(secs(3));
    assert!(net.is_up(1));
}

#[test]
fn cve_2024_28882_exit_notices_do_not_prolong() {
    for (n, (server, client)) in pairs().into_iter().enumerate() {
        let mut net = Net::new(server);
        let mut client = client;
        client.channel.exit_notify = Some(3);
        net.join(1, &client, None);
        net.run(secs(5));
        assert!(net.is_up(1), "pair {n}");
        let before = net.seen.len();
        let host = net.clients.get_mut(&1).unwrap();
        host.node.close(net.now, host.session.unwrap());
        net.drain();
        let notices: Vec<Packet> =
            net.seen[before..].iter().filter(|packet| packet.to_server).cloned().collect();
        assert!(!notices.is_empty(), "pair {n}");
        // The client goes on and on telling that it leaves.
        let mut rounds = 0;
        while net.server.node.sessions() > 0 {
            notices.iter().for_each(|packet| net.deliver(packet));
            net.run(Duration::from_millis(900));
            rounds += 1;
            assert!(rounds < 30, "pair {n}: still there");
        }
        assert_eq!(net.server.told("Closed").len(), 1, "pair {n}");
    }
}

#[test]
fn cve_2025_2704_damaged_and_repeated_early_packets() {
    let mut noise = Noise(3);
    for (n, (server, client)) in [tls_crypt_v2(), tls_crypt()].into_iter().enumerate() {
        let mut net = Net::new(server);
        net.join(1, &client, None);
        let mut early = Vec::new();
        while let Some(packet) = net.next() {
            if early.len() < 12 {
                early.push(packet.clone());
                for len in (0..packet.bytes.len()).step_by(1 + packet.bytes.len() / 60) {
                    net.deliver(&Packet { bytes: packet.bytes[..len].to_vec(), ..packet.clone() });
                }
                for _ in 0..200 {
                    let mut damaged = packet.clone();
                    let at = noise.below(damaged.bytes.len());
                    damaged.bytes[at] ^= 1 << noise.below(8);
                    net.deliver(&damaged);
                    if packet.to_server {
                        net.attack(stranger(), &damaged.bytes);
                    }
                }
            }
            net.deliver(&packet);
            for old in early.clone() {
                net.deliver(&old);
            }
        }
        net.run(secs(30));
        assert!(net.is_up(1), "pair {n}: {:?} {:?}", net.server.node.drops(), net.clients[&1].events);
        net.assert_alive(1, &format!("pair {n}"));
        assert_eq!(net.server.node.sessions(), 1, "pair {n}");
    }
}

#[test]
fn cve_2025_13086_every_bit_of_the_cookie_counts() {
    for (n, (server, client)) in [plain(), tls_crypt()].into_iter().enumerate() {
        let mut net = Net::new(server.clone());
        net.join(1, &client, None);
        advance(&mut net, 2);
        let Some(second) = net.next() else { panic!("pair {n}: no second packet") };
        assert!(second.to_server);
        // The right packet from another address, and from the right one through another socket.
        let elsewhere = Path::udp(1, SocketAddr::from(([10, 9, 0, 1], 1194)));
        let port = Path::udp(0, SocketAddr::from(([10, 9, 0, 1], 1195)));
        for from in [stranger(), Net::address(2), port, elsewhere] {
            net.server.take(net.now, from, &mut second.bytes.clone());
            let expected = usize::from(from == elsewhere);
            assert!(net.server.node.sessions() <= expected, "pair {n}: {from:?}");
        }
        let mut net = Net::new(server);
        net.join(1, &client, None);
        advance(&mut net, 2);
        let second = net.next().unwrap();
        // In clear the server's session id stands at a known place; under tls-crypt every bit is authentic.
        for at in 1..second.bytes.len() {
            for bit in 0..8 {
                // The client's id in a bare packet is part of the cookie; the message id and acks are not.
                if n == 0 && !(1..9).contains(&at) && !(second.bytes[9] > 0 && (14..22).contains(&at)) {
                    continue;
                }
                let mut altered = second.bytes.clone();
                altered[at] ^= 1 << bit;
                net.server.take(net.now, Net::address(1), &mut altered);
                assert_eq!(net.server.node.sessions(), 0, "pair {n}: byte {at}, bit {bit}");
            }
        }
        net.deliver(&second);
        assert_eq!(net.server.node.sessions(), 1, "pair {n}: the packet as it was sent");
    }
}

#[test]
fn cve_2026_35058_rubbish_behind_the_wrap() {
    let mut noise = Noise(4);
    for (n, (server, client)) in pairs().into_iter().enumerate() {
        for stage in STAGES {
            let mut net = Net::new(server.clone());
            net.join(1, &client, None);
            net.drain();
            let session = session_of(&net.seen[0].bytes);
            advance(&mut net, stage);
            let mut insider = Insider::new(&client.channel.wrap);
            for _ in 0..400 {
                let header = (noise.below(32) << 3 | noise.below(8)) as u8;
                let len = noise.below(120);
                let mut body = noise.bytes(len);
                // Often something that is nearly right.
                if let (Some(acks), true) = (body.first_mut(), noise.below(2) == 0) {
                    *acks %= 4;
                }
                let from_id = if noise.below(2) == 0 { session } else { [9; 8] };
                let packet = insider.seal(header, from_id, &body);
                net.attack(Net::address(1), &packet);
                assert!(net.attack(stranger(), &packet) <= 1);
            }
            net.run(secs(120));
            assert_open(&mut net, &client, &format!("pair {n}, stage {stage}"));
        }
    }
}

#[test]
fn cve_2026_12932_half_open_clients_are_forgotten() {
    for (n, (server, client)) in pairs().into_iter().enumerate() {
        let window = server.channel.timing.hand_window;
        let mut net = Net::new(server);
        // Each begins and falls silent, some after a few packets and some after all but the last.
        for number in 1..=60 {
            net.join(number, &client, None);
            advance(&mut net, usize::from(number) % 12);
            net.clients.remove(&number);
            while net.next().is_some() {}
        }
        net.run(window + secs(10));
        assert_eq!(net.server.node.sessions(), 0, "pair {n}");
        assert!(net.server.node.deadline().is_none(), "pair {n}");
        assert_open(&mut net, &client, &format!("pair {n}"));
    }
}

#[test]
fn cve_2026_13122_odd_tokens() {
    let mut noise = Noise(5);
    for external in [false, true] {
        let (mut server, client) = plain();
        (server.ask_login, server.login) = (true, LoginPolicy::Required);
        let secret = Zeroizing::new([7; 32]);
        server.token = Some(TokenConfig { lifetime: Some(secs(600)), renewal: secs(60), external, secret });
        let mut net = Net::new(server);
        net.verdict = |login| {
            let state = login.token.as_ref().map(|token| token.state);
            let good = state.is_some_and(|state| state.name().starts_with("Authenticated"));
            assert!(!good, "{state:?}");
            Some(Verdict::Deny(String::new()))
        };
        for number in 1..=40 {
            let len = [0, 1, 10, 63, 96, 100, 116][noise.below(7)];
            let tail: String = (0..len).map(|_| char::from(33 + noise.below(90) as u8)).collect();
            let name = if noise.below(3) == 0 { "" } else { "alice" };
            let mut credentials = login(name, &format!("SESS_ID_AT_{tail}"));
            credentials.is_token = noise.below(2) == 0;
            net.join(number, &client, Some(credentials));
            net.run(secs(8));
            assert!(!net.is_up(number));
        }
        assert!(net.server.told("Established").is_empty());
        net.verdict = |_| Some(Verdict::Accept);
        net.join(99, &client, Some(login("alice", "secret")));
        net.run(secs(3));
        assert!(net.is_up(99));
    }
}

#[test]
fn a_reset_that_is_not_the_first_message_begins_nothing() {
    for (n, (server, client)) in pairs().into_iter().enumerate() {
        let mut net = Net::new(server);
        let mut insider = Insider::new(&client.channel.wrap);
        for message in [1_u32, 2, 0x7fff_ffff, u32::MAX] {
            for header in [7 << 3, 10 << 3] {
                let packet = insider.seal(header, [5; 8], &[&[0][..], &message.to_be_bytes()].concat());
                assert_eq!(net.attack(stranger(), &packet), 0, "pair {n}, message {message}");
            }
        }
        let ack = insider.seal(ACK_V1 << 3, [5; 8], &[1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(net.attack(stranger(), &ack), 0);
        assert_eq!(net.server.node.sessions(), 0);
        assert!(net.server.node.deadline().is_none());
        assert_open(&mut net, &client, &format!("pair {n}"));
    }
}

#[test]
fn answers_leave_where_the_question_came_in() {
    let (server, client) = plain();
    let mut net = Net::new(server);
    net.join(1, &client, None);
    net.drain();
    let reset = net.seen[0].bytes.clone();
    for socket in [0, 1, 7] {
        let from = Path::udp(socket, SocketAddr::from(([203, 0, 113, 9], 4000)));
        assert_eq!(net.attack(from, &reset), 1);
    }
}
