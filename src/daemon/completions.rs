//! Handles task completions: counts a result, passes it to the part that it concerns, and starts
//! the task that it leads to.
//!
//! Owns no state. A completion with a stale ticket changes no token.

use std::collections::VecDeque;

use super::cluster::{Cluster, obtained};
use super::companions::CompanionEvent;
use super::config::maintenance_windows;
use super::inventories::Inventories;
use super::metrics::Metrics;
use super::notices;
use super::tasks::{Completion, TaskEnd, Tasks};
use super::tokens::{SourceRead, Tokens};
use crate::clock;
use crate::lifecycle::CheckResult;
use crate::scheduler::Ticket;

/// The parts of the daemon that results concern.
pub(super) struct CompletionHandler<'a> {
    pub(super) tokens: &'a mut Tokens,
    pub(super) tasks: &'a mut Tasks,
    pub(super) inventories: &'a mut Inventories,
    pub(super) metrics: &'a mut Metrics,
    /// The cluster, if this daemon is a replica.
    pub(super) cluster: Option<&'a mut Cluster>,
    /// The backlog of sources that were read.
    pub(super) source_reads: &'a mut VecDeque<SourceRead>,
}

impl CompletionHandler<'_> {
    /// Handles the result of a task, and those of all other tasks that have ended.
    pub(super) fn on_tasks_ended(&mut self, first: TaskEnd) {
        maintenance_windows::close(self.tokens, clock::now());
        let mut next = Some(first);
        while let Some(TaskEnd { ticket, completion }) = next {
            match (ticket, completion) {
                (_, Some(completion)) => self.on_completion(completion),
                (Some(ticket), None) => {
                    self.tokens.cancel(ticket);
                    self.abandon_spending(ticket);
                }
                (None, None) => {}
            }
            next = self.tasks.try_next();
        }
    }

    fn on_completion(&mut self, completion: Completion) {
        let Self { tokens, tasks, inventories, metrics, .. } = self;
        match completion {
            Completion::Checked(ticket, mut answer, replaced) => {
                tokens.log.count_check(clock::now(), &notices::check_end(ticket, &answer));
                tokens.take_replaced_value(ticket, replaced, &mut answer);
                if let Some(entry) = tokens.registry.token(ticket.token) {
                    let id = entry.config().server;
                    let name = &tokens.servers[id].settings.name;
                    metrics.count_check((id, name), ticket, &answer);
                }
                inventories.on_check_result(ticket, answer, tokens, tasks);
            }
            Completion::Companion(report, inner) => {
                if let Some(report) = report {
                    tokens.on_companion_report(&report);
                    if let (CompanionEvent::Unsaved { .. }, Some(companion)) =
                        (&report.event, tokens.companions.find(&report.name))
                    {
                        tasks.keep_storing(&companion);
                    }
                }
                if let Some(completion) = inner {
                    self.on_completion(*completion);
                }
            }
            Completion::SourceReread(ticket, answer, read) => {
                self.on_source_reread(ticket, answer, read);
            }
            Completion::ReauthFinished { ticket, owner, duration, output } => {
                let entry = tokens.registry.token(ticket.token).filter(|entry| entry.has_hook());
                if let Some(reauth) = entry.and_then(|entry| entry.config().reauth.as_ref()) {
                    metrics.count_command(&reauth.name, duration);
                }
                tokens.on_reauthenticated(ticket, owner, duration, output);
            }
            Completion::Revoked(ticket, result) => {
                tokens.scheduler.revoke_finished(ticket, result, clock::now());
            }
            Completion::Stored { ticket, file, result } => {
                if let Some(kept) = tokens.on_stored(ticket, file.as_deref(), result) {
                    tasks.store_in_state_dir(ticket, file, kept);
                }
            }
            Completion::FileWritten { id, name, file, result } => {
                tokens.on_file_written(id, &name, &file, result);
            }
            Completion::EnvFileWritten(write, result) => {
                tokens.on_env_file_written(write, result);
            }
            Completion::SourcesRead(reads, hung) => {
                self.source_reads.extend(reads);
                for hung in hung {
                    tasks.on_hung_read(hung);
                }
            }
            Completion::HungReadEnded(request) => {
                tokens.request_reads(tasks.on_hung_read_ended(&request));
            }
            Completion::Spent(inner, refresh) => {
                let obtained = obtained(&inner, tokens);
                self.on_completion(*inner);
                if let (Some(cluster), Some((ticket, obtained))) = (&mut self.cluster, obtained) {
                    cluster.on_spent(ticket, obtained, refresh, self.tokens);
                }
            }
            Completion::NotBegun(ticket) => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.on_not_begun(ticket, clock::now(), tokens);
                }
            }
            Completion::Adopted(adopted, refresh) => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.on_adopted((adopted, refresh), tokens, tasks);
                }
            }
        }
    }

    /// The source of a value that the server calls dead was read again.
    fn on_source_reread(&mut self, ticket: Ticket, answer: CheckResult, read: Option<SourceRead>) {
        let Self { tokens, tasks, inventories, source_reads, .. } = self;
        if let Some(read) = read {
            let id = read.request.id;
            if tokens.registry.token(id).is_some() && !tokens.is_current(&read.request) {
                return inventories.on_check_result(ticket, answer, tokens, tasks);
            }
            tokens.on_source_read(read);
            if !source_reads.is_empty() {
                // Earlier reads of this source that are not handled yet are outdated.
                tokens.registry.outdate_reads(id);
            }
            inventories.log_changes(tokens);
        }
        tokens.on_checked(ticket, answer);
    }

    /// Releases the claim of an action that will never complete, if it has one.
    fn abandon_spending(&mut self, ticket: Ticket) {
        if let Some(cluster) = &mut self.cluster {
            cluster.abandon(ticket);
        }
    }
}
