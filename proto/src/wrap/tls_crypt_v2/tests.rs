use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn server_key() -> ServerKeyV2 {
    ServerKeyV2::new(&core::array::from_fn(|i| i as u8))
}

fn client_key() -> StaticKey {
    StaticKey::from_slice(&core::array::from_fn(|i| 255 - i as u8))
}

fn pem(label: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|c| core::str::from_utf8(c).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn client_file(wkc: &[u8]) -> String {
    let mut bytes = client_key().expose().to_vec();
    bytes.extend_from_slice(wkc);
    pem("OpenVPN tls-crypt-v2 client key", &bytes)
}

#[test]
fn client_and_server_files_fit_together() {
    let server = pem("OpenVPN tls-crypt-v2 server key", &core::array::from_fn::<u8, 128, _>(|i| i as u8));
    let server = ServerKeyV2::from_pem(&server).unwrap();
    for len in [0, 1, 9, MAX_METADATA] {
        let metadata = vec![7; len];
        let wkc = server.wrap(&client_key(), &metadata).unwrap();
        let client = ClientKeyV2::from_pem(&client_file(&wkc).replace('\n', "\r\n")).unwrap();
        assert_eq!(client.wrapped(), wkc);
        let got = server.unwrap(client.wrapped()).unwrap();
        assert_eq!(got.key.expose(), client.key().expose());
        assert_eq!(got.metadata, metadata);
    }
    assert_eq!(server.wrap(&client_key(), &[0; MAX_METADATA + 1]), None);
}

#[test]
fn another_server_key_does_not_unwrap() {
    let wkc = server_key().wrap(&client_key(), b"").unwrap();
    let other = ServerKeyV2::new(&[9; 128]);
    assert_eq!(other.unwrap(&wkc).map(|_| ()), Err(DropReason::WrapAuthentication));
}

#[test]
fn illegal_lengths_are_malformed() {
    let wkc = server_key().wrap(&client_key(), b"").unwrap();
    for len in [0u16, 1, 289, 291, 1024, 1025, 65535] {
        let mut bent = wkc.clone();
        bent[288..].copy_from_slice(&len.to_be_bytes());
        assert_eq!(server_key().unwrap(&bent).map(|_| ()), Err(DropReason::Malformed), "{len}");
        assert_eq!(split_wkc(&mut bent).map(|_| ()), Err(DropReason::Malformed), "{len}");
    }
    assert_eq!(split_wkc(&mut []).map(|_| ()), Err(DropReason::Malformed));
    let mut long = [vec![1, 2, 3], wkc.clone()].concat();
    let (packet, tail) = split_wkc(&mut long).unwrap();
    assert_eq!((&*packet, tail), (&[1, 2, 3][..], &wkc[..]));
}

#[test]
fn file_errors_name_what_is_there() {
    let wkc = server_key().wrap(&client_key(), b"").unwrap();
    let good = client_file(&wkc);
    let mut shorter = wkc;
    shorter.remove(40);
    let cases = [
        (
            pem("OpenVPN Static key V1", &[0; 9]),
            "`OpenVPN Static key V1` (a static key, for the options tls-crypt",
        ),
        (pem("OpenVPN tls-crypt-v2 server key", &[0; 128]), "(a server key"),
        (pem("OpenVPN tls-crypt-v2 client key", &[0; 100]), "there are 100 bytes"),
        (client_file(&shorter), "the wrapped key has 289 bytes"),
        (client_file(&[]), "the wrapped key has 0 bytes"),
        (good.replacen('\n', "\n!", 1), "line 2 is no base64"),
        (good.replacen('\n', "\nA", 1), "cut off or has something inserted"),
    ];
    for (text, expected) in cases {
        let got = ClientKeyV2::from_pem(&text).unwrap_err().to_string();
        assert!(got.contains(expected), "{got:?} lacks {expected:?}");
        assert!(got.contains("genkey tls-crypt-v2-client"), "{got:?}");
    }
    let got = ServerKeyV2::from_pem(&pem("OpenVPN tls-crypt-v2 server key", &[0; 127])).unwrap_err();
    assert!(got.to_string().contains("there are 127 bytes, not 128"), "{got}");
}
