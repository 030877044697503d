//! A server under many clients: one host for it, one for `oxivpn load` and one for a real client with a tunnel.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    certs::{KeyKind, Pki},
    client::ClientSpec,
    interrupt,
    netns::SERVER_V4,
    openvpn::{READY, ServerSpec, Tls, Transport},
    process::{Process, command_in, poll},
    scenario::CONNECT,
    star::Star,
    stats::quantile,
};

/// Address of the server in the tunnel.
const INSIDE: &str = "10.8.0.1";

/// What a server prints, at `verb 1`, for every client with a key.
const JOINED: &str = "Peer Connection Initiated with";

/// Time between two looks at a process.
const LOOK: Duration = Duration::from_millis(100);

/// How long clients stay once all have a second key; the server's memory is read in this time.
const HOLD: Duration = Duration::from_secs(5);

/// A running server with the hosts of its clients, which all end with it.
#[derive(Debug)]
pub struct Field {
    /// The server.
    pub server: Process,
    generator: PathBuf,
    client: Option<Process>,
    pki: Pki,
    star: Star,
}

/// What `oxivpn load` reports in its last line.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome(BTreeMap<String, f64>);

impl Outcome {
    /// Finds the line in the program's output.
    pub fn parse(output: &str) -> Result<Self> {
        let line = output.lines().rev().find_map(|line| line.strip_prefix("load "));
        let words = line.context("no line `load ...`")?.split_whitespace();
        let pair = |word: &str| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        words.map(pair).collect::<Option<_>>().map(Self).context("odd line `load ...`")
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Result<f64> {
        self.0.get(name).copied().with_context(|| format!("`load` tells no `{name}`"))
    }
}

/// Resident memory of a server in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Clients that it was measured with.
    pub clients: u32,
    /// Before the first of them.
    pub before: u64,
    /// When all were up.
    pub up: u64,
    /// When each had negotiated a second key, and used it.
    pub renegotiated: u64,
}

impl Memory {
    /// Bytes that each client takes after its renegotiation.
    pub fn each(&self) -> f64 {
        self.renegotiated.saturating_sub(self.before) as f64 / f64::from(self.clients)
    }
}

/// Answers to pings.
#[derive(Clone, Copy, Debug)]
pub struct Pinged {
    /// Of those that came, 99 % took no longer, in milliseconds.
    pub p99: f64,
    /// Those that did not come.
    pub lost: u32,
}

impl Field {
    /// Starts the server `program`, on one `core` only if that is given, and waits until it accepts clients.
    ///
    /// `generator` is the program whose `load` makes the clients.
    pub fn new(program: &Path, generator: &Path, core: Option<usize>) -> Result<Self> {
        interrupt::check()?;
        let star = Star::new(2)?;
        let pki = Pki::new(KeyKind::EcdsaP256)?;
        // OpenVPN keeps a client that has left for five seconds and refuses another one from its address until then.
        let ports = "net.ipv4.ip_local_port_range=1024 65535";
        star.exec(star.client(0), &["sysctl", "-qw", ports])?;
        let lines = [
            "server 10.8.0.0 255.255.0.0",
            "!server-ipv6",
            "duplicate-cn",
            "max-clients 60000",
            "connect-freq-initial 1000000 10",
            "keepalive 60 240",
            "verb 1",
        ];
        let spec = ServerSpec {
            program: program.to_owned(),
            transport: Transport::Udp4,
            tls: Some(Tls::V13),
            ca: pki.ca.clone(),
            identity: pki.server.clone(),
            lines: lines.map(str::to_owned).to_vec(),
        };
        let config = star.dir().join("server.ovpn");
        fs::write(&config, spec.text(star.dir()))?;
        let mut command = pinned(star.server(), program, core);
        command.arg("--config").arg(&config);
        let mut server = Process::spawn("server", command, &star.dir().join("server.log"))?;
        server.wait_for(READY, CONNECT).map_err(|e| anyhow!("{e:#}\n{}", server.log()))?;
        Ok(Self { server, generator: generator.to_owned(), client: None, pki, star })
    }

