//! OpenVPN's certificate rules over webpki and x509-parser.

/// What the peer's leaf certificate must fulfil beside a chain to a trusted certificate.
#[derive(Clone, Debug, Default)]
pub struct PeerRules {
    /// `peer-fingerprint`: SHA-256 of acceptable leaf certificates. If there is no CA, one of them is
    /// all that is needed.
    pub fingerprints: Vec<[u8; 32]>,
    /// `remote-cert-tls`.
    pub role: Option<CertRole>,
    /// `remote-cert-ku`: any one of these key usage masks, as OpenVPN writes them (hex).
    pub key_usage: Vec<u16>,
    /// `remote-cert-eku`: this OID, dotted or by OpenSSL's name.
    pub extended_key_usage: Option<String>,
    /// `verify-x509-name`.
    pub name: Option<NameRule>,
    /// `crl-verify`: lists in DER.
    pub crls: Vec<Vec<u8>>,
    /// `crl-verify DIR dir`: revoked serial numbers, decimal.
    pub revoked_serials: Vec<String>,
}

/// `remote-cert-tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertRole {
    /// `server`.
    Server,
    /// `client`.
    Client,
}

/// `verify-x509-name NAME TYPE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// `subject`: the whole subject.
    Subject(String),
    /// `name`: the common name.
    Name(String),
    /// `name-prefix`: the start of the common name.
    NamePrefix(String),
}
