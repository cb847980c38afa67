//! The hours of a day in which nothing logs in, such as a server's known maintenance.
//!
//! Owns how such a window is written and when it ends. It is told what time it is, and
//! knows nothing of what keeps quiet in it.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Time;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::similarity::suggest;

/// Files beside the zones that are none: what they hold depends on the machine.
const NO_ZONES: [&str; 3] = ["localtime", "posixrules", "Factory"];

/// A daily window by the clocks of a time zone, such as `23:45-00:15 America/New_York`.
///
/// Its start belongs to it, its end does not; an end before the start lies on the next day.
/// When clocks change, what they show decides: a time that they skip is not quiet, one that
/// they show twice is quiet twice.
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
    /// The end of the window that `now` lies in, always later than `now`; `None` outside.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let mut at = now;
        while let Some(left) = self.left(self.zone.to_datetime(at).time()) {
            let end = at.saturating_add(left).unwrap_or(Timestamp::MAX);
            let change = self.zone.following(at).next().map(|change| change.timestamp());
            let Some(change) = change.filter(|change| *change <= end) else {
                at = end;
                break;
            };
            // The clocks change first: what they show then has to be asked anew.
            at = change;
        }
        (at > now).then_some(at)
    }

    /// How long after `time` the window ends if no clock changes; `None` outside.
    fn left(&self, time: Time) -> Option<SignedDuration> {
        let inside = forward(self.start, time) < forward(self.start, self.end);
        inside.then(|| forward(time, self.end))
    }
}

/// From `from` until clocks next show `to`; less than a day.
fn forward(from: Time, to: Time) -> SignedDuration {
    let distance = from.duration_until(to);
    if distance.is_negative() { distance + SignedDuration::from_hours(24) } else { distance }
}

impl fmt::Display for MaintenanceWindow {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start, self.end);
        write!(f, "{:02}:{:02}-", start.hour(), start.minute())?;
        write!(f, "{:02}:{:02} ", end.hour(), end.minute())?;
        // Zones come from their names, and so always have one.
        f.write_str(self.zone.iana_name().unwrap_or("UTC"))
    }
}

/// Why a text is no [`MaintenanceWindow`]; the sentence goes on after the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaintenanceWindowError {
    /// It does not consist of two times and a zone.
    #[error("which is not of the form \"HH:MM-HH:MM ZONE\"")]
    Form,
    /// A time that no day has.
    #[error("with a time that no day has")]
    Time,
    /// Two times, and no zone.
    #[error("which lacks its time zone")]
    NoZone,
    /// A zone that nobody knows; with one that may have been meant.
    #[error("whose time zone is unknown")]
    UnknownZone(Option<String>),
    /// It ends as it begins.
    #[error("which ends when it begins")]
    Empty,
}

impl MaintenanceWindowError {
    /// What to do about it.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Form => {
                "write start, end and time zone, like \"23:45-00:15 America/New_York\"".to_owned()
            }
            Self::Time => "write times from 00:00 to 23:59; midnight is 00:00".to_owned(),
            Self::NoZone => {
                "write a zone's name behind the times, like America/New_York, or UTC".to_owned()
            }
            Self::UnknownZone(Some(near)) => format!("did you mean {near}?"),
            Self::UnknownZone(None) => {
                "write an IANA name, like America/New_York, or UTC".to_owned()
            }
            Self::Empty => "let it end at another time; it may cross midnight".to_owned(),
        }
    }
}

impl FromStr for MaintenanceWindow {
    type Err = MaintenanceWindowError;

    /// Reads `HH:MM-HH:MM ZONE`, the zone by its IANA name or `UTC`.
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

/// The zone called `name`, as this machine knows it; failing that, as it was known when
/// this program was built: some machines have no time zones, or not the old names.
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

/// The zone that `name` was meant for: often its region is all that is missing.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let location = |zone: &'a str| zone.rsplit('/').next().unwrap_or(zone);
    let same = known.clone().find(|zone| location(zone).eq_ignore_ascii_case(name));
    same.or_else(|| suggest(name, known))
}

#[cfg(test)]
mod tests;
