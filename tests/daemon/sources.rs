//! Changes of a source that inotify does not report, and files that cannot be replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Daemon, Hung, Stage, about, mortal_simulator, post, seconds, secret, served, server_table,
    simulator, until, with_mounts,
};

/// The token `quotes` with this source, and a command that leaves a mark in `runs` and prints
/// [`secret`] `login`. The server knows the values `old`, which is dead, and `new` and `login`.
fn configuration(server: &Simulator, source: &str) -> String {
    format!(
        "{}[reauth.relogin]\ncommand = [\"$DIR/hook\"]\ndelay = \"50ms\"\n{source}\n",
        server_table("sarus", server, "")
    )
}

fn staged(server: &Simulator, source: &str) -> Stage {
    let stage = Stage::new(&configuration(server, source));
    for name in ["old", "new", "login"] {
        server.add_token(&secret(name), seconds(600));
    }
    stage.script("hook", &format!("echo >> $DIR/runs; echo '{}'", secret("login")));
    stage
}

const BY_FILE: &str =
    "[token.quotes]\nserver = \"sarus\"\nreauth = \"relogin\"\nfile = \"$DIR/c/quotes.token\"\n";

/// One way in which the value of a token gets to the daemon.
#[derive(Debug, Clone, Copy)]
enum Kind {
    OwnFolder,
    AmongMany,
    Link,
    LinkedFolder,
    Kubernetes,
    Credential,
    InventoryFolder,
    InventoryFile,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::OwnFolder,
        Self::AmongMany,
        Self::Link,
        Self::LinkedFolder,
        Self::Kubernetes,
        Self::Credential,
        Self::InventoryFolder,
        Self::InventoryFile,
    ];

    fn source(self) -> String {
        let upkeep = "server = \"sarus\"\nreauth = \"relogin\"\n";
        match self {
            Self::OwnFolder | Self::Link | Self::LinkedFolder | Self::Kubernetes => BY_FILE.into(),
            Self::AmongMany => {
                let others = (0..50).map(|number| {
                    format!("[token.o{number}]\nserver = \"sarus\"\nfile = \"$DIR/c/o{number}\"\n")
                });
                format!("{BY_FILE}{}", others.collect::<String>())
            }
            Self::Credential => format!("[token.quotes]\n{upkeep}credential = \"quotes\"\n"),
            Self::InventoryFolder => format!("[inventory.all]\n{upkeep}dir = \"$DIR/c\"\n"),
            Self::InventoryFile => format!("[inventory.all]\n{upkeep}file = \"$DIR/c/lines\"\n"),
        }
    }

    /// Puts a value where the daemon finds it.
    fn put(self, stage: &Stage, value: &str) {
        match self {
            Self::OwnFolder => stage.replace("c/quotes.token", value),
            Self::AmongMany => {
                for number in 0..50 {
                    stage.write(&format!("c/o{number}"), &secret("other"));
                }
                stage.write("c/quotes.token", value);
            }
            Self::Link => {
                stage.write("real/target", value);
                link("../real/target", &stage.path("c/quotes.token"));
            }
            Self::LinkedFolder => {
                stage.write("real/deep/quotes.token", value);
                link("real/deep", &stage.path("c"));
            }
            Self::Kubernetes => {
                let version = if stage.path("c").exists() { "..2" } else { "..1" };
                stage.write(&format!("c/{version}/quotes.token"), value);
                link(version, &stage.path("c/..data"));
                if version == "..1" {
                    link("..data/quotes.token", &stage.path("c/quotes.token"));
                }
            }
            Self::Credential => drop(stage.write("credentials/quotes", value)),
            Self::InventoryFolder => stage.replace("c/quotes", value),
            Self::InventoryFile => {
                let line = format!("{{\"name\":\"quotes\",\"token\":\"{value}\"}}\n");
                stage.replace("c/lines", &line);
            }
        }
    }
}

/// Starts the daemon with the folder `credentials` as systemd's.
fn start(stage: &Stage) -> Daemon {
    let folder = stage.path("credentials");
    stage.start_with(&[("CREDENTIALS_DIRECTORY", folder.to_str().expect("UTF-8"))])
}

/// Makes `path` a symbolic link to `target` in one step.
fn link(target: &str, path: &Path) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let new = PathBuf::from(format!("{}.link", path.display()));
    symlink(target, &new).expect("a link");
    fs::rename(new, path).expect("renamed");
}

async fn check(stage: &Stage) {
    assert_eq!(post(stage, "/v1/tokens/quotes/check").await.status, 202);
}

