//! Conversations beside what OpenVPN 2.6.14 answered to the same lines.

use core::net::SocketAddr;

use oxivpn_profile::profile::Protocol;

use super::super::history::MAX_TEXT;
use super::super::request::{Challenge, ClientNews, Notice, State, StateDetails, Victim};
use super::*;
use crate::status;

const START: Moment = Moment { now: Instant::from_nanos(5_000_000_000), unix: 1_795_241_548 };

fn settings(mode: Mode) -> Settings {
    Settings {
        options: ManagementOptions { log_cache: 250, client_auth: true, ..ManagementOptions::default() },
        mode,
        status_version: 1,
        auth_retry: AuthRetry::None,
        verb: 3,
        mute: 0,
        remap_usr1: None,
    }
}

/// A desk with somebody at it, whose banner is read.
fn connected(settings: Settings) -> Desk {
    let mut desk = Desk::new(settings);
    desk.connected();
    assert_eq!(
        read(&mut desk),
        ">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info\r\n"
    );
    desk
}

fn client() -> Desk {
    connected(settings(Mode::Client))
}

fn server() -> Desk {
    connected(settings(Mode::Server))
}

fn read(desk: &mut Desk) -> String {
    let text = String::from_utf8(desk.output().to_vec()).unwrap();
    desk.sent(text.len());
    text
}

fn write(desk: &mut Desk, line: &str) {
    desk.input(line.as_bytes());
    desk.input(b"\n");
}

fn requests(desk: &mut Desk) -> Vec<Request> {
    core::iter::from_fn(|| desk.poll(START)).collect()
}

/// Sends a line that the desk answers itself.
fn ask(desk: &mut Desk, line: &str) -> String {
    write(desk, line);
    assert_eq!(requests(desk), [], "{line}");
    read(desk)
}

/// Sends a line that becomes a request, and answers that.
fn serve(desk: &mut Desk, line: &str, request: Request, answer: Answer) -> String {
    write(desk, line);
    assert_eq!(requests(desk), [request], "{line}");
    assert_eq!(read(desk), "", "{line}: nothing before the answer");
    desk.answer(answer);
    read(desk)
}

/// What was sent and what came back, without the ends of lines.
fn converse(desk: &mut Desk, lines: &[(&str, &str)]) {
    for (line, reply) in lines {
        let mut expected = reply.replace('\n', "\r\n");
        if !reply.is_empty() {
            expected.push_str("\r\n");
        }
        assert_eq!(ask(desk, line), expected, "{line}");
    }
}

#[test]
fn what_everybody_can_ask() {
    let mut desk = client();
    let pid = format!("SUCCESS: pid={}", std::process::id());
    let version = format!("OpenVPN Version: {}\nManagement Version: 5\nEND", status::title());
    converse(
        &mut desk,
        &[
            ("version", &version),
            ("pid", &pid),
            ("", ""),
            ("   ", ""),
            ("env-filter", "SUCCESS: env_filter_level=0"),
            ("env-filter 2", "SUCCESS: env_filter_level=2"),
            ("version 3", ""),
            ("version 4", "SUCCESS: Management client version set to 4"),
            ("bogus \"command here\"", "ERROR: unknown command, enter 'help' for more options"),
            ("\"unterminated", "ERROR: Options error: No closing quotation (\") in TCP:0"),
            ("bytecount", "ERROR: the 'bytecount' command requires 1 parameter"),
            ("bytecount 5", "SUCCESS: bytecount interval changed"),
            ("verb", "SUCCESS: verb=3"),
            ("verb 99", "ERROR: verb level is out of range"),
            ("mute", "SUCCESS: mute=0"),
            ("mute -1", "ERROR: mute level is out of range"),
            ("auth-retry", "SUCCESS: auth-retry=none"),
            (
                "auth-retry foo",
                "--auth-retry method must be 'interact', 'nointeract', or 'none'\nERROR: bad auth-retry parameter",
            ),
            ("net", "ERROR: Sorry, this command is currently only implemented on Windows"),
            ("pk-sig", "ERROR: The pk-sig command is not currently available"),
            ("certificate", "ERROR: The certificate command is not currently available"),
            ("needok a b", "ERROR: no needok-confirmation is currently needed at this time"),
            ("needstr a b", "ERROR: no needstr-string is currently needed at this time"),
            ("pkcs11-id-count", ">PKCS11ID-COUNT:0"),
        ],
    );
    let help = ask(&mut desk, "help");
    assert!(help.starts_with("Management Interface for OpenVPN 2."), "{help}");
    assert!(help.ends_with("\r\nEND\r\n"));
    assert_eq!(ask(&mut desk, "test 3").lines().count(), 3);
    assert_eq!(desk.ending(), None);
    assert_eq!(ask(&mut desk, "exit"), "");
    assert_eq!(desk.ending(), Some(Ending::Orderly));
}

