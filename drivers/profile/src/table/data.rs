//! Data channel ciphers, sizes, compression, control channel timing (man sections cipher, link, renegotiation).

use std::time::Duration;

use oxivpn_proto::config::Mssfix;
use oxivpn_proto::config::params::ReplayWindow;
use oxivpn_proto::limits::{MAX_CONTROL_PACKET, MIN_CONTROL_PACKET};
use oxivpn_proto::options::compression::Compression;
use oxivpn_proto::options::values;

use super::{Entry, honoured, not_built, quiet, refused, warned};
use crate::draft::{Allow, Draft, Fault};
use crate::grammar::Line;

const PUSHED: &str = "has a meaning only when a server pushes it; remove the line";

pub(super) const ENTRIES: &[Entry] = &[
    honoured("data-ciphers LIST", 1, 1, |d, l| {
        d.ciphers.list = Some((l.first()?.into(), l.origin.clone()));
        Ok(())
    }),
    honoured("ncp-ciphers LIST", 1, 1, |d, l| {
        d.ciphers.list = Some((l.first()?.into(), l.origin.clone()));
        Ok(())
    }),
    honoured("data-ciphers-fallback CIPHER", 1, 1, |d, l| {
        d.ciphers.fallback = Some((l.first()?.into(), l.origin.clone()));
        Ok(())
    }),
    honoured("cipher CIPHER", 1, 1, |d, l| {
        d.ciphers.single = Some((l.first()?.into(), l.origin.clone()));
        Ok(())
    }),
    honoured("auth DIGEST", 1, 1, |d, l| {
        d.ciphers.auth = Some((l.first()?.into(), l.origin.clone()));
        Ok(())
    }),
    warned("key-derivation", PUSHED),
    warned("protocol-flags", PUSHED),
    warned(
        "compat-mode",
        "is ignored: defaults of older releases are not taken over; name the option that the server needs",
    ),
    refused(
        "no-replay",
        "it switches the protection against replayed packets off",
        "Remove the line on both sides",
    ),
    honoured("tun-mtu MTU [OCC-MTU]", 1, 2, |d, l| {
        l.word(1).map(values::mtu).transpose()?;
        d.connection.tun_mtu = values::mtu(l.first()?)?;
        Ok(())
    })
    .in_block(),
    honoured("tun-mtu-max MTU", 1, 1, |d, l| {
        d.connection.tun_mtu_max = values::mtu(l.first()?)?;
        Ok(())
    })
    .in_block(),
    quiet("tun-mtu-extra"),
    warned(
        "link-mtu",
        "is ignored; write `tun-mtu` for the size inside of the tunnel or `mssfix` for that outside",
    ),
    warned(
        "udp-mtu",
        "is ignored; write `tun-mtu` for the size inside of the tunnel or `mssfix` for that outside",
    ),
    refused("mtu-dynamic", "it has been replaced by `fragment`", "Write `mssfix` to keep packets small"),
    honoured("mssfix [SIZE] [mtu|fixed]", 0, 2, mssfix).in_block(),
    honoured("max-packet-size SIZE", 1, 1, max_packet_size).in_block(),
    not_built(
        "fragment",
        "internal fragmentation",
        "Remove it on both sides and write `mssfix` with the same size",
    ),
    not_built(
        "mtu-disc",
        "the choice of path MTU discovery",
        "Remove the line; the system's default is used",
    ),
    not_built(
        "mtu-test",
        "the MTU test",
        "Find the size with `ping -M do -s SIZE`, then set `mssfix` or `tun-mtu`",
    ),
    not_built(
        "shaper",
        "limiting the output rate",
        "Remove the line and limit the tunnel device with `tc qdisc`",
    ),
    honoured("allow-compression no|asym|yes", 1, 1, allow_compression),
    honoured("comp-lzo [no|yes|adaptive]", 0, 1, compression),
    honoured("compress [stub|stub-v2|migrate|lzo|lz4|lz4-v2]", 0, 1, compression),
    quiet("comp-noadapt"),
    warned("disable-occ", "is ignored: options are never compared over the tunnel; remove the line"),
    honoured("replay-window PACKETS [SECONDS]", 1, 2, |d, l| {
        let packets = values::number(l.first()?, 0, 65_536)? as u32;
        let time = match l.word(1) {
            Some(word) => Duration::from_secs(values::number(word, 0, 600)?),
            None => ReplayWindow::DEFAULT.time,
        };
        d.replay = ReplayWindow { packets, time };
        Ok(())
    }),
    not_built(
        "replay-persist",
        "keeping the replay state in a file",
        "Remove the line; replayed packets are still refused within a run",
    ),
    honoured("mute-replay-warnings", 0, 0, |d, _| {
        d.log.mute_replay = true;
        Ok(())
    }),
    honoured("hand-window SECONDS", 1, 1, |d, l| {
        d.timing.hand_window = positive(l)?;
        Ok(())
    }),
    honoured("tls-timeout SECONDS", 1, 1, |d, l| {
        d.timing.tls_timeout = positive(l)?;
        Ok(())
    }),
    honoured("tran-window SECONDS", 1, 1, |d, l| {
        d.timing.tran_window = values::seconds(l.first()?)?;
        Ok(())
    }),
    honoured("reneg-sec SECONDS [MIN-SECONDS]", 1, 2, |d, l| {
        d.timing.reneg = values::seconds(l.first()?)?;
        d.timing.reneg_min = l.word(1).map(values::seconds).transpose()?;
        Ok(())
    }),
    honoured("reneg-bytes BYTES", 1, 1, |d, l| {
        d.timing.reneg_bytes = values::number(l.first()?, 0, i64::MAX as u64)?;
        Ok(())
    }),
    honoured("reneg-pkts PACKETS", 1, 1, |d, l| {
        d.timing.reneg_packets = values::number(l.first()?, 0, i64::MAX as u64)?;
        Ok(())
    }),
    warned("peer-id", PUSHED),
    warned("push-continuation", PUSHED),
    // Words of older releases.
    warned("keysize", "is ignored: key sizes belong to the cipher; remove the line"),
    honoured("key-method 2", 1, 1, |_, l| match l.first()? {
        "2" => Ok(()),
        other => Err(Fault::Refused(
            format!("`key-method {other}` is an insecure key exchange of OpenVPN 1"),
            "Write `key-method 2` or remove the line on both sides".into(),
        )),
    }),
    warned(
        "ncp-disable",
        "is ignored: the cipher is always negotiated; for a server that cannot, write `data-ciphers-fallback`",
    ),
    refused("no-iv", "it makes packets predictable", "Remove the line on both sides"),
];

