//! Token files on mounts and disks that do not behave.

use std::fs;

use tokenkeep::simulator::{Behaviour, Simulator};

use crate::namespace::{bind_mount, isolated, remount, report, small_disk};
use crate::observe::{check, is_alive, secs, story, takes};
use crate::support::{Daemon, Stage, about, post, seconds, secret, server_table, simulator_with};

/// A token in `box/quotes.token` with a login that counts its runs; `state`: its `state_dir`.
async fn staged(state: &str) -> (Simulator, Stage) {
    let server = simulator_with(Behaviour::default()).await;
    let stage = Stage::new(
        &(format!("state_dir = \"$DIR/{state}\"\n")
            + "[reauth.login]\ncommand = [\"$DIR/login\"]\n"
            + &server_table("sarus", &server, "")
            + "[token.quotes]\nserver = \"sarus\"\nreauth = \"login\"\n\
               file = \"$DIR/box/quotes.token\"\n"),
    );
    stage.script("login", &format!("echo >> $DIR/runs\necho '{}'", secret("new")));
    server.add_token(&secret("first"), seconds(3600));
    server.add_token(&secret("new"), seconds(3600));
    (server, stage)
}

async fn alive(daemon: &Daemon) {
    takes(daemon, seconds(20), "the token is alive", || is_alive(daemon, "quotes")).await;
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_bind_mounted_token_file_is_seen_to_change() {
    isolated(async || {
        let (server, stage) = staged("state").await;
        let host = stage.write("host/t", &secret("first"));
        let target = stage.write("box/quotes.token", "");
        bind_mount(&host, &target);
        let daemon = stage.start();
        alive(&daemon).await;

        let took = in_place(&server, &stage, &daemon, "host/t", "second").await;
        let runs = replaced_before_death(&server, &stage, &daemon, "host/t").await;
        report(
            "bind-mounted token file",
            &format!(
                "a new value is asked about after {}; 5 values written before a death: {runs} logins",
                secs(took)
            ),
        );
        daemon.stop().await;
    });
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_value_written_before_a_death_is_read_before_a_login() {
    isolated(async || {
        let (server, stage) = staged("state").await;
        stage.write("box/quotes.token", &secret("first"));
        let daemon = stage.start();
        alive(&daemon).await;
        let took = in_place(&server, &stage, &daemon, "box/quotes.token", "second").await;
        let runs = replaced_before_death(&server, &stage, &daemon, "box/quotes.token").await;
        report(
            "local token file",
            &format!(
                "a new value is asked about after {}; 5 values written before a death: {runs} logins",
                secs(took)
            ),
        );
        daemon.stop().await;
    });
}

/// Writes a new value in place; how long until the server is asked about it.
async fn in_place(
    server: &Simulator,
    stage: &Stage,
    daemon: &Daemon,
    file: &str,
    name: &str,
) -> std::time::Duration {
    let value = secret(name);
    server.add_token(&value, seconds(3600));
    stage.write(file, &value);
    let asked = || !about(server, &value).is_empty();
    takes(daemon, seconds(10), "the new value is asked about", asked).await
}

/// Five times: the current value dies, a new one is written at once, and a check finds the death.
/// The number of logins, which must be none.
async fn replaced_before_death(
    server: &Simulator,
    stage: &Stage,
    daemon: &Daemon,
    file: &str,
) -> usize {
    // From here on the control socket is there.
    check(daemon, stage, &["quotes"]).await;
    let mut old = secret("second");
    for n in 0..5 {
        let value = secret(&format!("later{n}"));
        server.add_token(&value, seconds(3600));
        server.expire(&old);
        stage.write(file, &value);
        // At once: before a watch of the file can report the change.
        let accepted = post(stage, "/v1/tokens/quotes/check").await;
        assert_eq!(accepted.status, 202, "{}", accepted.body);
        takes(daemon, seconds(10), "the written value is asked about", || {
            !about(server, &value).is_empty()
        })
        .await;
        alive(daemon).await;
        let runs = stage.lines_in("runs");
        assert_eq!(runs, 0, "a login although a living value was in the file\n{}", story(daemon));
        old = value;
    }
    stage.lines_in("runs")
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_new_value_survives_a_restart_where_its_file_cannot_be_replaced() {
    isolated(async || {
        let mut figures = Vec::new();
        for kind in ["read-only mount", "mount point", "full disk"] {
            let (server, stage) = staged("state").await;
            let folder = stage.path("box");
            if kind == "full disk" {
                small_disk(&folder, "64k");
            }
            let file = stage.write("box/quotes.token", &secret("first"));
            match kind {
                "read-only mount" => {
                    bind_mount(&folder, &folder);
                    remount(&folder, "ro");
                }
                "mount point" => bind_mount(&stage.write("host/t", &secret("first")), &file),
                _ => fill(&stage, "box/filler"),
            }
            let logins = replaced_and_restarted(&server, &stage, kind).await;
            figures.push(format!("{kind}: {logins} login"));
        }
        report("new value with an unwritable file, then a restart", &figures.join(", "));
    });
}

/// Has the token die and be replaced, and restarts the daemon twice.
async fn replaced_and_restarted(server: &Simulator, stage: &Stage, kind: &str) -> usize {
    let daemon = stage.start();
    alive(&daemon).await;
    server.expire(&secret("first"));
    check(&daemon, stage, &["quotes"]).await;
    takes(&daemon, seconds(20), &format!("{kind}: the login succeeds"), || {
        daemon.count("reauth_succeeded", "quotes") == 1
    })
    .await;
    daemon.stop().await;
    for _ in 0..2 {
        let daemon = stage.start();
        alive(&daemon).await;
        check(&daemon, stage, &["quotes"]).await;
        alive(&daemon).await;
        let runs = stage.lines_in("runs");
        assert_eq!(runs, 1, "{kind}: the value was lost at the restart\n{}", story(&daemon));
        daemon.stop().await;
    }
    stage.lines_in("runs")
}

/// Fills the disk that this file is on.
fn fill(stage: &Stage, name: &str) {
    let mut size = 1 << 20;
    let path = stage.path(name);
    let mut file = fs::File::create(path).expect("a file");
    while size > 0 {
        if std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_err() {
            size /= 2;
        }
    }
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_new_value_is_stored_once_a_full_disk_has_room_again() {
    isolated(async || {
        let (server, stage) = staged("box/state").await;
        small_disk(&stage.path("box"), "2m");
        stage.write("box/quotes.token", &secret("first"));
        let daemon = stage.start();
        alive(&daemon).await;
        fill(&stage, "box/filler");
        server.expire(&secret("first"));
        check(&daemon, &stage, &["quotes"]).await;
        daemon.event("store_failed", "").await;
        daemon.event("reauth_succeeded", "quotes").await;
        // The value is used from memory.
        check(&daemon, &stage, &["quotes"]).await;
        alive(&daemon).await;
        fs::remove_file(stage.path("box/filler")).expect("it is there");
        let took = takes(&daemon, seconds(90), "the value is stored", || {
            stage.read("box/quotes.token").trim() == secret("new")
        })
        .await;
        daemon.stop().await;
        let daemon = stage.start();
        alive(&daemon).await;
        check(&daemon, &stage, &["quotes"]).await;
        alive(&daemon).await;
        let runs = stage.lines_in("runs");
        assert_eq!(runs, 1, "the value was lost\n{}", story(&daemon));
        daemon.stop().await;
        report(
            "token file and state_dir on one full disk",
            &format!("value stored {} after there is room, {runs} login", secs(took)),
        );
    });
}
