//! Output table: each measurement with its target.

use std::fmt::{self, Display, Formatter};

use super::repeats::Repeats;

/// Target of a measurement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// No target: the value is for comparison.
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::AtMost(most) => write!(f, "≤ {}", number(*most)),
            Self::AtLeast(least) => write!(f, "≥ {}", number(*least)),
        }
    }
}

/// All measurements so far. Each is printed at once, so that a run can be watched.
#[derive(Debug, Default)]
pub(super) struct Table {
    parts: usize,
    missed: usize,
    unstable: usize,
    skipped: Vec<String>,
}

impl Table {
    /// Starts the table.
    pub(super) fn begin() -> Self {
        println!("| figure | value | target | |\n|---|---:|---:|---|");
        Self::default()
    }

    /// Starts a part of the table.
    pub(super) fn part(&mut self, name: &str) {
        self.parts += 1;
        println!("| **{}. {name}** | | | |", self.parts);
    }

    /// Adds a measurement with its target.
    pub(super) fn tell(&mut self, what: &str, value: f64, unit: &str, target: Target) {
        let met = match target {
            Target::None => None,
            Target::AtMost(most) => Some(value <= most),
            Target::AtLeast(least) => Some(value >= least),
        };
        self.missed += usize::from(met == Some(false));
        let verdict = met.map_or("", |met| if met { "met" } else { "**missed**" });
        println!("| {what} | {} {unit} | {target} | {verdict} |", number(value));
    }

    /// Adds the ratio of two medians with its target; if the repeats of a side vary too much, says so
    /// instead.
    pub(super) fn compare(&mut self, what: &str, own: &Repeats, other: &Repeats, target: Target) {
        match own.ratio_to(other) {
            Ok(ratio) => self.tell(what, ratio, "×", target),
            Err(spreads) => {
                let [own, other] = spreads.map(|spread| spread * 100.0);
                println!(
                    "| {what} | no ratio: repeats vary by {own:.0}% and {other:.0}% | {target} | \
                     **not stable** |"
                );
                self.unstable += 1;
            }
        }
    }

    /// Reports a measurement that is not possible on this machine.
    pub(super) fn skip(&mut self, what: &str, why: &str) {
        println!("| {what} | skipped: {why} | | |");
        self.skipped.push(what.to_owned());
    }

    /// The last line.
    pub(super) fn end(self, minutes: f64) {
        let skipped =
            if self.skipped.is_empty() { "nothing".into() } else { self.skipped.join(", ") };
        let Self { missed, unstable, .. } = self;
        println!(
            "\n{missed} targets missed; {unstable} ratios not stable; skipped: {skipped}; \
             {minutes:.1} min."
        );
    }
}

/// Three significant digits, or all digits before the decimal point.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
