//! What a table keeps for each peer.

#![expect(clippy::disallowed_methods, reason = "the system tells memory by a file")]

use core::net::{Ipv4Addr, SocketAddr};

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::data::Table;
use oxivpn_proto::keys::data_key::{DataKey, KeyLimits, TlsRole};
use oxivpn_proto::wire::ids::{KeyId, PeerId};
use oxivpn_proto::{Directive, Instant, Path, PeerRef};
use zeroize::Zeroizing;

const PEERS: u32 = 10_000;

/// Bytes of a peer with two keys and an inner address. The cipher's library allocates past Rust's allocator, so what the
/// system gave is measured.
const TARGET: u64 = 6 * 1024;

/// Resident memory of this process in bytes; `None` where it can't be asked for.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn fill(table: &mut Table, cipher: DataCipher, format: fn(PeerId) -> DataFormat) {
    let now = Instant::ZERO;
    for n in 0..PEERS {
        let id = PeerId::from_low_bits(n);
        let peer = PeerRef { id, generation: 1 };
        let address = Ipv4Addr::from(0x0a00_0000 | n);
        let path = Path::udp(0, SocketAddr::from((address, 1194)));
        let params = DataParams { by_path: false, float: true, ..DataParams::new(cipher, format(id)) };
        table.apply(now, Directive::AddPeer { peer, path, params });
        table.apply(now, Directive::AddRoute { peer, inner: core::net::IpAddr::from(address).into() });
        for key in [KeyId::FIRST, KeyId::FIRST.next()] {
            let data = DataKey::new(Zeroizing::new([3; 256]), TlsRole::Server, KeyLimits::default());
            table.apply(now, Directive::InstallKey { peer, key, data });
            table.apply(now, Directive::PromoteKey { peer, key });
        }
    }
}

/// The one test of this file: others would allocate beside it.
#[test]
fn a_peer_with_two_keys_is_small() {
    let mut tables = Vec::new();
    for (name, cipher, format) in [
        ("AES-256-GCM", DataCipher::Aes256Gcm, DataFormat::V2 as fn(PeerId) -> DataFormat),
        ("AES-256-GCM, epochs", DataCipher::Aes256Gcm, DataFormat::Epoch),
        ("CHACHA20-POLY1305", DataCipher::ChaCha20Poly1305, DataFormat::V2),
    ] {
        let mut table = Table::new();
        let Some(before) = resident() else { return };
        fill(&mut table, cipher, format);
        let each = (resident().unwrap() - before) / u64::from(PEERS);
        println!("{name}: {each} bytes for each of {PEERS} peers with two keys");
        assert!(each <= TARGET, "{name}: {each} bytes for each peer, {TARGET} is the most");
        // Kept, so that the next one can't live in what this one freed.
        tables.push(table);
    }
}
