//! The packets of a run as pcapng, for Wireshark.
//!
//! Payloads of the outer network get IP and UDP headers with right checksums. Chunks of a byte stream become TCP
//! segments with a count of their own for each direction, after a handshake that is made up, so that Wireshark puts
//! the stream together again. Chunks are numbered in the order in which they were seen: a stream of the simulator
//! loses nothing and keeps its order. Two streams one after the other between the same two addresses and ports look
//! like one.
//!
//! What happened meanwhile, samples excepted, stands as a comment at the next packet.
//!
//! Interface 0, `sent`, has packets as they left their sender, interface 1, `received`, as they arrived.

use core::net::{IpAddr, SocketAddr};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
};

use pcap_parser::{
    DecryptionSecretsBlock, EnhancedPacketBlock, InterfaceDescriptionBlock, Linktype, NameRecord,
    NameRecordType, NameResolutionBlock, OptionCode, PcapNGOption, SecretsType, SectionHeaderBlock, ToVec,
};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UDP_HEADER_LEN,
        UdpPacket, UdpRepr,
    },
};

use super::{CALENDAR_START, Clock};
use crate::trace::{Frame, Record, Seen, Tape, What};

/// Payload of a made-up TCP segment, in bytes.
const SEGMENT: usize = 1_400;
/// Most that a UDP datagram over IPv4 holds; a longer payload is cut.
const DATAGRAM: usize = 65_507;
/// Most bytes of a comment.
const COMMENT: usize = 4_096;
/// LINKTYPE_RAW of the registry of link types: packets begin with the IP header.
const LINKTYPE_RAW: Linktype = Linktype(101);

/// Which packets go into a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// All, on two interfaces. Wireshark takes the second sight of a packet for a retransmission, unless addresses
    /// were translated between.
    #[default]
    Both,
    /// As they left their sender only.
    Sent,
    /// As they arrived only.
    Received,
}

/// What a file has beside packets, and which packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Which packets.
    pub ends: Ends,
    /// Lines of a TLS key log, as `SSLKEYLOGFILE` has them; may be empty.
    pub key_log: &'a str,
    /// Names of addresses.
    pub names: &'a [(IpAddr, String)],
    /// A comment for the whole file, such as seed and commit.
    pub about: &'a str,
}

/// Writes the packets of `tape`.
///
/// # Errors
/// Those of `out`; and that the pcapng library refuses a block, which is not known to happen.
pub fn write(out: &mut impl Write, tape: &Tape, options: &Options<'_>) -> io::Result<()> {
    let comment =
        (!options.about.is_empty()).then(|| option(OptionCode::Comment, clip(options.about).as_bytes()));
    block(
        out,
        &mut SectionHeaderBlock {
            block_type: 0,
            block_len1: 0,
            bom: 0,
            major_version: 1,
            minor_version: 0,
            section_len: -1,
            options: comment.into_iter().collect(),
            block_len2: 0,
        },
    )?;
    for name in ["sent", "received"] {
        block(out, &mut interface(name))?;
    }
    if !options.names.is_empty() {
        names(out, options.names)?;
    }
    if !options.key_log.is_empty() {
        let secrets = options.key_log.as_bytes();
        block(
            out,
            &mut DecryptionSecretsBlock {
                block_type: 0,
                block_len1: 0,
                secrets_type: SecretsType::TlsKeyLog,
                secrets_len: u32::try_from(secrets.len()).map_err(io::Error::other)?,
                data: secrets,
                options: Vec::new(),
                block_len2: 0,
            },
        )?;
    }
    packets(out, tape, options.ends)
}

/// The packets, each with what happened since the one before; the last with all that came after, too.
fn packets(out: &mut impl Write, tape: &Tape, ends: Ends) -> io::Result<()> {
    let wanted = |frame: &&Frame| match ends {
        Ends::Both => true,
        Ends::Sent => frame.seen == Seen::Sent,
        Ends::Received => frame.seen == Seen::Received,
    };
    let mut records =
        tape.records.iter().filter(|record| !matches!(record.what, What::Sample { .. })).peekable();
    let mut streams = Streams::default();
    let mut frames = tape.frames.iter().filter(wanted).peekable();
    while let Some(frame) = frames.next() {
        let mut events = String::new();
        while let Some(record) = records.next_if(|record| record.at <= frame.at || frames.peek().is_none()) {
            note(&mut events, tape, record);
        }
        if !frame.stream {
            let payload = &frame.bytes[..frame.bytes.len().min(DATAGRAM)];
            packet(out, frame, &datagram(frame.from, frame.to, payload), &events)?;
            continue;
        }
        for segment in streams.segments(frame) {
            packet(out, frame, &segment, &events)?;
            events.clear();
        }
    }
    Ok(())
}

/// Adds a line about a record to a comment.
fn note(events: &mut String, tape: &Tape, record: &Record) {
    if !events.is_empty() {
        events.push('\n');
    }
    let who = record.who.map_or_else(|| "network".to_owned(), |who| tape.name(who));
    *events += &format!("{} {who}: {}", Clock(record.at), record.what);
}

/// The streams so far: how many bytes went from one address to another, as seen at one end.
#[derive(Default)]
struct Streams {
    sent: BTreeMap<(SocketAddr, SocketAddr, bool), u32>,
}

