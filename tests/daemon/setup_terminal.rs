//! `add` and `init` on a terminal.

use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;
use tokio::process::Command;

use crate::support::{Stage, Terminal, seconds, secret, server_table, simulator, until};

/// A stage with a server that knows the token `quotes`.
async fn staged() -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = Stage::new(&server_table("sarus", &server, ""));
    server.add_token(&secret("quotes"), seconds(3_600));
    (server, stage)
}

/// Starts a command in a session of its own, whose terminal is the test's.
fn on_terminal(stage: &Stage, arguments: &[&str]) -> Terminal {
    let inner = stage.command(arguments[0]);
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(inner.as_std().get_program()).args(inner.as_std().get_args());
    command.args(&arguments[1..]);
    Terminal::start(command)
}

/// Starts `add quotes`, and waits until it asks for the token.
async fn asking(stage: &Stage) -> Terminal {
    let terminal = on_terminal(stage, &["add", "quotes"]);
    terminal.until(|text| text.contains("Token for quotes at http://127.")).await;
    assert!(!terminal.echoes());
    terminal
}

#[tokio::test]
async fn a_token_that_is_typed_is_stored_and_not_shown() {
    let (_server, stage) = staged().await;
    let terminal = asking(&stage).await;
    terminal.write(&format!("{}\n", secret("quotes")));
    let (status, said) = terminal.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("S3CR3T"), "{said}");
    assert_eq!(stage.read("state/quotes.token"), format!("{}\n", secret("quotes")));
}

#[tokio::test]
async fn a_signal_at_the_prompt_ends_add_with_the_echo_restored_and_nothing_written() {
    let (_server, stage) = staged().await;
    let terminal = asking(&stage).await;
    // Ctrl-C, in the middle of the token.
    terminal.write("abc\u{3}");
    until("the terminal shows what is typed", || terminal.echoes()).await;
    let (status, said) = terminal.ended().await;
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{said}");
    assert!(!stage.path("conf.d").exists() && !stage.path("state").exists());

    let terminal = asking(&stage).await;
    terminal.signal(Signal::TERM);
    until("the terminal shows what is typed", || terminal.echoes()).await;
    let (status, said) = terminal.ended().await;
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{said}");
}

#[tokio::test]
async fn add_cannot_be_suspended_at_the_prompt_as_the_echo_would_be_back_then() {
    let (_server, stage) = staged().await;
    let terminal = asking(&stage).await;
    // Ctrl-Z, which would stop the command, is a character of the token here: an invalid one.
    terminal.write("abc\u{1a}\n");
    let (status, said) = terminal.ended().await;
    assert_eq!(status.code(), Some(64), "{said}");
    assert!(said.contains("the token is not valid"), "{said}");
}

#[tokio::test]
async fn end_of_input_and_several_lines_at_the_prompt_are_refused() {
    let (_server, stage) = staged().await;
    let two_lines = format!("{0}\n{0}\n", secret("quotes"));
    let long = format!("{}\n", "x".repeat(4_500));
    for (typed, words) in [
        ("\u{4}", "it is empty"),
        ("\n", "it is empty"),
        (&two_lines, "a line break"),
        (&long, "a terminal cuts lines at 4095 bytes"),
    ] {
        let terminal = asking(&stage).await;
        terminal.write(typed);
        let (status, said) = terminal.ended().await;
        assert_eq!(status.code(), Some(64), "{said}");
        assert!(said.contains(words) && !said.contains("S3CR3T"), "{words}: {said}");
        assert!(said.contains("(input is hidden): \r\n"), "the prompt's line ends: {said:?}");
        assert!(!stage.path("conf.d").exists() && !stage.path("state").exists());
    }
}

#[tokio::test]
async fn init_asks_for_the_url_until_it_is_valid() {
    let stage = Stage::new("");
    std::fs::remove_file(stage.path("tokenkeep.toml")).expect("removed");
    let terminal = on_terminal(&stage, &["init"]);
    terminal.until(|text| text.contains("URL of the server")).await;
    terminal.write("api.example.net\n");
    terminal.until(|text| text.contains("the URL is not a URL")).await;
    terminal.write("https://api.example.net\n");
    let (status, said) = terminal.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("Next: tokenkeep --config "), "{said}");
    assert!(stage.read("tokenkeep.toml").contains("\nurl = \"https://api.example.net\"\n"));
}
