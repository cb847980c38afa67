//! Renders tokens as a table, below a sentence about all of them.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Row,
    Table, TableStyle,
};

use super::cluster::{claimed_by, cluster_line};
use super::terminal::{GREEN, RED, Terminal, YELLOW};
use super::times::{LocalTime, short_duration};
use crate::control::summary::Level;
use crate::control::{ClusterStatus, ConfigRejection, Counts, LifeBasis, TokenPage, TokenView};
use crate::text::{format_token_counts, group_digits, printable};

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Token,
    Server,
    /// The replica that checks it, or the claim under way.
    Replica,
    State,
    /// The remaining life, with a bar.
    Bar,
    /// The remaining life.
    Life,
    Until,
    Checked,
    Next,
    By,
}

impl Column {
    const fn header(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Server => "server",
            Self::Replica => "replica",
            Self::State => "state",
            Self::Bar | Self::Life => "life left",
            Self::Until => "until",
            Self::Checked => "checked",
            Self::Next => "next",
            Self::By => "by",
        }
    }
}

/// The columns, from wide to narrow: the first ones that fit the terminal are used.
const LAYOUTS: [&[Column]; 6] = {
    use Column::{Bar, By, Checked, Life, Next, Server, State, Token, Until};
    [
        &[Token, Server, State, Bar, Until, Checked, Next, By],
        &[Token, Server, State, Bar, Until, Checked, Next],
        &[Token, Server, State, Bar, Until, Next],
        &[Token, Server, State, Life, Until, Next],
        &[Token, State, Life, Until, Next],
        &[Token, State, Life, Until],
    ]
};

/// The columns in a cluster, likewise.
const LAYOUTS_IN_CLUSTER: [&[Column]; 6] = {
    use Column::{Bar, By, Checked, Life, Next, Replica, Server, State, Token, Until};
    [
        &[Token, Server, Replica, State, Bar, Until, Checked, Next, By],
        &[Token, Server, Replica, State, Bar, Until, Next],
        &[Token, Replica, State, Bar, Until, Next],
        &[Token, Replica, State, Life, Until, Next],
        &[Token, Replica, State, Life],
        &[Token, State, Life, Until],
    ]
};

/// Up to this width of the terminal there are no bars.
const NARROW: u16 = 60;

/// Width that names are shortened to, to make room for other columns.
const SHORTENED_NAME: u16 = 24;

/// Width between two columns.
const GAP: usize = 2;

/// Width of a bar.
const BAR: u64 = 8;

/// Line below the header.
const LINE: LineStyle = LineStyle::none().fill('─').junction('─');

/// Maximum rows of one table. Further rows start another table with its own header and widths.
const ROWS_PER_TABLE: usize = 10_000;

/// Renders the sentence, a row for each token, and a summary of all tokens. In parts, because one
/// table of a million rows would need gigabytes.
pub(super) fn render(
    page: &TokenPage,
    terminal: Terminal,
    time: &LocalTime,
) -> impl Iterator<Item = String> {
    let tables =
        page.tokens.chunks(ROWS_PER_TABLE).map(move |tokens| rows(tokens, terminal, time) + "\n");
    let left_out = page.matched.unwrap_or_default().saturating_sub(page.tokens.len());
    let rest = match left_out {
        0 => String::new(),
        _ => format!("and {} more, which --all shows\n", group_digits(left_out)),
    };
    let end = rest + &summary(&page.counts) + "\n";
    [heading(page, terminal, time)].into_iter().chain(tables).chain([end])
}

/// The sentence about all tokens, and the rejected configuration if there is one.
pub(in crate::cli) fn heading(page: &TokenPage, terminal: Terminal, time: &LocalTime) -> String {
    let mut text = String::new();
    if let Some(summary) = &page.summary {
        let style = match summary.level {
            Level::Ok => GREEN,
            Level::Warn => YELLOW,
            Level::Error => RED,
        };
        let sentence = terminal.wrap(&time.sentence(summary), 0, 0);
        text += &format!("{}\n", terminal.paint(style, &sentence));
    }
    if let Some(rejection) = &page.config_rejected {
        let rejected = terminal.wrap(&format!("{rejection}: {}", cause(rejection)), 0, 0);
        text += &format!("{}\n", terminal.paint(YELLOW, &rejected));
    }
    if let Some(cluster) = &page.cluster {
        // The sentence says why.
        let error = cluster.error.clone().filter(|_| page.summary.is_none());
        let cluster = ClusterStatus { error, ..cluster.clone() };
        let line = terminal.wrap(&printable(&cluster_line(&cluster, time)), 0, 0);
        let line = if cluster.reachable { line } else { terminal.paint(RED, &line) };
        text += &format!("{line}\n");
    }
    if text.is_empty() { text } else { text + "\n" }
}

/// The error of a rejected configuration, in one line.
fn cause(rejection: &ConfigRejection) -> String {
    let lines: Vec<_> = rejection.error.lines().map(str::trim).collect();
    let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    let more = if lines[end..].iter().any(|line| !line.is_empty()) { " …" } else { "" };
    printable(&lines[..end].join("; ")).into_owned() + more
}

