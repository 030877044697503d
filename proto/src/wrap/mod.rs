//! Control channel protection: none, tls-auth, tls-crypt, tls-crypt-v2 and the dynamic tls-crypt of
//! renegotiations.

pub mod static_key;
pub mod tls_crypt_v2;

use std::sync::Arc;

use crate::clock::Instant;
use crate::config::params::ReplayWindow;
use crate::drops::DropReason;
use crate::keys::data_key::TlsRole;
use crate::wire::ids::SessionId;
use static_key::{HmacDigest, KeyDirection, StaticKey};
use tls_crypt_v2::ClientKeyV2;

/// Which protection a profile asks for, with its key.
#[derive(Clone, Debug, Default)]
pub enum WrapConfig {
    /// Plain control packets.
    #[default]
    None,
    /// `tls-auth`.
    TlsAuth {
        /// The key file.
        key: Arc<StaticKey>,
        /// `key-direction`.
        direction: KeyDirection,
        /// `auth`.
        digest: HmacDigest,
    },
    /// `tls-crypt`.
    TlsCrypt {
        /// The key file.
        key: Arc<StaticKey>,
    },
    /// `tls-crypt-v2`, client side.
    TlsCryptV2 {
        /// The client's key with the wrapped copy for the server.
        key: Arc<ClientKeyV2>,
    },
}

/// Protection of one direction pair: seals what we send and opens what arrives, with replay counters of
/// its own.
pub struct Wrap {
    _private: (),
}

impl Wrap {
    /// The wrap of a new session. `unix_seconds` starts the replay counter's time part.
    pub fn new(config: &WrapConfig, role: TlsRole, unix_seconds: u32, window: ReplayWindow) -> Self {
        let _ = (config, role, unix_seconds, window);
        todo!()
    }

    /// Dynamic tls-crypt: `exported` is 256 bytes of `EXPORTER-OpenVPN-dynamic-tls-crypt`, combined with
    /// the static key of `config` if there is one (`openvpn: tls_crypt.c`, `tls_session_generate_dynamic_tls_crypt_key`).
    pub fn dynamic(
        config: &WrapConfig,
        exported: &[u8; 256],
        role: TlsRole,
        unix_seconds: u32,
        window: ReplayWindow,
    ) -> Self {
        let _ = (config, exported, role, unix_seconds, window);
        todo!()
    }

    /// Bytes that sealing adds to a packet.
    pub fn overhead(&self) -> usize {
        todo!()
    }

    /// Seals a packet: `header` is the opcode byte, `body` all from the ack count on. Appends the whole
    /// packet to `out`. `unix_seconds` is used when the replay counter wraps.
    pub fn seal(
        &mut self,
        unix_seconds: u32,
        header: u8,
        session: SessionId,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        let _ = (unix_seconds, header, session, body, out);
        todo!()
    }

    /// Checks and opens a packet in place. The proof that this happened is the returned type.
    pub fn open<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Result<Verified<'d>, DropReason> {
        let _ = (now, datagram);
        todo!()
    }
}

/// A control packet whose protection was checked; made here only.
#[derive(Debug)]
pub struct Verified<'d> {
    header: u8,
    session: SessionId,
    body: &'d [u8],
}

impl<'d> Verified<'d> {
    /// Opcode and key-id byte.
    pub fn header(&self) -> u8 {
        self.header
    }

    /// Session id of the sender.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// All from the ack count on, in the clear.
    pub fn body(&self) -> &'d [u8] {
        self.body
    }
}
