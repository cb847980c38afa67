//! Output for Nagios-compatible monitoring: one line with performance data, and an exit status of 0
//! to 3.

use super::cluster::cluster_line;
use super::table::{counts_by_state, summary};
use super::times::LocalTime;
use crate::control::client::ControlClientError;
use crate::control::summary::Level;
use crate::control::{Counts, TokenPage, TokenView};
use crate::text::printable;

const OK: u8 = 0;
const WARNING: u8 = 1;
const CRITICAL: u8 = 2;
const UNKNOWN: u8 = 3;

/// The line and the exit status.
pub(super) fn render(
    response: &Result<TokenPage, ControlClientError>,
    time: &LocalTime,
) -> (String, u8) {
    match response {
        Ok(page) => {
            let rejected = page.config_rejected.as_ref();
            // With a rejected configuration, the next restart would fail.
            // Tokens that are alive may run out, or their server may be unavailable.
            let concern = page.summary.as_ref().filter(|summary| summary.level != Level::Ok);
            let no_etcd = page.cluster.as_ref().filter(|cluster| !cluster.reachable);
            let is_warning = rejected.is_some() || concern.is_some() || no_etcd.is_some();
            let status = status(&page.counts).max(if is_warning { WARNING } else { OK });
            let word = ["OK", "WARNING", "CRITICAL"][usize::from(status)];
            let is_named = |token: &&TokenView| !matches!(&*token.state, "alive" | "elsewhere");
            let named: Vec<_> = page.tokens.iter().filter(is_named).collect();
            let mut details: Vec<_> = named
                .iter()
                .take(MAX_NAMED)
                .map(|token| format!("{} is {}", printable(&token.name), printable(&token.state)))
                .collect();
            if named.len() > MAX_NAMED {
                details.push("and more".to_owned());
            }
            details.extend(rejected.map(ToString::to_string));
            details.extend(concern.map(|concern| time.sentence(concern)));
            // The sentence about all tokens says so itself.
            let no_etcd = no_etcd.filter(|_| concern.is_none());
            details.extend(
                no_etcd.map(|cluster| printable(&cluster_line(cluster, time)).into_owned()),
            );
            let details = if details.is_empty() {
                String::new()
            } else {
                format!("; {}", details.join(", "))
            };
            let line = format!(
                "TOKENKEEP {word} - {}{}|{}\n",
                summary(&page.counts),
                // A `|` would begin the performance data.
                details.replace('|', " "),
                performance_data(page)
            );
            (line, status)
        }
        Err(error) => {
            let error = error.to_string();
            let line = format!("TOKENKEEP UNKNOWN - {}\n", printable(&error));
            (line.replace('|', " "), UNKNOWN)
        }
    }
}

/// Maximum number of tokens that the line names.
const MAX_NAMED: usize = 5;

const fn status(counts: &Counts) -> u8 {
    if counts.unverified + counts.expired + counts.rejected + counts.missing > 0 {
        CRITICAL
    } else if counts.retrying + counts.paused > 0 {
        WARNING
    } else {
        OK
    }
}

fn performance_data(page: &TokenPage) -> String {
    let total = page.counts.total;
    let counts = counts_by_state(&page.counts);
    let mut data: Vec<_> =
        counts.iter().map(|(count, state)| format!("{state}={count};;;0;{total}")).collect();
    let shortest = page.tokens.iter().filter_map(|token| token.remaining_ms).min();
    data.extend(shortest.map(|left| format!("shortest_life={}s", left.max(0) / 1_000)));
    data.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ClusterStatus;
    use crate::control::summary::{Part, Summary};

    fn output(counts: Counts) -> (String, u8) {
        with_summary(counts, None)
    }

    fn with_summary(counts: Counts, summary: Option<Summary>) -> (String, u8) {
        render(&Ok(page(counts, summary)), &LocalTime::now())
    }

    fn page(counts: Counts, summary: Option<Summary>) -> TokenPage {
        TokenPage {
            summary,
            counts,
            matched: None,
            tokens: Vec::new(),
            next: None,
            config_rejected: None,
            cluster: None,
        }
    }

    #[test]
    fn alive_is_ok_retrying_a_warning_and_missing_critical() {
        let counts = Counts { total: 3, alive: 3, ..Counts::default() };
        let (line, status) = output(counts);
        assert_eq!(status, OK);
        assert!(line.starts_with("TOKENKEEP OK - 3 tokens: 3 alive|alive=3;;;0;3 "), "{line}");
        assert_eq!(output(Counts { alive: 2, retrying: 1, ..counts }).1, WARNING);
        assert_eq!(output(Counts { alive: 2, missing: 1, ..counts }).1, CRITICAL);
        let error = Err(ControlClientError::InvalidResponse("x".into()));
        assert_eq!(render(&error, &LocalTime::now()).1, UNKNOWN);
    }

    #[test]
    fn concern_about_alive_tokens_is_a_warning_with_its_sentence() {
        let counts = Counts { total: 3, alive: 3, ..Counts::default() };
        let summary = |level| {
            let parts = vec![Part::Text("archive | runs\nout.".to_owned())];
            Some(Summary { level, parts })
        };
        for level in [Level::Warn, Level::Error] {
            let (line, status) = with_summary(counts, summary(level));
            assert_eq!(status, WARNING);
            let expected =
                "TOKENKEEP WARNING - 3 tokens: 3 alive; archive   runs\\nout.|alive=3;;;0;3 ";
            assert!(line.starts_with(expected), "{line}");
            assert_eq!(line.lines().count(), 1);
            let dead = Counts { alive: 2, expired: 1, ..counts };
            assert_eq!(with_summary(dead, summary(level)).1, CRITICAL);
        }
        let (line, status) = with_summary(counts, summary(Level::Ok));
        assert_eq!((status, line.contains("archive")), (OK, false), "{line}");
    }

    #[test]
    fn tokens_of_other_replicas_are_counted_but_no_concern() {
        let counts = Counts { total: 3, alive: 1, elsewhere: Some(2), ..Counts::default() };
        let (line, status) = output(counts);
        assert_eq!(status, OK);
        assert!(line.starts_with("TOKENKEEP OK - 3 tokens: 1 alive, 2 elsewhere|"), "{line}");
        assert!(line.contains(" missing=0;;;0;3 elsewhere=2;;;0;3"), "{line}");
    }

    #[test]
    fn an_unusable_etcd_is_a_warning() {
        let cluster = ClusterStatus {
            name: "keeper-a".to_owned(),
            members: vec!["keeper-a".to_owned()],
            reachable: false,
            error: Some("connection refused".to_owned()),
            unreachable_since: Some(jiff::Timestamp::UNIX_EPOCH),
            held: 0,
            asked: 3,
            elsewhere: 0,
        };
        let counts = Counts { total: 3, alive: 3, elsewhere: Some(0), ..Counts::default() };
        let page = TokenPage { cluster: Some(cluster), ..page(counts, None) };
        let (line, status) = render(&Ok(page), &LocalTime::now());
        assert_eq!(status, WARNING);
        assert!(line.contains("; etcd cannot be used since "), "{line}");
        assert!(line.contains(": connection refused; "), "{line}");
    }
}
