//! `tls-cipher`, `tls-ciphersuites` and `tls-groups` in OpenSSL's, IANA's and OpenVPN's spelling.

use rustls::crypto::SupportedKxGroup;
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite};

use super::{TlsFailure, local};

/// A TLS 1.2 suite with its OpenSSL name and the keywords of OpenSSL's cipher strings that select it.
struct Named12 {
    suite: CipherSuite,
    openssl: &'static str,
    keywords: &'static [&'static str],
}

/// Keywords that select every suite we have.
const ALL12: &[&str] =
    &["DEFAULT", "ALL", "HIGH", "FIPS", "ECDH", "EECDH", "ECDHE", "KEECDH", "KECDHE", "TLSV1.2", "AEAD"];

const TABLE12: &[Named12] = &[
    Named12 {
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        openssl: "ECDHE-ECDSA-AES256-GCM-SHA384",
        keywords: &["ECDSA", "AECDSA", "AES", "AES256", "AESGCM", "SHA384", "SUITEB128", "SUITEB192"],
    },
    Named12 {
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        openssl: "ECDHE-RSA-AES256-GCM-SHA384",
        keywords: &["ARSA", "AES", "AES256", "AESGCM", "SHA384"],
    },
    Named12 {
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
        keywords: &["ECDSA", "AECDSA", "AES", "AES128", "AESGCM", "SHA256", "SUITEB128", "SUITEB128ONLY"],
    },
    Named12 {
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        openssl: "ECDHE-RSA-AES128-GCM-SHA256",
        keywords: &["ARSA", "AES", "AES128", "AESGCM", "SHA256"],
    },
    Named12 {
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        openssl: "ECDHE-ECDSA-CHACHA20-POLY1305",
        keywords: &["ECDSA", "AECDSA", "CHACHA20"],
    },
    Named12 {
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        openssl: "ECDHE-RSA-CHACHA20-POLY1305",
        keywords: &["ARSA", "CHACHA20"],
    },
];

const TABLE13: &[(CipherSuite, &str)] = &[
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
];

/// Groups with all names they go by, lower case; the first is OpenSSL's.
const GROUPS: &[(NamedGroup, &[&str])] = &[
    (NamedGroup::X25519, &["x25519"]),
    (NamedGroup::secp256r1, &["prime256v1", "secp256r1", "p-256", "p256"]),
    (NamedGroup::secp384r1, &["secp384r1", "p-384", "p384"]),
    (NamedGroup::X25519MLKEM768, &["x25519mlkem768"]),
    (NamedGroup::secp256r1MLKEM768, &["secp256r1mlkem768"]),
];

/// Groups that are offered only if named.
const ON_REQUEST: &[NamedGroup] = &[NamedGroup::X25519MLKEM768, NamedGroup::secp256r1MLKEM768];

/// OpenSSL's name of a suite.
pub(super) fn openssl_name(suite: CipherSuite) -> &'static str {
    let name12 = TABLE12.iter().find(|named| named.suite == suite).map(|named| named.openssl);
    let name13 = TABLE13.iter().find(|(id, _)| *id == suite).map(|(_, name)| *name);
    name12.or(name13).unwrap_or("unknown")
}

/// OpenSSL's name of a group with its size: `253 bits X25519`.
pub(super) fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "253 bits X25519",
        NamedGroup::secp256r1 => "256 bits ECprime256v1",
        NamedGroup::secp384r1 => "384 bits ECsecp384r1",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::secp256r1MLKEM768 => "SecP256r1MLKEM768",
        _ => "unknown",
    }
}

