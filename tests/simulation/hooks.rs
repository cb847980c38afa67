//! What a re-auth command brings: a new value, or one of the many things that are none.

use tokenkeep::lifecycle::{ReauthError, ReauthOutcome};

use crate::api::SessionId;
use crate::chance::{Chance, MINUTE, Ms, SECOND};

/// How one attempt of a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    /// A new value, printed.
    Fresh,
    /// A new value, which it has put into the source itself.
    Written,
    /// The value that it should have replaced.
    Old,
    /// A value that the server does not know.
    Dead,
    /// A value that dies at once.
    ShortLived,
    /// It ended with an error.
    Error,
    /// It was killed when its time was over.
    TimedOut,
    /// It says that it came to no conclusion (exit status 75).
    TryLater,
}

/// How long a command may take.
pub(crate) const TIMEOUT: Ms = MINUTE;

impl Brought {
    /// Draws an attempt of a command that hangs, of one whose login is out of order, or of any
    /// other: what it brings, and how long it takes.
    pub(crate) fn draw(
        chance: &mut Chance,
        server_is_well: bool,
        hangs: bool,
        is_down: bool,
    ) -> (Self, Ms) {
        let brought = match chance.between(0, 99) {
            _ if hangs => Self::TimedOut,
            _ if is_down => Self::TryLater,
            _ if !server_is_well && chance.odds(0.7) => Self::Error,
            0..=64 => Self::Fresh,
            65..=79 => Self::Written,
            80..=83 => Self::Old,
            84..=86 => Self::Dead,
            87..=89 => Self::ShortLived,
            90..=94 => Self::Error,
            95..=96 => Self::TryLater,
            _ => Self::TimedOut,
        };
        let takes =
            if brought == Self::TimedOut { TIMEOUT } else { chance.spread(50, 20 * SECOND) };
        (brought, takes)
    }

    /// The life of the session that it has made, of a usual one; `None` if it made none.
    pub(crate) fn life(self, usual: Ms, chance: &mut Chance) -> Option<Ms> {
        match self {
            Self::Fresh | Self::Written => Some(usual),
            Self::Dead => Some(0),
            Self::ShortLived => Some(chance.spread(1, 2 * SECOND).min(usual)),
            Self::Old | Self::Error | Self::TimedOut | Self::TryLater => None,
        }
    }
}

/// What the daemon tells the scheduler of an attempt that brought `session`, where `old` is the
/// value to be replaced.
pub(crate) fn weigh(
    brought: Brought,
    session: Option<SessionId>,
    old: Option<SessionId>,
) -> ReauthOutcome {
    match brought {
        Brought::Error | Brought::TimedOut => ReauthOutcome::Failed(ReauthError {
            error: "the command ended with exit status 1".into(),
            exit_status: Some(1),
            ..ReauthError::default()
        }),
        Brought::TryLater => ReauthOutcome::Failed(ReauthError {
            error: "the command ended with exit status 75: try again later".into(),
            exit_status: Some(75),
            inconclusive: true,
            ..ReauthError::default()
        }),
        Brought::Old if old.is_none() => ReauthOutcome::Failed(ReauthError {
            error: "the command printed nothing".into(),
            exit_status: Some(0),
            ..ReauthError::default()
        }),
        Brought::Old => ReauthOutcome::SameValue,
        _ if session == old => ReauthOutcome::SameValue,
        Brought::Fresh | Brought::Written | Brought::Dead | Brought::ShortLived => {
            ReauthOutcome::NewValue { stored: brought == Brought::Written }
        }
    }
}
