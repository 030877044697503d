//! The server as a process: scripts, status files, the management interface, users, files of its own.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    client::Kind,
    matrix::Cell,
    openvpn::Transport,
    process::poll,
    serve::{MANAGEMENT, Service, Serving, all, both},
};

type Test = fn() -> Result<()>;

pub(crate) fn cells() -> Vec<Cell> {
    let tests: [(&str, Test); 14] = [
        ("serve::scripts::connect-and-disconnect", connect_and_disconnect),
        ("serve::scripts::connect-refuses", connect_refuses),
        ("serve::scripts::connect-deferred", connect_deferred),
        ("serve::scripts::slow-does-not-stall-others", slow_script),
        ("serve::scripts::learn-address", learn_address),
        ("serve::scripts::up-and-down", up_and_down),
        ("serve::management::queries", queries),
        ("serve::management::kill", kill),
        ("serve::management::client-auth", client_auth),
        ("serve::management::bytecount", bytecount),
        ("serve::management::signal", management_signal),
        ("serve::nobody", nobody),
        ("serve::daemon", daemon),
        ("serve::statistics", statistics),
    ];
    let mut cells: Vec<Cell> = tests.into_iter().map(|(name, test)| Cell::new(name, test)).collect();
    for version in 1..=3 {
        cells.push(Cell::new(format!("serve::status::{version}"), move || status(version)));
    }
    cells
}

