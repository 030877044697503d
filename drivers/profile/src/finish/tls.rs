//! Certificates, keys and rules for the server's certificate.

use oxivpn_proto::tls::verify::{CertRole, PeerRules};
use zeroize::Zeroizing;

use super::role::Kind;
use super::text;
use crate::draft::{Draft, Place, Revoked, Source};
use crate::error::ProfileError;
use crate::keys::{self, KeyError};
use crate::load::{Files, reason};
use crate::profile::{AuthOptions, CredentialSource, PrivateKey, RevocationSource, TlsMaterial};

pub(super) fn material(draft: &mut Draft, files: &dyn Files) -> Result<TlsMaterial, ProfileError> {
    let ca = draft.tls.ca.clone();
    let ca = pem(draft, files, "ca", ca.as_ref(), keys::certificates)?;
    let cert = draft.tls.cert.clone();
    let mut certs = pem(draft, files, "cert", cert.as_ref(), keys::certificates)?;
    let extra = draft.tls.extra_certs.clone();
    certs.append(&mut pem(draft, files, "extra-certs", extra.as_ref(), keys::certificates)?);
    let key = match draft.tls.key.clone() {
        None => PrivateKey::None,
        Some(source) => {
            let text = text(draft, files, "key", &source, true)?;
            keys::private_key(&text).map_err(|error| bad("key", &source, error))?
        }
    };
    let passphrase = match draft.tls.askpass.clone().flatten() {
        None => None,
        Some(source) => {
            let text = text(draft, files, "askpass", &source, true)?;
            let line = text.lines().next().unwrap_or_default();
            if line.is_empty() {
                let error = ProfileError::at(&source.origin, "askpass: the file is empty".into());
                return Err(error.cure("Write the passphrase on its first line"));
            }
            Some(Zeroizing::new(line.to_string()))
        }
    };
    Ok(TlsMaterial {
        ca,
        certs,
        key,
        passphrase,
        rules: rules(draft, files)?,
        revocation: revocation(draft),
        min_version: draft.tls.min_version,
        max_version: draft.tls.max_version,
        suites12: draft.tls.suites12.clone(),
        suites13: draft.tls.suites13.clone(),
        groups: draft.tls.groups.clone(),
    })
}

fn rules(draft: &mut Draft, files: &dyn Files) -> Result<PeerRules, ProfileError> {
    let mut rules = PeerRules {
        fingerprints: draft.tls.fingerprints.clone(),
        role: draft.tls.role,
        key_usage: draft.tls.key_usage.clone(),
        extended_key_usage: draft.tls.extended_key_usage.clone(),
        name: draft.tls.name.clone(),
        ..PeerRules::default()
    };
    match draft.tls.revoked.clone() {
        None => {}
        Some(Revoked::List(source)) => {
            rules.crls = pem(draft, files, "crl-verify", Some(&source), keys::revocation_lists)?;
        }
        Some(Revoked::Directory(source)) => rules.revoked_serials = serials(draft, files, &source)?,
    }
    Ok(rules)
}

/// A directory whose files are named after revoked serial numbers, in decimal.
fn serials(draft: &Draft, files: &dyn Files, source: &Source) -> Result<Vec<String>, ProfileError> {
    let Place::File(name) = &source.place else { return Ok(Vec::new()) };
    let path = draft.path(name);
    let names = files.list(&path).map_err(|error| {
        let (why, cure) = reason(&error);
        let text = format!("crl-verify: cannot list {}: {why}", path.display());
        ProfileError::at(&source.origin, text).cure(cure)
    })?;
    Ok(keys::serials(names))
}

fn revocation(draft: &Draft) -> Option<RevocationSource> {
    let (source, directory) = match draft.tls.revoked.as_ref()? {
        Revoked::List(source) => (source, false),
        Revoked::Directory(source) => (source, true),
    };
    match &source.place {
        Place::File(name) => Some(RevocationSource { path: draft.path(name), directory }),
        Place::Inline(_) => None,
    }
}

