//! Which reload is which, and who waits for its end. What a reload does is not known here.

use crate::control::{Problem, ProblemKind, Reloaded, Reply};

/// ReloadQueue by their numbers, from 1: one at a time, and one more after it at most.
#[derive(Debug, Default)]
pub(crate) struct ReloadQueue {
    begun: u64,
    ended: u64,
    /// Another is to begin when the one under way has ended.
    again: bool,
    /// What came of the last that has ended.
    last: Reloaded,
    waiting: Vec<(u64, Reply<Reloaded>)>,
}

impl ReloadQueue {
    /// Somebody wants one: its number, and whether it begins now.
    pub(crate) const fn ask(&mut self) -> (u64, bool) {
        if self.begun > self.ended {
            // What is read at this moment may be older than what is meant.
            self.again = true;
            return (self.begun + 1, false);
        }
        self.begun += 1;
        (self.begun, true)
    }

    /// Begins a reload unless one is under way; returns whether it did.
    pub(crate) const fn begin_if_idle(&mut self) -> bool {
        let idle = self.begun == self.ended;
        if idle {
            self.begun += 1;
        }
        idle
    }

    /// Somebody waits for the end of a reload. What came of an older one than the last is not
    /// kept: the last one's outcome is what holds.
    pub(crate) fn wait(&mut self, number: u64, reply: Reply<Reloaded>) {
        let asked = self.begun + u64::from(self.again);
        if !(1..=asked).contains(&number) {
            let message = format!("there was no reload {number}; has the daemon restarted?");
            drop(reply.send(Err(Problem::new(ProblemKind::NotFound, message))));
        } else if number <= self.ended {
            drop(reply.send(Ok(self.last.clone())));
        } else {
            self.waiting.retain(|(_, waiting)| !waiting.is_closed());
            self.waiting.push((number, reply));
        }
    }

    /// The one under way has ended: whoever waits for it hears so. Tells whether the next one
    /// begins.
    pub(crate) fn end(&mut self, outcome: Reloaded) -> bool {
        self.ended = self.begun;
        for (_, reply) in self.waiting.extract_if(.., |(number, _)| *number <= self.ended) {
            // Whoever has waited may have gone.
            drop(reply.send(Ok(outcome.clone())));
        }
        self.last = outcome;
        let next = std::mem::take(&mut self.again);
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

    /// What whoever waits for this reload has heard so far.
    fn waiter(
        reloads: &mut ReloadQueue,
        number: u64,
    ) -> impl FnMut() -> Option<Result<Reloaded, Problem>> + use<> {
        let (reply, mut answer) = oneshot::channel();
        reloads.wait(number, reply);
        move || answer.try_recv().ok()
    }

    #[test]
    fn one_that_is_wanted_amid_another_comes_after_it() {
        let mut reloads = ReloadQueue::default();
        assert_eq!(reloads.ask(), (1, true));
        assert_eq!((reloads.ask(), reloads.ask()), ((2, false), (2, false)));
        let (mut first, mut second) = (waiter(&mut reloads, 1), waiter(&mut reloads, 2));
        assert!(reloads.end(outcome("first")), "the second begins");
        assert_eq!((first(), second()), (Some(Ok(outcome("first"))), None));
        assert!(!reloads.end(outcome("second")));
        assert_eq!(second(), Some(Ok(outcome("second"))));
        assert_eq!(reloads.ask(), (3, true));
    }

    #[test]
    fn whoever_comes_after_the_end_hears_what_holds() {
        let mut reloads = ReloadQueue::default();
        for added in ["first", "second"] {
            reloads.ask();
            reloads.end(outcome(added));
        }
        for number in [1, 2] {
            assert_eq!(waiter(&mut reloads, number)(), Some(Ok(outcome("second"))));
        }
    }

    #[test]
    fn one_that_nobody_has_asked_for_is_not_waited_for() {
        let mut reloads = ReloadQueue::default();
        reloads.ask();
        for number in [0, 2] {
            let heard = waiter(&mut reloads, number)().expect("an answer");
            assert_eq!(heard.map_err(|problem| problem.kind), Err(ProblemKind::NotFound));
        }
    }
}
