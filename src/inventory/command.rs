//! Inventory that a command prints.
//!
//! The output is parsed on another thread while it arrives, so that neither the runtime is blocked
//! nor the text kept in memory. No entry is used before the command has succeeded.

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

/// Chunks in the queue of the parser; the command waits if it is full.
const WAITING_CHUNKS: usize = 4;

/// Runs `command` for at most `limit`, and returns every valid line of its output. If `strict`, an
/// invalid line is an error. Must be called in a tokio runtime.
///
/// # Errors
///
/// If the command does not start, times out, fails or prints more than [`super::MAX_BYTES`], or if
/// it is strict and a line is invalid.
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
    // It fails only by a panic, which aborts, or when the runtime ends.
    let parsed = parsing.await.unwrap_or(Err(InventoryError::Cancelled));
    match end {
        StreamExit::NotStarted(error) => {
            return Err(InventoryError::NotStarted { program, error });
        }
        StreamExit::TimedOut => return Err(InventoryError::TimedOut { program, timeout: limit }),
        StreamExit::WaitFailed(error) => {
            return Err(InventoryError::Failed { program, how: error.to_string() });
        }
        StreamExit::Exited(status) if !status.success() => {
            return Err(InventoryError::Failed { program, how: words(status) });
        }
        StreamExit::Exited(_) | StreamExit::Cancelled => {}
    }
    parsed
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "for an unknown reason".to_owned(),
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

    /// The names that a shell script prints, and the summary.
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
    async fn output_of_a_command_is_an_inventory() {
        let (names, reading) = run(PRINT, LIMIT).await.unwrap();
        assert_eq!((names, reading.good), (vec!["quotes".to_owned()], 1));
    }

    #[tokio::test]
    async fn output_larger_than_a_pipe_arrives_complete() {
        let script = r#"i=0; while [ $i -lt 5000 ]; do
            echo "{\"name\":\"t$i\",\"token\":\"abc-$i-0123456789012345678901234567890\"}"; i=$((i+1)); done"#;
        let (names, reading) = run(script, LIMIT).await.unwrap();
        assert_eq!((names.len(), reading.bad.count), (5000, 0));
    }

    #[tokio::test]
    async fn output_of_a_failed_command_is_not_used() {
        let fault = run(&format!("{PRINT}; exit 3"), LIMIT).await.unwrap_err();
        assert!(fault.to_string().contains("exit status 3"), "{fault}");
    }

    #[tokio::test]
    async fn hanging_command_is_killed_after_its_time_out() {
        let end = run(&format!("{PRINT}; sleep 1000"), Duration::from_millis(200)).await;
        assert!(matches!(end, Err(InventoryError::TimedOut { .. })));
    }

    #[tokio::test]
    async fn helper_that_keeps_the_output_open_is_not_awaited() {
        let (names, _) = run(&format!("setsid sleep 5 & {PRINT}"), LIMIT).await.unwrap();
        assert_eq!(names.len(), 1);
    }

    #[tokio::test]
    async fn missing_command_is_reported() {
        let command = ["/nonexistent/export".to_owned()];
        let fault = read_command(&command, LIMIT, false).await.unwrap_err();
        assert!(fault.to_string().starts_with("/nonexistent/export: it cannot be started"));
    }
}
