//! Every body gets its committed corpus, and every target is listed everywhere it has to be.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use oxivpn_fuzz::{TARGETS, corpus};

#[test]
fn the_committed_corpus_finds_nothing() {
    let mut findings = Vec::new();
    for target in TARGETS {
        let inputs = corpus(target.name).unwrap();
        assert!(!inputs.is_empty(), "the corpus of {} is empty", target.name);
        for (name, input) in inputs {
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
                findings.push(format!("{}/{name}", target.name));
            }
        }
    }
    assert!(findings.is_empty(), "these inputs show defects: {findings:#?}");
}

#[test]
fn targets_corpus_and_table_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |sub: &str| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder.join(sub))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let table: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names("fuzz_targets"), table);
    assert_eq!(names("corpus"), table);
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let listed = |name: &&str| manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n"));
    assert!(table.iter().all(listed));
}
