//! Servers with more than one thread for packets, an option of this project's server alone.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    matrix::Cell,
    openvpn::Transport,
    ping::Ping,
    serve::{Guest, Service, Serving, all},
};

use super::addresses::{iroute, udp_and_tcp};
use super::life::{float, server_restarts};

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = vec![
        Cell::new("serve::workers::client-to-client-and-iroute", || iroute(several()?, true)),
        Cell::new("serve::workers::without-client-to-client", || iroute(several()?, false)),
        Cell::new("serve::workers::udp-and-tcp", || udp_and_tcp(several()?)),
        Cell::new("serve::workers::crowd", crowd),
        Cell::new("serve::workers::one-queue", one_queue),
        Cell::new("serve::workers::second-server", second_server),
    ];
    for transport in [Transport::Udp4, Transport::Udp6] {
        let name = format!("serve::workers::float::{}", transport.name());
        cells.push(Cell::new(name, move || float(several()?, transport)));
    }
    for signal in [Signal::SIGUSR1, Signal::SIGHUP] {
        let name = format!("serve::workers::restart::{signal}");
        cells.push(Cell::new(name, move || server_restarts(several()?, Transport::Udp4, signal)));
    }
    cells
}

fn several() -> Result<Service> {
    let service = Service::new()?;
    service.kind_is_own("OpenVPN has one thread")?;
    Ok(service.line("workers 2"))
}

/// Every client reaches every other one, whichever worker has it; and the workers tell what they did.
fn crowd() -> Result<()> {
    let more = (0..6).map(|n| Guest::own(&format!("guest{n}")));
    several()?.line("client-to-client").guests(all()).guests(more).connected(|serving| {
        serving.ping_all()?;
        let names: Vec<String> = serving.visits.iter().map(|visit| visit.name.clone()).collect();
        for (from, to) in names.iter().zip(names.iter().cycle().skip(1)) {
            serving.ping(from, to)?;
            serving.ping_size(from, to, 2_000, true)?;
        }
        // A hundred packets that need a replay window, in order.
        serving.ping_long(100, 0.01)?;
        let [zero, one] = passed(serving)?;
        ensure!(zero > 0 && one > 0, "{zero} and {one} packets: the clients of one worker are all there are");
        serving.stop()
    })
}

/// Packets that each worker has read.
fn passed(serving: &mut Serving) -> Result<[u64; 2]> {
    serving.process()?.signal(Signal::SIGUSR2)?;
    let mut read = |number: usize| -> Result<u64> {
        let line = serving.wait_for(&format!("worker {number}: [0-9]+ packets read, [0-9]+ handed over"))?;
        let words: Vec<_> = line.split_whitespace().skip_while(|word| *word != "worker").collect();
        words.get(2).with_context(|| line.clone())?.parse().with_context(|| line.clone())
    };
    Ok([read(0)?, read(1)?])
}

/// A device that was made with one queue: the log tells of it, and everything works.
fn one_queue() -> Result<()> {
    several()?
        .line("dev tun7")
        .line("client-to-client")
        .prepare(|star| star.ip(star.server(), "tuntap add dev tun7 mode tun").map(drop))
        .guests(all())
        .connected(|serving| {
            serving.wait_for("WARNING: one of the 2 workers reads all packets of tun7")?;
            serving.ping_all()?;
            serving.ping("alice", "bob")?;
            serving.ping("bob", "carol")?;
            serving.ping_long(50, 0.02)?;
            serving.process()?.signal(Signal::SIGTERM).map(drop)
        })
}

/// A second server on the same port is told so, though the first one shares it among its threads.
fn second_server() -> Result<()> {
    several()?.guests(all()).connected(|serving| {
        let log = serving.star.dir().join("second.log");
        let config = serving.star.dir().join("server.ovpn");
        let mut command = oxivpn_tests::process::command_in(serving.star.server(), &serving.spec.program);
        command.arg("--config").arg(&config).args(["--dev", "null"]).current_dir(serving.star.dir());
        let mut second = oxivpn_tests::process::Process::spawn("second", command, &log)?;
        let status = second.wait_exit(core::time::Duration::from_secs(10))?;
        ensure!(status.code() == Some(1), "{status} instead of exit code 1");
        ensure!(!second.lines("Address already in use")?.is_empty(), "{}", second.log());
        let server = serving.address("server", false)?;
        Ping::new(serving.ns("alice")?, &server).all()
    })
}
