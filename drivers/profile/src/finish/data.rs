//! Ciphers, digest and peer info (`openvpn: ssl_ncp.c`, `mutate_ncp_cipher_list`).

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::wrap::static_key::HmacDigest;

use crate::draft::Draft;
use crate::error::ProfileError;
use crate::warn::Origin;

/// What `data-ciphers` means if nothing is written (`openvpn: ssl_ncp.h`).
const DEFAULT: [DataCipher; 3] = [DataCipher::Aes256Gcm, DataCipher::Aes128Gcm, DataCipher::ChaCha20Poly1305];

pub(super) struct Ciphers {
    pub(super) list: Vec<DataCipher>,
    pub(super) fallback: Option<DataCipher>,
}

pub(super) fn ciphers(draft: &mut Draft) -> Result<Ciphers, ProfileError> {
    let list = match draft.ciphers.list.clone() {
        None => DEFAULT.to_vec(),
        Some((text, origin)) => cipher_list(draft, &text, &origin)?,
    };
    let fallback = match draft.ciphers.fallback.clone() {
        None => None,
        Some((name, origin)) => known(&name, "data-ciphers-fallback", &origin)?.or_else(|| {
            draft.warn(
                &origin,
                format!(
                    "data-ciphers-fallback {name} is never used, as it is not an AEAD cipher; a server that cannot \
                     negotiate needs AES-256-GCM there"
                ),
            );
            None
        }),
    };
    if let Some((name, origin)) = draft.ciphers.single.clone() {
        let cipher = known(&name, "cipher", &origin)?;
        if cipher.is_none_or(|cipher| !list.contains(&cipher) && fallback != Some(cipher)) {
            let names: Vec<&str> = list.iter().map(|cipher| cipher.name()).collect();
            draft.warn(
                &origin,
                format!(
                    "DEPRECATED OPTION: --cipher set to '{name}' but missing in --data-ciphers ({}). It is ignored, \
                     the cipher is negotiated; remove the line",
                    names.join(":")
                ),
            );
        }
    }
    Ok(Ciphers { list, fallback })
}

fn cipher_list(draft: &mut Draft, text: &str, origin: &Origin) -> Result<Vec<DataCipher>, ProfileError> {
    let mut list: Vec<DataCipher> = Vec::new();
    for item in text.split(':').filter(|item| !item.is_empty()) {
        if item == "DEFAULT" {
            list.extend(DEFAULT);
            continue;
        }
        let (name, optional) = item.strip_prefix('?').map_or((item, false), |name| (name, true));
        match known(name, "data-ciphers", origin) {
            Ok(Some(cipher)) => list.push(cipher),
            Ok(None) if optional => {}
            Ok(None) => draft.warn(
                origin,
                format!(
                    "cipher {name} is not offered, as it is not an AEAD cipher; remove it from data-ciphers"
                ),
            ),
            Err(_) if optional => {}
            Err(error) => return Err(error),
        }
    }
    let mut seen = Vec::new();
    list.retain(|cipher| {
        let new = !seen.contains(cipher);
        seen.push(*cipher);
        new
    });
    if list.is_empty() {
        let text = "--data-ciphers list contains unsupported ciphers or is too long".into();
        return Err(ProfileError::at(origin, text)
            .cure("Write `data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305`, or remove the line"));
    }
    Ok(list)
}

/// The cipher, or `None` for one that OpenVPN knows and that is never used here.
fn known(name: &str, option: &str, origin: &Origin) -> Result<Option<DataCipher>, ProfileError> {
    if let Some(cipher) = DataCipher::from_name(name) {
        return Ok(Some(cipher));
    }
    let upper = name.to_ascii_uppercase();
    let modes = ["-CBC", "-CFB", "-CFB1", "-CFB8", "-OFB", "-CCM"];
    if upper == "NONE" || modes.iter().any(|mode| upper.ends_with(mode)) {
        return Ok(None);
    }
    let names = DataCipher::ALL.map(DataCipher::name);
    let near = names.into_iter().min_by_key(|known| strsim::damerau_levenshtein(&upper, known));
    let near = near.unwrap_or("AES-256-GCM");
    Err(ProfileError::at(origin, format!("Unsupported cipher in --{option}: {}", name.escape_debug()))
        .cure(format!("Did you mean {near}? Known are {}", names.join(", "))))
}

/// `auth`, canonical. It matters for tls-auth only, which refuses other digests itself.
pub(super) fn digest(draft: &mut Draft) -> Result<String, ProfileError> {
    let Some((name, origin)) = draft.ciphers.auth.clone() else {
        return Ok(HmacDigest::default().name().into());
    };
    if let Some(digest) = HmacDigest::from_name(&name) {
        return Ok(digest.name().into());
    }
    if name.is_empty()
        || name.len() > 32
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        let text = format!("auth: '{}' is not the name of a digest", name.escape_debug());
        return Err(ProfileError::at(&origin, text).cure("Write `auth SHA256` or what the server has"));
    }
    draft.warn(
        &origin,
        format!("auth {name} has no effect, as data ciphers authenticate by themselves; remove the line"),
    );
    Ok(name)
}

/// Lines of the peer info that come from `setenv` (`openvpn: ssl.c`, `push_peer_info`).
pub(super) fn peer_info(draft: &Draft) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (name, value) in &draft.process.environment {
        let always = matches!(name.as_str(), "IV_GUI_VER" | "IV_SSO");
        if always || draft.push_peer_info && name.starts_with("UV_") {
            lines.retain(|(other, _)| other != name);
            lines.push((name.clone(), value.clone()));
        }
    }
    lines
}
