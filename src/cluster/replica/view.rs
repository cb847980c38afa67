//! Who asks about which token: rendezvous hashing of 1,024 slots over the living replicas.
//!
//! A replica that gains a slot asks at once; a replica that loses one continues for one `failover`.
//! Where the digest of a slot differs from its owner's, the two list different tokens, and this
//! replica asks about all that it lists. If the owner does not reach a token's server, the next
//! replica that does so asks as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::reach::Reach;
use super::token_key::{SLOTS, TokenHash, TokenKey, hash_with};
use super::types::Member;
use crate::time::Moment;

/// The slots as one replica sees them.
#[derive(Debug)]
pub(super) struct View {
    me: Arc<str>,
    failover: Duration,
    /// Digest of the tokens that this replica lists, for each slot.
    digests: Box<[u32; SLOTS]>,
    /// Number of the tokens that this replica lists, for each slot.
    counts: Box<[u32; SLOTS]>,
    /// The living replicas by name, this one included. Empty: there is no view, and this replica
    /// asks about everything.
    members: BTreeMap<Arc<str>, Option<Arc<Member>>>,
    slots: Vec<Slot>,
    /// When the next lost slot is left.
    leave_at: Option<Moment>,
    reach: Reach,
}

/// One slot.
#[derive(Debug, Clone, Default)]
struct Slot {
    owner: Option<Arc<str>>,
    /// This replica has lost the slot, and asks until then.
    keep_until: Option<Moment>,
    asked: bool,
}

impl View {
    /// No view: this replica asks about everything.
    pub(super) fn new(me: Arc<str>, failover: Duration) -> Self {
        Self {
            me,
            failover,
            digests: Box::new([0; SLOTS]),
            counts: Box::new([0; SLOTS]),
            members: BTreeMap::new(),
            slots: vec![Slot::default(); SLOTS],
            leave_at: None,
            reach: Reach::new(failover),
        }
    }

    /// Adds a token. Returns whether other slots are asked now.
    pub(super) fn list(&mut self, token: TokenHash, now: Moment) -> bool {
        self.counts[token.slot()] += 1;
        self.toggle(token, now)
    }

    /// Removes a token that was added. Returns whether other slots are asked now.
    pub(super) fn unlist(&mut self, token: TokenHash, now: Moment) -> bool {
        let count = &mut self.counts[token.slot()];
        *count = count.saturating_sub(1);
        self.toggle(token, now)
    }

    /// Adds a token to the digests, or removes it: the two are the same. Returns whether other slots
    /// are asked now.
    fn toggle(&mut self, token: TokenHash, now: Moment) -> bool {
        let slot = token.slot();
        self.digests[slot] ^= token.digest();
        if self.members.is_empty() {
            return false;
        }
        self.update(slot, now)
    }

    /// The digests of this replica.
    pub(super) fn digests(&self) -> &[u32; SLOTS] {
        &self.digests
    }

    /// The servers that this replica names as not reached, sorted.
    pub(super) fn unreachable(&self) -> &[Arc<str>] {
        self.reach.named()
    }

    /// Takes all servers of this replica, and whether each is reached.
    pub(super) fn set_servers(&mut self, servers: Vec<(Arc<str>, bool)>, now: Moment) {
        self.reach.set_own(servers, now);
    }

    /// Whether this replica names the server as not reached.
    pub(super) fn names(&self, server: &str) -> bool {
        self.reach.names(server)
    }

    /// Takes the living replicas from `members`; this one is always among them. Returns whether
    /// other slots are asked now.
    pub(super) fn set_members(
        &mut self,
        members: &BTreeMap<Arc<str>, (u64, Option<Arc<Member>>)>,
        now: Moment,
    ) -> bool {
        let first = self.members.is_empty();
        let before = std::mem::take(&mut self.members);
        for (name, (_, member)) in members {
            // What another version writes may be unreadable: its tokens are then asked twice.
            if let Some(member) = member {
                self.members.insert(name.clone(), Some(member.clone()));
            }
        }
        self.members.entry(self.me.clone()).or_default();
        if !self.members.keys().eq(before.keys()) {
            self.assign();
        }
        let reach_changed = self.reach.set_others(&self.me, members, now);
        self.leave_at = Some(now);
        self.refresh(now) || first || reach_changed
    }

    /// Drops the view. Returns whether there was one.
    pub(super) fn clear(&mut self) -> bool {
        self.slots.fill(Slot::default());
        self.leave_at = None;
        !std::mem::take(&mut self.members).is_empty()
    }

    /// Leaves the slots whose time has come. Returns whether other slots are asked now.
    pub(super) fn refresh(&mut self, now: Moment) -> bool {
        let was_limited = self.reach.is_limited();
        let mut changed = self.reach.refresh(now) && (was_limited || self.reach.is_limited());
        if self.leave_at.is_none_or(|at| at > now) {
            return changed;
        }
        self.leave_at = None;
        for index in 0..SLOTS {
            changed |= self.update(index, now);
        }
        changed
    }

