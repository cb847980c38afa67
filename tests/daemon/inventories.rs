//! Inventories: tokens by the thousand, from a file, a folder or a command.

use std::collections::HashSet;
use std::fs;

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Daemon, Line, MARK, Stage, about, running, seconds, secret, served, simulator, until,
};

/// Enough tokens for several parts of a reading.
const CROWD: usize = 2_000;

/// A server that knows tokens of these names for so long.
async fn server_of<'a>(names: impl IntoIterator<Item = &'a str>, life: u64) -> Simulator {
    let server = simulator().await;
    for name in names {
        server.add_token(&secret(name), seconds(life));
    }
    server
}

/// A stage with this inventory, and these lines in `tokens.jsonl`.
fn stage(server: &Simulator, inventory: &str, lines: &str) -> Stage {
    let stage = Stage::new(&tables(server, inventory));
    stage.write("tokens.jsonl", lines);
    stage
}

fn tables(server: &Simulator, inventory: &str) -> String {
    format!(
        "[server.sarus]\nurl = \"{}\"\nrate_limit = 5000\n[inventory.crowd]\nserver = \"sarus\"\n{inventory}\n",
        server.url()
    )
}

const FILE: &str = "file = \"$DIR/tokens.jsonl\"";

fn line(name: &str, value: &str) -> String {
    format!("{{\"name\": \"{name}\", \"token\": \"{value}\"}}\n")
}

/// Lines for tokens whose values are the secrets of their names.
fn lines<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| line(name, &secret(name))).collect()
}

/// Waits until an inventory has been read for the `n`th time.
async fn loaded(daemon: &Daemon, n: usize) -> Line {
    daemon.nth(n, "inventory_loaded", "").await
}

fn tally(line: &Line) -> [u64; 4] {
    ["tokens", "tokens_added", "tokens_removed", "tokens_changed"].map(|key| line.number(key))
}

/// The faults that were told of inventories, as `PATH ERROR`, with the stage's folder left out.
fn faults(daemon: &Daemon, stage: &Stage) -> Vec<String> {
    let folder = stage.path("");
    let told = daemon.all("config_warning", "").into_iter().filter(|line| line.has("inventory"));
    told.map(|line| {
        assert_eq!(line.text("level"), "error");
        let text = format!("{} {}", line.text("path"), line.text("error"));
        text.replace(folder.to_str().expect("UTF-8"), "")
    })
    .collect()
}

/// How often each value was asked about.
fn asked(server: &Simulator) -> Vec<String> {
    let requests = server.requests();
    requests.iter().filter_map(|one| Some(one.value.as_ref()?.expose().to_owned())).collect()
}