fn lines(serving: &Serving, file: &str) -> Vec<String> {
    let text = fs::read_to_string(serving.star.dir().join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn connect_and_disconnect() -> Result<()> {
    let connect = "echo \"push \\\"route 192.0.2.0 255.255.255.0\\\"\" > \"$1\"
[ \"$common_name\" != alice ] || echo 'ifconfig-push 10.8.0.66 255.255.255.0' >> \"$1\"
echo \"$script_type $common_name $trusted_ip $ifconfig_pool_remote_ip $IV_PLAT\" >> connects";
    let disconnect = "echo \"$script_type $common_name $trusted_ip $bytes_received $bytes_sent $time_duration\" >> disconnects";
    Service::new()?
        .line("client-connect ./connect.sh")
        .script("connect.sh", connect)
        .line("client-disconnect ./disconnect.sh")
        .script("disconnect.sh", disconnect)
        .guests(all())
        .each("explicit-exit-notify 1")
        .connected(|serving| {
            ensure!(
                serving.address("alice", false)? == "10.8.0.66",
                "alice has not the address of the script"
            );
            serving.ping_all()?;
            for visit in &serving.visits {
                let state = serving.star.state(&visit.ns)?;
                ensure!(state.tunnel_route("192.0.2.0/24").is_some(), "{} has not the route", visit.name);
            }
            let connects = lines(serving, "connects");
            for name in ["alice 10.9.0.11", "bob 10.9.0.12", "carol 10.9.0.13"] {
                let begin = format!("client-connect {name} 10.8.0.");
                ensure!(connects.iter().any(|l| l.starts_with(&begin)), "no {begin} in {connects:?}");
            }
            ensure!(connects.iter().any(|l| l.ends_with(" linux")), "no peer info in {connects:?}");
            for visit in &mut serving.visits {
                visit.process()?.signal(Signal::SIGTERM)?;
            }
            poll(Duration::from_secs(10), || Ok((lines(serving, "disconnects").len() >= 3).then_some(())))?
                .with_context(|| format!("disconnects: {:?}", lines(serving, "disconnects")))?;
            for line in lines(serving, "disconnects") {
                let words: Vec<&str> = line.split(' ').collect();
                let count = |index: usize| words.get(index).and_then(|w| w.parse::<u64>().ok());
                // Six pings of 84 bytes at least, and a handshake.
                ensure!(
                    count(3) > Some(500) && count(4) > Some(500) && count(5).is_some(),
                    "counters: {line}"
                );
            }
            Ok(())
        })
}

fn connect_refuses() -> Result<()> {
    let service = Service::new()?.line("client-connect ./connect.sh");
    // Either way of saying no: the exit code, and `disable`.
    let script = "[ \"$common_name\" != carol ] || echo disable > \"$1\"\n[ \"$common_name\" != bob ]";
    service.script("connect.sh", script).guests(all()).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        for name in ["bob", "carol"] {
            serving.visit(name)?.wait_for("AUTH_FAILED")?;
            serving.visit(name)?.connected_times(0)?;
        }
        serving.ping("alice", "server")
    })
}

/// The script returns at once and another process writes the verdict later.
fn connect_deferred() -> Result<()> {
    let script = "echo 2 > \"$client_connect_deferred_file\"
( sleep 2; echo 'push \"route 192.0.2.0 255.255.255.0\"' > \"$1\"
  [ \"$common_name\" = bob ] && echo 0 > \"$client_connect_deferred_file\" || echo 1 > \"$client_connect_deferred_file\" \
) > /dev/null 2>&1 &";
    let service = Service::new()?.line("client-connect ./connect.sh").script("connect.sh", script);
    service.guests(both()).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        let state = serving.star.state(serving.ns("alice")?)?;
        ensure!(
            state.tunnel_route("192.0.2.0/24").is_some(),
            "alice has not the route of the deferred script"
        );
        serving.visit("bob")?.wait_for("AUTH_FAILED")?;
        serving.visit("bob")?.connected_times(0)?;
        serving.ping("alice", "server")
    })
}

/// While a script thinks about one client, the others' packets go through.
fn slow_script() -> Result<()> {
    let service = Service::new()?.line("client-connect ./connect.sh");
    service.kind_is_own("OpenVPN waits for its scripts")?;
    let script = "[ \"$common_name\" != carol ] || sleep 6";
    service.script("connect.sh", script).guests(all()).started(|serving| {
        serving.visit("alice")?.wait_connected(1)?;
        serving.visit("bob")?.wait_connected(1)?;
        let server = serving.address("server", false)?;
        let ns = serving.ns("alice")?.to_owned();
        oxivpn_tests::ping::Ping { count: 80, ..oxivpn_tests::ping::Ping::new(&ns, &server) }.all()?;
        serving.visit("carol")?.connected_times(0)?;
        serving.visit("carol")?.wait_connected(1)?;
        serving.ping_all()
    })
}

fn learn_address() -> Result<()> {
    let script = "echo \"$script_type $@\" >> learned";
    let service = Service::new()?.line("learn-address ./learn.sh").script("learn.sh", script);
    let service = service.line("client-config-dir ccd").line("route 192.168.77.0 255.255.255.0");
    let service = service.file("ccd/alice", "iroute 192.168.77.0 255.255.255.0\n");
    service.guests(both()).each("explicit-exit-notify 1").connected(|serving| {
        serving.ping_all()?;
        // OpenVPN deletes addresses from time to time.
        let expect = |serving: &Serving, line: &str| {
            poll(Duration::from_secs(30), || {
                Ok(lines(serving, "learned").iter().any(|l| l == line).then_some(()))
            })?
            .with_context(|| format!("no {line} in {:#?}", lines(serving, "learned")))
        };
        let (v4, v6) = (serving.address("alice", false)?, serving.address("alice", true)?);
        expect(serving, &format!("learn-address add {v4} alice"))?;
        expect(serving, &format!("learn-address add {v6} alice"))?;
        expect(serving, "learn-address add 192.168.77.0/24 alice")?;
        serving.visit("alice")?.process()?.signal(Signal::SIGTERM)?;
        expect(serving, &format!("learn-address delete {v4}"))
    })
}

fn up_and_down() -> Result<()> {
    let script = "echo \"$script_type $dev $tun_mtu $ifconfig_local $*\" >> updown";
    let service = Service::new()?.line("up ./updown.sh").line("down ./updown.sh").script("updown.sh", script);
    service.guests(both()).connected(|serving| {
        serving.ping_all()?;
        serving.stop()?;
        let seen = lines(serving, "updown");
        let expected = "tun0 1500 10.8.0.1 tun0 1500 0 10.8.0.1 255.255.255.0 init";
        ensure!(seen == [format!("up {expected}"), format!("down {expected}")], "scripts saw {seen:#?}");
        Ok(())
    })
}

/// Rows of the client list by the client's name, each with its fields by the name of the column.
fn client_list(text: &[String], version: u8) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let separator = if version == 3 { '\t' } else { ',' };
    let fields = |line: &str| line.split(separator).map(str::to_owned).collect::<Vec<_>>();
    let (header, rows): (Vec<String>, Vec<Vec<String>>) = if version == 1 {
        let begin = text.iter().position(|l| l.starts_with("Common Name,")).context("no header")?;
        let end = text.iter().position(|l| l == "ROUTING TABLE").context("no routing table")?;
        (fields(&text[begin]), text[begin + 1..end].iter().map(|l| fields(l)).collect())
    } else {
        let begin = format!("HEADER{separator}CLIENT_LIST{separator}");
        let header = text.iter().find_map(|l| l.strip_prefix(&begin)).context("no header")?;
        let begin = format!("CLIENT_LIST{separator}");
        (fields(header), text.iter().filter_map(|l| l.strip_prefix(&begin)).map(fields).collect())
    };
    let mut clients = BTreeMap::new();
    for row in rows {
        ensure!(row.len() == header.len(), "{row:?} has not the columns {header:?}");
        clients.insert(row[0].clone(), header.iter().cloned().zip(row).collect());
    }
    Ok(clients)
}

