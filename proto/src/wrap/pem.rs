//! Sections of key files: the text between a BEGIN and an END line, and errors that say what is there
//! instead.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::static_key::KeyFileError;

/// What a key file holds, by the label of its BEGIN line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    StaticKey,
    ClientKeyV2,
    ServerKeyV2,
    TokenSecret,
}

impl Label {
    const fn text(self) -> &'static str {
        match self {
            Self::StaticKey => "OpenVPN Static key V1",
            Self::ClientKeyV2 => "OpenVPN tls-crypt-v2 client key",
            Self::ServerKeyV2 => "OpenVPN tls-crypt-v2 server key",
            Self::TokenSecret => "OpenVPN auth-token server key",
        }
    }

    /// How to make such a file.
    const fn cure(self) -> &'static str {
        match self {
            Self::StaticKey => "`openvpn --genkey secret FILE` makes one",
            Self::ClientKeyV2 => {
                "`openvpn --tls-crypt-v2 SERVER_KEY --genkey tls-crypt-v2-client FILE` makes one"
            }
            Self::ServerKeyV2 => "`openvpn --genkey tls-crypt-v2-server FILE` makes one",
            Self::TokenSecret => "`openvpn --genkey auth-token FILE` makes one",
        }
    }

    /// An error about a section of this kind.
    pub(crate) fn error(self, what: impl core::fmt::Display) -> KeyFileError {
        KeyFileError(format!("{}: {what}; {}", self.text(), self.cure()))
    }
}

/// The lines between BEGIN and END of the section, each with its number in the text, from 1. Text around
/// the section is ignored.
pub(super) fn section(text: &str, label: Label) -> Result<Vec<(usize, &str)>, KeyFileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let begin = format!("-----BEGIN {}-----", label.text());
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    if !lines.any(|(_, line)| line == begin) {
        return Err(wrong_content(text, label, &begin));
    }
    let mut found = Vec::new();
    for (number, line) in lines {
        if line.starts_with('-') {
            let end = format!("-----END {}-----", label.text());
            if line == end {
                return Ok(found);
            }
            return Err(label.error(format_args!("line {number} should read `{end}`")));
        }
        found.push((number, line));
    }
    Err(label.error("there is no END line, so the file is cut off"))
}

/// The base64 of a section as bytes.
pub(crate) fn decode(text: &str, label: Label) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let lines = section(text, label)?;
    let mut joined = Zeroizing::new(String::with_capacity(text.len()));
    lines.iter().for_each(|(_, line)| joined.push_str(line));
    // The capacity is set beforehand because a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(joined.len()));
    STANDARD.decode_vec(joined.as_bytes(), &mut bytes).map_err(|_| {
        let odd =
            lines.iter().find(|(_, l)| !l.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)));
        match odd {
            Some((number, _)) => label.error(format_args!("line {number} is no base64")),
            None => label.error("the base64 text is cut off or has something inserted"),
        }
    })?;
    Ok(bytes)
}

/// A section with `bytes` as base64, 64 characters in a line as OpenSSL writes it.
pub(super) fn encode(label: Label, bytes: &[u8]) -> Zeroizing<String> {
    let mut base64 = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    STANDARD.encode_string(bytes, &mut base64);
    wrap_lines(label, &base64, 64)
}

/// A section with `text` in lines of `width` characters. `text` is ASCII.
pub(super) fn wrap_lines(label: Label, text: &str, width: usize) -> Zeroizing<String> {
    // Text that grows leaves copies behind.
    let frame = 2 * (label.text().len() + "-----BEGIN -----\n".len());
    let mut out = Zeroizing::new(String::with_capacity(frame + text.len() + text.len().div_ceil(width)));
    out.extend(["-----BEGIN ", label.text(), "-----\n"]);
    for line in text.as_bytes().chunks(width) {
        out.extend(line.iter().map(|&byte| char::from(byte)));
        out.push('\n');
    }
    out.extend(["-----END ", label.text(), "-----\n"]);
    out
}

fn wrong_content(text: &str, label: Label, begin: &str) -> KeyFileError {
    let found = text.lines().enumerate().find_map(|(i, line)| {
        let name = line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        Some((i + 1, name))
    });
    let Some((number, name)) = found else {
        let hex =
            !text.trim().is_empty() && text.chars().all(|c| c.is_ascii_hexdigit() || c.is_ascii_whitespace());
        return label.error(if text.trim().is_empty() {
            "the file is empty".to_owned()
        } else if hex {
            format!("there are hex digits, but the line `{begin}` in front of them is missing")
        } else {
            format!("the line `{begin}` is missing")
        });
    };
    let hint = match name {
        "OpenVPN Static key V1" => " (a static key, for the options tls-crypt and tls-auth)",
        "OpenVPN tls-crypt-v2 client key" => " (a client key, for the option tls-crypt-v2)",
        "OpenVPN tls-crypt-v2 server key" => " (a server key, for the option tls-crypt-v2 of servers only)",
        "OpenVPN auth-token server key" => " (for the option auth-gen-token-secret)",
        "CERTIFICATE" => " (a certificate, for the options ca and cert)",
        _ if name.ends_with("PRIVATE KEY") => " (a private key, for the option key)",
        _ => "",
    };
    let name: String = name.chars().take(64).flat_map(char::escape_default).collect();
    label.error(format_args!("line {number} begins `{name}`{hint}, expected `{begin}`"))
}
