//! Interoperability harness: real OpenVPN servers, network namespaces and the client under test.
//!
//! A test describes one relation with [`scenario::Scenario`], which makes a [`netns::Lab`] (two namespaces joined by a
//! veth pair), starts the server of the wanted [`openvpn::Release`] in one and the [`client`] under test in the other,
//! and hands both to the test as a [`scenario::Tunnel`]. The other way round, [`serve::Service`] makes a [`star::Star`]
//! of one server's and several clients' namespaces and starts the server under test with real clients. Every wait polls with a deadline, every process dies with its
//! owner, every namespace is removed on drop, and what a run that was killed left behind is removed by the next one.
//!
//! | variable | meaning |
//! |---|---|
//! | `OXIVPN_TEST_CLIENT` | path of the client to test; default is this workspace's `oxivpn`, built when needed |
//! | `OXIVPN_TEST_SERVER` | path of the server to test; default as above. With a real `openvpn` the tests test themselves |
//! | `OXIVPN_TEST_OPENVPN` | path of the distribution's `openvpn`; default is the one in `PATH` |
//! | `OXIVPN_TEST_NEWER` | path of the newer `openvpn`; default is what `tests/openvpn-newer.sh` prints |
//! | `OXIVPN_REQUIRE_INTEROP` | `1` turns a skip for want of root, `ip`, `/dev/net/tun` or a server into a failure |
//! | `OXIVPN_TEST_JOBS` | how many cells run at the same time |

pub mod capture;
pub mod certs;
pub mod client;
pub mod content;
pub mod flood;
pub mod interrupt;
pub mod load;
pub mod management;
pub mod matrix;
pub mod netns;
pub mod openvpn;
pub mod pair;
pub mod ping;
pub mod process;
pub mod scenario;
pub mod serve;
pub mod star;
pub mod stats;
