//! Options that a server may push, typed; profile files share the ones that exist there too.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::compression::Compression;
use super::values::{self, OptionError};
use crate::wire::ids::PeerId;

/// One pushed option.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pushed {
    /// `ifconfig LOCAL REMOTE-OR-MASK`.
    Ifconfig(Ipv4Addr, Ipv4Addr),
    /// `ifconfig-ipv6 LOCAL/BITS [REMOTE]`.
    IfconfigIpv6(Ipv6Addr, u8, Option<Ipv6Addr>),
    /// `topology`.
    Topology(Topology),
    /// `route`.
    Route(Route4),
    /// `route-ipv6`.
    RouteIpv6(Route6),
    /// `route-gateway ADDRESS`; `None` stands for `dhcp`.
    RouteGateway(Option<Ipv4Addr>),
    /// `route-ipv6-gateway`.
    RouteIpv6Gateway(Ipv6Addr),
    /// `route-metric`.
    RouteMetric(u32),
    /// `redirect-gateway` or, with `private`, `redirect-private`.
    RedirectGateway(RedirectFlags),
    /// `dhcp-option TYPE VALUE..`, as words.
    DhcpOption(Vec<String>),
    /// `dns ..`, as words.
    Dns(Vec<String>),
    /// `block-ipv6`.
    BlockIpv6,
    /// `block-outside-dns`.
    BlockOutsideDns,
    /// `ping`.
    Ping(Duration),
    /// `ping-restart`.
    PingRestart(Duration),
    /// `ping-exit`.
    PingExit(Duration),
    /// `inactive SECONDS [BYTES]`.
    Inactive(Duration, u64),
    /// `session-timeout`.
    SessionTimeout(Duration),
    /// `explicit-exit-notify [N]`.
    ExitNotify(u8),
    /// `tun-mtu`.
    TunMtu(u16),
    /// `peer-id`, -1 meaning none.
    PeerId(Option<u32>),
    /// `cipher`, as written.
    Cipher(String),
    /// `key-derivation tls-ekm`.
    KeyDerivationEkm,
    /// `protocol-flags`, as words.
    ProtocolFlags(Vec<String>),
    /// `auth-token`.
    AuthToken(Token),
    /// `auth-token-user`, decoded.
    AuthTokenUser(String),
    /// `sndbuf`.
    SendBuffer(u32),
    /// `rcvbuf`.
    ReceiveBuffer(u32),
    /// `comp-lzo` or `compress`.
    Compression(Compression),
    /// `setenv-safe NAME VALUE`.
    SetenvSafe(String, String),
    /// `echo` or `parameter`: text for user interfaces.
    Echo(String),
    /// Known, legal, and without meaning here (`persist-tun`, `register-dns`, `ping-timer-rem`, ...).
    NoEffect(String),
}

impl Pushed {
    /// Types one option, given as its words. `Unknown` stands for words that no server may push, too
    /// (`openvpn: options.c`, `add_option` with the permissions of `pull_permission_mask`).
    pub fn parse(words: &[&str]) -> Result<Self, OptionError> {
        let (&name, rest) = words.split_first().ok_or(OptionError::Unknown)?;
        match name {
            "ifconfig" | "ifconfig-ipv6" | "topology" | "route-gateway" | "route-ipv6-gateway"
            | "tun-mtu" | "sndbuf" | "rcvbuf" => address_option(name, rest),
            "route" => values::route4(rest).map(Self::Route),
            "route-ipv6" => values::route6(rest).map(Self::RouteIpv6),
            "route-metric" => values::integer(one(rest)?).map(Self::RouteMetric),
            "redirect-gateway" => values::redirect(false, rest).map(Self::RedirectGateway),
            "redirect-private" => values::redirect(true, rest).map(Self::RedirectGateway),
            "dhcp-option" => some(rest).map(Self::DhcpOption),
            "dns" => some(rest).map(Self::Dns),
            "block-ipv6" => none(rest).map(|()| Self::BlockIpv6),
            "block-outside-dns" => none(rest).map(|()| Self::BlockOutsideDns),
            "ping"
            | "ping-restart"
            | "ping-exit"
            | "inactive"
            | "session-timeout"
            | "explicit-exit-notify" => timer_option(name, rest),
            "peer-id" | "cipher" | "key-derivation" | "protocol-flags" | "auth-token" | "auth-token-user" => {
                session_option(name, rest)
            }
            "comp-lzo" | "compress" => Compression::parse(words).map(Self::Compression),
            "setenv-safe" => match *rest {
                [name] => Ok(Self::SetenvSafe(name.into(), String::new())),
                [name, value] => Ok(Self::SetenvSafe(name.into(), value.into())),
                _ => Err(OptionError::Parameters),
            },
            "echo" | "parameter" => Ok(Self::Echo(rest.join(" "))),
            "ifconfig-noexec" | "lladdr" | "client-nat" | "shaper" | "bind-dev" | "compat-mode" => {
                Err(OptionError::Unsupported)
            }
            _ if NO_EFFECT.binary_search(&name).is_ok() => Ok(Self::NoEffect(name.into())),
            _ => Err(OptionError::Unknown),
        }
    }
}

