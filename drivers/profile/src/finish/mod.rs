//! A draft becomes a profile: files are read, defaults that depend on other options filled in, and what
//! contradicts itself is refused (`openvpn: options.c`, `options_postprocess`).

mod data;
mod remotes;
mod tls;

pub(crate) use remotes::server_key;

use zeroize::Zeroizing;

use crate::draft::{Draft, Fault, Place, Source, UserPass, device_kind};
use crate::error::ProfileError;
use crate::load::{Files, reason};
use crate::profile::{AuthOptions, CredentialSource, Device, Profile, RetryPolicy, TunnelOptions};
use crate::server::{Role, ScriptOptions};

/// Finishes a draft. Warnings so far go along with an error too.
pub(crate) fn finish(mut draft: Draft, files: &dyn Files) -> Result<Profile, ProfileError> {
    match assemble(&mut draft, files) {
        Ok(profile) => Ok(profile),
        Err(error) => Err(ProfileError { warnings: draft.warnings, ..error }),
    }
}

fn assemble(draft: &mut Draft, files: &dyn Files) -> Result<Profile, ProfileError> {
    only_tunnels(draft)?;
    role(draft)?;
    let device = device(draft)?;
    let ciphers = data::ciphers(draft)?;
    let auth_name = data::digest(draft)?;
    let remotes = remotes::resolve(draft, files)?;
    let auth = auth(draft, files)?;
    let tls = tls::material(draft, files)?;
    tls::complete(draft, &tls, &auth)?;

    let mut timing = draft.timing;
    timing.server_poll = remotes.first().map_or(timing.server_poll, |remote| remote.poll_timeout);
    if let Some(file) = &draft.log.file {
        let path = draft.path(&file.path.to_string_lossy());
        draft.log.file = Some(crate::profile::LogFile { path, append: file.append });
    }
    if let Some(file) = &draft.process.pid_file {
        draft.process.pid_file = Some(draft.path(&file.to_string_lossy()));
    }
    Ok(Profile {
        role: Role::Client,
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
            timing,
            keepalive: draft.keepalive,
            replay: draft.replay,
            pull: draft.policy.clone(),
            push_peer_info: draft.push_peer_info,
            peer_info: data::peer_info(draft),
        },
        tls,
        scripts: ScriptOptions::default(),
        management: None,
        status: None,
        warnings: std::mem::take(&mut draft.warnings),
    })
}

/// Refuses what is no tunnel, or none that is built.
fn only_tunnels(draft: &Draft) -> Result<(), ProfileError> {
    if let Some((_, origin)) = &draft.secret {
        let text = "`secret` is not built yet: a static-key tunnel without TLS".into();
        return Err(ProfileError::at(origin, text)
            .cure("Use TLS: `client`, `ca`, `cert`, and `key`, or `peer-fingerprint`"));
    }
    if draft.genkey.is_some() || !draft.show.is_empty() {
        let text = "`genkey` and `show-..` belong to the command line";
        return Err(ProfileError::whole(text, "Remove the line"));
    }
    Ok(())
}

fn role(draft: &Draft) -> Result<(), ProfileError> {
    if !draft.tls_client {
        return Err(ProfileError::whole(
            "The profile says neither `client` nor `tls-client`",
            "Add a line `client`; point-to-point tunnels and servers are not built yet",
        ));
    }
    if !draft.pull {
        return Err(ProfileError::whole(
            "`tls-client` without `pull`, a point-to-point tunnel, is not built yet",
            "Write `client` if the other side is a server",
        ));
    }
    Ok(())
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
    Ok(AuthOptions { source, no_cache: draft.no_cache, retry: draft.auth_retry })
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
