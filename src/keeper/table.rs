//! The state of every token: nearly all in a few bytes each, and those that something goes on
//! with, or is wrong with, as a whole.
//!
//! Never decides anything. A token is opened to be stepped, and closed afterwards; what is
//! known of it is the same before and after, however it is kept.

use super::asides::Asides;
use super::entry::{Entry, Short};
use super::output::TokenSpec;
use super::specs::Specs;
use crate::lifecycle::{Aside, Glance, Slot, Standing, Token};
use crate::time::Moment;

/// Below this the room for whole entries is not given back.
const ROOM_KEPT: usize = 1_024;

#[derive(Debug, Clone, Copy)]
enum Row {
    /// Nobody has this number.
    Free,
    /// At rest.
    Short(Short),
    /// Where its entry stands.
    Whole(u32),
}

/// All tokens, by number.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    /// Of those that are at rest; of others it is outdated.
    asides: Asides,
    free: Vec<u32>,
    /// In no order.
    entries: Vec<Entry>,
    specs: Specs,
    /// The newest of those that came without a value: others of the same time and spec are as
    /// it was, and a million come at once.
    newest: Option<(Moment, Short)>,
}

impl Table {
    /// Makes room for so many more tokens at once.
    pub(super) fn expect(&mut self, more: usize) {
        self.rows.reserve_exact(more);
    }

    /// Adds a token, which stays open.
    pub(super) fn add(&mut self, token: &Token, spec: TokenSpec) -> u32 {
        let (id, spec) = (self.number(), self.specs.take(spec));
        self.enter(Entry::new(id, token, spec));
        id
    }

    /// Adds a token without a value, which is at rest.
    pub(super) fn add_missing(&mut self, now: Moment, spec: TokenSpec) -> u32 {
        let (id, spec) = (self.number(), self.specs.take(spec));
        let alike = self.newest.filter(|(came, short)| *came == now && short.spec() == spec);
        if let Some((_, short)) = alike {
            self.rows[id as usize] = Row::Short(short);
            return id;
        }
        self.enter(Entry::new(id, &Token::without_value(now), spec));
        self.close(id);
        self.newest = match self.row(id) {
            Row::Short(short) => Some((now, short)),
            Row::Free | Row::Whole(_) => None,
        };
        id
    }

