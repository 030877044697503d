use core::net::SocketAddr;
use std::sync::Arc;

use super::super::hello::{options_string, peer_info};
use super::super::offer::offer;
use super::super::side::{ClientSide, ServerSide, Side};
use super::*;
use crate::config::ClientConfig;
use crate::path::Path;
use crate::tls::fake::FakeFactory;
use crate::wire::ids::PeerId;
use crate::wrap::WrapConfig;

const KERNEL: Capabilities = Capabilities { framing: false, ..Capabilities::USERSPACE };
const PLAIN: &str =
    "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,key-method 2";

fn path() -> Path {
    Path::udp(0, SocketAddr::from(([192, 0, 2, 1], 1194)))
}

fn client(framing: Framing) -> Side {
    let mut config = ClientConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    config.channel.framing = framing;
    Side::Client(Box::new(ClientSide::new(Arc::new(config), None)))
}

fn server(framing: Framing, migrate_compression: bool) -> ServerConfig {
    let mut config = ServerConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    config.channel.framing = framing;
    config.migrate_compression = migrate_compression;
    config
}

/// A client with `comp-lzo` in its configuration.
fn compressing(peer_info: &str) -> PeerHello {
    PeerHello {
        options: "V4,dev-type tun,link-mtu 1542,tun-mtu 1500,proto UDPv4,comp-lzo,auth SHA1,tls-client"
            .into(),
        peer_info: peer_info.into(),
    }
}

#[test]
fn the_options_string_names_comp_lzo_whatever_the_framing_is() {
    let of = |framing| options_string(&client(framing), &path(), None);
    assert_eq!(of(Framing::None), format!("{PLAIN},tls-client"));
    let stub = PLAIN.replace("1541", "1542").replace("UDPv4,", "UDPv4,comp-lzo,");
    assert_eq!(of(Framing::Stub), format!("{stub},tls-client"));
    assert_eq!(of(Framing::Swap), of(Framing::Stub));
    assert_eq!(of(Framing::StubV2), of(Framing::Stub).replace("1542", "1541"));
}

#[test]
fn a_client_that_is_migrated_hears_what_it_says() {
    let of = |migrate, hello: &PeerHello| {
        let side = Side::Server(Box::new(ServerSide::new(Arc::new(server(Framing::None, migrate)), None)));
        options_string(&side, &path(), Some(hello))
    };
    assert!(of(true, &compressing("")).contains(",link-mtu 1542,tun-mtu 1500,proto UDPv4,comp-lzo,auth"));
    assert!(!of(false, &compressing("")).contains("comp-lzo"));
    assert!(
        !of(true, &PeerHello { options: format!("{PLAIN},tls-client"), ..Default::default() })
            .contains("lzo")
    );
}

#[test]
fn stubs_are_announced_where_they_can_be_done() {
    let stubs = "\nIV_LZO_STUB=1\nIV_COMP_STUB=1\nIV_COMP_STUBv2=1\n";
    assert!(peer_info(&client(Framing::None), Capabilities::USERSPACE, None).contains(stubs));
    assert!(!peer_info(&client(Framing::None), KERNEL, None).contains("STUB"));
}

#[test]
fn a_client_takes_framing_and_no_compression() {
    use Compression::{Algorithm, Migrate, Stub};
    let here = Capabilities::USERSPACE;
    for framing in Framing::ALL {
        assert_eq!(taken(Stub(framing), false, here), Ok(framing));
        assert_eq!(taken(Algorithm(framing), true, here), Ok(framing));
        let refused = taken(Algorithm(framing), false, here);
        assert!(refused.is_err_and(|text| text.contains("allow-compression asym")));
    }
    assert_eq!(taken(Migrate, false, here), Ok(Framing::None));
    assert_eq!(taken(Stub(Framing::StubV2), false, KERNEL), Ok(Framing::None));
    assert!(taken(Stub(Framing::Stub), false, KERNEL).is_err_and(|text| text.contains("compress migrate")));
    assert!(taken(Stub(Framing::Swap), true, KERNEL).is_err());
}

#[test]
fn what_a_server_frames_and_pushes() {
    let of = |config: &ServerConfig, own, capabilities, hello: &PeerHello| {
        offered(config, own, capabilities, hello).ok()
    };
    let here = Capabilities::USERSPACE;
    let (modern, old, plain) =
        (compressing("IV_COMP_STUBv2=1\n"), compressing("IV_LZO=1\n"), PeerHello::default());
    let migrating = server(Framing::None, true);
    assert_eq!(of(&migrating, None, here, &plain), Some((Framing::None, None)));
    assert_eq!(of(&migrating, None, here, &modern), Some((Framing::StubV2, Some("compress stub-v2"))));
    assert_eq!(of(&migrating, None, here, &old), Some((Framing::Stub, Some("comp-lzo no"))));
    assert_eq!(
        of(&migrating, Some(Framing::Swap), here, &old),
        Some((Framing::Swap, None)),
        "decided before"
    );
    assert_eq!(of(&migrating, None, KERNEL, &modern), Some((Framing::None, Some("compress stub-v2"))));
    assert_eq!(of(&migrating, None, KERNEL, &old), None);
    let fixed = server(Framing::Stub, false);
    assert_eq!(of(&fixed, None, here, &modern), Some((Framing::Stub, None)), "pushing is left to `push`");
    assert_eq!(of(&fixed, Some(Framing::None), here, &modern), Some((Framing::None, None)));
    assert_eq!(of(&fixed, None, KERNEL, &modern), None);
}

#[test]
fn what_is_offered_reaches_the_data_plane() {
    let hello = compressing("IV_NCP=2\nIV_PROTO=2\n");
    let offer = |config: &ServerConfig, own| {
        let id = PeerId::from_low_bits(5);
        let offer = offer(config, Capabilities::USERSPACE, &path(), id, own, &hello).unwrap();
        (offer.options.join(","), offer.agreed.params.framing, offer.agreed.params.mss)
    };
    let told = "peer-id 5,cipher AES-256-GCM";
    assert_eq!(
        offer(&server(Framing::None, true), None),
        (format!("{told},comp-lzo no"), Framing::Stub, Some(1399))
    );
    assert_eq!(offer(&server(Framing::None, false), None), (told.into(), Framing::None, Some(1400)));
    assert_eq!(
        offer(&server(Framing::None, false), Some(Framing::Swap)),
        (told.into(), Framing::Swap, Some(1399))
    );
}

#[test]
fn each_warning_has_a_cure() {
    let cases = [
        (Framing::None, Misframed::Other(0xfa), "write `comp-lzo no` here"),
        (Framing::None, Misframed::Other(0xfb), "write `compress stub` here"),
        (Framing::Stub, Misframed::Other(0x45), "remove `comp-lzo` and `compress` here"),
        (Framing::Swap, Misframed::Other(0xfa), "which is `compress stub` (packets begin with 0xfa)"),
        (Framing::StubV2, Misframed::Other(0x50), "the same on both sides"),
        (Framing::Stub, Misframed::Compressed, "allow-compression asym"),
    ];
    for (expected, found, cure) in cases {
        let text = warning(expected, found);
        assert!(text.contains(cure), "{text}");
    }
}