/// Words that a server may push and that change nothing here: for other systems, of the past, or always so.
/// Sorted.
const NO_EFFECT: [&str; 23] = [
    "comp-noadapt",
    "dhcp-pre-release",
    "dhcp-release",
    "dhcp-renew",
    "disable-dco",
    "errors-to-stderr",
    "fast-io",
    "ifconfig-nowarn",
    "ip-win32",
    "max-routes",
    "mute",
    "persist-key",
    "persist-tun",
    "ping-timer-rem",
    "prng",
    "register-dns",
    "route-delay",
    "route-method",
    "show-net-up",
    "socket-flags",
    "tap-sleep",
    "tun-ipv6",
    "verb",
];

fn address_option(name: &str, rest: &[&str]) -> Result<Pushed, OptionError> {
    if name == "ifconfig" {
        let [local, remote] = *rest else { return Err(OptionError::Parameters) };
        return Ok(Pushed::Ifconfig(values::address4(local)?, values::address4(remote)?));
    }
    if name == "ifconfig-ipv6" {
        return values::ifconfig_ipv6(rest)
            .map(|(local, bits, remote)| Pushed::IfconfigIpv6(local, bits, remote));
    }
    if name == "tun-mtu" {
        let (mtu, occ) = rest.split_first().ok_or(OptionError::Parameters)?;
        optional(occ)?.map(values::mtu).transpose()?;
        return values::mtu(mtu).map(Pushed::TunMtu);
    }
    let word = one(rest)?;
    match name {
        "topology" => values::topology(word).map(Pushed::Topology),
        "route-gateway" if word == "dhcp" => Ok(Pushed::RouteGateway(None)),
        "route-gateway" => values::address4(word).map(|address| Pushed::RouteGateway(Some(address))),
        "route-ipv6-gateway" => values::address6(word).map(Pushed::RouteIpv6Gateway),
        "sndbuf" => values::integer(word).map(Pushed::SendBuffer),
        "rcvbuf" => values::integer(word).map(Pushed::ReceiveBuffer),
        _ => Err(OptionError::Unknown),
    }
}

fn timer_option(name: &str, rest: &[&str]) -> Result<Pushed, OptionError> {
    if name == "explicit-exit-notify" {
        let attempts = optional(rest)?.map_or(Ok(1), values::integer)?;
        return Ok(Pushed::ExitNotify(u8::try_from(attempts).unwrap_or(u8::MAX)));
    }
    let (time, more) = rest.split_first().ok_or(OptionError::Parameters)?;
    let time = values::seconds(time)?;
    if name == "inactive" {
        let bytes = optional(more)?.map_or(Ok(0), |word| values::number(word, 0, i64::MAX as u64))?;
        return Ok(Pushed::Inactive(time, bytes));
    }
    none(more)?;
    match name {
        "ping" => Ok(Pushed::Ping(time)),
        "ping-restart" => Ok(Pushed::PingRestart(time)),
        "ping-exit" => Ok(Pushed::PingExit(time)),
        "session-timeout" => Ok(Pushed::SessionTimeout(time)),
        _ => Err(OptionError::Unknown),
    }
}

