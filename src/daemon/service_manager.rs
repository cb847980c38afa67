//! The line that `systemctl status` shows.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use super::Daemon;
use crate::clock;
use crate::control::ConfigRejection;
use crate::events::{Fields, Name, Severity};
use crate::keeper::{Census, Keeper};
use crate::systemd;
use crate::time::Moment;

/// Between two lines: often enough for a glance.
const PACE: Duration = Duration::from_secs(1);

/// Keeps systemd's status line current, without waking the daemon for it when nothing happens.
#[derive(Debug)]
pub(crate) struct StatusNotifier {
    wanted: bool,
    told_at: Option<Moment>,
    pending: bool,
    last: String,
}

impl StatusNotifier {
    pub(crate) fn new() -> Self {
        Self {
            wanted: std::env::var_os("NOTIFY_SOCKET").is_some(),
            told_at: None,
            pending: false,
            last: String::new(),
        }
    }

    /// Something may have happened: tells it now, or soon.
    pub(crate) fn tell(
        &mut self,
        now: Moment,
        keeper: &Keeper,
        rejected: Option<&ConfigRejection>,
    ) {
        if !self.wanted {
            return;
        }
        if self.told_at.is_some_and(|told| now < told + PACE) {
            self.pending = true;
            return;
        }
        self.told_at = Some(now);
        self.pending = false;
        let line = sentence(now, keeper, rejected);
        if line != self.last {
            // A status line that is lost is replaced by the next one.
            let _ = systemd::status(&line);
            self.last = line;
        }
    }

    /// When a line is due that could not be told at once.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.told_at.filter(|_| self.pending).map(|told| told + PACE)
    }
}

impl Daemon {
    pub(crate) fn ready(&mut self) {
        let line = self.status_line();
        self.told(systemd::ready(&line));
        self.say(
            Name::DaemonReady,
            Severity::Info,
            "the first checks are under way",
            Fields { tokens: u64::try_from(self.tokens.registry.len()).ok(), ..Fields::default() },
        );
    }

    /// The line for systemd as of now.
    pub(crate) fn status_line(&self) -> String {
        sentence(clock::now(), &self.tokens.scheduler, self.config_rejected.as_ref())
    }

    /// systemd cannot be told something: it will notice; people are told once.
    pub(crate) fn told(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            let error = error.to_string();
            let fields = Fields { error: Some(&error), ..Fields::default() };
            self.say(Name::ConfigWarning, Severity::Warn, "systemd cannot be told", fields);
        }
    }
}

/// How all tokens are, in one line, and whether a restart may fail.
fn sentence(now: Moment, keeper: &Keeper, rejected: Option<&ConfigRejection>) -> String {
    let census = keeper.census();
    let mut line = counts(&census);
    if let Some(next) = keeper.next_wake() {
        let seconds = next.since(now).as_secs_f64().ceil();
        // Writing to a string cannot fail.
        let _ = write!(line, "; next check in {seconds} s");
    }
    if let Some(rejected) = rejected {
        let _ = write!(line, "; {rejected}");
    }
    line
}

fn counts(census: &Census) -> String {
    let Census { alive, retrying, unverified, expired, rejected, missing, paused } = *census;
    let total = alive + retrying + unverified + expired + rejected + missing + paused;
    let mut line = match total {
        0 => return "no tokens".into(),
        1 => "1 token: ".to_owned(),
        _ => format!("{} tokens: ", grouped(total)),
    };
    let parts = [
        (alive, "alive"),
        (retrying, "retrying"),
        (unverified, "without an answer"),
        (expired, "expired"),
        (rejected, "rejected"),
        (missing, "missing"),
        (paused, "paused"),
    ];
    let told: Vec<_> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{} {word}", grouped(*count)))
        .collect();
    line += &told.join(", ");
    line
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_only_what_there_is() {
        let census = Census { alive: 1_020, retrying: 3, expired: 1, ..Census::default() };
        assert_eq!(counts(&census), "1,024 tokens: 1,020 alive, 3 retrying, 1 expired");
    }

    #[test]
    fn one_token_is_no_plural_and_none_is_said() {
        assert_eq!(counts(&Census { missing: 1, ..Census::default() }), "1 token: 1 missing");
        assert_eq!(counts(&Census::default()), "no tokens");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([grouped(7), grouped(1_000), grouped(1_234_567)], ["7", "1,000", "1,234,567"]);
    }
}
