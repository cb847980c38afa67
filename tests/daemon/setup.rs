//! `init`, `add` and `remove`: what they write, what they refuse, and the daemon beside them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::process::geteuid;
use tokenkeep::simulator::Simulator;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{
    ISSUED, MARK, PATIENCE, Stage, about, mode, seconds, secret, server_table, simulator,
    token_table, with_mounts,
};

const NEGATIVE: i32 = 1;
const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;
const INTERNAL: i32 = 70;
const NOT_PERMITTED: i32 = 77;
const CONFIGURATION: i32 = 78;

/// The exit status of a command that gets `input`, and everything that it prints.
pub(crate) async fn run(mut command: Command, input: &str) -> (i32, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that refuses its arguments does not read.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("read");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    assert!(!text.contains(MARK) && !text.contains(ISSUED), "a secret in:\n{text}");
    (output.status.code().expect("a status"), text)
}

/// The same for a command of the program.
pub(crate) async fn tokenkeep(stage: &Stage, arguments: &[&str], input: &str) -> (i32, String) {
    let mut command = stage.command(arguments[0]);
    command.args(&arguments[1..]);
    run(command, input).await
}

/// A stage with a server and no token, and that server, which knows the token `quotes`.
pub(crate) async fn staged() -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = Stage::new(&server_table("sarus", &server, ""));
    server.add_token(&secret("quotes"), seconds(3_600));
    (server, stage)
}

/// The names of all files in the stage, sorted.
fn files(stage: &Stage) -> Vec<String> {
    fn collect(folder: &std::path::Path, all: &mut Vec<String>, root: &std::path::Path) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, all, root);
            } else {
                let name = path.strip_prefix(root).expect("below").display().to_string();
                all.push(name);
            }
        }
    }
    let mut all = Vec::new();
    collect(&stage.path(""), &mut all, &stage.path(""));
    all.sort();
    all
}

