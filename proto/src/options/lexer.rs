//! Words of one option line (`openvpn: options_parse.c`, `parse_line`).
//!
//! Words are separated by blanks. A word that begins with `"` or `'` runs to the next such quote and may
//! be empty; quotes inside of a bare word are plain characters. A backslash makes the next character
//! plain, everywhere but between single quotes; only backslashes, double quotes, and blanks may follow
//! it. `#` and `;` begin a comment where a word could begin.

use std::borrow::Cow;

use crate::limits::MAX_OPTION_ARGS;

/// Why a line is not a list of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at column {column}")]
pub struct LineError {
    /// What is wrong.
    pub kind: LineErrorKind,
    /// Where, in characters from 1: the opening quote, the backslash, or the first word too many.
    pub column: usize,
}

/// Kinds of [`LineError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineErrorKind {
    /// A double quote is not closed.
    #[error("No closing quotation (\")")]
    DoubleQuote,
    /// A single quote is not closed.
    #[error("No closing single quotation (')")]
    SingleQuote,
    /// A backslash before a character that needs none.
    #[error("Bad backslash ('\\') usage, write two of them for one")]
    Backslash,
    /// A backslash ends the line.
    #[error("Backslash at the end of the line")]
    TrailingBackslash,
    /// More than [`MAX_OPTION_ARGS`] words.
    #[error("More than {MAX_OPTION_ARGS} parameters")]
    TooManyWords,
}

/// Splits a line without its line ending into words. A line with nothing but blanks or a comment has none.
/// Words are borrowed unless escapes had to be taken out.
pub fn split(line: &str) -> Result<Vec<Cow<'_, str>>, LineError> {
    let mut words = Vec::new();
    let mut chars = Chars { line, at: 0, column: 0 };
    while let Some(column) = chars.skip_blanks()? {
        if words.len() == MAX_OPTION_ARGS {
            return Err(LineError { kind: LineErrorKind::TooManyWords, column });
        }
        words.push(chars.word()?);
    }
    Ok(words)
}

/// Whether `c` separates words: C's `isspace`, and NUL.
const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' | '\0')
}

struct Chars<'l> {
    line: &'l str,
    /// Byte offset of the next character.
    at: usize,
    /// Characters taken so far.
    column: usize,
}

impl<'l> Chars<'l> {
    fn peek(&self) -> Option<char> {
        self.line[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.column += 1;
        Some(c)
    }

    /// Goes to the next word and tells its column; `None` at the end or at a comment. An escaped blank
    /// between words is still a blank.
    fn skip_blanks(&mut self) -> Result<Option<usize>, LineError> {
        loop {
            let rest = &self.line[self.at..];
            let mut ahead = rest.chars();
            match ahead.next() {
                None | Some('#' | ';') => return Ok(None),
                Some(c) if is_blank(c) => {}
                Some('\\') => match ahead.next() {
                    None => return Err(self.error(LineErrorKind::TrailingBackslash)),
                    Some('#' | ';') => return Ok(None),
                    Some(c) if is_blank(c) => {}
                    Some(_) => return Ok(Some(self.column + 1)),
                },
                Some(_) => return Ok(Some(self.column + 1)),
            }
            self.next();
        }
    }

    /// The word that begins here.
    fn word(&mut self) -> Result<Cow<'l, str>, LineError> {
        let quote = match self.peek() {
            Some('"') => Some(('"', LineErrorKind::DoubleQuote)),
            Some('\'') => Some(('\'', LineErrorKind::SingleQuote)),
            _ => None,
        };
        let opened = self.column + 1;
        if quote.is_some() {
            self.next();
        }
        let start = self.at;
        let mut owned: Option<String> = None;
        loop {
            let here = self.at;
            let Some(c) = self.peek() else {
                if let Some((_, kind)) = quote {
                    return Err(LineError { kind, column: opened });
                }
                return Ok(finish(owned, &self.line[start..here]));
            };
            let escape = c == '\\' && !matches!(quote, Some(('\'', _)));
            if escape {
                let plain = self.escaped()?;
                owned.get_or_insert_with(|| self.line[start..here].into()).push(plain);
                continue;
            }
            self.next();
            let ends = match quote {
                Some((mark, _)) => c == mark,
                None => is_blank(c),
            };
            if ends {
                return Ok(finish(owned, &self.line[start..here]));
            }
            if let Some(word) = &mut owned {
                word.push(c);
            }
        }
    }

