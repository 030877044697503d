//! Which addresses a slot of the pool stands for.

use core::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// Most slots of a pool (`openvpn: pool.h`, `IFCONFIG_POOL_MAX`).
pub const MAX_SLOTS: u32 = 65_536;

/// Fewest slots of a pool (`openvpn: pool.c`, `ifconfig_pool_init`).
pub const MIN_SLOTS: u32 = 2;

/// `ifconfig-pool FIRST LAST`: IPv4 addresses, one for each slot or a /30 for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range4 {
    /// First address. With /30 networks the network of it counts.
    first: Ipv4Addr,
    /// Last address, inclusive.
    last: Ipv4Addr,
    /// `topology net30`.
    net30: bool,
}

impl Range4 {
    /// The range from `first` to `last`.
    ///
    /// # Errors
    /// [`RangeError`] if it is backwards, too large, or for fewer than [`MIN_SLOTS`] clients.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr, net30: bool) -> Result<Self, RangeError> {
        let (from, to) = (u32::from(first), u32::from(last));
        if from > to {
            return Err(RangeError::Backwards { first, last });
        }
        if to - from >= MAX_SLOTS {
            return Err(RangeError::TooLarge { first, last });
        }
        let this = Self { first, last, net30 };
        if this.size() < MIN_SLOTS {
            return Err(RangeError::TooSmall { range: format!("{first} to {last}"), size: this.size() });
        }
        Ok(this)
    }

    /// First address.
    pub const fn first(&self) -> Ipv4Addr {
        self.first
    }

    /// Last address.
    pub const fn last(&self) -> Ipv4Addr {
        self.last
    }

    fn base(&self) -> u32 {
        if self.net30 { u32::from(self.first) & !3 } else { u32::from(self.first) }
    }

    /// Number of slots.
    pub fn size(&self) -> u32 {
        let last = u32::from(self.last);
        if self.net30 { ((last | 3) - self.base() + 1) >> 2 } else { last - self.base() + 1 }
    }

    /// The client's address in a slot.
    pub fn client(&self, slot: u32) -> Ipv4Addr {
        if self.net30 { self.at(slot, 2) } else { self.at(slot, 0) }
    }

    /// The server's end of a slot with a /30.
    pub fn server_end(&self, slot: u32) -> Option<Ipv4Addr> {
        self.net30.then(|| self.at(slot, 1))
    }

    /// The address that names a slot in the pool's file: that of the client, or of its /30 network.
    pub fn name(&self, slot: u32) -> Ipv4Addr {
        self.at(slot, 0)
    }

    fn at(&self, slot: u32, host: u32) -> Ipv4Addr {
        Ipv4Addr::from((self.base() + if self.net30 { slot << 2 } else { slot }).wrapping_add(host))
    }

    /// The slot that an address belongs to.
    pub fn slot(&self, address: Ipv4Addr) -> Option<u32> {
        let offset = u32::from(address).checked_sub(self.base())?;
        let slot = if self.net30 { offset >> 2 } else { offset };
        (slot < self.size()).then_some(slot)
    }
}

/// `ifconfig-ipv6-pool FIRST/BITS`: IPv6 addresses, one for each slot. They differ in the last 32 bits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range6 {
    first: Ipv6Addr,
    size: u32,
}

impl Range6 {
    /// The range that begins with the address of `net`. One whose host part is zero is the address of the
    /// subnet's routers, so the range begins with the next then.
    ///
    /// # Errors
    /// [`RangeError::TooSmall`], [`RangeError::Prefix`] for more than 124 or fewer than 64 bits.
    pub fn new(net: Ipv6Net) -> Result<Self, RangeError> {
        let bits = net.prefix_len();
        if !(64..=124).contains(&bits) {
            return Err(RangeError::Prefix(net));
        }
        let first = u128::from(net.addr());
        // No more than the last 32 bits count as host part, as in OpenVPN.
        let host = first & (u128::MAX >> bits) & u128::from(u32::MAX);
        let first = if host == 0 { first + 1 } else { first };
        let host = host.max(1) as u32;
        let size = if bits >= 112 { (1 << (128 - bits)) - host } else { MAX_SLOTS.min(u32::MAX - host) };
        if size < MIN_SLOTS {
            return Err(RangeError::TooSmall { range: net.to_string(), size });
        }
        Ok(Self { first: Ipv6Addr::from(first), size })
    }

    /// First address.
    pub const fn first(&self) -> Ipv6Addr {
        self.first
    }

    /// Number of slots.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// The client's address in a slot.
    pub fn client(&self, slot: u32) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.first) + u128::from(slot))
    }

    /// The slot that an address belongs to.
    pub fn slot(&self, address: Ipv6Addr) -> Option<u32> {
        let offset = u128::from(address).checked_sub(u128::from(self.first))?;
        u32::try_from(offset).ok().filter(|slot| *slot < self.size)
    }
}

