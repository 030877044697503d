//! The data channel with both ends in this process.

use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::directive::Directive;
use oxivpn_proto::keys::data_key::{DataKey, KeyLimits, TlsRole};
use oxivpn_proto::plane::DataPlane;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::wire::ids::{KeyId, PeerId};
use oxivpn_proto::{DropReason, Order, Path, PeerRef};
use zeroize::Zeroizing;

use super::tell;
use crate::turn::{HEADROOM, Payload, Plane, TAILROOM};
use crate::{clock, entropy};

const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(0), generation: 1 };
const PACKET: usize = 1400;
const ROUNDS: u32 = if cfg!(test) { 1_000 } else { 100_000 };

/// One end with its address as the other sees it.
struct End {
    plane: LocalPlane,
    address: Path,
}

pub(super) fn run() -> Result<()> {
    let block = fresh_block()?;
    tell(
        "1. 256 bytes of key material, drawn at random; between a client and a server they come out of TLS.",
    );
    let (classic, epoch) = (DataFormat::V2(PEER.id), DataFormat::Epoch(PEER.id));
    let cases = [
        (DataCipher::Aes256Gcm, "P_DATA_V2", classic),
        (DataCipher::Aes256Gcm, "P_DATA_V2 with epoch keys", epoch),
        (DataCipher::ChaCha20Poly1305, "P_DATA_V2", classic),
        (DataCipher::ChaCha20Poly1305, "P_DATA_V2 with epoch keys", epoch),
    ];
    for (step, (cipher, name, format)) in (2..).zip(cases) {
        tell(&format!("{step}. {cipher}, {name}:"));
        exchange(&block, cipher, format)?;
    }
    tell("Done. This was no handshake and no network; run it as root with `openvpn` installed for those.");
    Ok(())
}

fn fresh_block() -> Result<Arc<Zeroizing<[u8; 256]>>> {
    let mut block = Zeroizing::new([0; 256]);
    for part in block.chunks_exact_mut(32) {
        part.copy_from_slice(&entropy::seed()?);
    }
    Ok(Arc::new(block))
}

fn end(block: &Zeroizing<[u8; 256]>, role: TlsRole, cipher: DataCipher, format: DataFormat) -> Result<End> {
    let (here, there) = match role {
        TlsRole::Client => ("192.0.2.2:40000", "192.0.2.1:1194"),
        TlsRole::Server => ("192.0.2.1:1194", "192.0.2.2:40000"),
    };
    let path = |address: &str| -> Result<Path> { Ok(Path::udp(0, address.parse()?)) };
    let params = DataParams::new(cipher, format);
    let key = KeyId::FIRST;
    let data = DataKey::new(Zeroizing::new(**block), role, KeyLimits::default());
    let mut plane = LocalPlane::new();
    let orders = [
        Directive::AddPeer { peer: PEER, path: path(there)?, params },
        Directive::InstallKey { peer: PEER, key, data },
        Directive::PromoteKey { peer: PEER, key },
    ];
    for (seq, directive) in (1..).zip(orders) {
        plane.apply(clock::now(), Order { seq, directive });
    }
    Ok(End { plane, address: path(here)? })
}

fn exchange(block: &Zeroizing<[u8; 256]>, cipher: DataCipher, format: DataFormat) -> Result<()> {
    let mut client = end(block, TlsRole::Client, cipher, format)?;
    let mut server = end(block, TlsRole::Server, cipher, format)?;
    let packet = inner_packet();
    let mut cell = vec![0; HEADROOM + PACKET + TAILROOM];

    let sealed = seal(&mut client, &mut cell, &packet)?;
    let mut wire = cell[sealed.clone()].to_vec();
    let sealed_len = wire.len();
    let opened = match Plane::open(&mut server.plane, clock::now(), client.address, &mut cell[sealed]) {
        Ok(Payload::Packet(inner)) => inner == packet,
        _ => false,
    };
    ensure!(opened, "the packet did not come out as it went in");
    tell(&format!("    {PACKET} bytes in, {} on the wire, the same {PACKET} out", sealed_len));

    let replayed = Plane::open(&mut server.plane, clock::now(), client.address, &mut wire);
    ensure!(replayed == Err(DropReason::DataReplay), "a replayed packet was taken: {replayed:?}");
    let sealed = seal(&mut client, &mut cell, &packet)?;
    cell[sealed.end - 1] ^= 1;
    let forged = Plane::open(&mut server.plane, clock::now(), client.address, &mut cell[sealed]);
    ensure!(forged == Err(DropReason::DataAuthentication), "a forged packet was taken: {forged:?}");
    tell("    the same again is dropped as a replay, one flipped bit as a forgery");

    let begin = clock::now();
    for _ in 0..ROUNDS {
        let sealed = seal(&mut client, &mut cell, &packet)?;
        Plane::open(&mut server.plane, clock::now(), client.address, &mut cell[sealed])
            .map_err(|reason| anyhow!("a good packet was dropped: {reason:?}"))?;
    }
    let seconds = (clock::now() - begin).as_secs_f64();
    tell(&format!(
        "    sealed and opened {ROUNDS} packets in {seconds:.2} s on one core: {:.1} Gbit/s",
        f64::from(ROUNDS) * PACKET as f64 * 8.0 / 1e9 / seconds
    ));
    Ok(())
}

fn seal(from: &mut End, cell: &mut [u8], packet: &[u8]) -> Result<core::ops::Range<usize>> {
    cell[HEADROOM..HEADROOM + PACKET].copy_from_slice(packet);
    let sealed = Plane::seal(&mut from.plane, clock::now(), PEER, cell, HEADROOM, PACKET)
        .map_err(|reason| anyhow!("could not seal: {reason:?}"))?;
    Ok(sealed.start..sealed.start + sealed.len)
}

/// A minimal IPv4 header (UDP, 10.8.0.2 to 10.8.0.1) and zeroes.
fn inner_packet() -> Vec<u8> {
    let mut packet = vec![0; PACKET];
    let length = u16::try_from(PACKET).unwrap_or(u16::MAX).to_be_bytes();
    packet[..20].copy_from_slice(&[
        0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 8, 0, 2, 10, 8, 0, 1,
    ]);
    packet
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_ends_understand_each_other() {
        super::run().unwrap();
    }
}
