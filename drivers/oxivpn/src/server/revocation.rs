//! `crl-verify`: what is revoked while the server runs.

use core::time::Duration;
use std::fs::Metadata;
use std::sync::Arc;
use std::time::SystemTime;

use oxivpn_profile::Disk;
use oxivpn_profile::profile::RevocationSource;
use oxivpn_proto::Instant;
use oxivpn_proto::tls::rustls::RustlsFactory;

use crate::log::Log;
use crate::say;

/// Time between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// The source of revocations, and how it was when it was last read.
pub(super) struct Revocation {
    source: RevocationSource,
    tls: Arc<RustlsFactory>,
    seen: Option<Stamp>,
    next: Instant,
}

/// By what a change is noticed (`openvpn: ssl.c`, `tls_ctx_reload_crl`).
type Stamp = (SystemTime, u64);

impl Revocation {
    /// `tls` has read `source` just now.
    pub(super) fn new(source: RevocationSource, tls: Arc<RustlsFactory>, now: Instant) -> Self {
        let seen = stamp(&source).ok();
        Self { source, tls, seen, next: now + LOOK }
    }

    /// Reads the source again if it has changed. What was read before stays if it can't be read.
    pub(super) fn look(&mut self, now: Instant, log: &Log) {
        if now < self.next {
            return;
        }
        self.next = now + LOOK;
        let path = self.source.path.display();
        let found = match stamp(&self.source) {
            Ok(found) => found,
            // It may be outside the chroot, or just be written anew.
            Err(error) => {
                if self.seen.take().is_some() {
                    say!(log, Warn, "WARNING: Failed to stat CRL file, not (re)loading CRL. {path}: {error}");
                }
                return;
            }
        };
        if self.seen.replace(found) == Some(found) {
            return;
        }
        let read = self.source.read(&Disk).map_err(|error| error.to_string()).and_then(|(lists, serials)| {
            let count = lists.len().max(serials.len());
            self.tls.set_revoked(&lists, serials).map_err(|failure| failure.message).map(|()| count)
        });
        match read {
            Ok(count) if self.source.directory => {
                say!(log, Info, "CRL: {count} serial numbers in directory {path}");
            }
            Ok(count) => say!(log, Info, "CRL: loaded {count} CRLs from file {path}"),
            Err(why) => say!(log, Warn, "CRL: {why}. The revocations read before stay in use"),
        }
    }
}

fn stamp(source: &RevocationSource) -> std::io::Result<Stamp> {
    let meta: Metadata = std::fs::metadata(&source.path)?;
    Ok((meta.modified()?, meta.len()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    use oxivpn_proto::tls::rustls::{ClientCertMode, TlsOptions, TlsVersion};
    use oxivpn_proto::tls::verify::PeerRules;
    use oxivpn_proto::tls::{TlsFactory, TlsFailure};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use zeroize::Zeroizing;

    use super::*;

    /// 2026-01-01.
    const NOW: Duration = Duration::from_secs(1_767_225_600);

    fn fixture(name: &str) -> PathBuf {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/tests/fixtures/tls");
        dir.join(format!("{name}.pem"))
    }

    fn factory(name: &str) -> Arc<RustlsFactory> {
        let cert = |name| CertificateDer::from_pem_file(fixture(name)).unwrap().to_vec();
        let key = PrivateKeyDer::from_pem_file(fixture(&format!("{name}.key"))).unwrap();
        let options = TlsOptions {
            ca: vec![cert("ca")],
            certs: vec![cert(name)],
            key: Some(Zeroizing::new(key.secret_der().to_vec())),
            rules: PeerRules::default(),
            min_version: TlsVersion::V13,
            max_version: TlsVersion::V13,
            suites12: Vec::new(),
            suites13: Vec::new(),
            groups: Vec::new(),
            client_cert: ClientCertMode::Require,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Arc::new(RustlsFactory::new(options, provider).unwrap())
    }

    /// How the side with the rules finds the other one's certificate.
    fn judge(judge: &RustlsFactory, other: &RustlsFactory) -> Result<(), TlsFailure> {
        let (mut client, mut server) = (judge.client(NOW)?, other.server(NOW)?);
        let mut pipe = Vec::new();
        client.drain(&mut pipe);
        server.feed(&std::mem::take(&mut pipe))?;
        server.drain(&mut pipe);
        client.feed(&pipe)
    }

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crl.pem");
        let put = |name: &str| std::fs::copy(fixture(name), &path).map(drop).unwrap();
        put("crl-empty");
        let (tls, server) = (factory("client-p256"), factory("server"));
        let mut now = Instant::from_nanos(1);
        let source = RevocationSource { path: path.clone(), directory: false };
        let mut revocation = Revocation::new(source, tls.clone(), now);
        let memory = Memory::default();
        let log = Log::plain(Box::new(memory.clone()), 3);
        let mut look = || {
            now = now + LOOK;
            revocation.look(now, &log);
            let lines = String::from_utf8(std::mem::take(&mut *memory.0.lock().unwrap())).unwrap();
            (judge(&tls, &server).is_ok(), lines)
        };
        assert_eq!(look(), (true, String::new()));
        put("crl-server");
        let (good, lines) = look();
        assert!(!good && lines.contains("CRL: loaded 1 CRLs from file "), "{lines}");
        assert_eq!(look(), (false, String::new()));
        std::fs::write(&path, "rubbish").unwrap();
        let (good, lines) = look();
        assert!(
            !good && lines.contains("no revocation list found") && lines.contains("stay in use"),
            "{lines}"
        );
        std::fs::remove_file(&path).unwrap();
        let (good, lines) = look();
        assert!(!good && lines.contains("WARNING: Failed to stat CRL file"), "{lines}");
        assert_eq!(look(), (false, String::new()));
        put("crl-other");
        assert!(look().0);
    }

    #[test]
    fn a_directory_of_serials_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (tls, server) = (factory("client-p256"), factory("server"));
        let now = Instant::from_nanos(1);
        let source = RevocationSource { path: dir.path().to_owned(), directory: true };
        let mut revocation = Revocation::new(source, tls.clone(), now);
        // As if made before; the clock of file systems is coarse.
        revocation.seen = None;
        let log = Log::plain(Box::new(std::io::sink()), 3);
        std::fs::write(dir.path().join("102"), "").unwrap();
        revocation.look(now, &log);
        assert!(judge(&tls, &server).is_ok(), "not yet time to look");
        revocation.look(now + LOOK, &log);
        let failure = judge(&tls, &server).unwrap_err();
        assert!(failure.message.contains("serial=102 is revoked"), "{failure}");
    }
}
