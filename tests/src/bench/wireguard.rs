//! `wireguard-go` as a contender: started in the foreground and configured by the text protocol of its own socket, so
//! that it needs no other tool.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use oxivpn_tests::{
    netns::{CLIENT_V4, Lab, SERVER_V4, Side},
    process::{Process, command_in, poll},
};

use super::tunnel::INSIDE;

/// Largest MTU of the device whose packets fit into an Ethernet frame over IPv4.
pub(crate) const MTU: u32 = 1440;

const PORT: u16 = 51820;

/// One end.
#[derive(Debug)]
pub(crate) struct End {
    /// The program.
    pub(crate) process: Process,
    socket: PathBuf,
}

impl Drop for End {
    fn drop(&mut self) {
        // A killed program leaves it behind, and it is in no namespace.
        let _ = fs::remove_file(&self.socket);
    }
}

/// A key pair as the socket's protocol takes it, in hexadecimal.
struct Keys {
    private: String,
    public: String,
}

impl Keys {
    fn new() -> Result<Self> {
        let der = openssl(&["genpkey", "-algorithm", "x25519", "-outform", "DER"], &[])?;
        let public = openssl(&["pkey", "-inform", "DER", "-pubout", "-outform", "DER"], &der)?;
        Ok(Self { private: last_32(&der)?, public: last_32(&public)? })
    }
}

/// Both encodings end with the key's bytes.
fn last_32(der: &[u8]) -> Result<String> {
    let key = der.last_chunk::<32>().context("a key of openssl is too short")?;
    Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn openssl(args: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), input)?;
    let output = Command::new("openssl")
        .args(args)
        .stdin(fs::File::open(file.path())?)
        .output()
        .context("cannot run openssl")?;
    ensure!(output.status.success(), "openssl {}: {}", args.join(" "), output.status);
    Ok(output.stdout)
}

/// Starts both ends, the server's first, and gives them their keys and addresses.
pub(crate) fn start(lab: &Lab, program: &Path) -> Result<[End; 2]> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let stem = format!("wg{}x{}", process::id() % 1_000_000, COUNTER.fetch_add(1, Ordering::Relaxed) % 1000);
    let keys = [Keys::new()?, Keys::new()?];
    let mut ends = Vec::new();
    for (index, side) in [Side::Server, Side::Client].into_iter().enumerate() {
        let device = format!("{stem}{}", ["s", "c"][index]);
        ends.push(launch(lab, program, side, &device)?);
        let (own, other) = (&keys[index], &keys[1 - index]);
        let remote = [CLIENT_V4, SERVER_V4][index];
        let text = format!(
            "set=1\nprivate_key={}\nlisten_port={PORT}\nreplace_peers=true\npublic_key={}\n\
             endpoint={remote}:{PORT}\nallowed_ip=10.8.0.0/24\n\n",
            own.private, other.public
        );
        configure(&ends[index].socket, &text)?;
        lab.ip(side, &format!("addr add {}/24 dev {device}", INSIDE[index]))?;
        lab.ip(side, &format!("link set {device} mtu {MTU} up"))?;
    }
    ends.try_into().ok().context("two ends")
}

fn launch(lab: &Lab, program: &Path, side: Side, device: &str) -> Result<End> {
    let mut command = command_in(lab.ns(side), program);
    command.args(["--foreground", device]).env("LOG_LEVEL", "error").current_dir(lab.dir());
    let log = lab.dir().join(if side == Side::Server { "server.log" } else { "client.log" });
    let process = Process::spawn("wireguard-go", command, &log)?;
    let socket = PathBuf::from(format!("/var/run/wireguard/{device}.sock"));
    let mut end = End { process, socket };
    let ready = poll(Duration::from_secs(5), || {
        let ended = end.process.try_status()?;
        ensure!(ended.is_none(), "wireguard-go ended: {ended:?}\n{}", end.process.log());
        Ok(end.socket.exists().then_some(()))
    })?;
    ready.with_context(|| format!("wireguard-go made no socket\n{}", end.process.log()))?;
    Ok(end)
}

fn configure(socket: &Path, text: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(text.as_bytes())?;
    let (mut answer, mut buf) = (Vec::new(), [0; 256]);
    while !answer.ends_with(b"\n\n") {
        let len = stream.read(&mut buf)?;
        ensure!(len > 0, "wireguard-go closed its socket");
        answer.extend_from_slice(&buf[..len]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    ensure!(answer.contains("errno=0"), "wireguard-go refused its configuration: {}", answer.trim());
    Ok(())
}
