//! Reads value sources. A source that seems to be gone is read a second time, as a program that
//! writes a file in place empties it first.
//!
//! One thread reads many sources, one after the other. If one of them hangs, its thread waits for
//! it, and another thread reads the rest.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::Completion;
use super::blocking::{REREADS, blocking_among, with_disk_timeout};
use crate::daemon::tokens::{ReadRequest, SourceRead, may_be_half_written};
use crate::lifecycle::CheckResult;
use crate::scheduler::{Ticket, TokenId};
use crate::settings::Source;
use crate::token_source::DISK_TIMEOUT;

/// Time until a source that was empty or missing is read again.
pub(crate) const SECOND_READ_DELAY: Duration = Duration::from_millis(400);

/// Reads that hang in one folder before its other sources wait for them. One file can hang alone,
/// such as a mount point; a second one means that the folder's disk hangs.
const MAX_HUNG_IN_FOLDER: usize = 2;

/// A read that hangs.
#[derive(Debug)]
pub(crate) struct HungRead {
    request: ReadRequest,
    thread: JoinHandle<()>,
    /// Sources that are not read yet.
    rest: Vec<ReadRequest>,
}

impl HungRead {
    /// The read after the first `count` ones; `None` if there is none.
    fn after(count: usize, requests: Vec<ReadRequest>, thread: JoinHandle<()>) -> Option<Self> {
        let mut rest = requests.into_iter().skip(count);
        Some(Self { request: rest.next()?, thread, rest: rest.collect() })
    }

    /// What is reported while it hangs.
    fn result(&self) -> SourceRead {
        SourceRead::timed_out(self.request.clone())
    }

    /// Waits until the disk responds. Returns the token of the source, which is to be read again.
    pub(super) async fn ended(request: ReadRequest, thread: JoinHandle<()>) -> Completion {
        // A panic aborts the process.
        let _ = thread.await;
        Completion::HungReadEnded(request)
    }

    /// The request, its thread, and the sources that are not read yet: those in the same folder,
    /// and the others.
    pub(super) fn split(self) -> (ReadRequest, JoinHandle<()>, [Vec<ReadRequest>; 2]) {
        let Self { request, thread, rest } = self;
        let place = folder(&request.source);
        let (beside, elsewhere) = rest.into_iter().partition(|it| folder(&it.source) == place);
        (request, thread, [beside, elsewhere])
    }
}

/// The reads that hang, each with a thread, by the folder of the source. They are not repeated
/// until they end.
#[derive(Debug, Default)]
pub(super) struct HungReads(HashMap<PathBuf, HungFolder>);

#[derive(Debug, Default)]
struct HungFolder {
    sources: Vec<Source>,
    /// Tokens whose sources are read once one of these responds.
    waiting: BTreeSet<TokenId>,
}

impl HungReads {
    /// A read hangs.
    pub(super) fn add(&mut self, source: &Source) {
        self.0.entry(folder(source)).or_default().sources.push(source.clone());
    }

    /// A read that was hanging has ended. Returns the tokens that wait for it.
    pub(super) fn remove(&mut self, source: &Source) -> BTreeSet<TokenId> {
        let folder = folder(source);
        let Some(hung) = self.0.get_mut(&folder) else { return BTreeSet::new() };
        if let Some(at) = hung.sources.iter().position(|it| it == source) {
            hung.sources.swap_remove(at);
        }
        let waiting = std::mem::take(&mut hung.waiting);
        if hung.sources.is_empty() {
            self.0.remove(&folder);
        }
        waiting
    }

    /// Removes the requests that would hang as well, and returns their results. The tokens wait.
    pub(super) fn take_waiting(&mut self, requests: &mut Vec<ReadRequest>) -> Vec<SourceRead> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let waits = |request: &mut ReadRequest| {
            let Some(hung) = self.0.get_mut(&folder(&request.source)) else { return false };
            let waits =
                hung.sources.len() >= MAX_HUNG_IN_FOLDER || hung.sources.contains(&request.source);
            if waits {
                hung.waiting.insert(request.id);
            }
            waits
        };
        requests.extract_if(.., waits).map(SourceRead::timed_out).collect()
    }
}

/// The folder of a source; a credential or a variable is its own.
fn folder(source: &Source) -> PathBuf {
    match source {
        Source::File(path) => path.parent().unwrap_or(path).to_owned(),
        Source::Credential(name) | Source::Env(name) => Path::new(name).to_owned(),
    }
}

