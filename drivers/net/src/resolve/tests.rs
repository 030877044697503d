use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn resolver(lookup: fn(&str, u16) -> io::Result<Vec<SocketAddr>>) -> (Resolver, Receiver<()>) {
    let (wake, woken) = mpsc::channel();
    (Resolver::with_lookup(move || wake.send(()).unwrap_or(()), lookup), woken)
}

fn no_lookup(host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
    panic!("{host} is a literal and must not be looked up")
}

fn both(_: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let ips = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.1", "::ffff:192.0.2.2"];
    Ok(ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
}

#[test]
fn literals_are_answered_at_once() {
    let (mut resolver, woken) = resolver(no_lookup);
    for (host, family, expected) in [
        ("192.0.2.7", Family::Any, "192.0.2.7:1194"),
        ("2001:db8::7", Family::V6, "[2001:db8::7]:1194"),
        ("[2001:db8::7]", Family::Any, "[2001:db8::7]:1194"),
        ("::ffff:192.0.2.7", Family::V4, "192.0.2.7:1194"),
    ] {
        let ticket = resolver.start(host, 1194, family);
        let answer = resolver.poll().unwrap();
        assert_eq!(answer.ticket, ticket);
        assert_eq!(answer.addrs.unwrap(), [expected.parse().unwrap()]);
        woken.try_recv().unwrap();
    }
    resolver.start("192.0.2.7", 1194, Family::V6);
    let error = resolver.poll().unwrap().addrs.unwrap_err().to_string();
    assert!(error.contains("192.0.2.7") && error.contains("no IPv6 address"), "{error}");
}

#[test]
fn addresses_keep_their_order_and_are_filtered_by_family() {
    let (mut resolver, woken) = resolver(both);
    for (family, expected) in [
        (Family::V4, &["192.0.2.1", "192.0.2.2"][..]),
        (Family::V6, &["2001:db8::1", "2001:db8::2"]),
        (Family::Any, &["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]),
    ] {
        resolver.start("vpn.example", 443, family);
        woken.recv_timeout(PATIENCE).unwrap();
        let addrs = resolver.poll().unwrap().addrs.unwrap();
        let expected: Vec<SocketAddr> =
            expected.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 443)).collect();
        assert_eq!(addrs, expected);
    }
}

#[test]
fn a_failed_lookup_names_the_host() {
    let (mut resolver, woken) = resolver(|_, _| Err(io::Error::other("Name or service not known")));
    resolver.start("no.such.example", 1194, Family::Any);
    woken.recv_timeout(PATIENCE).unwrap();
    let error = resolver.poll().unwrap().addrs.unwrap_err().to_string();
    assert!(error.contains("no.such.example") && error.contains("not known"), "{error}");
}

/// Blocks look-ups of names that start with "slow" until the gate opens.
static GATE: Mutex<()> = Mutex::new(());
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn gated(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let now = UNDER_WAY.fetch_add(1, Ordering::SeqCst) + 1;
    MOST.fetch_max(now, Ordering::SeqCst);
    if host.starts_with("slow") {
        drop(GATE.lock().unwrap());
    }
    UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    both(host, port)
}

#[test]
fn threads_are_bounded_and_cancelled_answers_do_not_come() {
    let (mut resolver, woken) = resolver(gated);
    let gate = GATE.lock().unwrap();
    let tickets: Vec<Ticket> =
        (0..3 * MAX_THREADS).map(|n| resolver.start(&format!("slow{n}"), 1, Family::Any)).collect();
    assert!(resolver.poll().is_none());
    // One that may be running, one that certainly waits.
    resolver.cancel(tickets[0]);
    resolver.cancel(tickets[3 * MAX_THREADS - 1]);
    drop(gate);
    let mut seen = Vec::new();
    for _ in 0..3 * MAX_THREADS - 2 {
        woken.recv_timeout(PATIENCE).unwrap();
        seen.push(resolver.poll().unwrap().ticket);
    }
    seen.sort();
    assert_eq!(seen, tickets[1..3 * MAX_THREADS - 1]);
    assert!(woken.recv_timeout(Duration::from_millis(50)).is_err(), "a cancelled look-up woke us");
    assert!(MOST.load(Ordering::SeqCst) <= MAX_THREADS);
}

#[test]
fn a_dropped_resolver_is_never_woken() {
    static HOLD: Mutex<()> = Mutex::new(());
    let hold = HOLD.lock().unwrap();
    let (wake, woken) = mpsc::channel::<()>();
    let mut resolver = Resolver::with_lookup(
        move || wake.send(()).unwrap_or(()),
        |host, port| {
            drop(HOLD.lock().unwrap());
            both(host, port)
        },
    );
    resolver.start("held.example", 1, Family::Any);
    drop(resolver);
    drop(hold);
    // The closure is dropped with the resolver: the channel closes without a message.
    assert_eq!(woken.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}
