//! `oxivpn load`: thousands of clients in one process, to see what a server bears.
//!
//! Every client is a session of one [`Node`](oxivpn_proto::Node) with a socket of its own. They do what real clients
//! do (handshake, PUSH_REPLY, keepalive, renegotiation) and have no device.

mod fleet;
mod options;
mod report;

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use oxivpn_profile::profile::CredentialSource;
use oxivpn_profile::server::Role;
use oxivpn_profile::{Command, Disk, Profile, parse_args};
use oxivpn_proto::config::Credentials;
use oxivpn_proto::tls::rustls::RustlsFactory;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zeroize::Zeroizing;

use crate::clock;
use fleet::Fleet;
use options::Options;

/// Runs `oxivpn load ARGS`.
pub fn run(args: &[String]) -> Result<()> {
    let Some(options) = Options::parse(args)? else {
        tell(options::USAGE);
        return Ok(());
    };
    let profile = match parse_args(&["--config".into(), options.profile.clone()], &Disk) {
        Ok(Command::Run(profile)) => profile,
        Ok(_) => bail!("{} is no profile", options.profile),
        Err(error) => bail!("{error}"),
    };
    if !matches!(profile.role, Role::Client) {
        bail!("{} is the profile of a server or peer; clients are what `load` makes", options.profile);
    }
    raise_descriptor_limit(options.clients)?;
    let mut fleet = Fleet::new(&profile, config(&profile)?, credentials(&profile)?, options)?;
    fleet.run()?;
    tell(&fleet.report().to_string());
    Ok(())
}

fn config(profile: &Profile) -> Result<Arc<oxivpn_proto::config::ClientConfig>> {
    let Some(remote) = profile.remotes.first() else { bail!("the profile names no `remote`") };
    let material = profile.tls_options(None)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = RustlsFactory::new(material, provider)
        .map_err(|failure| anyhow::anyhow!("Options error: {failure}"))?;
    for note in tls.notes(clock::unix()) {
        tell(&note);
    }
    Ok(Arc::new(profile.client_config(remote, Arc::new(tls))))
}

fn credentials(profile: &Profile) -> Result<Option<Credentials>> {
    match &profile.auth.source {
        CredentialSource::None => Ok(None),
        CredentialSource::Given { username, password: Some(password) } => Ok(Some(Credentials {
            username: username.clone(),
            password: Zeroizing::new(password.to_string()),
            is_token: false,
        })),
        CredentialSource::Prompt | CredentialSource::Given { .. } => {
            bail!("auth-user-pass: write user name and password into a file, `load` asks nobody")
        }
    }
}

/// Each client has a socket.
fn raise_descriptor_limit(clients: usize) -> Result<()> {
    let wanted = clients as u64 + 64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|most| most.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).with_context(|| {
        format!(
            "{clients} clients need {wanted} open files, more than are allowed; `ulimit -n {wanted}` as root"
        )
    })
}

/// One line for the person who asked.
#[expect(clippy::print_stdout, reason = "what the user asked to see")]
fn tell(text: &str) {
    println!("{text}");
}
