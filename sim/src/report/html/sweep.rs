//! The page of many runs.

use core::{
    fmt::{self, Write},
    time::Duration,
};
use std::collections::BTreeMap;

use super::markup::{Text, count, percent, plural, short, span};

/// Most failures in their table.
const FAILURES: usize = 500;
/// Most seeds in theirs.
const SEEDS: usize = 2_000;
/// Columns of a histogram.
const COLUMNS: usize = 40;

/// Many runs.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// Title of the page.
    pub title: String,
    /// Which code ran.
    pub commit: String,
    /// Real time of the whole sweep.
    pub elapsed: Duration,
    /// How many cores it had.
    pub cores: u32,
    /// A run each.
    pub seeds: Vec<Seed>,
    /// Mutants of the product, and what caught them.
    pub mutants: Vec<Mutant>,
    /// Other tables, such as throughput by loss.
    pub tables: Vec<Table>,
}

/// One run of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// The seed.
    pub seed: u64,
    /// Its plan in a line.
    pub plan: String,
    /// What its plan is of each kind, as `("wrap", "tls-crypt")`: a table for each kind is made of it.
    pub kinds: Vec<(String, String)>,
    /// What went wrong.
    pub failure: Option<String>,
    /// How long the run was in virtual time.
    pub virtual_time: Duration,
    /// How long it took.
    pub real: Duration,
    /// The rolling hash at the end.
    pub hash: u64,
    /// How often faults hit, as `("corrupted", 12)`.
    pub faults: Vec<(String, u64)>,
    /// Address of the run's own page, from where this one is.
    pub page: Option<String>,
}

/// A deliberate error in the product.
#[derive(Clone, Debug, Default)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// What is wrong in it.
    pub about: String,
    /// The seed that caught it; none if it lives.
    pub caught: Option<u64>,
    /// The violation that was seen.
    pub by: String,
    /// How many seeds ran.
    pub tried: u64,
}

/// A table as it is.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// Words above the columns.
    pub head: Vec<String>,
    /// Cells. The first of a row is its name.
    pub rows: Vec<Vec<String>>,
}

/// Sums of some seeds.
#[derive(Clone, Copy, Default)]
struct Sum {
    runs: u64,
    failed: u64,
    virtual_time: Duration,
    real: Duration,
}

