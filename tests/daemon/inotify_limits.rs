//! Without inotify: the limit is named, and changes are found by comparing.

use tokenkeep::simulator::Simulator;

use crate::support::{
    Daemon, Stage, about, in_user_namespace, seconds, secret, server_table, simulator, token_table,
    until,
};

/// The token `quotes` of a file, and the inventory `crowd` of a folder with the token `orders`.
async fn staged() -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = Stage::new(
        &[
            server_table("sarus", &server, ""),
            token_table("quotes", "sarus", ""),
            "[inventory.crowd]\nserver = \"sarus\"\ndir = \"$DIR/tokens\"\n".to_owned(),
        ]
        .concat(),
    );
    stage.token("quotes");
    stage.write("tokens/orders", &secret("orders"));
    for name in ["quotes", "orders", "quotes-2", "orders-2"] {
        server.add_token(&secret(name), seconds(600));
    }
    (server, stage)
}

/// A daemon in a user namespace with `limit` as the value of this limit of inotify.
async fn limited(stage: &Stage, name: &str, limit: u32) -> Option<Daemon> {
    let script = format!("echo {limit} > /proc/sys/user/max_inotify_{name}");
    in_user_namespace(stage.command("run"), &script).await.map(Daemon::start)
}

/// Writes new values in place, and waits until they are used.
async fn changes_are_noticed(server: &Simulator, stage: &Stage) {
    stage.write("quotes.token", &secret("quotes-2"));
    stage.write("tokens/orders", &secret("orders-2"));
    for name in ["quotes-2", "orders-2"] {
        until("the new value is used", || !about(server, &secret(name)).is_empty()).await;
    }
}

#[tokio::test]
async fn without_inotify_instances_the_sysctl_is_named_and_writes_in_place_are_noticed() {
    let (server, stage) = staged().await;
    let Some(daemon) = limited(&stage, "instances", 0).await else {
        return;
    };
    daemon.event("daemon_ready", "").await;
    let warning = daemon.event("config_warning", "").await;
    assert_eq!(warning.text("level"), "warn");
    for part in ["fs.inotify.max_user_instances", "user.max_inotify_instances`, 0,"] {
        assert!(warning.text("error").contains(part), "{warning:?}");
    }
    changes_are_noticed(&server, &stage).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_warning", ""), 1);
}

#[tokio::test]
async fn without_inotify_watches_the_sysctl_is_named_and_writes_in_place_are_noticed() {
    let (server, stage) = staged().await;
    let Some(daemon) = limited(&stage, "watches", 1).await else {
        return;
    };
    let warning = daemon.event("config_warning", "").await;
    for part in ["fs.inotify.max_user_watches", "user.max_inotify_watches`, 1,"] {
        assert!(warning.text("error").contains(part), "{warning:?}");
    }
    changes_are_noticed(&server, &stage).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_warning", ""), 1);
}
