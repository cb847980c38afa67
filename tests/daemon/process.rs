//! The daemon as a process: its limits, its signals, its memory and its children.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use tokio::process::Command;

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{
    Daemon, Stage, mortal_simulator, of_process, seconds, secret, server_table, simulator,
    token_table, until,
};

/// The daemon of this stage, started by a shell that does something before.
fn started_by_shell(stage: &Stage, before: &str, variables: &[(&str, &str)]) -> Daemon {
    let run = stage.command("run");
    let run = run.as_std();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{before} \"$0\" \"$@\"")])
        .arg(run.get_program())
        .args(run.get_args())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Daemon::start(command)
}

/// A value in the first column of a process's status.
fn status_of(daemon: &Daemon, key: &str) -> String {
    let status = of_process(daemon.pid(), "status");
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.expect("a line").trim().to_owned()
}

/// The soft limit of descriptors.
fn descriptor_limit(daemon: &Daemon) -> String {
    let limits = of_process(daemon.pid(), "limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    line.split_ascii_whitespace().nth(3).expect("a limit").to_owned()
}

#[tokio::test]
async fn soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let server = simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(600));
    for hard in ["300", "1111"] {
        let daemon =
            started_by_shell(&stage, &format!("ulimit -Sn 100; ulimit -Hn {hard}; exec"), &[]);
        daemon.event("token_checked", "quotes").await;
        assert_eq!(descriptor_limit(&daemon), hard);
        let ended = daemon.stop().await;
        assert_eq!(ended.count("config_warning", ""), 0, "{:?}", ended.lines);
    }
}

#[tokio::test]
async fn lack_of_descriptors_is_the_daemons_error_and_the_watchdog_is_still_pinged() {
    let server = simulator().await;
    let tokens = 60;
    let mut text = server_table("sarus", &server, "");
    for n in 0..tokens {
        text += &token_table(&format!("t{n:02}"), "sarus", "");
    }
    let stage = Stage::new(&text);
    for n in 0..tokens {
        server.add_token(&stage.token(&format!("t{n:02}")), seconds(600));
    }
    server.plan_fault(Plan::always(Trouble::Silence));
    let path = stage.path("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    let variables = [("NOTIFY_SOCKET", path.to_str().expect("UTF-8")), ("WATCHDOG_USEC", "200000")];
    let daemon = started_by_shell(&stage, "ulimit -n 40; exec", &variables);
    let warning = daemon.event("config_warning", "").await;
    assert!(warning.text("error").contains("LimitNOFILE="), "{}", warning.text("error"));
    daemon
        .until("descriptors are exhausted", |lines| {
            lines.iter().any(|line| {
                line.event() == "check_failed" && line.text("error").contains("LimitNOFILE=")
            })
        })
        .await;
    // Silent requests hold their descriptors; pings come all the same.
    let mut message = [0; 512];
    while socket.recv(&mut message).is_ok() {}
    let mut pings = 0;
    until("pings come", || {
        while let Ok(length) = socket.recv(&mut message) {
            pings += usize::from(message[..length].starts_with(b"WATCHDOG=1"));
        }
        pings >= 3
    })
    .await;
    let ours = |daemon: &Daemon| {
        let mut lines = daemon.lines();
        lines.retain(|line| line.event() == "server_unavailable");
        lines.iter().filter(|line| line.text("error").contains("descriptor")).count()
    };
    assert_eq!(ours(&daemon), 0);
    daemon.signal(Signal::KILL);
    daemon.ended().await;
}

/// Sets the soft limit of descriptors of a running daemon; returns the one before.
fn limit_descriptors(daemon: &Daemon, current: Option<u64>) -> Option<u64> {
    let before = prlimit(
        Pid::from_raw(daemon.pid().cast_signed()),
        Resource::Nofile,
        Rlimit { current, maximum: HARD },
    );
    before.expect("own process").current
}

/// The hard limit, which stays.
const HARD: Option<u64> = Some(1_024);

#[tokio::test]
async fn command_that_lacks_a_descriptor_is_the_daemons_error_and_costs_no_attempt() {
    let server = mortal_simulator().await;
    let stage = Stage::new(&format!(
        "{}[reauth.relogin]\ncommand = [\"$DIR/hook\"]\nmax_attempts = 1\ndelay = \"50ms\"\n\
         delay_max = \"200ms\"\n[token.quotes]\nserver = \"sarus\"\nenv = \"QUOTES\"\n\
         reauth = \"relogin\"\n",
        server_table("sarus", &server, "")
    ));
    stage.script("hook", &format!("echo >> $DIR/runs; echo '{}'", secret("new")));
    server.add_token(&secret("quotes"), seconds(4));
    server.add_token(&secret("new"), seconds(600));
    let daemon = started_by_shell(&stage, "ulimit -n 1024; exec", &[("QUOTES", &secret("quotes"))]);
    daemon.event("token_checked", "quotes").await;
    // The open connection is used for the next check. Nothing can be opened any more.
    let before = limit_descriptors(&daemon, Some(4));
    server.expire(&secret("quotes"));
    let failed = daemon.event("reauth_failed", "quotes").await;
    assert!(failed.text("error").contains("LimitNOFILE="), "{failed:?}");
    assert!(failed.text("error").contains("no free file descriptor"), "{failed:?}");
    assert_eq!(stage.lines_in("runs"), 0);
    limit_descriptors(&daemon, before);
    let succeeded = daemon.event("reauth_succeeded", "quotes").await;
    assert_eq!(succeeded.number("attempt"), 1, "{succeeded:?}");
    let ended = daemon.stop().await;
    assert_eq!(ended.count("reauth_exhausted", ""), 0);
    assert_eq!(stage.lines_in("runs"), 1);
}

#[tokio::test]
async fn unused_signals_do_not_stop_the_daemon() {
    let server = simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    for signal in [Signal::USR1, Signal::USR2, Signal::QUIT, Signal::ALARM, Signal::XFSZ] {
        daemon.signal(signal);
    }
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.stop().await;
}

#[tokio::test]
async fn hangup_during_the_start_reloads_and_does_not_end_the_daemon() {
    let server = simulator().await;
    let text = server_table("sarus", &server, "") + &token_table("quotes", "sarus", "");
    let stage = Stage::new(&text);
    server.add_token(&stage.token("quotes"), seconds(600));
    // It takes the daemon a while to read this.
    let comment = format!("# {}\n", "-".repeat(98));
    stage.configure(&(text + &comment.repeat(150_000)));
    let daemon = stage.start();
    until("it reads the configuration", || {
        let stat = of_process(daemon.pid(), "stat");
        let (name, rest) = stat.rsplit_once(") ").expect("a name");
        let time: u64 = rest.split(' ').nth(11).and_then(|ticks| ticks.parse().ok()).expect("time");
        name.ends_with("(tokenkeep") && time >= 3
    })
    .await;
    assert!(daemon.lines().is_empty(), "it is still starting");
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    daemon.stop().await;
}

#[tokio::test]
async fn log_file_at_its_size_limit_does_not_end_the_daemon() {
    let server = simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(2));
    let log = stage.path("log");
    fs::write(&log, "x".repeat(100 * 512)).expect("room");
    let redirect = format!("ulimit -f 100; exec >> {}; exec", log.display());
    // The database has a limit of 50 kB then, and needs none of it for a token in a file.
    let daemon = started_by_shell(&stage, &redirect, &[]);
    until("checks go on", || server.requests().len() > 4).await;
    daemon.signal(Signal::TERM);
    let ended = daemon.ended().await;
    assert!(ended.status.success(), "{:?} {}", ended.status, ended.stderr);
    assert_eq!(fs::metadata(&log).expect("a file").len(), 100 * 512);
}

