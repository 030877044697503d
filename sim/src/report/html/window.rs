//! A part of the virtual time, cut into columns of pixels.

use super::story::{Flow, Sample};

/// Units of a drawing's width for each column.
const UNITS: u64 = 10;

/// A part of the virtual time and how fine it is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// First nanosecond.
    pub(super) from: u64,
    /// After the last nanosecond; more than `from`.
    pub(super) to: u64,
    /// How many columns; at least 1.
    pub(super) columns: u64,
}

impl Window {
    pub(super) fn len(&self) -> u64 {
        self.to - self.from
    }

    /// Width of a drawing in its own units.
    pub(super) fn width(&self) -> u64 {
        self.columns * UNITS
    }

    /// Where a moment is, in a drawing's units; outside moments at the edge.
    pub(super) fn x(&self, at: u64) -> u64 {
        self.scale(at, self.width())
    }

    /// A moment as part of `whole`; outside moments at the edge.
    pub(super) fn scale(&self, at: u64, whole: u64) -> u64 {
        let part = u128::from(at.clamp(self.from, self.to) - self.from) * u128::from(whole);
        (part / u128::from(self.len())) as u64
    }

    /// Where a moment is, as CSS wants it.
    pub(super) fn percent(&self, at: u64) -> String {
        let parts = self.scale(at, 10_000);
        format!("{}.{:02}%", parts / 100, parts % 100)
    }

    /// Whether a span has a part within.
    pub(super) fn meets(&self, from: u64, to: u64) -> bool {
        from < self.to && to >= self.from
    }

    /// Whether a moment is within; the end counts, as the last event often is there.
    pub(super) fn has(&self, at: u64) -> bool {
        self.from <= at && at <= self.to
    }

    /// The column of a moment.
    pub(super) fn column(&self, at: u64) -> usize {
        self.scale(at, self.columns).min(self.columns - 1) as usize
    }

    /// For each column how many of the spans have a part in it.
    pub(super) fn depth(&self, spans: impl Iterator<Item = (u64, u64)>) -> Vec<u32> {
        let mut change = vec![0_i64; self.columns as usize + 1];
        for (from, to) in spans.filter(|(from, to)| self.meets(*from, *to)) {
            change[self.column(from)] += 1;
            change[self.column(to) + 1] -= 1;
        }
        let mut depth = 0;
        change.truncate(self.columns as usize);
        change
            .into_iter()
            .map(|change| {
                depth += change;
                u32::try_from(depth).unwrap_or(0)
            })
            .collect()
    }

    /// For each column how many moments are in it.
    pub(super) fn density(&self, moments: impl Iterator<Item = u64>) -> Vec<u32> {
        let mut counts = vec![0; self.columns as usize];
        moments.filter(|at| self.has(*at)).for_each(|at| counts[self.column(at)] += 1);
        counts
    }

    /// Where a column begins; that of the column after the last is the end.
    fn edge(&self, column: u64) -> u64 {
        self.from + (u128::from(self.len()) * u128::from(column) / u128::from(self.columns)) as u64
    }

    /// Traffic for each column: each sample spread evenly over the time since the sample before. If all samples lie
    /// within the window, the sum over columns is theirs, however fine the columns.
    pub(super) fn traffic(&self, samples: &[Sample]) -> Vec<Flow> {
        let mut flows = vec![Flow::default(); self.columns as usize];
        for sample in samples.iter().filter(|sample| sample.to > self.from && sample.from < self.to) {
            let long = u128::from(sample.to - sample.from);
            let upto = |value: u64, at: u64| {
                let part = u128::from(at.clamp(sample.from, sample.to) - sample.from);
                (u128::from(value) * part / long) as u64
            };
            let (first, last) = (self.column(sample.from), self.column(sample.to));
            for (column, flow) in (first as u64..).zip(&mut flows[first..=last]) {
                let (from, to) = (self.edge(column), self.edge(column + 1));
                // The last column ends at the window's end, and so does what is in it.
                let share = |value: u64| upto(value, to) - upto(value, from);
                flow.add(Flow {
                    sent: share(sample.flow.sent),
                    sent_bytes: share(sample.flow.sent_bytes),
                    received: share(sample.flow.received),
                    received_bytes: share(sample.flow.received_bytes),
                });
            }
        }
        flows
    }

    /// For each column whether something was sent in it and nothing received, as far as samples tell.
    pub(super) fn deaf(&self, samples: &[Sample]) -> Vec<bool> {
        let mut deaf = vec![false; self.columns as usize];
        let within = samples.iter().filter(|sample| sample.to > self.from && sample.from < self.to);
        for sample in within {
            let silent = sample.flow.sent > 0 && sample.flow.received == 0;
            // At its end the next sample decides.
            deaf[self.column(sample.from)..=self.column(sample.to)].fill(silent);
        }
        deaf
    }

    /// Moments for the lines of a time axis: round ones, at most `most`.
    pub(super) fn ticks(&self, most: u64) -> Vec<u64> {
        const STEPS: [u64; 22] = [
            1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000,
            300_000, 600_000, 900_000, 1_800_000, 3_600_000,
        ];
        let fits = |step: &u64| self.len() / (step * 1_000_000) < most;
        let step = STEPS.into_iter().find(fits).unwrap_or_else(|| {
            // Hours beyond the table.
            (1..).map(|n| n * 7_200_000).find(fits).unwrap_or(u64::MAX / 1_000_000)
        }) * 1_000_000;
        let first = self.from.div_ceil(step);
        (first..).map(|n| n * step).take_while(|at| *at <= self.to).collect()
    }
}

/// Equal neighbours put together: first column, column after the last, value.
pub(super) fn runs<T: PartialEq + Copy>(columns: &[T]) -> Vec<(u64, u64, T)> {
    let mut runs: Vec<(u64, u64, T)> = Vec::new();
    for (n, value) in columns.iter().enumerate() {
        match runs.last_mut() {
            Some((_, end, last)) if last == value => *end = n as u64 + 1,
            _ => runs.push((n as u64, n as u64 + 1, *value)),
        }
    }
    runs
}

/// A row for each span such that no two in a row touch; spans are ordered by their beginning. None if more than
/// `most` rows are needed.
pub(super) fn rows(spans: impl Iterator<Item = (u64, u64)>, most: usize) -> Option<Vec<usize>> {
    let mut ends: Vec<u64> = Vec::new();
    spans
        .map(|(from, to)| {
            let row = ends.iter().position(|end| *end <= from).unwrap_or(ends.len());
            if row == ends.len() {
                ends.push(to);
            } else {
                ends[row] = to;
            }
            (row < most).then_some(row)
        })
        .collect()
}
