//! Who may come in: certificates, passwords, tokens, per-client files and limits.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    certs::{KeyKind, Pki, Usage},
    matrix::Cell,
    netns::SERVER_V4,
    openvpn::{Release, Transport, Wrap, inline},
    process::{output_in, poll},
    serve::{Guest, Service, Serving, all, both},
};

/// Takes `alice` with `correct horse` from a file and notes that it was asked.
const VIA_FILE: &str = "echo asked >> asked
[ \"$(sed -n 1p \"$1\")\" = alice ] && [ \"$(sed -n 2p \"$1\")\" = 'correct horse' ]";

/// The same from the environment.
const VIA_ENV: &str = "echo asked >> asked
[ \"$username\" = alice ] && [ \"$password\" = 'correct horse' ]";

const PASSWORD: &str = "correct horse";

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for transport in [Transport::Udp4, Transport::Tcp4] {
        let name = |what: &str| format!("serve::{what}::{}", transport.name());
        cells.push(Cell::new(name("login::via-file"), move || {
            login(Service::new()?.transport(transport), "via-file", VIA_FILE)
        }));
        cells.push(Cell::new(name("revoked::from-the-start"), move || revoked(transport)));
        cells.push(Cell::new(name("wrong-ca"), move || wrong_ca(transport)));
    }
    cells.push(Cell::new("serve::login::via-env", || {
        login(Service::new()?.line("script-security 3"), "via-env", VIA_ENV)
    }));
    cells.push(Cell::new("serve::login::without-certificate", without_certificate));
    cells.push(Cell::new("serve::login::optional", optional));
    cells.push(Cell::new("serve::login::none-given", none_given));
    cells.push(Cell::new("serve::revoked::while-connected", revoked_later));
    cells.push(Cell::new("serve::revoked::expired-certificate", expired));
    cells.push(Cell::new("serve::no-certificate", no_certificate));
    cells.push(Cell::new("serve::wrong-key", wrong_key));
    cells.push(Cell::new("serve::ccd::disable", disabled));
    cells.push(Cell::new("serve::ccd::exclusive", exclusive));
    cells.push(Cell::new("serve::token::over-renegotiations", token));
    cells.push(Cell::new("serve::token::expired", token_expired));
    cells.push(Cell::new("serve::token::survives-restart-with-secret", token_secret));
    cells.push(Cell::new("serve::max-clients", max_clients));
    cells.push(Cell::new("serve::same-name::newest-wins", newest_wins));
    cells.push(Cell::new("serve::same-name::refused", refused_twin));
    cells.push(Cell::new("serve::same-name::duplicate-cn", duplicate_cn));
    cells.push(Cell::new("serve::nonsense-on-tcp", nonsense));
    cells.push(Cell::new("serve::verify-x509-name", verify_name));
    cells.push(Cell::new("serve::tls-verify", tls_verify));
    cells.push(Cell::new("serve::tls-crypt-v2-verify", v2_verify));
    cells
}

fn with_script(service: Service, via: &str, script: &'static str) -> Service {
    let service =
        service.line(format!("auth-user-pass-verify ./verify.sh {via}")).script("verify.sh", script);
    service.line("script-security 3")
}

fn asked(serving: &Serving) -> usize {
    fs::read_to_string(serving.star.dir().join("asked")).unwrap_or_default().lines().count()
}

/// One with the right password comes in, others with the wrong one see `AUTH_FAILED` and end.
fn login(service: Service, via: &str, script: &'static str) -> Result<()> {
    with_script(service, via, script)
        .guest(Guest::real(Release::Distribution, "right").login("alice", PASSWORD))
        .guest(Guest::real(Release::Newer, "wrong").login("alice", "guessed"))
        .guest(Guest::own("mallory").login("mallory", PASSWORD))
        .started(|serving| {
            serving.visit("right")?.wait_connected(1)?;
            serving.ping("right", "server")?;
            for name in ["wrong", "mallory"] {
                refused(serving, name, "AUTH: Received control message: AUTH_FAILED")?;
            }
            serving.ping("server", "right")?;
            serving.visit("right")?.connected_times(1)?;
            ensure!(asked(serving) >= 3, "the script was run {} times", asked(serving));
            ensure!(!serving.process()?.log().contains(PASSWORD), "the password is in the server's log");
            Ok(())
        })
}

/// The client prints a line, ends and was never connected.
fn refused(serving: &mut Serving, name: &str, line: &str) -> Result<()> {
    let visit = serving.visit(name)?;
    visit.wait_for(line)?;
    visit.process()?.wait_exit(Duration::from_secs(10))?;
    visit.connected_times(0)
}

fn without_certificate() -> Result<()> {
    let service = Service::new()?.line("verify-client-cert none").line("username-as-common-name");
    let bare = |guest: Guest| guest.line("!cert").line("!key").login("alice", PASSWORD);
    // One name for all: the second would push the first out.
    with_script(service.line("duplicate-cn"), "via-file", VIA_FILE)
        .line("client-config-dir ccd")
        .file("ccd/alice", "push \"route 192.0.2.1\"\n")
        .guests(all().map(bare))
        .connected(|serving| {
            for visit in &serving.visits {
                let state = serving.star.state(&visit.ns)?;
                ensure!(state.tunnel_route("192.0.2.1").is_some(), "{} has not alice's file", visit.name);
            }
            serving.ping_all()
        })
}

/// `auth-user-pass-optional`: who gives no password is asked about with both empty.
fn optional() -> Result<()> {
    let service = Service::new()?.line("auth-user-pass-optional");
    // The script answers for those without a name as well.
    let service = service.line("auth-user-pass-verify ./verify.sh via-file").script("verify.sh", "exit 0");
    service
        .line("script-security 3")
        .guest(Guest::real(Release::Distribution, "alice").login("alice", PASSWORD))
        .guest(Guest::real(Release::Newer, "bob"))
        .connected(|serving| serving.ping_all())
}

/// The server wants a password and the client gives none: it hears that it is not let in.
fn none_given() -> Result<()> {
    let service = with_script(Service::new()?, "via-file", VIA_FILE);
    service.guests(both()).each("hand-window 4").started(|serving| {
        serving.wait_for(
            "(?i)(peer did not provide a password|username.*(not provided|missing|not given|empty))",
        )?;
        for visit in &mut serving.visits {
            visit.wait_for("(AUTH_FAILED|TLS key negotiation failed|TLS Error)")?;
            visit.connected_times(0)?;
        }
        Ok(())
    })
}

fn revoked(transport: Transport) -> Result<()> {
    let mut service = Service::new()?.transport(transport).line("crl-verify crl.pem");
    let (good, bad) = (service.pki.client_named("alice")?, service.pki.client_named("bob")?);
    let list = bad.cert.with_file_name("crl.pem");
    service.pki.revoke(&[&bad.cert], &list)?;
    service = service.file("crl.pem", fs::read_to_string(&list)?);
    let [mut alice, mut bob] = both();
    (alice.identity, bob.identity) = (Some(good), Some(bad.clone()));
    let mut carol = Guest::own("carol");
    carol.identity = Some(bad);
    service.guest(alice).guests([bob, carol]).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        serving.process()?.wait_for_count("(?i)VERIFY ERROR.*revoked.*CN=bob", 2, Duration::from_secs(10))?;
        serving.ping("alice", "server")?;
        serving.visit("bob")?.connected_times(0)?;
        serving.visit("carol")?.connected_times(0)
    })
}

