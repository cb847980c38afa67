//! `doctor`: what it finds, with which exit status, and that it changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tokenkeep::simulator::{Behaviour, Endpoint, Simulator};
use tokio::process::Command;
use tokio::time::timeout;

use crate::doubles::{Plan, PlanFaults as _, RetryAfter, Trouble};
use crate::support::{
    Hung, PATIENCE, Stage, calls, free_port, mortal_simulator, seconds, secret, server_table,
    simulator_with, token_table, with_mounts,
};

const WARNINGS: i32 = 1;
const ERRORS: i32 = 2;

/// The exit status and what is printed. No secret is ever in it.
async fn run(mut command: Command) -> (i32, String) {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(!text.contains("S3CR3T"), "a secret in:\n{text}");
    (output.status.code().expect("a status"), text)
}

async fn doctor(stage: &Stage, options: &[&str]) -> (i32, String) {
    let mut command = stage.command("doctor");
    command.args(options);
    run(command).await
}

/// A stage where nothing is wrong.
fn healthy(server: &Simulator) -> Stage {
    let stage = Stage::new(&format!(
        "{}[reauth.relogin]\ncommand = [\"$DIR/hook\"]\n{}",
        server_table("sarus", server, ""),
        token_table("quotes", "sarus", "reauth = \"relogin\"")
    ));
    fs::create_dir(stage.path("state")).expect("created");
    set_mode(&stage.path("state"), 0o700);
    stage.script("hook", "echo called >> $DIR/called");
    server.add_token(&stage.token("quotes"), seconds(3_600));
    stage
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("permitted");
}

/// Everything below `folder`: mode, time of the last change, and content.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path).expect("there");
        if metadata.is_dir() {
            all.extend(tree(&path));
        }
        let content = fs::read(&path).unwrap_or_default();
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        all.insert(path, (metadata.mode(), changed.0, changed.1, content));
    }
    all
}

#[tokio::test]
async fn a_healthy_service_exits_0_after_one_query_for_each_server_and_nothing_changes() {
    let server = mortal_simulator().await;
    let stage = healthy(&server);
    let before = tree(&stage.path(""));
    let (status, said) = doctor(&stage, &[]).await;
    assert_eq!(status, 0, "{said}");
    for wanted in ["runs as the service's user", "token quotes is alive, ", "0 errors, 0 warnings"]
    {
        assert!(said.contains(wanted), "{wanted}:\n{said}");
    }
    assert_eq!((server.requests().len(), calls(&server, Endpoint::Query)), (1, 1));
    let (status, said) = doctor(&stage, &["--offline"]).await;
    assert_eq!((status, server.requests().len()), (0, 1), "{said}");
    assert_eq!(tree(&stage.path("")), before, "it changed something");
}

