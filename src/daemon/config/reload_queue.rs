//! Numbers of reloads, and the clients that wait for their end. It does not know what a reload does.

use crate::control::{ApiError, ApiErrorKind, Reloaded, Reply};

/// Reloads by their numbers, from 1. One runs at a time, and at most one waits.
#[derive(Debug, Default)]
pub(super) struct ReloadQueue {
    begun: u64,
    ended: u64,
    /// Another reload begins when the current one has ended.
    is_repeated: bool,
    /// The outcome of the last reload that has ended.
    last: Reloaded,
    waiting: Vec<(u64, Reply<Reloaded>)>,
}

impl ReloadQueue {
    /// Requests a reload. Returns its number, and whether it begins now.
    pub(super) const fn request(&mut self) -> (u64, bool) {
        if self.begun > self.ended {
            // The files may have changed since the current reload has read them.
            self.is_repeated = true;
            return (self.begun + 1, false);
        }
        self.begun += 1;
        (self.begun, true)
    }

    /// Begins a reload unless one is running. Returns whether it did.
    pub(super) const fn begin_if_idle(&mut self) -> bool {
        let idle = self.begun == self.ended;
        if idle {
            self.begun += 1;
        }
        idle
    }

    /// Whether a reload is running.
    pub(super) const fn is_running(&self) -> bool {
        self.begun > self.ended
    }

    /// A client waits for the end of a reload. For reloads that have ended it gets the outcome of
    /// the last one.
    pub(super) fn wait(&mut self, number: u64, reply: Reply<Reloaded>) {
        let requested = self.begun + u64::from(self.is_repeated);
        if !(1..=requested).contains(&number) {
            let message = format!("reload {number} is unknown; has the daemon restarted?");
            drop(reply.send(Err(ApiError::new(ApiErrorKind::NotFound, message))));
        } else if number <= self.ended {
            drop(reply.send(Ok(self.last.clone())));
        } else {
            self.waiting.retain(|(_, waiting)| !waiting.is_closed());
            self.waiting.push((number, reply));
        }
    }

    /// The current reload has ended: the clients that wait for it get the outcome. Returns whether
    /// the next one begins.
    pub(super) fn end(&mut self, outcome: Reloaded) -> bool {
        self.ended = self.begun;
        for (_, reply) in self.waiting.extract_if(.., |(number, _)| *number <= self.ended) {
            // The client may be gone.
            drop(reply.send(Ok(outcome.clone())));
        }
        self.last = outcome;
        let next = std::mem::take(&mut self.is_repeated);
        self.begun += u64::from(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn outcome(added: &str) -> Reloaded {
        Reloaded { applied: true, added: Some(added.to_owned()), ..Reloaded::default() }
    }

    /// What a client that waits for this reload has got so far.
    fn waiter(
        reloads: &mut ReloadQueue,
        number: u64,
    ) -> impl FnMut() -> Option<Result<Reloaded, ApiError>> + use<> {
        let (reply, mut answer) = oneshot::channel();
        reloads.wait(number, reply);
        move || answer.try_recv().ok()
    }

    #[test]
    fn reload_that_is_requested_during_another_begins_after_it() {
        let mut reloads = ReloadQueue::default();
        assert_eq!(reloads.request(), (1, true));
        assert_eq!((reloads.request(), reloads.request()), ((2, false), (2, false)));
        let (mut first, mut second) = (waiter(&mut reloads, 1), waiter(&mut reloads, 2));
        assert!(reloads.end(outcome("first")), "the second begins");
        assert_eq!((first(), second()), (Some(Ok(outcome("first"))), None));
        assert!(!reloads.end(outcome("second")));
        assert_eq!(second(), Some(Ok(outcome("second"))));
        assert_eq!(reloads.request(), (3, true));
    }

    #[test]
    fn client_that_asks_after_the_end_gets_the_last_outcome() {
        let mut reloads = ReloadQueue::default();
        for added in ["first", "second"] {
            reloads.request();
            reloads.end(outcome(added));
        }
        for number in [1, 2] {
            assert_eq!(waiter(&mut reloads, number)(), Some(Ok(outcome("second"))));
        }
    }

    #[test]
    fn reload_that_was_not_requested_is_not_found() {
        let mut reloads = ReloadQueue::default();
        reloads.request();
        for number in [0, 2] {
            let heard = waiter(&mut reloads, number)().expect("an answer");
            assert_eq!(heard.map_err(|problem| problem.kind), Err(ApiErrorKind::NotFound));
        }
    }
}
