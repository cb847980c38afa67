//! How quantities are said to people.

use std::time::Duration;

/// A duration for people: the two largest units that matter.
pub(super) fn words(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 10_000 {
        let tenths = millis / 100;
        return match tenths % 10 {
            0 => format!("{} s", tenths / 10),
            rest => format!("{}.{rest} s", tenths / 10),
        };
    }
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, seconds) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let told = [900, 40_200, 594_000, 600_000, 23_400_000, 21_600_000]
            .map(|millis| words(Duration::from_millis(millis)));
        assert_eq!(told, ["0.9 s", "40 s", "9 min 54 s", "10 min", "6 h 30 min", "6 h"]);
    }
}
