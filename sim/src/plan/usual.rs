//! Machines as people set them up, to change what a scenario is about.

use core::time::Duration;

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::Framing;

use super::{Cast, Item, Plan, Shape, WrapKind};
use crate::machine::PlaneKind;
use crate::tls::Kind as TlsKind;

impl Default for Shape {
    /// A server and one client: UDP, `tls-crypt`, quick TLS, OpenVPN's default times, lines of 20 ms. No time with
    /// faults: who runs the world says how long.
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            cast: Cast::Server { clients: 1 },
            wrap: WrapKind::TlsCrypt,
            tls: TlsKind::Fake,
            stream: false,
            ciphers: vec![DataCipher::Aes256Gcm],
            framing: Framing::None,
            planes: [PlaneKind::Local; 2],
            reneg: [secs(3600); 2],
            reneg_packets: 0,
            hand_window: secs(60),
            tran_window: secs(3600),
            ping: secs(10),
            ping_restart: secs(60),
            login: false,
            login_delay: Duration::ZERO,
            token: false,
            client_to_client: false,
            duplicate_cn: false,
            fixed: false,
            fresh_sockets: true,
            exit_notify: false,
            delay: Duration::from_millis(20),
            faulty: Duration::ZERO,
            spare_data: false,
        }
    }
}

impl Plan {
    /// A plan of one's own.
    pub const fn new(seed: u64, shape: Shape, items: Vec<Item>) -> Self {
        Self { seed, shape, items }
    }
}
