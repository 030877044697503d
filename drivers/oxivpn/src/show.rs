//! `--show-ciphers` and the like: what there is, in the shape that programs pick apart.
//!
//! pfSense, OPNsense and NetworkManager take the first word of lines such as `AES-256-GCM  (256 bit key, ...)` and
//! `SHA256 256 bit digest size` (`openvpn: crypto.c`, `show_available_ciphers`, `show_available_digests`;
//! `ssl_openssl.c`, `show_available_tls_ciphers_list`, `show_available_curves`).

use oxivpn_profile::Show;
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::wrap::static_key::HmacDigest;
use rustls::crypto::aws_lc_rs;

/// What a list says.
pub fn text(show: Show) -> String {
    match show {
        Show::Ciphers => ciphers(),
        Show::Digests => digests(),
        Show::Tls => tls(),
        Show::Groups => groups(),
    }
}

fn ciphers() -> String {
    let mut out = String::from(
        "The following ciphers are available for use with oxivpn. Each cipher shown\n\
         below may be used as a parameter to the --data-ciphers (or --cipher) option.\n\
         Ciphers without authentication, such as those in CBC mode, are not among them.\n\n",
    );
    for cipher in DataCipher::ALL {
        let block = match cipher {
            DataCipher::ChaCha20Poly1305 => "stream cipher",
            _ => "128 bit block",
        };
        let bits = 8 * cipher.key_len();
        out += &format!("{cipher}  ({bits} bit key, {block}, TLS client/server mode only)\n");
    }
    out.push('\n');
    out
}

fn digests() -> String {
    let mut out = String::from(
        "The following message digests are available for use with oxivpn. A message\n\
         digest is used with the HMAC function, to authenticate control packets under\n\
         --tls-auth; packets of data need none beside their cipher. You can specify a\n\
         message digest as parameter to the --auth option.\n\n",
    );
    for digest in HmacDigest::ALL {
        out += &format!("{} {} bit digest size\n", digest.name(), 8 * digest.output_len());
    }
    out.push('\n');
    out
}

fn tls() -> String {
    let suites = aws_lc_rs::default_provider().cipher_suites;
    let mut out = String::from(
        "Available TLS Ciphers, listed in order of preference:\n\n\
         For TLS 1.3 and newer (--tls-ciphersuites):\n\n",
    );
    for suite in suites.iter().filter(|suite| suite.tls13().is_some()) {
        out += &format!("{:?}\n", suite.suite()).replacen("TLS13_", "TLS_", 1);
    }
    out += "\nFor TLS 1.2 (--tls-cipher):\n\n";
    for suite in suites.iter().filter(|suite| suite.tls13().is_none()) {
        out += &format!("{:?}\n", suite.suite()).replace('_', "-");
    }
    out += "\nWhether a suite can be used also depends on the certificate: an ECDSA suite\n\
            needs a certificate with an elliptic curve key, an RSA suite one with an RSA key.\n\n";
    out
}

fn groups() -> String {
    let mut out = String::from("Available Elliptic curves/groups:\n");
    for group in aws_lc_rs::default_provider().kx_groups {
        // By OpenSSL's name, where it differs.
        let name = match group.name() {
            rustls::NamedGroup::secp256r1 => "prime256v1".into(),
            other => format!("{other:?}"),
        };
        out += &format!("{name}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::sync::Arc;

    use oxivpn_proto::tls::rustls::{ClientCertMode, RustlsFactory, TlsOptions, TlsVersion};
    use oxivpn_proto::tls::verify::PeerRules;

    use super::*;

    /// The words of lines whose rest fits, as other programs pick them.
    fn names(text: &str, rest: &str) -> Vec<String> {
        text.lines()
            .filter(|line| line.contains(rest))
            .filter_map(|line| line.split_whitespace().next())
            .map(Into::into)
            .collect()
    }

    #[test]
    fn ciphers_and_digests_are_known_by_their_names() {
        let found = names(&text(Show::Ciphers), " bit key, ");
        assert_eq!(found.len(), DataCipher::ALL.len());
        for name in found {
            assert!(DataCipher::from_name(&name).is_some(), "{name}");
        }
        let ciphers = text(Show::Ciphers);
        assert!(ciphers.contains("AES-256-GCM  (256 bit key, 128 bit block, TLS client/server mode only)\n"));
        assert!(ciphers.contains("POLY1305  (256 bit key, stream cipher, TLS client/server mode only)\n"));
        let digests = text(Show::Digests);
        let found = names(&digests, " bit digest size");
        assert_eq!(found.len(), HmacDigest::ALL.len());
        assert!(found.iter().all(|name| HmacDigest::from_name(name).is_some()), "{found:?}");
        assert!(digests.contains("\nSHA256 256 bit digest size\n"), "{digests}");
    }

    /// Each name is taken by the option it is for, without a complaint.
    #[test]
    fn suites_and_groups_can_be_asked_for() {
        let suites = text(Show::Tls);
        let listed = |prefix: &str| -> Vec<String> {
            suites.lines().filter(|line| line.starts_with(prefix)).map(Into::into).collect()
        };
        let groups: Vec<String> = text(Show::Groups).lines().skip(1).map(Into::into).collect();
        let (suites13, suites12) = (listed("TLS_"), listed("TLS-"));
        assert_eq!((suites13.len(), suites12.len()), (3, 6), "{suites}");
        assert!(groups.len() >= 3, "{groups:?}");
        let ca = rcgen::generate_simple_self_signed(["ca".to_string()]).unwrap().cert.der().to_vec();
        for (suites13, suites12, groups) in suites13
            .into_iter()
            .map(|name| (vec![name], vec![], vec![]))
            .chain(suites12.into_iter().map(|name| (vec![], vec![name], vec![])))
            .chain(groups.into_iter().map(|name| (vec![], vec![], vec![name])))
        {
            let asked = format!("{suites13:?} {suites12:?} {groups:?}");
            let options = TlsOptions {
                ca: vec![ca.clone()],
                certs: Vec::new(),
                key: None,
                rules: PeerRules::default(),
                min_version: TlsVersion::V12,
                max_version: TlsVersion::V13,
                suites12,
                suites13,
                groups,
                client_cert: ClientCertMode::Require,
            };
            let factory = RustlsFactory::new(options, Arc::new(aws_lc_rs::default_provider())).expect(&asked);
            assert_eq!(factory.notes(Duration::from_secs(1_700_000_000)), [""; 0], "{asked}");
        }
    }
}
