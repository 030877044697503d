//! What a command line may ask for other than a tunnel: keys to make, lists to show.

use core::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oxivpn_proto::wrap::tls_crypt_v2::{MAX_METADATA, ServerKeyV2};

use crate::draft::{Draft, Fault, GenkeyLine};
use crate::error::ProfileError;
use crate::finish;
use crate::grammar::Line;
use crate::load::Files;
use crate::warn::{Origin, Warning};

/// `--genkey`: a key to make and where to write it.
#[derive(Debug)]
pub struct Genkey {
    /// What kind of key.
    pub kind: KeyKind,
    /// File to write, resolved against `cd`; the standard output if there is none.
    pub file: Option<PathBuf>,
    /// What to tell the user.
    pub warnings: Vec<Warning>,
}

/// Kinds of keys that `--genkey` makes.
#[derive(Clone)]
pub enum KeyKind {
    /// 2,048 bits for `tls-auth` or `tls-crypt` (`OpenVPN Static key V1`).
    Static,
    /// `OpenVPN tls-crypt-v2 server key`.
    TlsCryptV2Server,
    /// `OpenVPN tls-crypt-v2 client key`.
    TlsCryptV2Client {
        /// Wraps the new key.
        server: Arc<ServerKeyV2>,
        /// Metadata of the user, without the type byte; `None` asks for the time of making in its place.
        metadata: Option<Vec<u8>>,
    },
    /// `OpenVPN auth-token server key`.
    AuthToken,
}

impl fmt::Debug for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "Static",
            Self::TlsCryptV2Server => "TlsCryptV2Server",
            Self::TlsCryptV2Client { .. } => "TlsCryptV2Client",
            Self::AuthToken => "AuthToken",
        })
    }
}

/// `--show-ciphers` and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// `--show-ciphers`.
    Ciphers,
    /// `--show-digests`.
    Digests,
    /// `--show-tls`.
    Tls,
    /// `--show-groups`, or `--show-curves`, its old name.
    Groups,
}

/// Takes `genkey`.
pub(crate) fn genkey(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let kind = line.word(0).unwrap_or("secret");
    if !["secret", "tls-auth", "tls-crypt", "tls-crypt-v2-server", "tls-crypt-v2-client", "auth-token"]
        .contains(&kind)
    {
        return Err(Fault::Value(format!("unknown genkey type: {}", kind.escape_debug())));
    }
    if line.word(2).is_some() && kind != "tls-crypt-v2-client" {
        return Err(Fault::Parameters);
    }
    draft.genkey = Some(GenkeyLine {
        kind: kind.into(),
        file: line.word(1).map(Into::into),
        metadata: line.word(2).map(Into::into),
        origin: line.origin.clone(),
    });
    Ok(())
}

/// Resolves `genkey` (`openvpn: init.c`, `do_genkey`).
pub(crate) fn resolve(
    draft: &mut Draft,
    line: &GenkeyLine,
    files: &dyn Files,
) -> Result<Genkey, ProfileError> {
    let at = |text: &str, cure: &str| Err(ProfileError::at(&line.origin, text.into()).cure(cure));
    let mut file = line.file.clone();
    let kind = match line.kind.as_str() {
        "tls-crypt-v2-server" => KeyKind::TlsCryptV2Server,
        "auth-token" => KeyKind::AuthToken,
        "tls-crypt-v2-client" => client(draft, line, files)?,
        _ => KeyKind::Static,
    };
    if let Some((old, origin)) = draft.secret.clone() {
        if !matches!(kind, KeyKind::Static) {
            return at(
                "Using --genkey type with --secret filename is not supported",
                "Write `--genkey TYPE FILE`",
            );
        }
        if file.is_some() {
            return at(
                "You must provide a filename to either --genkey or --secret, not both",
                "Write `--genkey secret FILE`",
            );
        }
        draft.warn(
            &origin,
            "Using --genkey --secret filename is DEPRECATED.  Use --genkey secret filename instead.",
        );
        file = Some(old);
    }
    let file = file.filter(|name| !name.is_empty()).map(|name| draft.path(&name));
    Ok(Genkey { kind, file, warnings: std::mem::take(&mut draft.warnings) })
}

fn client(draft: &mut Draft, line: &GenkeyLine, files: &dyn Files) -> Result<KeyKind, ProfileError> {
    let Some(source) = draft.wrap.crypt_v2.clone() else {
        let text = "--genkey tls-crypt-v2-client requires a server key to be set via --tls-crypt-v2 to create a \
                    client key";
        let cure = "Write `--tls-crypt-v2 SERVER-KEY --genkey tls-crypt-v2-client FILE`";
        return Err(ProfileError::at(&line.origin, text.into()).cure(cure));
    };
    let server = finish::server_key(draft, files, &source)?;
    let metadata = line.metadata.as_ref().map(|text| metadata(text, &line.origin)).transpose()?;
    Ok(KeyKind::TlsCryptV2Client { server: Arc::new(server), metadata })
}

fn metadata(text: &str, origin: &Origin) -> Result<Vec<u8>, ProfileError> {
    let bytes = STANDARD.decode(text).map_err(|_| {
        ProfileError::at(origin, "failed to base64 decode provided metadata".into())
            .cure("Encode it with `base64 -w0`")
    })?;
    if bytes.len() >= MAX_METADATA {
        let text = format!("metadata too long ({} bytes, max {} bytes)", bytes.len(), MAX_METADATA - 1);
        return Err(
            ProfileError::at(origin, text).cure("Give less, such as the number of an entry elsewhere")
        );
    }
    Ok(bytes)
}