    /// A number that nobody has.
    fn number(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            if self.rows.len() == self.rows.capacity() {
                // By an eighth, not by as much again: this is the largest thing there is.
                self.rows.reserve_exact(self.rows.len() / 8 + 16);
            }
            self.rows.push(Row::Free);
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        })
    }

    pub(super) fn remove(&mut self, id: u32) {
        match self.row(id) {
            Row::Free => return,
            Row::Short(short) => self.specs.give_back(short.spec()),
            Row::Whole(index) => {
                let entry = self.leave(index);
                self.specs.give_back(entry.spec);
            }
        }
        self.rows[id as usize] = Row::Free;
        self.asides.set(id, Aside::NOTHING);
        self.free.push(id);
    }

    /// The token as a whole, to be changed, and its spec; it is to be [closed](Self::close).
    pub(super) fn open(&mut self, id: u32) -> Option<(&mut Entry, &TokenSpec)> {
        let index = match self.row(id) {
            Row::Free => return None,
            Row::Short(short) => {
                let entry = short.entry(id, self.asides.get(id));
                self.enter(entry)
            }
            Row::Whole(index) => index as usize,
        };
        let entry = &mut self.entries[index];
        let spec = self.specs.get(entry.spec)?;
        Some((entry, spec))
    }

    /// Puts a token that is at rest back into its row.
    pub(super) fn close(&mut self, id: u32) {
        if let Row::Whole(index) = self.row(id)
            && let Some((short, aside)) = Short::new(&self.entries[index as usize])
        {
            self.leave(index);
            self.rows[id as usize] = Row::Short(short);
            self.asides.set(id, aside);
        }
    }

    /// What `what` makes of a token; `None` for one that is not there.
    pub(super) fn look<R>(&self, id: u32, what: impl FnOnce(&Entry) -> R) -> Option<R> {
        match self.row(id) {
            Row::Free => None,
            Row::Short(short) => Some(what(&short.entry(id, self.asides.get(id)))),
            Row::Whole(index) => Some(what(&self.entries[index as usize])),
        }
    }

    /// Where the value in use is kept.
    pub(super) fn active_slot(&self, id: u32) -> Option<Slot> {
        match self.row(id) {
            Row::Free => None,
            Row::Short(short) => Some(short.token().active_slot()),
            Row::Whole(index) => Some(self.entries[index as usize].token.active_slot()),
        }
    }

    /// Whether a token is there, and has no value.
    pub(super) fn is_missing(&self, id: u32) -> bool {
        match self.row(id) {
            Row::Free => false,
            Row::Short(short) => short.token().is_missing(),
            Row::Whole(index) => self.entries[index as usize].token.standing() == Standing::Missing,
        }
    }

    /// What there is to be seen of a token in passing, and its spec: its row is all that is read
    /// of one at rest.
    pub(super) fn glance(&self, id: u32) -> Option<(Glance, &TokenSpec)> {
        let (glance, spec) = match self.rows.get(id as usize)? {
            Row::Free => return None,
            Row::Short(short) => (short.glance(), short.spec()),
            Row::Whole(index) => {
                let entry = &self.entries[*index as usize];
                (entry.token.glance(), entry.spec)
            }
        };
        Some((glance, self.specs.get(spec)?))
    }

    pub(super) fn spec(&self, id: u32) -> Option<&TokenSpec> {
        match self.row(id) {
            Row::Free => None,
            Row::Short(short) => self.specs.get(short.spec()),
            Row::Whole(index) => self.specs.get(self.entries[index as usize].spec),
        }
    }

    /// Gives an open token another spec.
    pub(super) fn set_spec(&mut self, id: u32, spec: TokenSpec) {
        if let Row::Whole(index) = self.row(id) {
            let number = self.specs.take(spec);
            let earlier = std::mem::replace(&mut self.entries[index as usize].spec, number);
            self.specs.give_back(earlier);
        }
    }

    /// Where in the agenda the token's entry is that counts.
    pub(super) fn listed(&self, id: u32) -> Option<Moment> {
        match self.row(id) {
            Row::Free => None,
            Row::Short(short) => short.listed(),
            Row::Whole(index) => self.entries[index as usize].listed,
        }
    }

    /// The serial of the effect under way; 0 for none.
    pub(super) fn serial(&self, id: u32) -> u64 {
        match self.row(id) {
            Row::Free | Row::Short(_) => 0,
            Row::Whole(index) => self.entries[index as usize].serial,
        }
    }

    /// How many numbers there are, free ones included.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Those of the tokens that are not at rest of which `which` holds, with their specs. What
    /// is being retried or written is among them, whatever else is not.
    pub(super) fn restless(&self, which: impl Fn(&Entry, &TokenSpec) -> bool) -> Vec<u32> {
        let holds =
            |entry: &&Entry| self.specs.get(entry.spec).is_some_and(|spec| which(entry, spec));
        let mut ids: Vec<_> = self.entries.iter().filter(holds).map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Those of all tokens of which `which` holds. A look at each: for what is rare.
    pub(super) fn all(&self, which: impl Fn(&Token, &TokenSpec) -> bool) -> Vec<u32> {
        let ids = (0..self.rows.len()).filter_map(|index| u32::try_from(index).ok());
        let holds = |id: &u32| {
            let spec = self.spec(*id);
            spec.is_some_and(|spec| self.look(*id, |entry| which(&entry.token, spec)) == Some(true))
        };
        ids.filter(holds).collect()
    }

    /// Bytes that it takes up, unused ones included, without the specs.
    pub(super) fn footprint(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.free.capacity() * size_of::<u32>()
            + self.asides.footprint()
    }

    fn row(&self, id: u32) -> Row {
        self.rows.get(id as usize).copied().unwrap_or(Row::Free)
    }

    fn enter(&mut self, entry: Entry) -> usize {
        let index = self.entries.len();
        self.rows[entry.id as usize] = Row::Whole(u32::try_from(index).unwrap_or(u32::MAX));
        self.entries.push(entry);
        index
    }

    /// Takes an entry out; the last one takes its place.
    fn leave(&mut self, index: u32) -> Entry {
        let entry = self.entries.swap_remove(index as usize);
        if let Some(moved) = self.entries.get(index as usize) {
            self.rows[moved.id as usize] = Row::Whole(index);
        }
        if self.entries.capacity() > ROOM_KEPT.max(self.entries.len() * 4) {
            self.entries.shrink_to(ROOM_KEPT.max(self.entries.len() * 2));
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::keeper::{Keeper, Limits, ServerId};
    use crate::lifecycle::{Policy, Renewal, Schedule};

    const NOW: Moment = Moment::from_millis(5_000_000);

    fn server() -> ServerId {
        let (rate_limit, max_in_flight) = (NonZeroU32::MIN, NonZeroU32::MIN);
        Keeper::new(NonZeroU32::MIN, 7).add_server(Limits { rate_limit, max_in_flight })
    }

    fn spec(timeout: u64) -> TokenSpec {
        let policy = Policy {
            schedule: Schedule::default(),
            timeout: Duration::from_secs(timeout),
            renewal: Renewal::Query,
            reauth: None,
            reauth_before: None,
        };
        TokenSpec { server: server(), policy: Arc::new(policy), reauth: None }
    }

    /// A table of so many tokens at rest, with one spec.
    fn table(count: u32) -> Table {
        let mut table = Table::default();
        let spec = spec(10);
        for _ in 0..count {
            let id = table.add(&Token::with_value(NOW), spec.clone());
            table.close(id);
        }
        table
    }

    #[test]
    fn a_token_at_rest_takes_28_bytes() {
        assert_eq!(size_of::<Row>(), 28);
        assert!(table(100).entries.is_empty());
    }

    #[test]
    fn what_is_closed_is_as_it_was_when_it_is_opened() {
        let hour = NOW + Duration::from_secs(3_600);
        let never = (Moment::NEVER, 0);
        for listed in [None, Some(NOW), Some(hour)] {
            for (waiting, waits) in [(None, false), (Some(never), false), (None, true)] {
                let mut table = table(1);
                let (entry, _) = table.open(0).unwrap();
                (entry.listed, entry.waiting, entry.waits_for_reauth) = (listed, waiting, waits);
                table.close(0);
                assert!(table.entries.is_empty(), "{listed:?} {waiting:?} {waits}");
                assert_eq!(table.listed(0), listed);
                let (entry, _) = table.open(0).unwrap();
                assert_eq!((entry.listed, entry.waiting), (listed, waiting));
                assert_eq!((entry.waits_for_reauth, entry.token), (waits, Token::with_value(NOW)));
            }
        }
    }

    #[test]
    fn what_does_not_fit_stays_whole() {
        let far = NOW + Duration::from_secs(86_400 * 13);
        let spoil: [fn(&mut Entry, Moment); 4] = [
            |entry, _| entry.serial = 9,
            |entry, far| entry.listed = Some(far),
            |entry, far| entry.waiting = Some((far, 0)),
            |entry, _| (entry.waiting, entry.waits_for_reauth) = (Some((Moment::NEVER, 0)), true),
        ];
        for spoil in spoil {
            let mut table = table(1);
            spoil(table.open(0).unwrap().0, far);
            table.close(0);
            assert_eq!(table.entries.len(), 1);
        }
    }

    #[test]
    fn others_stay_where_they_are_when_one_is_removed() {
        let mut table = table(5);
        for id in 1..5 {
            table.open(id).unwrap().0.serial = id.into();
        }
        table.remove(2);
        assert_eq!([0, 1, 2, 3, 4].map(|id| table.serial(id)), [0, 1, 0, 3, 4]);
        assert!(table.spec(2).is_none() && table.open(2).is_none());
        assert_eq!(table.add(&Token::with_value(NOW), spec(20)), 2);
    }

    #[test]
    fn a_spec_is_kept_once_and_goes_with_its_last_token() {
        let mut table = table(2);
        let (first, other) = (Arc::clone(&table.spec(0).unwrap().policy), spec(20));
        assert_eq!(Arc::strong_count(&first), 2, "the table's, and this one");
        for id in 0..2 {
            table.open(id);
            table.set_spec(id, other.clone());
            assert_eq!(table.spec(id), Some(&other));
        }
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn room_that_a_crowd_needed_for_a_while_is_given_back() {
        let mut table = table(20_000);
        for id in 0..20_000 {
            table.open(id);
        }
        let peak = table.footprint();
        (0..20_000).for_each(|id| table.close(id));
        assert!(table.footprint() < peak / 4, "{} of {peak}", table.footprint());
    }
}
