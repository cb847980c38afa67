//! The ends of what was under way: what they bring is put where it belongs, and the scheduler
//! hears of it.
//!
//! The token may have gone meanwhile, and its number may be another's: what came for it must
//! not be taken for the other's.

use std::path::Path;

use super::Daemon;
use super::deeds::{Done, Obtained, Renamed, Stored};
use super::roster::LastWords;
use crate::clock;
use crate::event_log::CompletedCheck;
use crate::lifecycle::{CheckResult, Notice, ReauthError, ReauthOutcome, ReauthResult, Validity};
use crate::outcome::{CallError, Outcome};
use crate::scheduler::{Ticket, TokenId};
use crate::secret::TokenValue;
use crate::token_file::StoreFault;

impl Daemon {
    pub(super) fn done(&mut self, done: Done) {
        let now = clock::now();
        self.close_for_quiet(now);
        match done {
            Done::Answered(ticket, mut answer, renamed) => {
                self.event_log.count_check(now, &check_end(ticket, &answer));
                let renamed = renamed.filter(|renamed| self.is_own(ticket, renamed, &mut answer));
                answer.replaced = renamed.is_some_and(|renamed| self.rename(ticket, renamed));
                self.count_answer(ticket, &answer);
                if let Some(answer) = self.reread_before_death(ticket, answer) {
                    self.scheduler.check_finished(ticket, answer, now, &mut self.outputs);
                }
            }
            Done::Reread(ticket, answer, look) => self.reread(ticket, answer, look),
            Done::StockCompared(id, deaths, stamp) => self.stock_compared(id, deaths, stamp),
            Done::StockReread(id, pass) => self.stock_reread(id, pass),
            Done::ReauthFinished { ticket, duration, obtained } => {
                self.count_login(ticket.token, duration);
                let result = self.weigh(ticket, obtained);
                let end = ReauthResult { result, duration };
                self.scheduler.reauth_finished(ticket, end, now, &mut self.outputs);
                self.look_once_more(ticket.token);
            }
            Done::RevokedOne(ticket, result) => {
                self.scheduler.revoke_finished(ticket, result, now, &mut self.outputs);
            }
            Done::Stored(ticket, result) => self.stored(ticket, result),
            Done::Rewritten { id, name, result } => self.rewritten(id, &name, result),
            Done::Introduced { name, caller, may, reply } => {
                self.hand_out(&name, caller, may, reply);
            }
            Done::Looked(looks) => self.take_looks(looks),
            Done::Revoked(revoked) => self.revoked(revoked),
            Done::ClientsBuilt(built) => self.clients_built(built),
            Done::Loaded(loaded) => self.loaded(*loaded),
        }
        self.perform();
    }

    /// What is said of a token tells what its values are still wanted for.
    pub(super) fn heed(&mut self, id: TokenId, notice: &Notice) {
        match notice {
            Notice::Expired { fault, candidate: false }
            | Notice::Rejected { fault, candidate: false } => {
                let words = LastWords { status: fault.status, detail: fault.detail.clone() };
                self.roster.set_last_words(id, words);
            }
            Notice::Checked { .. } => {
                if let Some(token) = self.scheduler.token(id)
                    && !token.has_candidate()
                {
                    self.roster.settle(id, token.active_slot());
                    self.reconsider_refused(id);
                }
            }
            _ => {}
        }
    }

    /// Whether the value that a response names is not another token's. If it is, the response was
    /// misrouted and says nothing about this token: it becomes an error, and the value is refused.
    fn is_own(&mut self, ticket: Ticket, renamed: &Renamed, answer: &mut CheckResult) -> bool {
        let owner = self.roster.owner_of(renamed.to.by_ref(), ticket.token);
        let Some(owner) = owner.and_then(|owner| Some(self.roster.token(owner)?.name())) else {
            return true;
        };
        let error = format!(
            "the response contains the value of another token, {owner}; it was refused, as the \
             server, or a proxy or cache before it, mixes up responses"
        );
        let fault = CallError { is_alarming: true, ..CallError::new(error) };
        answer.outcome = Outcome::Unavailable(fault);
        false
    }

