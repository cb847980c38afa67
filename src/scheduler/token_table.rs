//! Table of all tokens: most are idle and take a few bytes; those with an action in flight or with
//! an error are active.
//!
//! Makes no decision. A token is activated to apply an event and compacted afterwards, which
//! changes nothing in its state.

use super::extra_table::ExtraTable;
use super::spec_table::SpecTable;
use super::token_slot::{ActiveToken, IdleToken};
use super::types::TokenSpec;
use crate::lifecycle::{CompactExtra, Slot, Token, TokenSummary, Validity};
use crate::time::Moment;

/// Below this capacity, memory for active tokens is not released.
const MIN_CAPACITY: usize = 1_024;

#[derive(Debug, Clone, Copy)]
enum TokenRow {
    /// The id is free.
    Free,
    /// An idle token.
    Idle(IdleToken),
    /// Index of an active token.
    Active(u32),
}

/// All tokens, by id.
#[derive(Debug, Default)]
pub(super) struct TokenTable {
    rows: Vec<TokenRow>,
    /// Rare fields of idle tokens; outdated for active ones.
    extras: ExtraTable,
    free: Vec<u32>,
    /// Active tokens, unordered.
    active: Vec<ActiveToken>,
    specs: SpecTable,
    /// The newest token that was added without a value. Others of the same moment and spec are
    /// copies of it, and a million may come at once.
    newest: Option<(Moment, IdleToken)>,
}

impl TokenTable {
    /// Reserves memory for `more` tokens at once.
    pub(super) fn reserve(&mut self, more: usize) {
        self.rows.reserve_exact(more);
    }

    /// Adds a token, which stays active.
    pub(super) fn add(&mut self, token: &Token, spec: TokenSpec) -> u32 {
        let (id, spec) = (self.number(), self.specs.acquire(spec));
        self.push_active(ActiveToken::new(id, token, spec));
        id
    }

    /// Adds an idle token without a value.
    pub(super) fn add_missing(&mut self, now: Moment, spec: TokenSpec) -> u32 {
        let (id, spec) = (self.number(), self.specs.acquire(spec));
        let alike = self.newest.filter(|(came, idle)| *came == now && idle.spec() == spec);
        if let Some((_, idle)) = alike {
            self.rows[id as usize] = TokenRow::Idle(idle);
            return id;
        }
        self.push_active(ActiveToken::new(id, &Token::without_value(now), spec));
        self.compact(id);
        self.newest = match self.row(id) {
            TokenRow::Idle(idle) => Some((now, idle)),
            TokenRow::Free | TokenRow::Active(_) => None,
        };
        id
    }

