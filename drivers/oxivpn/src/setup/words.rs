//! Texts of a deployment: profiles, and what the user reads.

use std::path::Path;

use anyhow::Result;
use zeroize::Zeroizing;

use super::authority::Identity;
use super::plan::Plan;

/// `server.conf`.
pub(super) fn server(dir: &Path, plan: &Plan) -> String {
    let Plan { host, port, network, .. } = plan;
    let directory = dir.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = format!(
        "# Server {host}. The names of files below begin here:\n\
         cd \"{directory}\"\n\n\
         proto {proto}\n\
         port {port}\n\
         dev tun\n\
         topology subnet\n\
         server {} {}\n",
        network.network(),
        network.netmask(),
        proto = protocol(plan),
    );
    if let Some(network) = plan.network6 {
        out += &format!("server-ipv6 {network}\n");
    }
    out += "# Clients keep their addresses.\n\
            ifconfig-pool-persist addresses.txt\n\n\
            ca ca.crt\n\
            cert server.crt\n\
            key server.key\n\
            dh none\n\
            tls-crypt-v2 tls-crypt-v2.key\n\
            crl-verify crl.pem\n\
            remote-cert-tls client\n\
            tls-version-min 1.2\n\n\
            keepalive 10 60\n";
    if !plan.tcp {
        out += "explicit-exit-notify 1\n";
    }
    if plan.internet {
        let ipv6 = if plan.network6.is_some() { " ipv6" } else { "" };
        out +=
            &format!("\n# All that clients send goes through here.\npush \"redirect-gateway def1{ipv6}\"\n");
    }
    for address in &plan.dns {
        out += &format!("push \"dhcp-option DNS {address}\"\n");
    }
    out += "\nstatus status.txt\n\
            verb 3\n\n\
            # To let the server give up root, let nobody write addresses.txt and read server.key and\n\
            # tls-crypt-v2.key, then take the signs of comment away:\n\
            # user nobody\n\
            # group nogroup\n";
    out
}

/// `client.conf`, what each client's profile begins with.
pub(super) fn client(plan: &Plan) -> String {
    format!(
        "client\n\
         dev tun\n\
         remote {} {} {}\n\
         nobind\n\
         persist-tun\n\
         remote-cert-tls server\n\
         verify-x509-name server name\n\
         tls-version-min 1.2\n\
         {}verb 3\n",
        plan.host,
        plan.port,
        protocol(plan),
        // The server frees what belongs to a client at once when that leaves; TCP tells it by itself.
        if plan.tcp { "" } else { "explicit-exit-notify 1\n" },
    )
}

fn protocol(plan: &Plan) -> &'static str {
    if plan.tcp { "tcp" } else { "udp" }
}

/// A client's profile with its keys inside.
pub(super) fn profile(
    name: &str,
    begin: &str,
    ca: &str,
    identity: &Identity,
    wrapping: &str,
) -> Zeroizing<String> {
    let parts = [
        format!("# {name}. Keep this file to yourself, since it holds the private key.\n"),
        begin.to_owned(),
    ];
    let sections =
        [("ca", ca), ("cert", &identity.certificate), ("key", &identity.key), ("tls-crypt-v2", wrapping)];
    let length = parts.iter().map(String::len).sum::<usize>()
        + sections.iter().map(|(tag, text)| text.len() + 2 * tag.len() + 8).sum::<usize>();
    // Large enough at once, so that no copy of a key stays behind.
    let mut out = Zeroizing::new(String::with_capacity(length));
    parts.iter().for_each(|part| out.push_str(part));
    for (tag, text) in sections {
        for piece in ["<", tag, ">\n", text.trim_end(), "\n</", tag, ">\n"] {
            out.push_str(piece);
        }
    }
    out
}

/// What to do after `setup`.
pub(super) fn made(dir: &Path, plan: &Plan) -> Result<String> {
    let path = shell(dir);
    let Plan { port, network, .. } = plan;
    let protocol = protocol(plan);
    let mut out =
        format!("Made {} for {}. What is left to do on this host, as root:\n\n", dir.display(), plan.host);
    out += &format!(
        "1. Start the server:\n     oxivpn {path}/server.conf\n\
         2. Open {protocol} port {port} in the firewall, if there is one, such as with\n     \
         nft add rule inet filter input {protocol} dport {port} accept\n"
    );
    if plan.internet {
        out += "3. Let the clients out into the internet (until the next start of this host):\n     \
                sysctl -w net.ipv4.ip_forward=1\n     \
                nft add table inet oxivpn\n     \
                nft add chain inet oxivpn out '{ type nat hook postrouting priority srcnat; }'\n     ";
        out += &format!("nft add rule inet oxivpn out ip saddr {network} oifname != '\"tun*\"' masquerade\n");
        if let Some(network6) = plan.network6 {
            out += &format!(
                "   and if this host has IPv6 (with a router that is found by itself, set accept_ra=2 as well):\n     \
                 sysctl -w net.ipv6.conf.all.forwarding=1\n     \
                 nft add rule inet oxivpn out ip6 saddr {network6} oifname != '\"tun*\"' masquerade\n"
            );
        }
    } else {
        out += "3. Nothing more: clients reach this host and nothing else. To reach the internet through it, make\n   \
                another directory with --internet.\n";
    }
    out += "\nFiles for the clients, to be imported into any OpenVPN program. Hand them over on a safe way, since\n\
            they hold private keys:\n";
    for name in &plan.clients {
        out += &format!("     {}\n", dir.join("clients").join(format!("{name}.ovpn")).display());
    }
    out += &format!(
        "\nLater: oxivpn add-client {path} NAME, oxivpn revoke {path} NAME, oxivpn list-clients {path}\n\
         Keep {path}/ca.key safe: who has it can let anybody in.\n"
    );
    Ok(out)
}

/// What to know after `revoke`.
pub(super) fn revoked() -> &'static str {
    "From now on the server refuses to connect them; it needs no restart. A tunnel that is up goes on until its keys\n\
     are renewed, which is an hour at most. To end it at once, restart the server: the others come back by\n\
     themselves.\n"
}

/// A path as one word of a shell.
pub(super) fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
