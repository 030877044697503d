//! The variables that OpenVPN gives to its scripts. Names and values were compared with those of OpenVPN 2.6.14.
//!
//! OpenVPN keeps one set for the program and one for each client, which inherits it, and never takes most variables
//! back. So does whoever uses this: [`program`] first, then for a device [`device`] and [`tunnel`], for each client
//! [`certificate`]s, [`peer_info`], and so on as they become known.

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use oxivpn_host::plan::{RouteGateway, Surroundings, Topology, VpnOptions};
use oxivpn_profile::Profile;
use oxivpn_profile::profile::{Family, Protocol, Remote};
use oxivpn_profile::server::{Listen, Role};
use oxivpn_proto::event::login::Token;
use oxivpn_proto::options::pushed::Pushed;
use oxivpn_proto::tls::facts::CertFacts;

use super::environment::Environment;
use crate::sys;

/// Longest line of peer info; the rest is cut off (`openvpn: misc.c`, `output_peer_info_env`).
const PEER_INFO_LINE: usize = 255;

/// What all scripts get (`openvpn: options.c`, `setenv_settings`), with the variables of `setenv` and `setenv-safe`.
/// `config` is the name of the first profile, if any; `unix` is the time of start.
pub fn program(profile: &Profile, config: Option<&str>, pid: u32, unix: Duration) -> Environment {
    let mut env = Environment::new();
    for (name, value) in &profile.process.environment {
        env.set(name, value);
    }
    if let Some(config) = config {
        env.set("config", config);
    }
    env.set("verb", profile.log.verbosity);
    env.set("daemon", u8::from(profile.process.daemon.is_some()));
    env.set("daemon_log_redirect", u8::from(profile.log.file.is_some()));
    env.set("daemon_start_time", unix.as_secs());
    env.set("daemon_pid", pid);
    for (number, remote) in (1..).zip(&profile.remotes) {
        set_remote(&mut env, number, remote);
    }
    let listen: &[Listen] = match &profile.role {
        Role::Server(server) => &server.listen,
        Role::Peer(peer) => &peer.listen,
        Role::Client => &[],
    };
    for (number, listen) in (1..).zip(listen) {
        set_listen(&mut env, number, listen, profile.remotes.is_empty());
    }
    env
}

fn set_remote(env: &mut Environment, number: usize, remote: &Remote) {
    let tcp = ["tcp-client", "tcp4-client", "tcp6-client"];
    env.set(&format!("proto_{number}"), protocol(remote.protocol, remote.family, tcp));
    if let Some(bind) = remote.bind {
        if let Some(address) = bind.address {
            env.set(&format!("local_{number}"), address);
        }
        env.set(&format!("local_port_{number}"), bind.port);
    }
    env.set(&format!("remote_{number}"), &remote.host);
    env.set(&format!("remote_port_{number}"), remote.port);
}

fn set_listen(env: &mut Environment, number: usize, listen: &Listen, alone: bool) {
    let tcp = ["tcp-server", "tcp4-server", "tcp6-server"];
    env.set(&format!("proto_{number}"), protocol(listen.protocol, listen.family, tcp));
    if let Some(address) = listen.address {
        env.set(&format!("local_{number}"), address);
    }
    env.set(&format!("local_port_{number}"), listen.port);
    // `port` sets both ends' ports, also where there is no other end yet.
    if alone {
        env.set(&format!("remote_port_{number}"), listen.port);
    }
}

fn protocol(protocol: Protocol, family: Family, tcp: [&'static str; 3]) -> &'static str {
    let names = match protocol {
        Protocol::Udp => ["udp", "udp4", "udp6"],
        Protocol::Tcp => tcp,
    };
    match family {
        Family::Any => names[0],
        Family::V4 => names[1],
        Family::V6 => names[2],
    }
}

/// Whether a script is run for the first time or because of a restart: last argument and `script_context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The device was opened just now, or goes for good.
    Init,
    /// The device stays while the connection is made anew.
    Restart,
}

impl Occasion {
    /// As scripts get it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Restart => "restart",
        }
    }
}

/// The device (`openvpn: init.c`, `run_up_down`).
pub fn device(env: &mut Environment, name: &str, mtu: u16, occasion: Occasion) {
    env.set("script_context", occasion.name());
    env.set("tun_mtu", mtu);
    env.set("dev", name);
    env.set("dev_type", if name == "null" { "null" } else { "tun" });
}

