//! `oxivpn setup`: what it makes works as it is, for real clients and for this project's.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use oxivpn_tests::{
    client::{Kind, server_program},
    matrix::{Cell, Skip},
    openvpn::{READY, Release},
    ping::Ping,
    process::{Process, command_in, run},
    scenario::CONNECT,
    star::Star,
};

/// How long a server may notice a new revocation list later than it is written, and a bit.
const NOTICE: Duration = Duration::from_millis(1200);

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for proto in ["udp", "tcp"] {
        for release in Release::ALL {
            cells.push(Cell::new(format!("setup::{proto}::{}", release.name()), move || {
                deployed(proto, Some(release))
            }));
        }
        cells.push(Cell::new(format!("setup::{proto}::own"), move || deployed(proto, None)));
    }
    cells
}

struct Deployment<'a> {
    star: &'a Star,
    program: &'a Path,
    client: PathBuf,
    dir: PathBuf,
}

impl Deployment<'_> {
    fn oxivpn(&self, words: &[&str]) -> Result<String> {
        run(&self.program.to_string_lossy(), words)
    }

    /// Runs a profile in a client's namespace; `name` is that of its log.
    fn start(&self, name: &str, profile: &Path) -> Result<Process> {
        let mut command = command_in(self.star.client(0), &self.client);
        command.arg("--config").arg(profile);
        Process::spawn(name, command, &self.star.dir().join(format!("{name}.log")))
    }

    /// Where the new profile of a client is kept from revocation.
    fn saved(&self, name: &str) -> Result<PathBuf> {
        let place = self.star.dir().join(format!("{name}.ovpn"));
        fs::copy(self.dir.join("clients").join(format!("{name}.ovpn")), &place)?;
        Ok(place)
    }
}

/// From nothing to a ping through the tunnel; one more client comes, one is shut out, without a restart.
fn deployed(proto: &str, release: Option<Release>) -> Result<()> {
    let server = server_program()?;
    ensure!(server.kind == Kind::Oxivpn, Skip("only this project has it".into()));
    let client = match release {
        Some(release) => release.program()?.to_owned(),
        None => server.path.clone(),
    };
    let star = Star::new(1)?;
    let it = Deployment { star: &star, program: &server.path, client, dir: star.dir().join("vpn") };
    let dir = it.dir.to_str().context("path")?;
    it.oxivpn(&["setup", dir, "--host", "10.9.0.1", "--proto", proto, "--client", "anna"])?;
    let mut command = command_in(star.server(), &server.path);
    command.arg(it.dir.join("server.conf"));
    let mut serving = Process::spawn("server", command, &star.dir().join("server.log"))?;
    serving.wait_for(READY, CONNECT)?;

    let anna = it.saved("anna")?;
    let mut first = it.start("anna", &anna)?;
    first.wait_for(READY, CONNECT)?;
    Ping::new(star.client(0), "10.8.0.1").all()?;
    drop(first);

    it.oxivpn(&["add-client", dir, "ben"])?;
    it.oxivpn(&["revoke", dir, "anna"])?;
    thread::sleep(NOTICE);
    let mut refused = it.start("anna-again", &anna)?;
    serving
        .wait_for("VERIFY ERROR: depth=0, error=certificate revoked: CN=anna", CONNECT)
        .with_context(|| refused.log())?;
    ensure!(refused.lines(READY)?.is_empty(), "the revoked client came in:\n{}", refused.log());
    ensure!(refused.try_status()?.is_none_or(|status| !status.success()), "it left as if all were well");
    drop(refused);

    let mut second = it.start("ben", &it.saved("ben")?)?;
    second.wait_for(READY, CONNECT).with_context(|| serving.log())?;
    Ping::new(star.client(0), "10.8.0.1").all()?;
    let list = it.oxivpn(&["list-clients", dir])?;
    let states: Vec<_> = list.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>()).collect();
    ensure!(states.len() == 2 && states[0][0] == "ben" && states[0][2] == "valid", "{list}");
    ensure!(states[1][0] == "anna" && states[1][2] == "revoked", "{list}");
    Ok(())
}
