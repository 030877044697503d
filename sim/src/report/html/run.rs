//! The page of one run.

use core::fmt::{self, Write};

use super::{
    lane::{LOW, TALL, chips, lane, network},
    markup::{Text, bytes, count, percent, plural, short, span, time},
    story::{Band, Machine, Sign, Story},
    window::{Window, rows, runs},
};
use crate::{
    report::Head,
    trace::{Record, Tape, What},
};

/// Columns of all lanes together; their number bounds the size of a page.
const COLUMNS: u64 = 20_000;
/// Most lanes.
const LANES: usize = 150;
/// Most lanes of a part of the run.
const PART_LANES: usize = 10;
/// Records that are shown before and after a violation, or before the end.
const EVENTS: (usize, usize) = (60, 12);
/// Bands of weather that are shown each for itself.
const BANDS: usize = 120;

/// The page.
pub(super) fn body(head: &Head<'_>, tape: &Tape) -> Result<String, fmt::Error> {
    let story = Story::read(head, tape);
    let mut out = String::new();
    top(&mut out, head, tape, &story)?;
    legend(&mut out)?;
    let all: Vec<usize> = (0..story.machines.len().min(LANES)).collect();
    let whole = Window { from: 0, to: story.end, columns: columns(all.len()) };
    if let Some(part) = part(&story) {
        let near = near(&story, &part);
        let title = if story.violations.is_empty() { "The end of the run" } else { "Around the violation" };
        let left = story.machines.len() - near.len();
        let more =
            if left > 0 { format!("; {} not shown", plural(left as u64, "machine")) } else { String::new() };
        let about = format!("{} to {}{more}", time(part.from, 1), time(part.to, 1));
        stage(&mut out, (title, &about), &story, &near, &part)?;
    }
    let left = story.machines.len() - all.len();
    let more =
        if left > 0 { format!("; {} not shown", plural(left as u64, "machine")) } else { String::new() };
    stage(&mut out, ("The whole run", &format!("{}{more}", span(story.end))), &story, &all, &whole)?;
    events(&mut out, tape, &story)?;
    table(&mut out, &story)?;
    Ok(out)
}

fn columns(lanes: usize) -> u64 {
    (COLUMNS / lanes.max(1) as u64).clamp(120, 1_200)
}

