use oxivpn_proto::Instant;
use pcap_parser::{Block, PcapBlockOwned, PcapNGReader, traits::PcapReaderIterator};
use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpSeqNumber};

use super::*;
use crate::trace::{Keep, MachineId};

const CLIENT: &str = "198.51.100.7:40000";
const SERVER: &str = "192.0.2.1:1194";

fn tape() -> Tape {
    let mut tape = Tape::new(Keep::Packets);
    tape.names = vec!["server".to_owned(), "client".to_owned()];
    let mut frame = |millis: u64, seen, from: &str, to: &str, stream, bytes: &[u8]| {
        let ends = (from.parse().unwrap(), to.parse().unwrap());
        tape.frame(Instant::from_nanos(millis * 1_000_000 + 7), seen, ends, stream, bytes);
    };
    frame(1_000, Seen::Sent, CLIENT, SERVER, false, &[0x38; 14]);
    frame(1_020, Seen::Received, CLIENT, SERVER, false, &[0x38; 14]);
    frame(1_100, Seen::Sent, "[2001:db8::7]:40001", "[2001:db8::1]:1194", false, &[]);
    frame(2_000, Seen::Sent, CLIENT, SERVER, true, &[1; 3_000]);
    frame(2_100, Seen::Sent, SERVER, CLIENT, true, &[2; 10]);
    frame(2_200, Seen::Sent, CLIENT, SERVER, true, &[3; 5]);
    frame(2_300, Seen::Received, CLIENT, SERVER, true, &[1; 3_000]);
    frame(2_400, Seen::Sent, CLIENT, "[2001:db8::1]:1194", false, &[9; 70_000]);
    let note = |text: &str| What::Note(text.to_owned());
    tape.record(Instant::from_nanos(1_010_000_000), Some(MachineId(1)), note("first"));
    let sample = What::Sample { sent: 1, sent_bytes: 1, received: 1, received_bytes: 1 };
    tape.record(Instant::from_nanos(1_011_000_000), Some(MachineId(1)), sample);
    tape.record(Instant::from_nanos(9_000_000_000), None, note("last"));
    tape
}

/// A packet of a file: interface, time in nanoseconds, bytes, comment.
type Read = (u32, u64, Vec<u8>, String);

/// What a file has, read by the library's parser.
fn read(bytes: &[u8]) -> (Vec<Read>, Vec<String>) {
    let mut reader = PcapNGReader::new(1 << 20, bytes).unwrap();
    let (mut packets, mut others) = (Vec::new(), Vec::new());
    while let Ok((len, block)) = reader.next() {
        let PcapBlockOwned::NG(block) = block else { panic!("no pcapng") };
        match block {
            Block::EnhancedPacket(packet) => {
                let at = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let comment = packet.options.first().map_or("", |option| option.as_str().unwrap());
                assert_eq!(packet.caplen, packet.origlen);
                let bytes = packet.data[..packet.caplen as usize].to_vec();
                packets.push((packet.if_id, at, bytes, comment.to_owned()));
            }
            Block::InterfaceDescription(interface) => {
                assert_eq!((interface.linktype, interface.if_tsresol), (LINKTYPE_RAW, 9));
                others.push(interface.options[0].as_str().unwrap().to_owned());
            }
            Block::DecryptionSecrets(secrets) => {
                assert_eq!(secrets.secrets_type, SecretsType::TlsKeyLog);
                let log = &secrets.data[..secrets.secrets_len as usize];
                others.push(String::from_utf8(log.to_vec()).unwrap());
            }
            Block::NameResolution(names) => {
                others.extend(names.nr.iter().map(|name| format!("{:?}", name.record_value)));
            }
            Block::SectionHeader(header) => others.push(header.options[0].as_str().unwrap().to_owned()),
            other => panic!("{other:?}"),
        }
        reader.consume(len);
    }
    (packets, others)
}

fn written(ends: Ends) -> Vec<u8> {
    let names = [("192.0.2.1".parse().unwrap(), "server".to_owned())];
    let options = Options { ends, key_log: "CLIENT_RANDOM 00 11\n", names: &names, about: "seed 7" };
    let mut out = Vec::new();
    write(&mut out, &tape(), &options).unwrap();
    out
}