#[test]
fn hold_and_signals() {
    let mut settings = settings(Mode::Client);
    settings.options.hold = true;
    let mut desk = Desk::new(settings);
    assert!(desk.hold(10));
    desk.connected();
    let banner = read(&mut desk);
    assert!(banner.ends_with(" more info\r\n>HOLD:Waiting for hold release:10\r\n"), "{banner}");
    converse(
        &mut desk,
        &[
            ("hold", "SUCCESS: hold=1"),
            ("hold on", "SUCCESS: hold flag set to ON"),
            ("hold bad", "ERROR: bad hold command parameter"),
            (
                "signal SIGHUP",
                "ERROR: signal 'SIGHUP' is currently ignored\n>HOLD:Waiting for hold release:10",
            ),
            ("signal FOO", "ERROR: signal 'FOO' is not a known signal type"),
            ("signal", "ERROR: the 'signal' command requires 1 parameter"),
        ],
    );
    write(&mut desk, "hold release");
    assert_eq!(requests(&mut desk), [Request::HoldRelease]);
    assert_eq!(read(&mut desk), "SUCCESS: hold release succeeded\r\n");
    // Nothing is held now, and no later start is released by this.
    assert_eq!(ask(&mut desk, "hold release"), "SUCCESS: hold release succeeded\r\n");
    write(&mut desk, "signal SIGUSR1");
    assert_eq!(requests(&mut desk), [Request::Signal { signal: Signal::Usr1, soft: None }]);
    assert_eq!(read(&mut desk), "SUCCESS: signal SIGUSR1 thrown\r\n");
    assert!(desk.hold(0));
    assert_eq!(read(&mut desk), ">HOLD:Waiting for hold release:0\r\n");
    desk.stop_waiting();
    assert_eq!(ask(&mut desk, "hold off"), "SUCCESS: hold flag set to OFF\r\n");
    assert!(!desk.hold(0));
}

#[test]
fn signals_are_remapped() {
    let mut settings = settings(Mode::Client);
    settings.remap_usr1 = Some(RestartAs::Hup);
    let mut desk = connected(settings);
    write(&mut desk, "signal SIGUSR1");
    assert_eq!(requests(&mut desk), [Request::Signal { signal: Signal::Hup, soft: None }]);
    assert_eq!(read(&mut desk), "SUCCESS: signal SIGHUP thrown\r\n");
}

