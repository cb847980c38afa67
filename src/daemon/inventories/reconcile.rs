//! What the daemon makes of its inventories: tokens that are new in one, gone from it or have
//! another value there.
//!
//! A name belongs to whoever had it first: a `[token.NAME]` before every inventory, and these
//! in the order of their names at a start. Whoever has a name keeps it until he lets go of it,
//! so that no change of one inventory moves a token of another. Nothing is taken away because
//! an inventory cannot be read, is empty or was being written, nor while a line of it is bad,
//! which may be that of a token.

use std::sync::Arc;

use crate::clock;
use crate::daemon::Daemon;
use crate::daemon::inventories::events::titled;
use crate::daemon::inventories::log::Report;
use crate::daemon::inventories::{ChangeCounts, NameConflict, ReadPass};
use crate::daemon::tokens::{InventoryId, TokenEntry, TokenOrigin};
use crate::inventory::{InventoryFault, LineFault, Listed, Place, Reading, TOLD_SINGLY};
use crate::keeper::TokenId;
use crate::settings::InventorySource;
use crate::token_file::{SourceFault, SourceFaultKind};

/// Inconclusive readings in a row, a second each, until what was read is taken as it is, but
/// nothing is taken away: something writes to the file all the while.
const MAX_TRIES: u32 = 5;

impl Daemon {
    /// One token that an inventory brings, and which it is if its name is known already.
    pub(crate) fn listed(&mut self, id: InventoryId, listed: Listed<'_>, known: Option<TokenId>) {
        let Listed { name, value, warnings, line } = listed;
        let Some(stock) = self.stocks.by_id.get_mut(&id) else { return };
        let Some(pass) = &mut stock.pass else { return };
        let Some(token) = known else {
            let (terms, spec) = (Arc::clone(&stock.terms), stock.spec.clone());
            stock.tokens += 1;
            stock.tally.added += 1;
            let token = self.add_token(name, &terms, spec, line);
            if let Some(pass) = self.pass(id) {
                pass.seen.add(token);
            }
            return match value {
                Ok(value) => self.found(token, value, &warnings),
                Err(fault) => self.lost(token, &fault),
            };
        };
        let Some(kept) = self.tokens.registry.token(token) else { return };
        if kept.stock() != Some(id) {
            return self.collide(id, name, line, token);
        }
        if line > 0 && pass.seen.has(token) {
            let fault = LineFault::Duplicate { line: kept.line() };
            return pass.repeats.add(Place::Line(line), fault);
        }
        pass.seen.add(token);
        let same = value.as_ref().is_ok_and(|value| kept.in_source() == Some(*value));
        let is_file = matches!(kept.terms().origin, TokenOrigin::File(..));
        if kept.line() != line {
            self.tokens.registry.set_line(token, line);
        }
        if same {
            // Another value may have come, and gone again, during a re-auth.
            self.stocks.take_held_back(token);
            return;
        }
        // A folder's file may be replaced by the daemon itself at the same time: a look at it
        // alone knows of that.
        if is_file {
            return pass.errands.push(token);
        }
        let Ok(value) = value else { return };
        if self.tokens.scheduler.token(token).is_some_and(|token| token.is_reauthenticating()) {
            self.stocks.hold_back(token, value.to_value());
        } else {
            self.found(token, value, &warnings);
        }
    }

    /// The reading of an inventory that is under way.
    fn pass(&mut self, id: InventoryId) -> Option<&mut ReadPass> {
        self.stocks.by_id.get_mut(&id)?.pass.as_mut()
    }

    /// An inventory brings a name that is taken.
    fn collide(&mut self, id: InventoryId, name: &str, line: u32, token: TokenId) {
        let taken = self.place_of(token);
        let Some(stock) = self.stocks.by_id.get_mut(&id) else { return };
        let Some(pass) = &mut stock.pass else { return };
        pass.collisions.1 += 1;
        if pass.collisions.0.len() < TOLD_SINGLY {
            let place = stock.settings.place(name, line);
            pass.collisions.0.push(NameConflict { name: name.into(), place, taken });
        }
    }

