//! Control channel keys, certificates, user name and password (man sections tls, client, pkcs11).

use oxivpn_proto::options::values::number;
use oxivpn_proto::tls::rustls::TlsVersion;
use oxivpn_proto::tls::verify::{CertRole, NameRule};
use oxivpn_proto::wrap::static_key::KeyDirection;

use super::{Entry, MANY, honoured, not_built, quiet, refused, warned};
use crate::draft::{Draft, Fault, Place, Revoked, UserPass};
use crate::grammar::Line;
use crate::profile::{AuthRetry, StaticChallenge};

const TOKEN: &str =
    "Give certificate and key as files or inline with `cert` and `key`, or use the OpenVPN client";
const SCRIPT: &str = "Remove the line, or use the OpenVPN client";
const PUSHED: &str = "has a meaning only when a server pushes it; remove the line";

pub(super) const ENTRIES: &[Entry] = &[
    honoured("tls-auth FILE [DIRECTION]", 1, 2, |d, l| {
        if let Some(word) = l.word(1) {
            d.wrap_mut().direction = direction(word)?;
        }
        if let Some(source) = l.source()? {
            d.wrap_mut().auth = Some(source);
        }
        Ok(())
    })
    .inline()
    .in_block(),
    honoured("key-direction 0|1", 1, 1, |d, l| {
        d.wrap_mut().direction = direction(l.first()?)?;
        Ok(())
    })
    .in_block(),
    honoured("tls-crypt FILE", 1, 2, |d, l| {
        if let Some(source) = l.source()? {
            d.wrap_mut().crypt = Some(source);
        }
        Ok(())
    })
    .inline()
    .in_block(),
    honoured("tls-crypt-v2 FILE", 1, 2, |d, l| {
        match l.word(1) {
            None => {}
            Some("force-cookie") => d.server.force_cookie = true,
            Some("allow-noncookie") => d.server.force_cookie = false,
            Some(word) => return Err(Fault::Value(format!("Unsupported tls-crypt-v2 argument: {word}"))),
        }
        if let Some(source) = l.source()? {
            d.wrap_mut().crypt_v2 = Some(source);
        }
        Ok(())
    })
    .inline()
    .in_block(),
    honoured("ca FILE", 1, 1, |d, l| {
        d.tls.ca = l.source()?.or_else(|| d.tls.ca.take());
        Ok(())
    })
    .inline(),
    not_built(
        "capath",
        "a directory of certificates",
        "Write the certificates one after another into the file of `ca`",
    ),
    honoured("cert FILE", 1, 1, |d, l| {
        d.tls.cert = l.source()?.or_else(|| d.tls.cert.take());
        Ok(())
    })
    .inline(),
    honoured("extra-certs FILE", 1, 1, |d, l| {
        d.tls.extra_certs = l.source()?.or_else(|| d.tls.extra_certs.take());
        Ok(())
    })
    .inline(),
    honoured("key FILE", 1, 1, |d, l| {
        d.tls.key = l.source()?.or_else(|| d.tls.key.take());
        Ok(())
    })
    .inline(),
    not_built(
        "pkcs12",
        "reading PKCS#12 containers",
        "Take it apart with `openssl pkcs12 -in FILE -cacerts -nokeys -out ca.crt`, `-clcerts -nokeys -out \
         client.crt`, and `-nocerts -out client.key`, and write `ca`, `cert`, and `key`",
    ),
    honoured("dh FILE", 1, 1, |d, l| {
        if let Some(source) = l.source()? {
            d.server.dh = Some((if l.word(0) == Some("none") { "none" } else { "" }.into(), source.origin));
        }
        Ok(())
    })
    .inline()
    .listener_or_warn("is ignored: Diffie-Hellman parameters belong to the server; remove the line"),
    warned("ecdh-curve", "is ignored; write `tls-groups` to choose key exchange groups"),
    honoured("tls-groups LIST", 1, 1, |d, l| {
        d.tls.groups = list(l.first()?);
        Ok(())
    }),
    honoured("tls-cipher LIST", 1, 1, tls_cipher),
    honoured("tls-ciphersuites LIST", 1, 1, |d, l| {
        d.tls.suites13 = list(l.first()?);
        Ok(())
    }),
    honoured("tls-cert-profile legacy|preferred", 1, 1, cert_profile),
    honoured("tls-version-min VERSION [or-highest]", 1, 2, |d, l| {
        d.tls.min_version = match (l.first()?, l.word(1)) {
            (_, Some(word)) if word != "or-highest" => return Err(Fault::Parameters),
            // TLS 1.2 is the oldest here, so a lower demand is always met.
            ("1.0" | "1.1" | "1.2", _) => TlsVersion::V12,
            ("1.3", _) | (_, Some(_)) => TlsVersion::V13,
            (other, None) => return Err(Fault::Value(format!("unknown tls-version-min parameter: {other}"))),
        };
        Ok(())
    }),
    honoured("tls-version-max VERSION", 1, 1, |d, l| {
        d.tls.max_version = match l.first()? {
            "1.2" => TlsVersion::V12,
            "1.3" => TlsVersion::V13,
            old @ ("1.0" | "1.1") => {
                return Err(Fault::Refused(
                    format!("TLS {old} is broken and not supported"),
                    "Remove the line; the server must offer TLS 1.2 or 1.3".into(),
                ));
            }
            other => return Err(Fault::Value(format!("unknown tls-version-max parameter: {other}"))),
        };
        Ok(())
    }),
    honoured("remote-cert-tls server|client", 1, 1, |d, l| {
        d.tls.role = Some(role(l, "--remote-cert-tls")?);
        Ok(())
    }),
    honoured("remote-cert-ku USAGE..", 1, MANY, |d, l| {
        d.tls.key_usage = l.strs().into_iter().map(usage).collect::<Result<_, _>>()?;
        Ok(())
    }),
    honoured("remote-cert-eku OID", 1, 1, |d, l| {
        d.tls.extended_key_usage = Some(l.first()?.into());
        Ok(())
    }),
    honoured("verify-x509-name NAME [subject|name|name-prefix]", 1, 2, |d, l| {
        let name = l.first()?.to_string();
        if name.is_empty() {
            return Err(Fault::Parameters);
        }
        d.tls.name = Some(match l.word(1) {
            None | Some("subject") => NameRule::Subject(name),
            Some("name") => NameRule::Name(name),
            Some("name-prefix") => NameRule::NamePrefix(name),
            Some(other) => return Err(Fault::Value(format!("unknown X.509 name type: {other}"))),
        });
        Ok(())
    }),
    honoured("ns-cert-type server|client", 1, 1, |d, l| {
        d.tls.role = Some(role(l, "--ns-cert-type")?);
        d.warn(
            &l.origin,
            "the Netscape certificate type is out of use, key usage is checked in its place as by \
             `remote-cert-tls`; write `remote-cert-tls server`",
        );
        Ok(())
    }),
    not_built(
        "verify-hash",
        "checking the fingerprint of a CA",
        "Put that CA into `ca`, or name the server's certificate with `peer-fingerprint`",
    ),
    honoured("peer-fingerprint SHA256", 1, 1, fingerprints).inline(),
    honoured("crl-verify FILE|DIR [dir]", 1, 2, |d, l| {
        let directory = match l.word(1) {
            None => false,
            Some("dir") => true,
            Some(_) => return Err(Fault::Parameters),
        };
        if let Some(source) = l.source()? {
            d.tls.revoked = Some(if directory { Revoked::Directory(source) } else { Revoked::List(source) });
        }
        Ok(())
    })
    .inline(),
    honoured("askpass [FILE]", 0, 1, |d, l| {
        d.tls.askpass = Some(match l.word(0) {
            None | Some("stdin") => None,
            Some(_) => l.source()?,
        });
        Ok(())
    }),
    honoured("auth-nocache", 0, 0, |d, _| {
        d.no_cache = true;
        Ok(())
    }),
    not_built("tls-export-cert", "writing the peer's certificate to files", SCRIPT),
    not_built("x509-username-field", "another name field", "Only the common name is used; remove the line"),
    warned("x509-track", "is ignored: it only feeds scripts and plug-ins; remove the line"),
    refused(
        "compat-names",
        "it was removed in OpenVPN 2.5",
        "Remove the line, and write names as `C=US, O=Org, CN=name`",
    ),
    refused("no-name-remapping", "it was removed in OpenVPN 2.5", "Remove the line"),
    refused("tls-remote", "it was removed in OpenVPN 2.4", "Write `verify-x509-name NAME name` in its place"),
    not_built("cryptoapicert", "the Windows certificate store", TOKEN),
    not_built("pkcs11-providers", "hardware tokens", TOKEN),
    not_built("pkcs11-id", "hardware tokens", TOKEN),
    not_built("pkcs11-id-management", "hardware tokens", TOKEN),
    not_built("pkcs11-pin-cache", "hardware tokens", TOKEN),
    not_built("pkcs11-cert-private", "hardware tokens", TOKEN),
    not_built("pkcs11-private-mode", "hardware tokens", TOKEN),
    not_built("pkcs11-protected-authentication", "hardware tokens", TOKEN),
    refused("engine", "OpenSSL engines do not exist in this TLS library", TOKEN),
    warned("providers", "is ignored: OpenSSL providers do not exist in this TLS library; remove the line"),
    quiet("prng"),
    warned("keying-material-exporter", "is ignored: it only feeds plug-ins; remove the line"),
    warned("use-prediction-resistance", "is ignored: it was removed in OpenVPN 2.8; remove the line"),
    honoured("auth-user-pass [FILE]", 0, 1, |d, l| {
        d.user_pass = Some(match (l.word(0), &l.inline) {
            (None | Some("stdin"), None) => UserPass::Prompt,
            (Some("username-only"), None) => {
                return Err(Fault::Refused(
                    "a user name without password is not built yet".into(),
                    "Write `auth-user-pass` and give an empty password".into(),
                ));
            }
            _ => match l.source()? {
                Some(source) => UserPass::From(source),
                None => return Ok(()),
            },
        });
        d.user_pass_at = Some(l.origin.clone());
        Ok(())
    })
    .inline()
    .not_server(
        "--auth-user-pass cannot be used with --mode server (it should be used on the client side only)",
        "Remove the line; a server checks logins with `auth-user-pass-verify` or `management-client-auth`",
    ),
    honoured("auth-retry none|nointeract|interact", 1, 1, |d, l| {
        d.auth_retry = match l.first()? {
            "none" => AuthRetry::None,
            "nointeract" => AuthRetry::NoInteract,
            "interact" => AuthRetry::Interact,
            other => {
                return Err(Fault::Value(format!("'{other}' must be none, nointeract, or interact")));
            }
        };
        Ok(())
    }),
    honoured("static-challenge TEXT 0|1 [scrv1|concat]", 2, 3, |d, l| {
        let concat = match l.word(2) {
            None | Some("scrv1") => false,
            Some("concat") => true,
            Some(other) => return Err(Fault::Value(format!("'{other}' must be scrv1 or concat"))),
        };
        let echo = l.word(1).and_then(|echo| echo.parse().ok()).is_some_and(|echo: i64| echo != 0);
        d.challenge = Some(StaticChallenge { text: l.first()?.into(), echo, concat });
        Ok(())
    }),
    warned("auth-token", PUSHED),
    warned("auth-token-user", PUSHED),
    honoured("push-peer-info", 0, 0, |d, _| {
        d.push_peer_info = true;
        Ok(())
    }),
];

