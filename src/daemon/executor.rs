//! Executor of the scheduler's outputs: starts each action as a task or cancels it, and persists,
//! counts and logs each notice.
//!
//! No other part starts an action. In a cluster, an action that spends something is passed to the
//! replica instead, and starts once it is granted. Owns no state. `completions` handles the results.

use super::cluster::{Cluster, Spending, Start, is_spending};
use super::metrics::Metrics;
use super::notices;
use super::tasks::{Grant, Tasks};
use super::tokens::{ServerHandle, Tokens, names_of};
use crate::clock;
use crate::event_log::Fields;
use crate::lifecycle::{Action, Method, Notice};
use crate::scheduler::{SchedulerOutput, ServerNotice, Ticket, TokenId};
use crate::time::Moment;
use crate::token_source;

/// Passes over the pending actions in one turn. Actions that follow from a cancelled action are
/// executed in the next pass. Actions left after the last pass are executed in the next turn.
const PASSES: usize = 8;

/// Capacity for pending actions that is kept between turns. Only a turn that concerns all of very
/// many tokens needs more.
const KEPT_ACTIONS: usize = 4_096;

/// The parts of the daemon that actions and notices concern.
pub(super) struct Executor<'a> {
    pub(super) tokens: &'a mut Tokens,
    pub(super) tasks: &'a mut Tasks,
    pub(super) metrics: &'a mut Metrics,
    /// The cluster, if this daemon is a replica.
    pub(super) cluster: Option<&'a mut Cluster>,
}

impl Executor<'_> {
    /// Runs a turn of the replica, and starts the spendings that the turn grants.
    pub(super) fn turn_cluster(&mut self, now: Moment) {
        let Self { cluster: Some(cluster), tokens, tasks, .. } = self else { return };
        for Start { spending, begin_by } in cluster.turn(now, tokens, tasks) {
            let Spending { ticket, action, notice, .. } = spending;
            if self.tokens.scheduler.expects(ticket) {
                if let Some(notice) = notice {
                    self.execute_notice(ticket.token, &notice, now);
                }
                let (grant, tokens) = (Some(Grant { begin_by }), &mut self.tokens);
                if self.tasks.run_action(ticket, action, grant, tokens).is_some() {
                    continue;
                }
            }
            self.tokens.cancel(ticket);
            if let Some(cluster) = &mut self.cluster {
                cluster.withdraw(ticket);
            }
        }
    }

    /// Executes the pending actions: the only place where tasks for them are started. Each action
    /// is started, or cancelled if it cannot be.
    pub(super) fn execute_actions(&mut self) {
        for companion in self.tokens.take_changed_companions() {
            self.tasks.check_companion(companion);
        }
        for requests in self.tokens.reads.drain(..) {
            self.tasks.read_sources(requests);
        }
        for _ in 0..PASSES {
            if self.tokens.scheduler.outputs.is_empty() {
                break;
            }
            let now = clock::now();
            let mut actions = std::mem::take(&mut self.tokens.scheduler.outputs);
            for action in actions.drain(..) {
                self.execute_action(action, now);
            }
            if self.tokens.scheduler.outputs.is_empty() && actions.capacity() <= KEPT_ACTIONS {
                self.tokens.scheduler.outputs = actions;
            }
        }
    }

    fn execute_action(&mut self, action: SchedulerOutput, now: Moment) {
        let Self { tokens, .. } = self;
        match action {
            SchedulerOutput::Action(ticket, action) => self.start_action(ticket, action),
            SchedulerOutput::ReauthExhausted { reauth, failures, retry_in_ms } => {
                if let Some(reauth) = tokens.reauths.get(reauth) {
                    notices::reauth(&mut tokens.log, &reauth.name, failures, retry_in_ms);
                }
            }
            SchedulerOutput::ServerNotice(id, notice) => {
                let Some(ServerHandle { settings, client }) = tokens.servers.get(id) else {
                    return;
                };
                tokens.outages.on_notice(id, &notice);
                // Logged when its client could not be built.
                if matches!(notice, ServerNotice::Unavailable { .. }) && client.is_err() {
                    return;
                }
                if let (ServerNotice::RenewalLearned(method), Some(writer)) =
                    (&notice, tokens.recorder.shared_writer())
                {
                    let is_renew = *method == Method::Renew;
                    writer.persist_renewal_method(&settings.name, settings.url.as_str(), is_renew);
                }
                notices::server(&mut tokens.log, &settings.name, &notice);
            }
            SchedulerOutput::TokenNotice(id, notice) => match (&mut self.cluster, &notice) {
                // Reported when the spending is granted.
                (Some(cluster), Notice::ReauthStarted { .. }) => cluster.stash_start(id, notice),
                _ => self.execute_notice(id, &notice, now),
            },
        }
    }

    fn start_action(&mut self, ticket: Ticket, action: Action) {
        let Self { tokens, tasks, cluster, .. } = self;
        if let Some(cluster) = cluster
            && is_spending(ticket, &action, tokens)
        {
            return cluster.request(ticket, action, clock::now(), tokens);
        }
        // The token may have been removed since, and its number reused for another token.
        let is_expected = tokens.scheduler.expects(ticket);
        if !is_expected || tasks.run_action(ticket, action, None, tokens).is_none() {
            tokens.cancel(ticket);
        }
    }

    /// Persists, counts and logs a notice about a token.
    fn execute_notice(&mut self, id: TokenId, notice: &Notice, now: Moment) {
        let Self { tokens, metrics, cluster, .. } = self;
        if let Some(cluster) = cluster {
            cluster.on_notice(id, notice, now, tokens);
        }
        tokens.env_files.note_change(id, matches!(notice, Notice::Checked { .. }));
        if tokens.waits_for_files(id, notice) {
            return;
        }
        tokens.persist_notice(id, notice);
        tokens.prune_values(id, notice);
        let Some(entry) = tokens.registry.token(id) else { return };
        let config = entry.config();
        let server = &tokens.servers[config.server].settings.name;
        metrics.count_notice((config.server, server), config.reauth.as_deref(), notice);
        let hook_succeeded = matches!(notice, Notice::ReauthSucceeded { .. }) && entry.has_hook();
        let is_missing = matches!(notice, Notice::Missing { .. });
        let source = if is_missing { entry.source() } else { None };
        let path = source.as_ref().map(token_source::describe);
        let has_life = matches!(notice, Notice::Checked { .. } | Notice::Recovered { .. });
        let is_assumed = tokens.scheduler.spec(id).is_some_and(|spec| spec.policy.assumed);
        let fields = Fields {
            by: tokens.origin_of_dead_candidate(id, notice),
            path: path.as_deref(),
            assumed: (has_life && is_assumed).then_some(true),
            exit_status: hook_succeeded.then_some(0),
            ..names_of(&tokens.servers, entry)
        };
        notices::token(&mut tokens.log, now, &fields, notice);
    }
}