/// A list that changes counts from the next handshake on.
fn revoked_later() -> Result<()> {
    let service = Service::new()?.line("crl-verify crl.pem").guests(both());
    let empty = service.pki.client.cert.with_file_name("crl.pem");
    service.pki.revoke(&[], &empty)?;
    service.file("crl.pem", fs::read_to_string(&empty)?).connected(|serving| {
        serving.ping_all()?;
        let bob = serving.visit("bob")?.spec.identity.cert.clone();
        // The time of a file counts in seconds.
        std::thread::sleep(Duration::from_millis(1_100));
        serving.pki.revoke(&[&bob], &serving.star.dir().join("crl.pem"))?;
        for visit in &mut serving.visits {
            visit.process()?.signal(Signal::SIGUSR1)?;
        }
        serving.wait_for("(?i)VERIFY ERROR.*revoked.*CN=bob")?;
        serving.visit("alice")?.wait_connected(2)?;
        serving.ping("alice", "server")?;
        serving.visit("bob")?.connected_times(1)
    })
}

fn wrong_ca(transport: Transport) -> Result<()> {
    // The same name, another key: found by the signature only.
    let other = Pki::new(KeyKind::EcdsaP256)?;
    let guests = ["bob", "carol"].map(|name| {
        let mut guest = if name == "bob" { Guest::real(Release::Newer, name) } else { Guest::own(name) };
        guest.identity = Some(other.client.clone());
        guest
    });
    let service = Service::new()?.transport(transport).guest(Guest::real(Release::Distribution, "alice"));
    service.guests(guests).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        serving.process()?.wait_for_count("VERIFY ERROR.*CN=client", 2, Duration::from_secs(10))?;
        serving.ping("alice", "server")?;
        serving.visit("bob")?.connected_times(0)?;
        serving.visit("carol")?.connected_times(0)
    })
}

