//! Before the first client: everything that can be wrong is found before anything on the host is touched.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use ipnet::{Ipv4Net, Ipv6Net};
use oxivpn_net::tcp::{ListenOptions, Listener};
use oxivpn_net::{BindError, Family, UdpOptions, UdpSocket};
use oxivpn_profile::Profile;
use oxivpn_profile::profile::{self, ProcessOptions, Protocol};
use oxivpn_profile::server::{Listen, ServerOptions};
use oxivpn_proto::options::pushed::Topology;
use oxivpn_proto::pool::{AddressPlan, Addressing};
use oxivpn_proto::tls::rustls::RustlsFactory;

use super::worker::{Endpoints, stream_limits};
use super::{ccd, words};
use crate::client::credentials::{Prompt as _, Terminal};
use crate::link::settings;
use crate::log::Log;
use crate::{clock, say};

/// How many workers are to move packets: as many as the profile says, or with `auto` one for each processor that this
/// process may use.
pub(super) fn workers(profile: &Profile) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, |count| count.get().min(MOST_WORKERS));
    profile.workers.unwrap_or_else(processors)
}

/// What `auto` does not go beyond: with more workers most packets are handed over, unless the kernel happens to give both
/// directions of a client to the same one.
const MOST_WORKERS: usize = 8;

/// The sockets of a server.
pub(super) struct Sockets {
    /// Of each worker, all for the same local addresses in the same order.
    pub(super) shares: Vec<Endpoints>,
}

impl Sockets {
    /// Binds those of so many workers.
    pub(super) fn bind(profile: &Profile, options: &ServerOptions, workers: usize) -> Result<Self> {
        let mut shares: Vec<_> = (0..workers).map(|_| Endpoints::default()).collect();
        for listen in &options.listen {
            match listen.protocol {
                Protocol::Udp => {
                    let bind = |at: &Listen, shared| udp(profile, at, options.multihome, shared);
                    let sockets = several(listen, workers, bind, UdpSocket::local_addr)?;
                    shares.iter_mut().zip(sockets).for_each(|(share, socket)| share.sockets.push(socket));
                }
                Protocol::Tcp => {
                    let bind = |at: &Listen, shared| tcp(profile, options, at, shared);
                    let listeners = several(listen, workers, bind, Listener::local_addr)?;
                    shares.iter_mut().zip(listeners).for_each(|(share, socket)| share.listeners.push(socket));
                }
            }
        }
        if options.listen.is_empty() {
            bail!("Options error: there is no socket to listen on");
        }
        Ok(Self { shares })
    }

    /// A socket for each local address again.
    pub(super) fn for_control(&self) -> io::Result<Vec<UdpSocket>> {
        self.shares.first().into_iter().flat_map(|share| &share.sockets).map(UdpSocket::try_clone).collect()
    }

    /// OpenVPN's lines about where clients may come to.
    pub(super) fn tell(&self, log: &Log) {
        let Some(share) = self.shares.first() else { return };
        let udp = share.sockets.iter().filter_map(|socket| Some((socket.local_addr().ok()?, "UDP", "")));
        let tcp = share.listeners.iter();
        let tcp = tcp.filter_map(|socket| Some((socket.local_addr().ok()?, "TCP", "_SERVER")));
        for (local, protocol, role) in udp.chain(tcp) {
            let version = if local.is_ipv4() { "v4" } else { "v6" };
            let bound = words::bound(local);
            if protocol == "TCP" {
                say!(log, Info, "Listening for incoming TCP connection on {bound}");
            }
            say!(log, Info, "{protocol}{version}{role} link local (bound): {bound}");
            say!(log, Info, "{protocol}{version}{role} link remote: [AF_UNSPEC]");
        }
    }
}

