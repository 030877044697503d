//! Datagrams from addresses that nobody has, sent from a namespace as fast as the receiver's socket holds them.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket},
};

/// Packets between two looks at the receiver's queue; all of them fit into a socket's default buffer.
const BURST: u32 = 32;

/// Bytes, as the kernel counts them, that may wait in the receiver's queue before the sender waits. A default buffer
/// holds 212,992, and a small packet takes 768 of these.
const WAITING: u64 = 50_000;

/// Runs `work` in a thread of the namespace `ns`; sockets that it makes belong there.
pub fn inside<T: Send>(ns: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{ns}")).with_context(|| format!("namespace {ns}"))?;
            setns(&file, CloneFlags::CLONE_NEWNET).context("setns")?;
            work()
        });
        thread.join().map_err(|_| anyhow!("a thread panicked"))?
    })
}

/// Pseudo-random numbers, the same for the same seed (`splitmix64`).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "not an iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound as u64).max(1)).unwrap_or(0)
    }

    /// An address of the Internet and a port.
    pub fn address(&mut self) -> SocketAddrV4 {
        let [_, _, a, b, c, d, e, f] = self.next().to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(20 + a % 80, b, c, d), u16::from_be_bytes([e, f]).max(1))
    }
}

/// Sends UDP datagrams with any source address. To be made and used in a namespace, see [`inside`].
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    packet: Vec<u8>,
}

impl Sender {
    /// Opens the raw socket.
    pub fn new() -> Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw);
        Ok(Self { socket: socket.context("raw socket")?, packet: Vec::new() })
    }

    /// Sends one datagram.
    pub fn send(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Result<()> {
        let length = |n: usize| u16::try_from(n).map(u16::to_be_bytes);
        let packet = &mut self.packet;
        packet.clear();
        // The kernel fills in the total length, the id and the header's checksum; UDP's checksum may be 0.
        packet.extend([0x45, 0]);
        packet.extend(length(28 + payload.len())?);
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        packet.extend(from.ip().octets());
        packet.extend(to.ip().octets());
        packet.extend(from.port().to_be_bytes());
        packet.extend(to.port().to_be_bytes());
        packet.extend(length(8 + payload.len())?);
        packet.extend([0, 0]);
        packet.extend(payload);
        let sent = sendto(self.socket.as_raw_fd(), packet, &SockaddrIn::from(to), MsgFlags::empty())?;
        ensure!(sent == packet.len(), "a packet was cut");
        Ok(())
    }
}

/// Bytes that wait in the sockets of UDP port `port` of the namespace `ns`, and packets they have dropped.
fn queue(tables: &[String; 2], port: u16) -> Result<(u64, u64)> {
    let (mut waiting, mut dropped) = (0, 0);
    for table in tables {
        for line in fs::read_to_string(table)?.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let local = words.get(1).and_then(|word| word.rsplit_once(':'));
            if local.and_then(|(_, port)| u16::from_str_radix(port, 16).ok()) != Some(port) {
                continue;
            }
            let receive = words.get(4).and_then(|word| word.split_once(':')).context("queues")?.1;
            waiting += u64::from_str_radix(receive, 16)?;
            dropped += words.last().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok((waiting, dropped))
}

/// What a flood was like.
#[derive(Clone, Copy, Debug)]
pub struct Flooded {
    /// How long it took.
    pub took: Duration,
    /// Datagrams that the receiver's socket had no room for.
    pub dropped: u64,
}

/// Sends `count` datagrams to `to` from the namespace `ns`. The receiver is the process `receiver` in a namespace of
/// its own; whenever its socket is half full, the sender waits.
pub fn flood(
    ns: &str,
    receiver: u32,
    to: SocketAddrV4,
    count: u32,
    mut packet: impl FnMut(u32, &mut Vec<u8>) -> SocketAddrV4 + Send,
) -> Result<Flooded> {
    let tables = ["udp", "udp6"].map(|name| format!("/proc/{receiver}/net/{name}"));
    inside(ns, move || {
        let mut sender = Sender::new()?;
        let mut payload = Vec::new();
        let begun = std::time::Instant::now();
        let (_, dropped_before) = queue(&tables, to.port())?;
        let mut patience = 0_u32;
        for index in 0..count {
            payload.clear();
            let from = packet(index, &mut payload);
            sender.send(from, to, &payload)?;
            if index % BURST == BURST - 1 {
                while queue(&tables, to.port())?.0 > WAITING {
                    patience += 1;
                    ensure!(patience < 1_000_000, "the receiver does not read");
                    thread::sleep(Duration::from_micros(50));
                }
                patience = 0;
            }
        }
        let (_, dropped) = queue(&tables, to.port())?;
        Ok(Flooded { took: begun.elapsed(), dropped: dropped - dropped_before })
    })
}
