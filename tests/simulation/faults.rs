//! What goes wrong on the way to a server, and in it: its weather, spell by spell.

use crate::chance::{Chance, DAY, HOUR, MINUTE, Ms, SECOND};
use crate::connections::Sickness;

/// How a server treats the requests that reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It answers.
    Fair,
    /// Connections are refused at once.
    Refused,
    /// It accepts, and never answers.
    Hanging,
    /// It answers, after anything up to twice the time-out.
    Slow,
    /// It says at once that it is under maintenance (500).
    Maintenance,
    /// It wants quiet for this long (429, or 503 with `Retry-After`), from some or from all.
    Storm { retry_after: Ms, everybody: bool },
    /// It does what it is asked, and many answers are lost.
    Lossy,
    /// It does what it is asked, and answers nonsense.
    Garbled,
    /// Something before it refuses every request for what it is (403).
    Forbidden,
    /// It sometimes says once that it does not know a token which it knows (401).
    Forgetful,
}

/// A time of bad weather.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spell {
    pub(crate) from: Ms,
    pub(crate) until: Ms,
    pub(crate) weather: Weather,
    /// When the last request that it spoilt came to its end: until then a place in flight,
    /// or the breaker's one probe, may have been taken by it.
    pub(crate) felt_until: Ms,
}

impl WallClock {
    /// How much later by the daemon's clock a remembered moment seems to be than it is, where
    /// the machine was down for so long.
    pub(crate) fn error(self, down: Ms) -> i64 {
        let signed = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
        match self {
            Self::Right => 0,
            Self::Stopped => signed(down),
            Self::Forward(by) => -signed(by),
            Self::Back(by) => signed(by),
        }
    }
}

/// One server's weather: it is drawn as time goes by, and the same whenever it is asked.
#[derive(Debug)]
pub(crate) struct Climate {
    chance: Chance,
    /// The time that spells and pauses are measured by: a typical life on this server.
    life: Ms,
    /// How much of the time between two storms there is, in lives.
    calm: f64,
    /// Spells follow one another closely until then.
    unsettled_until: Ms,
    spells: Vec<Spell>,
    drawn_until: Ms,
}

impl Climate {
    pub(crate) fn new(mut chance: Chance, life: Ms, start: Ms) -> Self {
        let calm = if chance.odds(0.1) { f64::INFINITY } else { 2.0 + chance.share() * 30.0 };
        Self { chance, life, calm, unsettled_until: 0, spells: Vec::new(), drawn_until: start }
    }

    /// Whether anything ever goes wrong here.
    pub(crate) fn is_always_fair(&self) -> bool {
        self.calm.is_infinite()
    }

    pub(crate) fn at(&mut self, now: Ms) -> Weather {
        self.spell_at(now).map_or(Weather::Fair, |spell| spell.weather)
    }

    /// The bad weather at this moment, if it is bad.
    pub(crate) fn spell_at(&mut self, now: Ms) -> Option<&mut Spell> {
        if self.is_always_fair() {
            return None;
        }
        while self.drawn_until <= now {
            self.draw();
        }
        let next = self.spells.partition_point(|spell| spell.from <= now);
        self.spells[..next].last_mut().filter(|spell| now < spell.until)
    }

    /// The times within a span in which the weather was bad, or still felt.
    pub(crate) fn bad_times(&self, from: Ms, until: Ms) -> impl Iterator<Item = (Ms, Ms)> {
        let spells =
            self.spells.iter().map(|spell| (spell.from, spell.until.max(spell.felt_until)));
        spells.filter(move |(start, end)| *start < until && *end > from)
    }

    fn draw(&mut self) {
        let chance = &mut self.chance;
        let unsettled = self.drawn_until < self.unsettled_until;
        let pause = if unsettled {
            chance.spread(self.life / 11, self.life / 4)
        } else {
            let calm = crate::chance::times(self.life, self.calm);
            chance.spread(self.life / 2, calm.max(self.life))
        };
        let from = self.drawn_until + pause.max(1);
        if !unsettled && chance.odds(0.5) {
            self.unsettled_until = from + chance.between(self.life, self.life * 10);
        }
        let length = match chance.between(0, 9) {
            _ if unsettled => chance.spread(self.life / 30, self.life / 2),
            0..=4 => chance.spread(self.life / 30, self.life / 2),
            5..=8 => chance.spread(self.life / 3, self.life * 2),
            _ => chance.spread(MINUTE, 3 * DAY),
        };
        let until = from + length.max(1);
        let weather = weather(chance, self.life);
        self.spells.push(Spell { from, until, weather, felt_until: from });
        self.drawn_until = until;
    }
}

fn weather(chance: &mut Chance, life: Ms) -> Weather {
    match chance.between(0, 99) {
        0..=24 => Weather::Refused,
        25..=44 => Weather::Hanging,
        45..=54 => Weather::Slow,
        55..=62 => Weather::Maintenance,
        63..=72 => {
            let longest = if chance.odds(0.2) { 15 * MINUTE } else { (life / 3).min(15 * MINUTE) };
            let retry_after = chance.spread(SECOND, longest.max(SECOND));
            Weather::Storm { retry_after, everybody: chance.odds(0.5) }
        }
        73..=82 => Weather::Lossy,
        83..=88 => Weather::Garbled,
        89..=92 => Weather::Forbidden,
        _ => Weather::Forgetful,
    }
}