#[test]
fn states_have_up_to_nine_fields() {
    let mut desk = client();
    let at = |seconds| Moment { unix: START.unix + seconds, ..START };
    desk.state(at(0), State::Connecting, &StateDetails::default());
    assert_eq!(ask(&mut desk, "state"), "1795241548,CONNECTING,,,,,,\r\nEND\r\n");
    assert_eq!(
        ask(&mut desk, "state on all"),
        "SUCCESS: real-time state notification set to ON\r\n1795241548,CONNECTING,,,,,,\r\nEND\r\n"
    );
    let (ip4, ip6) = ("10.8.0.2".parse().ok(), "fd00:8::1000".parse().ok());
    let inner = StateDetails { ip4, ip6, ..StateDetails::default() };
    desk.state(at(9), State::AssignIp, &inner);
    assert_eq!(read(&mut desk), ">STATE:1795241557,ASSIGN_IP,,10.8.0.2,,,,,fd00:8::1000\r\n");
    let remote = "10.77.0.1:1194".parse().ok();
    desk.state(at(9), State::Connected, &StateDetails { detail: "SUCCESS", remote, ..inner });
    let line = "1795241557,CONNECTED,SUCCESS,10.8.0.2,10.77.0.1,1194,,,fd00:8::1000\r\n";
    assert_eq!(read(&mut desk), format!(">STATE:{line}"));
    assert_eq!(ask(&mut desk, "state 1"), format!("{line}END\r\n"));
    assert_eq!(
        ask(&mut desk, "state on 1"),
        format!("SUCCESS: real-time state notification set to ON\r\n{line}END\r\n")
    );
    let bound = StateDetails { local: "[::1]:5000".parse().ok(), ..StateDetails::default() };
    desk.state(at(10), State::Reconnecting, &StateDetails { detail: "a\nb", ..bound });
    assert_eq!(read(&mut desk), ">STATE:1795241558,RECONNECTING,a_b,,,,::1,5000\r\n");
}

#[test]
fn servers_have_fewer_states() {
    let mut desk = server();
    for state in
        [State::Connecting, State::Resolve, State::Wait, State::Auth, State::GetConfig, State::AssignIp]
    {
        desk.state(START, state, &StateDetails::default());
    }
    let reply = ask(&mut desk, "state all");
    assert_eq!(reply, "1795241548,CONNECTING,,,,,,\r\n1795241548,ASSIGN_IP,,,,,,\r\nEND\r\n");
}

#[test]
fn logs_and_echoes() {
    let mut desk = client();
    for (level, text) in [
        (Level::Info, "one"),
        (Level::Debug, "two"),
        (Level::Warn, "three\r\n>STATE:forged"),
        (Level::Error, "four"),
        (Level::Detail, "five"),
    ] {
        desk.log_line(1, level, text);
    }
    desk.echo(START, "hello world");
    converse(
        &mut desk,
        &[
            ("log", "ERROR: the 'log' command requires at least 1 parameter"),
            ("log foo", "ERROR: log parameter must be 'on' or 'off' or some number n or 'all'"),
            ("log 2", "1,N,four\n1,,five\nEND"),
            ("log all", "1,I,one\n1,D,two\n1,W,three__>STATE:forged\n1,N,four\n1,,five\nEND"),
            ("echo all", "1795241548,hello world\nEND"),
            ("echo on all", "SUCCESS: real-time echo notification set to ON\n1795241548,hello world\nEND"),
            ("log on", "SUCCESS: real-time log notification set to ON"),
        ],
    );
    desk.log_line(7, Level::Info, "six");
    desk.echo(START, "seven");
    assert_eq!(read(&mut desk), ">LOG:7,I,six\r\n>ECHO:1795241548,seven\r\n");
    assert_eq!(ask(&mut desk, "log off"), "SUCCESS: real-time log notification set to OFF\r\n");
    desk.log_line(8, Level::Info, "eight");
    assert_eq!(read(&mut desk), "");
    desk.log_line(9, Level::Fatal, "no device");
    assert_eq!(read(&mut desk), ">FATAL:no device\r\n");
    assert_eq!(desk.ending(), Some(Ending::Orderly));
}

#[test]
fn long_messages_are_cut_at_characters() {
    let mut desk = client();
    desk.log_line(1, Level::Info, &format!("x{}", "ä".repeat(MAX_TEXT)));
    let reply = ask(&mut desk, "log 1");
    assert!(reply.len() < MAX_TEXT + 20, "{}", reply.len());
}

