//! What an established TLS session of a server holds.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]
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
