//! Clients of a deployment: who there is, who comes, who goes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use oxivpn_proto::wrap::tls_crypt_v2::ServerKeyV2;
use zeroize::Zeroizing;

use super::authority::{Authority, Facts, Purpose, RevocationList};
use super::deploy::{CLIENTS, REVOKED};
use super::files::{self, Readers};
use super::{plan, words};
use crate::{clock, genkey};

/// Makes the certificate and the profile of a client. `begin` is what the profile begins with.
pub(super) fn make(
    dir: &Path,
    name: &str,
    authority: &Authority,
    wrapping: &ServerKeyV2,
    begin: &str,
) -> Result<()> {
    let identity = authority.issue(name, Purpose::Client)?;
    let key = genkey::client(wrapping, None)?;
    let profile = words::profile(name, begin, authority.certificate(), &identity, &key);
    // The certificate first: what has been signed can be revoked, come what may.
    files::create(&certificate(dir, name), &identity.certificate, Readers::All)?;
    files::create(&profile_of(dir, name), &profile, Readers::Owner)
}

/// `oxivpn add-client`.
pub(super) fn add(dir: &Path, names: &[String]) -> Result<String> {
    let _lock = files::lock(dir)?;
    for name in names {
        let name = plan::client_name(name)?;
        if certificate(dir, &name).exists() || profile_of(dir, &name).exists() {
            bail!(
                "there is a client {name} already; nothing was overwritten. Take another name, or revoke that one \
                 first: oxivpn revoke {} {name}",
                words::shell(dir)
            );
        }
    }
    let authority = Authority::load(dir)?;
    let wrapping = Zeroizing::new(files::read(dir, "tls-crypt-v2.key")?);
    let wrapping = ServerKeyV2::from_pem(&wrapping)
        .map_err(|error| anyhow!("{}: {error}", dir.join("tls-crypt-v2.key").display()))?;
    let begin = files::read(dir, "client.conf")?;
    let mut out = String::new();
    for name in names {
        make(dir, name, &authority, &wrapping, &begin).with_context(|| format!("client {name}"))?;
        out += &format!("{}\n", profile_of(dir, name).display());
    }
    out += "Hand it over on a safe way, since it holds the private key. The server needs no restart.\n";
    Ok(out)
}

/// `oxivpn revoke`.
pub(super) fn revoke(dir: &Path, names: &[String]) -> Result<String> {
    let _lock = files::lock(dir)?;
    let authority = Authority::load(dir)?;
    let mut list = RevocationList::load(dir)?;
    let mut found = Vec::new();
    for name in names {
        let name = plan::client_name(name)?;
        let path = certificate(dir, &name);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "there is no client {name}, so nobody was revoked; see who there is: oxivpn list-clients {}",
                words::shell(dir)
            ),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let facts = Facts::of(&text).with_context(|| format!("{}", path.display()))?;
        list.revoke(&facts.serial);
        found.push((name, facts.serial));
    }
    list.number += 1;
    // From here on they are out, whatever happens to the other files.
    files::replace(&dir.join("crl.pem"), &authority.sign(&list)?, Readers::All)?;
    let mut out = String::new();
    for (name, serial) in found {
        put_away(dir, &name, &serial)?;
        out += &format!("{name} is revoked.\n");
    }
    Ok(out + words::revoked())
}

/// Makes room for another client of that name. A profile that nobody can use is deleted.
fn put_away(dir: &Path, name: &str, serial: &[u8]) -> Result<()> {
    let number: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    let place = dir.join(REVOKED).join(format!("{name}.{number}.crt"));
    fs::rename(certificate(dir, name), &place)
        .with_context(|| format!("cannot write {}", place.display()))?;
    let profile = profile_of(dir, name);
    match fs::remove_file(&profile) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(anyhow!(error).context(format!("cannot delete {}", profile.display())))
        }
        _ => Ok(()),
    }
}

/// `oxivpn list-clients`.
pub(super) fn list(dir: &Path) -> Result<String> {
    let revocations = RevocationList::load(dir)?;
    let mut rows: Vec<(String, String, &str)> = Vec::new();
    for place in [CLIENTS, REVOKED] {
        for path in certificates(&dir.join(place))? {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let facts = Facts::of(&text).with_context(|| format!("{}", path.display()))?;
            let state = match revocations.contains(&facts.serial) {
                true => "revoked",
                false if facts.until <= clock::unix() => "expired",
                false => "valid",
            };
            rows.push((facts.name, facts.last_day, state));
        }
    }
    rows.sort_by(|a, b| (a.2 == "revoked", a).cmp(&(b.2 == "revoked", b)));
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0).max(6);
    let mut out = format!("{:width$}  {:10}  STATE\n", "CLIENT", "UNTIL");
    for (name, until, state) in rows {
        out += &format!("{name:width$}  {until:10}  {state}\n");
    }
    Ok(out)
}

fn certificates(dir: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list {}; name a directory that `oxivpn setup` has made", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn certificate(dir: &Path, name: &str) -> PathBuf {
    dir.join(CLIENTS).join(format!("{name}.crt"))
}

fn profile_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(CLIENTS).join(format!("{name}.ovpn"))
}
