//! The line that a finding is about, fit to be shown: whatever may be a secret is masked.
//!
//! Owns what of a line may be seen. Text that is not known to be harmless is not shown, so
//! that a secret in the wrong place, or in a line that is no TOML, does not get out.

use std::ops::Range;

use super::schema::{self, Kind, names_a_secret};
use crate::secret::{MASK, mask as mask_secrets};

/// Long enough for every value that fits the schema, too short for most tokens.
const LONGEST_VALUE: usize = 24;

/// A line of a configuration file, without its remarks and without what may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// What of the line may be shown.
    pub text: String,
    /// What of [`Self::text`] is meant, in bytes; empty where something is missing.
    pub mark: Range<usize>,
}

impl Excerpt {
    /// What `line` shows of itself around `at`, a position in it in bytes.
    ///
    /// `is_key`: a key or a table's name begins there, so that what follows can be told apart.
    /// Otherwise, and before it, only words of the schema are shown.
    pub(super) fn of(line: &str, at: usize, is_key: bool) -> Self {
        let on_char = |at: &usize| line.is_char_boundary(*at);
        let at = (0..=at.min(line.len())).rev().find(on_char).unwrap_or(0);
        let (before, after) = line.split_at(at);
        let mut text = String::new();
        mask(before, &mut text);
        let start = text.len();
        let end = if is_key { key(after, &mut text) } else { mask(after, &mut text) };
        text.truncate(text.trim_end().len().max(start));
        let mark = start..end.unwrap_or(start).clamp(start, text.len());
        Self { text, mark }
    }
}