    /// An answer names another value in place of the one that was asked about: tells whether it
    /// has been put there. Meanwhile a newer one may have taken the place.
    fn rename(&mut self, ticket: Ticket, renamed: Renamed) -> bool {
        let Renamed { slot, from, to } = renamed;
        if !self.scheduler.expects(ticket) {
            return false;
        }
        let kept = self.roster.token(ticket.token);
        let is_there = kept.is_some_and(|kept| kept.value(slot) == Some(from.by_ref()));
        if is_there {
            self.roster.put(ticket.token, slot, to.by_ref());
        }
        is_there
    }

    /// What a re-auth attempt has brought, measured by the value that it was to replace.
    fn weigh(&mut self, ticket: Ticket, obtained: Obtained) -> ReauthOutcome {
        let (value, stored) = match obtained {
            Obtained::Value(value) => (value, false),
            Obtained::InSource(Ok(found)) => (found.value, true),
            Obtained::InSource(Err(fault)) => {
                let error = format!("it says that it wrote the token's file, but {fault}").into();
                let fault = ReauthError { error, exit_status: Some(0), ..ReauthError::default() };
                return ReauthOutcome::Failed(fault);
            }
            Obtained::Nothing(fault) => return ReauthOutcome::Failed(fault),
        };
        let is_expected = self.scheduler.expects(ticket);
        if is_expected && !stored {
            self.warn_of_output(ticket.token, &value);
        }
        let spare = self.scheduler.spare_slot(ticket.token);
        let Some(kept) = self.roster.token(ticket.token).filter(|_| is_expected) else {
            return ReauthOutcome::NewValue { stored };
        };
        if kept.value(spare.other()) == Some(value.by_ref()) {
            let standing = self.scheduler.token(ticket.token).map(|token| token.validity());
            return match kept.file() {
                // An unknown value came from the source after the attempt had begun: it is judged
                // by its check.
                Some(file) if stored && standing != Some(Validity::Unknown) => {
                    ReauthOutcome::Failed(unchanged(&file))
                }
                Some(_) | None => ReauthOutcome::SameValue,
            };
        }
        if let Some(fault) = self.foreign_login(ticket.token, value.by_ref()) {
            return ReauthOutcome::Failed(fault);
        }
        self.roster.put(ticket.token, spare, value.by_ref());
        if stored {
            self.is_in_source(ticket.token, &value);
        }
        ReauthOutcome::NewValue { stored }
    }

    /// The source holds this value now, whatever a look that began before says of it.
    pub(super) fn is_in_source(&mut self, id: TokenId, value: &TokenValue) {
        self.roster.set_in_source(id, Some(value.by_ref()));
        self.refused.remove(id);
        self.roster.outdate_looks(id);
    }

    fn stored(&mut self, ticket: Ticket, result: Result<Stored, StoreFault>) {
        let now = clock::now();
        if !self.scheduler.expects(ticket) {
            return self.scheduler.cancel(ticket, now, &mut self.outputs);
        }
        match result {
            Ok(Stored::Written(value)) => {
                let kept = self.roster.token(ticket.token);
                if kept.is_some_and(|kept| kept.file().is_some()) {
                    self.is_in_file(ticket.token, &value);
                }
                self.scheduler.persist_finished(ticket, Ok(()), now, &mut self.outputs);
            }
            Ok(Stored::SourceChanged(value)) => {
                self.is_in_source(ticket.token, &value);
                self.forget_unwritten(ticket.token);
                self.scheduler.persist_finished(ticket, Ok(()), now, &mut self.outputs);
                if !self.is_refused(ticket.token, value.by_ref()) {
                    self.offer(ticket.token, value.by_ref());
                }
            }
            Ok(Stored::NotInFile(value, fault)) => self.keep_in_state_dir(ticket, value, fault),
            Ok(Stored::InStateDir(fault)) => {
                self.retry_file_later(ticket.token, &fault);
                self.scheduler.persist_finished(ticket, Ok(()), now, &mut self.outputs);
            }
            Err(fault) => {
                let error = fault.to_string().into();
                self.scheduler.persist_finished(ticket, Err(error), now, &mut self.outputs);
            }
        }
    }
}

