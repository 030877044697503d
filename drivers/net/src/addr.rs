//! Address families and the folding of IPv4-mapped addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Which IP versions a socket or a look-up serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both. A UDP socket of this family is an IPv6 socket without `IPV6_V6ONLY`.
    Any,
}

impl Family {
    /// Whether addresses of `ip`'s version belong to this family.
    pub fn accepts(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::Any => true,
        }
    }

    /// The family of one address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(crate) fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 | Self::Any => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// Turns an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`) into the IPv4 address it stands for; leaves others alone.
pub fn fold(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port()).scoped_like(addr)
}

/// The address to hand to an IPv6 socket: IPv4 becomes IPv4-mapped.
pub(crate) fn unfold(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => addr,
    }
}

trait ScopedLike {
    fn scoped_like(self, original: SocketAddr) -> SocketAddr;
}

impl ScopedLike for SocketAddr {
    /// Keeps the scope of a link-local address, which `SocketAddr::new` would lose.
    fn scoped_like(self, original: SocketAddr) -> SocketAddr {
        if self.is_ipv6() { original } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_fold_and_others_keep_their_scope() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:1194".parse().unwrap();
        let plain: SocketAddr = "192.0.2.1:1194".parse().unwrap();
        assert_eq!(fold(mapped), plain);
        assert_eq!(fold(plain), plain);
        assert_eq!(unfold(plain), mapped);
        let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 7));
        assert_eq!(fold(scoped), scoped);
        assert_eq!(unfold(scoped), scoped);
    }
}