fn top(out: &mut String, head: &Head<'_>, tape: &Tape, story: &Story) -> fmt::Result {
    let class = if head.failure.is_some() || !story.violations.is_empty() { "bad" } else { "ok" };
    let verdict = if class == "ok" { "ok" } else { "violation" };
    writeln!(out, "<header><h1>seed {} <span class=\"verdict {class}\">{verdict}</span></h1>", head.seed)?;
    if let Some(text) = head.failure.or_else(|| story.violations.first().map(|(_, _, text)| text.as_str())) {
        let place = story.violations.first().map_or_else(String::new, |(at, who, _)| {
            let who = who.map_or_else(|| "the network".to_owned(), |who| tape.name(who));
            format!("<small>at {} · {}</small>", time(*at, 6), Text(&who))
        });
        writeln!(out, "<p class=\"failure\">{}{place}</p>", Text(text))?;
    }
    let total = story.total();
    let lost = total.sent.saturating_sub(total.received);
    let sessions: usize = story.machines.iter().map(|machine| machine.sessions.len()).sum();
    let keys: usize = story.machines.iter().map(|machine| machine.keys.len()).sum();
    writeln!(out, "<dl>")?;
    for (name, value) in [
        ("virtual time", span(story.end)),
        ("machines", count(story.machines.len() as u64)),
        ("sessions", count(sessions as u64)),
        ("keys", count(keys as u64)),
        ("packets sent", count(total.sent)),
        ("lost", format!("{} ({})", count(lost), percent(lost, total.sent))),
        ("commit", format!("<code>{}</code>", Text(head.commit))),
        ("hash", format!("<code>{:016x}</code>", tape.digest())),
    ] {
        writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    writeln!(out, "</dl>")?;
    if !head.replay.is_empty() {
        writeln!(out, "<pre class=\"replay\">{}</pre>", Text(head.replay))?;
    }
    let lines = head.plan.lines().count();
    let open = if lines <= 12 { " open=\"\"" } else { "" };
    if lines > 0 {
        writeln!(out, "<details{open}><summary>plan</summary><pre>{}</pre></details>", Text(head.plan))?;
    }
    writeln!(out, "</header>")
}

fn legend(out: &mut String) -> fmt::Result {
    write!(out, "<div class=\"legend\">")?;
    for (class, text) in [
        ("con", "connecting"),
        ("up", "up"),
        ("off", "off"),
        ("asleep", "asleep"),
        ("key", "keys, by turns"),
        ("pre", "key not yet sent with"),
        ("sent", "sent"),
        ("got", "received"),
        ("deaf", "sends, hears nothing"),
        ("fault", "fault"),
    ] {
        write!(out, "<span><u class=\"s-{class}\"></u>{text}</span>")?;
    }
    for sign in Sign::ALL {
        let (letter, class, words) = sign.look();
        write!(out, "<span><i class=\"{class}\">{letter}</i>{words}</span>")?;
    }
    writeln!(out, "</div>")
}

/// The part of the run that deserves a picture of its own.
fn part(story: &Story) -> Option<Window> {
    const SECOND: u64 = 1_000_000_000;
    let length = (story.end / 20).clamp(20 * SECOND, 180 * SECOND);
    let at = match story.violations.first() {
        Some((at, ..)) => *at,
        // A short run shows everything already.
        None if story.end < 1_200 * SECOND => return None,
        None => story.end,
    };
    let to = (at + length / 5).min(story.end).max(1);
    let from = to.saturating_sub(length);
    (to - from < story.end / 2).then_some(Window { from, to, columns: 1_200 })
}

/// Machines that have to do with a part of the run: those of violations, then those with the most events.
fn near(story: &Story, part: &Window) -> Vec<usize> {
    let blamed = |index: usize| {
        story.violations.iter().any(|(_, who, text)| {
            who.is_some_and(|who| usize::from(who.0) == index) || names(text, &story.machines[index].name)
        })
    };
    let events = |machine: &Machine| {
        machine.marks.iter().filter(|mark| part.has(mark.at)).count()
            + machine.sessions.iter().filter(|session| part.has(session.begun)).count()
            + machine.sessions.iter().filter(|session| part.meets(session.begun, session.to)).count()
    };
    let mut order: Vec<_> = story
        .machines
        .iter()
        .enumerate()
        .map(|(index, machine)| (!blamed(index), core::cmp::Reverse(events(machine)), index))
        .collect();
    order.sort_unstable();
    let mut near: Vec<_> = order.into_iter().take(PART_LANES).map(|(.., index)| index).collect();
    near.sort_unstable();
    near
}

/// Whether a text has this name in it, not as a part of a longer one.
fn names(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    !name.is_empty()
        && text
            .match_indices(name)
            .any(|(at, _)| !text[..at].ends_with(part) && !text[at + name.len()..].starts_with(part))
}

/// A time axis, weather, and the lanes of these machines.
fn stage(
    out: &mut String,
    (title, about): (&str, &str),
    story: &Story,
    lanes: &[usize],
    window: &Window,
) -> fmt::Result {
    // Among many machines the one with the sessions of all is the server.
    let sessions: usize = lanes.iter().map(|index| story.machines[*index].sessions.len()).sum();
    let busy = 3 * sessions / lanes.len().max(1);
    writeln!(out, "<section><h2>{title} <small>{}</small></h2>\n<div class=\"stage\">", Text(about))?;
    behind(out, story, window)?;
    axis(out, story, window)?;
    weather(out, story, window)?;
    network(out, &story.machines, window)?;
    for index in lanes {
        let machine = &story.machines[*index];
        let low = lanes.len() > 12 && machine.sessions.len() <= busy;
        lane(out, machine, window, if low { LOW } else { TALL })?;
    }
    writeln!(out, "</div></section>")
}

/// What stands behind all lanes: lines of the time axis, bands of weather; and before them the violation.
fn behind(out: &mut String, story: &Story, window: &Window) -> fmt::Result {
    write!(out, "<div class=\"over\">")?;
    for at in window.ticks(12) {
        write!(out, "<s style=\"left:{}\"></s>", window.percent(at))?;
    }
    let met = story.network.weather.iter().filter(|band| window.meets(band.from, band.to));
    let coarse = Window { columns: window.columns.min(400), ..*window };
    let depth: Vec<u32> =
        coarse.depth(met.map(|band| (band.from, band.to))).into_iter().map(|depth| depth.min(3)).collect();
    for (from, to, depth) in runs(&depth).into_iter().filter(|(_, _, depth)| *depth > 0) {
        let place = |column: u64| {
            let parts = column * 10_000 / coarse.columns;
            format!("{}.{:02}%", parts / 100, parts % 100)
        };
        write!(
            out,
            "<em class=\"d{depth}\" style=\"left:{};width:{}\"></em>",
            place(from),
            place(to - from)
        )?;
    }
    writeln!(out, "</div>")?;
    write!(out, "<div class=\"over front\">")?;
    for (at, _, text) in story.violations.iter().filter(|(at, ..)| window.has(*at)).take(20) {
        write!(
            out,
            "<q style=\"left:{}\" title=\"{} {}\"></q>",
            window.percent(*at),
            time(*at, 3),
            short(text, 200)
        )?;
    }
    writeln!(out, "</div>")
}

fn axis(out: &mut String, story: &Story, window: &Window) -> fmt::Result {
    write!(out, "<div class=\"lane axis\"><div class=\"who\"></div><div class=\"plot\">")?;
    let ticks = window.ticks(12);
    let step = ticks.get(1).map_or(window.len(), |second| second - ticks[0]);
    let decimals = if step.is_multiple_of(1_000_000_000) { 0 } else { 3 };
    for (n, at) in ticks.iter().enumerate() {
        let place = window.scale(*at, 100);
        let class = if place > 96 { " last" } else { "" };
        let odd = if n % 2 == 1 { " odd" } else { "" };
        let (left, label) = (window.percent(*at), time(*at, decimals));
        write!(out, "<span class=\"tick{odd}{class}\" style=\"left:{left}\">{label}</span>")?;
    }
    if let Some((at, ..)) = story.violations.iter().find(|(at, ..)| window.has(*at)) {
        let class = if window.scale(*at, 100) > 80 { " last" } else { "" };
        let (left, when) = (window.percent(*at), time(*at, 3));
        write!(out, "<span class=\"flag{class}\" style=\"left:{left}\">violation {when}</span>")?;
    }
    writeln!(out, "</div></div>")
}

/// What the network as a whole suffers, with words.
fn weather(out: &mut String, story: &Story, window: &Window) -> fmt::Result {
    let network = &story.network;
    let mut met: Vec<&Band> =
        network.weather.iter().filter(|band| window.meets(band.from, band.to)).collect();
    met.sort_by_key(|band| band.from);
    let marks = network.marks.iter().any(|mark| window.has(mark.at));
    if met.is_empty() && !marks {
        return Ok(());
    }
    let hidden = met.len().saturating_sub(BANDS);
    met.truncate(BANDS);
    let note =
        if hidden > 0 { format!("<small>{} more</small>", count(hidden as u64)) } else { String::new() };
    write!(out, "<div class=\"lane net\"><div class=\"who\"><b>network</b>{note}</div><div class=\"plot\">")?;
    chips(out, network.marks.iter(), window)?;
    let places = rows(met.iter().map(|band| (band.from, band.to)), usize::MAX).unwrap_or_default();
    let most = places.iter().max().map_or(0, |row| row + 1).min(8);
    write!(out, "<div class=\"weather\" style=\"height:{}px\">", most * 17)?;
    for (band, row) in met.iter().zip(places) {
        let width = window.scale(band.to, 10_000) - window.scale(band.from, 10_000);
        let text = short(&band.text, 200);
        // Half a letter tells nothing; the title has it all.
        let label = if width < 250 { "" } else { &text };
        write!(
            out,
            "<span style=\"left:{};width:{}.{:02}%;top:{}px\" title=\"{} to {}: {text}\">{label}</span>",
            window.percent(band.from),
            width / 100,
            width % 100,
            row % 8 * 17,
            time(band.from, 3),
            time(band.to, 3)
        )?;
    }
    writeln!(out, "</div></div></div>")
}

/// The records around the first violation, or the last ones.
fn events(out: &mut String, tape: &Tape, story: &Story) -> fmt::Result {
    let shown: Vec<&Record> =
        tape.records.iter().filter(|record| !matches!(record.what, What::Sample { .. })).collect();
    let violation = shown.iter().position(|record| matches!(record.what, What::Violation(_)));
    let middle = violation.unwrap_or(shown.len());
    let from = middle.saturating_sub(EVENTS.0);
    let to = (middle + EVENTS.1).min(shown.len());
    let (title, open) = match violation {
        Some(_) => ("Events up to the violation", " open=\"\""),
        None => ("Last events", ""),
    };
    let all = plural(shown.len() as u64, "event");
    writeln!(
        out,
        "<details{open}><summary>{title} <small>{} of {all}; samples left out</small></summary>\
         <div class=\"scroll\"><table class=\"log\"><tbody>",
        count((to - from) as u64)
    )?;
    for record in &shown[from..to] {
        let class = match record.what {
            What::Violation(_) => " class=\"bad\"",
            What::Weather(_) | What::Cleared(_) | What::Healed => " class=\"sky\"",
            _ => "",
        };
        let who = record.who.map_or_else(|| "network".to_owned(), |who| tape.name(who));
        let at = time(record.at.as_nanos().min(story.end), 6);
        let what = short(&record.what.to_string(), 600);
        writeln!(out, "<tr{class}><td>{at}</td><th>{}</th><td>{what}</td></tr>", Text(&who))?;
    }
    writeln!(out, "</tbody></table></div></details>")
}

/// Figures of each machine.
fn table(out: &mut String, story: &Story) -> fmt::Result {
    writeln!(
        out,
        "<section><h2>Machines</h2><div class=\"scroll\"><table><thead><tr><th>machine</th><th>sessions</th>\
         <th>came up</th><th>reconnects</th><th>keys</th><th>floats, moves</th><th>crashes</th><th>sleeps</th>\
         <th>packets sent</th><th>received</th><th>bytes sent</th><th>received</th><th>lost</th>\
         </tr></thead><tbody>"
    )?;
    // With two machines, what one sends is for the other.
    let talking: Vec<usize> =
        (0..story.machines.len()).filter(|n| !story.machines[*n].samples.is_empty()).collect();
    for (index, machine) in story.machines.iter().enumerate() {
        let peer = match talking[..] {
            [a, b] if index == a => Some(b),
            [a, b] if index == b => Some(a),
            _ => None,
        };
        let lost = peer.map_or_else(
            || "-".to_owned(),
            |peer| {
                let lost = machine.total.sent.saturating_sub(story.machines[peer].total.received);
                format!("{} ({})", count(lost), percent(lost, machine.total.sent))
            },
        );
        let marks =
            |wanted: &[Sign]| machine.marks.iter().filter(|mark| wanted.contains(&mark.sign)).count() as u64;
        let up = machine.sessions.iter().filter(|session| session.up.is_some()).count() as u64;
        write!(out, "<tr><th>{}</th>", Text(&machine.name))?;
        for number in [
            machine.sessions.len() as u64,
            up,
            machine.reconnects(),
            machine.keys.len() as u64,
            marks(&[Sign::Floated, Sign::Moved]),
            marks(&[Sign::Crash]),
            marks(&[Sign::Sleep]),
            machine.total.sent,
            machine.total.received,
        ] {
            write!(out, "<td>{}</td>", count(number))?;
        }
        let [sent, received] = [machine.total.sent_bytes, machine.total.received_bytes].map(bytes);
        writeln!(out, "<td>{sent}</td><td>{received}</td><td>{lost}</td></tr>")?;
    }
    let total = story.total();
    let lost = total.sent.saturating_sub(total.received);
    writeln!(
        out,
        "</tbody><tfoot><tr><th>all</th><td colspan=\"7\"></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{} ({})</td></tr></tfoot></table></div></section>",
        count(total.sent),
        count(total.received),
        bytes(total.sent_bytes),
        bytes(total.received_bytes),
        count(lost),
        percent(lost, total.sent)
    )
}
