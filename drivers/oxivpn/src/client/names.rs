//! Host names in the profile's own routes, looked up once, before the loop starts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs as _};

use oxivpn_proto::options::pushed::{Route4, Target};

/// Replaces each route to a name by one route to each of its IPv4 addresses (`openvpn: route.c`,
/// `get_special_addr` and `init_route`). A name without an address stays, to be left out with a warning.
pub(super) fn look_up(routes: &mut Vec<Route4>, lookup: impl Fn(&str) -> io::Result<Vec<Ipv4Addr>>) {
    let found = routes.drain(..).flat_map(|route| {
        let addresses = match &route.network {
            Target::Name(name) => lookup(name).unwrap_or_default(),
            _ => Vec::new(),
        };
        if addresses.is_empty() {
            return vec![route];
        }
        let to = |address| Route4 { network: Target::Address(address), ..route.clone() };
        addresses.into_iter().map(to).collect()
    });
    *routes = found.collect();
}

/// Asks the system.
pub(super) fn system(name: &str) -> io::Result<Vec<Ipv4Addr>> {
    let mut addresses: Vec<Ipv4Addr> = (name, 0)
        .to_socket_addrs()?
        .filter_map(|address| match address.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use oxivpn_proto::options::pushed::Gateway;

    use super::*;

    fn route(network: Target) -> Route4 {
        Route4 { network, mask: Ipv4Addr::BROADCAST, gateway: Gateway::Net, metric: Some(7) }
    }

    #[test]
    fn names_become_addresses_and_all_else_stays() {
        let (one, two) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let unknown = route(Target::Name("unknown.example".into()));
        let mut routes =
            vec![route(Target::RemoteHost), route(Target::Name("two.example".into())), unknown.clone()];
        look_up(&mut routes, |name| match name {
            "two.example" => Ok(vec![one, two]),
            _ => Err(io::ErrorKind::NotFound.into()),
        });
        let expected =
            [route(Target::RemoteHost), route(Target::Address(one)), route(Target::Address(two)), unknown];
        assert_eq!(routes, expected);
    }

    #[test]
    fn the_system_knows_the_local_host() {
        assert_eq!(system("localhost").unwrap(), [Ipv4Addr::LOCALHOST]);
    }
}
