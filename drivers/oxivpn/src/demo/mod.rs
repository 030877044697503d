//! `oxivpn demo`: shows a tunnel without any set-up, and leaves nothing behind.
//!
//! With root and an installed `openvpn` it builds two network namespaces, runs that program as the server in
//! one and this one as the client in the other, and sends traffic through. Without, it shows the data channel
//! alone, both ends in this process.

mod inside;
mod lab;
mod pki;
mod transfer;

use anyhow::{Result, bail};

use crate::sys;

/// What `oxivpn demo` was asked for.
pub fn run(args: &[String]) -> Result<()> {
    match args {
        [] => show(),
        // How the demo calls itself inside of its namespaces.
        [role, address] if role == "receive" => transfer::receive(address),
        [role, address] if role == "send" => transfer::send(address),
        _ => bail!("`oxivpn demo` takes no arguments"),
    }
}

fn show() -> Result<()> {
    match obstacle() {
        None => lab::run(),
        Some(obstacle) => {
            tell(&format!(
                "A real tunnel needs root, `ip`, /dev/net/tun and an installed `openvpn`; here {obstacle}."
            ));
            tell("So this shows the data channel alone, with both ends in this process:");
            tell("");
            inside::run()
        }
    }
}

/// Why there can be no real tunnel.
fn obstacle() -> Option<&'static str> {
    if !sys::is_root() {
        return Some("this is not root");
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun is missing (modprobe tun)");
    }
    if !installed("ip") {
        return Some("`ip` is missing (apt-get install iproute2)");
    }
    if !installed("openvpn") {
        return Some("`openvpn` is missing (apt-get install openvpn)");
    }
    None
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/local/sbin".into()])
        .any(|dir| dir.join(program).is_file())
}

/// One line of the show.
#[expect(clippy::print_stdout, reason = "what the user asked to see")]
fn tell(line: &str) {
    println!("{line}");
}
