//! Logins during outages, and commands whose output is no token: what counts toward the limits, and
//! what reaches the token's file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokenkeep::clock;
use tokenkeep::simulator::{Behaviour, Endpoint, RenewsBy, Simulator};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::doubles::{Plan, PlanFaults as _, RetryAfter, Trouble};
use crate::support::{
    Daemon, Line, MARK, Stage, Terminal, about, calls, configuration, expired, login_simulator,
    millis, prints_new, seconds, secret, server_table, simulator, token_table, until,
};

const KEY: &str = "api_key_file = \"$DIR/api.key\"";

/// Tokens that have expired, on `server`; `reauth` are the keys of their `[reauth]`.
fn dead_tokens(server: &Simulator, reauth: &str, names: &[&str]) -> Stage {
    let tokens: String =
        names.iter().map(|name| token_table(name, "sarus", "reauth = \"login\"")).collect();
    let stage = Stage::new(&format!(
        "[reauth.login]\n{reauth}\n{}{tokens}",
        server_table("sarus", server, "timeout = \"1s\"")
    ));
    stage.write("api.key", &secret("key"));
    for name in names {
        let value = stage.token(name);
        server.add_token(&value, seconds(60));
        server.expire(&value);
    }
    stage
}

/// Waits until all of `names` have a value that lives.
async fn all_recover(daemon: &Daemon, names: &[&str]) {
    for name in names {
        daemon.event("token_recovered", name).await;
    }
}

/// Waits until more attempts have failed than any limit permits, or a limit was reached.
async fn many_failures(daemon: &Daemon) {
    let count = |lines: &[Line], event| lines.iter().filter(|line| line.event() == event).count();
    daemon
        .until("five failed attempts", |lines| {
            count(lines, "reauth_failed") >= 5 || count(lines, "reauth_exhausted") > 0
        })
        .await;
}

/// The login fails as `trouble` says for at least five attempts, where one each is permitted.
async fn an_outage_costs_no_attempt(trouble: Trouble) {
    let names = ["orders", "quotes", "trades"];
    let server = login_simulator().await;
    let keys = format!(
        "{KEY}\ndelay = \"50ms\"\ndelay_max = \"200ms\"\ntimeout = \"500ms\"\n\
         max_attempts = 1\nmax_failures_all = 1"
    );
    let stage = dead_tokens(&server, &keys, &names);
    server.plan_fault(Plan::always(trouble.clone()).at(Endpoint::Login));
    let daemon = stage.start();
    many_failures(&daemon).await;
    assert_eq!(daemon.count("reauth_exhausted", ""), 0, "{trouble:?}");
    server.clear_faults();
    all_recover(&daemon, &names).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("reauth_exhausted", ""), 0, "{trouble:?}");
    assert_eq!(server.tokens().iter().filter(|value| value.starts_with("issued-")).count(), 3);
}

#[tokio::test]
async fn a_login_that_reports_maintenance_costs_no_attempt() {
    for status in [500, 503] {
        let detail = "maintenance".to_owned();
        an_outage_costs_no_attempt(Trouble::Error { status, detail }).await;
    }
}

#[tokio::test]
async fn a_login_behind_a_proxy_s_error_page_costs_no_attempt() {
    for status in [200, 403, 502] {
        an_outage_costs_no_attempt(Trouble::Html { status }).await;
    }
}

#[tokio::test]
async fn a_login_whose_connection_breaks_costs_no_attempt() {
    an_outage_costs_no_attempt(Trouble::Reset).await;
    an_outage_costs_no_attempt(Trouble::ResetAfterHeaders).await;
}

#[tokio::test]
async fn a_login_that_does_not_respond_costs_no_attempt() {
    an_outage_costs_no_attempt(Trouble::Silence).await;
}

#[tokio::test]
async fn a_login_that_is_throttled_costs_no_attempt() {
    let trouble = Trouble::Quiet { status: 429, retry_after: RetryAfter::Unsaid };
    an_outage_costs_no_attempt(trouble).await;
}

#[tokio::test]
async fn a_server_that_is_down_costs_no_attempt() {
    let behaviour = Behaviour {
        renews_by: RenewsBy::Neither,
        api_key: Some(secret("key").into()),
        login_life: Some(seconds(60)),
        ..Behaviour::default()
    };
    let mut server = Simulator::start_lasting(behaviour).await.expect("a port");
    let keys = format!(
        "{KEY}\ndelay = \"50ms\"\ndelay_max = \"200ms\"\nmax_attempts = 1\nmax_failures_all = 1"
    );
    let names = ["orders", "quotes"];
    let stage = dead_tokens(&server, &keys, &names);
    // The death is reported, and the server disappears before the login.
    server.plan_fault(Plan::always(Trouble::Reset).at(Endpoint::Login));
    let daemon = stage.start();
    for name in names {
        daemon.event("token_expired", name).await;
    }
    server.go_down().await;
    server.clear_faults();
    many_failures(&daemon).await;
    server.come_back().await.expect("the port");
    all_recover(&daemon, &names).await;
    assert_eq!(daemon.stop().await.count("reauth_exhausted", ""), 0);
}