fn expired() -> Result<()> {
    let service = Service::new()?;
    let mut bob = Guest::real(Release::Newer, "bob");
    bob.identity = Some(service.pki.expired(Usage::Client)?);
    service.guest(bob).started(|serving| {
        serving.wait_for("(?i)VERIFY ERROR.*expired.*CN=client")?;
        serving.visit("bob")?.connected_times(0)
    })
}

fn no_certificate() -> Result<()> {
    let bare = |guest: Guest| guest.line("!cert").line("!key").login("alice", PASSWORD);
    Service::new()?.guests(both().map(bare)).started(|serving| {
        serving.wait_for("(?i)(peer did not return a certificate|no certificate|certificate.*required)")?;
        for visit in &mut serving.visits {
            visit.connected_times(0)?;
        }
        Ok(())
    })
}

/// Clients with another key for the control channel get no answer at all.
fn wrong_key() -> Result<()> {
    let service = Service::new()?.wrap(Wrap::TlsCrypt).guest(Guest::real(Release::Distribution, "alice"));
    let other = tempfile::tempdir()?;
    let text = Wrap::TlsCrypt.generate(&other.path().join("keys"))?.client.remove(0);
    let bob = Guest::real(Release::Newer, "bob").line(text).line("hand-window 4");
    service.guest(bob).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        serving.visit("bob")?.wait_for("TLS key negotiation failed to occur within 4 seconds")?;
        serving.visit("bob")?.connected_times(0)?;
        serving.ping("alice", "server")
    })
}

fn disabled() -> Result<()> {
    let service = Service::new()?.line("client-config-dir ccd").file("ccd/bob", "disable\n");
    service.file("ccd/carol", "disable\n").guests(all()).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        refused(serving, "bob", "AUTH_FAILED")?;
        refused(serving, "carol", "AUTH_FAILED")?;
        serving.ping("alice", "server")
    })
}

fn exclusive() -> Result<()> {
    let service = Service::new()?.line("client-config-dir ccd").line("ccd-exclusive").line("reneg-sec 4");
    let service = service.file("ccd/alice", "").file("ccd/DEFAULT", "").guests(both()).each("reneg-sec 0");
    service.started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        refused(serving, "bob", "AUTH_FAILED")?;
        serving.process()?.wait_for_count("Control Channel: TLSv", 3, Duration::from_secs(15))?;
        serving.ping("alice", "server")?;
        // It is looked for with each key.
        fs::remove_file(serving.star.dir().join("ccd/alice"))?;
        serving.visit("alice")?.wait_for("AUTH_FAILED").map(drop)
    })
}

/// The script is asked once; after that the token counts, at renegotiations and after a restart.
fn token() -> Result<()> {
    let service = with_script(Service::new()?, "via-file", VIA_FILE).line("auth-gen-token 3600 20");
    service
        .line("hand-window 10")
        .line("reneg-sec 4")
        .guest(Guest::real(Release::Distribution, "alice").login("alice", PASSWORD))
        .guest(Guest::real(Release::Newer, "bob").login("alice", PASSWORD))
        .guest(Guest::own("carol").login("alice", PASSWORD))
        .each("reneg-sec 0")
        .connected(|serving| {
            serving.ping_long(60, 0.2)?;
            serving.process()?.wait_for_count("Control Channel: TLSv", 9, Duration::from_secs(15))?;
            ensure!(asked(serving) == 3, "the script was asked {} times, not once for each", asked(serving));
            for visit in &mut serving.visits {
                visit.process()?.signal(Signal::SIGUSR1)?;
            }
            serving.wait_connected(2)?;
            serving.ping_all()?;
            ensure!(asked(serving) == 3, "the script was asked again for a client with a token");
            Ok(())
        })
}

/// A token that is too old is worth nothing: the client hears that, and comes back with its password.
fn token_expired() -> Result<()> {
    let service = with_script(Service::new()?, "via-file", VIA_FILE).line("auth-gen-token 6 20");
    service
        .line("hand-window 10")
        .line("reneg-sec 4")
        .guest(Guest::real(Release::Distribution, "alice").login("alice", PASSWORD))
        .guest(Guest::real(Release::Newer, "bob").login("alice", PASSWORD))
        .each("reneg-sec 0")
        .connected(|serving| {
            for visit in &mut serving.visits {
                visit.wait_for("AUTH_FAILED,SESSION")?;
                visit.wait_connected(2)?;
            }
            ensure!(asked(serving) >= 4, "the script was asked {} times", asked(serving));
            serving.ping_all()
        })
}

