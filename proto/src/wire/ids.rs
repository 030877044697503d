//! Identifiers on the wire, one type each so that they can't be mixed up.

use core::fmt;

/// Session id: 8 random bytes, never all zero; not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 8]);

impl SessionId {
    /// The id with these wire bytes, or `None` for all zero, which means "undefined".
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// An id like any other, in place of the undefined one.
    pub(crate) const ONE: Self = Self([0, 0, 0, 0, 0, 0, 0, 1]);

    /// The wire bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Key id: 3 bits. 0 is the first key of a session, renegotiations take 1 to 7 and start over at 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KeyId(u8);

impl KeyId {
    /// The id of the first key.
    pub const FIRST: Self = Self(0);

    /// From the low three bits of `byte`.
    pub const fn from_low_bits(byte: u8) -> Self {
        Self(byte & 7)
    }

    /// The number, 0 to 7.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The id that a renegotiation takes (`openvpn: ssl.c`, `key_id` of `key_state_init`).
    #[must_use]
    pub const fn next(self) -> Self {
        Self(if self.0 == 7 { 1 } else { self.0 + 1 })
    }
}

/// A peer-id as it stands in data packets: 24 bits, all ones meaning "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PeerId(u32);

impl PeerId {
    /// "No peer-id": the receiver looks the peer up by its address.
    pub const UNDEFINED: Self = Self(0xff_ffff);

    /// The id with the low 24 bits of `value`.
    pub const fn from_low_bits(value: u32) -> Self {
        Self(value & 0xff_ffff)
    }

    /// The number, 0 to 0xffffff.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Number of a reliable packet, and what an ack names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MessageId(pub u32);
