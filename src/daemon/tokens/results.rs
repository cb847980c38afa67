//! The ends of what was under way: what they bring is put where it belongs, and the keeper
//! hears of it.
//!
//! The token may have gone meanwhile, and its number may be another's: what came for it must
//! not be taken for the other's.

use std::path::Path;

use crate::clock;
use crate::daemon::Daemon;
use crate::daemon::tasks::{Completion, ReauthOutput, ReplacedValue, WriteOutcome};
use crate::daemon::tokens::DeathReason;
use crate::events::CheckEnd;
use crate::keeper::{Ticket, TokenId};
use crate::lifecycle::{Answer, Notice, ReauthEnd, ReauthFault, Reauthenticated, Standing};
use crate::outcome::{Fault, Outcome};
use crate::secret::TokenValue;
use crate::token_file::StoreFault;

impl Daemon {
    pub(crate) fn done(&mut self, done: Completion) {
        let now = clock::now();
        self.close_for_quiet(now);
        match done {
            Completion::Answered(ticket, mut answer, renamed) => {
                self.journal.count_check(now, &check_end(ticket, &answer));
                let renamed = renamed.filter(|renamed| self.is_own(ticket, renamed, &mut answer));
                answer.replaced = renamed.is_some_and(|renamed| self.rename(ticket, renamed));
                self.count_answer(ticket, &answer);
                if let Some(answer) = self.reread_before_death(ticket, answer) {
                    self.tokens.scheduler.answered(ticket, answer, now, &mut self.tokens.actions);
                }
            }
            Completion::Reread(ticket, answer, look) => self.reread(ticket, answer, look),
            Completion::StockCompared(id, deaths, stamp) => self.stock_compared(id, deaths, stamp),
            Completion::StockReread(id, pass) => self.stock_reread(id, pass),
            Completion::Reauthenticated { ticket, duration, obtained } => {
                self.count_login(ticket.token, duration);
                let result = self.weigh(ticket, obtained);
                let end = ReauthEnd { result, duration };
                self.tokens.scheduler.reauthenticated(ticket, end, now, &mut self.tokens.actions);
                self.look_once_more(ticket.token);
            }
            Completion::RevokedOne(ticket, result) => {
                self.tokens.scheduler.revoked(ticket, result, now, &mut self.tokens.actions);
            }
            Completion::Stored(ticket, result) => self.stored(ticket, result),
            Completion::Rewritten { id, name, result } => self.rewritten(id, &name, result),
            Completion::Introduced { name, caller, may, reply } => {
                self.hand_out(&name, caller, may, reply);
            }
            Completion::Looked(looks) => self.take_looks(looks),
            Completion::Revoked(revoked) => self.revoked(revoked),
            Completion::ClientsBuilt(built) => self.clients_built(built),
            Completion::Loaded(loaded) => self.loaded(*loaded),
        }
        self.perform();
    }

    /// What is said of a token tells what its values are still wanted for.
    pub(crate) fn heed(&mut self, id: TokenId, notice: &Notice) {
        match notice {
            Notice::Expired { fault, candidate: false }
            | Notice::Rejected { fault, candidate: false } => {
                let words = DeathReason { status: fault.status, detail: fault.detail.clone() };
                self.tokens.registry.set_last_words(id, words);
            }
            Notice::Checked { .. } => {
                if let Some(token) = self.tokens.scheduler.token(id)
                    && !token.has_candidate()
                {
                    self.tokens.registry.settle(id, token.active_slot());
                }
            }
            _ => {}
        }
    }

    /// Whether the value that a response names is not another token's. If it is, the response was
    /// misrouted and says nothing about this token: it becomes an error, and the value is refused.
    fn is_own(&mut self, ticket: Ticket, renamed: &ReplacedValue, answer: &mut Answer) -> bool {
        let Some(owner) = self.tokens.registry.owner_of(renamed.to.by_ref(), ticket.token) else {
            return true;
        };
        let error = format!(
            "the response contains the value of another token, {owner}; it was refused, as the \
             server, or a proxy or cache before it, mixes up responses"
        );
        let fault = Fault { is_alarming: true, ..Fault::new(error) };
        answer.outcome = Outcome::Unavailable(fault);
        false
    }

    /// An answer names another value in place of the one that was asked about: tells whether it
    /// has been put there. Meanwhile a newer one may have taken the place.
    fn rename(&mut self, ticket: Ticket, renamed: ReplacedValue) -> bool {
        let ReplacedValue { slot, from, to } = renamed;
        if !self.tokens.scheduler.expects(ticket) {
            return false;
        }
        let kept = self.tokens.registry.token(ticket.token);
        let is_there = kept.is_some_and(|kept| kept.value(slot) == Some(from.by_ref()));
        if is_there {
            self.tokens.registry.put(ticket.token, slot, to.by_ref());
        }
        is_there
    }

