//! Point to point, both roles, with real peers and with ourselves.

use std::{env, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use oxivpn_tests::{
    certs::{KeyKind, Pki},
    client,
    matrix::Cell,
    netns::SERVER_V4,
    openvpn::{READY, Release, Transport, Wrap},
    pair::{INSIDE, Pair, Plan, Player},
    ping::Ping,
    process::{Process, command_in, poll},
    scenario::CONNECT,
    serve::passes,
    star::{Star, client_v4},
};
use regex::Regex;

/// Each end by us at least once.
const PAIRS: [(Player, Player); 5] = [
    (Player::Own, Player::Own),
    (Player::Own, Player::Real(Release::Distribution)),
    (Player::Own, Player::Real(Release::Newer)),
    (Player::Real(Release::Distribution), Player::Own),
    (Player::Real(Release::Newer), Player::Own),
];

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = vec![Cell::new("peer::loopback", loopback)];
    for (server, client) in PAIRS {
        let name = |what: &str| format!("peer::{what}::{}-serves-{}", server.name(), client.name());
        cells.push(Cell::new(name("renegotiation"), move || renegotiation(server, client)));
        cells.push(Cell::new(name("restarts"), move || restarts(server, client)));
        for wrap in Wrap::ALL {
            cells.push(Cell::new(name(wrap.name()), move || {
                Plan::new(server, client).wrap(wrap).started(works)
            }));
        }
        for transport in [Transport::Udp6, Transport::Tcp4] {
            cells.push(Cell::new(name(transport.name()), move || {
                Plan::new(server, client).transport(transport).wrap(Wrap::TlsCrypt).started(works)
            }));
        }
        for line in ["comp-lzo no", "compress stub", "compress stub-v2"] {
            cells.push(Cell::new(name(&line.replace(' ', "-")), move || {
                Plan::new(server, client).server(line).client(line).started(works)
            }));
        }
        cells.push(Cell::new(name("cipher"), move || cipher(server, client)));
        cells.push(Cell::new(name("both-with-remote"), move || both_with_remote(server, client)));
    }
    cells
}

fn works(pair: &mut Pair) -> Result<()> {
    pair.wait_both(READY, 1, CONNECT)?;
    negotiated(pair, "AES-256-GCM")?;
    pair.ping_both_ways()?;
    pair.leave(1)?;
    pair.leave(0)
}

/// Both ends print what they agreed on, and it is the same.
fn negotiated(pair: &mut Pair, cipher: &str) -> Result<()> {
    let line = "P2P mode NCP negotiation result: ";
    let found = pair.wait_both(line, 1, Duration::from_secs(5))?;
    // Releases since 2.7 also say whether the keys have epochs; two that do have a peer-id for each direction.
    let regex = Regex::new("peer-id [0-9]+, epoch=1, ")?;
    let [ours, theirs] = found.map(|lines| {
        let rest = lines[0].split(line).nth(1).unwrap_or_default();
        regex.replace(rest, "peer-id X, ").replace("epoch=0, ", "")
    });
    ensure!(ours == theirs, "one end has {ours}, the other {theirs}");
    ensure!(ours.starts_with("TLS_export=1, DATA_v2=1, peer-id "), "negotiated: {ours}");
    ensure!(ours.contains(&format!("cipher={cipher}")), "negotiated: {ours}");
    Ok(())
}

/// The `tls-server`'s order of preference.
fn cipher(server: Player, client: Player) -> Result<()> {
    let plan = Plan::new(server, client).server("data-ciphers CHACHA20-POLY1305:AES-128-GCM");
    plan.client("data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305").started(|pair| {
        pair.wait_both(READY, 1, CONNECT)?;
        negotiated(pair, "CHACHA20-POLY1305")?;
        pair.ping_both_ways()
    })
}

/// Both know the other's address and port.
fn both_with_remote(server: Player, client: Player) -> Result<()> {
    let plan = Plan::new(server, client).server(format!("remote {} 1195", client_v4(0)));
    plan.client("!nobind").client("lport 1195").client(format!("remote {SERVER_V4} 1194")).started(works)
}

