//! The list of options that one client is pushed.

use core::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::overrides::PushEdit;
use super::trouble::Notice;
use crate::options::{lexer, values};

/// A copy of the list for all, edited for one.
pub(super) struct PushList {
    options: Vec<String>,
    /// `push-remove ifconfig`.
    pub(super) without_v4: bool,
    /// `push-remove ifconfig-ipv6`.
    pub(super) without_v6: bool,
}

impl PushList {
    pub(super) fn new(for_all: &[String]) -> Self {
        Self { options: for_all.to_vec(), without_v4: false, without_v6: false }
    }

    /// Carries out one edit (`openvpn: push.c`, `push_option_ex`, `push_remove_option`, `push_reset`).
    pub(super) fn edit(&mut self, edit: &PushEdit, notices: &mut Vec<Notice>) {
        match edit {
            PushEdit::Add(text) if !is_clean(text) => notices.push(Notice::BadPush(text.clone())),
            PushEdit::Add(text) => self.options.push(text.clone()),
            PushEdit::Remove(prefix) if prefix == "ifconfig" => self.without_v4 = true,
            PushEdit::Remove(prefix) if prefix == "ifconfig-ipv6" => self.without_v6 = true,
            PushEdit::Remove(prefix) => self.options.retain(|option| !option.starts_with(prefix.as_str())),
            PushEdit::Reset => self.options.clear(),
        }
    }

    /// Removes routes that lead to the client's own networks (`openvpn: push.c`,
    /// `remove_iroutes_from_push_route_list`). One with a gateway or metric stays.
    pub(super) fn remove_own_routes(&mut self, own: &[IpNet]) {
        self.options.retain(|option| route(option).is_none_or(|net| !own.contains(&net)));
    }

    pub(super) fn push(&mut self, option: String) {
        self.options.push(option);
    }

    pub(super) fn into_options(self) -> Vec<String> {
        self.options
    }
}

/// A comma would end the option in the message, a control character the message.
pub(super) fn is_clean(option: &str) -> bool {
    !option.contains(|c: char| c == ',' || c.is_control())
}

/// The network of a plain `route` or `route-ipv6`.
fn route(option: &str) -> Option<IpNet> {
    if !option.trim_start().starts_with("route") {
        return None;
    }
    let words = lexer::split(option).ok()?;
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words[..] {
        ["route", network] => v4(network, "255.255.255.255"),
        ["route", network, netmask] => v4(network, netmask),
        ["route-ipv6", network] => {
            let (address, bits) = values::prefix6(network).ok()?;
            Ipv6Net::new(address, bits).ok().map(IpNet::V6)
        }
        _ => None,
    }
}

fn v4(network: &str, netmask: &str) -> Option<IpNet> {
    let (network, netmask): (Ipv4Addr, Ipv4Addr) = (network.parse().ok()?, netmask.parse().ok()?);
    Ipv4Net::with_netmask(network, netmask).ok().map(IpNet::V4)
}
