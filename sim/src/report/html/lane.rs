//! The time line of one machine.
//!
//! A drawing is as many pixels high as its units and is stretched to the width of its place, so that a page needs no
//! script to fit a screen. What can't be stretched (text, letters at moments) is HTML at a position in per cent.

use core::fmt::{self, Write};

use super::{
    markup::{Text, bytes, count, plural, short, span, time},
    story::{Band, Flow, Key, Machine, Mark, Sample, Session, Sign},
    window::{Window, rows, runs},
};

/// Most characters of a text that is shown where the pointer rests.
const TITLE: usize = 160;

/// Heights of the tracks of a lane in pixels.
#[derive(Clone, Copy)]
pub(super) struct Heights {
    pub(super) sessions: u64,
    pub(super) keys: u64,
    pub(super) traffic: u64,
}

/// For a few machines.
pub(super) const TALL: Heights = Heights { sessions: 22, keys: 18, traffic: 40 };
/// For many.
pub(super) const LOW: Heights = Heights { sessions: 11, keys: 7, traffic: 16 };

/// Writes the lane of `machine`.
pub(super) fn lane(out: &mut String, machine: &Machine, window: &Window, heights: Heights) -> fmt::Result {
    let flows = window.traffic(&machine.samples);
    let peak = flows.iter().fold([0; 2], |[sent, received], flow| {
        [sent.max(flow.sent_bytes), received.max(flow.received_bytes)]
    });
    let keyed = machine.keys.iter().any(|key| window.meets(key.from, key.to));
    let moving = peak != [0, 0];
    let height = heights.sessions
        + if keyed { heights.keys + 2 } else { 0 }
        + if moving { heights.traffic + 3 } else { 0 };

    let name = Text(&machine.name);
    let hit = if machine.marks.iter().any(|mark| mark.sign == Sign::Violation) { " hit" } else { "" };
    write!(out, "<div class=\"lane{hit}\"><div class=\"who\"><b title=\"{name}\">{name}</b>")?;
    if moving {
        let [sent, received] = peak.map(|peak| bytes(per_second(peak, window)));
        write!(out, "<small title=\"most in a column of pixels\">↑ {sent}/s ↓ {received}/s</small>")?;
    }
    write!(out, "</div><div class=\"plot\">")?;
    chips(out, machine.marks.iter(), window)?;
    write!(
        out,
        "<svg viewBox=\"0 0 {} {height}\" preserveAspectRatio=\"none\" height=\"{height}\">",
        window.width()
    )?;
    let mut y = 0;
    bands(out, &machine.weather, window, "fault", (0, height))?;
    sessions(out, &machine.sessions, window, (y, heights.sessions))?;
    bands(out, &machine.down, window, "down", (y, heights.sessions))?;
    bands(out, &machine.asleep, window, "asleep", (y, heights.sessions))?;
    y += heights.sessions + 2;
    if keyed {
        keys(out, &machine.keys, window, (y, heights.keys))?;
        y += heights.keys + 3;
    }
    if moving {
        traffic(out, (&flows, &window.deaf(&machine.samples)), peak[0].max(peak[1]), (y, heights.traffic))?;
    }
    writeln!(out, "</svg></div></div>")
}

/// How much a column's worth is in a second.
pub(super) fn per_second(amount: u64, window: &Window) -> u64 {
    let parts = u128::from(amount) * 1_000_000_000 * u128::from(window.columns);
    (parts / u128::from(window.len())) as u64
}

/// Most spans that are drawn each for itself.
fn separate(window: &Window) -> usize {
    (window.columns / 8) as usize
}

/// Letters at moments. A letter needs about 14 pixels; what is nearer together shares the letter of what matters most.
pub(super) fn chips<'a>(
    out: &mut String,
    marks: impl Iterator<Item = &'a Mark>,
    window: &Window,
) -> fmt::Result {
    let slots = Window { columns: (window.columns / 13).clamp(1, 70), ..*window };
    let mut taken: Vec<Vec<&Mark>> = vec![Vec::new(); slots.columns as usize];
    marks.filter(|mark| window.has(mark.at)).for_each(|mark| taken[slots.column(mark.at)].push(mark));
    if taken.iter().all(Vec::is_empty) {
        return Ok(());
    }
    write!(out, "<div class=\"chips\">")?;
    for (index, marks) in taken.iter().enumerate() {
        let Some(first) = marks.iter().min_by_key(|mark| mark.sign) else { continue };
        let (letter, class, _) = first.sign.look();
        let place = index as u64 * 10_000 / slots.columns + 5_000 / slots.columns;
        let at = time(first.at, 3);
        let text = short(&first.text, TITLE);
        let (more, many) = match marks.len() - 1 {
            0 => (String::new(), ""),
            others => (format!(" (and {others} more here)"), " many"),
        };
        write!(
            out,
            "<i class=\"{class}{many}\" style=\"left:{}.{:02}%\" title=\"{at} {text}{more}\">{letter}</i>",
            place / 100,
            place % 100
        )?;
    }
    write!(out, "</div>")
}