    /// Computes whether a slot is asked. One that this replica does not have to ask any more, because
    /// another one has it or lists the same tokens now, is left after one `failover`. Returns whether
    /// that has changed.
    fn update(&mut self, index: usize, now: Moment) -> bool {
        let is_over = self.slots[index].keep_until.take_if(|until| *until <= now).is_some();
        let mut asked = self.computed(index);
        let slot = &mut self.slots[index];
        if slot.asked && !asked && !is_over {
            slot.keep_until = Some(now + self.failover);
            asked = true;
        }
        self.leave_at = [self.leave_at, slot.keep_until].into_iter().flatten().min();
        std::mem::replace(&mut slot.asked, asked) != asked
    }

    /// Whether this replica asks about the token.
    pub(super) fn asks(&self, token: &TokenKey) -> bool {
        let slot = token.hash().slot();
        self.members.is_empty() || self.slots[slot].asked || self.helps(token, slot)
    }

    /// Whether this replica checks the token because its owner does not reach the server. A helper with
    /// other tokens in this slot may not have this one.
    fn helps(&self, token: &TokenKey, slot: usize) -> bool {
        let server = token.server();
        self.helper(server, slot).is_some_and(|helper| {
            *helper == self.me || !self.lists_the_same(helper, slot) && self.reach.can_help(server)
        })
    }

    /// The replica that checks tokens of a server and a slot whose owner does not reach the server.
    fn helper(&self, server: &str, slot: usize) -> Option<&Arc<str>> {
        let owner = self.slots[slot].owner.as_ref().filter(|_| self.reach.is_limited())?;
        let is_mine = *owner == self.me;
        let is_reached =
            if is_mine { !self.names(server) } else { !self.reach.is_named_by(owner, server) };
        if is_reached {
            return None;
        }
        let can_help = |name: &Arc<str>| {
            if *name == self.me {
                self.reach.can_help(server)
            } else {
                self.reach.other_can_help(name, server)
            }
        };
        self.members.keys().filter(|name| can_help(name)).max_by_key(|name| weight(slot, name))
    }

    /// Whether all living replicas can ask about the same tokens of this slot.
    pub(super) fn agrees(&self, slot: usize) -> bool {
        let others = self.members.iter().filter(|(name, _)| **name != self.me);
        others
            .map(|(_, member)| member.as_ref().map(|member| member.digests[slot]))
            .all(|digest| digest == Some(self.digests[slot]))
    }

    /// Whether there is a view.
    pub(super) fn exists(&self) -> bool {
        !self.members.is_empty()
    }

    /// The replica that asks about the token by computation.
    pub(super) fn asker(&self, token: &TokenKey) -> Option<&Arc<str>> {
        let slot = token.hash().slot();
        self.helper(token.server(), slot).or(self.slots[slot].owner.as_ref())
    }

    /// The living replicas, sorted by name.
    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.members.keys()
    }

    /// How many of the tokens that this replica lists each living replica asks about by computation,
    /// by name. Without a view, this replica asks about all.
    pub(super) fn shares(&self) -> Vec<(Arc<str>, usize)> {
        let mut shares: BTreeMap<_, _> = self.members.keys().map(|name| (name, 0)).collect();
        for (slot, count) in self.slots.iter().zip(&*self.counts) {
            *shares.entry(slot.owner.as_ref().unwrap_or(&self.me)).or_default() += *count as usize;
        }
        shares.into_iter().map(|(name, count)| (name.clone(), count)).collect()
    }

    /// When [`View::refresh`] has something to do.
    pub(super) fn next_wake(&self) -> Option<Moment> {
        [self.leave_at, self.reach.next_wake()].into_iter().flatten().min()
    }

    /// Gives each slot to the replica with the highest hash of slot and name.
    fn assign(&mut self) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let owner = self.members.keys().max_by_key(|name| weight(index, name)).cloned();
            if owner.as_ref() == Some(&self.me) {
                slot.keep_until = None;
            }
            slot.owner = owner;
        }
    }

    /// Whether the slot is asked.
    fn computed(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        let Some(owner) = slot.owner.as_ref().filter(|owner| **owner != self.me) else {
            return true;
        };
        slot.keep_until.is_some() || !self.lists_the_same(owner, index)
    }

    /// Whether another replica lists the same tokens of a slot.
    fn lists_the_same(&self, name: &str, slot: usize) -> bool {
        let member = self.members.get(name).and_then(Option::as_ref);
        member.is_some_and(|member| member.digests[slot] == self.digests[slot])
    }
}

/// The weight of a replica for a slot; the name decides between equal ones, as all keys are sorted.
fn weight(slot: usize, name: &str) -> u64 {
    hash_with(slot as u64, name.as_bytes())
}
