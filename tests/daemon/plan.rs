//! `check-config`: what it tells of many tokens, and of the ways to new values.

use crate::support::Stage;

const WAYS: &str = r#"
[server.sarus]
url = "https://api.example.net"
[reauth.relogin]
command = ["/usr/local/libexec/relogin"]
max_failures_all = 7
quiet = ["23:45-00:15 UTC"]
reauth_before = "30s"
"#;

async fn plan(stage: &Stage, options: &[&str]) -> String {
    let output = stage.command("check-config").args(options).output().await.expect("it starts");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn what_limits_logins_and_when_they_begin_is_told() {
    let token = "[token.quotes]\nserver = \"sarus\"\nenv = \"Q\"\nreauth = \"relogin\"\n";
    let said = plan(&Stage::new(&format!("{WAYS}{token}")), &[]).await;
    for wanted in [
        "re-auth relogin: at most 7 failures of all its tokens in 1 h; quiet each day 23:45-00:15 UTC",
        "  before its end by 30 s, if nothing extends its life",
        "  when it dies   re-auth relogin runs /usr/local/libexec/relogin, at most 5 times in 1 h",
    ] {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
}

#[tokio::test]
async fn of_many_tokens_the_first_fifty_are_told_and_the_rest_is_counted_unless_asked_for() {
    let token =
        |n| format!("[token.t{n:02}]\nserver = \"sarus\"\nenv = \"T{n}\"\nreauth = \"relogin\"\n");
    let stage = Stage::new(&(WAYS.to_owned() + &(0..60).map(token).collect::<String>()));
    let told = |said: &str| said.lines().filter(|line| line.starts_with("token t")).count();
    let said = plan(&stage, &[]).await;
    assert_eq!(told(&said), 50);
    assert!(
        said.contains("60 tokens, at most") && said.contains("\n10 more of 60 tokens"),
        "{said}"
    );
    let said = plan(&stage, &["--all"]).await;
    assert_eq!(told(&said), 60);
    assert!(!said.contains("more of"), "{said}");
}

#[tokio::test]
async fn more_tokens_than_the_rate_limit_serves_are_told() {
    let ways = WAYS.replace("[reauth", "rate_limit = 1\n[reauth");
    let token =
        |n| format!("[token.t{n}]\nserver = \"sarus\"\nenv = \"T{n}\"\nreauth = \"relogin\"\n");
    let said = plan(&Stage::new(&(ways + &(0..60).map(token).collect::<String>())), &[]).await;
    let line = |life| said.lines().find(|line| line.starts_with(&format!("  life {life}")));
    let short = line("1 min").expect("a plan");
    assert!(short.ends_with("takes 2 requests a second, and rate_limit allows 1"), "{said}");
    assert!(line("30 min").expect("a plan").contains("survives any outage of"), "{said}");
}
