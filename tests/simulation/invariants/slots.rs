//! Invariant 11: the hook slots are shared by all `[reauth]` methods that wait for one.

use tokenkeep::lifecycle::Resource;
use tokenkeep::scheduler::Scheduler;
use tokenkeep::time::Moment;

use super::{Invariant, Logins, Outages, Violation};
use crate::chance::{Ms, SECOND};
use crate::hooks::TIMEOUT as HOOK_TIMEOUT;
use crate::subject::Subject;

/// How long a method without a slot may wait for one, where there are enough for all of them.
const LONGEST_WAIT: Ms = SECOND;

/// The books of hook slots.
#[derive(Debug)]
pub(crate) struct Slots {
    max: u32,
    /// By method: the slots that it holds.
    held: Vec<u32>,
    /// By method: since when it waits without holding any.
    waits_since: Vec<Option<Ms>>,
    next_look: Ms,
    /// Since the last look a method has begun a command while it held more than its share.
    greedy: Option<usize>,
    /// Until then commands of a method that is not configured any more may hold slots.
    crowded_until: Ms,
}

impl Slots {
    pub(super) fn new(max: u32, methods: usize) -> Self {
        Self {
            max,
            held: vec![0; methods],
            waits_since: vec![None; methods],
            next_look: 0,
            greedy: None,
            crowded_until: 0,
        }
    }

    pub(crate) fn started(&mut self, method: usize) {
        self.held[method] += 1;
        self.waits_since[method] = None;
        if self.held[method] > self.share() {
            self.greedy = Some(method);
        }
    }

    pub(crate) fn ended(&mut self, method: usize) {
        self.held[method] -= 1;
    }

    /// A method has another name from now on: the commands of the old one go on.
    pub(crate) fn renamed(&mut self, now: Ms) {
        self.crowded_until = now + HOOK_TIMEOUT;
    }

    fn share(&self) -> u32 {
        self.max.div_ceil(u32::try_from(self.held.len()).unwrap_or(u32::MAX)).max(1)
    }

    /// After a step: who waits for a slot, and who has got one?
    pub(crate) fn check(
        &mut self,
        now: Ms,
        scheduler: &Scheduler,
        subjects: &[Subject],
        (logins, outages): (&Logins, &Outages),
    ) -> Result<(), Violation> {
        let broken =
            |what: String| Err(Violation { invariant: Invariant::SlotsAreShared, at: now, what });
        let greedy = self.greedy.take();
        let full = self.held.iter().sum::<u32>() >= self.max;
        if now < self.crowded_until || greedy.is_none() && (now < self.next_look || !full) {
            return Ok(());
        }
        self.next_look = now + SECOND / 2;
        let moment = Moment::from_millis(now);
        let mut waits = vec![None; self.held.len()];
        for (number, there) in subjects.iter().enumerate() {
            let (Some(id), Some(method)) = (there.id, there.way) else { continue };
            // A command waits for its server too, as it would most likely fail with it.
            if waits[method].is_some()
                || logins.is_by_server(method)
                || !logins.may_begin(method, now)
                || outages.is_down(there.server)
            {
                continue;
            }
            let token = scheduler.token(id);
            let due = token.and_then(|token| token.due_for(Resource::Reauth));
            let asked = token.and_then(|token| token.due_for(Resource::Server));
            if due.is_some_and(|due| due <= moment) && asked.is_none_or(|asked| asked > moment) {
                waits[method] = Some(number);
            }
        }
        for (method, token) in waits.into_iter().enumerate() {
            let held = self.held[method];
            let Some(token) = token else {
                self.waits_since[method] = None;
                continue;
            };
            if held > 0 {
                continue;
            }
            // One that has come due in this very step has not waited.
            let has_waited = self.waits_since[method].is_some_and(|since| since < now);
            if let Some(greedy) = greedy.filter(|_| has_waited) {
                let taken = self.held[greedy];
                return broken(format!(
                    "reauth {greedy} has got slot number {taken}, while token {token} waits for \
                     the first slot of reauth {method}"
                ));
            }
            let since = *self.waits_since[method].get_or_insert(now);
            let enough = usize::try_from(self.max).unwrap_or(0) >= self.held.len();
            if enough && now > since + LONGEST_WAIT {
                let waited = now - since;
                return broken(format!(
                    "token {token} has waited {waited} ms for the first slot of reauth {method}"
                ));
            }
        }
        Ok(())
    }
}
