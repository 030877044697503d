//! The certificate authority of a deployment.

use core::time::Duration;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::files;
use crate::{clock, entropy};

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400 + 86_400 / 4);

/// How long all of it lasts. A new authority means that each client needs a new file, so this is long.
const AUTHORITY_LASTS: Duration = Duration::from_secs(20 * YEAR.as_secs());

/// How long a certificate lasts. None is renewed by itself, and a client that is lost can be revoked.
const CERTIFICATE_LASTS: Duration = Duration::from_secs(10 * YEAR.as_secs());

/// A certificate and its key in PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: Zeroizing<String>,
}

/// What a certificate is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// The server at this host.
    Server(&'a str),
    /// A client.
    Client,
}

/// An authority with its key.
pub(super) struct Authority {
    certificate: String,
    name: String,
    /// When it expires, in Unix time.
    until: Duration,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub(super) fn new(name: &str) -> Result<(Self, Zeroizing<String>)> {
        let now = clock::unix();
        let until = now + AUTHORITY_LASTS;
        let mut params = params(name, now, until)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = Zeroizing::new(key.serialize_pem());
        let certificate = params.self_signed(&key)?.pem();
        Ok((Self { certificate, name: name.into(), until, issuer: Issuer::new(params, key) }, pem))
    }

    /// That of `dir`.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let certificate = files::read(dir, "ca.crt")?;
        let facts = Facts::of(&certificate).with_context(|| format!("{}", dir.join("ca.crt").display()))?;
        let key = Zeroizing::new(files::read(dir, "ca.key")?);
        let key = KeyPair::from_pem(&key)
            .with_context(|| format!("{} is no private key", dir.join("ca.key").display()))?;
        if key.public_key_raw() != facts.public_key {
            bail!("ca.key in {} doesn't belong to ca.crt; take both from a backup", dir.display());
        }
        let now = clock::unix();
        if now >= facts.until {
            bail!("the authority in {} has expired; make a new one with `oxivpn setup`", dir.display());
        }
        let mut params = params(&facts.name, now, facts.until)?;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { certificate, name: facts.name, until: facts.until, issuer: Issuer::new(params, key) })
    }

    /// Its certificate in PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A new certificate with its key.
    pub(super) fn issue(&self, name: &str, purpose: Purpose<'_>) -> Result<Identity> {
        let now = clock::unix();
        let mut params = params(name, now, self.until.min(now + CERTIFICATE_LASTS))?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server(_) => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        if let Purpose::Server(host) = purpose {
            params.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.try_into()?),
            });
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        if Facts::of(&certificate)?.issuer != self.name {
            bail!(
                "the name of the authority in ca.crt has more than a common name; use the program that made it"
            );
        }
        Ok(Identity { certificate, key: Zeroizing::new(key.serialize_pem()) })
    }

    /// The list of what is revoked, in PEM. It is good for as long as the authority, since nobody renews it.
    pub(super) fn sign(&self, list: &RevocationList) -> Result<String> {
        let epoch = date_time_ymd(1970, 1, 1);
        let revoked = list.revoked.iter().map(|(serial, since)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: epoch + *since,
            reason_code: Some(RevocationReason::CessationOfOperation),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: epoch + seconds(clock::unix().saturating_sub(DAY)),
            next_update: epoch + self.until,
            crl_number: SerialNumber::from(list.number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }
}

/// From a day ago, as clocks of phones differ, with a random serial number.
fn params(name: &str, now: Duration, until: Duration) -> Result<CertificateParams> {
    let mut serial = [0; 16];
    entropy::fill(&mut serial)?;
    // Positive, and of the same length always.
    serial[0] = (serial[0] & 0x3f) | 0x40;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(1970, 1, 1) + seconds(now.saturating_sub(DAY));
    params.not_after = date_time_ymd(1970, 1, 1) + seconds(until);
    Ok(params)
}

/// Certificates know no fractions.
const fn seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// What a certificate says.
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) issuer: String,
    /// Without zeros in front.
    pub(super) serial: Vec<u8>,
    /// When it expires, in Unix time.
    pub(super) until: Duration,
    /// As YYYY-MM-DD.
    pub(super) last_day: String,
    public_key: Vec<u8>,
}

impl Facts {
    /// Of a certificate in PEM.
    pub(super) fn of(pem: &str) -> Result<Self> {
        let (_, pem) =
            parse_x509_pem(pem.as_bytes()).map_err(|_| anyhow!("there is no certificate in PEM"))?;
        let (_, cert) =
            X509Certificate::from_der(&pem.contents).map_err(|_| anyhow!("the certificate can't be read"))?;
        let only = |name: &x509_parser::x509::X509Name<'_>| {
            let mut attributes = name.iter_attributes();
            let first = attributes.next().and_then(|attribute| attribute.as_str().ok().map(String::from));
            first.filter(|_| attributes.next().is_none())
        };
        let (name, issuer) = (only(cert.subject()), only(cert.issuer()));
        let until = cert.validity().not_after;
        Ok(Self {
            name: name.context("the subject of the certificate is more than a common name")?,
            issuer: issuer.unwrap_or_default(),
            serial: trimmed(cert.raw_serial()),
            until: Duration::from_secs(u64::try_from(until.timestamp()).unwrap_or(0)),
            last_day: until.to_datetime().date().to_string(),
            public_key: cert.public_key().subject_public_key.data.to_vec(),
        })
    }
}

fn trimmed(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// What is revoked.
#[derive(Default)]
pub(super) struct RevocationList {
    /// Grows with each list.
    pub(super) number: u64,
    /// Serial numbers with the Unix time since when.
    pub(super) revoked: Vec<(Vec<u8>, Duration)>,
}

impl RevocationList {
    /// That of `dir`.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let text = files::read(dir, "crl.pem")?;
        let bad =
            || format!("{} is no revocation list; take it from a backup", dir.join("crl.pem").display());
        let (_, pem) = parse_x509_pem(text.as_bytes()).map_err(|_| anyhow!(bad()))?;
        let (_, list) = CertificateRevocationList::from_der(&pem.contents).map_err(|_| anyhow!(bad()))?;
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok());
        let revoked = list.iter_revoked_certificates().map(|entry| {
            let since = u64::try_from(entry.revocation_date.timestamp()).unwrap_or(0);
            (trimmed(entry.raw_serial()), Duration::from_secs(since))
        });
        Ok(Self { number: number.unwrap_or(0), revoked: revoked.collect() })
    }

    /// Adds one, from now on.
    pub(super) fn revoke(&mut self, serial: &[u8]) {
        if !self.contains(serial) {
            self.revoked.push((serial.to_vec(), seconds(clock::unix())));
        }
    }

    /// Whether one is in it.
    pub(super) fn contains(&self, serial: &[u8]) -> bool {
        self.revoked.iter().any(|(other, _)| other == serial)
    }
}
