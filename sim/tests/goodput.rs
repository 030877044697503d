//! The recorded table of what a tunnel costs a TCP connection.

#![expect(clippy::unwrap_used, reason = "a test")]

use oxivpn_sim::table::{self, LOSSES, Pair, Row, Table};

const RECORDED: &str = include_str!("snapshots/goodput.txt");

/// Pairs that are measured again here; the others stay as they were recorded.
const AGAIN: u64 = 2;

/// The figures by seed, below the table for people.
fn recorded() -> Table {
    let mut rows = LOSSES.map(|loss| Row { loss, pairs: Vec::new() });
    let lines = RECORDED.lines().skip_while(|line| !line.starts_with("Bytes per second")).skip(1);
    for line in lines {
        let figures: Vec<u64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert_eq!(figures.len(), 1 + 2 * rows.len(), "{line}");
        for (row, pair) in rows.iter_mut().zip(figures[1..].chunks(2)) {
            assert_eq!(figures[0], row.pairs.len() as u64 + 1, "{line}");
            row.pairs.push(Pair { plain: pair[0], tunnel: pair[1] });
        }
    }
    Table { rows: rows.into() }
}

#[test]
fn a_tunnel_costs_little_beyond_its_headers() {
    let recorded = recorded();
    assert!(recorded.rows.iter().all(|row| row.pairs.len() == 50));
    assert_eq!(recorded.to_string(), RECORDED, "the text is not what its figures give");
    assert!(recorded.is_good(), "{recorded}");
}

#[test]
fn the_recorded_figures_are_those_of_today() {
    let recorded = recorded();
    let fresh = table::run(AGAIN).unwrap();
    for (fresh, recorded) in fresh.rows.iter().zip(&recorded.rows) {
        assert_eq!(
            fresh.pairs,
            recorded.pairs[..AGAIN as usize],
            "at {} % loss; if that is meant, record it anew: `cargo run --release -p oxivpn-sim -- table`",
            fresh.loss
        );
    }
}

#[test]
fn too_little_shows() {
    let mut table = recorded();
    for pair in &mut table.rows[1].pairs[..26] {
        pair.tunnel = pair.plain * 90 / 100;
    }
    assert!(!table.is_good());
    assert!(table.to_string().contains("TOO LITTLE"));
}
