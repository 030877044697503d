//! The status table that exporters read, as a file and as an answer of the management interface.
//!
//! Every byte is as OpenVPN 2.6 writes it (`openvpn: multi.c`, `multi_print_status`, and `sig.c`, `print_status`),
//! because programs take columns by their number.

mod file;

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::net::SocketAddr;

use ipnet::IpNet;

use crate::sys;

pub use file::StatusFile;

/// The version of OpenVPN whose tables and replies these are. Exporters choose columns by it
/// (`openvpn-monitor` takes the second word of the `version` command for it).
pub const LEVEL: &str = "2.6.14";

/// What stands in `TITLE` and in the reply to `version`: OpenVPN's name and level, then our own.
pub fn title() -> String {
    format!(
        "OpenVPN {LEVEL} {}-unknown-{}-oxivpn-{} [SSL (rustls)] [EPOLL] [AEAD]",
        std::env::consts::ARCH,
        std::env::consts::OS,
        env!("CARGO_PKG_VERSION"),
    )
}

/// What a status table shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// Of a server.
    Server(ServerStatus),
    /// Of a client or a point-to-point tunnel; looks the same in all versions.
    Tunnel(TunnelStatus),
}

/// A server's clients and inner addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerStatus {
    /// Now, in seconds since 1970.
    pub unix: u64,
    /// Clients that have logged in. Those in the middle of a handshake are better left out: they would all be called
    /// `UNDEF`, which exporters take for one client.
    pub clients: Vec<ClientStatus>,
    /// Inner addresses and networks.
    pub routes: Vec<RouteStatus>,
    /// The longest that the queue of broadcasts has been.
    pub queue_max: usize,
}

/// One client of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientStatus {
    /// Common name; `None` shows as `UNDEF`.
    pub common_name: Option<String>,
    /// Where its packets come from.
    pub remote: SocketAddr,
    /// Inner IPv4 address.
    pub ip4: Option<Ipv4Addr>,
    /// Inner IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// Bytes received from it.
    pub received: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Since when it is here, in seconds since 1970.
    pub since: u64,
    /// User name; `None` shows as `UNDEF`.
    pub username: Option<String>,
    /// Client id of the management interface.
    pub cid: u64,
    /// Peer id of the data channel.
    pub peer_id: u32,
    /// Cipher of the data channel.
    pub cipher: String,
}

/// One inner address or network of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteStatus {
    /// Address (a full prefix) or network.
    pub net: IpNet,
    /// Learned for one address out of a network; shows as `C` after the address.
    pub cached: bool,
    /// Whose it is, as in [`ClientStatus::common_name`].
    pub common_name: Option<String>,
    /// Where that client's packets come from.
    pub remote: SocketAddr,
    /// When it was last used, in seconds since 1970.
    pub last_used: u64,
}

/// Sums of a client or of a point-to-point tunnel, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelStatus {
    /// Now, in seconds since 1970.
    pub unix: u64,
    /// Read from the device.
    pub device_read: u64,
    /// Written to the device.
    pub device_write: u64,
    /// Received on the link.
    pub link_read: u64,
    /// Sent on the link.
    pub link_write: u64,
    /// Authentic data packets among those received.
    pub authentic: u64,
}

/// The table in lines that end in `\n`. A version other than 1 to 3 of a server's table is one line that says so.
pub fn render(snapshot: &Snapshot, version: u8) -> String {
    match (snapshot, version) {
        (Snapshot::Tunnel(status), _) => tunnel(status),
        (Snapshot::Server(status), 1) => server1(status),
        (Snapshot::Server(status), 2) => server2(status, ','),
        (Snapshot::Server(status), 3) => server2(status, '\t'),
        _ => "ERROR: bad status format version number\n".to_owned(),
    }
}

/// Appends one formatted line.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{
        // Writing to a string can't fail.
        let _ = writeln!($out, $($text)*);
    }};
}

fn tunnel(status: &TunnelStatus) -> String {
    let mut out = String::new();
    line!(out, "OpenVPN STATISTICS");
    line!(out, "Updated,{}", time(status.unix));
    line!(out, "TUN/TAP read bytes,{}", status.device_read);
    line!(out, "TUN/TAP write bytes,{}", status.device_write);
    line!(out, "TCP/UDP read bytes,{}", status.link_read);
    line!(out, "TCP/UDP write bytes,{}", status.link_write);
    line!(out, "Auth read bytes,{}", status.authentic);
    line!(out, "END");
    out
}