/// What befalls the daemon and its surroundings, rather than a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incident {
    /// The machine sleeps for this long; time goes on.
    Suspend(Ms),
    /// The daemon stops, and starts again after this long.
    Restart { down: Ms, killed: bool, boot: Option<WallClock> },
    /// The configuration is read again: tokens come, go and change.
    Reload,
    /// Another client uses some token.
    Use,
    /// Another client revokes some token.
    Revoke,
    /// An operator puts another value into some token's source.
    Offer,
    /// Some token's source is empty for this long.
    Lose(Ms),
    /// Some token's requests all fail for this long, while its neighbours' are answered.
    Poison(Ms),
    /// Writing fails for this long: the disk is full.
    FullDisk(Ms),
    /// Known maintenance: nothing may log in for this long.
    Maintenance(Ms),
    /// Some server's lives have another length from now on.
    OtherLife,
    /// Many tokens of a server fail for this long, while the others are answered.
    PoisonMany(Ms),
    /// All connections that are open to a server are of no use from now on.
    Sicken(Sickness),
    /// For this long a server ends idle connections just as they are used again.
    Races(Ms),
    /// For this long the commands of some `[reauth]` hang until they are killed.
    HangHooks(Ms),
    /// For this long the logins by some `[reauth]` come to no conclusion.
    LoginsDown(Ms),
    /// Many sources change and many tokens are removed, and the daemon hears of all at once.
    Batch,
}

/// What the wall clock did while the machine was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WallClock {
    /// It went on as it should.
    Right,
    /// It stood still.
    Stopped,
    /// It was set forward by this much.
    Forward(Ms),
    /// It was set back by this much.
    Back(Ms),
}

/// The incidents of a world, drawn one after the other.
#[derive(Debug)]
pub(crate) struct Incidents {
    chance: Chance,
    life: Ms,
    kinds: Vec<Incident>,
    /// The mean time between two.
    pause: Ms,
}

impl Incidents {
    /// Each world has some kinds of incident; one in six has none at all.
    pub(crate) fn new(mut chance: Chance, life: Ms, tokens: usize) -> Self {
        let all = [
            Incident::Suspend(0),
            Incident::Restart { down: 0, killed: false, boot: None },
            Incident::Reload,
            Incident::Use,
            Incident::Use,
            Incident::Revoke,
            Incident::Offer,
            Incident::Lose(0),
            Incident::Poison(0),
            Incident::Poison(0),
            Incident::FullDisk(0),
            Incident::Maintenance(0),
            Incident::OtherLife,
            Incident::PoisonMany(0),
            Incident::Sicken(Sickness::Silent),
            Incident::Sicken(Sickness::Silent),
            Incident::Sicken(Sickness::Garbled),
            Incident::Sicken(Sickness::Misrouted),
            Incident::Races(0),
            Incident::HangHooks(0),
            Incident::LoginsDown(0),
            Incident::Batch,
            Incident::Batch,
        ];
        let share = if chance.odds(0.17) { 0.0 } else { 0.2 + 0.8 * chance.share() };
        let kinds: Vec<_> = all.into_iter().filter(|_| chance.odds(share)).collect();
        // Enough of them to meet many tokens; few enough that most of the time nothing is wrong.
        let often = u64::try_from(tokens).unwrap_or(1).min(20);
        let pause = chance.spread((life * 2 / often).max(1), life * 10);
        Self { chance, life, kinds, pause }
    }

    /// The next one, and how long until it happens; `None` where there are none.
    pub(crate) fn next(&mut self) -> Option<(Ms, Incident)> {
        if self.kinds.is_empty() {
            return None;
        }
        let (chance, life) = (&mut self.chance, self.life);
        let wait = chance.between(1, self.pause * 2);
        let incident = match chance.pick(&self.kinds) {
            Incident::Suspend(_) => Incident::Suspend(chance.spread(SECOND, (life * 3).max(HOUR))),
            Incident::Restart { .. } => Incident::Restart {
                down: chance.spread(SECOND, (life / 2).max(2 * SECOND)),
                killed: chance.odds(0.5),
                boot: chance.odds(0.4).then(|| match chance.between(0, 3) {
                    0 => WallClock::Right,
                    1 => WallClock::Stopped,
                    2 => WallClock::Forward(chance.spread(SECOND, DAY)),
                    _ => WallClock::Back(chance.spread(SECOND, DAY)),
                }),
            },
            Incident::Lose(_) => Incident::Lose(chance.spread(SECOND, life * 2)),
            Incident::Poison(_) => Incident::Poison(chance.spread(life / 2, life * 6)),
            Incident::FullDisk(_) => Incident::FullDisk(chance.spread(SECOND, life * 3)),
            Incident::Maintenance(_) => Incident::Maintenance(chance.spread(SECOND, life)),
            Incident::PoisonMany(_) => Incident::PoisonMany(chance.spread(life / 2, life * 6)),
            Incident::Sicken(Sickness::Garbled) => Incident::Sicken(chance.pick(&[
                Sickness::Garbled,
                Sickness::Unavailable,
                Sickness::Maintenance,
            ])),
            Incident::Races(_) => Incident::Races(chance.spread(SECOND, life * 3)),
            Incident::HangHooks(_) => Incident::HangHooks(chance.spread(MINUTE, life.max(HOUR))),
            Incident::LoginsDown(_) => Incident::LoginsDown(chance.spread(SECOND, 20 * MINUTE)),
            other => other,
        };
        Some((wait, incident))
    }
}
