//! Keys from the TLS exporter (RFC 5705), always without context.

use zeroize::Zeroizing;

use crate::tls::{TlsFailure, TlsSession};

/// Label of the data channel key block (`openvpn: ssl_backend.h`, `EXPORT_KEY_DATA_LABEL`).
pub const DATA_KEYS: &str = "EXPORTER-OpenVPN-datakeys";

/// Label of the dynamic tls-crypt key (`openvpn: tls_crypt.h`).
pub const DYNAMIC_TLS_CRYPT: &str = "EXPORTER-OpenVPN-dynamic-tls-crypt";

/// Exports 256 bytes under `label`.
pub fn export_block(tls: &mut dyn TlsSession, label: &str) -> Result<Zeroizing<[u8; 256]>, TlsFailure> {
    let mut block = Zeroizing::new([0; 256]);
    tls.export(label, &mut *block)?;
    Ok(block)
}