#[test]
fn commands_are_logged_but_not_passwords() {
    let mut desk = client();
    for line in ["state 1", "load-stats", "password Auth verysecret", "cr-response c2VjcmV0"] {
        write(&mut desk, line);
        let _ = requests(&mut desk);
        desk.answer(Answer::Done);
    }
    let remarks: Vec<String> = core::iter::from_fn(|| desk.take_remark()).map(|(_, text)| text).collect();
    assert_eq!(
        remarks,
        [
            "MANAGEMENT: CMD 'state 1'",
            "MANAGEMENT: CMD 'password [...]'",
            "MANAGEMENT: CMD 'cr-response [...]'"
        ]
    );
}

#[test]
fn a_client_has_no_clients() {
    let mut desk = client();
    let unsupported =
        |name| format!("ERROR: The '{name}' command is not supported by the current daemon mode");
    for (line, name) in [
        ("nclients", "nclients"),
        ("kill x", "kill"),
        ("client-kill 0", "client-kill"),
        ("client-auth-nt 0 0", "client-auth"),
        ("client-auth 0 0\nfoo\nEND", "client-auth"),
        ("client-pending-auth 0 0 x 3", "client-pending-auth"),
        ("client-deny 0 0 x", "client-deny"),
    ] {
        converse(&mut desk, &[(line, &unsupported(name))]);
    }
    converse(
        &mut desk,
        &[
            ("client-auth", "ERROR: the 'client-auth' command requires 2 parameters"),
            ("client-deny 1", "ERROR: the 'client-deny' command requires at least 3 parameters"),
            ("remote ACCEPT", "ERROR: remote command failed"),
        ],
    );
    let entries = vec!["0,10.77.0.1,1194,udp,enabled".to_owned()];
    let reply =
        serve(&mut desk, "remote-entry-get 0", Request::Remotes { from: 0, to: 1 }, Answer::Lines(entries));
    assert_eq!(reply, "0,10.77.0.1,1194,udp,enabled\r\nEND\r\n");
    let all = Request::Remotes { from: 0, to: usize::MAX };
    assert_eq!(serve(&mut desk, "remote-entry-get all", all, Answer::Lines(Vec::new())), "END\r\n");
    let reply = serve(&mut desk, "remote-entry-count", Request::RemoteCount, Answer::Count(1));
    assert_eq!(reply, "1\r\nEND\r\n");
    let load = Answer::Load { clients: 0, received: 1985, sent: 1918 };
    let reply = serve(&mut desk, "load-stats", Request::LoadStats, load);
    assert_eq!(reply, "SUCCESS: nclients=0,bytesin=1985,bytesout=1918\r\n");
    let text = Answer::Text("OpenVPN STATISTICS\nEND\n".into());
    let reply = serve(&mut desk, "status 9", Request::Status { version: 1 }, text);
    assert_eq!(reply, "OpenVPN STATISTICS\r\nEND\r\n");
    let response = Request::CrResponse(Zeroizing::new("YQ==".into()));
    assert_eq!(
        serve(&mut desk, "cr-response YQ==", response, Answer::Done),
        "SUCCESS: command succeeded\r\n"
    );
}

