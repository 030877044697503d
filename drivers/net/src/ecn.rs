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

    #[test]
    fn a_tunnel_that_nobody_marks_is_transparent() {
        for ecn in [NotEct, Ect0, Ect1, Ce] {
            assert_eq!(decapsulate(encapsulate(ecn), ecn), Some(ecn));
        }
    }
}
