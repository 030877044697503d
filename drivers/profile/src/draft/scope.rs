//! Which kinds of profiles an option belongs to.

use crate::warn::Origin;

/// Where an honoured option has a meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    /// Everywhere.
    Any,
    /// Only with `mode server`; an error elsewhere.
    Server,
    /// Only with `mode server`; elsewhere ignored with this warning.
    ServerOrWarn(&'static str),
    /// Servers and `tls-server` peers; for clients ignored with this warning.
    ListenerOrWarn(&'static str),
    /// Anywhere but with `mode server`: what OpenVPN says there, and the cure.
    NotServer(&'static str, &'static str),
}

/// A line whose option has a scope.
#[derive(Clone, Debug)]
pub(crate) struct ScopedLine {
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    pub(crate) origin: Origin,
}
