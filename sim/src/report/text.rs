//! The event log of a run as text.

use std::io::{self, Write};

use super::{Clock, Head};
use crate::trace::Tape;

/// Writes a header and a line for each record: virtual time, machine, what.
///
/// Control characters in texts are shown as escapes, so that a line is a line whatever a record holds. The plan may
/// have several lines; each is indented.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, head: &Head<'_>, tape: &Tape) -> io::Result<()> {
    writeln!(out, "seed    {}", head.seed)?;
    writeln!(out, "commit  {}", OneLine(head.commit))?;
    writeln!(out, "result  {}", OneLine(head.failure.unwrap_or("ok")))?;
    writeln!(out, "ended   {}", Clock(head.end))?;
    writeln!(out, "hash    {:016x}", tape.digest())?;
    if !head.replay.is_empty() {
        writeln!(out, "replay  {}", OneLine(head.replay))?;
    }
    for (n, line) in head.plan.lines().enumerate() {
        writeln!(out, "{:7} {}", if n == 0 { "plan" } else { "" }, OneLine(line))?;
    }
    writeln!(out)?;
    let width = tape.names.iter().map(|name| name.chars().count()).max().unwrap_or(0).clamp(7, 24);
    for record in &tape.records {
        let who = record.who.map_or_else(|| "network".to_owned(), |who| tape.name(who));
        let what = record.what.to_string();
        writeln!(
            out,
            "{:>15}  {:width$}  {}",
            Clock(record.at).to_string(),
            OneLine(&who).to_string(),
            OneLine(&what)
        )?;
    }
    Ok(())
}

/// A text without control characters.
struct OneLine<'a>(&'a str);

impl core::fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for c in self.0.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn a_line_for_each_record_below_the_header() {
        let tape = samples::every_what();
        let head = Head { plan: "two peers\nno faults", ..samples::head(Some("bad\nthing")) };
        let mut out = Vec::new();
        write(&mut out, &head, &tape).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (top, log) = text.split_once("\n\n").unwrap();
        assert!(top.contains("seed    7\n") && top.contains("result  bad\\nthing\n"), "{top}");
        assert!(top.ends_with("plan    two peers\n        no faults"), "{top}");
        assert_eq!(log.lines().count(), tape.records.len());
        assert!(log.lines().next().unwrap().starts_with(" 0:00:00.500000  "), "{log}");
        assert!(log.contains("network       weather: black hole\n"), "{log}");
    }
}
