//! A draft becomes a profile: files are read, defaults that depend on other options filled in, and what
//! contradicts itself is refused (`openvpn: options.c`, `options_postprocess`).

mod compression;
mod data;
mod expand;
mod listen;
mod management;
mod peer;
mod remotes;
mod role;
mod scripts;
mod server;
mod tls;

use std::path::PathBuf;

pub(crate) use remotes::server_key;

use zeroize::Zeroizing;

use crate::draft::{Draft, Fault, Place, Source, UserPass, device_kind};
use crate::error::ProfileError;
use crate::load::{Files, reason};
use crate::profile::{AuthOptions, CredentialSource, Device, Profile, RetryPolicy, TunnelOptions};
use crate::server::Role;
use role::Kind;

/// Finishes a draft. Warnings so far go along with an error too.
pub(crate) fn finish(mut draft: Draft, files: &dyn Files) -> Result<Profile, ProfileError> {
    match assemble(&mut draft, files) {
        Ok(profile) => Ok(profile),
        Err(error) => Err(ProfileError { warnings: draft.warnings, ..error }),
    }
}

fn assemble(draft: &mut Draft, files: &dyn Files) -> Result<Profile, ProfileError> {
    let kind = role::kind(draft)?;
    let device = device(draft)?;
    let ciphers = data::ciphers(draft)?;
    let auth_name = data::digest(draft)?;
    let compression = compression::resolve(draft)?;
    let (role, remotes) = match kind {
        Kind::Client => (Role::Client, remotes::resolve(draft, files, kind)?),
        Kind::Server => (Role::Server(Box::new(server::options(draft, files)?)), Vec::new()),
        Kind::Peer(tls_server) => {
            let (peer, remotes) = peer::options(draft, files, tls_server)?;
            (Role::Peer(peer), remotes)
        }
    };
    let auth = auth(draft, files)?;
    let tls = tls::material(draft, files)?;
    tls::complete(draft, kind, &tls, &auth)?;
    let scripts = scripts::resolve(draft, files)?;
    let management = management::resolve(draft, files)?;
    let status = management::status(draft);
    paths(draft);

    let mut timing = draft.timing;
    timing.server_poll = remotes.first().map_or(timing.server_poll, |remote| remote.poll_timeout);
    Ok(Profile {
        role,
        remotes,
        retry: RetryPolicy {
            shuffle: draft.shuffle,
            random_hostname: draft.random_hostname,
            resolve: draft.resolve,
            rounds: draft.rounds,
            keep_address: draft.keep_address,
        },
        device,
        socket: draft.socket.clone(),
        auth,
        host: draft.host.clone(),
        log: draft.log.clone(),
        process: draft.process.clone(),
        tunnel: TunnelOptions {
            ciphers: ciphers.list,
            fallback: ciphers.fallback,
            auth_name,
            compression,
            timing,
            keepalive: draft.keepalive,
            replay: draft.replay,
            pull: draft.policy.clone(),
            push_peer_info: draft.push_peer_info,
            peer_info: data::peer_info(draft),
        },
        tls,
        workers: draft.server.workers,
        scripts,
        management,
        status,
        warnings: std::mem::take(&mut draft.warnings),
    })
}

/// Resolves paths of the process against `cd`.
fn paths(draft: &mut Draft) {
    if let Some(file) = &draft.log.file {
        let path = draft.path(&file.path.to_string_lossy());
        draft.log.file = Some(crate::profile::LogFile { path, append: file.append });
    }
    let resolve = |path: Option<PathBuf>| path.map(|path| draft.path(&path.to_string_lossy()));
    let (pid_file, root) = (resolve(draft.process.pid_file.clone()), resolve(draft.process.chroot.clone()));
    (draft.process.pid_file, draft.process.chroot) = (pid_file, root);
}

fn device(draft: &Draft) -> Result<Device, ProfileError> {
    let name = draft.device.as_ref().map(|(name, _)| name.as_str());
    let kind = draft.device_type.as_ref().map(|(kind, _)| kind.as_str());
    let kind = device_kind(name, kind).map_err(|fault| {
        let (text, cure) = match fault {
            Fault::Refused(text, cure) => (text, cure),
            Fault::Value(text) => (text, "Write `dev tun` for a free name, or `dev tun0`".into()),
            Fault::Parameters => ("missing name".into(), "Write `dev tun`".into()),
        };
        match draft.device.as_ref().or(draft.device_type.as_ref()) {
            Some((_, origin)) => ProfileError::at(origin, text).cure(cure),
            None => ProfileError::whole(text, cure),
        }
    })?;
    Ok(Device { kind, queue_len: draft.queue_len, persist: draft.persist_tun })
}

fn auth(draft: &mut Draft, files: &dyn Files) -> Result<AuthOptions, ProfileError> {
    let source = match draft.user_pass.clone() {
        None => CredentialSource::None,
        Some(UserPass::Prompt) => CredentialSource::Prompt,
        Some(UserPass::From(source)) => {
            let text = text(draft, files, "auth-user-pass", &source, true)?;
            let mut lines = text.lines().map(|line| line.trim_end_matches('\r'));
            let username = lines.next().unwrap_or_default().to_string();
            if username.is_empty() {
                let text = "auth-user-pass: there is no user name".into();
                return Err(ProfileError::at(&source.origin, text)
                    .cure("Write the user name on the first line and the password on the second"));
            }
            let password = lines.next().filter(|line| !line.is_empty());
            CredentialSource::Given { username, password: password.map(|word| Zeroizing::new(word.into())) }
        }
    };
    Ok(AuthOptions {
        source,
        no_cache: draft.no_cache,
        retry: draft.auth_retry,
        challenge: draft.challenge.take(),
    })
}

/// The text that an option names. Warns if others can read the file of a secret.
fn text(
    draft: &mut Draft,
    files: &dyn Files,
    option: &str,
    source: &Source,
    secret: bool,
) -> Result<Zeroizing<String>, ProfileError> {
    let name = match &source.place {
        Place::Inline(text) => return Ok(text.clone()),
        Place::File(name) => name,
    };
    let path = draft.path(name);
    let bytes = files.read(&path).map(Zeroizing::new).map_err(|error| {
        let (why, cure) = reason(&error);
        ProfileError::at(&source.origin, format!("{option}: cannot read {}: {why}", path.display()))
            .cure(cure)
    })?;
    if secret && files.open_to_others(&path) {
        let name = path.display();
        draft.warn(
            &source.origin,
            format!("file '{name}' is group or others accessible; write `chmod 600 {name}`"),
        );
    }
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}