#[tokio::test]
async fn a_missing_api_key_costs_no_attempt() {
    let server = login_simulator().await;
    let keys = format!(
        "{KEY}\ndelay = \"50ms\"\ndelay_max = \"200ms\"\nmax_attempts = 1\nmax_failures_all = 1"
    );
    let stage = dead_tokens(&server, &keys, &["quotes"]);
    fs::remove_file(stage.path("api.key")).expect("it was there");
    let daemon = stage.start();
    many_failures(&daemon).await;
    let failed = daemon.event("reauth_failed", "quotes").await;
    assert!(failed.text("error").contains("there is no such file"), "{failed:?}");
    assert_eq!(calls(&server, Endpoint::Login), 0);
    stage.write("api.key", &secret("key"));
    daemon.event("token_recovered", "quotes").await;
    assert_eq!(daemon.stop().await.count("reauth_exhausted", ""), 0);
}

#[tokio::test]
async fn refusal_in_the_apis_envelope_counts_as_an_attempt() {
    for status in [400, 401, 403, 410] {
        let server = login_simulator().await;
        let keys = format!("{KEY}\ndelay = \"20ms\"\nmax_attempts = 3");
        let stage = dead_tokens(&server, &keys, &["quotes"]);
        let trouble = Trouble::Error { status, detail: "no".to_owned() };
        server.plan_fault(Plan::always(trouble).at(Endpoint::Login));
        let daemon = stage.start();
        let exhausted = daemon.event("reauth_exhausted", "quotes").await;
        assert_eq!(exhausted.number("attempt"), 3, "{status}");
        daemon.stop().await;
        assert_eq!(calls(&server, Endpoint::Login), 3, "{status}");
    }
}

#[tokio::test]
async fn success_without_a_usable_token_counts_as_an_attempt() {
    for token in ["null", "\"\"", "\"null\"", "\"{\\\"a\\\":1}\""] {
        let server = login_simulator().await;
        let keys = format!("{KEY}\ndelay = \"20ms\"\nmax_attempts = 2");
        let stage = dead_tokens(&server, &keys, &["quotes"]);
        let body = format!("{{\"Result\":{{\"SessionToken\":{token}}}}}").into_bytes();
        server.plan_fault(Plan::always(Trouble::Body { status: 200, body }).at(Endpoint::Login));
        let daemon = stage.start();
        daemon.event("reauth_exhausted", "quotes").await;
        daemon.stop().await;
        assert_eq!(calls(&server, Endpoint::Login), 2, "{token}");
        assert_eq!(stage.read("quotes.token"), format!("{}\n", secret("quotes")));
    }
}

#[tokio::test]
async fn a_command_that_exits_with_75_costs_no_attempt_and_one_that_fails_does() {
    let hook = format!("[ -e $DIR/up ] || exit 75\n{}", prints_new());
    let keys = "delay_max = \"200ms\"\nmax_attempts = 1\nmax_failures_all = 1";
    let (_server, stage) = expired(keys, &hook).await;
    let daemon = stage.start();
    many_failures(&daemon).await;
    let failed = daemon.event("reauth_failed", "quotes").await;
    assert_eq!(failed.number("exit_status"), 75);
    stage.write("up", "");
    daemon.event("token_recovered", "quotes").await;
    assert_eq!(daemon.stop().await.count("reauth_exhausted", ""), 0);

    for end in ["exit 74", "kill -KILL $$", "printf 'two words'", "sleep 100"] {
        let (_server, stage) = expired("max_attempts = 2\ntimeout = \"300ms\"", end).await;
        let daemon = stage.start();
        daemon.event("reauth_exhausted", "quotes").await;
        assert_eq!(daemon.stop().await.count("reauth_failed", "quotes"), 2, "{end}");
    }
}