    /// Starts `oxivpn load PROFILE WORDS`.
    pub fn generate(&self, words: &str, core: Option<usize>) -> Result<Process> {
        let profile = self.star.dir().join("load.ovpn");
        let text = format!(
            "client\ndev null\nremote {SERVER_V4} 1194 udp4\nca {}\ncert {}\nkey {}\nremote-cert-tls server\n\
             explicit-exit-notify 1\nverb 1\n",
            self.pki.ca.display(),
            self.pki.client.cert.display(),
            self.pki.client.key.display()
        );
        fs::write(&profile, text)?;
        let mut command = pinned(self.star.client(0), &self.generator, core);
        command.arg("load").arg(&profile).args(words.split_whitespace());
        Process::spawn("oxivpn load", command, &self.star.dir().join("load.log"))
    }

    /// Waits for the end of what [`Field::generate`] has started and calls `look` meanwhile.
    pub fn outcome(
        &mut self,
        mut load: Process,
        within: Duration,
        mut look: impl FnMut(&Process) -> Result<()>,
    ) -> Result<Outcome> {
        let status = watched(&mut load, within, || {
            let ended = self.server.try_status()?;
            ensure!(ended.is_none(), "the server ended: {ended:?}\n{}", tail(&self.server.log()));
            look(&self.server)
        })?;
        let log = load.log();
        ensure!(status, "oxivpn load failed:\n{}", tail(&log));
        Outcome::parse(&log)
    }

    /// Lets `clients` come, `rate` each second, and each negotiate a second key.
    pub fn memory(&mut self, clients: u32, rate: u32) -> Result<Memory> {
        let before = self.server.resident()?;
        let mut joined = Joined::new(&self.star.dir().join("server.log"))?;
        let (mut up, mut samples) = (None, Vec::new());
        let hold = HOLD.as_secs();
        let load =
            self.generate(&format!("--clients {clients} --rate {rate} --renegotiate --hold {hold}"), None)?;
        // A second key counts as used a minute after its handshake if nothing is sent with it.
        let within = Duration::from_secs(300 + u64::from(2 * clients / rate));
        let outcome = self.outcome(load, within, |server| {
            let resident = server.resident()?;
            samples.push((Instant::now(), resident));
            if up.is_none() && joined.count()? >= clients {
                up = Some(resident);
            }
            Ok(())
        })?;
        let failed = || format!("{outcome:?}\n{}", tail(&self.server.log()));
        for name in ["up", "alive", "rekeyed"] {
            ensure!(outcome.get(name)? == f64::from(clients), "not all {clients} are {name}: {}", failed());
        }
        let end = Instant::now();
        let held = samples.iter().rev().find(|(at, _)| end - *at >= HOLD / 2);
        Ok(Memory {
            clients,
            before,
            up: up.context("the server has not told that all are up")?,
            renegotiated: held.context("too short a time to read the memory")?.1,
        })
    }

    /// Connects a client with a device; `program` is its program.
    pub fn connect(&mut self, program: &Path) -> Result<()> {
        let lines = vec!["keepalive 60 240".into(), "verb 1".into()];
        let identity = self.pki.client.clone();
        let spec = ClientSpec { transport: Transport::Udp4, ca: Some(self.pki.ca.clone()), identity, lines };
        let profile = self.star.dir().join("client.ovpn");
        fs::write(&profile, spec.text()?)?;
        let mut command = command_in(self.star.client(1), program);
        command.arg("--config").arg(&profile).current_dir(self.star.dir());
        let mut client = Process::spawn("client", command, &self.star.dir().join("client.log"))?;
        client.wait_for(READY, CONNECT).map_err(|e| anyhow!("{e:#}\n{}", client.log()))?;
        self.client = Some(client);
        Ok(())
    }