fn renegotiation(server: Player, client: Player) -> Result<()> {
    Plan::new(server, client).server("reneg-sec 4 4").client("reneg-sec 0").started(|pair| {
        pair.wait_both(READY, 1, CONNECT)?;
        Ping { count: 75, interval: 0.2, ..Ping::new(pair.ns(1), INSIDE[0]) }.all()?;
        pair.wait_both("Control Channel: TLSv", 4, Duration::from_secs(10))?;
        pair.ping_both_ways()
    })
}

/// Either end dies and comes back.
fn restarts(server: Player, client: Player) -> Result<()> {
    Plan::new(server, client).started(|pair| {
        pair.wait_both(READY, 1, CONNECT)?;
        pair.ping_both_ways()?;
        for end in [0, 1] {
            pair.kill(end);
            pair.start(end)?;
            // The end that stayed starts anew when it misses the other's pings, or at once.
            let inside = [INSIDE[0], INSIDE[1]];
            // Its next attempt may come a minute after the first: OpenVPN takes no other address before it misses pings.
            poll(6 * CONNECT, || {
                let ways = [(0, inside[1]), (1, inside[0])];
                let through = ways.iter().map(|(from, to)| passes(pair.ns(*from), to));
                Ok(through.collect::<Result<Vec<_>>>()?.iter().all(|&through| through).then_some(()))
            })?
            .with_context(|| format!("nothing passes after end {end} was killed and started"))?;
            pair.ping_both_ways()?;
        }
        Ok(())
    })
}

/// Two ends on one host without any device, new keys all the time, no key lost; both end by `inactive`.
///
/// 25 seconds with new keys every 5; with `OXIVPN_TEST_LONG=1` two minutes with new keys every 10.
fn loopback() -> Result<()> {
    let long = env::var_os("OXIVPN_TEST_LONG").is_some_and(|v| v == "1");
    let (seconds, renegotiation, times) = if long { (120, 10, 11) } else { (25, 5, 3) };
    let star = Star::new(0)?;
    let pki = Pki::new(KeyKind::EcdsaP256)?;
    let wrap = Wrap::TlsAuthDirection.generate(&star.dir().join("keys"))?;
    let mut processes = Vec::new();
    for (role, local, remote, identity, key) in [
        ("tls-server", 16_000, 16_001, &pki.server, &wrap.server),
        ("tls-client", 16_001, 16_000, &pki.client, &wrap.client),
    ] {
        let text = format!(
            "{role}\ndev null\nproto udp4\nlocal 127.0.0.1\nremote 127.0.0.1\nlport {local}\nrport {remote}\n\
             ca {}\ncert {}\nkey {}\ndh none\nreneg-sec {renegotiation} {renegotiation}\nping 1\n\
             inactive {seconds} 10000000\nverb 4\n{}\n",
            pki.ca.display(),
            identity.cert.display(),
            identity.key.display(),
            key.join("\n")
        );
        // A client without Diffie-Hellman parameters has no such option.
        let text = if role == "tls-client" { text.replace("dh none\n", "") } else { text };
        let config = star.dir().join(format!("{role}.ovpn"));
        fs::write(&config, text)?;
        let program = if role == "tls-server" { client::server_program()? } else { client::program()? };
        let mut command = command_in(star.server(), &program.path);
        command.arg("--config").arg(&config);
        processes.push(Process::spawn(role, command, &star.dir().join(format!("{role}.log")))?);
    }
    let mut logs = String::new();
    let mut result = Ok(());
    for process in &mut processes {
        let ended = process.wait_exit(Duration::from_secs(seconds + 30));
        logs += &format!("-----\n{}", oxivpn_tests::openvpn::without_settings(&process.log()));
        let checked = ended.and_then(|status| {
            ensure!(status.code() == Some(0), "ended with {status}");
            process.wait_for("(?i)inactivity timeout \\(--inactive\\)", Duration::ZERO)?;
            process.wait_for_count("Control Channel: TLSv", times, Duration::ZERO)?;
            let bad = process
                .lines("(?i)(TLS Error|decrypt error|failed to occur|restarting|unroutable|no key)")?;
            ensure!(bad.is_empty(), "lost: {bad:?}");
            Ok(())
        });
        result = result.and(checked);
    }
    result.map_err(|e| anyhow::anyhow!("{e:#}\n{logs}"))
}
