//! Parts 1 and 2: one TCP stream through tunnels of the same and of different programs.

use anyhow::Result;

use super::{
    Bench,
    stream::{Transfer, Way, transfer},
    table::{Limit, Table, figure},
    tunnel::{Link, Recipe, Vpn},
};

/// CPU per byte with AES-256-GCM, as part of OpenVPN's, at most.
const AES: f64 = 1.0 / 5.0;
/// The same with CHACHA20-POLY1305.
const CHACHA: f64 = 1.0 / 3.0;
/// CPU per byte as part of wireguard-go's, at most.
const WIREGUARD: f64 = 1.0 / 2.0;
/// Throughput as multiple of OpenVPN's, at least.
const FASTER: f64 = 3.0;
/// CPU per byte beside OpenVPN at the other end, as part of that one's, at most.
const MIXED: f64 = 1.0 / 3.0;

const CIPHERS: [(&str, f64); 2] = [("AES-256-GCM", AES), ("CHACHA20-POLY1305", CHACHA)];

/// What one recipe came to, each way.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) recipe: Recipe,
    /// Medians, as [`Way::ALL`].
    pub(crate) ways: [Transfer; 2],
}

/// Measures recipes in turn, each way.
pub(crate) fn measure(bench: &mut Bench, recipes: Vec<Recipe>) -> Result<Vec<Row>> {
    let names: Vec<String> = recipes.iter().map(|recipe| shown(bench, recipe)).collect();
    let numbered: Vec<(usize, &Recipe)> = recipes.iter().enumerate().collect();
    let samples = bench.in_turn(
        &numbered,
        |(at, recipe)| format!("{} {}", names[*at], recipe.cipher),
        |bench, (_, recipe)| {
            let mut link = Link::start(&bench.programs, recipe)?;
            let up = transfer(&mut link, &bench.options, Way::Up)?;
            let down = transfer(&mut link, &bench.options, Way::Down)?;
            Ok([up, down])
        },
    )?;
    let median = |list: &[[Transfer; 2]]| [0, 1].map(|way| Transfer::median(list.iter().map(|s| &s[way])));
    Ok(recipes.into_iter().zip(samples).map(|(recipe, list)| Row { recipe, ways: median(&list) }).collect())
}

/// Name of a tunnel, client first.
pub(crate) fn shown(bench: &Bench, recipe: &Recipe) -> String {
    let [server, client] = recipe.ends.map(|vpn| bench.programs.name(vpn));
    if server == client {
        format!("{client} at both ends")
    } else {
        format!("client {client}, server {server}")
    }
}

/// Prints the figures of each recipe.
pub(crate) fn print(bench: &Bench, rows: &[Row]) {
    let mut table = Table::new(&[
        "cipher",
        "way",
        "tunnel",
        "Gbit/s",
        "sender CPU s/GB",
        "receiver CPU s/GB",
        "both iperf3 CPU s/GB",
        "whole machine CPU s/GB",
    ]);
    for (index, way) in Way::ALL.into_iter().enumerate() {
        for row in rows {
            let cipher = if row.recipe.ends[0] == Vpn::WireGuard { "(its own)" } else { row.recipe.cipher };
            let t = row.ways[index];
            table.row([
                cipher.into(),
                way.name().into(),
                shown(bench, &row.recipe),
                figure(t.gbit),
                figure(t.cpu[0]),
                figure(t.cpu[1]),
                figure(t.iperf),
                figure(t.machine),
            ]);
        }
    }
    table.print();
}

/// Holds the CPU per byte of `own` against that of `other`, sender with sender and receiver with receiver.
pub(crate) fn check_cpu(bench: &mut Bench, what: &str, own: &Row, other: &Row, limit: f64) {
    for (index, way) in Way::ALL.into_iter().enumerate() {
        for (end, name) in ["sender", "receiver"].into_iter().enumerate() {
            let ratio = own.ways[index].cpu[end] / other.ways[index].cpu[end];
            let text = format!("{what}, {}: {name}'s CPU per GB", way.name());
            bench.check(text, ratio, Limit::AtMost(limit));
        }
    }
}

