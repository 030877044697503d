//! The real thing: two network namespaces, a server, a client, traffic.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::pki::Pki;
use super::tell;
use crate::clock;

/// How long a program may take until it says what it is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

const UP: &str = "Initialization Sequence Completed";
const SERVER_OUTSIDE: &str = "192.0.2.1";
const CLIENT_OUTSIDE: &str = "192.0.2.2";
const SERVER_INSIDE: &str = "10.8.0.1";
const SERVER_INSIDE6: &str = "fd00:6f78:6976::1";

pub(super) fn run() -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let lab = Lab::new(stop)?;
    tell("1. Two network namespaces, joined by a cable:");
    lab.wire()?;
    tell(&format!("     {} {SERVER_OUTSIDE}  <->  {} {CLIENT_OUTSIDE}", lab.server, lab.client));
    tell("2. A certificate authority, a tls-crypt key, certificates for both sides.");
    lab.write_files()?;
    let version = first_line(Command::new("openvpn").arg("--version"));
    tell(&format!("3. The server: {version}"));
    let mut server = lab.start_server()?;
    server.wait_for(UP, &lab.stop)?;
    tell("4. The client: oxivpn client.ovpn");
    let mut client = lab.start_client()?;
    client.wait_for(UP, &lab.stop)?;
    tell("5. Ping through the tunnel, IPv4, IPv4 with 8000 bytes, IPv6:");
    lab.ping(&[SERVER_INSIDE])?;
    lab.ping(&["-s", "8000", SERVER_INSIDE])?;
    lab.ping(&[SERVER_INSIDE6])?;
    tell("6. A TCP transfer through the tunnel:");
    lab.transfer()?;
    tell("7. The client leaves and the host is as it was:");
    client.leave()?;
    tell("Done.");
    Ok(())
}

/// Everything that must be gone in the end.
struct Lab {
    server: String,
    client: String,
    dir: tempfile::TempDir,
    stop: Arc<AtomicBool>,
}

impl Lab {
    fn new(stop: Arc<AtomicBool>) -> Result<Self> {
        let id = std::process::id();
        let dir = tempfile::Builder::new().prefix("oxivpn-demo-").tempdir()?;
        Ok(Self { server: format!("oxivpn-s-{id}"), client: format!("oxivpn-c-{id}"), dir, stop })
    }

    fn wire(&self) -> Result<()> {
        let (server, client) = (&*self.server, &*self.client);
        for name in [server, client] {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        ip(&[
            "link", "add", "demo", "netns", server, "type", "veth", "peer", "name", "demo", "netns", client,
        ])?;
        for (name, address) in [(server, SERVER_OUTSIDE), (client, CLIENT_OUTSIDE)] {
            ip(&["-n", name, "addr", "add", &format!("{address}/24"), "dev", "demo"])?;
            ip(&["-n", name, "link", "set", "demo", "up"])?;
        }
        Ok(())
    }

    fn write_files(&self) -> Result<()> {
        let pki = Pki::new()?;
        let key = self.path("tls-crypt.key");
        let made = Command::new("openvpn").args(["--genkey", "secret"]).arg(&key).output()?;
        if !made.status.success() {
            bail!("openvpn --genkey failed: {}", String::from_utf8_lossy(&made.stdout).trim());
        }
        let key = std::fs::read_to_string(&key)?;
        let server = format!(
            "dev tun\nproto udp\nlocal {SERVER_OUTSIDE}\nport 1194\ntopology subnet\nserver 10.8.0.0 255.255.255.0\n\
             server-ipv6 fd00:6f78:6976::/64\ndh none\nkeepalive 10 60\nverb 3\n{}",
            blocks(&pki.ca, &pki.server.certificate, &pki.server.key, &key)
        );
        let client = format!(
            "client\ndev tun\nremote {SERVER_OUTSIDE} 1194 udp\nnobind\nremote-cert-tls server\n\
             explicit-exit-notify 1\nverb 3\n{}",
            blocks(&pki.ca, &pki.client.certificate, &pki.client.key, &key)
        );
        write_secret(&self.path("server.ovpn"), &server)?;
        write_secret(&self.path("client.ovpn"), &client)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start_server(&self) -> Result<Program> {
        let mut command = inside(&self.server, Path::new("openvpn"));
        command.arg("--config").arg(self.path("server.ovpn"));
        Program::start("openvpn", command, false)
    }

    fn start_client(&self) -> Result<Program> {
        let mut command = inside(&self.client, &std::env::current_exe()?);
        command.arg(self.path("client.ovpn"));
        Program::start("oxivpn", command, true)
    }

    fn ping(&self, args: &[&str]) -> Result<()> {
        let mut command = inside(&self.client, Path::new("ping"));
        let output = command.args(["-n", "-c", "4", "-i", "0.2", "-W", "2"]).args(args).output()?;
        self.check_stop()?;
        let text = String::from_utf8_lossy(&output.stdout);
        for line in
            text.lines().filter(|line| line.contains("packets transmitted") || line.starts_with("rtt"))
        {
            tell(&format!("    {line}"));
        }
        if !output.status.success() {
            bail!("no answer to ping {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Both directions, the receiver in one namespace and the sender in the other.
    fn transfer(&self) -> Result<()> {
        let oxivpn = std::env::current_exe()?;
        let address = format!("{SERVER_INSIDE}:5001");
        let mut receiver =
            Running(inside(&self.server, &oxivpn).args(["demo", "receive", &address]).spawn()?);
        let mut tries = 0;
        loop {
            let sent = inside(&self.client, &oxivpn).args(["demo", "send", &address]).output()?;
            self.check_stop()?;
            tries += 1;
            if sent.status.success() {
                break;
            }
            // The receiver may not listen yet.
            if tries == 20 {
                bail!("the transfer failed: {}", String::from_utf8_lossy(&sent.stdout).trim());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        receiver.0.wait()?;
        Ok(())
    }

    fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { bail!("interrupted") } else { Ok(()) }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            // Not made yet, if the demo failed early.
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

/// A child that doesn't outlive us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, in the good case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program whose lines are read while it runs.
struct Program {
    name: &'static str,
    running: Running,
    lines: Receiver<String>,
    loud: bool,
    seen: Vec<String>,
}

impl Program {
    fn start(name: &'static str, mut command: Command, loud: bool) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take().context("no standard output")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name, running: Running(child), lines, loud, seen: Vec::new() })
    }

    fn wait_for(&mut self, text: &str, stop: &AtomicBool) -> Result<()> {
        let begin = clock::now();
        loop {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    let found = line.contains(text);
                    self.show(line);
                    if found {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} ended:\n{}", self.name, self.seen.join("\n"))
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if clock::now() - begin > PATIENCE {
                bail!("{} did not come up:\n{}", self.name, self.seen.join("\n"));
            }
        }
    }

    fn show(&mut self, line: String) {
        if self.loud {
            tell(&format!("    {line}"));
        }
        self.seen.push(line);
    }

    /// Ends the program by SIGTERM and shows its last words.
    fn leave(&mut self) -> Result<()> {
        let id = self.running.0.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.show(line);
        }
        let status = self.running.0.wait()?;
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        Ok(())
    }
}

fn inside(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output()?;
    if !output.status.success() {
        bail!("ip {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").to_owned()
}

fn blocks(ca: &str, certificate: &str, key: &str, tls_crypt: &str) -> String {
    [("ca", ca), ("cert", certificate), ("key", key), ("tls-crypt", tls_crypt)]
        .map(|(name, text)| format!("<{name}>\n{}\n</{name}>\n", text.trim()))
        .concat()
}

/// Writes a file that only its owner may read.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file: File = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
