//! Part 3: UDP datagrams at an offered rate.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oxivpn_tests::{netns::Side, stats::median};

use super::{
    Bench,
    paced::{Delivered, Offer, offer, sockets},
    table::{Limit, Table, figure, percent},
    tunnel::{INSIDE, Link, Recipe, Vpn},
};

/// Packets delivered per CPU second, as multiple of OpenVPN's, at least.
const MORE: f64 = 3.0;

/// Bytes of payload: one that fills a packet of every tunnel here, and a small one.
const SIZES: [usize; 2] = [1400, 64];

/// What one offer came to, or the medians of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packets {
    /// Packets delivered each second.
    pub(crate) per_second: f64,
    /// Packets delivered for each CPU second of both tunnel processes.
    pub(crate) per_cpu: f64,
    /// CPU microseconds of the sender's and the receiver's process for each packet delivered.
    pub(crate) micros: [f64; 2],
    /// Part that was lost.
    pub(crate) loss: f64,
}

impl Packets {
    pub(crate) fn median<'a>(list: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let of = |get: fn(&Self) -> f64| median(list.clone().map(get));
        Self {
            per_second: of(|p| p.per_second),
            per_cpu: of(|p| p.per_cpu),
            micros: [of(|p| p.micros[0]), of(|p| p.micros[1])],
            loss: of(|p| p.loss),
        }
    }
}

/// Sends from the client's host to the server's. A failure of the tunnel carries its logs.
pub(crate) fn send(link: &mut Link, what: Offer) -> Result<Packets> {
    let result = measure(link, what).and_then(|packets| link.alive().map(|()| packets));
    let shown = format!("{} bytes, {} per second", what.size, what.rate);
    let (packets, delivered) = result.map_err(|error| link.failure(&shown, &error))?;
    delivered.kept().context(shown)?;
    Ok(packets)
}

fn measure(link: &mut Link, what: Offer) -> Result<(Packets, Delivered)> {
    let pair = sockets(link.lab.ns(Side::Client), link.lab.ns(Side::Server), INSIDE[0])?;
    let before = link.cpu()?;
    let delivered = offer(&pair, what)?;
    let after = link.cpu()?;
    let received = delivered.received as f64;
    ensure!(received > 0.0, "no datagram came");
    let [server, client] = [0, 1].map(|at| (after[at] - before[at]).as_secs_f64());
    let packets = Packets {
        per_second: received / what.duration.as_secs_f64(),
        per_cpu: received / (server + client),
        micros: [client, server].map(|seconds| seconds * 1e6 / received),
        loss: delivered.loss(),
    };
    Ok((packets, delivered))
}

pub(crate) fn part(bench: &mut Bench) -> Result<()> {
    let duration = Duration::from_secs(u64::from(bench.options.seconds));
    let rates = bench.options.rates.clone();
    let offers: Vec<Offer> = SIZES
        .into_iter()
        .flat_map(|size| rates.iter().map(move |&rate| Offer { rate, size, duration }))
        .collect();
    let vpns = bench.contenders();
    let names: Vec<String> = vpns.iter().map(|&vpn| bench.programs.name(vpn).to_owned()).collect();
    if !vpns.contains(&Vpn::WireGuard) {
        println!("wireguard-go: not installed\n");
    }
    let candidates: Vec<(Offer, usize)> =
        offers.iter().flat_map(|&what| (0..vpns.len()).map(move |vpn| (what, vpn))).collect();
    let samples = bench.in_turn(
        &candidates,
        |&(_, vpn)| names[vpn].clone(),
        |bench, &(what, vpn)| send(&mut Link::start(&bench.programs, &Recipe::both(vpns[vpn]))?, what),
    )?;
    println!(
        "The client's host sends, in bursts each millisecond. AES-256-GCM, wireguard-go its own cipher.\n"
    );
    let mut table = Table::new(&[
        "payload, bytes",
        "offered per s",
        "tunnel",
        "delivered per s",
        "lost",
        "sender CPU, us each",
        "receiver CPU, us each",
        "delivered per CPU s",
    ]);
    for (what, samples) in offers.iter().zip(samples.chunks_exact(vpns.len())) {
        let rows: Vec<Packets> = samples.iter().map(|list| Packets::median(list.iter())).collect();
        for (row, name) in rows.iter().zip(&names) {
            table.row([
                what.size.to_string(),
                what.rate.to_string(),
                name.clone(),
                figure(row.per_second),
                percent(row.loss),
                figure(row.micros[0]),
                figure(row.micros[1]),
                figure(row.per_cpu),
            ]);
        }
        let text =
            format!("{} bytes at {} per s, to openvpn: delivered per CPU second", what.size, what.rate);
        bench.check(text, rows[0].per_cpu / rows[1].per_cpu, Limit::AtLeast(MORE));
    }
    table.print();
    Ok(())
}
