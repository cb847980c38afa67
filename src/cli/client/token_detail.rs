//! Details of one token for people: state, schedule, reauth, and a timeline of events.

use super::table::short_duration;
use super::terminal::Terminal;
use crate::control::{EventView, TokenDetail};
use crate::text::printable;

const RESET: &str = "\x1b[0m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";

/// Text for a token without `reauth`.
const NO_REAUTH: &str = "none; a new value can only come from the source";

/// Renders one line for each property, then the timeline.
pub(super) fn render(detail: &TokenDetail, terminal: Terminal) -> String {
    let token = &detail.token;
    let mut lines = vec![
        ("token", token.name.clone()),
        ("server", token.server.clone()),
        ("state", state(detail)),
    ];
    if let Some(inventory) = &token.inventory {
        lines.insert(2, ("inventory", inventory.clone()));
    }
    if let Some(source) = &detail.source {
        lines.push(("source", source.clone()));
    }
    lines.push(("life left", life(detail)));
    if let Some(passed) = token.last_check_ms {
        lines.push(("last check", format!("{} ago", short_duration(passed))));
    }
    lines.push((
        "next check",
        match (token.busy, token.next_check_ms) {
            (true, _) => "in progress".to_owned(),
            (false, Some(next)) => format!("in {}", short_duration(next)),
            (false, None) => "none".to_owned(),
        },
    ));
    if let Some(room) = detail.retry_room_ms {
        lines.push(("retry room", short_duration(room)));
    }
    lines.push(("renews by", token.renews_by.clone().unwrap_or_else(|| "not known".to_owned())));
    lines.push(("re-auth", reauth(detail)));
    let mut text = String::new();
    for (name, fact) in lines {
        text += &format!("{name:<11} {}\n", printable(&fact));
    }
    if !detail.events.is_empty() {
        text.push('\n');
    }
    for event in &detail.events {
        text += &timeline(event, terminal);
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

fn life(detail: &TokenDetail) -> String {
    let of = detail
        .token
        .life_ms
        .map(|life| format!(" of {}", short_duration(life)))
        .unwrap_or_default();
    match detail.token.remaining_ms {
        None => "not known".to_owned(),
        Some(left) if left < 0 => format!("over by {}{of}", short_duration(left.unsigned_abs())),
        Some(left) => format!("{}{of}", short_duration(left.unsigned_abs())),
    }
}

fn reauth(detail: &TokenDetail) -> String {
    let Some(reauth) = &detail.reauth else { return NO_REAUTH.to_owned() };
    let next = reauth.next_attempt_ms.map(|next| format!(", next in {}", short_duration(next)));
    let (name, left, most) = (&reauth.name, reauth.attempts_left, reauth.max_attempts);
    format!("{name}, {left} of {most} attempts left{}", next.unwrap_or_default())
}

/// Indentation of continuation lines.
pub(super) const INDENT: usize = 4;

/// Minimum width of a message, even on a narrow terminal.
pub(super) const MIN_WIDTH: usize = 20;

/// Renders an event with its whole message, wrapped.
fn timeline(event: &EventView, terminal: Terminal) -> String {
    let paint = |style: &'static str| if terminal.colour { style } else { "" };
    let color = match event.level.as_str() {
        "error" => RED,
        "warn" => YELLOW,
        _ => "",
    };
    let time = printable(event.at.get(..19).unwrap_or(&event.at)).replace('T', " ");
    let name = printable(&event.event);
    let before = time.chars().count() + name.chars().count() + 3;
    let width = usize::from(terminal.width);
    let first = width.saturating_sub(before).max(MIN_WIDTH);
    let others = width.saturating_sub(INDENT).max(MIN_WIDTH);
    let message = wrap(&printable(&event.message), first, others);
    let (dim, color, reset) = (paint(DIM), paint(color), paint(RESET));
    format!("{dim}{time}{reset}  {color}{name}{reset} {message}\n")
}

/// Wraps `text` between words, to `first` and then `others` characters per line. Longer words, such
/// as paths, are not broken, so that they can be copied.
pub(super) fn wrap(text: &str, first: usize, others: usize) -> String {
    let mut lines = String::with_capacity(text.len() + 16);
    let (mut used, mut room) = (0, first);
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            lines.push('\n');
            lines.push_str(&" ".repeat(INDENT));
            (used, room) = (0, others);
        } else if used > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_wrapped_between_words_and_nothing_is_cut() {
        let text = "the source has no value: /a/very/long/path/to/the.token: it is empty";
        assert_eq!(
            wrap(text, 12, 20),
            "the source\n    has no value:\n    /a/very/long/path/to/the.token:\n    it is empty"
        );
        assert_eq!(wrap("short", 20, 20), "short");
    }
}
