//! Repeats of one measurement: the median, and whether they agree well enough for a ratio.

/// A ratio has no meaning if the repeats of one of its sides vary by more than this share of their
/// median: most differences that the table shows are smaller.
const MOST_SPREAD: f64 = 0.15;

/// The same measurement several times.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repeats(Vec<f64>);

impl Repeats {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The median, or the greater of the two values in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// How much they vary: (max − min) / median, without the repeat that is farthest from the median.
    /// Other load of the machine may disturb one of them, and does not change the median of five.
    pub(crate) fn spread(&self) -> f64 {
        let median = self.median();
        let (min, max) = match self.0.as_slice() {
            [] | [_] => return 0.0,
            [low, rest @ ..] if median - low > rest[rest.len() - 1] - median => {
                (rest[0], rest[rest.len() - 1])
            }
            [rest @ .., _] => (rest[0], rest[rest.len() - 1]),
        };
        (max - min) / median
    }

    /// The ratio of the medians.
    ///
    /// # Errors
    ///
    /// The spreads of both sides, if one of them exceeds 15%.
    pub(crate) fn ratio_to(&self, other: &Self) -> Result<f64, [f64; 2]> {
        let spreads = [self.spread(), other.spread()];
        if spreads.iter().any(|spread| *spread > MOST_SPREAD) {
            return Err(spreads);
        }
        Ok(self.median() / other.median())
    }
}
