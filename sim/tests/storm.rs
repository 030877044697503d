//! Some hundred worlds, other ones than those of `twice`. `oxivpn-sim storm` runs as many as one likes.

mod common;

use common::on_all_cores;
use oxivpn_sim::plan::Plan;
use oxivpn_sim::storm;
use oxivpn_sim::trace::Keep;

const FROM: u64 = 1000;
const SEEDS: u64 = 300;

#[test]
fn every_world_keeps_its_promises() {
    let verdict = |seed| storm::run(&Plan::draw(seed), Keep::Hash).violation.map(|broken| (seed, broken));
    let broken: Vec<_> =
        on_all_cores((FROM..FROM + SEEDS).collect(), verdict).into_iter().flatten().collect();
    let text: Vec<String> = broken.iter().map(|(seed, broken)| format!("seed {seed}: {broken}")).collect();
    assert!(text.is_empty(), "\n{}", text.join("\n"));
}
