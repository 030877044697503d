//! rustls' errors as messages with cause and cure.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::{TlsFailure, TlsFailureKind};
use crate::tls::verify::{CertRole, RefusalAlert};

/// The error that makes rustls send the fitting alert.
pub(super) fn refusal_error(alert: RefusalAlert) -> Error {
    Error::InvalidCertificate(match alert {
        RefusalAlert::BadCertificate => CertificateError::BadEncoding,
        RefusalAlert::Expired => CertificateError::Expired,
        RefusalAlert::Revoked => CertificateError::Revoked,
        RefusalAlert::UnknownCa => CertificateError::UnknownIssuer,
        RefusalAlert::Unsupported => CertificateError::InvalidPurpose,
        RefusalAlert::AccessDenied => CertificateError::ApplicationVerificationFailure,
    })
}

/// An error of rustls with a peer in the role `peer` that is not about the rules for its certificate.
pub(super) fn describe(error: &Error, peer: CertRole) -> TlsFailure {
    let who = peer.noun();
    let (kind, message) = match error {
        Error::AlertReceived(alert) => (TlsFailureKind::Alert, alert_text(*alert, peer)),
        Error::PeerIncompatible(why) => (TlsFailureKind::Incompatible, incompatible_text(why, peer)),
        Error::InvalidCertificate(CertificateError::BadSignature) => (
            TlsFailureKind::Certificate,
            format!(
                "the {who}'s handshake signature does not fit its certificate; it does not have the certificate's \
                 private key, or the connection is tampered with"
            ),
        ),
        Error::InvalidCertificate(why) => {
            (TlsFailureKind::Certificate, format!("the {who}'s certificate cannot be used: {why:?}"))
        }
        Error::NoCertificatesPresented => (TlsFailureKind::Certificate, no_certificate_text(peer).into()),
        Error::DecryptError => (
            TlsFailureKind::Protocol,
            "a TLS record cannot be decrypted; bytes were lost or changed on the way".into(),
        ),
        Error::FailedToGetRandomBytes => (TlsFailureKind::Local, "no randomness from the system".into()),
        Error::EncryptError => (TlsFailureKind::Local, "this TLS key is used up".into()),
        other => (TlsFailureKind::Protocol, format!("the {who} broke the TLS protocol: {other}")),
    };
    TlsFailure { kind, message }
}

fn no_certificate_text(peer: CertRole) -> &'static str {
    match peer {
        CertRole::Server => "the server sent no certificate; it must be configured with `cert` and `key`",
        CertRole::Client => {
            "peer did not return a certificate: the client needs `cert` and `key`, or allow clients without one by \
             `verify-client-cert optional`"
        }
    }
}

fn incompatible_text(why: &PeerIncompatible, peer: CertRole) -> String {
    let who = peer.noun();
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13 => {
            "the server speaks only TLS below 1.2, which is not supported; update the server or remove its \
             `tls-version-max`"
                .into()
        }
        PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the server chose a TLS version outside `tls-version-min` and `tls-version-max`; widen them or \
             update the server"
                .into()
        }
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic
        | PeerIncompatible::SupportedVersionsExtensionRequired => {
            "the client offers no TLS version that is enabled here; look at `tls-version-min` and `tls-version-max` \
             on both sides, at least TLS 1.2 is needed"
                .into()
        }
        PeerIncompatible::NoCipherSuitesInCommon => {
            "no shared cipher: look at `tls-cipher` and `tls-ciphersuites` on both sides (only ECDHE with AES-GCM or \
             ChaCha20-Poly1305 is supported)"
                .into()
        }
        PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NoEcPointFormatsInCommon
        | PeerIncompatible::NamedGroupsExtensionRequired => {
            format!("no group in common with the {who}; look at `tls-groups` on both sides")
        }
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => format!(
            "no signature algorithm in common with the {who}; use another kind of key in `cert` and `key`, such as \
             ECDSA P-256"
        ),
        other => format!("no common TLS parameters with the {who}: {other:?}"),
    }
}

fn alert_text(alert: AlertDescription, peer: CertRole) -> String {
    let hint = match peer {
        CertRole::Server => hint_of_server(alert),
        CertRole::Client => hint_of_client(alert),
    };
    format!("received fatal SSL alert: {}: {hint}", words(&format!("{alert:?}")))
}

fn hint_of_server(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => {
            "the server refused our certificate: it is not signed by the CA that the server trusts; use a `cert` \
             issued for this server"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown => {
            "the server refused our certificate; its log says why (common causes: wrong CA, wrong key usage, a name \
             that the server does not admit)"
        }
        AlertDescription::CertificateExpired => {
            "the server refused our certificate as expired or not yet valid; renew `cert`, or the server's clock is \
             wrong"
        }
        AlertDescription::CertificateRevoked => {
            "the server refused our certificate as revoked; have a new one issued"
        }
        AlertDescription::CertificateRequired => {
            "the server demands a client certificate; give one with `cert` and `key`"
        }
        AlertDescription::AccessDenied => "the server does not admit our certificate",
        AlertDescription::ProtocolVersion => {
            "the server speaks no TLS version that we offer; look at `tls-version-min` and `tls-version-max` on both \
             sides, at least TLS 1.2 is needed"
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "the server shares no cipher suite, group or signature algorithm with us, or it demands a client \
             certificate; look at `tls-cipher` and `tls-groups` on both sides (only ECDHE with AES-GCM or \
             ChaCha20-Poly1305 is supported, and P-521 certificates only with TLS 1.3)"
        }
        AlertDescription::DecryptError => {
            "the server could not verify our handshake signature; do `cert` and `key` belong together?"
        }
        AlertDescription::IllegalParameter => {
            "the server refused a value in our handshake; with a P-521 key in `cert` it needs TLS 1.3, or take another \
             kind of key"
        }
        AlertDescription::InternalError => "the server has a fault of its own; its log says more",
        _ => "the server ended the TLS session; its log says more",
    }
}

fn hint_of_client(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => {
            "the client refused our certificate: it is not signed by the CA that the client trusts; give the client \
             the `ca` that issued `cert`, and send intermediate certificates behind our own in `cert` or by \
             `extra-certs`"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            "the client refused our certificate; its log says why (common causes: `remote-cert-tls server` and a \
             certificate without extended key usage serverAuth, or another name in `verify-x509-name`)"
        }
        AlertDescription::CertificateExpired => {
            "the client refused our certificate as expired or not yet valid; renew `cert`, or the client's clock is \
             wrong"
        }
        AlertDescription::CertificateRevoked => {
            "the client refused our certificate as revoked; have a new one issued"
        }
        AlertDescription::ProtocolVersion => {
            "the client takes no TLS version that is enabled here; look at `tls-version-min` and `tls-version-max` on \
             both sides"
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "the client shares no cipher suite, group or signature algorithm with us; look at `tls-cipher` and \
             `tls-groups` on both sides"
        }
        AlertDescription::DecryptError => {
            "the client could not verify our handshake signature; do `cert` and `key` belong together?"
        }
        AlertDescription::InternalError => "the client has a fault of its own; its log says more",
        _ => "the client ended the TLS session; its log says more",
    }
}

/// `CertificateExpired` as `certificate expired`, OpenSSL's way.
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    let mut in_capitals = true;
    for c in name.chars() {
        if c.is_ascii_uppercase() && !in_capitals {
            words.push(' ');
        }
        in_capitals = c.is_ascii_uppercase();
        words.push(c.to_ascii_lowercase());
    }
    words
}
