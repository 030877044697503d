//! Scripts that answer by files beside their exit status: logins and new clients.
//!
//! Each is a job for the runner and a value that waits for its end. A script may answer later: then look at the
//! files from time to time, a second apart, until there is an answer or the caller's patience ends.

use core::time::Duration;
use std::io;
use std::path::Path;

use oxivpn_profile::server::VerifyVia;
use zeroize::Zeroizing;

use super::environment::{Environment, clean_value};
use super::files::ScriptFile;
use super::kinds::job;
use super::runner::{Finished, Job};

/// Longest text of `auth_failed_reason_file` and `auth_pending_file`: what fits in one control message
/// (`openvpn: common.h`, `PUSH_BUNDLE_SIZE`).
const MESSAGE_MAX: usize = 1024;

/// Longest configuration of one client, 64 KiB: more than all the routes that one may have.
const CONFIG_MAX: usize = 64 << 10;

/// What scripts of one kind are called with.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The option's words.
    pub command: &'a [String],
    /// The client's variables.
    pub env: &'a Environment,
    /// `tmp-dir`.
    pub tmp_dir: &'a Path,
    /// As in [`Job::limit`].
    pub limit: Duration,
}

/// What a script says to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginAnswer {
    /// Let it in.
    Accept,
    /// Refuse it: text after `AUTH_FAILED,`, empty for none. Also `TEMP[..]:..` and `CRV1:..`.
    Deny(String),
    /// The answer comes by file: see [`LoginCheck::look`].
    Deferred,
    /// So, and the client is to be told.
    Pending {
        /// How long it may take.
        timeout: Duration,
        /// What follows `INFO_PRE,`.
        extra: String,
    },
}

/// A script that judges a login.
#[derive(Debug)]
pub struct LoginCheck {
    control: ScriptFile,
    pending: ScriptFile,
    reason: ScriptFile,
    credentials: Option<ScriptFile>,
}

impl LoginCheck {
    /// `auth-user-pass-verify` (`openvpn: ssl_verify.c`, `verify_user_pass_script`). User name and password are
    /// cleaned here; `call.env` has the user name already. With [`VerifyVia::Env`] the runner leaves the password
    /// out below `script-security 3`.
    pub fn new(call: Call<'_>, via: VerifyVia, username: &str, password: &str) -> io::Result<(Job, Self)> {
        let password = Zeroizing::new(clean_value(password));
        let mut check = Self {
            control: ScriptFile::new(call.tmp_dir, "acf")?,
            pending: ScriptFile::new(call.tmp_dir, "apf")?,
            reason: ScriptFile::new(call.tmp_dir, "afr")?,
            credentials: None,
        };
        let mut env = call.env.clone();
        check.set(&mut env);
        let mut args = Vec::new();
        match via {
            VerifyVia::Env => env.set("password", password.as_str()),
            VerifyVia::File => {
                let lines = Zeroizing::new(format!("{}\n{}\n", clean_value(username), *password));
                let file = ScriptFile::with(call.tmp_dir, "up", lines.as_bytes())?;
                args.push(file.name());
                check.credentials = Some(file);
            }
        }
        let hook = "--auth-user-pass-verify";
        Ok((job(hook, "user-pass-verify", call.command, args, &env, call.limit), check))
    }

    /// Sets the variables that name its files. OpenVPN gives them to the client's later scripts too.
    pub fn set(&self, env: &mut Environment) {
        env.set("auth_control_file", self.control.name());
        env.set("auth_pending_file", self.pending.name());
        env.set("auth_failed_reason_file", self.reason.name());
    }

    /// The script ended: 0 lets the client in, 2 defers, all else refuses. `peer_info` is the client's.
    pub fn finished(&mut self, finished: &Finished, peer_info: &str) -> LoginAnswer {
        self.credentials = None;
        match finished {
            Finished::Exited(0) => LoginAnswer::Accept,
            Finished::Exited(2) => self.deferred(peer_info),
            _ => LoginAnswer::Deny(self.reason()),
        }
    }

    /// Whether a script that deferred has answered meanwhile: the first byte of its file is `1` or `0`.
    pub fn look(&self) -> Option<LoginAnswer> {
        match self.control.first()? {
            b'1' => Some(LoginAnswer::Accept),
            b'0' => Some(LoginAnswer::Deny(self.reason())),
            _ => None,
        }
    }

    /// `client-crresponse` for a login that this check has deferred: the client's answer to a challenge, still in
    /// base64. The file goes with the second value. A status other than 0 refuses the login, after 0 the answer is
    /// in the files.
    pub fn response(&self, call: Call<'_>, response: &str) -> io::Result<(Job, ResponseFile)> {
        let file = ScriptFile::with(call.tmp_dir, "cr", Zeroizing::new(format!("{response}\n")).as_bytes())?;
        let mut env = call.env.clone();
        self.set(&mut env);
        let hook = "--client-crresponse";
        let job = job(hook, "client-crresponse", call.command, vec![file.name()], &env, call.limit);
        Ok((job, ResponseFile { _file: file }))
    }

