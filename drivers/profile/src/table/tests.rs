use std::collections::BTreeSet;

use super::*;

/// All names that OpenVPN 2.6 to 2.8 know, and those of older releases that live on in files.
const NAMES: &str = include_str!("names.txt");

#[test]
fn every_name_has_one_fate() {
    let mut seen = BTreeSet::new();
    for entry in entries() {
        assert!(seen.insert(entry.name), "{} stands twice", entry.name);
    }
    let missing: Vec<&str> = NAMES.lines().filter(|name| !seen.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
    let known: BTreeSet<&str> = NAMES.lines().collect();
    let extra: Vec<&&str> = seen.iter().filter(|name| !known.contains(*name)).collect();
    // Our own, and one of OpenVPN 2.4.
    assert_eq!(extra, [&"data-format", &"ecn", &"management-client-pf", &"workers"]);
}

#[test]
fn each_text_has_a_cure() {
    for entry in entries() {
        match entry.fate {
            Fate::Warned(text) => {
                assert!(
                    text.starts_with("is ignored") || text.starts_with("has a meaning"),
                    "{}",
                    entry.name
                );
                assert!(text.contains(';'), "{} names no cure", entry.name);
            }
            Fate::Refused(reason, cure) | Fate::NotBuilt(reason, cure) => {
                assert!(!reason.is_empty() && cure.len() > 10, "{}", entry.name);
                assert!(!cure.ends_with('.'), "{}", entry.name);
            }
            Fate::Honoured(honoured) => {
                assert!(honoured.usage.starts_with(entry.name), "{}", entry.name);
                assert!(honoured.min <= honoured.max, "{}", entry.name);
                assert!(!honoured.inline || honoured.max > 0, "{}", entry.name);
            }
            Fate::Quiet | Fate::Structural => {}
        }
    }
}

#[test]
fn usage_and_number_of_parameters_agree() {
    for entry in entries() {
        if let Fate::Honoured(honoured) = entry.fate {
            let words: Vec<&str> = honoured.usage.split(' ').skip(1).collect();
            let required = words.iter().filter(|word| !word.starts_with('[')).count();
            assert_eq!(required, honoured.min, "{}", honoured.usage);
            let many = words.iter().any(|word| word.ends_with(".."));
            // The second word of `tls-crypt` and the port and protocol of `local` are for servers.
            let silent = matches!(entry.name, "tls-crypt" | "tls-crypt-v2" | "local");
            assert!(many || silent || words.len() == honoured.max, "{}", honoured.usage);
        }
    }
}

#[test]
fn typos_find_their_word() {
    let table = [
        ("remot", Some("remote")),
        ("Remote", Some("remote")),
        ("auth-user-passs", Some("auth-user-pass")),
        ("redirect-gatway", Some("redirect-gateway")),
        ("tls_crypt", Some("tls-crypt")),
        ("nobindd", Some("nobind")),
        ("frobnicate", None),
        ("x", None),
        ("", None),
    ];
    for (word, expected) in table {
        assert_eq!(nearest(word), expected, "{word}");
    }
    assert_eq!(nearest(&"remote".repeat(1000)), None);
}
