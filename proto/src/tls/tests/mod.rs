//! TLS against a rustls server in the same process, with certificates from `tests/fixtures/tls`.

mod handshake;

mod hostile;
mod server;
mod settings;
mod verification;

use core::time::Duration;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use ::rustls::crypto::{CryptoProvider, aws_lc_rs};
use ::rustls::pki_types::pem::PemObject;
use ::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use ::rustls::server::ResolvesServerCert;
use ::rustls::sign::CertifiedKey;
use ::rustls::{ServerConfig, ServerConnection};

use super::rustls::{ClientCertMode, RustlsFactory, TlsOptions, TlsVersion};
use super::verify::PeerRules;
use super::*;

/// 2026-01-01, within the life of every certificate that is not named `expired`.
const NOW: u64 = 1_767_225_600;

pub(super) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(format!("{name}.pem"))
}

pub(super) fn cert(name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(path(name)).unwrap().to_vec()
}

fn crl(name: &str) -> Vec<u8> {
    CertificateRevocationListDer::from_pem_file(path(name)).unwrap().to_vec()
}

pub(super) fn key(name: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(PrivateKeyDer::from_pem_file(path(name)).unwrap().secret_der().to_vec())
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A client that trusts `ca` and has no certificate.
fn options(ca: &[&str]) -> TlsOptions {
    TlsOptions {
        ca: ca.iter().map(|name| cert(name)).collect(),
        certs: Vec::new(),
        key: None,
        rules: PeerRules::default(),
        min_version: TlsVersion::V12,
        max_version: TlsVersion::V13,
        suites12: Vec::new(),
        suites13: Vec::new(),
        groups: Vec::new(),
        client_cert: ClientCertMode::Require,
    }
}

fn with_identity(mut options: TlsOptions, name: &str) -> TlsOptions {
    options.certs = vec![cert(name)];
    options.key = Some(key(&format!("{name}.key")));
    options
}

/// Serves any chain, also one of version 1.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ::rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A server's settings.
struct Server {
    chain: Vec<&'static str>,
    key: String,
    version: TlsVersion,
    /// CA of the clients, if a client certificate is demanded.
    clients: Option<&'static str>,
}

impl Server {
    fn new(chain: &[&'static str], version: TlsVersion) -> Self {
        // Most leaves share one key.
        let own = format!("{}.key", chain[0]);
        let key = if path(&own).exists() { own } else { "server.key".into() };
        Self { chain: chain.to_vec(), key, version, clients: None }
    }

    fn start(&self) -> ServerConnection {
        let provider = provider();
        let der = PrivateKeyDer::try_from(key(&self.key).to_vec()).unwrap();
        let signing = provider.key_provider.load_private_key(der).unwrap();
        let chain = self.chain.iter().map(|name| CertificateDer::from(cert(name))).collect();
        let version = match self.version {
            TlsVersion::V12 => &::rustls::version::TLS12,
            TlsVersion::V13 => &::rustls::version::TLS13,
        };
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = ::rustls::RootCertStore::empty();
                roots.add(CertificateDer::from(cert(ca))).unwrap();
                let verifier =
                    ::rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let resolver = Fixed(Arc::new(CertifiedKey::new(chain, signing)));
        ServerConnection::new(Arc::new(builder.with_cert_resolver(Arc::new(resolver)))).unwrap()
    }
}

fn client(options: TlsOptions) -> Box<dyn TlsSession> {
    let factory = RustlsFactory::new(options, provider()).unwrap();
    factory.client(Duration::from_secs(NOW)).unwrap()
}

fn drained(session: &mut dyn TlsSession) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(session.drain(&mut out), out.len());
    out
}

fn server_bytes(server: &mut ServerConnection) -> Vec<u8> {
    let mut out = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut out).unwrap();
    }
    out
}

/// Feeds the server; its error is what the client's alert or our own fault caused.
fn feed_server(server: &mut ServerConnection, mut bytes: &[u8]) -> Result<(), ::rustls::Error> {
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).unwrap();
        server.process_new_packets()?;
    }
    Ok(())
}

/// Runs both ends until neither has more to say, with the server's bytes cut into pieces of `cut`.
fn run(client: &mut dyn TlsSession, server: &mut ServerConnection, cut: usize) -> Result<(), TlsFailure> {
    loop {
        let to_server = drained(client);
        let server_result = feed_server(server, &to_server);
        let to_client = server_bytes(server);
        for piece in to_client.chunks(cut) {
            client.feed(piece)?;
        }
        if to_server.is_empty() && to_client.is_empty() {
            server_result.unwrap();
            return Ok(());
        }
    }
}

/// Does a handshake and says how it ended for the client.
fn outcome(options: TlsOptions, server: &Server) -> Result<PeerIdentity, TlsFailure> {
    let mut client = client(options);
    let mut server = server.start();
    run(client.as_mut(), &mut server, 1000)?;
    assert_eq!(client.phase(), TlsPhase::Ready);
    Ok(client.peer().unwrap())
}