    /// What to send with a refusal: up to the first line's end, because control messages are lines.
    fn reason(&self) -> String {
        let text = self.reason.text(MESSAGE_MAX).unwrap_or_default();
        clean_value(text.lines().next().unwrap_or_default().trim_end())
    }

    /// `openvpn: ssl_verify.c`, `key_state_check_auth_pending_file`.
    fn deferred(&self, peer_info: &str) -> LoginAnswer {
        let Ok(text) = self.pending.text(MESSAGE_MAX) else { return LoginAnswer::Deny(String::new()) };
        if text.is_empty() {
            return LoginAnswer::Deferred;
        }
        let mut lines = text.lines();
        let (Some(timeout), Some(method), Some(extra)) = (lines.next(), lines.next(), lines.next()) else {
            return LoginAnswer::Deny(String::new());
        };
        match timeout.trim().parse::<u32>() {
            Ok(seconds @ 1..) if knows(peer_info, method) => LoginAnswer::Pending {
                timeout: Duration::from_secs(seconds.into()),
                extra: clean_value(extra),
            },
            Ok(1..) => LoginAnswer::Deny(format!(
                "Authentication failed, required pending auth method '{}' not supported",
                clean_value(method)
            )),
            _ => LoginAnswer::Deny(String::new()),
        }
    }
}

/// Whether the client says that it knows a method of `IV_SSO`.
fn knows(peer_info: &str, method: &str) -> bool {
    let methods = peer_info.lines().find_map(|line| line.strip_prefix("IV_SSO="));
    methods.is_some_and(|methods| methods.split(',').any(|known| known == method))
}

/// The file of one `client-crresponse`; to be kept until the script has ended.
#[derive(Debug)]
pub struct ResponseFile {
    _file: ScriptFile,
}

/// What a script says to a new client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectAnswer {
    /// Let it in, with these options as in a file of `client-config-dir`.
    Accept(String),
    /// Refuse it; why, for the log.
    Deny(String),
    /// The answer comes by file: see [`ConnectCheck::look`].
    Deferred,
}

/// A script that is told of a new client.
#[derive(Debug)]
pub struct ConnectCheck {
    config: ScriptFile,
    result: ScriptFile,
}

impl ConnectCheck {
    /// `client-connect` (`openvpn: multi.c`, `multi_client_connect_call_script`).
    pub fn new(call: Call<'_>) -> io::Result<(Job, Self)> {
        let check = Self {
            config: ScriptFile::new(call.tmp_dir, "cc")?,
            result: ScriptFile::new(call.tmp_dir, "ccr")?,
        };
        let mut env = call.env.clone();
        env.set("client_connect_config_file", check.config.name());
        env.set("client_connect_deferred_file", check.result.name());
        let args = vec![check.config.name()];
        Ok((job("--client-connect", "client-connect", call.command, args, &env, call.limit), check))
    }

    /// The script ended.
    pub fn finished(&self, finished: &Finished) -> ConnectAnswer {
        if !finished.is_success() {
            return ConnectAnswer::Deny(finished.to_string());
        }
        match self.result.first() {
            Some(b'2') => ConnectAnswer::Deferred,
            Some(b'1') | None => self.accept(),
            Some(_) => self.refused(),
        }
    }

    /// Whether a script that deferred has answered meanwhile. A file that is empty is about to be written.
    pub fn look(&self) -> Option<ConnectAnswer> {
        match self.result.first()? {
            b'2' => None,
            b'1' => Some(self.accept()),
            _ => Some(self.refused()),
        }
    }

    fn accept(&self) -> ConnectAnswer {
        match self.config.text(CONFIG_MAX) {
            Ok(text) => ConnectAnswer::Accept(text),
            // Whoever removes the file wants no options.
            Err(error) if error.kind() == io::ErrorKind::NotFound => ConnectAnswer::Accept(String::new()),
            Err(error) => ConnectAnswer::Deny(error.to_string()),
        }
    }

    fn refused(&self) -> ConnectAnswer {
        let byte = self.result.first().unwrap_or_default();
        ConnectAnswer::Deny(format!("the file client_connect_deferred_file has '{}'", byte.escape_ascii()))
    }
}

/// A script that judges the metadata of a tls-crypt-v2 key. The file goes with it.
#[derive(Debug)]
pub struct MetadataCheck {
    _file: ScriptFile,
}

impl MetadataCheck {
    /// `tls-crypt-v2-verify` (`openvpn: tls_crypt.c`, `tls_crypt_v2_verify_metadata`). `metadata` is a type byte
    /// and data. Exit status 0 lets the client go on.
    pub fn new(call: Call<'_>, metadata: &[u8]) -> io::Result<(Job, Self)> {
        let (kind, data) = metadata.split_first().unwrap_or((&0, &[]));
        let file = ScriptFile::with(call.tmp_dir, "tls_crypt_v2_metadata_", data)?;
        let mut env = call.env.clone();
        env.set("metadata_type", kind);
        env.set("metadata_file", file.name());
        let kind = "tls-crypt-v2-verify";
        let job = job("--tls-crypt-v2-verify", kind, call.command, Vec::new(), &env, call.limit);
        Ok((job, Self { _file: file }))
    }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
