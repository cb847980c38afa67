//! The inventories of a configuration: put into force, read at the start and again, watched.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::daemon::Daemon;
use crate::daemon::config::apply::ConfigDiff;
use crate::daemon::inventories::{InventoryEvent, InventoryState, WAITING_PARTS, read_in_parts};
use crate::daemon::tokens::{InventoryId, TokenConfig, TokenOrigin};
use crate::inventory::{Bundle, is_passed_by};
use crate::keeper::{TokenId, TokenSpec};
use crate::lifecycle::Policy;
use crate::settings::{Inventory, InventorySource};
use crate::token_file::Touched;

/// What Kubernetes calls the link that it turns to replace all files of a folder at once.
const ALL_AT_ONCE: &[u8] = b"..";

/// Tokens of an inventory that a reload has changed or removed.
#[derive(Debug)]
pub(crate) struct Following {
    stock: InventoryId,
    tokens: Vec<TokenId>,
    /// Their terms from now on; `None` if they are removed.
    terms: Option<(Arc<TokenConfig>, TokenSpec)>,
}

impl Daemon {
    /// Puts the inventories of a configuration into force; they are to be read afterwards.
    /// Returns the tokens that are to follow them.
    pub(crate) fn put_inventories(
        &mut self,
        inventories: &[Inventory],
        policies: &mut Vec<Arc<Policy>>,
        changes: &mut ConfigDiff,
    ) -> Vec<Following> {
        let mut following = Vec::new();
        let listed =
            |stock: &InventoryState| inventories.iter().any(|one| one.name == stock.settings.name);
        let stocks = self.stocks.by_id.iter();
        let gone: Vec<InventoryId> =
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
    pub(crate) fn follow(&mut self, following: &mut Vec<Following>) -> bool {
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
        changes: &mut ConfigDiff,
    ) -> Option<Following> {
        let id = self.stocks.id_of(&inventory.name);
        let origin = match &inventory.source {
            InventorySource::Dir(path) => TokenOrigin::File(id, path.clone()),
            InventorySource::File { .. } | InventorySource::Command { .. } => TokenOrigin::Line(id),
        };
        let (terms, spec) = self.terms(&inventory.upkeep, origin, policies)?;
        let Some(stock) = self.stocks.by_id.get_mut(&id) else {
            let stock = InventoryState::new(inventory.clone(), Arc::new(terms), spec);
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
    pub(crate) fn read_first(&mut self) {
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
                        match sender.send(InventoryEvent::Part(id, pass, part)) {
                            Ok(()) => ControlFlow::Continue(()),
                            Err(_) => ControlFlow::Break(()),
                        }
                    });
                    // The other side listens until this one is gone.
                    let _ = sender.send(InventoryEvent::End(id, pass, end));
                }
            });
            for news in receiver {
                match news {
                    InventoryEvent::Part(id, _, part) => {
                        self.make_room(id, &part);
                        self.take_in(id, part);
                    }
                    InventoryEvent::End(id, pass, end) => {
                        self.ended(id, pass, end);
                        self.conclude(id, true);
                    }
                    InventoryEvent::Touched(..) | InventoryEvent::Settled(..) => {}
                }
            }
        });
    }

    /// Of a part that is the first of many: makes room for all of them at once.
    fn make_room(&mut self, id: InventoryId, part: &Bundle) {
        if let Some(stock) = self.stocks.by_id.get(&id)
            && stock.tokens == 0
            && let InventorySource::File { path, .. } = &stock.settings.source
            && let Ok(file) = fs::metadata(path)
        {
            let more = part.estimate(file.len());
            self.tokens.registry.expect(more);
            self.tokens.scheduler.expect_tokens(usize::try_from(more).unwrap_or(0));
        }
    }

    fn take_in(&mut self, id: InventoryId, part: Bundle) {
        let mut known = self.tokens.registry.ids_of(part.names()).into_iter();
        let _ = part.hand_over(&mut |listed| {
            // One that has come since then has come with this very part: it stands there twice.
            let token = known.next().flatten().or_else(|| self.tokens.registry.id_of(listed.name));
            self.listed(id, listed, token);
            ControlFlow::Continue(())
        });
    }

    /// Reads every inventory anew.
    pub(crate) fn read_all(&mut self) {
        for (id, _) in self.sources_of_stocks() {
            self.read_again(id);
        }
    }

    /// By name, as the earlier one has the first claim to a name that both bring.
    fn sources_of_stocks(&self) -> Vec<(InventoryId, InventorySource)> {
        let mut stocks: Vec<_> = self.stocks.by_id.iter().collect();
        stocks.sort_by_key(|(_, stock)| &stock.settings.name);
        stocks.into_iter().map(|(id, stock)| (*id, stock.settings.source.clone())).collect()
    }

    /// Reads an inventory, after the reading under way if there is one.
    pub(crate) fn read_again(&mut self, id: InventoryId) {
        let Some(stock) = self.stocks.by_id.get_mut(&id) else { return };
        if stock.pass.as_ref().is_some_and(|pass| pass.end.is_none()) {
            stock.again = true;
        } else {
            self.stocks.read(id, None);
        }
    }

    /// Takes what happened to an inventory.
    pub(crate) fn restock(&mut self, news: InventoryEvent) {
        match news {
            InventoryEvent::Touched(id, Touched::All) => self.read_again(id),
            InventoryEvent::Touched(id, Touched::Names(names)) => self.touched(id, names),
            InventoryEvent::Part(id, pass, part) => {
                if self.is_reading(id, pass) {
                    self.take_in(id, part);
                }
            }
            InventoryEvent::End(id, pass, end) => {
                if self.is_reading(id, pass) {
                    self.ended(id, pass, end);
                    self.stock_reread(id, pass.saturating_sub(1));
                    self.conclude_if_settled(id, pass);
                    self.stock_was_read(id);
                }
            }
            InventoryEvent::Settled(id, pass, same) => {
                if self.is_reading(id, pass) && same {
                    self.conclude(id, true);
                } else if self.is_reading(id, pass) {
                    self.stocks.read(id, None);
                }
            }
        }
        self.perform();
    }

    pub(crate) fn is_reading(&self, id: InventoryId, pass: u64) -> bool {
        let stock = self.stocks.by_id.get(&id);
        stock
            .and_then(|stock| stock.pass.as_ref())
            .is_some_and(|under_way| under_way.number == pass)
    }

    /// Files in a folder may have changed.
    fn touched(&mut self, id: InventoryId, names: impl IntoIterator<Item = OsString>) {
        let Some(stock) = self.stocks.by_id.get(&id) else { return };
        if !matches!(stock.settings.source, InventorySource::Dir(_)) {
            return self.read_again(id);
        }
        let busy = stock.pass.is_some();
        let (mut known, mut new, mut all) = (Vec::new(), BTreeSet::new(), false);
        for name in names {
            let token = name.to_str().and_then(|name| self.tokens.registry.id_of(name));
            let token = token.filter(|token| self.brought_by(*token, id));
            match token {
                Some(token) => known.push(token),
                None if name.as_encoded_bytes().starts_with(ALL_AT_ONCE) => all = true,
                None if is_passed_by(&name) => {}
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

    fn brought_by(&self, token: TokenId, stock: InventoryId) -> bool {
        self.tokens.registry.token(token).is_some_and(|kept| kept.stock() == Some(stock))
    }
}

/// An inventory as its table in the configuration is called.
pub(crate) fn titled(name: &str) -> String {
    format!("inventory.{name}")
}
