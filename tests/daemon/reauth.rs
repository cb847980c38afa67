//! Re-authentication: what a command is given, what is made of its end, and how often it runs.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use tokenkeep::simulator::Endpoint;

use crate::support::{
    MARK, Stage, about, calls, configuration, expired, login_simulator, millis, mode,
    mortal_simulator, prints_new, running, seconds, secret, simulator, until,
};

#[tokio::test]
async fn output_of_the_command_replaces_an_expired_token() {
    let server = mortal_simulator().await;
    let stage = Stage::new(&configuration(&server, ""));
    server.add_token(&stage.token("quotes"), millis(800));
    server.add_token(&secret("new"), seconds(60));
    stage.script("hook", &prints_new());

    let daemon = stage.start();
    daemon.event("reauth_succeeded", "quotes").await;
    let ended = daemon.stop().await;
    let story: Vec<_> = ended.story("quotes");
    let from_death = story.iter().position(|event| *event == "token_expired").expect("expired");
    assert_eq!(
        story[from_death..],
        ["token_expired", "reauth_started", "reauth_succeeded", "token_recovered"]
    );
    let started = ended.all("reauth_started", "quotes")[0];
    assert_eq!((started.text("reason"), started.number("attempt")), ("expired", 1));
    let succeeded = ended.all("reauth_succeeded", "quotes")[0];
    assert_eq!((succeeded.number("attempt"), succeeded.number("exit_status")), (1, 0));
    assert!(succeeded.number("duration_ms") < 20_000);
}

#[tokio::test]
async fn token_file_is_replaced_atomically_and_keeps_its_mode() {
    let (_server, stage) = expired("", &prints_new()).await;
    let path = stage.path("quotes.token");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
    let old = fs::metadata(&path).expect("a file").ino();

    let daemon = stage.start();
    daemon.event("token_recovered", "quotes").await;
    daemon.stop().await;
    assert_eq!(stage.read("quotes.token"), format!("{}\n", secret("new")));
    assert_eq!(mode(&path), 0o640);
    assert_ne!(fs::metadata(&path).expect("a file").ino(), old, "another file, renamed");
    let left = fs::read_dir(stage.path("")).expect("a folder").filter(|entry| {
        entry.as_ref().expect("an entry").file_name().to_string_lossy().starts_with(".tokenkeep")
    });
    assert_eq!(left.count(), 0, "nothing is left beside it");
}

#[tokio::test]
async fn command_gets_exactly_the_documented_environment() {
    let dump = "cat /proc/$$/environ > \"$TOKENKEEP_FILE.environ\"\n\
                cat /proc/$$/cmdline > \"$TOKENKEEP_FILE.cmdline\"\n";
    let (server, stage) = expired("", &(dump.to_owned() + &prints_new())).await;
    let daemon = stage.start_with(&[
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("QUOTES_PASSWORD", MARK),
        ("TOKENKEEP_NAME", "not this"),
    ]);
    daemon.event("reauth_succeeded", "quotes").await;
    daemon.stop().await;

    let environ = stage.read("quotes.token.environ");
    let given: BTreeMap<&str, &str> =
        environ.split_terminator('\0').filter_map(|pair| pair.split_once('=')).collect();
    let path = std::env::var("PATH").expect("PATH");
    let (file, url) = (stage.path("quotes.token"), format!("{}/", server.url()));
    let promised = BTreeMap::from([
        ("PATH", path.as_str()),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("TOKENKEEP_NAME", "quotes"),
        ("TOKENKEEP_SERVER", "sarus"),
        ("TOKENKEEP_URL", &url),
        ("TOKENKEEP_REASON", "expired"),
        ("TOKENKEEP_STATUS", "410"),
        ("TOKENKEEP_DETAIL", "The session token has expired"),
        ("TOKENKEEP_ATTEMPT", "1"),
        ("TOKENKEEP_FILE", file.to_str().expect("UTF-8")),
    ]);
    assert_eq!(given, promised);
    let cmdline = stage.read("quotes.token.cmdline");
    let arguments: Vec<&str> = cmdline.split_terminator('\0').skip(1).collect();
    assert_eq!(arguments, [stage.path("hook").to_str().expect("UTF-8"), "--profile", "quotes"]);
}

