//! Reads value sources. A source that seems to be gone is read a second time, as a program that
//! writes a file in place empties it first.

use std::time::Duration;

use tokio::time::sleep;

use super::Completion;
use super::blocking::{REREADS, blocking, blocking_among, with_disk_timeout};
use crate::daemon::tokens::{ReadRequest, may_be_half_written, read_source};
use crate::lifecycle::CheckResult;
use crate::scheduler::Ticket;

/// Time until a source that was empty or missing is read again.
pub(crate) const SECOND_READ_DELAY: Duration = Duration::from_millis(400);

/// Reads sources.
pub(super) async fn read_sources(requests: Vec<ReadRequest>) -> Completion {
    let read_all = || requests.into_iter().map(ReadRequest::read).collect::<Vec<_>>();
    let mut reads = blocking(read_all).await;
    if reads.iter().any(|read| may_be_half_written(&read.result)) {
        sleep(SECOND_READ_DELAY).await;
        reads = blocking(move || {
            for read in reads.iter_mut().filter(|read| may_be_half_written(&read.result)) {
                read.result = read_source(&read.request.source);
            }
            reads
        })
        .await;
    }
    Completion::SourcesRead(reads)
}

/// Reads the source of a value that the server calls dead. Takes at most
/// [`DISK_TIMEOUT`](crate::token_file::DISK_PATIENCE), so the response is never lost.
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