/// A part of a line.
enum Piece<'a> {
    /// A blank, or a sign between words.
    Sign(&'a str),
    /// A word, or text with its closing quotes.
    Word(&'a str),
    /// Text whose quotes are not closed on this line: all the rest may belong to it.
    Open,
    /// A remark, which takes the rest.
    Remark,
}

impl<'a> Piece<'a> {
    /// The piece that `text` begins with; `None` at its end.
    fn first(text: &'a str) -> Option<Self> {
        let first = text.chars().next()?;
        Some(match first {
            '#' => Self::Remark,
            '"' | '\'' => match closing(text, first) {
                Some(end) => Self::Word(&text[..end]),
                None => Self::Open,
            },
            first if is_sign(first) => Self::Sign(&text[..first.len_utf8()]),
            _ => {
                let end = text.find(|c| is_sign(c) || "#\"'".contains(c));
                Self::Word(&text[..end.unwrap_or(text.len())])
            }
        })
    }
}

fn is_sign(c: char) -> bool {
    c.is_whitespace() || "[]{},=.".contains(c)
}

/// Where the text in quotes that `text` begins with ends; `None`: not on this line.
fn closing(text: &str, quote: char) -> Option<usize> {
    let threefold: String = [quote; 3].iter().collect();
    if text.starts_with(&threefold) {
        return None;
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Shows the signs of `line` and the words that the schema knows. Gives where the first word
/// ends in what is shown.
fn mask(line: &str, shown: &mut String) -> Option<usize> {
    let (mut rest, mut end) = (line, None);
    while let Some(piece) = Piece::first(rest) {
        match piece {
            Piece::Sign(sign) => shown.push_str(sign),
            Piece::Word(word) => {
                shown.push_str(if schema::is_schema_name(word) { word } else { MASK });
                end.get_or_insert(shown.len());
            }
            Piece::Open => shown.push_str(MASK),
            Piece::Remark => {}
        }
        match piece {
            Piece::Sign(text) | Piece::Word(text) => rest = &rest[text.len()..],
            Piece::Open | Piece::Remark => break,
        }
    }
    end
}

/// Shows a key or header, of which all belongs to names, and the value of a key as far as it
/// may be shown. Gives where the first word ends in what is shown.
fn key(line: &str, shown: &mut String) -> Option<usize> {
    let (mut rest, mut end, mut name) = (line, None, "");
    while let Some(piece) = Piece::first(rest) {
        match piece {
            Piece::Sign("=") => {
                shown.push_str("= ");
                shown.push_str(&value(name, rest[1..].trim_start()));
                break;
            }
            Piece::Sign(sign) => shown.push_str(sign),
            Piece::Word(word) => {
                shown.push_str(&mask_secrets(word));
                end.get_or_insert(shown.len());
                name = word;
            }
            Piece::Open | Piece::Remark => break,
        }
        match piece {
            Piece::Sign(text) | Piece::Word(text) => rest = &rest[text.len()..],
            Piece::Open | Piece::Remark => break,
        }
    }
    end
}

/// What is shown of `line`, which begins with the value of the key `name`.
fn value(name: &str, line: &str) -> String {
    let end = match line.chars().next() {
        Some(quote @ ('"' | '\'')) => closing(line, quote),
        Some('[' | '{') | None => None,
        Some(_) => {
            line.find(|c: char| c.is_whitespace() || ",]}#".contains(c)).or(Some(line.len()))
        }
    };
    let Some(end) = end else { return MASK.to_owned() };
    let (value, rest) = line.split_at(end);
    let mut shown = shown_value(name, value);
    let only_closes = |text: &str| text.chars().all(|c| c.is_whitespace() || "]}".contains(c));
    let rest = rest.split('#').next().unwrap_or("");
    shown.push_str(if only_closes(rest) { rest } else { ", ***" });
    shown
}

/// What may be shown of `value`, as it is written, behind the key `name`.
fn shown_value(name: &str, value: &str) -> String {
    let kinds = schema::kinds_of_key(name);
    let masked = mask_secrets(value);
    let is_masked = masked.trim_matches(['"', '\'']) == MASK;
    let is_short = value.chars().count() <= LONGEST_VALUE;
    let may_be_shown = match kinds[..] {
        [] => {
            let is_number = value.parse::<f64>().is_ok() || value.parse::<bool>().is_ok();
            is_number && !names_a_secret(name)
        }
        _ => kinds.into_iter().all(|kind| match kind {
            Kind::Command => false,
            // A name or an address, of which only the secrets in it are masked.
            Kind::Path | Kind::SocketPath | Kind::Url | Kind::Credential | Kind::Variable => true,
            kind => kind.may_be_shown() && is_short,
        }),
    };
    if may_be_shown && !is_masked { masked.into_owned() } else { MASK.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line as it is shown, what is meant of it in `<>`; `|` in `line` is the position.
    fn shown(line: &str, is_key: bool) -> String {
        let at = line.find('|').unwrap();
        let Excerpt { mut text, mark } = Excerpt::of(&line.replace('|', ""), at, is_key);
        text.insert(mark.end, '>');
        text.insert(mark.start, '<');
        text
    }

    #[test]
    fn what_can_be_no_secret_is_shown() {
        for (line, expected) in [
            ("|jitterr = 0.1", "<jitterr> = 0.1"),
            ("  |check_after = 1.5  # a lot", "  <check_after> = 1.5"),
            ("|retry_max = \"soon\"", "<retry_max> = \"soon\""),
            ("[token.|quotes] # mine", "[token.<quotes>]"),
            ("[server.|\"a/b\"]", "[server.<\"a/b\">]"),
            ("schedule.|jitter = 2", "schedule.<jitter> = 2"),
            ("schedule = { |jitter = 2 }", "schedule = { <jitter> = 2 }"),
            ("schedule = { |jitter = 2, x = 1 }", "schedule = { <jitter> = 2, ***"),
            ("|url = \"http://api.example.net\"", "<url> = \"http://api.example.net\""),
            ("|server = \"sarsu\"", "<server> = \"sarsu\""),
        ] {
            assert_eq!(shown(line, true), expected, "{line}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_masked() {
        for (line, expected) in [
            ("|value = \"S3CR3T\"", "<value> = ***"),
            ("|password = 12345", "<password> = ***"),
            ("|file = \"S3CR3T\"", "<file> = ***"),
            ("|fil = \"S3CR3T\" # S3CR3T", "<fil> = ***"),
            ("|url = \"https://user:S3CR3T@h\"", "<url> = \"https://***@h\""),
            ("|url = \"https://h/?key=S3CR3T\"", "<url> = \"https://h/?***\""),
            ("|S3CR3T = 1", "<***> = 1"),
            ("[token.|S3CR3T]", "[token.<***>]"),
            ("|env = \"S3CR3T\"", "<env> = ***"),
            ("|credential = \"S3CR3T\"", "<credential> = ***"),
            ("|server = \"S3CR3T\"", "<server> = ***"),
            ("|command = [\"/x\", \"S3CR3T\"]", "<command> = ***"),
            ("|level = \"\"\"S3CR3T", "<level> = ***"),
            ("|server = \"S3CR3T-S3CR3T-S3CR3T-S3CR3T\"", "<server> = ***"),
            ("S3CR3T\"\"\", |jitterr = 1 }", "***"),
        ] {
            let shown = shown(line, true);
            assert!(!shown.contains("S3CR3T") && !shown.contains("12345"), "{shown}");
            assert!(shown.starts_with(expected), "{shown}");
        }
    }

    #[test]
    fn paths_addresses_and_names_are_shown() {
        for (line, expected) in [
            ("|url = \"htps://api.example.net/v1\"", "<url> = \"htps://api.example.net/v1\""),
            ("|file = \"/var/lib/tokenkeep/a.token\"", "<file> = \"/var/lib/tokenkeep/a.token\""),
            ("|env = \"QUOTES_TOKEN\"", "<env> = \"QUOTES_TOKEN\""),
            ("|credential = \"../quotes\"", "<credential> = \"../quotes\""),
        ] {
            assert_eq!(shown(line, true), expected, "{line}");
        }
    }

    #[test]
    fn of_a_line_that_is_no_toml_only_words_of_the_schema_are_shown() {
        for (line, expected) in [
            ("[log|", "[log<>"),
            ("state_dir = |/var/S3CR3T", "state_dir = <***>"),
            ("level = \"S3CR3T|", "level = ***<>"),
            ("|S3CR3T==", "<***>=="),
            ("[token.|quotes", "[token.<***>"),
            ("max_hooks = |", "max_hooks = <>"),
        ] {
            assert_eq!(shown(line, false), expected, "{line}");
        }
    }

    #[test]
    fn a_position_within_a_character_or_beyond_the_line_does_no_harm() {
        for at in 0..20 {
            for is_key in [true, false] {
                let Excerpt { text, mark } = Excerpt::of("ä = \"ö\" # ü", at, is_key);
                assert!(text.get(mark).is_some());
            }
        }
    }
}
