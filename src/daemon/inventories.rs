//! The inventories of a configuration: put into force, read at the start and again, watched.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use super::Daemon;
use super::application::Changes;
use super::roster::{Origin, StockId, Terms};
use super::stocks::{News, Stock, WAITING_PARTS, read_in_parts};
use crate::inventory::{Batch, is_ignored};
use crate::lifecycle::Policy;
use crate::scheduler::{TokenId, TokenSpec};
use crate::settings::{Inventory, InventorySource};
use crate::token_file::Touched;

/// What Kubernetes calls the link that it turns to replace all files of a folder at once.
const ALL_AT_ONCE: &[u8] = b"..";

/// Tokens of an inventory that a reload has changed or removed.
#[derive(Debug)]
pub(super) struct Following {
    stock: StockId,
    tokens: Vec<TokenId>,
    /// Their terms from now on; `None` if they are removed.
    terms: Option<(Arc<Terms>, TokenSpec)>,
}

impl Daemon {
    /// Puts the inventories of a configuration into force; they are to be read afterwards.
    /// Returns the tokens that are to follow them.
    pub(super) fn put_inventories(
        &mut self,
        inventories: &[Inventory],
        policies: &mut Vec<Arc<Policy>>,
        changes: &mut Changes,
    ) -> Vec<Following> {
        let mut following = Vec::new();
        let listed = |stock: &Stock| inventories.iter().any(|one| one.name == stock.settings.name);
        let stocks = self.stocks.by_id.iter();
        let gone: Vec<StockId> =
            stocks.filter(|(_, stock)| !listed(stock)).map(|(id, _)| *id).collect();
        for id in gone {
            let tokens = self.tokens_of(id, |_| true);
            following.push(Following { stock: id, tokens, terms: None });
            let stock = self.stocks.by_id.remove(&id);
            self.late.forget(id);
            changes.removed.extend(stock.map(|stock| titled(&stock.settings.name)));
        }
        for inventory in inventories {
            following.extend(self.put_inventory(inventory, policies, changes));
        }
        self.stocks.watch();
        following
    }

    /// Lets the next token follow its inventory; false if there is none left.
    pub(super) fn follow(&mut self, following: &mut Vec<Following>) -> bool {
        let Some(Following { stock, tokens, terms }) = following.last_mut() else { return false };
        match (tokens.pop(), terms) {
            (None, _) => drop(following.pop()),
            // Meanwhile it may have left the inventory, and its number may be another's.
            (Some(token), _) if !self.brought_by(token, *stock) => {}
            (Some(token), None) => self.let_go(token),
            (Some(token), Some((terms, spec))) => {
                self.change_token(token, terms, spec);
            }
        }
        true
    }

    fn put_inventory(
        &mut self,
        inventory: &Inventory,
        policies: &mut Vec<Arc<Policy>>,
        changes: &mut Changes,
    ) -> Option<Following> {
        let id = self.stocks.id_of(&inventory.name);
        let origin = match &inventory.source {
            InventorySource::Dir(path) => Origin::File(id, path.clone()),
            InventorySource::File { .. } | InventorySource::Command { .. } => Origin::Line(id),
        };
        let (terms, spec) = self.terms(&inventory.upkeep, origin, policies)?;
        let Some(stock) = self.stocks.by_id.get_mut(&id) else {
            let stock = Stock::new(inventory.clone(), Arc::new(terms), spec);
            self.stocks.by_id.insert(id, stock);
            changes.added.push(titled(&inventory.name));
            return None;
        };
        let other_source = stock.settings.source != inventory.source;
        if !other_source && stock.spec == spec && *stock.terms == terms {
            return None;
        }
        if *stock.terms != terms {
            stock.terms = Arc::new(terms);
        }
        stock.settings = inventory.clone();
        stock.spec = spec.clone();
        // What is being read is another inventory's.
        stock.pass = None;
        let terms = Arc::clone(&stock.terms);
        changes.changed.push(titled(&inventory.name));
        let tokens = self.tokens_of(id, |_| true);
        Some(Following { stock: id, tokens, terms: Some((terms, spec)) })
    }