/// Spans of time behind other things.
fn bands(
    out: &mut String,
    bands: &[Band],
    window: &Window,
    class: &str,
    (y, height): (u64, u64),
) -> fmt::Result {
    let met: Vec<_> = bands.iter().filter(|band| window.meets(band.from, band.to)).collect();
    if met.len() > separate(window) {
        let depth = window.depth(met.iter().map(|band| (band.from, band.to)));
        let any: Vec<bool> = depth.iter().map(|depth| *depth > 0).collect();
        write!(out, "<path class=\"{class}\" d=\"")?;
        for (from, to, _) in runs(&any).into_iter().filter(|(_, _, any)| *any) {
            write!(out, "M{} {y}H{}V{}H{}Z", from * 10, to * 10, y + height, from * 10)?;
        }
        return write!(out, "\"><title>{} times</title></path>", met.len());
    }
    for band in met {
        write!(
            out,
            "<g><title>{} to {}: {}</title>",
            time(band.from, 3),
            time(band.to, 3),
            short(&band.text, TITLE)
        )?;
        rect(out, window, class, (band.from, band.to), (y, height))?;
        write!(out, "</g>")?;
    }
    Ok(())
}

/// A bar, at least one column wide.
fn rect(
    out: &mut String,
    window: &Window,
    class: &str,
    (from, to): (u64, u64),
    (y, height): (u64, u64),
) -> fmt::Result {
    let x = window.x(from).min(window.width() - 10);
    let width = (window.x(to).saturating_sub(x)).max(10);
    write!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>")
}

/// Bars for sessions, or how many there are where bars would not be told apart.
fn sessions(out: &mut String, sessions: &[Session], window: &Window, (y, height): (u64, u64)) -> fmt::Result {
    let met: Vec<_> = sessions.iter().filter(|session| window.meets(session.begun, session.to)).collect();
    let bars = rows(met.iter().map(|session| (session.begun, session.to)), 4);
    let (Some(bars), true) = (bars, met.len() <= separate(window)) else {
        return crowd(out, &met, window, (y, height));
    };
    let most = bars.iter().max().map_or(1, |row| *row as u64 + 1);
    for (session, row) in met.iter().zip(bars) {
        let (top, bottom) = (height * row as u64 / most, height * (row as u64 + 1) / most);
        let place = (y + top, (bottom - top).max(2) - 1);
        let up = session.up.unwrap_or(session.to);
        write!(out, "<g><title>{}</title>", title(session))?;
        if session.begun < up || session.up.is_none() {
            rect(out, window, "con", (session.begun, up), place)?;
        }
        if session.up.is_some() {
            rect(out, window, "up", (up, session.to), place)?;
        }
        if session.cause.is_some() && window.has(session.to) {
            rect(out, window, "end", (session.to, session.to), place)?;
        }
        write!(out, "</g>")?;
    }
    Ok(())
}

fn title(session: &Session) -> String {
    let mut text = format!("session {}: begun {}", session.id, time(session.begun, 3));
    match session.up {
        Some(up) => text += &format!(", up {} (after {})", time(up, 3), span(up - session.begun)),
        None => text += ", never up",
    }
    if !session.summary.is_empty() {
        text += &format!(", {}", short(&session.summary, TITLE));
    }
    match &session.cause {
        Some(cause) => text += &format!(", closed {}: {}", time(session.to, 3), short(cause, TITLE)),
        None => text += ", open at the end",
    }
    text
}