/// One table.
pub(in crate::cli) fn rows(tokens: &[TokenView], terminal: Terminal, time: &LocalTime) -> String {
    let has_place =
        |columns: &&&[Column]| terminal.width > NARROW || !columns.contains(&Column::Bar);
    let is_in_cluster = tokens.iter().any(|token| token.replica.is_some());
    let layouts = if is_in_cluster { &LAYOUTS_IN_CLUSTER } else { &LAYOUTS };
    let layouts = layouts.iter().filter(has_place);
    let mut layouts = layouts.map(|columns| table(tokens, columns, terminal, time));
    let fits = |table: &Table| {
        let mut widths = table.column_max_content_widths();
        if let Some(name) = widths.first_mut() {
            *name = SHORTENED_NAME.min(*name);
        }
        let width: usize = widths.iter().map(|width| usize::from(*width) + GAP).sum();
        width <= usize::from(terminal.width) + GAP
    };
    let narrowest = || table(tokens, LAYOUTS[LAYOUTS.len() - 1], terminal, time);
    layouts.find(fits).unwrap_or_else(narrowest).trim_fmt()
}

fn table(tokens: &[TokenView], columns: &[Column], terminal: Terminal, time: &LocalTime) -> Table {
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
    let head = |column: &Column| Cell::new(column.header()).add_attribute(Attribute::Bold);
    table.set_header(columns.iter().map(head));
    for token in tokens {
        let mut row = Row::from(columns.iter().map(|column| cell(token, *column, time)));
        row.max_height(1);
        table.add_row(row);
    }
    for (column, kind) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 1));
        // Names are shortened before states and times are.
        if !matches!(kind, Column::Token | Column::Server) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

fn cell(token: &TokenView, column: Column, time: &LocalTime) -> Cell {
    let right = |text: Option<String>| {
        Cell::new(text.unwrap_or_else(|| "-".to_owned())).set_alignment(CellAlignment::Right)
    };
    match column {
        Column::Token => Cell::new(printable(&token.name)),
        Column::Server => Cell::new(printable(&token.server)),
        Column::Replica => Cell::new(printable(&replica(token))),
        Column::State => Cell::new(printable(&token.state)).fg(colour(&token.state)),
        Column::Bar => Cell::new(life(token, true)).fg(colour(&token.state)),
        Column::Life => Cell::new(life(token, false)).fg(colour(&token.state)),
        Column::Until => right(until(token, time)),
        Column::Checked => right(token.last_check_ms.map(short_duration)),
        Column::Next if token.busy => right(Some("now".to_owned())),
        Column::Next => right(token.next_check_ms.map(short_duration)),
        Column::By => Cell::new(printable(token.renews_by.as_deref().unwrap_or("-"))),
    }
}

/// The replica that checks the token, or the one that logs in, renews or revokes.
fn replica(token: &TokenView) -> String {
    match (&token.claim, &token.replica) {
        (Some(claim), _) => claimed_by(claim),
        (None, Some(replica)) => replica.clone(),
        (None, None) => "-".to_owned(),
    }
}

fn colour(state: &str) -> Color {
    match state {
        "alive" => Color::Green,
        "retrying" | "paused" => Color::Yellow,
        "elsewhere" => Color::DarkGrey,
        _ => Color::Red,
    }
}

/// The expiry, and whether it is assumed.
fn until(token: &TokenView, time: &LocalTime) -> Option<String> {
    let at = time.after(token.remaining_ms?);
    match token.life_basis() {
        LifeBasis::Reported => Some(at),
        LifeBasis::Assumed => Some(format!("{at} (assumed)")),
        LifeBasis::Endless => None,
    }
}

