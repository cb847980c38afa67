//! Compact form of a token, for the long time between two checks.
//!
//! Makes no decision: [`CompactToken::expand`] restores exactly what [`Token::compact`] stored, and
//! a token that does not fit is not compacted.

use std::time::Duration;

use super::reading::{Method, Reading};
use super::state::{State, TokenSummary};
use super::token::{DOUBTS_TO_CONCLUDE, Task, Token, Validity};
use super::types::{DeadlineStage, Slot};
use crate::time::Moment;

/// A token without an action in flight: alive with a planned check, not yet checked, dead, or
/// missing. A token with failures, re-auth attempts or a candidate is never compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactToken {
    kind: CompactValidity,
    /// Eight booleans.
    facts: u8,
    /// Three values of three states each as base-3 digits, then the slot, then the task.
    digits: u8,
    /// The moment from which `due` counts: when the request of the reading was sent, or without a
    /// reading, the start of the retry room. Up to 34 years of uptime.
    origin: [u8; 5],
    /// From the request of the reading to its response, up to a minute.
    latency_ms: [u8; 2],
    /// This field and the next ones go up to 49 days.
    remaining_ms: [u8; 4],
    life_ms: [u8; 4],
    due_ms: [u8; 4],
}

/// Rare fields of an idle token, in eight bytes: the baseline of the next evaluation, where checks
/// are so frequent that it is not the last reading; or when an early re-authentication is due.
///
/// The two lowest bits tell which, 0 for neither. The others contain the time from the baseline's
/// response to the origin (30 bits: twelve days) and its remaining life, or the time from the
/// origin to the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactExtra(u64);

/// The tasks of idle tokens. That of a token that another replica asks about follows from its
/// validity.
const TASK_WATCH: u8 = 0;
const TASK_CHECK: u8 = 1;
const TASK_REAUTH: u8 = 2;
const TASK_ELSEWHERE: u8 = 3;

/// A [`Validity`] without its reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CompactValidity {
    Missing,
    Unknown,
    Alive,
    Unverified,
    Expired,
    Rejected,
}

impl Token {
    /// The compact form; `None` if the token does not fit.
    pub fn compact(&self) -> Option<(CompactToken, CompactExtra)> {
        if self.in_flight.is_some() {
            return None;
        }
        let task = match self.task {
            _ if self.elsewhere => TASK_ELSEWHERE,
            Task::Watch => TASK_WATCH,
            Task::Check => TASK_CHECK,
            Task::Reauth => TASK_REAUTH,
            _ => return None,
        };
        let kind = match self.validity {
            Validity::Missing => CompactValidity::Missing,
            Validity::Unknown => CompactValidity::Unknown,
            Validity::Alive(_) => CompactValidity::Alive,
            Validity::Unverified(_) => CompactValidity::Unverified,
            Validity::Expired => CompactValidity::Expired,
            Validity::Rejected => CompactValidity::Rejected,
        };
        let nothing = Reading {
            sent: self.retry_room_start,
            received: self.retry_room_start,
            remaining_ms: 0,
            by: Method::Query,
        };
        let reading = self.reading().unwrap_or(nothing);
        let lagging = match self.lagging {
            None => 0,
            Some(Method::Query) => 1,
            Some(Method::Renew) => 2,
        };
        let digits = [self.stage as u8, lagging, self.doubts.min(2)];
        let rest = task * 2 + self.active as u8;
        let facts = [
            reading.by == Method::Renew,
            self.proven,
            self.restored,
            self.unrecovered,
            self.unrenewable,
            self.renew_refused,
            self.renew_unanswered,
            self.source_lost,
        ];
        let [origin @ .., 0, 0, 0] = reading.sent.as_millis().to_le_bytes() else { return None };
        let compact = CompactToken {
            kind,
            facts: facts.iter().rev().fold(0, |bits, fact| bits << 1 | u8::from(*fact)),
            digits: digits.iter().rev().fold(rest, |all, digit| all * 3 + digit),
            origin,
            latency_ms: short::<u16>(reading.received, reading.sent)?.to_le_bytes(),
            remaining_ms: u32::try_from(reading.remaining_ms).ok()?.to_le_bytes(),
            life_ms: u32::try_from(self.life_ms).ok()?.to_le_bytes(),
            due_ms: short::<u32>(self.due, reading.sent)?.to_le_bytes(),
        };
        let extra = CompactExtra::of(self, reading.sent)?;
        // Comparison detects every field that has no place in the compact form, including future
        // ones.
        (compact.expand(extra) == *self).then_some((compact, extra))
    }
}

/// The milliseconds from `origin` to `moment`, if they fit.
fn short<T: TryFrom<u64>>(moment: Moment, origin: Moment) -> Option<T> {
    T::try_from(moment.as_millis().checked_sub(origin.as_millis())?).ok()
}