/// Our addresses in the tunnel and the routes through it (`openvpn: tun.c`, `do_ifconfig_setenv`; `route.c`,
/// `setenv_routes`). Numbers of an earlier connection are taken back.
pub fn tunnel(env: &mut Environment, options: &VpnOptions, around: &Surroundings) {
    for prefix in ["ifconfig_", "route_"] {
        env.remove_all(prefix);
    }
    if let Some(ifconfig) = options.ifconfig {
        env.set("ifconfig_local", ifconfig.local);
        let second =
            if options.topology == Topology::Subnet { "ifconfig_netmask" } else { "ifconfig_remote" };
        env.set(second, ifconfig.remote_or_mask);
    }
    if let Some(ifconfig) = options.ifconfig6 {
        env.set("ifconfig_ipv6_local", ifconfig.local);
        env.set("ifconfig_ipv6_netbits", ifconfig.prefix);
        if let Some(remote) = ifconfig.remote {
            env.set("ifconfig_ipv6_remote", remote);
        }
    }
    let net = match around.default.as_ref().and_then(|gateway| gateway.via) {
        Some(IpAddr::V4(address)) => address,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let vpn = vpn_gateway(options);
    if vpn.is_some() || !options.routes.is_empty() {
        env.set("route_net_gateway", net);
    }
    if let Some(vpn) = vpn {
        env.set("route_vpn_gateway", vpn);
    }
    routes(env, options, around, net);
    routes6(env, options);
    if let Some(redirect) = options.redirect.filter(|redirect| redirect.reroute) {
        for (name, wanted) in [("ipv4", redirect.ipv4), ("ipv6", redirect.ipv6)] {
            if wanted {
                env.set(&format!("route_redirect_gateway_{name}"), 1);
            }
        }
    }
}

fn vpn_gateway(options: &VpnOptions) -> Option<Ipv4Addr> {
    let far_end = options.ifconfig.filter(|_| options.topology != Topology::Subnet);
    options.route_gateway.or_else(|| far_end.map(|ifconfig| ifconfig.remote_or_mask))
}

fn routes(env: &mut Environment, options: &VpnOptions, around: &Surroundings, net: Ipv4Addr) {
    let gateways = options.routes.iter().map(|route| match route.gateway {
        RouteGateway::Vpn => vpn_gateway(options),
        RouteGateway::Net => around.default.is_some().then_some(net),
        RouteGateway::Addr(address) => Some(address),
        RouteGateway::RemoteHost => match around.remote {
            Some(IpAddr::V4(remote)) => Some(remote),
            _ => None,
        },
    });
    // Routes whose gateway is unknown don't exist.
    let routes = options.routes.iter().zip(gateways).filter_map(|(route, gateway)| Some((route, gateway?)));
    for (number, (route, gateway)) in (1..).zip(routes) {
        env.set(&format!("route_network_{number}"), route.network);
        env.set(&format!("route_netmask_{number}"), route.netmask);
        env.set(&format!("route_gateway_{number}"), gateway);
        if let Some(metric) = route.metric.or(options.route_metric) {
            env.set(&format!("route_metric_{number}"), metric);
        }
    }
}

fn routes6(env: &mut Environment, options: &VpnOptions) {
    let far_end = options.ifconfig6.and_then(|ifconfig| ifconfig.remote);
    let mut routes: Vec<_> = options
        .routes6
        .iter()
        .map(|route| {
            let metric = route.metric.or(options.route_metric);
            (route.network.trunc().to_string(), route.gateway.or(far_end), metric)
        })
        .collect();
    if options.redirect.is_some_and(|redirect| redirect.ipv6 && redirect.reroute) {
        let halves = ["::/3", "2000::/4", "3000::/4", "fc00::/7"];
        routes.extend(halves.map(|network| (network.to_owned(), far_end, None)));
    }
    for (number, (network, gateway, metric)) in (1..).zip(routes) {
        env.set(&format!("route_ipv6_network_{number}"), network);
        if let Some(gateway) = gateway {
            env.set(&format!("route_ipv6_gateway_{number}"), gateway);
        }
        if let Some(metric) = metric {
            env.set(&format!("route_ipv6_metric_{number}"), metric);
        }
    }
}

/// After routes were set: whether the default route leads into the tunnel.
pub fn redirected(env: &mut Environment, options: &VpnOptions) {
    let redirected = options.redirect.is_some_and(|redirect| redirect.reroute && redirect.ipv4);
    env.set("redirect_gateway", u8::from(redirected));
}

/// Pushed options that scripts are to carry out (`openvpn: options.c`, `setenv_foreign_option`).
pub fn foreign(env: &mut Environment, pushed: &[Pushed]) {
    env.remove_all("foreign_option_");
    let words = pushed.iter().filter_map(|option| match option {
        Pushed::DhcpOption(words) => Some(words),
        _ => None,
    });
    for (number, words) in (1..).zip(words) {
        env.set(&format!("foreign_option_{number}"), format_args!("dhcp-option {}", words.join(" ")));
    }
}

/// Where the peer is, before it has proved who it is.
pub fn untrusted(env: &mut Environment, address: SocketAddr) {
    set_address(env, "untrusted", address);
}

/// Where the peer is, when it has.
pub fn trusted(env: &mut Environment, address: SocketAddr) {
    set_address(env, "trusted", address);
}

fn set_address(env: &mut Environment, prefix: &str, address: SocketAddr) {
    env.remove(&format!("{prefix}_ip"));
    env.remove(&format!("{prefix}_ip6"));
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => env.set(&format!("{prefix}_ip"), ip),
        IpAddr::V6(ip) => env.set(&format!("{prefix}_ip6"), ip),
    }
    env.set(&format!("{prefix}_port"), address.port());
}

