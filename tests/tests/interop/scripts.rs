//! Scripts of a client, and what it gives up.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    matrix::Cell,
    netns::{Lab, Side},
    openvpn::Release,
    process::poll,
    scenario::{Scenario, Tunnel},
};

/// Notes what it is called for. Ours and OpenVPN's differ in nothing that it sees.
const NOTE: &str = "#!/bin/sh
echo \"$script_type $script_context $signal $*\" >> \"$dir/noted\"
";

/// All scripts of a client.
const HOOKS: [&str; 6] = ["up", "down", "route-up", "route-pre-down", "ipchange", "tls-verify"];

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells: Vec<Cell> = Cell::for_each_release("scripts::order", order).collect();
    cells.extend(Cell::for_each_release("scripts::order-persist", order_persist));
    cells.extend(Cell::for_each_release("scripts::up-fails", up_fails));
    cells.extend(Cell::for_each_release("scripts::certificate-refused", certificate_refused));
    cells.extend(Cell::for_each_release("scripts::nobody", nobody));
    cells
}

fn script(lab: &Lab, name: &str, text: &str) -> Result<()> {
    let path = lab.dir().join(name);
    fs::write(&path, text)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
}

/// A client that notes all its scripts.
fn noting(release: Release) -> Result<Scenario> {
    let mut scenario = Scenario::new(release)?
        .server("push \"route 192.0.2.0 255.255.255.0\"")
        .client("script-security 2")
        .prepare(|lab| script(lab, "note.sh", &NOTE.replace("$dir", &lab.dir().display().to_string())));
    for hook in HOOKS {
        scenario = scenario.client(format!("{hook} ./note.sh"));
    }
    Ok(scenario)
}

/// What was noted since the last time, with addresses taken out.
fn noted(tunnel: &Tunnel, count: usize) -> Result<Vec<String>> {
    let path = tunnel.lab.dir().join("noted");
    // None any more at the end.
    let address = tunnel.lab.tunnel_address(Side::Client, false)?;
    let read = || -> Vec<String> {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let hide = |line: &str| match &address {
            Some(address) => line.replace(address, "ADDRESS"),
            None => line.to_owned(),
        };
        text.lines().map(|line| hide(line).trim_end().to_owned()).collect()
    };
    poll(Duration::from_secs(5), || Ok((read().len() >= count).then_some(())))?
        .with_context(|| format!("not {count} scripts: {:#?}", read()))?;
    let lines = read();
    fs::remove_file(&path)?;
    Ok(lines)
}

/// Their first words: what was run, in order.
fn kinds(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect()
}

const RISE: [&str; 5] = ["tls-verify", "tls-verify", "ipchange", "up", "route-up"];

fn order(release: Release) -> Result<()> {
    noting(release)?.connected(|tunnel| {
        let lines = noted(tunnel, 5)?;
        ensure!(kinds(&lines) == RISE, "order: {lines:#?}");
        ensure!(
            lines[0].starts_with("tls-verify   1 ") && lines[1].starts_with("tls-verify   0 "),
            "{lines:#?}"
        );
        ensure!(lines[3] == "up init  tun0 1500 0 ADDRESS 255.255.255.0 init", "{lines:#?}");
        tunnel.client.process.signal(Signal::SIGUSR1)?;
        tunnel.wait_connected(2)?;
        let lines = noted(tunnel, 7)?;
        ensure!(kinds(&lines[..2]) == ["route-pre-down", "down"], "order of a restart: {lines:#?}");
        ensure!(kinds(&lines[2..]) == RISE, "order of a restart: {lines:#?}");
        ensure!(lines[1].starts_with("down init sigusr1 tun0 1500 0 "), "{lines:#?}");
        tunnel.leave()?;
        let lines = noted(tunnel, 2)?;
        ensure!(kinds(&lines) == ["route-pre-down", "down"], "order at the end: {lines:#?}");
        Ok(())
    })
}

fn order_persist(release: Release) -> Result<()> {
    let scenario = noting(release)?.client("persist-tun").client("up-restart").client("down-pre");
    scenario.connected(|tunnel| {
        noted(tunnel, 5)?;
        tunnel.client.process.signal(Signal::SIGUSR1)?;
        tunnel.wait_connected(2)?;
        let lines = noted(tunnel, 5)?;
        ensure!(
            kinds(&lines) == ["down", "tls-verify", "tls-verify", "ipchange", "up"],
            "order of a restart: {lines:#?}"
        );
        ensure!(lines[0] == "down restart sigusr1 tun0 1500 0 ADDRESS 255.255.255.0 restart", "{lines:#?}");
        ensure!(lines[4].ends_with("ADDRESS 255.255.255.0 restart"), "{lines:#?}");
        tunnel.leave()
    })
}

/// A tunnel whose `up` fails is no tunnel, and leaves nothing behind.
fn up_fails(release: Release) -> Result<()> {
    Scenario::new(release)?.client("script-security 2").client("up /bin/false").started(|tunnel| {
        let process = &mut tunnel.client.process;
        process.wait_for("Exiting due to fatal error", Duration::from_secs(20))?;
        let status = process.wait_exit(Duration::from_secs(5))?;
        ensure!(status.code() == Some(1), "ended with {status}");
        let line = r"Failed running command \(--up/--down\): external program exited with error status: 1";
        ensure!(!process.lines(line)?.is_empty(), "the log does not say why");
        tunnel.host_as_before()
    })
}

/// No password reaches a server that the script refuses.
fn certificate_refused(release: Release) -> Result<()> {
    super::tunnel::with_verify_script(Scenario::new(release)?)
        .client("auth-user-pass credentials")
        .client("script-security 2")
        .client("tls-verify ./refuse.sh")
        .prepare(|lab| {
            fs::write(lab.dir().join("credentials"), "alice\ncorrect horse\n")?;
            script(lab, "refuse.sh", "#!/bin/sh\n[ \"$1\" != 0 ]\n")
        })
        .started(|tunnel| {
            tunnel.client.process.wait_for("VERIFY SCRIPT ERROR: depth=0", Duration::from_secs(20))?;
            let process = &mut tunnel.client.process;
            process.wait_for(r"SIGUSR1\[soft,tls-error\]", Duration::from_secs(70))?;
            ensure!(process.lines("Initialization Sequence Completed")?.is_empty(), "it connected");
            let known = tunnel.server()?.process.lines("alice")?;
            ensure!(known.is_empty(), "the server learned the user name: {known:?}");
            Ok(())
        })
}

/// Another user keeps the right to take routes back, and nothing else.
fn nobody(release: Release) -> Result<()> {
    let scenario = Scenario::new(release)?.server("push \"route 192.0.2.0 255.255.255.0\"");
    scenario.client("user nobody").client("group nogroup").client("persist-tun").connected(|tunnel| {
        let text = fs::read_to_string(format!("/proc/{}/status", tunnel.client.process.id()))?;
        let field = |word: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        ensure!(field("Uid:") == ["65534"; 4] && field("Gid:") == ["65534"; 4], "{text}");
        ensure!(field("CapEff:") == ["0000000000001000"], "capabilities: {:?}", field("CapEff:"));
        tunnel.client.process.signal(Signal::SIGUSR1)?;
        tunnel.wait_connected(2)?;
        tunnel.ping_both_ways()?;
        tunnel.leave()
    })
}