#[test]
fn a_server_kills() {
    let mut desk = server();
    let name = |name: &str| Request::Kill(Victim::Name(name.into()));
    let address = |protocol, address: &str| {
        Request::Kill(Victim::Address { protocol, address: address.parse::<SocketAddr>().unwrap() })
    };
    for (line, request, answer, reply) in [
        ("kill nobody", name("nobody"), Answer::Count(0), "ERROR: common name 'nobody' not found"),
        (
            "kill client",
            name("client"),
            Answer::Count(2),
            "SUCCESS: common name 'client' found, 2 client(s) killed",
        ),
        ("kill [fe80::1]:5:6", name("[fe80"), Answer::Failed, "ERROR: common name '[fe80' not found"),
        (
            "kill 1.2.3.4:500",
            address(None, "1.2.3.4:500"),
            Answer::Count(0),
            "ERROR: client at address 1.2.3.4:500 not found",
        ),
        (
            "kill tcp:1.2.3.4:500",
            address(Some(Protocol::Tcp), "1.2.3.4:500"),
            Answer::Count(1),
            "SUCCESS: 1 client(s) at address tcp:1.2.3.4:500 killed",
        ),
        (
            "kill [2001:db8::1]:500",
            address(None, "[2001:db8::1]:500"),
            Answer::Count(1),
            "SUCCESS: 1 client(s) at address [2001:db8::1]:500 killed",
        ),
    ] {
        assert_eq!(serve(&mut desk, line, request, answer), format!("{reply}\r\n"), "{line}");
    }
    converse(
        &mut desk,
        &[
            ("kill ::", "ERROR: kill parse"),
            ("kill", "ERROR: the 'kill' command requires 1 parameter"),
            ("kill udp:host:500", "ERROR: error parsing IP address: host"),
            ("kill host:500", "ERROR: error parsing IP address: host"),
            ("kill 1.2.3.4:99999", "ERROR: port number is out of range: 99999"),
            ("kill foo:1.2.3.4:500", "ERROR: port number or protocol out of range: 500 foo"),
            ("client-kill x", "ERROR: cannot parse CID"),
            ("client-auth 5 x", "ERROR: cannot parse KID"),
            ("client-pending-auth 0 0 extra z", "ERROR: cannot parse TIMEOUT"),
            ("status 9", "ERROR: bad status format version number"),
            (
                "cr-response eA==",
                "ERROR: The 'cr-repsonse' command is not supported by the current daemon mode",
            ),
            ("remote ACCEPT", "ERROR: The 'remote' command is not supported by the current daemon mode"),
        ],
    );
}

#[test]
fn a_server_asks_about_its_clients() {
    let mut desk = server();
    for (line, request, answer, reply) in [
        (
            "client-kill 77",
            Request::ClientKill { cid: 77, message: None },
            Answer::Failed,
            "ERROR: client-kill command failed",
        ),
        (
            "client-kill 0 HALT,bye",
            Request::ClientKill { cid: 0, message: Some("HALT,bye".into()) },
            Answer::Done,
            "SUCCESS: client-kill command succeeded",
        ),
        (
            "client-deny 0 1 \"log reason\" \"CRV1:R,E:abc:Ym9i:What?\"",
            Request::ClientDeny {
                cid: 0,
                kid: 1,
                reason: "log reason".into(),
                client_reason: Some("CRV1:R,E:abc:Ym9i:What?".into()),
            },
            Answer::Done,
            "SUCCESS: client-deny command succeeded",
        ),
        (
            "client-auth-nt 3 1",
            Request::ClientAuth { cid: 3, kid: 1, lines: None },
            Answer::Done,
            "SUCCESS: client-auth command succeeded",
        ),
        (
            "client-auth 3 1\npush \"route 10.1.0.0\"\n\nEND",
            Request::ClientAuth {
                cid: 3,
                kid: 1,
                lines: Some(vec!["push \"route 10.1.0.0\"".into(), String::new()]),
            },
            Answer::Failed,
            "ERROR: client-auth command failed",
        ),
        (
            "client-pending-auth 0 1 WEB_AUTH::https://x 60",
            Request::ClientPending {
                cid: 0,
                kid: 1,
                extra: "WEB_AUTH::https://x".into(),
                timeout: Duration::from_secs(60),
            },
            Answer::Failed,
            "ERROR: client-pending-auth command failed. Extra parameter might be too long",
        ),
        ("nclients", Request::Clients, Answer::Count(1), "SUCCESS: nclients=1"),
        (
            "push-update-cid 4 \"route 10.1.0.0, -dns\"",
            Request::PushUpdate { cid: Some(4), options: "route 10.1.0.0, -dns".into() },
            Answer::Done,
            "SUCCESS: push-update command succeeded",
        ),
        (
            "status 3",
            Request::Status { version: 3 },
            Answer::Text("TITLE\tx\nEND\n".into()),
            "TITLE\tx\r\nEND",
        ),
        ("status", Request::Status { version: 1 }, Answer::Text("END\n".into()), "END"),
    ] {
        assert_eq!(serve(&mut desk, line, request, answer), format!("{reply}\r\n"), "{line}");
    }
}

