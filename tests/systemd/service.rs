//! The service's life: start, reload, crash, stop.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokenkeep::clock;
use tokenkeep::simulator::Endpoint;

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::machine::{
    Machine, ORDERS, QUOTES, RELOGGED, attempt, drop_in, entries, give, number, property,
    restarted, run, systemctl, until, write,
};

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn tokens_from_credentials_live_and_a_command_s_new_value_is_stored() {
    let machine = Machine::keeping_with(RELOGGED).await;
    until("the command's value is in use", async || !entries("reauth_succeeded").await.is_empty())
        .await;
    let stored = fs::read_to_string("/var/lib/tokenkeep/relogged.token").expect("stored");
    let left = machine.mortal.remaining(stored.trim()).expect("the server knows it");
    assert!(left > Duration::ZERO);
    machine.checked_again().await;
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn start_under_the_shipped_unit_logs_nothing_at_warning_level_or_above() {
    let warnings = async || {
        run("journalctl", &["--sync"]).await;
        run("journalctl", &["-u", "tokenkeep", "-p", "warning", "-o", "cat", "-q"]).await
    };
    let machine = Machine::installed().await;
    until("the first start is over", async || !entries("daemon_ready").await.is_empty()).await;
    assert_eq!(warnings().await, "");
    machine.furnish();
    machine.configure("");
    drop_in("credentials", "[Service]\nLoadCredential=orders-token:/etc/tokenkeep/orders.token\n");
    systemctl(&["daemon-reload"]).await;
    systemctl(&["restart", "tokenkeep"]).await;
    machine.checked_again().await;
    assert_eq!(run("stat", &["-c", "%G", "/run/tokenkeep/control.sock"]).await.trim(), "tokenkeep");
    assert_eq!(warnings().await, "");
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_good_reload_takes_effect_and_the_process_goes_on() {
    let machine = Machine::keeping().await;
    let process = number("MainPID").await;
    machine.configure("[token.third]\nserver = \"sarus\"\nenv = \"NOT_THERE\"\n");
    systemctl(&["reload", "tokenkeep"]).await;
    until("the new configuration holds", async || !entries("config_reloaded").await.is_empty())
        .await;
    assert_eq!(property("SubState").await, "running");
    assert_eq!(number("MainPID").await, process);
    until("the status line counts the new token", async || {
        property("StatusText").await.starts_with("3 tokens: 2 alive, 1 missing")
    })
    .await;
    machine.checked_again().await;
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_bad_reload_leaves_the_old_configuration_at_work() {
    let machine = Machine::keeping().await;
    let process = number("MainPID").await;
    let rejected = async || property("StatusText").await.contains("on disk rejected at ");
    machine.configure("[token.quotes]\n");
    let reload = attempt("systemctl", &["reload", "tokenkeep"]).await;
    assert!(!reload.status.success(), "{reload:?}");
    assert_eq!(entries("config_rejected").await.len(), 1);
    until("the status line shows it", rejected).await;
    assert_eq!(property("SubState").await, "running");
    assert_eq!(number("MainPID").await, process);
    machine.checked_again().await;

    machine.configure("");
    systemctl(&["reload", "tokenkeep"]).await;
    assert_eq!(entries("config_reloaded").await.len(), 1);
    assert_eq!(property("SubState").await, "running");
    until("the status line shows it no more", async || !rejected().await).await;

    // SIGHUP works as before.
    machine.configure("[token.quotes]\n");
    systemctl(&["kill", "--signal=SIGHUP", "--kill-whom=main", "tokenkeep"]).await;
    until("it is rejected", async || entries("config_rejected").await.len() == 2).await;
    until("the status line shows it", rejected).await;
    until("the reload is over", async || property("SubState").await == "running").await;
    assert_eq!(number("MainPID").await, process);
    machine.checked_again().await;
}

/// The unit hides the file in which the kernel names the boot.
#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_restart_does_not_check_each_token_that_lives_for_long() {
    let machine = Machine::installed().await;
    let values = ["quiet-0", "quiet-1", "quiet-2", "quiet-3"];
    let mut config = format!("[server.sarus]\nurl = \"{}\"\n", machine.server.url());
    for value in values {
        machine.server.add_token(value, Duration::from_secs(3_600));
        let file = format!("/var/lib/tokenkeep/{value}.token");
        write(&file, value, 0o600);
        give(&file);
        config += &format!("[token.{value}]\nserver = \"sarus\"\nfile = \"{file}\"\n");
    }
    write("/etc/tokenkeep/tokenkeep.toml", &config, 0o644);
    systemctl(&["restart", "tokenkeep"]).await;
    until("each is checked", async || machine.server.requests().len() >= 4).await;
    run("tokenkeep", &["check", "quiet-0"]).await;
    let before = machine.server.requests().len();

    for order in [&["restart", "tokenkeep"][..], &["kill", "--signal=SIGKILL", "tokenkeep"]] {
        let process = number("MainPID").await;
        systemctl(order).await;
        restarted(process).await;
        // Its request is sent behind those that were due at the start.
        run("tokenkeep", &["check", "quiet-0"]).await;
    }
    let since = machine.server.requests().len() - before;
    // Each start samples one of them, and any other with a probability of a two-hundredth.
    assert!((2..8).contains(&since), "{since} requests: each start has checked all of them");
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn twenty_crashes_lose_no_token_and_no_value() {
    let machine = Machine::keeping_with(RELOGGED).await;
    until("the command's value is in use", async || !entries("reauth_succeeded").await.is_empty())
        .await;
    let value = fs::read_to_string("/var/lib/tokenkeep/relogged.token").expect("stored");
    let mut process = number("MainPID").await;
    for _ in 0..20 {
        systemctl(&["kill", "--signal=SIGKILL", "--kill-whom=main", "tokenkeep"]).await;
        process = restarted(process).await;
    }
    assert_eq!(number("NRestarts").await, 20);
    machine.checked_again().await;
    let after = fs::read_to_string("/var/lib/tokenkeep/relogged.token").expect("stored");
    assert_eq!(after, value);
    assert_eq!(machine.logins(), 1, "a value was lost");
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_stop_ends_a_hung_command_and_a_hung_request_in_time() {
    const HUNG: &str = "[reauth.hung]\ncommand = [\"/bin/sh\", \"-c\", \"sleep 1000 & sleep 1000\"]\n\
                        [token.hung]\nserver = \"sarus\"\nreauth = \"hung\"\n\
                        file = \"/var/lib/tokenkeep/hung.token\"\n";
    // The watchdog must not mistake the wait at the end for a stall.
    drop_in("watchdog", "[Service]\nWatchdogSec=3s\n");
    let machine = Machine::keeping_with(HUNG).await;
    let group = format!("/sys/fs/cgroup{}", property("ControlGroup").await);
    machine.server.plan_fault(Plan::always(Trouble::Silence).for_token(QUOTES));
    let silenced = |request: &tokenkeep::simulator::Recorded| {
        request.endpoint == Some(Endpoint::Query) && request.status.is_none()
    };
    until("a request and a command hang", async || {
        let processes = fs::read_to_string(format!("{group}/cgroup.procs")).unwrap_or_default();
        processes.lines().count() >= 3 && machine.server.requests().iter().any(silenced)
    })
    .await;
    let limit = Duration::from_secs(20);
    assert_eq!(property("TimeoutStopUSec").await, "20s");
    let began = clock::now();
    systemctl(&["stop", "tokenkeep"]).await;
    let took = clock::now().since(began);
    assert!(took < limit, "{took:?}");
    assert_eq!(property("Result").await, "success");
    assert!(!Path::new(&group).exists(), "something is left in {group}");
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_faulty_configuration_ends_with_78_and_is_named_by_the_status() {
    let machine = Machine::installed().await;
    machine.configure("chekc_after = 0.5\n");
    assert!(!attempt("systemctl", &["restart", "tokenkeep"]).await.status.success());
    assert_eq!(number("ExecMainStatus").await, 78);
    // Not `auto-restart`: nothing is waited for.
    assert_eq!(property("SubState").await, "failed");
    assert_eq!(number("NRestarts").await, 0);
    run("journalctl", &["--sync"]).await;
    let status = attempt("systemctl", &["status", "--no-pager", "--full", "tokenkeep"]).await;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("chekc_after"), "{status}");
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn the_control_socket_is_the_group_s_and_can_be_one_that_systemd_keeps_open() {
    const SOCKET: &str = "/run/tokenkeep/control.sock";
    let machine = Machine::keeping().await;
    let owner = || async { run("stat", &["-c", "%U:%G %a", SOCKET]).await };
    assert_eq!(owner().await.trim(), "tokenkeep:tokenkeep 660");
    let told = run("tokenkeep", &["status", "quotes", "--json"]).await;
    assert!(told.contains("\"state\": \"alive\""), "{told}");

    let unit = "/usr/share/doc/tokenkeep/examples/tokenkeep.socket";
    fs::copy(unit, "/etc/systemd/system/tokenkeep.socket").expect("the example");
    systemctl(&["daemon-reload"]).await;
    systemctl(&["stop", "tokenkeep"]).await;
    systemctl(&["enable", "--now", "tokenkeep.socket"]).await;
    // Nothing runs yet: who asks first starts it, and waits for the answer.
    let told = attempt("tokenkeep", &["status", "quotes", "--json"]).await;
    assert!(String::from_utf8_lossy(&told.stdout).contains("\"name\": \"quotes\""), "{told:?}");
    systemctl(&["restart", "tokenkeep"]).await;
    run("tokenkeep", &["check", "quotes"]).await;
    systemctl(&["stop", "tokenkeep"]).await;
    assert!(Path::new(SOCKET).exists(), "it is systemd's");
    drop(machine);
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_faulty_configuration_does_not_fail_the_socket_unit() {
    const CONFIGURATION: &str = "/etc/tokenkeep/tokenkeep.toml";
    let machine = Machine::keeping().await;
    let unit = "/usr/share/doc/tokenkeep/examples/tokenkeep.socket";
    fs::copy(unit, "/etc/systemd/system/tokenkeep.socket").expect("the example");
    systemctl(&["daemon-reload"]).await;
    systemctl(&["stop", "tokenkeep"]).await;
    systemctl(&["enable", "--now", "tokenkeep.socket"]).await;
    let good = fs::read_to_string(CONFIGURATION).expect("a configuration");
    fs::write(CONFIGURATION, format!("chekc_after = 1\n{good}")).expect("written");
    // More clients than systemd's default limit of starts.
    for _ in 0..3 {
        let clients = (0..25).map(|_| attempt("tokenkeep", &["status"]));
        for told in futures_util::future::join_all(clients).await {
            let told = String::from_utf8_lossy(&told.stderr).into_owned();
            assert!(told.contains("the daemon cannot start"), "{told}");
        }
    }
    let state = run("systemctl", &["show", "-P", "ActiveState", "tokenkeep.socket"]).await;
    assert_eq!(state.trim(), "active");

    // The process of the failed start ends after a second.
    while property("SubState").await != "failed" {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    fs::write(CONFIGURATION, good).expect("written");
    let told = attempt("tokenkeep", &["status", "quotes", "--json"]).await;
    assert!(String::from_utf8_lossy(&told.stdout).contains("\"name\": \"quotes\""), "{told:?}");
    drop(machine);
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn service_that_starts_after_tokenkeep_reads_the_env_file_in_the_folder_of_its_group() {
    let machine = Machine::installed().await;
    machine.furnish();
    run("groupadd", &["--system", "orders-app"]).await;
    let folder = ["-d", "-o", "tokenkeep", "-g", "orders-app", "-m", "2750", "/run/orders"];
    run("install", &folder).await;
    machine.configure("env_file = \"/run/orders/token.env\"\nenv_group = \"orders-app\"\n");
    drop_in(
        "orders",
        "[Service]\nReadWritePaths=/run/orders\n\
         LoadCredential=orders-token:/etc/tokenkeep/orders.token\n",
    );
    let unit = format!(
        "[Unit]\nRequires=tokenkeep.service\nAfter=tokenkeep.service\n\
         [Service]\nType=oneshot\nEnvironmentFile=/run/orders/token.env\n\
         ExecStart=/bin/sh -c 'test \"$$ORDERS_TOKEN\" = \"{ORDERS}\"'\n"
    );
    fs::write("/etc/systemd/system/orders-app.service", unit).expect("room");
    systemctl(&["stop", "tokenkeep"]).await;
    systemctl(&["daemon-reload"]).await;
    let started = attempt("systemctl", &["start", "orders-app"]).await;
    assert!(started.status.success(), "{started:?}");
    let access = run("stat", &["-c", "%U %G %a", "/run/orders/token.env"]).await;
    assert_eq!(access.trim(), "tokenkeep orders-app 640");
    machine.checked_again().await;
}