fn server1(status: &ServerStatus) -> String {
    let mut out = String::new();
    line!(out, "OpenVPN CLIENT LIST");
    line!(out, "Updated,{}", time(status.unix));
    line!(out, "Common Name,Real Address,Bytes Received,Bytes Sent,Connected Since");
    for client in &status.clients {
        let (name, remote) = (name(client.common_name.as_deref()), real(client.remote));
        line!(out, "{name},{remote},{},{},{}", client.received, client.sent, time(client.since));
    }
    line!(out, "ROUTING TABLE");
    line!(out, "Virtual Address,Common Name,Real Address,Last Ref");
    for route in &status.routes {
        let (name, remote) = (name(route.common_name.as_deref()), real(route.remote));
        line!(out, "{},{name},{remote},{}", inner(route), time(route.last_used));
    }
    line!(out, "GLOBAL STATS");
    line!(out, "Max bcast/mcast queue length,{}", status.queue_max);
    line!(out, "END");
    out
}

/// Versions 2 and 3, which differ in the separator only.
fn server2(status: &ServerStatus, s: char) -> String {
    let mut out = String::new();
    line!(out, "TITLE{s}{}", title());
    line!(out, "TIME{s}{}{s}{}", time(status.unix), status.unix);
    line!(
        out,
        "HEADER{s}CLIENT_LIST{s}Common Name{s}Real Address{s}Virtual Address{s}Virtual IPv6 Address{s}Bytes Received{s}\
         Bytes Sent{s}Connected Since{s}Connected Since (time_t){s}Username{s}Client ID{s}Peer ID{s}Data Channel Cipher"
    );
    for client in &status.clients {
        line!(
            out,
            "CLIENT_LIST{s}{}{s}{}{s}{}{s}{}{s}{}{s}{}{s}{}{s}{}{s}{}{s}{}{s}{}{s}{}",
            name(client.common_name.as_deref()),
            real(client.remote),
            client.ip4.map(|ip| ip.to_string()).unwrap_or_default(),
            client.ip6.map(|ip| ip.to_string()).unwrap_or_default(),
            client.received,
            client.sent,
            time(client.since),
            client.since,
            name(client.username.as_deref()),
            client.cid,
            client.peer_id,
            client.cipher,
        );
    }
    line!(
        out,
        "HEADER{s}ROUTING_TABLE{s}Virtual Address{s}Common Name{s}Real Address{s}Last Ref{s}Last Ref (time_t)"
    );
    for route in &status.routes {
        line!(
            out,
            "ROUTING_TABLE{s}{}{s}{}{s}{}{s}{}{s}{}",
            inner(route),
            name(route.common_name.as_deref()),
            real(route.remote),
            time(route.last_used),
            route.last_used,
        );
    }
    line!(out, "GLOBAL_STATS{s}Max bcast/mcast queue length{s}{}", status.queue_max);
    line!(out, "GLOBAL_STATS{s}dco_enabled{s}0");
    line!(out, "END");
    out
}

/// A name from a certificate or a login, without what would shift columns or begin lines.
fn name(name: Option<&str>) -> String {
    let name = name.filter(|name| !name.is_empty()).unwrap_or("UNDEF");
    name.chars().map(|c| if c == ',' || c.is_control() { '_' } else { c }).collect()
}

/// An outer address; one of IPv6 has no port, as in OpenVPN (`openvpn: mroute.c`, `mroute_addr_print_ex`).
fn real(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("{ip}:{}", address.port()),
        IpAddr::V6(ip) => ip.to_string(),
    }
}

fn inner(route: &RouteStatus) -> String {
    let cached = if route.cached { "C" } else { "" };
    if route.net.prefix_len() == route.net.max_prefix_len() {
        format!("{}{cached}", route.net.addr())
    } else {
        format!("{}{cached}", route.net)
    }
}

/// Local time, as in `2026-11-21 06:13:09`.
fn time(unix: u64) -> String {
    let t = sys::local_time(unix);
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", t.year, t.month, t.day, t.hour, t.minute, t.second)
}

#[cfg(test)]
mod tests;
