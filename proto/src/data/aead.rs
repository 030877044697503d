//! The one file that names the AEAD library. Another provider needs the two functions of [`Aead`].

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

use super::{NONCE_LEN, TAG_LEN};
use crate::config::cipher::DataCipher;

/// A cipher with its key scheduled. The library wipes the schedule on drop.
pub(super) struct Aead(LessSafeKey);

/// The tag doesn't fit, or the input is longer than the cipher can take.
#[derive(Debug)]
pub(super) struct AeadFailed;

impl Aead {
    /// Takes the first `cipher.key_len()` bytes of `material`.
    pub(super) fn new(cipher: DataCipher, material: &[u8]) -> Self {
        let algorithm = match cipher {
            DataCipher::Aes128Gcm => &AES_128_GCM,
            DataCipher::Aes192Gcm => &AES_192_GCM,
            DataCipher::Aes256Gcm => &AES_256_GCM,
            DataCipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, &material[..cipher.key_len()])
            .expect("fails for a wrong key length only, and the length is the algorithm's");
        Self(LessSafeKey::new(key))
    }

    /// Encrypts `data` in place and gives the tag.
    #[inline]
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadFailed> {
        let mut out = [0; TAG_LEN];
        self.0
            .seal_in_place_scatter(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data, &[], &mut out)
            .map_err(|_| AeadFailed)?;
        Ok(out)
    }

    /// Decrypts `data` in place; on failure its content is unspecified.
    #[inline]
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        tag: &[u8],
        data: &mut [u8],
    ) -> Result<(), AeadFailed> {
        self.0
            .open_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), tag, data)
            .map(|_| ())
            .map_err(|_| AeadFailed)
    }
}
