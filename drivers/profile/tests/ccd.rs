//! Which file of `client-config-dir` is a client's.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::Memory;
use oxivpn_profile::ccd;

#[test]
fn own_file_then_the_default() {
    let mut files = Memory::default();
    files.add("d/alice", "disable");
    let text = |files: &Memory, name: &str, exclusive| {
        ccd::read(files, Path::new("d"), name, exclusive).unwrap().map(|(_, text)| text)
    };
    assert_eq!(text(&files, "alice", false).as_deref(), Some("disable"));
    assert_eq!(text(&files, "bob", false), None);
    assert_eq!(text(&files, "../d/alice", false), None, "no way around by `..`");
    files.add("d/DEFAULT", "push-reset");
    assert_eq!(text(&files, "bob", false).as_deref(), Some("push-reset"));
    assert_eq!(text(&files, "", false).as_deref(), Some("push-reset"));
    assert_eq!(text(&files, "bob", true), None);
    assert_eq!(text(&files, "DEFAULT", true), None, "nobody is DEFAULT");
    assert_eq!(text(&files, "alice", true).as_deref(), Some("disable"));
}

#[test]
fn a_file_that_cannot_be_read_is_no_missing_file() {
    let mut files = Memory::default();
    files.add("d/DEFAULT", "");
    files.add("d/alice", "disable");
    files.denied = vec!["d/alice".into()];
    let error = ccd::read(&files, Path::new("d"), "alice", false).unwrap_err().to_string();
    assert!(
        error.contains("--client-config-dir: cannot read d/alice: Permission denied. Let this user"),
        "{error}"
    );
}

#[test]
fn a_file_may_go_on_in_others() {
    let mut files = Memory::default();
    files.add("ccd/staff", "push \"route 10.1.0.0 255.255.0.0\"\nconfig ccd/all\nfrobnicate");
    files.add("ccd/all", "inactive 60");
    files.add("ccd/loop", "config ccd/loop");
    let parse = |text: &str| ccd::parse(&files, "ccd/alice", text);
    let found = parse("config ccd/staff\niroute 10.9.0.0 255.255.0.0");
    assert_eq!((found.overrides.push.len(), found.overrides.iroutes.len()), (1, 1));
    assert!(found.overrides.inactive.is_some() && !found.overrides.disable);
    let [problem] = found.problems.as_slice() else { panic!("{:?}", found.problems) };
    assert!(problem.to_string().contains("in ccd/staff:3: frobnicate"), "{problem}");
    // What can't be read might have kept the client out.
    for (line, why) in [
        (
            "config ccd/none",
            "In ccd/alice:1: config: cannot read ccd/none: No such file or directory; the client is dis",
        ),
        ("config ccd/loop", "In ccd/loop:1: config: ccd/loop is one of more than 32 files"),
    ] {
        let found = parse(line);
        assert!(found.overrides.disable && found.problems.len() == 1, "{line}");
        assert!(found.problems[0].to_string().contains(why), "{}", found.problems[0]);
    }
    let found = parse("config");
    assert!(!found.overrides.disable && found.problems.len() == 1, "a line that says nothing");
}