fn positive(line: &Line) -> Result<Duration, Fault> {
    Ok(Duration::from_secs(values::number(line.first()?, 1, i32::MAX as u64)?))
}

/// OpenVPN 2.7 takes `yes` as `asym`, too.
fn allow_compression(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let word = line.first()?;
    draft.compression.allow = match word {
        "no" => Some(Allow::No),
        "asym" | "yes" if draft.compression.allow == Some(Allow::No) => {
            return Err(Fault::Value(format!("Cannot set allow-compression to '{word}' after set to 'no'")));
        }
        "asym" | "yes" => {
            draft.warn(
                &line.origin,
                "compressed packets are never accepted, only their framing is; write `allow-compression no`",
            );
            Some(Allow::Asym)
        }
        other => {
            return Err(Fault::Value(format!(
                "bad allow-compression option: {other}, must be 'yes', 'no', or 'asym'"
            )));
        }
    };
    Ok(())
}

fn compression(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let compression = Compression::parse(&line.all())?;
    draft.compression.line = Some((compression, line.origin.clone()));
    Ok(())
}

fn mssfix(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let Some(word) = line.word(0) else {
        draft.connection.mssfix = Mssfix::Default;
        return Ok(());
    };
    let size = values::number(word, 0, u16::MAX.into())? as u16;
    if size != 0 && size < MIN_CONTROL_PACKET {
        return Err(Fault::Value(format!("mssfix needs to be >= {MIN_CONTROL_PACKET}, not {size}")));
    }
    draft.connection.mssfix = match (size, line.word(1)) {
        (_, Some(word)) if word != "mtu" && word != "fixed" => {
            return Err(Fault::Value(format!("Unknown parameter to --mssfix: {word}")));
        }
        (0, _) => Mssfix::Off,
        (size, None) => Mssfix::Link(size),
        (size, Some("mtu")) => Mssfix::Mtu(size),
        (size, Some(_)) => Mssfix::Fixed(size),
    };
    Ok(())
}

/// Sets `mssfix` too, as OpenVPN does.
fn max_packet_size(draft: &mut Draft, line: &Line) -> Result<(), Fault> {
    let wanted = values::integer(line.first()?)?;
    let size = wanted.clamp(MIN_CONTROL_PACKET.into(), MAX_CONTROL_PACKET.into()) as u16;
    if wanted != u32::from(size) {
        draft.warn(
            &line.origin,
            format!("max-packet-size must be {MIN_CONTROL_PACKET} to {MAX_CONTROL_PACKET}, {size} is used"),
        );
    }
    draft.connection.max_packet_size = size;
    draft.connection.mssfix = Mssfix::Mtu(size);
    Ok(())
}
