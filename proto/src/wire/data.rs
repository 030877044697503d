//! Headers of data packets, and the first look at any datagram.

use super::ids::{KeyId, PeerId};

/// Header length of P_DATA_V1: opcode and key-id.
pub const V1_HEADER: usize = 1;

/// Header length of P_DATA_V2: opcode, key-id and 24 bits of peer-id.
pub const V2_HEADER: usize = 4;

/// What a datagram claims to be. Nothing of it is authenticated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// A control packet; its length is not checked.
    Control,
    /// A data packet with this complete header.
    Data(DataHeader),
    /// Empty, an opcode that does not exist, or too short for its data header.
    Unknown,
}

/// Header of a P_DATA_V1 or P_DATA_V2 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// Which key sealed the packet.
    pub key: KeyId,
    /// Whose packet it is; `None` in P_DATA_V1, which is looked up by address.
    pub peer: Option<PeerId>,
    /// Bytes of the header: [`V1_HEADER`] or [`V2_HEADER`].
    pub len: usize,
}

const P_DATA_V1: u8 = 6;
const P_DATA_V2: u8 = 9;

/// Classifies a datagram by its header, without any state.
#[inline]
pub fn peek(datagram: &[u8]) -> Peek {
    if let Some(&first) = datagram.first_chunk::<V2_HEADER>() {
        let word = u32::from_be_bytes(first);
        if first[0] >> 3 == P_DATA_V2 {
            return Peek::Data(DataHeader {
                key: KeyId::from_low_bits(first[0]),
                peer: Some(PeerId::from_low_bits(word)),
                len: V2_HEADER,
            });
        }
    }
    let Some(&first) = datagram.first() else { return Peek::Unknown };
    match first >> 3 {
        P_DATA_V1 => Peek::Data(DataHeader { key: KeyId::from_low_bits(first), peer: None, len: V1_HEADER }),
        3..=5 | 7 | 8 | 10 | 11 => Peek::Control,
        _ => Peek::Unknown,
    }
}

impl DataHeader {
    /// Header of P_DATA_V1.
    pub const fn v1(key: KeyId) -> Self {
        Self { key, peer: None, len: V1_HEADER }
    }

    /// Header of P_DATA_V2.
    pub const fn v2(key: KeyId, peer: PeerId) -> Self {
        Self { key, peer: Some(peer), len: V2_HEADER }
    }

    /// The wire bytes; the first `len` of them count.
    pub const fn to_bytes(self) -> [u8; V2_HEADER] {
        match self.peer {
            Some(peer) => (((P_DATA_V2 << 3 | self.key.get()) as u32) << 24 | peer.get()).to_be_bytes(),
            None => [P_DATA_V1 << 3 | self.key.get(), 0, 0, 0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::opcode::Opcode;

    #[test]
    fn headers_come_back() {
        for key in (0..8).map(KeyId::from_low_bits) {
            let v1 = DataHeader::v1(key);
            assert_eq!(peek(&v1.to_bytes()[..1]), Peek::Data(v1));
            for peer in [0, 1, 0x12_3456, 0xff_ffff] {
                let v2 = DataHeader::v2(key, PeerId::from_low_bits(peer));
                assert_eq!(peek(&v2.to_bytes()), Peek::Data(v2));
            }
        }
        assert_eq!(
            DataHeader::v2(KeyId::from_low_bits(2), PeerId::from_low_bits(0xabcdef)).to_bytes(),
            [0x4a, 0xab, 0xcd, 0xef]
        );
    }

    #[test]
    fn agrees_with_the_opcode_table_for_every_first_byte() {
        for byte in 0..=255u8 {
            let expected = match Opcode::parse(byte) {
                Ok((o, _)) if o.is_control() => Peek::Control,
                Ok((Opcode::DataV1, key)) => Peek::Data(DataHeader::v1(key)),
                Ok((_, key)) => Peek::Data(DataHeader::v2(key, PeerId::from_low_bits(0x01_0203))),
                Err(_) => Peek::Unknown,
            };
            assert_eq!(peek(&[byte, 1, 2, 3, 4]), expected, "{byte:#x}");
        }
    }

    #[test]
    fn short_input_is_unknown() {
        assert_eq!(peek(&[]), Peek::Unknown);
        assert_eq!(peek(&[0x48, 0, 0]), Peek::Unknown);
    }
}
