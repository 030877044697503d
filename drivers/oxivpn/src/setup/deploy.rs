//! A new deployment: all of its directory, or nothing.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use oxivpn_proto::wrap::tls_crypt_v2::ServerKeyV2;

use super::authority::{Authority, Purpose, RevocationList};
use super::files::{self, Readers};
use super::plan::{MAX_NAME, Plan};
use super::{clients, words};
use crate::genkey;

/// Directory of what belongs to clients.
pub(super) const CLIENTS: &str = "clients";

/// Directory of certificates that are revoked.
pub(super) const REVOKED: &str = "revoked";

/// Makes the directory of `plan`; returns what to do next.
pub(super) fn make(plan: &Plan) -> Result<String> {
    let dir = std::path::absolute(&plan.dir).context("the current directory is gone")?;
    check(&dir)?;
    let parent = dir.parent().with_context(|| format!("{} can't be made", dir.display()))?;
    let building =
        tempfile::Builder::new().prefix(".oxivpn-setup-").tempdir_in(parent).with_context(|| {
            format!("cannot make a directory in {}; it must exist and be yours to write to", parent.display())
        })?;
    fill(building.path(), &dir, plan)?;
    // Keys have modes of their own; the rest may be read by a server that has given up root.
    fs::set_permissions(building.path(), Permissions::from_mode(0o755))
        .and_then(|()| fs::rename(building.path(), &dir))
        .with_context(|| format!("cannot make {}", dir.display()))?;
    words::made(&dir, plan)
}

/// Refuses to touch what is there.
fn check(dir: &Path) -> Result<()> {
    if dir.to_str().is_none_or(|text| text.chars().any(char::is_control)) {
        bail!("{dir:?}: the name of the directory must be UTF-8 without control characters");
    }
    let entries = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(anyhow!(error).context(format!("{} is in the way", dir.display()))),
    };
    if entries {
        bail!(
            "{} exists and is not empty; nothing was overwritten. Name a new directory, or add to that one with \
             `oxivpn add-client`",
            dir.display()
        );
    }
    Ok(())
}

fn fill(building: &Path, dir: &Path, plan: &Plan) -> Result<()> {
    let name = match plan.host.len() + 7 {
        ..=MAX_NAME => format!("{} VPN CA", plan.host),
        _ => "VPN CA".into(),
    };
    let (authority, key) = Authority::new(&name)?;
    let create = |name: &str, text: &str, readers| files::create(&building.join(name), text, readers);
    create("ca.key", &key, Readers::Owner)?;
    create("ca.crt", authority.certificate(), Readers::All)?;
    let server = authority.issue("server", Purpose::Server(&plan.host))?;
    create("server.crt", &server.certificate, Readers::All)?;
    create("server.key", &server.key, Readers::Owner)?;
    let wrapping = genkey::server()?;
    create("tls-crypt-v2.key", &wrapping, Readers::Owner)?;
    let first = RevocationList { number: 1, ..RevocationList::default() };
    create("crl.pem", &authority.sign(&first)?, Readers::All)?;
    create("server.conf", &words::server(dir, plan), Readers::All)?;
    let begin = words::client(plan);
    create("client.conf", &begin, Readers::All)?;
    for name in [CLIENTS, REVOKED] {
        DirBuilder::new()
            .mode(0o700)
            .create(building.join(name))
            .with_context(|| format!("cannot make {}", dir.join(name).display()))?;
    }
    let wrapping = ServerKeyV2::from_pem(&wrapping).map_err(|error| anyhow!(error))?;
    for name in &plan.clients {
        clients::make(building, name, &authority, &wrapping, &begin)?;
    }
    Ok(())
}
