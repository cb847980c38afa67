//! Output table: each measurement with its target.

/// Target of a measurement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// No target: the value is for comparison.
    None,
    AtMost(f64),
    AtLeast(f64),
}

/// All measurements so far. Each is printed at once, so that a run can be watched.
#[derive(Debug, Default)]
pub(super) struct Table {
    parts: usize,
    missed: usize,
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
        let (wanted, met) = match target {
            Target::None => (String::new(), None),
            Target::AtMost(most) => (format!("≤ {}", number(most)), Some(value <= most)),
            Target::AtLeast(least) => (format!("≥ {}", number(least)), Some(value >= least)),
        };
        self.missed += usize::from(met == Some(false));
        let verdict = met.map_or("", |met| if met { "met" } else { "**missed**" });
        println!("| {what} | {} {unit} | {wanted} | {verdict} |", number(value));
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
        println!("\n{} targets missed; skipped: {skipped}; {minutes:.1} min.", self.missed);
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
