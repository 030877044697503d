//! Certificates, private keys and revocation lists out of PEM text.

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::SecretDocument;
use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use crate::profile::PrivateKey;

/// What is wrong, and the cure.
pub(crate) type KeyError = (String, String);

/// Blocks of the wanted kinds, in order; anything else is skipped, also text before and between.
fn sections(text: &str, wanted: &[SectionKind]) -> Result<Vec<Zeroizing<Vec<u8>>>, KeyError> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let text = Zeroizing::new(lines.join("\n"));
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, der) = section.map_err(|error| {
            (
                format!("the PEM text is damaged: {error}"),
                "Copy the file again, with all its lines".to_string(),
            )
        })?;
        let der = Zeroizing::new(der);
        if wanted.contains(&kind) {
            found.push(der);
        }
    }
    Ok(found)
}

fn is_der(text: &str) -> bool {
    text.starts_with('0') && !text.contains("-----BEGIN")
}

/// Certificates in DER, at least one.
pub(crate) fn certificates(text: &str) -> Result<Vec<Vec<u8>>, KeyError> {
    let found = sections(text, &[SectionKind::Certificate])?;
    if found.is_empty() {
        let cure = if is_der(text) {
            "Convert the file with `openssl x509 -inform der -in OLD -out NEW`"
        } else {
            "The text must have lines -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"
        };
        return Err(("no certificate found".into(), cure.into()));
    }
    Ok(found.into_iter().map(|der| der.to_vec()).collect())
}

/// Revocation lists in DER, at least one.
pub(crate) fn revocation_lists(text: &str) -> Result<Vec<Vec<u8>>, KeyError> {
    let found = sections(text, &[SectionKind::Crl])?;
    if found.is_empty() {
        let cure = if is_der(text) {
            "Convert the file with `openssl crl -inform der -in OLD -out NEW`"
        } else {
            "The text must have lines -----BEGIN X509 CRL----- and -----END X509 CRL-----"
        };
        return Err(("no revocation list found".into(), cure.into()));
    }
    Ok(found.into_iter().map(|der| der.to_vec()).collect())
}

/// Those of a directory's names that are serial numbers in decimal.
pub(crate) fn serials(names: Vec<String>) -> Vec<String> {
    names.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// The private key.
pub(crate) fn private_key(text: &str) -> Result<PrivateKey, KeyError> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err((
            "the private key is encrypted in OpenSSL's old format".into(),
            "Convert it with `openssl pkcs8 -topk8 -in OLD -out NEW`".into(),
        ));
    }
    if let Some(start) = text.find(BEGIN) {
        let damaged = || {
            let cure = "Copy the file again, with all its lines".to_string();
            ("the encrypted private key is damaged".to_string(), cure)
        };
        let end = text[start..].find(END).ok_or_else(damaged)?;
        let lines: Vec<&str> = text[start..start + end + END.len()].lines().map(str::trim).collect();
        let pem = Zeroizing::new(lines.join("\n"));
        let (_, document) = SecretDocument::from_pem(&pem).map_err(|_| damaged())?;
        return Ok(PrivateKey::Encrypted(Zeroizing::new(document.as_bytes().to_vec())));
    }
    let kinds = [SectionKind::PrivateKey, SectionKind::RsaPrivateKey, SectionKind::EcPrivateKey];
    match sections(text, &kinds)?.into_iter().next() {
        Some(der) => Ok(PrivateKey::Plain(der)),
        None if is_der(text) => Err((
            "no private key found".into(),
            "Convert the file with `openssl pkey -inform der -in OLD -out NEW`".into(),
        )),
        None => Err((
            "no private key found".into(),
            "The text must have lines -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY-----".into(),
        )),
    }
}

/// Opens an encrypted PKCS#8 key.
pub(crate) fn decrypt(der: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let unknown = |why: String| {
        let cure = "Convert it with `openssl pkcs8 -topk8 -v2 aes256 -in OLD -out NEW`".to_string();
        (format!("the private key is encrypted in an unknown way ({why})"), cure)
    };
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|error| unknown(error.to_string()))?;
    if info.encryption_algorithm.pbes2().is_none() {
        return Err(unknown("PBES1".into()));
    }
    match info.decrypt(passphrase) {
        Ok(document) => Ok(Zeroizing::new(document.as_bytes().to_vec())),
        Err(pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { oid })) => {
            Err(unknown(oid.to_string()))
        }
        Err(_) => Err((
            "the passphrase does not open the private key".into(),
            "Give the passphrase that the key was made with, by `askpass FILE` or at the prompt".into(),
        )),
    }
}
