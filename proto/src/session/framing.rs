//! Compression framing: what each side takes, and what is said about it (`openvpn: comp.c`).

use super::hello::PeerHello;
use crate::config::params::Framing;
use crate::config::server::ServerConfig;
use crate::options::compression::Compression;
use crate::plane::Capabilities;
use crate::report::Misframed;

/// How a server tells a client of [`Framing::StubV2`] and [`Framing::Stub`] (`openvpn: multi.c`,
/// `multi_client_connect_compress_migrate`).
const MIGRATE: [(Framing, &str); 2] = [(Framing::StubV2, "compress stub-v2"), (Framing::Stub, "comp-lzo no")];

/// A framing that the plane can't do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Impossible;

/// What becomes of a framing in a plane: where there is none, `stub-v2` makes no difference to IP packets.
pub(super) const fn fit(framing: Framing, capabilities: Capabilities) -> Result<Framing, Impossible> {
    match framing {
        _ if capabilities.framing => Ok(framing),
        Framing::None | Framing::StubV2 => Ok(Framing::None),
        Framing::Stub | Framing::Swap => Err(Impossible),
    }
}

/// What a client makes of a line that was pushed, or of its own. The error is for its user.
pub(super) fn taken(
    line: Compression,
    allow_compression: bool,
    capabilities: Capabilities,
) -> Result<Framing, String> {
    if matches!(line, Compression::Algorithm(_)) && !allow_compression {
        return Err("server pushed compression settings that are not allowed and will result in a non-working \
             connection; write `compress migrate` into the server's configuration, or `allow-compression asym` here if \
             the server doesn't compress what it sends"
            .into());
    }
    fit(line.framing(), capabilities).map_err(|Impossible| {
        "compression framing is configured, which this data plane can't do; remove comp-lzo and compress on both \
         sides, or write `compress migrate` into the server's configuration"
            .into()
    })
}

/// What a server does for a client, and the option that tells the client of it. `own` was decided for this client.
pub(super) fn offered(
    config: &ServerConfig,
    own: Option<Framing>,
    capabilities: Capabilities,
    hello: &PeerHello,
) -> Result<(Framing, Option<&'static str>), &'static str> {
    const IMPOSSIBLE: &str = "this server cannot do the compression framing that is configured";
    let fit = |framing| fit(framing, capabilities).map_err(|Impossible| IMPOSSIBLE);
    if own.is_none() && migrates(config, hello) {
        let [v2, v1] = MIGRATE;
        let knows_v2 = hello.value("IV_COMP_STUBv2") == Some("1");
        let (framing, option) = if knows_v2 { v2 } else { v1 };
        return Ok((fit(framing)?, Some(option)));
    }
    Ok((fit(own.unwrap_or(config.channel.framing))?, None))
}

/// Whether a client is to be got off compression, which it says that it has (`openvpn: ssl.c`, `key_method_2_read`).
pub(super) fn migrates(config: &ServerConfig, hello: &PeerHello) -> bool {
    config.migrate_compression && hello.options.contains(",comp-lzo,")
}

/// What to tell a user whose other side frames packets in another way, with the cure.
pub(super) fn warning(expected: Framing, found: Misframed) -> String {
    let ours = match expected {
        Framing::None => "neither `comp-lzo` nor `compress`",
        Framing::Stub => "`comp-lzo no`",
        Framing::Swap => "`compress stub`",
        Framing::StubV2 => "`compress stub-v2`",
    };
    match found {
        Misframed::Compressed => {
            "compressed packets arrive and are dropped, as nothing is decompressed here; write \
             `comp-lzo no` or `compress stub` in the place of the other side's compression option, or \
             `allow-compression asym` there, so that it doesn't compress what it sends"
                .into()
        }
        Misframed::Other(byte) => {
            let cure = match byte {
                0xfa => "write `comp-lzo no` here, or the same on both sides",
                0xfb => "write `compress stub` here, or the same on both sides",
                _ if byte >> 4 == 4 || byte >> 4 == 6 => {
                    "remove `comp-lzo` and `compress` here, or write them there"
                }
                _ => "write the same on both sides",
            };
            format!(
                "the other side's compression framing is not the one here, which is {ours} (packets begin with \
                 {byte:#04x}); {cure}"
            )
        }
    }
}

#[cfg(test)]
mod tests;
