//! Part 5: compression framing and TCP below the tunnel beside OpenVPN, and the formats of data packets beside each
//! other.

use std::time::Duration;

use anyhow::{Result, ensure};
use oxivpn_tests::{
    client::Program,
    openvpn::{Release, Transport},
    stats::median,
};

use super::{
    Bench,
    datagrams::{Packets, send},
    paced::Offer,
    stream::{Transfer, Way, transfer},
    streams::{self, check_cpu},
    table::{Limit, Table, figure, percent},
    tunnel::{Link, Recipe, Vpn},
};

/// CPU per byte as part of OpenVPN's, at most.
const CPU: f64 = 1.0 / 3.0;

/// CPU of other formats as multiple of that of P_DATA_V2, at most.
const NEAR: f64 = 1.05;

/// How often the formats are compared, for each run of the other parts.
const ROUNDS: usize = 3;

/// Inner packets as large as P_DATA_V2 has them without this line. Those of other formats would be a few bytes longer or
/// shorter, and no multiple of the 96 bytes that AES-GCM takes at once, which is the cipher's affair.
const SAME_SIZE: &str = "mssfix 1440 fixed";

/// Datagrams per second of the comparison with OpenVPN at the other end.
const RATE: u32 = 20_000;

pub(crate) fn part(bench: &mut Bench) -> Result<()> {
    let configurations =
        [("`comp-lzo no`", vec!["comp-lzo no"], Transport::Udp4), ("TCP transport", vec![], Transport::Tcp4)];
    for (title, lines, transport) in configurations {
        println!("### {title}\n");
        let recipes = [Vpn::Own, Vpn::Real].map(|vpn| {
            let recipe = Recipe::both(vpn).transport(transport);
            lines.iter().fold(recipe, |recipe, &line| recipe.line(line))
        });
        let rows = streams::measure(bench, recipes.to_vec())?;
        streams::print(bench, &rows);
        if let [own, real] = &rows[..] {
            check_cpu(bench, &format!("{title}, to openvpn"), own, real, CPU);
        }
    }
    println!("### Formats of data packets\n");
    own_formats(bench)?;
    by_peer(bench)
}

/// A format that two ends of ours use with this line in both profiles.
struct Format {
    name: &'static str,
    line: Option<String>,
    /// Whether keys have epochs, and whether packets name a peer.
    epoch: bool,
    peer: bool,
}

impl Format {
    /// A tunnel with this format.
    fn link(&self, bench: &Bench) -> Result<Link> {
        let recipe = Recipe::both(Vpn::Own).line(SAME_SIZE);
        let recipe = self.line.iter().fold(recipe, |recipe, line| recipe.line(line));
        let mut link = Link::start(&bench.programs, &recipe)?;
        self.agreed(&link.client_log())?;
        Ok(link)
    }

    /// Fails if the client has agreed on another one, which its log tells.
    fn agreed(&self, log: &str) -> Result<()> {
        let data = log.lines().rfind(|line| line.contains("Data Channel: cipher")).unwrap_or_default();
        let epoch = log.lines().any(|line| line.contains("protocol-flags") && line.contains("aead-epoch"));
        let peer = data.contains("peer-id");
        ensure!(
            (epoch, peer) == (self.epoch, self.peer),
            "not {}: the client's log tells epochs: {epoch}, peer-id: {peer}",
            self.name
        );
        Ok(())
    }
}

