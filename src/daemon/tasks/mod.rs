//! Tasks: the scheduler's actions being executed, and reads and writes of value sources.
//!
//! Owns the running tasks and the locks between them. A task owns all that it needs and ends in a
//! [`Completion`]. Each action that is started here ends in exactly one completion, or its ticket
//! comes back, and the caller cancels it.

pub(crate) mod blocking;
mod check;
mod companion;
mod keyed_lock;
mod login;
mod read_sources;
mod reauth;
mod replicas;
mod rotate;
mod task_set;
mod write_back;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::read_sources::{HungRead, SECOND_READ_DELAY};
pub(crate) use self::replicas::{AdoptedRefresh, AdoptedValue, Grant, OwnRefresh, RefreshState};
pub(crate) use self::task_set::TaskEnd;
pub(crate) use self::write_back::remove_stale_temporary_files;

use self::companion::CompanionAccess;
use self::keyed_lock::KeyedLocks;
use self::read_sources::HungReads;
use self::reauth::{AttemptLocks, ReauthRequest};
use self::rotate::Rotation;
use self::task_set::TaskSet;
use super::companions::{Companion, CompanionReport};
use super::tokens::{
    EnvFileWrite, FileWrite, ReadRequest, ReauthOutput, ReplacedValue, SourceRead, ValueOwner,
};
use super::tokens::{Tokens, WriteOutcome};
use crate::lifecycle::{Action, CheckResult, Method};
use crate::outcome::CallError;
use crate::profile::Profile;
use crate::scheduler::{Ticket, TokenId};
use crate::secret::{TokenValue, ValueRef};
use crate::store::{WriteReceipt, Writer};
use crate::token_source::{ExportedFile, PersistError};

/// The result of a task.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A check has ended, with the new value that the response names.
    Checked(Ticket, CheckResult, Option<ReplacedValue>),
    /// A re-authentication attempt has ended.
    ReauthFinished { ticket: Ticket, owner: ValueOwner, duration: Duration, output: ReauthOutput },
    /// A revocation that an operator requested has ended.
    Revoked(Ticket, Result<(), CallError>),
    /// A new value was stored, or not: in this file, or by its token's name.
    Stored { ticket: Ticket, file: Option<PathBuf>, result: Result<WriteOutcome, PersistError> },
    /// The file of a value that is kept in the state directory was written, or not.
    FileWritten {
        id: TokenId,
        name: Box<str>,
        file: PathBuf,
        result: Result<WriteOutcome, PersistError>,
    },
    /// An `env_file` was written, or not.
    EnvFileWritten(EnvFileWrite, Result<ExportedFile, PersistError>),
    /// Sources were read, or did not respond in time. The reads that hang are to be passed to
    /// [`Tasks::on_hung_read`].
    SourcesRead(Vec<SourceRead>, Vec<HungRead>),
    /// A read that was hanging has ended. To be passed to [`Tasks::on_hung_read_ended`].
    HungReadEnded(ReadRequest),
    /// What happened to a refresh token, before the result of the task that used it, if any.
    Companion(Option<CompanionReport>, Option<Box<Completion>>),
    /// The source of a value that the server calls dead was read again, before that is acted on.
    /// `None`: the disk did not respond in time.
    SourceReread(Ticket, CheckResult, Option<SourceRead>),
    /// A granted spending has ended with this result, which is handled as without a grant.
    Spent(Box<Completion>, RefreshState),
    /// A granted spending has not begun, as it was too late.
    NotBegun(Ticket),
    /// The refresh token that came with the value of another replica is stored, or kept in memory.
    /// The value can be used.
    Adopted(AdoptedValue, AdoptedRefresh),
}

/// All running tasks.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    /// Tasks that lose nothing when they are dropped: checks by query, and reads of sources.
    checks: TaskSet,
    /// Checks by a renewal request: the response may name a new value, so they are not dropped.
    renewals: TaskSet,
    /// Tasks that can produce or persist a token value. Shutdown waits for them.
    must_finish: TaskSet,
    /// One re-authentication attempt at a time for each token name; with the value that an attempt
    /// leaves for the one that waits.
    reauth_locks: KeyedLocks<Option<TokenValue>>,
    /// One write at a time for each file; with the value of a write that has timed out.
    file_locks: KeyedLocks<Option<TokenValue>>,
    /// One read at a time of what logins need, for each server and method.
    login_locks: KeyedLocks,
    hung_reads: HungReads,
}

