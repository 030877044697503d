//! Text of key files: static keys, tls-crypt-v2 keys of clients and servers.

use core::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wrap::static_key::{KeyFileError, StaticKey};
use crate::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2};

/// `data` is the file.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let crlf = text.replace('\n', "\r\n");

    let key = StaticKey::from_text(&text);
    match (&key, StaticKey::from_text(&crlf)) {
        (Ok(key), Ok(other)) => assert_eq!(key.expose(), other.expose()),
        (key, other) => assert_eq!(key.is_ok(), other.is_ok(), "line ends change the meaning"),
    }
    match key {
        Ok(key) => {
            let again = StaticKey::from_text(&static_key_file(&key)).expect("a key file we wrote");
            assert_eq!(again.expose(), key.expose());
        }
        Err(error) => check(&error),
    }

    match ClientKeyV2::from_pem(&text) {
        Ok(key) => {
            let body = [key.key().expose(), key.wrapped()].concat();
            let file = pem("OpenVPN tls-crypt-v2 client key", &body);
            let again = ClientKeyV2::from_pem(&file).expect("a key file we wrote");
            assert_eq!((again.key().expose(), again.wrapped()), (key.key().expose(), key.wrapped()));
        }
        Err(error) => check(&error),
    }

    if let Err(error) = ServerKeyV2::from_pem(&text) {
        check(&error);
    }
}

/// An error is one short line that can be shown in a terminal and doesn't repeat the file.
fn check(KeyFileError(text): &KeyFileError) {
    assert!(text.contains(" makes one"), "no cure: {text}");
    assert!(text.len() < 1000, "{} bytes of error", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

fn static_key_file(key: &StaticKey) -> String {
    let mut text = String::from("-----BEGIN OpenVPN Static key V1-----\n");
    for line in key.expose().chunks(16) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a String takes everything"));
        text.push('\n');
    }
    text + "-----END OpenVPN Static key V1-----\n"
}

fn pem(label: &str, body: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(body))
}