/// Suites of TLS 1.3 in the order of `wanted`, or all.
pub(super) fn tls13(
    have: &[SupportedCipherSuite],
    wanted: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, TlsFailure> {
    let have: Vec<_> = have.iter().filter(|s| s.tls13().is_some()).copied().collect();
    if wanted.is_empty() {
        return Ok(have);
    }
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    for name in words(wanted) {
        let canonical = name.to_ascii_uppercase().replace('-', "_");
        let id = TABLE13.iter().find(|(_, n)| *n == canonical).map(|(id, _)| *id);
        match have.iter().find(|s| Some(s.suite()) == id) {
            Some(suite) if chosen.iter().any(|s| s.suite() == suite.suite()) => {}
            Some(suite) => chosen.push(*suite),
            None => {
                notes.push(format!("`tls-ciphersuites`: {name} is unknown or not supported and was skipped"))
            }
        }
    }
    if chosen.is_empty() {
        let names: Vec<_> = have.iter().map(|s| openssl_name(s.suite())).collect();
        return Err(local(format!(
            "`tls-ciphersuites {}` leaves no cipher suite. Supported are {}",
            wanted.join(":"),
            names.join(":")
        )));
    }
    Ok(chosen)
}

/// Suites of TLS 1.2 that the cipher string selects, in its order, or all.
///
/// As in OpenSSL, a plain word adds, `-` takes away, `!` takes away for good, `+` moves to the end, and `A+B`
/// means both. `@SECLEVEL` up to 2 changes nothing, since keys and signatures are always held to that level.
pub(super) fn tls12(
    have: &[SupportedCipherSuite],
    wanted: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, TlsFailure> {
    let named: Vec<&Named12> =
        TABLE12.iter().filter(|named| have.iter().any(|s| s.suite() == named.suite)).collect();
    let mut chosen: Vec<&Named12> = Vec::new();
    let mut killed: Vec<CipherSuite> = Vec::new();
    let mut only_directives = true;
    for word in words(wanted) {
        if let Some(directive) = word.strip_prefix('@') {
            check_directive(directive)?;
            continue;
        }
        let (action, selector) = match word.as_bytes().first() {
            Some(b @ (b'!' | b'-' | b'+')) => (Some(*b), &word[1..]),
            _ => (None, word),
        };
        only_directives = false;
        let matches: Vec<&Named12> = named.iter().filter(|n| selects(selector, n)).copied().collect();
        if matches.is_empty() && action.is_none() {
            notes.push(format!("`tls-cipher`: {selector} is unknown or not supported and was skipped"));
        }
        let hit = |n: &&Named12| matches.iter().any(|m| m.suite == n.suite);
        match action {
            None => {
                let add = matches.iter().filter(|m| !killed.contains(&m.suite));
                let add: Vec<_> =
                    add.filter(|m| !chosen.iter().any(|n| n.suite == m.suite)).copied().collect();
                chosen.extend(add);
            }
            Some(b'+') => {
                let (moved, kept): (Vec<_>, Vec<_>) = chosen.into_iter().partition(hit);
                chosen = kept.into_iter().chain(moved).collect();
            }
            Some(action) => {
                chosen.retain(|n| !hit(n));
                if action == b'!' {
                    killed.extend(matches.iter().map(|m| m.suite));
                }
            }
        }
    }
    if only_directives {
        chosen.clone_from(&named);
    }
    if chosen.is_empty() {
        let names: Vec<_> = named.iter().map(|n| n.openssl).collect();
        return Err(local(format!(
            "`tls-cipher {}` leaves no cipher suite. Supported are {}; drop the option to offer them all",
            wanted.join(":"),
            names.join(":")
        )));
    }
    Ok(chosen.iter().filter_map(|n| have.iter().find(|s| s.suite() == n.suite)).copied().collect())
}

/// Groups in the order of `wanted`, or all that are not only on request.
pub(super) fn groups(
    have: &[&'static dyn SupportedKxGroup],
    wanted: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<&'static dyn SupportedKxGroup>, TlsFailure> {
    if wanted.is_empty() {
        return Ok(have.iter().filter(|g| !ON_REQUEST.contains(&g.name())).copied().collect());
    }
    let mut chosen: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for name in words(wanted) {
        let lower = name.to_ascii_lowercase();
        let id = GROUPS.iter().find(|(_, names)| names.contains(&lower.as_str())).map(|(id, _)| *id);
        match have.iter().find(|g| Some(g.name()) == id) {
            Some(group) if chosen.iter().any(|g| g.name() == group.name()) => {}
            Some(group) => chosen.push(*group),
            None => notes.push(format!("`tls-groups`: {name} is unknown or not supported and was skipped")),
        }
    }
    if chosen.is_empty() {
        let names =
            GROUPS.iter().filter(|(id, _)| have.iter().any(|g| g.name() == *id)).map(|(_, names)| names[0]);
        return Err(local(format!(
            "`tls-groups {}` leaves no group. Supported are {}",
            wanted.join(":"),
            names.collect::<Vec<_>>().join(":")
        )));
    }
    Ok(chosen)
}

fn words(lists: &[String]) -> impl Iterator<Item = &str> {
    lists.iter().flat_map(|list| list.split([':', ',', ' '])).filter(|word| !word.is_empty())
}

fn selects(selector: &str, named: &Named12) -> bool {
    let upper = selector.to_ascii_uppercase();
    let iana = format!("{:?}", named.suite);
    if upper == named.openssl || upper.replace('-', "_") == iana {
        return true;
    }
    upper.split('+').all(|word| ALL12.contains(&word) || named.keywords.contains(&word))
}

fn check_directive(directive: &str) -> Result<(), TlsFailure> {
    match directive.strip_prefix("SECLEVEL=") {
        Some("0" | "1" | "2") => Ok(()),
        Some(level) => Err(local(format!(
            "`tls-cipher`: @SECLEVEL={level} is not supported, only 0 to 2, which all mean: RSA from 2048 bits and no \
             SHA-1 signatures"
        ))),
        None if directive == "STRENGTH" => Ok(()),
        None => Err(local(format!(
            "`tls-cipher`: @{directive} is unknown; write @SECLEVEL=0 to 2, or leave it out"
        ))),
    }
}
