//! `tls-verify` where the handshake itself must wait for it: in clients and point-to-point tunnels.
//!
//! The user name and password go out as soon as the handshake is done, so the script must have said yes before. It is
//! waited for, as in OpenVPN. A server asks beside its loop, before it answers a login.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use oxivpn_profile::server::ScriptOptions;
use oxivpn_proto::tls::facts::facts;
use oxivpn_proto::tls::{PeerIdentity, TlsFactory, TlsFailure, TlsFailureKind, TlsPhase, TlsSession};
use zeroize::Zeroizing;

use super::environment::Environment;
use super::runner::Scripts;
use super::{kinds, variables};
use crate::log::Log;
use crate::say;

/// How long the script may take for each certificate: half of the default `hand-window`, so that there is time left
/// for the rest.
const PATIENCE: Duration = Duration::from_secs(30);

/// Variables of the peer that is being connected to, shared with whoever knows where it is.
pub type Peer = Arc<Mutex<Environment>>;

/// Makes sessions that ask a script about the peer's certificates.
pub struct Verifying {
    inner: Arc<dyn TlsFactory>,
    question: Question,
}

/// What is needed to ask.
#[derive(Clone)]
struct Question {
    options: ScriptOptions,
    base: Environment,
    peer: Peer,
    log: Arc<Log>,
}

impl Verifying {
    /// Asks the script of `options`, if it has one, about those whom `inner` trusts. `base` are the variables that all
    /// scripts get.
    pub fn around(
        inner: Arc<dyn TlsFactory>,
        options: &ScriptOptions,
        base: Environment,
        peer: Peer,
        log: Arc<Log>,
    ) -> Arc<dyn TlsFactory> {
        match options.tls_verify {
            Some(_) => {
                Arc::new(Self { inner, question: Question { options: options.clone(), base, peer, log } })
            }
            None => inner,
        }
    }

    fn session(&self, inner: Box<dyn TlsSession>) -> Box<dyn TlsSession> {
        Box::new(Asking { inner, question: Some(self.question.clone()) })
    }
}

impl TlsFactory for Verifying {
    fn client(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        self.inner.client(unix).map(|inner| self.session(inner))
    }

    fn server(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        self.inner.server(unix).map(|inner| self.session(inner))
    }
}

impl Question {
    /// Asks about each certificate, from the root down (`openvpn: ssl_verify.c`, `verify_cert_call_command`).
    fn ask(&self, identity: &PeerIdentity) -> Result<(), TlsFailure> {
        let Some(command) = &self.options.tls_verify else { return Ok(()) };
        let mut scripts = Scripts::new(&self.options, self.base.clone(), || {});
        let mut env = self.peer.lock().map(|env| env.clone()).unwrap_or_default();
        for (depth, der) in identity.certificates.iter().enumerate().rev() {
            let Some(facts) = facts(der) else { return Err(refusal(depth, "it cannot be read")) };
            variables::certificate(&mut env, depth, &facts);
            let job = kinds::tls_verify(command, &env, depth, &facts.subject, PATIENCE);
            let hook = job.hook;
            let why = match scripts.run(job) {
                Ok(finished) if finished.is_success() => {
                    say!(self.log, Info, "VERIFY SCRIPT OK: depth={depth}, {}", facts.subject);
                    continue;
                }
                Ok(finished) => kinds::failed(hook, &finished),
                Err(refusal) => kinds::failed(hook, &refusal),
            };
            say!(self.log, Warn, "{why}");
            return Err(refusal(depth, &facts.subject));
        }
        Ok(())
    }
}

fn refusal(depth: usize, subject: &str) -> TlsFailure {
    TlsFailure {
        kind: TlsFailureKind::Certificate,
        message: format!(
            "VERIFY SCRIPT ERROR: depth={depth}, {subject}. The script of `tls-verify` refused this certificate"
        ),
    }
}

/// A session that asks when the handshake is done.
struct Asking {
    inner: Box<dyn TlsSession>,
    /// Until it was asked.
    question: Option<Question>,
}

impl TlsSession for Asking {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        self.inner.feed(bytes)?;
        if self.inner.phase() == TlsPhase::Ready
            && let Some(question) = self.question.take()
            && let Some(identity) = self.inner.peer()
        {
            question.ask(&identity)?;
        }
        Ok(())
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> usize {
        self.inner.drain(out)
    }

