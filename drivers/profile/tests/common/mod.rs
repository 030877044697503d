//! Files in memory, certificates, keys, and a profile to add lines to.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oxivpn_profile::{Files, Profile, ProfileError};
use oxivpn_proto::wrap::static_key::StaticKey;
use oxivpn_proto::wrap::tls_crypt_v2::ServerKeyV2;

/// Files by name; those in `open` are readable for others, those in `denied` for nobody.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) open: Vec<String>,
    pub(crate) denied: Vec<String>,
}

impl Memory {
    /// Certificates and keys, a login, a directory `ccd`, a script `/bin/hook`.
    pub(crate) fn usual() -> Self {
        let mut memory = Self::default();
        memory.add("ca.crt", &PKI.ca);
        memory.add("client.crt", &PKI.cert);
        memory.add("client.key", &PKI.key);
        memory.add("ta.key", &static_key());
        memory.add("v2.key", &client_key_v2());
        memory.add("login", "user\nsecret\n");
        memory.add("v2-server.key", &server_key_v2());
        memory.add("token.key", &token_key());
        memory.add("ccd/DEFAULT", "");
        memory.add("/bin/hook", "#!/bin/sh\n");
        for name in ["bin/hook", "ccd/DEFAULT", "tmp/x"] {
            memory.add(&format!("/jail/{name}"), "#!/bin/sh\n");
        }
        memory
    }

    pub(crate) fn add(&mut self, name: &str, text: &str) {
        self.files.insert(name.into(), text.into());
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let name = path.to_string_lossy().into_owned();
        if self.denied.contains(&name) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let text = self.files.get(&name).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.clone().into_bytes())
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        self.read(Path::new("<stdin>"))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let prefix = format!("{}/", dir.display());
        let names: Vec<String> =
            self.files.keys().filter_map(|name| name.strip_prefix(&prefix)).map(Into::into).collect();
        if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names) }
    }

    fn executable(&self, path: &Path) -> io::Result<()> {
        self.read(path).map(|_| ())
    }

    fn open_to_others(&self, path: &Path) -> bool {
        self.open.contains(&path.to_string_lossy().into_owned())
    }
}

pub(crate) struct Pki {
    pub(crate) ca: String,
    pub(crate) ca_der: Vec<u8>,
    pub(crate) cert: String,
    pub(crate) cert_der: Vec<u8>,
    pub(crate) key: String,
    pub(crate) key_der: Vec<u8>,
    pub(crate) crl: String,
}

/// A CA with one client, made anew by each run.
pub(crate) static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "Example VPN CA");
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "client");
    let cert = params.signed_by(&key, &issuer).unwrap();
    let time = rcgen::date_time_ymd(2026, 1, 1);
    let crl = rcgen::CertificateRevocationListParams {
        this_update: time,
        next_update: rcgen::date_time_ymd(2036, 1, 1),
        crl_number: rcgen::SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    Pki {
        ca: ca.pem(),
        ca_der: ca.der().to_vec(),
        cert: cert.pem(),
        cert_der: cert.der().to_vec(),
        key: key.serialize_pem(),
        key_der: key.serialize_der(),
        crl: crl.signed_by(&issuer).unwrap().pem().unwrap(),
    }
});

fn key_bytes() -> [u8; 256] {
    std::array::from_fn(|index| index as u8)
}

/// A key as `openvpn --genkey secret` writes it.
pub(crate) fn static_key() -> String {
    let mut text =
        String::from("#\n# 2048 bit OpenVPN static key\n#\n-----BEGIN OpenVPN Static key V1-----\n");
    for line in key_bytes().chunks(16) {
        text.push_str(&hex::encode(line));
        text.push('\n');
    }
    text + "-----END OpenVPN Static key V1-----\n"
}

/// A key as `openvpn --genkey tls-crypt-v2-client` writes it.
pub(crate) fn client_key_v2() -> String {
    let key = StaticKey::new(key_bytes().into());
    let wrapped = ServerKeyV2::new(&[7; 128]).wrap(&key, &[0, 1, 2]).unwrap();
    let bytes = [key_bytes().as_slice(), &wrapped].concat();
    let mut text = String::from("-----BEGIN OpenVPN tls-crypt-v2 client key-----\n");
    for line in STANDARD.encode(bytes).as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap());
        text.push('\n');
    }
    text + "-----END OpenVPN tls-crypt-v2 client key-----\n"
}

/// The key that wrapped that one, as `openvpn --genkey tls-crypt-v2-server` writes it.
pub(crate) fn server_key_v2() -> String {
    let body = STANDARD.encode([7; 128]);
    let mut text = String::from("-----BEGIN OpenVPN tls-crypt-v2 server key-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap());
        text.push('\n');
    }
    text + "-----END OpenVPN tls-crypt-v2 server key-----\n"
}

/// A key as `openvpn --genkey auth-token` writes it; its HMAC key is 32 bytes of 5.
pub(crate) fn token_key() -> String {
    let mut bytes = [0; 128];
    bytes[64..96].fill(5);
    format!(
        "-----BEGIN OpenVPN auth-token server key-----\n{}\n-----END OpenVPN auth-token server key-----\n",
        STANDARD.encode(bytes)
    )
}

/// The smallest server that warns of nothing; 8 lines.
pub(crate) const SERVER: &str = "server 10.8.0.0 255.255.255.0\ntopology subnet\ndev tun\nca ca.crt\ncert client.crt\nkey \
                                 client.key\ndh none\nkeepalive 10 60\n";

/// The server with more lines.
pub(crate) fn serve(lines: &str) -> Profile {
    match Profile::from_text("server.conf", &format!("{SERVER}{lines}"), &Memory::usual()) {
        Ok(profile) => profile,
        Err(error) => panic!("{lines}: {error}"),
    }
}

/// The smallest profile that warns of nothing; 6 lines.
pub(crate) const BASE: &str =
    "client\ndev tun\nremote vpn.example.com 1194\nca ca.crt\nauth-user-pass login\nremote-cert-tls server\n";

pub(crate) fn read(text: &str) -> Result<Profile, ProfileError> {
    Profile::from_text("client.ovpn", text, &Memory::usual())
}

/// The base profile with more lines.
pub(crate) fn with(lines: &str) -> Profile {
    match read(&format!("{BASE}{lines}")) {
        Ok(profile) => profile,
        Err(error) => panic!("{lines}: {error}"),
    }
}

/// The error of the base profile with more lines; the first of them is line 7.
pub(crate) fn error(lines: &str) -> String {
    match read(&format!("{BASE}{lines}")) {
        Ok(_) => panic!("accepted: {lines}"),
        Err(error) => error.to_string(),
    }
}

/// Warnings as text.
pub(crate) fn warnings(profile: &Profile) -> Vec<String> {
    profile.warnings.iter().map(ToString::to_string).collect()
}
