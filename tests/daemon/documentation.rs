//! The commands of README.md and docs/, run as they are written, against a running daemon.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{
    Daemon, PATIENCE, Stage, free_port, login_simulator, seconds, secret, served, server_table,
    simulator, token_table, until,
};

/// What has tests of its own: it changes the configuration, never ends, needs etcd, or concerns
/// another installation.
const EXCLUDED: [&str; 8] =
    ["add", "cluster", "demo", "init", "remove", "run", "--follow", "--user"];

/// The lines of the `sh` blocks of the pages for users that call tokenkeep or its socket.
fn commands() -> Vec<String> {
    let entries =
        fs::read_dir("docs").expect("a folder").map(|entry| entry.expect("a page").path());
    let pages = entries.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    let mut found = Vec::new();
    for page in pages.chain([PathBuf::from("README.md")]) {
        let text = fs::read_to_string(page).expect("text");
        let blocks = text.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        for line in blocks.flat_map(str::lines) {
            let mut words = line.strip_prefix("sudo ").unwrap_or(line).split(' ');
            let is_of_the_tutorial = line.contains("$url") || line.contains(":8900/");
            let is_ours = matches!(words.next(), Some("tokenkeep" | "curl"))
                && !is_of_the_tutorial
                && !words.any(|word| EXCLUDED.contains(&word));
            if is_ours {
                found.push(line.to_owned());
            }
        }
    }
    found.sort();
    found.dedup();
    // Revoked tokens are not alive, which `status` reports.
    found.sort_by_key(|line| line.contains("revoke"));
    found
}

/// The blocks of the tutorial about profiles in this language, with the invented API at `port`.
fn tutorial(language: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string("docs/profiles.md").expect("text");
    let section = text.split("\n## ").find(|section| section.starts_with("Write one")).expect("it");
    let fence = format!("\n```{language}\n");
    let blocks = section.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| block.replace("8900", &port.to_string())).collect()
}

/// The README's last block of this language that contains `content`.
fn block(language: &str, content: &str) -> String {
    let text = fs::read_to_string("README.md").expect("text");
    let fence = format!("\n```{language}\n");
    let blocks = text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains(content)).last().expect(content).to_owned()
}

/// Runs a line of shell with the programs in `bin`.
async fn shell(stage: &Stage, line: &str, input: &str) -> Output {
    let path = std::env::var("PATH").expect("a path");
    let mut child = Command::new("sh")
        .args(["-euc", line])
        .env_clear()
        .env("PATH", format!("{}:{path}", stage.path("bin").display()))
        .current_dir(stage.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that reads nothing may have closed it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("an end")
}

/// Puts the programs that the commands call into `bin`: `tokenkeep` of this build with the
/// configuration `path`, after the shell commands `before`, and stand-ins for the others.
fn programs(stage: &Stage, path: &str, before: &str) {
    let program = env!("CARGO_BIN_EXE_tokenkeep");
    stage.script("bin/tokenkeep", &format!("{before}exec {program} \"$@\" --config \"{path}\""));
    stage.script("bin/sudo", "exec \"$@\"");
    stage.script(
        "bin/systemctl",
        "case $1 in\nreload) exec tokenkeep reload --wait;;\ntry-restart) echo \"$@\" >>\"$DIR/called\";;\nesac",
    );
}

#[tokio::test]
async fn readme_leads_from_the_first_token_to_an_application_that_is_restarted() {
    let server = login_simulator().await;
    let stage = Stage::new("");
    for folder in ["fresh", "fresh/state", "fresh/tokenkeep"] {
        fs::create_dir(stage.path(folder)).expect("a folder");
    }
    let directories = "STATE_DIRECTORY=$DIR/fresh/state RUNTIME_DIRECTORY=$DIR/fresh/tokenkeep";
    programs(&stage, "$DIR/fresh/tokenkeep.toml", &format!("export {directories}\n"));
    let value = secret("quotes");
    server.add_token(&value, seconds(600));

    // Quick start.
    let commands = block("sh", "tokenkeep init").replace("https://api.example.net", &server.url());
    let [init, add, status] = commands.lines().collect::<Vec<_>>()[..] else {
        panic!("{commands}")
    };
    for (line, input) in [(init, ""), (add, value.as_str())] {
        let output = shell(&stage, line, input).await;
        assert!(output.status.success(), "{line}: {output:?}");
    }
    let mut run = Command::new(stage.path("bin/tokenkeep"));
    let path = std::env::var_os("PATH").expect("a path");
    run.arg("run").env_clear().env("PATH", path).stdin(Stdio::null()).kill_on_drop(true);
    let daemon = Daemon::start(run);
    daemon.event("token_checked", "quotes").await;
    let output = shell(&stage, status, "").await;
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("alive"), "{output:?}");

    // Getting new tokens, using the token.
    let here = |text: String| {
        text.replace("/etc/tokenkeep/sarus.key", "$DIR/sarus.key")
            .replace("/var/lib/tokenkeep", "$DIR/fresh/state")
            .replace("/usr/bin/systemctl", "$DIR/bin/systemctl")
    };
    stage.write("sarus.key", &secret("key"));
    stage.write("fresh/conf.d/reauth.toml", &here(block("toml", "[reauth.login]")));
    let using = here(block("toml", "[notify.quotes-app]"));
    let (entry, notify) = using.split_once("# conf.d/notify.toml\n").expect("two files");
    assert!(entry.starts_with("# conf.d/quotes.toml\n"), "{entry}");
    stage.write("fresh/conf.d/quotes.toml", entry);
    stage.write("fresh/conf.d/notify.toml", notify);
    let output = shell(&stage, &block("sh", "systemctl reload"), "").await;
    assert!(output.status.success(), "{output:?}");
    server.expire(&value);
    let output = shell(&stage, "tokenkeep check quotes", "").await;
    daemon.event("token_replaced", "quotes").await;
    until("the application was restarted", || stage.lines_in("called") > 0).await;
    assert_eq!(stage.read("called"), "try-restart quotes-app\n", "{output:?}");
    assert!(stage.read("fresh/state/quotes.env").starts_with("QUOTES_TOKEN=\"issued-"));
    daemon.stop().await;
}

