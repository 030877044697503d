//! The interface on real sockets of this machine.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use oxivpn_profile::profile::AuthRetry;
use oxivpn_profile::server::{ManagementAddress, ManagementOptions};

use super::super::desk::Mode;
use super::*;

fn settings(options: ManagementOptions) -> Settings {
    Settings {
        options,
        mode: Mode::Client,
        status_version: 1,
        auth_retry: AuthRetry::None,
        verb: 3,
        mute: 0,
        remap_usr1: None,
    }
}

fn on_unix(path: &std::path::Path) -> ManagementOptions {
    ManagementOptions {
        listen: ManagementAddress::Unix(path.into()),
        log_cache: 10,
        ..ManagementOptions::default()
    }
}

fn log() -> Arc<Log> {
    Arc::new(Log::plain(Box::new(std::io::sink()), 3))
}

const AT: Moment = Moment { now: Instant::from_nanos(1), unix: 1_795_241_548 };

/// Turns the loop until `done`; `ready` stands in for the poll.
fn until<T>(manage: &mut Manage, mut done: impl FnMut(&mut Manage, Option<Request>) -> Option<T>) -> T {
    for _ in 0..1_000_000 {
        manage.ready();
        let request = manage.poll(AT);
        if let Some(result) = done(manage, request) {
            return result;
        }
        std::thread::yield_now();
    }
    panic!("nothing happened");
}

/// Reads up to `mark`.
fn read(manage: &mut Manage, stream: &mut (impl std::io::Read + ?Sized), mark: &str) -> String {
    let mut text = Vec::new();
    until(manage, |_, request| {
        assert_eq!(request, None);
        let mut byte = [0];
        while let Ok(1) = stream.read(&mut byte) {
            text.push(byte[0]);
            if text.ends_with(mark.as_bytes()) {
                return Some(());
            }
        }
        None
    });
    String::from_utf8(text).unwrap()
}

#[test]
fn one_client_after_the_other_on_tcp() {
    let options = ManagementOptions {
        listen: ManagementAddress::Tcp([127, 0, 0, 1].into(), 0),
        ..ManagementOptions::default()
    };
    let mut manage = Manage::open(settings(options), &log()).unwrap();
    let connect = |manage: &Manage| {
        let stream = TcpStream::connect(("127.0.0.1", manage.port())).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut first = connect(&manage);
    assert!(read(&mut manage, &mut first, "more info\r\n").starts_with(">INFO:"));
    let (fd, serial) = manage.descriptor();
    let mut second = connect(&manage);
    first.write_all(b"nclients\nexit\n").unwrap();
    assert!(read(&mut manage, &mut first, "\r\n").starts_with("ERROR: The 'nclients'"));
    // The second one had to wait.
    assert!(read(&mut manage, &mut second, "more info\r\n").starts_with(">INFO:"));
    assert!(fd.is_some() && manage.descriptor().1 > serial);
    assert_eq!(first.read(&mut [0; 9]).unwrap(), 0, "closed");
    second.write_all(b"load-stats\n").unwrap();
    until(&mut manage, |manage, request| {
        (request == Some(Request::LoadStats))
            .then(|| manage.answer(Answer::Load { clients: 0, received: 1, sent: 2 }))
    });
    assert_eq!(read(&mut manage, &mut second, "\n"), "SUCCESS: nclients=0,bytesin=1,bytesout=2\r\n");
}

#[test]
fn a_unix_socket_comes_and_goes_with_the_interface() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.sock");
    // One that a run before left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let log = log();
    let mut manage = Manage::open(settings(on_unix(&path)), &log).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_nonblocking(true).unwrap();
    read(&mut manage, &mut stream, "more info\r\n");
    stream.write_all(b"log on\nverb 4\n").unwrap();
    read(&mut manage, &mut stream, "SUCCESS: verb level changed\r\n");
    assert_eq!(log.verb(), 4);
    say!(log, Fatal, "no more");
    stream.set_nonblocking(false).unwrap();
    drop(manage);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with(",F,no more\r\n>FATAL:no more\r\n"), "{rest}");
    assert!(!path.exists());
}

#[test]
fn a_file_in_the_way_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.sock");
    std::fs::write(&path, "mine").unwrap();
    let error = Manage::open(settings(on_unix(&path)), &log()).unwrap_err();
    assert!(error.to_string().contains("m.sock"), "{error:#}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn other_users_are_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.sock");
    let me = nix::unistd::geteuid();
    let other = if me.is_root() { "daemon" } else { "root" };
    let options = ManagementOptions { client_user: Some(other.to_owned()), ..on_unix(&path) };
    let mut manage = Manage::open(settings(options), &log()).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_nonblocking(true).unwrap();
    until(&mut manage, |_, _| match stream.read(&mut [0; 9]) {
        Ok(0) => Some(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        other => panic!("{other:?}"),
    });
    let options = ManagementOptions { client_user: Some("no such user".to_owned()), ..on_unix(&path) };
    assert!(Manage::open(settings(options), &log()).unwrap_err().to_string().contains("no such user"));
}

#[test]
fn a_connection_out_ends_with_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.sock");
    let options = ManagementOptions { connect: true, ..on_unix(&path) };
    let error = Manage::open(settings(options.clone()), &log()).unwrap_err();
    assert!(error.to_string().starts_with("MANAGEMENT: connect to unix socket "), "{error:#}");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut manage = Manage::open(settings(options), &log()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    read(&mut manage, &mut stream, "more info\r\n");
    drop(stream);
    until(&mut manage, |_, request| match request {
        Some(Request::Signal { soft: Some("management-exit"), .. }) => Some(()),
        None => None,
        other => panic!("{other:?}"),
    });
    assert_eq!(manage.descriptor().0, None);
    assert!(path.exists(), "not ours to remove");
}

#[test]
fn who_does_not_read_is_cut_off_and_the_next_one_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.sock");
    let log = log();
    let mut manage = Manage::open(settings(on_unix(&path)), &log).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"log on\n").unwrap();
    let line = "x".repeat(1000);
    let before = manage.descriptor().1;
    let mut rounds = 0;
    // Connected once, closed once.
    while manage.descriptor().1 < before + 2 {
        say!(log, Info, "{line}");
        manage.ready();
        assert_eq!(manage.poll(AT), None);
        rounds += 1;
        assert!(rounds < 10_000, "never cut off");
    }
    let mut next = UnixStream::connect(&path).unwrap();
    next.set_nonblocking(true).unwrap();
    read(&mut manage, &mut next, "more info\r\n");
}
