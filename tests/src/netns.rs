//! A laboratory of two network namespaces joined by a veth pair.
//!
//! ```text
//!   server namespace                              client namespace
//!   eth0  10.9.0.1/24, 10.9.0.254/24   ========   eth0  10.9.0.2/24, default via 10.9.0.254
//!         fd09::1/64,  fd09::fe/64                      fd09::2/64,  default via fd09::fe
//!   lo    203.0.113.1/32, 2001:db8:113::1/128     (a host "on the Internet", behind the server)
//! ```
//!
//! All labs use the same addresses; none of them exists outside the namespaces.

use std::{
    fs,
    path::Path,
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{run, run_in};

/// Address of the server on the link.
pub const SERVER_V4: &str = "10.9.0.1";
/// Address of the server on the link, IPv6.
pub const SERVER_V6: &str = "fd09::1";
/// First address of the client on the link.
pub const CLIENT_V4: &str = "10.9.0.2";
/// First address of the client on the link, IPv6.
pub const CLIENT_V6: &str = "fd09::2";
/// A host that is reached through the server's side of the link.
pub const OUTSIDE_V4: &str = "203.0.113.1";
/// An address of the link that nobody has.
pub const NOBODY_V4: &str = "10.9.0.77";

/// A second address of a [`Star`](crate::star::Star)'s server.
pub const SERVER_SECOND_V4: &str = "10.9.0.5";
/// A second address of the server, IPv6.
pub const SERVER_SECOND_V6: &str = "fd09::fe";

const PREFIX: &str = "oxivpn-test";

/// Which of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The host of the real server.
    Server,
    /// The host of the client under test.
    Client,
}

/// Two namespaces and a folder; all gone on drop.
#[derive(Debug)]
pub struct Lab {
    server: String,
    client: String,
    dir: TempDir,
}

impl Lab {
    /// Makes the namespaces, the link and the folder.
    pub fn new() -> Result<Self> {
        let stem = stem();
        let dir = tempfile::Builder::new().prefix("oxivpn-test-").tempdir()?;
        // Made before the first namespace, so that its drop cleans up after a failure in between.
        let lab = Self { server: format!("{stem}-s"), client: format!("{stem}-c"), dir };
        lab.build().context("cannot make the two network namespaces")?;
        Ok(lab)
    }

    fn build(&self) -> Result<()> {
        for ns in [&self.server, &self.client] {
            add_namespace(ns)?;
        }
        let (s, c) = (&self.server, &self.client);
        ip(&format!("link add eth0 netns {s} type veth peer name eth0 netns {c}"))?;
        // Of several IPv6 addresses the kernel sends from the one that was added last.
        batch(
            s,
            "link set lo up\nlink set eth0 up\n\
             addr add 10.9.0.1/24 dev eth0\naddr add 10.9.0.254/24 dev eth0\n\
             addr add fd09::fe/64 dev eth0 nodad\naddr add fd09::1/64 dev eth0 nodad\n\
             addr add 203.0.113.1/32 dev lo\naddr add 2001:db8:113::1/128 dev lo nodad\n",
        )?;
        batch(
            c,
            "link set lo up\nlink set eth0 up\n\
             addr add 10.9.0.2/24 dev eth0\naddr add fd09::2/64 dev eth0 nodad\n\
             route add default via 10.9.0.254\nroute add ::/0 via fd09::fe\n",
        )?;
        Ok(())
    }

    /// Name of a namespace, as `ip netns` takes it.
    pub fn ns(&self, side: Side) -> &str {
        match side {
            Side::Server => &self.server,
            Side::Client => &self.client,
        }
    }

    /// Folder for configuration, keys and logs of this lab.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command on one side, which must succeed.
    pub fn exec(&self, side: Side, argv: &[&str]) -> Result<String> {
        run_in(self.ns(side), argv)
    }

    /// Runs `ip WORDS` on one side.
    pub fn ip(&self, side: Side, words: &str) -> Result<String> {
        ip(&format!("-n {} {words}", self.ns(side)))
    }

    /// Addresses, routes and rules of one side.
    pub fn state(&self, side: Side) -> Result<HostState> {
        HostState::of(self.ns(side))
    }

    /// The tunnel's address on one side (the tun device's first of that family, not link-local), if there is one.
    pub fn tunnel_address(&self, side: Side, v6: bool) -> Result<Option<String>> {
        Ok(self.state(side)?.tunnel_address(v6))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in [&self.server, &self.client] {
            let _ = run("ip", &["netns", "del", ns]);
        }
    }
}

/// The kernel makes link-local addresses and their routes by itself, some time after an interface came up.
fn forget_link_local(addresses: &mut Value, routes6: &mut Value) {
    for device in addresses.as_array_mut().into_iter().flatten() {
        if let Some(own) = device["addr_info"].as_array_mut() {
            own.retain(|address| address["scope"] != "link");
        }
    }
    if let Some(routes) = routes6.as_array_mut() {
        routes.retain(|route| !route["dst"].as_str().is_some_and(|dst| dst.starts_with("fe80:")));
    }
}