    /// A free id.
    fn number(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            if self.rows.len() == self.rows.capacity() {
                // Grows by an eighth instead of doubling: this is the largest allocation.
                self.rows.reserve_exact(self.rows.len() / 8 + 16);
            }
            self.rows.push(TokenRow::Free);
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        })
    }

    pub(super) fn remove(&mut self, id: u32) {
        match self.row(id) {
            TokenRow::Free => return,
            TokenRow::Idle(idle) => self.specs.release(idle.spec()),
            TokenRow::Active(index) => {
                let active = self.remove_active(index);
                self.specs.release(active.spec);
            }
        }
        self.rows[id as usize] = TokenRow::Free;
        self.extras.set(id, CompactExtra::NOTHING);
        self.free.push(id);
    }

    /// The token with all fields, to be changed, and its spec. The caller must
    /// [compact](Self::compact) it afterwards.
    pub(super) fn activate(&mut self, id: u32) -> Option<(&mut ActiveToken, &TokenSpec)> {
        let index = match self.row(id) {
            TokenRow::Free => return None,
            TokenRow::Idle(idle) => {
                let active = idle.expand(id, self.extras.get(id));
                self.push_active(active)
            }
            TokenRow::Active(index) => index as usize,
        };
        let active = &mut self.active[index];
        let spec = self.specs.get(active.spec)?;
        Some((active, spec))
    }

    /// Compacts a token if it is idle.
    pub(super) fn compact(&mut self, id: u32) {
        if let TokenRow::Active(index) = self.row(id)
            && let Some((idle, extra)) = IdleToken::new(&self.active[index as usize])
        {
            self.remove_active(index);
            self.rows[id as usize] = TokenRow::Idle(idle);
            self.extras.set(id, extra);
        }
    }

    /// Applies `what` to a token; `None` if it does not exist.
    pub(super) fn inspect<R>(&self, id: u32, what: impl FnOnce(&ActiveToken) -> R) -> Option<R> {
        match self.row(id) {
            TokenRow::Free => None,
            TokenRow::Idle(idle) => Some(what(&idle.expand(id, self.extras.get(id)))),
            TokenRow::Active(index) => Some(what(&self.active[index as usize])),
        }
    }

    /// The slot of the current value.
    pub(super) fn active_slot(&self, id: u32) -> Option<Slot> {
        match self.row(id) {
            TokenRow::Free => None,
            TokenRow::Idle(idle) => Some(idle.token().active_slot()),
            TokenRow::Active(index) => Some(self.active[index as usize].token.active_slot()),
        }
    }

    /// Whether the token exists and has no value.
    pub(super) fn is_missing(&self, id: u32) -> bool {
        match self.row(id) {
            TokenRow::Free => false,
            TokenRow::Idle(idle) => idle.token().is_missing(),
            TokenRow::Active(index) => {
                self.active[index as usize].token.validity() == Validity::Missing
            }
        }
    }

    /// Whether this replica asks about the token.
    pub(super) fn is_asked(&self, id: u32) -> bool {
        match self.row(id) {
            TokenRow::Free => true,
            TokenRow::Idle(idle) => !idle.token().is_elsewhere(),
            TokenRow::Active(index) => self.active[index as usize].token.is_asked(),
        }
    }

    /// Summary and spec of a token. For an idle token, only its row is read.
    #[inline]
    pub(super) fn summary(&self, id: u32) -> Option<(TokenSummary, &TokenSpec)> {
        let (summary, spec) = match self.rows.get(id as usize)? {
            TokenRow::Free => return None,
            TokenRow::Idle(idle) => (idle.summary(), idle.spec()),
            TokenRow::Active(index) => {
                let active = &self.active[*index as usize];
                (active.token.summary(), active.spec)
            }
        };
        Some((summary, self.specs.get(spec)?))
    }

    pub(super) fn spec(&self, id: u32) -> Option<&TokenSpec> {
        match self.row(id) {
            TokenRow::Free => None,
            TokenRow::Idle(idle) => self.specs.get(idle.spec()),
            TokenRow::Active(index) => self.specs.get(self.active[index as usize].spec),
        }
    }

    /// Changes the spec of an active token.
    pub(super) fn set_spec(&mut self, id: u32, spec: TokenSpec) {
        if let TokenRow::Active(index) = self.row(id) {
            let number = self.specs.acquire(spec);
            let earlier = std::mem::replace(&mut self.active[index as usize].spec, number);
            self.specs.release(earlier);
        }
    }

    /// When the token's timer fires.
    pub(super) fn scheduled(&self, id: u32) -> Option<Moment> {
        match self.row(id) {
            TokenRow::Free => None,
            TokenRow::Idle(idle) => idle.scheduled(),
            TokenRow::Active(index) => self.active[index as usize].scheduled,
        }
    }

    /// Serial number of the action in flight; 0 for none.
    pub(super) fn serial(&self, id: u32) -> u64 {
        match self.row(id) {
            TokenRow::Free | TokenRow::Idle(_) => 0,
            TokenRow::Active(index) => self.active[index as usize].serial,
        }
    }

    /// Number of ids, free ones included.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Active tokens that match. Tokens with a retry or a write pending are always active.
    pub(super) fn active_where(
        &self,
        which: impl Fn(&ActiveToken, &TokenSpec) -> bool,
    ) -> Vec<u32> {
        let matches = |active: &&ActiveToken| {
            self.specs.get(active.spec).is_some_and(|spec| which(active, spec))
        };
        let mut ids: Vec<_> = self.active.iter().filter(matches).map(|active| active.id).collect();
        ids.sort_unstable();
        ids
    }

    /// All tokens that match. Reads every token: for rare events only.
    pub(super) fn ids_where(&self, which: impl Fn(&Token, &TokenSpec) -> bool) -> Vec<u32> {
        let ids = (0..self.rows.len()).filter_map(|index| u32::try_from(index).ok());
        let matches = |id: &u32| {
            let spec = self.spec(*id);
            spec.is_some_and(|spec| {
                self.inspect(*id, |active| which(&active.token, spec)) == Some(true)
            })
        };
        ids.filter(matches).collect()
    }

    /// Allocated bytes, without the specs.
    pub(super) fn footprint(&self) -> usize {
        self.rows.capacity() * size_of::<TokenRow>()
            + self.active.capacity() * size_of::<ActiveToken>()
            + self.free.capacity() * size_of::<u32>()
            + self.extras.footprint()
    }

    fn row(&self, id: u32) -> TokenRow {
        self.rows.get(id as usize).copied().unwrap_or(TokenRow::Free)
    }

    fn push_active(&mut self, active: ActiveToken) -> usize {
        let index = self.active.len();
        self.rows[active.id as usize] = TokenRow::Active(u32::try_from(index).unwrap_or(u32::MAX));
        self.active.push(active);
        index
    }

    /// Removes an active token; the last one takes its index.
    fn remove_active(&mut self, index: u32) -> ActiveToken {
        let active = self.active.swap_remove(index as usize);
        if let Some(moved) = self.active.get(index as usize) {
            self.rows[moved.id as usize] = TokenRow::Active(index);
        }
        if self.active.capacity() > MIN_CAPACITY.max(self.active.len() * 4) {
            self.active.shrink_to(MIN_CAPACITY.max(self.active.len() * 2));
        }
        active
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::{Policy, Renewal, Schedule};
    use crate::scheduler::{Scheduler, ServerId, ServerLimits};

    const NOW: Moment = Moment::from_millis(5_000_000);

    fn server() -> ServerId {
        let (rate_limit, max_in_flight) = (NonZeroU32::MIN, NonZeroU32::MIN);
        Scheduler::new(NonZeroU32::MIN, 7).add_server(ServerLimits { rate_limit, max_in_flight })
    }

    fn spec(timeout: u64) -> TokenSpec {
        let policy = Policy {
            schedule: Schedule::default(),
            timeout: Duration::from_secs(timeout),
            renewal: Renewal::Query,
            reauth: None,
            reauth_before: None,
            assumed: false,
            rotates: false,
        };
        TokenSpec { server: server(), policy: Arc::new(policy), reauth: None }
    }

    /// A table of `count` idle tokens with one spec.
    fn table(count: u32) -> TokenTable {
        let mut table = TokenTable::default();
        let spec = spec(10);
        for _ in 0..count {
            let id = table.add(&Token::with_value(NOW), spec.clone());
            table.compact(id);
        }
        table
    }

    #[test]
    fn a_token_at_rest_takes_28_bytes() {
        assert_eq!(size_of::<TokenRow>(), 28);
        assert!(table(100).active.is_empty());
    }

    #[test]
    fn compacted_token_expands_to_the_same_state() {
        let hour = NOW + Duration::from_secs(3_600);
        let never = (Moment::NEVER, 0);
        for scheduled in [None, Some(NOW), Some(hour)] {
            for (waiting, waits) in [(None, false), (Some(never), false), (None, true)] {
                let mut table = table(1);
                let (active, _) = table.activate(0).unwrap();
                (active.scheduled, active.waiting, active.waits_for_reauth) =
                    (scheduled, waiting, waits);
                table.compact(0);
                assert!(table.active.is_empty(), "{scheduled:?} {waiting:?} {waits}");
                assert_eq!(table.scheduled(0), scheduled);
                let (active, _) = table.activate(0).unwrap();
                assert_eq!((active.scheduled, active.waiting), (scheduled, waiting));
                assert_eq!(
                    (active.waits_for_reauth, active.token),
                    (waits, Token::with_value(NOW))
                );
            }
        }
    }

    #[test]
    fn token_that_does_not_fit_stays_active() {
        let far = NOW + Duration::from_secs(86_400 * 13);
        let spoil: [fn(&mut ActiveToken, Moment); 4] = [
            |active, _| active.serial = 9,
            |active, far| active.scheduled = Some(far),
            |active, far| active.waiting = Some((far, 0)),
            |active, _| {
                (active.waiting, active.waits_for_reauth) = (Some((Moment::NEVER, 0)), true);
            },
        ];
        for spoil in spoil {
            let mut table = table(1);
            spoil(table.activate(0).unwrap().0, far);
            table.compact(0);
            assert_eq!(table.active.len(), 1);
        }
    }

    #[test]
    fn removing_a_token_keeps_the_others() {
        let mut table = table(5);
        for id in 1..5 {
            table.activate(id).unwrap().0.serial = id.into();
        }
        table.remove(2);
        assert_eq!([0, 1, 2, 3, 4].map(|id| table.serial(id)), [0, 1, 0, 3, 4]);
        assert!(table.spec(2).is_none() && table.activate(2).is_none());
        assert_eq!(table.add(&Token::with_value(NOW), spec(20)), 2);
    }

    #[test]
    fn spec_is_stored_once_and_dropped_with_its_last_token() {
        let mut table = table(2);
        let (first, other) = (Arc::clone(&table.spec(0).unwrap().policy), spec(20));
        assert_eq!(Arc::strong_count(&first), 2, "the table's, and this one");
        for id in 0..2 {
            table.activate(id);
            table.set_spec(id, other.clone());
            assert_eq!(table.spec(id), Some(&other));
        }
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn memory_of_many_active_tokens_is_released() {
        let mut table = table(20_000);
        for id in 0..20_000 {
            table.activate(id);
        }
        let peak = table.footprint();
        (0..20_000).for_each(|id| table.compact(id));
        assert!(table.footprint() < peak / 4, "{} of {peak}", table.footprint());
    }
}
