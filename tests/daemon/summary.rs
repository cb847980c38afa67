//! The sentence about all tokens, as clients of the socket and of the page get it.

use serde_json::Value;
use tokenkeep::simulator::{Behaviour, Endpoint};
use tokio::time::{sleep, timeout};

use crate::listen::{control, exchange};
use crate::support::{
    PATIENCE, Stage, calls, configuration, free_port, get, millis, mortal_simulator, post, seconds,
    server_table, simulator, token_table,
};

/// The parts as text; times are `@` for a time of day and `+` for a span.
fn text(summary: &Value) -> String {
    let parts = summary["parts"].as_array().unwrap_or_else(|| panic!("no parts: {summary}"));
    let part = |part: &Value| match (part.as_str(), part["token"].as_str()) {
        (Some(text), _) | (None, Some(text)) => text.to_owned(),
        (None, None) if part["at_ms"].is_i64() => "@".to_owned(),
        (None, None) => "+".to_owned(),
    };
    parts.iter().map(part).collect()
}

async fn summary(stage: &Stage, path: &str) -> (String, String) {
    let summary = get(stage, path).await.json()["summary"].clone();
    (text(&summary), summary["level"].as_str().expect("a level").to_owned())
}

/// Waits until the sentence about all tokens satisfies `condition`, and returns it.
async fn until(stage: &Stage, condition: impl Fn(&str) -> bool) -> String {
    let met = async {
        loop {
            let (sentence, _) = summary(stage, "/v1/tokens").await;
            if condition(&sentence) {
                return sentence;
            }
            sleep(millis(20)).await;
        }
    };
    timeout(PATIENCE, met).await.expect("a sentence in time")
}

#[tokio::test]
async fn the_sentence_is_in_the_first_page_of_all_tokens_and_of_one_token_only() {
    let server = simulator().await;
    let names = ["quotes", "orders", "history"];
    let tables = names.map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables));
    for name in names {
        server.add_token(&stage.token(name), seconds(3_600));
    }
    let daemon = stage.start();
    for name in names {
        daemon.event("token_checked", name).await;
    }
    let all = ("All 3 tokens are alive; the next check is in +.".to_owned(), "ok".to_owned());
    assert_eq!(summary(&stage, "/v1/tokens").await, all);
    assert_eq!(summary(&stage, "/v1/tokens?limit=1").await, all);
    let one = "quotes is alive until @ (in +); the next check is in +.".to_owned();
    assert_eq!(summary(&stage, "/v1/tokens/quotes").await, (one, "ok".to_owned()));
    let next = get(&stage, "/v1/tokens?limit=1").await.json()["next"].clone();
    let next = format!("/v1/tokens?limit=1&cursor={}", next.as_str().expect("a cursor"));
    let others = ["/v1/tokens?filter=q*", "/v1/tokens?state=alive", "/v1/tokens?order=any", &next];
    for path in others {
        assert!(get(&stage, path).await.json().get("summary").is_none(), "{path}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_next_check_in_the_sentence_is_the_earliest_of_all_tokens() {
    let server = simulator().await;
    let names = ["quotes", "orders"];
    let tables = names.map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables));
    for (name, life) in [("quotes", 9), ("orders", 12)] {
        server.add_token(&stage.token(name), seconds(life));
    }
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    // Compares the sentence and the table of each response, until each token was checked three times.
    let compare = async {
        let mut compared = 0;
        while server.requests().len() < 6 {
            let page = get(&stage, "/v1/tokens").await.json();
            let next = page["tokens"].as_array().expect("tokens").iter();
            let next = next.map(|token| token["next_check_ms"].as_u64());
            let parts = page["summary"]["parts"].as_array().expect("parts");
            let said = parts.iter().find_map(|part| part["in_ms"].as_u64());
            if let (Some(next), Some(said)) = (next.collect::<Option<Vec<_>>>(), said) {
                let earliest = next.into_iter().min().expect("two tokens");
                assert!(earliest.abs_diff(said) < 500, "{page}");
                compared += 1;
            }
            sleep(millis(100)).await;
        }
        compared
    };
    let compared = timeout(PATIENCE, compare).await.expect("six checks");
    assert!(compared > 0);
    daemon.stop().await;
}

#[tokio::test]
async fn without_tokens_the_sentence_says_how_to_add_one() {
    let stage = Stage::new("");
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    let (sentence, _) = summary(&stage, "/v1/tokens").await;
    assert_eq!(sentence, "No token is configured. Add one with `tokenkeep add NAME`.");
    daemon.stop().await;
}

