//! Tests of the writer thread on outputs that stall or fail.

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

/// A disk with room for this number of bytes.
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

const FOUR_LINES: Limits = Limits { capacity: 4, linger: LINGER };

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
    let (sender, handle) = with_limits(Stalled(gate, out), report(), FOUR_LINES).unwrap();
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
    let (sender, handle) = with_limits(Stalled(gate, out), report(), FOUR_LINES).unwrap();
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

/// A log whose thread ends as soon as there is no line.
fn without_linger() -> (Disk, LineSender, WriterHandle) {
    let disk = Disk::default();
    disk.make_room(usize::MAX);
    let limits = Limits { capacity: CAPACITY, linger: Duration::ZERO };
    let (sender, handle) = with_limits(disk.clone(), report(), limits).unwrap();
    (disk, sender, handle)
}

/// Waits until the thread has ended.
fn thread_ends(handle: &WriterHandle) {
    let deadline = clock::now() + Duration::from_secs(60);
    while handle.0.state().is_running {
        assert!(clock::now() < deadline, "the thread does not end");
        thread::yield_now();
    }
}

/// A log with a line that waits because no thread can be started.
fn with_a_line_and_no_thread() -> (Disk, WriterHandle) {
    let (disk, sender, handle) = without_linger();
    thread_ends(&handle);
    handle.0.state().retry = Some(Moment::NEVER);
    add(&sender, "line", 1);
    (disk, handle)
}

#[test]
fn idle_thread_ends_and_the_next_line_starts_it_again() {
    let (disk, sender, handle) = without_linger();
    for lines in 1..=3 {
        add(&sender, "line", 1);
        thread_ends(&handle);
        assert_eq!(disk.text(), "line\n".repeat(lines));
    }
    add(&sender, "last", 1);
    drop(handle);
    assert!(disk.text().ends_with("last\n"));
}

#[test]
fn shutdown_starts_the_thread_that_could_not_be_started_before() {
    let (disk, handle) = with_a_line_and_no_thread();
    assert_eq!(disk.text(), "");
    assert!(handle.end(SHUTDOWN_TIMEOUT));
    assert_eq!(disk.text(), "line\n");
}

#[test]
fn lines_wait_for_a_thread_that_could_not_be_started() {
    let (disk, handle) = with_a_line_and_no_thread();
    assert_eq!(handle.due(), Some(Moment::NEVER));
    assert_eq!(handle.0.state().waiting.len(), 1);
    handle.0.state().retry = Some(clock::now());
    handle.retry();
    assert_eq!(handle.due(), None);
    settle(&handle);
    drop(handle);
    assert_eq!(disk.text(), "line\n");
}
