//! What the other tests assume about the real servers.

use crate::servers::{Etcd, Oidc, OpenBao, Server, Zabbix};

const UNKNOWN: &str = "4711";

/// Values survive a restart, or a scenario would prove nothing.
async fn keeps(mut server: impl Server, value: String) {
    assert_eq!(server.is_alive(&value).await, Some(true));
    assert_eq!(server.is_alive(UNKNOWN).await, Some(false));
    server.restart().await;
    assert_eq!(server.is_alive(&value).await, Some(true));
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn openbao_keeps_tokens_over_a_restart() {
    let server = OpenBao::start().await;
    let value = server.log_in().await;
    keeps(server, value).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn etcd_keeps_leases_over_a_restart() {
    let server = Etcd::start().await;
    let value = server.grant().await;
    keeps(server, value).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn zabbix_keeps_sessions_over_a_restart() {
    let server = Zabbix::start().await;
    let value = server.log_in().await;
    keeps(server, value).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn oidc_keeps_families_over_a_restart_and_kills_one_whose_refresh_token_is_used_twice() {
    let mut server = Oidc::start().await;
    let first = server.first().await;
    let second = server.refresh(&first).await.expect("a new family");
    server.assert_each_used_once();
    assert_eq!(server.is_alive(&second.access).await, Some(true));
    server.restart().await;
    assert_eq!(server.is_alive(&second.access).await, Some(true));

    let third = server.refresh(&second.refresh).await.expect("the family lives");
    assert!(server.refresh(&second.refresh).await.is_none(), "a replay");
    assert_eq!(server.is_alive(&third.access).await, Some(false));
    assert!(server.refresh(&third.refresh).await.is_none(), "the family is dead");
    let statuses: Vec<_> = server.refreshes().iter().map(|used| used.status).collect();
    assert_eq!(statuses, [200, 200, 400, 400]);
}
