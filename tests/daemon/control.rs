//! The control socket as a plain HTTP client meets it; every answer is held against
//! docs/openapi.json.

use rustix::process::geteuid;
use tokenkeep::simulator::{Endpoint, Simulator};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::support::{
    Daemon, PATIENCE, Stage, calls, configuration, free_port, get, login_simulator, mode,
    mortal_simulator, post, prints_new, seconds, secret, server_table, simulator, token_table,
    until,
};

/// Tokens of a long life, and a daemon that has asked about all of them.
async fn calm(server: &Simulator, names: &[&str], keys: &str) -> (Stage, Daemon) {
    let tables = names.iter().map(|name| token_table(name, "sarus", keys)).collect::<String>();
    let stage = Stage::new(&(server_table("sarus", server, "") + &tables));
    for name in names {
        server.add_token(&stage.token(name), seconds(3_600));
    }
    let daemon = stage.start();
    for name in names {
        daemon.event("token_checked", name).await;
    }
    (stage, daemon)
}

fn names(page: &serde_json::Value) -> Vec<&str> {
    let tokens = page["tokens"].as_array().expect("a list").iter();
    tokens.map(|token| token["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn control_socket_exists_for_owner_and_group_while_the_daemon_runs() {
    let server = simulator().await;
    let (stage, daemon) = calm(&server, &["quotes"], "").await;
    let socket = stage.path("control.sock");
    assert_eq!(mode(&socket), 0o660);
    daemon.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn health_reports_daemon_tokens_and_servers() {
    let server = simulator().await;
    let (stage, daemon) = calm(&server, &["quotes", "orders"], "").await;
    let health = get(&stage, "/v1/health").await.json();
    assert_eq!(health["pid"], daemon.pid());
    assert_eq!((&health["counts"]["alive"], &health["counts"]["total"]), (&2.into(), &2.into()));
    assert_eq!((&health["servers"][0]["available"]), &true);
    assert_eq!((&health["servers"][0]["tokens"]), 2);
    daemon.stop().await;
}

#[tokio::test]
async fn tokens_are_listed_worst_state_first_then_by_expiry() {
    let server = mortal_simulator().await;
    let tables = ["long", "dead", "short"].map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables));
    server.add_token(&stage.token("long"), seconds(3_600));
    server.add_token(&stage.token("short"), seconds(1_800));
    server.add_token(&stage.token("dead"), seconds(0));
    let daemon = stage.start();
    daemon.event("token_expired", "dead").await;
    daemon.event("token_checked", "long").await;
    daemon.event("token_checked", "short").await;

    let page = get(&stage, "/v1/tokens").await.json();
    assert_eq!(names(&page), ["dead", "short", "long"]);
    assert_eq!((&page["matched"], &page["next"]), (&3.into(), &serde_json::Value::Null));
    assert_eq!(page["tokens"][0]["state"], "expired");
    let left = page["tokens"][1]["remaining_ms"].as_i64().expect("a life");
    assert!((1_700_000..=1_800_000).contains(&left), "{left}");

    let first = get(&stage, "/v1/tokens?limit=2").await.json();
    assert_eq!(names(&first), ["dead", "short"]);
    let next = first["next"].as_str().expect("a cursor");
    let rest = get(&stage, &format!("/v1/tokens?limit=2&cursor={next}")).await.json();
    assert_eq!((names(&rest), &rest["next"]), (vec!["long"], &serde_json::Value::Null));

    let dead = get(&stage, "/v1/tokens?state=expired,missing").await.json();
    assert_eq!(names(&dead), ["dead"]);
    daemon.stop().await;
}

#[tokio::test]
async fn tokens_are_listed_by_pattern_and_page() {
    let server = simulator().await;
    let all = ["orders-1", "orders-2", "quotes-1", "quotes-2", "quotes-3"];
    let (stage, daemon) = calm(&server, &all, "").await;
    let page = get(&stage, "/v1/tokens?filter=quotes-*").await.json();
    let mut found = names(&page);
    found.sort_unstable();
    assert_eq!(found, all[2..]);

    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&stage, &format!("/v1/tokens?order=any&limit=2{cursor}")).await.json();
        found.extend(names(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    found.sort_unstable();
    assert_eq!(found, all);
    daemon.stop().await;
}

#[tokio::test]
async fn concurrent_queries_each_get_their_own_result() {
    let server = simulator().await;
    let all = ["orders-1", "orders-2", "quotes-1", "quotes-2", "quotes-3"];
    let (stage, daemon) = calm(&server, &all, "").await;
    let (orders, quotes, dead, some, metrics, others, health) = tokio::join!(
        get(&stage, "/v1/tokens?filter=orders-*"),
        get(&stage, "/v1/tokens?filter=quotes-*&limit=2"),
        get(&stage, "/v1/tokens?state=expired"),
        get(&stage, "/v1/tokens?order=any&limit=3"),
        get(&stage, "/metrics"),
        get(&stage, "/metrics"),
        get(&stage, "/healthz"),
    );
    let found = [&orders, &quotes, &dead, &some].map(|answer| {
        let page = answer.json();
        (names(&page).len(), page["matched"].as_u64(), page["next"].is_string())
    });
    let wanted = [(2, Some(2), false), (2, Some(3), true), (0, Some(0), false), (3, None, true)];
    assert_eq!(found, wanted);
    for answer in [metrics, others] {
        let line = "tokenkeep_remaining_life_seconds_count{server=\"sarus\"} 5\n";
        assert!(answer.body.contains(line), "{}", answer.body);
    }
    assert_eq!(health.body, "ok\n");
    daemon.stop().await;
}

#[tokio::test]
async fn invalid_requests_are_rejected_with_a_reason() {
    let server = simulator().await;
    let (stage, daemon) = calm(&server, &["quotes"], "").await;
    for query in [
        "limit=0",
        "limit=1001",
        "limit=many",
        "state=well",
        "order=best",
        "cursor=x",
        "filter=[",
        "x=1",
    ] {
        let answer = get(&stage, &format!("/v1/tokens?{query}")).await;
        assert_eq!((answer.status, &*answer.problem()), (400, "bad_request"), "{query}");
    }
    assert_eq!(get(&stage, "/v1/tokens/nobody").await.status, 404);
    assert_eq!(get(&stage, "/v1/tokens/nobody/value").await.status, 404);
    assert_eq!(post(&stage, "/v1/tokens/nobody/check").await.status, 404);
    assert_eq!(post(&stage, "/v1/tokens/quotes/explode").await.status, 404);
    assert_eq!(get(&stage, "/v2/tokens").await.status, 404);
    assert_eq!(post(&stage, "/v1/health").await.problem(), "method_not_allowed");
    daemon.stop().await;
}

#[tokio::test]
async fn check_command_starts_a_check_and_logs_the_user() {
    let server = simulator().await;
    let (stage, daemon) = calm(&server, &["quotes"], "").await;
    assert_eq!(post(&stage, "/v1/tokens/quotes/check").await.status, 202);
    daemon.nth(2, "token_checked", "quotes").await;
    let asked = daemon.event("action_requested", "quotes").await;
    assert_eq!(asked.text("action"), "check");
    assert_eq!(asked.number("uid"), u64::from(geteuid().as_raw()));
    daemon.stop().await;
}

#[tokio::test]
async fn reauth_command_gets_a_new_value_while_the_current_one_is_alive() {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, ""));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    server.add_token(&secret("new"), seconds(3_600));
    stage.script("hook", &prints_new());
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    assert_eq!(post(&stage, "/v1/tokens/quotes/reauth").await.status, 202);
    daemon.event("reauth_succeeded", "quotes").await;
    assert_eq!(daemon.event("reauth_started", "quotes").await.text("reason"), "requested");
    until("the file holds the new value", || stage.read("quotes.token").trim() == secret("new"))
        .await;

    let story = get(&stage, "/v1/tokens/quotes").await.json();
    assert_eq!(story["reauth"]["name"], "relogin");
    let left = story["reauth"]["attempts_left"].as_u64();
    assert_eq!(left, story["reauth"]["max_attempts"].as_u64().map(|most| most - 1));
    let events = story["events"].as_array().expect("a list").iter();
    let events: Vec<_> = events.map(|event| event["event"].as_str().expect("a name")).collect();
    assert_eq!(events[..3], ["action_requested", "reauth_started", "reauth_succeeded"]);
    daemon.stop().await;
}