impl Tasks {
    /// Starts an action of the scheduler. Returns `None` if it cannot start, as a value or setting
    /// that it needs is gone: the caller cancels it. With a `grant` it ends in
    /// [`Completion::Spent`] or [`Completion::NotBegun`].
    pub(crate) fn run_action(
        &mut self,
        ticket: Ticket,
        action: Action,
        grant: Option<Grant>,
        tokens: &mut Tokens,
    ) -> Option<()> {
        let Tokens { scheduler, registry, servers, recorder, watcher, companions, .. } = tokens;
        let entry = registry.token(ticket.token)?;
        let server = &servers[entry.config().server];
        let client = server.client.clone();
        let profile = server.settings.profile.as_deref();
        match action {
            Action::Check { method: Method::Renew, slot, timeout, connection }
                if profile.is_some_and(Profile::renews_with_refresh_token) =>
            {
                let is_unknown = scheduler
                    .token(ticket.token)
                    .is_some_and(|token| slot != token.active_slot() || !token.had_response());
                let companion = companions.of(entry.name());
                let access = companion.map(|it| CompanionAccess::new(it, &mut self.file_locks));
                let rotation = Rotation {
                    ticket,
                    owner: ValueOwner::of(entry),
                    grant,
                    client,
                    access: access.clone(),
                    slot,
                    value: entry.value(slot).map(ValueRef::to_value),
                    has_query: profile.is_some_and(|profile| profile.query.is_some()),
                    has_reauth: entry.config().reauth.is_some(),
                    is_unknown,
                    timeout: server.settings.timeout,
                    query: (timeout, connection),
                };
                if entry.inventory().is_none() {
                    watcher.check(ticket.token.key());
                }
                match grant {
                    Some(_) => {
                        let marked = recorder.shared_writer().map(Writer::flush);
                        let rotate = move || rotate::rotate(rotation);
                        self.renewals.start(ticket, replicas::granted(access, marked, rotate));
                    }
                    None => self.renewals.start(ticket, rotate::rotate(rotation)),
                }
            }
            Action::Check { method, slot, timeout, connection } => {
                let value = entry.value(slot).map(ValueRef::to_value)?;
                if entry.inventory().is_none() {
                    watcher.check(ticket.token.key());
                }
                let limits = (timeout, connection);
                if method == Method::Query {
                    self.checks.start(ticket, check::query(ticket, client, value, limits));
                } else {
                    let owner = ValueOwner::of(entry);
                    let renew = check::renew(ticket, owner, client, (slot, value), limits);
                    self.renewals.start(ticket, renew);
                }
            }
            Action::Reauth { reason, attempt } => {
                let reauth = entry.config().reauth.clone()?;
                let owner = ValueOwner::of(entry);
                let request = ReauthRequest::new(entry, server, reason, attempt);
                let locks = self.attempt_locks(&request, &reauth.name);
                let persisted = tokens.persist_attempts_now(ticket.token);
                let companion = tokens.companions.of(&request.name);
                let access = companion.map(|it| CompanionAccess::new(it, &mut self.file_locks));
                let attempt =
                    reauth::Attempt { ticket, owner, grant, client, reauth, request, locks };
                let attempt = reauth::attempt(attempt, access.clone(), persisted);
                match grant {
                    Some(_) => {
                        // It waits until its attempt is durable, and so is the mark.
                        let attempt = replicas::granted(access, None, || attempt);
                        self.must_finish.start(ticket, attempt);
                    }
                    None => self.must_finish.start(ticket, attempt),
                }
            }
            Action::Revoke { slot, timeout } => {
                let value = entry.value(slot).map(ValueRef::to_value)?;
                let revoke = check::revoke(ticket, client, value, timeout);
                match grant {
                    Some(grant) => {
                        let revoke = check::revoke_if_in_time(ticket, grant, revoke);
                        self.must_finish.start(ticket, replicas::granted(None, None, || revoke));
                    }
                    None => self.must_finish.start(ticket, revoke),
                }
            }
            Action::Persist { slot } => {
                let value = entry.value(slot)?.to_value();
                let in_source = entry.in_source();
                if let Some(path) = entry.file() {
                    let lock = self.file_locks.get(&path);
                    let in_source = in_source.map(ValueRef::to_value);
                    let write = write_back::store_in_file(ticket, lock, path, value, in_source);
                    self.must_finish.start(ticket, write);
                } else {
                    let receipt = recorder.keep_value(entry.name(), value.clone(), in_source);
                    let write = write_back::store_by_name(ticket, value, receipt);
                    self.must_finish.start(ticket, write);
                }
            }
        }
        Some(())
    }

    fn attempt_locks(&mut self, request: &ReauthRequest, method: &str) -> AttemptLocks {
        AttemptLocks {
            attempt: self.reauth_locks.get(&*request.name),
            file: request.file.as_ref().map(|file| self.file_locks.get(file)),
            login: self.login_locks.get(format!("{}/{method}", request.server)),
        }
    }

    /// Reads these sources, by one task. A source whose last read still hangs is not read.
    pub(crate) fn read_sources(&mut self, mut requests: Vec<ReadRequest>) {
        let waiting = self.hung_reads.take_waiting(&mut requests);
        self.checks.spawn(read_sources::read_sources(requests, waiting));
    }

