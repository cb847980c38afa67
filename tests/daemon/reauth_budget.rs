//! Re-authentication in bounds: how often commands run, and how many at once.

use crate::support::{
    MARK, Stage, about, configuration, expired, seconds, secret, simulator, token_table,
};

#[tokio::test]
async fn reauth_stops_when_the_budget_is_used_up_and_logs_it_once() {
    let (server, stage) = expired("max_attempts = 2", "echo >> $DIR/runs; exit 1").await;
    stage.write("quotes.token.pace", "");
    let daemon = stage.start();
    let exhausted = daemon.event("reauth_exhausted", "quotes").await;
    assert_eq!(exhausted.number("attempt"), 2);
    assert!((3_500_000..=3_600_000).contains(&exhausted.number("retry_in_ms")));
    // Many times the delay.
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(stage.lines_in("runs"), 2);
    assert_eq!(daemon.count("reauth_exhausted", "quotes"), 1);

    stage.replace("quotes.token", &secret("new"));
    daemon.event("token_recovered", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_expired", "quotes"), 1);
    assert_eq!(about(&server, &secret("new")).len(), 1);
}

#[tokio::test]
async fn reauth_continues_when_the_window_ends() {
    let (_server, stage) =
        expired("max_attempts = 1\nwindow = \"1s\"", "echo >> $DIR/runs; exit 1").await;
    let daemon = stage.start();
    daemon.nth(3, "reauth_exhausted", "quotes").await;
    let ended = daemon.stop().await;
    let attempts: Vec<_> =
        ended.all("reauth_started", "quotes").iter().map(|line| line.number("attempt")).collect();
    assert!(attempts.iter().all(|attempt| *attempt == 1), "{attempts:?}");
}

#[tokio::test]
async fn a_command_that_returns_the_old_value_does_not_loop() {
    let hook = format!("echo >> $DIR/runs\necho '{}'", secret("quotes"));
    let (server, stage) = expired("max_attempts = 3", &hook).await;
    let daemon = stage.start();
    daemon.event("reauth_exhausted", "quotes").await;
    tokio::time::sleep(seconds(1)).await;
    let ended = daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 3);
    assert_eq!(ended.count("token_expired", "quotes"), 1);
    assert_eq!(about(&server, &secret("quotes")).len(), 1, "it is known to be dead");
    assert!(
        ended.all("reauth_failed", "quotes")[0].text("error").contains("old")
            || ended.all("reauth_failed", "quotes")[0].text("error").contains("replaced")
    );
}

#[tokio::test]
async fn a_command_that_returns_dead_tokens_does_not_loop() {
    let hook = format!("echo >> $DIR/runs\necho '{}'-$TOKENKEEP_ATTEMPT", secret("unknown"));
    let (_server, stage) = expired("max_attempts = 2", &hook).await;
    let daemon = stage.start();
    daemon.event("reauth_exhausted", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 2);
    assert_eq!(ended.count("reauth_failed", "quotes"), 2);
    assert_eq!(ended.count("reauth_succeeded", "quotes"), 0);
}

#[tokio::test]
async fn two_tokens_that_share_a_value_do_not_loop() {
    let server = simulator().await;
    let orders = token_table("orders", "sarus", "reauth = \"relogin\"");
    let orders = orders.replace("orders.token", "quotes.token");
    let stage = Stage::new(&format!(
        "[schedule]\ncheck_after = 0.2\n{}{orders}",
        configuration(&server, "")
    ));
    let value = stage.token("quotes");
    server.add_token(&value, seconds(60));
    server.expire(&value);
    for name in ["quotes", "orders"] {
        server.add_token(&secret(&format!("new-{name}")), seconds(8));
    }
    stage.script("hook", &format!("echo >> $DIR/runs\necho '{MARK}/new-'$TOKENKEEP_NAME+="));
    let daemon = stage.start();
    for name in ["quotes", "orders"] {
        daemon.nth(3, "token_checked", name).await;
    }
    daemon.stop().await;
    assert!(stage.lines_in("runs") <= 2, "{} runs", stage.lines_in("runs"));
}

#[tokio::test]
async fn no_more_commands_run_at_once_than_are_allowed() {
    let server = simulator().await;
    let names = (0..7).map(|n| format!("t{n}"));
    let more = names.clone().map(|name| token_table(&name, "sarus", "reauth = \"relogin\""));
    let more: String = more.collect();
    let stage = Stage::new(&format!("max_hooks = 2\n{}{more}", configuration(&server, "")));
    let hook = "mkdir $DIR/running-$$; ls -d $DIR/running-* | wc -l >> $DIR/together\n\
                sleep 0.2; rmdir $DIR/running-$$\n\
                echo S3CR3T/new-$TOKENKEEP_NAME";
    stage.script("hook", hook);
    for name in names.chain(["quotes".to_owned()]) {
        stage.token(&name);
        server.add_token(&format!("{MARK}/new-{name}"), seconds(60));
    }
    let daemon = stage.start();
    daemon.nth(8, "reauth_succeeded", "").await;
    daemon.stop().await;
    let together: Vec<u32> =
        stage.read("together").lines().map(|line| line.trim().parse().expect("a count")).collect();
    assert_eq!((together.len(), together.iter().max()), (8, Some(&2)), "{together:?}");
}
