//! What `oxivpn setup` was asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::entropy;

/// A server to make.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    /// Where clients find it.
    pub(super) host: String,
    pub(super) tcp: bool,
    pub(super) port: u16,
    pub(super) network: Ipv4Net,
    pub(super) network6: Option<Ipv6Net>,
    /// All traffic of the clients goes through it.
    pub(super) internet: bool,
    pub(super) dns: Vec<IpAddr>,
    pub(super) clients: Vec<String>,
}

/// Name servers of clients that reach the internet through the tunnel, where those around them may be out of reach.
const DNS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9))];

/// Most octets of a common name (RFC 5280, `ub-common-name`).
pub(super) const MAX_NAME: usize = 64;

impl Plan {
    /// Takes the words behind `setup`.
    pub(super) fn parse(args: &[String]) -> Result<Self> {
        let mut plan = Self {
            dir: PathBuf::new(),
            host: String::new(),
            tcp: false,
            port: 1194,
            network: Ipv4Net::new_assert(Ipv4Addr::new(10, 8, 0, 0), 24),
            network6: None,
            internet: false,
            dns: Vec::new(),
            clients: Vec::new(),
        };
        let mut no_network6 = false;
        let mut words = args.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || {
                let value = words.next().filter(|value| !value.starts_with("--"));
                value.with_context(|| format!("{word} needs a value; see `oxivpn setup --help`"))
            };
            match word {
                "--internet" => plan.internet = true,
                "--host" => plan.host = host(value()?)?,
                "--proto" => {
                    plan.tcp = match value()? {
                        "udp" => false,
                        "tcp" => true,
                        other => bail!("--proto {other:?}: there are `udp` and `tcp`"),
                    }
                }
                "--port" => {
                    let text = value()?;
                    let port = text.parse().ok().filter(|port| *port > 0);
                    plan.port =
                        port.with_context(|| format!("--port {text:?}: give a number from 1 to 65535"))?;
                }
                "--network" => plan.network = network(value()?)?,
                "--network6" => match value()? {
                    "none" => no_network6 = true,
                    text => plan.network6 = Some(network6(text)?),
                },
                "--dns" => {
                    let text = value()?;
                    let address = text.parse();
                    plan.dns.push(address.with_context(|| format!("--dns {text:?}: give an IP address"))?);
                }
                "--client" => {
                    let name = client_name(value()?)?;
                    if plan.clients.contains(&name) {
                        bail!("--client {name} is there twice");
                    }
                    plan.clients.push(name);
                }
                word if word.starts_with('-') => bail!("{word:?} is no option; see `oxivpn setup --help`"),
                word if plan.dir.as_os_str().is_empty() && !word.is_empty() => plan.dir = word.into(),
                word => bail!("{word:?}: a directory is there already; see `oxivpn setup --help`"),
            }
        }
        plan.complete(no_network6)?;
        Ok(plan)
    }

    fn complete(&mut self, no_network6: bool) -> Result<()> {
        if self.dir.as_os_str().is_empty() {
            bail!("which directory? Write `oxivpn setup DIR --host NAME`, with a DIR to be made");
        }
        if self.host.is_empty() {
            bail!("where will clients find the server? Write `--host NAME`, with its host name or address");
        }
        if self.clients.is_empty() {
            self.clients.push("client1".into());
        }
        if self.internet && self.dns.is_empty() {
            self.dns = DNS.into();
        }
        if self.internet && self.network6.is_none() && !no_network6 {
            // Without, what clients do over IPv6 would pass the tunnel by.
            self.network6 = Some(unique_local()?);
        }
        Ok(())
    }
}

/// A network of nobody else (RFC 4193).
fn unique_local() -> Result<Ipv6Net> {
    let mut bytes = [0; 16];
    entropy::fill(&mut bytes[1..6])?;
    bytes[0] = 0xfd;
    Ok(Ipv6Net::new_assert(Ipv6Addr::from(bytes), 64))
}

fn host(text: &str) -> Result<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte);
    if text.is_empty() || text.len() > 253 || !text.bytes().all(good) || text.starts_with('-') {
        bail!("--host {text:?}: give a host name such as vpn.example.org, or an IP address without a port");
    }
    if text.contains(':') && text.parse::<Ipv6Addr>().is_err() {
        bail!("--host {text:?} is no IPv6 address; a port goes into --port");
    }
    Ok(text.into())
}

fn network(text: &str) -> Result<Ipv4Net> {
    let cure = "give a private network that neither the server nor its clients are in, such as 10.8.0.0/24";
    let net: Ipv4Net = text.parse().ok().with_context(|| format!("--network {text:?}: {cure}"))?;
    if net.trunc() != net {
        bail!("--network {text}: the network begins at {}; write --network {}", net.network(), net.trunc());
    }
    if !(16..=29).contains(&net.prefix_len()) {
        bail!("--network {text}: a server has from /16 to /29; {cure}");
    }
    Ok(net)
}

fn network6(text: &str) -> Result<Ipv6Net> {
    let net: Ipv6Net = text
        .parse()
        .ok()
        .with_context(|| format!("--network6 {text:?}: give one such as fd00:1:2:3::/64"))?;
    if net.trunc() != net {
        bail!("--network6 {text}: the network begins at {}; write --network6 {}", net.network(), net.trunc());
    }
    if !(64..=112).contains(&net.prefix_len()) {
        bail!("--network6 {text}: a server has from /64 to /112");
    }
    Ok(net)
}

/// A name that can be a file and that OpenVPN leaves as it is (`openvpn: ssl_verify.c`, `COMMON_NAME_CHAR_CLASS`).
pub(super) fn client_name(text: &str) -> Result<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte);
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(good) || text.starts_with(['.', '-']) {
        bail!(
            "{text:?} can't be the name of a client: give up to {MAX_NAME} of a-z, A-Z, 0-9, `_`, `-`, `.`, `@`, with \
             neither `.` nor `-` in front"
        );
    }
    Ok(text.into())
}
