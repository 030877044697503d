//! A world out of a plan.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::sync::Arc;

use oxivpn_proto::config::server::{LoginPolicy, ServerConfig, TlsCryptV2, TokenConfig};
use oxivpn_proto::config::{ChannelConfig, ClientConfig, Credentials, Keepalive, PeerConfig, PingTimeout};
use oxivpn_proto::keys::data_key::TlsRole;
use oxivpn_proto::options::pushed::Topology;
use oxivpn_proto::pool::AddressPlan;
use oxivpn_proto::wrap::WrapConfig;
use oxivpn_proto::wrap::generate;
use oxivpn_proto::wrap::static_key::{HmacDigest, KeyDirection, StaticKey};
use oxivpn_proto::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2};
use zeroize::Zeroizing;

use super::{Cast, Fault, Item, Mishap, Plan, Shape, WrapKind};
use crate::link::Faults;
use crate::machine::CALENDAR;
use crate::machine::role::{ClientRole, LoginAnswer, PeerRole, Retry, Role, ServerRole, password};
use crate::nat::NatKind;
use crate::seed::{Branch, Purpose};
use crate::tls::{Authority, KeyLog};
use crate::trace::{Keep, MachineId};
use crate::world::{Flow, Happening, SiteFaults, SiteId, World};

/// Inner network of servers.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 0);
/// Inner addresses of the two ends of a point-to-point tunnel.
const ENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2)];

/// A world that is about to begin, and who is in it.
#[derive(Debug)]
pub struct Built {
    /// The world, at its start.
    pub world: World,
    /// Server or called peer.
    pub hub: MachineId,
    /// Those who call, and must be up in the end.
    pub callers: Vec<MachineId>,
    /// Those who call, and must never be let in.
    pub strangers: Vec<MachineId>,
    /// TLS secrets, if they are logged.
    pub keys: KeyLog,
}

/// Makes the world of a plan.
pub fn build(plan: &Plan, keep: Keep) -> Built {
    let mut world = World::new(plan.seed, keep);
    let shape = &plan.shape;
    let sites: Vec<SiteId> = (0..super::size(shape)).map(|site| add_site(&mut world, plan, site)).collect();
    let keys = KeyLog::default();
    let maker = Maker::new(plan, &world, (keep == Keep::Packets).then_some(&keys));
    for item in &plan.items {
        if let Item::Streams(faults) = item {
            world.set_pipe_faults(*faults);
        }
    }
    let server = world.site_address(sites[0]);
    let hub = world.add_machine(sites[0], "server", maker.hub(), shape.planes[0]);
    let mut callers = Vec::new();
    for (number, &site) in sites.iter().enumerate().skip(1) {
        let name = format!("client{number}");
        let role = maker.caller(&name, server, false);
        callers.push(world.add_machine(site, &name, role, shape.planes[1]));
    }
    let mut strangers = Vec::new();
    if plan.items.iter().any(|item| matches!(item, Item::Stranger)) {
        let site = world.add_site(SiteFaults::both(Faults { delay: shape.delay, ..Faults::NONE }), None);
        let role = maker.caller("client1", server, true);
        strangers.push(world.add_machine(site, "stranger", role, shape.planes[1]));
    }
    let healthy = plan.is_healthy();
    if (shape.spare_data || healthy) && !plan.disturbs_data() {
        world.expect_no_loss();
    }
    // Without protection whoever hears the session ids may write control messages.
    if healthy && (shape.wrap != WrapKind::None || plan.attacks_know_no_session()) {
        world.expect_no_end();
    }
    if plan.spares_messages() {
        world.expect_messages();
    }
    schedule(&mut world, plan, hub);
    Built { world, hub, callers, strangers, keys }
}

fn add_site(world: &mut World, plan: &Plan, site: u16) -> SiteId {
    let faults = line_faults(plan, site);
    let nat = plan.items.iter().find_map(|item| match item {
        Item::Nat { site: there, kind } if *there == site => Some(*kind),
        _ => None,
    });
    // Byte streams are made end to end.
    world.add_site(faults, nat.filter(|_: &NatKind| !plan.shape.stream))
}

fn line_faults(plan: &Plan, site: u16) -> SiteFaults {
    let healthy = Faults { delay: plan.shape.delay, ..Faults::NONE };
    let mut faults = SiteFaults { spare_data: plan.shape.spare_data, ..SiteFaults::both(healthy) };
    for item in &plan.items {
        if let Item::Line { site: there, up, fault } = item
            && *there == site
        {
            fault.apply(if *up { &mut faults.up } else { &mut faults.down });
        }
    }
    faults
}

