use core::time::Duration;

use oxivpn_proto::Instant;

use super::{
    markup::{self, Text},
    story::{Flow, Sample, Story},
    window::{Window, rows, runs},
    *,
};
use crate::report::samples::{self, Plan, SECOND, every_what, star};

fn page(head: &Head<'_>, tape: &Tape) -> String {
    let mut out = Vec::new();
    write_run(&mut out, head, tape).unwrap();
    String::from_utf8(out).unwrap()
}

/// Small enough for the eye, the night, and the star of many clients.
const WORLDS: [(&str, Plan); 3] = [
    ("small", Plan { clients: 2, seconds: 600, renegotiate: 60, violation: true }),
    ("night", Plan { clients: 1, seconds: 28_800, renegotiate: 10, violation: false }),
    ("star", Plan { clients: 50, seconds: 1_800, renegotiate: 60, violation: true }),
];

fn world(plan: Plan) -> String {
    let tape = star(plan);
    let text =
        plan.violation.then_some("payload 4711 of client-2 arrived twice at server (packet-id 0x1f3, key 3)");
    let end =
        Instant::from_nanos(if plan.violation { plan.seconds * 7 / 10 + 2 } else { plan.seconds } * SECOND);
    page(&Head { end, ..samples::head(text) }, &tape)
}

fn sweep() -> Sweep {
    let seed = |seed: u64| Seed {
        seed,
        plan: format!(
            "star of {} clients, mtu {}, gremlin {}",
            seed % 5 + 1,
            1_280 + seed % 3 * 110,
            seed % 4
        ),
        kinds: vec![
            ("wrap".into(), ["none", "tls-auth", "tls-crypt", "tls-crypt-v2"][seed as usize % 4].into()),
            ("nat".into(), ["none", "cone", "restricted", "port", "symmetric"][seed as usize % 5].into()),
            ("plane".into(), ["local", "kernel", "workers"][seed as usize % 3].into()),
        ],
        failure: (seed % 97 == 5)
            .then(|| format!("client-{} is not up {} s after <heal>", seed % 3, seed % 40)),
        virtual_time: Duration::from_millis(60_000 + seed * 7_919 % 90_000),
        real: Duration::from_micros(9_000 + seed * seed % 37_000),
        hash: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        faults: vec![
            ("lost".into(), seed % 50),
            ("corrupted".into(), seed % 7),
            ("PMTU black hole".into(), u64::from(seed.is_multiple_of(11))),
            ("tcp reset".into(), 0),
        ],
        page: (seed % 97 == 5).then(|| format!("seed-{seed}.html")),
    };
    let mutant = |name: &str, about: &str, caught, by: &str| Mutant {
        name: name.into(),
        about: about.into(),
        caught,
        by: by.into(),
        tried: caught.unwrap_or(1_000),
    };
    let table = |title: &str, rows: &[[&str; 4]]| Table {
        title: title.into(),
        head: ["loss", "without", "through the tunnel", "difference"].map(String::from).to_vec(),
        rows: rows.iter().map(|row| row.map(String::from).to_vec()).collect(),
    };
    Sweep {
        title: "storm, seeds 0 to 999".into(),
        commit: "0123456789abcdef".into(),
        elapsed: Duration::from_secs(14),
        cores: 2,
        seeds: (0..1_000).map(seed).collect(),
        mutants: vec![
            mutant(
                "nonce-reused",
                "seals two packets under one packet-id",
                Some(3),
                "nonce 17 of key 2 used twice",
            ),
            mutant("replay-window", "takes the same packet twice", Some(11), "payload 40 arrived twice"),
            mutant("blind-float", "moves a peer for a packet that is not authentic", None, ""),
        ],
        tables: vec![table(
            "Throughput by loss",
            &[["0 %", "94.1 Mbit/s", "90.8 Mbit/s", "1.2 %"], ["1 %", "22.0 Mbit/s", "21.1 Mbit/s", "2.0 %"]],
        )],
    }
}

fn sweep_page(sweep: &Sweep) -> String {
    let mut out = Vec::new();
    write_sweep(&mut out, sweep).unwrap();
    String::from_utf8(out).unwrap()
}

/// Parses as XML, which is stricter than a browser, and fetches nothing.
fn check(page: &str) {
    let options = roxmltree::ParsingOptions { allow_dtd: true, nodes_limit: u32::MAX, entity_resolver: None };
    let tree = roxmltree::Document::parse_with_options(page, options).unwrap();
    for node in tree.descendants().filter(roxmltree::Node::is_element) {
        assert!(!["script", "link", "img", "iframe", "object"].contains(&node.tag_name().name()));
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on") && attribute.name() != "src", "{attribute:?}");
            assert!(attribute.name() != "href" || attribute.value().starts_with("./"), "{attribute:?}");
        }
    }
    assert!(!page.contains("url(") && !page.contains("@import"));
}

