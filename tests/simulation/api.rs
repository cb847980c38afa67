//! The API's double: sessions, what extends them, and how each request fares.

use std::time::Duration;

use tokenkeep::lifecycle::Method;
use tokenkeep::outcome::{CallError, Outcome};

use crate::chance::{Chance, Ms, SECOND, times};
use crate::connections::{Connections, Sickness};
use crate::families::{Family, Refresh};
use crate::faults::{Climate, Weather};

/// A session by its number in the world; the daemon knows it as a token's value.
pub(crate) type SessionId = usize;

/// One session, as its server keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) server: usize,
    /// What a renewal gives it.
    pub(crate) life: Ms,
    /// Its end on the server's clock.
    ends: Ms,
    /// The server has let go of it before its end.
    pub(crate) revoked: bool,
    /// The server has just said that it does not know it, and that was wrong.
    slighted: bool,
}

/// Which calls extend a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extends {
    Any,
    Renew,
    Nothing,
}

/// What a server is like.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent traits of a server")]
pub(crate) struct Traits {
    pub(crate) extends: Extends,
    /// A query that extends the life reports the one from before.
    pub(crate) query_reports_before: bool,
    pub(crate) renew_reports_before: bool,
    /// A renewing call answers another value, and lets go of the old one.
    pub(crate) replaces: bool,
    /// A renewing call spends a refresh token, and answers another value.
    pub(crate) rotates: bool,
    pub(crate) refuses_renewing: bool,
    pub(crate) whole_seconds: bool,
    /// It says 401 of the sessions that have expired, instead of 410.
    pub(crate) forgets: bool,
    /// How far its clock is ahead of ours.
    pub(crate) clock_ahead: Ms,
    /// The range of usual latencies, there and back together.
    pub(crate) latency: (Ms, Ms),
}

/// What a request hears whose connection ended amid the response.
const RESET: &str = "connection reset";

/// What a request hears that opened no connection: it was certainly not served.
pub(crate) const REFUSED: &str = "connection refused";

/// One request in fifty takes this many times longer than usual.
const ODD_LATENCY: u64 = 6;

impl Traits {
    /// The longest that a request takes in fair weather.
    pub(crate) fn longest_latency(&self) -> Ms {
        self.latency.1 * ODD_LATENCY
    }
}

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) traits: Traits,
    pub(crate) climate: Climate,
    pub(crate) connections: Connections,
    chance: Chance,
}

/// What the server made of a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    /// The value that the answer names instead.
    pub(crate) replaced: Option<SessionId>,
    /// The next refresh token.
    pub(crate) refresh: Option<Refresh>,
    /// The life was extended.
    pub(crate) extended: bool,
    /// The end of life (on our clock) that the answer speaks of, before any rounding.
    pub(crate) reported_end: Ms,
}

/// How a request fares, known when it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    /// When the server does what it is asked, if it ever does.
    pub(crate) acts_at: Option<Ms>,
    pub(crate) ends_at: Ms,
    /// What the daemon hears in place of the server's own answer.
    pub(crate) instead: Option<Outcome>,
    /// A response came, whatever it said.
    pub(crate) responded: bool,
}

/// What a poisoned token's requests meet, whatever the weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poison {
    Refused,
    Hanging,
    Garbled,
}

/// A time in which a token is poisoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Poisoned {
    pub(crate) from: Ms,
    pub(crate) until: Ms,
    pub(crate) kind: Poison,
}

impl Session {
    /// When its life is over, on our clock.
    pub(crate) fn end(&self, server: &Server) -> Ms {
        self.ends.saturating_sub(server.traits.clock_ahead)
    }

    /// It is asked about at another server from now on, which does not know it.
    pub(crate) fn move_to(&mut self, server: usize) {
        self.server = server;
        self.revoked = true;
    }

    pub(crate) fn lives_at(&self, server: &Server, now: Ms) -> bool {
        !self.revoked && now < self.end(server)
    }
}

impl Server {
    pub(crate) fn new(
        traits: Traits,
        climate: Climate,
        connections: Connections,
        chance: Chance,
    ) -> Self {
        Self { traits, climate, connections, chance }
    }

    /// A session with a whole life, of which `used` has passed already.
    pub(crate) fn log_in(&self, number: usize, life: Ms, used: Ms, now: Ms) -> Session {
        let ends = now + self.traits.clock_ahead + life - used.min(life);
        Session { server: number, life, ends, revoked: false, slighted: false }
    }

