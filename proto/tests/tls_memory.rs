//! What an established TLS session of a server holds, and what it costs to make one.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]
#![expect(clippy::disallowed_methods, reason = "figures are of this machine and its clock")]
#![allow(unsafe_code, reason = "a global allocator that counts can't be written without it")]

use core::time::Duration;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use oxivpn_proto::tls::rustls::{ClientCertMode, RustlsFactory, TlsOptions, TlsVersion};
use oxivpn_proto::tls::verify::PeerRules;
use oxivpn_proto::tls::{TlsFactory, TlsPhase, TlsSession};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

thread_local! {
    /// Bytes that this thread holds; the test harness has others.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn held(bytes: usize, sign: isize) {
    // A thread that is being torn down has no counter any more.
    let _ = HELD.try_with(|n| n.set(n.get() + sign * isize::try_from(bytes).unwrap_or(0)));
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        held(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        held(layout.size(), -1);
        // SAFETY: `ptr` came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        held(layout.size(), -1);
        held(size, 1);
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: Duration = Duration::from_secs(1_767_225_600);

fn factory(name: &str, version: TlsVersion) -> RustlsFactory {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let cert =
        |name: &str| CertificateDer::from_pem_file(fixtures.join(format!("{name}.pem"))).unwrap().to_vec();
    let key = PrivateKeyDer::from_pem_file(fixtures.join(format!("{name}.key.pem"))).unwrap();
    let options = TlsOptions {
        ca: vec![cert("ca")],
        certs: vec![cert(name)],
        key: Some(Zeroizing::new(key.secret_der().to_vec())),
        rules: PeerRules::default(),
        min_version: version,
        max_version: version,
        suites12: Vec::new(),
        suites13: Vec::new(),
        groups: Vec::new(),
        client_cert: ClientCertMode::Require,
    };
    RustlsFactory::new(options, Arc::new(rustls::crypto::aws_lc_rs::default_provider())).unwrap()
}

/// A server's session after the handshake and one message each way.
fn established(client: &RustlsFactory, server: &RustlsFactory) -> Box<dyn TlsSession> {
    let (mut client, mut server) = (client.client(NOW).unwrap(), server.server(NOW).unwrap());
    let mut pipe = Vec::new();
    while client.phase() != TlsPhase::Ready || server.phase() != TlsPhase::Ready {
        client.drain(&mut pipe);
        server.feed(&pipe).unwrap();
        pipe.clear();
        server.drain(&mut pipe);
        client.feed(&pipe).unwrap();
        pipe.clear();
    }
    let mut record = Zeroizing::new(Vec::new());
    client.write_record(b"PUSH_REQUEST\0").unwrap();
    client.drain(&mut pipe);
    server.feed(&pipe).unwrap();
    pipe.clear();
    assert!(server.read_record(&mut record));
    server.write_record(&[b'x'; 600]).unwrap();
    server.drain(&mut pipe);
    drop((server.peer(), server.description()));
    server.export("EXPORTER-OpenVPN-datakeys", &mut [0; 256]).unwrap();
    server.settle();
    server
}

const SESSIONS: usize = 100;

fn bytes_each(version: TlsVersion) -> usize {
    let (client, server) = (factory("client-p256", version), factory("server", version));
    let mut sessions = Vec::with_capacity(SESSIONS);
    sessions.push(established(&client, &server));
    let before = HELD.get();
    sessions.extend((1..SESSIONS).map(|_| established(&client, &server)));
    usize::try_from(HELD.get() - before).unwrap() / (SESSIONS - 1)
}

#[test]
fn an_idle_session_is_small() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let bytes = bytes_each(version);
        println!("{version:?}: {bytes} bytes");
        assert!(bytes <= 8 * 1024, "{version:?}: {bytes} bytes");
    }
}

/// Figures for people: what a session costs in time, and in memory with what the C library allocates.
#[test]
#[ignore = "prints figures of this machine"]
fn figures() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let (client, server) = (factory("client-p256", version), factory("server", version));
        let n = 1000_u32;
        let start = on_cpu();
        (0..n).for_each(|_| drop(std::hint::black_box(server.server(NOW).unwrap())));
        println!("{version:?}: {:?} of CPU for a session without handshake", (on_cpu() - start) / n);
        let resident = resident_kib();
        let (start, mut sessions) = (on_cpu(), Vec::new());
        sessions.extend((0..n).map(|_| established(&client, &server)));
        println!("{version:?}: {:?} of CPU for a handshake, both sides", (on_cpu() - start) / n);
        println!("{version:?}: {} bytes resident each", (resident_kib() - resident) * 1024 / sessions.len());
        let of_server: Duration = (0..n).map(|_| server_alone(&client, &server)).sum();
        println!("{version:?}: {:?} of CPU for a handshake, the server", of_server / n);
    }
}

/// What the server's side of a handshake takes.
fn server_alone(client: &RustlsFactory, server: &RustlsFactory) -> Duration {
    let mut client = client.client(NOW).unwrap();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    client.drain(&mut up);
    let start = on_cpu();
    let mut server = server.server(NOW).unwrap();
    server.feed(&up).unwrap();
    server.drain(&mut down);
    let mut spent = on_cpu() - start;
    up.clear();
    client.feed(&down).unwrap();
    client.drain(&mut up);
    let start = on_cpu();
    server.feed(&up).unwrap();
    drop((server.peer(), server.description()));
    server.export("EXPORTER-OpenVPN-datakeys", &mut [0; 256]).unwrap();
    server.settle();
    spent += on_cpu() - start;
    spent
}

/// CPU time of this thread.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn resident_kib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}
