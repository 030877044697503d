//! User name, password and session token over the life of the program.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oxivpn_profile::profile::{AuthOptions, CredentialSource, StaticChallenge};
use oxivpn_proto::config::Credentials;
use zeroize::Zeroizing;

use crate::retry::Forget;

/// Asks a person.
pub trait Prompt {
    /// Asks for a line that may be seen while it is typed.
    fn line(&mut self, prompt: &str) -> io::Result<String>;
    /// Asks for a line that may not.
    fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>>;
}

/// The controlling terminal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal;

impl Prompt for Terminal {
    fn line(&mut self, prompt: &str) -> io::Result<String> {
        use std::io::{BufRead, Write};
        let tty = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(no_terminal)?;
        write!(&tty, "{prompt}")?;
        let mut line = String::new();
        io::BufReader::new(&tty).read_line(&mut line)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
        rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(no_terminal)
    }
}

/// A passphrase that somebody typed elsewhere, for its one use. All else is asked at the terminal.
pub struct Given(pub Zeroizing<String>);

impl Prompt for Given {
    fn line(&mut self, prompt: &str) -> io::Result<String> {
        Terminal.line(prompt)
    }

    fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
        match core::mem::take(&mut self.0) {
            text if text.is_empty() => Terminal.secret(prompt),
            text => Ok(text),
        }
    }
}

fn no_terminal(error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "neither a terminal to ask for user name and password ({error}) nor a file that has them: \
             name one with `auth-user-pass FILE`"
        ),
    )
}

/// What has to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// User name and password.
    Both,
    /// The password; the name is given.
    Password,
}

/// Keeps what was given or typed, and the token that the server gave.
pub struct Vault {
    options: AuthOptions,
    known: Option<Credentials>,
    token: Option<Credentials>,
    ask: bool,
}

impl Vault {
    /// A vault that has asked for nothing yet.
    pub const fn new(options: AuthOptions) -> Self {
        Self { options, known: None, token: None, ask: false }
    }

    /// What to log in with now; asks if it must. `None` if the profile wants no login and there is no token.
    pub fn current(&mut self, prompt: &mut dyn Prompt) -> io::Result<Option<Credentials>> {
        if let Some(token) = &self.token {
            return Ok(Some(token.clone()));
        }
        if let Some(known) = self.known.clone() {
            return self.challenge(prompt, known).map(Some);
        }
        let fresh = match &self.options.source {
            CredentialSource::None => return Ok(None),
            CredentialSource::Given { username, password: Some(password) } if !self.ask => {
                Credentials { username: username.clone(), password: password.clone(), is_token: false }
            }
            CredentialSource::Given { username, .. } if !self.ask => {
                let password = prompt.secret("Enter Auth Password: ")?;
                Credentials { username: username.clone(), password, is_token: false }
            }
            CredentialSource::Prompt | CredentialSource::Given { .. } => {
                let username = prompt.line("Enter Auth Username: ")?;
                if username.is_empty() {
                    return Err(io::Error::other("the user name is empty"));
                }
                let password = prompt.secret("Enter Auth Password: ")?;
                Credentials { username, password, is_token: false }
            }
        };
        self.ask = false;
        if !self.options.no_cache {
            self.known = Some(fresh.clone());
        }
        self.challenge(prompt, fresh).map(Some)
    }

    /// Adds the answer to a static challenge, which is good for one connection only (`openvpn: misc.c`,
    /// `get_user_pass_cr`).
    fn challenge(&self, prompt: &mut dyn Prompt, login: Credentials) -> io::Result<Credentials> {
        let Some(StaticChallenge { text, echo, concat }) = &self.options.challenge else { return Ok(login) };
        let prompt_text = format!("CHALLENGE: {text} ");
        let answer = match echo {
            true => Zeroizing::new(prompt.line(&prompt_text)?),
            false => prompt.secret(&prompt_text)?,
        };
        let mut password =
            Zeroizing::new(String::with_capacity(2 * (login.password.len() + answer.len()) + 16));
        if *concat {
            password.push_str(&login.password);
            password.push_str(&answer);
        } else {
            password.push_str("SCRV1:");
            STANDARD.encode_string(login.password.as_bytes(), &mut password);
            password.push(':');
            STANDARD.encode_string(answer.as_bytes(), &mut password);
        }
        Ok(Credentials { password, ..login })
    }

