//! Packets of one table, delivered to another in any order, some twice: each opens once, unchanged.

use core::net::{Ipv4Addr, SocketAddr};

use zeroize::Zeroizing;

use crate::clock::Instant;
use crate::config::cipher::DataCipher;
use crate::config::params::{DataFormat, DataParams, Framing};
use crate::data::{HEADROOM, Payload, Slot, TAILROOM, Table};
use crate::directive::{Directive, PeerRef};
use crate::drops::DropReason;
use crate::keys::data_key::{DataKey, KeyLimits, TlsRole};
use crate::path::Path;
use crate::wire::ids::{KeyId, PeerId};

const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(5), generation: 1 };

/// First byte: cipher, format, key id. Then 2 bytes for each packet: payload length, and delivery order. The first
/// length says which framing, too.
pub fn run(data: &[u8]) {
    let Some((&head, rest)) = data.split_first() else { return };
    let format = match head >> 2 & 3 {
        0 => DataFormat::V1,
        1 | 2 => DataFormat::V2(PEER.id),
        _ => DataFormat::Epoch(PEER.id),
    };
    let cipher = DataCipher::ALL[usize::from(head & 3)];
    let framing = Framing::ALL[usize::from(rest.first().map_or(0, |length| length & 3))];
    let mut sender = table(cipher, format, framing, TlsRole::Client, head >> 4);
    let mut receiver = table(cipher, format, framing, TlsRole::Server, head >> 4);
    let mut packets: Vec<(u8, Vec<u8>, Vec<u8>)> = Vec::new();
    for pair in rest.chunks_exact(2) {
        let mut plain = vec![pair[1]; 20 + usize::from(pair[0])];
        plain[0] = 0x45;
        packets.push((pair[1], seal(&mut sender, &plain), plain));
    }
    packets.sort_by_key(|&(order, ..)| order);
    for (order, packet, plain) in &packets {
        for again in 0..1 + order % 2 {
            let mut datagram = packet.clone();
            match receiver.open(Instant::ZERO, path(), &mut datagram) {
                Ok(opened) => {
                    assert_eq!(again, 0, "accepted twice");
                    let Payload::Packet(bytes) = opened.payload else {
                        panic!("an IP packet was taken away")
                    };
                    assert_eq!(bytes, &plain[..]);
                }
                Err(reason) => assert_eq!((reason, again), (DropReason::DataReplay, 1)),
            }
        }
    }
}

fn seal(table: &mut Table, plain: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; HEADROOM + plain.len() + TAILROOM];
    buf[HEADROOM..HEADROOM + plain.len()].copy_from_slice(plain);
    let mut slot = Slot::new(&mut buf, HEADROOM, plain.len());
    let sealed = table.seal(Instant::ZERO, PEER, &mut slot).expect("the key is fresh");
    buf[sealed.start..sealed.start + sealed.len].to_vec()
}

fn path() -> Path {
    Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 1194)))
}

fn table(cipher: DataCipher, format: DataFormat, framing: Framing, role: TlsRole, key: u8) -> Table {
    let mut table = Table::new();
    let (now, key) = (Instant::ZERO, KeyId::from_low_bits(key));
    let by_path = role == TlsRole::Client;
    let params = DataParams { framing, by_path, ..DataParams::new(cipher, format) };
    let data = DataKey::new(Zeroizing::new(core::array::from_fn(|i| i as u8)), role, KeyLimits::default());
    table.apply(now, Directive::AddPeer { peer: PEER, path: path(), params });
    table.apply(now, Directive::InstallKey { peer: PEER, key, data });
    table.apply(now, Directive::PromoteKey { peer: PEER, key });
    for net in ["0.0.0.0/0", "::/0"] {
        let inner = net.parse().expect("networks of everything");
        table.apply(now, Directive::AddRoute { peer: PEER, inner });
    }
    table
}
