//! A value that belongs to another token is refused wherever it comes from, and what operators do
//! on purpose is not: two names for one value, files that are exchanged or renamed.

use std::fs;

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Daemon, Line, Stage, about, mortal_simulator, seconds, secret, server_table, simulator,
    token_table, until,
};

const LIFE: u64 = 4;

/// The tokens `quotes` and `orders` of these configurations, each with its value.
fn staged(server: &Simulator, quotes: &str, orders: &str) -> Stage {
    let stage = Stage::new(&[&server_table("sarus", server, ""), quotes, orders].concat());
    for name in ["quotes", "orders"] {
        server.add_token(&stage.token(name), seconds(LIFE));
    }
    stage
}

async fn both_alive(daemon: &Daemon) {
    for name in ["quotes", "orders"] {
        daemon.event("token_checked", name).await;
    }
}

/// The event of a refused value.
async fn refused(daemon: &Daemon, name: &str, owner: &str) -> Line {
    let line = daemon.event("config_warning", name).await;
    assert_eq!(line.text("level"), "error");
    let error = line.text("error");
    assert!(error.contains(name) && error.contains(&format!("another token, {owner}")), "{error}");
    line
}

fn files(server: &Simulator) -> Stage {
    let [quotes, orders] = ["quotes", "orders"].map(|name| token_table(name, "sarus", ""));
    staged(server, &quotes, &orders)
}

#[tokio::test]
async fn value_of_another_token_in_a_file_is_refused_and_the_current_one_stays() {
    let server = simulator().await;
    let stage = files(&server);
    let daemon = stage.start();
    both_alive(&daemon).await;
    stage.replace("quotes.token", &secret("orders"));
    let line = refused(&daemon, "quotes", "orders").await;
    assert!(line.text("path").ends_with("quotes.token"));
    daemon.more(2, "token_checked", "quotes").await;
    // Written again, it is the same refusal. The right value is used.
    stage.replace("quotes.token", &secret("orders"));
    server.add_token(&secret("quotes-2"), seconds(LIFE));
    daemon.more(1, "token_checked", "quotes").await;
    stage.replace("quotes.token", &secret("quotes-2"));
    until("it is used", || !about(&server, &secret("quotes-2")).is_empty()).await;
    daemon.more(2, "token_checked", "orders").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("config_warning", "quotes"), 1);
    assert_eq!(ended.count("token_replaced", ""), 1);
    assert!(ended.story("orders").is_empty(), "{:?}", ended.story("orders"));
}

#[tokio::test]
async fn value_whose_file_was_corrected_can_move_to_the_token_that_it_was_meant_for() {
    let server = simulator().await;
    let stage = files(&server);
    let daemon = stage.start();
    both_alive(&daemon).await;
    server.add_token(&secret("orders-2"), seconds(LIFE));
    // It was meant for `orders`.
    stage.replace("quotes.token", &secret("orders-2"));
    daemon.event("token_replaced", "quotes").await;
    stage.replace("orders.token", &secret("orders-2"));
    refused(&daemon, "orders", "quotes").await;
    // The value that was there before has expired meanwhile, so that `quotes` keeps the wrong one.
    server.expire(&secret("quotes"));
    stage.replace("quotes.token", &secret("quotes"));
    daemon.event("token_replaced", "orders").await;
    daemon.stop().await;
}

#[tokio::test]
async fn value_of_another_token_in_an_inventory_is_refused() {
    let server = simulator().await;
    let table = "[inventory.crowd]\nserver = \"sarus\"\nfile = \"$DIR/lines\"\n";
    let stage = staged(&server, table, "");
    let lines = |quotes: &str| {
        ["quotes", "orders"]
            .map(|name| {
                let value = secret(if name == "quotes" { quotes } else { name });
                format!("{{\"name\": \"{name}\", \"token\": \"{value}\"}}\n")
            })
            .concat()
    };
    stage.write("lines", &lines("quotes"));
    let daemon = stage.start();
    both_alive(&daemon).await;
    stage.replace("lines", &lines("orders"));
    refused(&daemon, "quotes", "orders").await;
    let asked = about(&server, &secret("quotes")).len();
    until("it is checked", || about(&server, &secret("quotes")).len() > asked).await;
    daemon.stop().await;
}