#[test]
fn pages_are_well_formed_and_small() {
    for (name, plan) in WORLDS {
        let page = world(plan);
        check(&page);
        assert!(page.len() < 2_000_000, "{name}: {} bytes", page.len());
        assert_eq!(page, world(plan), "{name}");
    }
    check(&page(&samples::head(None), &Tape::new(crate::trace::Keep::Records)));
    check(&sweep_page(&Sweep::default()));
    let page = sweep_page(&sweep());
    check(&page);
    assert!(page.len() < 600_000, "{}", page.len());
}

#[test]
fn a_page_stays_small_whatever_happens() {
    let mut tape = Tape::new(crate::trace::Keep::Records);
    let text = "<&\"".repeat(700);
    for n in 0..40_000_u64 {
        let who = crate::trace::MachineId((n % 200) as u16);
        let what = match n % 7 {
            0 => crate::trace::What::Note(text.clone()),
            1 => crate::trace::What::Weather(text.clone()),
            2 => crate::trace::What::Crashed,
            3 => crate::trace::What::Started,
            4 => crate::trace::What::Connecting { session: n },
            5 => crate::trace::What::Closed { session: n - 1, cause: text.clone() },
            _ => crate::trace::What::Sample {
                sent: n as u32,
                sent_bytes: n * n,
                received: 1,
                received_bytes: n,
            },
        };
        tape.record(Instant::from_nanos(n * 49_876_543), Some(who), what);
    }
    let page = page(&samples::head(Some(&text)), &tape);
    check(&page);
    assert!(page.len() < 6_000_000, "{}", page.len());
}

#[test]
fn texts_are_escaped_wherever_they_stand() {
    assert_eq!(
        Text("<a href='x'>&\"\u{1}\u{fffe}\n").to_string(),
        "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}\u{fffd}\n"
    );
    assert_eq!(markup::short("<<<<", 2), "&lt;&lt;…");

    let evil = "\"><script>x</script>";
    let head = Head { commit: evil, plan: evil, replay: evil, ..samples::head(Some(evil)) };
    check(&page(&head, &every_what()));

    let own = || evil.to_owned();
    let mut sweep = Sweep { title: own(), commit: own(), ..Sweep::default() };
    sweep.seeds.push(Seed {
        plan: own(),
        kinds: vec![(own(), own())],
        failure: Some(own()),
        faults: vec![(own(), 1)],
        page: Some(format!("javascript:{evil}")),
        ..Seed::default()
    });
    sweep.mutants.push(Mutant { name: own(), about: own(), by: own(), ..Mutant::default() });
    sweep.tables.push(Table { title: own(), head: vec![own()], rows: vec![vec![own(), own()]] });
    check(&sweep_page(&sweep));
}

#[test]
fn every_record_is_shown() {
    let tape = every_what();
    let page = page(&samples::head(Some("payload 17 arrived <twice>")), &tape);
    check(&page);
    // Samples are drawn, all others stand in the list as well.
    for record in
        tape.records.iter().filter(|record| !matches!(record.what, crate::trace::What::Sample { .. }))
    {
        let line = format!("<td>{}</td></tr>", Text(&record.what.to_string()));
        assert!(page.contains(&line), "{line}");
    }
    for drawn in [
        "class=\"up\"",
        "class=\"con\"",
        "class=\"end\"",
        "class=\"key\"",
        "class=\"pre\"",
        "class=\"sent\"",
        "class=\"got\"",
        "class=\"fault\"",
        "class=\"asleep\"",
        "class=\"down\"",
        ">F</i>",
        ">T</i>",
        ">M</i>",
        ">Z</i>",
        ">W</i>",
        ">X</i>",
        ">C</i>",
        ">S</i>",
        ">N</i>",
        ">!</i>",
        "<q style",
        "class=\"flag",
        "closed 0:14.500: ping &lt;timeout&gt;",
        "off for 1.0 s",
        "asleep for 1.0 s",
        "black hole",
    ] {
        assert!(page.contains(drawn), "{drawn}");
    }
}

#[test]
fn a_story_has_spans_of_what_was_told() {
    let story = Story::read(&samples::head(None), &every_what());
    let bob = &story.machines[1];
    let at = |n: u64| SECOND / 2 + n * SECOND;
    let session = &bob.sessions[0];
    assert_eq!((session.begun, session.up, session.to), (at(1), Some(at(2)), at(14)));
    assert_eq!(session.cause.as_deref(), Some("ping <timeout>"));
    let key = &bob.keys[0];
    assert_eq!((key.from, key.promoted, key.to, key.retired), (at(3), Some(at(4)), at(13), true));
    assert_eq!((bob.weather[0].from, bob.weather[0].to), (at(5), at(6)));
    assert_eq!((bob.down[1].from, bob.down[1].to), (at(15), at(16)));
    assert_eq!((bob.asleep[0].from, bob.asleep[0].to), (at(11), at(12)));
    assert_eq!((story.network.weather[0].from, story.network.weather[0].to), (30 * SECOND, 40 * SECOND));
    assert_eq!(story.violations.len(), 1);
    assert_eq!(story.end, 600 * SECOND);
}

