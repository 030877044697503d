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