impl Sum {
    fn add(&mut self, seed: &Seed) {
        self.runs += 1;
        self.failed += u64::from(seed.failure.is_some());
        self.virtual_time = self.virtual_time.saturating_add(seed.virtual_time);
        self.real = self.real.saturating_add(seed.real);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn body(sweep: &Sweep) -> Result<String, fmt::Error> {
    let mut out = String::new();
    top(&mut out, sweep)?;
    failures(&mut out, sweep)?;
    if !sweep.mutants.is_empty() {
        mutants(&mut out, &sweep.mutants)?;
    }
    for given in &sweep.tables {
        table(&mut out, given)?;
    }
    kinds(&mut out, &sweep.seeds)?;
    faults(&mut out, &sweep.seeds)?;
    writeln!(out, "<div class=\"pair\">")?;
    histogram(&mut out, "Real time of a seed", sweep.seeds.iter().map(|seed| nanos(seed.real)))?;
    histogram(&mut out, "Virtual time of a seed", sweep.seeds.iter().map(|seed| nanos(seed.virtual_time)))?;
    writeln!(out, "</div>")?;
    seeds(&mut out, &sweep.seeds)?;
    Ok(out)
}

fn top(out: &mut String, sweep: &Sweep) -> fmt::Result {
    let mut sum = Sum::default();
    sweep.seeds.iter().for_each(|seed| sum.add(seed));
    let (class, verdict) = match sum.failed {
        0 => ("ok", "no violation".to_owned()),
        failed => ("bad", plural(failed, "violation")),
    };
    let title = Text(&sweep.title);
    writeln!(out, "<header><h1>{title} <span class=\"verdict {class}\">{verdict}</span></h1><dl>")?;
    let per_second = |time: Duration| match time.as_millis() {
        0 => "-".to_owned(),
        millis => {
            let tenths = u128::from(sum.runs) * 10_000 / millis;
            format!("{}.{}", tenths / 10, tenths % 10)
        }
    };
    let speed = sum.virtual_time.as_nanos().checked_div(sum.real.as_nanos()).unwrap_or(0);
    for (name, value) in [
        ("seeds", count(sum.runs)),
        ("failed", count(sum.failed)),
        ("virtual time", span(nanos(sum.virtual_time))),
        ("real time", span(nanos(sweep.elapsed))),
        ("cores", sweep.cores.to_string()),
        ("seeds per second", per_second(sweep.elapsed)),
        ("seeds per core-second", per_second(sum.real)),
        ("faster than life", format!("{}×", count(u64::try_from(speed).unwrap_or(u64::MAX)))),
        ("commit", format!("<code>{}</code>", Text(&sweep.commit))),
    ] {
        writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    writeln!(out, "</dl></header>")
}

fn failures(out: &mut String, sweep: &Sweep) -> fmt::Result {
    let failed: Vec<&Seed> = sweep.seeds.iter().filter(|seed| seed.failure.is_some()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    // The same text with other numbers is most likely the same error.
    let mut alike: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for seed in &failed {
        let text = seed.failure.as_deref().unwrap_or_default();
        let known = alike.entry(without_numbers(text)).or_insert((0, seed.seed));
        known.0 += 1;
    }
    writeln!(
        out,
        "<section><h2>Violations <small>{}, {}</small></h2>",
        plural(failed.len() as u64, "seed"),
        plural(alike.len() as u64, "kind")
    )?;
    let mut groups: Vec<_> = alike.into_iter().collect();
    groups.sort_by(|a, b| b.1.0.cmp(&a.1.0).then(a.0.cmp(&b.0)));
    write!(
        out,
        "<div class=\"scroll\"><table><thead><tr><th>violation</th><th>seeds</th><th>first seed</th></tr>"
    )?;
    writeln!(out, "</thead><tbody>")?;
    for (text, (many, first)) in groups.iter().take(FAILURES) {
        writeln!(
            out,
            "<tr class=\"bad\"><th>{}</th><td>{}</td><td>{first}</td></tr>",
            short(text, 300),
            count(*many)
        )?;
    }
    writeln!(out, "</tbody></table></div><h3>Each of them</h3>")?;
    seed_table(out, failed.iter().copied().take(FAILURES))?;
    writeln!(out, "</section>")
}

/// A text with each number replaced, so that two that differ in numbers only are equal.
fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            c => plain.push(c),
        }
    }
    plain
}

fn seed_table<'a>(out: &mut String, seeds: impl Iterator<Item = &'a Seed>) -> fmt::Result {
    writeln!(
        out,
        "<div class=\"scroll\"><table><thead><tr><th>seed</th><th class=\"text\">result</th><th class=\"text\">plan</th><th>virtual</th>\
         <th>real</th><th class=\"text\">faults that hit</th><th>hash</th></tr></thead><tbody>"
    )?;
    for seed in seeds {
        let (class, result) = match &seed.failure {
            Some(text) => (" class=\"bad\"", short(text, 300)),
            None => ("", "ok".to_owned()),
        };
        let name = match &seed.page {
            Some(page) => format!("<a href=\"{}\">{}</a>", Text(&address(page)), seed.seed),
            None => seed.seed.to_string(),
        };
        let plan = short(&seed.plan, 200);
        let (virtual_time, real) = (span(nanos(seed.virtual_time)), span(nanos(seed.real)));
        write!(
            out,
            "<tr{class}><th>{name}</th><td class=\"text\">{result}</td><td class=\"text\">{plan}</td>"
        )?;
        write!(out, "<td>{virtual_time}</td><td>{real}</td><td class=\"text\">")?;
        for (n, (fault, times)) in seed.faults.iter().filter(|(_, times)| *times > 0).enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(out, "{comma}{} {}", Text(fault), count(*times))?;
        }
        writeln!(out, "</td><td><code>{:016x}</code></td></tr>", seed.hash)?;
    }
    writeln!(out, "</tbody></table></div>")
}

