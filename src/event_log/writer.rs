//! Bounded queue of log lines, and the thread that writes them.
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
#[derive(Debug)]
struct LineQueue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Line>,
    /// Dropped lines that were not reported yet.
    unreported_drops: u64,
    /// All dropped lines.
    dropped: u64,
    /// The queue accepts no more lines.
    ended: bool,
    /// The writer thread has ended.
    has_ended: bool,
}

/// Adds lines to the queue. Never blocks on the output.
#[derive(Debug, Clone)]
pub(super) struct LineSender(Arc<LineQueue>);

/// Handle of the writer thread. Dropping it flushes the queue.
pub(super) struct WriterHandle(Arc<LineQueue>);

/// Takes lines from the queue and writes them; runs in the writer thread.
struct LineWriter<W> {
    shared: Arc<LineQueue>,
    output: W,
    report: Report,
    /// The unwritten part of a partially written line. Written before any other line.
    unwritten: Vec<u8>,
    /// Retained lines of level error, oldest first.
    retained: VecDeque<Vec<u8>>,
    reported: Option<Moment>,
}

/// Starts the writer thread for `output`.
///
/// # Errors
///
/// If the thread cannot be started.
pub(super) fn spawn_writer<W: Write + Send + 'static>(
    output: W,
    report: Report,
) -> io::Result<(LineSender, WriterHandle)> {
    with_capacity(output, report, CAPACITY)
}

fn with_capacity<W: Write + Send + 'static>(
    output: W,
    report: Report,
    capacity: usize,
) -> io::Result<(LineSender, WriterHandle)> {
    let state = Mutex::new(State::default());
    let shared = Arc::new(LineQueue { state, changed: Condvar::new(), capacity });
    let writer = LineWriter {
        shared: Arc::clone(&shared),
        output,
        report,
        unwritten: Vec::new(),
        retained: VecDeque::new(),
        reported: None,
    };
    thread::Builder::new().name("log".to_owned()).spawn(move || writer.run())?;
    Ok((LineSender(Arc::clone(&shared)), WriterHandle(shared)))
}

impl LineQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_dropped(&self, lines: usize) {
        self.state().count_dropped(lines as u64);
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
        let LineQueue { changed, capacity, .. } = &*self.0;
        let mut state = self.0.state();
        let room = if line.is_error { capacity + MAX_RETAINED } else { *capacity };
        if state.waiting.len() < room && !state.ended {
            state.waiting.push_back(line);
            changed.notify_all();
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

    /// Waits until all lines are written or dropped, for at most `grace`. Returns false on timeout.
    fn end(&self, grace: Duration) -> bool {
        let LineQueue { changed, .. } = &*self.0;
        let mut state = self.0.state();
        state.ended = true;
        changed.notify_all();
        let end = changed.wait_timeout_while(state, grace, |state| !state.has_ended);
        !end.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        self.end(SHUTDOWN_TIMEOUT);
    }
}

impl<W: Write> LineWriter<W> {
    fn run(mut self) {
        while let Some(line) = self.next() {
            let works = self.catch_up().is_ok();
            let Some(Line { bytes, is_error }) = line else { continue };
            if works && self.put(&bytes).is_ok() {
                continue;
            }
            if is_error && self.retained.len() < MAX_RETAINED {
                self.retained.push_back(bytes);
            } else {
                self.shared.count_dropped(1);
            }
        }
        self.reported = None;
        // Lines that cannot be written now are dropped; there is no output left to report that.
        let _ = self.catch_up();
        self.shared.count_dropped(self.retained.len() + usize::from(!self.unwritten.is_empty()));
        self.shared.state().has_ended = true;
        self.shared.changed.notify_all();
    }

    /// The next line; `Some(None)` if it is time to catch up; `None` at the end.
    #[expect(clippy::option_option, reason = "an iterator's end, and a turn without a line")]
    fn next(&self) -> Option<Option<Line>> {
        let LineQueue { changed, .. } = &*self.shared;
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.ended;
        let mut state = self.shared.state();
        let is_behind =
            !self.unwritten.is_empty() || !self.retained.is_empty() || state.unreported_drops > 0;
        state = if is_behind {
            let waited = changed.wait_timeout_while(state, RETRY_PAUSE, is_idle);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner)
        };
        match state.waiting.pop_front() {
            Some(line) => Some(Some(line)),
            None if state.ended => None,
            None => Some(None),
        }
    }

