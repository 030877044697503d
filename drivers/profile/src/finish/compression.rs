//! `comp-lzo`, `compress` and `allow-compression`, which depend on each other (`openvpn: options.c`,
//! `options_set_backwards_compatible_options` and `check_compression_settings_valid`).

use oxivpn_proto::config::params::Framing;
use oxivpn_proto::options::compression::Compression;

use crate::draft::{Allow, Draft};
use crate::error::ProfileError;
use crate::profile::CompressionOptions;

pub(super) fn resolve(draft: &mut Draft) -> Result<CompressionOptions, ProfileError> {
    let allow = draft.compression.allow;
    let Some((line, origin)) = draft.compression.line.clone() else {
        return Ok(CompressionOptions { allow: allow == Some(Allow::Asym), ..CompressionOptions::default() });
    };
    if matches!(line, Compression::Algorithm(_)) {
        if allow == Some(Allow::No) {
            let text = "Compression is not allowed since allow-compression is set to 'no'";
            return Err(ProfileError::at(&origin, text.into())
                .cure("Write `comp-lzo no` in its place, or remove the line here and on the other side"));
        }
        draft.warn(
            &origin,
            "Compression has been used in the past to break encryption: nothing is compressed, and compressed packets \
             are never accepted, only their framing is; write `comp-lzo no` or `compress stub-v2` on both sides",
        );
    }
    let allow = match allow {
        Some(allow) => allow == Allow::Asym,
        // What OpenVPN 2.6 takes to say nothing about compression.
        None => line != Compression::Stub(Framing::Stub),
    };
    Ok(CompressionOptions { framing: line.framing(), allow, migrate: line == Compression::Migrate })
}