/// Why there is no such range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// The last address is before the first.
    #[error("the address pool begins with {first}, which is after its end {last}; swap the two")]
    Backwards {
        /// First address.
        first: Ipv4Addr,
        /// Last address.
        last: Ipv4Addr,
    },
    /// More than [`MAX_SLOTS`] addresses.
    #[error("the address pool {first} to {last} is too large; at most {MAX_SLOTS} addresses are possible")]
    TooLarge {
        /// First address.
        first: Ipv4Addr,
        /// Last address.
        last: Ipv4Addr,
    },
    /// Fewer than [`MIN_SLOTS`] clients find room.
    #[error(
        "the address pool {range} is too small: it has room for {size} clients, and {MIN_SLOTS} is the least"
    )]
    TooSmall {
        /// What was asked for.
        range: String,
        /// How many clients.
        size: u32,
    },
    /// A prefix length that OpenVPN doesn't take.
    #[error("the prefix of the IPv6 address pool {0} must have 64 to 124 bits")]
    Prefix(Ipv6Net),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn slots_and_addresses_are_one_to_one() {
        for (first, last, net30, size) in [
            ("10.8.0.2", "10.8.0.254", false, 253),
            ("10.8.0.4", "10.8.0.251", true, 62),
            ("10.8.0.6", "10.8.0.9", true, 2),
            ("0.0.0.0", "0.0.255.255", false, 65_536),
            ("255.255.255.248", "255.255.255.255", true, 2),
        ] {
            let range = Range4::new(v4(first), v4(last), net30).unwrap();
            assert_eq!(range.size(), size, "{first}");
            for slot in [0, 1, size - 1] {
                assert_eq!(range.slot(range.client(slot)), Some(slot));
                assert_eq!(range.slot(range.name(slot)), Some(slot));
                assert_eq!(range.server_end(slot).map(|a| range.slot(a)), net30.then_some(Some(slot)));
            }
            let end = u32::from(range.name(size - 1)).checked_add(if net30 { 4 } else { 1 });
            assert_eq!(end.and_then(|end| range.slot(end.into())), None);
        }
        let net30 = Range4::new(v4("10.8.0.4"), v4("10.8.0.251"), true).unwrap();
        assert_eq!((net30.client(0), net30.server_end(0)), (v4("10.8.0.6"), Some(v4("10.8.0.5"))));
        assert_eq!(net30.slot(v4("10.8.0.3")), None);
    }

    #[test]
    fn ipv6_ranges_start_as_openvpns() {
        for (net, first, size) in [
            ("2001:db8::1000/64", "2001:db8::1000", 65_536),
            ("2001:db8::/64", "2001:db8::1", 65_536),
            ("2001:db8::2/112", "2001:db8::2", 65_534),
            ("2001:db8::2/124", "2001:db8::2", 14),
            ("2001:db8::f0/124", "2001:db8::f1", 15),
            ("2001:db8:0:0:1234::/64", "2001:db8::1234:0:0:1", 65_536),
        ] {
            let range = Range6::new(net.parse().unwrap()).unwrap();
            assert_eq!((range.first(), range.size()), (first.parse().unwrap(), size), "{net}");
            assert_eq!(range.slot(range.client(size - 1)), Some(size - 1));
            assert_eq!(range.slot(Ipv6Addr::UNSPECIFIED), None);
        }
    }

    #[test]
    fn impossible_ranges_are_explained() {
        for (first, last, net30, text) in [
            (
                "10.8.0.9",
                "10.8.0.2",
                false,
                "the address pool begins with 10.8.0.9, which is after its end 10.8.0.2; swap the two",
            ),
            (
                "10.8.0.0",
                "10.9.0.0",
                false,
                "the address pool 10.8.0.0 to 10.9.0.0 is too large; at most 65536 addresses are possible",
            ),
            (
                "10.8.0.5",
                "10.8.0.5",
                false,
                "the address pool 10.8.0.5 to 10.8.0.5 is too small: it has room for 1 clients, and 2 is the least",
            ),
            (
                "10.8.0.4",
                "10.8.0.7",
                true,
                "the address pool 10.8.0.4 to 10.8.0.7 is too small: it has room for 1 clients, and 2 is the least",
            ),
        ] {
            assert_eq!(Range4::new(v4(first), v4(last), net30).unwrap_err().to_string(), text);
        }
        for net in ["2001:db8::/63", "2001:db8::/125", "2001:db8::f/124"] {
            assert!(Range6::new(net.parse().unwrap()).is_err(), "{net}");
        }
    }
}