#[test]
fn a_new_state_of_the_same_subject_ends_the_one_before() {
    let mut tape = Tape::new(crate::trace::Keep::Records);
    for (n, text) in ["site 1: loss", "site 2: loss", "site 1: delay"].iter().enumerate() {
        tape.record(Instant::from_nanos(n as u64), None, crate::trace::What::Weather((*text).to_owned()));
    }
    let head = Head { end: Instant::from_nanos(9), ..samples::head(None) };
    let bands = Story::read(&head, &tape).network.weather;
    assert_eq!(bands.iter().map(|band| (band.from, band.to)).collect::<Vec<_>>(), [(0, 2), (1, 9), (2, 9)]);
}

#[test]
fn columns_keep_sums() {
    let tape = star(WORLDS[0].1);
    let story = Story::read(&samples::head(None), &tape);
    for columns in [1, 7, 392, 1_200, 9_973] {
        let window = Window { from: 0, to: story.end, columns };
        for machine in &story.machines {
            let mut sum = Flow::default();
            window.traffic(&machine.samples).into_iter().for_each(|flow| sum.add(flow));
            assert_eq!(sum, machine.total, "{columns}");
            let sessions = window.density(machine.sessions.iter().map(|session| session.begun));
            assert_eq!(sessions.iter().sum::<u32>() as usize, machine.sessions.len());
        }
    }
}

#[test]
fn a_sample_is_spread_over_its_time() {
    let window = Window { from: 0, to: 100, columns: 10 };
    let flow = Flow { sent: 7, sent_bytes: 40, received: 0, received_bytes: 0 };
    let flows = window.traffic(&[Sample { from: 20, to: 60, flow }]);
    let bytes: Vec<u64> = flows.iter().map(|flow| flow.sent_bytes).collect();
    assert_eq!(bytes, [0, 0, 10, 10, 10, 10, 0, 0, 0, 0]);
    assert_eq!(flows.iter().map(|flow| flow.sent).sum::<u64>(), 7);
    assert_eq!(
        window.deaf(&[Sample { from: 20, to: 60, flow }])[1..8],
        [false, true, true, true, true, true, false]
    );
    // A part of the time has its part of the traffic.
    let part = Window { from: 40, to: 140, columns: 10 };
    let flows = part.traffic(&[Sample { from: 20, to: 60, flow }]);
    assert_eq!(
        flows.iter().map(|flow| flow.sent_bytes).collect::<Vec<_>>(),
        [10, 10, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn windows_cut_time() {
    let window = Window { from: 1_000, to: 2_000, columns: 10 };
    assert_eq!(
        [0, 1_000, 1_099, 1_100, 1_999, 2_000, 9_999].map(|at| window.column(at)),
        [0, 0, 0, 1, 9, 9, 9]
    );
    assert_eq!(window.percent(1_255), "25.50%");
    let depth = window.depth([(0, 1_150), (1_120, 1_300), (2_500, 2_600)].into_iter());
    assert_eq!(depth, [1, 2, 1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(runs(&[1, 1, 2, 1]), [(0, 2, 1), (2, 3, 2), (3, 4, 1)]);
    assert_eq!(rows([(0, 5), (1, 3), (3, 4), (5, 6)].into_iter(), 2), Some(vec![0, 1, 1, 0]));
    assert_eq!(rows([(0, 5), (1, 3), (2, 4)].into_iter(), 2), None);
    for (seconds, first) in
        [(1, 100_000_000), (60, 10 * SECOND), (600, 60 * SECOND), (28_800, 3_600 * SECOND)]
    {
        let ticks = Window { from: 0, to: seconds * SECOND, columns: 1 }.ticks(12);
        assert_eq!((ticks[0], ticks[1]), (0, first), "{seconds}");
        assert!(ticks.len() <= 13);
    }
}

#[test]
fn numbers_are_readable() {
    assert_eq!([0, 999, 1_000, 1_234_567].map(markup::count), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!(markup::time(3_723_045_000_000, 3), "1:02:03.045");
    assert_eq!(markup::time(59_999_999_999, 0), "0:59");
    assert_eq!(
        [5_000_000, 12_340_000_000, 250 * SECOND, 28_800 * SECOND].map(markup::span),
        ["5 ms", "12.3 s", "4 min 10 s", "8 h 0 min"]
    );
    assert_eq!(markup::percent(1, 3), "33.3 %");
    assert_eq!(markup::bytes(1_250_000), "1.2 MB");
}
