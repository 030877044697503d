//! The binary: exit codes, what it prints, and the files it writes.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the binary. Standard output and exit code.
fn run(arguments: &[&str]) -> (String, String, i32) {
    let command = Command::new(env!("CARGO_BIN_EXE_oxivpn-sim")).args(arguments).output();
    let Output { status, stdout, stderr } = command.expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    (text(stdout), text(stderr), status.code().expect("it exits"))
}

/// An empty directory of this test.
fn directory(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}"));
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("an old directory goes");
    }
    dir
}

/// The rest of the line that begins so.
fn line<'a>(text: &'a str, begin: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(begin));
    found.unwrap_or_else(|| panic!("no line \"{begin}\" in:\n{text}")).trim()
}

#[test]
fn wrong_use_exits_with_2() {
    for wrong in [
        &[][..],
        &["storms"],
        &["storm", "--seeds"],
        &["storm", "--seeds", "x"],
        &["storm", "--seed", "1", "--to", "3"],
        &["replay"],
        &["replay", "--seed", "1", "--without", "999"],
        &["replay", "--seed", "1", "--simplify", "everything"],
        &["night", "--clients", "0"],
        &["report"],
    ] {
        let (out, error, code) = run(wrong);
        assert_eq!(code, 2, "{wrong:?}: {out} {error}");
        assert!(error.starts_with("oxivpn-sim: ") && out.is_empty(), "{wrong:?}: {out} {error}");
    }
    for right in [&["--help"][..], &["storm", "-h"], &["night", "--help"], &["--version"]] {
        let (out, error, code) = run(right);
        assert_eq!((code, error.as_str()), (0, ""), "{right:?}");
        assert!(!out.is_empty());
    }
}

#[test]
fn a_storm_is_the_same_however_many_threads_it_has() {
    let page = directory("storm").join("pages").join("storm.html");
    let name = page.to_str().expect("a name in UTF-8");
    let (one, error, code) = run(&["storm", "--seeds", "6", "--jobs", "1", "--report", name]);
    assert_eq!(code, 0, "{one}{error}");
    let (three, _, code) = run(&["storm", "--to", "6", "--jobs", "3"]);
    assert_eq!(code, 0, "{three}");
    assert_eq!(line(&one, "hash"), line(&three, "hash"));
    assert_eq!(line(&one, "virtual time").split(',').next(), line(&three, "virtual time").split(',').next());
    let (other, _, _) = run(&["storm", "--from", "1", "--seeds", "6"]);
    assert_ne!(line(&one, "hash"), line(&other, "hash"));
    let page = fs::read_to_string(page).expect("the page");
    assert!(page.contains("no violation") && page.contains("seeds per core-second"));
}

#[test]
fn a_replay_writes_files_and_is_the_same_with_and_without() {
    let dir = directory("replay");
    let arguments = ["replay", "--seed", "3", "--without", "0-1", "--simplify", "seconds=10"];
    let (bare, error, code) = run(&arguments);
    assert_eq!(code, 0, "{bare}{error}");
    let name = dir.to_str().expect("a name in UTF-8");
    let (kept, _, code) = run(&[&arguments[..], &["--out", name]].concat());
    assert_eq!(code, 0, "{kept}");
    assert_eq!(line(&bare, "hash"), line(&kept, "hash"));
    let (whole, ..) = run(&["replay", "--seed", "3"]);
    assert_ne!(line(&bare, "hash"), line(&whole, "hash"));
    let packets = fs::read(dir.join("seed-3.pcapng")).expect("packets");
    assert_eq!(packets.first_chunk(), Some(&[0x0a, 0x0d, 0x0d, 0x0a]), "the magic of pcapng");
    let events = fs::read_to_string(dir.join("seed-3.txt")).expect("events");
    assert!(events.contains(" is up: ") && events.contains("--without 0-1 --simplify seconds=10"));
    assert!(fs::read_to_string(dir.join("seed-3.html")).expect("a page").ends_with("</html>\n"));
}

#[test]
fn a_report_links_the_pages_of_its_seeds() {
    let dir = directory("report");
    let name = dir.to_str().expect("a name in UTF-8");
    let (out, error, code) = run(&["report", "--out", name, "--seeds", "3", "--show", "1-2"]);
    assert_eq!(code, 0, "{out}{error}");
    let index = fs::read_to_string(dir.join("index.html")).expect("the index");
    for (seed, shown) in [(0, false), (1, true), (2, true)] {
        assert_eq!(index.contains(&format!("href=\"./seed-{seed}.html\"")), shown, "{seed}");
        assert_eq!(dir.join(format!("seed-{seed}.html")).exists(), shown, "{seed}");
    }
}

#[test]
fn a_short_night_is_told_in_two_paragraphs() {
    let (out, error, code) = run(&["night", "--hours", "0", "--clients", "2", "--minutes", "1"]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains("crowd: a server and 2 clients") && !out.contains("pair: "), "{out}");
    assert!(line(&out, "verdict").contains("well"));
}

#[test]
fn files_that_cannot_be_written_are_an_error() {
    let blocked = directory("blocked");
    fs::create_dir_all(blocked.parent().expect("a parent")).expect("a directory");
    fs::write(&blocked, "a file").expect("a file");
    let (_, error, code) = run(&["replay", "--seed", "3", "--out", blocked.to_str().expect("UTF-8")]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("cli-blocked"), "{error}");
    fs::remove_file(&blocked).expect("the file goes");
}
