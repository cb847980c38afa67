//! A token in few bytes, for the long time between two checks.
//!
//! Never decides anything: what [`Token::rest`] takes comes back from [`Resting::wake`] as it
//! was, bit by bit, and what does not fit is not taken.

use std::time::Duration;

use super::event::{Slot, Stage};
use super::outlook::{Glance, State};
use super::reading::{Method, Reading};
use super::token::{Standing, Task, Token};
use crate::time::Moment;

/// A token with nothing under way and little to be told of it: it lives and its next check is
/// planned, it was not asked about yet, or it is dead or missing. One that was being retried,
/// or that has attempts at a new value behind it, is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    kind: Kind,
    /// Eight facts, a bit each.
    facts: u8,
    /// Five things of up to three values each, as digits.
    grades: u8,
    /// The moment that `due` counts from: when the reading's request was sent, or without a
    /// reading, where the retry room begins. 34 years of uptime.
    origin: [u8; 5],
    /// From the reading's request to its answer, up to a minute.
    latency_ms: [u8; 2],
    /// This and what follows go up to 49 days.
    remaining_ms: [u8; 4],
    life_ms: [u8; 4],
    due_ms: [u8; 4],
}

/// What some tokens at rest have besides, in eight bytes: the reading that the next is compared
/// with, where checks come so often that it is not the last one, or when a new value is to be
/// obtained for one that lives.
///
/// In the two lowest bits what it is, 0 for nothing; in the others the time from that reading's
/// answer to the origin (30 bits: twelve days) and what it said, or the time from the origin to
/// the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aside(u64);

/// A [`Standing`] without its reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Missing,
    Unknown,
    Alive,
    Unverified,
    Expired,
    Rejected,
}

impl Token {
    /// The token in its short form; `None` for one that does not fit into that.
    pub fn rest(&self) -> Option<(Resting, Aside)> {
        if self.flight.is_some() {
            return None;
        }
        let task = match self.task {
            Task::Watch => 0,
            Task::Check => 1,
            Task::Reauth => 2,
            _ => return None,
        };
        let kind = match self.standing {
            Standing::Missing => Kind::Missing,
            Standing::Unknown => Kind::Unknown,
            Standing::Alive(_) => Kind::Alive,
            Standing::Unverified(_) => Kind::Unverified,
            Standing::Expired => Kind::Expired,
            Standing::Rejected => Kind::Rejected,
        };
        let nothing = Reading {
            sent: self.room_from,
            received: self.room_from,
            remaining_ms: 0,
            by: Method::Query,
        };
        let reading = self.reading().unwrap_or(nothing);
        let settling = match self.settling {
            None => 0,
            Some(Method::Query) => 1,
            Some(Method::Renew) => 2,
        };
        let grades = [self.stage as u8, settling, self.doubts.min(2), self.active as u8, task];
        let facts = [
            reading.by == Method::Renew,
            self.proven,
            self.resumed,
            self.troubled,
            self.unextendable,
            self.renew_refused,
            self.renew_unanswered,
            self.source_lost,
        ];
        let [origin @ .., 0, 0, 0] = reading.sent.as_millis().to_le_bytes() else { return None };
        let resting = Resting {
            kind,
            facts: facts.iter().rev().fold(0, |bits, fact| bits << 1 | u8::from(*fact)),
            grades: grades.iter().rev().fold(0, |all, grade| all * 3 + grade),
            origin,
            latency_ms: short::<u16>(reading.received, reading.sent)?.to_le_bytes(),
            remaining_ms: u32::try_from(reading.remaining_ms).ok()?.to_le_bytes(),
            life_ms: u32::try_from(self.life_ms).ok()?.to_le_bytes(),
            due_ms: short::<u32>(self.due, reading.sent)?.to_le_bytes(),
        };
        let aside = Aside::of(self, reading.sent)?;
        // Whatever has no place in it shows here, a fact that is added one day as well.
        (resting.wake(aside) == *self).then_some((resting, aside))
    }
}

