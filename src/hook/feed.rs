//! Runs a command with an input and without an output: the command of a `[notify.NAME]`.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::interpret::start_error;
use super::process_group::ProcessGroup;
use super::run::base_command;
use super::variables::Variables;
use crate::text::format_duration;

/// How a command with an input ended.
#[derive(Debug)]
pub enum FeedExit {
    /// The process could not be started.
    NotStarted(io::Error),
    /// It was killed because it was still running after the time-out.
    TimedOut,
    /// Its end could not be awaited; it was killed.
    WaitFailed(io::Error),
    /// It ended by itself.
    Exited(ExitStatus),
}

/// Why a command with an input failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct FeedError {
    /// A sentence with a remedy.
    pub error: String,
    /// The exit status, if the command ended by itself.
    pub exit_status: Option<i32>,
}

impl FeedExit {
    /// Interprets how `command` ended, which could run for `limit`.
    ///
    /// # Errors
    ///
    /// If it did not end with exit status 0.
    pub fn interpret(self, command: &[String], limit: Duration) -> Result<(), FeedError> {
        let program = command.first().map_or("", String::as_str);
        let exit_status = match &self {
            Self::Exited(status) => status.code(),
            Self::NotStarted(_) | Self::TimedOut | Self::WaitFailed(_) => None,
        };
        let error = match self {
            Self::Exited(status) if status.success() => return Ok(()),
            Self::Exited(status) => match status.code() {
                Some(code) => format!(
                    "{program} ended with exit status {code}; run it by hand as the service's user \
                     to see why"
                ),
                None => format!(
                    "{program} was killed by signal {}; check for a crash, a memory limit or a \
                     `kill`",
                    status.signal().unwrap_or_default()
                ),
            },
            Self::NotStarted(error) => start_error(program, error).to_string(),
            Self::TimedOut => format!(
                "{program} was still running after {} and was killed with its child processes; \
                 raise `timeout`, or do not wait for the work (`systemctl --no-block`)",
                format_duration(limit)
            ),
            Self::WaitFailed(error) => format!("{program} was killed: {error}"),
        };
        Err(FeedError { error, exit_status })
    }
}

/// Runs `command` for at most `limit`, with `input` on its standard input. Its output is discarded.
/// Afterwards no process of it is left. If the future is dropped, the command and everything that
/// it started are killed. Must be called in a tokio runtime.
pub async fn feed(
    command: &[String],
    variables: Variables<'_>,
    input: &[u8],
    limit: Duration,
) -> FeedExit {
    let mut prepared = base_command(command);
    prepared.stdin(Stdio::piped()).stdout(Stdio::null());
    variables.set(&mut prepared);
    let mut group = match ProcessGroup::start(prepared) {
        Ok(group) => group,
        Err(error) => return FeedExit::NotStarted(error),
    };
    let stdin = group.take_stdin();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command need not read its input. Dropping the pipe is the end of the input.
            let _ = stdin.write_all(input).await;
        }
        std::future::pending().await
    };
    let ended = async {
        tokio::select! {
            ended = group.leader_ended() => ended,
            never = write => never,
        }
    };
    let ended = timeout(limit, ended).await;
    match (ended, group.end().await) {
        (Err(_), _) => FeedExit::TimedOut,
        (Ok(Err(error)), _) | (Ok(Ok(())), Err(error)) => FeedExit::WaitFailed(error),
        (Ok(Ok(())), Ok(status)) => FeedExit::Exited(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(exit: FeedExit) -> FeedError {
        let command = ["/opt/restart-app".to_owned()];
        exit.interpret(&command, Duration::from_secs(30)).unwrap_err()
    }

    #[test]
    fn only_exit_status_0_is_a_success() {
        let exited = |wait_status| FeedExit::Exited(ExitStatus::from_raw(wait_status));
        assert_eq!(exited(0).interpret(&[], Duration::ZERO), Ok(()));
        assert_eq!(error(exited(7 << 8)).exit_status, Some(7));
        assert_eq!(error(exited(75 << 8)).exit_status, Some(75));
        let killed = error(exited(9));
        assert!(killed.exit_status.is_none() && killed.error.contains("signal 9"), "{killed}");
    }

    #[test]
    fn error_names_the_program_and_the_remedy() {
        let not_started = |kind: io::ErrorKind| FeedExit::NotStarted(kind.into());
        for (exit, remedy) in [
            (not_started(io::ErrorKind::NotFound), "install it"),
            (not_started(io::ErrorKind::PermissionDenied), "chmod +x"),
            (not_started(io::ErrorKind::InvalidInput), "begin with `#!`"),
            (FeedExit::TimedOut, "after 30 s"),
            (FeedExit::WaitFailed(io::ErrorKind::Other.into()), "was killed"),
        ] {
            let FeedError { error, exit_status } = error(exit);
            assert!(error.contains("/opt/restart-app") && error.contains(remedy), "{error}");
            assert_eq!(exit_status, None);
        }
    }
}
