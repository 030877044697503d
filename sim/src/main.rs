//! Runs simulated VPN networks from the command line.

use oxivpn_sim::plan::Plan;
use oxivpn_sim::storm;
use oxivpn_sim::trace::Keep;

fn main() {
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (from, to) = (args[0], args[1]);
    let keep = if args.len() > 2 { Keep::Records } else { Keep::Hash };
    let start = std::time::Instant::now();
    let mut bad = 0;
    for seed in from..to {
        let plan = Plan::draw(seed);
        let outcome = storm::run(&plan, keep);
        if keep == Keep::Records {
            println!("{plan}");
            let tape = outcome.built.world.tape();
            for r in &tape.records {
                println!("{:?} {} {}", r.at, r.who.map(|w| tape.name(w)).unwrap_or_default(), r.what);
            }
        }
        if let Some(v) = outcome.violation {
            bad += 1;
            println!("seed {seed}: {v}");
        }
    }
    println!("{bad} of {} failed, {:?}", to - from, start.elapsed());
}
