//! `init`: the configuration that it writes, and those that it leaves alone.

use std::fs;
use std::path::Path;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{PATIENCE, Stage, mode};

const URL: &str = "https://api.example.net/v1";

/// The exit status of a command of the program, and everything that it prints.
async fn tokenkeep(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let mut command: Command = stage.command(arguments[0]);
    command.args(&arguments[1..]);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    (output.status.code().expect("a status"), said)
}

fn empty_stage() -> Stage {
    let stage = Stage::new("");
    fs::remove_file(stage.path("tokenkeep.toml")).expect("removed");
    stage
}

#[tokio::test]
async fn init_writes_a_commented_configuration_that_is_valid_and_never_overwrites_it() {
    let stage = empty_stage();
    let (status, said) = tokenkeep(&stage, &["init", "--url", URL]).await;
    assert_eq!(status, 0, "{said}");
    let text = stage.read("tokenkeep.toml");
    assert!(text.contains(&format!("\n[server.sarus]\nurl = \"{URL}\"\n")), "{text}");
    assert!(text.contains("#[control]\n#listen = "), "{text}");
    assert_eq!(mode(&stage.path("tokenkeep.toml")), 0o644);
    let (status, said) = tokenkeep(&stage, &["check-config"]).await;
    assert_eq!(status, 0, "{said}");
    // The comments are keys that can be used as they are.
    stage.write("tokenkeep.toml", &text.replace("\n#[", "\n[").replace("\n#listen", "\nlisten"));
    let (status, said) = tokenkeep(&stage, &["check-config"]).await;
    assert_eq!(status, 0, "{said}");

    let before = stage.read("tokenkeep.toml");
    let (status, said) = tokenkeep(&stage, &["init", "--url", "https://other.example.net"]).await;
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("already defines a configuration (servers: sarus); it was not changed"),
        "{said}"
    );
    assert_eq!(stage.read("tokenkeep.toml"), before);
    assert!(!stage.path("conf.d").exists());
}

#[tokio::test]
async fn beside_the_configuration_of_the_package_init_writes_a_file_in_conf_d() {
    let shipped = include_str!("../../config/tokenkeep.toml");
    let stage = empty_stage();
    stage.write("tokenkeep.toml", shipped);
    let (status, said) = tokenkeep(&stage, &["init", "--url", URL]).await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("conf.d/server.toml"), "{said}");
    assert_eq!(stage.read("tokenkeep.toml"), shipped);
    let server = stage.read("conf.d/server.toml");
    assert!(server.contains("[server.sarus]") && !server.contains("[control]"), "{server}");
    let (status, said) = tokenkeep(&stage, &["init", "--url", URL]).await;
    assert_eq!(status, 1, "{said}");
    assert_eq!(stage.read("conf.d/server.toml"), server);
}

#[tokio::test]
async fn init_refuses_a_missing_or_invalid_url_and_an_unknown_profile() {
    let stage = empty_stage();
    for (arguments, words) in [
        (&[][..], "the URL of the server is missing: run `tokenkeep --config "),
        (&["--url", "api.example.net"], "--url is not a URL"),
        (&["--url", "http://api.example.net"], "--allow-http"),
        (&["--url", "https://u:p@api.example.net"], "--url contains a user name or password"),
        (
            &["--url", URL, "--profile", "other"],
            "there is no profile `other`; there are sarus, vault, oauth2, ",
        ),
    ] {
        let (status, said) = tokenkeep(&stage, &[&["init"], arguments].concat()).await;
        assert_eq!(status, 64, "{said}");
        assert!(said.contains(words), "{words}: {said}");
        assert!(!stage.path("tokenkeep.toml").exists(), "{words}");
    }
    let arguments = ["init", "--url", "http://api.example.net", "--allow-http"];
    let (status, said) = tokenkeep(&stage, &arguments).await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("is plain http"), "{said}");
}

#[tokio::test]
async fn a_missing_configuration_is_reported_with_init_as_the_remedy() {
    let stage = empty_stage();
    let (status, said) = tokenkeep(&stage, &["add", "quotes"]).await;
    assert_eq!(status, 78, "{said}");
    assert!(said.contains("create it with `tokenkeep init`"), "{said}");
    assert!(!Path::new(&stage.path("conf.d")).exists());
}
