//! No token value and no key shows anywhere, whatever happens and however much is logged.
//!
//! Every other test searches the log, too; here a daemon goes through all of it at once, with
//! all that its dependencies can say.

use std::fs;

use rustix::process::Signal;
use tokenkeep::simulator::{Behaviour, RenewsBy, Simulator};

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{
    Daemon, ISSUED, Line, MARK, Stage, mode, of_process, seconds, secret, server_table,
    simulator_with, token_table,
};

/// Everything that tracing can be made to show.
const LOUD: &str = "trace,tokenkeep=trace,reqwest=trace,hyper=trace,hyper_util=trace,h2=trace,\
                    rustls=trace,tokio=trace,mio=trace";

/// Scripts, each of which is the re-auth of a token of its name.
const HOOKS: [&str; 5] = ["prints", "fails", "hangs", "repeats", "babbles"];

/// What each of them does first.
const DUMP: &str = "tr '\\0' '\\n' < /proc/$$/environ >> $DIR/seen\n\
                    tr '\\0' '\\n' < /proc/$$/cmdline >> $DIR/seen\n";

fn configuration(server: &Simulator) -> String {
    let mut tables = vec![
        format!("[log]\nlevel = \"{LOUD}\"\n"),
        server_table("sarus", server, ""),
        "[reauth.key]\napi_key_file = \"$DIR/api.key\"\n".to_owned(),
        token_table("key", "sarus", "reauth = \"key\""),
        "[token.given]\nserver = \"sarus\"\nenv = \"GIVEN_TOKEN\"\nreauth = \"key\"\n".to_owned(),
        token_table("rejected", "sarus", ""),
        token_table("plain", "sarus", ""),
    ];
    for hook in HOOKS {
        tables.push(format!(
            "[reauth.{hook}]\ncommand = [\"$DIR/{hook}\"]\ntimeout = \"300ms\"\ndelay = \"10ms\"\nmax_attempts = 2\n"
        ));
        tables.push(token_table(hook, "sarus", &format!("reauth = \"{hook}\"")));
    }
    tables.concat()
}

fn process_shows_no_secret(daemon: &Daemon) {
    let given = format!("GIVEN_TOKEN={}", secret("given"));
    for name in ["cmdline", "environ", "comm", "status"] {
        let shown = of_process(daemon.pid(), name).replace(&given, "");
        assert!(!shown.is_empty(), "{name}");
        assert!(!shown.contains(MARK) && !shown.contains(ISSUED), "{name}: {shown}");
    }
}

#[tokio::test]
async fn no_event_shows_a_token_value() {
    let server = simulator_with(Behaviour {
        renews_by: RenewsBy::Renew,
        rotates: true,
        api_key: Some(secret("key-itself").into()),
        login_life: Some(seconds(60)),
        ..Behaviour::default()
    })
    .await;
    let stage = Stage::new(&configuration(&server));
    stage.write("api.key", &secret("key-itself"));
    stage.script("prints", &format!("{DUMP}echo '{}'", secret("printed")));
    stage.script("fails", &format!("{DUMP}echo '{MARK}'; echo '{MARK}' >&2; exit 3"));
    stage.script("hangs", &format!("{DUMP}echo '{MARK}'; sleep 1000"));
    stage.script("repeats", &format!("{DUMP}echo '{}'", secret("repeats")));
    stage.script("babbles", &format!("{DUMP}echo '{MARK} is what I found'"));
    server.add_token(&secret("printed"), seconds(60));
    for name in HOOKS.into_iter().chain(["key"]) {
        server.add_token(&stage.token(name), seconds(60));
        server.expire(&secret(name));
    }
    stage.token("rejected");
    server.add_token(&stage.token("plain"), seconds(4));
    let echo = |status| Trouble::Error {
        status,
        detail: format!("{} is not welcome at /?SessionToken=x", secret("plain")),
    };
    server.plan_fault(Plan::once(echo(500)).for_token(&secret("plain")));

    let daemon = stage.start_with(&[("GIVEN_TOKEN", &secret("given"))]);
    daemon.event("daemon_started", "").await;
    process_shows_no_secret(&daemon);
    for name in ["fails", "hangs", "repeats", "babbles"] {
        daemon.event("reauth_exhausted", name).await;
    }
    for name in ["prints", "key", "given"] {
        daemon.event("reauth_succeeded", name).await;
    }
    daemon.event("token_rejected", "rejected").await;
    daemon.nth(4, "token_checked", "plain").await;
    process_shows_no_secret(&daemon);

    let text = configuration(&server);
    stage.configure(&format!("{text}\n[token.odd]\nvalue = \"{}\"\n", secret("in-the-toml")));
    daemon.signal(Signal::HUP);
    daemon.event("config_rejected", "").await;
    stage.configure(&text);
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    let ended = daemon.stop().await;

    let deep = |line: &&Line| line.0["level"] == "TRACE" || line.0["level"] == "trace";
    assert!(ended.lines.iter().any(|line| deep(&line)), "the dependencies did speak");
    let seen = stage.read("seen");
    assert!(seen.contains("TOKENKEEP_NAME=fails") && seen.contains("TOKENKEEP_NAME=prints"));
    assert!(!seen.contains(MARK) && !seen.contains(ISSUED), "{seen}");
    assert!(kept_for_the_user_alone(&stage));
}

/// What is kept of secrets under the state directory is for the service's user alone.
fn kept_for_the_user_alone(stage: &Stage) -> bool {
    let values = fs::read_dir(stage.path("state")).expect("a folder");
    let modes: Vec<_> = values.map(|entry| mode(&entry.expect("an entry").path())).collect();
    !modes.is_empty() && modes.iter().all(|mode| *mode == 0o600)
}
