//! The management interface: a line protocol on a TCP or unix socket with which GUIs, monitors and login services
//! watch and steer the program (`openvpn: doc/management-notes.txt`, `manage.c`).
//!
//! `Desk` is the interface without a socket: bytes in, bytes and [`Request`]s out. The program's state is
//! never touched from here; the program takes requests, answers them and tells news:
//!
//! | what | who |
//! |---|---|
//! | `help`, `version`, `pid`, `state`, `log`, `echo`, `hold`, `env-filter`, `exit` | answered here |
//! | `status`, `load-stats`, `nclients`, `kill`, `client-..`, `push-update-..`, `cr-response`, `remote-entry-..` | a [`Request`] that waits for an [`Answer`] |
//! | `signal`, `verb`, `mute`, `auth-retry`, `forget-passwords`, a released hold, entered passwords, due counters | a [`Request`] that is answered already |
//!
//! Replies are those of OpenVPN 2.6 byte for byte where programs read them. A client that sends endless lines, or
//! does not read what it asked for, is cut off; nothing here waits for it.

mod codec;
mod command;
mod desk;
#[cfg(any(test, feature = "fuzzing", fuzzing))]
pub mod fuzzing;
mod help;
mod history;
mod limits;
mod request;
mod shell;
mod socket;

pub use desk::{INTERFACE_VERSION, Mode, Moment, Settings};
pub use request::{
    Answer, Challenge, ClientNews, Entered, Notice, Question, Request, State, StateDetails, Victim,
};
pub use shell::Manage;

/// Base64 as in passwords that are sent in blocks.
mod base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
        STANDARD.decode(text).ok()
    }
}
