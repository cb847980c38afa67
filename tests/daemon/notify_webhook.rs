//! `[notify.NAME]` with a webhook.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use tokenkeep::clock;
use tokenkeep::daemon::GRACE;
use tokenkeep::simulator::Simulator;

use crate::support::{
    MARK, Stage, WebhookServer, free_port, seconds, server_table, simulator, token_table, until,
};

/// A stage with a token without a value, and a webhook for its event.
async fn missing(url: &str, keys: &str) -> (Simulator, Stage) {
    let server = simulator().await;
    let webhook =
        format!("[notify.hook]\nevents = [\"token_missing\"]\nwebhook = \"{url}\"\n{keys}\n");
    let tables = server_table("sarus", &server, "") + &token_table("quotes", "sarus", "");
    (server, Stage::new(&(tables + &webhook)))
}

#[tokio::test]
async fn webhook_gets_the_event_of_the_log_and_the_header_of_the_credential() {
    let hook = WebhookServer::start("204 No Content\r\n").await;
    let (_server, stage) =
        missing(&hook.url(), "webhook_header_credential = \"hook-header\"").await;
    stage.write("credentials/hook-header", &format!("X-Api-Key:  {MARK}:1 \n"));
    let credentials = stage.path("credentials");
    let daemon = stage.start_with(&[
        ("CREDENTIALS_DIRECTORY", credentials.to_str().expect("UTF-8")),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
    ]);
    let logged = daemon.event("token_missing", "quotes").await;
    until("the webhook is called", || !hook.requests().is_empty()).await;
    assert_eq!(daemon.stop().await.count("notify_failed", ""), 0);
    let requests = hook.requests();
    let [(head, body)] = &*requests else { panic!("{requests:?}") };
    assert!(head.starts_with("POST /events HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nx-api-key: {MARK}:1\r\n")), "{head}");
    assert_eq!(serde_json::from_str::<Value>(body).expect("JSON"), logged.0);
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let target = WebhookServer::start("200 OK\r\n").await;
    let location = format!("302 Found\r\nLocation: {}\r\n", target.url());
    let hook = WebhookServer::start(location.leak()).await;
    let (_server, stage) = missing(&hook.url(), "").await;
    let daemon = stage.start();
    let failed = daemon.event("notify_failed", "quotes").await;
    assert_eq!((failed.number("status"), failed.number("attempt")), (302, 3));
    daemon.stop().await;
    assert_eq!((hook.requests().len(), target.requests().len()), (3, 0));
}

#[tokio::test]
async fn errors_of_a_webhook_never_show_its_path_or_its_header() {
    let unreachable = format!("http://127.0.0.1:{}/services/{MARK}", free_port());
    let (_server, stage) = missing(&unreachable, "webhook_header_credential = \"header\"").await;
    stage.write("credentials/header", &format!("{MARK} no header line\n"));
    let credentials = stage.path("credentials");
    let daemon =
        stage.start_with(&[("CREDENTIALS_DIRECTORY", credentials.to_str().expect("UTF-8"))]);
    let failed = daemon.event("notify_failed", "quotes").await;
    assert!(failed.text("error").contains("must contain one header line"), "{failed:?}");
    stage.write("credentials/header", &format!("X-Key: {MARK}\n"));
    // Another event of the same token.
    stage.write("quotes.token", "");
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.stop().await;

    let (_server, stage) = missing(&unreachable, "").await;
    let daemon = stage.start();
    let failed = daemon.event("notify_failed", "quotes").await;
    assert!(failed.text("error").contains("no response from http://127.0.0.1:"), "{failed:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn webhook_that_hangs_is_cut_at_its_timeout() {
    let hook = WebhookServer::start("").await;
    let (_server, stage) = missing(&hook.url(), "timeout = \"200ms\"").await;
    let daemon = stage.start();
    let failed = daemon.event("notify_failed", "quotes").await;
    assert!(failed.text("error").contains("no response within 200 ms"), "{failed:?}");
    assert_eq!(hook.requests().len(), 3);
    daemon.stop().await;
}

#[tokio::test]
async fn webhook_that_hangs_delays_a_stop_until_the_grace_period_ends_and_is_counted() {
    let hook = WebhookServer::start("").await;
    let (_server, stage) = missing(&hook.url(), "timeout = \"10m\"").await;
    let daemon = stage.start();
    until("the webhook is called", || !hook.requests().is_empty()).await;
    let asked_to_stop = clock::now();
    let ended = daemon.stop().await;
    let took = clock::now().since(asked_to_stop);
    assert!(took < GRACE + seconds(5), "{took:?}");
    let failed = ended.all("notify_failed", "");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!((failed[0].text("notify"), failed[0].number("dropped")), ("hook", 1));
}

#[tokio::test]
async fn webhook_over_tls_needs_the_authority_of_its_ca_file() {
    let (_server, stage) =
        missing("https://127.0.0.1:9/", "ca_file = \"$DIR/authority.pem\"").await;
    let daemon = stage.start();
    let failed = daemon.event("notify_failed", "quotes").await;
    assert!(failed.text("error").contains("`ca_file` of [notify.hook]"), "{failed:?}");
    daemon.stop().await;
    assert!(fs::metadata(stage.path("authority.pem")).is_err());
}