#[test]
fn commands_wait_for_the_answer_to_the_one_before() {
    let mut desk = server();
    desk.input(b"nclients\npid\nnclients\n");
    assert!(!desk.wants_input());
    assert_eq!(requests(&mut desk), [Request::Clients]);
    desk.answer(Answer::Count(7));
    assert_eq!(requests(&mut desk), [Request::Clients]);
    let replies = read(&mut desk);
    assert!(replies.starts_with("SUCCESS: nclients=7\r\nSUCCESS: pid="), "{replies}");
    desk.disconnected();
    // The answer for whoever has left is for nobody.
    desk.connected();
    let _ = read(&mut desk);
    desk.answer(Answer::Count(8));
    assert_eq!(read(&mut desk), "");
}

fn question(username: bool) -> Question {
    Question { kind: "Auth".into(), username, challenge: None }
}

#[test]
fn passwords_are_asked_for() {
    let mut desk = client();
    converse(
        &mut desk,
        &[
            ("password Auth x", "ERROR: no password is currently needed at this time"),
            ("username Auth x", "ERROR: no username is currently needed at this time"),
            ("password", "ERROR: the 'password' command requires 2 parameters"),
            ("password Auth", "ERROR: the 'password' command requires 2 parameters"),
        ],
    );
    let challenge = Challenge { text: "PIN please".into(), echo: true, concat: false };
    desk.ask(Question { challenge: Some(challenge), ..question(true) });
    assert_eq!(read(&mut desk), ">PASSWORD:Need 'Auth' username/password SC:1,PIN please\r\n");
    converse(
        &mut desk,
        &[
            ("username Foo x", "ERROR: username of type 'Foo' entered, but we need one of type 'Auth'"),
            ("password Auth \"\"", "SUCCESS: 'Auth' password entered, but not yet verified"),
            ("password \"Auth\" \"foo\\\"bar\"", "SUCCESS: 'Auth' password entered, but not yet verified"),
        ],
    );
    write(&mut desk, "username Auth bob");
    let [Request::Entered(entered)] = &requests(&mut desk)[..] else { panic!("not entered") };
    assert_eq!((&*entered.username, entered.password.as_str()), ("bob", "foo\"bar"));
    assert!(!format!("{entered:?}").contains("foo"), "no password in debug output");
    assert_eq!(read(&mut desk), "SUCCESS: 'Auth' username entered, but not yet verified\r\n");
    desk.notify(&Notice::VerificationFailed { kind: "Auth", reason: None });
    desk.notify(&Notice::VerificationFailed { kind: "Auth", reason: Some("CRV1:R,E:abc:Ym9i:What?") });
    assert_eq!(
        read(&mut desk),
        ">PASSWORD:Verification Failed: 'Auth'\r\n\
         >PASSWORD:Verification Failed: 'Auth' ['CRV1:R,E:abc:Ym9i:What?']\r\n"
    );
}

#[test]
fn long_passwords_come_in_blocks() {
    let mut desk = client();
    desk.ask(question(false));
    assert_eq!(read(&mut desk), ">PASSWORD:Need 'Auth' password\r\n");
    converse(
        &mut desk,
        &[
            ("version 5", "SUCCESS: Management client version set to 5"),
            ("password Other", "ERROR: password of type 'Other' entered, but we need one of type 'Auth'"),
            ("password Auth\n***\nEND", "ERROR: could not base64-decode password"),
        ],
    );
    write(&mut desk, "password Auth\nc2Vj\r\ncmV0\r\nEND");
    let [Request::Entered(entered)] = &requests(&mut desk)[..] else { panic!("not entered") };
    assert_eq!(entered.password.as_str(), "secret");
}

#[test]
fn a_question_waits_for_whoever_comes() {
    let mut desk = Desk::new(settings(Mode::Client));
    desk.ask(question(true));
    for _ in 0..2 {
        desk.connected();
        assert!(read(&mut desk).ends_with("\r\n>PASSWORD:Need 'Auth' username/password\r\n"));
        // Half an answer of one is not completed by another.
        assert_eq!(
            ask(&mut desk, "username Auth eve"),
            "SUCCESS: 'Auth' username entered, but not yet verified\r\n"
        );
        desk.disconnected();
    }
    assert_eq!(requests(&mut desk), []);
}

