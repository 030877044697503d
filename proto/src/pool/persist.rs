//! The file of `ifconfig-pool-persist`: which name had which address.
//!
//! One line for each slot: `NAME,IPV4,IPV6`, where an address may be left out (`openvpn: pool.c`,
//! `ifconfig_pool_read`). It is a help and no promise, so a line that can't be used is passed over with a warning.

use core::net::{Ipv4Addr, Ipv6Addr};

/// Longest line that is read, in bytes: a name of 64 and two addresses, with room to spare
/// (`openvpn: pool.c`: 256).
const MAX_LINE: usize = 256;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered<'t> {
    /// Common name of the client.
    pub name: &'t str,
    /// Its IPv4 address; with net30 the network of its /30.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// A line that wasn't used, or only in part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PersistWarning {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: PersistProblem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PersistProblem {
    /// Nothing but a name, or nothing at all.
    #[error("not NAME,IPV4,IPV6; the line is ignored")]
    Form,
    /// Longer than any line that OpenVPN reads.
    #[error("longer than {MAX_LINE} bytes; the line is ignored")]
    TooLong,
    /// No IPv4 address.
    #[error("'{address}' of '{name}' is not an IPv4 address")]
    BadV4 {
        /// Of whom.
        name: String,
        /// What stands there.
        address: String,
    },
    /// No IPv6 address.
    #[error("'{address}' of '{name}' is not an IPv6 address")]
    BadV6 {
        /// Of whom.
        name: String,
        /// What stands there.
        address: String,
    },
    /// The pool doesn't have this address.
    #[error("{address} of '{name}' is outside of the address pool; the client gets another address")]
    OutOfPool {
        /// Of whom.
        name: String,
        /// The address.
        address: String,
    },
    /// The two addresses are not of one slot.
    #[error("{v4} and {v6} of '{name}' have different places in their pools; the IPv4 address counts")]
    Apart {
        /// Of whom.
        name: String,
        /// IPv4 address.
        v4: Ipv4Addr,
        /// IPv6 address.
        v6: Ipv6Addr,
    },
}

/// The lines that have a meaning, with their numbers, and what is wrong with others.
pub fn parse(text: &str) -> (Vec<(usize, Remembered<'_>)>, Vec<PersistWarning>) {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let mut warn = |problem| warnings.push(PersistWarning { line: number, problem });
        if line.trim().is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.len() > MAX_LINE {
            warn(PersistProblem::TooLong);
            continue;
        }
        let mut fields = line.split(',');
        let (Some(name), Some(v4)) = (fields.next(), fields.next().map(str::trim)) else {
            warn(PersistProblem::Form);
            continue;
        };
        let v6 = fields.next().map(str::trim).unwrap_or_default();
        if name.is_empty() || v4.is_empty() && v6.is_empty() {
            warn(PersistProblem::Form);
            continue;
        }
        let bad = |address: &str| (name.to_owned(), address.to_owned());
        let v4 = (!v4.is_empty()).then(|| v4.parse().map_err(|_| bad(v4)));
        let v6 = (!v6.is_empty()).then(|| v6.parse().map_err(|_| bad(v6)));
        if let Some(Err((name, address))) = &v4 {
            warn(PersistProblem::BadV4 { name: name.clone(), address: address.clone() });
        }
        if let Some(Err((name, address))) = &v6 {
            warn(PersistProblem::BadV6 { name: name.clone(), address: address.clone() });
        }
        let line = Remembered { name, v4: v4.and_then(Result::ok), v6: v6.and_then(Result::ok) };
        if line.v4.is_some() || line.v6.is_some() {
            found.push((number, line));
        }
    }
    (found, warnings)
}

/// Adds a line to `out`. A name that could not be read back is left out: one with a comma or a control character, or
/// that begins as a comment does.
pub fn render(out: &mut String, line: &Remembered<'_>) {
    use core::fmt::Write;
    let name = line.name;
    if name.is_empty() || name.starts_with(['#', ';']) || name.contains(|c: char| c == ',' || c.is_control())
    {
        return;
    }
    let v4 = line.v4.map(|a| a.to_string()).unwrap_or_default();
    let v6 = line.v6.map(|a| a.to_string()).unwrap_or_default();
    // Writing to a string can't fail.
    let _ = writeln!(out, "{name},{v4},{v6}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_line_is_read() {
        let text = "# comment\n; comment\n\nalice,10.8.0.4,\r\nbob,10.8.0.8\ncarol,,2001:db8::1005\n\
            dave b,10.8.0.12,2001:db8::1006,more\n";
        let (lines, warnings) = parse(text);
        assert_eq!(warnings, []);
        let lines: Vec<_> = lines
            .into_iter()
            .map(|(n, l)| (n, l.name, l.v4.map(|a| a.to_string()), l.v6.map(|a| a.to_string())))
            .collect();
        let v6 = |end: &str| Some(format!("2001:db8::{end}"));
        assert_eq!(
            lines,
            [
                (4, "alice", Some("10.8.0.4".into()), None),
                (5, "bob", Some("10.8.0.8".into()), None),
                (6, "carol", None, v6("1005")),
                (7, "dave b", Some("10.8.0.12".into()), v6("1006")),
            ]
        );
    }

    #[test]
    fn lines_without_use_are_told() {
        let long = "x".repeat(300);
        let text =
            format!("alice\n,10.8.0.4,\nbob,,\ncarol,10.8.0,\ndave,10.8.0.12,::g\n{long},10.8.0.16,\n");
        let (lines, warnings) = parse(&text);
        assert_eq!(lines.len(), 1);
        assert_eq!(
            warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "line 1: not NAME,IPV4,IPV6; the line is ignored",
                "line 2: not NAME,IPV4,IPV6; the line is ignored",
                "line 3: not NAME,IPV4,IPV6; the line is ignored",
                "line 4: '10.8.0' of 'carol' is not an IPv4 address",
                "line 5: '::g' of 'dave' is not an IPv6 address",
                "line 6: longer than 256 bytes; the line is ignored",
            ]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = String::new();
        let line =
            |name| Remembered { name, v4: Some(Ipv4Addr::new(10, 8, 0, 4)), v6: Some(Ipv6Addr::LOCALHOST) };
        for name in ["alice", "#bob", "a,b", "a\nb", ""] {
            render(&mut out, &line(name));
        }
        render(&mut out, &Remembered { v6: None, ..line("carol") });
        render(&mut out, &Remembered { v4: None, ..line("dave") });
        assert_eq!(out, "alice,10.8.0.4,::1\ncarol,10.8.0.4,\ndave,,::1\n");
        assert_eq!(parse(&out).0.len(), 3);
    }
}
