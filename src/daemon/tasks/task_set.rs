//! A set of running tasks. Each task ends in a [`Completion`], or its ticket comes back so that the
//! caller can cancel the action.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

use super::Completion;
use crate::scheduler::Ticket;

/// The end of a task.
#[derive(Debug)]
pub(crate) struct TaskEnd {
    /// The ticket of its action; `None` for work of the daemon itself.
    pub(crate) ticket: Option<Ticket>,
    /// Its result; `None` if it was aborted or has panicked, and will never complete.
    pub(crate) completion: Option<Completion>,
}

/// A set of running tasks.
#[derive(Debug, Default)]
pub(super) struct TaskSet {
    set: JoinSet<Completion>,
    /// Tickets of the actions among them.
    tickets: HashMap<Id, Ticket>,
}

impl TaskSet {
    /// Executes an action of the scheduler.
    pub(super) fn start(
        &mut self,
        ticket: Ticket,
        action: impl Future<Output = Completion> + Send + 'static,
    ) {
        let id = self.set.spawn(action).id();
        self.tickets.insert(id, ticket);
    }

    /// Runs work of the daemon itself.
    pub(super) fn spawn(&mut self, work: impl Future<Output = Completion> + Send + 'static) {
        self.set.spawn(work);
    }

    /// Waits for the next task to end; `None` if no task is running. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<TaskEnd> {
        let ended = self.set.join_next_with_id().await?;
        Some(self.take(ended))
    }

    /// The end of a task that has ended already.
    pub(super) fn try_next(&mut self) -> Option<TaskEnd> {
        let ended = self.set.try_join_next_with_id()?;
        Some(self.take(ended))
    }

    /// Aborts all tasks, and returns the tickets of their actions.
    pub(super) async fn abort_all(&mut self) -> Vec<Ticket> {
        self.set.shutdown().await;
        self.tickets.drain().map(|(_, ticket)| ticket).collect()
    }

    /// Whether no task is running.
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// How many actions of the scheduler are running.
    #[cfg(test)]
    pub(super) fn actions(&self) -> usize {
        self.tickets.len()
    }

    fn take(&mut self, ended: Result<(Id, Completion), JoinError>) -> TaskEnd {
        let (id, completion) = match ended {
            Ok((id, completion)) => (id, Some(completion)),
            Err(error) => (error.id(), None),
        };
        TaskEnd { ticket: self.tickets.remove(&id), completion }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn ticket() -> Ticket {
        Ticket::for_tests()
    }

    #[tokio::test]
    async fn aborted_task_gives_its_ticket_back() {
        let mut tasks = TaskSet::default();
        tasks.start(ticket(), pending());
        tasks.spawn(pending());
        assert_eq!(tasks.actions(), 1);
        assert_eq!(tasks.abort_all().await, [ticket()]);
        assert!(tasks.is_empty() && tasks.actions() == 0);
    }

    #[tokio::test]
    async fn panicked_task_gives_its_ticket_back() {
        let mut tasks = TaskSet::default();
        tasks.start(ticket(), async { panic!("on purpose") });
        let ended = tasks.next().await.expect("it has ended");
        assert_eq!((ended.ticket, tasks.actions()), (Some(ticket()), 0));
        assert!(ended.completion.is_none());
    }

    #[tokio::test]
    async fn completed_task_keeps_no_ticket() {
        let mut tasks = TaskSet::default();
        tasks.start(ticket(), async { Completion::SourcesRead(Vec::new(), Vec::new()) });
        let ended = tasks.next().await.expect("it has ended");
        assert!(
            ended.ticket.is_some() && matches!(ended.completion, Some(Completion::SourcesRead(..)))
        );
        assert_eq!(tasks.actions(), 0);
        assert!(tasks.next().await.is_none());
    }
}
