//! Results of actions: a result is stored where it belongs, and reported to the scheduler.
//!
//! The token may be gone meanwhile, and its number another token's: a completion with a stale
//! ticket changes nothing.

use std::path::Path;
use std::time::Duration;

use super::{DeathReason, TokenEntry, Tokens, ValueOwner};
use crate::clock;
use crate::event_log::{EventName, Fields};
use crate::lifecycle::{
    CheckResult, Notice, ReauthError, ReauthOutcome, ReauthResult, ReplacedBy, Slot, Validity,
};
use crate::outcome::{CallError, Outcome};
use crate::scheduler::{Ticket, TokenId};
use crate::secret::{Mistake, TokenValue};
use crate::store::WriteReceipt;
use crate::token_source::{Found, PersistError, SourceError};

/// A new value that a response names in place of the one that was checked.
#[derive(Debug)]
pub(crate) struct ReplacedValue {
    pub(crate) owner: ValueOwner,
    /// The slot of the value that was checked.
    pub(crate) slot: Slot,
    /// `None`: a renewal by a refresh token alone.
    pub(crate) from: Option<TokenValue>,
    pub(crate) to: TokenValue,
}

/// The output of a re-authentication attempt.
#[derive(Debug)]
pub(crate) enum ReauthOutput {
    /// A new value.
    NewValue(TokenValue),
    /// The command says that it wrote the token's file itself; this is what the file holds.
    InSource(Result<Found, SourceError>),
    /// No value.
    Failed(ReauthError),
}

/// How a value was stored.
#[derive(Debug)]
pub(crate) enum WriteOutcome {
    /// The value was written.
    Written(TokenValue),
    /// The source has changed to this other value, and was left as it is.
    SourceChanged(TokenValue),
    /// The file could not be replaced.
    NotInFile(TokenValue, PersistError),
    /// The file could not be replaced for this reason; the value is in the state directory.
    InStateDir(PersistError),
}

impl Tokens {
    /// A check has ended, and is acted on.
    pub(crate) fn on_checked(&mut self, ticket: Ticket, answer: CheckResult) {
        self.scheduler.check_finished(ticket, answer, clock::now());
    }

    /// Takes the new value that a response names, if it is this token's own and the value that was
    /// checked is still there. If the token was removed, the value is kept for its name.
    pub(crate) fn take_replaced_value(
        &mut self,
        ticket: Ticket,
        replaced: Option<ReplacedValue>,
        answer: &mut CheckResult,
    ) {
        answer.replaced = false;
        let Some(replaced) = replaced else { return };
        if !self.scheduler.expects(ticket) {
            return self.keep_late_value(replaced.owner, replaced.to, ReplacedBy::Renewal);
        }
        answer.replaced =
            self.is_own(ticket, &replaced, answer) && self.replace_value(ticket, replaced);
    }

    /// Whether the value that a response names is not another token's. If it is, the response was
    /// misrouted and says nothing about this token: it becomes an error, and the value is refused.
    fn is_own(
        &mut self,
        ticket: Ticket,
        replaced: &ReplacedValue,
        answer: &mut CheckResult,
    ) -> bool {
        let owner = self.registry.owner_of(replaced.to.by_ref(), ticket.token);
        let Some(owner) = owner.and_then(|owner| Some(self.registry.token(owner)?.name())) else {
            return true;
        };
        let error = format!(
            "the response contains the value of another token, {owner}, and was refused; the \
             server, or a proxy or cache in front of it, mixes up responses"
        );
        let fault = CallError { is_alarming: true, ..CallError::new(error) };
        answer.outcome = Outcome::Unavailable(fault);
        false
    }

    /// Puts the new value in place of the one that was checked, unless a newer value is there.
    pub(super) fn replace_value(&mut self, ticket: Ticket, replaced: ReplacedValue) -> bool {
        let ReplacedValue { slot, from, to, owner: _ } = replaced;
        let entry = self.registry.token(ticket.token);
        let is_there =
            entry.is_some_and(|entry| entry.value(slot) == from.as_ref().map(TokenValue::by_ref));
        if is_there {
            self.registry.put(ticket.token, slot, to.by_ref());
        }
        is_there
    }

    /// A re-authentication attempt has ended. If its token was removed, the value is kept for its
    /// name.
    pub(crate) fn on_reauthenticated(
        &mut self,
        ticket: Ticket,
        owner: ValueOwner,
        duration: Duration,
        output: ReauthOutput,
    ) {
        if let ReauthOutput::NewValue(value) = &output
            && !self.scheduler.expects(ticket)
        {
            self.keep_late_value(owner, value.clone(), ReplacedBy::Reauth);
        }
        let result = self.accept_reauth_output(ticket, output);
        let end = ReauthResult { result, duration };
        self.scheduler.reauth_finished(ticket, end, clock::now());
        self.on_reauth_ended(ticket.token);
    }