#[tokio::test]
async fn paused_token_gets_no_requests_until_it_is_resumed() {
    let server = simulator().await;
    let stage = Stage::new(
        &[server_table("sarus", &server, ""), token_table("quotes", "sarus", "")].concat(),
    );
    server.add_token(&stage.token("quotes"), seconds(4));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    assert_eq!(post(&stage, "/v1/tokens/quotes/pause").await.status, 202);
    let story = get(&stage, "/v1/tokens/quotes").await.json();
    assert_eq!(
        (&story["state"], &story["next_check_ms"]),
        (&"paused".into(), &serde_json::Value::Null)
    );
    assert_eq!(post(&stage, "/v1/tokens/quotes/check").await.problem(), "conflict");
    until("a check under way has ended", || {
        let asked = calls(&server, Endpoint::Query) + calls(&server, Endpoint::Renew);
        daemon.count("token_checked", "quotes") == asked
    })
    .await;
    let before = server.requests().len();
    until("its life is over", || {
        server.remaining(&secret("quotes")).is_none_or(|left| left.is_zero())
    })
    .await;
    assert_eq!(server.requests().len(), before, "nobody has asked");
    assert_eq!(post(&stage, "/v1/tokens/quotes/resume").await.status, 202);
    daemon.event("token_expired", "quotes").await;
    daemon.stop().await;
}