impl Streams {
    /// The packets that carry a chunk, after those that open its stream if it is the first.
    fn segments(&mut self, frame: &Frame) -> Vec<Vec<u8>> {
        let (from, to, end) = (frame.from, frame.to, frame.seen == Seen::Sent);
        let mut packets = Vec::new();
        let known = [(from, to, true), (from, to, false), (to, from, true), (to, from, false)];
        if !known.iter().any(|key| self.sent.contains_key(key)) {
            let open = |from, to, control, seq, ack| segment(from, to, control, (seq, ack), &[]);
            packets.push(open(from, to, TcpControl::Syn, 0, None));
            packets.push(open(to, from, TcpControl::Syn, 0, Some(1)));
            packets.push(open(from, to, TcpControl::None, 1, Some(1)));
        }
        let ack = *self.sent.entry((to, from, end)).or_insert(1);
        let seq = self.sent.entry((from, to, end)).or_insert(1);
        for chunk in frame.bytes.chunks(SEGMENT) {
            packets.push(segment(from, to, TcpControl::Psh, (*seq, Some(ack)), chunk));
            *seq = seq.wrapping_add(chunk.len() as u32);
        }
        packets
    }
}

/// An empty packet with its IP header, and where its payload begins.
fn ip(
    from: SocketAddr,
    to: SocketAddr,
    protocol: IpProtocol,
    len: usize,
) -> (Vec<u8>, usize, [IpAddress; 2]) {
    let ends = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.into(), to.into()],
        (from, to) => [from, to].map(|addr| match addr {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().into(),
            IpAddr::V6(addr) => addr.into(),
        }),
    };
    let repr = IpRepr::new(ends[0], ends[1], protocol, len, 64);
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut packet[..], &ChecksumCapabilities::default());
    (packet, repr.header_len(), ends)
}

/// A UDP datagram with its IP header.
fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (mut packet, start, [src, dst]) = ip(from, to, IpProtocol::Udp, UDP_HEADER_LEN + payload.len());
    UdpRepr { src_port: from.port(), dst_port: to.port() }.emit(
        &mut UdpPacket::new_unchecked(&mut packet[start..]),
        &src,
        &dst,
        payload.len(),
        |room| room.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    packet
}

/// A TCP segment with its IP header.
fn segment(
    from: SocketAddr,
    to: SocketAddr,
    control: TcpControl,
    (seq, ack): (u32, Option<u32>),
    payload: &[u8],
) -> Vec<u8> {
    let number = |n: u32| TcpSeqNumber(n.cast_signed());
    let repr = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control,
        seq_number: number(seq),
        ack_number: ack.map(number),
        window_len: u16::MAX,
        window_scale: (control == TcpControl::Syn).then_some(7),
        max_seg_size: (control == TcpControl::Syn).then_some(SEGMENT as u16),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let (mut packet, start, [src, dst]) = ip(from, to, IpProtocol::Tcp, repr.buffer_len());
    let mut tcp = TcpPacket::new_unchecked(&mut packet[start..]);
    repr.emit(&mut tcp, &src, &dst, &ChecksumCapabilities::default());
    packet
}

/// Writes a packet.
fn packet(out: &mut impl Write, frame: &Frame, bytes: &[u8], events: &str) -> io::Result<()> {
    let at = CALENDAR_START * 1_000_000_000 + frame.at.as_nanos();
    let len = bytes.len() as u32;
    let comment = (!events.is_empty()).then(|| option(OptionCode::Comment, clip(events).as_bytes()));
    block(
        out,
        &mut EnhancedPacketBlock {
            block_type: 0,
            block_len1: 0,
            if_id: u32::from(frame.seen == Seen::Received),
            ts_high: (at >> 32) as u32,
            ts_low: at as u32,
            caplen: len,
            origlen: len,
            data: bytes,
            options: comment.into_iter().collect(),
            block_len2: 0,
        },
    )
}

/// An interface whose times are in nanoseconds.
fn interface(name: &str) -> InterfaceDescriptionBlock<'_> {
    InterfaceDescriptionBlock {
        block_type: 0,
        block_len1: 0,
        linktype: LINKTYPE_RAW,
        reserved: 0,
        snaplen: 0,
        options: vec![option(OptionCode::IfName, name.as_bytes()), option(OptionCode::IfTsresol, &[9])],
        block_len2: 0,
        if_tsresol: 9,
        if_tsoffset: 0,
    }
}

/// Writes names of addresses.
fn names(out: &mut impl Write, names: &[(IpAddr, String)]) -> io::Result<()> {
    let values: Vec<_> = names
        .iter()
        .map(|(addr, name)| {
            let (kind, mut value) = match addr {
                IpAddr::V4(addr) => (NameRecordType::Ipv4, addr.octets().to_vec()),
                IpAddr::V6(addr) => (NameRecordType::Ipv6, addr.octets().to_vec()),
            };
            value.extend(clip(name).bytes().filter(|byte| *byte != 0));
            // The end of the name, and padding, which the library leaves to its caller.
            value.push(0);
            value.resize(value.len().next_multiple_of(4), 0);
            (kind, value)
        })
        .collect();
    let records = values
        .iter()
        .map(|(record_type, value)| NameRecord { record_type: *record_type, record_value: value })
        .chain([NameRecord::END])
        .collect();
    block(
        out,
        &mut NameResolutionBlock {
            block_type: 0,
            block_len1: 0,
            nr: records,
            options: Vec::new(),
            block_len2: 0,
        },
    )
}

fn option(code: OptionCode, value: &[u8]) -> PcapNGOption<'_> {
    PcapNGOption { code, len: value.len() as u16, value: Cow::Borrowed(value) }
}

/// As much of a text as an option may have.
fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(COMMENT)]
}

fn block(out: &mut impl Write, block: &mut impl ToVec) -> io::Result<()> {
    let bytes = block.to_vec().map_err(|error| io::Error::other(format!("pcapng: {error:?}")))?;
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests;
