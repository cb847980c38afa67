//! How the faults of a configuration look, in a report and in a log.

use crate::support::{MARK, Stage};

/// What `subcommand` says of a configuration with three faults, `$DIR` for the stage's folder.
async fn said(subcommand: &str) -> String {
    let stage = Stage::new(&format!(
        "[schedule]\njitterr = 0.1\n[server.sarus]\nurl = \"https://user:{MARK}@h\"\n\
         [token.quotes]\nvalue = \"{MARK}\" # {MARK}\nserver = \"sarus\"\nenv = \"Q\"\n",
    ));
    let output = stage.command(subcommand).output().await.expect("it starts");
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    text.replace(stage.path("").to_str().expect("UTF-8"), "$DIR/")
}

#[tokio::test]
async fn check_config_shows_the_line_of_each_error_and_hides_secrets() {
    let said = said("check-config").await;
    for wanted in [
        "$DIR/tokenkeep.toml:3:1: there is no key `jitterr` in [schedule]\n  |\n\
         3 | jitterr = 0.1\n  | ^^^^^^^\n  |\n  = help: did you mean `jitter`?\n",
        "$DIR/tokenkeep.toml:5:1: `server.sarus.url` contains a user name or password\n  |\n\
         5 | url = \"https://***@h\"\n  | ^^^\n",
        "$DIR/tokenkeep.toml:7:1: there is no key `value` in [token.quotes]\n  |\n\
         7 | value = ***\n  | ^^^^^\n",
        "tokenkeep: 3 errors in the configuration\n",
    ] {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
    assert!(!said.contains(MARK), "{said}");
}

#[tokio::test]
async fn log_has_one_line_for_each_configuration_error() {
    let said = said("run").await;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    let first = "$DIR/tokenkeep.toml:3:1: there is no key `jitterr` in [schedule]; did you mean";
    assert!(lines[0].starts_with(first), "{said}");
    assert!(!said.contains(MARK), "{said}");
}
