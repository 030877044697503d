//! Handshake messages of the fake TLS.

use oxivpn_proto::tls::verify::CertRole;

use super::records::Secret;
use crate::tls::certs::{Identity, NOT_AFTER, NOT_BEFORE, Root};
use crate::tls::stream;

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const CERTIFICATE: u8 = 11;
pub(super) const VERIFY: u8 = 15;
pub(super) const FINISHED: u8 = 20;

/// Longest message that is taken.
const MAX_MESSAGE: usize = 1 << 14;

/// Sizes of hellos: the least, and how much is left to chance.
const CLIENT_HELLO_LEN: (usize, usize) = (190, 120);
const SERVER_HELLO_LEN: (usize, usize) = (90, 60);

/// What fills certificate messages up, as of longer chains: flights of a client get 0.8 to 2 KB, of a server 1.3 to 4.
const CLIENT_FILL: (usize, usize) = (0, 1200);
const SERVER_FILL: (usize, usize) = (0, 2600);

/// A message with type and length.
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, len @ ..] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut message = vec![kind];
    message.extend_from_slice(&len);
    message.extend_from_slice(body);
    message
}

/// Takes the first message off `bytes`, whole with type and length; `None` as long as it is not there. An error if it
/// would be too long.
pub(super) fn take_message(bytes: &mut Vec<u8>) -> Result<Option<Vec<u8>>, ()> {
    let [_, len @ ..] = bytes.first_chunk::<4>().copied().unwrap_or_default();
    let len = len.into_iter().fold(0, |len, byte| len << 8 | usize::from(byte));
    if len > MAX_MESSAGE {
        return Err(());
    }
    if bytes.len() < 4 + len {
        return Ok(None);
    }
    let rest = bytes.split_off(4 + len);
    Ok(Some(core::mem::replace(bytes, rest)))
}

fn size((least, chance): (usize, usize)) -> usize {
    least + stream::below(chance)
}

/// A client's random and what else it says.
pub(super) fn client_hello() -> Vec<u8> {
    let mut body = vec![0; size(CLIENT_HELLO_LEN)];
    stream::fill(&mut body[..32]);
    message(CLIENT_HELLO, &body)
}

/// A server's random and whether it ends the handshake with a flight of its own.
pub(super) fn server_hello(last: bool) -> Vec<u8> {
    let mut body = vec![0; size(SERVER_HELLO_LEN)];
    stream::fill(&mut body[..32]);
    body[32] = u8::from(last);
    message(SERVER_HELLO, &body)
}

/// What of a [`server_hello`] is read.
pub(super) fn read_server_hello(body: &[u8]) -> Option<bool> {
    match body.get(32)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// A certificate as it is sent: the DER, and beside it what would have to be read out of it.
#[derive(Clone)]
pub(super) struct Paper {
    pub(super) role: CertRole,
    /// Name of the CA.
    pub(super) issuer: String,
    pub(super) name: String,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    pub(super) der: Vec<u8>,
}

impl Paper {
    pub(super) fn of(identity: &Identity) -> Self {
        Self {
            role: identity.role,
            issuer: identity.root.name().to_owned(),
            name: identity.name.clone(),
            not_before: NOT_BEFORE,
            not_after: NOT_AFTER,
            der: identity.der.clone(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.role == CertRole::Server)];
        for field in [self.issuer.as_bytes(), self.name.as_bytes(), &self.der] {
            out.extend_from_slice(&u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(field);
        }
        out.extend_from_slice(&self.not_before.to_be_bytes());
        out.extend_from_slice(&self.not_after.to_be_bytes());
        out
    }

    /// The message with it, filled up to a size as of real chains.
    pub(super) fn message(&self) -> Vec<u8> {
        let fill = size(if self.role == CertRole::Server { SERVER_FILL } else { CLIENT_FILL });
        let mut body = self.encode();
        body.resize(body.len() + fill, 0);
        message(CERTIFICATE, &body)
    }

    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (role, mut rest) = body.split_first()?;
        let role = match role {
            0 => CertRole::Client,
            1 => CertRole::Server,
            _ => return None,
        };
        let mut field = || {
            let (len, after) = rest.split_first_chunk::<2>()?;
            let (field, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            rest = after;
            Some(field.to_vec())
        };
        let issuer = String::from_utf8(field()?).ok()?;
        let name = String::from_utf8(field()?).ok()?;
        let der = field()?;
        let (before, rest) = rest.split_first_chunk::<8>()?;
        let after = rest.first_chunk::<8>()?;
        let (not_before, not_after) = (u64::from_be_bytes(*before), u64::from_be_bytes(*after));
        Some(Self { role, issuer, name, not_before, not_after, der })
    }

    /// Shows that who sent it was given it by `root`; in place of the signatures.
    pub(super) fn proof(&self, root: &Secret, transcript: &[u8]) -> [u8; 32] {
        root.child("certificate", &self.encode()).derive("proof", transcript)
    }
}

/// What the certificates of `root` are proved by. Plays the private key of the CA, so no adversary has it.
pub(super) fn root_secret(root: Root) -> Secret {
    Secret::new(b"oxivpn-sim fake CA").child(root.name(), &[])
}