/// A command printed nothing, and did not write the token's file either.
fn unchanged(file: &Path) -> ReauthError {
    let error = format!(
        "the re-auth command printed nothing, and {} still holds the old value; let it print the \
         new token, or write it to $TOKENKEEP_FILE",
        file.display()
    );
    ReauthError { error: error.into(), exit_status: Some(0), ..ReauthError::default() }
}

/// What a check was like, whatever it came to.
fn check_end(ticket: Ticket, answer: &CheckResult) -> CompletedCheck {
    let failed = match answer.outcome {
        Outcome::Alive { .. } | Outcome::Expired(_) | Outcome::Rejected(_) => false,
        Outcome::Throttled { .. } | Outcome::Misconfigured(_) | Outcome::Unavailable(_) => true,
    };
    CompletedCheck {
        lateness: answer.sent.since(ticket.due),
        life_left: ticket.expiry.map(|bound| bound.since(answer.sent)),
        failed,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::super::deeds::{Look, read_source};
    use super::super::reading::Fresh;
    use super::*;
    use crate::scheduler::SchedulerOutput;
    use crate::settings::{self, Loaded};

    /// The configuration of one token `name`, whose file holds "NAME-1".
    fn configured(folder: &Path, name: &str) -> Loaded {
        let path = folder.join("tokenkeep.toml");
        let dir = folder.display();
        let text = format!(
            "state_dir = \"{dir}/state\"\n[server.sarus]\nurl = \"http://127.0.0.1:1\"\n\
             [token.{name}]\nserver = \"sarus\"\nfile = \"{dir}/{name}.token\"\n"
        );
        fs::write(&path, text).unwrap();
        fs::write(folder.join(format!("{name}.token")), format!("{name}-1")).unwrap();
        settings::load(&path, std::iter::empty()).unwrap()
    }

    fn first_check(daemon: &mut Daemon) -> Ticket {
        let mut tickets = daemon.outputs.drain(..).filter_map(|output| match output {
            SchedulerOutput::Action(ticket, _) => Some(ticket),
            SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ServerNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => None,
        });
        tickets.next_back().expect("a first check")
    }

    /// A daemon with this number of tokens on a server that takes one request at a time.
    fn one_at_a_time(folder: &Path, tokens: usize) -> Daemon {
        let path = folder.join("tokenkeep.toml");
        let dir = folder.display();
        let mut text = format!(
            "state_dir = \"{dir}/state\"\n[server.sarus]\nurl = \"http://127.0.0.1:1\"\n\
             max_in_flight = 1\nrate_limit = 100000\n"
        );
        for n in 0..tokens {
            text += &format!("[token.t{n}]\nserver = \"sarus\"\nfile = \"{dir}/t{n}.token\"\n");
            fs::write(folder.join(format!("t{n}.token")), format!("t{n}-1")).unwrap();
        }
        fs::write(&path, text).unwrap();
        let Loaded { settings, .. } = settings::load(&path, std::iter::empty()).unwrap();
        Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap()
    }

    #[tokio::test]
    async fn action_of_a_removed_token_is_cancelled_and_its_place_goes_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = one_at_a_time(folder.path(), 2);
        let ticket = pending(&daemon).expect("an action");
        daemon.let_go(ticket.token);
        // The server's rate limit allows for another request by now.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        daemon.perform();
        assert_eq!(daemon.roster.len(), 1);
        assert_eq!((daemon.open_actions, daemon.queries.actions()), (1, 1), "the other is asked");
    }

    #[tokio::test]
    async fn action_of_a_removed_token_does_not_start_for_the_successor_of_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = one_at_a_time(folder.path(), 1);
        let ticket = pending(&daemon).expect("an action");
        let terms = Arc::clone(daemon.roster.token(ticket.token).unwrap().terms());
        let spec = daemon.scheduler.spec(ticket.token).unwrap().clone();
        let outputs = std::mem::take(&mut daemon.outputs);
        daemon.let_go(ticket.token);
        assert_eq!(daemon.add_token("second", &terms, spec, 0), ticket.token);
        daemon.outputs = outputs;
        daemon.perform();
        assert_eq!((daemon.open_actions, daemon.queries.actions()), (0, 0));
    }

    /// The ticket of the last action that was handed out and not performed.
    fn pending(daemon: &Daemon) -> Option<Ticket> {
        daemon.outputs.iter().rev().find_map(|output| match output {
            SchedulerOutput::Action(ticket, _) => Some(*ticket),
            SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ServerNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => None,
        })
    }

    /// A daemon in which the token "first" had the number that the token "second" has now;
    /// with the ticket of what is still under way for the first.
    fn after_a_change_of_hands(folder: &Path) -> (Daemon, Ticket) {
        let Loaded { settings, .. } = configured(folder, "first");
        let mut daemon = Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap();
        let ticket = first_check(&mut daemon);
        daemon.loaded(Fresh::new(configured(folder, "second"), &[]));
        daemon.work_off();
        assert_eq!(daemon.roster.id_of("second"), Some(ticket.token), "the number is used again");
        daemon.look_now(ticket.token);
        (daemon, ticket)
    }

    /// Whether the daemon's only token has "second-1", and has heard of nothing else.
    fn is_untouched(daemon: &Daemon, ticket: Ticket) -> bool {
        let own = TokenValue::parse("second-1").unwrap();
        let spare = daemon.scheduler.spare_slot(ticket.token);
        let kept = daemon.roster.token(ticket.token).unwrap();
        kept.value(spare.other()) == Some(own.by_ref())
            && kept.value(spare).is_none()
            && kept.in_source() == Some(own.by_ref())
            && kept.epoch() == 0
    }

    #[tokio::test]
    async fn what_was_stored_for_a_token_that_is_gone_is_not_offered_to_its_successor() {
        let foreign = || TokenValue::parse("first-2").unwrap();
        for end in [Stored::Written(foreign()), Stored::SourceChanged(foreign())] {
            let folder = tempfile::tempdir().unwrap();
            let (mut daemon, ticket) = after_a_change_of_hands(folder.path());
            daemon.done(Done::Stored(ticket, Ok(end)));
            assert!(is_untouched(&daemon, ticket));
        }
    }

    #[tokio::test]
    async fn what_re_auth_brought_a_token_that_is_gone_is_not_its_successors() {
        let found = || crate::token_file::Found {
            value: TokenValue::parse("first-2").unwrap(),
            warnings: Vec::new(),
        };
        for obtained in [Obtained::Value(found().value), Obtained::InSource(Ok(found()))] {
            let folder = tempfile::tempdir().unwrap();
            let (mut daemon, ticket) = after_a_change_of_hands(folder.path());
            let duration = std::time::Duration::ZERO;
            daemon.done(Done::ReauthFinished { ticket, duration, obtained });
            assert!(is_untouched(&daemon, ticket));
        }
    }
    #[tokio::test]
    async fn a_look_that_came_too_late_for_a_write_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let Loaded { settings, .. } = configured(folder.path(), "first");
        let source = settings.tokens[0].source.clone();
        let mut daemon = Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap();
        let id = daemon.roster.id_of("first").unwrap();
        daemon.roster.outdate_looks(id);
        fs::write(folder.path().join("first.token"), "first-2").unwrap();
        let result = read_source(&source);
        daemon.looked(Look { id, epoch: 0, source, result });
        let looked = daemon.queries.next().await.expect("another look");
        daemon.ended_task(looked);
        let spare = daemon.scheduler.spare_slot(id);
        let offered = TokenValue::parse("first-2").unwrap();
        assert_eq!(daemon.roster.token(id).unwrap().value(spare), Some(offered.by_ref()));
    }

    #[tokio::test]
    async fn a_value_named_for_one_that_was_replaced_meanwhile_does_not_take_its_successors_place()
    {
        let value = |text| TokenValue::parse(text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let Loaded { settings, .. } = configured(folder.path(), "first");
        let mut daemon = Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap();
        let ticket = first_check(&mut daemon);
        let slot = daemon.scheduler.spare_slot(ticket.token).other();
        let renamed = |from, to| Renamed { slot, from: value(from), to: value(to) };
        assert!(!daemon.rename(ticket, renamed("another", "new-1")));
        assert!(daemon.rename(ticket, renamed("first-1", "new-2")));
        let kept = daemon.roster.token(ticket.token).unwrap();
        assert_eq!(kept.value(slot), Some(value("new-2").by_ref()));
    }
}
