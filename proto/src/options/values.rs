//! Values of options: what a word must look like, the same in PUSH_REPLY and in profile files.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use core::time::Duration;

use super::pushed::{Gateway, RedirectFlags, Route4, Route6, Target, Topology};

/// Why an option can't be taken. The text is for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// No such option, or none that a server may push.
    #[error("unrecognized option")]
    Unknown,
    /// A parameter is missing or there is one too many.
    #[error("missing or extra parameter(s)")]
    Parameters,
    /// A parameter has no legal value.
    #[error("{0}")]
    Value(String),
    /// A legal option whose feature does not exist here.
    #[error("not supported")]
    Unsupported,
}

fn value(text: String) -> OptionError {
    OptionError::Value(text)
}

/// A decimal number in `min..=max`. A leading `+` is taken, as by `strtoll`.
pub fn number(word: &str, min: u64, max: u64) -> Result<u64, OptionError> {
    let digits = word.strip_prefix('+').unwrap_or(word);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(value(format!("cannot parse '{word}' as non-negative integer")));
    }
    match digits.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(value(format!("'{word}' is not a number from {min} to {max}"))),
    }
}

/// A number from 0 to the largest C `int`.
pub fn integer(word: &str) -> Result<u32, OptionError> {
    number(word, 0, i32::MAX as u64).map(|number| number as u32)
}

/// A time in whole seconds, at most the largest C `int`.
pub fn seconds(word: &str) -> Result<Duration, OptionError> {
    integer(word).map(|number| Duration::from_secs(number.into()))
}

/// A `tun-mtu`: 100 to 65,535 (`openvpn: mtu.h`, `TUN_MTU_MIN`).
pub fn mtu(word: &str) -> Result<u16, OptionError> {
    number(word, 100, u16::MAX.into()).map(|number| number as u16)
}

/// A dotted IPv4 address.
pub fn address4(word: &str) -> Result<Ipv4Addr, OptionError> {
    Ipv4Addr::from_str(word).map_err(|_| value(format!("'{word}' is not an IPv4 address")))
}

/// An IPv6 address.
pub fn address6(word: &str) -> Result<Ipv6Addr, OptionError> {
    Ipv6Addr::from_str(word).map_err(|_| value(format!("'{word}' is not an IPv6 address")))
}

/// A netmask: ones, then zeros.
pub fn netmask(word: &str) -> Result<Ipv4Addr, OptionError> {
    let mask = address4(word)?;
    let bits = u32::from(mask);
    if bits.leading_ones() + bits.trailing_zeros().min(32 - bits.leading_ones()) != 32 {
        return Err(value(format!("'{word}' is not a netmask")));
    }
    Ok(mask)
}

/// `ADDRESS/BITS`; all 128 bits if there is no slash.
pub fn prefix6(word: &str) -> Result<(Ipv6Addr, u8), OptionError> {
    let (address, bits) = match word.split_once('/') {
        Some((address, bits)) => (address, number(bits, 0, 128)? as u8),
        None => (word, 128),
    };
    Ok((address6(address)?, bits))
}

/// `topology`.
pub fn topology(word: &str) -> Result<Topology, OptionError> {
    match word {
        "net30" => Ok(Topology::Net30),
        "p2p" => Ok(Topology::P2p),
        "subnet" => Ok(Topology::Subnet),
        _ => Err(value(format!("topology '{word}' must be net30, p2p, or subnet"))),
    }
}

/// Parameters of `ifconfig-ipv6`: address with 64 to 124 bits, and the other end, which may be left out.
pub fn ifconfig_ipv6(words: &[&str]) -> Result<(Ipv6Addr, u8, Option<Ipv6Addr>), OptionError> {
    let (local, remote) = match *words {
        [local] => (local, None),
        [local, remote] => (local, Some(address6(remote)?)),
        _ => return Err(OptionError::Parameters),
    };
    let (local, bits) = prefix6(local)?;
    if !(64..=124).contains(&bits) {
        return Err(value(format!("netbits must be between 64 and 124, not '/{bits}'")));
    }
    Ok((local, bits, remote))
}

/// Parameters of `route`. Host bits of the network are cleared, as the kernel demands.
pub fn route4(words: &[&str]) -> Result<Route4, OptionError> {
    let (&target, rest) = words.split_first().ok_or(OptionError::Parameters)?;
    if rest.len() > 3 {
        return Err(OptionError::Parameters);
    }
    let given = |index: usize| rest.get(index).copied().filter(|word| *word != "default");
    let mask = given(0).map_or(Ok(Ipv4Addr::BROADCAST), netmask)?;
    let network = match target_of(target)? {
        Target::Address(address) => Target::Address(address & mask),
        other => other,
    };
    let gateway = match given(1) {
        None => Gateway::Default,
        Some("vpn_gateway") => Gateway::Vpn,
        Some("net_gateway") => Gateway::Net,
        Some("remote_host") => Gateway::RemoteHost,
        Some(word) => Gateway::Address(address4(word)?),
    };
    Ok(Route4 { network, mask, gateway, metric: given(2).map(integer).transpose()? })
}

fn target_of(word: &str) -> Result<Target, OptionError> {
    match word {
        "vpn_gateway" => return Ok(Target::VpnGateway),
        "net_gateway" => return Ok(Target::NetGateway),
        "remote_host" => return Ok(Target::RemoteHost),
        _ => {}
    }
    if let Ok(address) = Ipv4Addr::from_str(word) {
        return Ok(Target::Address(address));
    }
    if is_host_name(word) {
        return Ok(Target::Name(word.into()));
    }
    Err(value(format!("network/IP '{word}' must be a valid address")))
}

/// Whether `word` could name a host: letters, digits, dashes and dots, and not a failed address.
pub fn is_host_name(word: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !word.is_empty()
        && word.len() <= 255
        && !word.starts_with(['-', '.'])
        && word.bytes().all(legal)
        && word.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Parameters of `route-ipv6`. Host bits of the network are cleared.
pub fn route6(words: &[&str]) -> Result<Route6, OptionError> {
    let (&target, rest) = words.split_first().ok_or(OptionError::Parameters)?;
    if rest.len() > 2 {
        return Err(OptionError::Parameters);
    }
    let given = |index: usize| rest.get(index).copied().filter(|word| *word != "default");
    let (address, bits) = prefix6(target)?;
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    let gateway = match given(0) {
        None => Gateway::Default,
        Some("vpn_gateway") => Gateway::Vpn,
        Some("net_gateway") => Gateway::Net,
        Some("remote_host") => Gateway::RemoteHost,
        Some(word) => Gateway::Address(address6(word)?),
    };
    Ok(Route6 {
        network: Ipv6Addr::from(u128::from(address) & mask),
        bits,
        gateway,
        metric: given(1).map(integer).transpose()?,
    })
}

/// Flags of `redirect-gateway` or, with `private`, of `redirect-private`.
pub fn redirect(private: bool, words: &[&str]) -> Result<RedirectFlags, OptionError> {
    let mut flags = RedirectFlags { private, ..RedirectFlags::default() };
    for word in words {
        let flag = match *word {
            "def1" => &mut flags.def1,
            "local" => &mut flags.local,
            "autolocal" => &mut flags.autolocal,
            "bypass-dhcp" => &mut flags.bypass_dhcp,
            "bypass-dns" => &mut flags.bypass_dns,
            "block-local" => &mut flags.block_local,
            "ipv6" => &mut flags.ipv6,
            "!ipv4" => &mut flags.not_ipv4,
            _ => return Err(value(format!("unknown flag: {word}"))),
        };
        *flag = true;
    }
    Ok(flags)
}
