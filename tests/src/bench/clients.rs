//! Part 6: several clients of one server of ours, with one and with two workers.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    certs::{KeyKind, Pki},
    client::ClientSpec,
    interrupt,
    netns::HostState,
    openvpn::{READY, ServerSpec, Transport},
    process::{Process, command_in, poll},
    scenario::CONNECT,
    star::Star,
    stats::median,
};
use regex::Regex;

use super::{
    Bench,
    paced::{Delivered, Offer, offer, sockets},
    table::{Limit, Table, figure, percent},
    tunnel::INSIDE,
};

const CLIENTS: usize = 8;

/// Datagrams per second of all clients together.
const RATE: u32 = 40_000;

const SIZE: usize = 1400;

/// What a packet may cost with two workers, to one.
const DEARER: f64 = 1.1;

/// A server with its clients; all end with it.
struct Crowd {
    clients: Vec<Process>,
    server: Process,
    _pki: Pki,
    star: Star,
}

/// What a run shows of the server.
#[derive(Clone, Copy, Debug)]
struct Shown {
    micros: f64,
    per_second: f64,
    loss: f64,
    /// Packets that one worker gave another, for each packet.
    hand_overs: f64,
}

pub(crate) fn part(bench: &mut Bench) -> Result<()> {
    let Some(words) = bench.options.workers.clone() else {
        println!(
            "Skipped: no arguments that give our server several workers (`--workers '--workers {{}}'`).\n"
        );
        return Ok(());
    };
    let samples = bench.in_turn(
        &[1_u32, 2],
        |workers| format!("{workers} workers"),
        |bench, &workers| {
            let mut crowd = Crowd::start(bench, &words.replace("{}", &workers.to_string()))?;
            let shown = crowd.measure(bench.options.seconds, &bench.options.hand_overs);
            shown.map_err(|error| anyhow!("{error:#}\n{}", crowd.log()))
        },
    )?;
    println!(
        "{CLIENTS} clients send {RATE} datagrams of {SIZE} bytes per s, all together, to the server's host.\n"
    );
    let mut table =
        Table::new(&["workers", "delivered per s", "lost", "server's CPU, us each", "hand-overs each"]);
    let mut micros = Vec::new();
    for (list, workers) in samples.iter().zip(["1", "2"]) {
        let of = |get: fn(&Shown) -> f64| median(list.iter().map(get));
        table.row([
            workers.into(),
            figure(of(|s| s.per_second)),
            percent(of(|s| s.loss)),
            figure(of(|s| s.micros)),
            figure(of(|s| s.hand_overs)),
        ]);
        micros.push(of(|s| s.micros));
    }
    table.print();
    let ratio = micros[1] / micros[0];
    bench.check("CPU per packet with two workers to that with one", ratio, Limit::AtMost(DEARER));
    Ok(())
}

impl Crowd {
    fn start(bench: &Bench, words: &str) -> Result<Self> {
        let star = Star::new(CLIENTS)?;
        let pki = Pki::new(KeyKind::EcdsaP256)?;
        let program = &bench.programs.own.path;
        let spec = ServerSpec {
            program: program.clone(),
            transport: Transport::Udp4,
            tls: None,
            ca: pki.ca.clone(),
            identity: pki.server.clone(),
            lines: ["duplicate-cn", "verb 3"].map(str::to_owned).to_vec(),
        };
        let config = star.dir().join("server.ovpn");
        fs::write(&config, spec.text(star.dir()))?;
        let mut command = command_in(star.server(), program);
        command.arg("--config").arg(&config).args(words.split_whitespace()).current_dir(star.dir());
        let mut server = Process::spawn("server", command, &star.dir().join("server.log"))?;
        server.wait_for(READY, CONNECT).map_err(|e| anyhow!("{e:#}\n{}", server.log()))?;

        let spec = ClientSpec {
            transport: Transport::Udp4,
            ca: Some(pki.ca.clone()),
            identity: pki.client.clone(),
            lines: vec!["verb 3".into()],
        };
        let profile = star.dir().join("client.ovpn");
        fs::write(&profile, spec.text()?)?;
        let mut clients = Vec::new();
        for index in 0..CLIENTS {
            let mut command = command_in(star.client(index), program);
            command.arg("--config").arg(&profile).current_dir(star.dir());
            let log = star.dir().join(format!("client-{index}.log"));
            clients.push(Process::spawn("client", command, &log)?);
        }
        for client in &mut clients {
            client.wait_for(READY, CONNECT).map_err(|e| anyhow!("{e:#}\n{}", client.log()))?;
        }
        for index in 0..CLIENTS {
            let state = HostState::of(star.client(index))?;
            ensure!(state.tunnel_address(false).is_some(), "client {index} has no address in the tunnel");
        }
        Ok(Self { clients, server, _pki: pki, star })
    }