#[tokio::test]
async fn login_that_returns_the_value_of_another_token_is_a_failed_attempt() {
    let server = mortal_simulator().await;
    let reauth = "[reauth.relogin]\ncommand = [\"$DIR/hook\"]\ndelay = \"50ms\"\n";
    let quotes = token_table("quotes", "sarus", "reauth = \"relogin\"");
    let stage =
        staged(&server, &(reauth.to_owned() + &quotes), &token_table("orders", "sarus", ""));
    server.add_token(&secret("orders"), seconds(600));
    server.add_token(&secret("new"), seconds(600));
    let (foreign, own) = (secret("orders"), secret("new"));
    // The second attempt gets it right.
    stage.script(
        "hook",
        &format!(
            "echo >> $DIR/runs; [ $(wc -l < $DIR/runs) = 1 ] && echo '{foreign}' || echo '{own}'"
        ),
    );
    let daemon = stage.start();
    both_alive(&daemon).await;
    server.expire(&secret("quotes"));
    let failed = daemon.event("reauth_failed", "quotes").await;
    assert!(failed.text("error").contains("another token, orders"), "{failed:?}");
    assert_eq!(failed.number("attempt"), 1);
    daemon.event("token_recovered", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(stage.read("quotes.token").trim(), own);
    assert_eq!(ended.all("reauth_succeeded", "quotes")[0].number("attempt"), 2, "it has counted");
}

#[tokio::test]
async fn command_that_writes_the_value_of_another_token_to_the_file_is_a_failed_attempt() {
    let server = mortal_simulator().await;
    let reauth = "[reauth.relogin]\ncommand = [\"$DIR/hook\"]\ndelay = \"10s\"\n";
    let quotes = token_table("quotes", "sarus", "reauth = \"relogin\"");
    let stage =
        staged(&server, &(reauth.to_owned() + &quotes), &token_table("orders", "sarus", ""));
    server.add_token(&secret("orders"), seconds(600));
    stage.script("hook", &format!("echo '{}' > $TOKENKEEP_FILE", secret("orders")));
    let daemon = stage.start();
    both_alive(&daemon).await;
    server.expire(&secret("quotes"));
    let failed = daemon.event("reauth_failed", "quotes").await;
    assert!(failed.text("error").contains("another token, orders"), "{failed:?}");
    refused(&daemon, "quotes", "orders").await;
    daemon.stop().await;
}

#[tokio::test]
async fn two_tokens_with_one_file_follow_it_together() {
    let server = simulator().await;
    let [quotes, orders] = ["quotes", "orders"]
        .map(|name| token_table(name, "sarus", "").replace(&format!("{name}.token"), "one.token"));
    let stage = staged(&server, &quotes, &orders);
    stage.write("one.token", &secret("quotes"));
    server.add_token(&secret("new"), seconds(LIFE));
    let daemon = stage.start();
    both_alive(&daemon).await;
    stage.replace("one.token", &secret("new"));
    for name in ["quotes", "orders"] {
        daemon.event("token_replaced", name).await;
    }
    let ended = daemon.stop().await;
    let refusals = ended.all("config_warning", "").into_iter();
    assert_eq!(refusals.filter(|line| line.text("level") == "error").count(), 0);
}

#[tokio::test]
async fn two_tokens_that_have_one_value_from_the_start_get_the_next_one_each() {
    let server = simulator().await;
    let stage = files(&server);
    stage.write("orders.token", &secret("quotes"));
    server.add_token(&secret("new"), seconds(LIFE));
    let daemon = stage.start();
    both_alive(&daemon).await;
    for name in ["quotes", "orders"] {
        stage.replace(&format!("{name}.token"), &secret("new"));
        daemon.event("token_replaced", name).await;
    }
    assert_eq!(daemon.stop().await.count("config_warning", ""), 0);
}

#[tokio::test]
async fn files_that_are_exchanged_are_followed() {
    let server = simulator().await;
    let stage = files(&server);
    let daemon = stage.start();
    both_alive(&daemon).await;
    stage.write("quotes.new", &secret("orders"));
    stage.write("orders.new", &secret("quotes"));
    for name in ["quotes", "orders"] {
        fs::rename(stage.path(&format!("{name}.new")), stage.path(&format!("{name}.token")))
            .expect("renamed");
    }
    for name in ["quotes", "orders"] {
        daemon.event("token_replaced", name).await;
    }
    let ended = daemon.stop().await;
    let died = |line: &&Line| ["token_expired", "token_rejected"].contains(&line.event());
    assert_eq!(ended.lines.iter().filter(died).count(), 0);
}

#[tokio::test]
async fn value_is_used_once_its_owner_is_removed() {
    let server = simulator().await;
    let stage = files(&server);
    let daemon = stage.start();
    both_alive(&daemon).await;
    stage.replace("quotes.token", &secret("orders"));
    refused(&daemon, "quotes", "orders").await;
    stage.configure(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    daemon.signal(Signal::HUP);
    daemon.event("token_replaced", "quotes").await;
    daemon.stop().await;
}