impl CompactToken {
    /// Restores the token.
    pub fn expand(&self, extra: CompactExtra) -> Token {
        let origin = self.origin();
        let due = origin + Duration::from_millis(u32::from_le_bytes(self.due_ms).into());
        let fact = |bit: u8| self.facts >> bit & 1 == 1;
        let reading = || Reading {
            sent: origin,
            received: origin + Duration::from_millis(u16::from_le_bytes(self.latency_ms).into()),
            remaining_ms: u32::from_le_bytes(self.remaining_ms).into(),
            by: if fact(0) { Method::Renew } else { Method::Query },
        };
        let (validity, retry_room_start) = match self.kind {
            CompactValidity::Missing => (Validity::Missing, origin),
            CompactValidity::Unknown => (Validity::Unknown, origin),
            CompactValidity::Alive => (Validity::Alive(reading()), due),
            CompactValidity::Unverified => (Validity::Unverified(reading()), due),
            CompactValidity::Expired => (Validity::Expired, origin),
            CompactValidity::Rejected => (Validity::Rejected, origin),
        };
        Token {
            validity,
            task: match self.task() {
                TASK_CHECK => Task::Check,
                TASK_REAUTH => Task::Reauth,
                TASK_ELSEWHERE if validity.may_be_alive() => Task::Check,
                _ => Task::Watch,
            },
            elsewhere: self.is_elsewhere(),
            active: self.active_slot(),
            life_ms: u32::from_le_bytes(self.life_ms).into(),
            proven: fact(1),
            retry_room_start,
            stage: match self.digit(0) {
                0 => DeadlineStage::Calm,
                1 => DeadlineStage::Half,
                _ => DeadlineStage::NineTenths,
            },
            doubts: self.digit(2),
            lagging: match self.digit(1) {
                0 => None,
                1 => Some(Method::Query),
                _ => Some(Method::Renew),
            },
            restored: fact(2),
            unrecovered: fact(3),
            unrenewable: fact(4),
            renew_refused: fact(5),
            renew_unanswered: fact(6),
            source_lost: fact(7),
            baseline: extra.baseline(origin),
            early_reauth_at: extra.early_reauth_at(origin),
            ..Token::with_value(due)
        }
    }

    /// [`Token::active_slot`] without expanding the token.
    pub fn active_slot(&self) -> Slot {
        if (self.digits / 27).is_multiple_of(2) { Slot::A } else { Slot::B }
    }

    /// Whether the token has no value, without expanding it.
    pub fn is_missing(&self) -> bool {
        self.kind == CompactValidity::Missing
    }

    /// Whether another replica asks about the token, without expanding it.
    #[inline]
    pub fn is_elsewhere(&self) -> bool {
        self.task() == TASK_ELSEWHERE
    }

    #[inline]
    fn digit(&self, place: u32) -> u8 {
        self.digits / 3_u8.pow(place) % 3
    }

    #[inline]
    fn task(&self) -> u8 {
        self.digits / 54
    }

    /// [`Token::summary`] without expanding the token. A paused or failing token is never compact.
    #[inline]
    pub fn summary(&self) -> TokenSummary {
        let expiry =
            || self.origin() + Duration::from_millis(u32::from_le_bytes(self.remaining_ms).into());
        let (state, expiry) = match self.kind {
            CompactValidity::Missing => (State::Missing, None),
            CompactValidity::Unknown => (State::Unverified, None),
            CompactValidity::Alive => (State::Alive, Some(expiry())),
            CompactValidity::Unverified => (State::Unverified, Some(expiry())),
            CompactValidity::Expired => (State::Expired, None),
            CompactValidity::Rejected => (State::Rejected, None),
        };
        let state = if self.is_elsewhere() { State::Elsewhere } else { state };
        let is_unrenewed = self.digit(2) >= DOUBTS_TO_CONCLUDE;
        let due = || self.origin() + Duration::from_millis(u32::from_le_bytes(self.due_ms).into());
        let next_check = (self.task() == TASK_CHECK).then(due);
        TokenSummary { state, expiry, is_unrenewed, is_failing: false, next_check }
    }

    /// A moment before all stored ones, from which they count.
    #[inline]
    pub fn origin(&self) -> Moment {
        let mut bytes = [0; 8];
        bytes[..self.origin.len()].copy_from_slice(&self.origin);
        Moment::from_millis(u64::from_le_bytes(bytes))
    }
}

const BY_QUERY: u64 = 1;
const BY_RENEWING: u64 = 2;
const EARLY: u64 = 3;

/// Bits of an age.
const AGE: u32 = 30;

impl CompactExtra {
    /// No rare fields.
    pub const NOTHING: Self = Self(0);

    /// The rare fields of `token`, with times relative to `origin`; `None` if they do not fit.
    fn of(token: &Token, origin: Moment) -> Option<Self> {
        let from_origin = |moment: Moment| moment.as_millis().checked_sub(origin.as_millis());
        match (token.baseline, token.early_reauth_at) {
            (None, None) => Some(Self::NOTHING),
            (Some(first), None) => {
                let age = origin.as_millis().checked_sub(first.received.as_millis())?;
                let age = Some(age).filter(|age| age >> AGE == 0)?;
                let remaining = u64::from(u32::try_from(first.remaining_ms).ok()?);
                let by = if first.by == Method::Renew { BY_RENEWING } else { BY_QUERY };
                Some(Self(remaining << 32 | age << 2 | by))
            }
            (None, Some(early)) => Some(Self(from_origin(early)? << 2 | EARLY)),
            (Some(_), Some(_)) => None,
        }
    }

    fn baseline(self, origin: Moment) -> Option<Reading> {
        let by = match self.0 & 3 {
            BY_QUERY => Method::Query,
            BY_RENEWING => Method::Renew,
            _ => return None,
        };
        let age = self.0 >> 2 & ((1 << AGE) - 1);
        let received = Moment::from_millis(origin.as_millis().saturating_sub(age));
        Some(Reading { sent: received, received, remaining_ms: self.0 >> 32, by })
    }

    fn early_reauth_at(self, origin: Moment) -> Option<Moment> {
        (self.0 & 3 == EARLY).then(|| origin + Duration::from_millis(self.0 >> 2))
    }
}
