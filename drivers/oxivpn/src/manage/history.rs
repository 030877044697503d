//! The last messages of a kind, for clients that come later.

use std::collections::VecDeque;

/// Longest text that is kept of a message.
pub(super) const MAX_TEXT: usize = 4096;

/// The last so many messages, each with its time in seconds since 1970 at the front.
#[derive(Debug)]
pub(super) struct History {
    lines: VecDeque<String>,
    capacity: usize,
}

impl History {
    /// Keeps the last `capacity` messages, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { lines: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// Adds the newest.
    pub(super) fn add(&mut self, line: String) {
        if self.lines.len() == self.capacity {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The last `count`, oldest first.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &str> {
        self.lines.iter().skip(self.lines.len().saturating_sub(count)).map(String::as_str)
    }
}

/// What follows `state`, `log` or `echo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HistoryOrder {
    /// Send each as it happens, or stop that.
    RealTime(bool),
    /// Show the last so many.
    Last(usize),
}

impl HistoryOrder {
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "on" => Some(Self::RealTime(true)),
            "off" => Some(Self::RealTime(false)),
            "all" => Some(Self::Last(usize::MAX)),
            number => match super::command::number(number) {
                Some(count) if count > 0 => Some(Self::Last(usize::try_from(count).unwrap_or(usize::MAX))),
                _ => None,
            },
        }
    }
}

/// `text`, cut to what is kept.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut history = History::new(3);
        for n in 0..5 {
            history.add(n.to_string());
        }
        assert_eq!(history.last(usize::MAX).collect::<Vec<_>>(), ["2", "3", "4"]);
        assert_eq!(history.last(2).collect::<Vec<_>>(), ["3", "4"]);
    }

    #[test]
    fn orders() {
        assert_eq!(HistoryOrder::parse("on"), Some(HistoryOrder::RealTime(true)));
        assert_eq!(HistoryOrder::parse("all"), Some(HistoryOrder::Last(usize::MAX)));
        assert_eq!(HistoryOrder::parse("12"), Some(HistoryOrder::Last(12)));
        for bad in ["0", "-1", "x", ""] {
            assert_eq!(HistoryOrder::parse(bad), None, "{bad}");
        }
    }
}
