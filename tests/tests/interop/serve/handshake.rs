//! Every protection of the control channel on every transport with every version of TLS, three clients at once.

use anyhow::{Result, ensure};
use oxivpn_tests::{
    client::Kind,
    matrix::Cell,
    openvpn::{Tls, Transport, Wrap},
    serve::{Guest, Service, Serving, all, both},
};

/// OpenVPN's default list, spelled out with the cipher which it leaves out.
const ALL: &str = "AES-256-GCM:AES-128-GCM:AES-192-GCM:CHACHA20-POLY1305";

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for wrap in Wrap::ALL {
        for transport in Transport::ALL {
            for tls in Tls::ALL {
                let name = format!("serve::handshake::{}::{}::{}", wrap.name(), transport.name(), tls.name());
                cells.push(Cell::new(name, move || connects(wrap, transport, tls)));
            }
        }
    }
    cells.push(Cell::new("serve::handshake::tls-crypt-v2::force-cookie", || {
        Service::new()?.wrap(Wrap::TlsCryptV2).wrap_option("force-cookie").guests(all()).connected(works)
    }));
    for digest in ["SHA1", "SHA256", "SHA512"] {
        cells.push(Cell::new(format!("serve::handshake::tls-auth::{digest}"), move || {
            let line = format!("auth {digest}");
            let service = Service::new()?.wrap(Wrap::TlsAuthDirection).line(&line);
            service.guests(all()).each(&line).connected(works)
        }));
    }
    for cipher in ALL.split(':') {
        cells.push(Cell::new(format!("serve::ciphers::{cipher}"), move || {
            let service = Service::new()?.line(format!("data-ciphers {cipher}")).guests(all());
            service.each(&format!("data-ciphers {ALL}")).connected(|serving| {
                let chosen = serving.visits.iter().map(|v| (v.name.clone(), cipher)).collect::<Vec<_>>();
                has_chosen(serving, &chosen)?;
                works(serving)
            })
        }));
    }
    cells.push(Cell::new("serve::ciphers::first-of-the-server", preference));
    cells.push(Cell::new("serve::ciphers::none-in-common", none_in_common));
    cells.push(Cell::new("serve::handshake::protocol-flags", flags));
    cells
}

fn connects(wrap: Wrap, transport: Transport, tls: Tls) -> Result<()> {
    Service::new()?.wrap(wrap).transport(transport).tls(tls).guests(all()).connected(|serving| {
        for visit in &mut serving.visits {
            visit.wait_for(&format!("Control Channel: {}", tls.in_log()))?;
        }
        works(serving)
    })
}

/// Pings pass over both families, and everybody leaves in peace.
fn works(serving: &mut Serving) -> Result<()> {
    serving.ping_all()?;
    for visit in &serving.visits {
        serving.ping_size(&visit.name, "server", 1_400, true)?;
        serving.ping_size("server", &visit.name, 56, true)?;
    }
    serving.visits.iter_mut().try_for_each(|visit| visit.leave())?;
    serving.stop()
}

fn has_chosen(serving: &mut Serving, ciphers: &[(String, &str)]) -> Result<()> {
    for (name, cipher) in ciphers {
        serving.visit(name)?.wait_for(&format!("Data Channel: .*{cipher}"))?;
    }
    Ok(())
}

/// The server's first cipher which the client has, whatever the order of the client's.
fn preference() -> Result<()> {
    let [alice, bob, carol] = all();
    Service::new()?
        .line("data-ciphers CHACHA20-POLY1305:AES-256-GCM:AES-128-GCM")
        .guest(alice.line("data-ciphers AES-128-GCM:AES-256-GCM"))
        .guest(bob.line("data-ciphers AES-128-GCM:CHACHA20-POLY1305"))
        .guest(carol.line("data-ciphers AES-128-GCM"))
        .connected(|serving| {
            let expected = [("alice", "AES-256-GCM"), ("bob", "CHACHA20-POLY1305"), ("carol", "AES-128-GCM")];
            has_chosen(serving, &expected.map(|(name, cipher)| (name.to_owned(), cipher)))?;
            works(serving)
        })
}

fn none_in_common() -> Result<()> {
    let others = both().map(|guest| guest.line("data-ciphers AES-128-GCM"));
    let service = Service::new()?.line("data-ciphers AES-256-GCM").guests(others);
    service.guest(Guest::own("carol").line("data-ciphers AES-128-GCM")).started(|serving| {
        for visit in &mut serving.visits {
            visit.wait_for("AUTH_FAILED,Data channel cipher negotiation failed")?;
            visit.connected_times(0)?;
        }
        Ok(())
    })
}

/// Clients since 2.6 get keys from the TLS exporter, further keys for the control channel and exit messages; since
/// 2.7 epoch keys as well.
fn flags() -> Result<()> {
    Service::new()?.guests(all()).connected(|serving| {
        let ours = serving.spec.program.clone();
        let epochs = oxivpn_tests::client::Program::at(ours)?.kind != Kind::OpenVpn { newer: false };
        for (name, has_epochs) in [("alice", false), ("bob", epochs), ("carol", epochs)] {
            let visit = serving.visit(name)?;
            if visit.program.kind == Kind::Oxivpn {
                continue;
            }
            let line = visit.wait_for("PUSH: Received control message: .*protocol-flags")?;
            for flag in ["cc-exit", "tls-ekm", "dyn-tls-crypt"] {
                ensure!(line.contains(flag), "{name} did not get {flag}: {line}");
            }
            ensure!(line.contains("aead-epoch") == has_epochs, "epoch keys for {name}: {line}");
        }
        works(serving)
    })
}
