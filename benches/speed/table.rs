//! The figures, each beside its target.

/// What a figure has to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// Nothing: it is there to be compared.
    None,
    AtMost(f64),
    AtLeast(f64),
}

/// All figures so far. Each is printed as it comes, so that a run can be watched.
#[derive(Debug, Default)]
pub(super) struct Table {
    parts: usize,
    missed: usize,
    skipped: Vec<String>,
}

impl Table {
    /// The head of the table.
    pub(super) fn begin() -> Self {
        println!("| figure | value | target | |\n|---|---:|---:|---|");
        Self::default()
    }

    /// The figures from here on belong to this part.
    pub(super) fn part(&mut self, name: &str) {
        self.parts += 1;
        println!("| **{}. {name}** | | | |", self.parts);
    }

    /// A figure and its target.
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

    /// Something cannot be measured here.
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

/// Three digits, more where they stand before the point.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