fn schedule(world: &mut World, plan: &Plan, hub: MachineId) {
    let start = world.now();
    let end = start + plan.shape.faulty;
    for item in &plan.items {
        match *item {
            Item::Spell { site, up, fault, at, lasts } => {
                spell(world, plan, (site, up, fault), start + at, lasts)
            }
            Item::Event { at, what } => {
                let happening = match what {
                    Mishap::Crash(who, off) => Happening::Crash(MachineId(who), off),
                    Mishap::Sleep(who, time) => Happening::Sleep(MachineId(who), time),
                    Mishap::Skew(who, seconds) => Happening::Skew(MachineId(who), seconds),
                    Mishap::Rebind(site) => Happening::Rebind(SiteId(site)),
                    Mishap::Renumber(site) => Happening::Renumber(SiteId(site)),
                    Mishap::BreakStreams(who) => Happening::BreakStreams(MachineId(who)),
                    Mishap::Renegotiate(who) => Happening::Renegotiate(MachineId(who)),
                    Mishap::Leave(who) => Happening::Leave(MachineId(who)),
                    Mishap::Message(who) => Happening::Message { from: hub, to: MachineId(who) },
                };
                world.plan(start + at, happening);
            }
            Item::Traffic { from, to, every, size, ask, forged } => {
                let (from, to) = (MachineId(from), MachineId(to));
                world.add_flow(Flow { from, to, every, size, ask, forged, until: end });
            }
            Item::Transfer { from, to, at, bytes } => {
                world.add_transfer(start + at, (MachineId(from), MachineId(to)), bytes);
            }
            Item::Gremlin { machine, mask } => world.set_gremlin(MachineId(machine), mask),
            // Whoever would write into a byte stream has to know its sequence numbers.
            Item::Attack { .. } if plan.shape.stream => {}
            Item::Attack { attack, at, lasts } => {
                world.add_attack(attack, hub, (start + at, (start + at + lasts).min(end)));
            }
            Item::Line { .. } | Item::Nat { .. } | Item::Streams(_) | Item::Stranger => {}
        }
    }
}

fn spell(
    world: &mut World,
    plan: &Plan,
    (site, up, fault): (u16, bool, Fault),
    at: oxivpn_proto::Instant,
    lasts: Duration,
) {
    let normal = line_faults(plan, site);
    let mut bad = normal;
    fault.apply(if up { &mut bad.up } else { &mut bad.down });
    world.plan(at, Happening::Lines(SiteId(site), bad));
    // Later than the healing it would bring the line's own faults back.
    let healed = world.now() + plan.shape.faulty;
    world.plan((at + lasts).min(healed), Happening::Lines(SiteId(site), normal));
}

/// Makes the roles of a plan's machines.
struct Maker<'a> {
    shape: &'a Shape,
    authority: Authority,
    /// Another one, which nobody trusts.
    secret: [u8; 32],
}

impl<'a> Maker<'a> {
    fn new(plan: &'a Plan, world: &World, keys: Option<&KeyLog>) -> Self {
        let seeds = world.seeds().branch(Branch::Authority, 0);
        let mut authority = Authority::new(plan.shape.tls, seeds.draws(Purpose::Secret, 0, 0).seed());
        if let Some(keys) = keys {
            authority = authority.with_key_log(keys);
        }
        let secret = seeds.draws(Purpose::Secret, 1, 0).seed();
        Self { shape: &plan.shape, authority, secret }
    }

