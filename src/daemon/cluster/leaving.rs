//! Leaves the cluster when the daemon stops.

use std::time::Duration;

use tokio::time::sleep;

use super::Cluster;
use super::claiming::put_off;
use crate::clock;
use crate::daemon::tasks::Tasks;
use crate::daemon::tokens::Tokens;

/// How long leaving the cluster may take: then the lease ends by itself.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it may take while a value is not known to be in etcd: enough for one endpoint that hangs,
/// a pause, and the next endpoints.
const LAST_STORE_TIMEOUT: Duration = Duration::from_secs(8);

/// The longest of both, and how long ending the lease may take.
pub(crate) const LONGEST_LEAVE: Duration =
    LAST_STORE_TIMEOUT.saturating_add(Duration::from_secs(1));

/// The least pause between two turns while this replica leaves.
const LEAVE_TICK: Duration = Duration::from_millis(4);

impl Cluster {
    /// The daemon stops: no spending begins any more. Those under way may end, and their values are
    /// stored; then this replica leaves.
    pub(crate) fn stop(&mut self, tokens: &mut Tokens) {
        let now = clock::now();
        self.is_stopping = true;
        for spending in self.spendings.take_waiting() {
            put_off(&spending, now, tokens);
        }
        self.answers.stop(&mut tokens.log);
        self.replica.leave(now);
    }

    /// Waits until the values of spendings that have ended are stored and this replica has left, for
    /// a limited time.
    pub(crate) async fn leave(mut self: Box<Self>, tokens: &mut Tokens, tasks: &mut Tasks) {
        self.finish(tokens, tasks).await;
        self.persist_seen(tokens);
        self.link.leave().await;
    }

    /// Waits until this replica has left. What takes longer than the time-out ends with the lease.
    pub(super) async fn finish(&mut self, tokens: &mut Tokens, tasks: &mut Tasks) {
        let began = clock::now();
        // Without a member's key there is nothing to leave.
        while !self.has_left && self.asking.has_listed() {
            let now = clock::now();
            for start in self.turn(now, tokens, tasks) {
                self.end_unbegun(&start.spending);
            }
            let is_storing = self.replica.has_unstored_values();
            let longest = if is_storing { LAST_STORE_TIMEOUT } else { LEAVE_TIMEOUT };
            if self.has_left || now.since(began) >= longest {
                break;
            }
            let end = began + longest;
            let due = self.due().map_or(end, |due| due.min(end));
            // A response that is missing triggers nothing: the replica repeats its request by itself.
            tokio::select! {
                event = self.link.next_event() => self.on_link_event(event, clock::now()),
                () = sleep(due.since(now).max(LEAVE_TICK)) => {}
            }
        }
    }

    /// Whether a value of this replica is on its way to etcd: lost if the daemon ended now.
    pub(crate) fn is_storing(&self) -> bool {
        self.replica.has_unstored_values()
    }
}