    /// Writes what precedes the next line: the rest of the last line, the report of dropped lines,
    /// and the retained errors.
    fn catch_up(&mut self) -> io::Result<()> {
        self.finish_line()?;
        let dropped = self.shared.state().unreported_drops;
        let is_due =
            self.reported.is_none_or(|reported| clock::now().since(reported) >= RETRY_PAUSE);
        if dropped > 0 && is_due {
            let report = (self.report)(dropped);
            self.put(&report)?;
            self.shared.state().unreported_drops -= dropped;
            self.reported = Some(clock::now());
        }
        while let Some(line) = self.retained.pop_front() {
            if let Err(error) = self.put(&line) {
                self.retained.push_front(line);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes a line. After a partial write, the rest is written later, before any other line.
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        self.finish_line()?;
        match self.write(line) {
            (0, Some(error)) if is_too_long(&error) => self.shared.count_dropped(1),
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
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes nothing until its gate is opened.
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

    /// A disk with room for so many bytes.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Disk {
        fn make_room(&self, bytes: usize) {
            self.0.lock().unwrap().0 = bytes;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().1.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let (room, content) = &mut *self.0.lock().unwrap();
            let fits = line.len().min(*room);
            if fits == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            *room -= fits;
            content.extend_from_slice(&line[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn report() -> Report {
        Box::new(|dropped| format!("lost {dropped}\n").into_bytes())
    }

    fn line(text: &str) -> Line {
        Line { bytes: format!("{text}\n").into_bytes(), is_error: text.starts_with("error") }
    }

    fn add(sender: &LineSender, text: &str, times: usize) {
        (0..times).for_each(|_| sender.add(line(text)));
    }

    /// Waits until the thread has taken every line.
    fn settle(handle: &WriterHandle) {
        let deadline = clock::now() + Duration::from_secs(60);
        while !handle.0.state().waiting.is_empty() {
            assert!(clock::now() < deadline, "the thread takes no line");
            thread::yield_now();
        }
    }

    /// How many lines the reports among these count.
    fn reported(text: &str) -> u64 {
        text.lines().filter_map(|line| line.strip_prefix("lost ")?.parse::<u64>().ok()).sum()
    }

    fn count(text: &str, wanted: &str) -> usize {
        text.lines().filter(|line| *line == wanted).count()
    }

    #[test]
    fn all_lines_are_written_before_shutdown_ends() {
        let (go, gate) = channel();
        let (out, lines) = channel();
        let (sender, handle) = spawn_writer(Stalled(gate, out), report()).unwrap();
        add(&sender, "line", 500);
        drop(go);
        drop(handle);
        assert_eq!(lines.try_iter().count(), 500);
    }

    #[test]
    fn lines_beyond_the_capacity_are_counted_and_errors_have_extra_capacity() {
        let (go, gate) = channel();
        let (out, lines) = channel();
        let (sender, handle) = with_capacity(Stalled(gate, out), report(), 4).unwrap();
        add(&sender, "line", 100);
        add(&sender, "error", 100);
        let dropped = handle.dropped();
        assert!((95..=96).contains(&dropped), "{dropped}");
        drop(go);
        drop(handle);
        let text = String::from_utf8(lines.try_iter().flatten().collect()).unwrap();
        assert_eq!(count(&text, "error"), 100);
        assert_eq!(count(&text, "line") as u64 + reported(&text), 100, "{text}");
    }

    #[test]
    fn shutdown_gives_up_on_a_stalled_output() {
        let (_go, gate) = channel();
        let (out, _lines) = channel();
        let (sender, handle) = with_capacity(Stalled(gate, out), report(), 4).unwrap();
        add(&sender, "line", 100);
        assert!(!handle.end(Duration::from_millis(1)));
    }

    #[test]
    fn errors_are_written_later_and_other_lines_counted_exactly_while_the_disk_is_full() {
        for room in [0, 1, 3, 5, 9, 10, 11] {
            let disk = Disk::default();
            disk.make_room(room);
            let (sender, handle) = spawn_writer(disk.clone(), report()).unwrap();
            add(&sender, "line", 70);
            add(&sender, "error", 2);
            add(&sender, "line", 30);
            settle(&handle);
            disk.make_room(usize::MAX);
            add(&sender, "last", 1);
            drop(handle);
            let text = disk.text();
            assert_eq!(count(&text, "error"), 2, "room for {room}: {text}");
            assert_eq!(count(&text, "line") as u64 + reported(&text), 100, "{room}: {text}");
            assert!(text.ends_with("last\n"), "{text}");
        }
    }

    #[test]
    fn a_report_that_could_not_be_written_is_repeated_with_the_new_total() {
        let disk = Disk::default();
        let (sender, handle) = spawn_writer(disk.clone(), report()).unwrap();
        for _ in 0..5 {
            add(&sender, "line", 20);
            settle(&handle);
        }
        disk.make_room(usize::MAX);
        drop(handle);
        assert_eq!(disk.text(), "lost 100\n");
    }

    #[test]
    fn retained_errors_are_bounded_and_the_oldest_are_retained() {
        let disk = Disk::default();
        let (sender, handle) = spawn_writer(disk.clone(), report()).unwrap();
        (0..MAX_RETAINED + 10).for_each(|number| sender.add(line(&format!("error {number}"))));
        settle(&handle);
        disk.make_room(usize::MAX);
        drop(handle);
        let text = disk.text();
        assert_eq!(reported(&text), 10);
        assert_eq!(text.lines().nth(1), Some("error 0"));
    }

    #[test]
    fn the_log_catches_up_without_a_further_line() {
        let disk = Disk::default();
        let (sender, handle) = spawn_writer(disk.clone(), report()).unwrap();
        add(&sender, "line", 3);
        add(&sender, "error", 1);
        settle(&handle);
        disk.make_room(usize::MAX);
        let deadline = clock::now() + Duration::from_secs(60);
        while disk.text() != "lost 3\nerror\n" {
            assert!(clock::now() < deadline, "{}", disk.text());
            thread::sleep(POLL);
        }
    }
}
