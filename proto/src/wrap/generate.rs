//! Key files, out of random bytes that the caller draws (`--genkey`; `openvpn: crypto.c`, `tls_crypt.c`).

use core::time::Duration;

use zeroize::Zeroizing;

use super::pem::{Label, encode, wrap_lines};
use super::static_key::{KEY_LEN, StaticKey};
use super::tls_crypt_v2::{MetadataTime, SERVER_KEY_LEN, ServerKeyV2};

/// Length of the secret of tokens, of which the HMAC uses a quarter.
pub const TOKEN_SECRET_LEN: usize = 128;

/// A static key for `tls-crypt` or `tls-auth`: hex digits, 16 bytes in a line.
pub fn static_key(random: &[u8; KEY_LEN]) -> Zeroizing<String> {
    let mut digits = Zeroizing::new(String::with_capacity(2 * KEY_LEN));
    for byte in random {
        digits.extend([byte >> 4, byte & 15].map(|half| char::from(b"0123456789abcdef"[usize::from(half)])));
    }
    let section = wrap_lines(Label::StaticKey, &digits, 32);
    let comment = "#\n# 2048 bit OpenVPN static key\n#\n";
    let mut out = Zeroizing::new(String::with_capacity(comment.len() + section.len()));
    out.push_str(comment);
    out.push_str(&section);
    out
}

/// A server's key for `tls-crypt-v2`.
pub fn server_key(random: &[u8; SERVER_KEY_LEN]) -> Zeroizing<String> {
    encode(Label::ServerKeyV2, random)
}

/// A client's key for `tls-crypt-v2`, wrapped for the server with key `server`; `None` if `metadata` is longer than
/// [`MAX_METADATA`](super::tls_crypt_v2::MAX_METADATA). [`made_at`] makes metadata as OpenVPN does without any given.
pub fn client_key(
    server: &ServerKeyV2,
    random: &[u8; KEY_LEN],
    metadata: &[u8],
) -> Option<Zeroizing<String>> {
    let key = StaticKey::from_slice(random);
    let wrapped = server.wrap(&key, metadata)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_LEN + wrapped.len()));
    bytes.extend_from_slice(random);
    bytes.extend_from_slice(&wrapped);
    Some(encode(Label::ClientKeyV2, &bytes))
}

/// Metadata that tell when a key was made, as time since 1970.
pub fn made_at(unix: Duration) -> [u8; 9] {
    MetadataTime::to_metadata(unix)
}

/// Metadata of the user's own: at most 733 bytes of `data`.
pub fn user_metadata(data: &[u8]) -> Vec<u8> {
    [&[0], data].concat()
}

/// A secret for `auth-gen-token-secret`.
pub fn token_secret(random: &[u8; TOKEN_SECRET_LEN]) -> Zeroizing<String> {
    encode(Label::TokenSecret, random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::token::secret_from_pem;
    use crate::wrap::tls_crypt_v2::{ClientKeyV2, MAX_METADATA};

    fn counting<const N: usize>() -> [u8; N] {
        core::array::from_fn(|i| i as u8)
    }

    #[test]
    fn files_are_read_back() {
        let text = static_key(&counting());
        assert_eq!(StaticKey::from_text(&text).unwrap().expose(), &counting());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[4]), (3 + 1 + 16 + 1, "000102030405060708090a0b0c0d0e0f"));

        let server = ServerKeyV2::from_pem(&server_key(&counting())).unwrap();
        let dated = made_at(Duration::from_secs(0x6600_0000));
        assert_eq!(dated, [1, 0, 0, 0, 0, 0x66, 0, 0, 0]);
        for metadata in [&dated[..], &user_metadata(b"hello"), &user_metadata(&[7; MAX_METADATA - 1])] {
            let client = ClientKeyV2::from_pem(&client_key(&server, &counting(), metadata).unwrap()).unwrap();
            let unwrapped = server.unwrap(client.wrapped()).unwrap();
            assert_eq!((unwrapped.key.expose(), &*unwrapped.metadata), (client.key().expose(), metadata));
        }
        assert!(client_key(&server, &counting(), &user_metadata(&[7; MAX_METADATA])).is_none());

        let secret = secret_from_pem(&token_secret(&counting())).unwrap();
        assert_eq!(secret[..3], [64, 65, 66]);
    }

    #[test]
    fn lines_are_as_long_as_openvpn_writes_them() {
        for text in [server_key(&counting()), token_secret(&counting())] {
            let lengths: Vec<usize> = text.lines().skip(1).map(str::len).collect();
            assert_eq!(lengths[..3], [64, 64, 44], "{text:?}", text = &text[..27]);
            assert!(text.ends_with("-----\n"));
        }
    }
}
