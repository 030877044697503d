#![allow(missing_docs)]
fn main() {
    let a: Vec<u64> = std::env::args().skip(2).filter_map(|a| a.parse().ok()).collect();
    let start = std::time::Instant::now();
    if std::env::args().nth(1).as_deref() == Some("table") {
        match oxivpn_sim::table::run(a[0]) {
            Ok(t) => print!("{t}"),
            Err(e) => println!("ERR {e}"),
        }
    } else {
        let (mut bad, mut n, mut tries) = (0, 0, 0);
        for seed in a[0]..a[1] {
            let plan = oxivpn_sim::plan::Plan::draw(seed);
            if !plan.items.iter().any(|i| matches!(i, oxivpn_sim::plan::Item::Transfer { .. })) {
                continue;
            }
            n += 1;
            let o = oxivpn_sim::storm::run(&plan, oxivpn_sim::trace::Keep::Hash);
            tries += o.built.world.transfers().iter().map(|t| t.tries).sum::<u32>();
            if let Some(v) = o.violation {
                bad += 1;
                println!("seed {seed}: {v}");
                let out: Vec<usize> = plan
                    .items
                    .iter()
                    .enumerate()
                    .filter(|(_, i)| matches!(i, oxivpn_sim::plan::Item::Transfer { .. }))
                    .map(|(n, _)| n)
                    .collect();
                println!(
                    "  without: {:?}",
                    oxivpn_sim::storm::run(&plan.without(&out), oxivpn_sim::trace::Keep::Hash).violation
                );
            }
        }
        println!("{bad} of {n} bad, {tries} tries");
    }
    eprintln!("{:?}", start.elapsed());
}
