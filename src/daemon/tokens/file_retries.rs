//! New values whose file cannot be replaced: a mount point, a read-only or full file system.
//!
//! Such a value is kept in the state directory, where it wins over the file as long as the file
//! still holds the value that it replaced. The file is tried again with an exponential backoff;
//! once it is written, or holds another value, the copy in the state directory is deleted.

use std::collections::{BTreeSet, HashMap};

use crate::clock;
use crate::daemon::tasks::WriteOutcome;
use crate::daemon::tokens::TokenEntry;
use crate::daemon::{Daemon, notices};
use crate::events::{Fields, Name, Severity};
use crate::keeper::{Ticket, TokenId};
use crate::lifecycle::{Notice, ReplacedBy};
use crate::secret::{TokenValue, ValueRef};
use crate::time::{Moment, whole_millis};
use crate::token_file::StoreFault;

/// Doublings of the first pause, at most.
const MAX_DOUBLINGS: u32 = 16;

/// Tokens whose value is kept in the state directory until their file can be written.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    by_token: HashMap<TokenId, Retry>,
    /// Those of them for which no write is under way, by when the next one is due.
    queue: BTreeSet<(Moment, TokenId)>,
    /// Tokens whose copy in the state directory is outdated, found before the store could be
    /// written to.
    outdated: Vec<Box<str>>,
    /// Tokens with a new value that is not in their file yet, and where it comes from:
    /// `token_replaced` follows the file.
    replaced: HashMap<TokenId, ReplacedBy>,
}

/// The tries to write one file.
#[derive(Debug, Default)]
struct Retry {
    /// When the next one is due; outdated while a write is under way.
    due: Moment,
    failures: u32,
    /// The error that was logged last.
    logged: Option<String>,
}

impl Unwritten {
    /// When the next file is to be tried again.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Whether the token's value is kept in the state directory although it has a file.
    pub(crate) fn has(&self, id: TokenId) -> bool {
        self.by_token.contains_key(&id)
    }

    /// A token is removed.
    pub(crate) fn forget_token(&mut self, id: TokenId) {
        self.remove(id);
        self.replaced.remove(&id);
    }

    /// Forgets the file of a token, and returns whether it was known.
    pub(crate) fn remove(&mut self, id: TokenId) -> bool {
        let retry = self.by_token.remove(&id);
        retry.is_some_and(|retry| {
            self.queue.remove(&(retry.due, id));
            true
        })
    }

    /// Plans the next try to write the token's file.
    fn plan(&mut self, id: TokenId, due: Moment) -> &mut Retry {
        let retry = self.by_token.entry(id).or_default();
        self.queue.remove(&(retry.due, id));
        retry.due = due;
        self.queue.insert((due, id));
        retry
    }

    /// The tokens whose time has come; the caller begins a write for each, or plans another one.
    fn take_due(&mut self, now: Moment) -> Vec<TokenId> {
        let mut ids = Vec::new();
        while let Some((due, id)) = self.queue.pop_first() {
            if due > now {
                self.queue.insert((due, id));
                break;
            }
            ids.push(id);
        }
        ids
    }
}

impl Daemon {
    /// Whether `token_replaced` waits until the token's file holds the new value. If an earlier
    /// one waits, it is logged now.
    pub(crate) fn waits_for_file(&mut self, id: TokenId, notice: &Notice) -> bool {
        let Notice::Replaced(by) = notice else { return false };
        self.log_replaced(id);
        let slot = self.tokens.scheduler.spare_slot(id).other();
        let waits = self
            .tokens
            .registry
            .token(id)
            .is_some_and(|kept| kept.file().is_some() && kept.in_source() != kept.value(slot));
        if waits {
            self.unwritten.replaced.insert(id, *by);
        }
        waits
    }

    /// Logs `token_replaced` if it has waited for the token's file.
    fn log_replaced(&mut self, id: TokenId) {
        let Some(by) = self.unwritten.replaced.remove(&id) else { return };
        let Some(kept) = self.tokens.registry.token(id) else { return };
        let server = &self.tokens.registry.remote(kept.terms().server).settings.name;
        let names = Fields { token: Some(kept.name()), server: Some(server), ..Fields::default() };
        notices::token(&mut self.journal, clock::now(), &names, &Notice::Replaced(by));
    }

    /// The token's file holds this value now, whatever a look that began before says of it.
    pub(crate) fn is_in_file(&mut self, id: TokenId, value: &TokenValue) {
        self.is_in_source(id, value);
        self.forget_unwritten(id);
        self.log_replaced(id);
    }

    /// The file of a new value cannot be replaced: the state directory keeps the value.
    pub(crate) fn keep_in_state_dir(
        &mut self,
        ticket: Ticket,
        value: TokenValue,
        fault: StoreFault,
    ) {
        let Some(kept) = self.tokens.registry.token(ticket.token) else { return };
        let Some(store) = &mut self.store else {
            let error = fault.to_string().into();
            return self.tokens.scheduler.stored(
                ticket,
                Err(error),
                clock::now(),
                &mut self.tokens.actions,
            );
        };
        let in_source = kept.in_source().map(ValueRef::to_value);
        let receipt = store.keep_value(kept.name(), value, in_source);
        self.open_actions += 1;
        self.deeds.start(
            ticket,
            crate::daemon::tasks::write_back::store_in_state_dir(ticket, receipt, fault),
        );
    }