#[tokio::test]
async fn revoke_command_revokes_the_value_and_reauth_replaces_it() {
    let server = login_simulator().await;
    let stage = Stage::new(
        &(server_table("sarus", &server, "")
            + "[reauth.login]\napi_key_file = \"$DIR/key\"\n"
            + &token_table("quotes", "sarus", "reauth = \"login\"")),
    );
    stage.write("key", &secret("key"));
    let old = stage.token("quotes");
    server.add_token(&old, seconds(3_600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    assert_eq!(post(&stage, "/v1/tokens/quotes/revoke").await.status, 202);
    daemon.event("token_revoked", "quotes").await;
    assert_eq!(server.remaining(&old), None);
    daemon.event("token_recovered", "quotes").await;
    daemon.stop().await;
}

#[tokio::test]
async fn check_of_an_expired_token_and_reauth_without_a_method_are_rejected() {
    let server = mortal_simulator().await;
    let stage = Stage::new(
        &[server_table("sarus", &server, ""), token_table("quotes", "sarus", "")].concat(),
    );
    server.add_token(&stage.token("quotes"), seconds(0));
    let daemon = stage.start();
    daemon.event("token_expired", "quotes").await;
    for action in ["check", "revoke", "reauth"] {
        let answer = post(&stage, &format!("/v1/tokens/quotes/{action}")).await;
        assert_eq!((answer.status, &*answer.problem()), (409, "conflict"), "{action}");
    }
    let refused = daemon.nth(3, "action_refused", "quotes").await;
    assert!(refused.text("error").contains("reauth"), "{refused:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn reload_command_returns_the_outcome() {
    let server = simulator().await;
    let (stage, daemon) = calm(&server, &["quotes"], "").await;
    let tables = ["quotes", "orders"].map(|name| token_table(name, "sarus", "")).concat();
    stage.configure(&(server_table("sarus", &server, "") + &tables));
    let outcome = post(&stage, "/v1/reload").await.json();
    assert_eq!((&outcome["applied"], &outcome["added"]), (&true.into(), &"orders".into()));

    stage.configure("[server.sarus]\n");
    let outcome = post(&stage, "/v1/reload").await.json();
    assert_eq!(outcome["applied"], false);
    assert!(outcome["error"].as_str().is_some_and(|error| error.contains("url")), "{outcome}");
    daemon.event("config_rejected", "").await;
    assert!(matches!(post(&stage, "/v1/reload?wait=false").await.status, 200 | 202));

    let outcome = get(&stage, "/v1/reload?number=3").await.json();
    assert_eq!(outcome["applied"], false, "it tells when the third has ended");
    assert_eq!(get(&stage, "/v1/reload?number=4").await.problem(), "not_found");
    assert_eq!(get(&stage, "/v1/reload").await.problem(), "bad_request");
    daemon.stop().await;
}

#[tokio::test]
async fn token_value_is_returned_to_the_daemons_user_and_the_read_is_logged() {
    let server = simulator().await;
    let (stage, daemon) = calm(&server, &["quotes"], "").await;
    let answer = get(&stage, "/v1/tokens/quotes/value").await;
    assert_eq!(answer.body, format!("{}\n", secret("quotes")));
    daemon.event("value_read", "quotes").await;
    daemon.stop().await;
}

#[tokio::test]
async fn expired_value_is_never_returned() {
    let server = mortal_simulator().await;
    let stage = Stage::new(
        &[server_table("sarus", &server, ""), token_table("quotes", "sarus", "")].concat(),
    );
    let value = stage.token("quotes");
    server.add_token(&value, seconds(0));
    let daemon = stage.start();
    daemon.event("token_expired", "quotes").await;
    let answer = get(&stage, "/v1/tokens/quotes/value").await;
    assert_eq!((answer.status, &*answer.problem()), (409, "conflict"));
    assert!(answer.body.contains("the token has expired") && !answer.body.contains(&value));
    assert_eq!(daemon.event("action_refused", "quotes").await.text("action"), "value");
    let ended = daemon.stop().await;
    assert_eq!(ended.count("value_read", ""), 0);
}

#[tokio::test]
async fn returned_value_says_whether_it_is_verified() {
    let server = simulator().await;
    let (stage, daemon) = calm(&server, &["quotes"], "").await;
    let head = get(&stage, "/v1/tokens/quotes/value").await.head;
    assert!(head.contains("tokenkeep-state: alive"), "{head}");
    daemon.stop().await;

    let nobody = format!("[server.sarus]\nurl = \"http://127.0.0.1:{}\"\n", free_port());
    let stage = Stage::new(&(nobody + &token_table("quotes", "sarus", "")));
    let value = stage.token("quotes");
    let daemon = stage.start();
    daemon.event("check_failed", "quotes").await;
    let answer = get(&stage, "/v1/tokens/quotes/value").await;
    assert_eq!(answer.body, format!("{value}\n"));
    assert!(answer.head.contains("tokenkeep-state: unverified"), "{}", answer.head);
    daemon.stop().await;
}

#[tokio::test]
async fn check_config_names_unknown_readers() {
    let stage = Stage::new(
        "[server.sarus]\nurl = \"http://127.0.0.1:9\"\n[token.quotes]\nserver = \"sarus\"\n\
         env = \"QUOTES\"\nreaders = [\"no-such-user\", \"@no-such-group\", \"root\"]\n",
    );
    let output = stage.command("check-config").output().await.expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{said}");
    for told in ["no-such-user: there is no such user", "@no-such-group: there is no such group"] {
        assert!(said.contains(&format!("[token.quotes] readers: {told}")), "{said}");
    }
    assert!(!said.contains("root"), "{said}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_a_few_seconds() {
    let server = simulator().await;
    let (stage, daemon) = calm(&server, &["quotes"], "").await;
    let mut idle = UnixStream::connect(stage.path("control.sock")).await.expect("a socket");
    let end = timeout(PATIENCE, idle.read(&mut [0])).await.expect("it is closed");
    assert_eq!(end.expect("closed"), 0);
    daemon.stop().await;
}
