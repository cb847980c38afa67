//! Deaths of token values: before a death is acted on, the value's source is read again, so that no
//! re-authentication starts while the source holds a new value.
//!
//! A file or credential is read by itself. Of an inventory file the stat is compared, once for all
//! tokens that die together; only if it has changed, the file is read as a whole. Each response is
//! passed on after [`DISK_TIMEOUT`] at the latest, and occupies its place at the server until
//! then.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::time::sleep;

use super::{Inventories, InventoryEvent};
use crate::daemon::tasks::Tasks;
use crate::daemon::tasks::blocking::{REREADS, blocking_among, with_disk_timeout};
use crate::daemon::tokens::{InventoryId, Tokens};
use crate::inventory::FileStamp;
use crate::lifecycle::CheckResult;
use crate::outcome::Outcome;
use crate::scheduler::Ticket;
use crate::settings::{InventorySource, Source};
use crate::token_source::DISK_TIMEOUT;

/// A response that calls a value dead.
pub(crate) type Death = (Ticket, CheckResult);

/// The result of comparing an inventory's file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compared {
    /// The stamp of the file; `None` if there is no file.
    Found(Option<FileStamp>),
    /// The disk did not respond in time.
    TimedOut,
}

/// The deaths that are not acted on yet.
#[derive(Debug, Default)]
pub(super) struct DeathChecks(BTreeMap<InventoryId, Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The file is being compared for these deaths.
    comparing: Vec<Death>,
    /// The file is to be compared once more for these deaths.
    next: Vec<Death>,
    /// The file has changed: these deaths wait for the end of a read with a higher number.
    reading: Vec<(u64, Death)>,
}

impl Inventories {
    /// Acts on the result of a check: at once, or if it is a death after the source was read.
    pub(crate) fn on_check_result(
        &mut self,
        ticket: Ticket,
        result: CheckResult,
        tokens: &mut Tokens,
        tasks: &mut Tasks,
    ) {
        if !matches!(result.outcome, Outcome::Expired(_) | Outcome::Rejected(_)) {
            return tokens.on_checked(ticket, result);
        }
        let is_final = self.is_stopping || result.replaced || !tokens.scheduler.expects(ticket);
        let Some(entry) = tokens.registry.token(ticket.token).filter(|_| !is_final) else {
            return tokens.on_checked(ticket, result);
        };
        match (tokens.read_request(ticket.token), entry.inventory()) {
            // The environment of a process does not change.
            (Some(request), _) if !matches!(request.source, Source::Env(_)) => {
                tasks.reread_source(ticket, result, request);
            }
            (None, Some(id)) if self.file_of(id).is_some() => {
                self.death_checks.0.entry(id).or_default().next.push((ticket, result));
                self.compare(id, tokens);
            }
            _ => tokens.on_checked(ticket, result),
        }
    }

    /// The daemon stops: acts on all deaths that wait, and on others at once.
    pub(crate) fn stop(&mut self, tokens: &mut Tokens) {
        self.is_stopping = true;
        for (_, Waiting { comparing, next, reading }) in std::mem::take(&mut self.death_checks.0) {
            act_on(comparing.into_iter().chain(next), tokens);
            act_on(reading.into_iter().map(|(_, death)| death), tokens);
        }
    }

    fn file_of(&self, id: InventoryId) -> Option<PathBuf> {
        match &self.by_id.get(&id)?.settings.source {
            InventorySource::File { path, .. } => Some(path.clone()),
            InventorySource::Dir(_) | InventorySource::Command { .. } => None,
        }
    }

    /// Compares an inventory's file for the deaths that wait for that, unless it is being compared.
    fn compare(&mut self, id: InventoryId, tokens: &mut Tokens) {
        let path = self.file_of(id);
        let Some(waiting) = self.death_checks.0.get_mut(&id) else { return };
        if !waiting.comparing.is_empty() || waiting.next.is_empty() {
            return;
        }
        let deaths = std::mem::take(&mut waiting.next);
        let Some(path) = path else { return act_on(deaths, tokens) };
        waiting.comparing = deaths;
        self.tasks.spawn(async move {
            let stamp = blocking_among(&REREADS, move || FileStamp::of(&path));
            let compared =
                with_disk_timeout(stamp).await.map_or(Compared::TimedOut, Compared::Found);
            Some(InventoryEvent::Compared(id, compared))
        });
    }

    /// An inventory's file was compared.
    pub(super) fn on_compared(&mut self, id: InventoryId, compared: Compared, tokens: &mut Tokens) {
        let has_changed = match (compared, self.by_id.get_mut(&id)) {
            (Compared::Found(now), Some(inventory)) => {
                std::mem::replace(&mut inventory.stamp, now) != now
            }
            (Compared::TimedOut, _) | (_, None) => false,
        };
        let waiting = self.death_checks.0.entry(id).or_default();
        let deaths = std::mem::take(&mut waiting.comparing);
        if has_changed {
            let after = self.last_pass;
            waiting.reading.extend(deaths.into_iter().map(|death| (after, death)));
            self.read_again(id);
            self.tasks.spawn(async move {
                sleep(DISK_TIMEOUT).await;
                Some(InventoryEvent::DeathsDue(id, after))
            });
        } else {
            act_on(deaths, tokens);
        }
        self.compare(id, tokens);
    }

    /// Acts on the deaths that waited for a read after the one with this number, or a lower one.
    pub(super) fn act_on_deaths_until(&mut self, id: InventoryId, pass: u64, tokens: &mut Tokens) {
        let Some(waiting) = self.death_checks.0.get_mut(&id) else { return };
        let over = waiting.reading.extract_if(.., |(after, _)| *after <= pass);
        act_on(over.map(|(_, death)| death), tokens);
    }
}

fn act_on(deaths: impl IntoIterator<Item = Death>, tokens: &mut Tokens) {
    for (ticket, answer) in deaths {
        tokens.on_checked(ticket, answer);
    }
}