    /// Takes a backslash and gives the character behind it.
    fn escaped(&mut self) -> Result<char, LineError> {
        let error = self.error(LineErrorKind::Backslash);
        self.next();
        match self.next() {
            Some(c) if c == '\\' || c == '"' || is_blank(c) => Ok(c),
            Some(_) => Err(error),
            None => Err(LineError { kind: LineErrorKind::TrailingBackslash, ..error }),
        }
    }

    const fn error(&self, kind: LineErrorKind) -> LineError {
        LineError { kind, column: self.column + 1 }
    }
}

fn finish(owned: Option<String>, borrowed: &str) -> Cow<'_, str> {
    owned.map_or(Cow::Borrowed(borrowed), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap().into_iter().map(Cow::into_owned).collect()
    }

    #[test]
    fn words_as_openvpn_reads_them() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (" \t ", &[]),
            ("# remote a", &[]),
            ("  ; remote a", &[]),
            ("remote a 1194", &["remote", "a", "1194"]),
            ("\tremote\ta\r", &["remote", "a"]),
            ("verb 3 # loud", &["verb", "3"]),
            ("verb 3 ;loud", &["verb", "3"]),
            ("verify-x509-name C=US;O=x#y", &["verify-x509-name", "C=US;O=x#y"]),
            ("verify-x509-name \"a b\" name", &["verify-x509-name", "a b", "name"]),
            ("x 'a \\ b'", &["x", "a \\ b"]),
            ("x \"\" y", &["x", "", "y"]),
            ("x a\"b\" ''", &["x", "a\"b\"", ""]),
            ("x \"a\"b", &["x", "a", "b"]),
            ("x a\\ b", &["x", "a b"]),
            ("x \\ b", &["x", "b"]),
            ("x \"a\\\"b\\\\\"", &["x", "a\"b\\"]),
            ("ca \"c:\\\\dir\\\\ca.crt\"", &["ca", "c:\\dir\\ca.crt"]),
            ("x \\\"a", &["x", "\"a"]),
            ("x \\#", &["x"]),
            ("x \u{e4}\u{f6} \u{3042}", &["x", "\u{e4}\u{f6}", "\u{3042}"]),
        ];
        for (line, expected) in table {
            assert_eq!(words(line), *expected, "{line:?}");
        }
    }

    #[test]
    fn errors_name_the_column() {
        let table = [
            ("x \"a b", LineErrorKind::DoubleQuote, 3),
            ("x 'a b\"", LineErrorKind::SingleQuote, 3),
            ("\u{e4} 'a", LineErrorKind::SingleQuote, 3),
            ("ca c:\\dir", LineErrorKind::Backslash, 6),
            ("ca \"c:\\dir\"", LineErrorKind::Backslash, 7),
            ("x a\\", LineErrorKind::TrailingBackslash, 4),
            ("x \\", LineErrorKind::TrailingBackslash, 3),
            ("0 1 2 3 4 5 6 7 8 9 a b c d e f g", LineErrorKind::TooManyWords, 33),
        ];
        for (line, kind, column) in table {
            assert_eq!(split(line), Err(LineError { kind, column }), "{line:?}");
        }
        assert_eq!(split("0 1 2 3 4 5 6 7 8 9 a b c d e f # g").unwrap().len(), 16);
    }

    #[test]
    fn only_escapes_allocate() {
        for (line, borrowed) in [("a", true), ("\"a b\"", true), ("a\\ b", false)] {
            assert_eq!(matches!(split(line).unwrap()[0], Cow::Borrowed(_)), borrowed, "{line}");
        }
    }

    fn quote(word: &str) -> String {
        format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
    }

    proptest! {
        #[test]
        fn quoting_comes_back(input in proptest::collection::vec("[ -~\u{e4}]{0,12}", 0..=16)) {
            let line = input.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&line), input);
        }

        #[test]
        fn any_text_gives_words_or_an_error_inside(line in "\\PC{0,60}|[\"'\\\\ #;ab]{0,40}") {
            match split(&line) {
                Ok(words) => prop_assert!(words.len() <= MAX_OPTION_ARGS),
                Err(error) => prop_assert!((1..=line.chars().count()).contains(&error.column)),
            }
        }
    }
}
