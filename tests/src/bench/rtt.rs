//! Part 4: the round trip of a ping, through an idle tunnel and beside paced UDP.

use std::{fs, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use oxivpn_tests::{
    interrupt,
    load::times,
    netns::Side,
    process::{Process, command_in, poll},
    stats::{median, quantile},
};

use super::{
    Bench,
    paced::{Delivered, Offer, offer, sockets},
    stream::{Way, transfer},
    table::{Limit, Table, figure, percent},
    tunnel::{INSIDE, Link, Recipe, Vpn},
};

/// Part of OpenVPN's throughput that is offered to all.
const PART: f64 = 0.8;

/// Bytes of payload of the load.
const SIZE: usize = 1400;

/// Pings each second.
const RATE: u32 = 200;

/// Milliseconds of the answers to pings.
#[derive(Clone, Copy, Debug)]
struct Trip {
    median: f64,
    p99: f64,
    /// Pings without an answer.
    lost: f64,
}

impl Trip {
    fn median<'a>(list: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let of = |get: fn(&Self) -> f64| median(list.clone().map(get));
        Self { median: of(|t| t.median), p99: of(|t| t.p99), lost: of(|t| t.lost) }
    }
}

/// One run: idle, under load, and what became of the load.
#[derive(Debug)]
struct Run {
    trips: [Trip; 2],
    loss: f64,
}

pub(crate) fn part(bench: &mut Bench) -> Result<()> {
    let found = bench.in_turn(
        &[()],
        |()| "openvpn's throughput".into(),
        |bench, ()| {
            let mut link = Link::start(&bench.programs, &Recipe::both(Vpn::Real))?;
            Ok(transfer(&mut link, &bench.options, Way::Up)?.gbit)
        },
    )?;
    let gbit = median(found.into_iter().flatten());
    if gbit.is_nan() {
        bench.error("no throughput of openvpn, so no load to offer");
        return Ok(());
    }
    let rate = (gbit * 1e9 * PART / 8.0 / SIZE as f64) as u32;
    println!(
        "openvpn's one TCP stream: {} Gbit/s; load: {:.0} % of it, {rate} datagrams of {SIZE} bytes per s from \
         the client's host, which also pings, {RATE} times per s.\n",
        figure(gbit),
        PART * 100.0
    );
    let candidates = bench.contenders();
    let names: Vec<String> = candidates.iter().map(|&vpn| bench.programs.name(vpn).to_owned()).collect();
    let numbered: Vec<(usize, Vpn)> = candidates.iter().copied().enumerate().collect();
    let samples = bench.in_turn(
        &numbered,
        |&(at, _)| names[at].clone(),
        |bench, &(_, vpn)| {
            let mut link = Link::start(&bench.programs, &Recipe::both(vpn))?;
            let result = measure(&link, bench.options.seconds, rate);
            let result = result.and_then(|run| link.alive().map(|()| run));
            result.map_err(|error| link.failure("ping", &error))
        },
    )?;
    report(bench, &names, &samples);
    Ok(())
}

fn report(bench: &mut Bench, names: &[String], samples: &[Vec<Run>]) {
    let mut table =
        Table::new(&["state", "tunnel", "median, ms", "p99, ms", "pings lost each run", "load lost"]);
    for (at, state) in ["idle", "loaded"].into_iter().enumerate() {
        let rows: Vec<Trip> =
            samples.iter().map(|list| Trip::median(list.iter().map(|run| &run.trips[at]))).collect();
        for ((row, name), list) in rows.iter().zip(names).zip(samples) {
            let loss = median(list.iter().map(|run| run.loss));
            table.row([
                state.into(),
                name.clone(),
                format!("{:.3}", row.median),
                format!("{:.3}", row.p99),
                figure(row.lost),
                if at == 0 { "-".into() } else { percent(loss) },
            ]);
        }
        let (own, real) = (rows[0], rows[1]);
        // Of an idle tunnel the 99th percentile shows the machine's other work more than the tunnel's.
        let (what, ratio) = match at {
            0 => ("idle, to openvpn: median of the round trip", own.median / real.median),
            _ => ("loaded, to openvpn: p99 of the round trip", own.p99 / real.p99),
        };
        bench.check(what, ratio, Limit::AtMost(1.0));
    }
    table.print();
}

fn measure(link: &Link, seconds: u32, rate: u32) -> Result<Run> {
    let idle = pinged(link, seconds)?;
    let pair = sockets(link.lab.ns(Side::Client), link.lab.ns(Side::Server), INSIDE[0])?;
    // The load begins before the first ping and ends after the last.
    let duration = Duration::from_secs(u64::from(seconds) + 1);
    let (loaded, delivered) = std::thread::scope(|scope| {
        let load = scope.spawn(|| offer(&pair, Offer { rate, size: SIZE, duration }));
        std::thread::sleep(Duration::from_millis(500));
        let loaded = pinged(link, seconds);
        let delivered = load.join().map_err(|_| anyhow!("the sender panicked"));
        (loaded, delivered)
    });
    let delivered: Delivered = delivered??.kept()?;
    ensure!(delivered.received > 0, "no datagram of the load came");
    Ok(Run { trips: [idle, loaded?], loss: delivered.loss() })
}

fn pinged(link: &Link, seconds: u32) -> Result<Trip> {
    let count = seconds * RATE;
    let interval = (1.0 / f64::from(RATE)).to_string();
    let mut command = command_in(link.lab.ns(Side::Client), "ping");
    command.args(["-n", "-i", &interval, "-W", "2", "-c", &count.to_string(), INSIDE[0]]);
    let log = link.lab.dir().join("ping.log");
    // Each run has a log of its own.
    let _ = fs::remove_file(&log);
    let mut ping = Process::spawn("ping", command, &log)?;
    let ended = poll(Duration::from_secs(u64::from(seconds) * 4 + 10), || {
        interrupt::check()?;
        ping.try_status()
    })?;
    ended.context("ping still runs")?;
    let text = ping.log();
    let times = times(&text);
    ensure!(!times.is_empty(), "no answer to any ping: {text}");
    let lost = f64::from(count) - times.len() as f64;
    Ok(Trip { median: median(times.iter().copied()), p99: quantile(times, 0.99), lost })
}