/// What is wrong, what breaks it, the exit status and words of the finding.
type Case = (&'static str, fn(&Stage), i32, &'static [&'static str]);

const BROKEN: [Case; 25] = [
    (
        "the clock is behind",
        |stage| {
            let file = fs::File::options().append(true).open(stage.path("tokenkeep.toml"));
            let ahead =
                std::time::SystemTime::from(tokenkeep::clock::wall_clock()) + seconds(86_400);
            file.expect("a file").set_modified(ahead).expect("set");
        },
        ERRORS,
        &["error: the clock of this machine is wrong", "from the future", "timedatectl"],
    ),
    (
        "the program of a hook is missing",
        |stage| fs::remove_file(stage.path("hook")).expect("removed"),
        ERRORS,
        &["error: `reauth.relogin.command`, ", "there is no such program", "install it"],
    ),
    (
        "a hook is not executable",
        |stage| set_mode(&stage.path("hook"), 0o600),
        ERRORS,
        &["is not executable", "chmod +x"],
    ),
    (
        "a hook is a directory",
        |stage| {
            fs::remove_file(stage.path("hook")).expect("removed");
            fs::create_dir(stage.path("hook")).expect("created");
        },
        ERRORS,
        &["it is not a file; name a program"],
    ),
    (
        "the interpreter is missing",
        |stage| drop(stage.write("hook", "#!/usr/bin/perl7 -w\n")),
        ERRORS,
        &["its interpreter, /usr/bin/perl7, does not exist"],
    ),
    (
        "the interpreter is not in PATH",
        |stage| drop(stage.write("hook", "#!/usr/bin/env -S python9 -u\n")),
        ERRORS,
        &["its interpreter, python9, is not in $PATH"],
    ),
    (
        "a script has Windows line ends",
        |stage| drop(stage.write("hook", "#!/bin/sh\r\nexit\r\n")),
        ERRORS,
        &["carriage return", "Unix line endings"],
    ),
    (
        "a script names no interpreter",
        |stage| drop(stage.write("hook", "echo hello\n")),
        ERRORS,
        &["names its interpreter", "#!/bin/sh"],
    ),
    (
        "everybody may change a hook",
        |stage| set_mode(&stage.path("hook"), 0o777),
        WARNINGS,
        &["warning: `reauth.relogin.command`", "every user may change", "chmod o-w"],
    ),
    (
        "a program is not in PATH",
        |stage| change(stage, "\"$DIR/hook\"", "\"tokenkeep-no-such-program\""),
        ERRORS,
        &["no such program in $PATH", "full path"],
    ),
    (
        "a token file that a hook can fill is missing",
        |stage| fs::remove_file(stage.path("quotes.token")).expect("removed"),
        WARNINGS,
        &["[token.quotes]", "there is no such file", "`reauth` gets a new value"],
    ),
    (
        "a token file is missing for good",
        |stage| {
            fs::remove_file(stage.path("quotes.token")).expect("removed");
            change(stage, "reauth = \"relogin\"", "");
        },
        ERRORS,
        &["error: [token.quotes]", "there is no such file; create it with the secret"],
    ),
    (
        "a token file is a directory",
        |stage| {
            fs::remove_file(stage.path("quotes.token")).expect("removed");
            fs::create_dir(stage.path("quotes.token")).expect("created");
        },
        ERRORS,
        &["it is a directory"],
    ),
    (
        "a token file holds something else",
        |stage| drop(stage.write("quotes.token", "{\"SessionToken\": \"S3CR3T\"}")),
        ERRORS,
        &["JSON object", "jq -er"],
    ),
    (
        "everybody may read a token file",
        |stage| set_mode(&stage.path("quotes.token"), 0o644),
        WARNINGS,
        &["mode 0644", "chmod 600"],
    ),
    (
        "a credential is not there",
        |stage| change(stage, "file = \"$DIR/quotes.token\"", "credential = \"quotes\""),
        WARNINGS,
        &["credential quotes", "LoadCredential=", "not checked"],
    ),
    (
        "a variable is not set",
        |stage| change(stage, "file = \"$DIR/quotes.token\"", "env = \"QUOTES\""),
        WARNINGS,
        &["$QUOTES", "is not set", "not checked"],
    ),
    (
        "a key file is missing",
        |stage| change(stage, "command = [\"$DIR/hook\"]", "api_key_file = \"$DIR/key\""),
        ERRORS,
        &["[reauth.relogin] API key: ", "/key: there is no such file"],
    ),
    (
        "a key file is empty",
        |stage| {
            stage.write("key", "\n");
            change(stage, "command = [\"$DIR/hook\"]", "api_key_file = \"$DIR/key\"");
        },
        ERRORS,
        &["/key: it is empty"],
    ),
    (
        "the state directory does not exist",
        |stage| fs::remove_dir(stage.path("state")).expect("removed"),
        WARNINGS,
        &["`state_dir`", "does not exist", "mode 0700"],
    ),
    (
        "the state directory is a file",
        |stage| {
            fs::remove_dir(stage.path("state")).expect("removed");
            stage.write("state", "");
        },
        ERRORS,
        &["`state_dir`", "it is not a directory"],
    ),
    (
        "everybody may enter the state directory",
        |stage| set_mode(&stage.path("state"), 0o755),
        WARNINGS,
        &["mode 0755", "chmod 700"],
    ),
    (
        "a CA file is missing",
        |stage| change(stage, "[server.sarus]", "[server.sarus]\nca_file = \"$DIR/ca.pem\""),
        ERRORS,
        &["`ca_file` of [server.sarus]", "cannot be read"],
    ),
    (
        "an inventory is missing",
        |stage| {
            let text = "[inventory.more]\nserver = \"sarus\"\nfile = \"$DIR/more.jsonl\"\n[reauth";
            change(stage, "[reauth", text);
        },
        ERRORS,
        &["error: [inventory.more]", "more.jsonl"],
    ),
    (
        "an inventory has a bad line",
        |stage| {
            stage.write("more.jsonl", "{\"name\": \"a\", \"token\": \"b\"}\nnonsense\n");
            let text = "[inventory.more]\nserver = \"sarus\"\nfile = \"$DIR/more.jsonl\"\n[reauth";
            change(stage, "[reauth", text);
        },
        WARNINGS,
        &["warning: [inventory.more]", "more.jsonl:2"],
    ),
];

/// Replaces a part of the stage's configuration.
fn change(stage: &Stage, from: &str, to: &str) {
    let folder = stage.path("");
    let folder = folder.to_str().expect("UTF-8").trim_end_matches('/');
    let text = stage.read("tokenkeep.toml").replace(folder, "$DIR");
    assert!(text.contains(from), "{text}");
    stage.configure(&text.replacen(from, to, 1));
}

#[tokio::test]
async fn every_problem_is_found_with_its_remedy() {
    let server = mortal_simulator().await;
    for (what, break_it, expected, words) in BROKEN {
        let stage = healthy(&server);
        break_it(&stage);
        let before = tree(&stage.path(""));
        let (status, said) = doctor(&stage, &["--offline"]).await;
        assert_eq!(status, expected, "{what}:\n{said}");
        let found = said.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{what}: no line has {words:?}:\n{said}");
        assert_eq!(tree(&stage.path("")), before, "{what}: it changed something");
    }
    assert_eq!(server.requests().len(), 0, "--offline");
}

#[tokio::test]
async fn a_configuration_with_errors_exits_2_with_all_of_them() {
    let stage = Stage::new("max_hooks = 0\n[log]\nlevl = \"info\"\n");
    let (status, said) = doctor(&stage, &["--offline"]).await;
    assert_eq!(status, ERRORS);
    assert!(said.contains("max_hooks") && said.contains("levl"), "{said}");
}

#[tokio::test]
async fn unusable_server_is_an_error_with_its_reason() {
    let server = mortal_simulator().await;
    let closed = free_port();
    let tls = server.address().port();
    for (url, words) in [
        (format!("http://127.0.0.1:{closed}"), "connection failed"),
        (
            "https://tokenkeep-doctor.invalid".to_owned(),
            "tokenkeep-doctor.invalid cannot be resolved",
        ),
        (format!("https://127.0.0.1:{tls}"), "TLS"),
        (format!("{}/nothing/here", server.url().trim_end_matches('/')), "(404)"),
    ] {
        let stage = healthy(&server);
        let from = format!("url = \"{}\"", server.url());
        change(&stage, &from, &format!("url = \"{url}\""));
        let (status, said) = doctor(&stage, &[]).await;
        assert_eq!(status, ERRORS, "{url}: {said}");
        let line = said.lines().find(|line| line.starts_with("error: [server.sarus]"));
        assert!(line.is_some_and(|line| line.contains(words)), "{url}: {said}");
    }
}

#[tokio::test]
async fn state_of_a_token_decides_the_severity() {
    let quiet = Trouble::Quiet { status: 429, retry_after: RetryAfter::Seconds(5) };
    let maintenance = Trouble::Error { status: 500, detail: "down".to_owned() };
    for (trouble, expected, words) in [
        (None, 0, "ok: [server.sarus] token quotes is alive"),
        (Some(Trouble::Html { status: 503 }), ERRORS, "error: [server.sarus]"),
        (Some(maintenance), ERRORS, "(500) (server: down)"),
        (Some(Trouble::Reset), ERRORS, "error: [server.sarus]"),
        (Some(quiet), WARNINGS, "it asks for a pause of 5 s"),
    ] {
        let server = simulator_with(Behaviour::default()).await;
        let stage = healthy(&server);
        if let Some(trouble) = trouble {
            server.plan_fault(Plan::always(trouble));
        }
        let (status, said) = doctor(&stage, &[]).await;
        assert_eq!(status, expected, "{said}");
        assert!(said.contains(words), "{words}: {said}");
    }
    for (reauth, expected, words) in [
        (true, WARNINGS, "will get a new value from [reauth.relogin]"),
        (false, ERRORS, "put a new value into its file, or configure `reauth`"),
    ] {
        let server = mortal_simulator().await;
        let stage = healthy(&server);
        server.expire(&secret("quotes"));
        if !reauth {
            change(&stage, "reauth = \"relogin\"", "");
            change(&stage, "[reauth.relogin]\ncommand = [\"$DIR/hook\"]\n", "");
        }
        let (status, said) = doctor(&stage, &[]).await;
        assert_eq!(status, expected, "{said}");
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[tokio::test]
async fn server_without_a_readable_token_is_queried_with_a_random_one() {
    let server = mortal_simulator().await;
    let stage = healthy(&server);
    fs::remove_file(stage.path("quotes.token")).expect("removed");
    let (status, said) = doctor(&stage, &[]).await;
    assert_eq!((status, server.requests().len()), (WARNINGS, 1), "{said}");
    assert!(said.contains("ok: [server.sarus] the server responds"), "{said}");
}

#[tokio::test]
async fn too_few_descriptors_for_the_requests_in_flight_are_found() {
    let server = mortal_simulator().await;
    let stage = healthy(&server);
    change(&stage, "[server.sarus]", "[server.sarus]\nmax_in_flight = 900");
    let inner = stage.command("doctor");
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 512; exec \"$0\" \"$@\" --offline"])
        .arg(inner.as_std().get_program())
        .args(inner.as_std().get_args());
    let (status, said) = run(limited).await;
    assert_eq!(status, WARNINGS, "{said}");
    assert!(said.contains("limit of 512 open files") && said.contains("LimitNOFILE="), "{said}");
}

#[tokio::test]
async fn root_continues_with_the_rights_of_the_owner_of_the_state_directory() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let server = mortal_simulator().await;
    let stage = healthy(&server);
    let nobody = nix::unistd::User::from_name("nobody").expect("a database").expect("a user");
    let own = |name: &str| {
        chown(stage.path(name), Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw()))
            .expect("given");
    };
    set_mode(&stage.path(""), 0o755);
    set_mode(&stage.path("tokenkeep.toml"), 0o644);
    own("state");
    let (status, said) = doctor(&stage, &["--offline"]).await;
    assert_eq!(status, ERRORS, "{said}");
    for wanted in [
        "the checks use the rights of nobody",
        "quotes.token: it cannot be read",
        "hook: it is not executable for the service's user",
        "is not writable",
    ] {
        assert!(said.contains(wanted), "{wanted}:\n{said}");
    }
    for name in ["quotes.token", "hook", ""] {
        own(name);
    }
    let (status, said) = doctor(&stage, &["--offline"]).await;
    assert_eq!(status, 0, "{said}");
}