/// The remaining life, with a bar if `bars`.
fn life(token: &TokenView, bars: bool) -> String {
    let bar = |part, whole| if bars { bar(part, whole) + " " } else { String::new() };
    let Some(remaining) = token.remaining_ms else { return "-".to_owned() };
    if token.life_basis() == LifeBasis::Endless {
        return "does not expire".to_owned();
    }
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

/// Number of tokens by state, in one line.
pub(super) fn summary(counts: &Counts) -> String {
    format_token_counts(&counts_by_state(counts))
}

/// Each state with its number of tokens; that of other replicas only in a cluster.
pub(super) fn counts_by_state(counts: &Counts) -> Vec<(usize, &'static str)> {
    let mut by_state = vec![
        (counts.alive, "alive"),
        (counts.retrying, "retrying"),
        (counts.paused, "paused"),
        (counts.unverified, "unverified"),
        (counts.expired, "expired"),
        (counts.rejected, "rejected"),
        (counts.missing, "missing"),
    ];
    by_state.extend(counts.elsewhere.map(|count| (count, "elsewhere")));
    by_state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ClaimView;

    #[test]
    fn a_bar_is_full_at_a_full_life_and_empty_only_after_the_expiry() {
        assert_eq!(
            [bar(8, 8), bar(4, 8), bar(1, 8_000), bar(0, 8)],
            ["████████", "████░░░░", "█░░░░░░░", "░░░░░░░░"]
        );
    }

    fn token(name: &str, state: &str, remaining_ms: Option<i64>) -> TokenView {
        TokenView {
            name: name.to_owned(),
            server: "sarus".to_owned(),
            inventory: None,
            state: state.to_owned(),
            remaining_ms,
            life_ms: remaining_ms.map(|_| 1_800_000),
            last_check_ms: remaining_ms.map(|_| 720_000),
            next_check_ms: remaining_ms.map(|_| 540_000),
            busy: false,
            renews_by: Some("query".to_owned()),
            assumed: false,
            endless: false,
            replica: None,
            claim: None,
        }
    }

    fn shown(width: u16, tokens: &[TokenView]) -> String {
        let terminal = Terminal { width, height: Some(24), colour: false };
        let time = LocalTime::for_tests("2026-11-29T13:36:00+01:00[Europe/Zurich]");
        let lines = rows(tokens, terminal, &time);
        assert!(lines.lines().all(|line| line.chars().count() <= usize::from(width)), "{lines}");
        // Without the line below the header.
        let lines = lines.lines().enumerate().filter(|(index, _)| *index != 1);
        lines.map(|(_, line)| line.trim_end()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_wide_terminal_shows_all_columns() {
        let tokens = [
            token("legacy", "expired", None),
            token("orders-of-a-customer-with-a-long-name", "retrying", Some(-600_000)),
            token("quotes", "alive", Some(1_740_000)),
        ];
        assert_eq!(
            shown(120, &tokens),
            "\
token                                  server  state     life left                until  checked  next   by
legacy                                 sarus   expired   -                            -        -      -  query
orders-of-a-customer-with-a-long-name  sarus   retrying  ░░░░░░░░ over by 10 min  13:26   12 min  9 min  query
quotes                                 sarus   alive     ████████ 29 min          14:05   12 min  9 min  query"
        );
    }

    #[test]
    fn assumed_and_endless_lives_are_told_from_reported_ones() {
        let tokens = [
            TokenView { assumed: true, ..token("items", "alive", Some(1_740_000)) },
            TokenView { endless: true, ..token("root", "alive", Some(31_622_400_000)) },
        ];
        assert_eq!(
            shown(80, &tokens),
            "\
token  server  state  life left        until            checked  next   by
items  sarus   alive  ████████ 29 min  14:05 (assumed)   12 min  9 min  query
root   sarus   alive  does not expire                -   12 min  9 min  query"
        );
    }

    fn in_cluster(name: &str, state: &str, replica: &str) -> TokenView {
        let remaining_ms = (state != "elsewhere").then_some(1_740_000);
        TokenView { replica: Some(replica.to_owned()), ..token(name, state, remaining_ms) }
    }

    #[test]
    fn a_cluster_has_a_column_for_the_replica_or_the_claim() {
        let claim = Some(ClaimView { replica: "keeper-b".to_owned(), age_ms: 12_000 });
        let tokens = [
            TokenView { claim, ..in_cluster("legacy", "elsewhere", "keeper-b") },
            in_cluster("orders", "elsewhere", "keeper-c"),
            in_cluster("quotes", "alive", "keeper-a"),
        ];
        assert_eq!(
            shown(120, &tokens),
            "\
token   server  replica                    state      life left        until  checked  next   by
legacy  sarus   claimed by keeper-b, 12 s  elsewhere  -                    -        -      -  query
orders  sarus   keeper-c                   elsewhere  -                    -        -      -  query
quotes  sarus   keeper-a                   alive      ████████ 29 min  14:05   12 min  9 min  query"
        );
        assert_eq!(
            shown(60, &tokens[1..]),
            "\
token   replica   state      life left  until  next
orders  keeper-c  elsewhere  -              -      -
quotes  keeper-a  alive      29 min     14:05  9 min"
        );
    }

    #[test]
    fn eighty_columns_keep_the_bars_and_drop_columns_for_long_names() {
        let short = [token("quotes", "alive", Some(1_740_000))];
        assert_eq!(
            shown(80, &short),
            "\
token   server  state  life left        until  checked  next   by
quotes  sarus   alive  ████████ 29 min  14:05   12 min  9 min  query"
        );
        let long = [token("orders-of-a-customer-with-a-long-name", "alive", Some(1_740_000))];
        assert_eq!(
            shown(80, &long),
            "\
token                     server  state  life left        until  checked  next
orders-of-a-customer-wi…  sarus   alive  ████████ 29 min  14:05   12 min  9 min"
        );
    }

    #[test]
    fn narrow_terminals_keep_the_time_left_and_drop_the_bar() {
        let tokens = [
            token("legacy", "expired", None),
            token("orders-of-a-customer-with-a-long-name", "alive", Some(1_740_000)),
        ];
        assert_eq!(
            shown(60, &tokens),
            "\
token                      state    life left  until  next
legacy                     expired  -              -      -
orders-of-a-customer-wit…  alive    29 min     14:05  9 min"
        );
        assert_eq!(
            shown(40, &tokens),
            "\
token         state    life left  until
legacy        expired  -              -
orders-of-a…  alive    29 min     14:05"
        );
    }
}
