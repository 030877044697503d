//! Runs simulated VPN networks from the command line.

use oxivpn_sim::plan::Plan;
use oxivpn_sim::storm;
use oxivpn_sim::trace::Keep;

fn main() {
    if std::env::args().nth(1).is_some_and(|a| a == "night") {
        let start = std::time::Instant::now();
        let hours = std::time::Duration::from_secs(8 * 3600);
        let n = oxivpn_sim::night::pair(1, hours, Keep::Hash);
        println!(
            "{:?} {:?} s {} k {} p {:?} hit {:?} {:?}",
            n.failure,
            n.lasted,
            n.sessions,
            n.keys,
            n.probes,
            n.hit,
            start.elapsed()
        );
        let start = std::time::Instant::now();
        let n = oxivpn_sim::night::crowd(1, 50, hours / 16, Keep::Hash);
        println!(
            "{:?} {:?} s {} k {} p {:?} hit {:?} {:?}",
            n.failure,
            n.lasted,
            n.sessions,
            n.keys,
            n.probes,
            n.hit,
            start.elapsed()
        );
        return;
    }
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
