//! Servers that can't start: one clear message, exit code 1, nothing on the host touched.
//!
//! What is wrong inside the configuration alone is tested where profiles are read; here is what the host has to do with.

use std::{fs, net::UdpSocket, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result, ensure};
use oxivpn_tests::{
    client::Kind,
    flood::inside,
    matrix::{Cell, Skip},
    netns::SERVER_V4,
    openvpn::{Transport, Wrap},
    serve::Service,
    star::Star,
};

/// One thing that is wrong.
struct Case {
    name: &'static str,
    service: fn(Service) -> Result<Service>,
    /// What this project's server must print, in exactly one line.
    oxivpn: &'static str,
    /// What OpenVPN prints; `None` if it starts anyway.
    openvpn: Option<&'static str>,
}

const CASES: &[Case] = &[
    Case {
        name: "no-certificate",
        service: |s| Ok(s.line("!cert")),
        oxivpn: "cert",
        openvpn: Some("No client-side authentication method|--cert"),
    },
    Case {
        name: "no-key",
        service: |s| Ok(s.line("!key")),
        oxivpn: "`?key",
        openvpn: Some("--key|private key"),
    },
    Case {
        name: "no-ca",
        service: |s| Ok(s.line("!ca")),
        oxivpn: "`?ca`?|verify-client-cert",
        openvpn: Some("You must define CA file|--ca"),
    },
    Case {
        name: "missing-certificate-file",
        service: |s| Ok(s.line("cert missing.crt")),
        oxivpn: "missing.crt.*No such file",
        openvpn: Some("--cert fails with 'missing.crt': No such file or directory"),
    },
    Case {
        name: "key-of-another-certificate",
        service: |s| {
            let key = s.pki.client.key.display().to_string();
            Ok(s.line(format!("key {key}")))
        },
        oxivpn: "`key` does not belong to `cert`",
        openvpn: Some("key values mismatch"),
    },
    Case {
        name: "certificate-is-no-certificate",
        service: |s| Ok(s.file("odd.crt", "no certificate\n").line("cert odd.crt")),
        oxivpn: "odd.crt",
        openvpn: Some("Cannot load (inline )?certificate file|odd.crt"),
    },
    Case {
        name: "unreadable-key",
        service: |s| Ok(s.file("private/x", "").line("key private")),
        oxivpn: "private.*directory",
        openvpn: Some("Cannot load private key file private"),
    },
    Case {
        name: "missing-tls-crypt-key",
        service: |s| Ok(s.line("tls-crypt missing.key")),
        oxivpn: "missing.key.*No such file",
        openvpn: Some("--tls-crypt fails with 'missing.key': No such file or directory"),
    },
    Case {
        name: "tls-crypt-v2-key-of-a-client",
        service: client_key,
        oxivpn: "tls-crypt-v2",
        openvpn: Some("(?i)tls-crypt-v2 (server )?key|PEM"),
    },
    Case {
        name: "two-owners-of-the-tunnel",
        service: |s| Ok(s.line("ifconfig-pool 10.8.0.5 10.8.0.9")),
        oxivpn: "server.*ifconfig-pool|ifconfig-pool.*server",
        openvpn: Some("--server already defines an ifconfig-pool"),
    },
    Case {
        name: "pool-outside-of-the-network",
        service: |s| {
            let s = s.line("!server").line("!server-ipv6").line("mode server").line("tls-server");
            Ok(s.line("ifconfig 10.8.0.1 255.255.255.0")
                .line("ifconfig-pool 10.9.9.2 10.9.9.9 255.255.255.0"))
        },
        oxivpn: "ifconfig-pool",
        openvpn: None,
    },
    Case {
        name: "pool-too-small",
        service: |s| Ok(s.line("server 10.8.0.0 255.255.255.254")),
        oxivpn: "server.*(too small|/3|255\\.255\\.255\\.2)",
        openvpn: Some("--server directive"),
    },
    Case {
        name: "pool-too-big",
        service: |s| Ok(s.line("server 10.0.0.0 255.0.0.0")),
        oxivpn: "server.*(too (big|large)|65|/16|255\\.)",
        openvpn: Some("--server directive netmask|too large|pool"),
    },
    Case {
        name: "missing-ccd",
        service: |s| Ok(s.line("client-config-dir missing")),
        oxivpn: "client-config-dir.*missing|missing.*client-config-dir",
        openvpn: Some("--client-config-dir fails with 'missing'"),
    },
    Case {
        name: "missing-crl",
        service: |s| Ok(s.line("crl-verify missing.pem")),
        oxivpn: "missing.pem.*No such file",
        openvpn: Some("--crl-verify fails with 'missing.pem'"),
    },
    Case {
        name: "script-not-allowed",
        service: |s| Ok(s.script("c.sh", "true").line("client-connect ./c.sh").line("script-security 1")),
        oxivpn: "client-connect.*script-security|script-security.*client-connect",
        openvpn: None,
    },
    Case {
        name: "missing-script",
        service: |s| Ok(s.line("client-connect ./missing.sh")),
        oxivpn: "missing.sh.*No such file",
        openvpn: Some("--client-connect script fails with './missing.sh'"),
    },
    Case {
        name: "script-without-x",
        service: |s| {
            Ok(s.script("c.sh", "true").line("client-connect ./c.sh").prepare(|star| {
                Ok(fs::set_permissions(star.dir().join("c.sh"), fs::Permissions::from_mode(0o644))?)
            }))
        },
        oxivpn: "c.sh.*([Pp]ermission|execut)",
        openvpn: Some("--client-connect script fails with './c.sh': Permission denied"),
    },
    Case {
        name: "address-of-nobody",
        service: |s| Ok(s.line("local 10.9.0.77")),
        oxivpn: "cannot bind to local address 10\\.9\\.0\\.77.*assign",
        openvpn: Some("Socket bind failed on local address .*10.9.0.77"),
    },
    Case {
        name: "missing-user",
        service: |s| Ok(s.line("user no-such-user")),
        oxivpn: "no-such-user",
        openvpn: Some("failed to find UID for user no-such-user"),
    },
    Case {
        name: "management-socket-in-no-folder",
        service: |s| Ok(s.line("management missing/m.sock unix")),
        oxivpn: "missing/m.sock",
        openvpn: Some("(?i)management.*missing"),
    },
    Case {
        name: "status-file-in-no-folder",
        service: |s| Ok(s.line("status missing/status.log")),
        oxivpn: "missing/status.log.*No such file",
        openvpn: Some("--status fails with 'missing/status.log'"),
    },
    Case {
        name: "pid-file-in-no-folder",
        service: |s| Ok(s.line("writepid missing/pid")),
        oxivpn: "missing/pid.*No such file",
        openvpn: Some("--writepid fails with 'missing/pid'"),
    },
    Case {
        name: "unknown-device-type",
        service: |s| Ok(s.line("dev foo0")),
        oxivpn: "dev.*foo0",
        openvpn: Some("--dev tun or --dev tap"),
    },
];

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for case in CASES {
        cells.push(Cell::new(format!("serve-bad-config::{}", case.name), move || refuses(case)));
    }
    for transport in Transport::ALL {
        let name = format!("serve-bad-config::port-taken::{}", transport.name());
        cells.push(Cell::new(name, move || port_taken(transport)));
    }
    cells
}

