//! Option lines out of profile text and command lines (`openvpn: options_parse.c`).
//!
//! Beyond what OpenVPN takes: carriage returns and a byte order mark are never part of a word, a missing
//! newline at the end is one, and `--` in front of an option is skipped in files too.

use std::sync::Arc;

use oxivpn_proto::limits::MAX_OPTION_ARGS;
use oxivpn_proto::options::lexer;
use zeroize::Zeroizing;

use crate::error::ProfileError;
use crate::warn::Origin;

/// Name of the command line in messages, as in OpenVPN.
pub(crate) const COMMAND_LINE: &str = "[CMD-LINE]";

/// One option with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) words: Vec<String>,
    /// Text between `<name>` and `</name>`.
    pub(crate) inline: Option<Inline>,
    pub(crate) origin: Origin,
}

/// Text of an inline block; its first line is the one after that of the opening tag.
#[derive(Clone, Debug)]
pub(crate) struct Inline(pub(crate) Zeroizing<String>);

/// The option lines of a text, one by one.
pub(crate) struct Lines<'t> {
    file: Arc<str>,
    rest: &'t str,
    number: u32,
}

impl<'t> Lines<'t> {
    /// All lines of a file.
    pub(crate) fn new(file: &str, text: &'t str) -> Self {
        Self { file: file.into(), rest: text.strip_prefix('\u{feff}').unwrap_or(text), number: 0 }
    }

    /// Lines of a block that follows line `after` of `file`.
    pub(crate) fn block(after: &Origin, text: &'t str) -> Self {
        Self { file: after.file.clone(), rest: text, number: after.line }
    }

    fn raw(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number += 1;
        Some(line.trim_end_matches('\r'))
    }

    /// The text up to the closing tag.
    fn block_text(&mut self, name: &str, opened: &Origin) -> Result<Inline, ProfileError> {
        let close = format!("</{name}>");
        let mut text = Zeroizing::new(String::new());
        while let Some(line) = self.raw() {
            if line.trim_start().starts_with(&close) {
                return Ok(Inline(text));
            }
            text.push_str(line);
            text.push('\n');
        }
        Err(ProfileError::at(opened, format!("Endtag {close} missing"))
            .cure(format!("Close the block that begins there with a line `{close}`")))
    }

    fn line(&mut self, raw: &str) -> Result<Option<Line>, ProfileError> {
        let origin = Origin { file: self.file.clone(), line: self.number };
        if let Some(error) = leftover(raw, &origin) {
            return Err(error);
        }
        let words = lexer::split(raw).map_err(|error| {
            ProfileError::at(&origin, error.to_string())
                .cure("Quotes come in pairs, and a backslash is written twice")
        })?;
        let mut words = words.into_iter().map(std::borrow::Cow::into_owned);
        let Some(first) = words.next() else { return Ok(None) };
        let words: Vec<String> = words.collect();
        let name = undashed(&first);
        let tag = name.strip_prefix('<').and_then(|name| name.strip_suffix('>'));
        if let (Some(tag), true) = (tag, words.is_empty() && !name.starts_with("</")) {
            let inline = Some(self.block_text(tag, &origin)?);
            return Ok(Some(Line { name: tag.into(), words, inline, origin }));
        }
        Ok(Some(Line { name: name.into(), words, inline: None, origin }))
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Line, ProfileError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let raw = self.raw()?;
            match self.line(raw) {
                Ok(Some(line)) => return Some(Ok(line)),
                Ok(None) => {}
                Err(error) => {
                    self.rest = "";
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Lines that are no option lines at all but that real files contain by accident.
fn leftover(raw: &str, origin: &Origin) -> Option<ProfileError> {
    let text = raw.trim();
    if ["<<<<<<<", ">>>>>>>", "======="].iter().any(|mark| text.starts_with(mark)) {
        let error = ProfileError::at(origin, "The line is a merge marker".into());
        return Some(error.cure("Resolve the merge conflict in the file"));
    }
    if text.starts_with("</") {
        let error = ProfileError::at(origin, format!("{text} closes a block that is not open"));
        return Some(error.cure("Remove the line, or add the opening tag where the block begins"));
    }
    if text.starts_with("-----") {
        let error = ProfileError::at(origin, "A certificate or key stands outside of any block".into());
        return Some(error.cure("Put it between tags, such as <ca> and </ca>"));
    }
    None
}

fn undashed(word: &str) -> &str {
    match word.strip_prefix("--") {
        Some(rest) if !rest.is_empty() => rest,
        _ => word,
    }
}

/// The option lines of a command line (`openvpn: options_parse.c`, `parse_argv`).
pub(crate) fn command_line(args: &[String]) -> Result<Vec<Line>, ProfileError> {
    let file: Arc<str> = COMMAND_LINE.into();
    let origin = |line: usize| Origin { file: file.clone(), line: line as u32 };
    if let [file] = args
        && !file.starts_with("--")
    {
        let words = vec![file.clone()];
        return Ok(vec![Line { name: "config".into(), words, inline: None, origin: origin(1) }]);
    }
    let mut lines: Vec<Line> = Vec::new();
    for arg in args {
        if let Some(name) = arg.strip_prefix("--") {
            let origin = origin(lines.len() + 1);
            lines.push(Line { name: name.into(), words: Vec::new(), inline: None, origin });
        } else if let Some(line) = lines.last_mut() {
            if line.words.len() + 1 == MAX_OPTION_ARGS {
                let text = format!("More than {MAX_OPTION_ARGS} parameters: --{}", line.name);
                return Err(ProfileError::at(&line.origin, text).cure("Put `--` in front of each option"));
            }
            line.words.push(arg.clone());
        } else {
            let text = format!(
                "I'm trying to parse \"{arg}\" as an --option parameter but I don't see a leading '--'"
            );
            let cure = format!("To read a profile along with other options write `--config {arg}`");
            return Err(ProfileError::at(&origin(1), text).cure(cure));
        }
    }
    Ok(lines)
}