/// With a key in a file the tokens of an earlier run are good.
fn token_secret() -> Result<()> {
    let service = with_script(Service::new()?, "via-file", VIA_FILE).line("auth-gen-token 3600");
    service
        .line("auth-gen-token-secret token.key")
        .line("keepalive 1 4")
        .prepare(|star| {
            let file = star.dir().join("token.key").to_string_lossy().into_owned();
            let openvpn = Release::Distribution.program()?.to_string_lossy().into_owned();
            oxivpn_tests::process::run(&openvpn, &["--genkey", "auth-token", &file]).map(drop)
        })
        .guest(Guest::real(Release::Distribution, "alice").login("alice", PASSWORD))
        .guest(Guest::real(Release::Newer, "bob").login("alice", PASSWORD))
        .connected(|serving| {
            serving.ping_all()?;
            serving.server = None;
            serving.start()?;
            serving.wait_connected(2)?;
            serving.ping_all()?;
            ensure!(asked(serving) == 2, "the script was asked {} times", asked(serving));
            Ok(())
        })
}

fn max_clients() -> Result<()> {
    let service = Service::new()?.line("max-clients 2").guests(all());
    service.each("hand-window 5").each("explicit-exit-notify 1").started(|serving| {
        let connected = |serving: &mut Serving| -> Result<usize> {
            let seen = serving
                .visits
                .iter_mut()
                .map(|visit| Ok(visit.process()?.lines(oxivpn_tests::openvpn::READY)?.len().min(1)));
            Ok(seen.collect::<Result<Vec<_>>>()?.into_iter().sum())
        };
        poll(Duration::from_secs(15), || Ok((connected(serving)? == 2).then_some(())))?
            .context("no two clients connected")?;
        serving.wait_for(
            "(?i)(maximum number of clients|max-clients|MULTI: new incoming connection would exceed)",
        )?;
        std::thread::sleep(Duration::from_secs(3));
        ensure!(connected(serving)? == 2, "more than max-clients came in");
        // One leaves, and there is room for the third.
        let first = serving.visits.iter_mut().position(|visit| {
            visit.process().is_ok_and(|p| p.lines(oxivpn_tests::openvpn::READY).is_ok_and(|l| !l.is_empty()))
        });
        let first = first.context("somebody is connected")?;
        let process = serving.visits[first].process()?;
        process.signal(Signal::SIGTERM)?;
        process.wait_exit(Duration::from_secs(10))?;
        poll(Duration::from_secs(20), || Ok((connected(serving)? == 3).then_some(())))?
            .context("the third did not get the free place")
    })
}

/// Without `duplicate-cn` a client of the same name takes the place, and the address, of the one before.
fn newest_wins() -> Result<()> {
    let service = Service::new()?;
    let identity = service.pki.client_named("twin")?;
    let twins = both().map(|mut guest| {
        guest.identity = Some(identity.clone());
        guest
    });
    let [first, second] = twins;
    // The second starts late, so that it is clear who comes last; nobody returns at once.
    service.guest(first.line("connect-retry 30 30")).guest(second.line("connect-retry 30 30")).started(
        |serving| {
            serving.visits[1].kill();
            serving.visits[0].wait_connected(1)?;
            let before = serving.address("alice", false)?;
            serving.visits[1].start()?;
            serving.visits[1].wait_connected(1)?;
            serving.ping("bob", "server")?;
            ensure!(
                serving.address("bob", false)? == before,
                "the second did not get the address of its name"
            );
            Ok(())
        },
    )
}

/// Whoever begins a connection with something else than OpenVPN does is cut off, and not only after `hand-window`.
fn nonsense() -> Result<()> {
    let guest = Guest::real(Release::Newer, "alice");
    Service::new()?.transport(Transport::Tcp4).guest(guest).connected(|serving| {
        // A frame of 15 bytes that begins like a first packet.
        let script = format!(
            "exec 3<>/dev/tcp/{SERVER_V4}/1194 && printf '\\000\\017\\070junk junk junk' >&3 && timeout 5 cat <&3"
        );
        let output = output_in(serving.ns("alice")?, &["bash", "-c", &script])?;
        ensure!(matches!(output.status.code(), Some(0 | 1)), "the connection is still there: {output:?}");
        serving.ping_all()
    })
}

