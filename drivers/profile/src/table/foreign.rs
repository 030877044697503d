//! Options of other systems (man section windows-options), which profiles carry everywhere.

use super::{Entry, quiet, refused, warned};

const WINDOWS: &str = "is ignored: it is for Windows only; remove the line";

pub(super) const ENTRIES: &[Entry] = &[
    quiet("tun-ipv6"),
    quiet("ip-win32"),
    quiet("tap-sleep"),
    quiet("dhcp-renew"),
    quiet("dhcp-release"),
    quiet("dhcp-pre-release"),
    quiet("win-sys"),
    quiet("windows-driver"),
    quiet("pause-exit"),
    quiet("show-net-up"),
    quiet("show-valid-subnets"),
    warned("allow-nonadmin", WINDOWS),
    warned("service", WINDOWS),
    warned("msg-channel", WINDOWS),
    warned("wintun", WINDOWS),
    refused("show-adapters", "it lists adapters on Windows", "List devices with `ip link`"),
    refused(
        "show-net",
        "it lists interfaces and routes on Windows",
        "List them with `ip address` and `ip route`",
    ),
    refused("dhcp-internal", "it is an internal word of the Windows program", "Remove the line"),
    refused("rdns-internal", "it is an internal word of the Windows program", "Remove the line"),
];