/// How many sessions are up, and above them those that are not yet.
fn crowd(out: &mut String, sessions: &[&Session], window: &Window, (y, height): (u64, u64)) -> fmt::Result {
    let up = window.depth(sessions.iter().filter_map(|session| session.up.map(|up| (up, session.to))));
    let connecting =
        window.depth(sessions.iter().map(|session| (session.begun, session.up.unwrap_or(session.to))));
    let both: Vec<u32> = up.iter().zip(&connecting).map(|(up, connecting)| up + connecting).collect();
    let most = both.iter().copied().max().unwrap_or(0).max(1);
    write!(
        out,
        "<g><title>{}, up to {} at a time; up: {}</title>",
        plural(sessions.len() as u64, "session"),
        count(most.into()),
        count(up.iter().copied().max().unwrap_or(0).into())
    )?;
    area(out, "con", &both, most, (y + height, height))?;
    area(out, "up", &up, most, (y + height, height))?;
    write!(out, "</g>")
}

/// Columns of these values, standing on `base`.
fn area(out: &mut String, class: &str, values: &[u32], most: u32, (base, height): (u64, u64)) -> fmt::Result {
    let tall = |value: u32| (u64::from(value) * height).div_ceil(u64::from(most.max(1)));
    let heights: Vec<u64> = values.iter().map(|value| tall(*value)).collect();
    write!(out, "<path class=\"{class}\" d=\"")?;
    for (from, to, tall) in runs(&heights).into_iter().filter(|(_, _, tall)| *tall > 0) {
        write!(out, "M{} {base}v-{tall}H{}v{tall}z", from * 10, to * 10)?;
    }
    write!(out, "\"/>")
}

/// Generations of keys: pale until they send, strong after; or how many there are.
fn keys(out: &mut String, keys: &[Key], window: &Window, (y, height): (u64, u64)) -> fmt::Result {
    let met: Vec<_> = keys.iter().enumerate().filter(|(_, key)| window.meets(key.from, key.to)).collect();
    let bars = rows(met.iter().map(|(_, key)| (key.from, key.to)), 4);
    let (Some(bars), true) = (bars, met.len() <= separate(window)) else {
        let live = window.depth(met.iter().map(|(_, key)| (key.from, key.to)));
        let fresh = window.density(met.iter().map(|(_, key)| key.from));
        let most = live.iter().copied().max().unwrap_or(1);
        let peak = fresh.iter().copied().max().unwrap_or(1);
        let gap = met.windows(2).map(|pair| pair[1].1.from - pair[0].1.from).max().unwrap_or(0);
        write!(
            out,
            "<g><title>{}; up to {most} live at a time; longest time without a new one {}</title>",
            plural(met.len() as u64, "key"),
            span(gap)
        )?;
        area(out, "live", &live, most, (y + height, height))?;
        area(out, "fresh", &fresh, peak, (y + height, height * 2 / 3))?;
        return write!(out, "</g>");
    };
    let most = bars.iter().max().map_or(1, |row| *row as u64 + 1);
    for ((index, key), row) in met.iter().zip(bars) {
        let (top, bottom) = (height * row as u64 / most, height * (row as u64 + 1) / most);
        let place = (y + top, (bottom - top).max(2) - 1);
        let promoted = key.promoted.unwrap_or(key.to);
        let sends = key
            .promoted
            .map_or_else(|| "never sent with".to_owned(), |at| format!("sends from {}", time(at, 3)));
        let gone =
            if key.retired { format!("retired {}", time(key.to, 3)) } else { "not retired".to_owned() };
        let (peer, id, from) = (key.peer, key.key, time(key.from, 3));
        write!(
            out,
            "<g class=\"k{}\"><title>peer {peer}, key {id}: installed {from}, {sends}, {gone}</title>",
            index % 4
        )?;
        if key.from < promoted {
            rect(out, window, "pre", (key.from, promoted), place)?;
        }
        if key.promoted.is_some() {
            rect(out, window, "key", (promoted, key.to), place)?;
        }
        write!(out, "</g>")?;
    }
    Ok(())
}

