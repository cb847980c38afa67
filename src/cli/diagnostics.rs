//! Formats configuration errors and warnings: one line each, or with a source snippet.
//!
//! Each begins with `file:line:column: `, which editors understand. Findings contain no secrets, and
//! nothing else is printed.

use std::io::{self, IsTerminal as _};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::settings::{ConfigErrors, Excerpt, Finding, Location, Warning};
use crate::text::{colors_enabled, escaped, printable};

/// Style of diagnostics on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiagnosticStyle {
    /// One line each, for logs.
    Line,
    /// With the source line.
    Snippet,
    /// With the source line, in colors.
    ColoredSnippet,
}

impl DiagnosticStyle {
    /// Chooses the style for standard error. `drawn` requests snippets even off a terminal.
    pub(super) fn choose(drawn: bool) -> Self {
        match (io::stderr().is_terminal(), drawn) {
            (true, _) if colors_enabled() => Self::ColoredSnippet,
            (true, _) | (false, true) => Self::Snippet,
            (false, false) => Self::Line,
        }
    }

    /// Formats all errors and their number.
    pub(super) fn faults(self, faults: &ConfigErrors) -> String {
        let all = faults.iter().map(|fault| self.finding(fault, "", Level::ERROR));
        let mut text: String = all.collect();
        text += &format!("tokenkeep: {}", faults.summary());
        text
    }

    /// Formats all warnings; empty if there are none.
    pub(super) fn warnings(self, warnings: &[Warning]) -> String {
        let all = warnings.iter().map(|warning| self.finding(warning, "warning: ", Level::WARNING));
        all.collect()
    }

    fn finding<K>(self, finding: &Finding<K>, severity: &str, level: Level<'_>) -> String {
        let Finding { location: place, message, remedy, excerpt, .. } = finding;
        let place = printable(&place.to_string()).into_owned();
        let message = printable(message);
        let remedy = printable(remedy);
        let excerpt = excerpt.as_ref().map(escape_excerpt);
        let renderer = match self {
            Self::Line => return format!("{place}: {severity}{message}; {remedy}\n"),
            Self::Snippet => Renderer::plain(),
            Self::ColoredSnippet => Renderer::styled(),
        };
        let title = format!("{place}: {severity}{message}");
        let snippet = match (&excerpt, &finding.location) {
            (Some((text, mark)), Location::Text { line, .. }) => {
                let mark = AnnotationKind::Primary.span(mark.clone());
                Some(Snippet::source(text).line_start(*line).annotation(mark))
            }
            _ => None,
        };
        let group = level.no_name().primary_title(title).elements(snippet);
        renderer.render(&[group.element(Level::HELP.message(&*remedy))]) + "\n\n"
    }
}

/// Text and mark of an excerpt, with control characters escaped.
fn escape_excerpt(excerpt: &Excerpt) -> (String, Range<usize>) {
    let Excerpt { text, mark } = excerpt;
    let escape = |part: &str| escaped(part, |c| matches!(c, '\n' | '\t')).into_owned();
    let before = escape(&text[..mark.start]);
    let marked = escape(&text[mark.clone()]);
    let mark = before.len()..before.len() + marked.len();
    (before + &marked + &escape(&text[excerpt.mark.end..]), mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::load;

    fn rendered(text: &str, style: DiagnosticStyle) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenkeep.toml");
        std::fs::write(&path, text).unwrap();
        let faults = load(&path, std::iter::empty()).unwrap_err();
        style.faults(&faults).replace(folder.path().to_str().unwrap(), "DIR")
    }

    #[test]
    fn a_snippet_shows_location_source_line_and_remedy() {
        let expected = "\
DIR/tokenkeep.toml:2:1: there is no key `jitterr` in [schedule]
  |
2 | jitterr = 0.1
  | ^^^^^^^
  |
  = help: did you mean `jitter`?

tokenkeep: 1 error in the configuration";
        assert_eq!(
            rendered("[schedule]\njitterr = 0.1 # much\n", DiagnosticStyle::Snippet),
            expected
        );
    }

    #[test]
    fn line_style_prints_one_line_for_each_error() {
        let output = rendered("jitter = 0.1\nmax_hooks = 0\n", DiagnosticStyle::Line);
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines.len(), 3, "{output}");
        let first = "DIR/tokenkeep.toml:1:1: there is no key `jitter`; it belongs to [schedule]";
        assert_eq!(lines[0], first);
        assert!(lines[1].starts_with("DIR/tokenkeep.toml:2:1: `max_hooks` must be"), "{output}");
        assert_eq!(lines[2], "tokenkeep: 2 errors in the configuration");
    }

    #[test]
    fn only_colored_snippets_contain_escape_sequences() {
        let text = "max_hooks = 0\n";
        assert!(rendered(text, DiagnosticStyle::ColoredSnippet).contains('\u{1b}'));
        assert!(!rendered(text, DiagnosticStyle::Snippet).contains('\u{1b}'));
    }

    #[test]
    fn a_finding_without_a_line_has_no_line_number() {
        let faults = load(std::path::Path::new("/none.toml"), std::iter::empty()).unwrap_err();
        let output = DiagnosticStyle::Snippet.faults(&faults);
        assert!(output.starts_with("/none.toml: there is no such"), "{output}");
        assert!(output.contains("= help: create"), "{output}");
    }
}
