//! TLS of the simulator: the same bytes for the same seeds.
//!
//! There are two kinds behind one [`Authority`]. [`Kind::Rustls`] is the real thing with seeded randomness;
//! [`Kind::Fake`] has the manners of TLS without its public-key work. Both draw from the [`Stream`] of the machine that
//! runs, so **every call of a node goes inside of [`Stream::enter`]**, and panics outside of it:
//!
//! ```
//! use core::time::Duration;
//!
//! use oxivpn_sim::tls::{Authority, Kind, Stream};
//!
//! let authority = Authority::new(Kind::Fake, [7; 32]);
//! let factory = authority.client("client1");
//! let mut machine = Stream::new([1; 32]);
//! let mut hello = Vec::new();
//! machine.enter(|| {
//!     let mut session = factory.client(Duration::from_secs(1_767_225_600)).unwrap();
//!     session.drain(&mut hello);
//! });
//! assert_eq!(hello[0], 22);
//! ```
//!
//! Neither kind has state in a factory that the next session could tell from the last: one authority can serve both of
//! two runs that must be equal.

mod certs;
mod fake;
mod faults;
mod keylog;
pub mod provider;
mod stream;

use core::fmt;
use std::sync::Arc;

use oxivpn_proto::tls::TlsFactory;
use oxivpn_proto::tls::rustls::{ClientCertMode, RustlsFactory, TlsOptions, TlsVersion};
use oxivpn_proto::tls::verify::{CertRole, PeerRules};

use self::certs::{Identity, Root, sure};
use self::fake::FakeFactory;
use self::faults::Faulty;

pub use self::certs::{NOT_AFTER, NOT_BEFORE};
pub use self::faults::TlsFaults;
pub use self::keylog::KeyLog;
pub use self::stream::Stream;

/// What TLS a world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without public-key work; many handshakes in little time.
    Fake,
    /// rustls and AWS-LC with Ed25519 certificates.
    Rustls,
}

/// The CA of a world, which makes the TLS factories of its machines.
///
/// Certificates are the same in all worlds. Servers are issued to `server`, and clients and servers each refuse a
/// certificate of the other role (`remote-cert-tls`).
#[derive(Clone)]
pub struct Authority {
    kind: Kind,
    seed: [u8; 32],
    version: TlsVersion,
    key_log: Option<KeyLog>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("kind", &self.kind)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority for TLS 1.3 without a key log. `seed` makes the secret of the fake kind, which the adversary must
    /// not have.
    pub fn new(kind: Kind, seed: [u8; 32]) -> Self {
        Self { kind, seed, version: TlsVersion::V13, key_log: None }
    }

    /// The same with this version and no other (`tls-version-min` and `tls-version-max`). The fake kind takes the
    /// course of that version if its server does.
    #[must_use]
    pub fn with_version(mut self, version: TlsVersion) -> Self {
        self.version = version;
        self
    }

    /// The same with the secrets of all sessions that have a server of this authority written to `log`. The fake kind
    /// has none that a reader of captures could use.
    #[must_use]
    pub fn with_key_log(mut self, log: &KeyLog) -> Self {
        self.key_log = Some(log.clone());
        self
    }

    /// What kind it makes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// For a server with a certificate for `server`.
    pub fn server(&self) -> Arc<dyn TlsFactory> {
        self.factory(Root::Own, CertRole::Server, "server", Root::Own)
    }

    /// For a client with a certificate for `name`.
    ///
    /// # Panics
    ///
    /// If `name` can't be in a certificate: it must have 1 to 64 characters.
    pub fn client(&self, name: &str) -> Arc<dyn TlsFactory> {
        self.factory(Root::Own, CertRole::Client, name, Root::Own)
    }

    /// For one who trusts our CA, and has a certificate of another; as client to be refused. It calls itself
    /// `stranger`.
    pub fn stranger(&self) -> Arc<dyn TlsFactory> {
        self.factory(Root::Other, CertRole::Client, "stranger", Root::Own)
    }

    /// For a server with a certificate for `server` of another CA, to be refused by our clients.
    pub fn strange_server(&self) -> Arc<dyn TlsFactory> {
        self.factory(Root::Other, CertRole::Server, "server", Root::Own)
    }

    /// As [`server`](Self::server), with faults.
    pub fn faulty_server(&self, faults: TlsFaults) -> Arc<dyn TlsFactory> {
        self.faulty(CertRole::Server, "server", faults)
    }

    /// As [`client`](Self::client), with faults.
    pub fn faulty_client(&self, name: &str, faults: TlsFaults) -> Arc<dyn TlsFactory> {
        self.faulty(CertRole::Client, name, faults)
    }

    fn faulty(&self, role: CertRole, name: &str, faults: TlsFaults) -> Arc<dyn TlsFactory> {
        let [good, refusing] =
            [Root::Own, Root::Other].map(|trusted| self.factory(Root::Own, role, name, trusted));
        Arc::new(Faulty { good, refusing, faults })
    }

    fn factory(&self, root: Root, role: CertRole, name: &str, trusted: Root) -> Arc<dyn TlsFactory> {
        let identity = certs::identity(root, role, name);
        match self.kind {
            Kind::Fake => Arc::new(FakeFactory::new(&self.seed, &identity, trusted, self.version)),
            Kind::Rustls => self.rustls(&identity, trusted),
        }
    }

    fn rustls(&self, identity: &Identity, trusted: Root) -> Arc<dyn TlsFactory> {
        let peer = match identity.role {
            CertRole::Server => CertRole::Client,
            CertRole::Client => CertRole::Server,
        };
        let options = TlsOptions {
            ca: vec![certs::ca(trusted)],
            certs: vec![identity.der.clone()],
            key: Some(identity.key.clone()),
            rules: PeerRules { role: Some(peer), ..PeerRules::default() },
            min_version: self.version,
            max_version: self.version,
            suites12: Vec::new(),
            suites13: Vec::new(),
            groups: Vec::new(),
            client_cert: ClientCertMode::Require,
        };
        // A new factory tries itself out, with bytes that go nowhere.
        let made =
            Stream::new(self.seed).enter(|| RustlsFactory::new(options, Arc::new(provider::provider())));
        let factory = sure("a factory", made);
        match self.key_log.as_ref().filter(|_| identity.role == CertRole::Server) {
            Some(log) => Arc::new(factory.with_key_log(log.sink())),
            None => Arc::new(factory),
        }
    }
}

#[cfg(test)]
mod tests;
