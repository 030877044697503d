//! What a server and its clients are made with.

use core::time::Duration;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::super::mole::{MoleFactory, Words};
use super::super::net::{Host, Net};
use super::super::script::Script;
use super::super::world::{Faults, PATH, config, key, secs, wraps};
use crate::config::params::Framing;
use crate::config::server::{LoginPolicy, Rate, ServerConfig, TlsCryptV2, TokenConfig};
use crate::config::{ClientConfig, Credentials};
use crate::path::{Path, StreamId};
use crate::plane::Capabilities;
use crate::tls::fake::FakeFactory;
use crate::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2};
use crate::wrap::{WrapConfig, generate};

const UNIX: Duration = Duration::from_secs(1_700_000_000);

/// The first bytes of a script.
pub(super) struct Setup {
    flags: u16,
    limits: u8,
    timing: u8,
    seed: u8,
}

impl Setup {
    pub(super) fn read(script: &mut Script<'_>) -> Self {
        Self { flags: script.word(), limits: script.byte(), timing: script.byte(), seed: script.byte() }
    }

    fn has(&self, bit: u8) -> bool {
        self.flags >> bit & 1 != 0
    }

    /// Compression framing of server and clients.
    fn framing(&self) -> Framing {
        Framing::ALL[usize::from(self.seed >> 3 & 3)]
    }

    /// Protection of server and clients.
    fn wraps(&self) -> (WrapConfig, Option<TlsCryptV2>, WrapConfig) {
        let random = core::array::from_fn(|i| i as u8);
        let server = ServerKeyV2::new(&[0x5a; 128]);
        let pem = generate::client_key(&server, &random, &generate::made_at(UNIX)).unwrap_or_default();
        let own = ClientKeyV2::from_pem(&pem).expect("what we write we read");
        let own = WrapConfig::TlsCryptV2 { key: Arc::new(own) };
        let mut wraps = wraps();
        let kind = usize::from(self.flags & 7);
        let v2 = TlsCryptV2 { key: Arc::new(server), force_cookie: kind == 6, max_age: None };
        let crypt = WrapConfig::TlsCrypt { key: key() };
        match kind {
            0..=2 => (wraps[kind].clone(), None, wraps.swap_remove(kind)),
            4 => (crypt, Some(v2), own),
            5 => (crypt.clone(), Some(v2), crypt),
            _ => (WrapConfig::None, Some(v2), own),
        }
    }

    pub(super) fn max_clients(&self) -> usize {
        1 + usize::from(self.limits & 3)
    }

    /// Whether the application is asked about logins.
    pub(super) fn asks(&self) -> bool {
        self.has(11)
    }

    pub(super) fn server(&self) -> ServerConfig {
        let (wrap, v2, _) = self.wraps();
        let mut config = ServerConfig::new(wrap, Arc::new(FakeFactory::new()));
        config.tls_crypt_v2 = v2;
        config.max_clients = self.max_clients();
        let rate = |events| Some(Rate { events, period: secs(10) });
        if self.limits & 4 != 0 {
            config.connect_rate = rate(2);
        }
        if self.limits & 8 != 0 {
            config.initial_rate = rate(3);
        }
        config.duplicate_cn = !self.has(7);
        config.username_as_common_name = self.has(8);
        config.login =
            [LoginPolicy::None, LoginPolicy::Optional, LoginPolicy::Required, LoginPolicy::Required]
                [usize::from(self.flags >> 9 & 3)];
        config.ask_login = self.asks();
        config.token = self.has(12).then(|| TokenConfig {
            lifetime: [None, Some(secs(20)), Some(secs(600)), None][usize::from(self.limits >> 4 & 3)],
            renewal: secs([600, 5, 60, 3600][usize::from(self.limits >> 6)]),
            external: self.has(13),
            secret: Zeroizing::new([9; 32]),
        });
        config.require_tls_ekm = self.has(14);
        config.channel.float = !self.has(15);
        config.channel.exit_notify = Some(2);
        config.migrate_compression = self.seed & 0x80 != 0;
        config.channel.framing = if config.migrate_compression { Framing::None } else { self.framing() };
        self.time(&mut config.channel.timing, 0);
        config
    }

    pub(super) fn client(&self) -> ClientConfig {
        let (.., wrap) = self.wraps();
        let mut config = config(wrap);
        config.channel.exit_notify = self.has(13).then_some(3);
        config.channel.framing = self.framing();
        self.time(&mut config.channel.timing, 2);
        config
    }

    fn time(&self, timing: &mut crate::config::Timing, shift: u8) {
        let pick = |shift: u8, choice: [u64; 4]| choice[usize::from(self.timing >> shift & 3)];
        timing.reneg = secs(pick(shift, [3600, 0, 4, 60]));
        timing.hand_window = secs(pick(4, [60, 20, 5, 300]));
        timing.tran_window = secs(pick(6, [3600, 10, 60, 1]));
        timing.server_poll = secs(60);
        timing.reneg_packets = u64::from(self.seed >> 5 & 1) * 3;
    }

    pub(super) fn net(&self) -> Net {
        let capabilities = Capabilities {
            synchronous: !self.has(4),
            epoch: !self.has(5),
            asymmetric_ids: !self.has(6),
            ..Capabilities::USERSPACE
        };
        let lag = if self.has(4) { Duration::from_millis(u64::from(self.seed) * 4) } else { Duration::ZERO };
        let path = if self.has(3) { Path::Stream(StreamId(3)) } else { PATH };
        let mut net = Net::new(self.seed, capabilities, lag, path);
        net.faults = [
            Faults::default(),
            Faults { drop: 20, duplicate: 10, reorder: 30, corrupt: 5, control_only: false },
            Faults { reorder: 80, ..Faults::default() },
            Faults { drop: 40, control_only: true, ..Faults::default() },
        ][usize::from(self.seed & 3)];
        net
    }

    /// A client that has just begun; `kind` says what it can do. With `words` it says these instead of what it wants.
    pub(super) fn join(&self, net: &mut Net, number: u8, kind: u8, words: Option<Words>) {
        let mut config = self.client();
        if let Some(words) = words {
            config.channel.tls = Arc::new(MoleFactory::new(words));
        }
        let capabilities = Capabilities {
            synchronous: true,
            epoch: kind & 1 == 0,
            asymmetric_ids: kind & 2 == 0,
            ..Capabilities::USERSPACE
        };
        config.channel.max_packet_size = [1250, 154][usize::from(kind >> 2 & 1)];
        let name = format!("user{}", if kind & 8 == 0 { number } else { 0 });
        let password = Zeroizing::new("secret".to_owned());
        let login = (kind & 16 == 0).then_some(Credentials { username: name, password, is_token: false });
        let seed = [self.seed ^ 0x80 ^ number; 32];
        let mut host = Host::new(seed, net.now, net.address(number, 0), capabilities, Duration::ZERO);
        let session = host.node.connect(net.now, net.server.path, Arc::new(config), login);
        host.session = Some(session.expect("a usable configuration"));
        net.clients.insert(number, host);
    }
}
