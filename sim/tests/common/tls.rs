//! TLS of tests, with the certificates of the protocol's own.

use std::path::Path;
use std::sync::Arc;

use oxivpn_proto::tls::rustls::{ClientCertMode, RustlsFactory, TlsOptions, TlsVersion};
use oxivpn_proto::tls::verify::PeerRules;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// One that shows the certificate `name`, and wants one of the same authority.
#[expect(clippy::unwrap_used, reason = "a test")]
pub(crate) fn factory(name: &str) -> Arc<RustlsFactory> {
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/tests/fixtures/tls");
    let cert = |name: &str| CertificateDer::from_pem_file(tls.join(name)).unwrap().to_vec();
    let key = PrivateKeyDer::from_pem_file(tls.join(format!("{name}.key.pem"))).unwrap();
    let options = TlsOptions {
        ca: vec![cert("ca.pem")],
        certs: vec![cert(&format!("{name}.pem"))],
        key: Some(Zeroizing::new(key.secret_der().to_vec())),
        rules: PeerRules::default(),
        min_version: TlsVersion::V12,
        max_version: TlsVersion::V13,
        suites12: Vec::new(),
        suites13: Vec::new(),
        groups: Vec::new(),
        client_cert: ClientCertMode::Require,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Arc::new(RustlsFactory::new(options, provider).unwrap())
}
