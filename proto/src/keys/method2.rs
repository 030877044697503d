//! The key-method-2 message (`openvpn: ssl.c`, `key_method_2_write` and `key_method_2_read`).
//!
//! ```text
//! u32 0 | u8 2 | [48 pre-master, client only] | 32 random1 | 32 random2
//! options | user name | password | peer info      each: u16 length, bytes with a NUL; or u16 0
//! ```

use core::fmt;

use zeroize::Zeroizing;

use crate::entropy::EntropyStream;
use crate::limits::{MAX_OPTIONS_STRING, MAX_TLS_PLAINTEXT};

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

/// What a server sends.
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

    fn optional_string(&mut self) -> String {
        self.string(MAX_TLS_PLAINTEXT).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_bytes(tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, 2];
        bytes.extend_from_slice(&[7; 64]);
        bytes.extend_from_slice(tail);
        bytes
    }

    #[test]
    fn strings_after_the_options_may_be_missing() {
        let message = ServerMessage::parse(&server_bytes(b"\0\x03V4\0")).unwrap();
        assert_eq!((message.options.as_str(), message.peer_info.as_str()), ("V4", ""));
        let message = ServerMessage::parse(&server_bytes(b"\0\x03V4\0\0\0\0\0\0\x05ID=a\0")).unwrap();
        assert_eq!(message.peer_info, "ID=a");
    }

    #[test]
    fn short_or_wrong_messages_are_told_apart() {
        let whole = server_bytes(b"\0\x03V4\0");
        for len in 0..whole.len() {
            assert_eq!(ServerMessage::parse(&whole[..len]).unwrap_err(), Method2Error::Incomplete, "{len}");
        }
        let mut other = whole;
        other[4] = 1;
        assert_eq!(ServerMessage::parse(&other).unwrap_err(), Method2Error::Method);
        assert_eq!(ServerMessage::parse(&server_bytes(b"\x02\x01")).unwrap_err(), Method2Error::TooLong);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let source = ClientSource {
            pre_master: Zeroizing::new([1; 48]),
            random1: Zeroizing::new([1; 32]),
            random2: Zeroizing::new([1; 32]),
        };
        assert_eq!(format!("{source:?}"), "ClientSource([redacted])");
        let message = ServerMessage::parse(&server_bytes(b"\0\0")).unwrap();
        assert!(format!("{message:?}").contains("ServerSource([redacted])"));
    }
}
