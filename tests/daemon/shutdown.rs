//! SIGTERM and SIGINT: what is under way ends in time, nothing is lost, nothing is left.

use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::clock;
use tokenkeep::daemon::GRACE;
use tokenkeep::simulator::{Endpoint, Simulator};

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{
    Ended, Line, Stage, calls, millis, mortal_simulator, of_process, running, seconds, secret,
    served, simulator, simulator_with, token_table, until,
};

/// What an end may take beyond what is waited for, on a busy machine.
const SLACK: Duration = seconds(5);

fn configuration(server: &Simulator, renewal: &str) -> String {
    format!(
        r#"
[server.sarus]
url = "{}"
renewal = "{renewal}"
[reauth.relogin]
command = ["$DIR/hook"]
{}{}"#,
        server.url(),
        token_table("quotes", "sarus", "reauth = \"relogin\""),
        token_table("silent", "sarus", ""),
    )
}

/// A token that needs the hook, and one about which no answer ever comes.
async fn staged(hook: &str) -> (Simulator, Stage) {
    let server = mortal_simulator().await;
    let stage = Stage::new(&configuration(&server, "auto"));
    let value = stage.token("quotes");
    server.add_token(&value, seconds(60));
    server.expire(&value);
    server.add_token(&secret("new"), seconds(60));
    server.plan_fault(Plan::always(Trouble::Silence).for_token(&stage.token("silent")));
    stage.script("hook", hook);
    (server, stage)
}

fn ends_well(ended: &Ended) {
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let events: Vec<_> = ended.lines.iter().map(Line::event).collect();
    assert_eq!(events.last(), Some(&"daemon_stopped"), "{events:?}");
    assert!(events.contains(&"daemon_stopping"), "{events:?}");
}

#[tokio::test]
async fn hung_request_does_not_delay_shutdown() {
    for signal in [Signal::TERM, Signal::INT] {
        let (server, stage) = staged("exit 1").await;
        let daemon = stage.start();
        daemon.event("reauth_failed", "quotes").await;
        served(&server, |requests| requests.iter().any(|request| request.status.is_none())).await;
        let asked_to_stop = clock::now();
        daemon.signal(signal);
        let ended = daemon.ended().await;
        ends_well(&ended);
        let took = clock::now().since(asked_to_stop);
        assert!(took < GRACE / 2, "{took:?} after {signal:?}");
    }
}

#[tokio::test]
async fn a_hung_command_is_killed_at_the_end_of_the_grace_period() {
    let (_server, stage) = staged("echo $$ > $DIR/group; sleep 1000 & sleep 1000").await;
    let daemon = stage.start();
    until("the command runs", || stage.lines_in("group") == 1).await;
    let group = stage.read("group").trim().parse().expect("a number");
    let asked_to_stop = clock::now();
    daemon.signal(Signal::TERM);
    let ended = daemon.ended().await;
    ends_well(&ended);
    let took = clock::now().since(asked_to_stop);
    assert!(took < GRACE + SLACK, "{took:?}");
    until("the group is gone", || running(group).is_empty()).await;
}

#[tokio::test]
async fn second_signal_ends_the_grace_period() {
    let (_server, stage) = staged("echo $$ > $DIR/group; sleep 1000").await;
    let daemon = stage.start();
    until("the command runs", || stage.lines_in("group") == 1).await;
    let group = stage.read("group").trim().parse().expect("a number");
    let asked_to_stop = clock::now();
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    daemon.signal(Signal::INT);
    let ended = daemon.ended().await;
    ends_well(&ended);
    let took = clock::now().since(asked_to_stop);
    assert!(took < GRACE / 2, "{took:?}");
    until("the group is gone", || running(group).is_empty()).await;
}

#[tokio::test]
async fn command_output_during_the_grace_period_is_stored() {
    let hook = format!(
        "echo > $DIR/begun\nwhile [ ! -e $DIR/go ]; do sleep 0.05; done\necho '{}'",
        secret("new")
    );
    let (_server, stage) = staged(&hook).await;
    let daemon = stage.start();
    until("the command runs", || stage.lines_in("begun") == 1).await;
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    stage.write("go", "");
    ends_well(&daemon.ended().await);
    assert_eq!(stage.read("quotes.token").trim(), secret("new"));
}

#[tokio::test]
async fn shutdown_waits_for_a_renewal_and_stores_its_value() {
    let server = simulator_with(tokenkeep::simulator::Behaviour {
        rotates: true,
        latency: millis(600),
        ..tokenkeep::simulator::Behaviour::default()
    })
    .await;
    let stage = Stage::new(&configuration(&server, "renew"));
    server.add_token(&stage.token("quotes"), seconds(60));
    stage.token("silent");
    let daemon = stage.start();
    served(&server, |requests| !requests.is_empty()).await;
    daemon.signal(Signal::TERM);
    ends_well(&daemon.ended().await);
    assert!(calls(&server, Endpoint::Renew) >= 1);
    let kept = stage.read("quotes.token");
    assert!(server.remaining(kept.trim()).is_some(), "the file holds the value that counts");
}

