//! Tables in Markdown, and the requirements beside what was measured.

/// A table that is printed when it is complete.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&word| word.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it, with columns aligned.
    pub(crate) fn print(&self) {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |at: usize| {
            all().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |row: &[String]| {
            let cells = widths.iter().enumerate().map(|(at, &width)| {
                let cell = row.get(at).map_or("", String::as_str);
                format!(" {cell:<width$} |")
            });
            format!("|{}", cells.collect::<String>())
        };
        println!("{}", line(&self.head));
        println!("|{}", widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect::<String>());
        for row in &self.rows {
            println!("{}", line(row));
        }
        println!();
    }
}

/// A figure with three digits that matter, or a word for one that is missing.
pub(crate) fn figure(value: f64) -> String {
    match value {
        v if v.is_nan() => "missing".into(),
        v if v.abs() >= 100.0 => format!("{v:.0}"),
        v if v.abs() >= 10.0 => format!("{v:.1}"),
        v if v.abs() >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// A part of a whole in percent.
pub(crate) fn percent(part: f64) -> String {
    if part.is_nan() { "missing".into() } else { format!("{:.1} %", part * 100.0) }
}

/// What a ratio is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Not above this.
    AtMost(f64),
    /// Not below this.
    AtLeast(f64),
}

/// A requirement with what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    what: String,
    ratio: f64,
    limit: Limit,
}

impl Check {
    /// A ratio and its limit. One that is no number has failed.
    pub(crate) fn new(what: impl Into<String>, ratio: f64, limit: Limit) -> Self {
        Self { what: what.into(), ratio, limit }
    }

    /// Whether the requirement is met.
    pub(crate) fn passed(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.ratio <= limit,
            Limit::AtLeast(limit) => self.ratio >= limit,
        }
    }

    fn cells(&self) -> [String; 4] {
        let required = match self.limit {
            Limit::AtMost(limit) => format!("at most {}", figure(limit)),
            Limit::AtLeast(limit) => format!("at least {}", figure(limit)),
        };
        let verdict = if self.passed() { "pass" } else { "FAIL" };
        [self.what.clone(), required, figure(self.ratio), verdict.into()]
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [what, required, measured, verdict] = self.cells();
        write!(f, "{what}: {measured}, required {required}: {verdict}")
    }
}

/// Prints requirements with their verdicts.
pub(crate) fn print_checks(checks: &[Check]) {
    let mut table = Table::new(&["requirement (ratio)", "required", "measured", "verdict"]);
    for check in checks {
        table.row(check.cells());
    }
    table.print();
}
