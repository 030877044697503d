//! The plain plane: one [`Table`], called directly.

use core::net::IpAddr;

use super::{Capabilities, DataPlane};
use crate::clock::Instant;
use crate::data::{Forward, Opened, Outgoing, SealError, Sealed, Slot, Table};
use crate::directive::{Order, PeerRef};
use crate::drops::{DropCounters, DropReason};
use crate::path::Path;
use crate::report::{Report, Totals};
use crate::transmit::Transmit;

/// A data plane in the caller's thread. Orders are carried out when [`apply`](DataPlane::apply) returns.
///
/// After each call drain [`poll_transmit`](Self::poll_transmit), then [`poll_report`](DataPlane::poll_report).
#[derive(Default)]
pub struct LocalPlane {
    table: Table,
}

impl LocalPlane {
    /// A plane without peers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes this the plane of a server with these inner addresses, see [`Table::serve`].
    pub fn serve(&mut self, own: &[IpAddr]) {
        self.table.serve(own);
    }

    /// The peer that an inner packet belongs to, see [`Table::lookup`].
    #[inline]
    pub fn lookup(&self, packet: &[u8]) -> Option<PeerRef> {
        self.table.lookup(packet)
    }

    /// Where an opened packet goes if clients may talk to each other, see [`Table::forward`].
    #[inline]
    pub fn forward(&self, from: PeerRef, packet: &[u8]) -> Forward {
        self.table.forward(from, packet)
    }

    /// All data packets of a peer, see [`Table::usage`].
    pub fn usage(&self, peer: PeerRef) -> Option<Totals> {
        self.table.usage(peer)
    }

    /// Where a peer's packets go, see [`Table::peer_path`].
    pub fn peer_path(&self, peer: PeerRef) -> Option<Path> {
        self.table.peer_path(peer)
    }

    /// Where a peer's next packet goes and what is put around it, see [`Table::outgoing`].
    #[inline]
    pub fn outgoing(&mut self, peer: PeerRef) -> Option<Outgoing> {
        self.table.outgoing(peer)
    }

    /// Encrypts a payload in place, see [`Table::seal`].
    ///
    /// # Errors
    /// As [`Table::seal`].
    #[inline]
    pub fn seal(&mut self, now: Instant, peer: PeerRef, slot: &mut Slot<'_>) -> Result<Sealed, SealError> {
        self.table.seal(now, peer, slot)
    }

    /// Whose a data packet seems to be, see [`Table::sender`].
    #[inline]
    pub fn sender(&mut self, from: Path, datagram: &[u8]) -> Option<PeerRef> {
        self.table.sender(from, datagram)
    }

    /// Decrypts a data packet in place, see [`Table::open`].
    ///
    /// # Errors
    /// As [`Table::open`].
    #[inline]
    pub fn open<'b>(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &'b mut [u8],
    ) -> Result<Opened<'b>, DropReason> {
        self.table.open(now, from, datagram)
    }

    /// The next packet that the plane made by itself (pings, exit notices), written to the start of `out`,
    /// which must hold [`MAX_OWN_PACKET`](crate::data::table::MAX_OWN_PACKET) bytes.
    pub fn poll_transmit(&mut self, _now: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.table.poll_transmit(out)
    }

    /// Counts of dropped packets.
    pub const fn drops(&self) -> &DropCounters {
        self.table.drops()
    }

    /// Adds a packet that the caller dropped on its way to this plane ([`DropReason::NoRoute`]).
    pub fn count_drop(&mut self, reason: DropReason) {
        self.table.count_drop(reason);
    }
}

impl DataPlane for LocalPlane {
    fn apply(&mut self, now: Instant, order: Order) {
        self.table.apply(now, order.directive);
    }

    fn poll_report(&mut self) -> Option<Report> {
        self.table.poll_report()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::USERSPACE
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, SocketAddr};

    use zeroize::Zeroizing;

    use super::*;
    use crate::config::cipher::DataCipher;
    use crate::config::params::{DataFormat, DataParams};
    use crate::data::table::MAX_OWN_PACKET;
    use crate::data::{HEADROOM, Payload, TAILROOM};
    use crate::directive::Directive;
    use crate::keys::data_key::{DataKey, KeyLimits, TlsRole};
    use crate::wire::ids::{KeyId, PeerId};

    const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(0), generation: 1 };
    const KEY: KeyId = KeyId::FIRST;

    fn path() -> Path {
        Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 1194)))
    }

    fn order(plane: &mut LocalPlane, directive: Directive) {
        plane.apply(Instant::ZERO, Order { seq: 1, directive });
    }

    fn plane(role: TlsRole) -> LocalPlane {
        let mut plane = LocalPlane::new();
        let params = DataParams::new(DataCipher::ChaCha20Poly1305, DataFormat::V2(PEER.id));
        let data = DataKey::new(Zeroizing::new([3; 256]), role, KeyLimits::default());
        order(&mut plane, Directive::AddPeer { peer: PEER, path: path(), params });
        order(&mut plane, Directive::InstallKey { peer: PEER, key: KEY, data });
        order(&mut plane, Directive::PromoteKey { peer: PEER, key: KEY });
        plane
    }

    #[test]
    fn packets_pings_and_news_pass_through() {
        let (mut a, mut b) = (plane(TlsRole::Client), plane(TlsRole::Server));
        let mut buf = [0; HEADROOM + 20 + TAILROOM];
        buf[HEADROOM] = 0x45;
        assert_eq!(a.lookup(&buf[HEADROOM..HEADROOM + 20]), Some(PEER));
        let sealed = a.seal(Instant::ZERO, PEER, &mut Slot::new(&mut buf, HEADROOM, 20)).unwrap();
        let opened =
            b.open(Instant::ZERO, path(), &mut buf[sealed.start..sealed.start + sealed.len]).unwrap();
        assert!(matches!(opened.payload, Payload::Packet(p) if p[0] == 0x45 && p.len() == 20));
        order(&mut a, Directive::SendPing { peer: PEER });
        let mut out = [0; MAX_OWN_PACKET];
        let ping = a.poll_transmit(Instant::ZERO, &mut out).unwrap();
        assert_eq!(ping.path, path());
        let opened = b.open(Instant::ZERO, path(), &mut out[..ping.len]).unwrap();
        assert!(matches!(opened.payload, Payload::Handled));
        assert_eq!(b.poll_report(), Some(Report::FirstReceive { peer: PEER, key: KEY }));
        assert_eq!(b.poll_report(), None);
        b.count_drop(DropReason::NoRoute);
        assert_eq!(b.drops().get(DropReason::NoRoute), 1);
    }
}
