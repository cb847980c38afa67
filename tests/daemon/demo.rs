//! The demo on a terminal, and with its page.

use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::listen::exchange;
use crate::support::{ISSUED, PATIENCE, Terminal};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// What is on the screen in the end, and what is printed after it.
async fn demo(columns: u16, colours: bool) -> (Vec<String>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.arg("demo").env("TERM", "xterm");
    if !colours {
        command.env("NO_COLOR", "1");
    }
    let terminal = Terminal::sized(command, columns);
    // A frame shows the table of the moment before its last event.
    let is_over = |text: &str| {
        text.contains("1 of 4 needs you") && text.contains("rejected: two queries agree")
    };
    terminal.until(is_over).await;
    terminal.signal(Signal::INT);
    let (status, text) = terminal.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    for secret in ["3f0c1d5e", "9a4b7c21", "5d2e8f90", "c7716ab3", "f81d4fae", ISSUED] {
        assert!(!text.contains(secret), "a secret in:\n{text}");
    }
    assert!(!text.contains("token_checked") && !text.contains("{\""), "log lines:\n{text}");
    assert!(text.starts_with(ENTER), "{text:?}");
    let (screen, rest) = text.split_once(LEAVE).expect("the screen is left");
    let frame = screen.rsplit("\x1b[H").next().expect("a frame").replace("\x1b[K", "");
    let frame = frame.trim_end_matches("\x1b[?25h").trim_end_matches("\x1b[J");
    (frame.lines().map(str::to_owned).collect(), rest.replace("\r\n", "\n"))
}

#[tokio::test]
async fn the_demo_on_a_terminal_shows_a_table_with_what_happened_and_ends_with_verdicts() {
    let (frame, end) = demo(80, false).await;
    assert!(frame[0].starts_with("tokenkeep demo, "), "{frame:?}");
    assert!(frame[2].starts_with("1 of 4 needs you: rejected was rejected at "), "{frame:?}");
    for name in ["queried", "renewed", "relogged", "rejected"] {
        let rows = frame.iter().filter(|line| line.starts_with(&format!("{name} ")));
        assert_eq!(rows.count(), 2, "{name}: a row and an explanation: {frame:?}");
    }
    assert!(frame.len() <= 23 && !frame.concat().contains('\x1b'), "{frame:?}");
    for happened in [
        "queried   renewal proven: queries renew it",
        "renewed   renewal proven: RenewSessionToken renews it, queries do not",
        "relogged  expired; its re-auth command is started",
        "relogged  the re-auth command got a new token, which is alive",
        "rejected  rejected: two queries agree that its server does not know it",
    ] {
        assert!(end.contains(happened), "{happened}:\n{end}");
    }
    let verdicts = end.split("as the servers saw it\n\n").nth(1).expect("verdicts");
    let verdicts: Vec<_> = verdicts.lines().map(|line| line.get(..14).unwrap_or(line)).collect();
    assert_eq!(
        verdicts,
        [
            "queried   alive",
            "renewed   alive",
            "relogged  alive",
            "rejected  dead",
            "",
            "Next: tokenkeep init"
        ]
        .map(|line| line.get(..14).unwrap_or(line))
    );
    assert!(end.ends_with("\nNext: tokenkeep init\n"), "{end}");
}

#[tokio::test]
async fn the_demo_fits_a_narrow_terminal() {
    let (frame, end) = demo(60, false).await;
    let widest = |text: &str| text.lines().map(|line| line.chars().count()).max();
    assert!(widest(&frame.join("\n")) <= Some(60), "{frame:?}");
    assert!(widest(&end) <= Some(60), "{end}");
    assert!(!frame.concat().contains(['█', '░']), "{frame:?}");
}

#[tokio::test]
async fn the_demo_has_colours_unless_they_are_refused() {
    let (frame, end) = demo(120, true).await;
    assert!(frame.concat().contains("\x1b[31m1 of 4 needs you"), "{frame:?}");
    assert!(end.contains("\x1b[31mdead"), "{end:?}");
}

#[tokio::test]
async fn the_demo_serves_its_page_until_it_is_stopped() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.args(["demo", "--listen"]).env("TERM", "dumb");
    let terminal = Terminal::sized(command, 200);
    terminal.until(|text| text.contains("The page is at http://") && text.contains("ready")).await;
    let text = terminal.written();
    let address = text.split("http://127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next());
    let port = address.expect("a URL").parse().expect("a port");
    let request = format!("GET / HTTP/1.1\r\nHost: localhost:{port}");
    assert!(exchange(port, &request, "").await.starts_with("HTTP/1.1 200"));
    terminal.signal(Signal::TERM);
    let (status, text) = terminal.ended().await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(text.contains("What the servers saw") && !text.contains(ENTER), "{text}");
}

#[tokio::test]
async fn the_demo_ends_when_the_reader_of_its_output_is_gone() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    // With the page, it would run until it is stopped.
    command.args(["demo", "--listen"]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut demo = command.spawn().expect("started");
    let mut output = BufReader::new(demo.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).await.expect("read");
    assert!(line.starts_with("tokenkeep demo: "), "{line}");
    drop(output);
    let status = timeout(PATIENCE, demo.wait()).await.expect("it ends").expect("a status");
    assert_eq!(status.code(), Some(0));
}
