//! First byte of every packet: opcode and key-id (`openvpn: ssl_pkt.h`).

use super::ids::KeyId;
use crate::drops::DropReason;

/// Packet type. Opcodes 1 and 2 (key method 1) are obsolete and count as unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Opcode {
    /// `P_CONTROL_SOFT_RESET_V1`: starts a renegotiation.
    SoftResetV1 = 3,
    /// `P_CONTROL_V1`: TLS bytes.
    ControlV1 = 4,
    /// `P_ACK_V1`: acks only.
    AckV1 = 5,
    /// `P_DATA_V1`: data without peer-id.
    DataV1 = 6,
    /// `P_CONTROL_HARD_RESET_CLIENT_V2`: first packet of a client.
    HardResetClientV2 = 7,
    /// `P_CONTROL_HARD_RESET_SERVER_V2`: first packet of a server.
    HardResetServerV2 = 8,
    /// `P_DATA_V2`: data with peer-id.
    DataV2 = 9,
    /// `P_CONTROL_HARD_RESET_CLIENT_V3`: first packet of a tls-crypt-v2 client, wrapped key appended.
    HardResetClientV3 = 10,
    /// `P_CONTROL_WKC_V1`: TLS bytes with the wrapped key appended.
    ControlWkcV1 = 11,
}

impl Opcode {
    /// Takes the first byte of a packet apart.
    pub const fn parse(byte: u8) -> Result<(Self, KeyId), DropReason> {
        let opcode = match byte >> 3 {
            3 => Self::SoftResetV1,
            4 => Self::ControlV1,
            5 => Self::AckV1,
            6 => Self::DataV1,
            7 => Self::HardResetClientV2,
            8 => Self::HardResetServerV2,
            9 => Self::DataV2,
            10 => Self::HardResetClientV3,
            11 => Self::ControlWkcV1,
            _ => return Err(DropReason::UnknownOpcode),
        };
        Ok((opcode, KeyId::from_low_bits(byte)))
    }

    /// The first byte of a packet.
    pub const fn header(self, key: KeyId) -> u8 {
        (self as u8) << 3 | key.get()
    }

    /// Data channel packet.
    pub const fn is_data(self) -> bool {
        matches!(self, Self::DataV1 | Self::DataV2)
    }

    /// Control channel packet, acks included.
    pub const fn is_control(self) -> bool {
        !self.is_data()
    }

    /// Start of a session or of a renegotiation.
    pub const fn is_reset(self) -> bool {
        matches!(self, Self::SoftResetV1) || self.is_hard_reset()
    }

    /// Start of a session.
    pub const fn is_hard_reset(self) -> bool {
        matches!(self, Self::HardResetClientV2 | Self::HardResetServerV2 | Self::HardResetClientV3)
    }

    /// Carries a wrapped client key behind the packet proper.
    pub const fn has_wkc(self) -> bool {
        matches!(self, Self::HardResetClientV3 | Self::ControlWkcV1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_parses_back_to_itself_or_is_unknown() {
        for byte in 0..=255u8 {
            match Opcode::parse(byte) {
                Ok((opcode, key)) => {
                    assert!((3..=11).contains(&(byte >> 3)), "{byte:#x}");
                    assert_eq!(opcode.header(key), byte);
                    assert_ne!(opcode.is_data(), opcode.is_control());
                }
                Err(e) => {
                    assert!(!(3..=11).contains(&(byte >> 3)), "{byte:#x}");
                    assert_eq!(e, DropReason::UnknownOpcode);
                }
            }
        }
    }
}