/// A client that is not let in does not throw the one out that has its name.
fn refused_twin() -> Result<()> {
    let service = Service::new()?.line("client-connect ./connect.sh");
    service.kind_is_own("OpenVPN replaces before it asks")?;
    let identity = service.pki.client_named("twin")?;
    let twins = both().map(|mut guest| {
        guest.identity = Some(identity.clone());
        guest
    });
    let script = "echo \"$trusted_ip $ifconfig_pool_remote_ip\" >> connects\n[ \"$trusted_ip\" = 10.9.0.11 ]";
    service.script("connect.sh", script).guests(twins).started(|serving| {
        serving.visits[1].kill();
        serving.visits[0].wait_connected(1)?;
        let address = serving.address("alice", false)?;
        serving.visits[1].start()?;
        refused(serving, "bob", "AUTH_FAILED")?;
        serving.ping("alice", "server")?;
        serving.visits[0].connected_times(1)?;
        let connects = fs::read_to_string(serving.star.dir().join("connects"))?;
        let shown = format!("10.9.0.12 {address}");
        ensure!(connects.lines().any(|line| line == shown), "bob was not to get that address: {connects}");
        Ok(())
    })
}

fn duplicate_cn() -> Result<()> {
    let service = Service::new()?.line("duplicate-cn");
    let identity = service.pki.client_named("twin")?;
    let triplets = all().map(|mut guest| {
        guest.identity = Some(identity.clone());
        guest
    });
    service.guests(triplets).connected(|serving| {
        serving.ping_all()?;
        let mut addresses = Vec::new();
        for visit in &serving.visits {
            addresses.push(serving.address(&visit.name, false)?);
        }
        addresses.sort();
        addresses.dedup();
        ensure!(addresses.len() == 3, "addresses are shared: {addresses:?}");
        serving.visits.iter_mut().try_for_each(|visit| visit.connected_times(1))
    })
}

fn verify_name() -> Result<()> {
    Service::new()?.line("verify-x509-name ali name-prefix").guests(both()).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        serving.wait_for("VERIFY X509NAME ERROR: .*bob.*ali")?;
        serving.visit("bob")?.connected_times(0)?;
        serving.ping("alice", "server")
    })
}

/// The script sees the depth and the subject of each certificate.
fn tls_verify() -> Result<()> {
    let script = "echo \"$1 $2 $tls_serial_0\" >> verified\n[ \"$1\" != 0 ] || [ \"$2\" = CN=alice ]";
    let service = Service::new()?.line("tls-verify ./tls-verify.sh").script("tls-verify.sh", script);
    service.guests(both()).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        serving.wait_for("(?i)VERIFY SCRIPT ERROR.*CN=bob")?;
        serving.visit("bob")?.connected_times(0)?;
        let seen = fs::read_to_string(serving.star.dir().join("verified"))?;
        ensure!(seen.lines().any(|l| l.starts_with("1 CN=Test CA")), "the authority was not shown: {seen}");
        ensure!(seen.lines().any(|l| l.starts_with("0 CN=alice ") && l.len() > 15), "no serial: {seen}");
        serving.ping("alice", "server")
    })
}

/// The script sees what is in the client's key.
fn v2_verify() -> Result<()> {
    let script = "[ \"$script_type\" = tls-crypt-v2-verify ] || exit 1
cat \"$metadata_file\" >> seen
[ \"$metadata_type\" = 0 ] && grep -q good \"$metadata_file\"";
    let service = Service::new()?.line("tls-crypt-v2-verify ./v2.sh").script("v2.sh", script);
    let keys = tempfile::tempdir()?;
    let path = |name: &str| keys.path().join(name).to_string_lossy().into_owned();
    let genkey = |args: &[&str]| {
        let openvpn = Release::Distribution.program()?.to_string_lossy().into_owned();
        oxivpn_tests::process::run(&openvpn, args)
    };
    let server = path("server.key");
    genkey(&["--genkey", "tls-crypt-v2-server", &server])?;
    let mut guests = Vec::new();
    for (guest, metadata) in both().into_iter().zip(["Z29vZCBvbmU=", "YmFkIG9uZQ=="]) {
        let client = path(metadata);
        genkey(&["--tls-crypt-v2", &server, "--genkey", "tls-crypt-v2-client", &client, metadata])?;
        guests.push(guest.line(inline("tls-crypt-v2", &fs::read_to_string(&client)?)).line("hand-window 4"));
    }
    service.line(format!("tls-crypt-v2 {server}")).guests(guests).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        serving.wait_for("10.9.0.12.*(TLS Error|TLS CRYPT V2 VERIFY SCRIPT ERROR)")?;
        std::thread::sleep(Duration::from_secs(3));
        let seen = fs::read_to_string(serving.star.dir().join("seen"))?;
        ensure!(seen.contains("good one") && seen.contains("bad one"), "metadata seen: {seen}");
        serving.visit("bob")?.connected_times(0)?;
        serving.ping("alice", "server")
    })
}
