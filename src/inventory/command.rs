//! An inventory that a command prints.
//!
//! Its output is parsed on a thread of its own while it comes, so that neither the runtime is
//! held up nor the text kept. Nothing of it is used before the command has ended well.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::spawn_blocking;

use super::batch::Batches;
use super::file::read_lines;
use super::{InventoryError, ReadSummary};
use crate::hook::{Chunk, StreamExit, stream};

/// Chunks that may wait to be parsed; the command then waits as well.
const WAITING_CHUNKS: usize = 4;

/// Runs `command` for at most `limit`, and gives every good line that it prints; with `strict`,
/// all of them must be. To be called within a tokio runtime.
///
/// # Errors
///
/// When the command does not start, does not end in time or not with status 0, prints more than
/// [`super::MAX_BYTES`], or is strict and not good.
pub async fn read_command(
    command: &[String],
    limit: Duration,
    strict: bool,
) -> Result<(Batches, ReadSummary), InventoryError> {
    let program = command.first().cloned().unwrap_or_default();
    let (sender, receiver) = channel(WAITING_CHUNKS);
    let place = program.clone();
    let parsing = spawn_blocking(move || {
        let mut held = Batches::default();
        let reading = read_lines(Chunks::new(receiver), &place, strict, &mut |listed| {
            held.add(listed);
            ControlFlow::Continue(())
        });
        reading.map(|reading| (held, reading))
    });
    let end = stream(command, limit, sender).await;
    // Only a panic or the runtime's end makes it fail: the one aborts, the other stops us too.
    let parsed = parsing.await.unwrap_or(Err(InventoryError::Cancelled));
    match end {
        StreamExit::NotStarted(error) => {
            return Err(InventoryError::NotStarted { program, error });
        }
        StreamExit::TimedOut => return Err(InventoryError::TimedOut { program, timeout: limit }),
        StreamExit::Lost(error) => {
            return Err(InventoryError::Failed { program, how: error.to_string() });
        }
        StreamExit::Exited(status) if !status.success() => {
            return Err(InventoryError::Failed { program, how: words(status) });
        }
        StreamExit::Exited(_) | StreamExit::Unwanted => {}
    }
    parsed
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "for no known reason".to_owned(),
    }
}

/// The chunks of a command's output as one stream.
struct Chunks {
    receiver: Receiver<Chunk>,
    chunk: Chunk,
    used: usize,
}

impl Chunks {
    fn new(receiver: Receiver<Chunk>) -> Self {
        Self { receiver, chunk: Chunk::default(), used: 0 }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.used == self.chunk.len() {
            match self.receiver.blocking_recv() {
                Some(chunk) => (self.chunk, self.used) = (chunk, 0),
                None => return Ok(0),
            }
        }
        let read = (&self.chunk[self.used..]).read(buffer)?;
        self.used += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// What a shell script brings, by name.
    async fn run(
        script: &str,
        limit: Duration,
    ) -> Result<(Vec<String>, ReadSummary), InventoryError> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let (found, reading) = read_command(&command, limit, false).await?;
        let mut names = Vec::new();
        let _ = found.pass_on(&mut |listed| {
            names.push(listed.name.to_owned());
            ControlFlow::Continue(())
        });
        Ok((names, reading))
    }

    const PRINT: &str = r#"printf '{"name":"quotes","token":"abc-1"}\n'"#;

    #[tokio::test]
    async fn what_a_command_prints_is_an_inventory() {
        let (names, reading) = run(PRINT, LIMIT).await.unwrap();
        assert_eq!((names, reading.good), (vec!["quotes".to_owned()], 1));
    }

    #[tokio::test]
    async fn more_than_a_pipe_holds_arrives_whole() {
        let script = r#"i=0; while [ $i -lt 5000 ]; do
            echo "{\"name\":\"t$i\",\"token\":\"abc-$i-0123456789012345678901234567890\"}"; i=$((i+1)); done"#;
        let (names, reading) = run(script, LIMIT).await.unwrap();
        assert_eq!((names.len(), reading.bad.count), (5000, 0));
    }

    #[tokio::test]
    async fn nothing_of_a_command_that_failed_is_used() {
        let fault = run(&format!("{PRINT}; exit 3"), LIMIT).await.unwrap_err();
        assert!(fault.to_string().contains("exit status 3"), "{fault}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_after_its_time() {
        let end = run(&format!("{PRINT}; sleep 1000"), Duration::from_millis(200)).await;
        assert!(matches!(end, Err(InventoryError::TimedOut { .. })));
    }

    #[tokio::test]
    async fn a_helper_that_holds_the_output_open_is_not_waited_for() {
        let (names, _) = run(&format!("setsid sleep 5 & {PRINT}"), LIMIT).await.unwrap();
        assert_eq!(names.len(), 1);
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_told() {
        let command = ["/nonexistent/export".to_owned()];
        let fault = read_command(&command, LIMIT, false).await.unwrap_err();
        assert!(fault.to_string().starts_with("/nonexistent/export: it cannot be started"));
    }
}
