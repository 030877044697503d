//! All bodies by name.

use std::path::PathBuf;
use std::{fs, io};

use oxivpn_proto::fuzzing as proto;

/// A body and its name, which is that of the target and of its corpus directory.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As in `cargo fuzz run NAME`.
    pub name: &'static str,
    /// Takes one input; panics if it shows a defect.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 15] = [
    Target { name: "control_messages", run: proto::control_messages::run },
    Target { name: "control_packet", run: proto::control_packet::run },
    Target { name: "data_packet", run: proto::data_packet::run },
    Target { name: "doorman", run: proto::doorman::run },
    Target { name: "key_files", run: proto::key_files::run },
    Target { name: "management", run: oxivpn::manage::fuzzing::run },
    Target { name: "method2", run: proto::method2::run },
    Target { name: "profile", run: oxivpn_profile::fuzzing::run },
    Target { name: "push_reply", run: proto::push_reply::run },
    Target { name: "replay_vs_model", run: proto::replay_vs_model::run },
    Target { name: "seal_open", run: proto::seal_open::run },
    Target { name: "session_client", run: proto::session_client::run },
    Target { name: "session_server", run: proto::session_server::run },
    Target { name: "stream_frames", run: proto::stream_frames::run },
    Target { name: "wrap_open", run: proto::wrap_open::run },
];

/// The committed inputs of a target with their file names, in the order of these.
///
/// # Errors
/// If there is no such directory or something in it can't be read.
pub fn corpus(target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| named(&folder, error))? {
        let path = entry?.path();
        let bytes = fs::read(&path).map_err(|error| named(&path, error))?;
        inputs.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes));
    }
    inputs.sort();
    Ok(inputs)
}

fn named(path: &std::path::Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