    /// Reads sources for the startup. Blocks as long as they respond. A source that hangs, and
    /// those after it, are read once the daemon runs.
    pub(crate) fn read_at_startup(
        &mut self,
        requests: Vec<ReadRequest>,
        on_read: impl FnMut(SourceRead),
    ) {
        if let Some(hung) = read_sources::read_at_startup(requests, on_read) {
            self.on_hung_read(hung);
        }
    }

    /// A read hangs: waits for it, and reads the sources that were to be read after it.
    pub(crate) fn on_hung_read(&mut self, hung: HungRead) {
        let (request, thread, rest) = hung.split();
        self.hung_reads.add(&request.source);
        self.checks.spawn(HungRead::ended(request, thread));
        for requests in rest.into_iter().filter(|rest| !rest.is_empty()) {
            self.read_sources(requests);
        }
    }

    /// A read that was hanging has ended. Returns the tokens whose sources are to be read.
    pub(crate) fn on_hung_read_ended(&mut self, request: &ReadRequest) -> BTreeSet<TokenId> {
        let mut tokens = self.hung_reads.remove(&request.source);
        tokens.insert(request.id);
        tokens
    }

    /// Reads the source of a value that the server calls dead. The action has not ended before
    /// its response is acted on.
    pub(crate) fn reread_source(
        &mut self,
        ticket: Ticket,
        answer: CheckResult,
        request: ReadRequest,
    ) {
        self.checks.start(ticket, read_sources::reread_source(ticket, answer, request));
    }

    /// Waits until a value whose file cannot be replaced is durable in the state directory.
    pub(crate) fn store_in_state_dir(
        &mut self,
        ticket: Ticket,
        file: Option<PathBuf>,
        (receipt, error): (WriteReceipt, PersistError),
    ) {
        let store = write_back::store_in_state_dir(ticket, file, receipt, error);
        self.must_finish.start(ticket, store);
    }

    /// Retries a write to a token's file. At shutdown the write must finish.
    pub(crate) fn write_file(&mut self, write: FileWrite, must_finish: bool) {
        let lock = self.file_locks.get(&write.path);
        let set = if must_finish { &mut self.must_finish } else { &mut self.checks };
        set.spawn(write_back::rewrite(write, lock));
    }

    /// Stores a refresh token that is in memory only, until that succeeds. Shutdown waits for it.
    pub(crate) fn keep_storing(&mut self, companion: &Arc<Companion>) {
        if companion.begin_retries() {
            let access = CompanionAccess::new(Arc::clone(companion), &mut self.file_locks);
            self.must_finish.spawn(companion::keep_storing(access));
        }
    }

    /// Reads the source of a refresh token, which may have changed.
    pub(crate) fn check_companion(&mut self, companion: Arc<Companion>) {
        let access = CompanionAccess::new(companion, &mut self.file_locks);
        self.checks.spawn(companion::check_source(access));
    }

    /// Stores the refresh token that came with the value of another replica, in place of the one
    /// before. Shutdown waits for it.
    pub(crate) fn adopt(
        &mut self,
        companion: Arc<Companion>,
        refresh: (Option<TokenValue>, OwnRefresh),
        adopted: AdoptedValue,
    ) {
        let access = CompanionAccess::new(companion, &mut self.file_locks);
        self.must_finish.spawn(replicas::adopt(access, refresh, adopted));
    }

    /// Writes a token's `env_file`. Shutdown waits for it.
    pub(crate) fn write_env_file(&mut self, write: EnvFileWrite) {
        let lock = self.file_locks.get(&write.file.path);
        self.must_finish.spawn(write_back::export(write, lock));
    }

    /// Waits for the next task to end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> TaskEnd {
        tokio::select! {
            biased;
            Some(end) = self.checks.next() => end,
            Some(end) = self.renewals.next() => end,
            Some(end) = self.must_finish.next() => end,
            else => std::future::pending().await,
        }
    }

    /// A task that has ended already.
    pub(crate) fn try_next(&mut self) -> Option<TaskEnd> {
        let sets = [&mut self.checks, &mut self.renewals, &mut self.must_finish];
        sets.into_iter().find_map(TaskSet::try_next)
    }

    /// Whether no task is running that can produce or persist a value, renewals aside.
    pub(crate) fn has_finished(&self) -> bool {
        self.must_finish.is_empty()
    }

    /// Whether no renewal request is running.
    pub(crate) fn has_no_renewals(&self) -> bool {
        self.renewals.is_empty()
    }

    /// Drops the tasks that lose nothing by that. Returns the tickets of their actions.
    pub(crate) async fn abort_checks(&mut self) -> Vec<Ticket> {
        self.checks.abort_all().await
    }

    /// Drops all tasks.
    pub(crate) async fn abort_all(&mut self) {
        for set in [&mut self.checks, &mut self.renewals, &mut self.must_finish] {
            set.abort_all().await;
        }
    }

    /// How many actions are running.
    #[cfg(test)]
    pub(crate) fn actions(&self) -> usize {
        self.checks.actions() + self.renewals.actions() + self.must_finish.actions()
    }
}