/// `count` sockets of one address. `bind` is told whether others may have the same address.
///
/// If they may, a second server that is started by mistake would take a part of the clients, and no error tell of it. So
/// the address is tried out first.
fn several<S>(
    listen: &Listen,
    count: usize,
    bind: impl Fn(&Listen, bool) -> Result<S, BindError>,
    local: impl Fn(&S) -> io::Result<SocketAddr>,
) -> Result<Vec<S>> {
    let refused = |error: BindError| refused(listen, &error);
    let first = bind(listen, false).map_err(refused)?;
    if count == 1 {
        return Ok(vec![first]);
    }
    // Port 0 is another one each time.
    let port = local(&first).map_or(listen.port, |local| local.port());
    drop(first);
    let listen = Listen { port, ..listen.clone() };
    (0..count).map(|_| bind(&listen, true).map_err(refused)).collect()
}

fn family(listen: &Listen) -> Family {
    match listen.family {
        _ if listen.ipv6_only => Family::V6,
        profile::Family::V4 => Family::V4,
        // `proto udp6` takes IPv4 as well, unless `bind ipv6only` says otherwise.
        profile::Family::V6 if listen.address.is_some() => Family::V6,
        profile::Family::V6 | profile::Family::Any => Family::Any,
    }
}

/// The address to bind to; any of both versions where none is given.
fn local(listen: &Listen) -> SocketAddr {
    let any = match family(listen) {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 | Family::Any => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(listen.address.unwrap_or(any), listen.port)
}

fn udp(profile: &Profile, listen: &Listen, multihome: bool, shared: bool) -> Result<UdpSocket, BindError> {
    let socket = settings(&profile.socket);
    let options = |family, local| UdpOptions {
        local: Some(local),
        socket: socket.clone(),
        packet_info: multihome,
        reuse_port: shared,
        offload: true,
        ..UdpOptions::new(family)
    };
    let bound = UdpSocket::bind(&options(family(listen), local(listen)));
    match bound {
        Err(error) if without_ipv6(listen, &error) => {
            UdpSocket::bind(&options(Family::V4, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listen.port)))
        }
        bound => bound,
    }
}

fn tcp(
    profile: &Profile,
    server: &ServerOptions,
    listen: &Listen,
    shared: bool,
) -> Result<Listener, BindError> {
    let socket = settings(&profile.socket);
    let (_, queue_limit) = stream_limits(server.tcp_queue_limit, server.tun_mtu);
    let options = |family, local| ListenOptions {
        local: Some(local),
        socket: socket.clone(),
        queue_limit,
        reuse_port: shared,
        ..ListenOptions::new(family)
    };
    let bound = Listener::bind(&options(family(listen), local(listen)));
    match bound {
        Err(error) if without_ipv6(listen, &error) => {
            Listener::bind(&options(Family::V4, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listen.port)))
        }
        bound => bound,
    }
}

