//! Invariants 9 and 17: an outage is told of once, probed all the time, and its end is felt by
//! every token within seconds.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::{Invariant, Violation};
use crate::chance::{Ms, SECOND};

/// Within this everything due is asked about after a recovery, as far as the limits allow.
const PROMPT: Ms = 10 * SECOND;

/// While a server is down and something is due, it is probed at least this often.
const LONGEST_GAP: Ms = 5 * SECOND;

/// At most so many probes start in a second.
const MOST_PROBES: usize = 5;

/// So many tokens tell an outage from trouble of their own.
const MANY: usize = 20;

/// How often a server may be said to be down again while many of its tokens fail, until it is
/// known which of them these are.
const MOST_REPEATED: u32 = 5;

/// Tokens that must have failed for a server to be down.
const FAILURES_TO_OPEN: usize = 3;

/// Those that waited when a server recovered.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) since: Ms,
    deadline: Ms,
    waiting: BTreeSet<usize>,
    /// Requests that have started since.
    started: u64,
    /// All places in flight were taken.
    was_full: bool,
}

/// The books of one server.
#[derive(Debug, Default)]
struct Account {
    /// Tokens whose last request failed.
    failing: BTreeSet<usize>,
    /// Those of them whose request was sent since the last response that said something, and
    /// how many were.
    failed: BTreeMap<usize, u32>,
    last_response: Ms,
    /// Tokens that failed before a response to another, and those that did so again after it:
    /// they have trouble of their own.
    suspects: BTreeSet<usize>,
    own_trouble: BTreeSet<usize>,
    failed_in_outage: HashSet<usize>,
    down: bool,
    opened_at: Option<Ms>,
    /// How often it was said to be down again although nothing had happened to it.
    repeated: u32,
    disturbed_until: Ms,
    probes: VecDeque<Ms>,
    /// When the last probe ended, or the daemon last came to itself.
    last_probe: Ms,
    next_look: Ms,
    /// When a token's last login ended.
    logins: BTreeMap<usize, Ms>,
    recovery: Option<Recovery>,
}

/// The books of outages.
#[derive(Debug)]
pub(crate) struct Outages {
    servers: Vec<Account>,
    now: Ms,
}

impl Outages {
    pub(super) fn new(servers: usize) -> Self {
        Self { servers: (0..servers).map(|_| Account::default()).collect(), now: 0 }
    }

    pub(super) fn reset(&mut self, server: usize) {
        self.servers[server] = Account::default();
    }

    pub(crate) fn at(&mut self, now: Ms) {
        self.now = now;
    }

    /// Something has happened that may well be followed by an outage.
    pub(crate) fn disturbed(&mut self, server: usize) {
        self.disturbed_until(server, self.now);
    }

    pub(crate) fn disturbed_until(&mut self, server: usize, until: Ms) {
        let account = &mut self.servers[server];
        account.disturbed_until = account.disturbed_until.max(until);
        account.recovery = None;
    }

    /// Nothing was probed until then, for good reason.
    pub(crate) fn excused_until(&mut self, server: usize, until: Ms) {
        let account = &mut self.servers[server];
        account.last_probe = account.last_probe.max(until);
    }

    /// A request has ended, and `made` contact or none.
    pub(crate) fn contact(
        &mut self,
        (since, now): (Ms, Ms),
        server: usize,
        subject: usize,
        made: bool,
    ) {
        let account = &mut self.servers[server];
        account.last_probe = account.last_probe.max(now);
        if made {
            account.failing.remove(&subject);
            account.suspects.extend(&account.failing);
            account.suspects.remove(&subject);
            account.own_trouble.remove(&subject);
            account.failed.clear();
            account.last_response = now;
            return;
        }
        account.failing.insert(subject);
        if since > account.last_response {
            *account.failed.entry(subject).or_default() += 1;
        }
        // In one millisecond it cannot be told what came first.
        if since >= account.last_response && !account.down && account.suspects.contains(&subject) {
            account.own_trouble.insert(subject);
        }
        if account.down {
            account.failed_in_outage.insert(subject);
        }
    }

    /// A token was busy with a login until now, and could not be the probe.
    pub(crate) fn login_ended(&mut self, now: Ms, server: usize, subject: usize) {
        self.servers[server].logins.insert(subject, now);
    }

    /// Whether a token could have been the probe for longer than a server may go without one.
    pub(crate) fn has_waited(&self, server: usize, subject: usize, slack: Ms) -> bool {
        let since = self.servers[server].logins.get(&subject).copied().unwrap_or(0);
        self.now > since + LONGEST_GAP + slack
    }

    /// How many tokens have failed since the last response that said something.
    pub(crate) fn failed(&self, server: usize) -> usize {
        self.servers[server].failed.len()
    }

    /// Whether a token has failed three times since then, and had no trouble of its own before: what
    /// has, says nothing of its server.
    pub(crate) fn fails_for_certain(&self, server: usize, subject: usize) -> bool {
        let account = &self.servers[server];
        let fails = account.failed.get(&subject).is_some_and(|times| *times > 2);
        fails && !account.suspects.contains(&subject)
    }

    /// The same, or its last request failed before the outage was known.
    pub(crate) fn may_have_failed(&self, server: usize, subject: usize) -> bool {
        let account = &self.servers[server];
        self.has_failed(server, subject) || account.failing.contains(&subject)
    }