    /// What [`Vault::current`] would ask for.
    pub fn missing(&self) -> Option<Missing> {
        if self.token.is_some() || self.known.is_some() && self.options.challenge.is_none() {
            return None;
        }
        match &self.options.source {
            CredentialSource::None => None,
            // Whoever answers the challenge gives it with the password.
            _ if self.options.challenge.is_some() => Some(Missing::Both),
            CredentialSource::Given { password: Some(_), .. } if !self.ask => None,
            CredentialSource::Given { .. } if !self.ask => Some(Missing::Password),
            CredentialSource::Prompt | CredentialSource::Given { .. } => Some(Missing::Both),
        }
    }

    /// Takes what was [`Vault::missing`], from elsewhere than a prompt; this login is made with the result.
    pub fn enter(&mut self, username: String, password: Zeroizing<String>) -> Credentials {
        let username = match &self.options.source {
            CredentialSource::Given { username, .. } if !self.ask => username.clone(),
            _ => username,
        };
        let fresh = Credentials { username, password, is_token: false };
        self.ask = false;
        // An answer to a challenge is in it, which is no good another time.
        if !self.options.no_cache && self.options.challenge.is_none() {
            self.known = Some(fresh.clone());
        }
        fresh
    }

    /// From now on the token stands in for the password. `fallback` is the name that was used to log in.
    pub fn set_token(&mut self, username: Option<String>, fallback: Option<&str>, token: Zeroizing<String>) {
        let username = username.or_else(|| fallback.map(str::to_owned)).unwrap_or_default();
        self.token = Some(Credentials { username, password: token, is_token: true });
    }

