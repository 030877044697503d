//! Everything the data path needs to know after negotiation.

use core::time::Duration;

use super::cipher::DataCipher;
use crate::wire::ids::PeerId;

/// Layout of data packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataFormat {
    /// P_DATA_V1: no peer-id, 32-bit packet id, tag in front.
    V1,
    /// P_DATA_V2: this peer-id goes on outgoing packets, 32-bit packet id, tag in front.
    V2(PeerId),
    /// P_DATA_V2 with 64-bit epoch counter, tag at the end (`aead-epoch`).
    Epoch(PeerId),
}

/// Compression framing: what stands around payloads that might be compressed and never are (`openvpn: comp.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Neither `comp-lzo` nor `compress`.
    #[default]
    None,
    /// `comp-lzo`, `compress lzo`: 0xfa in front.
    Stub,
    /// `compress`, `compress stub`, `compress lz4`: 0xfb in the place of the first byte, which goes to the end.
    Swap,
    /// `compress stub-v2`, `compress lz4-v2`: nothing around IP packets, as only what begins with 0x50 gets an escape.
    StubV2,
}

impl Framing {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::None, Self::Stub, Self::Swap, Self::StubV2];

    /// What OpenVPN's log calls it; `None` if there is none.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Stub | Self::Swap => Some("stub"),
            Self::StubV2 => Some("stubv2"),
        }
    }
}

/// `replay-window`: how far back and how long a late packet is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplayWindow {
    /// Packets, 0 to 65,536; 0 demands strict order.
    pub packets: u32,
    /// Time, up to 600 s; zero means no limit.
    pub time: Duration,
}

impl ReplayWindow {
    /// OpenVPN's default of 64 packets and 15 s.
    pub const DEFAULT: Self = Self { packets: 64, time: Duration::from_secs(15) };
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is fixed for a peer once negotiation is done. Small and `Copy`: it lies beside the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataParams {
    /// Cipher of every key of this peer.
    pub cipher: DataCipher,
    /// Layout of outgoing packets. Incoming V1 and V2 are both accepted; with `Epoch` only that.
    pub format: DataFormat,
    /// Compression framing of all packets, in both directions.
    pub framing: Framing,
    /// Window for incoming packets.
    pub replay: ReplayWindow,
    /// Largest TCP MSS of inner IPv4 segments, IPv6 gets 20 less; `None` leaves the option alone.
    pub mss: Option<u16>,
    /// Whether packets are found by the address they come from (a client's server) rather than by the
    /// peer-id in them (a server's clients).
    pub by_path: bool,
    /// Whether an authenticated packet from another address moves the peer (`float`).
    pub float: bool,
    /// Whether the peer heeds congestion marks in the outer header, so that outgoing packets get the ECN bits of the
    /// inner ones (RFC 6040, section 4.1, normal mode). Without it they say that ECN is not used.
    pub ecn: bool,
}

impl DataParams {
    /// Without framing, limits and extensions, of a peer that is found by its address and stays there.
    pub const fn new(cipher: DataCipher, format: DataFormat) -> Self {
        Self {
            cipher,
            format,
            framing: Framing::None,
            replay: ReplayWindow::DEFAULT,
            mss: None,
            by_path: true,
            float: false,
            ecn: false,
        }
    }
}

const _: () = assert!(size_of::<DataParams>() <= 64);
