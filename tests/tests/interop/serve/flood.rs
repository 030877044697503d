//! A million first packets from nobody, and whole handshakes played again: no memory, no harm to those who are in.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    capture::Capture,
    client::Kind,
    flood::{Random, flood},
    matrix::Cell,
    netns::{SERVER_V4, Side},
    openvpn::{READY, Release, Wrap},
    ping::Ping,
    serve::{Guest, Service, Serving},
};

/// Packets of a flood.
const MILLION: u32 = 1_000_000;

/// What a flood may cost in memory.
const MEMORY: u64 = 1 << 20;

/// More than what `alice` is sent meanwhile, in bytes.
const PINGS: u64 = 200_000;

/// Packets before memory is looked at the first time, so that buffers have their size.
const WARM: u32 = 20_000;

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = vec![
        Cell::new("serve::flood::plain", plain),
        // As many answers as there are questions.
        Cell::new("serve::flood::plain-all-answered", answered),
    ];
    for wrap in [Wrap::TlsAuthDirection, Wrap::TlsCrypt, Wrap::TlsCryptV2] {
        cells.push(Cell::new(format!("serve::flood::recorded::{}", wrap.name()), move || recorded(wrap)));
    }
    for wrap in Wrap::ALL {
        cells.push(Cell::new(format!("serve::replay::{}", wrap.name()), move || replay(wrap)));
    }
    cells
}

fn server() -> SocketAddrV4 {
    SocketAddrV4::new(SERVER_V4.parse().unwrap_or(Ipv4Addr::LOCALHOST), 1194)
}

/// One who is in, one who attacks from a host of his own, and ways back to the addresses that he takes.
fn besieged(service: Service) -> Service {
    // The attacker's program never gets through; only its host matters.
    let attacker = Guest::own("attacker").line("remote 10.9.0.77 1194");
    service
        .line("verb 3")
        .guest(Guest::real(Release::Distribution, "alice"))
        .guest(attacker)
        .prepare(|star| star.ip(star.server(), "route add default via 10.9.0.12").map(drop))
}

/// First packets of all kinds: most begin a session, others pretend that there is one.
fn any_packet(random: &mut Random, payload: &mut Vec<u8>) -> SocketAddrV4 {
    let session = random.next().to_be_bytes();
    match random.below(10) {
        // P_CONTROL_V1 and P_ACK_V1, as the third packet of a handshake would be, with a cookie out of thin air.
        0 => {
            payload.push(4 << 3);
            payload.extend(session);
            payload.extend([1, 0, 0, 0, 0]);
            payload.extend(random.next().to_be_bytes());
            payload.extend([0, 0, 0, 1, 0x16, 3, 1, 2, 0]);
        }
        1 => {
            payload.push(5 << 3);
            payload.extend(session);
            payload.extend([1, 0, 0, 0, 0]);
            payload.extend(random.next().to_be_bytes());
        }
        // P_DATA_V2 of any peer.
        2 => {
            payload.push(9 << 3);
            payload.extend(&random.next().to_be_bytes()[..3]);
            (0..10).for_each(|_| payload.extend(random.next().to_be_bytes()));
        }
        // Any first byte at all.
        3 => (0..1 + random.below(8)).for_each(|_| payload.extend(random.next().to_be_bytes())),
        // P_CONTROL_HARD_RESET_CLIENT_V2.
        _ => {
            payload.push(7 << 3);
            payload.extend(session);
            payload.extend([0, 0, 0, 0, 0]);
        }
    }
    random.address()
}

fn plain() -> Result<()> {
    besieged(Service::new()?).started(|serving| {
        let mut random = Random(1);
        siege(serving, MILLION, move |_, payload| any_packet(&mut random, payload))
    })
}

fn answered() -> Result<()> {
    besieged(Service::new()?.line("connect-freq-initial 1000000 1")).started(|serving| {
        let mut random = Random(2);
        let before = traffic(serving)?;
        siege(serving, MILLION / 10, move |_, payload| {
            payload.push(7 << 3);
            payload.extend(random.next().to_be_bytes());
            payload.extend([0, 0, 0, 0, 0]);
            random.address()
        })?;
        let after = traffic(serving)?;
        let (came, went) = (after[0] - before[0], after[1] - before[1]);
        // Headers of Ethernet count in what is sent only.
        let sent = after[2] - before[2] - 14 * went;
        println!("serve::flood::plain-all-answered: {came} packets came, {went} went, {sent} bytes of them");
        // The answer of 26 bytes, the packet's 14 with an acknowledgement and the cookie, and 28 bytes of headers.
        ensure!(went <= came && sent <= came * 54 + PINGS, "{went} packets of {sent} bytes for {came}");
        Ok(())
    })
}