    fn measure(&mut self, seconds: u32, pattern: &str) -> Result<Shown> {
        let what = Offer {
            rate: RATE / CLIENTS as u32,
            size: SIZE,
            duration: Duration::from_secs(u64::from(seconds)),
        };
        let mut pairs = Vec::new();
        for index in 0..CLIENTS {
            pairs.push(sockets(self.star.client(index), self.star.server(), INSIDE[0])?);
        }
        let told_before = self.hand_overs(pattern)?;
        let (before, begun) = (self.server.cpu()?, Instant::now());
        let delivered = thread::scope(|scope| {
            let threads: Vec<_> = pairs.iter().map(|pair| scope.spawn(|| offer(pair, what))).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, Result<Delivered>>| {
                thread.join().map_err(|_| anyhow!("a sender panicked"))?
            };
            threads.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        ensure!(begun.elapsed() < what.duration * 2, "the load took {:?}", begun.elapsed());
        let cpu = (self.server.cpu()? - before).as_secs_f64();
        let sum = |get: fn(&Delivered) -> u64| delivered.iter().map(get).sum();
        let all = Delivered { sent: sum(|d| d.sent), received: sum(|d| d.received), short: sum(|d| d.short) };
        self.alive()?;
        ensure!(delivered.iter().all(|each| each.received > 0), "nothing came from a client: {delivered:?}");
        let received = all.kept()?.received as f64;
        let told = self.hand_overs(pattern)? - told_before;
        Ok(Shown {
            micros: cpu * 1e6 / received,
            per_second: received / f64::from(seconds),
            loss: all.loss(),
            hand_overs: told / received,
        })
    }

    fn alive(&mut self) -> Result<()> {
        let ended = self.server.try_status()?;
        ensure!(ended.is_none(), "the server died: {ended:?}");
        for (index, client) in self.clients.iter_mut().enumerate() {
            let ended = client.try_status()?;
            ensure!(ended.is_none(), "client {index} died: {ended:?}");
            let times = client.lines(READY)?.len();
            ensure!(times == 1, "client {index} connected {times} times");
        }
        Ok(())
    }

    /// Sum of the hand-overs that the server's statistics tell; not a number if they tell none.
    fn hand_overs(&self, pattern: &str) -> Result<f64> {
        let regex = Regex::new(pattern).context("--hand-overs")?;
        let seen = self.server.log().len();
        self.server.signal(Signal::SIGUSR2)?;
        let found = poll(Duration::from_millis(500), || {
            interrupt::check()?;
            let log = self.server.log();
            let new = log.get(seen..).unwrap_or_default();
            let numbers: Vec<f64> = new
                .lines()
                .filter_map(|line| {
                    let groups = regex.captures(line)?;
                    groups.get(groups.len() - 1)?.as_str().parse().ok()
                })
                .collect();
            Ok((!numbers.is_empty()).then(|| numbers.iter().sum()))
        })?;
        Ok(found.unwrap_or(f64::NAN))
    }

    fn log(&self) -> String {
        let log = self.server.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("----- end of server's log\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
    }
}
