//! Tokens in place of passwords (`auth-gen-token`; `openvpn: auth_token.c`).
//!
//! ```text
//! "SESS_ID_AT_" base64( 12 session | u64 begun | u64 issued | 32 HMAC-SHA256(user name | all before) )
//! ```
//!
//! Times are seconds since 1970. A server keeps nothing of a token but the key.

use core::fmt;
use core::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::config::server::TokenConfig;
use crate::event::login::TokenState;
use crate::wrap::pem::{Label, decode};
use crate::wrap::static_key::KeyFileError;

/// What every token starts with.
const PREFIX: &str = "SESS_ID_AT_";

/// Bytes of a session id.
pub const SESSION_LEN: usize = 12;

/// Session id and both times.
const SIGNED_LEN: usize = SESSION_LEN + 2 * 8;

/// All that is encoded; divisible by three, so there is no padding.
const RAW_LEN: usize = SIGNED_LEN + 32;

/// Length of the file that the secret is in, and where in it the secret lies.
const FILE_LEN: usize = 128;
const SECRET_AT: usize = 64;

/// What all tokens of one client have in common, over all renewals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Random.
    pub session: [u8; SESSION_LEN],
    /// When the first was issued, in seconds since 1970.
    pub begun: u64,
}

impl Series {
    /// The session id as scripts get it: 16 characters, which also stand in the token.
    pub fn name(&self) -> String {
        STANDARD.encode(self.session)
    }

    /// A token that says `unix` as its time of issue. `username` is empty if the name wasn't verified.
    pub fn issue(&self, secret: &[u8; 32], username: &str, unix: Duration) -> Zeroizing<String> {
        let mut raw = Zeroizing::new([0; RAW_LEN]);
        raw[..SESSION_LEN].copy_from_slice(&self.session);
        raw[SESSION_LEN..][..8].copy_from_slice(&self.begun.to_be_bytes());
        raw[SESSION_LEN + 8..SIGNED_LEN].copy_from_slice(&unix.as_secs().to_be_bytes());
        let tag = tag(secret, username, &raw[..SIGNED_LEN]);
        raw[SIGNED_LEN..].copy_from_slice(&*tag);
        // Text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + RAW_LEN / 3 * 4));
        text.push_str(PREFIX);
        STANDARD.encode_string(*raw, &mut text);
        text
    }
}

/// What came of a password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// What it is worth.
    pub state: TokenState,
    /// What the next token is to be made of, if it is valid. Else a new series begins.
    pub series: Option<Series>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Checked {
    const INITIAL: Self = Self { state: TokenState::Initial, series: None };
    const INVALID: Self = Self { state: TokenState::Invalid, series: None };

    /// Looks at what a client gave as its password. `known` is the series of its earlier tokens in this session,
    /// which it can't leave.
    ///
    /// With one of the `EmptyUser` states the user name is unverified, and is to be taken as empty.
    pub fn new(
        config: &TokenConfig,
        username: &str,
        password: &str,
        known: Option<&Series>,
        unix: Duration,
    ) -> Self {
        let Some(text) = password.strip_prefix(PREFIX) else { return Self::INITIAL };
        let mut raw = Zeroizing::new([0; RAW_LEN]);
        if text.len() != RAW_LEN / 3 * 4 || STANDARD.decode_slice(text, &mut *raw) != Ok(RAW_LEN) {
            return Self::INVALID;
        }
        let (signed, theirs) = raw.split_at(SIGNED_LEN);
        let matches = |name| bool::from(tag(&config.secret, name, signed).ct_eq(theirs));
        let (named, unnamed) = (matches(username), matches(""));
        if !named && !unnamed {
            return Self::INVALID;
        }
        let (session, times) = signed.split_at(SESSION_LEN);
        let (Ok(session), [begun, issued]) = (session.try_into(), times.as_chunks().0) else {
            return Self::INVALID;
        };
        let series = Series { session, begun: u64::from_be_bytes(*begun) };
        if known.is_some_and(|known| !bool::from(known.session.ct_eq(&series.session))) {
            return Self::INVALID;
        }
        let fresh = in_time(config, series.begun, u64::from_be_bytes(*issued), unix.as_secs());
        let state = match (named, fresh) {
            (true, true) => TokenState::Authenticated,
            (true, false) => TokenState::Expired,
            (false, true) => TokenState::AuthenticatedEmptyUser,
            (false, false) => TokenState::ExpiredEmptyUser,
        };
        Self { state, series: fresh.then_some(series) }
    }
}

/// A token may be late for one renewal, and not older than all its renewals may become.
fn in_time(config: &TokenConfig, begun: u64, issued: u64, now: u64) -> bool {
    let renewable = issued <= now && now < issued.saturating_add(config.renewal.as_secs().saturating_mul(2));
    let alive = config.lifetime.is_none_or(|life| now <= begun.saturating_add(life.as_secs()));
    renewable && alive && begun <= issued
}

fn tag(secret: &[u8; 32], username: &str, signed: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(username.as_bytes());
    mac.update(signed);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// Reads the secret out of the PEM of a `OpenVPN auth-token server key` (`auth-gen-token-secret`).
pub fn secret_from_pem(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let bytes = decode(text, Label::TokenSecret)?;
    if bytes.len() != FILE_LEN {
        let what = format_args!("there are {} bytes, not {FILE_LEN}", bytes.len());
        return Err(Label::TokenSecret.error(what));
    }
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(&bytes[SECRET_AT..][..32]);
    Ok(secret)
}

#[cfg(test)]
mod tests;
