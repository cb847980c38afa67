//! Refresh tokens, where renewing spends them.
//!
//! A login founds a family. A renewal spends the family's refresh token, and names the next value
//! and the next refresh token. A server that sees a spent one again lets go of the whole family.

use crate::actions::refresh_of;
use crate::api::SessionId;
use crate::chance::Ms;
use crate::subject::Flight;
use crate::world::World;

/// A refresh token: its family, and how many were spent before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refresh {
    pub(crate) family: usize,
    pub(crate) number: u32,
}

/// The values that come from one login.
#[derive(Debug)]
pub(crate) struct Family {
    /// The number of the refresh token that is good.
    pub(crate) number: u32,
    pub(crate) values: Vec<SessionId>,
    /// The server has let go of it.
    pub(crate) is_over: bool,
}

impl World {
    /// The refresh token that comes with a new value; `None` where renewing spends none.
    pub(crate) fn found_family(&mut self, value: SessionId) -> Option<Refresh> {
        let rotates = self.servers[self.sessions[value].server].traits.rotates;
        rotates.then(|| {
            self.families.push(Family { number: 0, values: vec![value], is_over: false });
            Refresh { family: self.families.len() - 1, number: 0 }
        })
    }

    /// A value that an operator has logged in for, together with its refresh token.
    pub(crate) fn given_session(&mut self, subject: usize, life: Ms, used: Ms) -> SessionId {
        let value = self.new_session(subject, life, used);
        if let Some(refresh) = self.found_family(value) {
            self.give_refresh(subject, refresh);
        }
        value
    }

    /// An operator replaces a token's refresh token.
    pub(crate) fn give_refresh(&mut self, subject: usize, refresh: Refresh) {
        let there = &mut self.subjects[subject];
        there.refresh = Some(refresh);
        there.is_refresh_new = true;
    }

    /// The server lets go of everything that comes from a token's login.
    pub(crate) fn end_family(&mut self, subject: usize) {
        let Some(refresh) = self.subjects[subject].refresh else { return };
        let family = &mut self.families[refresh.family];
        family.is_over = true;
        for value in &family.values {
            self.sessions[*value].revoked = true;
        }
    }

    /// Whether a token's refresh token is good.
    pub(crate) fn can_rotate(&self, subject: usize) -> bool {
        self.subjects[subject].refresh.is_some_and(|refresh| {
            let family = &self.families[refresh.family];
            !family.is_over && family.number == refresh.number
        })
    }

    /// What stands for the value of a token that has none.
    pub(crate) fn no_value(&mut self, subject: usize) -> SessionId {
        if let Some(nothing) = self.subjects[subject].nothing {
            return nothing;
        }
        let nothing = self.new_session(subject, 0, 0);
        self.sessions[nothing].revoked = true;
        self.subjects[subject].nothing = Some(nothing);
        nothing
    }

    /// A response has come: the daemon stores the next refresh token before anything else, unless
    /// an operator has replaced the one that was sent.
    pub(crate) fn store_refresh(&mut self, subject: usize, sent: Refresh, next: Option<Refresh>) {
        let there = &mut self.subjects[subject];
        if let Some(next) = next
            && there.refresh == Some(sent)
        {
            there.refresh = Some(next);
        }
    }

    /// A request that spends a refresh token reaches its server.
    pub(crate) fn rotates(&mut self, index: usize, flight: &Flight) {
        let Some((session, sent)) = refresh_of(flight) else { return };
        // A request that waited for another one is not sent by a daemon that is gone.
        let late = self.subjects[flight.subject].refresh.filter(|_| flight.run == self.run);
        let Some(refresh) = sent.or(late) else { return };
        let life = self.subjects[flight.subject].life;
        let server = &mut self.servers[flight.server];
        let end_before = self.sessions[session].end(server);
        let (sessions, families) = (&mut self.sessions, &mut self.families);
        let value = (session, refresh, flight.server, life);
        let reply = server.rotate(sessions, families, value, self.now);
        let renewed = reply.replaced;
        if let Some(flight) = &mut self.flights[index] {
            flight.set_reply(refresh, reply);
        }
        if let Some(renewed) = renewed {
            if flight.run != self.run {
                self.watch.claims.used_by_another(flight.server, self.now);
            }
            self.watch_renewed(renewed, end_before);
        }
    }
}