    /// Pings the server from the client through the tunnel, 100 times each second.
    pub fn ping(&self, seconds: u32) -> Result<Pinged> {
        let count = seconds * 100;
        let mut command = command_in(self.star.client(1), "ping");
        command.args(["-n", "-i", "0.01", "-W", "2", "-c", &count.to_string(), INSIDE]);
        let log = self.star.dir().join("ping.log");
        // Each run has a log of its own.
        let _ = fs::remove_file(&log);
        let mut ping = Process::spawn("ping", command, &log)?;
        // Its exit code tells whether any answer came, which the times tell as well.
        watched(&mut ping, Duration::from_secs(u64::from(seconds) * 4 + 10), || Ok(()))?;
        let text = ping.log();
        let times = times(&text);
        ensure!(!times.is_empty(), "no answer to any ping: {}", tail(&text));
        let lost = count.saturating_sub(u32::try_from(times.len())?);
        Ok(Pinged { p99: quantile(times, 0.99), lost })
    }
}

/// A command in a namespace, on one core only if that is given.
fn pinned(ns: &str, program: &Path, core: Option<usize>) -> Command {
    let Some(core) = core else { return command_in(ns, program) };
    let mut command = command_in(ns, "taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    command
}

/// Waits for the end of a process, calls `look` meanwhile and stops when a signal comes. True for exit code 0.
fn watched(process: &mut Process, within: Duration, mut look: impl FnMut() -> Result<()>) -> Result<bool> {
    let ended = poll(within, || {
        interrupt::check()?;
        look()?;
        let status = process.try_status()?;
        if status.is_none() {
            thread::sleep(LOOK);
        }
        Ok(status)
    })?;
    let status = ended
        .with_context(|| format!("it still runs after {} s:\n{}", within.as_secs(), tail(&process.log())))?;
    Ok(status.success())
}

/// Milliseconds of each answer that `ping` prints.
pub fn times(text: &str) -> Vec<f64> {
    let word = |line: &str| line.split_once(" time=")?.1.split_whitespace().next()?.parse().ok();
    text.lines().filter(|line| !line.contains("DUP!")).filter_map(word).collect()
}

/// The end of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Counts clients in a server's growing log, without reading any part twice.
struct Joined {
    log: File,
    rest: String,
    count: u32,
}

impl Joined {
    fn new(log: &Path) -> Result<Self> {
        Ok(Self { log: File::open(log)?, rest: String::new(), count: 0 })
    }

    fn count(&mut self) -> Result<u32> {
        self.log.read_to_string(&mut self.rest)?;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let found = self.rest[..whole].lines().filter(|line| line.contains(JOINED)).count();
        self.rest.drain(..whole);
        self.count += u32::try_from(found)?;
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_line_of_a_load_is_read() {
        let text = "clients: 5 begun\nload begun=5 up=4 p50_ms=1.25\n";
        let outcome = Outcome::parse(text).unwrap();
        assert_eq!((outcome.get("up").unwrap(), outcome.get("p50_ms").unwrap()), (4.0, 1.25));
        assert!(outcome.get("alive").is_err());
        assert!(Outcome::parse("clients: 5 begun\n").is_err());
        assert!(Outcome::parse("load begun=five\n").is_err());
    }

    #[test]
    fn times_of_answers_are_read_once_each() {
        let text = "64 bytes from 10.8.0.1: icmp_seq=1 ttl=64 time=0.42 ms\n\
                    64 bytes from 10.8.0.1: icmp_seq=1 ttl=64 time=0.50 ms (DUP!)\n\
                    64 bytes from 10.8.0.1: icmp_seq=3 ttl=64 time=12 ms\n\
                    3 packets transmitted, 2 received, 33% packet loss, time 40ms\n";
        assert_eq!(times(text), [0.42, 12.0]);
    }

    #[test]
    fn a_growing_log_is_counted() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut joined = Joined::new(file.path()).unwrap();
        assert_eq!(joined.count().unwrap(), 0);
        write!(file, "[a] {JOINED} 1\nother\n[b] {JOINED}").unwrap();
        assert_eq!(joined.count().unwrap(), 1);
        writeln!(file, " 2\n[c] {JOINED} 3").unwrap();
        assert_eq!(joined.count().unwrap(), 3);
    }

    #[test]
    fn memory_is_what_is_beyond_the_base() {
        let memory = Memory { clients: 100, before: 1000, up: 0, renegotiated: 201_000 };
        assert_eq!(memory.each(), 2000.0);
    }
}
