//! A seed is the whole world: run again, on another thread, or built in another way, the same happens.

mod common;

use std::fmt::Write;
use std::path::Path;

use common::on_all_cores;
use oxivpn_sim::plan::Plan;
use oxivpn_sim::storm;
use oxivpn_sim::trace::Keep;

const SEEDS: u64 = 200;

/// Seeds whose digests are on file.
const RECORDED: u64 = 10;

/// Where they are. They change whenever the product behaves differently on the wire; then set `OXIVPN_UPDATE=1`.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/digests.txt");

fn digest(seed: u64) -> u64 {
    storm::run(&Plan::draw(seed), Keep::Hash).digest
}

#[test]
fn twice_the_same() {
    let first = on_all_cores((0..SEEDS).collect(), digest);
    // The other way round, so that each seed has other neighbours on its thread.
    let mut again = on_all_cores((0..SEEDS).rev().collect(), digest);
    again.reverse();
    let differ: Vec<_> = (0..SEEDS).zip(first.iter().zip(&again)).filter(|(_, (a, b))| a != b).collect();
    assert!(differ.is_empty(), "not the same twice: {differ:x?}");
    let mut all = first.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), first.len(), "different seeds, the same world");

    // The same in a debug build and in a release build.
    let text =
        first.iter().take(RECORDED as usize).enumerate().fold(String::new(), |mut text, (seed, digest)| {
            let _ = writeln!(text, "{seed} {digest:016x}");
            text
        });
    if std::env::var_os("OXIVPN_UPDATE").is_some() {
        std::fs::write(Path::new(FILE), &text).unwrap();
    }
    let recorded = std::fs::read_to_string(Path::new(FILE)).unwrap();
    assert_eq!(text, recorded, "worlds went differently than recorded; OXIVPN_UPDATE=1 records anew");
}
