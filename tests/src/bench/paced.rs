//! UDP datagrams at an offered rate, sent and counted by this program with sockets in the namespaces.
//!
//! The sender looks at the clock each millisecond and sends what is due, as the pacing of `iperf3` does.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    sys::socket::{setsockopt, sockopt},
    unistd::gettid,
};
use oxivpn_tests::{flood::inside, interrupt, process::run};

/// Time between two bursts.
const TICK: Duration = Duration::from_millis(1);

/// How long the receiver waits for what is under way.
const DRAIN: Duration = Duration::from_millis(300);

/// Bytes of the receiver's buffer: a tenth of a second of small packets, so that what is lost is lost in the tunnel.
const BUFFER: usize = 4 << 20;

/// Bursts that may be made up for at once after the sender was kept from running.
const BEHIND: u32 = 50;

/// Nice value of sender and receiver.
const PRIORITY: &str = "-15";

/// Marks the datagrams of this program.
const MAGIC: [u8; 4] = *b"oxiv";

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Datagrams per second.
    pub(crate) rate: u32,
    /// Bytes of payload of each.
    pub(crate) size: usize,
    /// How long.
    pub(crate) duration: Duration,
}

impl Offer {
    /// Datagrams to send altogether.
    fn count(self) -> u64 {
        (u128::from(self.rate) * self.duration.as_micros() / 1_000_000) as u64
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    /// Datagrams that were sent.
    pub(crate) sent: u64,
    /// Those that came.
    pub(crate) received: u64,
    /// Those that should have been sent and were not, as the sender was too slow.
    pub(crate) short: u64,
}

impl Delivered {
    /// Part of what was sent that did not come.
    pub(crate) fn loss(self) -> f64 {
        if self.sent == 0 { f64::NAN } else { 1.0 - self.received as f64 / self.sent as f64 }
    }

    /// Fails unless the sender has kept to the offered rate within five hundredths.
    pub(crate) fn kept(self) -> Result<Self> {
        let due = self.sent + self.short;
        ensure!(self.short * 20 <= due, "the sender sent {} of {due} datagrams: too slow", self.sent);
        Ok(self)
    }
}

/// Opens the sockets of a sender in the namespace `from`, and of a receiver in `to` at the address `address`.
pub(crate) fn sockets(from: &str, to: &str, address: &str) -> Result<[UdpSocket; 2]> {
    let receiver = inside(to, || {
        let socket = UdpSocket::bind((address, 0)).with_context(|| format!("bind to {address}"))?;
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(socket)
    })?;
    let remote = receiver.local_addr()?;
    let sender = inside(from, || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(remote).with_context(|| format!("connect to {remote}"))?;
        Ok(socket)
    })?;
    Ok([sender, receiver])
}

/// Sends and counts, in threads of a higher priority than the tunnel's ends: the rate is offered, whatever they do.
pub(crate) fn offer(sockets: &[UdpSocket; 2], offer: Offer) -> Result<Delivered> {
    let [sender, receiver] = sockets;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let counter = scope.spawn(|| prefer().and_then(|()| count(receiver, &done)));
        let sent = scope.spawn(|| prefer().and_then(|()| send(sender, offer))).join();
        thread::sleep(DRAIN);
        done.store(true, Ordering::Relaxed);
        let received = counter.join().map_err(|_| anyhow!("the receiver panicked"))??;
        let sent = sent.map_err(|_| anyhow!("the sender panicked"))??;
        Ok(Delivered { sent, received, short: offer.count() - sent })
    })
}

/// Gives the calling thread a higher priority.
fn prefer() -> Result<()> {
    let thread = gettid().to_string();
    run("renice", &["-n", PRIORITY, "-p", &thread]).map(drop)
}

fn send(socket: &UdpSocket, offer: Offer) -> Result<u64> {
    let mut payload = vec![0_u8; offer.size.max(MAGIC.len())];
    payload[..MAGIC.len()].copy_from_slice(&MAGIC);
    let begun = Instant::now();
    let (mut sent, mut slots, all) = (0_u64, 0_u64, offer.count());
    let most = u64::from((offer.rate / 1000 + 1) * BEHIND);
    while slots < all {
        interrupt::check()?;
        let passed = begun.elapsed();
        let due = (u128::from(offer.rate) * passed.as_micros() / 1_000_000) as u64;
        let due = due.min(all);
        // What is too long overdue is not sent: a burst of it would measure queues.
        slots = slots.max(due.saturating_sub(most));
        while slots < due {
            // A full queue of the device shows as an error at most; the datagram is lost then.
            let _ = socket.send(&payload);
            sent += 1;
            slots += 1;
        }
        thread::sleep(TICK.saturating_sub(begun.elapsed() - passed));
    }
    Ok(sent)
}

fn count(socket: &UdpSocket, done: &AtomicBool) -> Result<u64> {
    let (mut received, mut buf) = (0, [0_u8; 2048]);
    while !done.load(Ordering::Relaxed) {
        match socket.recv(&mut buf) {
            Ok(len) if buf[..len].starts_with(&MAGIC) => received += 1,
            Ok(_) => {}
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {}
                // An ICMP error of an end that is just gone; its death is found elsewhere.
                std::io::ErrorKind::ConnectionRefused => {}
                _ => return Err(error).context("receive"),
            },
        }
    }
    Ok(received)
}