/// oxivpn at both ends.
fn own_formats(bench: &mut Bench) -> Result<()> {
    let options = &bench.options;
    let formats = [
        Format { name: "P_DATA_V2", line: options.v2.clone(), epoch: false, peer: true },
        Format { name: "P_DATA_V1", line: options.v1.clone(), epoch: false, peer: false },
        Format { name: "epoch", line: None, epoch: true, peer: true },
    ];
    let (formats, without): (Vec<_>, Vec<_>) =
        formats.into_iter().partition(|format| format.epoch || format.line.is_some());
    for format in &without {
        println!(
            "{}, oxivpn at both ends: skipped. Two ends of oxivpn agree on epoch keys; no profile line that \
             changes this was given (`--v1`, `--v2`).\n",
            format.name
        );
    }
    if !formats.iter().any(|format| format.name == "P_DATA_V2") {
        return Ok(());
    }
    let mut samples: Vec<Vec<[Transfer; 2]>> = formats.iter().map(|_| Vec::new()).collect();
    let mut order: Vec<usize> = (0..formats.len()).collect();
    for _ in 0..bench.options.runs {
        // Where a process has its memory makes a difference of a few hundredths, so there are several of each.
        let mut links = formats.iter().map(|format| format.link(bench)).collect::<Result<Vec<_>>>()?;
        for _ in 0..ROUNDS {
            for &at in &order {
                let link = &mut links[at];
                let up = transfer(link, &bench.options, Way::Up)?;
                samples[at].push([up, transfer(link, &bench.options, Way::Down)?]);
            }
            order.rotate_left(1);
        }
    }
    let mut table = Table::new(&[
        "format",
        "way",
        "Gbit/s",
        "sender CPU s/GB",
        "receiver CPU s/GB",
        "both iperf3 CPU s/GB",
    ]);
    for (index, way) in Way::ALL.into_iter().enumerate() {
        for (list, format) in samples.iter().zip(&formats) {
            let t = Transfer::median(list.iter().map(|pair| &pair[index]));
            let figures = [t.gbit, t.cpu[0], t.cpu[1], t.iperf].map(figure);
            table.row([format.name.to_owned(), way.name().to_owned()].into_iter().chain(figures));
        }
    }
    table.print();
    // Both ends together, and each transfer beside the one of the same round: less than the machine's own ups and downs
    // is to be seen.
    let cpu = |t: &Transfer| t.cpu[0] + t.cpu[1];
    for (list, format) in samples.iter().zip(&formats).skip(1) {
        let pairs = list.iter().flatten().zip(samples[0].iter().flatten());
        let ratio = median(pairs.map(|(one, v2)| cpu(one) / cpu(v2)));
        let text = format!("{} to P_DATA_V2, both ends and ways: CPU per GB", format.name);
        bench.check(text, ratio, Limit::AtMost(NEAR));
    }
    Ok(())
}

/// OpenVPN at the other end, whose release decides on the format. The same rate for both, so that the other end's pace
/// does not matter as much; no requirement is held against it.
fn by_peer(bench: &mut Bench) -> Result<()> {
    match Release::Newer.program() {
        Ok(path) => bench.programs.newer = Some(Program::at(path.to_owned())?),
        Err(error) => {
            println!("Beside OpenVPN: skipped, as there is no newer openvpn: {error:#}\n");
            return Ok(());
        }
    }
    let duration = Duration::from_secs(u64::from(bench.options.seconds));
    let what = Offer { rate: RATE, size: 1400, duration };
    let formats = [
        (Vpn::Real, Format { name: "P_DATA_V2", line: None, epoch: false, peer: true }),
        (Vpn::Newer, Format { name: "epoch", line: None, epoch: true, peer: true }),
    ];
    let samples = bench.in_turn(
        &formats,
        |(_, format)| format!("{} beside OpenVPN", format.name),
        |bench, (vpn, format)| {
            let mut link = Link::start(&bench.programs, &Recipe::new(*vpn, Vpn::Own))?;
            format.agreed(&link.client_log())?;
            send(&mut link, what)
        },
    )?;
    println!(
        "Our client beside a server of OpenVPN, whose release decides on the format: {} datagrams of {} bytes \
         per s from the client's host. To tell the order only: the other end differs.\n",
        what.rate, what.size
    );
    let mut table = Table::new(&["format", "server", "our CPU, us each", "lost"]);
    let rows: Vec<Packets> = samples.iter().map(|list| Packets::median(list.iter())).collect();
    for (row, (vpn, format)) in rows.iter().zip(&formats) {
        table.row([
            format.name.into(),
            bench.programs.name(*vpn).to_owned(),
            figure(row.micros[0]),
            percent(row.loss),
        ]);
    }
    table.print();
    println!("Ratio epoch to P_DATA_V2: {}\n", figure(rows[1].micros[0] / rows[0].micros[0]));
    Ok(())
}
