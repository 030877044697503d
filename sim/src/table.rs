//! Throughput and loss: what a tunnel costs a TCP connection.
//!
//! The same host fetches from the same server, once through a tunnel and once without, over lines with the same
//! [`Faults`] that lose the same packets, by number. Both connections fill the line's MTU, so the tunnel carries less
//! of the content in each packet: that share is the header overhead. Whatever it costs beyond it is its fault.
//!
//! ```no_run
//! let table = oxivpn_sim::table::run(50).expect("the tunnel comes up and nothing breaks");
//! assert!(table.is_good(), "{table}");
//! ```

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use oxivpn_proto::config::cipher::DataCipher;

use crate::host::{Host, TcpSettings, Transfer};
use crate::link::Faults;
use crate::plan::{Plan, Shape, build};
use crate::seed::Rate;
use crate::trace::Keep;
use crate::world::{Handle, Happening, SiteFaults, SiteId, World};

/// The largest packet on the line, bytes, IP header included. OpenVPN's default `mssfix` makes full use of it.
const MTU: usize = 1492;
/// IPv4 and TCP headers.
const INNER_HEADERS: usize = 40;
/// IPv4 and UDP headers.
const OUTER_HEADERS: usize = 28;
/// Opcode, peer-id, packet-id and tag of a packet under AES-GCM (`data.md`: P_DATA_V2).
const TUNNEL_HEADERS: usize = 4 + 4 + 16;

/// Content in a full packet, without and with a tunnel.
const CONTENT: [usize; 2] = [MTU - INNER_HEADERS, MTU - OUTER_HEADERS - TUNNEL_HEADERS - INNER_HEADERS];

/// MTU of the hosts behind the tunnel. The tunnel's `mssfix` keeps their segments short enough.
const INNER_MTU: usize = 1500;

/// Bits per second in each direction.
const RATE: u64 = 20_000_000;
/// In each direction.
const DELAY: Duration = Duration::from_millis(20);
/// A bit more than the line holds, and less than line and queue hold together: without loss, none is made by TCP.
const WINDOW: usize = 128 * 1024;
/// How long each transfer is watched.
const LASTS: Duration = Duration::from_secs(12);
/// So that each transfer has a renegotiation within.
const RENEG: Duration = Duration::from_secs(5);

const PORT: u16 = 5001;

/// Loss in each direction, percent.
pub const LOSSES: [u32; 3] = [0, 1, 5];

/// Of its ideal share, what a tunnel must reach, percent.
pub const AT_LEAST: u64 = 95;

/// Goodput of one pair of transfers, bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Without a tunnel.
    pub plain: u64,
    /// Through it.
    pub tunnel: u64,
}

impl Pair {
    /// The tunnel's goodput out of 10,000 of the other's.
    pub fn ratio(&self) -> u64 {
        self.tunnel * 10_000 / self.plain.max(1)
    }
}

/// What was measured at one rate of loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Loss in each direction, percent.
    pub loss: u32,
    /// By seed, from 1 on.
    pub pairs: Vec<Pair>,
}

impl Row {
    /// The median of the pairs' ratios, out of 10,000.
    pub fn ratio(&self) -> u64 {
        median(self.pairs.iter().map(Pair::ratio).collect())
    }

    /// The medians of both sides, each on its own.
    pub fn goodput(&self) -> Pair {
        let of = |side: fn(&Pair) -> u64| median(self.pairs.iter().map(side).collect());
        Pair { plain: of(|pair| pair.plain), tunnel: of(|pair| pair.tunnel) }
    }

    /// Whether the tunnel costs at most 5 % beyond its headers.
    pub fn is_good(&self) -> bool {
        self.ratio() * 100 >= ideal() * AT_LEAST
    }
}

/// Throughput against loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// By loss.
    pub rows: Vec<Row>,
}

impl Table {
    /// Whether the tunnel costs at most 5 % beyond its headers, at every loss.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(Row::is_good)
    }
}

/// The ratio that is left if the headers are all that the tunnel costs, out of 10,000.
pub const fn ideal() -> u64 {
    (CONTENT[1] * 10_000 / CONTENT[0]) as u64
}

/// The lower one of two in the middle.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// Measures with so many pairs for each loss, of seeds 1 and up. An error says what broke on the way, and the seed.
pub fn run(seeds: u64) -> Result<Table, String> {
    let row = |loss| {
        let pairs = (1..=seeds).map(|seed| pair(seed, loss)).collect::<Result<_, _>>()?;
        Ok(Row { loss, pairs })
    };
    Ok(Table { rows: LOSSES.into_iter().map(row).collect::<Result<_, String>>()? })
}

/// One transfer without a tunnel, and the same with it.
pub fn pair(seed: u64, loss: u32) -> Result<Pair, String> {
    let what = |what: String| format!("seed {seed}, loss {loss} %: {what}");
    Ok(Pair { plain: plain(seed, loss).map_err(what)?, tunnel: tunnel(seed, loss).map_err(what)? })
}

