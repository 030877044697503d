//! Walks option lines through the table into a draft, and into included files and blocks.

use oxivpn_proto::limits::MAX_OPTION_ARGS;

use crate::draft::scope::{Scope, ScopedLine};
use crate::draft::{Draft, Fault};
use crate::error::ProfileError;
use crate::grammar::{Line, Lines};
use crate::load::{Files, reason};
use crate::table::{self, Entry, Fate, Honoured};
use crate::warn::Origin;

/// Nested `config` files (`openvpn: options_parse.c`, `max_recursive_levels`).
const MAX_DEPTH: u32 = 10;

/// `config` files altogether: files that include each other many times would never end.
const MAX_FILES: u32 = 256;

/// Reads lines into a draft.
pub(crate) struct Reader<'f> {
    pub(crate) files: &'f dyn Files,
    pub(crate) draft: Draft,
    included: u32,
}

/// What to do after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Read the next.
    Next,
    /// `help`.
    Help,
    /// `version`.
    Version,
}

impl<'f> Reader<'f> {
    pub(crate) fn new(files: &'f dyn Files) -> Self {
        Self { files, draft: Draft::default(), included: 0 }
    }

    /// Takes all lines of a text.
    pub(crate) fn text(&mut self, lines: Lines<'_>, depth: u32) -> Result<Flow, ProfileError> {
        for line in lines {
            let flow = self.line(line?, depth)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// Takes one line.
    pub(crate) fn line(&mut self, mut line: Line, depth: u32) -> Result<Flow, ProfileError> {
        let mut soft = false;
        if line.name == "setenv" && line.word(0) == Some("opt") && line.inline.is_none() {
            soft = true;
            line.words.remove(0);
            if line.words.is_empty() {
                return Err(unrecognized(&line.origin, "setenv opt").cure("Write `setenv opt OPTION ..`"));
            }
            line.name = line.words.remove(0);
        }
        soft |= self.draft.optional.contains(&line.name);
        let origin = line.origin.clone();
        let name = line.name.clone();
        let result = match table::find(&line.name) {
            None => {
                soft |= self.draft.forward_compatible;
                Err(unknown(&line))
            }
            Some(entry) => self.known(entry, line, depth),
        };
        match result {
            Err(error) if soft => {
                let why = error.message.trim_start_matches(&format!("In {origin}: ")).to_string();
                self.draft.warn(&origin, format!("optional `{}` is skipped: {why}", shown(&name)));
                Ok(Flow::Next)
            }
            other => other,
        }
    }

    fn known(&mut self, entry: &Entry, line: Line, depth: u32) -> Result<Flow, ProfileError> {
        match entry.fate {
            Fate::Structural => return self.structural(line, depth),
            Fate::Quiet => {}
            Fate::Warned(text) => self.draft.warn(&line.origin, format!("option `{}` {text}", entry.name)),
            Fate::Refused(reason, cure) => {
                let text = format!("`{}` is refused: {reason}", entry.name);
                return Err(ProfileError::at(&line.origin, text).cure(cure));
            }
            Fate::NotBuilt(what, cure) => {
                let text = format!("`{}` is not built yet: {what}", entry.name);
                return Err(ProfileError::at(&line.origin, text).cure(cure));
            }
            Fate::Honoured(honoured) => self.honour(entry.name, &honoured, &line)?,
        }
        Ok(Flow::Next)
    }

    fn honour(&mut self, name: &'static str, honoured: &Honoured, line: &Line) -> Result<(), ProfileError> {
        let cure = || format!("Write `{}`", honoured.usage);
        if self.draft.in_block && !honoured.in_block {
            let text = format!("option '{}' cannot be used in this context (<connection>)", line.name);
            return Err(ProfileError::at(&line.origin, text).cure("Move the line out of the block"));
        }
        if line.inline.is_some() && !honoured.inline {
            let text = format!("option '{}' cannot be given as an inline block", line.name);
            return Err(ProfileError::at(&line.origin, text).cure(cure()));
        }
        let count = if line.inline.is_some() { 1 } else { line.words.len() };
        if !(honoured.min..=honoured.max).contains(&count) {
            return Err(unrecognized(&line.origin, &line.name).cure(cure()));
        }
        if !matches!(honoured.scope, Scope::Any) {
            let line = ScopedLine { name, scope: honoured.scope, origin: line.origin.clone() };
            self.draft.scoped.push(line);
        }
        (honoured.apply)(&mut self.draft, line).map_err(|fault| match fault {
            Fault::Parameters => unrecognized(&line.origin, &line.name).cure(cure()),
            Fault::Value(text) => {
                ProfileError::at(&line.origin, format!("{}: {text}", line.name)).cure(cure())
            }
            Fault::Refused(text, cure) => ProfileError::at(&line.origin, text).cure(cure),
        })
    }

    fn structural(&mut self, line: Line, depth: u32) -> Result<Flow, ProfileError> {
        match line.name.as_str() {
            "help" => Ok(Flow::Help),
            "version" => Ok(Flow::Version),
            "connection" => self.block(&line).map(|()| Flow::Next),
            "config" if !self.draft.in_block => self.include(&line, depth),
            "ignore-unknown-option" if !line.words.is_empty() && line.words.len() < MAX_OPTION_ARGS => {
                let names = line.words.into_iter();
                self.draft.optional.extend(names.map(|name| name.trim_start_matches("--").to_string()));
                Ok(Flow::Next)
            }
            _ => Err(unrecognized(&line.origin, &line.name)
                .cure("Write `config FILE` or `ignore-unknown-option NAME..` outside of blocks")),
        }
    }

    fn block(&mut self, line: &Line) -> Result<(), ProfileError> {
        let Some(inline) = &line.inline else {
            return Err(
                unrecognized(&line.origin, &line.name).cure("Write a block <connection> .. </connection>")
            );
        };
        if self.draft.in_block {
            let error = ProfileError::at(&line.origin, "<connection> inside of <connection>".into());
            return Err(error.cure("Close the first block before the next"));
        }
        self.draft.block_at.get_or_insert_with(|| line.origin.clone());
        let outside = self.draft.connection.clone();
        self.draft.in_block = true;
        let result = self.text(Lines::block(&line.origin, &inline.0), MAX_DEPTH);
        self.draft.in_block = false;
        let inside = std::mem::replace(&mut self.draft.connection, outside);
        result?;
        if inside.remote.is_none() {
            let text = "Each 'connection' block must contain exactly one 'remote' directive".into();
            return Err(ProfileError::at(&line.origin, text).cure("Add `remote HOST PORT` to the block"));
        }
        self.draft.blocks.push(inside);
        Ok(())
    }

    fn include(&mut self, line: &Line, depth: u32) -> Result<Flow, ProfileError> {
        let [name] = line.words.as_slice() else {
            return Err(unrecognized(&line.origin, &line.name).cure("Write `config FILE`"));
        };
        self.included += 1;
        if depth >= MAX_DEPTH || self.included > MAX_FILES {
            let text = format!(
                "Maximum recursive include levels exceeded in include attempt of file {name} -- probably you have a \
                 configuration file that tries to include itself"
            );
            return Err(ProfileError::at(&line.origin, text).cure("Remove this `config` line"));
        }
        let bytes =
            if name == "stdin" { self.files.read_stdin() } else { self.files.read(&self.draft.path(name)) };
        let bytes = bytes.map_err(|error| {
            let (why, cure) = reason(&error);
            ProfileError::at(&line.origin, format!("Error opening configuration file: {name}: {why}"))
                .cure(cure)
        })?;
        let text = zeroize::Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        self.text(Lines::new(name, &text), depth + 1)
    }
}

/// A name as it may stand in a message.
fn shown(name: &str) -> String {
    name.chars().take(60).flat_map(char::escape_debug).collect()
}

/// OpenVPN's words for an option that can't be taken as it stands.
pub(crate) fn unrecognized(origin: &Origin, name: &str) -> ProfileError {
    let text = format!("Unrecognized option or missing or extra parameter(s) in {origin}: {}", shown(name));
    ProfileError { message: text, ..ProfileError::at(origin, String::new()) }
}

fn unknown(line: &Line) -> ProfileError {
    let error = unrecognized(&line.origin, &line.name);
    match table::nearest(&line.name) {
        Some(name) => error.cure(format!("Did you mean `{name}`?")),
        None => {
            let name = shown(&line.name);
            error.cure(format!("Remove the line, or skip it with `ignore-unknown-option {name}` above it"))
        }
    }
}