#[tokio::test]
async fn the_page_gets_the_sentence_without_names_and_paths() {
    let server = mortal_simulator().await;
    let port = free_port();
    let tables = ["legacy", "quotes"].map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(
        &(server_table("sarus", &server, "") + &tables + &control(port, "listen_names = false")),
    );
    let legacy = stage.token("legacy");
    server.add_token(&legacy, seconds(3_600));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "legacy").await;
    daemon.event("token_checked", "quotes").await;
    server.add_token(&legacy, seconds(0));
    post(&stage, "/v1/tokens/legacy/check").await;
    daemon.event("token_expired", "legacy").await;
    let path = stage.path("legacy.token");
    let path = path.to_str().expect("UTF-8");
    assert_eq!(
        until(&stage, |sentence| sentence.contains("needs you")).await,
        format!("1 of 2 needs you: legacy expired at @; put a new token into {path}.")
    );
    let request = format!("GET /page/stream HTTP/1.1\r\nHost: localhost:{port}");
    let stream = exchange(port, &request, "event: snapshot").await;
    let counts = stream.lines().skip_while(|line| *line != "event: counts").nth(1);
    let counts = counts.and_then(|line| line.strip_prefix("data: ")).expect("counts");
    let counts: Value = serde_json::from_str(counts).expect("JSON");
    assert_eq!(
        text(&counts["summary"]),
        "1 of 2 needs you: a token expired at @; it needs a new value."
    );
    assert!(!stream.contains("legacy") && !stream.contains(path), "{stream}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_dead_token_says_when_it_is_re_authenticated_and_with_how_many_attempts() {
    let server = mortal_simulator().await;
    let stage = Stage::new(
        &configuration(&server, "delay_max = \"1h\"\nmax_attempts = 2")
            .replace("delay = \"50ms\"", "delay = \"1h\""),
    );
    server.add_token(&stage.token("quotes"), seconds(0));
    stage.script("hook", "exit 3");
    let daemon = stage.start();
    daemon.event("reauth_failed", "quotes").await;
    let path = stage.path("quotes.token");
    let dead = "quotes was found expired at @; ";
    assert_eq!(
        until(&stage, |sentence| sentence.contains("attempts left")).await,
        format!("{dead}the next re-authentication attempt is at @ (in +), 1 of 2 attempts left.")
    );
    post(&stage, "/v1/tokens/quotes/reauth").await;
    assert_eq!(
        until(&stage, |sentence| sentence.contains("stopped until")).await,
        format!(
            "{dead}re-authentication is stopped until @ (in +), after 2 attempts; put a new token \
             into {}.",
            path.display()
        )
    );
    let (of_one, level) = summary(&stage, "/v1/tokens/quotes").await;
    assert!(of_one.contains("stopped until") && level == "error", "{of_one}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_token_that_nothing_renews_or_replaces_is_not_passed_off_as_alive() {
    let server = mortal_simulator().await;
    let tables = ["archive", "history"].map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables));
    server.add_token(&stage.token("archive"), seconds(20));
    server.add_token(&stage.token("history"), seconds(86_400));
    let daemon = stage.start();
    daemon.event("renewal_not_observed", "archive").await;
    assert!(calls(&server, Endpoint::Query) > 0);
    let sentence = until(&stage, |sentence| sentence.starts_with("1 of 2 is running out")).await;
    let path = stage.path("archive.token");
    assert_eq!(
        sentence,
        format!(
            "1 of 2 is running out: archive expires at @ (in +), and no permitted request renews it; \
             put a new token into {}.",
            path.display()
        )
    );
    for arguments in [&["--monitor"][..], &["--monitor", "archive"], &["--monitor", "*"]] {
        let output = stage.command("status").args(arguments).output().await.expect("it runs");
        let line = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {line}");
        assert!(line.starts_with("TOKENKEEP WARNING - ") && line.lines().count() == 1, "{line}");
        assert!(line.contains(", and no permitted request renews it; put"), "{line}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_token_whose_checks_are_refused_is_an_error_and_not_called_without_a_response() {
    let server = simulator().await;
    let tables = ["quotes", "orders"].map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables));
    for name in ["quotes", "orders"] {
        server.add_token(&stage.token(name), seconds(3_600));
    }
    // Requests to the configured URL are answered with 404.
    server.set_behaviour(Behaviour { path_prefix: "/elsewhere".into(), ..Behaviour::default() });
    let daemon = stage.start();
    for name in ["quotes", "orders"] {
        daemon.event("check_failed", name).await;
    }
    let sentence = until(&stage, |sentence| sentence.contains("no check has succeeded")).await;
    assert_eq!(sentence, "2 of 2 are unverified: no check has succeeded yet.");
    let (sentence, level) = summary(&stage, "/v1/tokens/quotes").await;
    assert_eq!(level, "error");
    assert!(sentence.starts_with("quotes has had no successful check yet; "), "{sentence}");
    daemon.stop().await;
}

#[tokio::test]
async fn an_outage_is_the_first_thing_that_the_sentence_says() {
    let down = format!("[server.sarus]\nurl = \"http://127.0.0.1:{}\"\n", free_port());
    let tables = ["quotes", "orders"].map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(down + &tables));
    stage.token("quotes");
    stage.token("orders");
    let daemon = stage.start();
    daemon.event("server_unavailable", "").await;
    let sentence = until(&stage, |sentence| sentence.starts_with("Server")).await;
    let start = "Server sarus has been unavailable since @: connection failed (";
    assert!(sentence.starts_with(start), "{sentence}");
    let end = ". 2 tokens wait for it. 2 of 2 are unverified: no check has succeeded yet.";
    assert!(sentence.ends_with(end), "{sentence}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_revoked_token_is_said_to_be_revoked_and_when() {
    let server = simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    post(&stage, "/v1/tokens/quotes/revoke").await;
    daemon.event("token_revoked", "quotes").await;
    let sentence = until(&stage, |sentence| sentence.contains("revoked")).await;
    assert!(sentence.starts_with("quotes was revoked at @"), "{sentence}");
}