    /// What a re-auth attempt has brought, measured by the value that it was to replace.
    fn weigh(&mut self, ticket: Ticket, obtained: ReauthOutput) -> Reauthenticated {
        let (value, stored) = match obtained {
            ReauthOutput::Value(value) => (value, false),
            ReauthOutput::SourceMatch(Ok(found)) => (found.value, true),
            ReauthOutput::SourceMatch(Err(fault)) => {
                let error = format!("it says that it wrote the token's file, but {fault}").into();
                let fault = ReauthFault { error, exit_status: Some(0), ..ReauthFault::default() };
                return Reauthenticated::Failed(fault);
            }
            ReauthOutput::Nothing(fault) => return Reauthenticated::Failed(fault),
        };
        let is_expected = self.tokens.scheduler.expects(ticket);
        if is_expected && !stored {
            self.warn_of_output(ticket.token, &value);
        }
        let spare = self.tokens.scheduler.spare_slot(ticket.token);
        let Some(kept) = self.tokens.registry.token(ticket.token).filter(|_| is_expected) else {
            return Reauthenticated::NewValue { stored };
        };
        if kept.value(spare.other()) == Some(value.by_ref()) {
            let standing = self.tokens.scheduler.token(ticket.token).map(|token| token.standing());
            return match kept.file() {
                // An unknown value came from the source after the attempt had begun: it is judged
                // by its check.
                Some(file) if stored && standing != Some(Standing::Unknown) => {
                    Reauthenticated::Failed(unchanged(&file))
                }
                Some(_) | None => Reauthenticated::SameValue,
            };
        }
        self.tokens.registry.put(ticket.token, spare, value.by_ref());
        if stored {
            self.is_in_source(ticket.token, &value);
        }
        Reauthenticated::NewValue { stored }
    }

    /// The source holds this value now, whatever a look that began before says of it.
    pub(crate) fn is_in_source(&mut self, id: TokenId, value: &TokenValue) {
        self.tokens.registry.set_in_source(id, Some(value.by_ref()));
        self.tokens.registry.outdate_looks(id);
    }

    fn stored(&mut self, ticket: Ticket, result: Result<WriteOutcome, StoreFault>) {
        let now = clock::now();
        if !self.tokens.scheduler.expects(ticket) {
            return self.tokens.scheduler.cancel(ticket, now, &mut self.tokens.actions);
        }
        match result {
            Ok(WriteOutcome::Written(value)) => {
                let kept = self.tokens.registry.token(ticket.token);
                if kept.is_some_and(|kept| kept.file().is_some()) {
                    self.is_in_file(ticket.token, &value);
                }
                self.tokens.scheduler.stored(ticket, Ok(()), now, &mut self.tokens.actions);
            }
            Ok(WriteOutcome::SourceChanged(value)) => {
                self.is_in_source(ticket.token, &value);
                self.forget_unwritten(ticket.token);
                self.tokens.scheduler.stored(ticket, Ok(()), now, &mut self.tokens.actions);
                self.offer(ticket.token, value.by_ref());
            }
            Ok(WriteOutcome::NotInFile(value, fault)) => {
                self.keep_in_state_dir(ticket, value, fault)
            }
            Ok(WriteOutcome::InStateDir(fault)) => {
                self.retry_file_later(ticket.token, &fault);
                self.tokens.scheduler.stored(ticket, Ok(()), now, &mut self.tokens.actions);
            }
            Err(fault) => {
                let error = fault.to_string().into();
                self.tokens.scheduler.stored(ticket, Err(error), now, &mut self.tokens.actions);
            }
        }
    }
}

/// A command printed nothing, and did not write the token's file either.
fn unchanged(file: &Path) -> ReauthFault {
    let error = format!(
        "the re-auth command printed nothing, and {} still holds the old value; let it print the \
         new token, or write it to $TOKENKEEP_FILE",
        file.display()
    );
    ReauthFault { error: error.into(), exit_status: Some(0), ..ReauthFault::default() }
}