type Parse = fn(&str) -> Result<Vec<Vec<u8>>, KeyError>;

fn pem(
    draft: &mut Draft,
    files: &dyn Files,
    option: &str,
    source: Option<&Source>,
    parse: Parse,
) -> Result<Vec<Vec<u8>>, ProfileError> {
    let Some(source) = source else { return Ok(Vec::new()) };
    let text = text(draft, files, option, source, false)?;
    parse(&text).map_err(|error| bad(option, source, error))
}

fn bad(option: &str, source: &Source, (why, cure): KeyError) -> ProfileError {
    let place = match &source.place {
        Place::File(name) => format!(" in {name}"),
        Place::Inline(_) => String::new(),
    };
    ProfileError::at(&source.origin, format!("{option}: {why}{place}")).cure(cure)
}

/// Refuses what is incomplete and warns of what is unsafe (`openvpn: options.c`,
/// `options_postprocess_verify_ce`).
pub(super) fn complete(
    draft: &mut Draft,
    kind: Kind,
    tls: &TlsMaterial,
    auth: &AuthOptions,
) -> Result<(), ProfileError> {
    if tls.ca.is_empty() && tls.rules.fingerprints.is_empty() {
        let cure = match kind {
            Kind::Client => "Add `ca FILE` or a <ca> block with the certificate that signed the server's",
            _ => "Add `ca FILE` or a <ca> block with the certificate that signed those of the other side",
        };
        return Err(ProfileError::whole(
            "You must define CA file (--ca) and/or peer fingerprint verification (--peer-fingerprint)",
            cure,
        ));
    }
    let has_key = !matches!(tls.key, PrivateKey::None);
    match (draft.tls.cert.is_some(), has_key) {
        (true, false) => {
            return Err(ProfileError::whole(
                "You must define private key file (--key), as there is a certificate (--cert)",
                "Add `key FILE` or a <key> block; if one of --cert or --key is used, both must be",
            ));
        }
        (false, true) => {
            return Err(ProfileError::whole(
                "You must define certificate file (--cert), as there is a private key (--key)",
                "Add `cert FILE` or a <cert> block; if one of --cert or --key is used, both must be",
            ));
        }
        (false, false) if kind != Kind::Client => {
            return Err(ProfileError::whole(
                "You must define certificate file (--cert), and private key file (--key)",
                "Add `cert FILE` and `key FILE`, or <cert> and <key> blocks",
            ));
        }
        (false, false) if auth.source == CredentialSource::None => {
            return Err(ProfileError::whole(
                "No client-side authentication method is specified",
                "Use `cert` and `key`, or `auth-user-pass`",
            ));
        }
        _ => {}
    }
    if tls.min_version > tls.max_version {
        return Err(ProfileError::whole(
            "tls-version-min is greater than tls-version-max",
            "Remove one of the two lines",
        ));
    }
    if matches!(kind, Kind::Server | Kind::Peer(true)) {
        listener(draft, tls);
        return Ok(());
    }
    let rules = &tls.rules;
    let checked = rules.role.is_some()
        || rules.name.is_some()
        || !rules.key_usage.is_empty()
        || rules.extended_key_usage.is_some()
        || !rules.fingerprints.is_empty();
    if !checked {
        draft.note(
            "No server certificate verification method has been enabled: any holder of a certificate of the same \
             CA, also another client, can pose as the server; write `remote-cert-tls server`",
        );
    }
    Ok(())
}

/// Warns of what helps no TLS server.
fn listener(draft: &mut Draft, tls: &TlsMaterial) {
    if let Some((name, origin)) = draft.server.dh.clone()
        && name != "none"
    {
        draft.warn(&origin, "the parameters of `dh` are not used, keys are exchanged with elliptic curves only; write `dh none`");
    }
    if tls.rules.role == Some(CertRole::Server) {
        draft.note(
            "`remote-cert-tls server` refuses clients whose certificates are for clients; write `remote-cert-tls client`",
        );
    }
}