/// Reads sources. The results in `waiting`, for sources that have to wait, are only passed on.
pub(super) async fn read_sources(
    requests: Vec<ReadRequest>,
    waiting: Vec<SourceRead>,
) -> Completion {
    let (mut reads, hung) = read_each(requests).await;
    let mut all_hung = Vec::from_iter(hung);
    let half_written = |read: &mut SourceRead| may_be_half_written(&read.result);
    let again: Vec<_> = reads.extract_if(.., half_written).map(|read| read.request).collect();
    if !again.is_empty() {
        sleep(SECOND_READ_DELAY).await;
        let (second, hung) = read_each(again).await;
        reads.extend(second);
        all_hung.extend(hung);
    }
    reads.extend(waiting);
    Completion::SourcesRead(reads, all_hung)
}

/// Reads sources on one thread, up to the first that does not respond within [`DISK_TIMEOUT`].
async fn read_each(requests: Vec<ReadRequest>) -> (Vec<SourceRead>, Option<HungRead>) {
    let mut reads = Vec::with_capacity(requests.len());
    let (sender, mut receiver) = unbounded_channel();
    let thread = spawn_reads(requests.clone(), move |read| sender.send(read).is_ok());
    // Each part begins the time of the next source.
    while let Some(part) = with_disk_timeout(receiver.recv_many(&mut reads, requests.len())).await {
        if part == 0 {
            return (reads, None);
        }
    }
    let hung = HungRead::after(reads.len(), requests, thread);
    reads.extend(hung.as_ref().map(HungRead::result));
    (reads, hung)
}

/// Reads sources for the startup, which needs all values first. Blocks, and stops at the first
/// source that does not respond within [`DISK_TIMEOUT`]: that one and the rest are read later.
pub(super) fn read_at_startup(
    requests: Vec<ReadRequest>,
    mut on_read: impl FnMut(SourceRead),
) -> Option<HungRead> {
    let (sender, receiver) = channel();
    let thread = spawn_reads(requests.clone(), move |read| sender.send(read).is_ok());
    let mut count = 0;
    loop {
        match receiver.recv_timeout(DISK_TIMEOUT) {
            Ok(read) => on_read(read),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => break,
        }
        count += 1;
    }
    let hung = HungRead::after(count, requests, thread)?;
    on_read(hung.result());
    Some(hung)
}

/// Reads sources on a thread, in order, until a result is not wanted any more.
fn spawn_reads(
    requests: Vec<ReadRequest>,
    pass_on: impl Fn(SourceRead) -> bool + Send + 'static,
) -> JoinHandle<()> {
    spawn_blocking(move || {
        let _ = requests.into_iter().all(|request| pass_on(request.read()));
    })
}

/// Reads the source of a value that the server calls dead. Takes at most [`DISK_TIMEOUT`], so the
/// response is never lost.
pub(super) async fn reread_source(
    ticket: Ticket,
    answer: CheckResult,
    request: ReadRequest,
) -> Completion {
    let read = || {
        let request = request.clone();
        blocking_among(&REREADS, move || request.read())
    };
    let read = with_disk_timeout(async {
        let first = read().await;
        if !may_be_half_written(&first.result) {
            return first;
        }
        sleep(SECOND_READ_DELAY).await;
        read().await
    });
    Completion::SourceReread(ticket, answer, read.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request to read a file of the token.
    fn request(path: &str) -> ReadRequest {
        let source = Source::File(path.into());
        ReadRequest { id: Ticket::for_tests().token, epoch: 0, source }
    }

    /// The paths of the sources that would still be read.
    fn admitted(hung: &mut HungReads, paths: &[&str]) -> Vec<Source> {
        let mut requests = paths.iter().map(|path| request(path)).collect();
        let waiting = hung.take_waiting(&mut requests);
        assert_eq!(waiting.len() + requests.len(), paths.len());
        requests.into_iter().map(|request| request.source).collect()
    }

    #[test]
    fn source_that_hangs_is_read_again_once_its_read_has_ended() {
        let mut hung = HungReads::default();
        let source = |path| request(path).source;
        hung.add(&source("/nfs/a"));
        let paths = ["/nfs/a", "/nfs/b", "/etc/c"];
        assert_eq!(admitted(&mut hung, &paths), [source("/nfs/b"), source("/etc/c")]);
        hung.add(&source("/nfs/b"));
        let paths = ["/nfs/d", "/etc/c"];
        assert_eq!(admitted(&mut hung, &paths), [source("/etc/c")], "the disk hangs");
        assert_eq!(hung.remove(&source("/nfs/a")).len(), 1);
        assert_eq!(admitted(&mut hung, &["/nfs/a"]), [source("/nfs/a")]);
        assert!(hung.remove(&source("/nfs/b")).is_empty());
        assert!(hung.0.is_empty());
    }
}
