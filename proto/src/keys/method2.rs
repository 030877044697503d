//! The key-method-2 message (`openvpn: ssl.c`, `key_method_2_write` and `key_method_2_read`).
//!
//! ```text
//! u32 0 | u8 2 | [48 pre-master, client only] | 32 random1 | 32 random2
//! options | user name | password | peer info      each: u16 length, bytes with a NUL; or u16 0
//! ```

use core::fmt;

use zeroize::Zeroizing;

use crate::entropy::EntropyStream;
use crate::limits::{MAX_OPTIONS_STRING, MAX_TLS_PLAINTEXT, MAX_USER_PASS};

const KEY_METHOD: u8 = 2;

/// The client's secrets.
pub struct ClientSource {
    /// Secret of the PRF.
    pub pre_master: Zeroizing<[u8; 48]>,
    /// Seed of the master secret.
    pub random1: Zeroizing<[u8; 32]>,
    /// Seed of the key expansion.
    pub random2: Zeroizing<[u8; 32]>,
}

impl ClientSource {
    /// Draws fresh values.
    pub fn generate(entropy: &mut EntropyStream) -> Self {
        let mut source = Self {
            pre_master: Zeroizing::new([0; 48]),
            random1: Zeroizing::new([0; 32]),
            random2: Zeroizing::new([0; 32]),
        };
        entropy.fill(&mut *source.pre_master);
        entropy.fill(&mut *source.random1);
        entropy.fill(&mut *source.random2);
        source
    }
}

/// The server's secrets.
pub struct ServerSource {
    /// Seed of the master secret.
    pub random1: Zeroizing<[u8; 32]>,
    /// Seed of the key expansion.
    pub random2: Zeroizing<[u8; 32]>,
}

impl ServerSource {
    /// Draws fresh values.
    pub fn generate(entropy: &mut EntropyStream) -> Self {
        let mut source = Self { random1: Zeroizing::new([0; 32]), random2: Zeroizing::new([0; 32]) };
        entropy.fill(&mut *source.random1);
        entropy.fill(&mut *source.random2);
        source
    }
}

impl fmt::Debug for ClientSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSource([redacted])")
    }
}

impl fmt::Debug for ServerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSource([redacted])")
    }
}

/// What a client sends.
pub struct ClientMessage<'a> {
    /// Secrets.
    pub source: &'a ClientSource,
    /// Options string without NUL.
    pub options: &'a str,
    /// User name and password; `None` leaves both out.
    pub login: Option<(&'a str, &'a str)>,
    /// `NAME=value` lines.
    pub peer_info: &'a str,
}

impl ClientMessage<'_> {
    /// The message, or `None` if it is longer than a stock server reads.
    pub fn emit(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(Vec::with_capacity(MAX_TLS_PLAINTEXT));
        out.extend_from_slice(&[0, 0, 0, 0, KEY_METHOD]);
        out.extend_from_slice(&*self.source.pre_master);
        out.extend_from_slice(&*self.source.random1);
        out.extend_from_slice(&*self.source.random2);
        put_string(&mut out, Some(self.options))?;
        put_string(&mut out, self.login.map(|(user, _)| user))?;
        put_string(&mut out, self.login.map(|(_, password)| password))?;
        put_string(&mut out, (!self.peer_info.is_empty()).then_some(self.peer_info))?;
        (out.len() <= MAX_TLS_PLAINTEXT).then_some(out)
    }
}

/// What a server receives.
pub struct Introduction {
    /// Secrets.
    pub source: ClientSource,
    /// Options string without NUL.
    pub options: String,
    /// Whether user name and password are there. Each may still be empty: that is not the same as left out.
    pub login_given: bool,
    /// User name, empty for none. Control characters are replaced by `_`, as scripts and log lines can't bear them.
    pub username: String,
    /// Password likewise.
    pub password: Zeroizing<String>,
    /// Whether user name or password is longer than [`MAX_USER_PASS`] and left out: authentication fails then.
    pub login_too_long: bool,
    /// `NAME=value` lines, empty for none.
    pub peer_info: String,
}

impl fmt::Debug for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introduction")
            .field("options", &self.options)
            .field("login_given", &self.login_given)
            .field("login_too_long", &self.login_too_long)
            .field("peer_info", &self.peer_info)
            .finish_non_exhaustive()
    }
}

