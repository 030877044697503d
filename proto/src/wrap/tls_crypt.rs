//! tls-crypt: control packets encrypted and authenticated (`openvpn: tls_crypt.c`).
//!
//! Wire: `header[1] session[8] id[4] time[4] tag[32] ciphertext`, with
//! `tag = HMAC-SHA256(header session id time plaintext)` and AES-256-CTR from the tag's first half.

use core::fmt;

use aes::Aes256;
use ctr::CtrCore;
use ctr::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::flavors::Ctr128BE;

use super::hmac::{KeyedHmac, Tag};
use super::replay::{REPLAY_ID_LEN, ReplayId};
use super::static_key::{HmacDigest, StaticKey};
use super::{HEAD, Opened};
use crate::drops::DropReason;
use crate::keys::data_key::TlsRole;

/// Length of the tag.
pub(super) const TAG: usize = 32;

/// Authenticated header: head and replay id.
const AD: usize = HEAD + REPLAY_ID_LEN;

/// A block of padding that is allowed for but never used, so that packets are as large as those of a
/// stock peer with the same `max-packet-size` (`openvpn: tls_crypt.c`, `tls_crypt_buf_overhead`).
const BLOCK_ALLOWANCE: usize = 16;

/// One direction: expanded AES key and keyed HMAC. Also wraps client keys of tls-crypt-v2.
pub(super) struct CryptKey {
    cipher: Aes256,
    hmac: KeyedHmac,
}

impl CryptKey {
    /// From the cipher and the HMAC slot; 32 bytes of each are used.
    pub(super) fn new(cipher: &[u8; 64], hmac: &[u8; 64]) -> Self {
        Self {
            cipher: Aes256::new_from_slice(&cipher[..32]).expect("32 bytes are an AES-256 key"),
            hmac: KeyedHmac::new(HmacDigest::Sha256, hmac),
        }
    }

    /// Tag over all `parts`.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> Tag {
        self.hmac.tag(parts)
    }

    /// Encrypts or decrypts in place; `tag` gives the initial counter block.
    pub(super) fn apply(&self, tag: &[u8], text: &mut [u8]) {
        let core = CtrCore::<_, Ctr128BE>::inner_iv_slice_init(&self.cipher, &tag[..16]);
        StreamCipherCoreWrapper::from_core(core.expect("16 bytes are an AES block")).apply_keystream(text);
    }
}

impl fmt::Debug for CryptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CryptKey([redacted])")
    }
}

/// Keys of both directions.
#[derive(Debug)]
pub(super) struct TlsCrypt {
    send: CryptKey,
    recv: CryptKey,
}

impl TlsCrypt {
    /// The server sends with slot 0: the other way round than on the data channel.
    pub(super) fn new(key: &StaticKey, role: TlsRole) -> Self {
        let slot = |n| CryptKey::new(key.cipher_slot(n), key.hmac_slot(n));
        match role {
            TlsRole::Server => Self { send: slot(0), recv: slot(1) },
            TlsRole::Client => Self { send: slot(1), recv: slot(0) },
        }
    }

    pub(super) const fn overhead(&self) -> usize {
        REPLAY_ID_LEN + TAG + BLOCK_ALLOWANCE
    }

    pub(super) fn seal(&self, id: ReplayId, head: &[u8; HEAD], body: &[u8], out: &mut Vec<u8>) {
        let id = id.to_bytes();
        let tag = self.send.tag(&[head, &id, body]);
        out.extend_from_slice(head);
        out.extend_from_slice(&id);
        out.extend_from_slice(tag.as_bytes());
        let start = out.len();
        out.extend_from_slice(body);
        self.send.apply(tag.as_bytes(), &mut out[start..]);
    }

    pub(super) fn open<'d>(&self, datagram: &'d mut [u8]) -> Result<Opened<'d>, DropReason> {
        let (ad, rest) = datagram.split_first_chunk_mut::<AD>().ok_or(DropReason::Malformed)?;
        let (tag, body) = rest.split_first_chunk_mut::<TAG>().ok_or(DropReason::Malformed)?;
        self.recv.apply(tag, body);
        if !self.recv.tag(&[ad, body]).matches(tag) {
            return Err(DropReason::WrapAuthentication);
        }
        let (head, id) = ad.split_first_chunk::<HEAD>().ok_or(DropReason::Malformed)?;
        let id = id.first_chunk().ok_or(DropReason::Malformed)?;
        Ok(Opened { head: *head, id: Some(ReplayId::from_bytes(*id)), body })
    }
}