#[tokio::test]
async fn a_value_written_just_before_a_death_prevents_reauth_whatever_the_source() {
    for kind in Kind::ALL {
        for rejected in [false, true] {
            let server = simulator().await;
            let stage = staged(&server, &kind.source());
            server.add_token(&secret("other"), seconds(600));
            kind.put(&stage, &secret("old"));
            let daemon = start(&stage);
            daemon.event("token_checked", "quotes").await;
            if rejected {
                server.forget(&secret("old"));
            } else {
                server.expire(&secret("old"));
            }
            kind.put(&stage, &secret("new"));
            check(&stage).await;
            daemon.more(1, "token_checked", "quotes").await;
            let ended = daemon.stop().await;
            assert_eq!(
                stage.lines_in("runs"),
                0,
                "{kind:?} {rejected}: {:?}",
                ended.story("quotes")
            );
            assert!(!about(&server, &secret("new")).is_empty(), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn expiry_starts_reauth_if_the_source_has_the_expired_value_or_none() {
    type Prepare = fn(&Stage);
    let cases: [(&str, Prepare); 3] = [
        ("the same", |_| {}),
        ("empty", |stage| drop(stage.write("c/quotes.token", ""))),
        ("gone", |stage| fs::remove_file(stage.path("c/quotes.token")).expect("removed")),
    ];
    for (case, prepare) in cases {
        let server = simulator().await;
        let stage = staged(&server, BY_FILE);
        stage.write("c/quotes.token", &secret("old"));
        let daemon = stage.start();
        daemon.event("token_checked", "quotes").await;
        server.expire(&secret("old"));
        prepare(&stage);
        check(&stage).await;
        daemon.event("reauth_succeeded", "quotes").await;
        daemon.stop().await;
        assert_eq!(stage.lines_in("runs"), 1, "{case}");
        assert_eq!(stage.read("c/quotes.token").trim(), secret("login"), "{case}");
    }
}

/// Mounts `host/t` over `c/quotes.token`, as `docker run -v host/t:c/quotes.token` does.
const ONE_FILE: &str = "mount --bind $DIR/host/t $DIR/c/quotes.token";

/// Mounts the folder `c` read-only over itself.
const READ_ONLY: &str = "mount --bind $DIR/c $DIR/c; mount -o remount,bind,ro $DIR/c";

/// Mounts a full file system over the folder `c`, with what was in the token's file.
const FULL: &str = "mount -t tmpfs -o size=16k none $DIR/c; cp -p $DIR/copy $DIR/c/quotes.token; \
                    dd if=/dev/zero of=$DIR/c/full bs=4k 2>$DIR/dd || true";

/// Starts the daemon with these mounts; `None` where this machine does not permit that.
async fn start_mounted(stage: &Stage, mounts: &str) -> Option<Daemon> {
    let mounts = mounts.replace("$DIR", stage.path("").to_str().expect("UTF-8"));
    with_mounts(stage.command("run"), &mounts).await.map(Daemon::start)
}

/// A stage on which `host/t` holds the value `old`, and is to be mounted over the token's file.
async fn with_one_file() -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = staged(&server, BY_FILE);
    stage.write("host/t", &secret("old"));
    stage.write("c/quotes.token", "");
    (server, stage)
}

#[tokio::test]
async fn change_of_a_mounted_file_is_noticed() {
    let (server, stage) = with_one_file().await;
    let Some(daemon) = start_mounted(&stage, ONE_FILE).await else { return };
    daemon.event("token_checked", "quotes").await;
    stage.write("host/t", &secret("new"));
    served(&server, |_| !about(&server, &secret("new")).is_empty()).await;
    daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 0);
}

#[tokio::test]
async fn change_of_a_mounted_file_in_an_inventory_directory_is_noticed() {
    let server = simulator().await;
    let stage = staged(&server, &Kind::InventoryFolder.source());
    stage.write("host/t", &secret("old"));
    stage.write("c/quotes", "");
    let mounts = "mount --bind $DIR/host/t $DIR/c/quotes";
    let Some(daemon) = start_mounted(&stage, mounts).await else { return };
    daemon.event("token_checked", "quotes").await;
    stage.write("host/t", &secret("new"));
    served(&server, |_| !about(&server, &secret("new")).is_empty()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn change_of_a_file_that_becomes_a_mount_point_is_noticed() {
    let (server, stage) = with_one_file().await;
    stage.write("c/quotes.token", &secret("old"));
    stage.write("host/t", &secret("new"));
    let mounted_later = format!("(until [ -e $DIR/go ]; do sleep 0.05; done; {ONE_FILE}) &");
    let Some(daemon) = start_mounted(&stage, &mounted_later).await else { return };
    daemon.event("token_checked", "quotes").await;
    stage.write("go", "");
    served(&server, |_| !about(&server, &secret("new")).is_empty()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn changed_mounted_file_prevents_reauth_at_the_expiry() {
    let (server, stage) = with_one_file().await;
    let Some(daemon) = start_mounted(&stage, ONE_FILE).await else { return };
    daemon.event("token_checked", "quotes").await;
    server.expire(&secret("old"));
    stage.write("host/t", &secret("new"));
    check(&stage).await;
    daemon.more(1, "token_checked", "quotes").await;
    daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 0);
}

/// Which mounts keep the file from being replaced, and what `store_failed` says of them.
const IRREPLACEABLE: [(&str, &str); 4] = [
    (ONE_FILE, "mount point"),
    (
        "mount --bind $DIR/host/t $DIR/c/quotes.token; mount -o remount,bind,ro $DIR/c/quotes.token",
        "mount point",
    ),
    (READ_ONLY, "read-only"),
    (FULL, "file system is full"),
];

#[tokio::test]
async fn a_new_value_whose_file_cannot_be_replaced_survives_a_kill() {
    for (mounts, said) in IRREPLACEABLE {
        let (server, stage) = with_one_file().await;
        stage.write("c/quotes.token", &secret("old"));
        stage.write("copy", &secret("old"));
        server.expire(&secret("old"));
        let Some(daemon) = start_mounted(&stage, mounts).await else { return };
        let failed = daemon.event("store_failed", "quotes").await;
        assert!(failed.text("error").contains(said), "{failed:?}");
        let folder = stage.path("c");
        assert!(failed.text("error").contains(folder.to_str().expect("UTF-8")), "{failed:?}");
        daemon.event("reauth_succeeded", "quotes").await;
        daemon.signal(Signal::KILL);
        daemon.ended().await;
        assert_eq!(stage.read("c/quotes.token").trim(), secret("old"), "{mounts}");

        let asked = about(&server, &secret("old")).len();
        let Some(daemon) = start_mounted(&stage, mounts).await else { return };
        daemon.event("token_checked", "quotes").await;
        // The file is tried again at once, and at least once more.
        daemon.event("store_failed", "quotes").await;
        tokio::time::sleep(seconds(2)).await;
        let ended = daemon.stop().await;
        assert_eq!(ended.story("quotes"), ["store_failed"], "{mounts}: logged once");
        assert_eq!(stage.lines_in("runs"), 1, "{mounts}: no second login");
        assert_eq!(about(&server, &secret("old")).len(), asked, "{mounts}");
    }
}

#[tokio::test]
async fn a_changed_file_wins_over_the_value_kept_for_an_irreplaceable_one() {
    let (server, stage) = with_one_file().await;
    server.expire(&secret("old"));
    let Some(daemon) = start_mounted(&stage, ONE_FILE).await else { return };
    daemon.event("reauth_succeeded", "quotes").await;
    daemon.stop().await;

    stage.write("host/t", &secret("new"));
    let before = about(&server, &secret("login")).len();
    let Some(daemon) = start_mounted(&stage, ONE_FILE).await else { return };
    daemon.event("token_checked", "quotes").await;
    daemon.stop().await;
    assert_eq!(about(&server, &secret("login")).len(), before);
    assert_eq!(about(&server, &secret("new")).len(), 1);
}

#[tokio::test]
async fn once_a_full_disk_has_room_the_file_is_written_and_the_kept_copy_is_deleted() {
    let server = mortal_simulator().await;
    let keys = "[schedule]\nretry_initial = \"100ms\"\nretry_max = \"200ms\"\n";
    let stage = staged(&server, &format!("{BY_FILE}{keys}"));
    server.expire(&secret("old"));
    stage.write("c/none", "");
    stage.write("copy", &secret("old"));
    // The file system is this namespace's own: files outside of it tell what happens there.
    let mounts = format!(
        "{FULL}
         (until [ -e $DIR/go ]; do sleep 0.05; done; rm $DIR/c/full
          until grep -q login $DIR/c/quotes.token; do sleep 0.05; done
          cp $DIR/c/quotes.token $DIR/written) </dev/null >$DIR/out 2>&1 &"
    );
    let Some(daemon) = start_mounted(&stage, &mounts).await else { return };
    let failed = daemon.event("store_failed", "quotes").await;
    assert!(failed.text("error").contains("file system is full"), "{failed:?}");
    daemon.event("reauth_succeeded", "quotes").await;
    stage.write("go", "");
    until("the file is written", || stage.read("written").trim() == secret("login")).await;
    daemon.stop().await;

    // Nothing is kept any more: the same old value in the file is what counts now.
    let before = about(&server, &secret("old")).len();
    stage.write("c/quotes.token", &secret("old"));
    let daemon = stage.start();
    daemon.event("token_expired", "quotes").await;
    daemon.stop().await;
    assert!(about(&server, &secret("old")).len() > before);
}

#[tokio::test]
async fn expiry_starts_reauth_although_the_disk_of_the_source_hangs() {
    let server = simulator().await;
    let stage = staged(&server, BY_FILE);
    stage.write("c/quotes.token", &secret("old"));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let Some(_hung) = Hung::over(&stage.path("c")) else {
        eprintln!("skipped: this needs root and FUSE");
        return;
    };
    server.expire(&secret("old"));
    check(&stage).await;
    daemon.event("reauth_started", "quotes").await;
    let failed = daemon.event("store_failed", "quotes").await;
    assert!(failed.text("error").contains("disk"), "{failed:?}");
    daemon.event("reauth_succeeded", "quotes").await;
    daemon.stop().await;
    assert_eq!(stage.lines_in("runs"), 1);
}