    /// Plans the next try to write the token's file, and logs why the last one failed unless
    /// that was logged before.
    pub(crate) fn retry_file_later(&mut self, id: TokenId, fault: &StoreFault) {
        let (Some(kept), Some(spec)) =
            (self.tokens.registry.token(id), self.tokens.scheduler.spec(id))
        else {
            return;
        };
        let schedule = &spec.policy.schedule;
        let failures = self.unwritten.by_token.get(&id).map_or(0, |retry| retry.failures);
        let factor = 1 << failures.min(MAX_DOUBLINGS);
        let pause = schedule.retry_initial.saturating_mul(factor).min(schedule.retry_max);
        let now = clock::now();
        let retry = self.unwritten.plan(id, now + pause);
        retry.failures = failures.saturating_add(1);
        let error = fault.to_string();
        if retry.logged.as_ref() == Some(&error) {
            return;
        }
        let path = kept.file().map(|path| path.display().to_string());
        let fields = Fields {
            token: Some(kept.name()),
            server: Some(&self.tokens.registry.remote(kept.terms().server).settings.name),
            error: Some(&error),
            path: path.as_deref(),
            retry_in_ms: Some(whole_millis(pause)),
            ..Fields::default()
        };
        let message = "the new value cannot be written to the token's file; it is kept in \
                       `state_dir`, survives a restart, and the write is retried";
        self.journal.write(now, Name::StoreFailed, Severity::Error, message, fields);
        retry.logged = Some(error);
    }

    /// An earlier run has kept a value because the token's file could not be replaced: that is
    /// tried again at once.
    pub(crate) fn resume_unwritten(&mut self, id: TokenId) {
        if self.tokens.registry.token(id).and_then(TokenEntry::file).is_some() {
            self.unwritten.plan(id, clock::now());
        }
    }

    /// The token's file holds the current value, or another value that wins over the one in the
    /// state directory, which is deleted.
    pub(crate) fn forget_unwritten(&mut self, id: TokenId) {
        if self.unwritten.remove(id) {
            self.forget_stored_value(id);
        }
    }

    /// The token's source holds another value, which wins over the one in the state directory.
    /// Before the store can be written to, that one was not used and is deleted by
    /// [`forget_stored_value`](Self::forget_stored_value).
    pub(crate) fn forget_superseded(&mut self, id: TokenId) {
        if self.unwritten.remove(id) || self.store.is_some() {
            self.forget_stored_value(id);
        }
    }

    /// Deletes the value that the state directory keeps for a token.
    pub(crate) fn forget_stored_value(&mut self, id: TokenId) {
        let Some(kept) = self.tokens.registry.token(id) else { return };
        match &mut self.store {
            Some(store) => store.forget_value(kept.name()),
            None => self.unwritten.outdated.push(kept.name().into()),
        }
    }

    /// From now on the store can be written to.
    pub(crate) fn forget_outdated_values(&mut self) {
        let outdated = std::mem::take(&mut self.unwritten.outdated);
        if let Some(store) = &mut self.store {
            for name in &outdated {
                store.forget_value(name);
            }
        }
    }

    /// Nobody will be there later: tries every file once more, and the stop waits for that.
    pub(crate) fn rewrite_at_the_end(&mut self) {
        self.rewrite_due(Moment::NEVER);
    }

    /// Tries the files again whose time has come.
    pub(crate) fn rewrite_due(&mut self, now: Moment) {
        if self.unwritten.due().is_none_or(|due| due > now) {
            return;
        }
        for id in self.unwritten.take_due(now) {
            let slot = self.tokens.scheduler.spare_slot(id).other();
            let Some(kept) = self.tokens.registry.token(id) else { continue };
            let (Some(path), Some(value)) = (kept.file(), kept.value(slot)) else {
                self.unwritten.remove(id);
                continue;
            };
            let in_source = kept.in_source();
            if in_source == Some(value) {
                self.forget_unwritten(id);
                continue;
            }
            let (value, in_source) = (value.to_value(), in_source.map(ValueRef::to_value));
            let token = (id, kept.name().into());
            let turn = self.writes.take(&path);
            let set = if self.stopping { &mut self.deeds } else { &mut self.queries };
            set.spawn(crate::daemon::tasks::write_back::rewrite(
                token, turn, path, value, in_source,
            ));
        }
    }

    /// A file was tried again.
    pub(crate) fn rewritten(
        &mut self,
        id: TokenId,
        name: &str,
        result: Result<WriteOutcome, StoreFault>,
    ) {
        let is_same = self.tokens.registry.token(id).is_some_and(|kept| kept.name() == name);
        if !is_same || !self.unwritten.has(id) {
            return;
        }
        match result {
            Ok(WriteOutcome::Written(value)) => {
                // The value of an earlier run, which did not log it.
                self.unwritten.replaced.entry(id).or_insert(ReplacedBy::Reauth);
                self.is_in_file(id, &value);
            }
            Ok(WriteOutcome::SourceChanged(value)) => {
                self.is_in_source(id, &value);
                self.forget_unwritten(id);
                self.offer(id, value.by_ref());
            }
            Ok(WriteOutcome::NotInFile(_, fault) | WriteOutcome::InStateDir(fault))
            | Err(fault) => {
                self.retry_file_later(id, &fault);
            }
        }
    }
}