/// What `ip` shows of a host's configuration, without what changes by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct HostState {
    /// `ip -j addr`.
    pub addresses: Value,
    /// `ip -j route show table all`.
    pub routes: Value,
    /// `ip -j -6 route show table all`.
    pub routes6: Value,
    /// `ip -j rule`.
    pub rules: Value,
    /// `ip -j -6 rule`.
    pub rules6: Value,
}

impl HostState {
    /// What `ip` shows in the namespace `ns`.
    pub fn of(ns: &str) -> Result<Self> {
        let query = |words: &str| -> Result<Value> {
            let text = ip(&format!("-n {} -j {words}", ns))?;
            let text = if text.trim().is_empty() { "[]" } else { &text };
            Ok(stable(serde_json::from_str(text).with_context(|| format!("ip {words}: {text}"))?))
        };
        let mut addresses = query("addr")?;
        let mut routes6 = query("-6 route show table all")?;
        forget_link_local(&mut addresses, &mut routes6);
        Ok(Self {
            addresses,
            routes: query("route show table all")?,
            routes6,
            rules: query("rule")?,
            rules6: query("-6 rule")?,
        })
    }

    /// The tunnel's address (the tun device's first of that family, not link-local), if there is one.
    pub fn tunnel_address(&self, v6: bool) -> Option<String> {
        let family = if v6 { "inet6" } else { "inet" };
        let device = |d: &&Value| d["ifname"].as_str().is_some_and(|name| name.starts_with("tun"));
        self.addresses
            .as_array()
            .into_iter()
            .flatten()
            .filter(device)
            .flat_map(|d| d["addr_info"].as_array().into_iter().flatten())
            .find(|a| a["family"] == family && a["scope"] == "global")
            .and_then(|a| a["local"].as_str().map(str::to_owned))
    }

    /// The route to `destination` (as `ip` prints it) that doesn't leave by `eth0` or `lo`.
    pub fn tunnel_route(&self, destination: &str) -> Option<&Value> {
        [&self.routes, &self.routes6].into_iter().filter_map(Value::as_array).flatten().find(|route| {
            let bare = destination.trim_end_matches("/32").trim_end_matches("/128");
            (route["dst"] == destination || route["dst"] == bare)
                && !matches!(route["dev"].as_str(), None | Some("lo" | "eth0"))
        })
    }

    /// One line for each part that differs from `other`; empty if nothing does.
    pub fn difference(&self, other: &Self) -> String {
        let parts = [
            ("addresses", &self.addresses, &other.addresses),
            ("routes", &self.routes, &other.routes),
            ("IPv6 routes", &self.routes6, &other.routes6),
            ("rules", &self.rules, &other.rules),
            ("IPv6 rules", &self.rules6, &other.rules6),
        ];
        let mut text = String::new();
        for (name, before, after) in parts {
            let (before, after) = (items(before), items(after));
            for gone in before.iter().filter(|i| !after.contains(i)) {
                text += &format!("{name}: gone: {gone}\n");
            }
            for new in after.iter().filter(|i| !before.contains(i)) {
                text += &format!("{name}: new: {new}\n");
            }
        }
        text
    }
}

fn items(list: &Value) -> Vec<String> {
    list.as_array().map(|a| a.iter().map(Value::to_string).collect()).unwrap_or_default()
}

/// Removes the counters and lifetimes which change without anybody's doing.
fn stable(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for key in [
                    "expires",
                    "valid_life_time",
                    "preferred_life_time",
                    "cache",
                    "used",
                    "age",
                    "error",
                    "operstate",
                    "tentative",
                ] {
                    map.remove(key);
                }
                // A bridge's port has a carrier once its other end is up.
                if let Some(Value::Array(flags)) = map.get_mut("flags") {
                    flags.retain(|flag| !matches!(flag.as_str(), Some("NO-CARRIER" | "LOWER_UP")));
                }
                map.values_mut().for_each(walk);
            }
            Value::Array(list) => list.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

/// Beginning of the names of one lab's namespaces, which nobody else has.
pub(crate) fn stem() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    static STALE: Once = Once::new();
    STALE.call_once(remove_stale);
    format!("{PREFIX}-{}-{}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Makes a namespace, which neither forwards nor waits before it uses an IPv6 address.
pub(crate) fn add_namespace(ns: &str) -> Result<()> {
    ip(&format!("netns add {ns}"))?;
    let settings =
        ["net.ipv4.ip_forward=0", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"];
    run_in(ns, &[&["sysctl", "-qw"][..], &settings].concat()).map(drop)
}

/// Runs `ip WORDS`.
pub(crate) fn ip(words: &str) -> Result<String> {
    run("ip", &words.split_whitespace().collect::<Vec<_>>())
}

/// Runs `ip` in a namespace with several commands.
pub(crate) fn batch(ns: &str, lines: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), lines)?;
    let path = file.path().to_string_lossy().into_owned();
    run("ip", &["-n", ns, "-batch", &path]).map(drop)
}

/// Removes the namespaces of test processes that no longer exist. What still ran in them was tied to those processes.
fn remove_stale() {
    let Ok(list) = run("ip", &["netns", "list"]) else { return };
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{owner}")).exists() {
            let _ = run("ip", &["netns", "del", name]);
        }
    }
}
