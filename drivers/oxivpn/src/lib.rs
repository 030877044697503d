//! The parts of the `oxivpn` program: OpenVPN client, server and point-to-point for Linux around the pure core of `oxivpn-proto`.
//!
//! | module | what it does |
//! |---|---|
//! | [`turn`] | moves a batch of packets between socket, core, data plane and device; no runtime |
//! | [`link`] | UDP socket or TCP connection as the outer side of a turn |
//! | [`lane`] | packets in batches between device, data plane and network |
//! | [`client`] | the life of a client: servers, retries, credentials, device, addresses and routes |
//! | [`server`] | a server: a thread for packets, one for everything else |
//! | [`gremlin`] | faults on purpose between socket and program |
//! | [`load`] | many clients in one process, to see what a server bears |
//! | [`retry`] | what happens after a connection ended, as a pure table |
//! | [`scripts`] | scripts with OpenVPN's arguments and environment, run beside the loop |
//! | [`status`] | the status table that exporters read |
//! | [`manage`] | the management interface |
//! | [`adapt`] | event loops that drive a client |
//! | [`log`] | OpenVPN's log lines |
//! | [`process`], [`daemon`], [`privileges`], [`notify`] | what the program is to the system: its number, user, supervisor |
//! | [`genkey`], [`show`], [`setup`] | `--genkey`, `--show-ciphers` and the like, `oxivpn setup` |
//! | [`clock`], [`entropy`] | the only readers of the clock and of the system's randomness |
//!
//! A program with a loop of its own drives [`client::Client`] as [`adapt::mio`] does, or goes one layer deeper
//! and drives [`turn::Turn`]; the examples `std_sockets` and `tokio_client` go deepest and drive the core alone.

#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("oxivpn supports Linux only so far");

pub mod adapt;
pub mod client;
pub mod clock;
pub mod daemon;
pub mod demo;
pub mod entropy;
pub mod genkey;
pub mod gremlin;
pub mod lane;
pub mod link;
pub mod load;
pub mod log;
pub mod manage;
pub mod notify;
pub mod privileges;
pub mod process;
pub mod retry;
pub mod scripts;
pub mod server;
pub mod setup;
pub mod show;
pub mod status;
#[expect(unsafe_code, reason = "calls of the C library without a safe wrapper")]
mod sys;
pub mod turn;
