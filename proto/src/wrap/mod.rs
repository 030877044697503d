//! Control channel protection: none, tls-auth, tls-crypt, tls-crypt-v2 and the dynamic tls-crypt of
//! renegotiations.

pub(crate) mod gate;
pub mod generate;
mod hmac;
pub(crate) mod pem;
pub mod replay;
pub mod static_key;
mod tls_auth;
mod tls_crypt;
pub mod tls_crypt_v2;

use core::fmt;
use std::sync::Arc;

use crate::clock::Instant;
use crate::config::params::ReplayWindow;
use crate::drops::DropReason;
use crate::keys::data_key::TlsRole;
use crate::limits::MAX_CONTROL_DATAGRAM;
use crate::wire::ids::SessionId;
use crate::wire::opcode::Opcode;
use replay::{ReplayGuard, ReplayId, SendCounter};
use static_key::{HmacDigest, KEY_LEN, KeyDirection, StaticKey};
use tls_auth::TlsAuth;
use tls_crypt::TlsCrypt;
use tls_crypt_v2::{ClientKeyV2, split_wkc};

/// What every control packet starts with in the clear: opcode byte and session id.
const HEAD: usize = 9;

/// Where the send counter of tls-crypt-v2 starts. The top byte promises that RESEND_WKC is understood
/// (`openvpn: ssl_pkt.h`, `EARLY_NEG_START`).
const EARLY_NEG_START: u32 = 0x0f00_0000;

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

impl WrapConfig {
    /// The key that dynamic tls-crypt builds on.
    pub(crate) fn static_key(&self) -> Option<&StaticKey> {
        match self {
            Self::None => None,
            Self::TlsAuth { key, .. } | Self::TlsCrypt { key } => Some(key),
            Self::TlsCryptV2 { key } => Some(key.key()),
        }
    }
}

/// Protection of one direction pair: seals what we send and opens what arrives, with replay counters of
/// its own.
pub struct Wrap {
    mode: Mode,
    counter: SendCounter,
    guard: ReplayGuard,
    /// Appended to packets whose opcode says so.
    client_key: Option<Arc<ClientKeyV2>>,
    /// Whether packets whose opcode says so come with a wrapped client key, which is known already.
    strips_client_key: bool,
}

/// Keys of a protection. All sessions under one static key share them.
#[derive(Clone)]
enum Mode {
    None,
    TlsAuth(Arc<TlsAuth>),
    TlsCrypt(Arc<TlsCrypt>),
}

impl Mode {
    fn open<'d>(&self, datagram: &'d mut [u8]) -> Result<Opened<'d>, DropReason> {
        match self {
            Self::None => {
                let (head, body) = datagram.split_first_chunk::<HEAD>().ok_or(DropReason::Malformed)?;
                Ok(Opened { head: *head, id: None, body })
            }
            Self::TlsAuth(auth) => auth.open(datagram),
            Self::TlsCrypt(crypt) => crypt.open(datagram),
        }
    }

    /// Appends a whole packet; `id` is left out if there is no protection.
    fn seal(&self, id: ReplayId, header: u8, session: SessionId, body: &[u8], out: &mut Vec<u8>) {
        let mut head = [header; HEAD];
        head[1..].copy_from_slice(session.as_bytes());
        match self {
            Self::None => {
                out.extend_from_slice(&head);
                out.extend_from_slice(body);
            }
            Self::TlsAuth(auth) => auth.seal(id, &head, body, out),
            Self::TlsCrypt(crypt) => crypt.seal(id, &head, body, out),
        }
    }
}

/// A packet that passed the HMAC, and not yet the replay check.
struct Opened<'d> {
    head: [u8; HEAD],
    id: Option<ReplayId>,
    body: &'d [u8],
}

impl Wrap {
    /// The wrap of a new session. `unix_seconds` starts the replay counter's time part.
    pub fn new(config: &WrapConfig, role: TlsRole, unix_seconds: u32, window: ReplayWindow) -> Self {
        let mut wrap = Self {
            mode: Mode::None,
            counter: SendCounter::new(unix_seconds, 0),
            guard: ReplayGuard::new(window),
            client_key: None,
            strips_client_key: false,
        };
        match config {
            WrapConfig::None => {}
            WrapConfig::TlsAuth { key, direction, digest } => {
                wrap.mode = Mode::TlsAuth(Arc::new(TlsAuth::new(key, *direction, *digest)));
            }
            WrapConfig::TlsCrypt { key } => {
                wrap.mode = Mode::TlsCrypt(Arc::new(TlsCrypt::new(key, role)));
            }
            WrapConfig::TlsCryptV2 { key } => {
                wrap.mode = Mode::TlsCrypt(Arc::new(TlsCrypt::new(key.key(), role)));
                wrap.counter = SendCounter::new(unix_seconds, EARLY_NEG_START);
                wrap.client_key = Some(Arc::clone(key));
            }
        }
        wrap
    }