/// Bytes sent upwards, bytes received downwards; red where a machine sends and hears nothing.
fn traffic(
    out: &mut String,
    (flows, deaf): (&[Flow], &[bool]),
    peak: u64,
    (y, height): (u64, u64),
) -> fmt::Result {
    let half = height / 2;
    let tall = |value: u64| (u128::from(value) * u128::from(half)).div_ceil(u128::from(peak.max(1))) as u64;
    let shapes: Vec<_> = flows
        .iter()
        .zip(deaf)
        .map(|(flow, deaf)| (tall(flow.sent_bytes), tall(flow.received_bytes), *deaf))
        .collect();
    let middle = y + half;
    let sent = |deaf: bool| {
        let heights: Vec<u64> =
            shapes.iter().map(|(sent, _, d)| if *d == deaf { *sent } else { 0 }).collect();
        steps(&heights, middle, "v-", "v")
    };
    let received: Vec<u64> = shapes.iter().map(|(_, received, _)| *received).collect();
    write!(out, "<path class=\"sent\" d=\"{}\"/>", sent(false))?;
    write!(out, "<path class=\"got\" d=\"{}\"/>", steps(&received, middle, "v", "v-"))?;
    let deaf = sent(true);
    if !deaf.is_empty() {
        write!(out, "<path class=\"deaf\" d=\"{deaf}\"><title>sends and receives nothing</title></path>")?;
    }
    Ok(())
}

/// A shape of columns on a base line.
fn steps(heights: &[u64], base: u64, there: &str, back: &str) -> String {
    runs(heights)
        .into_iter()
        .filter(|(_, _, tall)| *tall > 0)
        .map(|(from, to, tall)| format!("M{} {base}{there}{tall}H{}{back}{tall}z", from * 10, to * 10))
        .collect()
}

/// Throughput of all machines, and below it the share of packets that got lost.
pub(super) fn network(out: &mut String, machines: &[Machine], window: &Window) -> fmt::Result {
    let fine = sum(machines, window);
    let peak = fine.iter().map(|flow| flow.sent_bytes.max(flow.received_bytes)).max().unwrap_or(0);
    if peak == 0 {
        return Ok(());
    }
    let rate = bytes(per_second(peak, window));
    write!(
        out,
        "<div class=\"lane net\"><div class=\"who\"><b>all traffic</b><small>peak {rate}/s</small></div>\
         <div class=\"plot\"><svg viewBox=\"0 0 {} 40\" preserveAspectRatio=\"none\" height=\"40\">",
        window.width()
    )?;
    let tall = |value: u64| (u128::from(value) * 40).div_ceil(u128::from(peak)) as u64;
    let sent: Vec<u64> = fine.iter().map(|flow| tall(flow.sent_bytes)).collect();
    let received: Vec<u64> = fine.iter().map(|flow| tall(flow.received_bytes)).collect();
    write!(out, "<path class=\"sent\" d=\"{}\"><title>sent</title></path>", steps(&sent, 40, "v-", "v"))?;
    write!(
        out,
        "<path class=\"got\" d=\"{}\"><title>received</title></path>",
        steps(&received, 40, "v-", "v")
    )?;
    writeln!(out, "</svg></div></div>")?;

    // Within the time of a sample nothing is known, and single packets would be lost by rounding.
    let met = |sample: &&Sample| window.has(sample.to);
    let samples = machines.iter().flat_map(|machine| machine.samples.iter().filter(met));
    let longest = samples.map(|sample| sample.to - sample.from).max().unwrap_or(0).max(1);
    let most = (window.columns / 8).min(window.len() / longest);
    let coarse = Window { columns: most.max(1), ..*window };
    let lost: Vec<u64> = sum(machines, &coarse)
        .iter()
        .map(|flow| (flow.sent.saturating_sub(flow.received) * 100).checked_div(flow.sent).unwrap_or(0))
        .collect();
    let worst = lost.iter().copied().max().unwrap_or(0);
    write!(
        out,
        "<div class=\"lane net\"><div class=\"who\"><b>packets lost</b><small>at most {worst} %, root scale</small></div>\
         <div class=\"plot\"><svg viewBox=\"0 0 {} 25\" preserveAspectRatio=\"none\" height=\"25\">",
        coarse.width()
    )?;
    // By the square root: one per cent is seen beside a black hole.
    let heights: Vec<u64> = lost.iter().map(|percent| (percent * 100).isqrt().div_ceil(4)).collect();
    write!(out, "<path class=\"lost\" d=\"{}\"/>", steps(&heights, 25, "v-", "v"))?;
    writeln!(out, "</svg></div></div>")
}

fn sum(machines: &[Machine], window: &Window) -> Vec<Flow> {
    let mut total = vec![Flow::default(); window.columns as usize];
    for machine in machines {
        for (total, flow) in total.iter_mut().zip(window.traffic(&machine.samples)) {
            total.add(flow);
        }
    }
    total
}