/// Thirty dead tokens with the default limits, and a login that fails for three seconds.
async fn thirty_tokens_are_alive_again_soon_after(trouble: Trouble) {
    let names: Vec<String> = (0..30).map(|n| format!("t{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = login_simulator().await;
    let stage = dead_tokens(&server, KEY, &names);
    server.plan_fault(Plan::always(trouble.clone()).at(Endpoint::Login));
    let daemon = stage.start();
    daemon.event("reauth_failed", "").await;
    tokio::time::sleep(seconds(3)).await;
    server.clear_faults();
    let back = clock::now();
    all_recover(&daemon, &names).await;
    let took = clock::now().since(back);
    // 15 s are the promise; the rest is for a machine that is busy with other tests.
    assert!(took < seconds(20), "{trouble:?}: {took:?}");
    assert_eq!(daemon.stop().await.count("reauth_exhausted", ""), 0, "{trouble:?}");
}

#[tokio::test]
async fn thirty_tokens_recover_after_maintenance_of_the_login() {
    let detail = "maintenance".to_owned();
    thirty_tokens_are_alive_again_soon_after(Trouble::Error { status: 503, detail }).await;
}

#[tokio::test]
async fn thirty_tokens_recover_after_a_proxy_rejected_the_login() {
    thirty_tokens_are_alive_again_soon_after(Trouble::Html { status: 403 }).await;
}

#[tokio::test]
async fn thirty_tokens_recover_after_logins_were_reset() {
    thirty_tokens_are_alive_again_soon_after(Trouble::Reset).await;
}

/// What commands print instead of a token, by the name of a token, and a word of the remedy.
const USELESS: [(&str, &str, &str); 9] = [
    ("null", "null\n", "`null`"),
    ("quoted", "\"S3CR3T-tok\"\n", "quotation marks"),
    ("single", "'S3CR3T-tok'\n", "quotation marks"),
    ("object", "{\"SessionToken\": \"S3CR3T-tok\"}\n", "jq -er"),
    ("pretty", "{\n  \"SessionToken\": \"S3CR3T-tok\"\n}\n", "jq -er"),
    ("array", "[\"S3CR3T-tok\"]\n", "jq -er"),
    ("page", "<html><body>S3CR3T-tok\n", "HTML"),
    ("doctype", "<!DOCTYPE html>\nS3CR3T-tok\n", "HTML"),
    ("ok", "OK\n", "`ok`"),
];

#[tokio::test]
async fn output_that_is_obviously_not_a_token_does_not_reach_the_file() {
    let names: Vec<&str> = USELESS.iter().map(|(name, ..)| *name).collect();
    let server = simulator().await;
    let keys = "command = [\"$DIR/hook\"]\nmax_attempts = 1";
    let stage = dead_tokens(&server, keys, &names);
    stage.script("hook", "cat $DIR/$TOKENKEEP_NAME.output");
    let state = |name: &str| {
        let path = stage.path(&format!("{name}.token"));
        let metadata = fs::metadata(&path).expect("a file");
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), fs::read(path).expect("read"))
    };
    let before = names.clone().into_iter().map(state).collect::<Vec<_>>();
    for (name, output, _) in USELESS {
        stage.write(&format!("{name}.output"), output);
    }
    let daemon = stage.start();
    for (name, _, remedy) in USELESS {
        let failed = daemon.event("reauth_failed", name).await;
        assert!(failed.text("error").contains(remedy), "{name}: {failed:?}");
        daemon.event("reauth_exhausted", name).await;
    }
    let ended = daemon.stop().await;
    assert_eq!(names.into_iter().map(state).collect::<Vec<_>>(), before);
    assert!(ended.lines.iter().all(|line| !line.0.to_string().contains("-tok")));
    // Each was asked about once, when it had expired: nothing of the output was sent.
    assert_eq!(server.requests().len(), USELESS.len());
}

#[tokio::test]
async fn output_that_is_probably_not_a_token_is_a_warning() {
    for (hook, named) in [
        ("echo KEY=S3CR3T-tok", "NAME=value"),
        ("echo 'S3CR3T\u{200b}-tok'", "invisible"),
        // What a command has written itself cannot be refused any more.
        ("echo null >$TOKENKEEP_FILE", "`null`"),
        ("echo '{\"SessionToken\":\"S3CR3T-tok\"}' >$TOKENKEEP_FILE", "JSON"),
    ] {
        let (_server, stage) = expired("max_attempts = 1", hook).await;
        let daemon = stage.start();
        let warning = daemon.event("config_warning", "quotes").await;
        assert!(warning.text("error").contains(named), "{warning:?}");
        daemon.event("reauth_exhausted", "quotes").await;
        let ended = daemon.stop().await;
        assert!(ended.lines.iter().all(|line| !line.0.to_string().contains("-tok")));
    }
}

