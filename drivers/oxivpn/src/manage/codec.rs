//! Lines and words of what a management client sends.

use oxivpn_proto::options::lexer;
use zeroize::{Zeroize as _, Zeroizing};

use super::limits;

/// Longest line. Command lines have at most 256 bytes in a word at OpenVPN, and lines of base64 blocks 1,024.
pub(super) const MAX_LINE: usize = 4096;

/// Most bytes that wait to be taken as lines; a caller reads no more while there is a whole line.
pub(super) const MAX_INPUT: usize = 4 * MAX_LINE;

/// Cuts a stream into lines. Holds passwords, so everything is wiped when it goes.
#[derive(Default)]
pub(super) struct LineBuffer {
    bytes: Zeroizing<Vec<u8>>,
}

/// The line is too long to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl LineBuffer {
    /// Adds what came. Control characters are left out, as at OpenVPN (`openvpn: manage.c`, `command_line_add`).
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        // Room from the start, so that growing leaves no copies of passwords behind.
        if self.bytes.capacity() < MAX_INPUT {
            self.bytes.reserve_exact(MAX_INPUT);
        }
        for &byte in bytes {
            if byte < b' ' && byte != b'\n' && byte != b'\t' || byte == 0x7f {
                continue;
            }
            if self.bytes.len() == MAX_INPUT {
                return Err(TooLong);
            }
            self.bytes.push(byte);
        }
        let unfinished = self.bytes.iter().rev().take_while(|byte| **byte != b'\n').count();
        if unfinished > MAX_LINE { Err(TooLong) } else { Ok(()) }
    }

    /// Whether there is a whole line.
    pub(super) fn has_line(&self) -> bool {
        self.bytes.contains(&b'\n')
    }

    /// The next line without its end. What is no UTF-8 becomes replacement characters.
    pub(super) fn take(&mut self) -> Option<Zeroizing<String>> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let line = Zeroizing::new(String::from_utf8_lossy(&self.bytes[..end]).into_owned());
        let rest = self.bytes.len() - (end + 1);
        self.bytes.copy_within(end + 1.., 0);
        self.bytes[rest..].zeroize();
        self.bytes.truncate(rest);
        Some(line)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.zeroize();
    }
}

/// What is to be sent. Holds passwords of clients, so what was sent is wiped, and growing leaves no copy behind.
#[derive(Default)]
pub(super) struct Output {
    bytes: Zeroizing<Vec<u8>>,
    sent: usize,
}

impl Output {
    pub(super) fn push(&mut self, text: impl Iterator<Item = char>) {
        let mut bytes = [0; 4];
        for c in text {
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            self.reserve(bytes.len());
            self.bytes.extend_from_slice(bytes);
        }
        bytes.zeroize();
    }

    fn reserve(&mut self, more: usize) {
        let wanted = self.bytes.len() + more;
        if wanted > self.bytes.capacity() {
            let mut larger =
                Zeroizing::new(Vec::with_capacity(wanted.max(2 * self.bytes.capacity()).max(256)));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
    }

    /// What is not sent yet.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// The first `count` bytes of it were.
    pub(super) fn sent(&mut self, count: usize) {
        let before = self.sent;
        self.sent = (self.sent + count).min(self.bytes.len());
        self.bytes[before..self.sent].zeroize();
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            // A table of thousands of clients is not kept room for.
            self.bytes.shrink_to(limits::OUTPUT_PAUSE);
        } else if self.sent >= limits::OUTPUT_LIMIT {
            let rest = self.bytes.len() - self.sent;
            self.bytes.copy_within(self.sent.., 0);
            self.bytes[rest..].zeroize();
            self.bytes.truncate(rest);
            self.sent = 0;
        }
    }
}

/// The words of a command line: the same rules as for configuration files, and the same complaints.
pub(super) fn words(line: &str) -> Result<Vec<Zeroizing<String>>, String> {
    match lexer::split(line) {
        Ok(words) => Ok(words.into_iter().map(|word| Zeroizing::new(word.into_owned())).collect()),
        Err(error) => Err(format!("ERROR: Options error: {} in TCP:0", error.kind)),
    }
}

/// `text` on one line: what would end it or drive a terminal becomes `_`.
pub(super) fn one_line(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().map(|c| if c.is_control() && c != '\t' { '_' } else { c })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_whatever_the_pieces() {
        let stream = b"state on\r\n\n\x00p\x1bid\nrest";
        for step in 1..stream.len() {
            let mut buffer = LineBuffer::default();
            let mut lines = Vec::new();
            for piece in stream.chunks(step) {
                buffer.push(piece).unwrap();
                while let Some(line) = buffer.take() {
                    lines.push(line.to_string());
                }
            }
            assert_eq!(lines, ["state on", "", "pid"], "in steps of {step}");
            assert!(!buffer.has_line());
        }
    }

    #[test]
    fn what_was_sent_is_wiped() {
        let mut output = Output::default();
        let text = "secret ".repeat(limits::OUTPUT_LIMIT / 7 + 100);
        output.push(text.chars());
        assert_eq!(output.unread(), text.as_bytes());
        output.sent(6);
        assert_eq!((&output.bytes[..6], &output.unread()[..4]), (&[0; 6][..], &b" sec"[..]));
        output.sent(limits::OUTPUT_LIMIT);
        assert_eq!((output.sent, output.unread()), (0, &text.as_bytes()[6 + limits::OUTPUT_LIMIT..]));
        output.sent(text.len());
        assert!(output.unread().is_empty() && output.bytes.capacity() <= limits::OUTPUT_PAUSE);
    }

    #[test]
    fn endless_lines_are_refused() {
        let mut buffer = LineBuffer::default();
        buffer.push(&[b'x'; MAX_LINE]).unwrap();
        assert_eq!(buffer.push(b"x"), Err(TooLong));
        let mut buffer = LineBuffer::default();
        assert_eq!(buffer.push(&b"x\n".repeat(MAX_INPUT)), Err(TooLong));
        assert!(buffer.bytes.len() <= MAX_INPUT);
    }

    #[test]
    fn words_are_those_of_configuration_files() {
        let words =
            |line| words(line).map(|words| words.iter().map(|word| word.to_string()).collect::<Vec<_>>());
        assert_eq!(
            words(r#"password "Private Key" "foo\"bar""#).unwrap(),
            ["password", "Private Key", "foo\"bar"]
        );
        assert_eq!(
            words("\"unterminated").unwrap_err(),
            "ERROR: Options error: No closing quotation (\") in TCP:0",
            "as OpenVPN 2.6.14"
        );
    }
}