#[test]
fn the_password_of_the_interface_comes_first() {
    let mut settings = settings(Mode::Client);
    settings.options.password = Some(Zeroizing::new("secret".into()));
    settings.options.signal = true;
    let mut desk = Desk::new(settings);
    desk.connected();
    assert_eq!(read(&mut desk), "ENTER PASSWORD:");
    desk.log_line(1, Level::Info, "not for everyone");
    assert_eq!(ask(&mut desk, "status"), "ENTER PASSWORD:");
    assert_eq!(
        ask(&mut desk, "secret"),
        "SUCCESS: password is correct\r\n\
         >INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info\r\n"
    );
    desk.disconnected();
    assert_eq!(
        requests(&mut desk),
        [Request::Signal { signal: Signal::Usr1, soft: Some("management-disconnect") }]
    );
    desk.connected();
    let _ = read(&mut desk);
    desk.input(b"one\ntwo\nsecre\nsecret\n");
    assert_eq!(requests(&mut desk), []);
    assert_eq!(desk.ending(), Some(Ending::Orderly), "three tries and no more");
    desk.disconnected();
    assert_eq!(requests(&mut desk), [], "a stranger's leaving restarts nothing");
}

#[test]
fn counters_come_at_their_times() {
    let mut desk = client();
    assert_eq!(ask(&mut desk, "bytecount 2"), "SUCCESS: bytecount interval changed\r\n");
    let later = |seconds| Moment { now: START.now + Duration::from_secs(seconds), ..START };
    assert_eq!(desk.deadline(), Some(later(2).now));
    assert_eq!(desk.poll(later(1)), None);
    assert_eq!(desk.poll(later(2)), Some(Request::ByteCounts));
    assert_eq!(desk.poll(later(2)), None);
    desk.notify(&Notice::ByteCount { received: 1985, sent: 1918 });
    desk.notify(&Notice::ByteCountClient { cid: 0, received: 2165, sent: 2145 });
    assert_eq!(read(&mut desk), ">BYTECOUNT:1985,1918\r\n>BYTECOUNT_CLI:0,2165,2145\r\n");
    assert_eq!(desk.poll(later(100)), Some(Request::ByteCounts));
    assert_eq!(desk.poll(later(100)), None, "missed ones are not made up for");
    assert_eq!(ask(&mut desk, "bytecount 0"), "SUCCESS: bytecount interval changed\r\n");
    assert_eq!(desk.deadline(), None);
}

#[test]
fn clients_of_a_server_are_told_of_with_their_environment() {
    let env = [("username", "bob"), ("password", "x\ny"), ("IV_VER", "2.6.14"), ("X509_1_CN", "ca")];
    let mut desk = server();
    let connect = Notice::Client { news: ClientNews::Connect { cid: 0, kid: 1 }, clients: 4, env: &env };
    desk.notify(&connect);
    assert_eq!(
        read(&mut desk),
        ">CLIENT:CONNECT,0,1\r\n>CLIENT:ENV,n_clients=4\r\n>CLIENT:ENV,username=bob\r\n>CLIENT:ENV,password=x_y\r\n\
         >CLIENT:ENV,IV_VER=2.6.14\r\n>CLIENT:ENV,X509_1_CN=ca\r\n>CLIENT:ENV,END\r\n"
    );
    ask(&mut desk, "env-filter 2");
    desk.notify(&connect);
    assert_eq!(
        read(&mut desk),
        ">CLIENT:CONNECT,0,1\r\n>CLIENT:ENV,username=bob\r\n>CLIENT:ENV,password=x_y\r\n\
         >CLIENT:ENV,IV_VER=2.6.14\r\n>CLIENT:ENV,END\r\n"
    );
    let mut tell = |news| {
        desk.notify(&Notice::Client { news, clients: 1, env: &[] });
        read(&mut desk)
    };
    assert_eq!(tell(ClientNews::Reauth { cid: 2, kid: 5 }), ">CLIENT:REAUTH,2,5\r\n>CLIENT:ENV,END\r\n");
    assert_eq!(tell(ClientNews::Established { cid: 2 }), ">CLIENT:ESTABLISHED,2\r\n>CLIENT:ENV,END\r\n");
    assert_eq!(tell(ClientNews::Disconnect { cid: 2 }), ">CLIENT:DISCONNECT,2\r\n>CLIENT:ENV,END\r\n");
    let address = ClientNews::Address { cid: 2, address: "10.1.0.0/255.255.0.0", primary: false };
    assert_eq!(tell(address), ">CLIENT:ADDRESS,2,10.1.0.0/255.255.0.0,0\r\n");
    let response = ClientNews::CrResponse { cid: 2, kid: 1, response: "MTIz" };
    assert_eq!(tell(response), ">CLIENT:CR_RESPONSE,2,1,MTIz\r\n>CLIENT:ENV,END\r\n");
}

