//! Certificates with Ed25519 keys, the same bytes in each process.
//!
//! Keys and serial numbers come from the names, so that no world has certificates of its own and each is made once.

use core::fmt::Display;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use oxivpn_proto::tls::verify::CertRole;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey,
    date_time_ymd,
};
use zeroize::Zeroizing;

/// When all certificates become valid: 2016-01-01, in seconds since 1970.
pub const NOT_BEFORE: u64 = 1_451_606_400;

/// When all certificates expire: 2046-01-01, in seconds since 1970.
pub const NOT_AFTER: u64 = 2_398_377_600;

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Root {
    /// The CA of the machines of a world.
    Own,
    /// One that they don't trust.
    Other,
}

impl Root {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "sim-ca",
            Self::Other => "other-ca",
        }
    }
}

/// A certificate with its key.
pub(super) struct Identity {
    pub(super) root: Root,
    pub(super) role: CertRole,
    pub(super) name: String,
    /// The certificate in DER.
    pub(super) der: Vec<u8>,
    /// The private key in PKCS#8.
    pub(super) key: Zeroizing<Vec<u8>>,
}

/// DER of the certificate of `root`.
pub(super) fn ca(root: Root) -> Vec<u8> {
    identity_of(Subject::Ca(root)).der.clone()
}

/// The certificate of `name` in this role.
pub(super) fn identity(root: Root, role: CertRole, name: &str) -> Arc<Identity> {
    identity_of(match role {
        CertRole::Server => Subject::Server(root, name.to_owned()),
        CertRole::Client => Subject::Client(root, name.to_owned()),
    })
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Ca(Root),
    Server(Root, String),
    Client(Root, String),
}

impl Subject {
    fn root(&self) -> Root {
        match self {
            Self::Ca(root) | Self::Server(root, _) | Self::Client(root, _) => *root,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Ca(root) => root.name(),
            Self::Server(_, name) | Self::Client(_, name) => name,
        }
    }

    fn role(&self) -> CertRole {
        match self {
            Self::Ca(_) | Self::Server(..) => CertRole::Server,
            Self::Client(..) => CertRole::Client,
        }
    }

    /// Random for this subject and this purpose.
    fn random(&self, purpose: &str) -> [u8; 32] {
        let text = format!("oxivpn-sim {purpose} of {self:?}");
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        out
    }

    fn key(&self) -> Key {
        Key(sure("Ed25519 key", Ed25519KeyPair::from_seed_unchecked(&self.random("key"))))
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (date_time_ymd(2016, 1, 1), date_time_ymd(2046, 1, 1));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.name());
        let mut serial = self.random("serial")[..16].to_vec();
        // Positive, and of full length.
        serial[0] = serial[0] & 0x3f | 0x40;
        params.serial_number = Some(SerialNumber::from(serial));
        params.key_identifier_method = KeyIdMethod::PreSpecified(self.random("key id")[..20].to_vec());
        match self {
            Self::Ca(_) => {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            }
            Self::Server(..) | Self::Client(..) => {
                params.use_authority_key_identifier_extension = true;
                params.custom_extensions = vec![comment(self.role())];
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
                params.extended_key_usages = vec![match self.role() {
                    CertRole::Server => ExtendedKeyUsagePurpose::ServerAuth,
                    CertRole::Client => ExtendedKeyUsagePurpose::ClientAuth,
                }];
            }
        }
        params
    }

    fn issue(&self) -> Identity {
        let (params, key) = (self.params(), self.key());
        let made = match self {
            Self::Ca(_) => params.self_signed(&key),
            _ => {
                let ca = Self::Ca(self.root());
                params.signed_by(&key, &Issuer::new(ca.params(), ca.key()))
            }
        };
        let pkcs8 = sure("PKCS#8", key.0.to_pkcs8v1());
        Identity {
            root: self.root(),
            role: self.role(),
            name: self.name().to_owned(),
            der: sure("certificate", made).der().to_vec(),
            key: Zeroizing::new(pkcs8.as_ref().to_vec()),
        }
    }
}

/// Netscape's comment extension. Makes certificates with small keys as large as usual ones, so that a server's takes
/// several packets.
fn comment(role: CertRole) -> CustomExtension {
    let text = match role {
        CertRole::Server => "issued by the simulator to a server of its own ".repeat(16),
        CertRole::Client => "issued by the simulator ".repeat(12),
    };
    // An IA5String with a length of two bytes.
    let [high, low] = u16::try_from(text.len()).unwrap_or_default().to_be_bytes();
    let content = [&[0x16, 0x82, high, low], text.as_bytes()].concat();
    CustomExtension::from_oid_content(&[2, 16, 840, 1, 113730, 1, 13], content)
}

/// What was made once serves all worlds; the names are those of plans, and few.
fn identity_of(subject: Subject) -> Arc<Identity> {
    static MADE: Mutex<BTreeMap<Subject, Arc<Identity>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let identity = made.entry(subject).or_insert_with_key(|subject| Arc::new(subject.issue()));
    identity.clone()
}

/// What cannot fail with input of this crate.
pub(super) fn sure<T, E: Display>(what: &str, made: Result<T, E>) -> T {
    match made {
        Ok(made) => made,
        Err(why) => panic!("TLS of the simulator: {what}: {why}"),
    }
}

/// Signs certificates.
struct Key(Ed25519KeyPair);

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use oxivpn_proto::tls::facts::facts;

    use super::*;

    #[test]
    fn certificates_are_what_they_say_and_differ() {
        let server = identity(Root::Own, CertRole::Server, "server");
        let said = facts(&server.der).unwrap();
        assert_eq!(said.subject, "CN=server");
        let again = Subject::Server(Root::Own, "server".into()).issue();
        assert_eq!((&again.der, &again.key), (&server.der, &server.key));
        let others = [
            identity(Root::Own, CertRole::Client, "server"),
            identity(Root::Other, CertRole::Server, "server"),
            identity(Root::Own, CertRole::Server, "another"),
        ];
        for other in others {
            assert_ne!(facts(&other.der).unwrap().serial, said.serial);
            assert_ne!(other.key, server.key);
        }
    }
}
