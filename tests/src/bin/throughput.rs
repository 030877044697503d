//! Measures a tunnel between two namespaces with `iperf3`: this project's client and the real one in turn, each against
//! the same real server.
//!
//! `cargo run --release -p oxivpn-tests --bin throughput` (as root). Options: `--quick` measures once, `--runs N` and
//! `--seconds N` set the effort, `--newer` takes the newer server, `--client PATH` another client to compare.

use std::{env, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use oxivpn_tests::{
    client::{Program, build},
    matrix::available,
    netns::Side,
    openvpn::{Release, version},
    process::{Process, command_in, output_in},
    scenario::{Scenario, Tunnel},
    stats::median,
};
use serde_json::Value;

/// What a run of one client shows.
#[derive(Clone, Copy, Debug)]
struct Sample {
    gbit_per_second: f64,
    /// CPU seconds of the client's process per 10^9 bytes of payload.
    client_cpu: f64,
    /// The same for the server's process.
    server_cpu: f64,
}

struct Effort {
    runs: usize,
    seconds: u32,
    release: Release,
    client: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Upload,
    Download,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let effort = arguments()?;
    available()?;
    let ours = match &effort.client {
        Some(path) => path.clone(),
        None => build(true)?,
    };
    let real = effort.release.program()?;
    println!("server, and client to compare with: {} ({})", real.display(), version(real)?);
    println!("client: {}", ours.display());
    println!("{} runs of {} s each way, in turn; medians\n", effort.runs, effort.seconds);
    println!("cipher             way       client    Gbit/s   client CPU s/GB   server CPU s/GB");

    for cipher in ["AES-256-GCM", "CHACHA20-POLY1305"] {
        for way in [Way::Upload, Way::Download] {
            let mut samples = [Vec::new(), Vec::new()];
            for _ in 0..effort.runs {
                for (samples, path) in samples.iter_mut().zip([&ours, &real.to_path_buf()]) {
                    samples.push(measure(&effort, path, cipher, way)?);
                }
            }
            report(cipher, way, &samples);
        }
    }
    Ok(())
}

fn arguments() -> Result<Effort> {
    let mut effort = Effort { runs: 5, seconds: 4, release: Release::Distribution, client: None };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => effort.runs = 1,
            "--runs" => effort.runs = value()?.parse().context("--runs")?,
            "--seconds" => effort.seconds = value()?.parse().context("--seconds")?,
            "--newer" => effort.release = Release::Newer,
            "--client" => effort.client = Some(value()?.into()),
            other => {
                bail!("unknown option {other}; known: --quick --runs N --seconds N --newer --client PATH")
            }
        }
    }
    ensure!(effort.runs > 0 && effort.seconds > 0, "--runs and --seconds must be above 0");
    Ok(effort)
}

fn measure(effort: &Effort, client: &std::path::Path, cipher: &str, way: Way) -> Result<Sample> {
    let mut sample = None;
    let scenario = Scenario::new(effort.release)?.program(Program::at(client.to_owned())?);
    // Renegotiation and logging as in an ordinary configuration.
    let scenario = scenario.server(format!("data-ciphers {cipher}")).server("verb 3").client("verb 3");
    scenario.connected(|tunnel| {
        sample = Some(transfer(tunnel, effort.seconds, way)?);
        Ok(())
    })?;
    sample.context("no sample")
}

fn transfer(tunnel: &mut Tunnel, seconds: u32, way: Way) -> Result<Sample> {
    let address = tunnel.address(Side::Server, false)?;
    let mut listen = command_in(tunnel.lab.ns(Side::Server), "iperf3");
    listen.args(["--server", "--one-off", "--forceflush", "--bind", &address]);
    let mut server = Process::spawn("iperf3", listen, &tunnel.lab.dir().join("iperf3.log"))?;
    server.wait_for("Server listening", Duration::from_secs(5))?;

    let before = (tunnel.client.process.cpu()?, tunnel.server()?.process.cpu()?);
    let duration = seconds.to_string();
    let mut argv = vec!["iperf3", "--client", &address, "--time", &duration, "--json"];
    if way == Way::Download {
        argv.push("--reverse");
    }
    let output = output_in(tunnel.lab.ns(Side::Client), &argv)?;
    let after = (tunnel.client.process.cpu()?, tunnel.server()?.process.cpu()?);

    let text = String::from_utf8_lossy(&output.stdout);
    let json: Value = serde_json::from_str(&text).with_context(|| format!("iperf3: {text}"))?;
    let received = &json["end"]["sum_received"];
    let bits = received["bits_per_second"].as_f64().with_context(|| format!("iperf3: {}", json["error"]))?;
    let gigabytes = received["bytes"].as_f64().context("iperf3 shows no bytes")? / 1e9;
    ensure!(gigabytes > 0.0, "nothing was transferred");
    let per_gigabyte = |after: Duration, before: Duration| (after - before).as_secs_f64() / gigabytes;
    Ok(Sample {
        gbit_per_second: bits / 1e9,
        client_cpu: per_gigabyte(after.0, before.0),
        server_cpu: per_gigabyte(after.1, before.1),
    })
}

fn report(cipher: &str, way: Way, samples: &[Vec<Sample>; 2]) {
    let way = if way == Way::Upload { "upload" } else { "download" };
    let [ours, real] = samples.each_ref().map(|list| Sample {
        gbit_per_second: median(list.iter().map(|s| s.gbit_per_second)),
        client_cpu: median(list.iter().map(|s| s.client_cpu)),
        server_cpu: median(list.iter().map(|s| s.server_cpu)),
    });
    for (name, s) in [("oxivpn", ours), ("openvpn", real)] {
        println!(
            "{cipher:<18} {way:<9} {name:<8} {:>7.3} {:>17.2} {:>17.2}",
            s.gbit_per_second, s.client_cpu, s.server_cpu
        );
    }
    println!(
        "{cipher:<18} {way:<9} {:<8} {:>7.2} {:>17.2} {:>17.2}\n",
        "ratio",
        ours.gbit_per_second / real.gbit_per_second,
        ours.client_cpu / real.client_cpu,
        ours.server_cpu / real.server_cpu
    );
}
