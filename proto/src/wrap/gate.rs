//! Protection of packets from nobody yet: a server opens and answers them without remembering anything
//! (`openvpn: ssl_pkt.c`, `tls_pre_decrypt_lite`).

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use super::replay::{ReplayGuard, ReplayId, SendCounter};
use super::static_key::StaticKey;
use super::tls_auth::TlsAuth;
use super::tls_crypt::TlsCrypt;
use super::tls_crypt_v2::{MetadataTime, split_wkc};
use super::{EARLY_NEG_START, Mode, Verified, Wrap, WrapConfig, has_wkc};
use crate::clock::Instant;
use crate::config::params::ReplayWindow;
use crate::config::server::TlsCryptV2;
use crate::drops::DropReason;
use crate::keys::data_key::TlsRole;
use crate::limits::MAX_CONTROL_DATAGRAM;
use crate::wire::ids::SessionId;

/// Replay id of every stateless answer. The session that follows goes on after it.
const ANSWER_ID: u32 = 1;

/// The protections that a listening socket accepts.
pub(crate) struct Gate {
    /// Protection of clients without a key of their own; `None` if they are refused.
    base: Option<Base>,
    v2: Option<TlsCryptV2>,
    replay: ReplayWindow,
}

struct Base {
    mode: Mode,
    key: Option<Arc<StaticKey>>,
}

/// A packet that passed the protection, with the keys it passed by. Whether it is a replay is unknown.
pub(crate) struct Entrant<'d> {
    verified: Verified<'d>,
    id: Option<ReplayId>,
    mode: Mode,
    base_key: Option<Arc<StaticKey>>,
    metadata: Option<Vec<u8>>,
}

impl Gate {
    /// Accepts `wrap`, and clients with keys of their own if `v2` is there. Without a protection in `wrap` those
    /// are the only ones then.
    pub(crate) fn new(wrap: &WrapConfig, v2: Option<&TlsCryptV2>, replay: ReplayWindow) -> Self {
        let base = match wrap {
            WrapConfig::None if v2.is_some() => None,
            WrapConfig::None => Some(Base { mode: Mode::None, key: None }),
            WrapConfig::TlsAuth { key, direction, digest } => Some(Base {
                mode: Mode::TlsAuth(Arc::new(TlsAuth::new(key, *direction, *digest))),
                key: Some(Arc::clone(key)),
            }),
            WrapConfig::TlsCrypt { key } => Some(Base {
                mode: Mode::TlsCrypt(Arc::new(TlsCrypt::new(key, TlsRole::Server))),
                key: Some(Arc::clone(key)),
            }),
            // A client's key opens nothing at a server.
            WrapConfig::TlsCryptV2 { .. } => None,
        };
        Self { base, v2: v2.cloned(), replay }
    }

    /// Checks and opens a packet in place.
    ///
    /// Fails with `Malformed`, `UnexpectedOpcode` for a packet of a kind that isn't configured,
    /// `WrapAuthentication`, `ClientKey` or `ClientKeyAge`.
    pub(crate) fn open<'d>(&self, unix: Duration, datagram: &'d mut [u8]) -> Result<Entrant<'d>, DropReason> {
        if datagram.len() > MAX_CONTROL_DATAGRAM {
            return Err(DropReason::Malformed);
        }
        let header = *datagram.first().ok_or(DropReason::Malformed)?;
        if has_wkc(header) {
            return self.open_v2(unix, datagram);
        }
        let base = self.base.as_ref().ok_or(DropReason::UnexpectedOpcode)?;
        let opened = base.mode.open(datagram)?;
        Ok(Entrant {
            verified: Verified::new(&opened)?,
            id: opened.id,
            mode: base.mode.clone(),
            base_key: base.key.clone(),
            metadata: None,
        })
    }

    fn open_v2<'d>(&self, unix: Duration, datagram: &'d mut [u8]) -> Result<Entrant<'d>, DropReason> {
        let v2 = self.v2.as_ref().ok_or(DropReason::UnexpectedOpcode)?;
        let (packet, wkc) = split_wkc(datagram)?;
        let unwrapped = v2.key.unwrap(wkc).map_err(|_| DropReason::ClientKey)?;
        if let Some(max_age) = v2.max_age {
            let made = MetadataTime::find(&unwrapped.metadata).ok_or(DropReason::ClientKeyAge)?;
            if made.is_older_than(max_age, unix) {
                return Err(DropReason::ClientKeyAge);
            }
        }
        let mode = Mode::TlsCrypt(Arc::new(TlsCrypt::new(&unwrapped.key, TlsRole::Server)));
        let opened = mode.open(packet)?;
        let mut verified = Verified::new(&opened)?;
        verified.forget_client_key();
        Ok(Entrant {
            verified,
            id: opened.id,
            mode,
            base_key: Some(Arc::new(unwrapped.key)),
            metadata: Some(unwrapped.metadata),
        })
    }

    /// Whether clients are refused that can't send their key twice.
    pub(crate) fn forces_cookie(&self) -> bool {
        self.v2.as_ref().is_some_and(|v2| v2.force_cookie)
    }

    /// The protection of the session that begins with this packet, which counts as seen. `answered` tells whether
    /// a stateless answer went out under the same keys before.
    ///
    /// Fails with `WrapReplay` for a replay id that no sender uses.
    pub(crate) fn admit<'d>(
        &self,
        now: Instant,
        unix_seconds: u32,
        entrant: Entrant<'d>,
        answered: bool,
    ) -> Result<Admitted<'d>, DropReason> {
        let Entrant { verified, id, mode, base_key, metadata } = entrant;
        let mut guard = ReplayGuard::new(self.replay);
        if id.is_some_and(|id| !guard.accept(now, id)) {
            return Err(DropReason::WrapReplay);
        }
        let preset = if answered { ANSWER_ID } else { EARLY_NEG_START };
        let counter = SendCounter::new(unix_seconds, preset);
        let strips_client_key = metadata.is_some();
        let wrap = Wrap { mode, counter, guard, client_key: None, strips_client_key };
        Ok(Admitted { verified, wrap, base_key, metadata })
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate([redacted])")
    }
}

/// What a session starts with.
pub(crate) struct Admitted<'d> {
    /// Its first packet.
    pub(crate) verified: Verified<'d>,
    /// Its protection.
    pub(crate) wrap: Wrap,
    /// The static key, or the client's own.
    pub(crate) base_key: Option<Arc<StaticKey>>,
    /// What tls-crypt-v2 tells about the client's key.
    pub(crate) metadata: Option<Vec<u8>>,
}

impl<'d> Entrant<'d> {
    /// The packet.
    pub(crate) fn verified(&self) -> &Verified<'d> {
        &self.verified
    }

    /// Whether the client has a key of its own.
    pub(crate) fn is_v2(&self) -> bool {
        self.metadata.is_some()
    }

    /// Whether the client promises to send its key twice.
    pub(crate) fn resends_key(&self) -> bool {
        self.is_v2() && self.id.is_some_and(|id| id.id >> 24 == EARLY_NEG_START >> 24)
    }

    /// Appends an answer to this packet, the same as often as it is asked for.
    pub(crate) fn answer(
        &self,
        unix_seconds: u32,
        header: u8,
        session: SessionId,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.mode.seal(ReplayId { time: unix_seconds, id: ANSWER_ID }, header, session, body, out);
    }
}