    /// What protects the control channel at the hub, and at a caller.
    fn wraps(&self) -> (WrapConfig, Option<TlsCryptV2>, WrapConfig) {
        let mut bytes = [0; 256];
        bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = self.secret[at % 32] ^ at as u8);
        let key = Arc::new(StaticKey::new(Zeroizing::new(bytes)));
        let digest = HmacDigest::Sha256;
        let auth = |direction| WrapConfig::TlsAuth { key: key.clone(), direction, digest };
        let crypt = WrapConfig::TlsCrypt { key: key.clone() };
        match self.shape.wrap {
            WrapKind::None => (WrapConfig::None, None, WrapConfig::None),
            WrapKind::TlsAuth => (auth(KeyDirection::Normal), None, auth(KeyDirection::Inverse)),
            WrapKind::TlsCrypt => (crypt.clone(), None, crypt),
            WrapKind::TlsCryptV2 => {
                let mut server = [0; 128];
                server.copy_from_slice(&bytes[64..192]);
                let server = ServerKeyV2::new(&server);
                let pem =
                    generate::client_key(&server, &bytes, &generate::made_at(CALENDAR)).unwrap_or_default();
                let caller = match ClientKeyV2::from_pem(&pem) {
                    Ok(key) => WrapConfig::TlsCryptV2 { key: Arc::new(key) },
                    Err(_) => WrapConfig::None,
                };
                let v2 = TlsCryptV2 { key: Arc::new(server), force_cookie: true, max_age: None };
                (WrapConfig::None, Some(v2), caller)
            }
        }
    }

    /// Settings that both ends have, with the hub's or a caller's own.
    fn tune(&self, channel: &mut ChannelConfig, caller: bool) {
        let shape = self.shape;
        channel.ciphers.clone_from(&shape.ciphers);
        channel.framing = shape.framing;
        channel.timing.reneg = shape.reneg[usize::from(caller)];
        channel.timing.reneg_packets = shape.reneg_packets;
        channel.timing.hand_window = shape.hand_window;
        channel.timing.tran_window = shape.tran_window;
        channel.timing.server_poll = shape.hand_window;
        channel.exit_notify = shape.exit_notify.then_some(1);
        let restart = if caller { shape.ping_restart } else { 2 * shape.ping_restart };
        channel.keepalive = Keepalive {
            ping: Some(shape.ping),
            timeout: Some(PingTimeout::Restart(restart)),
            ..Keepalive::default()
        };
    }

    fn hub(&self) -> Role {
        let (wrap, tls_crypt_v2, _) = self.wraps();
        let tls = self.authority.server();
        if self.shape.cast == Cast::Pair {
            let mut channel = ChannelConfig::new(wrap, tls);
            self.tune(&mut channel, false);
            channel.float = true;
            let config = PeerConfig { channel, role: TlsRole::Server, tls_crypt_v2, remote: None };
            return self.peer(config, None, ENDS);
        }
        let mut config = ServerConfig::new(wrap, tls);
        self.tune(&mut config.channel, false);
        config.tls_crypt_v2 = tls_crypt_v2;
        config.max_clients = 64;
        config.initial_rate = None;
        config.duplicate_cn = self.shape.duplicate_cn;
        if self.shape.login {
            config.login = LoginPolicy::Required;
            config.ask_login = true;
        }
        let lifetime = Some(Duration::from_secs(3600));
        config.token = self.shape.token.then(|| TokenConfig {
            lifetime,
            // So that some run out while the world lasts.
            renewal: Duration::from_secs(20),
            external: false,
            secret: Zeroizing::new(self.secret),
        });
        let Shape { ping, ping_restart, .. } = self.shape;
        let push =
            vec![format!("ping {}", ping.as_secs()), format!("ping-restart {}", ping_restart.as_secs())];
        let at = |last| Ipv4Addr::from(u32::from(NETWORK) + last);
        let plan = AddressPlan {
            topology: Topology::Subnet,
            own: Some(at(1)),
            network: ipnet::Ipv4Net::new(NETWORK, 16).ok(),
            pool: Some((at(2), at(0xfffd))),
            push,
            duplicate_cn: self.shape.duplicate_cn,
            ..AddressPlan::default()
        };
        let login = LoginAnswer { delay: self.shape.login_delay, secret: self.password() };
        Role::Server(Arc::new(ServerRole {
            config,
            plan,
            client_to_client: self.shape.client_to_client,
            fixed: self.shape.fixed,
            login,
        }))
    }

    fn password(&self) -> u64 {
        u64::from_le_bytes(self.secret.first_chunk().copied().unwrap_or_default())
    }

    fn caller(&self, name: &str, server: core::net::SocketAddr, stranger: bool) -> Role {
        let (.., wrap) = self.wraps();
        // Where there are passwords, a stranger has a stolen certificate.
        let foreign = stranger && !self.shape.login;
        let tls = if foreign { self.authority.stranger() } else { self.authority.client(name) };
        let retry = Retry { fresh_socket: self.shape.fresh_sockets, ..Retry::default() };
        if self.shape.cast == Cast::Pair {
            let mut channel = ChannelConfig::new(wrap, tls);
            self.tune(&mut channel, true);
            let config =
                PeerConfig { channel, role: TlsRole::Client, tls_crypt_v2: None, remote: Some(server) };
            return self.peer(config, Some((server, retry)), [ENDS[1], ENDS[0]]);
        }
        let mut config = ClientConfig::new(wrap, tls);
        self.tune(&mut config.channel, true);
        let credentials = self.shape.login.then(|| Credentials {
            username: name.to_owned(),
            password: Zeroizing::new(password(self.password() ^ u64::from(stranger))),
            is_token: false,
        });
        let config = Arc::new(config);
        Role::Client(Arc::new(ClientRole { config, server, stream: self.shape.stream, credentials, retry }))
    }

    fn peer(
        &self,
        config: PeerConfig,
        calls: Option<(core::net::SocketAddr, Retry)>,
        ends: [Ipv4Addr; 2],
    ) -> Role {
        Role::Peer(Arc::new(PeerRole {
            config,
            calls: calls.map(|(server, _)| server),
            stream: self.shape.stream,
            inner: (ends[0].into(), ends[1].into()),
            retry: calls.map(|(_, retry)| retry).unwrap_or_default(),
        }))
    }
}
