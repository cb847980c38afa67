//! Runs a command: starts it, reads its output, limits it, kills it. Does not interpret the result.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::interpret::{HookExit, MAX_OUTPUT_BYTES};
use super::process_group::ProcessGroup;
use super::variables::Variables;

/// How long the output of an ended command may stay open. Its own output is already in the pipe;
/// only a process that it left behind can keep the pipe open, perhaps for ever.
pub(super) const OUTPUT_GRACE: Duration = Duration::from_millis(250);

/// Environment variables that the command inherits, if they are set.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// One run of a re-auth command.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// The program and its arguments. A program without a slash is searched for in `PATH`.
    pub command: &'a [String],
    /// Time-out.
    pub timeout: Duration,
    /// `TOKENKEEP_NAME`: the token's name.
    pub name: &'a str,
    /// `TOKENKEEP_SERVER`: the server's name.
    pub server: &'a str,
    /// `TOKENKEEP_URL`: the server's base URL.
    pub url: &'a str,
    /// `TOKENKEEP_REASON`: `expired`, `rejected`, `missing`, `expiring` or `requested`.
    pub reason: &'a str,
    /// `TOKENKEEP_STATUS`: the decisive status, if there was a response.
    pub status: Option<u16>,
    /// `TOKENKEEP_DETAIL`: the server's own explanation, without secrets. Control characters are
    /// replaced by spaces.
    pub detail: Option<&'a str>,
    /// `TOKENKEEP_ATTEMPT`: number of the attempt, from 1.
    pub attempt: u32,
    /// `TOKENKEEP_FILE`: the token's file, if its source is a file.
    pub file: Option<&'a Path>,
}

/// Runs a command until it ends, times out or prints too much. Afterwards no process of it is left.
///
/// Errors are part of the result. If the future is dropped, the command and everything that it
/// started are killed. Must be called in a tokio runtime.
pub async fn run(invocation: Invocation<'_>) -> HookExit {
    let program = || invocation.command.first().map_or("", String::as_str).into();
    let mut group = match ProcessGroup::start(command(&invocation)) {
        Ok(group) => group,
        Err(error) => return HookExit::NotStarted { program: program(), error },
    };
    // One more byte distinguishes the maximum from too much output.
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

/// A command with an almost empty environment. Only its standard output is connected.
pub(super) fn base_command(words: &[String]) -> Command {
    let mut words = words.iter();
    // An empty command fails like a missing program.
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

/// A re-auth command with its environment.
fn command(invocation: &Invocation<'_>) -> Command {
    let mut command = base_command(invocation.command);
    let variables = Variables {
        name: Some(invocation.name),
        server: Some(invocation.server),
        url: Some(invocation.url),
        reason: Some(invocation.reason),
        status: invocation.status.map(u64::from),
        detail: invocation.detail,
        attempt: Some(invocation.attempt.into()),
        file: invocation.file,
        event: None,
    };
    variables.set(&mut command);
    command
}

/// Reads the output until the command and its output have ended, or `output` is full. Returns the
/// number of bytes read. If cancelled, no process is left running.
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

/// Reads until the end of the output or of `buffer`; `length` is always up to date.
async fn fill(stdout: &mut ChildStdout, buffer: &mut [u8], length: &mut usize) -> io::Result<()> {
    while *length < buffer.len() {
        match stdout.read(&mut buffer[*length..]).await? {
            0 => break,
            read => *length += read,
        }
    }
    Ok(())
}
