//! One TCP stream through a tunnel, made by `iperf3`.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use oxivpn_tests::{
    interrupt,
    netns::Side,
    process::{Process, command_in, poll},
    stats::median,
};
use serde_json::Value;

use super::{
    options::Options,
    tunnel::{INSIDE, Link},
};

/// Which end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The client sends.
    Up,
    /// The server sends.
    Down,
}

impl Way {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Up, Self::Down];

    /// For the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "client sends",
            Self::Down => "server sends",
        }
    }

    /// Values of server and client as those of sender and receiver.
    pub(crate) fn sender_first<T>(self, [server, client]: [T; 2]) -> [T; 2] {
        match self {
            Self::Up => [client, server],
            Self::Down => [server, client],
        }
    }
}

/// What a transfer shows, or the medians of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    /// Payload received, 10^9 bits per second.
    pub(crate) gbit: f64,
    /// CPU seconds of the tunnel's process at sender and receiver for 10^9 bytes of payload.
    pub(crate) cpu: [f64; 2],
    /// The same of both `iperf3`.
    pub(crate) iperf: f64,
    /// The same of the whole machine, which has what the kernel does for nobody in particular, and others' work too.
    pub(crate) machine: f64,
}

impl Transfer {
    /// Medians of each figure.
    pub(crate) fn median<'a>(list: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let of = |get: fn(&Self) -> f64| median(list.clone().map(get));
        Self {
            gbit: of(|s| s.gbit),
            cpu: [of(|s| s.cpu[0]), of(|s| s.cpu[1])],
            iperf: of(|s| s.iperf),
            machine: of(|s| s.machine),
        }
    }
}

/// Sends one stream for some seconds. A failure carries the logs of the tunnel.
pub(crate) fn transfer(link: &mut Link, options: &Options, way: Way) -> Result<Transfer> {
    let result = measure(link, options, way).and_then(|sample| link.alive().map(|()| sample));
    result.map_err(|error| link.failure(way.name(), &error))
}

fn measure(link: &mut Link, options: &Options, way: Way) -> Result<Transfer> {
    let seconds = options.seconds;
    let mut listen = command_in(link.lab.ns(Side::Server), "iperf3");
    listen.args(["--server", "--one-off", "--forceflush", "--bind", INSIDE[0]]);
    let log = |name: &str| link.lab.dir().join(name);
    let (server_log, client_log) = (log("iperf3-server.log"), log("iperf3-client.log"));
    for file in [&server_log, &client_log] {
        // Each transfer has logs of its own.
        let _ = fs::remove_file(file);
    }
    let mut server = Process::spawn("iperf3", listen, &server_log)?;
    server.wait_for("Server listening", Duration::from_secs(5))?;
    let mut connect = command_in(link.lab.ns(Side::Client), "iperf3");
    connect.args(["--client", INSIDE[0], "--time", &seconds.to_string(), "--json"]);
    connect.args(["--congestion", &options.congestion]);
    if way == Way::Down {
        connect.arg("--reverse");
    }
    let (before, busy_before) = (link.cpu()?, busy()?);
    let mut client = Process::spawn("iperf3", connect, &client_log)?;
    finish(&mut client, link, seconds)?;
    let (after, busy_after) = (link.cpu()?, busy()?);

    let text = client.log();
    let json: Value = serde_json::from_str(&text).with_context(|| format!("iperf3: {text}"))?;
    let end = &json["end"];
    let received = &end["sum_received"];
    let bits = received["bits_per_second"].as_f64().with_context(|| format!("iperf3: {}", json["error"]))?;
    let gigabytes = received["bytes"].as_f64().context("iperf3 shows no bytes")? / 1e9;
    ensure!(gigabytes > 0.0, "nothing was transferred");
    let used = [0, 1].map(|at| (after[at] - before[at]).as_secs_f64() / gigabytes);
    let percent = |name: &str| end["cpu_utilization_percent"][name].as_f64().unwrap_or(f64::NAN);
    let iperf = (percent("host_total") + percent("remote_total")) / 100.0 * f64::from(seconds) / gigabytes;
    let machine = (busy_after - busy_before) / gigabytes;
    Ok(Transfer { gbit: bits / 1e9, cpu: way.sender_first(used), iperf, machine })
}

/// CPU seconds that this machine has spent so far on anything.
fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat")?;
    let ticks: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq; USER_HZ is 100.
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|&at: &usize| ticks.get(at)).sum();
    Ok(busy as f64 / 100.0)
}

/// Waits for the end of `iperf3`, as long as both ends of the tunnel live.
fn finish(client: &mut Process, link: &mut Link, seconds: u32) -> Result<()> {
    let within = Duration::from_secs(u64::from(seconds) + 15);
    let ended = poll(within, || {
        interrupt::check()?;
        client.try_status()
    })?;
    link.alive()?;
    ended.with_context(|| format!("iperf3 still runs after {} s", within.as_secs())).map(drop)
}