#[tokio::test]
async fn command_for_a_rejected_token_gets_the_reason() {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, ""));
    stage.token("quotes");
    server.add_token(&secret("new"), seconds(60));
    stage.script(
        "hook",
        &format!("echo $TOKENKEEP_REASON $TOKENKEEP_STATUS > $DIR/why\n{}", prints_new()),
    );
    let daemon = stage.start();
    daemon.event("token_recovered", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(
        ended.story("quotes"),
        ["check_failed", "token_rejected", "reauth_started", "reauth_succeeded", "token_recovered"]
    );
    assert_eq!(stage.read("why"), "rejected 401\n");
}

#[tokio::test]
async fn a_command_may_write_the_file_itself() {
    let (server, stage) = expired("", &format!("{} > $TOKENKEEP_FILE", prints_new())).await;
    let daemon = stage.start();
    daemon.event("token_recovered", "quotes").await;
    daemon.stop().await;
    assert_eq!(about(&server, &secret("new")).len(), 1);
}

#[tokio::test]
async fn failed_command_is_retried_after_the_delay() {
    let hook =
        format!("echo >> $DIR/runs\n[ $(wc -l < $DIR/runs) = 3 ] || exit 7\n{}", prints_new());
    let (_server, stage) = expired("", &hook).await;
    let daemon = stage.start();
    let succeeded = daemon.event("reauth_succeeded", "quotes").await;
    assert_eq!(succeeded.number("attempt"), 3);
    let ended = daemon.stop().await;
    let failed = ended.all("reauth_failed", "quotes");
    let told: Vec<_> = failed
        .iter()
        .map(|line| ["attempt", "exit_status", "retry_in_ms"].map(|key| line.number(key)))
        .collect();
    assert_eq!(told, [[1, 7, 50], [2, 7, 100]]);
    assert!(failed.iter().all(|line| line.text("error").contains("exit status 7")));
}

#[tokio::test]
async fn hung_command_is_killed_with_its_children() {
    let hook = "echo $$ >> $DIR/runs\nsleep 1000 &\nsleep 1000";
    let (_server, stage) = expired("timeout = \"300ms\"", hook).await;
    let daemon = stage.start();
    let failed = daemon.event("reauth_failed", "quotes").await;
    assert!(failed.text("error").contains("300ms"), "{failed:?}");
    assert!(failed.number("duration_ms") >= 300);
    let group = stage.read("runs").lines().next().expect("it ran").parse().expect("a number");
    until("the group is gone", || running(group).is_empty()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn an_api_key_gets_a_new_token_without_any_command() {
    let server = login_simulator().await;
    let stage = Stage::new(&format!(
        r#"
[server.sarus]
url = "{}"
[reauth.apikey]
api_key_file = "$DIR/api.key"
minutes = 60
[token.quotes]
server = "sarus"
file = "$DIR/quotes.token"
reauth = "apikey"
"#,
        server.url()
    ));
    stage.write("api.key", &secret("key"));
    server.add_token(&stage.token("quotes"), millis(800));
    let daemon = stage.start();
    daemon.event("reauth_succeeded", "quotes").await;
    daemon.stop().await;
    assert_eq!(calls(&server, Endpoint::Login), 1);
    let new = stage.read("quotes.token");
    assert!(server.remaining(new.trim()).is_some(), "the file holds what was issued");
}

#[tokio::test]
async fn rejected_api_key_is_logged_with_the_servers_status() {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        "[server.sarus]\nurl = \"{}\"\n[reauth.apikey]\napi_key_file = \"$DIR/api.key\"\n\
         max_attempts = 1\n[token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\nreauth = \"apikey\"\n",
        server.url()
    ));
    stage.write("api.key", &secret("key"));
    stage.token("quotes");
    let daemon = stage.start();
    let failed = daemon.event("reauth_failed", "quotes").await;
    assert_eq!(failed.number("status"), 401);
    daemon.event("reauth_exhausted", "quotes").await;
    daemon.stop().await;
}