/// An address that is relative whatever it holds: no scheme can hide in it.
fn address(page: &str) -> String {
    format!("./{}", page.trim_start_matches('/'))
}

fn mutants(out: &mut String, mutants: &[Mutant]) -> fmt::Result {
    let alive = mutants.iter().filter(|mutant| mutant.caught.is_none()).count() as u64;
    let (class, words) = match alive {
        0 => ("ok", "all caught".to_owned()),
        alive => ("bad", format!("{} alive", count(alive))),
    };
    writeln!(
        out,
        "<section><h2>Mutants <span class=\"verdict {class}\">{words}</span></h2><div class=\"scroll\"><table>\
         <thead><tr><th>mutant</th><th class=\"text\">what is wrong</th><th>caught by seed</th><th class=\"text\">as</th><th>seeds run</th></tr>\
         </thead><tbody>"
    )?;
    let mut order: Vec<&Mutant> = mutants.iter().collect();
    order.sort_by_key(|mutant| mutant.caught.is_some());
    for mutant in order {
        let (class, seed) = match mutant.caught {
            Some(seed) => ("", seed.to_string()),
            None => (" class=\"bad\"", "not caught".to_owned()),
        };
        let (name, about) = (Text(&mutant.name), Text(&mutant.about));
        let (by, tried) = (short(&mutant.by, 300), count(mutant.tried));
        writeln!(
            out,
            "<tr{class}><th>{name}</th><td class=\"text\">{about}</td><td>{seed}</td><td class=\"text\">{by}</td>\
             <td>{tried}</td></tr>"
        )?;
    }
    writeln!(out, "</tbody></table></div></section>")
}

