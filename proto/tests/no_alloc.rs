//! Sealing and opening allocate nothing.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]
#![allow(unsafe_code, reason = "a global allocator that counts can't be written without it")]

use core::net::{Ipv4Addr, SocketAddr};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::data::{HEADROOM, Payload, Slot, TAILROOM, Table};
use oxivpn_proto::keys::data_key::{DataKey, KeyLimits, TlsRole};
use oxivpn_proto::wire::ids::{KeyId, PeerId};
use oxivpn_proto::{Directive, Instant, Path, PeerRef};
use zeroize::Zeroizing;

thread_local! {
    /// Allocations of this thread; the test harness has others.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that is being torn down has no counter any more.
    let _ = COUNT.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(3), generation: 1 };
const LEN: usize = 1400;

fn path() -> Path {
    Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 1194)))
}

fn table(cipher: DataCipher, format: DataFormat, role: TlsRole) -> Table {
    let mut table = Table::new();
    let (now, key) = (Instant::ZERO, KeyId::FIRST);
    let by_path = role == TlsRole::Client;
    let params = DataParams { mss: Some(1300), by_path, float: !by_path, ..DataParams::new(cipher, format) };
    let data = DataKey::new(Zeroizing::new([7; 256]), role, KeyLimits::default());
    table.apply(now, Directive::AddPeer { peer: PEER, path: path(), params });
    table.apply(now, Directive::InstallKey { peer: PEER, key, data });
    table.apply(now, Directive::PromoteKey { peer: PEER, key });
    table.apply(now, Directive::AddRoute { peer: PEER, inner: "10.0.0.0/8".parse().unwrap() });
    table
}

#[test]
fn the_counter_counts() {
    assert_eq!(counted(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn packets_allocate_nothing() {
    for cipher in DataCipher::ALL {
        for format in [DataFormat::V1, DataFormat::V2(PEER.id), DataFormat::Epoch(PEER.id)] {
            let mut sender = table(cipher, format, TlsRole::Client);
            let mut receiver = table(cipher, format, TlsRole::Server);
            let mut buf = vec![0; HEADROOM + LEN + TAILROOM];
            let mut exchange = || {
                let packet = &mut buf[HEADROOM..HEADROOM + LEN];
                packet.fill(0x11);
                packet[0] = 0x45;
                packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
                assert_eq!(sender.lookup(packet), Some(PEER));
                let mut slot = Slot::new(&mut buf, HEADROOM, LEN);
                let sealed = sender.seal(Instant::ZERO, PEER, &mut slot).unwrap();
                let packet = &mut buf[sealed.start..sealed.start + sealed.len];
                let mut forged = [0; HEADROOM + LEN];
                forged[..packet.len()].copy_from_slice(packet);
                forged[100] ^= 1;
                let forged = &mut forged[..packet.len()];
                receiver.open(Instant::ZERO, path(), forged).unwrap_err();
                let opened = receiver.open(Instant::ZERO, path(), packet).unwrap();
                let Payload::Packet(plain) = opened.payload else { panic!("an IP packet was taken away") };
                assert_eq!(plain[20..], [0x11; LEN - 20]);
            };
            // The first packet of a key makes a report, whose queue may have to grow.
            exchange();
            let n = counted(|| (0..1000).for_each(|_| exchange()));
            assert_eq!(n, 0, "{cipher} {format:?}");
        }
    }
}