fn direction(word: &str) -> Result<KeyDirection, Fault> {
    match word {
        "0" => Ok(KeyDirection::Normal),
        "1" => Ok(KeyDirection::Inverse),
        other => Err(Fault::Value(format!("Unknown key direction '{other}', must be '0' or '1'"))),
    }
}

fn role(line: &Line, option: &str) -> Result<CertRole, Fault> {
    match line.first()? {
        "server" => Ok(CertRole::Server),
        "client" => Ok(CertRole::Client),
        _ => Err(Fault::Value(format!("{option} must be 'client' or 'server'"))),
    }
}

fn usage(word: &str) -> Result<u16, Fault> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    u16::from_str_radix(digits, 16)
        .ok()
        .filter(|mask| *mask != 0)
        .ok_or_else(|| Fault::Value(format!("'{word}' is not a key usage in hex, such as a0")))
}

fn list(text: &str) -> Vec<String> {
    text.split(':').filter(|item| !item.is_empty()).map(Into::into).collect()
}

/// Names of suites are kept; OpenSSL's wildcards (`DEFAULT`, `HIGH`, `!aNULL`, `@SECLEVEL=0`) have no
/// counterpart here and leave the library's own choice.
fn tls_cipher(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let words = list(line.first()?);
    let wildcard = |word: &String| word.starts_with(['!', '@', '-', '+']) || !word.contains(['-', '_']);
    if words.iter().any(wildcard) {
        draft.warn(
            &line.origin,
            "wildcards in tls-cipher are not known here, the built-in list of suites is used where they stand; name \
             the suites, such as TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384",
        );
    }
    let opens = |word: &String| wildcard(word) && !word.starts_with(['!', '@', '-']);
    draft.tls.suites12 = if words.iter().any(opens) {
        Vec::new()
    } else {
        words.into_iter().filter(|word| !wildcard(word)).collect()
    };
    Ok(())
}