fn table(out: &mut String, table: &Table) -> fmt::Result {
    writeln!(out, "<section><h2>{}</h2><div class=\"scroll\"><table><thead><tr>", Text(&table.title))?;
    for word in &table.head {
        write!(out, "<th>{}</th>", Text(word))?;
    }
    writeln!(out, "</tr></thead><tbody>")?;
    for row in &table.rows {
        write!(out, "<tr>")?;
        for (n, cell) in row.iter().enumerate() {
            let tag = if n == 0 { "th" } else { "td" };
            write!(out, "<{tag}>{}</{tag}>", Text(cell))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div></section>")
}

/// For each kind a table: how many seeds, how many failed.
fn kinds(out: &mut String, seeds: &[Seed]) -> fmt::Result {
    let mut kinds: BTreeMap<&str, BTreeMap<&str, Sum>> = BTreeMap::new();
    for seed in seeds {
        for (kind, value) in &seed.kinds {
            kinds.entry(kind).or_default().entry(value).or_default().add(seed);
        }
    }
    if kinds.is_empty() {
        return Ok(());
    }
    writeln!(out, "<section><h2>By plan</h2><div class=\"cards\">")?;
    for (kind, values) in kinds {
        writeln!(
            out,
            "<table><thead><tr><th>{}</th><th>seeds</th><th></th><th>failed</th><th>ms each</th></tr></thead><tbody>",
            Text(kind)
        )?;
        let most = values.values().map(|sum| sum.runs).max().unwrap_or(1);
        for (value, sum) in values {
            // One failure in thousands is seen as well.
            let bad = (sum.failed * 100).div_ceil(most);
            let good = ((sum.runs - sum.failed) * 100 / most).min(100 - bad);
            let (hot, failed) = match sum.failed {
                0 => ("", "0".to_owned()),
                failed => (" class=\"hot\"", format!("{} ({})", count(failed), percent(failed, sum.runs))),
            };
            writeln!(
                out,
                "<tr><th>{}</th><td>{}</td><td class=\"bar\"><b style=\"width:{good}%\"></b>\
                 <b class=\"bad\" style=\"width:{bad}%\"></b></td><td{hot}>{failed}</td><td>{}</td></tr>",
                Text(value),
                count(sum.runs),
                u64::try_from(sum.real.as_millis()).unwrap_or(u64::MAX) / sum.runs.max(1),
            )?;
        }
        writeln!(out, "</tbody></table>")?;
    }
    writeln!(out, "</div></section>")
}

/// How often each fault hit, and in how many seeds: a fault that never hits tests nothing.
fn faults(out: &mut String, seeds: &[Seed]) -> fmt::Result {
    let mut faults: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for seed in seeds {
        for (fault, times) in &seed.faults {
            let known = faults.entry(fault).or_default();
            known.0 += u64::from(*times > 0);
            known.1 += times;
            known.2 += u64::from(*times > 0 && seed.failure.is_some());
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section><h2>Faults that hit</h2><div class=\"scroll\"><table><thead><tr><th>fault</th><th>seeds</th>\
         <th>of all</th><th>times</th><th>failed seeds</th></tr></thead><tbody>"
    )?;
    for (fault, (hit, times, failed)) in faults {
        let class = if hit == 0 { " class=\"bad\"" } else { "" };
        let never = if hit == 0 { "(never)" } else { "" };
        writeln!(
            out,
            "<tr{class}><th>{} {never}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Text(fault),
            count(hit),
            percent(hit, seeds.len() as u64),
            count(times),
            count(failed)
        )?;
    }
    writeln!(out, "</tbody></table></div></section>")
}

/// How many seeds took how long, on a scale up to the longest.
fn histogram(out: &mut String, title: &str, times: impl Iterator<Item = u64>) -> fmt::Result {
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    let (Some(most), middle) = (times.last().copied(), times.get(times.len() / 2).copied().unwrap_or(0))
    else {
        return Ok(());
    };
    let mut columns = [0_u64; COLUMNS];
    for time in &times {
        let column = u128::from(*time) * COLUMNS as u128 / (u128::from(most) + 1);
        columns[column as usize] += 1;
    }
    let peak = columns.iter().copied().max().unwrap_or(1).max(1);
    let percentile = times[(times.len() * 99 / 100).min(times.len() - 1)];
    writeln!(
        out,
        "<section class=\"histogram\"><h2>{title}</h2><svg viewBox=\"0 0 {} 80\" preserveAspectRatio=\"none\" height=\"80\">",
        COLUMNS * 10
    )?;
    for (n, many) in columns.iter().enumerate().filter(|(_, many)| **many > 0) {
        let tall = (many * 78).div_ceil(peak);
        let (from, to) = (
            u64::try_from(u128::from(most) * n as u128 / COLUMNS as u128).unwrap_or(0),
            most / COLUMNS as u64,
        );
        write!(
            out,
            "<rect class=\"sent\" x=\"{}\" y=\"{}\" width=\"9\" height=\"{tall}\"><title>{} to {}: {}</title></rect>",
            n * 10,
            80 - tall,
            span(from),
            span(from + to),
            plural(*many, "seed")
        )?;
    }
    writeln!(
        out,
        "</svg><p class=\"scale\"><span>0</span><span>median {} · 99 % {}</span><span>{}</span></p></section>",
        span(middle),
        span(percentile),
        span(most)
    )
}

fn seeds(out: &mut String, seeds: &[Seed]) -> fmt::Result {
    if seeds.is_empty() {
        return Ok(());
    }
    let left = seeds.len().saturating_sub(SEEDS);
    let note = if left > 0 { format!("; {} more not shown", count(left as u64)) } else { String::new() };
    let shown = count(seeds.len().min(SEEDS) as u64);
    writeln!(out, "<details><summary>All seeds <small>{shown}{note}</small></summary>")?;
    seed_table(out, seeds.iter().take(SEEDS))?;
    writeln!(out, "</details>")
}