fn status(version: u8) -> Result<()> {
    let service = Service::new()?.line("status status.log 1").line(format!("status-version {version}"));
    service.guests(all()).connected(|serving| {
        serving.ping_all()?;
        let mut clients = BTreeMap::new();
        poll(Duration::from_secs(6), || {
            let text = lines(serving, "status.log");
            if text.last().map(String::as_str) != Some("END") {
                return Ok(None);
            }
            clients = client_list(&text, version)?;
            let counted = |c: &BTreeMap<String, String>| {
                c.get("Bytes Sent").and_then(|b| b.parse::<u64>().ok()).unwrap_or(0) > 500
            };
            Ok((clients.len() == 3 && clients.values().all(counted)).then_some(()))
        })?
        .with_context(|| format!("status file: {:#?}", lines(serving, "status.log")))?;
        for (index, name) in ["alice", "bob", "carol"].into_iter().enumerate() {
            let client = clients.get(name).with_context(|| format!("no {name}"))?;
            let real = &client["Real Address"];
            ensure!(real.contains(&format!("10.9.0.{}:", 11 + index)), "{name}: {real}");
            if version > 1 {
                ensure!(client["Virtual Address"] == serving.address(name, false)?, "{client:?}");
                ensure!(client["Virtual IPv6 Address"] == serving.address(name, true)?, "{client:?}");
                ensure!(client["Data Channel Cipher"] == "AES-256-GCM", "{client:?}");
            }
        }
        let text = lines(serving, "status.log").join("\n");
        let address = serving.address("bob", false)?;
        let route = if version == 3 { format!("{address}\tbob") } else { format!("{address},bob") };
        ensure!(text.contains(&route), "no {route} in the routing table:\n{text}");
        Ok(())
    })
}

fn queries() -> Result<()> {
    Service::new()?.managed().guests(all()).connected(|serving| {
        serving.ping_all()?;
        let mut management = serving.management()?;
        management.wait_for("^>INFO:OpenVPN Management Interface Version")?;
        let process = serving.server.as_ref().context("no server")?.process.id();
        ensure!(management.ask("pid")? == [format!("SUCCESS: pid={process}")], "pid");
        let state = management.ask("state")?;
        ensure!(state[0].contains(",CONNECTED,SUCCESS,10.8.0.1,"), "state: {state:?}");
        for version in 1..=3 {
            let clients = client_list(&management.ask(&format!("status {version}"))?, version)?;
            ensure!(clients.len() == 3, "status {version}: {clients:?}");
        }
        let version = management.ask("version")?;
        ensure!(version[0].starts_with("OpenVPN Version: "), "version: {version:?}");
        ensure!(version.iter().any(|l| l.starts_with("Management")), "version: {version:?}");
        let load = management.ask("load-stats")?;
        ensure!(load[0].starts_with("SUCCESS: nclients=3,bytesin="), "load-stats: {load:?}");
        ensure!(management.ask("help")?.len() > 20, "help is too short");
        let log = management.ask("log 3")?;
        ensure!(log.len() == 4 && log[0].split(',').count() >= 3, "log: {log:?}");
        ensure!(management.ask("nonsense")?[0].starts_with("ERROR: unknown command"), "nonsense");
        ensure!(
            management.ask("kill nobody-here")?[0].starts_with("ERROR: common name 'nobody-here' not found"),
            "kill"
        );
        management.send("exit")?;
        drop(management);
        // The next one is served as well.
        ensure!(serving.management()?.ask("pid")?.len() == 1, "the second connection");
        serving.ping_all()
    })
}

