//! Inner packets that can be told from each other, and whose content says whether it is whole.

use core::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{IpProtocol, Ipv4Packet};

/// Marks a probe; stands right behind the header.
const MAGIC: [u8; 8] = *b"oxiprobe";

const HEADER: usize = 20;
const FIELDS: usize = MAGIC.len() + 8 + 1;

/// Bytes of the smallest probe.
pub const MIN_PROBE: usize = HEADER + FIELDS;

/// One numbered inner packet: IPv4, protocol 253 (for experiments, RFC 3692).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Counts all probes of a world.
    pub number: u64,
    /// Inner source.
    pub from: Ipv4Addr,
    /// Inner destination.
    pub to: Ipv4Addr,
    /// Whether the receiver shall answer.
    pub ask: bool,
}

impl Probe {
    /// The packet, `size` bytes long, at least [`MIN_PROBE`].
    pub fn build(&self, size: usize) -> Vec<u8> {
        let mut packet = vec![0; size.max(MIN_PROBE)];
        let (header, payload) = packet.split_at_mut(HEADER);
        payload[..8].copy_from_slice(&MAGIC);
        payload[8..16].copy_from_slice(&self.number.to_be_bytes());
        payload[16] = u8::from(self.ask);
        for (block, part) in payload[FIELDS..].chunks_mut(BLOCK).enumerate() {
            part.copy_from_slice(&filler(self.number, block)[..part.len()]);
        }
        fill_header(header, self.from, self.to, size.max(MIN_PROBE));
        packet
    }

    /// Reads a packet: `None` if it is no probe, an error if it is one that was changed.
    pub fn parse(packet: &[u8]) -> Option<Result<Self, String>> {
        let payload = packet.get(HEADER..)?;
        let number = payload.get(8..16).filter(|_| payload.starts_with(&MAGIC))?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        let header = Ipv4Packet::new_checked(packet).ok()?;
        let whole = header.verify_checksum()
            && usize::from(header.total_len()) == packet.len()
            && payload
                .get(FIELDS..)?
                .chunks(BLOCK)
                .enumerate()
                .all(|(block, part)| *part == filler(number, block)[..part.len()]);
        if !whole {
            return Some(Err(format!("probe {number} was changed on its way")));
        }
        let (from, to) = (header.src_addr(), header.dst_addr());
        Some(Ok(Self { number, from, to, ask: payload[16] != 0 }))
    }
}

/// An IPv4 packet of protocol 253 with this payload, at most 65,515 bytes. For protocols of your own; a payload that
/// begins like a [`Probe`] is taken for one.
pub fn packet(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + payload.len());
    packet.resize(HEADER, 0);
    packet.extend_from_slice(payload);
    fill_header(&mut packet[..HEADER], from, to, HEADER + payload.len());
    packet
}

fn fill_header(header: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, len: usize) {
    let mut header = Ipv4Packet::new_unchecked(header);
    header.set_version(4);
    header.set_header_len(HEADER as u8);
    header.set_total_len(len as u16);
    header.set_hop_limit(64);
    header.set_next_header(IpProtocol::Unknown(253));
    header.set_src_addr(from);
    header.set_dst_addr(to);
    header.fill_checksum();
}

/// Source, destination and payload of an IPv4 packet made by [`packet`].
pub fn payload(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr, &[u8])> {
    let header = Ipv4Packet::new_checked(packet).ok()?;
    let whole = header.verify_checksum() && header.next_header() == IpProtocol::Unknown(253);
    whole.then(|| (header.src_addr(), header.dst_addr(), header.payload()))
}

/// The IPv4 address, if it is one.
pub(crate) fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Bytes that are made at once: a loop over them has no branches.
const BLOCK: usize = 256;

/// What a probe is filled up with, from `block * BLOCK` on.
fn filler(number: u64, block: usize) -> [u8; BLOCK] {
    let (start, mask) = ((number as u8).wrapping_mul(31), block as u8);
    let mut bytes = [0; BLOCK];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = start.wrapping_add((at as u8).wrapping_mul(7)) ^ mask;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_read_back_and_changes_show() {
        let probe = Probe { number: 77, from: [10, 8, 0, 2].into(), to: [10, 8, 0, 1].into(), ask: true };
        for size in [0, MIN_PROBE, 100, 1400] {
            let packet = probe.build(size);
            assert_eq!(packet.len(), size.max(MIN_PROBE));
            assert_eq!(Probe::parse(&packet), Some(Ok(probe)));
            for at in (0..20).chain(FIELDS + HEADER..packet.len()) {
                let mut packet = packet.clone();
                packet[at] ^= 0x10;
                assert_ne!(Probe::parse(&packet), Some(Ok(probe)), "byte {at} of {size}");
            }
        }
        assert_eq!(Probe::parse(&[0x45; 60]), None);
        assert_eq!(Probe::parse(&[]), None);
    }
}
