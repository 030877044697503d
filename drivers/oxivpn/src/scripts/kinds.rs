//! What each kind of script is called with. Those of a login or a new client answer by files too; see
//! [`answers`](super::answers).

use core::fmt;
use core::time::Duration;

use super::environment::Environment;
use super::runner::Job;

/// Lane of all jobs about addresses: what is learned and forgotten about one address keeps its order.
const ADDRESS_LANE: u64 = u64::MAX;

/// What OpenVPN writes about a script that failed or was refused (`openvpn: run_command.h`, `openvpn_run_script`).
pub fn failed(hook: &str, why: &dyn fmt::Display) -> String {
    format!("WARNING: Failed running command ({hook}): {why}")
}

/// Scripts around the device, its routes, and the peer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// After the device was opened.
    Up,
    /// After it was closed, or before with `down-pre`.
    Down,
    /// After routes were set.
    RouteUp,
    /// Before they go.
    RoutePreDown,
    /// When the peer was authenticated at its address.
    IpChange,
}

impl Hook {
    /// `script_type`.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::RouteUp => "route-up",
            Self::RoutePreDown => "route-pre-down",
            Self::IpChange => "ipchange",
        }
    }

    /// As it is called in messages.
    pub const fn hook(self) -> &'static str {
        match self {
            Self::Up | Self::Down | Self::RoutePreDown => "--up/--down",
            Self::RouteUp => "--route-up",
            Self::IpChange => "--ipchange",
        }
    }

    /// Whether the program ends if the script fails (`openvpn: init.c`, `run_up_down` with `S_FATAL`).
    pub const fn is_fatal(self) -> bool {
        matches!(self, Self::Up | Self::Down | Self::RoutePreDown)
    }
}

/// The job of a hook. Its arguments come from `env`, where [`variables`](super::variables) have put them:
/// device, MTU, 0, our address, the far end's address or the netmask, and the occasion; for `ipchange` the peer's
/// address and port in one argument (`openvpn: socket.c`, `ipchange_fmt`); none for `route-up`.
pub fn hook(hook: Hook, command: &[String], env: &Environment, limit: Duration) -> Job {
    let value = |name: &str| env.get(name).unwrap_or_default().to_owned();
    let args = match hook {
        Hook::Up | Hook::Down | Hook::RoutePreDown => {
            let second = env.get("ifconfig_netmask").or_else(|| env.get("ifconfig_remote"));
            let second = second.unwrap_or_default().to_owned();
            vec![
                value("dev"),
                value("tun_mtu"),
                "0".into(),
                value("ifconfig_local"),
                second,
                value("script_context"),
            ]
        }
        Hook::RouteUp => Vec::new(),
        Hook::IpChange => {
            let (family, address) = match env.get("trusted_ip6") {
                Some(address) => ("[AF_INET6]", address.to_owned()),
                None => ("[AF_INET]", value("trusted_ip")),
            };
            vec![format!("{family}{address} {}", value("trusted_port"))]
        }
    };
    job(hook.hook(), hook.kind(), command, args, env, limit)
}

/// `tls-verify` for one certificate of the chain, 0 being the leaf. Exit status 0 lets the handshake go on. Run
/// from the root down to the leaf, each after the one before said yes.
pub fn tls_verify(
    command: &[String],
    env: &Environment,
    depth: usize,
    subject: &str,
    limit: Duration,
) -> Job {
    job("--tls-verify script", "tls-verify", command, vec![depth.to_string(), subject.into()], env, limit)
}

/// `client-disconnect`.
pub fn client_disconnect(command: &[String], env: &Environment, limit: Duration) -> Job {
    job("--client-disconnect", "client-disconnect", command, Vec::new(), env, limit)
}

