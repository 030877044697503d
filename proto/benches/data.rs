//! Sealing and opening of 1,400-byte packets through the [`Table`], against the bare call of the crypto
//! library on a buffer of the same size with additional data of the same size.
//!
//! Both sides walk over [`BATCH`] packet buffers, as a driver does. With `RATIO=1` in the environment it only
//! prints the ratios, each the median of interleaved rounds, and fails if one is above the accepted 1.25.

#![expect(clippy::unwrap_used, reason = "a benchmark that can't go on fails")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock, the core it measures does not")]

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant as Clock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use criterion::{Criterion, Throughput};
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::data::{HEADROOM, Payload, Slot, TAILROOM, Table};
use oxivpn_proto::keys::data_key::{DataKey, KeyLimits, TlsRole};
use oxivpn_proto::wire::ids::{KeyId, PeerId};
use oxivpn_proto::{Directive, Instant, Path, PeerRef};
use zeroize::Zeroizing;

const PAYLOAD: usize = 1400;
const BUFFER: usize = HEADROOM + PAYLOAD + TAILROOM;
const BATCH: usize = 64;
const ACCEPTED: f64 = 1.25;

const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(3), generation: 1 };
const FORMATS: [(&str, DataFormat, usize); 2] = [
    ("v2", DataFormat::V2(PeerId::from_low_bits(3)), 8),
    ("epoch", DataFormat::Epoch(PeerId::from_low_bits(3)), 12),
];
const CIPHERS: [DataCipher; 2] = [DataCipher::Aes256Gcm, DataCipher::ChaCha20Poly1305];

fn path() -> Path {
    Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 1194)))
}

fn table(cipher: DataCipher, format: DataFormat, role: TlsRole) -> Table {
    let mut table = Table::new();
    let now = Instant::ZERO;
    let params = DataParams { mss: Some(1360), ..DataParams::new(cipher, format) };
    let key = KeyId::FIRST;
    let data = DataKey::new(Zeroizing::new(core::array::from_fn(|i| i as u8)), role, KeyLimits::default());
    table.apply(now, Directive::AddPeer { peer: PEER, path: path(), params });
    table.apply(now, Directive::InstallKey { peer: PEER, key, data });
    table.apply(now, Directive::PromoteKey { peer: PEER, key });
    table
}

/// An inner TCP segment.
fn payload() -> [u8; PAYLOAD] {
    let mut packet = [0x5a; PAYLOAD];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(PAYLOAD as u16).to_be_bytes());
    packet[6..8].fill(0);
    packet[9] = 6;
    packet[33] = 0x10;
    packet
}

fn buffers() -> Vec<[u8; BUFFER]> {
    let mut buf = [0; BUFFER];
    buf[HEADROOM..HEADROOM + PAYLOAD].copy_from_slice(&payload());
    vec![buf; BATCH]
}

/// The bare library call.
struct Bare {
    key: LessSafeKey,
    aad: usize,
    counter: u64,
}

impl Bare {
    fn new(cipher: DataCipher, aad: usize) -> Self {
        let algorithm = match cipher {
            DataCipher::Aes256Gcm => &AES_256_GCM,
            _ => &CHACHA20_POLY1305,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32]).unwrap());
        Self { key, aad, counter: 0 }
    }

    fn nonce(n: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&n.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, buffers: &mut [[u8; BUFFER]]) {
        let aad = [1; 12];
        for buf in buffers {
            self.counter += 1;
            let data = &mut buf[HEADROOM..HEADROOM + PAYLOAD];
            let tag = self
                .key
                .seal_in_place_separate_tag(Self::nonce(self.counter), Aad::from(&aad[..self.aad]), data)
                .unwrap();
            let _ = black_box(tag);
        }
    }

    /// Sealed buffers with their tags, all under nonce 0.
    fn sealed(&self) -> (Vec<[u8; BUFFER]>, Tag) {
        let aad = [1; 12];
        let mut all = buffers();
        let mut last = None;
        for buf in &mut all {
            let data = &mut buf[HEADROOM..HEADROOM + PAYLOAD];
            last = Some(
                self.key
                    .seal_in_place_separate_tag(Self::nonce(0), Aad::from(&aad[..self.aad]), data)
                    .unwrap(),
            );
        }
        (all, last.unwrap())
    }

    fn open(&self, buffers: &mut [[u8; BUFFER]], tag: &Tag) {
        let aad = [1; 12];
        for buf in buffers {
            let data = &mut buf[HEADROOM..HEADROOM + PAYLOAD];
            let aad = Aad::from(&aad[..self.aad]);
            let plain = self.key.open_in_place_separate_tag(Self::nonce(0), aad, tag.as_ref(), data);
            black_box(plain.unwrap());
        }
    }
}

