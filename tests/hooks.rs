//! Re-auth commands as processes: what they are given, what is taken from them, and that
//! nothing of them stays behind.

#[path = "doubles/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part")]
mod doubles;
#[path = "hooks/examples.rs"]
mod examples;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokenkeep::clock;
use tokenkeep::hook::{HookError, HookOutput, Invocation, MAX_OUTPUT_BYTES, run};
use tokenkeep::secret::TokenValueError;
use tokenkeep::time::Moment;

/// Long enough for the slowest machine that runs the tests; reached only on failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shell script as a command, and a place where it can leave notes (`$TOKENKEEP_FILE`).
struct Hook {
    command: Vec<String>,
    timeout: Duration,
    folder: TempDir,
}

impl Hook {
    fn script(script: &str) -> Self {
        Self::command(&["/bin/sh", "-c", script])
    }

    fn command(parts: &[&str]) -> Self {
        Self {
            command: parts.iter().map(ToString::to_string).collect(),
            timeout: PATIENCE,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    fn notes(&self) -> PathBuf {
        self.folder.path().join("notes")
    }

    async fn run(&self) -> Result<HookOutput, HookError> {
        run(Invocation { file: Some(&self.notes()), ..self.invocation() }).await
    }

    async fn value(&self) -> String {
        match self.run().await {
            Ok(HookOutput::NewValue(value)) => value.expose().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    async fn fault(&self) -> HookError {
        match self.run().await {
            Err(fault) => fault,
            other => panic!("{other:?}"),
        }
    }

    fn invocation(&self) -> Invocation<'_> {
        Invocation {
            command: &self.command,
            timeout: self.timeout,
            name: "quotes",
            server: "sarus",
            url: "https://api.example.net/v2",
            reason: "expired",
            status: None,
            detail: None,
            attempt: 1,
            file: None,
        }
    }

    /// The process group that the script noted down with `echo $$`.
    fn noted_group(&self) -> u32 {
        fs::read_to_string(self.notes()).unwrap().trim().parse().unwrap()
    }
}

/// The processes of a group that still run, read from `/proc`; one that was killed and waits
/// for its parent to take note is none.
fn running(group: u32) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter(|stat| {
            let fields: Vec<&str> =
                stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
            fields[2] == group.to_string() && !matches!(fields[0], "Z" | "X")
        })
        .collect()
}

/// Waits until `condition` holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn nothing_is_left_of(group: u32) {
    until("all of the group have ended", || running(group).is_empty()).await;
    let leader = format!("/proc/{group}");
    until("the leader was reaped", || !Path::new(&leader).exists()).await;
}

fn elapsed(since: Moment) -> Duration {
    clock::now().since(since)
}

#[tokio::test]
async fn what_is_printed_is_the_new_token() {
    assert_eq!(Hook::script("echo new-1").value().await, "new-1");
}

#[tokio::test]
async fn a_token_without_a_line_break_is_one() {
    assert_eq!(Hook::script("printf new-1").value().await, "new-1");
}

#[tokio::test]
async fn of_two_lines_the_first_counts() {
    assert_eq!(Hook::script("echo new-1; echo new-2").value().await, "new-1");
}

#[tokio::test]
async fn printing_nothing_means_that_the_file_was_written() {
    let hook = Hook::script("echo new-1 > \"$TOKENKEEP_FILE\"");
    assert!(matches!(hook.run().await, Ok(HookOutput::WroteFile)));
    assert_eq!(fs::read_to_string(hook.notes()).unwrap(), "new-1\n");
}

#[tokio::test]
async fn an_exit_status_is_told_and_the_output_not_used() {
    let fault = Hook::script("echo new-1; exit 3").fault().await;
    assert_eq!(fault.exit_status(), Some(3));
}

#[tokio::test]
async fn exit_status_75_is_inconclusive() {
    let fault = Hook::script("echo new-1; exit 75").fault().await;
    assert!(fault.is_inconclusive(), "{fault}");
    assert_eq!(fault.exit_status(), Some(75));
}

#[tokio::test]
async fn output_that_is_obviously_no_token_is_refused_with_a_remedy() {
    for (printed, remedy) in
        [("null", "jq -er"), ("{", "jq -er"), ("\\\"new-1\\\"", "jq -er"), ("<html>", "HTML")]
    {
        let fault = Hook::script(&format!("echo \"{printed}\"")).fault().await;
        assert!(matches!(fault, HookError::Mistaken(_)), "{printed}: {fault}");
        assert!(fault.to_string().contains(remedy), "{printed}: {fault}");
    }
}

#[tokio::test]
async fn a_signal_is_told() {
    let fault = Hook::script("kill -TERM $$").fault().await;
    assert!(matches!(fault, HookError::Signal { signal: 15 }), "{fault}");
}

#[tokio::test]
async fn control_characters_are_no_token() {
    let fault = Hook::script(r"printf 'new\0331\n'").fault().await;
    assert!(matches!(fault, HookError::NotAToken(TokenValueError::NotOneWord)), "{fault}");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_told_with_its_name() {
    for program in ["/nonexistent/relogin", ""] {
        let fault = Hook::command(&[program, "argument"]).fault().await;
        assert!(
            matches!(&fault, HookError::NotFound { program: named } if **named == *program),
            "{program}: {fault}"
        );
    }
}

#[tokio::test]
async fn an_empty_command_is_not_found() {
    let fault = Hook::command(&[]).fault().await;
    assert!(matches!(fault, HookError::NotFound { .. }), "{fault}");
}

#[tokio::test]
async fn a_file_that_is_not_executable_is_told_with_its_name() {
    let hook = Hook::command(&[]);
    fs::write(hook.notes(), "#!/bin/sh\n").unwrap();
    let path = hook.notes().to_str().unwrap().to_owned();
    let fault = Hook::command(&[&path]).fault().await;
    assert!(matches!(&fault, HookError::NotExecutable { program } if **program == path), "{fault}");
}

#[tokio::test]
async fn an_argument_that_no_process_can_have_is_a_fault_and_no_panic() {
    let fault = Hook::command(&["/bin/echo", "a\0b"]).fault().await;
    assert!(matches!(fault, HookError::CannotStart { .. }), "{fault}");
}

#[tokio::test]
async fn a_hanging_command_is_killed_with_what_it_started() {
    // The helper ignores polite signals and holds the output open.
    let hook = Hook::script(
        "(trap '' TERM HUP INT; while :; do sleep 60; done) &
         echo $$ > \"$TOKENKEEP_FILE\"; wait",
    )
    .within(Duration::from_millis(500));
    let begun = clock::now();
    let fault = hook.fault().await;
    assert!(matches!(fault, HookError::TimedOut { after } if after == hook.timeout), "{fault}");
    assert!(elapsed(begun) < PATIENCE / 2);
    nothing_is_left_of(hook.noted_group()).await;
}

#[tokio::test]
async fn a_command_that_closes_its_output_and_hangs_is_killed_too() {
    let hook = Hook::script("echo $$ > \"$TOKENKEEP_FILE\"; exec >&-; sleep 60")
        .within(Duration::from_millis(300));
    assert!(matches!(hook.fault().await, HookError::TimedOut { .. }));
    nothing_is_left_of(hook.noted_group()).await;
}

#[tokio::test]
async fn a_helper_that_keeps_the_output_open_does_not_hold_the_token_up() {
    let hook = Hook::script("sleep 60 & echo $$ > \"$TOKENKEEP_FILE\"; echo new-1");
    let begun = clock::now();
    assert_eq!(hook.value().await, "new-1");
    assert!(elapsed(begun) < PATIENCE / 2);
    nothing_is_left_of(hook.noted_group()).await;
}

#[tokio::test]
async fn a_helper_in_the_background_ends_with_the_command() {
    let hook = Hook::script("sleep 60 >/dev/null & echo $$ > \"$TOKENKEEP_FILE\"; echo new-1");
    assert_eq!(hook.value().await, "new-1");
    nothing_is_left_of(hook.noted_group()).await;
}

#[tokio::test]
async fn a_command_that_is_no_longer_wanted_is_killed_with_what_it_started() {
    let hook = Hook::script("sleep 60 & echo $$ > \"$TOKENKEEP_FILE\"; wait");
    let notes = hook.notes();
    let under_way = || fs::read_to_string(&notes).is_ok_and(|group| group.ends_with('\n'));
    tokio::select! {
        result = hook.run() => panic!("{result:?}"),
        () = until("the command is under way", under_way) => {}
    }
    nothing_is_left_of(hook.noted_group()).await;
}

#[tokio::test]
async fn endless_output_is_cut_off_and_its_source_killed() {
    let hook = Hook::script("echo $$ > \"$TOKENKEEP_FILE\"; exec yes");
    let fault = hook.fault().await;
    assert!(matches!(fault, HookError::TooMuchOutput), "{fault}");
    nothing_is_left_of(hook.noted_group()).await;
}

#[tokio::test]
async fn as_much_output_as_is_allowed_is_taken() {
    let rest = MAX_OUTPUT_BYTES - "new-1\n".len();
    let hook = Hook::script(&format!("echo new-1; head -c {rest} /dev/zero"));
    assert_eq!(hook.value().await, "new-1");
    let hook = Hook::script(&format!("echo new-1; head -c {} /dev/zero", rest + 1));
    assert!(matches!(hook.fault().await, HookError::TooMuchOutput));
}

#[tokio::test]
async fn much_noise_on_standard_error_neither_blocks_nor_shows() {
    let hook = Hook::script("head -c 1000000 /dev/zero >&2; echo secret-1 >&2; exit 3");
    let fault = hook.fault().await;
    assert_eq!(fault.exit_status(), Some(3));
    assert!(!format!("{fault} {fault:?}").contains("secret-1"));
}

#[tokio::test]
async fn standard_input_has_nothing_to_read() {
    assert_eq!(Hook::script("cat; echo new-1").value().await, "new-1");
}

#[tokio::test]
async fn it_runs_in_the_root_directory() {
    assert_eq!(Hook::script("pwd").value().await, "/");
}

/// The environment that `/usr/bin/env` prints when run as a hook.
async fn environment(hook: &Hook, invocation: Invocation<'_>) -> BTreeMap<String, String> {
    assert!(matches!(run(invocation).await, Ok(HookOutput::WroteFile)));
    fs::read_to_string(hook.notes())
        .unwrap()
        .split_terminator('\0')
        .filter_map(|variable| variable.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn inherited() -> BTreeMap<String, String> {
    ["PATH", "HOME", "LANG"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), std::env::var(key).ok()?)))
        .collect()
}

#[tokio::test]
async fn its_environment_is_what_is_promised_and_nothing_else() {
    let hook = Hook::command(&[]);
    let notes = hook.notes();
    // Not the shell's own view, which adds variables.
    let command = ["/bin/sh".into(), "-c".into(), format!("cat /proc/$$/environ > {notes:?}")];
    let found = environment(
        &hook,
        Invocation {
            command: &command,
            status: Some(410),
            detail: Some("Session\nis\0gone"),
            attempt: 3,
            file: Some(&notes),
            ..hook.invocation()
        },
    )
    .await;
    let mut expected = inherited();
    for (key, value) in [
        ("NAME", "quotes"),
        ("SERVER", "sarus"),
        ("URL", "https://api.example.net/v2"),
        ("REASON", "expired"),
        ("STATUS", "410"),
        ("DETAIL", "Session is gone"),
        ("ATTEMPT", "3"),
        ("FILE", notes.to_str().unwrap()),
    ] {
        expected.insert(format!("TOKENKEEP_{key}"), value.to_owned());
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_is_not_known_is_not_set() {
    let hook = Hook::command(&[]);
    let command =
        ["/bin/sh".into(), "-c".into(), format!("cat /proc/$$/environ > {:?}", hook.notes())];
    let found = environment(&hook, Invocation { command: &command, ..hook.invocation() }).await;
    for key in ["TOKENKEEP_STATUS", "TOKENKEEP_DETAIL", "TOKENKEEP_FILE"] {
        assert_eq!(found.get(key), None, "{key}");
    }
}