/// One certificate of the peer's chain; 0 is the leaf (`openvpn: ssl_verify.c`, `verify_cert_set_env`).
pub fn certificate(env: &mut Environment, depth: usize, facts: &CertFacts) {
    env.remove_all(&format!("X509_{depth}_"));
    for (name, value) in &facts.fields {
        env.add(&format!("X509_{depth}_{name}"), value);
    }
    env.set(&format!("tls_id_{depth}"), &facts.subject);
    env.set(&format!("tls_digest_{depth}"), hex(&facts.sha1));
    env.set(&format!("tls_digest_sha256_{depth}"), hex(&facts.sha256));
    env.set(&format!("tls_serial_{depth}"), &facts.serial);
    env.set(&format!("tls_serial_hex_{depth}"), hex(&facts.serial_bytes));
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (index, byte) in bytes.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        // Writing to a string can't fail.
        let _ = write!(text, "{colon}{byte:02x}");
    }
    text
}

/// What the peer says about itself, as far as it is well-formed (`openvpn: misc.c`, `output_peer_info_env`,
/// `validate_peer_info_line`).
pub fn peer_info(env: &mut Environment, text: &str) {
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line = &line[..line.floor_char_boundary(PEER_INFO_LINE)];
        let Some((name, value)) = line.split_once('=') else { continue };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let known = name.starts_with("IV_") || name.starts_with("UV_");
        if known && name.bytes().all(legal) {
            let harmless = |c: char| c.is_ascii_graphic() && !matches!(c, '$' | '(' | '`');
            let value: String = value.chars().map(|c| if harmless(c) { c } else { '_' }).collect();
            env.set(name, value);
        }
    }
}

/// Who logs in (`openvpn: ssl_verify.c`, `set_verify_user_pass_env`; `auth_token.c`, `add_session_token_env`).
/// The password is up to the script's kind.
pub fn login(env: &mut Environment, username: &str, common_name: &str, token: Option<&Token>) {
    env.set("username", username);
    env.set("common_name", common_name);
    if let Some(token) = token {
        env.set("session_state", token.state.name());
        env.set("session_id", &token.session);
    }
}

/// Addresses of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAddresses {
    /// Its address, and with topology subnet the netmask, else the server's address for it.
    pub v4: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Whether the second one of `v4` is a netmask.
    pub subnet: bool,
    /// Its address, prefix length, and the server's address.
    pub v6: Option<(core::net::Ipv6Addr, u8, core::net::Ipv6Addr)>,
}

/// Addresses of a client (`openvpn: multi.c`, `multi_set_virtual_addr_env`).
pub fn client_addresses(env: &mut Environment, addresses: &ClientAddresses) {
    env.remove_all("ifconfig_pool_");
    if let Some((client, second)) = addresses.v4 {
        env.set("ifconfig_pool_remote_ip", client);
        let name = if addresses.subnet { "ifconfig_pool_netmask" } else { "ifconfig_pool_local_ip" };
        env.set(name, second);
    }
    if let Some((client, bits, server)) = addresses.v6 {
        env.set("ifconfig_pool_remote_ip6", client);
        if !server.is_unspecified() {
            env.set("ifconfig_pool_local_ip6", server);
        }
        env.set("ifconfig_pool_ip6_netbits", bits);
    }
}

/// When a client came, in Unix time (`openvpn: multi.c`, `multi_client_connect_setenv`).
pub fn since(env: &mut Environment, unix: Duration) {
    let t = sys::local_time(unix.as_secs());
    let date = format_args!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        t.year, t.month, t.day, t.hour, t.minute, t.second
    )
    .to_string();
    env.set("time_ascii", date);
    env.set("time_unix", unix.as_secs());
}

/// What a client that leaves has moved (`openvpn: multi.c`, `multi_client_disconnect_setenv`). `received` and `sent`
/// are bytes from and to the client, with all that OpenVPN adds to packets.
pub fn sums(env: &mut Environment, received: u64, sent: u64, duration: Duration) {
    env.set("bytes_received", received);
    env.set("bytes_sent", sent);
    env.set("time_duration", duration.as_secs());
}

#[cfg(test)]
#[path = "variables_tests.rs"]
mod tests;
