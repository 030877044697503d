//! The core inside of an async runtime: one task with a tokio UDP socket and a tokio timer. Connects, prints
//! what happens, holds the tunnel for some seconds (`OXIVPN_SECONDS`, 10 by default) and leaves.
//!
//! ```text
//! cargo run --example tokio_client -- client.ovpn
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use oxivpn_profile::profile::{CredentialSource, Protocol};
use oxivpn_profile::{Command, Disk, parse_args};
use oxivpn_proto::config::{Credentials, NodeConfig};
use oxivpn_proto::event::Event;
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::plane::{Capabilities, DataPlane};
use oxivpn_proto::tls::rustls::RustlsFactory;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::{Anchor, Instant, Node, Path};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant as TokioInstant, sleep_until};

type Error = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Command::Run(profile) = parse_args(&args, &Disk)? else {
        return Err("usage: tokio_client client.ovpn".into());
    };
    let seconds = std::env::var("OXIVPN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let remote = profile.remotes.iter().find(|remote| remote.protocol == Protocol::Udp);
    let remote = remote.ok_or("the profile has no UDP remote")?;
    let mut found = lookup_host((&*remote.host, remote.port)).await?;
    let address = found.next().ok_or("the name has no address")?;
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = Arc::new(RustlsFactory::new(profile.tls_options(None)?, provider)?);
    let credentials = match &profile.auth.source {
        CredentialSource::Given { username, password: Some(password) } => {
            Some(Credentials { username: username.clone(), password: password.clone(), is_token: false })
        }
        _ => None,
    };
    let mut tunnel = Tunnel::new()?;
    let path = Path::udp(0, address);
    let config = Arc::new(profile.client_config(remote, tls));
    let session = tunnel.node.connect(tunnel.now(), path, config, credentials)?;

    let goodbye = TokioInstant::now() + Duration::from_secs(seconds);
    let mut leaving = false;
    let mut buffer = vec![0; 65_536];
    while tunnel.drain(&socket).await? {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let (len, from) = received?;
                tunnel.receive(Path::udp(0, from), &mut buffer[..len]);
            }
            () = sleep_until(tunnel.deadline()) => {}
            () = sleep_until(goodbye), if !leaving => {
                leaving = true;
                tunnel.node.close(tunnel.now(), session);
            }
        }
        tunnel.node.handle_timeout(tunnel.now());
    }
    Ok(())
}

/// Core and data plane with their clock.
struct Tunnel {
    node: Node,
    plane: LocalPlane,
    start: StdInstant,
}

impl Tunnel {
    fn new() -> Result<Self, Error> {
        let start = StdInstant::now();
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
        let config = Arc::new(NodeConfig { capabilities: Capabilities::USERSPACE });
        Ok(Self {
            node: Node::new(config, seed, Anchor::new(Instant::ZERO, unix)),
            plane: LocalPlane::new(),
            start,
        })
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// When the core wants to be called, on tokio's time line.
    fn deadline(&self) -> TokioInstant {
        let far = Duration::from_secs(3600);
        let wait = self.node.deadline().map_or(far, |deadline| deadline.at - self.now());
        TokioInstant::now() + wait.min(far)
    }

    fn receive(&mut self, from: Path, bytes: &mut [u8]) {
        let now = self.now();
        match peek(bytes) {
            Peek::Control => self.node.handle_datagram(now, from, bytes),
            Peek::Data(_) => match self.plane.open(now, from, bytes) {
                Ok(opened) => println!("data packet: {:?}", opened.payload),
                Err(reason) => println!("data packet dropped: {reason:?}"),
            },
            Peek::Unknown => {}
        }
    }

    /// Orders, packets, news; `false` when the session is over.
    async fn drain(&mut self, socket: &UdpSocket) -> Result<bool, Error> {
        let now = self.now();
        loop {
            let mut silent = true;
            while let Some(order) = self.node.poll_directive() {
                self.plane.apply(now, order);
                silent = false;
            }
            while let Some(report) = self.plane.poll_report() {
                self.node.handle_report(now, report);
                silent = false;
            }
            if silent {
                break;
            }
        }
        let mut out = vec![0; MAX_CONTROL_DATAGRAM];
        while let Some(transmit) =
            self.node.poll_transmit(now, &mut out).or_else(|| self.plane.poll_transmit(now, &mut out))
        {
            if let Path::Datagram { remote, .. } = transmit.path {
                socket.send_to(&out[..transmit.len], remote).await?;
            }
        }
        while let Some(event) = self.node.poll_event() {
            println!("{event:?}");
            if let Event::Closed { .. } = event {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
