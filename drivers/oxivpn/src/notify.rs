//! Tells systemd how far the program is, if it was started as a service of type `notify`
//! (`openvpn: init.c`, `context_init_1`, `initialization_sequence_completed`).

use sd_notify::NotifyState;

/// Whether systemd, or whoever speaks its language, listens.
pub fn supervised() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
}

/// The program runs, and connections are about to be made or taken.
pub fn ready() {
    send(&[
        NotifyState::Ready,
        NotifyState::Status("Pre-connection initialization successful"),
        NotifyState::MainPid(std::process::id()),
    ]);
}

/// What it does now: a line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// It is about to end.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(state: &[NotifyState<'_>]) {
    if supervised() {
        // A supervisor that doesn't listen must not end a tunnel.
        let _ = sd_notify::notify(state);
    }
}
