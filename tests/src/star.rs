//! A laboratory of a server's host and several clients' hosts on one link.
//!
//! ```text
//!   server namespace                                  namespace of client 0, 1, 2...
//!   eth0 (a bridge)                            ====   eth0  10.9.0.11/24, 12, 13...
//!         10.9.0.1/24, 10.9.0.5/24, 10.9.0.254/24           fd09::11/64, 12, 13...
//!         fd09::1/64, fd09::fe/64                           default via 10.9.0.254 and fd09::fe
//!   lo    203.0.113.1/32, 2001:db8:113::1/128
//! ```
//!
//! No host forwards packets, so that what passes from one client to another has passed inside the server's process.

use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    netns::{
        HostState, SERVER_SECOND_V4, SERVER_SECOND_V6, SERVER_V4, SERVER_V6, add_namespace, batch, ip, stem,
    },
    process::{run, run_in},
};

/// Number of the first client's host in its addresses.
const FIRST: usize = 11;

/// The namespaces and a folder; all gone on drop.
#[derive(Debug)]
pub struct Star {
    server: String,
    clients: Vec<String>,
    dir: TempDir,
}

impl Star {
    /// Makes the namespaces, the link and the folder.
    pub fn new(clients: usize) -> Result<Self> {
        let stem = stem();
        let dir = tempfile::Builder::new().prefix("oxivpn-test-").tempdir()?;
        let clients = (0..clients).map(|index| format!("{stem}-c{index}")).collect();
        // Made before the first namespace, so that its drop cleans up after a failure in between.
        let star = Self { server: format!("{stem}-s"), clients, dir };
        star.build().context("cannot make the network namespaces")?;
        Ok(star)
    }

    fn build(&self) -> Result<()> {
        add_namespace(&self.server)?;
        // Of several IPv6 addresses the kernel sends from the one that was added last.
        let mut lines = format!(
            "link add eth0 type bridge\nlink set lo up\nlink set eth0 up\n\
             addr add {SERVER_V4}/24 dev eth0\naddr add {SERVER_SECOND_V4}/24 dev eth0\n\
             addr add 10.9.0.254/24 dev eth0\n\
             addr add {SERVER_SECOND_V6}/64 dev eth0 nodad\naddr add {SERVER_V6}/64 dev eth0 nodad\n\
             addr add 203.0.113.1/32 dev lo\naddr add 2001:db8:113::1/128 dev lo nodad\n"
        );
        for (index, ns) in self.clients.iter().enumerate() {
            add_namespace(ns)?;
            lines += &format!(
                "link add p{index} type veth peer name eth0 netns {ns}\nlink set p{index} master eth0 up\n"
            );
        }
        batch(&self.server, &lines)?;
        for (index, ns) in self.clients.iter().enumerate() {
            let (v4, v6) = (client_v4(index), client_v6(index));
            batch(
                ns,
                &format!(
                    "link set lo up\nlink set eth0 up\n\
                     addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n\
                     route add default via 10.9.0.254\nroute add ::/0 via fd09::fe\n"
                ),
            )?;
        }
        Ok(())
    }

    /// Name of the server's namespace, as `ip netns` takes it.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Name of a client's namespace.
    pub fn client(&self, index: usize) -> &str {
        &self.clients[index]
    }

    /// Folder for configuration, keys and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `ip WORDS` in a namespace of this lab.
    pub fn ip(&self, ns: &str, words: &str) -> Result<String> {
        ip(&format!("-n {ns} {words}"))
    }

    /// Runs a command in a namespace of this lab, which must succeed.
    pub fn exec(&self, ns: &str, argv: &[&str]) -> Result<String> {
        run_in(ns, argv)
    }

    /// Addresses, routes and rules of a namespace.
    pub fn state(&self, ns: &str) -> Result<HostState> {
        HostState::of(ns)
    }
}

impl Drop for Star {
    fn drop(&mut self) {
        for ns in self.clients.iter().chain([&self.server]) {
            let _ = run("ip", &["netns", "del", ns]);
        }
    }
}

/// Address of a client's host on the link.
pub fn client_v4(index: usize) -> String {
    format!("10.9.0.{}", FIRST + index)
}

/// Address of a client's host on the link, IPv6.
pub fn client_v6(index: usize) -> String {
    format!("fd09::{}", FIRST + index)
}