#[test]
fn whoever_does_not_read_is_cut_off() {
    let mut desk = client();
    ask(&mut desk, "log on");
    let text = "x".repeat(1000);
    for _ in 0..2 * limits::OUTPUT_LIMIT / 1000 {
        desk.log_line(1, Level::Info, &text);
    }
    assert_eq!(desk.ending(), Some(Ending::Cut));
    assert!(desk.output().len() < limits::OUTPUT_LIMIT + 5000, "{}", desk.output().len());
    assert!(desk.output().ends_with(b"\r\nERROR: too much is unread\r\n"));
    assert!(!desk.wants_input());
}

#[test]
fn a_large_answer_is_no_reason_to_cut_off() {
    let mut desk = server();
    ask(&mut desk, "log on");
    let table = "x".repeat(99).repeat(3 * limits::OUTPUT_LIMIT / 99);
    write(&mut desk, "status");
    assert_eq!(requests(&mut desk), [Request::Status { version: 1 }]);
    desk.answer(Answer::Text(table));
    desk.log_line(1, Level::Info, "meanwhile");
    assert_eq!(desk.ending(), None);
    // Further commands wait until it is read.
    write(&mut desk, "status");
    assert_eq!(requests(&mut desk), []);
    assert!(read(&mut desk).ends_with("\r\n>LOG:1,I,meanwhile\r\n"));
    assert_eq!(requests(&mut desk), [Request::Status { version: 1 }]);
}

#[test]
fn endless_lines_and_blocks_are_cut_off() {
    let mut desk = client();
    for _ in 0..100 {
        desk.input(&[b'a'; 100]);
    }
    assert_eq!(desk.ending(), Some(Ending::Cut));
    assert_eq!(read(&mut desk), "ERROR: the line is too long\r\n");
    let mut desk = server();
    write(&mut desk, "client-auth 0 0");
    for n in 0.. {
        write(&mut desk, "push \"route 10.0.0.0\"");
        assert_eq!(requests(&mut desk), []);
        if desk.ending().is_some() {
            assert_eq!(n, limits::BLOCK_LINES);
            break;
        }
    }
    assert_eq!(read(&mut desk), "ERROR: the block of lines is too long\r\n");
    let mut desk = server();
    write(&mut desk, "client-auth 0 0");
    while desk.ending().is_none() {
        write(&mut desk, &"x".repeat(4000));
        assert_eq!(requests(&mut desk), []);
    }
    assert_eq!(read(&mut desk), "ERROR: the block of lines is too long\r\n");
}

#[test]
fn a_connection_out_ends_the_program_with_it() {
    let mut settings = settings(Mode::Client);
    (settings.options.connect, settings.options.forget_disconnect) = (true, true);
    let mut desk = connected(settings);
    desk.disconnected();
    assert_eq!(
        requests(&mut desk),
        [Request::ForgetPasswords, Request::Signal { signal: Signal::Term, soft: Some("management-exit") }]
    );
}