/// What happens to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned<'a> {
    /// It belongs to the client of this name from now on.
    Add(&'a str),
    /// It belonged to another one before.
    Update(&'a str),
    /// It belongs to nobody.
    Delete,
}

/// `learn-address`. `address` is an address or, for what lies behind a client, a network: `10.8.0.2`,
/// `192.168.7.0/24`. `env` is the client's; nobody's for [`Learned::Delete`]. A status other than 0 refuses an
/// address that is added or updated.
pub fn learn_address(
    command: &[String],
    env: &Environment,
    learned: Learned<'_>,
    address: &str,
    limit: Duration,
) -> Job {
    let (operation, name) = match learned {
        Learned::Add(name) => ("add", Some(name)),
        Learned::Update(name) => ("update", Some(name)),
        Learned::Delete => ("delete", None),
    };
    let args = [operation, address].into_iter().chain(name).map(str::to_owned).collect();
    let job = job("--learn-address", "learn-address", command, args, env, limit);
    Job { lane: Some(ADDRESS_LANE), ..job }
}

pub(super) fn job(
    hook: &'static str,
    kind: &str,
    command: &[String],
    args: Vec<String>,
    env: &Environment,
    limit: Duration,
) -> Job {
    let mut env = env.clone();
    env.set("script_type", kind);
    Job { hook, command: command.to_vec(), args, env, limit, lane: None, share: None }
}

#[cfg(test)]
mod tests {
    use super::super::variables::{self, Occasion};
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn command() -> Vec<String> {
        vec!["/etc/openvpn/script".into(), "own".into()]
    }

    #[test]
    fn hooks_have_openvpns_arguments() {
        let mut env = Environment::new();
        variables::device(&mut env, "tun0", 1500, Occasion::Init);
        env.set("ifconfig_local", "10.99.0.2");
        env.set("ifconfig_netmask", "255.255.255.0");
        variables::trusted(&mut env, "192.0.2.1:11950".parse().unwrap());
        for kind in [Hook::Up, Hook::Down, Hook::RoutePreDown] {
            let job = hook(kind, &command(), &env, LIMIT);
            assert_eq!(job.args, ["tun0", "1500", "0", "10.99.0.2", "255.255.255.0", "init"]);
            assert_eq!((job.env.get("script_type"), job.command.len()), (Some(kind.kind()), 2));
        }
        assert!(hook(Hook::RouteUp, &command(), &env, LIMIT).args.is_empty());
        assert_eq!(hook(Hook::IpChange, &command(), &env, LIMIT).args, ["[AF_INET]192.0.2.1 11950"]);
        variables::trusted(&mut env, "[2001:db8::1]:5".parse().unwrap());
        assert_eq!(hook(Hook::IpChange, &command(), &env, LIMIT).args, ["[AF_INET6]2001:db8::1 5"]);
    }

    #[test]
    fn without_addresses_their_places_stay_empty() {
        let mut env = Environment::new();
        variables::device(&mut env, "tun7", 1400, Occasion::Restart);
        let job = hook(Hook::Up, &command(), &env, LIMIT);
        assert_eq!(job.args, ["tun7", "1400", "0", "", "", "restart"]);
        env.set("ifconfig_local", "10.8.0.6");
        env.set("ifconfig_remote", "10.8.0.5");
        let job = hook(Hook::Up, &command(), &env, LIMIT);
        assert_eq!(job.args, ["tun7", "1400", "0", "10.8.0.6", "10.8.0.5", "restart"]);
    }

    #[test]
    fn scripts_of_a_server_have_openvpns_arguments() {
        let env = Environment::new();
        let job = tls_verify(&command(), &env, 1, "C=KG, CN=ca", LIMIT);
        assert_eq!((job.args, job.hook), (vec!["1".into(), "C=KG, CN=ca".into()], "--tls-verify script"));
        let learned = |learned| learn_address(&command(), &env, learned, "10.66.0.0/16", LIMIT);
        assert_eq!(learned(Learned::Add("ann")).args, ["add", "10.66.0.0/16", "ann"]);
        assert_eq!(learned(Learned::Update("ann")).args, ["update", "10.66.0.0/16", "ann"]);
        assert_eq!(learned(Learned::Delete).args, ["delete", "10.66.0.0/16"]);
        assert_eq!(learned(Learned::Delete).lane, learned(Learned::Add("ann")).lane);
        assert!(client_disconnect(&command(), &env, LIMIT).args.is_empty());
    }

    #[test]
    fn failures_read_as_in_openvpn() {
        let why = super::super::Finished::Exited(1);
        assert_eq!(
            failed("--client-connect", &why),
            "WARNING: Failed running command (--client-connect): external program exited with error status: 1"
        );
    }
}