/// Packets that the server's host has received, packets and bytes that it has sent on the link.
fn traffic(serving: &Serving) -> Result<[u64; 3]> {
    let mut counts = [0; 3];
    for (count, name) in counts.iter_mut().zip(["rx_packets", "tx_packets", "tx_bytes"]) {
        let file = format!("/sys/class/net/eth0/statistics/{name}");
        let text = serving.star.exec(serving.star.server(), &["cat", &file])?;
        *count = text.trim().parse().context("statistics")?;
    }
    Ok(counts)
}

/// A client's real first packets, from everywhere.
fn recorded(wrap: Wrap) -> Result<()> {
    besieged(Service::new()?.wrap(wrap)).started(|serving| {
        let packets = record(serving)?;
        let first = packets.first().context("nothing was recorded")?.clone();
        let mut random = Random(3);
        siege(serving, MILLION / 20, move |index, payload| {
            payload.extend(&first);
            // Every other one is not quite right.
            if index % 2 == 1 {
                let at = random.below(payload.len());
                payload[at] ^= 1 << random.below(8);
            }
            random.address()
        })
    })
}

/// Packets of a client's whole first handshake and what followed, from its start until pings have passed.
fn record(serving: &mut Serving) -> Result<Vec<Vec<u8>>> {
    serving.visit("attacker")?.kill();
    let alice = serving.visit("alice")?;
    let times = alice.process()?.lines(READY)?.len();
    alice.kill();
    let capture = Capture::start_in(serving.star.server(), serving.star.dir())?;
    let alice = serving.visit("alice")?;
    alice.start()?;
    alice.wait_connected(times + 1)?;
    serving.ping("alice", "server")?;
    let packets = capture.payloads()?.into_iter().filter(|(packet, _)| packet.from == Side::Client);
    let packets: Vec<Vec<u8>> = packets.map(|(_, payload)| payload).collect();
    // The kernel may still send for the process that is gone.
    let begin = packets.iter().position(|p| matches!(p[0] >> 3, 7 | 10)).context("no first packet")?;
    ensure!(packets.len() > begin + 4, "a handshake of {} packets", packets.len() - begin);
    Ok(packets[begin..].to_vec())
}

/// Floods while `alice` pings; afterwards everything is as before, and a new client comes in.
fn siege(
    serving: &mut Serving,
    count: u32,
    mut packet: impl FnMut(u32, &mut Vec<u8>) -> SocketAddrV4 + Send,
) -> Result<()> {
    serving.visit("alice")?.wait_connected(1)?;
    serving.visit("attacker")?.kill();
    serving.ping("alice", "server")?;
    let connected = serving.visit("alice")?.process()?.lines(READY)?.len();
    let attacker = serving.ns("attacker")?.to_owned();
    let id = serving.process()?.id();
    flood(&attacker, id, server(), WARM, &mut packet)?;
    let before = (serving.process()?.resident()?, serving.process()?.cpu()?);

    let flooded = while_alice_pings(serving, || flood(&attacker, id, server(), count, &mut packet))?;

    let after = (serving.process()?.resident()?, serving.process()?.cpu()?);
    let grown = after.0.saturating_sub(before.0);
    println!(
        "flood: {count} packets in {:.1} s, {:.2} us of CPU each, {} KiB more memory, {} without room",
        flooded.took.as_secs_f32(),
        (after.1 - before.1).as_secs_f64() * 1e6 / f64::from(count),
        grown / 1024,
        flooded.dropped,
    );
    // Kernel's limits may drop a few at the first burst.
    ensure!(
        flooded.dropped < u64::from(count / 100),
        "{} packets had no room in the socket",
        flooded.dropped
    );
    ensure!(grown <= MEMORY, "the server grew by {} KiB", grown / 1024);
    let alice = serving.visit("alice")?;
    alice.connected_times(connected)?;
    newcomer(serving)
}

/// Does `work` in a thread of its own while `alice` pings the server; none of her pings may be lost.
fn while_alice_pings<T: Send>(serving: &Serving, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let address = serving.address("server", false)?;
    let ns = serving.ns("alice")?.to_owned();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let result = work();
            done.store(true, Ordering::SeqCst);
            result
        });
        let mut pinged = Ok(());
        while !done.load(Ordering::SeqCst) {
            let ping = Ping { count: 20, interval: 0.05, ..Ping::new(&ns, &address) };
            pinged = ping.all().context("while the flood ran");
            if pinged.is_err() {
                break;
            }
        }
        let result = worker.join().map_err(|_| anyhow!("a thread panicked"))?;
        pinged?;
        result
    })
}

