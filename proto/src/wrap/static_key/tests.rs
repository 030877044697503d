use super::*;

fn file(hex: &str) -> String {
    format!(
        "#\n# 2048 bit OpenVPN static key\n#\n-----BEGIN OpenVPN Static key V1-----\n{hex}\n\
         -----END OpenVPN Static key V1-----\n"
    )
}

fn hex_lines(bytes: usize) -> String {
    let all: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
    all.chunks(16).map(hex::encode).collect::<Vec<_>>().join("\n")
}

fn error(text: &str) -> String {
    StaticKey::from_text(text).unwrap_err().to_string()
}

#[test]
fn reads_generated_files_in_any_line_format() {
    let plain = file(&hex_lines(256));
    let expected: [u8; 256] = core::array::from_fn(|i| i as u8);
    let variants = [
        plain.clone(),
        plain.replace('\n', "\r\n"),
        file(&hex_lines(256).to_uppercase()),
        file(&hex_lines(256).replace('\n', " ")),
        file(&hex_lines(256).replace("0f", "0 \t\n f")),
        format!("comment\n{plain}trailing text"),
        format!("\u{feff}{}", &plain[plain.find("-----BEGIN").unwrap()..]),
        file(&format!("{}\nabc", hex_lines(256))),
    ];
    for text in variants {
        assert_eq!(StaticKey::from_text(&text).unwrap().expose(), &expected, "{text}");
    }
}

#[test]
fn errors_name_what_is_there_where_and_the_cure() {
    let good = file(&hex_lines(256));
    let cases = [
        (String::new(), "the file is empty"),
        (hex_lines(256), "there are hex digits, but the line `-----BEGIN OpenVPN Static key V1-----`"),
        ("hello".to_owned(), "the line `-----BEGIN OpenVPN Static key V1-----` is missing"),
        (
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
            "line 1 begins `CERTIFICATE` (a certificate, for the options ca and cert)",
        ),
        ("\n-----BEGIN RSA PRIVATE KEY-----\n".to_owned(), "line 2 begins `RSA PRIVATE KEY` (a private key"),
        (
            "-----BEGIN OpenVPN tls-crypt-v2 client key-----\n".to_owned(),
            "(a client key, for the option tls-crypt-v2)",
        ),
        (good.replace("-----END", "----END"), "line 21 should read `-----END OpenVPN Static key V1-----`"),
        (good[..good.len() - 40].to_owned(), "cut off"),
        (good.replacen("2021", "202", 1), "511 hex digits, an odd number; line 7 lacks one"),
        (good.replacen("2021", "20zz", 1), "line 7 has 'z' among the hex digits"),
        (file(&hex_lines(255)), "there are 255 bytes of key, but 256 are needed"),
        (file(&hex_lines(128)), "1024-bit key"),
        (file(""), "there are 0 bytes of key"),
    ];
    for (text, expected) in cases {
        let got = error(&text);
        assert!(got.contains(expected), "{got:?} lacks {expected:?}");
        assert!(got.contains("openvpn --genkey secret FILE"), "{got:?} lacks the cure");
    }
}

#[test]
fn errors_do_not_repeat_foreign_text_raw() {
    let got = error("-----BEGIN \u{1b}[31mX\u{7}-----\n");
    assert!(got.chars().all(|c| !c.is_control()), "{got:?}");
    assert!(error(&format!("-----BEGIN {}-----\n", "A".repeat(10_000))).len() < 500);
}

#[test]
fn slots_lie_where_the_layout_says() {
    let key = StaticKey::new(Zeroizing::new(core::array::from_fn(|i| i as u8)));
    assert_eq!(key.cipher_slot(0)[0], 0);
    assert_eq!(key.hmac_slot(0)[0], 64);
    assert_eq!(key.cipher_slot(1)[0], 128);
    assert_eq!(key.hmac_slot(1)[0], 192);
}

#[test]
fn digest_names() {
    use HmacDigest::*;
    for digest in [Sha1, Sha224, Sha256, Sha384, Sha512] {
        assert_eq!(HmacDigest::from_name(digest.name()), Some(digest));
        assert_eq!(HmacDigest::from_name(&digest.name().to_lowercase()), Some(digest));
    }
    for name in ["sha-256", "SHA2-256", "Sha256", "RSA-SHA256", "rsa-sha2-256"] {
        assert_eq!(HmacDigest::from_name(name), Some(Sha256), "{name}");
    }
    for name in ["", "none", "MD5", "SHA", "SHA512-256", "SHA3-256", "SHA2560", "BLAKE2b512"] {
        assert_eq!(HmacDigest::from_name(name), None, "{name}");
    }
}

/// What dynamic tls-crypt does with the static key (`openvpn: tls_crypt.c`, `xor_key2`).
#[test]
fn keys_combine_by_exclusive_or() {
    let key = StaticKey::from_slice(&core::array::from_fn(|i| i as u8));
    let other = core::array::from_fn(|i| (i as u8).wrapping_mul(7));
    let both = key.xor(&other);
    assert!((0..KEY_LEN).all(|i| both.expose()[i] == key.expose()[i] ^ other[i]));
    assert_eq!(both.xor(&other).expose(), key.expose());
}

/// Only an odd number of digits in all shows that one is missing.
#[test]
fn two_short_lines_are_too_few_bytes() {
    let odd = "0".repeat(31);
    assert!(error(&file(&odd)).contains("line 5 lacks one"), "{}", error(&file(&odd)));
    let both = error(&file(&format!("{odd}\n{odd}")));
    assert!(both.contains("there are 31 bytes of key"), "{both}");
}
