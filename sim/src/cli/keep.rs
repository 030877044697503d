//! What is kept of a run: packets, events, a page.

use core::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use oxivpn_sim::plan::{Built, Plan};
use oxivpn_sim::report::{Head, html, pcap, text};
use oxivpn_sim::shrink::{Simpler, reduced};
use oxivpn_sim::storm::Outcome;
use oxivpn_sim::trace::Keep;

use super::{Error, args::ranges, crowd::play};

/// Which code runs: the commit of the checkout that it was built from, if it is still there, else the version.
pub(super) fn commit() -> String {
    let mut git = Command::new("git");
    git.args([
        "-C",
        env!("CARGO_MANIFEST_DIR"),
        "describe",
        "--always",
        "--dirty",
        "--exclude=*",
        "--abbrev=9",
    ]);
    let said = git.output().ok().filter(|output| output.status.success());
    let name = said.and_then(|output| String::from_utf8(output.stdout).ok());
    match name.as_deref().map(str::trim) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => format!("oxivpn-sim {}", env!("CARGO_PKG_VERSION")),
    }
}

/// A seed's plan, or a part of it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// As the seed drew it.
    drawn: Plan,
    without: Vec<usize>,
    simpler: Vec<Simpler>,
}

impl Case {
    pub(super) fn new(seed: u64, without: &[usize], simpler: &[Simpler]) -> Self {
        Self { drawn: Plan::draw(seed), without: without.to_vec(), simpler: simpler.to_vec() }
    }

    /// How many items the seed drew.
    pub(super) fn drawn_items(&self) -> usize {
        self.drawn.items.len()
    }

    /// What runs.
    pub(super) fn plan(&self) -> Plan {
        reduced(&self.drawn, &self.without, &self.simpler)
    }

    /// The plan with the numbers of its items, a line for each.
    pub(super) fn text(&self) -> String {
        let mut text = self.plan().shape.to_string();
        for (number, item) in self.drawn.items.iter().enumerate() {
            let others: Vec<usize> = (0..self.drawn.items.len()).filter(|other| *other != number).collect();
            let stays = !self.without.contains(&number)
                && !reduced(&self.drawn, &others, &self.simpler).items.is_empty();
            if stays {
                // Writing to a String cannot fail.
                _ = write!(text, "\n{number:>3}  {item}");
            }
        }
        text
    }

    /// Tells the plan, with the numbers of its items.
    pub(super) fn tell(&self, out: &mut impl Write) -> io::Result<()> {
        for (number, line) in self.text().lines().enumerate() {
            writeln!(out, "{:<13} {line}", if number == 0 { "plan" } else { "" })?;
        }
        Ok(())
    }

    /// The command that runs it again.
    pub(super) fn command(&self) -> String {
        let mut command = format!("cargo run --release -p oxivpn-sim -- replay --seed {}", self.drawn.seed);
        if !self.without.is_empty() {
            _ = write!(command, " --without {}", ranges(&self.without));
        }
        if !self.simpler.is_empty() {
            let names: Vec<_> = self.simpler.iter().map(ToString::to_string).collect();
            _ = write!(command, " --simplify {}", names.join(","));
        }
        command
    }

    /// Runs it with everything kept, and writes `seed-N.pcapng`, `seed-N.txt` and `seed-N.html` to `dir`.
    pub(super) fn write(&self, dir: &Path, commit: &str) -> Result<(Outcome, Vec<PathBuf>), Error> {
        let outcome = play(&self.plan(), Keep::Packets);
        let failure = outcome.violation.as_ref().map(|violation| violation.what.as_str());
        let (text, command) = (self.text(), self.command());
        let end = outcome.built.world.now();
        let head = Head {
            seed: self.drawn.seed,
            commit,
            plan: &text,
            replay: &command,
            failure,
            end,
            hash: outcome.digest,
        };
        let files = files(dir, &format!("seed-{}", self.drawn.seed), &head, &outcome.built)?;
        Ok((outcome, files))
    }
}

/// Writes packets, events and page of a world.
fn files(dir: &Path, name: &str, head: &Head<'_>, built: &Built) -> Result<Vec<PathBuf>, Error> {
    fs::create_dir_all(dir).map_err(Error::file(dir))?;
    let tape = built.world.tape();
    let path = |ending: &str| dir.join(format!("{name}.{ending}"));
    let paths = ["pcapng", "txt", "html"].map(path);
    let key_log = built.keys.take();
    let about = format!("seed {}, commit {}\n{}\n{}", head.seed, head.commit, head.replay, head.plan);
    let mut names = Vec::new();
    for machine in built.world.machines() {
        let (own, public) = built.world.addresses(machine.id());
        let name = tape.name(machine.id());
        if own != public {
            names.push((own, format!("{name}-inside")));
        }
        names.push((public, name));
    }
    // A reader of captures puts a conversation together by its addresses.
    let ends = match built.world.nats().next() {
        Some(_) => pcap::Ends::Host(built.world.addresses(built.hub).1),
        None => pcap::Ends::Sent,
    };
    let options = pcap::Options { ends, key_log: &key_log, names: &names, about: &about };
    file(&paths[0], |out| pcap::write(out, tape, &options))?;
    file(&paths[1], |out| text::write(out, head, tape))?;
    file(&paths[2], |out| html::write_run(out, head, tape))?;
    Ok(paths.to_vec())
}

/// Writes the page of one world.
pub(super) fn page(path: &Path, head: &Head<'_>, built: &Built) -> Result<(), Error> {
    file(path, |out| html::write_run(out, head, built.world.tape()))
}

/// Makes a file.
pub(super) fn file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Error> {
    let written = || {
        let mut out = BufWriter::new(File::create(path)?);
        write(&mut out)?;
        out.flush()
    };
    written().map_err(Error::file(path))
}

/// Makes the directory that a file is to be in.
pub(super) fn parent(path: &Path) -> Result<&Path, Error> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    fs::create_dir_all(dir).map_err(Error::file(dir))?;
    Ok(dir)
}