    /// Where the token that has a name comes from, for people.
    fn place_of(&self, token: TokenId) -> String {
        let Some(kept) = self.tokens.registry.token(token) else { return String::new() };
        match kept.stock().and_then(|stock| self.stocks.by_id.get(&stock)) {
            None => format!("[token.{}]", kept.name()),
            Some(stock) => {
                let place = stock.settings.place(kept.name(), kept.line());
                format!("[{}] ({place})", titled(&stock.settings.name))
            }
        }
    }

    /// Takes the value that an inventory brought while the token's re-auth was under way.
    pub(crate) fn take_held_back(&mut self, token: TokenId) {
        if let Some(value) = self.stocks.take_held_back(token) {
            self.found(token, value.by_ref(), &[]);
        }
    }

    /// A token's value in its inventory is another one.
    pub(crate) fn count_change(&mut self, token: TokenId) {
        let stock = self.tokens.registry.token(token).and_then(TokenEntry::stock);
        if let Some(stock) = stock.and_then(|stock| self.stocks.by_id.get_mut(&stock)) {
            stock.tally.changed += 1;
        }
    }

    /// Whether a look found the token's file gone from its inventory's folder, and the token
    /// with it. Where the folder itself is gone, all of its tokens go on.
    pub(crate) fn left_its_folder(&mut self, token: TokenId, fault: &SourceFault) -> bool {
        let Some(kept) = self.tokens.registry.token(token) else { return false };
        let TokenOrigin::File(stock, folder) = &kept.terms().origin else { return false };
        if !matches!(fault.kind, SourceFaultKind::Missing) {
            return false;
        }
        let stock = *stock;
        if folder.is_dir() {
            if let Some(stock) = self.stocks.by_id.get_mut(&stock) {
                stock.tally.removed += 1;
            }
            self.let_go(token);
        }
        true
    }

    /// The tokens of an inventory that `wanted` holds for.
    pub(crate) fn tokens_of(
        &self,
        stock: InventoryId,
        wanted: impl Fn(TokenId) -> bool,
    ) -> Vec<TokenId> {
        let ours = self
            .tokens
            .registry
            .ids()
            .filter(|(id, kept)| kept.stock() == Some(stock) && wanted(*id));
        ours.map(|(id, _)| id).collect()
    }

    /// A reading has ended.
    pub(crate) fn ended(
        &mut self,
        id: InventoryId,
        pass: u64,
        end: Result<Reading, InventoryFault>,
    ) {
        if let Ok(Reading { stamp: Some(stamp), .. }) = &end
            && let Some(stock) = self.stocks.by_id.get_mut(&id)
        {
            stock.stamp = Some(*stamp);
        }
        if self.is_reading(id, pass)
            && let Some(pass) = self.pass(id)
        {
            let repeats = std::mem::take(&mut pass.repeats);
            pass.end = Some(end.map(|mut reading| {
                reading.good = reading.good.saturating_sub(repeats.count);
                reading.bad.append(repeats);
                reading
            }));
        }
    }

    /// Draws the conclusion, unless the file may only just be being written: then it is looked
    /// at again before anything is taken away or complained of.
    pub(crate) fn conclude_if_settled(&mut self, id: InventoryId, number: u64) {
        let Some(stock) = self.stocks.by_id.get_mut(&id) else { return };
        let Some(pass) = &stock.pass else { return };
        let clean = match &pass.end {
            Some(Ok(reading)) => {
                let whole = pass.seen.count >= stock.tokens;
                !reading.changed && reading.bad.count == 0 && reading.good > 0 && whole
            }
            Some(Err(_)) | None => false,
        };
        let watched = matches!(stock.settings.source, InventorySource::File { .. });
        if clean || !watched || stock.tries >= MAX_TRIES {
            return self.conclude(id, clean || !watched);
        }
        stock.tries += 1;
        let stamp = match &pass.end {
            Some(Ok(reading)) => reading.stamp,
            Some(Err(_)) | None => None,
        };
        self.stocks.settle(id, number, stamp);
    }