/// The milliseconds from `origin` to `moment`, where they fit.
fn short<T: TryFrom<u64>>(moment: Moment, origin: Moment) -> Option<T> {
    T::try_from(moment.as_millis().checked_sub(origin.as_millis())?).ok()
}

impl Resting {
    /// The token as it was.
    pub fn wake(&self, aside: Aside) -> Token {
        let origin = self.origin();
        let due = origin + Duration::from_millis(u32::from_le_bytes(self.due_ms).into());
        let fact = |bit: u8| self.facts >> bit & 1 == 1;
        let reading = || Reading {
            sent: origin,
            received: origin + Duration::from_millis(u16::from_le_bytes(self.latency_ms).into()),
            remaining_ms: u32::from_le_bytes(self.remaining_ms).into(),
            by: if fact(0) { Method::Renew } else { Method::Query },
        };
        let (standing, room_from) = match self.kind {
            Kind::Missing => (Standing::Missing, origin),
            Kind::Unknown => (Standing::Unknown, origin),
            Kind::Alive => (Standing::Alive(reading()), due),
            Kind::Unverified => (Standing::Unverified(reading()), due),
            Kind::Expired => (Standing::Expired, origin),
            Kind::Rejected => (Standing::Rejected, origin),
        };
        Token {
            standing,
            task: match self.grade(4) {
                0 => Task::Watch,
                1 => Task::Check,
                _ => Task::Reauth,
            },
            active: self.active_slot(),
            life_ms: u32::from_le_bytes(self.life_ms).into(),
            proven: fact(1),
            room_from,
            stage: match self.grade(0) {
                0 => Stage::Calm,
                1 => Stage::Half,
                _ => Stage::NineTenths,
            },
            doubts: self.grade(2),
            settling: match self.grade(1) {
                0 => None,
                1 => Some(Method::Query),
                _ => Some(Method::Renew),
            },
            resumed: fact(2),
            troubled: fact(3),
            unextendable: fact(4),
            renew_refused: fact(5),
            renew_unanswered: fact(6),
            source_lost: fact(7),
            baseline: aside.baseline(origin),
            early: aside.early(origin),
            ..Token::with_value(due)
        }
    }

    /// [`Token::active_slot`], without all the rest.
    pub fn active_slot(&self) -> Slot {
        if self.grade(3) == 0 { Slot::A } else { Slot::B }
    }

    /// Whether there is no value, without all the rest.
    pub fn is_missing(&self) -> bool {
        self.kind == Kind::Missing
    }

    fn grade(&self, place: u32) -> u8 {
        self.grades / 3_u8.pow(place) % 3
    }

    /// The token's [glance](Token::glance), without waking it: one that is paused, or that was
    /// retried, does not rest.
    pub fn glance(&self) -> Glance {
        let bound =
            || self.origin() + Duration::from_millis(u32::from_le_bytes(self.remaining_ms).into());
        let (state, bound) = match self.kind {
            Kind::Missing => (State::Missing, None),
            Kind::Unknown => (State::Unverified, None),
            Kind::Alive => (State::Alive, Some(bound())),
            Kind::Unverified => (State::Unverified, Some(bound())),
            Kind::Expired => (State::Expired, None),
            Kind::Rejected => (State::Rejected, None),
        };
        Glance { state, bound }
    }

    /// A moment before everything that it remembers, to count others from.
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

impl Aside {
    /// What most have.
    pub const NOTHING: Self = Self(0);

    /// What `token` has besides, its times counted from `origin`; `None` if that does not fit.
    fn of(token: &Token, origin: Moment) -> Option<Self> {
        let from_origin = |moment: Moment| moment.as_millis().checked_sub(origin.as_millis());
        match (token.baseline, token.early) {
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

    fn early(self, origin: Moment) -> Option<Moment> {
        (self.0 & 3 == EARLY).then(|| origin + Duration::from_millis(self.0 >> 2))
    }
}
