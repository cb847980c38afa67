//! The way out: a bounded queue, and a thread that writes.
//!
//! Whoever logs never waits: when the reader of the log stalls the queue fills, and what does
//! not fit is dropped and counted. Only the end of the process waits, for a stated time.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for the reader, at most: more than a minute at the limits on repeats, and
/// a few MiB.
const CAPACITY: usize = 16_384;

/// How long the end of the process waits for a reader that stalls.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// Counts the lines that were dropped or could not be written.
#[derive(Debug, Default)]
pub(super) struct Losses {
    dropped: Option<ErrorCounter>,
    progress: Arc<Progress>,
    said: AtomicU64,
}

impl Losses {
    /// All losses so far.
    pub(super) fn total(&self) -> u64 {
        self.dropped() + self.progress.failed.load(Ordering::Acquire)
    }

    /// The losses since the last call, if there were any.
    pub(super) fn take(&self) -> Option<u64> {
        let total = self.total();
        let said = self.said.swap(total, Ordering::AcqRel);
        (total > said).then(|| total - said)
    }

    fn dropped(&self) -> u64 {
        self.dropped.as_ref().map_or(0, |counter| counter.dropped_lines() as u64)
    }
}

/// What the writing thread has dealt with.
#[derive(Debug, Default)]
struct Progress {
    done: Mutex<u64>,
    moved: Condvar,
    failed: AtomicU64,
}

/// The near end of the queue. Each `write_all` is one line.
#[derive(Debug, Clone)]
pub(super) struct Front {
    queue: NonBlocking,
    sent: Arc<AtomicU64>,
}

/// The far end of the queue, in its thread: swallows errors, since a log nobody reads is no
/// reason to stop, and counts them.
struct Back<W> {
    writer: W,
    progress: Arc<Progress>,
}

/// Keeps the writing thread; on drop, everything that waits is written first.
pub(super) struct Queue {
    sent: Arc<AtomicU64>,
    losses: Arc<Losses>,
    worker: Option<WorkerGuard>,
}

/// A queue of [`CAPACITY`] lines in front of `writer`.
pub(super) fn queue<W: Write + Send + 'static>(writer: W) -> (Front, Queue) {
    with_capacity(writer, CAPACITY)
}

fn with_capacity<W: Write + Send + 'static>(writer: W, capacity: usize) -> (Front, Queue) {
    let progress = Arc::new(Progress::default());
    let back = Back { writer, progress: Arc::clone(&progress) };
    let (queue, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(capacity)
        .thread_name("log")
        .finish(back);
    let losses = Losses { dropped: Some(queue.error_counter()), progress, said: AtomicU64::new(0) };
    let sent = Arc::new(AtomicU64::new(0));
    let front = Front { queue, sent: Arc::clone(&sent) };
    (front, Queue { sent, losses: Arc::new(losses), worker: Some(worker) })
}

impl Queue {
    /// The losses of this queue.
    pub(super) fn losses(&self) -> Arc<Losses> {
        Arc::clone(&self.losses)
    }

    /// Waits until everything sent so far is written or lost. If `grace` does not do the thread
    /// is given up: it is never waited for again, and the answer is false.
    pub(super) fn settle(&mut self, grace: Duration) -> bool {
        let sent = self.sent.load(Ordering::Acquire);
        let progress = &self.losses.progress;
        let done = progress.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |done: &mut u64| *done + self.losses.dropped() < sent;
        let settled = progress
            .moved
            .wait_timeout_while(done, grace, waiting)
            .is_ok_and(|(_, timeout)| !timeout.timed_out());
        if let Some(worker) = self.worker.take_if(|_| !settled) {
            // Its own drop would print to the output that stalls, and wait for it forever.
            std::mem::forget(worker);
        }
        settled
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.worker.is_some() {
            self.settle(GRACE);
        }
    }
}

impl Write for Front {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.sent.fetch_add(1, Ordering::AcqRel);
        self.queue.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Front {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl<W: Write> Write for Back<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        if self.writer.write_all(line).is_err() {
            self.progress.failed.fetch_add(1, Ordering::AcqRel);
        }
        *self.progress.done.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.progress.moved.notify_all();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Everything was handed to the system in `write_all`; nothing is kept back here.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes nothing until it is let go on.
    struct Stalled(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _line: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_waits_until_every_line_is_written() {
        let (go, gate) = channel();
        let (out, lines) = channel();
        let (mut front, queue) = queue(Stalled(gate, out));
        for _ in 0..500 {
            front.write_all(b"line\n").unwrap();
        }
        drop(go);
        drop(queue);
        assert_eq!(lines.try_iter().count(), 500);
    }

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_what_it_cost_is_counted() {
        let (go, gate) = channel();
        let (out, lines) = channel();
        let (mut front, queue) = with_capacity(Stalled(gate, out), 4);
        for _ in 0..100 {
            front.write_all(b"line\n").unwrap();
        }
        let losses = queue.losses();
        drop(go);
        drop(queue);
        assert_eq!(lines.try_iter().count() as u64 + losses.total(), 100);
        assert!(losses.total() >= 95);
    }

    #[test]
    fn the_end_does_not_wait_forever() {
        let (_go, gate) = channel();
        let (out, _lines) = channel();
        let (mut front, mut queue) = with_capacity(Stalled(gate, out), 4);
        for _ in 0..100 {
            front.write_all(b"line\n").unwrap();
        }
        assert!(!queue.settle(Duration::from_millis(1)));
    }

    #[test]
    fn a_reader_that_went_away_costs_its_lines_and_nothing_else() {
        let (mut front, queue) = queue(Gone);
        front.write_all(b"line\n").unwrap();
        let losses = queue.losses();
        drop(queue);
        assert_eq!(losses.total(), 1);
    }

    #[test]
    fn a_loss_is_told_once() {
        let (mut front, mut queue) = queue(Gone);
        front.write_all(b"line\n").unwrap();
        assert!(queue.settle(GRACE));
        assert_eq!(queue.losses().take(), Some(1));
        assert_eq!(queue.losses().take(), None);
    }
}
