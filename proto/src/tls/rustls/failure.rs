//! rustls' errors as messages with cause and cure.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::{TlsFailure, TlsFailureKind};
use crate::tls::verify::RefusalAlert;

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

/// An error of rustls that is not about the rules for the peer's certificate.
pub(super) fn describe(error: &Error) -> TlsFailure {
    let (kind, message) = match error {
        Error::AlertReceived(alert) => (TlsFailureKind::Alert, alert_text(*alert)),
        Error::PeerIncompatible(why) => (TlsFailureKind::Incompatible, incompatible_text(why)),
        Error::InvalidCertificate(CertificateError::BadSignature) => (
            TlsFailureKind::Certificate,
            "the server's handshake signature does not fit its certificate; it does not have the \
             certificate's private key, or the connection is tampered with"
                .into(),
        ),
        Error::InvalidCertificate(why) => {
            (TlsFailureKind::Certificate, format!("the server's certificate cannot be used: {why:?}"))
        }
        Error::NoCertificatesPresented => (
            TlsFailureKind::Certificate,
            "the server sent no certificate; it must be configured with `cert` and `key`".into(),
        ),
        Error::DecryptError => (
            TlsFailureKind::Protocol,
            "a TLS record cannot be decrypted; bytes were lost or changed on the way".into(),
        ),
        Error::FailedToGetRandomBytes => (TlsFailureKind::Local, "no randomness from the system".into()),
        Error::EncryptError => (TlsFailureKind::Local, "this TLS key is used up".into()),
        other => (TlsFailureKind::Protocol, format!("the server broke the TLS protocol: {other}")),
    };
    TlsFailure { kind, message }
}

fn incompatible_text(why: &PeerIncompatible) -> String {
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
        other => format!("no common TLS parameters with the server: {other:?}"),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    let hint = match alert {
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
    };
    format!("received fatal SSL alert: {}: {hint}", words(&format!("{alert:?}")))
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
