//! Explicit congestion notification across a tunnel (RFC 6040): pure functions, no sockets.

/// The two ECN bits of an IP header (RFC 3168, section 5): the low bits of the IPv4 TOS byte and of the IPv6 traffic
/// class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// `00`: the transport does not do ECN; a congested router drops.
    #[default]
    NotEct,
    /// `10`: the transport does ECN.
    Ect0,
    /// `01`: the transport does ECN, and may ask for a low-latency queue (RFC 9331).
    Ect1,
    /// `11`: congestion experienced; a router marked the packet instead of dropping it.
    Ce,
}

impl Ecn {
    /// From a TOS or traffic class byte, whose six other bits are ignored.
    pub const fn from_bits(tos: u8) -> Self {
        match tos & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The two bits, 0 to 3.
    pub const fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0,
            Self::Ect1 => 1,
            Self::Ect0 => 2,
            Self::Ce => 3,
        }
    }
}

/// What an outer header says about the `inner` packet it carries: the same (RFC 6040, section 4.1, normal mode).
///
/// Only for a peer that is known to [`decapsulate`]. Any other gets [`Ecn::NotEct`], compatibility mode: a router on
/// the way would mark the outer header in place of a drop, and a peer that throws the mark away hides the congestion.
pub const fn encapsulate(inner: Ecn) -> Ecn {
    inner
}

/// The ECN bits that a packet leaves the tunnel with (RFC 6040, section 4.2, figure 4). `None`: drop it.
///
/// A drop is the answer to a congestion mark on a packet whose sender understands drops only.
pub const fn decapsulate(outer: Ecn, inner: Ecn) -> Option<Ecn> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => None,
        (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => Some(Ecn::Ce),
        // ECT(1) may be a mark of its own (RFC 6660), weaker than CE: it survives.
        (Ecn::Ect0, Ecn::Ect1) => Some(Ecn::Ect1),
        (inner, _) => Some(inner),
    }
}

/// The ECN bits of an IPv4 or IPv6 packet; [`Ecn::NotEct`] of what is too short to be one.
#[inline]
pub const fn of_packet(packet: &[u8]) -> Ecn {
    match packet {
        [first, second, ..] if *first >> 4 == 6 => Ecn::from_bits(*second >> 4),
        [_, tos, ..] => Ecn::from_bits(*tos),
        _ => Ecn::NotEct,
    }
}

/// [`decapsulate`]s an IPv4 or IPv6 packet in place, its header checksum included. Whether it may go on.
#[inline]
pub fn decapsulate_packet(outer: Ecn, packet: &mut [u8]) -> bool {
    let inner = of_packet(packet);
    match decapsulate(outer, inner) {
        None => false,
        Some(new) if new == inner => true,
        Some(new) => {
            set_bits(packet, new.bits());
            true
        }
    }
}

/// Sets the ECN bits of a packet whose bits are not 0 so far.
fn set_bits(packet: &mut [u8], bits: u8) {
    if packet[0] >> 4 == 6 {
        packet[1] = packet[1] & !0x30 | bits << 4;
        return;
    }
    let old = packet[1];
    packet[1] = old & !3 | bits;
    if let Some(&mut [high, low]) =
        packet.get_mut(10..12).and_then(|sum| sum.first_chunk_mut()).as_deref_mut()
    {
        // RFC 1624, equation 3. The other byte of the word stays as it is.
        let sum =
            u32::from(!u16::from_be_bytes([high, low])) + u32::from(!u16::from(old)) + u32::from(packet[1]);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::Ecn::{Ce, Ect0, Ect1, NotEct};
    use super::*;

    #[test]
    fn the_bits_are_those_of_the_headers() {
        for bits in 0..=255 {
            assert_eq!(Ecn::from_bits(bits).bits(), bits & 3);
        }
        assert_eq!([NotEct, Ect1, Ect0, Ce].map(Ecn::bits), [0b00, 0b01, 0b10, 0b11]);
    }

    #[test]
    fn figure_4_of_rfc_6040() {
        let outer = [NotEct, Ect0, Ect1, Ce];
        for (inner, row) in [
            (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
            (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
            (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
            (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
        ] {
            assert_eq!(outer.map(|outer| decapsulate(outer, inner)), row, "inner {inner:?}");
        }
    }

    /// Sum of an IPv4 header, which is all ones if its checksum is right.
    fn sum(header: &[u8]) -> u32 {
        let sum: u32 = header.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        (sum & 0xffff) + (sum >> 16)
    }

    #[test]
    fn a_mark_reaches_the_inner_header_and_nothing_else_changes() {
        let mut seed = 1_u32;
        for round in 0..2_000 {
            let mut packet: Vec<u8> = (0..60)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            let v6 = round % 2 == 1;
            packet[0] = if v6 { 0x60 | packet[0] & 15 } else { 0x45 };
            if !v6 {
                packet[10..12].fill(0);
                let checksum = !(sum(&packet[..20]) as u16);
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
                assert_eq!(sum(&packet[..20]), 0xffff);
            }
            for outer in [NotEct, Ect0, Ect1, Ce] {
                let (mut got, inner) = (packet.clone(), of_packet(&packet));
                assert_eq!(decapsulate_packet(outer, &mut got), decapsulate(outer, inner).is_some());
                let Some(expected) = decapsulate(outer, inner) else { continue };
                assert_eq!(of_packet(&got), expected, "{outer:?} {inner:?}");
                if v6 {
                    got[1] = got[1] & !0x30 | packet[1] & 0x30;
                } else {
                    assert_eq!(sum(&got[..20]), 0xffff, "{outer:?} {inner:?}");
                    got[1] = got[1] & !3 | packet[1] & 3;
                    got[10..12].copy_from_slice(&packet[10..12]);
                }
                assert_eq!(got, packet);
            }
        }
    }

    #[test]
    fn what_is_too_short_is_left_alone() {
        for len in 0..12 {
            for first in [0x45, 0x60, 0] {
                let mut packet = vec![2; len];
                packet.iter_mut().take(1).for_each(|byte| *byte = first);
                for outer in [NotEct, Ect0, Ect1, Ce] {
                    let _ = decapsulate_packet(outer, &mut packet);
                }
            }
        }
    }

    #[test]
    fn a_tunnel_that_nobody_marks_is_transparent() {
        for ecn in [NotEct, Ect0, Ect1, Ce] {
            assert_eq!(decapsulate(encapsulate(ecn), ecn), Some(ecn));
        }
    }
}
