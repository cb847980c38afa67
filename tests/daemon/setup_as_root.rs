//! `add` as root: whom the token files belong to, and which symbolic links root follows.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};

use rustix::process::geteuid;

use crate::setup::{run, staged, tokenkeep};
use crate::support::{Stage, secret, server_table, token_table};

const NEGATIVE: i32 = 1;
const NOT_PERMITTED: i32 = 77;

/// User and group of the service.
const USER: u32 = 65_534;
const GROUP: u32 = 12_345;

/// Creates a folder of the service's user, who can reach it.
fn open_to(stage: &Stage, folder: &str) {
    fs::set_permissions(stage.path(""), Permissions::from_mode(0o755)).expect("permitted");
    fs::create_dir(stage.path(folder)).expect("created");
    chown(stage.path(folder), Some(USER), Some(GROUP)).expect("given");
}

/// Owner, group and mode of a file.
fn access(stage: &Stage, file: &str) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(stage.path(file)).expect("it");
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

#[tokio::test]
async fn root_gives_the_token_file_to_the_owner_of_the_state_directory_and_follows_no_link() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let (_server, stage) = staged().await;
    open_to(&stage, "state");
    let (status, said) = tokenkeep(&stage, &["add", "quotes"], &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    let file = stage.path("state/quotes.token");
    let owner =
        |path| fs::metadata(path).map(|file| (file.uid(), file.mode() & 0o777)).expect("it");
    assert_eq!(owner(&file), (65_534, 0o600));
    assert_eq!(owner(&stage.path("conf.d/quotes.toml")), (0, 0o644));

    // The service's user can put a link there.
    let target = stage.write("target", "kept");
    fs::remove_file(&file).expect("removed");
    symlink(&target, &file).expect("linked");
    let arguments = ["add", "quotes", "--replace"];
    let (status, said) = tokenkeep(&stage, &arguments, &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    assert_eq!(stage.read("target"), "kept");
    assert_eq!(stage.read("state/quotes.token").trim(), secret("quotes"));
}

#[tokio::test]
async fn root_gives_a_new_token_file_elsewhere_to_the_service_user() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let (server, stage) = staged().await;
    stage.configure(
        &[server_table("sarus", &server, ""), token_table("quotes", "sarus", "")].concat(),
    );
    open_to(&stage, "state");
    let replace = ["add", "quotes", "--replace"];
    let (status, said) = tokenkeep(&stage, &replace, &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    assert_eq!(access(&stage, "quotes.token"), (USER, GROUP, 0o600));

    // Root's own link is followed, and a missing target is created for the service's user too.
    fs::remove_file(stage.path("quotes.token")).expect("removed");
    symlink("target", stage.path("quotes.token")).expect("linked");
    let (status, said) = tokenkeep(&stage, &replace, &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    assert_eq!(access(&stage, "target"), (USER, GROUP, 0o600));
    assert!(stage.path("quotes.token").is_symlink());
}

#[tokio::test]
async fn a_token_file_that_the_service_user_cannot_read_is_an_error_with_the_remedy() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let (server, stage) = staged().await;
    stage.configure(
        &[server_table("sarus", &server, ""), token_table("quotes", "sarus", "")].concat(),
    );
    open_to(&stage, "state");
    // It belongs to root.
    stage.token("quotes");
    let replace = ["add", "quotes", "--replace"];
    let remedy = format!("run `chown {USER} {}`", stage.path("quotes.token").display());
    let (status, said) = tokenkeep(&stage, &replace, &secret("quotes")).await;
    assert_eq!(status, NOT_PERMITTED, "{said}");
    assert!(said.contains("cannot read the token: ") && said.contains(&remedy), "{said}");

    fs::set_permissions(stage.path("quotes.token"), Permissions::from_mode(0o640)).expect("set");
    chown(stage.path("quotes.token"), None, Some(GROUP)).expect("given");
    let (status, said) = tokenkeep(&stage, &replace, &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    assert_eq!(access(&stage, "quotes.token"), (0, GROUP, 0o640));

    // The file is right, and its directory is closed.
    fs::set_permissions(stage.path(""), Permissions::from_mode(0o700)).expect("permitted");
    let (status, said) = tokenkeep(&stage, &replace, &secret("quotes")).await;
    assert_eq!(status, NOT_PERMITTED, "{said}");
    assert!(said.contains("let that user enter its directories"), "{said}");
}

#[tokio::test]
async fn root_follows_no_link_that_another_user_controls() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let (server, stage) = staged().await;
    open_to(&stage, "state");
    open_to(&stage, "other");
    open_to(&stage, "state/sub");
    stage.write("target", "kept");
    symlink("../target", stage.path("other/quotes.token")).expect("linked");
    symlink("..", stage.path("state/up")).expect("linked");
    symlink("target", stage.path("theirs")).expect("linked");
    lchown(stage.path("theirs"), Some(USER), Some(GROUP)).expect("given");
    let token = |file: &str| {
        let table = token_table("quotes", "sarus", "").replace("$DIR/quotes.token", file);
        stage.configure(&(server_table("sarus", &server, "") + &table));
    };
    let replace = ["add", "quotes", "--replace"];
    for file in ["other/quotes.token", "state/up/target", "theirs"] {
        token(&format!("$DIR/{file}"));
        // Refused before the token is read.
        let (status, said) = tokenkeep(&stage, &replace, "").await;
        assert_eq!(status, NEGATIVE, "{said}");
        assert!(said.contains(" is a symbolic link to "), "{said}");
        assert!(said.contains("root does not follow it"), "{said}");
        assert_eq!(stage.read("target"), "kept");
    }

    stage.configure(&server_table("sarus", &server, ""));
    stage.write("quotes.token", "kept");
    let table = token_table("quotes", "sarus", "").replace("$DIR/", "$DIR/state/up/");
    stage.write("conf.d/quotes.toml", &table);
    let (status, said) = tokenkeep(&stage, &["remove", "quotes", "--delete-token"], "").await;
    assert_eq!(status, NEGATIVE, "{said}");
    assert!(said.contains(" is a symbolic link to "), "{said}");
    assert!(stage.path("quotes.token").exists() && stage.path("conf.d/quotes.toml").exists());
    fs::remove_file(stage.path("conf.d/quotes.toml")).expect("removed");

    // Below the state directory, the link itself is replaced.
    token("$DIR/state/sub/quotes.token");
    symlink("../../target", stage.path("state/sub/quotes.token")).expect("linked");
    let (status, said) = tokenkeep(&stage, &replace, &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    assert_eq!(stage.read("target"), "kept");
    assert_eq!(access(&stage, "state/sub/quotes.token"), (USER, GROUP, 0o600));
    // A file keeps the group and mode that the service's user has given it.
    chown(stage.path("state/sub/quotes.token"), None, Some(23_456)).expect("given");
    fs::set_permissions(stage.path("state/sub/quotes.token"), Permissions::from_mode(0o640))
        .expect("permitted");
    let (status, said) = tokenkeep(&stage, &replace, &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    assert_eq!(access(&stage, "state/sub/quotes.token"), (USER, 23_456, 0o640));
}

#[tokio::test]
async fn root_with_the_home_of_another_user_writes_nothing_there() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let (_server, stage) = staged().await;
    open_to(&stage, "home");
    for arguments in [
        &["init", "--url", "https://api.example.net"][..],
        &["add", "quotes"],
        &["remove", "quotes"],
    ] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
        command.arg("--user").args(arguments).env_clear().env("HOME", stage.path("home"));
        let (status, said) = run(command, &secret("quotes")).await;
        assert_eq!(status, NOT_PERMITTED, "{said}");
        assert!(said.contains("run it as that user, without `sudo`"), "{said}");
        assert_eq!(fs::read_dir(stage.path("home")).expect("it").count(), 0);
    }
}