impl Introduction {
    /// Reads a message (`openvpn: ssl.c`, `key_method_2_read`). Strings after the options may be missing or cut off;
    /// they are empty then.
    pub fn parse(bytes: &[u8]) -> Result<Self, Method2Error> {
        let mut cursor = Cursor { rest: bytes };
        let head = cursor.take(5)?;
        if head[4] & 0x0f != KEY_METHOD {
            return Err(Method2Error::Method);
        }
        let mut source = ClientSource {
            pre_master: Zeroizing::new([0; 48]),
            random1: Zeroizing::new([0; 32]),
            random2: Zeroizing::new([0; 32]),
        };
        source.pre_master.copy_from_slice(cursor.take(48)?);
        source.random1.copy_from_slice(cursor.take(32)?);
        source.random2.copy_from_slice(cursor.take(32)?);
        let options = cursor.string(MAX_OPTIONS_STRING)?;
        let (username, password) = (cursor.login_string(), cursor.login_string());
        let login_too_long = username.is_none() || password.is_none();
        let ((username, user_there), (password, password_there)) =
            (username.unwrap_or_default(), password.unwrap_or_default());
        Ok(Self {
            source,
            options,
            login_given: user_there && password_there,
            username: username.to_string(),
            password,
            login_too_long,
            peer_info: cursor.optional_string(),
        })
    }
}

fn put_string(out: &mut Vec<u8>, text: Option<&str>) -> Option<()> {
    let Some(text) = text else {
        out.extend_from_slice(&[0, 0]);
        return Some(());
    };
    out.extend_from_slice(&u16::try_from(text.len() + 1).ok()?.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    Some(())
}

/// What a server sends, and a client receives.
#[derive(Debug)]
pub struct ServerMessage {
    /// Secrets.
    pub source: ServerSource,
    /// Options string without NUL.
    pub options: String,
    /// `NAME=value` lines, if any.
    pub peer_info: String,
}

/// Why a key-method-2 message can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method2Error {
    /// More bytes are needed; OpenVPN 3 may spread the message over several records.
    Incomplete,
    /// Not key method 2.
    Method,
    /// A string is longer than allowed.
    TooLong,
}

impl ServerMessage {
    /// Reads a message. Strings after the options may be missing: an OpenVPN 3 server sends none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Method2Error> {
        let mut cursor = Cursor { rest: bytes };
        let head = cursor.take(5)?;
        if head[4] & 0x0f != KEY_METHOD {
            return Err(Method2Error::Method);
        }
        let mut source = ServerSource { random1: Zeroizing::new([0; 32]), random2: Zeroizing::new([0; 32]) };
        source.random1.copy_from_slice(cursor.take(32)?);
        source.random2.copy_from_slice(cursor.take(32)?);
        let options = cursor.string(MAX_OPTIONS_STRING)?;
        let _user = cursor.optional_string();
        let _password = cursor.optional_string();
        let peer_info = cursor.optional_string();
        Ok(Self { source, options, peer_info })
    }

    /// The message, or `None` if it is longer than a stock client reads.
    pub fn emit(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(Vec::with_capacity(MAX_TLS_PLAINTEXT));
        out.extend_from_slice(&[0, 0, 0, 0, KEY_METHOD]);
        out.extend_from_slice(&*self.source.random1);
        out.extend_from_slice(&*self.source.random2);
        put_string(&mut out, Some(&self.options))?;
        put_string(&mut out, None)?;
        put_string(&mut out, None)?;
        put_string(&mut out, (!self.peer_info.is_empty()).then_some(&self.peer_info))?;
        (out.len() <= MAX_TLS_PLAINTEXT).then_some(out)
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Method2Error> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Method2Error::Incomplete)?;
        self.rest = rest;
        Ok(head)
    }

    /// The last byte is forced to be the NUL, so a string without one loses its last character, as in C.
    fn string(&mut self, max: usize) -> Result<String, Method2Error> {
        let len = self.take(2)?;
        let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
        if len > max {
            return Err(Method2Error::TooLong);
        }
        let bytes = self.take(len)?;
        let bytes = bytes.split(|&b| b == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes[..bytes.len().min(len.saturating_sub(1))]).into_owned())
    }

    /// User name or password, and whether there is one; `None` if it is too long, and passed over.
    fn login_string(&mut self) -> Option<(Zeroizing<String>, bool)> {
        let mut text = Zeroizing::new(String::new());
        let Ok(&[high, low]) = self.take(2) else { return Some((text, false)) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let bytes = self.take(len).unwrap_or_else(|_| self.give_up());
        if len > MAX_USER_PASS {
            return None;
        }
        let there = !bytes.is_empty();
        let bytes = bytes.split_last().map_or(bytes, |(_, head)| head);
        let bytes = bytes.split(|&b| b == 0).next().unwrap_or_default();
        // Each byte makes one character of at most three bytes. Text that grows leaves copies behind.
        text.reserve_exact(3 * bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.extend(chunk.valid().chars().map(|c| if c.is_ascii_control() { '_' } else { c }));
            text.extend((!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER));
        }
        Some((text, there))
    }

    fn optional_string(&mut self) -> String {
        let text = self.string(MAX_TLS_PLAINTEXT);
        text.unwrap_or_else(|_| {
            self.give_up();
            String::new()
        })
    }

    /// What follows a string that is cut off is no string.
    fn give_up(&mut self) -> &'a [u8] {
        self.rest = &[];
        &[]
    }
}

#[cfg(test)]
mod tests;