#[tokio::test]
async fn a_running_daemon_keeps_a_token_as_soon_as_it_is_added() {
    let (server, stage) = staged().await;
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    let (status, said) = tokenkeep(&stage, &["add", "quotes"], &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    for wanted in [
        "quotes: alive: 1 h left, until 20",
        "state/quotes.token\n",
        "conf.d/quotes.toml\n",
        "configuration reloaded\nadded: quotes\n",
        "Next: tokenkeep --config ",
        " status quotes\n",
    ] {
        assert!(said.contains(wanted), "{wanted}:\n{said}");
    }
    daemon.event("token_checked", "quotes").await;
    assert_eq!(stage.read("state/quotes.token"), format!("{}\n", secret("quotes")));
    assert_eq!(mode(&stage.path("state/quotes.token")), 0o600);
    assert_eq!(mode(&stage.path("conf.d/quotes.toml")), 0o644);
    // One query before it is stored, and the daemon's.
    assert!(about(&server, &secret("quotes")).len() >= 2);
    daemon.stop().await;
}

#[tokio::test]
async fn without_a_daemon_add_says_how_to_start_it() {
    let (_server, stage) = staged().await;
    let (status, said) = tokenkeep(&stage, &["add", "quotes"], &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("no daemon is running\nNext: tokenkeep --config "), "{said}");
    assert!(said.trim_end().ends_with(" run"), "{said}");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_does_not_respond_is_not_taken_for_a_missing_one() {
    let (_server, stage) = staged().await;
    let listener = UnixListener::bind(stage.path("control.sock")).expect("a socket");
    let closing = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    let (status, said) = tokenkeep(&stage, &["add", "quotes"], &secret("quotes")).await;
    assert_eq!(status, UNAVAILABLE, "{said}");
    assert!(said.contains("no daemon answers on ") && !said.contains("Next: "), "{said}");
    assert!(stage.path("conf.d/quotes.toml").exists(), "it is stored nevertheless");
    closing.abort();
}

#[tokio::test]
async fn nothing_is_written_if_the_token_or_the_arguments_are_not_valid() {
    let (server, stage) = staged().await;
    server.add_token(&secret("expired"), seconds(60));
    server.expire(&secret("expired"));
    let before = files(&stage);
    let good = secret("quotes");
    let (lines, long) = (format!("{good}\n{good}\n"), "x".repeat(5_000));
    let control = format!("{good}\u{7}");
    for (arguments, input, expected, words) in [
        (&["quotes"][..], "", USAGE, "it is empty"),
        (&["quotes"], " \n", USAGE, "it is empty"),
        (&["quotes"], &lines, USAGE, "a line break"),
        (&["quotes"], &control, USAGE, "a control character"),
        (&["quotes"], &long, USAGE, "longer than 4096 bytes"),
        (&["quotes"], "{\"SessionToken\":\"S3CR3T\"}", USAGE, "looks like a JSON object"),
        (&["quotes"], "null\n", USAGE, "the word `null`"),
        (&["quo/tes"], &good, USAGE, "has a slash in its name"),
        (&[".quotes"], &good, USAGE, "begins with a dot"),
        (&[""], &good, USAGE, "has an empty name"),
        (&["--", "-x"], &good, USAGE, "a name that begins with `-` looks like an option"),
        (&["quotes", "--server", "other"], &good, USAGE, "configured: sarus"),
        (&["quotes", "--reauth", "login"], &good, USAGE, "no [reauth.login]; configured: none"),
        (&["quotes", &good], "", USAGE, "a token value is not an argument"),
        (&["0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77"], "", USAGE, "a token value is not an argument"),
        (&["quotes"], &secret("expired"), NEGATIVE, "expired: the server reports"),
        (&["quotes"], &secret("unknown"), NEGATIVE, "rejected: the server does not know"),
    ] {
        let arguments = [&["add"], arguments].concat();
        let (status, said) = tokenkeep(&stage, &arguments, input).await;
        assert_eq!(status, expected, "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(files(&stage), before, "{words}");
    }
}

#[tokio::test]
async fn nothing_is_written_if_the_server_gives_no_conclusive_response() {
    let (mut server, stage) = staged().await;
    let before = files(&stage);
    let add = ["add", "quotes"];
    stage.configure(&format!("[server.sarus]\nurl = \"{}/elsewhere\"\n", server.url()));
    let (status, said) = tokenkeep(&stage, &add, &secret("quotes")).await;
    assert_eq!(status, CONFIGURATION, "{said}");
    assert!(said.contains("nothing was written"), "{said}");
    stage.configure(&server_table("sarus", &server, ""));
    server.go_down().await;
    let (status, said) = tokenkeep(&stage, &add, &secret("quotes")).await;
    assert_eq!(status, UNAVAILABLE, "{said}");
    assert!(said.contains("connection failed") && said.contains("nothing was written"), "{said}");
    assert_eq!(files(&stage), before);

    let (status, said) = tokenkeep(&stage, &["add", "quotes", "--force"], &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("stored because of --force"), "{said}");
    assert_eq!(stage.read("state/quotes.token").trim(), secret("quotes"));
}

#[tokio::test]
async fn a_name_or_a_value_that_exists_is_refused() {
    let (server, stage) = staged().await;
    let inventory = "[inventory.many]\nserver = \"sarus\"\nfile = \"$DIR/many.jsonl\"\n";
    let tables = [server_table("sarus", &server, ""), token_table("quotes", "sarus", "")];
    stage.configure(&(tables.concat() + inventory));
    let value = stage.token("quotes");
    let line = serde_json::json!({ "name": "listed", "token": secret("listed") });
    stage.write("many.jsonl", &format!("{line}\n"));
    server.add_token(&secret("listed"), seconds(60));
    server.add_token(&secret("new"), seconds(60));
    let before = files(&stage);
    for (name, input, words) in [
        ("quotes", &*secret("new"), "the token quotes exists, in "),
        ("listed", &secret("new"), "listed of [inventory.many] ("),
        ("other", &value, "this is the value of [token.quotes]"),
        ("other", &secret("listed"), "this is the value of listed of [inventory.many] ("),
    ] {
        let (status, said) = tokenkeep(&stage, &["add", name], input).await;
        assert_eq!(status, NEGATIVE, "{said}");
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(files(&stage), before, "{words}");
    }
    let (_, said) = tokenkeep(&stage, &["add", "quotes"], &secret("new")).await;
    assert!(said.contains("tokenkeep.toml line 5; add --replace"), "{said}");
}

#[tokio::test]
async fn replace_gives_a_token_a_new_value_in_its_own_file() {
    let (server, stage) = staged().await;
    let tables = [server_table("sarus", &server, ""), token_table("quotes", "sarus", "")];
    stage.configure(&tables.concat());
    stage.token("quotes");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    server.add_token(&secret("new"), seconds(3_600));
    let (status, said) = tokenkeep(&stage, &["add", "quotes", "--replace"], &secret("new")).await;
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("the daemon checks the new value") && !said.contains("unchanged"),
        "{said}"
    );
    assert_eq!(stage.read("quotes.token").trim(), secret("new"));
    assert!(!stage.path("conf.d").exists());
    let replaced = daemon.event("token_replaced", "quotes").await;
    assert_eq!(replaced.text("by"), "source");
    daemon.stop().await;

    // The entry names other settings, which only an editor may change.
    stage.configure(&(tables.concat() + "[reauth.login]\ncommand = [\"/bin/true\"]\n"));
    let arguments = ["add", "quotes", "--replace", "--reauth", "login"];
    let (status, said) = tokenkeep(&stage, &arguments, &secret("new")).await;
    assert_eq!(status, NEGATIVE, "{said}");
    assert!(said.contains("is configured by hand, in "), "{said}");
}

#[tokio::test]
async fn replace_changes_server_and_reauth_of_an_entry_that_add_wrote() {
    let (server, stage) = staged().await;
    let tables = [server_table("sarus", &server, ""), server_table("other", &server, "")];
    stage.configure(&(tables.concat() + "[reauth.login]\ncommand = [\"/bin/true\"]\n"));
    let value = secret("quotes");
    let (status, said) = tokenkeep(&stage, &["add", "quotes"], &value).await;
    assert_eq!(status, USAGE, "{said}");
    assert!(said.contains("several servers are configured: other, sarus"), "{said}");
    let (status, said) = tokenkeep(&stage, &["add", "quotes", "--server", "sarus"], &value).await;
    assert_eq!(status, 0, "{said}");
    // The server that the token has needs no option.
    let arguments = ["add", "quotes", "--reauth", "login", "--replace"];
    let (status, said) = tokenkeep(&stage, &arguments, &value).await;
    assert_eq!(status, 0, "{said}");
    let entry = stage.read("conf.d/quotes.toml");
    assert!(
        entry.contains("server = \"sarus\"") && entry.contains("reauth = \"login\""),
        "{entry}"
    );
    let arguments = ["add", "quotes", "--server", "other", "--replace"];
    let (status, said) = tokenkeep(&stage, &arguments, &value).await;
    assert_eq!(status, 0, "{said}");
    let entry = stage.read("conf.d/quotes.toml");
    assert!(
        entry.contains("server = \"other\"") && entry.contains("reauth = \"login\""),
        "{entry}"
    );
}

#[tokio::test]
async fn add_can_be_repeated_after_it_was_killed_between_its_two_writes() {
    let (_server, stage) = staged().await;
    // What remains then: the token file, complete, without an entry.
    stage.write("state/quotes.token", &format!("{}\n", secret("quotes")));
    let (status, said) = tokenkeep(&stage, &["add", "quotes"], &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    assert!(stage.path("conf.d/quotes.toml").exists());

    stage.write("state/orders.token", "kept\n");
    let (status, said) = tokenkeep(&stage, &["add", "orders"], &secret("unknown")).await;
    assert_eq!(status, NEGATIVE, "{said}");
    assert!(said.contains("orders.token exists with other content"), "{said}");
    assert!(said.contains("add orders --replace`; nothing was written"), "{said}");
    assert_eq!(stage.read("state/orders.token"), "kept\n");
}

#[tokio::test]
async fn the_token_file_is_removed_if_the_entry_cannot_be_written() {
    let (_server, stage) = staged().await;
    fs::create_dir(stage.path("conf.d")).expect("created");
    let folder = stage.path("conf.d");
    let mounts = format!(
        "mount -t tmpfs -o size=4k none '{0}'\nhead -c 4096 /dev/zero >'{0}/full'",
        folder.display()
    );
    let mut command = stage.command("add");
    command.arg("quotes");
    let Some(command) = with_mounts(command, &mounts).await else { return };
    let (status, said) = run(command, &secret("quotes")).await;
    assert_eq!(status, INTERNAL, "{said}");
    assert!(said.contains("the file system is full"), "{said}");
    assert_eq!(fs::read_dir(stage.path("state")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_folder_on_a_read_only_file_system_is_named_before_the_token_is_read() {
    let (_server, stage) = staged().await;
    fs::create_dir(stage.path("conf.d")).expect("created");
    let mounts = format!("mount -t tmpfs -o ro none '{}'", stage.path("conf.d").display());
    let mut command = stage.command("add");
    command.arg("quotes");
    let Some(command) = with_mounts(command, &mounts).await else { return };
    let (status, said) = run(command, "").await;
    assert_eq!(status, NOT_PERMITTED, "{said}");
    assert!(said.contains("conf.d is read-only"), "{said}");
    assert!(!stage.path("state").exists());
}

#[tokio::test]
async fn without_permission_the_message_names_sudo() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let (server, stage) = staged().await;
    for (path, mode) in [("", 0o755), ("tokenkeep.toml", 0o644)] {
        fs::set_permissions(stage.path(path), Permissions::from_mode(mode)).expect("permitted");
    }
    let before = files(&stage);
    let new = stage.path("new.toml");
    let config = stage.path("tokenkeep.toml");
    for (config, arguments) in
        [(&config, &["add", "quotes", "--force"][..]), (&new, &["init", "--url", &server.url()])]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
        command.arg("--config").arg(config).args(arguments).env_clear().uid(65_534).gid(65_534);
        let (status, said) = run(command, &secret("quotes")).await;
        assert_eq!(status, NOT_PERMITTED, "{said}");
        assert!(said.contains("is not writable") && said.contains("or run `sudo "), "{said}");
        let names_directory = said.contains("or set `state_dir = \"…\"` in ");
        assert_eq!(names_directory, arguments[0] == "add", "{said}");
        assert_eq!(files(&stage), before);
    }
    // That remedy repeats the URL, which may contain a secret if it is refused.
    let url = format!("https://api.example.net/?token={}", secret("quotes"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.arg("--config").arg(&new).args(["init", "--url", &url]).env_clear();
    command.uid(65_534).gid(65_534);
    let (status, said) = run(command, "").await;
    assert_eq!(status, USAGE, "{said}");
    assert!(said.contains("--url contains "), "{said}");
}

#[tokio::test]
async fn a_removed_token_is_no_longer_checked_and_its_file_is_deleted_on_request() {
    let (server, stage) = staged().await;
    server.add_token(&secret("orders"), seconds(3_600));
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    for name in ["quotes", "orders"] {
        let (status, said) = tokenkeep(&stage, &["add", name], &secret(name)).await;
        assert_eq!(status, 0, "{said}");
        daemon.event("token_checked", name).await;
    }
    let (status, said) = tokenkeep(&stage, &["remove", "quotes", "--delete-token"], "").await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("conf.d/quotes.toml\n") && said.contains("removed: quotes"), "{said}");
    let entry = stage.read("conf.d/orders.toml");
    let env_file = stage.path("orders.env");
    let env_file = env_file.to_str().expect("UTF-8");
    stage.write("conf.d/orders.toml", &format!("{entry}env_file = \"{env_file}\"\n"));
    stage.write("orders.env", "ORDERS_TOKEN=\"x\"\n");
    let (status, said) = tokenkeep(&stage, &["remove", "orders"], "").await;
    assert_eq!(status, 0, "{said}");
    let rest = ["state/orders.token", "orders.env"].map(|file| stage.path(file));
    for file in rest {
        assert!(said.contains(&format!("the token is still in {}", file.display())), "{said}");
    }
    assert!(!stage.path("state/quotes.token").exists());
    assert!(stage.path("state/orders.token").exists());
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_missing", "quotes"), 0);
}

#[tokio::test]
async fn remove_names_the_token_file_that_remains_if_the_reload_fails() {
    let (_server, stage) = staged().await;
    for arguments in [&["remove", "quotes"][..], &["remove", "quotes", "--delete-token"]] {
        let (status, said) = tokenkeep(&stage, &["add", "quotes"], &secret("quotes")).await;
        assert_eq!(status, 0, "{said}");
        let listener = UnixListener::bind(stage.path("control.sock")).expect("a socket");
        let closing = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                drop(connection);
            }
        });
        let (status, said) = tokenkeep(&stage, arguments, "").await;
        assert_eq!(status, UNAVAILABLE, "{said}");
        let file = stage.path("state/quotes.token");
        for wanted in [
            format!("the token is still in {}, because", file.display()),
            " reload --wait`, then `rm /".to_owned(),
        ] {
            assert!(said.contains(&wanted), "{wanted}: {said}");
        }
        assert!(!stage.path("conf.d/quotes.toml").exists() && file.exists(), "{said}");
        closing.abort();
        fs::remove_file(stage.path("control.sock")).expect("removed");
    }
}

#[tokio::test]
async fn the_daemon_is_found_at_the_socket_that_its_unit_sets() {
    let (_server, stage) = staged().await;
    let socket = stage.path("other.sock");
    let variable = format!("TOKENKEEP__CONTROL__SOCKET={}", socket.display());
    let config = stage.path("tokenkeep.toml");
    stage.script(
        "bin/systemctl",
        &format!(
            "echo 'ExecStart={{ argv[]=/usr/bin/tokenkeep run --config {} ; }}'\n\
             echo 'Environment={variable}'",
            config.display()
        ),
    );
    let daemon = stage.start_with(&[("TOKENKEEP__CONTROL__SOCKET", socket.to_str().expect("it"))]);
    daemon.event("daemon_ready", "").await;
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", stage.path("bin").display());
    for (arguments, wanted) in [
        (["add", "quotes"], "configuration reloaded\nadded: quotes\n"),
        (["remove", "quotes"], "removed: quotes"),
    ] {
        let mut command = stage.command(arguments[0]);
        command.args(&arguments[1..]).env("PATH", &path);
        let (status, said) = run(command, &secret("quotes")).await;
        assert_eq!(status, 0, "{said}");
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn only_an_entry_that_stands_alone_in_a_file_of_conf_d_is_removed() {
    let (server, stage) = staged().await;
    let inventory = "[inventory.many]\nserver = \"sarus\"\nfile = \"$DIR/many.jsonl\"\n";
    let main = server_table("sarus", &server, "") + &token_table("main", "sarus", "") + inventory;
    stage.configure(&main);
    let line = serde_json::json!({ "name": "listed", "token": secret("listed") });
    stage.write("many.jsonl", &format!("{line}\n"));
    stage.write(
        "conf.d/two.toml",
        &["one", "two"].map(|name| token_table(name, "sarus", "")).concat(),
    );
    let shared = token_table("one", "sarus", "").replace("[token.one]", "[token.shared]");
    stage.write("conf.d/shared.toml", &shared);
    stage.token("one");
    let before = files(&stage);
    for (arguments, words) in [
        (&["main"][..], "tokenkeep.toml line 5"),
        (&["two"], "two.toml line 5"),
        (&["listed"], "comes from listed of [inventory.many] ("),
        (&["shared", "--delete-token"], "[token.one] uses the same file"),
        (&["none"], "there is no token none"),
    ] {
        let (status, said) = tokenkeep(&stage, &[&["remove"], arguments].concat(), "").await;
        assert_eq!(status, NEGATIVE, "{said}");
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(files(&stage), before, "{words}");
    }
}

#[tokio::test]
async fn an_entry_that_makes_the_configuration_invalid_can_be_removed() {
    let (_server, stage) = staged().await;
    let (status, said) = tokenkeep(&stage, &["add", "quotes"], &secret("quotes")).await;
    assert_eq!(status, 0, "{said}");
    stage.configure("[server.other]\nurl = \"https://api.example.net\"\n");
    let (status, said) = tokenkeep(&stage, &["remove", "quotes", "--delete-token"], "").await;
    assert_eq!(status, CONFIGURATION, "{said}");
    let (status, said) = tokenkeep(&stage, &["remove", "quotes"], "").await;
    assert_eq!(status, 0, "{said}");
    assert!(!stage.path("conf.d/quotes.toml").exists());
}

#[tokio::test]
async fn an_invalid_configuration_is_reported_and_stays_as_it_is() {
    let (_server, stage) = staged().await;
    stage.configure("max_hooks = 0\n");
    let before = files(&stage);
    for arguments in
        [&["add", "quotes"][..], &["remove", "quotes"], &["init", "--url", "https://h"]]
    {
        let (status, said) = tokenkeep(&stage, arguments, &secret("quotes")).await;
        assert_eq!(status, CONFIGURATION, "{said}");
        assert!(said.contains("`max_hooks` must be"), "{said}");
        assert_eq!(files(&stage), before);
    }
}