#[tokio::test]
async fn memory_of_the_daemon_is_not_dumpable() {
    let server = simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(600));
    // For an ordinary user the kernel gives the files of such a process to root.
    fs::set_permissions(stage.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("our folder");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = stage.path("");
    let before = format!("chown -R 54321 {};", folder.display());
    let before = format!("{before} exec setpriv --reuid=54321 --clear-groups --");
    let daemon = started_by_shell(&stage, &before, &[]);
    daemon.event("token_checked", "quotes").await;
    assert!(status_of(&daemon, "Uid").starts_with("54321"));
    let owner = fs::metadata(format!("/proc/{}/environ", daemon.pid())).expect("a process");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn failure_to_create_a_thread_exits_70_with_a_message() {
    let server = simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(600));
    // No machine has room for such a stack.
    let ended = stage.start_with(&[("RUST_MIN_STACK", "1152921504606846976")]).ended().await;
    assert_eq!(ended.status.code(), Some(70), "{}", ended.stderr);
    assert!(ended.stderr.contains("TasksMax="), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// The processes with this parent that have ended and were not reaped.
fn zombies(parent: u32) -> usize {
    let processes = fs::read_dir("/proc").expect("/proc");
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let wanted = format!("Z {parent} ");
    numbers
        .filter(|number: &u32| {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(&wanted))
        })
        .count()
}

#[tokio::test]
async fn daemon_as_pid_1_reaps_orphans_of_its_commands() {
    let probe = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).status();
    if !probe.await.is_ok_and(|status| status.success()) {
        return;
    }
    let server = simulator().await;
    let reauth = "[reauth.relogin]\ncommand = [\"$DIR/hook\"]\n";
    let token = token_table("quotes", "sarus", "reauth = \"relogin\"");
    let stage = Stage::new(&(server_table("sarus", &server, reauth) + &token));
    let value = stage.token("quotes");
    server.add_token(&value, seconds(600));
    server.expire(&value);
    server.add_token(&secret("new"), seconds(600));
    let helpers = "for n in 1 2 3 4 5; do setsid sleep 0.2 & done >/dev/null 2>&1;";
    stage.script("hook", &format!("{helpers} echo '{}'", secret("new")));
    let daemon =
        started_by_shell(&stage, "exec unshare --pid --fork --mount-proc --kill-child --", &[]);
    daemon.event("reauth_succeeded", "quotes").await;
    let parent = daemon.pid();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let init: u32 = children.expect("a process").trim().parse().expect("one child");
    let left = || {
        let all = fs::read_dir("/proc").expect("/proc");
        let mut numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.any(|number: u32| {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            stat.contains(&format!("(sleep) S {init} "))
        })
    };
    until("the helpers have ended", || !left()).await;
    until("they are reaped", || zombies(init) == 0).await;
    daemon.signal(Signal::KILL);
    daemon.ended().await;
}
