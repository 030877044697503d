//! `--genkey`: makes a key and writes it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use oxivpn_profile::{Genkey, KeyKind};
use oxivpn_proto::wrap::generate;
use oxivpn_proto::wrap::static_key::KEY_LEN;
use oxivpn_proto::wrap::tls_crypt_v2::{SERVER_KEY_LEN, ServerKeyV2};
use zeroize::Zeroizing;

use crate::{clock, entropy};

/// Makes the key and writes it into the file or to the standard output. A file that exists is overwritten, as
/// OpenVPN does (`openvpn: crypto.c`, `write_key_file`, `write_pem_key_file`).
pub fn run(genkey: &Genkey) -> Result<()> {
    let text = make(&genkey.kind)?;
    match &genkey.file {
        Some(path) => write(path, &text),
        None => {
            io::stdout().write_all(text.as_bytes()).context("genkey: cannot write to the standard output")
        }
    }
}

/// The text of a new key.
pub fn make(kind: &KeyKind) -> Result<Zeroizing<String>> {
    match kind {
        KeyKind::Static => Ok(generate::static_key(&*random::<KEY_LEN>()?)),
        KeyKind::TlsCryptV2Server => server(),
        KeyKind::TlsCryptV2Client { server, metadata } => client(server, metadata.as_deref()),
        KeyKind::AuthToken => Ok(generate::token_secret(&*random::<{ generate::TOKEN_SECRET_LEN }>()?)),
    }
}

/// A new key of a server for `tls-crypt-v2`.
pub(crate) fn server() -> Result<Zeroizing<String>> {
    Ok(generate::server_key(&*random::<SERVER_KEY_LEN>()?))
}

/// A new key of a client for `tls-crypt-v2`, dated with the present unless there is `metadata`.
pub(crate) fn client(server: &ServerKeyV2, metadata: Option<&[u8]>) -> Result<Zeroizing<String>> {
    let metadata = match metadata {
        Some(data) => generate::user_metadata(data),
        None => generate::made_at(clock::unix()).to_vec(),
    };
    generate::client_key(server, &*random()?, &metadata)
        .context("genkey: the metadata are too long; give less, such as the number of an entry elsewhere")
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    entropy::fill(&mut *bytes).context("genkey")?;
    Ok(bytes)
}

/// In place, so that `/dev/stdout` is a file too. Only the owner may read a file that is new.
fn write(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| {
            format!(
                "genkey: cannot write {}; name a file in a directory that exists and that you may write to",
                path.display()
            )
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use oxivpn_proto::keys::token::secret_from_pem;
    use oxivpn_proto::wrap::static_key::StaticKey;
    use oxivpn_proto::wrap::tls_crypt_v2::ClientKeyV2;

    use super::*;

    #[test]
    fn each_kind_can_be_read_back_and_no_two_are_alike() {
        let kinds = [KeyKind::Static, KeyKind::TlsCryptV2Server, KeyKind::AuthToken];
        for kind in &kinds {
            assert_ne!(make(kind).unwrap(), make(kind).unwrap(), "{kind:?}");
        }
        StaticKey::from_text(&make(&kinds[0]).unwrap()).unwrap();
        let server = Arc::new(ServerKeyV2::from_pem(&make(&kinds[1]).unwrap()).unwrap());
        secret_from_pem(&make(&kinds[2]).unwrap()).unwrap();

        let dated = KeyKind::TlsCryptV2Client { server: server.clone(), metadata: None };
        let key = ClientKeyV2::from_pem(&make(&dated).unwrap()).unwrap();
        let metadata = server.unwrap(key.wrapped()).unwrap().metadata;
        let made = generate::made_at(clock::unix());
        assert_eq!(metadata[..7], made[..7], "the type and all but the last two bytes of the time");

        let named = KeyKind::TlsCryptV2Client { server: server.clone(), metadata: Some(b"me".to_vec()) };
        let key = ClientKeyV2::from_pem(&make(&named).unwrap()).unwrap();
        assert_eq!(server.unwrap(key.wrapped()).unwrap().metadata[..], *b"\0me");
    }

    #[test]
    fn a_file_is_for_its_owner_only_and_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let genkey = Genkey { kind: KeyKind::Static, file: Some(path.clone()), warnings: Vec::new() };
        run(&genkey).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let first = std::fs::read_to_string(&path).unwrap();
        run(&genkey).unwrap();
        let second = std::fs::read_to_string(&path).unwrap();
        assert_ne!(first, second);
        StaticKey::from_text(&second).unwrap();

        let nowhere = Genkey { file: Some(dir.path().join("no/key")), ..genkey };
        let error = format!("{:#}", run(&nowhere).unwrap_err());
        assert!(error.contains("no/key") && error.contains("directory that exists"), "{error}");
    }
}
