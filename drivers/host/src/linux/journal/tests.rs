use std::net::IpAddr;

use super::*;
use crate::linux::item::LinkRef;
use crate::plan::{Address, Dev, Removal, Route};

fn items() -> Vec<Item> {
    let link = LinkRef { index: 7, name: "tun0".to_owned() };
    let address =
        Address { ip: "10.8.0.6".parse().unwrap(), prefix: 32, peer: Some("10.8.0.5".parse().unwrap()) };
    let via: IpAddr = "192.0.2.1".parse().unwrap();
    let route = Route {
        dev: Dev::ByName("eth0".to_owned()),
        metric: Some(3),
        ..Route::by_gateway("203.0.113.9/32".parse::<ipnet::IpNet>().unwrap(), via)
    };
    let removal = Removal { dest: "0.0.0.0/0".parse().unwrap(), via: Some(via) };
    vec![
        Item::Up { link: link.clone() },
        Item::Mtu { link: link.clone(), mtu: 1400, before: 1500 },
        Item::TxQueueLen { link: link.clone(), packets: 100, before: 500 },
        Item::Address { link, address },
        Item::Removal { removal, message: vec![2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0] },
        Item::Route { route, index: Some(2) },
    ]
}

fn numbered(items: &[Item]) -> impl Iterator<Item = (u64, &Item)> {
    (0..).zip(items)
}

#[test]
fn what_is_written_is_read_back_less_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(dir.path()).unwrap();
    assert!(read_all(dir.path()).unwrap().is_empty());
    let items = items();
    for (id, item) in numbered(&items) {
        journal.made(id, item).unwrap();
    }
    journal.gone(1).unwrap();
    let found = read_all(dir.path()).unwrap();
    assert_eq!(found.len(), 1);
    let expected: Vec<Item> = [&items[..1], &items[2..]].concat();
    assert_eq!(found[0].items, expected);
    assert_eq!(found[0].owner, Owner::current().unwrap());
    let mode = fs::metadata(&found[0].path).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);

    journal.settle(std::iter::empty()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // The next change starts a new file.
    journal.made(9, &items[0]).unwrap();
    assert_eq!(read_all(dir.path()).unwrap()[0].items, items[..1]);
}

#[test]
fn a_line_cut_short_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(dir.path()).unwrap();
    let items = items();
    for (id, item) in numbered(&items) {
        journal.made(id, item).unwrap();
    }
    let path = read_all(dir.path()).unwrap()[0].path.clone();
    let text = fs::read(&path).unwrap();
    let lines = |text: &[u8]| text.iter().filter(|&&byte| byte == b'\n').count();
    for cut in 0..text.len() {
        match replay(&text[..cut]) {
            // Whether the final newline was written does not matter to a line that is complete.
            Some((_, read)) => {
                let whole = lines(&text[..cut]).max(1) - 1;
                assert!(read.len() == whole || read.len() == whole + 1, "cut at {cut}");
                assert_eq!(read, items[..read.len()]);
            }
            None => assert!(lines(&text[..cut]) == 0, "cut at {cut}"),
        }
    }
}

#[test]
fn a_long_lived_journal_does_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(dir.path()).unwrap();
    let items = items();
    for (id, item) in numbered(&items[..5]) {
        journal.made(id, item).unwrap();
    }
    let mut largest = 0;
    for id in 100..5_000 {
        journal.made(id, &items[5]).unwrap();
        journal.gone(id).unwrap();
        journal.settle(numbered(&items[..5])).unwrap();
        largest = largest.max(fs::metadata(&journal.path).unwrap().len());
    }
    assert!(largest < 64 * 1024, "{largest} bytes");
    assert_eq!(read_all(dir.path()).unwrap()[0].items, items[..5]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn files_that_are_no_journals_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("a.json", "{}"), ("b.json", ""), ("c.json", "\u{0}\u{1}"), ("d.txt", "x")] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    fs::create_dir(dir.path().join("e.json")).unwrap();
    assert!(read_all(dir.path()).unwrap().is_empty());
    assert!(read_all(&dir.path().join("missing")).unwrap().is_empty());
}

#[test]
fn only_the_journal_of_a_dead_process_in_this_namespace_is_obeyed() {
    let current = Owner::current().unwrap();
    let judge = |owner: Owner| owner.verdict(&current).unwrap();
    assert_eq!(judge(current.clone()), Verdict::Leave);
    // The same process id, given to another process since.
    assert_eq!(judge(Owner { start: current.start - 1, ..current.clone() }), Verdict::Undo);
    // Above the kernel's highest process id.
    let dead = Owner { pid: 5_000_000, ..current.clone() };
    assert_eq!(judge(dead.clone()), Verdict::Undo);
    let elsewhere = Owner { netns: current.netns + 1, ..current.clone() };
    assert_eq!(dead.verdict(&elsewhere).unwrap(), Verdict::Leave, "the namespace lives on without us");
    assert_eq!(judge(Owner { netns: 1, ..dead.clone() }), Verdict::Stale, "no such namespace any more");
    assert_eq!(judge(Owner { boot: "another".to_owned(), ..dead }), Verdict::Stale);
    assert_eq!(judge(Owner { version: VERSION + 1, ..dead }), Verdict::Leave);
}

#[test]
fn an_unwritable_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Journal::new(&file).unwrap_err().to_string();
    assert!(
        error.contains(file.to_str().unwrap()) && error.contains("make the directory writable"),
        "{error}"
    );
}