/// Where the kernel has no IPv6, or none of its addresses, a socket for everything serves IPv4.
fn without_ipv6(listen: &Listen, error: &BindError) -> bool {
    let unsupported = matches!(error.io().raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
    unsupported && listen.address.is_none() && listen.family == profile::Family::Any
}

/// OpenVPN's line, then what it means.
fn refused(listen: &Listen, error: &BindError) -> anyhow::Error {
    let source = error.io();
    let text = source.to_string();
    let what = text.split_once(" (os error").map_or(text.as_str(), |(what, _)| what);
    let number = source.raw_os_error().unwrap_or(0);
    anyhow!(
        "TCP/UDP: Socket bind failed on local address {}: {what} (errno={number})\n{}: {error}",
        words::bound(local(listen)),
        listen.origin
    )
}

/// Finds out whether the status file can be.
pub(super) fn check_status(profile: &Profile) -> Result<()> {
    let Some(status) = &profile.status else { return Ok(()) };
    let dir = status.path.parent().filter(|dir| !dir.as_os_str().is_empty());
    if let Some(dir) = dir
        && !dir.is_dir()
    {
        bail!(
            "Options error: --status fails with '{}': No such file or directory (errno=2). Make the directory {}, or name \
             another file",
            status.path.display(),
            dir.display()
        );
    }
    Ok(())
}

/// Makes TLS sessions with the profile's certificate and key.
pub(super) fn tls(profile: &Profile, log: &Log) -> Result<Arc<RustlsFactory>> {
    let passphrase = match profile.needs_passphrase() {
        true => {
            Some(Terminal.secret("Enter Private Key Password: ").context("the private key is encrypted")?)
        }
        false => None,
    };
    let material = profile.tls_options(passphrase.as_ref().map(|text| text.as_str()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls =
        RustlsFactory::new(material, provider).map_err(|failure| anyhow!("Options error: {failure}"))?;
    for note in tls.notes(clock::unix()) {
        say!(log, Warn, "{note}");
    }
    Ok(Arc::new(tls))
}

/// The pool, with what files say about its clients.
pub(super) fn addressing(profile: &Profile, options: &ServerOptions, log: &Log) -> Result<Addressing> {
    let ifconfig = profile.host.ifconfig;
    let network = options.pool.map(|pool| pool.network).or_else(|| {
        let (own, mask) = ifconfig.filter(|_| options.topology == Topology::Subnet)?;
        Ipv4Net::with_netmask(own, mask).ok()
    });
    let plan = AddressPlan {
        topology: options.topology,
        own: options.pool.map(|pool| pool.own).or_else(|| ifconfig.map(|(own, _)| own)),
        network: network.map(|network| network.trunc()),
        pool: options.pool.map(|pool| (pool.first, pool.last)),
        own6: profile.host.ifconfig_ipv6.and_then(|(own, bits, _)| Ipv6Net::new(own, bits).ok()),
        pool6: options.pool6,
        push: options.push.clone(),
        duplicate_cn: options.duplicate_cn,
        max_routes_per_client: options.max_routes_per_client,
    };
    let (mut addressing, notices) =
        Addressing::new(plan).map_err(|error| anyhow!("Options error: {error}"))?;
    for notice in notices {
        say!(log, Warn, "WARNING: {notice}");
    }
    if let Some(dir) = &options.client_config_dir {
        let files = ccd::all(&profile.process.before_chroot(dir))
            .map_err(|error| anyhow!("Options error: {error}"))?;
        for (name, path, file) in files {
            for problem in &file.problems {
                say!(log, Warn, "{problem}");
            }
            addressing
                .declare(&name, &file.overrides)
                .map_err(|conflict| anyhow!("Options error: {}: {conflict}", path.display()))?;
        }
    }
    Ok(addressing)
}

/// Remembers who had which address before.
pub(super) fn restore(options: &ServerOptions, addressing: &mut Addressing, log: &Log) -> Result<()> {
    let Some((path, every)) = &options.pool_persist else { return Ok(()) };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => bail!(
            "Options error: ifconfig-pool-persist: cannot read {}: {error}. Remove the file, or make it readable",
            path.display()
        ),
    };
    for warning in addressing.restore(&text, every.is_zero()) {
        say!(log, Warn, "WARNING: {}: {warning:?}", path.display());
    }
    Ok(())
}

/// The pool's file, to be written as long as the server runs.
pub(super) fn pool_file(options: &ServerOptions) -> Result<Option<File>> {
    let Some((path, _)) = options.pool_persist.as_ref().filter(|(_, every)| !every.is_zero()) else {
        return Ok(None);
    };
    let opened = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
    opened.map(Some).with_context(|| {
        format!("Options error: ifconfig-pool-persist: cannot write {}; give another place", path.display())
    })
}

/// Makes names of files that are looked at later independent of the current directory, which a daemon leaves. With
/// `chroot` they count from there.
pub(super) fn anchor(process: &ProcessOptions, options: &mut ServerOptions) -> Result<()> {
    if process.chroot.is_some() {
        return Ok(());
    }
    let paths = options.client_config_dir.iter_mut().chain([&mut options.tmp_dir]);
    for path in paths.chain(options.pool_persist.iter_mut().map(|(path, _)| path)) {
        *path = std::path::absolute(&path).with_context(|| format!("cannot resolve {}", path.display()))?;
    }
    Ok(())
}