fn cert_profile(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    match line.first()? {
        "legacy" | "preferred" => Ok(()),
        "insecure" => {
            draft.warn(
                &line.origin,
                "tls-cert-profile insecure is ignored: RSA keys under 2048 bits and SHA-1 are never accepted; \
                 renew the certificates and remove the line",
            );
            Ok(())
        }
        "suiteb" => Err(Fault::Refused(
            "`tls-cert-profile suiteb` is not built yet".into(),
            "Choose with `tls-cipher`, `tls-ciphersuites`, and `tls-groups`".into(),
        )),
        other => Err(Fault::Value(format!("unknown tls-cert-profile: {other}"))),
    }
}

/// SHA-256 fingerprints, one a line in an inline block (`openvpn: options.c`,
/// `parse_hash_fingerprint_multiline`).
fn fingerprints(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let Some(source) = line.source()? else { return Ok(()) };
    let text = match source.place {
        Place::File(word) => word.into(),
        Place::Inline(text) => text,
    };
    let mut found = Vec::new();
    for text in text.lines().map(str::trim) {
        if !text.is_empty() && !text.starts_with(['#', ';']) {
            found.push(fingerprint(text)?);
        }
    }
    if found.is_empty() {
        return Err(Fault::Value("no fingerprint is given".into()));
    }
    draft.tls.fingerprints.append(&mut found);
    Ok(())
}

fn fingerprint(text: &str) -> Result<[u8; 32], Fault> {
    let bad = || {
        Fault::Value(format!(
            "'{text}' is not a SHA-256 fingerprint of 32 hex bytes with colons between; `openssl x509 -fingerprint \
             -sha256 -noout -in server.crt` prints it"
        ))
    };
    let mut bytes = [0; 32];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
    }
    if parts.next().is_some() { Err(bad()) } else { Ok(bytes) }
}

/// `nice`: a signed number.
pub(super) fn signed(word: &str, min: i32, max: i32) -> Result<i32, Fault> {
    let bad = || Fault::Value(format!("'{word}' is not a number from {min} to {max}"));
    let value = match word.strip_prefix('-') {
        Some(digits) => -(number(digits, 0, i32::MAX as u64).map_err(|_| bad())? as i64),
        None => number(word, 0, i32::MAX as u64).map_err(|_| bad())? as i64,
    };
    i32::try_from(value).ok().filter(|value| (min..=max).contains(value)).ok_or_else(bad)
}