#[tokio::test]
async fn user_other_than_the_services_is_reported() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let server = mortal_simulator().await;
    let stage = healthy(&server);
    set_mode(&stage.path(""), 0o711);
    set_mode(&stage.path("tokenkeep.toml"), 0o644);
    let mut command = stage.command("doctor");
    command.arg("--offline").as_std_mut().uid(1_234).gid(1_234);
    let (status, said) = run(command).await;
    assert_eq!(status, ERRORS, "{said}");
    let words =
        ["warning: runs as uid 1234, but the service runs as root (uid 0)", "run it as root"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[tokio::test]
async fn a_mount_that_keeps_a_file_from_being_replaced_is_found() {
    let server = mortal_simulator().await;
    for (mounts, words) in [
        ("mount --bind host d/quotes.token", "it is a mount point and cannot be replaced"),
        ("mount --bind d d; mount -o remount,bind,ro d", "the file system is mounted read-only"),
    ] {
        let stage = healthy(&server);
        change(&stage, "$DIR/quotes.token", "$DIR/d/quotes.token");
        fs::create_dir(stage.path("d")).expect("created");
        stage.write("d/quotes.token", &secret("quotes"));
        stage.write("host", &secret("quotes"));
        let mut command = stage.command("doctor");
        command.arg("--offline");
        let script = format!("cd {}; {mounts}", stage.path("").display());
        let Some(command) = with_mounts(command, &script).await else { return };
        let (status, said) = run(command).await;
        assert_eq!(status, WARNINGS, "{said}");
        assert!(said.contains(words) && said.contains("kept in `state_dir`"), "{said}");
    }
}

#[tokio::test]
async fn a_mount_without_room_or_without_programs_is_found() {
    let server = mortal_simulator().await;
    for (mounts, expected, words) in [
        ("mount -t tmpfs -o size=1m,mode=700 none state", WARNINGS, "MiB are free"),
        (
            "mount -t tmpfs -o size=4k,mode=700 none state; head -c 4096 /dev/zero > state/full",
            ERRORS,
            "its file system is full",
        ),
        ("mount --bind state state; mount -o remount,bind,ro state", ERRORS, "mounted read-only"),
        ("mount --bind d d; mount -o remount,bind,noexec d", ERRORS, "mounted with `noexec`"),
    ] {
        let stage = healthy(&server);
        change(&stage, "$DIR/hook", "$DIR/d/hook");
        fs::create_dir(stage.path("d")).expect("created");
        stage.script("d/hook", "exit 1");
        let mut command = stage.command("doctor");
        command.arg("--offline");
        let script = format!("cd {}; {mounts}", stage.path("").display());
        let Some(command) = with_mounts(command, &script).await else { return };
        let (status, said) = run(command).await;
        assert_eq!(status, expected, "{mounts}: {said}");
        assert!(said.contains(words), "{mounts}: {said}");
    }
}

#[tokio::test]
async fn hung_file_system_is_reported_after_a_timeout() {
    let server = mortal_simulator().await;
    let stage = healthy(&server);
    change(&stage, "$DIR/quotes.token", "$DIR/hung/quotes.token");
    let Some(_hung) = Hung::over(&stage.path("hung")) else {
        return eprintln!("skipped: this needs root and FUSE");
    };
    let (status, said) = doctor(&stage, &[]).await;
    assert_eq!(status, ERRORS, "{said}");
    assert!(said.contains("error: [token.quotes]: the check has not ended within 10 s"), "{said}");
}
