//! Daily maintenance windows, `quiet` in the configuration: no logins during a window.
//!
//! Pure: parses a window and computes its end for a given time.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Time;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::similarity::suggest;

/// Files in the time zone directory whose meaning depends on the machine; not zones.
const NO_ZONES: [&str; 3] = ["localtime", "posixrules", "Factory"];

/// A daily window by the clocks of a time zone, such as `23:45-00:15 America/New_York`.
///
/// The start is included, the end is not. An end before the start is on the next day.
///
/// If the clocks change during a window, local time decides: a local time that is skipped is not in
/// the window, and a local time that occurs twice is in it twice.
///
/// ```
/// let window: tokenkeep::settings::MaintenanceWindow = "23:45-00:15 UTC".parse().unwrap();
/// let end = window.until("2025-06-30T23:50:00Z".parse().unwrap());
/// assert_eq!(end, Some("2025-07-01T00:15:00Z".parse().unwrap()));
/// assert_eq!(window.until(end.unwrap()), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceWindow {
    start: Time,
    end: Time,
    zone: TimeZone,
}

impl MaintenanceWindow {
    /// End of the window that contains `now`, always later than `now`; `None` outside.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let mut at = now;
        while let Some(left) = self.left(self.zone.to_datetime(at).time()) {
            let end = at.saturating_add(left).unwrap_or(Timestamp::MAX);
            let change = self.zone.following(at).next().map(|change| change.timestamp());
            let Some(change) = change.filter(|change| *change <= end) else {
                at = end;
                break;
            };
            // The clocks change before the end, so the local time must be computed again.
            at = change;
        }
        (at > now).then_some(at)
    }

    /// Time from `time` to the end of the window, if no clock changes; `None` outside.
    fn left(&self, time: Time) -> Option<SignedDuration> {
        let inside = forward(self.start, time) < forward(self.start, self.end);
        inside.then(|| forward(time, self.end))
    }
}

/// Time from `from` until the next `to`; less than a day.
fn forward(from: Time, to: Time) -> SignedDuration {
    let distance = from.duration_until(to);
    if distance.is_negative() { distance + SignedDuration::from_hours(24) } else { distance }
}

impl fmt::Display for MaintenanceWindow {
    /// In the notation of the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start, self.end);
        write!(f, "{:02}:{:02}-", start.hour(), start.minute())?;
        write!(f, "{:02}:{:02} ", end.hour(), end.minute())?;
        // Every zone was found by its name, so it has one.
        f.write_str(self.zone.iana_name().unwrap_or("UTC"))
    }
}

/// Why a text is not a [`MaintenanceWindow`]. The message continues a sentence that begins with the
/// text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaintenanceWindowError {
    /// Not two times and a zone.
    #[error("which is not of the form \"HH:MM-HH:MM ZONE\"")]
    Form,
    /// Not a time of day.
    #[error("with an invalid time")]
    Time,
    /// The time zone is missing.
    #[error("which has no time zone")]
    NoZone,
    /// An unknown time zone, with a similar known one.
    #[error("whose time zone is unknown")]
    UnknownZone(Option<String>),
    /// Start and end are equal.
    #[error("which ends when it starts")]
    Empty,
}

impl MaintenanceWindowError {
    /// How to correct it.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Form => {
                "write start, end and time zone, like \"23:45-00:15 America/New_York\"".to_owned()
            }
            Self::Time => "write times from 00:00 to 23:59; midnight is 00:00".to_owned(),
            Self::NoZone => {
                "add a time zone after the times, such as America/New_York or UTC".to_owned()
            }
            Self::UnknownZone(Some(near)) => format!("did you mean {near}?"),
            Self::UnknownZone(None) => {
                "write an IANA name, like America/New_York, or UTC".to_owned()
            }
            Self::Empty => "choose another end time; the window may cross midnight".to_owned(),
        }
    }
}

impl FromStr for MaintenanceWindow {
    type Err = MaintenanceWindowError;

    /// Parses `HH:MM-HH:MM ZONE`, with an IANA zone name or `UTC`.
    fn from_str(text: &str) -> Result<Self, MaintenanceWindowError> {
        let (times, zone) = match text.split_whitespace().collect::<Vec<_>>()[..] {
            [times] => (times, None),
            [times, zone] => (times, Some(zone)),
            _ => return Err(MaintenanceWindowError::Form),
        };
        let (start, end) = times.split_once('-').ok_or(MaintenanceWindowError::Form)?;
        let (start, end) = (time(start)?, time(end)?);
        let zone = find_zone(zone.ok_or(MaintenanceWindowError::NoZone)?)?;
        if start == end {
            return Err(MaintenanceWindowError::Empty);
        }
        Ok(Self { start, end, zone })
    }
}

fn time(text: &str) -> Result<Time, MaintenanceWindowError> {
    let two_digits = |text: &str| {
        let fits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse::<i8>().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':').ok_or(MaintenanceWindowError::Form)?;
    let (hour, minute) =
        two_digits(hour).zip(two_digits(minute)).ok_or(MaintenanceWindowError::Form)?;
    Time::new(hour, minute, 0, 0).map_err(|_| MaintenanceWindowError::Time)
}

/// The zone called `name` from this machine's database, else from the built-in one: some machines
/// have no time zones, or not the old names.
fn find_zone(name: &str) -> Result<TimeZone, MaintenanceWindowError> {
    let bundled = TimeZoneDatabase::bundled();
    let is_zone = !NO_ZONES.iter().any(|other| other.eq_ignore_ascii_case(name));
    let found =
        if is_zone { TimeZone::get(name).or_else(|_| bundled.get(name)).ok() } else { None };
    found.filter(|zone| zone.iana_name().is_some()).ok_or_else(|| {
        let known: Vec<String> = bundled.available().map(|zone| zone.to_string()).collect();
        let known = known.iter().map(String::as_str).filter(|zone| !NO_ZONES.contains(zone));
        MaintenanceWindowError::UnknownZone(nearest(name, known).map(str::to_owned))
    })
}

/// The zone that `name` was probably meant to be. Often only the region is missing.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let location = |zone: &'a str| zone.rsplit('/').next().unwrap_or(zone);
    let same = known.clone().find(|zone| location(zone).eq_ignore_ascii_case(name));
    same.or_else(|| suggest(name, known))
}

#[cfg(test)]
mod tests;