    /// A request about a session reaches the server at `now`.
    pub(crate) fn serve(
        &mut self,
        sessions: &mut Vec<Session>,
        id: SessionId,
        method: Method,
        now: Ms,
    ) -> Reply {
        let traits = &self.traits;
        let clock = now + traits.clock_ahead;
        let end_before = sessions[id].end(self);
        if method == Method::Renew && traits.refuses_renewing {
            let fault = CallError::new("method not allowed").with_status(405);
            return silent(Outcome::Misconfigured(fault));
        }
        if !sessions[id].lives_at(self, now) {
            return silent(if traits.forgets || sessions[id].revoked {
                rejected()
            } else {
                Outcome::Expired(CallError::new("the session has expired").with_status(410))
            });
        }
        if matches!(self.climate.at(now), Weather::Forgetful)
            && !sessions[id].slighted
            && self.chance.odds(0.3)
        {
            sessions[id].slighted = true;
            return silent(rejected());
        }
        sessions[id].slighted = false;
        let extended = match traits.extends {
            Extends::Any => true,
            Extends::Renew => method == Method::Renew,
            Extends::Nothing => false,
        };
        let reports_before = match method {
            Method::Query => traits.query_reports_before,
            Method::Renew => traits.renew_reports_before && !traits.replaces,
        };
        let mut replaced = None;
        if extended {
            sessions[id].ends = clock + sessions[id].life;
            if method == Method::Renew && traits.replaces {
                let successor = sessions[id].clone();
                sessions[id].revoked = true;
                sessions.push(successor);
                replaced = Some(sessions.len() - 1);
            }
        }
        let reported_end =
            if reports_before { end_before } else { sessions[replaced.unwrap_or(id)].end(self) };
        let outcome = Outcome::Alive { remaining: self.reported(reported_end - now) };
        Reply { outcome, replaced, refresh: None, extended, reported_end }
    }

    /// A request with a refresh token reaches the server at `now`; the value in it does not matter.
    pub(crate) fn rotate(
        &mut self,
        sessions: &mut Vec<Session>,
        families: &mut [Family],
        (id, refresh, number, life): (SessionId, Refresh, usize, Ms),
        now: Ms,
    ) -> Reply {
        let family = &mut families[refresh.family];
        if family.is_over {
            return silent(rejected());
        }
        if matches!(self.climate.at(now), Weather::Forgetful)
            && !sessions[id].slighted
            && self.chance.odds(0.3)
        {
            sessions[id].slighted = true;
            return silent(rejected());
        }
        sessions[id].slighted = false;
        if refresh.number != family.number {
            family.is_over = true;
            for value in &family.values {
                sessions[*value].revoked = true;
            }
            return silent(rejected());
        }
        family.number += 1;
        let next = Refresh { number: family.number, ..refresh };
        sessions.push(self.log_in(number, life, 0, now));
        let replaced = sessions.len() - 1;
        family.values.push(replaced);
        let reported_end = sessions[replaced].end(self);
        let outcome = Outcome::Alive { remaining: self.reported(reported_end - now) };
        let (replaced, refresh) = (Some(replaced), Some(next));
        Reply { outcome, replaced, refresh, extended: true, reported_end }
    }

    /// A life as the server reports it.
    fn reported(&self, remaining: Ms) -> Duration {
        let hidden = if self.traits.whole_seconds { remaining % SECOND } else { 0 };
        Duration::from_millis(remaining - hidden)
    }

    /// Another backend has said that it does not know a session: the right one will not.
    pub(crate) fn slight(session: &mut Session) {
        session.slighted = true;
    }

    /// Another client uses a session.
    pub(crate) fn serve_another(&self, session: &mut Session, now: Ms) -> bool {
        let renews = self.traits.extends != Extends::Nothing && !self.traits.rotates;
        let extends = renews && session.lives_at(self, now);
        if extends {
            session.ends = now + self.traits.clock_ahead + session.life;
        }
        extends
    }

    /// How a request that is sent at `now` will fare, on a connection with this `sickness`.
    pub(crate) fn fate(
        &mut self,
        now: Ms,
        timeout: Ms,
        poison: Option<Poison>,
        sickness: Option<Sickness>,
    ) -> Fate {
        let latency = self.latency();
        let there = times(latency, self.chance.share());
        let arrives = now + there;
        let given_up = now + timeout;
        if let Some(sickness) = sickness {
            return fate_on_sick(sickness, now + latency, given_up);
        }
        let weather = self.climate.at(arrives);
        let fate = match poison {
            Some(Poison::Refused) => refused(arrives),
            Some(Poison::Hanging) => hanging(given_up),
            Some(Poison::Garbled) => answered(arrives, now + latency, given_up, Some(garbled())),
            None => self.fate_in(weather, arrives, now + latency, given_up),
        };
        if let Some(spell) = self.climate.spell_at(arrives) {
            spell.felt_until = spell.felt_until.max(fate.ends_at);
        }
        fate
    }