    /// Draws the conclusion from a reading: what it did not bring is gone, if it is `certain` to
    /// be whole, and what is wrong is told.
    pub(crate) fn conclude(&mut self, id: InventoryId, certain: bool) {
        let Some(stock) = self.stocks.by_id.get_mut(&id) else { return };
        let Some(mut pass) = stock.pass.take() else { return };
        stock.tries = 0;
        let (is_folder, had) =
            (matches!(stock.settings.source, InventorySource::Dir(_)), stock.tokens);
        let again = std::mem::take(&mut stock.again);
        let settings = stock.settings.clone();
        let mut given = std::mem::take(&mut stock.given);
        if pass.partial || stock.stamp != stock.reported {
            given.clear();
        } else {
            given.begin();
        }
        stock.reported = stock.stamp;
        let now = clock::now();
        let (journal, inventory) = (&mut self.journal, &settings);
        let mut report = Report { journal, now, inventory, given: &mut given };
        match pass.end.take() {
            Some(Ok(reading)) => {
                report.bad_lines(&reading.bad);
                let warn = !std::mem::replace(&mut stock.warned, !reading.warnings.is_empty());
                let whole = certain && !pass.partial && !reading.changed;
                stock.read_whole |= !pass.partial && !reading.changed && reading.good > 0;
                if whole && reading.good == 0 {
                    report.empty(had);
                }
                if warn {
                    self.warn_of(None, &reading.warnings);
                }
                if whole && reading.good > 0 && pass.seen.count < had {
                    let gone = self.tokens_of(id, |token| !pass.seen.has(token));
                    if is_folder {
                        pass.errands.extend(gone);
                    } else if reading.bad.count == 0 {
                        self.take_away(id, &gone);
                    }
                }
                self.say_loaded(id, !pass.partial);
            }
            Some(Err(InventoryFault::Unwanted)) | None => {}
            Some(Err(fault)) => report.unread(had, &fault),
        }
        let (journal, inventory) = (&mut self.journal, &settings);
        Report { journal, now, inventory, given: &mut given }.collisions(&pass.collisions);
        if let Some(stock) = self.stocks.by_id.get_mut(&id) {
            stock.given = given;
        }
        self.look_at_tokens(pass.errands);
        self.memory.absent.prune(now, clock::wall_clock());
        self.memory.absent.prune_values(now);
        self.expire_absent();
        if again {
            self.stocks.read(id, None);
        }
    }

    fn take_away(&mut self, id: InventoryId, gone: &[TokenId]) {
        if let Some(stock) = self.stocks.by_id.get_mut(&id) {
            stock.tally.removed += gone.len() as u64;
        }
        for token in gone {
            self.let_go(*token);
        }
    }

    /// Tells what came of looks at files of inventories.
    pub(crate) fn tell_of_stocks(&mut self) {
        let idle = self.stocks.by_id.iter().filter(|(_, stock)| stock.pass.is_none());
        let ids: Vec<InventoryId> = idle.map(|(id, _)| *id).collect();
        for id in ids {
            self.say_loaded(id, false);
        }
    }

    /// Tells what came of an inventory; if nothing did, only where it was read as a whole.
    fn say_loaded(&mut self, id: InventoryId, whole: bool) {
        let Some(stock) = self.stocks.by_id.get_mut(&id) else { return };
        let tally = std::mem::take(&mut stock.tally);
        if whole || tally != ChangeCounts::default() {
            let (settings, tokens) = (&stock.settings, stock.tokens);
            crate::daemon::inventories::log::loaded(
                &mut self.journal,
                clock::now(),
                settings,
                tokens,
                tally,
            );
        }
    }
}
