//! Bounded queue of log lines, and the thread that writes them. The thread ends when no line has come
//! for [`LINGER`], and the next line starts it again.
//!
//! Logging never blocks the daemon. If the output stalls (a full queue) or fails (disk full, closed
//! pipe, journald stopped):
//!
//! - Lines of level error are retained, up to a limit, and written when the output works again.
//! - Other lines are dropped and counted. The count is kept until a line that reports it has been
//!   written.
//!
//! Only the shutdown waits for the output, for at most [`SHUTDOWN_TIMEOUT`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::clock;
use crate::time::Moment;

/// Capacity of the queue: more than a minute at the maximum rate, a few MiB.
const CAPACITY: usize = 16_384;

/// Additional capacity for lines of level error, and the number of them that are retained while the
/// output fails.
const MAX_RETAINED: usize = 1_024;

/// How long shutdown waits for a stalled output.
pub(super) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause between two attempts to write to a failing output, and between two reports of dropped
/// lines.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Pause between two attempts to write to a non-blocking output that is full.
const POLL: Duration = Duration::from_millis(10);

/// How long the thread waits for another line before it ends: a check and what follows it in the next
/// seconds need one thread.
const LINGER: Duration = Duration::from_secs(10);

/// One queued line.
#[derive(Debug)]
pub(super) struct Line {
    /// The line, including the line break.
    pub(super) bytes: Vec<u8>,
    /// Whether the line has level error.
    pub(super) is_error: bool,
}

/// Renders the line that reports the number of dropped lines.
pub(super) type Report = Box<dyn Fn(u64) -> Vec<u8> + Send>;

/// The queue, shared by senders and the writer thread.
struct LineQueue {
    state: Mutex<State>,
    changed: Condvar,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// See [`CAPACITY`].
    capacity: usize,
    /// See [`LINGER`].
    linger: Duration,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Line>,
    /// Dropped lines that were not reported yet.
    unreported_drops: u64,
    /// All dropped lines.
    dropped: u64,
    /// The queue accepts no more lines.
    ended: bool,
    /// What the thread runs, while there is none.
    resting: Option<Box<LineWriter>>,
    /// A thread runs, or has been started.
    is_running: bool,
    /// When to start the thread again, after that has failed.
    retry: Option<Moment>,
}

/// Adds lines to the queue. Never blocks on the output.
#[derive(Clone)]
pub(super) struct LineSender(Arc<LineQueue>);

/// Handle of the writer thread. Dropping it flushes the queue.
pub(super) struct WriterHandle(Arc<LineQueue>);

/// Writes lines; runs in the writer thread.
struct LineWriter {
    output: Box<dyn Write + Send>,
    report: Report,
    /// The unwritten part of a partially written line. Written before any other line.
    unwritten: Vec<u8>,
    /// Retained lines of level error, oldest first.
    retained: VecDeque<Vec<u8>>,
    reported: Option<Moment>,
}

/// What the thread does next.
enum Turn<'a> {
    Write(Line),
    /// The output may work again.
    CatchUp,
    /// No line has come for a while; the queue is locked.
    Rest(MutexGuard<'a, State>),
    End,
}

/// Starts the writer thread for `output`.
///
/// # Errors
///
/// If the thread cannot be started.
pub(super) fn spawn_writer(
    output: impl Write + Send + 'static,
    report: Report,
) -> io::Result<(LineSender, WriterHandle)> {
    with_limits(output, report, Limits { capacity: CAPACITY, linger: LINGER })
}

fn with_limits(
    output: impl Write + Send + 'static,
    report: Report,
    limits: Limits,
) -> io::Result<(LineSender, WriterHandle)> {
    let writer = LineWriter {
        output: Box::new(output),
        report,
        unwritten: Vec::new(),
        retained: VecDeque::new(),
        reported: None,
    };
    let state = Mutex::new(State { resting: Some(Box::new(writer)), ..State::default() });
    let shared = Arc::new(LineQueue { state, changed: Condvar::new(), limits });
    shared.start_thread(&mut shared.state())?;
    Ok((LineSender(Arc::clone(&shared)), WriterHandle(shared)))
}

impl LineQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_dropped(&self, lines: usize) {
        self.state().count_dropped(lines as u64);
    }

    /// Wakes the thread, or starts it. If that fails, the lines wait for the next attempt.
    fn wake(self: &Arc<Self>, state: &mut State) {
        if state.is_running {
            self.changed.notify_all();
        } else if state.retry.is_none_or(|retry| retry <= clock::now()) {
            let failed = self.start_thread(state).is_err();
            state.retry = failed.then(|| clock::now() + RETRY_PAUSE);
        }
    }

    fn start_thread(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let shared = Arc::clone(self);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.run())?;
        state.is_running = true;
        Ok(())
    }

    /// The thread.
    fn run(&self) {
        let Some(mut writer) = self.state().resting.take() else { return };
        loop {
            match self.next(writer.is_behind()) {
                Turn::Write(line) => writer.write_line(self, line),
                // What still fails is repeated in the next turn.
                Turn::CatchUp => drop(writer.catch_up(self)),
                Turn::Rest(mut state) => {
                    state.resting = Some(writer);
                    state.is_running = false;
                    return;
                }
                Turn::End => break,
            }
        }
        writer.finish(self);
        self.state().is_running = false;
        self.changed.notify_all();
    }

    fn next(&self, is_behind: bool) -> Turn<'_> {
        let state = self.state();
        let is_behind = is_behind || state.unreported_drops > 0;
        let patience = if is_behind { RETRY_PAUSE } else { self.limits.linger };
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.ended;
        let waited = self.changed.wait_timeout_while(state, patience, is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        match state.waiting.pop_front() {
            Some(line) => Turn::Write(line),
            None if state.ended => Turn::End,
            None if is_behind => Turn::CatchUp,
            None => Turn::Rest(state),
        }
    }
}