/// Part 1.
pub(crate) fn alike(bench: &mut Bench) -> Result<()> {
    let mut recipes = Vec::new();
    for (cipher, _) in CIPHERS {
        recipes.extend([Vpn::Own, Vpn::Real].map(|vpn| Recipe::both(vpn).cipher(cipher)));
    }
    if bench.programs.wireguard.is_some() {
        recipes.push(Recipe::both(Vpn::WireGuard));
    } else {
        println!("wireguard-go: not installed\n");
    }
    let rows = measure(bench, recipes)?;
    print(bench, &rows);
    for (pair, (cipher, limit)) in rows.chunks_exact(2).zip(CIPHERS) {
        let [own, real] = pair else { continue };
        check_cpu(bench, &format!("{cipher}, to openvpn"), own, real, limit);
    }
    for (index, way) in Way::ALL.into_iter().enumerate() {
        let ratio = rows[0].ways[index].gbit / rows[1].ways[index].gbit;
        let text = format!("AES-256-GCM, to openvpn, {}: throughput", way.name());
        bench.check(text, ratio, Limit::AtLeast(FASTER));
    }
    if let [own, _, _, _, wireguard] = &rows[..] {
        check_cpu(bench, "AES-256-GCM, to wireguard-go", own, wireguard, WIREGUARD);
    }
    Ok(())
}

/// Part 2.
pub(crate) fn mixed(bench: &mut Bench) -> Result<()> {
    let mut recipes = Vec::new();
    for (cipher, _) in CIPHERS {
        let pairs = [[Vpn::Real, Vpn::Own], [Vpn::Own, Vpn::Real], [Vpn::Real, Vpn::Real]];
        recipes.extend(pairs.map(|[server, client]| Recipe::new(server, client).cipher(cipher)));
    }
    let rows = measure(bench, recipes)?;
    print(bench, &rows);
    for row in &rows {
        // Who is the client, by the name of the way that it sends.
        let own_is_client = match row.recipe.ends {
            [_, Vpn::Own] => true,
            [Vpn::Own, _] => false,
            _ => continue,
        };
        for (index, way) in Way::ALL.into_iter().enumerate() {
            let own_sends = own_is_client == (way == Way::Up);
            let [sender, receiver] = row.ways[index].cpu;
            let ratio = if own_sends { sender / receiver } else { receiver / sender };
            let text = format!(
                "{}, our {} {}: our CPU to that of openvpn at the other end",
                row.recipe.cipher,
                if own_is_client { "client" } else { "server" },
                if own_sends { "sends" } else { "receives" }
            );
            bench.check(text, ratio, Limit::AtMost(MIXED));
        }
    }
    same_server(&rows);
    Ok(())
}

/// Our client and OpenVPN's, each with the same server, OpenVPN's.
fn same_server(rows: &[Row]) {
    println!("As client of the same server, openvpn:\n");
    let mut table = Table::new(&[
        "cipher, way",
        "oxivpn Gbit/s",
        "openvpn Gbit/s",
        "ratio",
        "oxivpn CPU s/GB",
        "openvpn CPU s/GB",
        "ratio",
    ]);
    for group in rows.chunks_exact(3) {
        for (index, way) in Way::ALL.into_iter().enumerate() {
            let client = |row: &Row| {
                let [sender, receiver] = row.ways[index].cpu;
                if way == Way::Up { sender } else { receiver }
            };
            let (own, real) = (&group[0], &group[2]);
            let gbit = [own, real].map(|row| row.ways[index].gbit);
            let cpu = [own, real].map(client);
            table.row([
                format!("{}, {}", own.recipe.cipher, way.name()),
                figure(gbit[0]),
                figure(gbit[1]),
                figure(gbit[0] / gbit[1]),
                figure(cpu[0]),
                figure(cpu[1]),
                figure(cpu[0] / cpu[1]),
            ]);
        }
    }
    table.print();
}
