//! `mssfix`: the TCP maximum segment size of connections through the tunnel.

use crate::config::Mssfix;
use crate::config::params::{DataFormat, Framing};

use super::overhead;

/// IPv4 and TCP header of an inner segment, without options.
const INNER_V4: u32 = 40;

/// The MSS that keeps inner IPv4 segments within `mssfix` (`openvpn: mss.c`, `frame_calculate_mssfix`).
/// `None` leaves TCP alone. IPv6 segments get 20 less, see [`clamp`].
///
/// `outer_ipv6` is the family of the transport; `None`, if it isn't known yet, counts as IPv6.
pub fn mss_for(
    mssfix: Mssfix,
    format: DataFormat,
    framing: Framing,
    tun_mtu: u16,
    is_stream: bool,
    outer_ipv6: Option<bool>,
) -> Option<u16> {
    let header = (overhead(format) + framing.overhead()) as u32 + if is_stream { 2 } else { 0 };
    let outer = if is_stream { 20 } else { 8 } + if outer_ipv6 == Some(false) { 20 } else { 40 };
    let (size, around) = match mssfix {
        Mssfix::Off | Mssfix::Link(0) | Mssfix::Mtu(0) | Mssfix::Fixed(0) => return None,
        Mssfix::Default if tun_mtu == 1500 => (1492, header + outer),
        Mssfix::Default => (tun_mtu, 0),
        Mssfix::Link(size) => (size, header),
        Mssfix::Mtu(size) => (size, header + outer),
        Mssfix::Fixed(size) => (size, 0),
    };
    let mss = u32::from(size).saturating_sub(around + INNER_V4);
    u16::try_from(mss).ok().filter(|&mss| mss > 0)
}

/// Lowers the MSS option of a TCP SYN to `mss`, or to 20 less in IPv6, and mends the checksum. Every other
/// packet stays as it is (`openvpn: mss.c`, `mss_fixup_ipv4`, `mss_fixup_ipv6`).
#[inline]
pub fn clamp(packet: &mut [u8], mss: u16) {
    match packet.first().map(|b| b >> 4) {
        Some(4) => clamp_v4(packet, mss),
        Some(6) => clamp_v6(packet, mss),
        _ => {}
    }
}

#[inline]
fn clamp_v4(packet: &mut [u8], mss: u16) {
    if packet.len() < 40 || packet[9] != TCP || be16(packet, 6) & 0x1fff != 0 {
        return;
    }
    let header = usize::from(packet[0] & 0x0f) * 4;
    if header < 20 || usize::from(be16(packet, 2)) != packet.len() {
        return;
    }
    if let Some(segment) = packet.get_mut(header..) {
        clamp_segment(segment, mss);
    }
}

#[inline]
fn clamp_v6(packet: &mut [u8], mss: u16) {
    if packet.len() < 60 || packet[6] != TCP || usize::from(be16(packet, 4)) + 40 != packet.len() {
        return;
    }
    clamp_segment(&mut packet[40..], mss.saturating_sub(20));
}

const TCP: u8 = 6;
const SYN: u8 = 2;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;

fn clamp_segment(tcp: &mut [u8], mss: u16) {
    if tcp.len() < 20 || tcp[13] & SYN == 0 {
        return;
    }
    let end = usize::from(tcp[12] >> 4) * 4;
    if end > tcp.len() {
        return;
    }
    let mut at = 20;
    while at < end {
        match tcp[at] {
            OPTION_END => return,
            OPTION_NOP => at += 1,
            kind => {
                let Some(&len) = tcp[..end].get(at + 1) else { return };
                let len = usize::from(len);
                // A length below 2 doesn't even cover itself.
                if len < 2 || len > end - at {
                    return;
                }
                if kind == OPTION_MSS && len == 4 {
                    lower(tcp, at + 2, mss);
                }
                at += len;
            }
        }
    }
}

/// Sets the 16-bit value at `at` to `mss` if it is larger.
fn lower(tcp: &mut [u8], at: usize, mss: u16) {
    let old = be16(tcp, at);
    if old <= mss {
        return;
    }
    tcp[at..at + 2].copy_from_slice(&mss.to_be_bytes());
    // In an odd place the two bytes belong to two words of the checksum; with swapped bytes the one's
    // complement sum is the same.
    let (old, new) = if at.is_multiple_of(2) { (old, mss) } else { (old.swap_bytes(), mss.swap_bytes()) };
    // RFC 1624, equation 3.
    let mut sum = u32::from(!be16(tcp, 16)) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[inline]
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests;
