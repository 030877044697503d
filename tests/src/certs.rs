//! A certificate authority for one test: ordinary certificates by `rcgen`, odd ones by the `openssl` program.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ED25519, PKCS_RSA_SHA256, RevokedCertParams, SerialNumber, SignatureAlgorithm,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::process::run;

/// Type of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    EcdsaP256,
    /// RSA with 2,048 bits.
    Rsa2048,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// A new key pair with its PEM text, PKCS#8.
    fn generate(self) -> Result<(KeyPair, String)> {
        // The crypto library writes Ed25519 keys in PKCS#8 version 2, which OpenSSL 3.0 doesn't read.
        if self == Self::Ed25519 {
            let pem = run("openssl", &["genpkey", "-algorithm", "ed25519"])?;
            return Ok((KeyPair::from_pem(&pem)?, pem));
        }
        let pair = KeyPair::generate_for(self.algorithm())?;
        let pem = pair.serialize_pem();
        Ok((pair, pem))
    }

    fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
            Self::Rsa2048 => &PKCS_RSA_SHA256,
            Self::Ed25519 => &PKCS_ED25519,
        }
    }
}

/// What a certificate is for, which sets its common name and extended key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `CN=server`, serverAuth.
    Server,
    /// `CN=client`, clientAuth.
    Client,
}

impl Usage {
    /// The certificate's common name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// Files of one certificate, PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key, PKCS#8.
    pub key: PathBuf,
}

/// What to change about a certificate that `openssl` makes.
#[derive(Clone, Copy, Debug)]
pub struct Odd {
    /// RSA key length in bits.
    pub bits: u32,
    /// Digest of the signature, `sha1` for instance.
    pub digest: &'static str,
}

/// An authority with a server's and a client's certificate in a folder of its own.
#[derive(Debug)]
pub struct Pki {
    dir: TempDir,
    params: CertificateParams,
    key: KeyPair,
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate.
    pub server: Identity,
    /// The client's certificate.
    pub client: Identity,
}

impl Pki {
    /// Makes an authority and both certificates, all with keys of one kind.
    pub fn new(kind: KeyKind) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("oxivpn-pki-").tempdir()?;
        let (key, key_pem) = kind.generate()?;
        let mut params = named("Test CA")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = dir.path().join("ca.crt");
        fs::write(&ca, params.self_signed(&key)?.pem())?;
        write_key(&dir.path().join("ca.key"), &key_pem)?;
        let issuer = Issuer::from_params(&params, &key);
        let server = issue(dir.path(), &issuer, (Usage::Server, "server"), kind, Validity::now())?;
        let client = issue(dir.path(), &issuer, (Usage::Client, "client"), kind, Validity::now())?;
        Ok(Self { dir, params, key, ca, server, client })
    }

    /// One more client's certificate, `CN=name`, ECDSA.
    pub fn client_named(&self, name: &str) -> Result<Identity> {
        let folder = self.dir.path().join("clients");
        fs::create_dir_all(&folder)?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        issue(&folder, &issuer, (Usage::Client, name), KeyKind::EcdsaP256, Validity::now())
    }

    /// Writes a list, PEM, which revokes the certificates in these files.
    pub fn revoke(&self, certs: &[&Path], list: &Path) -> Result<()> {
        let issuer = Issuer::from_params(&self.params, &self.key);
        let now = OffsetDateTime::now_utc();
        let mut revoked_certs = Vec::new();
        for cert in certs {
            let shown = run("openssl", &["x509", "-noout", "-serial", "-in", &cert.to_string_lossy()])?;
            let serial = shown.trim().rsplit('=').next().unwrap_or_default();
            let bytes = (0..serial.len() / 2).map(|i| u8::from_str_radix(&serial[2 * i..2 * i + 2], 16));
            revoked_certs.push(RevokedCertParams {
                serial_number: SerialNumber::from(bytes.collect::<Result<Vec<u8>, _>>()?),
                revocation_time: now - Duration::hours(1),
                reason_code: None,
                invalidity_date: None,
            });
        }
        let params = CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + Duration::days(1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        // Written beside and moved, as tools do: a server may look at any moment.
        let beside = list.with_extension("new");
        fs::write(&beside, params.signed_by(&issuer)?.pem()?)?;
        Ok(fs::rename(&beside, list)?)
    }

    /// A certificate of this authority that expired yesterday.
    pub fn expired(&self, usage: Usage) -> Result<Identity> {
        let now = OffsetDateTime::now_utc();
        let valid = Validity { from: now - Duration::days(3), until: now - Duration::days(1) };
        let folder = self.dir.path().join("expired");
        fs::create_dir_all(&folder)?;
        issue(
            &folder,
            &Issuer::from_params(&self.params, &self.key),
            (usage, usage.name()),
            KeyKind::EcdsaP256,
            valid,
        )
    }

    /// A certificate of this authority with a weak key or signature; the authority must not be Ed25519.
    pub fn odd(&self, usage: Usage, odd: Odd) -> Result<Identity> {
        let path = |name: &str| self.dir.path().join(format!("odd-{}-{}-{name}", odd.bits, odd.digest));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (key, request, cert, extensions) = (path("key"), path("csr"), path("crt"), path("ext"));
        let eku = match usage {
            Usage::Server => "serverAuth",
            Usage::Client => "clientAuth",
        };
        fs::write(
            &extensions,
            format!("keyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage={eku}\n"),
        )?;
        let bits = format!("rsa:{}", odd.bits);
        let subject = format!("/CN={}", usage.name());
        let (key_text, request_text) = (text(&key), text(&request));
        run(
            "openssl",
            &[
                "req",
                "-new",
                "-nodes",
                "-newkey",
                &bits,
                "-keyout",
                &key_text,
                "-out",
                &request_text,
                "-subj",
                &subject,
            ],
        )?;
        let digest = format!("-{}", odd.digest);
        let (ca, ca_key) = (text(&self.ca), text(&self.dir.path().join("ca.key")));
        run(
            "openssl",
            &[
                "x509",
                "-req",
                &digest,
                "-in",
                &request_text,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-set_serial",
                "77",
                "-days",
                "2",
                "-extfile",
                &text(&extensions),
                "-out",
                &text(&cert),
            ],
        )?;
        Ok(Identity { cert, key })
    }
}

#[derive(Clone, Copy)]
struct Validity {
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Validity {
    /// From yesterday until tomorrow.
    fn now() -> Self {
        let (now, day) = (OffsetDateTime::now_utc(), Duration::days(1));
        Self { from: now - day, until: now + day }
    }
}

fn named(name: &str) -> Result<CertificateParams> {
    // No subject alternative name: certificates as easy-rsa makes them.
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn write_key(path: &Path, pem: &str) -> Result<()> {
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(pem.as_bytes())?)
}

fn issue(
    dir: &Path,
    issuer: &Issuer<'_, &KeyPair>,
    (usage, name): (Usage, &str),
    kind: KeyKind,
    valid: Validity,
) -> Result<Identity> {
    let mut params = named(name)?;
    params.not_before = valid.from;
    params.not_after = valid.until;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    let (key, key_pem) = kind.generate()?;
    let identity = Identity { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
    fs::write(&identity.cert, params.signed_by(&key, issuer)?.pem())?;
    write_key(&identity.key, &key_pem)?;
    Ok(identity)
}
