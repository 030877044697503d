//! Renegotiations, restarts of either end, changes of address, words of farewell.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    client::Kind,
    matrix::Cell,
    openvpn::{Release, Transport, Wrap},
    ping::Ping,
    process::poll,
    scenario::CONNECT,
    serve::{Guest, Service, Serving, all, both},
    star::{client_v4, client_v6},
};

/// Renegotiations of each client that must have happened.
const TIMES: usize = 4;

/// Where both ends are ours a key takes over after ten seconds, and the next negotiation waits for that.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for by_server in [true, false] {
        let by = if by_server { "by-server" } else { "by-client" };
        for wrap in Wrap::ALL {
            let name = format!("serve::renegotiation::{by}::{}::udp4", wrap.name());
            cells.push(Cell::new(name, move || renegotiation(by_server, wrap, Transport::Udp4)));
        }
        let name = format!("serve::renegotiation::{by}::tls-crypt::tcp4");
        cells.push(Cell::new(name, move || renegotiation(by_server, Wrap::TlsCrypt, Transport::Tcp4)));
    }
    for transport in [Transport::Udp4, Transport::Tcp4] {
        let name = |what: &str| format!("serve::{what}::{}", transport.name());
        cells.push(Cell::new(name("server-killed"), move || server_killed(transport)));
        cells.push(Cell::new(name("server-leaves"), move || server_leaves(transport)));
        cells.push(Cell::new(name("server-told-to-restart::usr1"), move || {
            server_restarts(Service::new()?, transport, Signal::SIGUSR1)
        }));
        cells.push(Cell::new(name("client-restarts"), move || client_restarts(transport)));
        cells.push(Cell::new(name("client-leaves"), move || client_leaves(transport)));
        cells.push(Cell::new(name("client-killed"), move || client_killed(transport)));
    }
    cells.push(Cell::new("serve::server-told-to-restart::hup", || {
        server_restarts(Service::new()?, Transport::Udp4, Signal::SIGHUP)
    }));
    for wrap in [Wrap::None, Wrap::TlsAuthDirection, Wrap::TlsCrypt, Wrap::TlsCryptV2] {
        cells.push(Cell::new(format!("serve::same-port-again::{}", wrap.name()), move || same_port(wrap)));
    }
    for transport in [Transport::Udp4, Transport::Udp6] {
        cells.push(Cell::new(format!("serve::float::{}", transport.name()), move || {
            float(Service::new()?, transport)
        }));
    }
    cells.push(Cell::new("serve::idle", idle));
    cells.push(Cell::new("serve::inactive", inactive));
    cells.push(Cell::new("serve::session-timeout", session_timeout));
    cells
}

/// New keys every four seconds while 100 pings run, none of which may be lost.
fn renegotiation(by_server: bool, wrap: Wrap, transport: Transport) -> Result<()> {
    let (server, client) = if by_server { (4, 0) } else { (0, 4) };
    let service =
        Service::new()?.wrap(wrap).transport(transport).line(format!("reneg-sec {server} {server}"));
    service.guests(all()).each(&format!("reneg-sec {client} {client}")).connected(|serving| {
        serving.ping_long(100, 0.2)?;
        for visit in &mut serving.visits {
            let process = visit.process()?;
            process.wait_for_count("Control Channel: TLSv", TIMES + 1, PATIENCE)?;
            visit.connected_times(1)?;
        }
        serving.ping_long(20, 0.05)
    })
}

/// Three clients find their way back to a server that died without a word.
fn server_killed(transport: Transport) -> Result<()> {
    Service::new()?.transport(transport).line("keepalive 1 4").guests(all()).connected(|serving| {
        serving.ping_all()?;
        serving.server = None;
        serving.start()?;
        serving.wait_connected(2)?;
        serving.ping_all()
    })
}

/// A server that ends tells its clients, which return long before their keepalive would make them.
fn server_leaves(transport: Transport) -> Result<()> {
    let service = Service::new()?.transport(transport).line("keepalive 10 120");
    service.line("explicit-exit-notify 1").guests(all()).connected(|serving| {
        serving.ping_all()?;
        serving.stop()?;
        serving.start()?;
        serving.wait_connected(2)?;
        serving.ping_all()
    })
}

/// The server starts again in the same process.
pub(super) fn server_restarts(service: Service, transport: Transport, signal: Signal) -> Result<()> {
    let service = service.transport(transport).line("keepalive 1 4").line("explicit-exit-notify 1");
    service.guests(all()).connected(|serving| {
        serving.ping_all()?;
        serving.process()?.signal(signal)?;
        serving.process()?.wait_for_count(oxivpn_tests::openvpn::READY, 2, Duration::from_secs(10))?;
        serving.wait_connected(2)?;
        serving.ping_all()?;
        serving.stop()
    })
}

fn client_restarts(transport: Transport) -> Result<()> {
    Service::new()?.transport(transport).guests(all()).connected(|serving| {
        for times in 2..=3 {
            for visit in &mut serving.visits {
                visit.process()?.signal(Signal::SIGUSR1)?;
            }
            serving.wait_connected(times)?;
            serving.ping_all()?;
        }
        Ok(())
    })
}

