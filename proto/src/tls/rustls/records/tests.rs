use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::*;
use crate::tls::tests::{cert, key, provider};

/// Takes any server.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Two rustls ends after a handshake with `suite`.
fn connected(suite: SupportedCipherSuite) -> (Connection, Connection) {
    let provider = CryptoProvider { cipher_suites: vec![suite], ..(*provider()).clone() };
    let provider = Arc::new(provider);
    let der = PrivateKeyDer::try_from(key("server.key").to_vec()).unwrap();
    let signing = provider.key_provider.load_private_key(der).unwrap();
    let identity = SingleCertAndKey::from(CertifiedKey::new(vec![cert("server").into()], signing));
    let versions = [suite.version()];
    let mut ours = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(identity));
    let mut theirs = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    ours.send_tls13_tickets = 0;
    (ours.enable_secret_extraction, theirs.enable_secret_extraction) = (true, true);
    let name = ServerName::try_from("example.org").unwrap();
    let mut client: Connection = ClientConnection::new(Arc::new(theirs), name).unwrap().into();
    let mut server: Connection = ServerConnection::new(Arc::new(ours)).unwrap().into();
    while client.is_handshaking() || server.is_handshaking() {
        carry(&mut client, &mut server);
        carry(&mut server, &mut client);
    }
    (client, server)
}

fn carry(from: &mut Connection, to: &mut Connection) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets().unwrap();
    }
}

fn pair(suite: SupportedCipherSuite) -> (Records, Records) {
    let (client, server) = connected(suite);
    (Records::take(client).unwrap(), Records::take(server).unwrap())
}

fn suites() -> Vec<SupportedCipherSuite> {
    let all = provider().cipher_suites.clone();
    all.into_iter().filter(|suite| !format!("{suite:?}").contains("RSA")).collect()
}

fn plain(opened: Result<Opened<'_>, Refused>) -> Vec<u8> {
    match opened {
        Ok(Opened::Data(data)) => data.to_vec(),
        Ok(_) => panic!("no data"),
        Err(refused) => panic!("{}", refused.error),
    }
}

fn alert(opened: Result<Opened<'_>, Refused>) -> Option<AlertDescription> {
    match opened {
        Ok(_) => panic!("taken"),
        Err(refused) => refused.alert,
    }
}

#[test]
fn a_settled_end_goes_on_with_rustls() {
    use std::io::{Read as _, Write as _};
    let suites = suites();
    assert_eq!(suites.len(), 6);
    for suite in suites {
        let (mut client, mut server) = connected(suite);
        // Records before, so that the numbers don't begin at zero.
        for _ in 0..3 {
            client.writer().write_all(b"early").unwrap();
            carry(&mut client, &mut server);
            server.reader().read_exact(&mut [0; 5]).unwrap();
            server.writer().write_all(b"early").unwrap();
            carry(&mut server, &mut client);
            client.reader().read_exact(&mut [0; 5]).unwrap();
        }
        let mut server = Records::take(server).unwrap();
        for len in [1, 100, 2048] {
            let message = vec![7; len];
            client.writer().write_all(&message).unwrap();
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            assert_eq!(plain(server.open(&mut bytes)), message, "{suite:?}");
            let sealed = server.seal(ContentType::ApplicationData, &message).unwrap();
            client.read_tls(&mut sealed.as_slice()).unwrap();
            client.process_new_packets().unwrap();
            let mut got = vec![0; len];
            client.reader().read_exact(&mut got).unwrap();
            assert_eq!(got, message, "{suite:?}");
        }
        client.send_close_notify();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        assert!(matches!(server.open(&mut bytes), Ok(Opened::Closed)));
    }
}

#[test]
fn changed_repeated_and_swapped_records_are_refused() {
    for suite in suites() {
        let (mut client, mut server) = pair(suite);
        let first = client.seal(ContentType::ApplicationData, b"first").unwrap();
        let second = client.seal(ContentType::ApplicationData, b"second").unwrap();
        assert_eq!(alert(server.open(&mut second.clone())), Some(AlertDescription::BadRecordMac));
        // TLS 1.3 binds the header's type and length only through the length of what is opened.
        for byte in (0..first.len()).filter(|i| *i > 4) {
            for bit in 0..8 {
                let mut bad = first.clone();
                bad[byte] ^= 1 << bit;
                assert_eq!(alert(server.open(&mut bad)), Some(AlertDescription::BadRecordMac), "{byte}");
            }
        }
        for len in 0..first.len() {
            assert!(server.open(&mut first[..len].to_vec()).is_err(), "{len}");
        }
        assert_eq!(plain(server.open(&mut first.clone())), b"first");
        assert_eq!(alert(server.open(&mut first.clone())), Some(AlertDescription::BadRecordMac));
        assert_eq!(plain(server.open(&mut second.clone())), b"second");
    }
}

#[test]
fn nothing_but_data_and_alerts_is_taken() {
    let key_update = [24, 0, 0, 1, 1];
    let hello = [&[1, 0, 0, 34, 3, 3][..], &[0; 32]].concat();
    for suite in suites() {
        for (kind, bytes) in [
            (ContentType::Handshake, &key_update[..]),
            (ContentType::Handshake, &hello),
            (ContentType::Handshake, &[]),
            (ContentType::Heartbeat, &[1, 0xff, 0xff]),
            (ContentType::Alert, &[]),
            (ContentType::Alert, &[2]),
            (ContentType::Alert, &[2, 40, 0]),
        ] {
            let (mut client, mut server) = pair(suite);
            let mut record = client.seal(kind, bytes).unwrap();
            let wanted = Some(AlertDescription::UnexpectedMessage);
            assert_eq!(alert(server.open(&mut record)), wanted, "{suite:?} {kind:?} {bytes:?}");
        }
    }
}

#[test]
fn alerts() {
    for suite in suites() {
        let (mut client, mut server) = pair(suite);
        let mut open = |bytes: &[u8]| {
            let mut record = client.seal(ContentType::Alert, bytes).unwrap();
            match server.open(&mut record) {
                Ok(opened) => Ok(matches!(opened, Opened::Closed)),
                Err(refused) => Err((refused.error, refused.alert)),
            }
        };
        assert_eq!(open(&[1, 90]), Ok(false));
        assert_eq!(open(&[1, 0]), Ok(true));
        let internal = Error::AlertReceived(AlertDescription::InternalError);
        assert_eq!(open(&[2, 80]), Err((internal, None)));
    }
}

#[test]
fn records_without_content_are_bounded() {
    for suite in suites() {
        let (mut client, mut server) = pair(suite);
        let mut next = |bytes: &[u8]| {
            let mut record = client.seal(ContentType::ApplicationData, bytes).unwrap();
            server.open(&mut record).map(|_| ()).map_err(|refused| refused.alert)
        };
        for _ in 0..3 {
            (0..MAX_IDLE_RECORDS).for_each(|_| next(b"").unwrap());
            next(b"x").unwrap();
        }
        (0..MAX_IDLE_RECORDS).for_each(|_| next(b"").unwrap());
        assert_eq!(next(b""), Err(Some(AlertDescription::UnexpectedMessage)));
    }
}

#[test]
fn a_key_is_not_used_up() {
    let (mut client, _) = pair(suites()[0]);
    client.sent = MAX_SEALED_RECORDS - 1;
    client.seal(ContentType::ApplicationData, b"x").unwrap();
    assert_eq!(client.seal(ContentType::ApplicationData, b"x"), Err(Error::EncryptError));
}
