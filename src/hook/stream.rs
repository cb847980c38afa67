//! Streams the output of a command, under the rules of a re-auth command, but without the variables
//! of one token.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::process_group::ProcessGroup;
use super::run::{OUTPUT_GRACE, base_command};

/// Size of a read: the capacity of a pipe.
const CHUNK_BYTES: usize = 64 * 1024;

/// A piece of output; cleared on drop because it may contain tokens.
pub type Chunk = Zeroizing<Vec<u8>>;

/// How a streamed command ended.
#[derive(Debug)]
pub enum StreamExit {
    /// The process could not be started.
    NotStarted(io::Error),
    /// It was killed because it was still running, or its output not consumed, after the time-out.
    TimedOut,
    /// It was killed because the receiver was dropped.
    Cancelled,
    /// Its end or its output could not be read; it was killed.
    WaitFailed(io::Error),
    /// It ended by itself.
    Exited(ExitStatus),
}

/// Runs `command` for at most `limit` and sends its output to `chunks`. Afterwards no process of it
/// is left. If the future is dropped, the command and everything that it started are killed. Must
/// be called in a tokio runtime.
pub async fn stream(command: &[String], limit: Duration, chunks: Sender<Chunk>) -> StreamExit {
    let mut group = match ProcessGroup::start(base_command(command)) {
        Ok(group) => group,
        Err(error) => return StreamExit::NotStarted(error),
    };
    let passed = timeout(limit, pass_on(&mut group, chunks)).await;
    let status = group.end().await;
    match (passed, status) {
        (Err(_), _) => StreamExit::TimedOut,
        (Ok(Ok(false)), _) => StreamExit::Cancelled,
        (Ok(Err(error)), _) | (Ok(Ok(true)), Err(error)) => StreamExit::WaitFailed(error),
        (Ok(Ok(true)), Ok(status)) => StreamExit::Exited(status),
    }
}

/// Sends the output until the command and its output have ended. Returns false if the receiver was
/// dropped.
async fn pass_on(group: &mut ProcessGroup, chunks: Sender<Chunk>) -> io::Result<bool> {
    let Some(mut stdout) = group.take_stdout() else {
        return Err(io::Error::other("its output is not connected"));
    };
    let mut ended = false;
    loop {
        let mut chunk = Zeroizing::new(vec![0; CHUNK_BYTES]);
        let read = if ended {
            // Only a process that it left behind can keep the pipe open now, perhaps for ever.
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
