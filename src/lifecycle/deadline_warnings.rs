//! Deadline warnings: an alive token gets no response, and its expiry comes nearer.
//!
//! A warning comes when half and when nine tenths of the retry room have passed, and when the token
//! becomes unverified. The retry room is the time between the planned check and the expiry.

use std::time::Duration;

use super::check_timing::SHORTEST_TIMEOUT;
use super::context::Transition;
use super::event::Notice;
use super::reading::Reading;
use super::token::{DOUBTS_TO_CONCLUDE, Token, Validity};
use super::types::DeadlineStage;
use crate::time::Moment;

impl Token {
    /// When the next deadline warning is due.
    pub fn next_deadline_warning(&self) -> Option<Moment> {
        let Validity::Alive(reading) = self.validity else { return None };
        // The operator who paused the token expects the expiry. The replica that asks about the
        // token warns by itself.
        if self.paused || self.elsewhere {
            return None;
        }
        Some(match (self.room(&reading), self.stage) {
            (Some(room), DeadlineStage::Calm) => self.retry_room_start + room / 2,
            (Some(room), DeadlineStage::Half) => self.retry_room_start + room * 9 / 10,
            (Some(_), DeadlineStage::NineTenths) | (None, _) => self.unverified_at(&reading),
        })
    }

    /// How much of the retry room has passed at `now`.
    fn stage_at(&self, reading: &Reading, now: Moment) -> DeadlineStage {
        match self.room(reading) {
            Some(room) if now >= self.retry_room_start + room * 9 / 10 => DeadlineStage::NineTenths,
            Some(room) if now >= self.retry_room_start + room / 2 => DeadlineStage::Half,
            Some(_) | None => DeadlineStage::Calm,
        }
    }

    /// When an alive token without a response becomes unverified: at its expiry. If its check is due
    /// too late for a response by then, it is once the shortest time-out has passed.
    fn unverified_at(&self, reading: &Reading) -> Moment {
        reading.expiry().max(self.retry_room_start + SHORTEST_TIMEOUT)
    }

    /// The retry room; `None` if it is too short for warnings, or no request renews the token, so
    /// that its expiry is expected.
    fn room(&self, reading: &Reading) -> Option<Duration> {
        let room = reading.expiry().since(self.retry_room_start);
        (room >= SHORTEST_TIMEOUT && self.doubts < DOUBTS_TO_CONCLUDE).then_some(room)
    }
}

impl Transition<'_> {
    /// Emits the warnings that are due because time has passed.
    pub(super) fn emit_deadline_warnings(&mut self) {
        if self.token.paused || self.token.elsewhere {
            return;
        }
        let Validity::Alive(reading) = self.token.validity else { return };
        if self.now >= self.token.unverified_at(&reading) {
            self.token.validity = Validity::Unverified(reading);
            self.token.unrecovered = true;
            return self.notify(Notice::Unverified);
        }
        let stage = self.token.stage_at(&reading, self.now);
        if stage > self.token.stage {
            self.token.stage = stage;
            self.token.unrecovered = true;
            self.notify(Notice::Expiring { stage, dies_in_ms: self.ms_until(reading.expiry()) });
        }
    }

    /// The server asked for a pause: warns at once if the token expires before its end.
    pub(super) fn throttled(&mut self, until: Moment) {
        let Validity::Alive(reading) = self.token.validity else { return };
        if self.token.paused || self.token.elsewhere {
            return;
        }
        let expiry = reading.expiry();
        if expiry > self.now && expiry <= until && self.token.stage < DeadlineStage::NineTenths {
            self.token.stage = DeadlineStage::NineTenths;
            self.token.unrecovered = true;
            let dies_in_ms = self.ms_until(expiry);
            self.notify(Notice::Expiring { stage: DeadlineStage::NineTenths, dies_in_ms });
        }
    }
}