    fn read_record(&mut self, out: &mut Zeroizing<Vec<u8>>) -> bool {
        self.inner.read_record(out)
    }

    fn write_record(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        self.inner.write_record(bytes)
    }

    fn export(&mut self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        self.inner.export(label, out)
    }

    fn peer(&self) -> Option<PeerIdentity> {
        self.inner.peer()
    }

    fn phase(&self) -> TlsPhase {
        self.inner.phase()
    }

    fn description(&self) -> Option<String> {
        self.inner.description()
    }

    fn settle(&mut self) {
        self.inner.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session that is ready once it was fed, with a peer that has two certificates.
    struct Fake {
        ready: bool,
        certificates: Arc<[Vec<u8>]>,
    }

    impl TlsSession for Fake {
        fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
            self.ready |= !bytes.is_empty();
            Ok(())
        }

        fn drain(&mut self, _: &mut Vec<u8>) -> usize {
            0
        }

        fn read_record(&mut self, _: &mut Zeroizing<Vec<u8>>) -> bool {
            false
        }

        fn write_record(&mut self, _: &[u8]) -> Result<(), TlsFailure> {
            Ok(())
        }

        fn export(&mut self, _: &str, _: &mut [u8]) -> Result<(), TlsFailure> {
            Ok(())
        }

        fn peer(&self) -> Option<PeerIdentity> {
            self.ready.then(|| PeerIdentity {
                subject: "CN=leaf".into(),
                common_name: Some("leaf".into()),
                fingerprint: [0; 32],
                chain: Vec::new(),
                warnings: Vec::new(),
                certificates: self.certificates.clone(),
            })
        }

        fn phase(&self) -> TlsPhase {
            if self.ready { TlsPhase::Ready } else { TlsPhase::Handshaking }
        }

        fn description(&self) -> Option<String> {
            None
        }

        fn settle(&mut self) {}
    }

    struct Factory(Arc<[Vec<u8>]>);

    impl TlsFactory for Factory {
        fn client(&self, _: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
            Ok(Box::new(Fake { ready: false, certificates: self.0.clone() }))
        }

        fn server(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
            self.client(unix)
        }
    }

    fn certificate(name: &str) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    /// Feeds a session whose script is this; what it said, line by line.
    fn outcome(script: &str) -> (Result<(), TlsFailure>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        let command = ["/bin/sh", "-c", script, list.to_str().unwrap()].map(str::to_owned).to_vec();
        let options = ScriptOptions { security: 2, tls_verify: Some(command), ..ScriptOptions::default() };
        let peer = Peer::default();
        variables::untrusted(&mut peer.lock().unwrap(), "192.0.2.1:1194".parse().unwrap());
        let inner = Arc::new(Factory([certificate("leaf"), certificate("ca")].into()));
        let log = Arc::new(Log::plain(Box::new(std::io::sink()), 1));
        let factory = Verifying::around(inner, &options, Environment::new(), peer, log);
        let mut session = factory.client(Duration::ZERO).unwrap();
        session.feed(&[]).unwrap();
        let result = session.feed(b"handshake");
        if result.is_ok() {
            session.feed(b"data").expect("it asks once");
        }
        let text = std::fs::read_to_string(list).unwrap_or_default();
        (result, text.lines().map(str::to_owned).collect())
    }

    const TELL: &str = r#"echo "$1 $2 $tls_id_0 $tls_id_1 $untrusted_ip" >> "$0""#;

    #[test]
    fn every_certificate_is_asked_about_from_the_root_down() {
        let (result, lines) = outcome(TELL);
        assert_eq!(result, Ok(()));
        assert_eq!(lines, ["1 CN=ca  CN=ca 192.0.2.1", "0 CN=leaf CN=leaf CN=ca 192.0.2.1"]);
    }

    #[test]
    fn a_refusal_ends_the_handshake() {
        let (result, lines) = outcome(&format!("{TELL}; [ $1 = 1 ]"));
        let failure = result.unwrap_err();
        assert_eq!((failure.kind, lines.len()), (TlsFailureKind::Certificate, 2));
        assert!(failure.message.starts_with("VERIFY SCRIPT ERROR: depth=0, CN=leaf"), "{}", failure.message);
        let (result, lines) = outcome(&format!("{TELL}; exit 1"));
        assert!(result.unwrap_err().message.starts_with("VERIFY SCRIPT ERROR: depth=1, CN=ca"));
        assert_eq!(lines.len(), 1, "the leaf is not asked about any more");
    }
}