    /// Compares the output of an attempt with the value that it is to replace.
    fn accept_reauth_output(&mut self, ticket: Ticket, output: ReauthOutput) -> ReauthOutcome {
        let (value, stored) = match output {
            ReauthOutput::NewValue(value) => (value, false),
            ReauthOutput::InSource(Ok(found)) => (found.value, true),
            ReauthOutput::InSource(Err(error)) => {
                let error =
                    format!("it reported that it wrote the token's file, but {error}").into();
                let fault = ReauthError { error, exit_status: Some(0), ..ReauthError::default() };
                return ReauthOutcome::Failed(fault);
            }
            ReauthOutput::Failed(fault) => return ReauthOutcome::Failed(fault),
        };
        let id = ticket.token;
        let entry = self.registry.token(id).filter(|_| self.scheduler.expects(ticket));
        let Some(entry) = entry else { return ReauthOutcome::NewValue { stored } };
        if !stored && let Some(mistake) = Mistake::of(value.expose()) {
            let error = format!("the output of the re-auth command: {mistake}");
            let fields =
                Fields { token: Some(entry.name()), error: Some(&error), ..Fields::default() };
            let message = "the value is probably not a token";
            self.log.event(EventName::ConfigWarning, message, fields);
        }
        let spare = self.scheduler.spare_slot(id);
        if entry.value(spare.other()) == Some(value.by_ref()) {
            let standing = self.scheduler.token(id).map(|token| token.validity());
            return match entry.file() {
                // An unknown value came from the source after the attempt had begun: its check
                // decides.
                Some(file) if stored && standing != Some(Validity::Unknown) => {
                    ReauthOutcome::Failed(unchanged(&file))
                }
                Some(_) | None => ReauthOutcome::SameValue,
            };
        }
        if let Some(error) = self.foreign_login(id, value.by_ref()) {
            return ReauthOutcome::Failed(error);
        }
        self.registry.put(id, spare, value.by_ref());
        if stored {
            self.is_in_source(id, &value);
        }
        ReauthOutcome::NewValue { stored }
    }

    /// A new value was stored, or not: in `file`, or by its token's name. Returns the receipt of the
    /// state directory if the value is being written there because its file cannot be replaced: the
    /// action has not ended then.
    #[must_use]
    pub(crate) fn on_stored(
        &mut self,
        ticket: Ticket,
        file: Option<&Path>,
        result: Result<WriteOutcome, PersistError>,
    ) -> Option<(WriteReceipt, PersistError)> {
        let (now, id) = (clock::now(), ticket.token);
        if !self.scheduler.expects(ticket) {
            self.cancel(ticket);
            return None;
        }
        let current = self.registry.token(id).and_then(TokenEntry::file);
        if current.as_deref() != file {
            self.on_stored_before_reload(ticket, file, &result);
            return None;
        }
        match result {
            Ok(WriteOutcome::Written(value)) => {
                if file.is_some() {
                    self.is_in_file(id, &value);
                }
                self.scheduler.persist_finished(ticket, Ok(()), now);
            }
            Ok(WriteOutcome::SourceChanged(value)) => {
                self.is_in_source(id, &value);
                if self.is_refused(id, value.by_ref()) {
                    // The new value is not persisted yet. The next attempt replaces the value of
                    // the other token.
                    let error = "the file contains the value of another token".into();
                    self.scheduler.persist_finished(ticket, Err(error), now);
                } else {
                    self.end_file_retry(id);
                    self.scheduler.persist_finished(ticket, Ok(()), now);
                    self.offer_candidate(id, value.by_ref());
                }
            }
            Ok(WriteOutcome::NotInFile(value, error)) => {
                return self.keep_in_state_dir(ticket, value, error);
            }
            Ok(WriteOutcome::InStateDir(error)) => {
                self.retry_file_later(id, &error);
                self.scheduler.persist_finished(ticket, Ok(()), now);
            }
            Err(error) => {
                let error = error.to_string().into();
                self.scheduler.persist_finished(ticket, Err(error), now);
            }
        }
        None
    }

    /// A reload has given the token another file, or none, since the write to `file` began: the value
    /// is written again. What is in the state directory stays there until it is in the new file.
    fn on_stored_before_reload(
        &mut self,
        ticket: Ticket,
        file: Option<&Path>,
        result: &Result<WriteOutcome, PersistError>,
    ) {
        let is_in_state_dir = match result {
            Ok(WriteOutcome::Written(_)) => file.is_none(),
            Ok(WriteOutcome::InStateDir(_)) => true,
            Ok(WriteOutcome::SourceChanged(_) | WriteOutcome::NotInFile(..)) | Err(_) => false,
        };
        if is_in_state_dir && self.begin_file_retry(ticket.token) {
            self.scheduler.persist_finished(ticket, Ok(()), clock::now());
        } else {
            self.cancel(ticket);
        }
    }

    /// Frees values that are not needed any more, and keeps what the server said of a dead one
    /// for the re-auth command.
    pub(crate) fn prune_values(&mut self, id: TokenId, notice: &Notice) {
        match notice {
            Notice::Expired { fault, candidate: false }
            | Notice::Rejected { fault, candidate: false } => {
                let at = clock::wall_clock();
                let reason = DeathReason { at, status: fault.status, detail: fault.detail.clone() };
                self.registry.set_death_reason(id, reason);
            }
            Notice::Checked { .. } => {
                if let Some(token) = self.scheduler.token(id)
                    && !token.has_candidate()
                {
                    self.registry.settle(id, token.active_slot());
                    self.reconsider_refused(id);
                }
            }
            _ => {}
        }
    }
}

/// A command printed nothing, and did not write the token's file either.
fn unchanged(file: &Path) -> ReauthError {
    let error = format!(
        "the re-auth command printed nothing, and {} still holds the old value; it must print the \
         new token, or write it to $TOKENKEEP_FILE",
        file.display()
    );
    ReauthError { error: error.into(), exit_status: Some(0), ..ReauthError::default() }
}