/// Killed clients come back by themselves.
fn kill() -> Result<()> {
    for transport in [Transport::Udp4, Transport::Tcp4] {
        let service = Service::new()?.transport(transport).managed().line("keepalive 1 4");
        service.guests(all()).connected(|serving| {
            serving.ping_all()?;
            let mut management = serving.management()?;
            let answer = management.ask("kill bob")?;
            ensure!(answer == ["SUCCESS: common name 'bob' found, 1 client(s) killed"], "{answer:?}");
            serving.visit("bob")?.wait_connected(2)?;

            let clients = client_list(&management.ask("status 2")?, 2)?;
            let carol = &clients.get("carol").context("carol is not in the status")?["Real Address"];
            let address = carol.rsplit_once(":10.").map_or(carol.as_str(), |_| {
                carol.trim_start_matches("tcp4-server:").trim_start_matches("udp4:")
            });
            let protocol = if transport == Transport::Tcp4 { "tcp" } else { "udp" };
            let first = management.ask(&format!("kill {address}"))?;
            let answer = if first[0].starts_with("ERROR") {
                // Since 2.7 the protocol is part of the address.
                management.ask(&format!("kill {protocol}:{address}"))?
            } else {
                first
            };
            ensure!(answer[0].starts_with("SUCCESS: 1 client(s) at address"), "{answer:?}");
            serving.visit("carol")?.wait_connected(2)?;

            let clients = client_list(&management.ask("status 2")?, 2)?;
            let id = &clients.get("alice").context("alice is not in the status")?["Client ID"];
            let answer = management.ask(&format!("client-kill {id}"))?;
            ensure!(answer == ["SUCCESS: client-kill command succeeded"], "{answer:?}");
            serving.visit("alice")?.wait_connected(2)?;
            serving.ping_all()
        })?;
    }
    Ok(())
}

/// A program at the management interface decides about each client.
fn client_auth() -> Result<()> {
    let service = Service::new()?.managed().line("management-client-auth").line("auth-user-pass-optional");
    let guests = all().map(|guest| guest.login("somebody", "secret word"));
    service.guests(guests).started(|serving| {
        let mut management = serving.management()?;
        let mut denied = Vec::new();
        for _ in 0..3 {
            let begin = management.wait_for("^>CLIENT:CONNECT,")?;
            let ids: Vec<&str> = begin.trim_start_matches(">CLIENT:CONNECT,").split(',').collect();
            let (client, key) = (ids[0].to_owned(), ids[1].to_owned());
            let name =
                management.wait_for("^>CLIENT:ENV,common_name=")?.split_off(">CLIENT:ENV,common_name=".len());
            management.wait_for("^>CLIENT:ENV,END")?;
            let block = management.seen.join("\n");
            ensure!(block.contains(">CLIENT:ENV,username=somebody"), "no user name:\n{block}");
            ensure!(block.contains(">CLIENT:ENV,password=secret word"), "no password:\n{block}");
            if name == "bob" {
                management.send(&format!("client-deny {client} {key} \"because\" \"not today\""))?;
                denied.push(name);
            } else {
                management.send(&format!(
                    "client-auth {client} {key}\npush \"route 192.0.2.0 255.255.255.0\"\nEND"
                ))?;
            }
        }
        ensure!(denied == ["bob"], "denied: {denied:?}");
        // The next client's lines may have come before the answer to a command.
        management.next_from_start();
        for _ in 0..3 {
            management.wait_for("^SUCCESS: client-(auth|deny) command succeeded")?;
        }
        serving.visit("bob")?.wait_for("AUTH_FAILED,not today")?;
        for name in ["alice", "carol"] {
            serving.visit(name)?.wait_connected(1)?;
            serving.ping(name, "server")?;
            let state = serving.star.state(serving.ns(name)?)?;
            ensure!(state.tunnel_route("192.0.2.0/24").is_some(), "{name} has not the route");
        }
        ensure!(
            management.seen.iter().any(|l| l.starts_with(">CLIENT:ADDRESS,")),
            "no address in {:#?}",
            management.seen
        );
        management.next_from_start();
        management.wait_for("^>CLIENT:ESTABLISHED,")?;
        management.wait_for("^>CLIENT:ESTABLISHED,").map(drop)
    })
}

fn bytecount() -> Result<()> {
    Service::new()?.managed().guests(both()).connected(|serving| {
        let mut management = serving.management()?;
        let answer = management.ask("bytecount 1")?;
        ensure!(answer == ["SUCCESS: bytecount interval changed"], "{answer:?}");
        serving.ping_all()?;
        management.wait_for(r"^>BYTECOUNT_CLI:\d+,\d+,\d+$")?;
        management.wait_for(r"^>BYTECOUNT_CLI:\d+,\d+,\d+$").map(drop)
    })
}

