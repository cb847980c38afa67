//! Renders tokens as a table.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table,
};

use comfy_table::{LineStyle, TableStyle};

use super::terminal::Terminal;
use crate::control::{ConfigRejection, Counts, TokenPage, TokenView};
use crate::text::{format_token_counts, group_digits, printable};

/// Columns that are never shortened.
const STATE: usize = 2;
const LIFE: usize = 3;

/// Width that names are shortened to, to make room for the bars.
const SHORTENED_NAME: u16 = 24;

/// Width between two columns.
const GAP: usize = 2;

/// Width of a bar.
const BAR: u64 = 8;

/// Line below the header.
const LINE: LineStyle = LineStyle::none().fill('─').junction('─');

/// Maximum rows of one table. Further rows start another table with its own header and widths.
const ROWS_PER_TABLE: usize = 10_000;

/// Renders a row for each token, and a summary of all tokens. In parts, because one table of a
/// million rows would need gigabytes.
pub(super) fn render(page: &TokenPage, terminal: Terminal) -> impl Iterator<Item = String> {
    let tables =
        page.tokens.chunks(ROWS_PER_TABLE).map(move |tokens| rows(tokens, terminal) + "\n");
    let left_out = page.matched.unwrap_or_default().saturating_sub(page.tokens.len());
    let rest = match left_out {
        0 => String::new(),
        _ => format!("and {} more, which --all shows\n", group_digits(left_out)),
    };
    let rejected = page.config_rejected.as_ref();
    let rejected = rejected.map(|rejection| format!("{rejection}: {}\n", cause(rejection)));
    tables.chain([rest + &summary(&page.counts) + "\n"]).chain(rejected)
}

/// The error of a rejected configuration, in one line.
fn cause(rejection: &ConfigRejection) -> String {
    let lines: Vec<_> = rejection.error.lines().map(str::trim).collect();
    let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    let more = if lines[end..].iter().any(|line| !line.is_empty()) { " …" } else { "" };
    printable(&lines[..end].join("; ")).into_owned() + more
}

/// One table. Omits the bars if the terminal is too narrow for bars and names.
fn rows(tokens: &[TokenView], terminal: Terminal) -> String {
    let mut table = table(tokens, terminal, true);
    let mut widths = table.column_max_content_widths();
    if let Some(name) = widths.first_mut() {
        *name = SHORTENED_NAME.min(*name);
    }
    let width: usize = widths.iter().map(|width| usize::from(*width) + GAP).sum();
    if width > usize::from(terminal.width) {
        table = self::table(tokens, terminal, false);
    }
    // Names are shortened before states and times are.
    for column in [STATE, LIFE] {
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt()
}

fn table(tokens: &[TokenView], terminal: Terminal, bars: bool) -> Table {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new().header_separator(LINE))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(terminal.width)
        .set_truncation_indicator("…");
    if terminal.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let headers = ["token", "server", "state", "life left", "checked", "next", "by"];
    let head = |text| Cell::new(text).add_attribute(Attribute::Bold);
    table.set_header(headers.map(head));
    for token in tokens {
        table.add_row(row(token, bars));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

fn row(token: &TokenView, bars: bool) -> Row {
    let colour = colour(&token.state);
    let checked = token.last_check_ms.map(short_duration);
    let next = match (token.next_check_ms, token.busy) {
        (_, true) => Some("now".to_owned()),
        (next, false) => next.map(short_duration),
    };
    let right = |text: Option<String>| {
        Cell::new(text.unwrap_or_else(|| "-".to_owned())).set_alignment(CellAlignment::Right)
    };
    let mut row = Row::from([
        Cell::new(printable(&token.name)),
        Cell::new(printable(&token.server)),
        Cell::new(printable(&token.state)).fg(colour),
        Cell::new(life(token, bars)).fg(colour),
        right(checked),
        right(next),
        Cell::new(printable(token.renews_by.as_deref().unwrap_or("-"))),
    ]);
    row.max_height(1);
    row
}

fn colour(state: &str) -> Color {
    match state {
        "alive" => Color::Green,
        "retrying" | "paused" => Color::Yellow,
        _ => Color::Red,
    }
}

/// The remaining life, with a bar if `bars`.
fn life(token: &TokenView, bars: bool) -> String {
    let bar = |part, whole| if bars { bar(part, whole) + " " } else { String::new() };
    let Some(remaining) = token.remaining_ms else { return "-".to_owned() };
    let Ok(remaining) = u64::try_from(remaining) else {
        return format!("{}over by {}", bar(0, 1), short_duration(remaining.unsigned_abs()));
    };
    let life = token.life_ms.unwrap_or(remaining).max(remaining);
    format!("{}{}", bar(remaining, life), short_duration(remaining))
}

fn bar(part: u64, whole: u64) -> String {
    let full = part.saturating_mul(BAR).div_ceil(whole.max(1)).min(BAR);
    let times = |text: &str, times: u64| text.repeat(usize::try_from(times).unwrap_or(0));
    times("█", full) + &times("░", BAR - full)
}

/// A duration in its largest unit, rounded down.
pub(super) fn short_duration(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Number of tokens by state, in one line.
pub(super) fn summary(counts: &Counts) -> String {
    format_token_counts(&counts_by_state(counts))
}

/// Each state with its number of tokens.
pub(super) const fn counts_by_state(counts: &Counts) -> [(usize, &'static str); 7] {
    [
        (counts.alive, "alive"),
        (counts.retrying, "retrying"),
        (counts.paused, "paused"),
        (counts.unverified, "unverified"),
        (counts.expired, "expired"),
        (counts.rejected, "rejected"),
        (counts.missing, "missing"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_a_full_life_and_empty_only_after_the_expiry() {
        assert_eq!(
            [bar(8, 8), bar(4, 8), bar(1, 8_000), bar(0, 8)],
            ["████████", "████░░░░", "█░░░░░░░", "░░░░░░░░"]
        );
    }

    #[test]
    fn durations_are_shown_in_their_largest_unit() {
        let formatted =
            [0, 119_999, 120_000, 7_199_000, 7_200_000, 200_000_000].map(short_duration);
        assert_eq!(formatted, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
