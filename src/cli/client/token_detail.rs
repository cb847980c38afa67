//! Details of one token for people: state, schedule, reauth, and a timeline of events.

use jiff::Timestamp;

use super::cluster::claimed_by;
use super::terminal::{DIM, RED, Terminal, YELLOW};
use super::times::{LocalTime, short_duration};
use crate::control::{EventView, LifeBasis, TokenDetail};
use crate::text::printable;

/// Text for a token without `reauth`.
const NO_REAUTH: &str = "none; a new value can only come from the source";

/// Width of the names of properties, with the space behind them.
const NAMES: usize = 12;

/// Indentation of continuation lines of events.
const INDENT: usize = 4;

/// Renders one line for each property, then the timeline.
pub(super) fn render(detail: &TokenDetail, terminal: Terminal, time: &LocalTime) -> String {
    let token = &detail.token;
    let mut lines = vec![("token", token.name.clone()), ("server", token.server.clone())];
    lines.extend(token.inventory.clone().map(|inventory| ("inventory", inventory)));
    lines.extend(token.replica.clone().map(|replica| ("replica", replica)));
    lines.push(("state", state(detail)));
    lines.extend(token.claim.as_ref().map(|claim| ("claim", claimed_by(claim))));
    lines.extend(detail.summary.as_ref().map(|summary| ("summary", time.sentence(summary))));
    lines.extend(detail.source.as_deref().map(|source| ("source", watched(source))));
    lines.push(("life left", life(detail, time)));
    if let Some(passed) = token.last_check_ms {
        let at = time.after(i64::try_from(passed).map_or(i64::MIN, |passed| -passed));
        lines.push(("last check", format!("{} ago, at {at}", short_duration(passed))));
    }
    lines.push((
        "next check",
        match (token.busy, token.next_check_ms) {
            (true, _) => "in progress".to_owned(),
            (false, Some(next)) => ahead(next, time),
            (false, None) if token.state == "elsewhere" => "by another replica".to_owned(),
            (false, None) => "none".to_owned(),
        },
    ));
    lines.extend(detail.retry_room_ms.map(|room| ("retry room", short_duration(room))));
    lines.push(("renews by", token.renews_by.clone().unwrap_or_else(|| "not known".to_owned())));
    lines.push(("re-auth", reauth(detail, time)));
    let mut text = String::new();
    for (name, fact) in lines {
        let fact = terminal.wrap(&printable(&fact), NAMES, NAMES);
        text += &format!("{name:<11} {fact}\n");
    }
    if !detail.events.is_empty() {
        text.push('\n');
    }
    let width = detail.events.iter().map(|event| printable(&event.event).chars().count()).max();
    for event in &detail.events {
        text += &timeline(event, width.unwrap_or_default(), terminal, time);
    }
    text
}

fn state(detail: &TokenDetail) -> String {
    match detail.failures {
        0 => detail.token.state.clone(),
        1 => format!("{}, the last request failed", detail.token.state),
        failures => format!("{}, the last {failures} requests failed", detail.token.state),
    }
}

/// The source. A file is watched, so that a new value is used at once.
fn watched(source: &str) -> String {
    if source.starts_with('/') { format!("{source} (watched)") } else { source.to_owned() }
}

/// `in 29 min, at 14:05`.
fn ahead(in_ms: u64, time: &LocalTime) -> String {
    let at = time.after(i64::try_from(in_ms).unwrap_or(i64::MAX));
    format!("in {}, at {at}", short_duration(in_ms))
}

fn life(detail: &TokenDetail, time: &LocalTime) -> String {
    let of = detail.token.life_ms.map(|life| format!(" of {}", short_duration(life)));
    let of = of.unwrap_or_default();
    let Some(left) = detail.token.remaining_ms else { return "not known".to_owned() };
    let (text, at) = (short_duration(left.unsigned_abs()), time.after(left));
    let assumed = match detail.token.life_basis() {
        LifeBasis::Endless => return "unlimited: the token does not expire".to_owned(),
        LifeBasis::Assumed => "assumed ",
        LifeBasis::Reported => "",
    };
    if left < 0 {
        format!("{assumed}over by {text}{of}, since {at}")
    } else {
        format!("{text}{of}, {assumed}until {at}")
    }
}

fn reauth(detail: &TokenDetail, time: &LocalTime) -> String {
    let Some(reauth) = &detail.reauth else { return NO_REAUTH.to_owned() };
    let next = reauth.next_attempt_ms.map(|next| format!(", next {}", ahead(next, time)));
    let (name, left, most) = (&reauth.name, reauth.attempts_left, reauth.max_attempts);
    format!("{name}, {left} of {most} attempts left{}", next.unwrap_or_default())
}

/// Renders an event with its whole message, wrapped. Names are padded to `width`.
fn timeline(event: &EventView, width: usize, terminal: Terminal, time: &LocalTime) -> String {
    let at = match event.at.parse::<Timestamp>() {
        Ok(at) => time.date_and_time(at),
        Err(_) => printable(&event.at).into_owned(),
    };
    let name = format!("{:<width$}", printable(&event.event));
    let before = at.chars().count() + width + 4;
    let message = terminal.wrap(&printable(&event.message), before, INDENT);
    let name = match event.level.as_str() {
        "error" => terminal.paint(RED, &name),
        "warn" => terminal.paint(YELLOW, &name),
        _ => name,
    };
    format!("{}  {name}  {message}\n", terminal.paint(DIM, &at))
}