/// What a check was like, whatever it came to.
fn check_end(ticket: Ticket, answer: &Answer) -> CheckEnd {
    let failed = match answer.outcome {
        Outcome::Alive { .. } | Outcome::Expired(_) | Outcome::Rejected(_) => false,
        Outcome::Throttled { .. } | Outcome::Misconfigured(_) | Outcome::Unavailable(_) => true,
    };
    CheckEnd {
        lateness: answer.sent.since(ticket.due),
        life_left: ticket.bound.map(|bound| bound.since(answer.sent)),
        failed,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::daemon::config::loader::LoadedConfig;
    use crate::daemon::tasks::{SourceRead, read_source};
    use crate::keeper::Output;
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
        let mut tickets = daemon.tokens.actions.drain(..).filter_map(|output| match output {
            Output::Effect(ticket, _) => Some(ticket),
            Output::Token(..) | Output::Server(..) | Output::ReauthExhausted { .. } => None,
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
        assert_eq!(daemon.tokens.registry.len(), 1);
        assert_eq!((daemon.open_actions, daemon.queries.actions()), (1, 1), "the other is asked");
    }

    #[tokio::test]
    async fn action_of_a_removed_token_does_not_start_for_the_successor_of_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = one_at_a_time(folder.path(), 1);
        let ticket = pending(&daemon).expect("an action");
        let terms = Arc::clone(daemon.tokens.registry.token(ticket.token).unwrap().terms());
        let spec = daemon.tokens.scheduler.spec(ticket.token).unwrap().clone();
        let outputs = std::mem::take(&mut daemon.tokens.actions);
        daemon.let_go(ticket.token);
        assert_eq!(daemon.add_token("second", &terms, spec, 0), ticket.token);
        daemon.tokens.actions = outputs;
        daemon.perform();
        assert_eq!((daemon.open_actions, daemon.queries.actions()), (0, 0));
    }

    /// The ticket of the last action that was handed out and not performed.
    fn pending(daemon: &Daemon) -> Option<Ticket> {
        daemon.tokens.actions.iter().rev().find_map(|output| match output {
            Output::Effect(ticket, _) => Some(*ticket),
            Output::Token(..) | Output::Server(..) | Output::ReauthExhausted { .. } => None,
        })
    }

    /// A daemon in which the token "first" had the number that the token "second" has now;
    /// with the ticket of what is still under way for the first.
    fn after_a_change_of_hands(folder: &Path) -> (Daemon, Ticket) {
        let Loaded { settings, .. } = configured(folder, "first");
        let mut daemon = Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap();
        let ticket = first_check(&mut daemon);
        daemon.loaded(LoadedConfig::new(configured(folder, "second"), &[]));
        daemon.work_off();
        assert_eq!(
            daemon.tokens.registry.id_of("second"),
            Some(ticket.token),
            "the number is used again"
        );
        daemon.look_now(ticket.token);
        (daemon, ticket)
    }

    /// Whether the daemon's only token has "second-1", and has heard of nothing else.
    fn is_untouched(daemon: &Daemon, ticket: Ticket) -> bool {
        let own = TokenValue::parse("second-1").unwrap();
        let spare = daemon.tokens.scheduler.spare_slot(ticket.token);
        let kept = daemon.tokens.registry.token(ticket.token).unwrap();
        kept.value(spare.other()) == Some(own.by_ref())
            && kept.value(spare).is_none()
            && kept.in_source() == Some(own.by_ref())
            && kept.epoch() == 0
    }

    #[tokio::test]
    async fn what_was_stored_for_a_token_that_is_gone_is_not_offered_to_its_successor() {
        let foreign = || TokenValue::parse("first-2").unwrap();
        for end in [WriteOutcome::Written(foreign()), WriteOutcome::SourceChanged(foreign())] {
            let folder = tempfile::tempdir().unwrap();
            let (mut daemon, ticket) = after_a_change_of_hands(folder.path());
            daemon.done(Completion::Stored(ticket, Ok(end)));
            assert!(is_untouched(&daemon, ticket));
        }
    }

    #[tokio::test]
    async fn what_re_auth_brought_a_token_that_is_gone_is_not_its_successors() {
        let found = || crate::token_file::Found {
            value: TokenValue::parse("first-2").unwrap(),
            warnings: Vec::new(),
        };
        for obtained in [ReauthOutput::Value(found().value), ReauthOutput::SourceMatch(Ok(found()))]
        {
            let folder = tempfile::tempdir().unwrap();
            let (mut daemon, ticket) = after_a_change_of_hands(folder.path());
            let duration = std::time::Duration::ZERO;
            daemon.done(Completion::Reauthenticated { ticket, duration, obtained });
            assert!(is_untouched(&daemon, ticket));
        }
    }
    #[tokio::test]
    async fn a_look_that_came_too_late_for_a_write_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let Loaded { settings, .. } = configured(folder.path(), "first");
        let source = settings.tokens[0].source.clone();
        let mut daemon = Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap();
        let id = daemon.tokens.registry.id_of("first").unwrap();
        daemon.tokens.registry.outdate_looks(id);
        fs::write(folder.path().join("first.token"), "first-2").unwrap();
        let result = read_source(&source);
        daemon.looked(SourceRead { id, epoch: 0, source, result });
        let looked = daemon.queries.next().await.expect("another look");
        daemon.ended_task(looked);
        let spare = daemon.tokens.scheduler.spare_slot(id);
        let offered = TokenValue::parse("first-2").unwrap();
        assert_eq!(daemon.tokens.registry.token(id).unwrap().value(spare), Some(offered.by_ref()));
    }

    #[tokio::test]
    async fn a_value_named_for_one_that_was_replaced_meanwhile_does_not_take_its_successors_place()
    {
        let value = |text| TokenValue::parse(text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let Loaded { settings, .. } = configured(folder.path(), "first");
        let mut daemon = Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap();
        let ticket = first_check(&mut daemon);
        let slot = daemon.tokens.scheduler.spare_slot(ticket.token).other();
        let renamed = |from, to| ReplacedValue { slot, from: value(from), to: value(to) };
        assert!(!daemon.rename(ticket, renamed("another", "new-1")));
        assert!(daemon.rename(ticket, renamed("first-1", "new-2")));
        let kept = daemon.tokens.registry.token(ticket.token).unwrap();
        assert_eq!(kept.value(slot), Some(value("new-2").by_ref()));
    }
}