#[tokio::test]
async fn reload_in_progress_does_not_delay_shutdown() {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, "auto"));
    for name in ["quotes", "silent"] {
        server.add_token(&stage.token(name), seconds(60));
    }
    let daemon = stage.start();
    daemon.nth(2, "token_checked", "").await;
    daemon.signal(Signal::HUP);
    daemon.signal(Signal::TERM);
    ends_well(&daemon.ended().await);
}

#[tokio::test]
async fn daemon_continues_after_sigstop_and_sigcont() {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, "auto"));
    for name in ["quotes", "silent"] {
        server.add_token(&stage.token(name), seconds(4));
    }
    let daemon = stage.start();
    daemon.nth(2, "token_checked", "").await;
    daemon.signal(Signal::STOP);
    until("it is stopped", || of_process(daemon.pid(), "stat").contains(") T ")).await;
    tokio::time::sleep(seconds(1)).await;
    daemon.signal(Signal::CONT);
    daemon.more(2, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert!(ended.story("quotes").is_empty(), "{:?}", ended.story("quotes"));
}

#[tokio::test]
async fn pipe_as_configuration_is_rejected_without_blocking() {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, "auto"));
    for name in ["quotes", "silent"] {
        server.add_token(&stage.token(name), seconds(60));
    }
    let daemon = stage.start();
    daemon.nth(2, "token_checked", "").await;
    stage.pipe("tokenkeep.toml");
    daemon.signal(Signal::HUP);
    let refused = daemon.event("config_rejected", "").await;
    assert!(refused.text("error").contains("it is a pipe"), "{refused:?}");
    let asked_to_stop = clock::now();
    daemon.signal(Signal::TERM);
    ends_well(&daemon.ended().await);
    let took = clock::now().since(asked_to_stop);
    assert!(took < GRACE / 2, "{took:?}");
}

#[tokio::test]
async fn reload_during_startup_does_not_stop_the_daemon() {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, "auto"));
    let names = (0..1_000).map(|n| format!("t{n}"));
    let many: String = names.clone().map(|name| token_table(&name, "sarus", "")).collect();
    stage.write("conf.d/many.toml", &many);
    for name in names {
        stage.token(&name);
    }
    let daemon = stage.start();
    until("its state directory is in use", || stage.path("state/lock").exists()).await;
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.stop().await;
}

#[tokio::test]
async fn value_that_could_not_be_stored_is_stored_at_shutdown() {
    let server = simulator().await;
    let text =
        configuration(&server, "auto").replace("$DIR/quotes.token", "$DIR/disk/quotes.token");
    let stage = Stage::new(&format!("[schedule]\nretry_initial = \"4m\"\n{text}"));
    server.add_token(&secret("new"), seconds(60));
    server.add_token(&stage.token("silent"), seconds(60));
    stage.script("hook", &format!("echo '{}'", secret("new")));
    let daemon = stage.start();
    daemon.event("store_failed", "quotes").await;
    daemon.event("token_checked", "quotes").await;
    std::fs::create_dir(stage.path("disk")).expect("made");
    ends_well(&daemon.stop().await);
    assert_eq!(stage.read("disk/quotes.token").trim(), secret("new"));
}

#[tokio::test]
async fn early_replacement_during_the_grace_period_is_verified_and_stored() {
    let server = mortal_simulator().await;
    let text = configuration(&server, "query")
        .replace("reauth = \"relogin\"\n", "reauth = \"relogin\"\nreauth_before = \"30s\"\n");
    let stage = Stage::new(&text);
    // Past the first checks there is time enough left to see that the old value goes on.
    server.add_token(&stage.token("quotes"), seconds(12));
    server.add_token(&stage.token("silent"), seconds(60));
    server.add_token(&secret("new"), seconds(60));
    stage.script(
        "hook",
        &format!(
            "echo $TOKENKEEP_REASON > $DIR/begun\nwhile [ ! -e $DIR/go ]; do sleep 0.05; done\necho '{}'",
            secret("new")
        ),
    );
    let daemon = stage.start();
    until("the command runs", || stage.lines_in("begun") == 1).await;
    assert_eq!(stage.read("begun"), "expiring\n");
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    stage.write("go", "");
    ends_well(&daemon.ended().await);
    assert_eq!(stage.read("quotes.token").trim(), secret("new"));
}
