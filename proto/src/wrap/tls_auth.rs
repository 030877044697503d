//! tls-auth: an HMAC over packets that stay readable (`openvpn: ssl_pkt.c`, `swap_hmac`).
//!
//! Wire: `header[1] session[8] hmac[n] id[4] time[4] body`; the HMAC covers
//! `id time header session body`.

use super::hmac::KeyedHmac;
use super::replay::{REPLAY_ID_LEN, ReplayId};
use super::static_key::{HmacDigest, KeyDirection, StaticKey};
use super::{HEAD, Opened};
use crate::drops::DropReason;

/// Keyed HMACs of both directions.
#[derive(Debug)]
pub(super) struct TlsAuth {
    send: KeyedHmac,
    recv: KeyedHmac,
    digest: HmacDigest,
}

impl TlsAuth {
    pub(super) fn new(key: &StaticKey, direction: KeyDirection, digest: HmacDigest) -> Self {
        let (send, recv) = match direction {
            KeyDirection::Bidirectional => (0, 0),
            KeyDirection::Normal => (0, 1),
            KeyDirection::Inverse => (1, 0),
        };
        let hmac = |slot| KeyedHmac::new(digest, key.hmac_slot(slot));
        Self { send: hmac(send), recv: hmac(recv), digest }
    }

    pub(super) const fn overhead(&self) -> usize {
        self.digest.output_len() + REPLAY_ID_LEN
    }

    pub(super) fn seal(&self, id: ReplayId, head: &[u8; HEAD], body: &[u8], out: &mut Vec<u8>) {
        let id = id.to_bytes();
        let tag = self.send.tag(&[&id, head, body]);
        out.extend_from_slice(head);
        out.extend_from_slice(tag.as_bytes());
        out.extend_from_slice(&id);
        out.extend_from_slice(body);
    }

    pub(super) fn open<'d>(&self, datagram: &'d [u8]) -> Result<Opened<'d>, DropReason> {
        let (head, rest) = datagram.split_first_chunk::<HEAD>().ok_or(DropReason::Malformed)?;
        let (tag, rest) = rest.split_at_checked(self.digest.output_len()).ok_or(DropReason::Malformed)?;
        let (id, body) = rest.split_first_chunk::<REPLAY_ID_LEN>().ok_or(DropReason::Malformed)?;
        if !self.recv.tag(&[id, head, body]).matches(tag) {
            return Err(DropReason::WrapAuthentication);
        }
        Ok(Opened { head: *head, id: Some(ReplayId::from_bytes(*id)), body })
    }
}
