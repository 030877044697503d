//! Facts of one certificate, in OpenVPN's and OpenSSL's words.

use sha2::{Digest, Sha256};
use x509_parser::asn1_rs::{Any, Oid, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::num_bigint::{BigInt, BigUint};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name, X509Version};

/// Shortest RSA key that is trusted, in bits.
pub(crate) const MIN_RSA_BITS: usize = 2048;

/// Longest RSA key that the TLS library takes, in bits.
const MAX_RSA_BITS: usize = 8192;

/// Longest common name in bytes (`openvpn: ssl_common.h`, `TLS_USERNAME_LEN`).
const MAX_COMMON_NAME: usize = 64;

/// A parsed certificate beside its DER form.
pub(crate) struct Cert<'a> {
    pub(crate) der: &'a [u8],
    x509: X509Certificate<'a>,
}

/// Kind and size of a public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// RSA with this many bits.
    Rsa(usize),
    /// A curve that the TLS library can use, by OpenSSL's name, with its bits.
    Ec(&'static str, usize),
    /// Ed25519.
    Ed25519,
    /// Anything else, by name or dotted OID.
    Other(String),
}

impl<'a> Cert<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, String> {
        match X509Certificate::from_der(der) {
            Ok((&[], x509)) => Ok(Self { der, x509 }),
            Ok(_) => Err("bytes after its end".into()),
            Err(e) => Err(format!("not a DER certificate ({e})")),
        }
    }

    /// Subject in OpenVPN's format (`openvpn: ssl_verify_openssl.c`, `x509_get_subject`).
    pub(crate) fn subject(&self) -> String {
        name_text(self.x509.subject())
    }

    pub(crate) fn issuer(&self) -> String {
        name_text(self.x509.issuer())
    }

    pub(crate) fn issued_by(&self, issuer: &Cert<'_>) -> bool {
        self.x509.issuer().as_raw() == issuer.x509.subject().as_raw()
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.issued_by(self)
    }

    /// The last common name, if it is not longer than OpenVPN takes
    /// (`openvpn: ssl_verify_openssl.c`, `extract_x509_field_ssl`).
    pub(crate) fn common_name(&self) -> Option<String> {
        let last = self.x509.subject().iter_common_name().last()?;
        let text = value_text(last.attr_value());
        (text.len() <= MAX_COMMON_NAME).then(|| printable(&text))
    }

    /// Serial number in decimal.
    pub(crate) fn serial(&self) -> String {
        BigInt::from_signed_bytes_be(self.x509.raw_serial()).to_string()
    }

    /// Absolute value of the serial number, most significant byte first.
    pub(crate) fn serial_bytes(&self) -> Vec<u8> {
        BigInt::from_signed_bytes_be(self.x509.raw_serial()).to_bytes_be().1
    }

    /// Parts of the subject whose kind has a short name, in order
    /// (`openvpn: ssl_verify_openssl.c`, `x509_setenv`).
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let parts = self.x509.subject().iter_attributes().filter_map(|part| {
            let oid = part.attr_type().to_id_string();
            let (_, name) = ATTRIBUTES.iter().find(|(id, _)| *id == oid)?;
            Some((*name, value_text(part.attr_value())))
        });
        parts.collect()
    }

    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.der).into()
    }

    pub(crate) fn not_before(&self) -> i64 {
        self.x509.validity().not_before.timestamp()
    }

    pub(crate) fn not_after(&self) -> i64 {
        self.x509.validity().not_after.timestamp()
    }

    pub(crate) fn is_v1(&self) -> bool {
        self.x509.version() == X509Version::V1
    }

    /// DER of the SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> &[u8] {
        self.x509.public_key().raw
    }

    /// The bits of the public key without algorithm.
    pub(crate) fn key_bits(&self) -> &[u8] {
        &self.x509.public_key().subject_public_key.data
    }

    pub(crate) fn key(&self) -> Key {
        let spki = self.x509.public_key();
        let algorithm = spki.algorithm.algorithm.to_id_string();
        match (algorithm.as_str(), spki.parsed()) {
            ("1.2.840.113549.1.1.1", Ok(PublicKey::RSA(rsa))) => Key::Rsa(bits(rsa.modulus)),
            ("1.2.840.10045.2.1", _) => {
                let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
                match curve.map(|oid| oid.to_id_string()).as_deref() {
                    Some("1.2.840.10045.3.1.7") => Key::Ec("prime256v1", 256),
                    Some("1.3.132.0.34") => Key::Ec("secp384r1", 384),
                    Some("1.3.132.0.35") => Key::Ec("secp521r1", 521),
                    Some("1.3.132.0.10") => Key::Other("EC on curve secp256k1".into()),
                    Some(other) => Key::Other(format!("EC on curve {other}")),
                    None => Key::Other("EC with explicit parameters".into()),
                }
            }
            ("1.3.101.112", _) => Key::Ed25519,
            ("1.3.101.113", _) => Key::Other("Ed448".into()),
            ("1.2.840.113549.1.1.10", _) => Key::Other("RSA-PSS".into()),
            ("1.2.840.10040.4.1", _) => Key::Other("DSA".into()),
            (other, _) => Key::Other(other.into()),
        }
    }

    /// Short name of the signature algorithm as OpenSSL has it, or the dotted OID.
    pub(crate) fn signature_name(&self) -> String {
        let oid = self.x509.signature_algorithm.algorithm.to_id_string();
        SIGNATURES.iter().find(|(id, _)| *id == oid).map_or(oid, |(_, name)| (*name).into())
    }

    /// The digest of the signature if it is one that no longer proves anything.
    pub(crate) fn weak_digest(&self) -> Option<&'static str> {
        let algorithm = &self.x509.signature_algorithm;
        match algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.2" => Some("MD2"),
            "1.2.840.113549.1.1.3" => Some("MD4"),
            "1.2.840.113549.1.1.4" => Some("MD5"),
            "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" => {
                Some("SHA-1")
            }
            // PSS parameters name the digest in field [0]; without it the digest is SHA-1 (RFC 8017, A.2.3).
            "1.2.840.113549.1.1.10" => {
                let params = algorithm.parameters.as_ref().map_or(&[][..], |p| p.data);
                (params.first() != Some(&0xa0)).then_some("SHA-1")
            }
            _ => None,
        }
    }

    /// Key usage as OpenVPN's hex mask: `digitalSignature` is 0x80. `None` without the extension.
    pub(crate) fn key_usage(&self) -> Result<Option<u16>, String> {
        let usage = self.x509.key_usage().map_err(|e| format!("unreadable key usage extension ({e})"))?;
        Ok(usage.map(|ext| (0..8).filter(|bit| ext.value.flags >> bit & 1 == 1).map(|bit| 0x80 >> bit).sum()))
    }

    /// Purposes of the extended key usage as dotted OIDs. `None` without the extension.
    pub(crate) fn extended_key_usage(&self) -> Result<Option<Vec<String>>, String> {
        let usage = self
            .x509
            .extended_key_usage()
            .map_err(|e| format!("unreadable extended key usage extension ({e})"))?;
        Ok(usage.map(|ext| purposes(ext.value)))
    }

    /// Basic constraints: whether it is a CA, and its path length. `None` without the extension.
    pub(crate) fn basic_constraints(&self) -> Result<Option<(bool, Option<u32>)>, String> {
        let found = self
            .x509
            .basic_constraints()
            .map_err(|e| format!("unreadable basic constraints extension ({e})"))?;
        Ok(found.map(|ext| (ext.value.ca, ext.value.path_len_constraint)))
    }
}

