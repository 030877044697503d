//! Records of a connection whose handshake is over, without what rustls keeps beside the keys.
//!
//! The keys are rustls' own, as it hands them out for use elsewhere. Not served: a change of TLS 1.3 traffic keys
//! and a TLS 1.2 renegotiation, which no OpenVPN peer asks for; both end the session.

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
    OutboundChunks, OutboundPlainMessage,
};
use rustls::{
    AlertDescription, Connection, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    ProtocolVersion, SupportedCipherSuite,
};

use super::session::RECORD_HEADER;
use crate::limits::{MAX_IDLE_RECORDS, MAX_SEALED_RECORDS};

/// Keys and counters of both directions.
pub(super) struct Records {
    seal: Box<dyn MessageEncrypter>,
    open: Box<dyn MessageDecrypter>,
    /// Numbers of the next records.
    sent: u64,
    received: u64,
    /// Records in a row that brought no data.
    idle: u8,
}

/// What a received record brought.
pub(super) enum Opened<'a> {
    Data(&'a [u8]),
    /// Nothing, and nothing wrong with it.
    Empty,
    /// `close_notify`.
    Closed,
}

/// Why a record is refused, and the alert for it.
pub(super) struct Refused {
    pub(super) error: Error,
    /// `None` if the peer ended the session itself.
    pub(super) alert: Option<AlertDescription>,
}

impl Records {
    /// Takes the keys out of an established connection, which must have nothing left to send.
    pub(super) fn take(conn: Connection) -> Result<Self, Error> {
        let suite = conn.negotiated_cipher_suite().ok_or(Error::HandshakeNotComplete)?;
        let ExtractedSecrets { tx: (sent, tx), rx: (received, rx) } = conn.dangerous_extract_secrets()?;
        let ((tx, tx_iv), (rx, rx_iv)) = (parts(tx)?, parts(rx)?);
        let (seal, open) = match suite {
            SupportedCipherSuite::Tls13(suite) => {
                (suite.aead_alg.encrypter(tx, tx_iv), suite.aead_alg.decrypter(rx, rx_iv))
            }
            SupportedCipherSuite::Tls12(suite) => {
                let (tx_iv, rx_iv) = (tx_iv.as_ref(), rx_iv.as_ref());
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len.min(tx_iv.len()).min(rx_iv.len());
                let (salt, explicit) = tx_iv.split_at(fixed);
                (suite.aead_alg.encrypter(tx, salt, explicit), suite.aead_alg.decrypter(rx, &rx_iv[..fixed]))
            }
        };
        let mut records = Self { seal, open, sent, received, idle: 0 };
        records.begin_at_zero()?;
        Ok(records)
    }

    /// AWS-LC checks that the numbers of sealed records rise, and takes the first nonce that it sees for that of
    /// number 0. So the new key is shown that number, if it has been used; what it seals with it goes nowhere.
    fn begin_at_zero(&mut self) -> Result<(), Error> {
        if self.sent > 0 {
            let payload = OutboundChunks::new_empty();
            let (typ, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
            self.seal.encrypt(OutboundPlainMessage { typ, version, payload }, 0)?;
        }
        Ok(())
    }

    /// Seals `bytes` as one record with its header.
    pub(super) fn seal(&mut self, kind: ContentType, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let number = self.sent;
        if number >= MAX_SEALED_RECORDS {
            return Err(Error::EncryptError);
        }
        self.sent += 1;
        let message = OutboundPlainMessage {
            typ: kind,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(bytes),
        };
        Ok(self.seal.encrypt(message, number)?.encode())
    }

    /// Opens one record with its header in place.
    pub(super) fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<Opened<'a>, Refused> {
        let refuse = |alert, error: Error| Refused { error, alert: Some(alert) };
        let Some((header, body)) = record.split_at_mut_checked(RECORD_HEADER) else {
            return Err(refuse(AlertDescription::DecodeError, Error::DecryptError));
        };
        let kind = ContentType::from(header[0]);
        let version = ProtocolVersion::from(u16::from_be_bytes([header[1], header[2]]));
        let number = self.received;
        let opened = self.open.decrypt(InboundOpaqueMessage::new(kind, version, body), number);
        let InboundPlainMessage { typ, payload, .. } = opened.map_err(|error| match error {
            Error::PeerSentOversizedRecord => refuse(AlertDescription::RecordOverflow, error),
            error => refuse(AlertDescription::BadRecordMac, error),
        })?;
        self.received += 1;
        let opened = match (typ, payload) {
            (ContentType::ApplicationData, []) => Opened::Empty,
            (ContentType::ApplicationData, data) => Opened::Data(data),
            (ContentType::Alert, [level, code]) => alert(*level, AlertDescription::from(*code))?,
            _ => {
                let error = Error::General(format!("unexpected record of type {typ:?} after the handshake"));
                return Err(refuse(AlertDescription::UnexpectedMessage, error));
            }
        };
        self.idle = if matches!(opened, Opened::Empty) { self.idle + 1 } else { 0 };
        if self.idle > MAX_IDLE_RECORDS {
            let error = Error::General("too many records without content".into());
            return Err(refuse(AlertDescription::UnexpectedMessage, error));
        }
        Ok(opened)
    }
}

/// Warnings are let pass (RFC 5246, 7.2); TLS 1.3 has only `user_canceled` of them.
fn alert(level: u8, alert: AlertDescription) -> Result<Opened<'static>, Refused> {
    const WARNING: u8 = 1;
    match alert {
        AlertDescription::CloseNotify => Ok(Opened::Closed),
        _ if level == WARNING => Ok(Opened::Empty),
        alert => Err(Refused { error: Error::AlertReceived(alert), alert: None }),
    }
}

fn parts(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("unknown kind of traffic keys".into())),
    }
}

#[cfg(test)]
mod tests;
