//! The core alone, on a plain UDP socket with a read timeout: connects, prints what happens, sends one ping
//! through the tunnel and prints the answer. There is no device, no route and no other thread.
//!
//! ```text
//! cargo run --example std_sockets -- client.ovpn
//! ```

use std::io::ErrorKind;
use std::net::{Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use oxivpn_profile::profile::Protocol;
use oxivpn_profile::{Command, Disk, parse_args};
use oxivpn_proto::config::{Credentials, NodeConfig};
use oxivpn_proto::data::{HEADROOM, Payload, Slot, TAILROOM};
use oxivpn_proto::event::Event;
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::options::pushed::Pushed;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::plane::{Capabilities, DataPlane};
use oxivpn_proto::tls::rustls::RustlsFactory;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::{Anchor, Instant, Node, Path, PeerRef};

type Error = Box<dyn std::error::Error>;

/// Time to live of the whole program.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Command::Run(profile) = parse_args(&args, &Disk)? else {
        return Err("usage: std_sockets client.ovpn".into());
    };
    let remote = profile.remotes.iter().find(|remote| remote.protocol == Protocol::Udp);
    let remote = remote.ok_or("the profile has no UDP remote")?;
    let address = (&*remote.host, remote.port).to_socket_addrs()?.next().ok_or("the name has no address")?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;

    // The core needs a clock, a seed and TLS; all three come from here.
    let start = StdInstant::now();
    let now = || Instant::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = Arc::new(RustlsFactory::new(profile.tls_options(None)?, provider)?);

    let mut node = Node::new(
        Arc::new(NodeConfig { capabilities: Capabilities::USERSPACE }),
        seed,
        Anchor::new(now(), unix),
    );
    let mut plane = LocalPlane::new();
    let path = Path::udp(0, address);
    let config = Arc::new(profile.client_config(remote, tls));
    let session = node.connect(now(), path, config, login(&profile.auth.source))?;

    let mut state = State::default();
    let mut buffer = vec![0; 65_536];
    let mut control = vec![0; MAX_CONTROL_DATAGRAM];
    let mut leaving = false;
    // The first packet is ours, so don't wait before it.
    socket.set_read_timeout(Some(Duration::from_millis(1)))?;
    loop {
        // One input: a datagram, or the time.
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                let from = Path::udp(0, from);
                receive(&mut node, &mut plane, &mut state, now(), from, &mut buffer[..len]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        node.handle_timeout(now());

        // Then all outputs: orders, packets, news.
        loop {
            let mut silent = true;
            while let Some(order) = node.poll_directive() {
                plane.apply(now(), order);
                silent = false;
            }
            while let Some(report) = plane.poll_report() {
                node.handle_report(now(), report);
                silent = false;
            }
            if silent {
                break;
            }
        }
        while let Some(transmit) =
            node.poll_transmit(now(), &mut control).or_else(|| plane.poll_transmit(now(), &mut control))
        {
            socket.send_to(&control[..transmit.len], address)?;
        }
        while let Some(event) = node.poll_event() {
            println!("{event:?}");
            match event {
                Event::Configure { options, .. } => state.addresses = addresses(&options),
                Event::Established { peer, .. } => state.peer = Some(peer),
                Event::Closed { .. } => return Ok(()),
                _ => {}
            }
        }
        if let (Some(peer), Some((own, far))) = (state.peer, state.addresses.take()) {
            let mut cell = vec![0; HEADROOM + PING_LEN + TAILROOM];
            cell[HEADROOM..HEADROOM + PING_LEN].copy_from_slice(&ping(own, far));
            let sealed = plane.seal(now(), peer, &mut Slot::new(&mut cell, HEADROOM, PING_LEN))?;
            socket.send_to(&cell[sealed.start..sealed.start + sealed.len], address)?;
            println!("ping from {own} to {far}");
        }
        if !leaving && (state.answered || start.elapsed() > LIMIT) {
            leaving = true;
            node.close(now(), session);
        }
        let wait = node.deadline().map_or(LIMIT, |deadline| deadline.at - now());
        socket.set_read_timeout(Some(wait.clamp(Duration::from_millis(1), Duration::from_secs(1))))?;
    }
}

#[derive(Default)]
struct State {
    peer: Option<PeerRef>,
    addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    answered: bool,
}

fn receive(
    node: &mut Node,
    plane: &mut LocalPlane,
    state: &mut State,
    now: Instant,
    from: Path,
    bytes: &mut [u8],
) {
    match peek(bytes) {
        Peek::Control => node.handle_datagram(now, from, bytes),
        Peek::Data(_) => {
            if let Ok(opened) = plane.open(now, from, bytes)
                && let Payload::Packet(packet) = opened.payload
            {
                println!("{} bytes from the tunnel", packet.len());
                // IPv4, ICMP, echo reply.
                state.answered |= packet.len() > 20 && packet[0] == 0x45 && packet[9] == 1 && packet[20] == 0;
            }
        }
        Peek::Unknown => {}
    }
}

/// What the profile itself says; a program with a user would ask.
fn login(source: &oxivpn_profile::profile::CredentialSource) -> Option<Credentials> {
    match source {
        oxivpn_profile::profile::CredentialSource::Given { username, password: Some(password) } => {
            Some(Credentials { username: username.clone(), password: password.clone(), is_token: false })
        }
        _ => None,
    }
}

/// Our address and the server's inside of the tunnel.
fn addresses(options: &[Pushed]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let mut own = None;
    let mut gateway = None;
    for option in options {
        match option {
            Pushed::Ifconfig(local, second) => {
                own = Some(*local);
                // With net30 and p2p the second word is the far end, with subnet it is a netmask.
                if second.octets()[0] != 255 {
                    gateway = gateway.or(Some(*second));
                }
            }
            Pushed::RouteGateway(Some(address)) => gateway = Some(*address),
            _ => {}
        }
    }
    Some((own?, gateway?))
}

const PING_LEN: usize = 28;

/// An ICMP echo request without payload.
fn ping(from: Ipv4Addr, to: Ipv4Addr) -> [u8; PING_LEN] {
    let mut packet = [0; PING_LEN];
    packet[..12].copy_from_slice(&[0x45, 0, 0, PING_LEN as u8, 0, 1, 0, 0, 64, 1, 0, 0]);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet[20..].copy_from_slice(&[8, 0, 0, 0, 0x6f, 0x78, 0, 1]);
    let header = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&header);
    let message = checksum(&packet[20..]);
    packet[22..24].copy_from_slice(&message);
    packet
}

/// The Internet checksum of an even number of bytes (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!(((folded & 0xffff) + (folded >> 16)) as u16)).to_be_bytes()
}