impl Key {
    /// `2048 bits RSA`, as OpenVPN prints it (`openvpn: ssl_openssl.c`, `print_pkey_details`).
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Rsa(bits) => format!("{bits} bits RSA"),
            Self::Ec(curve, bits) => format!("{bits} bits EC{curve}"),
            Self::Ed25519 => "256 bits ED25519".into(),
            Self::Other(name) => name.clone(),
        }
    }

    /// Why this key cannot be used and what would help.
    pub(crate) fn objection(&self) -> Option<String> {
        match self {
            Self::Rsa(bits) if *bits < MIN_RSA_BITS => Some(format!(
                "RSA key of {bits} bits is too short; make a new key of at least {MIN_RSA_BITS} bits and have a new \
                 certificate issued for it"
            )),
            Self::Rsa(bits) if *bits > MAX_RSA_BITS => Some(format!(
                "RSA key of {bits} bits is too long; the longest supported has {MAX_RSA_BITS} bits"
            )),
            Self::Other(name) => Some(format!(
                "key type {name} is not supported; issue the certificate for an RSA, ECDSA P-256, P-384, P-521 or \
                 Ed25519 key"
            )),
            Self::Rsa(_) | Self::Ec(..) | Self::Ed25519 => None,
        }
    }
}

/// Calendar time for a message.
pub(crate) fn date(unix: i64) -> String {
    ASN1Time::from_timestamp(unix).map_or_else(|_| format!("{unix} s after 1970"), |t| t.to_string())
}

