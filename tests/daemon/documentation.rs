//! The commands of README.md and docs/, run as they are written, against a running daemon.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::support::{
    Stage, free_port, seconds, secret, served, server_table, simulator, token_table,
};

/// What has tests of its own: it changes the configuration, never ends, or concerns another
/// installation.
const EXCLUDED: [&str; 7] = ["add", "demo", "init", "remove", "run", "--follow", "--user"];

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
            let is_ours = matches!(words.next(), Some("tokenkeep" | "curl"))
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
    // `probe` waits for a fifth of this life.
    server.add_token(&secret("probed"), seconds(2));
    stage.write("probed.token", &secret("probed"));
    let program = env!("CARGO_BIN_EXE_tokenkeep");
    stage.script(
        "bin/tokenkeep",
        &format!("exec {program} \"$@\" --config \"$DIR/tokenkeep.toml\""),
    );
    stage.script("bin/sudo", "exec \"$@\"");
    stage.script("bin/systemctl", "");
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
        let path = std::env::var("PATH").expect("a path");
        let output = Command::new("sh")
            .args(["-euc", &here])
            .env_clear()
            .env("PATH", format!("{}:{path}", stage.path("bin").display()))
            .current_dir(stage.path(""))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = output.await.expect("a shell");
        // `doctor` exits with 1 if it only has warnings.
        let most = i32::from(line.contains("tokenkeep doctor"));
        assert!(output.status.code().is_some_and(|status| status <= most), "{line}: {output:?}");
        assert!(!output.stdout.is_empty(), "{line}: {output:?}");
    }
    daemon.stop().await;
}