#[test]
fn a_file_has_names_secrets_and_all_packets_in_time() {
    let (packets, others) = read(&written(Ends::Both));
    let server = "[192, 0, 2, 1, 115, 101, 114, 118, 101, 114, 0, 0]";
    assert_eq!(others, ["seed 7", "sent", "received", server, "[]", "CLIENT_RANDOM 00 11\n"]);
    let start = CALENDAR_START * 1_000_000_000;
    let times: Vec<_> = packets.iter().map(|(end, at, ..)| (*end, (at - start) / 1_000_000)).collect();
    let stream = [(0, 2_000); 6].into_iter().chain([(0, 2_100), (0, 2_200)]).chain([(1, 2_300); 3]);
    let want = [(0, 1_000), (1, 1_020), (0, 1_100)].into_iter().chain(stream).chain([(0, 2_400)]);
    assert_eq!(times, want.collect::<Vec<_>>());
    assert!(packets.iter().all(|(_, at, ..)| at % 1_000 == 7));
}

#[test]
fn what_happened_stands_at_the_next_packet() {
    let (packets, _) = read(&written(Ends::Both));
    let comments: Vec<_> = packets.iter().map(|(.., comment)| comment.as_str()).collect();
    assert_eq!(comments[1], "0:00:01.010000 client: first");
    assert_eq!(*comments.last().unwrap(), "0:00:09.000000 network: last");
    assert_eq!(comments.iter().filter(|comment| !comment.is_empty()).count(), 2);
}

#[test]
fn one_end_only() {
    let (packets, _) = read(&written(Ends::Sent));
    assert!(packets.iter().all(|(end, ..)| *end == 0));
    let (packets, _) = read(&written(Ends::Received));
    assert_eq!(packets.len(), 7);
    assert!(packets.iter().all(|(end, ..)| *end == 1));
}

#[test]
fn headers_have_right_lengths_and_checksums() {
    let (packets, _) = read(&written(Ends::Both));
    let mut udp = Vec::new();
    for (_, _, bytes, _) in &packets {
        let (protocol, payload, src, dst) = if bytes[0] >> 4 == 4 {
            let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
            assert!(packet.verify_checksum());
            assert_eq!(usize::from(packet.total_len()), bytes.len());
            let (src, dst) = (IpAddress::from(packet.src_addr()), IpAddress::from(packet.dst_addr()));
            (packet.next_header(), packet.payload(), src, dst)
        } else {
            let packet = Ipv6Packet::new_checked(&bytes[..]).unwrap();
            assert_eq!(packet.total_len(), bytes.len());
            let (src, dst) = (IpAddress::from(packet.src_addr()), IpAddress::from(packet.dst_addr()));
            (packet.next_header(), packet.payload(), src, dst)
        };
        if protocol == IpProtocol::Udp {
            let packet = UdpPacket::new_checked(payload).unwrap();
            assert!(packet.verify_checksum(&src, &dst) && packet.checksum() != 0);
            udp.push((packet.src_port(), packet.dst_port(), packet.payload().len()));
        } else {
            let packet = TcpPacket::new_checked(payload).unwrap();
            assert!(packet.verify_checksum(&src, &dst));
        }
    }
    assert_eq!(
        udp,
        [(40_000, 1_194, 14), (40_000, 1_194, 14), (40_001, 1_194, 0), (40_000, 1_194, DATAGRAM)]
    );
}

#[test]
fn a_stream_counts_on_in_each_direction() {
    let (packets, _) = read(&written(Ends::Both));
    let segments: Vec<_> = packets
        .iter()
        .filter(|(_, _, bytes, _)| bytes[0] >> 4 == 4 && bytes[9] == 6)
        .map(|(_, _, bytes, _)| {
            let tcp = TcpPacket::new_checked(&bytes[20..]).unwrap();
            let number = |TcpSeqNumber(n)| n;
            (
                tcp.src_port(),
                tcp.syn(),
                number(tcp.seq_number()),
                number(tcp.ack_number()),
                tcp.payload().len(),
            )
        })
        .collect();
    let (client, server) = (40_000, 1_194);
    assert_eq!(
        segments,
        [
            (client, true, 0, 0, 0),
            (server, true, 0, 1, 0),
            (client, false, 1, 1, 0),
            (client, false, 1, 1, 1_400),
            (client, false, 1_401, 1, 1_400),
            (client, false, 2_801, 1, 200),
            (server, false, 1, 3_001, 10),
            (client, false, 3_001, 11, 5),
            (client, false, 1, 1, 1_400),
            (client, false, 1_401, 1, 1_400),
            (client, false, 2_801, 1, 200),
        ]
    );
}