impl State {
    const fn count_dropped(&mut self, lines: u64) {
        self.unreported_drops += lines;
        self.dropped += lines;
    }
}

impl LineSender {
    /// Adds a line. If the queue is full, the line is dropped and counted.
    pub(super) fn add(&self, line: Line) {
        let capacity = self.0.limits.capacity;
        let mut state = self.0.state();
        let room = if line.is_error { capacity + MAX_RETAINED } else { capacity };
        if state.waiting.len() < room && !state.ended {
            state.waiting.push_back(line);
            self.0.wake(&mut state);
        } else {
            state.count_dropped(1);
        }
    }
}

impl WriterHandle {
    /// Number of lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.0.state().dropped
    }

    /// When to [retry](Self::retry); `None` unless lines wait because the thread could not be
    /// started.
    pub(super) fn due(&self) -> Option<Moment> {
        self.0.state().retry
    }

    /// Starts the thread if that has failed and is due again.
    pub(super) fn retry(&self) {
        let mut state = self.0.state();
        if state.retry.is_some() {
            self.0.wake(&mut state);
        }
    }

    /// Waits until all lines are written or dropped, for at most `grace`. Returns false on timeout.
    fn end(&self, grace: Duration) -> bool {
        let until = clock::now() + grace;
        let mut state = self.0.state();
        state.ended = true;
        loop {
            if !state.is_running && state.waiting.is_empty() {
                return true;
            }
            let left = until.since(clock::now());
            if left.is_zero() {
                return false;
            }
            state.retry = None;
            self.0.wake(&mut state);
            // If no thread can be started, one that ends makes room for it.
            let patience = if state.is_running { left } else { left.min(POLL) };
            let waited = self.0.changed.wait_timeout_while(state, patience, |it| it.is_running);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        self.end(SHUTDOWN_TIMEOUT);
    }
}

impl LineWriter {
    fn write_line(&mut self, shared: &LineQueue, Line { bytes, is_error }: Line) {
        let works = self.catch_up(shared).is_ok();
        if works && self.put(shared, &bytes).is_ok() {
            return;
        }
        if is_error && self.retained.len() < MAX_RETAINED {
            self.retained.push_back(bytes);
        } else {
            shared.count_dropped(1);
        }
    }

    /// Makes the last attempt for what could not be written.
    fn finish(mut self, shared: &LineQueue) {
        self.reported = None;
        // Lines that cannot be written now are dropped; there is no output left to report that.
        let _ = self.catch_up(shared);
        shared.count_dropped(self.retained.len() + usize::from(!self.unwritten.is_empty()));
    }

    fn is_behind(&self) -> bool {
        !self.unwritten.is_empty() || !self.retained.is_empty()
    }

    /// Writes what precedes the next line: the rest of the last line, the report of dropped lines,
    /// and the retained errors.
    fn catch_up(&mut self, shared: &LineQueue) -> io::Result<()> {
        self.finish_line()?;
        let dropped = shared.state().unreported_drops;
        let is_due =
            self.reported.is_none_or(|reported| clock::now().since(reported) >= RETRY_PAUSE);
        if dropped > 0 && is_due {
            let report = (self.report)(dropped);
            self.put(shared, &report)?;
            shared.state().unreported_drops -= dropped;
            self.reported = Some(clock::now());
        }
        while let Some(line) = self.retained.pop_front() {
            if let Err(error) = self.put(shared, &line) {
                self.retained.push_front(line);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes a line. After a partial write, the rest is written later, before any other line.
    fn put(&mut self, shared: &LineQueue, line: &[u8]) -> io::Result<()> {
        self.finish_line()?;
        match self.write(line) {
            (0, Some(error)) if is_too_long(&error) => shared.count_dropped(1),
            (0, Some(error)) => return Err(error),
            (written, Some(_)) => self.unwritten.extend_from_slice(&line[written..]),
            (_, None) => {}
        }
        Ok(())
    }

    fn finish_line(&mut self) -> io::Result<()> {
        let unwritten = std::mem::take(&mut self.unwritten);
        let (written, error) = self.write(&unwritten);
        self.unwritten.extend_from_slice(&unwritten[written..]);
        error.map_or(Ok(()), Err)
    }

    /// Writes `bytes`. Returns the number of written bytes, and the error that prevented the rest.
    fn write(&mut self, bytes: &[u8]) -> (usize, Option<io::Error>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.output.write(&bytes[written..]) {
                Ok(0) => return (written, Some(ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
                Err(error) => return (written, Some(error)),
            }
        }
        (written, None)
    }
}

/// Whether the line is too long for the output, as opposed to a failing output.
fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}

#[cfg(test)]
mod tests;
