//! Running a command for all that it prints: under the rules of a re-auth command, but with its
//! output passed on while it comes, and without the variables that speak of one token.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::process_group::ProcessGroup;
use super::run::{OUTPUT_GRACE, base_command};

/// What is read at once: as much as a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;

/// A piece of what a command prints; cleared on drop, as it may hold tokens.
pub type Chunk = Zeroizing<Vec<u8>>;

/// How a command ended whose output was passed on.
#[derive(Debug)]
pub enum StreamExit {
    /// There was no process.
    NotStarted(io::Error),
    /// It was killed, as it was still running, or its output was not taken, after its time.
    TimedOut,
    /// It was killed, as nobody wanted more of its output.
    Unwanted,
    /// How it ended or what it printed could not be read; it was killed.
    Lost(io::Error),
    /// It ended by itself.
    Exited(ExitStatus),
}

/// Runs `command` to its end or for `limit`, and passes what it prints to `chunks`; nothing of
/// it is left then. When the future is dropped, it is killed with all that it started. To be
/// called within a tokio runtime.
pub async fn stream(command: &[String], limit: Duration, chunks: Sender<Chunk>) -> StreamExit {
    let mut group = match ProcessGroup::start(base_command(command)) {
        Ok(group) => group,
        Err(error) => return StreamExit::NotStarted(error),
    };
    let passed = timeout(limit, pass_on(&mut group, chunks)).await;
    let status = group.end().await;
    match (passed, status) {
        (Err(_), _) => StreamExit::TimedOut,
        (Ok(Ok(false)), _) => StreamExit::Unwanted,
        (Ok(Err(error)), _) | (Ok(Ok(true)), Err(error)) => StreamExit::Lost(error),
        (Ok(Ok(true)), Ok(status)) => StreamExit::Exited(status),
    }
}

/// Passes the output on until it ends and the command too; false if nobody wants more of it.
async fn pass_on(group: &mut ProcessGroup, chunks: Sender<Chunk>) -> io::Result<bool> {
    let Some(mut stdout) = group.take_stdout() else {
        return Err(io::Error::other("its output is not connected"));
    };
    let mut ended = false;
    loop {
        let mut chunk = Zeroizing::new(vec![0; CHUNK_BYTES]);
        let read = if ended {
            // Only what it left behind can hold the pipe open now, perhaps for ever.
            timeout(OUTPUT_GRACE, stdout.read(&mut chunk)).await.unwrap_or(Ok(0))?
        } else {
            tokio::select! {
                biased;
                read = stdout.read(&mut chunk) => read?,
                end = group.leader_ended() => {
                    end?;
                    ended = true;
                    continue;
                }
            }
        };
        if read == 0 {
            break;
        }
        chunk.truncate(read);
        if chunks.send(chunk).await.is_err() {
            return Ok(false);
        }
    }
    drop(chunks);
    group.leader_ended().await?;
    Ok(true)
}
