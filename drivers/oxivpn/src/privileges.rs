//! `user`, `group` and `chroot`: what a program gives up when it needs it no more.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::unistd::{Gid, Group, Uid, User, setgroups, setresgid, setresuid};
use oxivpn_profile::profile::ProcessOptions;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities};

use crate::log::Log;
use crate::say;

/// Set once this process has given up what it had to.
static DROPPED: AtomicBool = AtomicBool::new(false);

/// Whether this process has changed its user, group or root: files that only root reaches are out of reach since.
pub fn dropped() -> bool {
    DROPPED.load(Ordering::Relaxed)
}

/// Who the program is to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    user: Option<(String, Uid)>,
    group: Option<(String, Gid)>,
    chroot: Option<PathBuf>,
}

impl Identity {
    /// Looks the names up. To be called before anything on the host is touched, so that a wrong name changes nothing.
    pub fn find(options: &ProcessOptions) -> Result<Self> {
        // In a changed root, /etc/passwd may be missing; what was done is done.
        if dropped() {
            return Ok(Self::default());
        }
        let user = options.user.as_deref().map(user).transpose()?;
        let group = options.group.as_deref().map(group).transpose()?;
        if let Some(directory) = &options.chroot
            && !directory.is_dir()
        {
            bail!(
                "chroot: {} is not a directory; make it, with whatever scripts and CRL files need in it",
                directory.display()
            );
        }
        Ok(Self { user, group, chroot: options.chroot.clone() })
    }

    /// Becomes that, once for all threads; a second call does nothing. With a new user only the calling thread, and
    /// threads that it starts later, keep CAP_NET_ADMIN, by which addresses and routes are set and taken back
    /// (`openvpn: platform.c`, `platform_user_group_set`).
    pub fn assume(&self, log: &Log) -> Result<()> {
        if *self == Self::default() || DROPPED.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        if let Some(directory) = &self.chroot {
            let path = directory.display();
            rustix::process::chroot(directory).with_context(|| format!("chroot to '{path}' failed"))?;
            std::env::set_current_dir("/").context("cd to '/' failed")?;
            say!(log, Info, "chroot to '{path}' and cd to '/' succeeded");
        }
        let keeps = self.user.is_some() && set_keep_capabilities(true).is_ok();
        if let Some((name, gid)) = &self.group {
            setgroups(&[*gid]).with_context(|| format!("setgroups('{name}') failed"))?;
            setresgid(*gid, *gid, *gid).with_context(|| format!("setgid('{name}') failed"))?;
        }
        if let Some((name, uid)) = &self.user {
            if self.group.is_none() && Uid::effective().is_root() {
                setgroups(&[])
                    .with_context(|| format!("dropping supplementary groups for '{name}' failed"))?;
            }
            setresuid(*uid, *uid, *uid).with_context(|| format!("setuid('{name}') failed"))?;
            say!(log, Info, "UID set to {name}");
        }
        if let Some((name, _)) = &self.group {
            say!(log, Info, "GID set to {name}");
        }
        if self.user.is_some() {
            keep_network(log, keeps);
        }
        Ok(())
    }
}

/// Keeps CAP_NET_ADMIN and nothing else.
fn keep_network(log: &Log, keeps: bool) {
    let admin = CapabilitySet::NET_ADMIN;
    let wanted = CapabilitySets { effective: admin, permitted: admin, inheritable: CapabilitySet::empty() };
    // Cleared with the next exec anyway; a failure leaves nothing behind.
    let kept = keeps && set_capabilities(None, wanted).is_ok();
    let _ = set_keep_capabilities(false);
    if kept {
        say!(log, Info, "Capabilities retained: CAP_NET_ADMIN");
    } else {
        say!(
            log,
            Warn,
            "Unable to retain capabilities: addresses and routes can be neither changed nor taken back from now on"
        );
    }
}

fn user(name: &str) -> Result<(String, Uid)> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok((name.to_owned(), user.uid)),
        Ok(None) => {
            bail!(
                "user: failed to find UID for user {name}; make it with `useradd --system`, or write `user nobody`"
            )
        }
        Err(error) => Err(anyhow!("user: failed to find UID for user {name}: {error}")),
    }
}

fn group(name: &str) -> Result<(String, Gid)> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok((name.to_owned(), group.gid)),
        Ok(None) => bail!(
            "group: failed to find GID for group {name}; make it with `groupadd --system`, or write `group nogroup` \
             (`group nobody` on Red Hat's systems)"
        ),
        Err(error) => Err(anyhow!("group: failed to find GID for group {name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_found_out_early() {
        let user = ProcessOptions { user: Some("no-such-user".into()), ..ProcessOptions::default() };
        let text = Identity::find(&user).unwrap_err().to_string();
        assert!(text.starts_with("user: failed to find UID for user no-such-user"), "{text}");
        let group = ProcessOptions { group: Some("no-such-group".into()), ..ProcessOptions::default() };
        let text = Identity::find(&group).unwrap_err().to_string();
        assert!(text.starts_with("group: failed to find GID for group no-such-group"), "{text}");
        let chroot = ProcessOptions { chroot: Some("/nonexistent".into()), ..ProcessOptions::default() };
        let text = Identity::find(&chroot).unwrap_err().to_string();
        assert!(text.starts_with("chroot: /nonexistent is not a directory"), "{text}");
    }

    #[test]
    fn nothing_wanted_changes_nothing() {
        let identity = Identity::find(&ProcessOptions::default()).unwrap();
        identity.assume(&Log::plain(Box::new(std::io::sink()), 1)).unwrap();
        assert!(!dropped());
    }

    #[test]
    fn root_is_known() {
        let options = ProcessOptions {
            user: Some("root".into()),
            group: Some("root".into()),
            ..ProcessOptions::default()
        };
        let identity = Identity::find(&options).unwrap();
        assert_eq!(identity.user, Some(("root".into(), Uid::from_raw(0))));
        assert_eq!(identity.group, Some(("root".into(), Gid::from_raw(0))));
    }
}
