//! Refresh tokens that cannot be read or stored: the token lives, and nothing is lost for certain.

use std::fs;

use rustix::process::Signal;
use tokenkeep::clock;
use tokenkeep::daemon::GRACE;

use crate::refresh_tokens::{LIFE, LOGIN, LONG, refresh_in_file, renewals, session};
use crate::support::{Daemon, Hung, OAuthServer, Stage, WebhookServer, millis, seconds, until};

#[tokio::test]
async fn refresh_token_whose_disk_hangs_is_kept_in_the_state_directory() {
    let (server, stage) = session(seconds(8), "").await;
    server.hold_responses(true);
    let daemon = stage.start();
    renewals(&server, 1).await;
    let Some(hung) = Hung::over(&stage.path("refresh")) else { return };
    server.hold_responses(false);
    let failed = daemon.event("store_failed", "feed").await;
    assert!(failed.text("path").ends_with("refresh/feed"));
    daemon.event("token_replaced", "feed").await;
    assert!(server.is_alive(stage.read("feed.token").trim()));
    daemon.signal(Signal::KILL);
    drop(hung);
    daemon.ended().await;
    let daemon = stage.start();
    renewals(&server, 3).await;
    daemon.stop().await;
    assert_eq!(server.reuses(), 0);
    assert!(server.is_usable(&refresh_in_file(&stage)));
}

/// A daemon without a state directory that has renewed with the refresh token, whose folder hangs by
/// then; `None` where this machine does not permit that.
async fn unsaved() -> Option<(OAuthServer, Stage, Daemon, Hung)> {
    let (server, stage) = session(seconds(8), "").await;
    let configuration = stage.read("tokenkeep.toml");
    let rest = configuration.split_once('\n').unwrap().1;
    // No directory can be created there.
    stage.replace("tokenkeep.toml", &format!("state_dir = \"/dev/null/state\"\n{rest}"));
    server.hold_responses(true);
    let daemon = stage.start();
    renewals(&server, 1).await;
    let hung = Hung::over(&stage.path("refresh"))?;
    server.hold_responses(false);
    let failed = daemon.event("store_failed", "feed").await;
    assert!(!failed.has("path") && failed.text("message").contains("memory"), "{failed:?}");
    daemon.event("token_replaced", "feed").await;
    Some((server, stage, daemon, hung))
}

#[tokio::test]
async fn refresh_token_that_cannot_be_stored_is_kept_in_memory_and_stored_later() {
    let Some((server, stage, daemon, hung)) = unsaved().await else { return };
    drop(hung);
    until("it is stored", || server.is_usable(&refresh_in_file(&stage))).await;
    renewals(&server, 3).await;
    daemon.stop().await;
    assert_eq!(server.reuses(), 0);
}

#[tokio::test]
async fn refresh_token_that_cannot_be_stored_until_the_stop_is_reported_as_lost() {
    let Some((_server, _stage, daemon, hung)) = unsaved().await else { return };
    let ended = daemon.stop().await;
    drop(hung);
    let lost = ended.all("store_failed", "feed");
    let lost = lost.last().expect("an error");
    assert!(lost.text("message").contains("lost"), "{lost:?}");
}

/// The session of the stage, with its refresh token in a systemd credential.
fn use_credential(stage: &Stage) {
    stage.write("credentials/feed", &refresh_in_file(stage));
    let credential = "refresh = { credential = \"feed\" }";
    let configuration = stage.read("tokenkeep.toml");
    let file = configuration.lines().find(|line| line.starts_with("refresh =")).expect("its key");
    stage.replace("tokenkeep.toml", &configuration.replace(file, credential));
}

fn start_with_credentials(stage: &Stage) -> Daemon {
    let folder = stage.path("credentials");
    stage.start_with(&[("CREDENTIALS_DIRECTORY", folder.to_str().expect("UTF-8"))])
}

#[tokio::test]
async fn token_whose_refresh_token_cannot_be_read_any_more_is_renewed_with_what_is_in_memory() {
    let (server, stage) = session(seconds(9), "").await;
    use_credential(&stage);
    let daemon = start_with_credentials(&stage);
    daemon.event("token_replaced", "feed").await;
    let Some(hung) = Hung::over(&stage.path("credentials")) else { return };
    daemon.nth(3, "token_replaced", "feed").await;
    for event in ["token_expired", "token_rejected", "token_unverified"] {
        assert_eq!(daemon.count(event, "feed"), 0, "{event}");
    }
    daemon.signal(Signal::KILL);
    drop(hung);
    daemon.ended().await;
    let daemon = start_with_credentials(&stage);
    renewals(&server, 4).await;
    daemon.stop().await;
    assert_eq!(server.reuses(), 0);
}

#[tokio::test]
async fn login_replaces_a_value_whose_refresh_token_cannot_be_read() {
    let (server, stage) = session(seconds(6), LOGIN).await;
    use_credential(&stage);
    let Some(_hung) = Hung::over(&stage.path("credentials")) else { return };
    let daemon = start_with_credentials(&stage);
    let replaced = daemon.event("token_replaced", "feed").await;
    assert_eq!(replaced.text("by"), "reauth");
    until("a value that lives", || server.is_alive(stage.read("feed.token").trim())).await;
    daemon.stop().await;
    assert_eq!(server.renewals(), 0);
}

#[tokio::test]
async fn refresh_token_whose_disk_hangs_at_the_stop_is_kept_in_the_state_directory() {
    let (server, stage) = session(LONG, "").await;
    fs::remove_file(stage.path("feed.token")).unwrap();
    server.hold_responses(true);
    let daemon = stage.start();
    renewals(&server, 1).await;
    let Some(hung) = Hung::over(&stage.path("refresh")) else { return };
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    server.hold_responses(false);
    let ended = daemon.ended().await;
    drop(hung);
    assert_eq!(ended.count("store_failed", "feed"), 0);
    let daemon = stage.start();
    daemon.event("token_replaced", "feed").await;
    daemon.stop().await;
    assert_eq!((server.renewals(), server.reuses()), (2, 0));
}

#[tokio::test]
async fn no_refresh_token_is_spent_at_the_end_of_the_grace_period() {
    let hook = WebhookServer::start("").await;
    let (server, stage) = session(LIFE, "").await;
    let webhook = format!(
        "[notify.hook]\nevents = [\"daemon_stopping\", \"token_replaced\"]\nwebhook = \"{}\"\n",
        hook.url()
    );
    stage.configure(&(stage.read("tokenkeep.toml") + &webhook));
    let daemon = stage.start();
    renewals(&server, 1).await;
    daemon.signal(Signal::TERM);
    let stopping = clock::now();
    let asked = daemon.event("daemon_stopping", "").await;
    let ended = daemon.ended().await;
    assert!(clock::now().since(stopping) >= GRACE, "the webhook keeps it open");
    let replaced = ended.all("token_replaced", "feed");
    let since_stop = |line: &&crate::support::Line| {
        line.timestamp().duration_since(asked.timestamp()).as_millis()
    };
    let late = GRACE / 2 + millis(1_500);
    let times: Vec<_> = replaced.iter().map(since_stop).filter(|at| *at > 0).collect();
    assert!(!times.is_empty(), "checks continue");
    assert!(times.iter().all(|at| u128::try_from(*at).unwrap() < late.as_millis()), "{times:?}");
    assert!(server.is_usable(&refresh_in_file(&stage)));
}