fn refuses(case: &Case) -> Result<()> {
    let service = Service::new()?;
    let pattern = match (service.kind(), case.openvpn) {
        (Kind::Oxivpn, _) => case.oxivpn,
        (Kind::OpenVpn { .. }, Some(pattern)) => pattern,
        (Kind::OpenVpn { .. }, None) => return Err(Skip("OpenVPN does not mind".into()).into()),
    };
    (case.service)(service)?.refuses(pattern).map(drop)
}

/// A client's key where the server's should be.
fn client_key(service: Service) -> Result<Service> {
    let keys = tempfile::tempdir()?;
    let lines = Wrap::TlsCryptV2.generate(&keys.path().join("keys"))?;
    let block = lines.client.first().context("no key")?;
    let text: Vec<&str> = block.lines().filter(|line| !line.starts_with('<')).collect();
    Ok(service.file("client.key", text.join("\n") + "\n").line("tls-crypt-v2 client.key"))
}

/// Somebody else has the port.
fn port_taken(transport: Transport) -> Result<()> {
    let service = Service::new()?.transport(transport);
    let (oxivpn, openvpn) = (
        "cannot bind to local address .*1194.*in use",
        "Socket bind failed on local address .*Address already in use",
    );
    let pattern = if service.kind() == Kind::Oxivpn { oxivpn } else { openvpn };
    let holder: std::sync::Arc<std::sync::Mutex<Vec<Box<dyn Send>>>> = std::sync::Arc::default();
    let holding = holder.clone();
    let service = service.prepare(move |star: &Star| {
        let socket = inside(star.server(), || {
            Ok(match transport {
                Transport::Udp4 => Box::new(UdpSocket::bind((SERVER_V4, 1194))?) as Box<dyn Send>,
                Transport::Udp6 => Box::new(UdpSocket::bind("[::]:1194")?),
                Transport::Tcp4 => Box::new(std::net::TcpListener::bind((SERVER_V4, 1194))?),
            })
        })?;
        holding.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.push(socket);
        Ok(())
    });
    let log = service.refuses(pattern)?;
    ensure!(!log.contains("Initialization Sequence Completed"), "it says that it is ready");
    drop(holder);
    Ok(())
}