    pub(crate) fn has_failed(&self, server: usize, subject: usize) -> bool {
        self.servers[server].failed_in_outage.contains(&subject)
    }

    /// A token that is not configured any more, or another server's.
    pub(super) fn forget(&mut self, server: usize, subject: usize) {
        let account = &mut self.servers[server];
        account.logins.remove(&subject);
        account.failing.remove(&subject);
        account.failed.remove(&subject);
        account.failed_in_outage.remove(&subject);
        account.suspects.remove(&subject);
        account.own_trouble.remove(&subject);
        if let Some(recovery) = &mut account.recovery {
            recovery.waiting.remove(&subject);
        }
    }

    /// Whether it is a token's own requests that fail, as far as can be known.
    pub(crate) fn has_own_trouble(&self, server: usize, subject: usize) -> bool {
        self.servers[server].own_trouble.contains(&subject)
    }

    pub(crate) fn is_down(&self, server: usize) -> bool {
        self.servers[server].down
    }

    /// A server is said to be down; so many tokens of it are being asked about, and the weather
    /// was `fair` since it was said last.
    pub(crate) fn opened(
        &mut self,
        now: Ms,
        server: usize,
        asked: usize,
        fair: impl FnOnce(Ms) -> bool,
    ) -> Result<(), Violation> {
        let account = &mut self.servers[server];
        let broken =
            |what: String| Err(Violation { invariant: Invariant::OutagesAreReal, at: now, what });
        let failed = account.failing.len();
        if failed < FAILURES_TO_OPEN.min(asked.max(1)) {
            return broken(format!(
                "server {server} is said to be unavailable, and {failed} tokens fail of \
                 {asked} that are being asked"
            ));
        }
        // Where few are asked about, few failures are an outage already, and those of logins of
        // dead tokens count among them.
        if asked >= MANY
            && let Some(before) = account.opened_at
            && account.disturbed_until < before
            && fair(before)
        {
            account.repeated += 1;
        } else {
            account.repeated = 0;
        }
        if account.repeated > MOST_REPEATED {
            let before = account.opened_at.unwrap_or(now);
            return broken(format!(
                "server {server} is said to be unavailable again and again since {before} ms, and \
                 nothing has happened to it between"
            ));
        }
        account.down = true;
        account.opened_at = Some(now);
        account.failed_in_outage = account.failed.keys().copied().collect();
        account.probes.clear();
        account.last_probe = now;
        account.recovery = None;
        Ok(())
    }

    /// A server is said to answer again, and these tokens wait for it.
    pub(crate) fn closed(
        &mut self,
        now: Ms,
        server: usize,
        waiting: BTreeSet<usize>,
        service_time: Ms,
    ) {
        let account = &mut self.servers[server];
        account.down = false;
        account.failed_in_outage.clear();
        let deadline = now + PROMPT + service_time;
        account.recovery = (!waiting.is_empty()).then_some(Recovery {
            since: now,
            deadline,
            waiting,
            started: 0,
            was_full: false,
        });
    }

    /// A request starts at a server, or a login for one of its tokens.
    pub(crate) fn started(
        &mut self,
        now: Ms,
        server: usize,
        subject: usize,
        at_server: bool,
    ) -> Result<(), Violation> {
        let account = &mut self.servers[server];
        if let Some(recovery) = &mut account.recovery {
            recovery.waiting.remove(&subject);
            recovery.started += u64::from(at_server);
        }
        if !account.down || !at_server {
            return Ok(());
        }
        account.last_probe = account.last_probe.max(now);
        account.probes.push_back(now);
        while account.probes.front().is_some_and(|first| first + SECOND <= now) {
            account.probes.pop_front();
        }
        let probes = account.probes.len();
        if probes > MOST_PROBES {
            let what = format!("server {server} is down, and probed {probes} times in a second");
            return Err(Violation { invariant: Invariant::OutagesAreReal, at: now, what });
        }
        Ok(())
    }

    /// A server is down, and has not been probed for so long that something due should have
    /// been; told at most twice a second.
    pub(crate) fn is_probed_too_seldom(&mut self, now: Ms, server: usize, slack: Ms) -> bool {
        let account = &mut self.servers[server];
        let seldom = account.down
            && now > account.last_probe + LONGEST_GAP + slack
            && now >= account.next_look;
        if seldom {
            account.next_look = now + SECOND / 2;
        }
        seldom
    }

    /// All places in flight are taken at a server.
    pub(crate) fn full(&mut self, server: usize) {
        if let Some(recovery) = &mut self.servers[server].recovery {
            recovery.was_full = true;
        }
    }

    /// The recovery whose time is over, unless requests of others have used up what a server
    /// with this rate limit allows.
    pub(crate) fn overdue(
        &mut self,
        now: Ms,
        server: usize,
        rate: u64,
    ) -> Option<(Ms, BTreeSet<usize>)> {
        let overdue = self.servers[server].recovery.take_if(|recovery| now > recovery.deadline)?;
        let allowed = (overdue.deadline - overdue.since) * rate / SECOND;
        let is_busy = overdue.was_full || overdue.started * 100 >= allowed * 70;
        (!is_busy).then_some((overdue.since, overdue.waiting))
    }
}
