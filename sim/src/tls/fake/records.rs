//! Records of the fake TLS: TLS 1.3's framing, with keys that need no public-key work.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;

use crate::tls::certs::sure;

pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

/// Type, version and length.
pub(super) const HEADER: usize = 5;

const TAG: usize = 16;

/// Longest body: what TLS 1.3 allows.
pub(super) const MAX_BODY: usize = 16384 + 256;

/// Appends a record that nothing protects.
pub(super) fn plain(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&header(kind, body.len()));
    out.extend_from_slice(body);
}

fn header(kind: u8, len: usize) -> [u8; HEADER] {
    let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    [kind, 3, 3, high, low]
}

/// Length of the body by a header, or `None` if there is no record of this kind here.
pub(super) fn body_len(header: &[u8; HEADER]) -> Option<usize> {
    match *header {
        [ALERT..=DATA, 3, 3, high, low] => Some(usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
    .filter(|len| (1..=MAX_BODY).contains(len))
}

/// A key with derivations of it.
pub(super) struct Secret(hmac::Key);

impl Secret {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// 32 bytes for `label` and `context`.
    pub(super) fn derive(&self, label: &str, context: &[u8]) -> [u8; 32] {
        let mut mac = hmac::Context::with_key(&self.0);
        mac.update(&[u8::try_from(label.len()).unwrap_or(u8::MAX)]);
        mac.update(label.as_bytes());
        mac.update(context);
        let mut out = [0; 32];
        out.copy_from_slice(mac.sign().as_ref());
        out
    }

    /// The secret for `label` and `context`.
    pub(super) fn child(&self, label: &str, context: &[u8]) -> Self {
        Self::new(&self.derive(label, context))
    }
}

/// Protected records of one direction.
pub(super) struct Lane {
    key: LessSafeKey,
    /// Of the next record.
    number: u64,
}

impl Lane {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        let key = sure("record key", UnboundKey::new(&CHACHA20_POLY1305, &secret));
        Self { key: LessSafeKey::new(key), number: 0 }
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Appends one record.
    pub(super) fn seal(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>) {
        let header = header(DATA, body.len() + 1 + TAG);
        out.extend_from_slice(&header);
        let start = out.len();
        out.extend_from_slice(body);
        out.push(kind);
        let nonce = self.next_nonce();
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[start..]);
        out.extend_from_slice(sure("a record", sealed).as_ref());
    }

    /// Opens a record with its header in place: its kind and body; `None` if it is not the next one.
    pub(super) fn open<'a>(&mut self, record: &'a mut [u8]) -> Option<(u8, &'a [u8])> {
        let (header, body) = record.split_first_chunk_mut::<HEADER>()?;
        if header[0] != DATA {
            return None;
        }
        let nonce = self.next_nonce();
        let body = self.key.open_in_place(nonce, Aad::from(*header), body).ok()?;
        body.split_last().map(|(kind, body)| (*kind, body))
    }
}
