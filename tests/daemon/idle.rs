//! What the daemon does and needs while nothing is due: next to nothing, in all of its threads together.

use tokio::net::UnixDatagram;

use crate::support::{
    Daemon, Stage, anonymous_memory, context_switches, seconds, server_table, simulator, threads,
    until_within, with_mounts,
};

/// How long it is watched.
const WATCHED: std::time::Duration = seconds(30);

/// Context switches in that time at the most: 10 a minute is the promise for wake-ups, and one can
/// be two switches if it waits for a lock.
const MOST: u64 = 10;

/// Threads at the most: the main loop and the state database. The others end when they are idle.
const MOST_THREADS: usize = 2;

/// Anonymous memory at the most, in kB: twice that of a debug build. A release has two thirds of it.
const MOST_MEMORY: u64 = 7_000;

/// A stage with three tokens of half an hour: one in a folder of its own, one behind a link, and
/// one among others.
async fn staged() -> (tokenkeep::simulator::Simulator, Stage) {
    let server = simulator().await;
    let token = |name: &str, file: &str| {
        format!("[token.{name}]\nserver = \"sarus\"\nfile = \"$DIR/{file}\"\n")
    };
    let tokens = [token("own", "own/own.token"), token("link", "link"), token("plain", "plain")];
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tokens.concat()));
    for (file, name) in [("own/own.token", "own"), ("real/target", "link"), ("plain", "plain")] {
        let value = crate::support::secret(name);
        stage.write(file, &value);
        server.add_token(&value, seconds(1_800));
    }
    std::os::unix::fs::symlink("real/target", stage.path("link")).expect("a link");
    (server, stage)
}

/// Starts the daemon where no other process mounts anything, waits until it has settled, and asserts
/// that it wakes up rarely and needs few threads and little memory.
async fn assert_idle(stage: &Stage, variables: &[(&str, &str)]) {
    let started = || {
        let mut command = stage.command("run");
        command.envs(variables.iter().copied());
        command
    };
    let command = with_mounts(started(), "").await.unwrap_or_else(started);
    let daemon = Daemon::start(command);
    for name in ["own", "link", "plain"] {
        daemon.event("token_checked", name).await;
    }
    let pid = daemon.pid();
    let mut last = 0;
    // The switches of a thread that ends are no longer counted.
    until_within(seconds(120), seconds(5), "it has settled", || {
        let before = std::mem::replace(&mut last, context_switches(pid));
        last <= before + 1 && threads(pid) <= MOST_THREADS
    })
    .await;
    let before = context_switches(pid);
    tokio::time::sleep(WATCHED).await;
    let switches = context_switches(pid).saturating_sub(before);
    assert!(switches <= MOST, "{switches} context switches in {WATCHED:?}");
    assert!(threads(pid) <= MOST_THREADS);
    let memory = anonymous_memory(pid);
    assert!(memory <= MOST_MEMORY, "{memory} kB of anonymous memory");
    daemon.stop().await;
}

#[tokio::test]
async fn three_idle_tokens_on_local_files_need_few_wake_ups_two_threads_and_little_memory() {
    let (_server, stage) = staged().await;
    assert_idle(&stage, &[]).await;
}

#[tokio::test]
async fn three_idle_tokens_with_the_shipped_watchdog_need_no_more() {
    let (_server, stage) = staged().await;
    let path = stage.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let socket = path.to_str().expect("UTF-8");
    let variables = [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "60000000")];
    assert_idle(&stage, &variables).await;
    drop(manager);
}