fn management_signal() -> Result<()> {
    Service::new()?.managed().line("keepalive 1 4").guests(both()).connected(|serving| {
        serving.ping_all()?;
        let mut management = serving.management()?;
        let answer = management.ask("signal SIGTERM")?;
        ensure!(answer == ["SUCCESS: signal SIGTERM thrown"], "{answer:?}");
        let status = serving.process()?.wait_exit(Duration::from_secs(10))?;
        ensure!(status.code() == Some(0), "the server ended with {status}");
        ensure!(!serving.star.dir().join(MANAGEMENT).exists(), "the socket is left over");
        Ok(())
    })
}

/// Without root after the start: clients come, the server starts again by USR1, and clients come back.
fn nobody() -> Result<()> {
    let service =
        Service::new()?.line("user nobody").line("group nogroup").line("persist-tun").line("persist-key");
    let service = service.line("keepalive 1 4").line("status status.log 1").file("status.log", "");
    service
        .prepare(|star| {
            fs::set_permissions(star.dir(), fs::Permissions::from_mode(0o755))?;
            Ok(fs::set_permissions(star.dir().join("status.log"), fs::Permissions::from_mode(0o666))?)
        })
        .guests(all())
        .connected(|serving| {
            serving.ping_all()?;
            let id = serving.process()?.id();
            let text = fs::read_to_string(format!("/proc/{id}/status"))?;
            let ids = |word: &str| {
                let line = text.lines().find_map(|l| l.strip_prefix(word)).unwrap_or_default();
                line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            ensure!(ids("Uid:").iter().all(|id| id == "65534"), "user: {:?}", ids("Uid:"));
            ensure!(ids("Gid:").iter().all(|id| id == "65534"), "group: {:?}", ids("Gid:"));
            serving.process()?.signal(Signal::SIGUSR1)?;
            serving.wait_connected(2)?;
            serving.ping_all()
        })
}

/// In the background with a file of its process id and a log of its own.
fn daemon() -> Result<()> {
    let service = Service::new()?.guests(both()).line("keepalive 1 4");
    service.connected(|serving| {
        serving.stop()?;
        // The harness starts servers in the foreground; this one goes to the background by itself.
        let dir = serving.star.dir().to_owned();
        let config = dir.join("daemon.ovpn");
        let text = serving.spec.text(&dir) + "daemon vpn\nwritepid pid\nlog-append own.log\n";
        fs::write(&config, text)?;
        let program = serving.spec.program.to_string_lossy().into_owned();
        let output = oxivpn_tests::process::output_in(
            serving.star.server(),
            &[&program, "--config", &config.to_string_lossy()],
        )?;
        ensure!(output.status.success(), "the first process ended with {}", output.status);
        let id = poll(Duration::from_secs(5), || {
            let text = fs::read_to_string(dir.join("pid")).unwrap_or_default();
            Ok(text.trim().parse::<i32>().ok())
        })?;
        let id = nix::unistd::Pid::from_raw(id.context("no process id in the file")?);
        let result = (|| {
            serving.wait_connected(2)?;
            serving.ping_all()?;
            let log = fs::read_to_string(dir.join("own.log"))?;
            ensure!(log.contains(oxivpn_tests::openvpn::READY), "log of the background process: {log}");
            Ok(())
        })();
        nix::sys::signal::kill(id, Signal::SIGTERM)?;
        let gone = || nix::sys::signal::kill(id, None).is_err();
        poll(Duration::from_secs(10), || Ok(gone().then_some(())))?
            .context("the background process does not end")?;
        result
    })
}

/// USR2 logs a table and changes nothing.
fn statistics() -> Result<()> {
    let service = Service::new()?.guests(both());
    let line = match service.kind() {
        Kind::Oxivpn => "(?i)(statistics|client list|clients)",
        Kind::OpenVpn { .. } => "OpenVPN CLIENT LIST",
    };
    service.connected(|serving| {
        serving.ping_all()?;
        serving.process()?.signal(Signal::SIGUSR2)?;
        serving.wait_for(line)?;
        serving.ping_all()?;
        serving.visits.iter_mut().try_for_each(|visit| visit.connected_times(1))
    })
}