/// The line at the client's site. `overhead` is what it adds to what the world gives it.
fn line(loss: u32, overhead: usize) -> SiteFaults {
    SiteFaults::both(Faults {
        delay: DELAY,
        rate: RATE,
        queue: WINDOW,
        overhead,
        mtu: MTU,
        loss: Rate::percent(loss),
        ..Faults::NONE
    })
}

fn plain(seed: u64, loss: u32) -> Result<u64, String> {
    let mut world = World::new(seed, Keep::Hash);
    let sites = [0; 2].map(|_| world.add_site(SiteFaults::both(Faults::NONE), None));
    let server = world.add_open_host(sites[0], MTU);
    let client = world.add_open_host(sites[1], MTU);
    world.run_for(Duration::from_millis(1));
    let to = world.site_address(sites[0]).ip();
    measure(&mut world, [server, client], to, line(loss, 0))
}

fn tunnel(seed: u64, loss: u32) -> Result<u64, String> {
    let plan = Plan::new(seed, shape(), Vec::new());
    let built = build(&plan, Keep::Hash);
    let (mut world, caller) = (built.world, built.callers[0]);
    let server = world.attach_host(built.hub, INNER_MTU);
    let client = world.attach_host(caller, INNER_MTU);
    world.run_for(Duration::from_secs(5));
    let to = world.machine(built.hub).address();
    let to = to.filter(|_| world.machine(caller).tunnels().next().is_some()).ok_or("no tunnel")?;
    let goodput = measure(&mut world, [server, client], to, line(loss, OUTER_HEADERS))?;
    match world.deeds(caller) {
        deeds if deeds.tunnels == 1 && deeds.closed == 0 && deeds.keys > 1 => Ok(goodput),
        deeds => Err(format!("the tunnel did not stand, or was not renegotiated: {deeds:?}")),
    }
}

/// The client fetches from the server, over this line; bytes per second.
fn measure(
    world: &mut World,
    [server, client]: [Handle<Host>; 2],
    to: IpAddr,
    line: SiteFaults,
) -> Result<u64, String> {
    let tcp = TcpSettings { window: WINDOW, ..TcpSettings::default() };
    world.happen(Happening::Lines(SiteId(1), line));
    world.rewind_lines(SiteId(1));
    world.with_inner(server, |host, _| {
        host.set_tcp(tcp);
        host.serve_tcp(PORT);
    });
    let fetch = Transfer { upload: 0, download: u64::MAX / 2 };
    let app = world.with_inner(client, |host, now| {
        host.set_tcp(tcp);
        host.send_tcp(now, SocketAddr::new(to, PORT), fetch)
    });
    world.run_for(LASTS);
    if let Some(violation) = world.violations().first() {
        return Err(violation.to_string());
    }
    if world.lines().any(|line| line.too_big > 0) {
        return Err("a packet is larger than the line's MTU".into());
    }
    let stats = world.inner(client).transfer(app).ok_or("no transfer")?;
    Ok(stats.goodput(world.now()))
}

/// A server and a client, as people set them up today.
fn shape() -> Shape {
    Shape {
        ciphers: vec![DataCipher::Aes256Gcm],
        reneg: [RENEG, Duration::from_secs(3600)],
        delay: Duration::ZERO,
        ..Shape::default()
    }
}

/// So many of 10,000, in percent.
struct Percent(u64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02} %", self.0 / 100, self.0 % 100))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "TCP (Reno, window {WINDOW} bytes) for {LASTS:?}, fetching, over {} kbit/s",
            RATE / 1000
        )?;
        writeln!(
            f,
            "and {DELAY:?} in each direction; packets of {MTU} bytes, with {} of content plain,",
            CONTENT[0]
        )?;
        writeln!(
            f,
            "{} in a tunnel (AES-256-GCM, P_DATA_V2 on UDP and IPv4, reneg-sec {RENEG:?}).",
            CONTENT[1]
        )?;
        writeln!(
            f,
            "Headers alone leave {} of the goodput; required are {AT_LEAST} % of that.",
            Percent(ideal())
        )?;
        writeln!(f, "\n  loss   plain kB/s  tunnel kB/s  ratio, median  of ideal")?;
        for row in &self.rows {
            let (Pair { plain, tunnel }, ratio) = (row.goodput(), row.ratio());
            let verdict = if row.is_good() { "" } else { "  TOO LITTLE" };
            let (ratio, share) = (Percent(ratio), Percent(ratio * 10_000 / ideal()));
            let (loss, plain, tunnel) = (row.loss, plain / 1000, tunnel / 1000);
            writeln!(f, "{loss:4} %   {plain:10}  {tunnel:11}  {ratio:>13}  {share:>8}{verdict}")?;
        }
        writeln!(f, "\nBytes per second by seed, plain and tunnel, at {LOSSES:?} % loss:")?;
        for seed in 0..self.rows.first().map_or(0, |row| row.pairs.len()) {
            write!(f, "{:4}", seed + 1)?;
            for pair in self.rows.iter().filter_map(|row| row.pairs.get(seed)) {
                write!(f, "  {:8} {:8}", pair.plain, pair.tunnel)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
