//! Running a command: starting, reading, bounding, killing. What the end means is not known here.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::interpret::HookExit;
use super::process_group::ProcessGroup;

/// The most that a command may print: a token has at most 4 KiB, the rest is for the chatter
/// of tools. More is a mistake, and is not waited for.
pub const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// How long the output of a command that has ended may stay open. What it printed itself is in
/// the pipe already; only a process that it left behind can hold the pipe, perhaps for ever.
pub(super) const OUTPUT_GRACE: Duration = Duration::from_millis(250);

/// What the command takes over from the daemon's environment, where it is set.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// One run of a re-auth command.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// The program, then its arguments. A program without a slash is looked for in `PATH`.
    pub command: &'a [String],
    /// The longest that it may take.
    pub timeout: Duration,
    /// `TOKENKEEP_NAME`: the token's name.
    pub name: &'a str,
    /// `TOKENKEEP_SERVER`: the server's name.
    pub server: &'a str,
    /// `TOKENKEEP_URL`: the server's base URL.
    pub url: &'a str,
    /// `TOKENKEEP_REASON`: `expired`, `rejected`, `missing`, `expiring` or `requested`.
    pub reason: &'a str,
    /// `TOKENKEEP_STATUS`: the status that decided, if an answer did.
    pub status: Option<u16>,
    /// `TOKENKEEP_DETAIL`: the server's own explanation, if it gave one; free of secrets.
    /// Control characters reach the command as spaces.
    pub detail: Option<&'a str>,
    /// `TOKENKEEP_ATTEMPT`: which attempt this is, from 1.
    pub attempt: u32,
    /// `TOKENKEEP_FILE`: the token's file, if its source is one.
    pub file: Option<&'a Path>,
}

/// Runs a command to its end, its time-out or its excess; nothing of it is left then.
///
/// Never fails otherwise than in what it returns. When the future is dropped, the command and
/// all that it started are killed. To be called within a tokio runtime.
pub async fn run(invocation: Invocation<'_>) -> HookExit {
    let program = || invocation.command.first().map_or("", String::as_str).into();
    let mut group = match ProcessGroup::start(command(&invocation)) {
        Ok(group) => group,
        Err(error) => return HookExit::NotStarted { program: program(), error },
    };
    // The last byte tells "just as much as allowed" from "more".
    let mut output = Zeroizing::new(vec![0; MAX_OUTPUT_BYTES + 1]);
    let watched = timeout(invocation.timeout, watch(&mut group, &mut output)).await;
    let status = group.end().await;
    match (watched, status) {
        (Err(_), _) => HookExit::TimedOut(invocation.timeout),
        (Ok(Err(error)), _) | (Ok(Ok(_)), Err(error)) => HookExit::WaitFailed(error),
        (Ok(Ok(length)), Ok(_)) if length > MAX_OUTPUT_BYTES => HookExit::TooMuchOutput,
        (Ok(Ok(length)), Ok(status)) => {
            output.truncate(length);
            HookExit::Exited { status, output }
        }
    }
}

/// A command with what every one of them gets: an almost empty environment, and only its
/// standard output connected.
pub(super) fn base_command(words: &[String]) -> Command {
    let mut words = words.iter();
    // An empty program, as an empty command has, is one that is not found.
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command
        .args(words)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .envs(INHERITED.iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
    command
}

/// The command of a re-auth with its whole environment.
fn command(invocation: &Invocation<'_>) -> Command {
    let mut command = base_command(invocation.command);
    command
        .env("TOKENKEEP_NAME", invocation.name)
        .env("TOKENKEEP_SERVER", invocation.server)
        .env("TOKENKEEP_URL", invocation.url)
        .env("TOKENKEEP_REASON", invocation.reason)
        .env("TOKENKEEP_ATTEMPT", invocation.attempt.to_string());
    if let Some(status) = invocation.status {
        command.env("TOKENKEEP_STATUS", status.to_string());
    }
    if let Some(detail) = invocation.detail {
        // A server's text may hold anything, and a NUL would keep the command from starting.
        command.env("TOKENKEEP_DETAIL", detail.replace(char::is_control, " "));
    }
    if let Some(file) = invocation.file {
        command.env("TOKENKEEP_FILE", file);
    }
    command
}

/// Reads the command's output until the command has ended and the output too, or until
/// `output` is full; returns how much was read. Cancel-safe in that nothing is left running.
async fn watch(group: &mut ProcessGroup, output: &mut [u8]) -> io::Result<usize> {
    let Some(mut stdout) = group.take_stdout() else {
        return Err(io::Error::other("its output is not connected"));
    };
    let mut length = 0;
    {
        let mut reading = pin!(fill(&mut stdout, output, &mut length));
        tokio::select! {
            read = &mut reading => read?,
            ended = group.leader_ended() => {
                ended?;
                if let Ok(read) = timeout(OUTPUT_GRACE, &mut reading).await {
                    read?;
                }
            }
        }
    }
    if length < output.len() {
        group.leader_ended().await?;
    }
    Ok(length)
}

/// Reads until the end of the output or of `buffer`; `length` is true at every instant.
async fn fill(stdout: &mut ChildStdout, buffer: &mut [u8], length: &mut usize) -> io::Result<()> {
    while *length < buffer.len() {
        match stdout.read(&mut buffer[*length..]).await? {
            0 => break,
            read => *length += read,
        }
    }
    Ok(())
}
