//! Keyed HMACs: the key is absorbed once, each packet works on a copy of that state.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::static_key::HmacDigest;

/// Longest output, that of SHA512.
const MAX_OUTPUT: usize = 64;

#[derive(Clone)]
enum State {
    Sha1(Hmac<Sha1>),
    Sha224(Hmac<Sha224>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

/// An HMAC with its key.
pub(super) struct KeyedHmac {
    state: State,
}

/// Output of an HMAC.
pub(super) struct Tag {
    bytes: Zeroizing<[u8; MAX_OUTPUT]>,
    len: usize,
}

impl KeyedHmac {
    /// Takes as many bytes of `key` as the digest has output.
    pub(super) fn new(digest: HmacDigest, key: &[u8; MAX_OUTPUT]) -> Self {
        let key = &key[..digest.output_len()];
        const ANY: &str = "HMAC takes keys of any length";
        let state = match digest {
            HmacDigest::Sha1 => State::Sha1(Hmac::new_from_slice(key).expect(ANY)),
            HmacDigest::Sha224 => State::Sha224(Hmac::new_from_slice(key).expect(ANY)),
            HmacDigest::Sha256 => State::Sha256(Hmac::new_from_slice(key).expect(ANY)),
            HmacDigest::Sha384 => State::Sha384(Hmac::new_from_slice(key).expect(ANY)),
            HmacDigest::Sha512 => State::Sha512(Hmac::new_from_slice(key).expect(ANY)),
        };
        Self { state }
    }

    /// The HMAC of all `parts`, one after the other.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> Tag {
        fn run<M: Mac + Clone>(keyed: &M, parts: &[&[u8]]) -> Tag {
            let mut mac = keyed.clone();
            parts.iter().for_each(|part| mac.update(part));
            let output = mac.finalize().into_bytes();
            let mut tag = Tag { bytes: Zeroizing::new([0; MAX_OUTPUT]), len: output.len() };
            tag.bytes[..output.len()].copy_from_slice(&output);
            tag
        }
        match &self.state {
            State::Sha1(m) => run(m, parts),
            State::Sha224(m) => run(m, parts),
            State::Sha256(m) => run(m, parts),
            State::Sha384(m) => run(m, parts),
            State::Sha512(m) => run(m, parts),
        }
    }
}

impl fmt::Debug for KeyedHmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHmac([redacted])")
    }
}

impl Tag {
    /// The output.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Compares in constant time.
    pub(super) fn matches(&self, received: &[u8]) -> bool {
        self.as_bytes().ct_eq(received).into()
    }
}
