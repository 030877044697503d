//! What a certificate says, for scripts and logs.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::verify::cert::Cert;

/// Facts of one certificate, in OpenVPN's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFacts {
    /// Subject as OpenVPN writes it: `C=US, O=Example, CN=host`.
    pub subject: String,
    /// The parts of the subject in the order written, by OpenSSL's short names: `("CN", "host")`. Parts of kinds
    /// without such a name are left out.
    pub fields: Vec<(&'static str, String)>,
    /// Serial number in decimal.
    pub serial: String,
    /// Serial number without its sign, most significant byte first.
    pub serial_bytes: Vec<u8>,
    /// SHA-1 of the DER certificate.
    pub sha1: [u8; 20],
    /// SHA-256 of the DER certificate.
    pub sha256: [u8; 32],
}

/// Reads a DER certificate; `None` if it is none.
pub fn facts(der: &[u8]) -> Option<CertFacts> {
    let cert = Cert::parse(der).ok()?;
    Some(CertFacts {
        subject: cert.subject(),
        fields: cert.fields(),
        serial: cert.serial(),
        serial_bytes: cert.serial_bytes(),
        sha1: Sha1::digest(der).into(),
        sha256: Sha256::digest(der).into(),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SerialNumber};

    use super::*;

    fn certificate(serial: &[u8]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, "KG");
        name.push(DnType::OrganizationName, "Ex am,ple\n");
        name.push(DnType::CommonName, "client");
        params.distinguished_name = name;
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_tells_its_facts() {
        let der = certificate(&[0x65, 0xae, 0x8e]);
        let facts = facts(&der).unwrap();
        assert_eq!(facts.subject, "C=KG, O=Ex am,ple\\0A, CN=client");
        let fields: Vec<_> = facts.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(fields, [("C", "KG"), ("O", "Ex am,ple\n"), ("CN", "client")]);
        assert_eq!((facts.serial.as_str(), &facts.serial_bytes[..]), ("6663822", &[0x65, 0xae, 0x8e][..]));
        assert_eq!(facts.sha256, <[u8; 32]>::from(Sha256::digest(&der)));
    }

    #[test]
    fn a_high_serial_has_no_sign_byte() {
        assert_eq!(facts(&certificate(&[0xff, 1])).unwrap().serial_bytes, [0xff, 1]);
        assert_eq!(facts(b"no certificate"), None);
    }
}
