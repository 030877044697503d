//! What the application decides about clients, and what follows from it.

use super::*;

#[test]
fn an_empty_password_is_one_and_the_application_decides() {
    for policy in [LoginPolicy::Optional, LoginPolicy::Required] {
        let (mut server, client) = pairs().remove(0);
        server.login = policy;
        server.ask_login = true;
        server.username_as_common_name = true;
        let mut net = Net::new(server, 5);
        net.policy.verdict = |login| {
            let password = login.password.as_ref().map(|password| password.as_str());
            assert_eq!((login.username.as_deref(), password), (Some("root"), Some("")));
            assert_eq!(login.common_name, "root");
            Some(Verdict::Accept)
        };
        net.join(1, client, login("root", ""));
        assert!(net.up(1, secs(1)), "{policy:?}");
    }
}