/// The server hears at once who leaves.
fn client_leaves(transport: Transport) -> Result<()> {
    let service = Service::new()?.transport(transport).line("keepalive 10 120");
    let service = service.line("client-disconnect ./gone.sh").script("gone.sh", "echo $common_name >> gone");
    service.guests(all()).each("explicit-exit-notify 1").connected(|serving| {
        serving.ping_all()?;
        let file = serving.star.dir().join("gone");
        for name in ["alice", "bob", "carol"] {
            serving.visit(name)?.process()?.signal(Signal::SIGTERM)?;
            let gone = || std::fs::read_to_string(&file).unwrap_or_default().lines().any(|l| l == name);
            poll(Duration::from_secs(8), || Ok(gone().then_some(())))?
                .with_context(|| format!("the server did not notice that {name} left"))?;
        }
        Ok(())
    })
}

/// A client that died is forgotten after `ping-restart`, and one that comes back is served.
fn client_killed(transport: Transport) -> Result<()> {
    Service::new()?.transport(transport).line("keepalive 1 3").guests(all()).connected(|serving| {
        serving.ping_all()?;
        for visit in &mut serving.visits {
            visit.kill();
        }
        if transport == Transport::Udp4 {
            let line = "(?i)Inactivity timeout \\(--ping-restart\\)";
            serving.process()?.wait_for_count(line, 3, Duration::from_secs(20))?;
        }
        for visit in &mut serving.visits {
            visit.start()?;
        }
        serving.wait_connected(2)?;
        serving.ping_all()
    })
}

/// A client that died comes back at once from the same address and port, while its old session still lives.
fn same_port(wrap: Wrap) -> Result<()> {
    let service = Service::new()?.wrap(wrap).line("keepalive 10 120").guests(all());
    // OpenVPN answers the second PUSH_REQUEST of what it takes for one client only half a minute after the first.
    let patience = Duration::from_secs(if service.kind() == Kind::Oxivpn { 12 } else { 60 });
    service.each("!nobind").each("lport 5000").connected(move |serving| {
        serving.ping_all()?;
        for visit in &mut serving.visits {
            visit.kill();
            visit.start()?;
        }
        for visit in &mut serving.visits {
            visit.process()?.wait_for_count(oxivpn_tests::openvpn::READY, 2, patience)?;
        }
        serving.ping_all()
    })
}

/// Every client's host gets another address; the tunnel goes on without a new handshake.
pub(super) fn float(service: Service, transport: Transport) -> Result<()> {
    service.transport(transport).line("keepalive 1 30").guests(all()).connected(|serving| {
        serving.ping_all()?;
        let server = serving.address("server", false)?;
        for index in 0..serving.visits.len() {
            let ns = serving.visits[index].ns.clone();
            let seen = if transport == Transport::Udp6 {
                serving.star.ip(&ns, &format!("addr add fd09::{}/64 dev eth0 nodad", 31 + index))?;
                serving.star.ip(&ns, &format!("addr del {}/64 dev eth0", client_v6(index)))?;
                format!("fd09::{}", 31 + index)
            } else {
                serving.star.ip(&ns, &format!("addr add 10.9.0.{}/24 dev eth0", 31 + index))?;
                // The new address must not vanish with the old one, whose secondary it is.
                serving.star.exec(&ns, &["sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1"])?;
                serving.star.ip(&ns, &format!("addr del {}/24 dev eth0", client_v4(index)))?;
                format!(r"10\.9\.0\.{}", 31 + index)
            };
            let one = Ping { count: 1, ..Ping::new(&ns, &server) };
            // A ping or two may be lost while both ends learn of it.
            poll(Duration::from_secs(15), || Ok((one.lost()? == 0).then_some(())))?
                .context("nothing passes after the change of address")?;
            serving.wait_for(&format!("(?i)float.*{seen}"))?;
        }
        serving.ping_all()?;
        serving.visits.iter_mut().try_for_each(|visit| visit.connected_times(1))
    })
}

/// Nothing but keepalive pings for longer than `ping-restart`: nobody gives up.
fn idle() -> Result<()> {
    Service::new()?.line("keepalive 1 3").guests(all()).connected(|serving| {
        // Time that passes is what is tested here.
        std::thread::sleep(Duration::from_secs(8));
        for visit in &mut serving.visits {
            visit.connected_times(1)?;
        }
        let lines = serving.process()?.lines("Inactivity timeout|ping-restart\\), restarting")?;
        ensure!(lines.is_empty(), "the server gave up: {lines:?}");
        serving.ping_all()
    })
}

/// The server puts out who sends too little.
fn inactive() -> Result<()> {
    let service = Service::new()?.line("inactive 4 100000").guests(both()).line("keepalive 1 30");
    service.connected(|serving| {
        serving.ping_all()?;
        serving.process()?.wait_for_count("(?i)Inactivity timeout \\(--inactive\\)", 2, CONNECT).map(drop)
    })
}

/// `session-timeout` in a client's own file ends it, whatever it sends.
fn session_timeout() -> Result<()> {
    let newer = Guest::real(Release::Newer, "bob");
    let service =
        Service::new()?.line("client-config-dir ccd").file("ccd/DEFAULT", "push \"session-timeout 4\"\n");
    service.guest(newer).connected(|serving: &mut Serving| {
        serving.ping_all()?;
        let visit = serving.visit("bob")?;
        ensure!(visit.program.kind == Kind::OpenVpn { newer: true }, "not the newer client");
        visit.wait_for("(?i)session.timeout").map(drop)
    })
}