/// OID, dotted, of an extended key usage that is given dotted or by OpenSSL's short or long name.
pub(crate) fn purpose_oid(name: &str) -> Option<String> {
    if let Some((oid, ..)) = PURPOSES.iter().find(|(_, short, long)| *short == name || *long == name) {
        return Some((*oid).into());
    }
    let dotted = name.contains('.') && name.split('.').all(|arc| arc.parse::<u64>().is_ok());
    dotted.then(|| name.into())
}

fn purposes(usage: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (usage.any, "2.5.29.37.0"),
        (usage.server_auth, "1.3.6.1.5.5.7.3.1"),
        (usage.client_auth, "1.3.6.1.5.5.7.3.2"),
        (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
        (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
        (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (usage.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
    ];
    let known = known.iter().filter(|(set, _)| *set).map(|(_, oid)| (*oid).to_owned());
    known.chain(usage.other.iter().map(Oid::to_id_string)).collect()
}

fn bits(modulus: &[u8]) -> usize {
    usize::try_from(BigUint::from_bytes_be(modulus).bits()).unwrap_or(usize::MAX)
}

/// Joins the parts in encoded order: `, ` between RDNs, ` + ` within one. A leading `-` becomes `_`, so that
/// a subject is never taken for an option.
fn name_text(name: &X509Name<'_>) -> String {
    let rdns = name.iter_rdn().map(|rdn| rdn.iter().map(attribute_text).collect::<Vec<_>>().join(" + "));
    let text = printable(&rdns.collect::<Vec<_>>().join(", "));
    match text.strip_prefix('-') {
        Some(rest) => format!("_{rest}"),
        None => text,
    }
}

fn attribute_text(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let key = ATTRIBUTES.iter().find(|(id, _)| *id == oid).map_or(oid.as_str(), |(_, name)| *name);
    format!("{key}={}", escape(&value_text(attribute.attr_value())))
}

/// Control characters as `\0A` and a doubled backslash, as OpenSSL's `ASN1_STRFLGS_ESC_CTRL` does.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\0'..'\x20' | '\x7f' => out.push_str(&format!("\\{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_control() { '_' } else { c }).collect()
}

fn value_text(value: &Any<'_>) -> String {
    let data = value.data;
    match value.tag() {
        Tag::BmpString => {
            let units: Vec<u16> = data.chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        Tag::UniversalString => data
            .chunks_exact(4)
            .map(|c| char::from_u32(u32::from_be_bytes([c[0], c[1], c[2], c[3]])).unwrap_or('\u{fffd}'))
            .collect(),
        Tag::Utf8String => String::from_utf8_lossy(data).into_owned(),
        // OpenSSL reads T61 and the ASCII types byte by byte as Latin-1.
        _ => data.iter().map(|b| char::from(*b)).collect(),
    }
}

/// Attribute types with OpenSSL's short names.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.72", "role"),
    ("2.5.4.97", "organizationIdentifier"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.2.840.113549.1.9.8", "unstructuredAddress"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

/// Extended key usages: OID, OpenSSL's short name, its long name.
const PURPOSES: &[(&str, &str, &str)] = &[
    ("1.3.6.1.5.5.7.3.1", "serverAuth", "TLS Web Server Authentication"),
    ("1.3.6.1.5.5.7.3.2", "clientAuth", "TLS Web Client Authentication"),
    ("1.3.6.1.5.5.7.3.3", "codeSigning", "Code Signing"),
    ("1.3.6.1.5.5.7.3.4", "emailProtection", "E-mail Protection"),
    ("1.3.6.1.5.5.7.3.5", "ipsecEndSystem", "IPSec End System"),
    ("1.3.6.1.5.5.7.3.6", "ipsecTunnel", "IPSec Tunnel"),
    ("1.3.6.1.5.5.7.3.7", "ipsecUser", "IPSec User"),
    ("1.3.6.1.5.5.7.3.8", "timeStamping", "Time Stamping"),
    ("1.3.6.1.5.5.7.3.9", "OCSPSigning", "OCSP Signing"),
    ("1.3.6.1.5.5.7.3.17", "ipsecIKE", "ipsec Internet Key Exchange"),
    ("2.5.29.37.0", "anyExtendedKeyUsage", "Any Extended Key Usage"),
];

/// Signature algorithms with OpenSSL's short names.
const SIGNATURES: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.4", "RSA-MD5"),
    ("1.2.840.113549.1.1.5", "RSA-SHA1"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.113549.1.1.11", "RSA-SHA256"),
    ("1.2.840.113549.1.1.12", "RSA-SHA384"),
    ("1.2.840.113549.1.1.13", "RSA-SHA512"),
    ("1.2.840.113549.1.1.14", "RSA-SHA224"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.3.101.112", "ED25519"),
];
