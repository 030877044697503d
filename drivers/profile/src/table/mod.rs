//! Every option name of OpenVPN and what becomes of it, split by area.

mod data;
mod foreign;
mod host;
mod management;
mod process;
mod scripts;
pub(crate) mod server;
mod tls;
mod transport;

use crate::draft::scope::Scope;
use crate::draft::{Draft, Fault};
use crate::grammar::Line;

/// An option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The word.
    pub(crate) name: &'static str,
    /// What becomes of it.
    pub(crate) fate: Fate,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// Its value reaches the profile.
    Honoured(Honoured),
    /// Swallowed: it has no meaning here, or what it asks for is always so.
    Quiet,
    /// Ignored with this warning, which says what to do instead.
    Warned(&'static str),
    /// Never taken: why, and the cure.
    Refused(&'static str, &'static str),
    /// Would change the wire or the host in a way that is not built yet: what it is, and the cure.
    NotBuilt(&'static str, &'static str),
    /// Handled where lines are read, as it changes how they are read.
    Structural,
}

/// How an honoured option looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Honoured {
    /// For messages: `remote HOST [PORT] [PROTO]`.
    pub(crate) usage: &'static str,
    /// Fewest parameters.
    pub(crate) min: usize,
    /// Most parameters.
    pub(crate) max: usize,
    /// Whether the content may stand in an inline block.
    pub(crate) inline: bool,
    /// Whether it may stand in a `<connection>` block.
    pub(crate) in_block: bool,
    /// Which profiles may have it.
    pub(crate) scope: Scope,
    /// Puts the value into the draft.
    pub(crate) apply: Apply,
}

/// Puts a line into the draft.
pub(crate) type Apply = fn(&mut Draft, &Line) -> Result<(), Fault>;

const MANY: usize = oxivpn_proto::limits::MAX_OPTION_ARGS;

const fn honoured(usage: &'static str, min: usize, max: usize, apply: Apply) -> Entry {
    let name = first_word(usage);
    let honoured = Honoured { usage, min, max, inline: false, in_block: false, scope: Scope::Any, apply };
    Entry { name, fate: Fate::Honoured(honoured) }
}

const fn first_word(usage: &'static str) -> &'static str {
    let bytes = usage.as_bytes();
    let mut end = 0;
    while end < bytes.len() && bytes[end] != b' ' {
        end += 1;
    }
    usage.split_at(end).0
}

const fn quiet(name: &'static str) -> Entry {
    Entry { name, fate: Fate::Quiet }
}

const fn warned(name: &'static str, text: &'static str) -> Entry {
    Entry { name, fate: Fate::Warned(text) }
}

const fn refused(name: &'static str, reason: &'static str, cure: &'static str) -> Entry {
    Entry { name, fate: Fate::Refused(reason, cure) }
}

const fn not_built(name: &'static str, what: &'static str, cure: &'static str) -> Entry {
    Entry { name, fate: Fate::NotBuilt(what, cure) }
}

const fn structural(name: &'static str) -> Entry {
    Entry { name, fate: Fate::Structural }
}

impl Entry {
    /// Also taken as an inline block.
    const fn inline(self) -> Self {
        match self.fate {
            Fate::Honoured(mut honoured) => {
                honoured.inline = true;
                Self { fate: Fate::Honoured(honoured), ..self }
            }
            _ => self,
        }
    }

    /// Also taken in `<connection>` blocks.
    const fn in_block(self) -> Self {
        match self.fate {
            Fate::Honoured(mut honoured) => {
                honoured.in_block = true;
                Self { fate: Fate::Honoured(honoured), ..self }
            }
            _ => self,
        }
    }

    const fn scope(self, scope: Scope) -> Self {
        match self.fate {
            Fate::Honoured(mut honoured) => {
                honoured.scope = scope;
                Self { fate: Fate::Honoured(honoured), ..self }
            }
            _ => self,
        }
    }

    /// An error without `mode server`.
    const fn server_only(self) -> Self {
        self.scope(Scope::Server)
    }

    /// Ignored with a warning without `mode server`.
    const fn or_warn(self, text: &'static str) -> Self {
        self.scope(Scope::ServerOrWarn(text))
    }

    /// Ignored with a warning by clients.
    const fn listener_or_warn(self, text: &'static str) -> Self {
        self.scope(Scope::ListenerOrWarn(text))
    }

    /// An error with `mode server`: what OpenVPN says, and the cure.
    const fn not_server(self, text: &'static str, cure: &'static str) -> Self {
        self.scope(Scope::NotServer(text, cure))
    }
}

/// All options.
pub(crate) fn entries() -> impl Iterator<Item = &'static Entry> {
    let areas: [&'static [Entry]; 9] = [
        transport::ENTRIES,
        tls::ENTRIES,
        data::ENTRIES,
        host::ENTRIES,
        process::ENTRIES,
        scripts::ENTRIES,
        management::ENTRIES,
        server::ENTRIES,
        foreign::ENTRIES,
    ];
    areas.into_iter().flatten()
}

/// The option with this name. Names are case-sensitive.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    entries().find(|entry| entry.name == name)
}

/// The known name that looks most like `name`, if any comes close.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let limit = if name.len() < 5 { 1 } else { 2 };
    entries()
        .map(|entry| (strsim::damerau_levenshtein(&lower, entry.name), entry.name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