    fn fate_in(&mut self, weather: Weather, arrives: Ms, back: Ms, given_up: Ms) -> Fate {
        let chance = &mut self.chance;
        match weather {
            Weather::Storm { retry_after, everybody } if everybody || chance.odds(0.3) => {
                let fault = CallError::new("too many requests").with_status(429);
                let retry_after = Duration::from_millis(retry_after);
                refusal(back, given_up, Outcome::Throttled { retry_after, fault })
            }
            Weather::Fair | Weather::Forgetful | Weather::Storm { .. } => {
                answered(arrives, back, given_up, None)
            }
            Weather::Refused => refused(arrives),
            Weather::Hanging => hanging(given_up),
            Weather::Slow => {
                let longest = (given_up - arrives.min(given_up)) * 2;
                let late = chance.between(0, longest);
                let acts_at = arrives + chance.between(0, late);
                answered(acts_at, back + late, given_up, None)
            }
            Weather::Maintenance => {
                let fault = CallError::new("the server is under maintenance").with_status(500);
                refusal(back, given_up, Outcome::Unavailable(fault))
            }
            Weather::Lossy => match chance.between(0, 3) {
                0 => answered(arrives, back, given_up, Some(unavailable(RESET))),
                1 => answered(arrives, Ms::MAX, given_up, None),
                _ => answered(arrives, back, given_up, None),
            },
            Weather::Garbled => answered(arrives, back, given_up, Some(garbled())),
            Weather::Forbidden => {
                let fault = CallError::new("the request was refused").with_status(403);
                refusal(back, given_up, Outcome::Misconfigured(fault))
            }
        }
    }

    fn latency(&mut self) -> Ms {
        let (low, high) = self.traits.latency;
        let usual = self.chance.spread(low, high);
        if self.chance.odds(0.02) { usual * ODD_LATENCY } else { usual }
    }
}

fn silent(outcome: Outcome) -> Reply {
    Reply { outcome, replaced: None, refresh: None, extended: false, reported_end: 0 }
}

/// A request whose reused connection ended before a response.
pub(crate) fn reset(at: Ms) -> Fate {
    Fate { acts_at: None, ends_at: at, instead: Some(unavailable(RESET)), responded: false }
}

fn answered(acts_at: Ms, ends_at: Ms, given_up: Ms, instead: Option<Outcome>) -> Fate {
    if ends_at > given_up {
        Fate { acts_at: Some(acts_at), ..hanging(given_up) }
    } else {
        let reset = matches!(&instead, Some(Outcome::Unavailable(fault)) if *fault.error == *RESET);
        Fate { acts_at: Some(acts_at), ends_at, instead, responded: !reset }
    }
}

fn refusal(ends_at: Ms, given_up: Ms, outcome: Outcome) -> Fate {
    if ends_at > given_up {
        hanging(given_up)
    } else {
        Fate { acts_at: None, ends_at, instead: Some(outcome), responded: true }
    }
}

/// A request whose connection ends before a response.
pub(crate) fn refused(arrives: Ms) -> Fate {
    let instead = Some(unavailable(REFUSED));
    Fate { acts_at: None, ends_at: arrives, instead, responded: false }
}

fn hanging(given_up: Ms) -> Fate {
    let instead = Some(unavailable("no answer in time"));
    Fate { acts_at: None, ends_at: given_up, instead, responded: false }
}

/// A login that finds only the login itself out of order.
pub(crate) fn login_unavailable(ends_at: Ms) -> Fate {
    refusal(ends_at, ends_at, unavailable("logins are out of order"))
}

fn fate_on_sick(sickness: Sickness, back: Ms, given_up: Ms) -> Fate {
    let status = |status| Outcome::Unavailable(CallError::new("unavailable").with_status(status));
    match sickness {
        Sickness::Silent => hanging(given_up),
        Sickness::Unavailable => refusal(back, given_up, status(503)),
        Sickness::Maintenance => refusal(back, given_up, status(500)),
        Sickness::Garbled => refusal(back, given_up, garbled()),
        Sickness::Misrouted => refusal(back, given_up, rejected()),
    }
}

fn garbled() -> Outcome {
    unavailable("the answer is not the API's")
}

fn unavailable(error: &str) -> Outcome {
    Outcome::Unavailable(CallError::new(error))
}

fn rejected() -> Outcome {
    Outcome::Rejected(CallError::new("unknown session").with_status(401))
}