fn seal_all(table: &mut Table, buffers: &mut [[u8; BUFFER]]) {
    for buf in buffers {
        let mut slot = Slot::new(buf, HEADROOM, PAYLOAD);
        black_box(table.seal(Instant::ZERO, PEER, &mut slot).unwrap());
    }
}

/// Seals a batch and gives the range of the packets in the buffers.
fn sealed(table: &mut Table) -> (Vec<[u8; BUFFER]>, core::ops::Range<usize>) {
    let mut all = buffers();
    let mut range = 0..0;
    for buf in &mut all {
        let sealed = table.seal(Instant::ZERO, PEER, &mut Slot::new(buf, HEADROOM, PAYLOAD)).unwrap();
        range = sealed.start..sealed.start + sealed.len;
    }
    (all, range)
}

fn open_all(table: &mut Table, buffers: &mut [[u8; BUFFER]], range: &core::ops::Range<usize>) {
    for buf in buffers {
        let opened = table.open(Instant::ZERO, path(), &mut buf[range.clone()]).unwrap();
        assert!(matches!(black_box(opened.payload), Payload::Packet(_)));
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Clock::now();
    work();
    start.elapsed()
}

fn criterion_benches(c: &mut Criterion) {
    for cipher in CIPHERS {
        for (name, format, aad) in FORMATS {
            let mut group = c.benchmark_group(format!("{cipher}/{name}"));
            group.throughput(Throughput::Bytes((PAYLOAD * BATCH) as u64));
            let mut bare = Bare::new(cipher, aad);
            let mut bufs = buffers();
            group.bench_function("seal/bare", |b| b.iter(|| bare.seal(&mut bufs)));
            let mut sender = table(cipher, format, TlsRole::Client);
            group.bench_function("seal/table", |b| {
                // The payload stays in its place, so it may be sealed over and over.
                b.iter(|| seal_all(&mut sender, &mut bufs));
            });
            let mut receiver = table(cipher, format, TlsRole::Server);
            group.bench_function("open/bare", |b| {
                b.iter_custom(|n| {
                    (0..n)
                        .map(|_| {
                            let (mut bufs, tag) = bare.sealed();
                            timed(|| bare.open(&mut bufs, &tag))
                        })
                        .sum()
                });
            });
            group.bench_function("open/table", |b| {
                b.iter_custom(|n| {
                    (0..n)
                        .map(|_| {
                            let (mut bufs, range) = sealed(&mut sender);
                            timed(|| open_all(&mut receiver, &mut bufs, &range))
                        })
                        .sum()
                });
            });
            group.finish();
        }
    }
}

/// What [`ratio`] found. Nanoseconds are for one packet, of the fastest round.
struct Measured {
    ratio: f64,
    table: f64,
    bare: f64,
}

/// Median of `table / bare` over rounds that measure both right after another.
fn ratio(mut table: impl FnMut() -> Duration, mut bare: impl FnMut() -> Duration) -> Measured {
    const ROUNDS: usize = 2001;
    let mut ratios = Vec::with_capacity(ROUNDS);
    let mut best = [f64::MAX; 2];
    for round in 0..ROUNDS + 50 {
        let both = [table(), bare()].map(|d| d.as_secs_f64() * 1e9 / BATCH as f64);
        if round >= 50 {
            ratios.push(both[0] / both[1]);
            best = [best[0].min(both[0]), best[1].min(both[1])];
        }
    }
    ratios.sort_by(f64::total_cmp);
    Measured { ratio: ratios[ROUNDS / 2], table: best[0], bare: best[1] }
}

fn print_ratios() -> bool {
    let mut good = true;
    for cipher in CIPHERS {
        for (name, format, aad) in FORMATS {
            let mut bare = Bare::new(cipher, aad);
            let mut sender = table(cipher, format, TlsRole::Client);
            let mut receiver = table(cipher, format, TlsRole::Server);
            let (mut ours, mut theirs) = (buffers(), buffers());
            let seal =
                ratio(|| timed(|| seal_all(&mut sender, &mut ours)), || timed(|| bare.seal(&mut theirs)));
            let open = ratio(
                || {
                    let (mut bufs, range) = sealed(&mut sender);
                    timed(|| open_all(&mut receiver, &mut bufs, &range))
                },
                || {
                    let (mut bufs, tag) = bare.sealed();
                    timed(|| bare.open(&mut bufs, &tag))
                },
            );
            for (what, Measured { ratio, table, bare }) in [("seal", seal), ("open", open)] {
                println!(
                    "{cipher:>18} {name:>5} {what}: {ratio:.3} x bare; best {table:.0} and {bare:.0} ns"
                );
                good &= ratio <= ACCEPTED;
            }
        }
    }
    good
}

fn main() {
    if std::env::var_os("RATIO").is_some() {
        assert!(print_ratios(), "a ratio is above {ACCEPTED}");
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    criterion_benches(&mut criterion);
    criterion.final_summary();
}
