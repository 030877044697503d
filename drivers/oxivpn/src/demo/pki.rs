//! A certificate authority for one run of the demo.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// A certificate and its key in PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Certificates of both sides and of the authority that signed them.
pub(super) struct Pki {
    pub(super) ca: String,
    pub(super) server: Identity,
    pub(super) client: Identity,
}

impl Pki {
    /// Makes everything anew.
    pub(super) fn new() -> Result<Self> {
        let mut params = named("oxivpn demo CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            ca,
            server: identity("demo-server", ExtendedKeyUsagePurpose::ServerAuth, &issuer)?,
            client: identity("demo-client", ExtendedKeyUsagePurpose::ClientAuth, &issuer)?,
        })
    }
}

fn identity(name: &str, purpose: ExtendedKeyUsagePurpose, issuer: &Issuer<'_, KeyPair>) -> Result<Identity> {
    let mut params = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate()?;
    Ok(Identity { certificate: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
