//! rustls' provider of aws-lc-rs, with all randomness from the machine that runs.
//!
//! rustls draws randoms, session ids and the order of ClientHello extensions from the provider; a key exchange and
//! signatures have randomness of their own. Here there is one group, X25519, whose private key comes from the
//! [`Stream`](super::stream::Stream), and one kind of key, Ed25519, whose signatures need no randomness. All else
//! computes, and is AWS-LC's.

use std::sync::Arc;

use aws_lc_rs::agreement::{self, PrivateKey, PublicKey, UnparsedPublicKey};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, SharedSecret,
    SupportedKxGroup, aws_lc_rs as aws,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use zeroize::Zeroizing;

use super::stream;

/// A provider whose users must be called inside of [`Stream::enter`](super::stream::Stream::enter).
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![&X25519],
        secure_random: &FromStream,
        key_provider: &Ed25519Keys,
        ..aws::default_provider()
    }
}

#[derive(Debug)]
struct FromStream;

impl SecureRandom for FromStream {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        stream::fill(buf);
        Ok(())
    }
}

#[derive(Debug)]
struct X25519;

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        stream::fill(bytes.as_mut());
        let failed = |what: &str| Error::General(format!("X25519: {what}"));
        let private = PrivateKey::from_private_key(&agreement::X25519, bytes.as_ref())
            .map_err(|e| failed(&e.to_string()))?;
        let public = private.compute_public_key().map_err(|_| failed("no public key"))?;
        Ok(Box::new(Exchange { private, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    private: PrivateKey,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let bad = || Error::from(PeerMisbehaved::InvalidKeyShare);
        // Other encodings than the raw 32 bytes are not TLS'.
        if peer.len() != 32 {
            return Err(bad());
        }
        let peer = UnparsedPublicKey::new(&agreement::X25519, peer);
        agreement::agree(&self.private, peer, bad(), |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[derive(Debug)]
struct Ed25519Keys;

impl KeyProvider for Ed25519Keys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        match &key {
            PrivateKeyDer::Pkcs8(key) => aws::sign::any_eddsa_type(key),
            _ => Err(Error::General("only Ed25519 signs without randomness".into())),
        }
    }
}
