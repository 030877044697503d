//! What a client makes of options and messages of its server.

use super::*;

fn alice() -> Option<Credentials> {
    Some(Credentials { username: "alice".into(), password: Zeroizing::new("secret".into()), is_token: false })
}

/// `auth-token-user` (`openvpn: options.c`): the name that goes with the token from now on.
#[test]
fn a_token_may_come_with_another_name() {
    let mut world = World::with_seed(config(WrapConfig::None), alice(), 1);
    world.server.greeting = vec![format!("{PUSH},auth-token TOK,auth-token-user Ym9i")];
    world.run(secs(1));
    world.server.renegotiate(world.now);
    world.drain();
    world.run(secs(1));
    assert!(world.server.introduction.contains("bob\0\0\u{4}TOK\0"), "{:?}", world.server.introduction);
}