#[tokio::test]
async fn commands_of_the_documentation_work() {
    let server = simulator().await;
    let listen = format!("127.0.0.1:{}", free_port());
    let tokens = token_table("quotes", "sarus", "") + &token_table("quotes-1", "sarus", "");
    let control = format!("[control]\nsocket = \"$DIR/control.sock\"\nlisten = \"{listen}\"\n");
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tokens + &control));
    for name in ["quotes", "quotes-1"] {
        server.add_token(&stage.token(name), seconds(600));
    }
    stage.write("probed.token", &secret("probed"));
    programs(&stage, "$DIR/tokenkeep.toml", "");
    let daemon = stage.start();
    served(&server, |requests| requests.len() >= 2).await;
    daemon.event("token_checked", "quotes-1").await;
    daemon.event("token_checked", "quotes").await;

    let commands = commands();
    assert!(commands.len() >= 10, "{commands:?}");
    for line in commands {
        let here = line
            .replace(
                "/run/tokenkeep/control.sock",
                stage.path("control.sock").to_str().expect("text"),
            )
            .replace("127.0.0.1:9464", &listen)
            .replace("https://api.example.net", &server.url())
            .replace("--token-file quotes.token", "--token-file probed.token");
        if line.contains("tokenkeep probe") {
            // `probe` waits for a fifth of this life, which begins now.
            server.add_token(&secret("probed"), seconds(10));
        }
        let output = shell(&stage, &here, "").await;
        // `doctor` exits with 1 if it only has warnings.
        let most = i32::from(line.contains("tokenkeep doctor"));
        assert!(output.status.code().is_some_and(|status| status <= most), "{line}: {output:?}");
        assert!(!output.stdout.is_empty(), "{line}: {output:?}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn tutorial_about_profiles_works_as_it_is_written() {
    let port = free_port();
    let [api] = &tutorial("python", port)[..] else { panic!("the API") };
    let [profile, service] = &tutorial("toml", port)[..] else { panic!("profile and service") };
    let [login, look, probe] = &tutorial("sh", port)[..] else { panic!("three steps") };
    let here = |text: &str| {
        text.replace("/etc/tokenkeep/", "$DIR/").replace("/var/lib/tokenkeep/", "$DIR/state/")
    };
    let stage = Stage::new(&here(service));
    programs(&stage, "$DIR/tokenkeep.toml", "");
    let script = stage.write("parcels.py", api);
    let mut python = Command::new("python3");
    let _api =
        python.arg(script).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("python3");
    until("the API listens", || TcpStream::connect(("127.0.0.1", port)).is_ok()).await;

    // Look at the responses.
    let opened = shell(&stage, login, "").await;
    let opened: Value = serde_json::from_slice(&opened.stdout).expect("JSON");
    let key = opened["session"]["key"].as_str().expect("a key");
    let [store, requests] = look.split_once('\n').map(<[&str; 2]>::from).expect("two steps");
    let shown = store.split(' ').nth(4).expect("a key");
    let url = login.lines().next().expect("an address");
    let lines = [url, &store.replace(shown, key), requests].join("\n");
    let looked = String::from_utf8(shell(&stage, &lines, "").await.stdout).expect("text");
    assert_eq!(looked.matches("200 OK").count(), 2, "{looked}");
    assert_eq!(looked.matches("session unknown").count(), 1, "{looked}");
    assert_eq!(looked.matches("not permitted").count(), 1, "{looked}");

    // Write the profile, and probe it.
    stage.write("parcels.toml", profile);
    let probed = shell(&stage, probe, "").await;
    assert!(probed.status.success(), "{probed:?}");
    let probed = String::from_utf8(probed.stdout).expect("text");
    assert!(probed.starts_with("query: HTTP 200; `life`: "), "{probed}");
    let call = probe.lines().last().expect("a call");
    stage.write("invented.token", "invented");
    let dead = shell(&stage, &call.replace("parcels.token", "invented.token"), "").await;
    assert_eq!(dead.status.code(), Some(1), "{dead:?}");
    stage.write("parcels.toml", &profile.replace("GET session", "GET parcels"));
    let forbidden = shell(&stage, call, "").await;
    assert_eq!(forbidden.status.code(), Some(78), "{forbidden:?}");
    let forbidden = String::from_utf8(forbidden.stdout).expect("text");
    assert!(forbidden.contains("no rule of `later` or `dead` matches"), "{forbidden}");

    // Put it into service: without a session, the first thing is a login.
    stage.write("parcels-password", "secret");
    let daemon = stage.start();
    daemon.event("reauth_succeeded", "parcels").await;
    daemon.event("token_checked", "parcels").await;
    daemon.stop().await;
}
