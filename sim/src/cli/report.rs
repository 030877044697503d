//! `report`: a directory of pages.

use std::fs;
use std::io::Write;

use super::keep::Case;
use super::storm::Season;
use super::{Error, Verdict, args, crowd};

pub(super) fn run(options: &args::Report, out: &mut impl Write) -> Result<Verdict, Error> {
    crowd::quiet_panics();
    let dir = &options.out;
    fs::create_dir_all(dir).map_err(Error::file(dir))?;
    let storm = &options.storm;
    let mut season = Season::run(storm, true);
    season.tell(storm, out)?;
    let mut pages = season.judge(&args::Storm { out: Some(dir.clone()), ..storm.clone() }, out)?;
    let chosen: Vec<u64> = options.show.iter().copied().filter(|seed| !pages.contains(seed)).collect();
    for seed in chosen {
        // What is wrong with it, if something is, was told above.
        Case::new(seed, &[], &[]).write(dir, &season.commit)?;
        pages.push(seed);
    }
    season.link(&pages, Some(""));
    let verdict = season.verdict();
    let title = format!("oxivpn storm, seeds {} to {}", storm.seeds.start, storm.seeds.end - 1);
    let index = dir.join("index.html");
    season.write(&index, title, storm)?;
    writeln!(out, "\nPages: {}", index.display())?;
    Ok(verdict)
}
