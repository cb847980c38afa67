//! Deaths of token values: before one is acted on, the value's source is read again, so that no
//! re-authentication starts while a new value lies there.
//!
//! A file or credential is read by itself. Of an inventory file the stat is compared first, once
//! for all tokens that die together; only if it has changed, the file is read as a whole. Each
//! answer is passed on after [`DISK_PATIENCE`] at the latest, and until then it occupies its place
//! at the server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::time::sleep;

use crate::clock;
use crate::daemon::Daemon;
use crate::daemon::tasks::blocking::{REREADS, blocking_among, with_disk_timeout};
use crate::daemon::tasks::{self, Completion, SourceRead};
use crate::daemon::tokens::source_changes::{errand, is_current};
use crate::daemon::tokens::{InventoryId, TokenOrigin};
use crate::inventory::Stamp;
use crate::keeper::Ticket;
use crate::lifecycle::Answer;
use crate::outcome::Outcome;
use crate::settings::{InventorySource, Source};
use crate::token_file::DISK_PATIENCE;

/// An answer that calls a value dead.
pub(crate) type Death = (Ticket, Answer);

/// What an inventory's file is now.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compared {
    /// Its stamp; `None` if there is no file.
    Found(Option<Stamp>),
    /// The disk did not answer in time.
    DiskHangs,
}

/// The deaths of tokens of inventory files that are not acted on yet.
#[derive(Debug, Default)]
pub(crate) struct Deaths(BTreeMap<InventoryId, Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The file is being compared, for others.
    comparing: bool,
    /// The file is to be compared once more for these.
    next: Vec<Death>,
    /// The file has changed. These wait for the end of a reading with a higher number.
    reading: Vec<(u64, Death)>,
}

impl Daemon {
    /// Starts to read a token's source again if the answer calls its value dead. Returns the
    /// answer if it can be acted on at once; otherwise it is acted on later.
    pub(crate) fn reread_before_death(&mut self, ticket: Ticket, answer: Answer) -> Option<Answer> {
        let is_death = matches!(answer.outcome, Outcome::Expired(_) | Outcome::Rejected(_));
        if !is_death || answer.replaced || self.stopping || !self.tokens.scheduler.expects(ticket) {
            return Some(answer);
        }
        let Some(kept) = self.tokens.registry.token(ticket.token) else { return Some(answer) };
        match errand(ticket.token, kept) {
            // The environment of a process does not change.
            Some((_, _, Source::Env(_))) => Some(answer),
            Some(wanted) => {
                // The action has not ended before its answer is acted on.
                self.open_actions += 1;
                self.queries.start(ticket, tasks::reread(ticket, answer, wanted));
                None
            }
            None => match kept.terms().origin {
                TokenOrigin::Line(stock) => self.compare_before_death(stock, (ticket, answer)),
                TokenOrigin::Own(_) | TokenOrigin::File(..) => Some(answer),
            },
        }
    }

    /// Takes what a source holds at the moment of a death, and then acts on the death.
    pub(crate) fn reread(&mut self, ticket: Ticket, answer: Answer, look: Option<SourceRead>) {
        if let Some(look) = look {
            let kept = self.tokens.registry.token(look.id);
            if kept.is_some_and(|kept| !is_current(kept, &look)) {
                if let Some(answer) = self.reread_before_death(ticket, answer) {
                    self.act_on((ticket, answer));
                }
                return;
            }
            self.take_look_now(look);
        }
        self.act_on((ticket, answer));
    }

    fn act_on(&mut self, (ticket, answer): Death) {
        self.tokens.scheduler.answered(ticket, answer, clock::now(), &mut self.tokens.actions);
    }

    fn act_on_all(&mut self, deaths: impl IntoIterator<Item = Death>) {
        for death in deaths {
            self.act_on(death);
        }
    }

    /// The file of an inventory, if it is one.
    fn file_of_stock(&self, id: InventoryId) -> Option<PathBuf> {
        match &self.stocks.by_id.get(&id)?.settings.source {
            InventorySource::File { path, .. } => Some(path.clone()),
            InventorySource::Dir(_) | InventorySource::Command { .. } => None,
        }
    }

    fn compare_before_death(&mut self, id: InventoryId, death: Death) -> Option<Answer> {
        if self.file_of_stock(id).is_none() {
            return Some(death.1);
        }
        self.deaths.0.entry(id).or_default().next.push(death);
        self.compare_stock(id);
        None
    }

    /// Compares an inventory's file for the deaths that wait for that, unless that is under way.
    fn compare_stock(&mut self, id: InventoryId) {
        let Some(waiting) = self.deaths.0.get_mut(&id) else { return };
        if waiting.comparing || waiting.next.is_empty() {
            return;
        }
        let deaths = std::mem::take(&mut waiting.next);
        let Some(path) = self.file_of_stock(id) else {
            return self.act_on_all(deaths);
        };
        if let Some(waiting) = self.deaths.0.get_mut(&id) {
            waiting.comparing = true;
        }
        self.queries.spawn(async move {
            let stamp = with_disk_timeout(blocking_among(&REREADS, move || Stamp::of(&path))).await;
            let compared = stamp.map_or(Compared::DiskHangs, Compared::Found);
            Completion::StockCompared(id, deaths, compared)
        });
    }

    /// An inventory's file was compared.
    pub(crate) fn stock_compared(
        &mut self,
        id: InventoryId,
        deaths: Vec<Death>,
        compared: Compared,
    ) {
        let has_changed = match (compared, self.stocks.by_id.get_mut(&id)) {
            (Compared::Found(now), Some(stock)) => std::mem::replace(&mut stock.stamp, now) != now,
            (Compared::DiskHangs, _) | (_, None) => false,
        };
        let waiting = self.deaths.0.entry(id).or_default();
        waiting.comparing = false;
        if has_changed {
            let after = self.stocks.last_pass();
            waiting.reading.extend(deaths.into_iter().map(|death| (after, death)));
            self.read_again(id);
            self.queries.spawn(async move {
                sleep(DISK_PATIENCE).await;
                Completion::StockReread(id, after)
            });
        } else {
            self.act_on_all(deaths);
        }
        self.compare_stock(id);
    }

    /// Acts on the deaths that waited for a reading of an inventory of this number or a lower one.
    pub(crate) fn stock_reread(&mut self, id: InventoryId, pass: u64) {
        let Some(waiting) = self.deaths.0.get_mut(&id) else { return };
        let all = std::mem::take(&mut waiting.reading);
        let (over, later): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(after, _)| *after <= pass);
        waiting.reading = later;
        self.act_on_all(over.into_iter().map(|(_, death)| death));
    }
}
