//! Session ids that a server needn't remember: a MAC over what the client's next packet shows again
//! (`openvpn: ssl_pkt.c`, `calculate_session_id_hmac`).

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use crate::clock::Instant;
use crate::path::Path;
use crate::wire::ids::SessionId;

/// Slots before the present one whose ids are still taken.
const EARLIER_SLOTS: u64 = 2;

/// Longest encoded path: kind, socket, two addresses with their kinds, scope, port.
const MAX_PATH: usize = 1 + 2 + 2 * 17 + 4 + 2;

/// Makes and checks session ids. They last between two and three halves of the hand window.
pub(crate) struct Cookies {
    keyed: Hmac<Sha256>,
    slot: Duration,
}

impl Cookies {
    /// `secret` is random for each start of the program.
    pub(crate) fn new(secret: &[u8; 32], hand_window: Duration) -> Self {
        let slot =
            Duration::from_secs(hand_window.as_secs().saturating_add(1) / 2).max(Duration::from_secs(1));
        Self { keyed: Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"), slot }
    }

    /// Our session id for the client that calls itself `client` and comes from `path`.
    pub(crate) fn make(&self, now: Instant, path: &Path, client: SessionId) -> SessionId {
        self.of_slot(self.slot_of(now), path, client)
    }

    /// Whether `ours` was made for this client not too long ago.
    pub(crate) fn check(&self, now: Instant, path: &Path, client: SessionId, ours: SessionId) -> bool {
        let newest = self.slot_of(now);
        let mut fits = Choice::from(0);
        for slot in newest.saturating_sub(EARLIER_SLOTS)..=newest {
            fits |= self.of_slot(slot, path, client).as_bytes().ct_eq(ours.as_bytes());
        }
        fits.into()
    }

    fn slot_of(&self, now: Instant) -> u64 {
        (u128::from(now.as_nanos()) / self.slot.as_nanos()) as u64
    }

    fn of_slot(&self, slot: u64, path: &Path, client: SessionId) -> SessionId {
        let mut mac = self.keyed.clone();
        mac.update(&slot.to_be_bytes());
        mac.update(client.as_bytes());
        let (bytes, len) = encode(path);
        mac.update(&bytes[..len]);
        let output = mac.finalize().into_bytes();
        let mut id = [0; 8];
        id.copy_from_slice(&output[..8]);
        // All zero means "undefined" on the wire.
        SessionId::new(id).unwrap_or(SessionId::ONE)
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookies([redacted])")
    }
}

/// Bytes that no two paths share. The flow label of IPv6 is left out, as a client may change it.
fn encode(path: &Path) -> ([u8; MAX_PATH], usize) {
    let mut out = Buffer { bytes: [0; MAX_PATH], len: 0 };
    match path {
        Path::Stream(id) => {
            out.put(&[1]);
            out.put(&id.0.to_be_bytes());
        }
        Path::Datagram { socket, remote, local } => {
            out.put(&[2]);
            out.put(&socket.to_be_bytes());
            out.put_ip(Some(remote.ip()));
            out.put(&remote.port().to_be_bytes());
            if let core::net::SocketAddr::V6(v6) = remote {
                out.put(&v6.scope_id().to_be_bytes());
            }
            out.put_ip(*local);
        }
    }
    (out.bytes, out.len)
}

struct Buffer {
    bytes: [u8; MAX_PATH],
    len: usize,
}

impl Buffer {
    fn put(&mut self, part: &[u8]) {
        self.bytes[self.len..][..part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    fn put_ip(&mut self, ip: Option<IpAddr>) {
        match ip {
            None => self.put(&[0]),
            Some(IpAddr::V4(ip)) => {
                self.put(&[4]);
                self.put(&ip.octets());
            }
            Some(IpAddr::V6(ip)) => {
                self.put(&[6]);
                self.put(&ip.octets());
            }
        }
    }
}

#[cfg(test)]
mod tests;