/// Packets that our server has dropped so far, by its statistics; OpenVPN's has none.
fn drops(serving: &mut Serving) -> Result<u64> {
    const END: &str = r"\bEND$";
    let server = serving.process()?;
    let tables = server.lines(END)?.len();
    server.signal(Signal::SIGUSR2)?;
    server.wait_for_count(END, tables + 1, Duration::from_secs(10))?;
    let mut counters = BTreeMap::new();
    for line in server.lines(r"\bdropped \w+,\d+$")? {
        let counter = line.rsplit_once(' ').and_then(|(_, counter)| counter.split_once(','));
        let (reason, count) = counter.context("a counter")?;
        // Later tables have it again.
        counters.insert(reason.to_owned(), count.parse::<u64>()?);
    }
    Ok(counters.values().sum())
}

/// A client that was not there before is served like any other.
fn newcomer(serving: &mut Serving) -> Result<()> {
    let attacker = serving.visit("attacker")?;
    attacker.spec.lines.retain(|line| !line.starts_with("remote "));
    attacker.start()?;
    attacker.wait_connected(1)?;
    serving.ping_all()
}

/// A recorded handshake, whole, cut and bent, from the same address and from others.
fn replay(wrap: Wrap) -> Result<()> {
    // The limit on first packets must not be what saves the server.
    let service = besieged(Service::new()?.wrap(wrap).line("connect-freq-initial 1000000 1"));
    let kind = service.kind();
    service.started(|serving| {
        serving.visit("alice")?.spec.lines.extend(["!nobind".to_owned(), "lport 5000".to_owned()]);
        let packets = record(serving)?;
        let connected = serving.visit("alice")?.process()?.lines(READY)?.len();
        let attacker = serving.ns("attacker")?.to_owned();
        let id = serving.process()?.id();
        let own = SocketAddrV4::new("10.9.0.11".parse()?, 5000);
        let mut random = Random(4);
        let mut sequence: Vec<(SocketAddrV4, Vec<u8>)> = Vec::new();
        for round in 0..40 {
            // The same address, one other address for the whole, another one for each packet.
            let other = random.address();
            let mut bend = |index: usize, packet: &[u8]| {
                let mut packet = packet.to_vec();
                match round % 4 {
                    0 => {}
                    1 => packet.truncate(random.below(packet.len())),
                    2 => {
                        let at = random.below(packet.len());
                        packet[at] ^= 1 << random.below(8);
                    }
                    // Only the last of a handshake is bent, so that what precedes it is taken.
                    _ if index == round / 4 => packet[index % 20] ^= 0x80,
                    _ => {}
                }
                let from = match round % 3 {
                    0 => own,
                    1 => other,
                    _ => random.address(),
                };
                (from, packet)
            };
            sequence.extend(packets.iter().enumerate().map(|(index, packet)| bend(index, packet)));
        }
        sequence.retain(|(_, packet)| !packet.is_empty());
        let count = u32::try_from(sequence.len())?;
        let before = (serving.process()?.resident()?, drops(serving)?);
        let flooded = while_alice_pings(serving, || {
            flood(&attacker, id, server(), count, |index, payload| {
                // Slowly enough that answers come in between.
                thread::sleep(Duration::from_millis(1));
                let (from, packet) = &sequence[index as usize];
                payload.extend(packet);
                *from
            })
        })?;
        let grown = serving.process()?.resident()?.saturating_sub(before.0);
        let dropped = drops(serving)? - before.1;
        println!(
            "replay {}: {count} packets in {:.1} s, {dropped} of them dropped, {} KiB",
            wrap.name(),
            flooded.took.as_secs_f32(),
            grown / 1024
        );
        if kind == Kind::Oxivpn {
            // A first packet is answered, and so is one that has come before.
            ensure!(dropped > u64::from(count / 4), "{dropped} packets of {count} were counted as dropped");
        }
        // A handshake that was begun anew, from one address, is no leak.
        ensure!(grown <= 2 * MEMORY, "the server grew by {} KiB", grown / 1024);
        serving.visit("alice")?.connected_times(connected)?;
        newcomer(serving)
    })
}