#[tokio::test]
async fn two_thousand_tokens_of_an_inventory_file_stay_alive() {
    let names: Vec<String> = (0..CROWD).map(|n| format!("t{n}")).collect();
    let names = || names.iter().map(String::as_str);
    let life = 12;
    let server = server_of(names(), life).await;
    let stage = stage(&server, FILE, &lines(names()));
    let daemon = stage.start();
    assert_eq!(daemon.event("daemon_ready", "").await.number("tokens"), CROWD as u64);
    assert_eq!(tally(&loaded(&daemon, 1).await), [CROWD as u64, CROWD as u64, 0, 0]);
    let ready = tokenkeep::clock::now();
    until("each was asked about again and again", || {
        server.requests().len() >= 3 * CROWD && tokenkeep::clock::now().since(ready) > seconds(life)
    })
    .await;
    for name in names() {
        let left = server.remaining(&secret(name));
        assert!(left.is_some_and(|left| !left.is_zero()), "{name} has died");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn only_changed_tokens_of_a_replaced_inventory_file_are_checked() {
    let server = server_of(["kept", "gone", "other", "new-1", "new-2"], 600).await;
    let stage = stage(&server, FILE, &lines(["kept", "other", "gone"]));
    let daemon = stage.start();
    daemon.nth(3, "token_checked", "").await;
    let new = lines(["kept", "new-1"]) + &line("other", &secret("new-2"));
    stage.replace("tokens.jsonl", &new);
    assert_eq!(tally(&loaded(&daemon, 2).await), [3, 1, 1, 1]);
    served(&server, |requests| requests.len() >= 5).await;
    daemon.event("token_checked", "new-1").await;
    let ended = daemon.stop().await;
    assert!(ended.story("other").is_empty(), "{:?}", ended.story("other"));
    assert_eq!(asked(&server).len(), 5);
    let values: HashSet<String> = asked(&server).split_off(3).into_iter().collect();
    assert_eq!(values, HashSet::from([secret("new-1"), secret("new-2")]));
}

#[tokio::test]
async fn token_that_disappears_from_its_inventory_is_not_checked() {
    let server = server_of(["kept", "gone"], 2).await;
    let stage = stage(&server, FILE, &lines(["kept", "gone"]));
    let daemon = stage.start();
    daemon.nth(2, "token_checked", "").await;
    stage.replace("tokens.jsonl", &lines(["kept"]));
    assert_eq!(tally(&loaded(&daemon, 2).await), [1, 0, 1, 0]);
    let before = about(&server, &secret("gone")).len();
    daemon.more(3, "token_checked", "kept").await;
    assert_eq!(about(&server, &secret("gone")).len(), before);
    daemon.stop().await;
}

#[tokio::test]
async fn invalid_and_duplicate_lines_are_logged_by_number_and_the_rest_is_used() {
    let server = server_of(["a", "b"], 600).await;
    let text = [
        lines(["a"]),
        format!("{}\n", secret("plain")),
        "{\"name\": \"x\", \"token\": \"".to_owned() + &secret("cut") + "\n",
        line("a", &secret("again")),
        format!("{{\"name\": \"y\", \"token\": \"z\", \"{}\": 1}}\n", secret("key")),
        lines(["b"]),
    ]
    .concat();
    let stage = stage(&server, FILE, &text);
    let daemon = stage.start();
    daemon.event("token_checked", "b").await;
    let faults = faults(&daemon, &stage);
    let starts = [
        "tokens.jsonl:2 it is not a JSON object",
        "tokens.jsonl:3 it is not JSON, from column",
        "tokens.jsonl:4 its name is already used on line 1",
        "tokens.jsonl:5 it has an unknown key (not shown",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault}");
    }
    assert_eq!(daemon.stop().await.count("inventory_loaded", ""), 1);
}

#[tokio::test]
async fn strict_inventory_with_an_invalid_line_is_rejected_until_it_is_corrected() {
    let server = server_of(["a", "b"], 600).await;
    let stage = stage(&server, &format!("{FILE}\nstrict = true"), &lines(["a"]));
    let daemon = stage.start();
    daemon.event("token_checked", "a").await;
    stage.replace("tokens.jsonl", &(lines(["b"]) + "nonsense\n"));
    daemon.until("both faults", |_| faults(&daemon, &stage).len() >= 2).await;
    assert!(about(&server, &secret("b")).is_empty());
    stage.replace("tokens.jsonl", &lines(["a", "b"]));
    daemon.event("token_checked", "b").await;
    let told = faults(&daemon, &stage);
    assert!(told[0].starts_with("tokens.jsonl:2 it is not a JSON"), "{told:?}");
    assert!(told[1].contains("the whole inventory is refused"), "{told:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn missing_or_empty_inventory_removes_no_token() {
    let server = server_of(["a"], 2).await;
    let stage = stage(&server, FILE, &lines(["a"]));
    let daemon = stage.start();
    daemon.event("token_checked", "a").await;
    fs::remove_file(stage.path("tokens.jsonl")).expect("removed");
    daemon.until("it is missed", |_| faults(&daemon, &stage).len() == 1).await;
    stage.write("tokens.jsonl", "");
    daemon.until("it is empty", |_| faults(&daemon, &stage).len() == 2).await;
    daemon.more(2, "token_checked", "a").await;
    server.add_token(&secret("b"), seconds(600));
    stage.replace("tokens.jsonl", &lines(["a", "b"]));
    daemon.event("token_checked", "b").await;
    let faults = faults(&daemon, &stage);
    assert!(faults[0].contains("there is no such file"), "{faults:?}");
    assert!(faults[1].contains("it contains no token"), "{faults:?}");
    assert!(daemon.stop().await.story("a").is_empty());
}

#[tokio::test]
async fn inventory_with_an_invalid_line_removes_no_token() {
    let server = server_of(["a", "b", "c"], 600).await;
    let stage = stage(&server, FILE, &lines(["a", "b", "c"]));
    let daemon = stage.start();
    daemon.nth(3, "token_checked", "").await;
    stage.replace("tokens.jsonl", &(lines(["a"]) + "{\"name\": \"b\", \"token\":\n"));
    assert_eq!(tally(&loaded(&daemon, 2).await), [3, 0, 0, 0]);
    stage.replace("tokens.jsonl", &lines(["a", "b"]));
    assert_eq!(tally(&loaded(&daemon, 3).await), [2, 0, 1, 0]);
    daemon.stop().await;
}

#[tokio::test]
async fn inventory_that_is_written_slowly_in_place_removes_no_token() {
    let server = server_of(["a", "b", "c"], 600).await;
    let stage = stage(&server, FILE, &lines(["a", "b"]));
    let daemon = stage.start();
    daemon.nth(2, "token_checked", "").await;
    // As a slow export writes it: a part, and the rest when the part has been noticed.
    stage.write("tokens.jsonl", &lines(["c"]));
    daemon.event("token_checked", "c").await;
    stage.write("tokens.jsonl", &lines(["c", "a", "b"]));
    let line = loaded(&daemon, 2).await;
    assert_eq!(tally(&line), [3, 1, 0, 0]);
    assert_eq!(asked(&server).len(), 3, "each once");
    daemon.stop().await;
}

#[tokio::test]
async fn duplicate_name_is_reported_with_both_places() {
    let server = server_of(["own", "a", "b"], 600).await;
    let stage = Stage::new(
        &(tables(&server, FILE)
            + "[inventory.later]\nserver = \"sarus\"\ndir = \"$DIR/later\"\n\
               [token.own]\nserver = \"sarus\"\nfile = \"$DIR/own.token\"\n"),
    );
    stage.token("own");
    stage.write("tokens.jsonl", &(lines(["a"]) + &line("own", &secret("not-mine"))));
    stage.write("later/a", &secret("not-mine-either"));
    stage.write("later/b", &secret("b"));
    let daemon = stage.start();
    daemon.nth(3, "token_checked", "").await;
    let told = faults(&daemon, &stage);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("tokens.jsonl:2 in [inventory.crowd], and in [token.own]"),
        "{told:?}"
    );
    assert!(
        told[1].contains("later/a in [inventory.later], and in [inventory.crowd] (tokens.jsonl:1)"),
        "{told:?}"
    );
    daemon.stop().await;
    let asked: HashSet<String> = asked(&server).into_iter().collect();
    assert_eq!(asked, HashSet::from(["own", "a", "b"].map(secret)));
}

#[tokio::test]
async fn files_of_an_inventory_directory_are_added_removed_and_changed() {
    let server = server_of(["a", "b", "c", "new"], 600).await;
    let stage = stage(&server, "dir = \"$DIR/tokens\"", "");
    for name in ["a", "b"] {
        stage.write(&format!("tokens/{name}"), &secret(name));
    }
    stage.write("tokens/.hidden", &secret("hidden"));
    let daemon = stage.start();
    daemon.nth(2, "token_checked", "").await;
    assert_eq!(tally(&loaded(&daemon, 1).await), [2, 2, 0, 0]);

    stage.replace("tokens/c", &secret("c"));
    daemon.event("token_checked", "c").await;
    assert_eq!(tally(&loaded(&daemon, 2).await), [3, 1, 0, 0]);

    stage.replace("tokens/a", &secret("new"));
    assert_eq!(tally(&loaded(&daemon, 3).await), [3, 0, 0, 1]);

    fs::remove_file(stage.path("tokens/b")).expect("removed");
    assert_eq!(tally(&loaded(&daemon, 4).await), [2, 0, 1, 0]);
    served(&server, |requests| requests.len() >= 4).await;
    daemon.stop().await;
    let mut values = asked(&server);
    values.sort();
    assert_eq!(values, ["a", "b", "c", "new"].map(secret), "each once");
}

#[tokio::test]
async fn new_value_of_a_directory_token_is_written_to_its_file() {
    let server = server_of(["new"], 600).await;
    let stage = stage(
        &server,
        "dir = \"$DIR/tokens\"\nreauth = \"relogin\"\n[reauth.relogin]\ncommand = [\"$DIR/hook\"]",
        "",
    );
    stage.write("tokens/a", &secret("dead"));
    stage
        .script("hook", &format!("echo \"$TOKENKEEP_FILE\" > $DIR/file; echo '{}'", secret("new")));
    let daemon = stage.start();
    daemon.event("reauth_succeeded", "a").await;
    assert_eq!(stage.read("tokens/a").trim(), secret("new"));
    assert_eq!(stage.read("file").trim(), stage.path("tokens/a").to_str().expect("UTF-8"));
    let ended = daemon.stop().await;
    assert_eq!(ended.count("inventory_loaded", ""), 1, "its own writing is no news");
    assert_eq!(about(&server, &secret("new")).len(), 1);
}

#[tokio::test]
async fn inventory_command_runs_at_startup_and_at_each_reload() {
    let server = server_of(["a", "b"], 600).await;
    let stage = stage(&server, "command = [\"$DIR/export\"]", &lines(["a"]));
    stage.script("export", "env > $DIR/environment; cat $DIR/tokens.jsonl");
    let daemon = stage.start();
    daemon.event("token_checked", "a").await;
    stage.replace("tokens.jsonl", &lines(["a", "b"]));
    daemon.signal(Signal::HUP);
    daemon.event("token_checked", "b").await;
    assert_eq!(tally(&loaded(&daemon, 2).await), [2, 1, 0, 0]);
    let environment = stage.read("environment");
    assert!(environment.contains("PATH="), "{environment}");
    assert!(!environment.contains("TOKENKEEP"), "{environment}");
    daemon.stop().await;
    assert_eq!(about(&server, &secret("a")).len(), 1, "it was not disturbed");
}

#[tokio::test]
async fn failed_or_hung_inventory_command_removes_no_token_and_leaves_no_process() {
    let server = server_of(["a", "own"], 600).await;
    let stage = stage(
        &server,
        "command = [\"$DIR/export\"]\ntimeout = \"300ms\"\n\
         [token.own]\nserver = \"sarus\"\nfile = \"$DIR/own.token\"",
        &lines(["a"]),
    );
    stage.token("own");
    stage.script("export", "cat $DIR/tokens.jsonl");
    let daemon = stage.start();
    daemon.event("token_checked", "a").await;

    stage.script("export", "cat $DIR/tokens.jsonl; exit 3");
    stage.replace("tokens.jsonl", &lines(["b"]));
    daemon.signal(Signal::HUP);
    daemon.until("it failed", |_| faults(&daemon, &stage).len() == 1).await;

    stage.script("export", "echo $$ > $DIR/pid; sleep 1000 & sleep 1000");
    daemon.signal(Signal::HUP);
    daemon.until("it hung", |_| faults(&daemon, &stage).len() == 2).await;
    let group = stage.read("pid").trim().parse().expect("a number");
    until("nothing of it is left", || running(group).is_empty()).await;

    let told = faults(&daemon, &stage);
    assert!(told[0].contains("exit status 3"), "{told:?}");
    assert!(told[1].contains("still running after 300ms"), "{told:?}");
    let ended = daemon.stop().await;
    assert!(about(&server, &secret("b")).is_empty());
    assert!(ended.story("a").is_empty() && ended.story("own").is_empty());
}

#[tokio::test]
async fn hung_inventory_command_delays_neither_startup_nor_shutdown() {
    let server = server_of(["own"], 600).await;
    let stage = stage(
        &server,
        "command = [\"/bin/sleep\", \"1000\"]\n\
         [token.own]\nserver = \"sarus\"\nfile = \"$DIR/own.token\"",
        "",
    );
    stage.token("own");
    let daemon = stage.start();
    daemon.event("token_checked", "own").await;
    let stopping = tokenkeep::clock::now();
    daemon.stop().await;
    assert!(tokenkeep::clock::now().since(stopping) < seconds(5));
}

#[tokio::test]
async fn reauth_value_survives_a_restart_while_the_file_has_the_old_one() {
    let server = server_of(["new", "changed"], 600).await;
    let stage = stage(
        &server,
        &format!("{FILE}\nreauth = \"relogin\"\n[reauth.relogin]\ncommand = [\"$DIR/hook\"]"),
        &line("a", &secret("dead")),
    );
    stage.script("hook", &format!("echo >> $DIR/runs; echo '{}'", secret("new")));
    let daemon = stage.start();
    daemon.event("reauth_succeeded", "a").await;
    daemon.stop().await;

    let daemon = stage.start();
    daemon.event("token_checked", "a").await;
    // The same file again is no change of the token.
    stage.replace("tokens.jsonl", &line("a", &secret("dead")));
    assert_eq!(tally(&loaded(&daemon, 2).await), [1, 0, 0, 0]);
    let ended = daemon.stop().await;
    assert!(ended.story("a").is_empty(), "{:?}", ended.story("a"));
    assert_eq!(about(&server, &secret("dead")).len(), 2, "asked twice by the first run only");

    stage.replace("tokens.jsonl", &line("a", &secret("changed")));
    let daemon = stage.start();
    daemon.event("token_checked", "a").await;
    daemon.stop().await;
    assert_eq!(about(&server, &secret("changed")).len(), 1, "a changed file wins");
    assert_eq!(stage.lines_in("runs"), 1);
}

#[tokio::test]
async fn restart_restores_the_schedule_of_an_inventory() {
    let names: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let names = || names.iter().map(String::as_str);
    // What a command brings comes when the start is over.
    for source in [FILE, "command = [\"/bin/cat\", \"$DIR/tokens.jsonl\"]"] {
        let server = server_of(names(), 600).await;
        // One after the other: when the last is asked about, all others have been answered.
        let one_by_one = tables(&server, source).replace("rate_limit = 5000", "max_in_flight = 1");
        let stage = Stage::new(&one_by_one);
        stage.write("tokens.jsonl", &lines(names()));
        let daemon = stage.start();
        until("all are asked about", || asked(&server).len() == 200).await;
        daemon.stop().await;

        let daemon = stage.start();
        daemon.event("daemon_ready", "").await;
        // Not a wait for something: what is looked at is that nothing comes.
        tokio::time::sleep(seconds(2)).await;
        daemon.stop().await;
        let again = asked(&server).len() - 200;
        assert!((1..10).contains(&again), "a spot check, and no more: {again} of 200: {source}");
    }
}

#[tokio::test]
async fn attempts_for_an_inventory_token_count_across_a_restart() {
    for source in [FILE, "command = [\"/bin/cat\", \"$DIR/tokens.jsonl\"]"] {
        let server = simulator().await;
        let inventory = format!(
            "{source}\nreauth = \"relogin\"\n[reauth.relogin]\ncommand = [\"$DIR/hook\"]\n\
             delay = \"10ms\"\nmax_attempts = 2"
        );
        let stage = stage(&server, &inventory, &line("a", &secret("dead")));
        stage.script("hook", "echo >> $DIR/runs; exit 1");
        for _ in 0..2 {
            let daemon = stage.start();
            daemon.event("reauth_exhausted", "a").await;
            daemon.stop().await;
            assert_eq!(stage.lines_in("runs"), 2, "{source}");
        }
    }
}

#[tokio::test]
async fn token_that_is_removed_and_added_again_waits_for_its_running_command() {
    let server = server_of(["new", "kept"], 600).await;
    let keys = format!("{FILE}\nreauth = \"relogin\"\n[reauth.relogin]\ncommand = [\"$DIR/hook\"]");
    let (kept, both) = (lines(["kept"]), lines(["kept", "a"]));
    let stage = stage(&server, &keys, &both);
    stage.script(
        "hook",
        &format!(
            "mkdir $DIR/busy || touch $DIR/clash; echo >> $DIR/runs\n\
             until [ -e $DIR/go ]; do sleep 0.02; done; rmdir $DIR/busy; echo '{}'",
            secret("new")
        ),
    );
    let daemon = stage.start();
    until("a command", || stage.lines_in("runs") == 1).await;
    stage.replace("tokens.jsonl", &kept);
    loaded(&daemon, 2).await;
    stage.replace("tokens.jsonl", &both);
    daemon.nth(2, "reauth_started", "a").await;
    stage.write("go", "");
    daemon.event("reauth_succeeded", "a").await;
    daemon.stop().await;
    assert!(!stage.path("clash").exists(), "two commands at a time");
    assert_eq!(stage.lines_in("runs"), 1, "the second attempt takes the value of the first");
}

#[tokio::test]
async fn reload_adds_and_removes_inventories() {
    let server = server_of(["a", "b", "own"], 600).await;
    let stage = stage(&server, FILE, &lines(["a", "b"]));
    let daemon = stage.start();
    daemon.nth(2, "token_checked", "").await;
    // One of its names becomes a token of its own, the others go.
    stage.token("a");
    stage.configure(&format!(
        "[server.sarus]\nurl = \"{}\"\n[token.a]\nserver = \"sarus\"\nfile = \"$DIR/a.token\"\n\
         [inventory.more]\nserver = \"sarus\"\ndir = \"$DIR/more\"\n",
        server.url()
    ));
    stage.write("more/own", &secret("own"));
    daemon.signal(Signal::HUP);
    let line = daemon.event("config_reloaded", "").await;
    assert_eq!(
        ["added", "removed"].map(|key| line.text(key)),
        ["a,inventory.more", "inventory.crowd"]
    );
    daemon.event("token_checked", "own").await;
    daemon.nth(2, "token_checked", "a").await;
    daemon.stop().await;
    assert_eq!(about(&server, &secret("b")).len(), 1);
}

#[tokio::test]
async fn check_config_summarises_an_inventory_and_its_errors() {
    let server = simulator().await;
    let lines = lines(["a", "own"]) + &secret("plain") + "\n";
    let stage = stage(
        &server,
        &format!(
            "{FILE}\n[inventory.printed]\nserver = \"sarus\"\ncommand = [\"$DIR/export\"]\n\
             [inventory.strict]\nserver = \"sarus\"\nfile = \"$DIR/missing.jsonl\"\n\
             [token.own]\nserver = \"sarus\"\nenv = \"OWN\""
        ),
        &lines,
    );
    stage.script("export", "touch $DIR/was-run");
    let output = stage.command("check-config").output().await.expect("it starts");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!said.contains(MARK), "{said}");
    let said = said.replace(stage.path("").to_str().expect("UTF-8"), "");
    for wanted in [
        "inventory crowd: file tokens.jsonl, 1 token now, server sarus; queries",
        "  wrong          tokens.jsonl:3: it is not a JSON object",
        "  wrong          tokens.jsonl:2: own is already in [token.own]",
        "inventory printed: output of export, number of tokens known only when it runs, server sarus",
        "  wrong          missing.jsonl: there is no such file or directory",
        "; 2 tokens, at most 5000 requests",
    ] {
        assert!(said.contains(wanted), "{wanted}:\n{said}");
    }
    assert_eq!(said.matches("life 30 min").count(), 4, "{said}");
    assert!(!stage.path("was-run").exists());
}