#[tokio::test]
async fn file_that_is_probably_not_a_token_is_a_warning() {
    for (content, named) in [
        ("null\n", "`null`"),
        ("\"S3CR3T-tok\"\n", "quotation marks"),
        ("{\"SessionToken\":\"S3CR3T-tok\"}\n", "JSON"),
        ("<html>\n", "HTML"),
        ("KEY=S3CR3T-tok\n", "NAME=value"),
        ("S3CR3T-tok\u{feff}\n", "invisible"),
    ] {
        let server = simulator().await;
        let stage = Stage::new(&format!(
            "{}{}",
            server_table("sarus", &server, ""),
            token_table("quotes", "sarus", "")
        ));
        stage.write("quotes.token", content);
        let daemon = stage.start();
        let warning = daemon.event("config_warning", "quotes").await;
        assert!(warning.text("error").contains(named), "{content}: {warning:?}");
        assert!(warning.text("error").contains("quotes.token"), "{content}: {warning:?}");
        // It is only a warning: the value is asked about.
        daemon.event("token_rejected", "quotes").await;
        // A better value is not warned of, and a worse one again.
        let value = secret("good");
        server.add_token(&value, seconds(60));
        stage.replace("quotes.token", &value);
        daemon.event("token_recovered", "quotes").await;
        stage.replace("quotes.token", "undefined");
        let again = daemon.nth(2, "config_warning", "quotes").await;
        assert!(again.text("error").contains("`undefined`"), "{again:?}");
        let ended = daemon.stop().await;
        assert!(ended.lines.iter().all(|line| !line.0.to_string().contains("-tok")));
    }
}

#[tokio::test]
async fn command_without_output_is_a_named_error() {
    let (_server, stage) = expired("max_attempts = 1", "exit 0").await;
    let daemon = stage.start();
    let failed = daemon.event("reauth_failed", "quotes").await;
    let error = failed.text("error");
    assert!(error.contains("printed nothing, and"), "{error}");
    assert!(error.contains("quotes.token still holds the old value"), "{error}");
    assert_eq!(failed.number("exit_status"), 0);
    daemon.event("reauth_exhausted", "quotes").await;
    daemon.stop().await;
}

#[tokio::test]
async fn command_that_reads_the_terminal_fails_at_once() {
    let server = simulator().await;
    // Far longer than the test waits.
    let stage = Stage::new(&configuration(&server, "timeout = \"10m\"\nmax_attempts = 1"));
    stage.token("quotes");
    stage.script("hook", "read -r answer </dev/tty; echo $answer");
    let run = stage.command("run");
    // A session whose terminal is the test's.
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(run.as_std().get_program()).args(run.as_std().get_args());
    let terminal = Terminal::start(command);
    terminal.until(|text| text.contains("it must run without a prompt")).await;
}

/// Serves the socket of the example in docs/hooks.md as `tokenkeep-hook.socket` does: one login at
/// a time, and other connections are closed at once. Counts logins and closed connections.
fn one_login_at_a_time(stage: &Stage, server: Arc<Simulator>) -> Arc<[AtomicUsize; 2]> {
    let listener = UnixListener::bind(stage.path("hook.sock")).expect("a socket");
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let (counted, free) = (Arc::clone(&counts), Arc::new(Semaphore::new(1)));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
                counted[1].fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let (counted, server) = (Arc::clone(&counted), Arc::clone(&server));
            tokio::spawn(async move {
                let number = counted[0].fetch_add(1, Ordering::Relaxed);
                // Longer than `socat` waits by default.
                tokio::time::sleep(millis(1500)).await;
                let value = format!("{MARK}/login-{number}");
                server.add_token(&value, seconds(600));
                // The client may have gone.
                let _ = stream.write_all(format!("{value}\n").as_bytes()).await;
                drop((stream, permit));
            });
        }
    });
    counts
}

#[tokio::test]
async fn tokens_that_share_a_login_use_up_no_attempt_of_each_other() {
    if std::process::Command::new("socat").arg("-V").output().is_err() {
        return eprintln!("skipped: there is no socat");
    }
    let names = ["orders", "quotes", "trades"];
    let page = include_str!("../../docs/hooks.md");
    let script = page.split("```sh\n").find(|block| block.contains("socat -u")).expect("a script");
    let script = script.split("```").next().expect("its end");
    let server = Arc::new(simulator().await);
    let keys = "command = [\"$DIR/outside-login\"]\ndelay = \"100ms\"\ndelay_max = \"1s\"\n\
                max_attempts = 1\nmax_failures_all = 1";
    let stage = dead_tokens(&server, keys, &names);
    let socket = stage.path("hook.sock");
    let script = script.replace("/run/tokenkeep-hook.sock", socket.to_str().expect("UTF-8"));
    stage.script("outside-login", &script);
    let counts = one_login_at_a_time(&stage, Arc::clone(&server));
    let daemon = stage.start();
    all_recover(&daemon, &names).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("reauth_exhausted", ""), 0);
    let [logins, closed] = &*counts;
    assert_eq!(logins.load(Ordering::Relaxed), 3, "one for each token");
    assert!(closed.load(Ordering::Relaxed) >= 1, "no two met");
    assert!(ended.all("reauth_failed", "").iter().all(|line| line.number("exit_status") == 75));
    for name in names {
        let value = stage.read(&format!("{name}.token"));
        until("its value is checked", || !about(&server, value.trim()).is_empty()).await;
    }
}
