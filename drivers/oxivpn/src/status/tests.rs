//! Tables beside what OpenVPN 2.6.14 printed for the same clients.

use super::*;

/// The time zone is the machine's, so the expected texts get their times from the code under test, once checked.
const SINCE: u64 = 1_795_241_557;
const NOW: u64 = 1_795_241_590;

fn server() -> Snapshot {
    let remote: SocketAddr = "10.77.0.2:33115".parse().unwrap();
    let common_name = Some("client".to_owned());
    let route = |net: &str, cached| RouteStatus {
        net: net.parse().unwrap(),
        cached,
        common_name: common_name.clone(),
        remote,
        last_used: SINCE,
    };
    Snapshot::Server(ServerStatus {
        unix: NOW,
        clients: vec![ClientStatus {
            common_name: common_name.clone(),
            remote,
            ip4: Some("10.8.0.2".parse().unwrap()),
            ip6: Some("fd00:8::1000".parse().unwrap()),
            received: 2125,
            sent: 2145,
            since: SINCE,
            username: None,
            cid: 0,
            peer_id: 0,
            cipher: "AES-256-GCM".into(),
        }],
        routes: vec![
            route("192.168.44.0/24", false),
            route("fd00:8::1000/128", false),
            route("10.8.0.2/32", false),
            route("192.168.44.7/32", true),
        ],
        queue_max: 1,
    })
}

/// Puts the times of this machine's zone into an expectation.
fn expect(text: &str) -> String {
    text.replace("@since", &time(SINCE)).replace("@now", &time(NOW)).replace("@title", &title())
}

const VERSION_2: &str = "\
TITLE,@title
TIME,@now,1795241590
HEADER,CLIENT_LIST,Common Name,Real Address,Virtual Address,Virtual IPv6 Address,Bytes Received,Bytes Sent,\
Connected Since,Connected Since (time_t),Username,Client ID,Peer ID,Data Channel Cipher
CLIENT_LIST,client,10.77.0.2:33115,10.8.0.2,fd00:8::1000,2125,2145,@since,1795241557,UNDEF,0,0,AES-256-GCM
HEADER,ROUTING_TABLE,Virtual Address,Common Name,Real Address,Last Ref,Last Ref (time_t)
ROUTING_TABLE,192.168.44.0/24,client,10.77.0.2:33115,@since,1795241557
ROUTING_TABLE,fd00:8::1000,client,10.77.0.2:33115,@since,1795241557
ROUTING_TABLE,10.8.0.2,client,10.77.0.2:33115,@since,1795241557
ROUTING_TABLE,192.168.44.7C,client,10.77.0.2:33115,@since,1795241557
GLOBAL_STATS,Max bcast/mcast queue length,1
GLOBAL_STATS,dco_enabled,0
END
";

#[test]
fn version_1() {
    let text = "\
OpenVPN CLIENT LIST
Updated,@now
Common Name,Real Address,Bytes Received,Bytes Sent,Connected Since
client,10.77.0.2:33115,2125,2145,@since
ROUTING TABLE
Virtual Address,Common Name,Real Address,Last Ref
192.168.44.0/24,client,10.77.0.2:33115,@since
fd00:8::1000,client,10.77.0.2:33115,@since
10.8.0.2,client,10.77.0.2:33115,@since
192.168.44.7C,client,10.77.0.2:33115,@since
GLOBAL STATS
Max bcast/mcast queue length,1
END
";
    assert_eq!(render(&server(), 1), expect(text));
}

#[test]
fn version_2() {
    assert_eq!(render(&server(), 2), expect(VERSION_2));
}

#[test]
fn version_3() {
    // No comma of version 2 belongs to a value.
    assert_eq!(render(&server(), 3), expect(&VERSION_2.replace(',', "\t")));
    assert_eq!(render(&server(), 4), "ERROR: bad status format version number\n");
}

#[test]
fn a_client_has_the_same_table_in_all_versions() {
    let status = TunnelStatus {
        unix: NOW,
        device_read: 96,
        device_write: 48,
        link_read: 1985,
        link_write: 1918,
        authentic: 47,
    };
    let text = "\
OpenVPN STATISTICS
Updated,@now
TUN/TAP read bytes,96
TUN/TAP write bytes,48
TCP/UDP read bytes,1985
TCP/UDP write bytes,1918
Auth read bytes,47
END
";
    for version in 0..=4 {
        assert_eq!(render(&Snapshot::Tunnel(status), version), expect(text));
    }
}

#[test]
fn exporters_recognise_the_file_and_the_level() {
    assert!(render(&server(), 2).starts_with("TITLE,OpenVPN 2."));
    assert!(render(&server(), 3).starts_with("TITLE\tOpenVPN 2."));
    let level: Vec<u32> = title().split(' ').nth(1).unwrap().split('.').map(|n| n.parse().unwrap()).collect();
    assert!(level[0] == 2 && level[1] >= 4, "{level:?}: these are the columns of 2.4 and later");
    assert!(!title().contains([',', '\t']));
}

#[test]
fn a_name_moves_no_column_and_begins_no_line() {
    assert_eq!(name(Some("a,b\nCLIENT_LIST\tc")), "a_b_CLIENT_LIST_c");
    assert_eq!(name(Some("")), "UNDEF");
    assert_eq!(name(None), "UNDEF");
}

#[test]
fn addresses_of_ipv6_have_no_port() {
    assert_eq!(real("[2001:db8::1]:1194".parse().unwrap()), "2001:db8::1");
    assert_eq!(real("[::ffff:192.0.2.1]:1194".parse().unwrap()), "192.0.2.1:1194");
}

#[test]
fn a_client_without_addresses_keeps_its_columns() {
    let Snapshot::Server(mut status) = server() else { unreachable!() };
    (status.clients[0].ip4, status.clients[0].ip6) = (None, None);
    let text = render(&Snapshot::Server(status), 2);
    let line = text.lines().find(|line| line.starts_with("CLIENT_LIST")).unwrap();
    assert!(line.starts_with("CLIENT_LIST,client,10.77.0.2:33115,,,2125,"), "{line}");
    assert_eq!(line.split(',').count(), 13);
}