    /// Forgets what the end of a connection made invalid.
    pub fn forget(&mut self, what: Forget) {
        match what {
            Forget::Nothing => {}
            Forget::Token => self.token = None,
            Forget::All => (self.token, self.known) = (None, None),
            Forget::AndAsk => {
                (self.token, self.known) = (None, None);
                self.ask = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use oxivpn_profile::profile::AuthRetry;

    use super::*;

    /// Answers with numbered names and passwords.
    #[derive(Default)]
    struct Script {
        asked: Vec<String>,
    }

    impl Prompt for Script {
        fn line(&mut self, prompt: &str) -> io::Result<String> {
            self.asked.push(prompt.to_owned());
            Ok(format!("user{}", self.asked.len()))
        }

        fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
            self.asked.push(prompt.to_owned());
            Ok(Zeroizing::new(format!("pass{}", self.asked.len())))
        }
    }

    fn vault(source: CredentialSource, no_cache: bool) -> Vault {
        Vault::new(AuthOptions { source, no_cache, retry: AuthRetry::None, challenge: None })
    }

    fn challenged(source: CredentialSource, echo: bool, concat: bool) -> Vault {
        let mut vault = vault(source, false);
        vault.options.challenge = Some(StaticChallenge { text: "Code?".into(), echo, concat });
        vault
    }

    fn given(password: Option<&str>) -> CredentialSource {
        let password = password.map(|text| Zeroizing::new(text.to_owned()));
        CredentialSource::Given { username: "ann".into(), password }
    }

    fn login(vault: &mut Vault, script: &mut Script) -> Option<(String, String, bool)> {
        let credentials = vault.current(script).unwrap()?;
        Some((credentials.username, credentials.password.to_string(), credentials.is_token))
    }

    fn expect(user: &str, password: &str, is_token: bool) -> Option<(String, String, bool)> {
        Some((user.into(), password.into(), is_token))
    }

    #[test]
    fn nothing_is_asked_where_nothing_is_wanted() {
        let mut script = Script::default();
        assert_eq!(login(&mut vault(CredentialSource::None, false), &mut script), None);
        assert!(script.asked.is_empty());
    }

    #[test]
    fn typed_ones_are_asked_for_once() {
        let mut script = Script::default();
        let mut vault = vault(CredentialSource::Prompt, false);
        for _ in 0..3 {
            assert_eq!(login(&mut vault, &mut script), expect("user1", "pass2", false));
        }
        assert_eq!(script.asked, ["Enter Auth Username: ", "Enter Auth Password: "]);
    }

    #[test]
    fn nocache_asks_each_time_but_keeps_the_token() {
        let mut script = Script::default();
        let mut vault = vault(CredentialSource::Prompt, true);
        assert_eq!(login(&mut vault, &mut script), expect("user1", "pass2", false));
        assert_eq!(login(&mut vault, &mut script), expect("user3", "pass4", false));
        vault.set_token(None, Some("user3"), Zeroizing::new("tok".into()));
        assert_eq!(login(&mut vault, &mut script), expect("user3", "tok", true));
        assert_eq!(script.asked.len(), 4);
    }

    #[test]
    fn a_file_with_a_name_only_asks_for_the_password() {
        let mut script = Script::default();
        assert_eq!(login(&mut vault(given(None), false), &mut script), expect("ann", "pass1", false));
    }

    #[test]
    fn a_refused_token_falls_back_to_the_password() {
        let mut script = Script::default();
        let mut vault = vault(given(Some("secret")), false);
        assert_eq!(login(&mut vault, &mut script), expect("ann", "secret", false));
        vault.set_token(Some("bob".into()), Some("ann"), Zeroizing::new("tok".into()));
        assert_eq!(login(&mut vault, &mut script), expect("bob", "tok", true));
        vault.forget(Forget::Token);
        assert_eq!(login(&mut vault, &mut script), expect("ann", "secret", false));
    }

    #[test]
    fn the_answer_to_a_static_challenge_is_asked_for_each_time() {
        let mut script = Script::default();
        let mut vault = challenged(CredentialSource::Prompt, true, false);
        // "pass2", "user3"; then only the answer: "user4".
        assert_eq!(login(&mut vault, &mut script), expect("user1", "SCRV1:cGFzczI=:dXNlcjM=", false));
        assert_eq!(login(&mut vault, &mut script), expect("user1", "SCRV1:cGFzczI=:dXNlcjQ=", false));
        assert_eq!(script.asked[2..], ["CHALLENGE: Code? ", "CHALLENGE: Code? "]);
        vault.set_token(None, Some("user1"), Zeroizing::new("tok".into()));
        assert_eq!(login(&mut vault, &mut script), expect("user1", "tok", true));
        let mut vault = challenged(given(Some("secret")), false, true);
        assert_eq!(login(&mut vault, &mut script), expect("ann", "secretpass5", false));
        // From the management interface it comes with the password, and only once.
        for _ in 0..2 {
            assert_eq!(vault.missing(), Some(Missing::Both));
            vault.enter("bob".into(), Zeroizing::new("SCRV1:YQ==:Yg==".into()));
        }
        assert_eq!(challenged(CredentialSource::None, true, true).missing(), None);
    }

    #[test]
    fn what_is_missing_may_come_from_elsewhere() {
        assert_eq!(vault(CredentialSource::None, false).missing(), None);
        assert_eq!(vault(given(Some("secret")), false).missing(), None);
        assert_eq!(vault(given(None), false).missing(), Some(Missing::Password));
        for no_cache in [false, true] {
            let mut vault = vault(CredentialSource::Prompt, no_cache);
            assert_eq!(vault.missing(), Some(Missing::Both));
            let entered = vault.enter("bob".into(), Zeroizing::new("pass".into()));
            assert_eq!((entered.username.as_str(), entered.password.as_str()), ("bob", "pass"));
            assert_eq!(vault.missing(), no_cache.then_some(Missing::Both));
        }
        let mut vault = vault(given(Some("wrong")), false);
        vault.forget(Forget::AndAsk);
        assert_eq!(vault.missing(), Some(Missing::Both));
        assert_eq!(vault.enter("eve".into(), Zeroizing::new("x".into())).username, "eve");
        assert_eq!(vault.missing(), None);
    }

    #[test]
    fn auth_retry_interact_asks_even_if_a_file_has_them() {
        let mut script = Script::default();
        let mut vault = vault(given(Some("wrong")), false);
        login(&mut vault, &mut script);
        vault.forget(Forget::AndAsk);
        assert_eq!(login(&mut vault, &mut script), expect("user1", "pass2", false));
        assert_eq!(login(&mut vault, &mut script), expect("user1", "pass2", false));
        vault.forget(Forget::All);
        assert_eq!(login(&mut vault, &mut script), expect("ann", "wrong", false));
    }
}