    /// Dynamic tls-crypt: `exported` is 256 bytes of `EXPORTER-OpenVPN-dynamic-tls-crypt`, combined with
    /// `base`, the static or client key of the first wrap, if that has one (`openvpn: tls_crypt.c`,
    /// `tls_session_generate_dynamic_tls_crypt_key`).
    pub fn dynamic(
        base: Option<&StaticKey>,
        exported: &[u8; KEY_LEN],
        role: TlsRole,
        unix_seconds: u32,
        window: ReplayWindow,
    ) -> Self {
        let key = match base {
            Some(base) => base.xor(exported),
            None => StaticKey::from_slice(exported),
        };
        Self {
            mode: Mode::TlsCrypt(Arc::new(TlsCrypt::new(&key, role))),
            counter: SendCounter::new(unix_seconds, 0),
            guard: ReplayGuard::new(window),
            client_key: None,
            strips_client_key: false,
        }
    }

    /// Bytes to allow for when sizing a packet, without the wrapped client key. For tls-crypt that is 16
    /// more than sealing adds, as stock peers do it.
    pub fn overhead(&self) -> usize {
        match &self.mode {
            Mode::None => 0,
            Mode::TlsAuth(auth) => auth.overhead(),
            Mode::TlsCrypt(crypt) => crypt.overhead(),
        }
    }

    /// Bytes of the wrapped client key, which sealing appends to HARD_RESET_CLIENT_V3 and CONTROL_WKC_V1; 0
    /// if there is none.
    pub fn client_key_len(&self) -> usize {
        self.client_key.as_ref().map_or(0, |key| key.wrapped().len())
    }

    /// Seals a packet: `header` is the opcode byte, `body` all from the ack count on. Appends the whole
    /// packet to `out`, with the wrapped client key if the opcode calls for it and there is one.
    /// `unix_seconds` is used when the replay counter wraps.
    pub fn seal(
        &mut self,
        unix_seconds: u32,
        header: u8,
        session: SessionId,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.mode.seal(self.counter.next(unix_seconds), header, session, body, out);
        if let Some(key) = &self.client_key
            && has_wkc(header)
        {
            out.extend_from_slice(key.wrapped());
        }
    }

    /// Seals a packet under any replay id.
    #[cfg(any(test, fuzzing, feature = "fuzzing"))]
    pub(crate) fn seal_as(
        &self,
        id: ReplayId,
        header: u8,
        session: SessionId,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.mode.seal(id, header, session, body, out);
    }

    /// Checks and opens a packet in place. The proof that this happened is the returned type.
    ///
    /// Fails with `Malformed`, `WrapAuthentication` or `WrapReplay`, in this order of checks; what
    /// `datagram` holds afterwards is unspecified then.
    pub fn open<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Result<Verified<'d>, DropReason> {
        self.open_if(now, datagram, |_, _| Ok(()))
    }

    /// As [`open`](Self::open), and asks `admit` about the session id and the body before the packet counts for
    /// the replay check. Everybody who shares the static key can make authentic packets with any replay id; those
    /// of other sessions must not close the window to the peer's.
    pub(crate) fn open_if<'d>(
        &mut self,
        now: Instant,
        datagram: &'d mut [u8],
        admit: impl FnOnce(SessionId, &[u8]) -> Result<(), DropReason>,
    ) -> Result<Verified<'d>, DropReason> {
        if datagram.len() > MAX_CONTROL_DATAGRAM {
            return Err(DropReason::Malformed);
        }
        let carries_key = datagram.first().is_some_and(|&header| has_wkc(header));
        let packet = if self.strips_client_key && carries_key { split_wkc(datagram)?.0 } else { datagram };
        let opened = self.mode.open(packet)?;
        let mut verified = Verified::new(&opened)?;
        admit(verified.session, opened.body)?;
        if opened.id.is_some_and(|id| !self.guard.accept(now, id)) {
            return Err(DropReason::WrapReplay);
        }
        if self.strips_client_key {
            verified.forget_client_key();
        }
        Ok(verified)
    }
}

fn has_wkc(header: u8) -> bool {
    Opcode::parse(header).is_ok_and(|(opcode, _)| opcode.has_wkc())
}

impl fmt::Debug for Wrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode {
            Mode::None => "Wrap::None",
            Mode::TlsAuth(_) => "Wrap::TlsAuth([redacted])",
            Mode::TlsCrypt(_) => "Wrap::TlsCrypt([redacted])",
        })
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
    fn new(opened: &Opened<'d>) -> Result<Self, DropReason> {
        let [header, session @ ..] = opened.head;
        let session = SessionId::new(session).ok_or(DropReason::Malformed)?;
        Ok(Self { header, session, body: opened.body })
    }

    /// Makes a CONTROL_WKC_V1 what it is once its key was cut off.
    fn forget_client_key(&mut self) {
        if let Ok((Opcode::ControlWkcV1, key)) = Opcode::parse(self.header) {
            self.header = Opcode::ControlV1.header(key);
        }
    }

    /// Opcode and key-id byte; CONTROL_V1 for a CONTROL_WKC_V1 that a server opened.
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

#[cfg(test)]
mod tests;