fn session_option(name: &str, rest: &[&str]) -> Result<Pushed, OptionError> {
    if name == "protocol-flags" {
        return some(rest).map(Pushed::ProtocolFlags);
    }
    let word = one(rest)?;
    match name {
        "peer-id" if word == "-1" => Ok(Pushed::PeerId(None)),
        "peer-id" => {
            let id = values::number(word, 0, u64::from(PeerId::UNDEFINED.get()) - 1)?;
            Ok(Pushed::PeerId(Some(id as u32)))
        }
        "cipher" => Ok(Pushed::Cipher(word.into())),
        "key-derivation" if word == "tls-ekm" => Ok(Pushed::KeyDerivationEkm),
        "key-derivation" => Err(OptionError::Value(format!("unknown key-derivation method {word}"))),
        "auth-token" => Ok(Pushed::AuthToken(Token(Zeroizing::new(word.into())))),
        "auth-token-user" => STANDARD
            .decode(word)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(Pushed::AuthTokenUser)
            .ok_or_else(|| OptionError::Value("the user name is not base64 of UTF-8 text".into())),
        _ => Err(OptionError::Unknown),
    }
}

fn none(words: &[&str]) -> Result<(), OptionError> {
    if words.is_empty() { Ok(()) } else { Err(OptionError::Parameters) }
}

fn one<'w>(words: &[&'w str]) -> Result<&'w str, OptionError> {
    if let [word] = *words { Ok(word) } else { Err(OptionError::Parameters) }
}

fn optional<'w>(words: &[&'w str]) -> Result<Option<&'w str>, OptionError> {
    if words.is_empty() { Ok(None) } else { one(words).map(Some) }
}

fn some(words: &[&str]) -> Result<Vec<String>, OptionError> {
    if words.is_empty() { Err(OptionError::Parameters) } else { Ok(owned(words)) }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).into()).collect()
}

/// A session token; redacted when printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub Zeroizing<String>);

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// `topology`: how tunnel addresses are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// A /30 for each client; what a client assumes if nothing is pushed.
    #[default]
    Net30,
    /// Point to point addresses.
    P2p,
    /// One subnet for all.
    Subnet,
}

/// Where a route goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gateway<A> {
    /// Left out or `default`: `route-gateway`, or the other end of the tunnel.
    #[default]
    Default,
    /// `vpn_gateway`.
    Vpn,
    /// `net_gateway`: the gateway that was there before.
    Net,
    /// `remote_host`: the server's address.
    RemoteHost,
    /// An address.
    Address(A),
}

/// `route NETWORK [NETMASK] [GATEWAY] [METRIC]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route4 {
    /// Network.
    pub network: Target,
    /// Netmask; all ones if left out.
    pub mask: Ipv4Addr,
    /// Gateway.
    pub gateway: Gateway<Ipv4Addr>,
    /// Metric; `route-metric` if left out.
    pub metric: Option<u32>,
}

/// What a `route` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(Ipv4Addr),
    /// `vpn_gateway`.
    VpnGateway,
    /// `net_gateway`.
    NetGateway,
    /// `remote_host`.
    RemoteHost,
    /// A host name; pushed ones need `allow-pull-fqdn`.
    Name(String),
}

/// `route-ipv6 NETWORK/BITS [GATEWAY] [METRIC]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route6 {
    /// Network.
    pub network: Ipv6Addr,
    /// Prefix length.
    pub bits: u8,
    /// Gateway.
    pub gateway: Gateway<Ipv6Addr>,
    /// Metric; `route-metric` if left out.
    pub metric: Option<u32>,
}

/// Flags of `redirect-gateway`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each word of the option")]
pub struct RedirectFlags {
    /// `redirect-private`: everything but the default route itself.
    pub private: bool,
    /// `def1`.
    pub def1: bool,
    /// `local`.
    pub local: bool,
    /// `autolocal`.
    pub autolocal: bool,
    /// `bypass-dhcp`.
    pub bypass_dhcp: bool,
    /// `bypass-dns`.
    pub bypass_dns: bool,
    /// `block-local`.
    pub block_local: bool,
    /// `ipv6`.
    pub ipv6: bool,
    /// `!ipv4`.
    pub not_ipv4: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_effect_can_be_searched() {
        assert!(NO_EFFECT.is_sorted());
        for word in NO_EFFECT {
            assert_eq!(Pushed::parse(&[word]), Ok(Pushed::NoEffect(word.into())));
        }
    }
}