    /// Reads the inventories for the start, which is to have all values first; but commands
    /// are only started, as none of them may hold the start up. What is read is taken in while
    /// a thread reads on.
    pub(super) fn read_first(&mut self) {
        let mut wanted = Vec::new();
        for (id, source) in self.sources_of_stocks() {
            if matches!(source, InventorySource::Command { .. }) {
                self.late.expect(id);
                self.stocks.read(id, None);
            } else if let Some(pass) = self.stocks.begin(id, false) {
                wanted.push((id, pass, source));
            }
        }
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(WAITING_PARTS);
            scope.spawn(move || {
                for (id, pass, source) in wanted {
                    let end = read_in_parts(&source, |part| {
                        match sender.send(News::Part(id, pass, part)) {
                            Ok(()) => ControlFlow::Continue(()),
                            Err(_) => ControlFlow::Break(()),
                        }
                    });
                    // The other side listens until this one is gone.
                    let _ = sender.send(News::End(id, pass, end));
                }
            });
            for news in receiver {
                match news {
                    News::Part(id, _, part) => {
                        self.make_room(id, &part);
                        self.take_in(id, part);
                    }
                    News::End(id, pass, end) => {
                        self.ended(id, pass, end);
                        self.conclude(id, true);
                    }
                    News::Touched(..) | News::Settled(..) => {}
                }
            }
        });
    }

    /// Of a part that is the first of many: makes room for all of them at once.
    fn make_room(&mut self, id: StockId, part: &Batch) {
        if let Some(stock) = self.stocks.by_id.get(&id)
            && stock.tokens == 0
            && let InventorySource::File { path, .. } = &stock.settings.source
            && let Ok(file) = fs::metadata(path)
        {
            let more = part.estimate(file.len());
            self.roster.expect(more);
            self.scheduler.reserve(usize::try_from(more).unwrap_or(0));
        }
    }

    fn take_in(&mut self, id: StockId, part: Batch) {
        let mut known = self.roster.ids_of(part.names()).into_iter();
        let _ = part.pass_on(&mut |listed| {
            // One that has come since then has come with this very part: it stands there twice.
            let token = known.next().flatten().or_else(|| self.roster.id_of(listed.name));
            self.listed(id, listed, token);
            ControlFlow::Continue(())
        });
    }

    /// Reads every inventory anew.
    pub(super) fn read_all(&mut self) {
        for (id, _) in self.sources_of_stocks() {
            self.read_again(id);
        }
    }

    /// By name, as the earlier one has the first claim to a name that both bring.
    fn sources_of_stocks(&self) -> Vec<(StockId, InventorySource)> {
        let mut stocks: Vec<_> = self.stocks.by_id.iter().collect();
        stocks.sort_by_key(|(_, stock)| &stock.settings.name);
        stocks.into_iter().map(|(id, stock)| (*id, stock.settings.source.clone())).collect()
    }

    /// Reads an inventory, after the reading under way if there is one.
    pub(super) fn read_again(&mut self, id: StockId) {
        let Some(stock) = self.stocks.by_id.get_mut(&id) else { return };
        if stock.pass.as_ref().is_some_and(|pass| pass.end.is_none()) {
            stock.again = true;
        } else {
            self.stocks.read(id, None);
        }
    }

    /// Takes what happened to an inventory.
    pub(super) fn restock(&mut self, news: News) {
        match news {
            News::Touched(id, Touched::All) => self.read_again(id),
            News::Touched(id, Touched::Names(names)) => self.touched(id, names),
            News::Part(id, pass, part) => {
                if self.is_reading(id, pass) {
                    self.take_in(id, part);
                }
            }
            News::End(id, pass, end) => {
                if self.is_reading(id, pass) {
                    self.ended(id, pass, end);
                    self.stock_reread(id, pass.saturating_sub(1));
                    self.conclude_if_settled(id, pass);
                    self.stock_was_read(id);
                }
            }
            News::Settled(id, pass, same) => {
                if self.is_reading(id, pass) && same {
                    self.conclude(id, true);
                } else if self.is_reading(id, pass) {
                    self.stocks.read(id, None);
                }
            }
        }
        self.perform();
    }

    pub(super) fn is_reading(&self, id: StockId, pass: u64) -> bool {
        let stock = self.stocks.by_id.get(&id);
        stock
            .and_then(|stock| stock.pass.as_ref())
            .is_some_and(|under_way| under_way.number == pass)
    }

    /// Files in a folder may have changed.
    fn touched(&mut self, id: StockId, names: impl IntoIterator<Item = OsString>) {
        let Some(stock) = self.stocks.by_id.get(&id) else { return };
        if !matches!(stock.settings.source, InventorySource::Dir(_)) {
            return self.read_again(id);
        }
        let busy = stock.pass.is_some();
        let (mut known, mut new, mut all) = (Vec::new(), BTreeSet::new(), false);
        for name in names {
            let token = name.to_str().and_then(|name| self.roster.id_of(name));
            let token = token.filter(|token| self.brought_by(*token, id));
            match token {
                Some(token) => known.push(token),
                None if name.as_encoded_bytes().starts_with(ALL_AT_ONCE) => all = true,
                None if is_ignored(&name) => {}
                None => drop(new.insert(name)),
            }
        }
        self.look_at_tokens(known);
        if all || (busy && !new.is_empty()) {
            self.read_again(id);
        } else if !new.is_empty() {
            self.stocks.read(id, Some(new));
        }
    }

    fn brought_by(&self, token: TokenId, stock: StockId) -> bool {
        self.roster.token(token).is_some_and(|kept| kept.stock() == Some(stock))
    }
}

/// An inventory as its table in the configuration is called.
pub(super) fn titled(name: &str) -> String {
    format!("inventory.{name}")
}
