//! The line of a finding, with everything masked that may be a secret.
//!
//! Only text that is known to be harmless is shown, so that a secret in the wrong place, or in a
//! line that is not TOML, does not leak.

use std::ops::Range;

use super::schema::{self, Kind, names_a_secret};
use crate::secret::{MASK, mask as mask_secrets};

/// Maximum length of a value that is shown: fits every valid value, and is too short for most
/// tokens.
const LONGEST_VALUE: usize = 24;

/// A line of a configuration file, without comments and possible secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The text to show.
    pub text: String,
    /// The part of [`Self::text`] to mark, in bytes; empty if something is missing there.
    pub mark: Range<usize>,
}

impl Excerpt {
    /// The excerpt of `line` for `at`, a byte position in it.
    ///
    /// `is_key`: a key or table name begins at `at`, so the rest of the line can be parsed. Before
    /// `at`, except in a header, and everywhere if it is false, only words of the schema are shown.
    pub(super) fn of(line: &str, at: usize, is_key: bool) -> Self {
        let on_char = |at: &usize| line.is_char_boundary(*at);
        let at = (0..=at.min(line.len())).rev().find(on_char).unwrap_or(0);
        let (before, after) = line.split_at(at);
        let mut text = String::new();
        // In a header that is TOML, words are names, which are shown after `at` too.
        let is_header = before.starts_with('[') && !before.contains(['=', '{', '"', '\'']);
        if is_key && is_header {
            key(before, &mut text);
        } else {
            mask(before, &mut text);
        }
        let start = text.len();
        // An element of a list is a value, without a key that says whether it may be shown.
        let is_key = is_key && (is_header || is_assignment(after));
        let end = if is_key { key(after, &mut text) } else { mask(after, &mut text) };
        text.truncate(text.trim_end().len().max(start));
        let mark = start..end.unwrap_or(start).clamp(start, text.len());
        Self { text, mark }
    }
}

/// A part of a line.
enum Piece<'a> {
    /// White space or punctuation.
    Punctuation(&'a str),
    /// A word, or text in closed quotes.
    Word(&'a str),
    /// Text whose quotes are not closed on this line. The rest of the line may belong to it.
    Open,
    /// A comment, to the end of the line.
    Comment,
}

impl<'a> Piece<'a> {
    /// The first piece of `text`; `None` at its end.
    fn first(text: &'a str) -> Option<Self> {
        let first = text.chars().next()?;
        Some(match first {
            '#' => Self::Comment,
            '"' | '\'' => match closing(text, first) {
                Some(end) => Self::Word(&text[..end]),
                None => Self::Open,
            },
            first if is_punctuation(first) => Self::Punctuation(&text[..first.len_utf8()]),
            _ => {
                let end = text.find(|c| is_punctuation(c) || "#\"'".contains(c));
                Self::Word(&text[..end.unwrap_or(text.len())])
            }
        })
    }
}

fn is_punctuation(c: char) -> bool {
    c.is_whitespace() || "[]{},=.".contains(c)
}

/// Whether `text` begins with a key, dotted or not, and `=`.
fn is_assignment(text: &str) -> bool {
    let mut rest = text;
    while let Some(piece) = Piece::first(rest) {
        match piece {
            Piece::Punctuation("=") => return true,
            Piece::Punctuation(sign) if sign == "." || sign.trim().is_empty() => {
                rest = &rest[sign.len()..];
            }
            Piece::Word(word) => rest = &rest[word.len()..],
            Piece::Punctuation(_) | Piece::Open | Piece::Comment => return false,
        }
    }
    false
}

/// End of the quoted text at the start of `text`; `None` if it is not closed on this line.
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

/// Appends the punctuation of `line` and the words that the schema knows; masks other words.
/// Returns the end of the first word.
fn mask(line: &str, shown: &mut String) -> Option<usize> {
    let (mut rest, mut end) = (line, None);
    while let Some(piece) = Piece::first(rest) {
        match piece {
            Piece::Punctuation(sign) => shown.push_str(sign),
            Piece::Word(word) => {
                shown.push_str(if schema::is_schema_name(word) { word } else { MASK });
                end.get_or_insert(shown.len());
            }
            Piece::Open => shown.push_str(MASK),
            Piece::Comment => {}
        }
        match piece {
            Piece::Punctuation(text) | Piece::Word(text) => rest = &rest[text.len()..],
            Piece::Open | Piece::Comment => break,
        }
    }
    end
}

/// Appends a key or header, and the value of a key as far as it may be shown. Returns the end of
/// the first word.
fn key(line: &str, shown: &mut String) -> Option<usize> {
    let (mut rest, mut end, mut name) = (line, None, "");
    while let Some(piece) = Piece::first(rest) {
        match piece {
            Piece::Punctuation("=") => {
                shown.push_str("= ");
                shown.push_str(&value(name, rest[1..].trim_start()));
                break;
            }
            Piece::Punctuation(sign) => shown.push_str(sign),
            Piece::Word(word) => {
                shown.push_str(&mask_secrets(word));
                end.get_or_insert(shown.len());
                name = word;
            }
            Piece::Open | Piece::Comment => break,
        }
        match piece {
            Piece::Punctuation(text) | Piece::Word(text) => rest = &rest[text.len()..],
            Piece::Open | Piece::Comment => break,
        }
    }
    end
}

/// The text to show for `line`, which begins with the value of the key `name`.
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

/// The text to show for `value`, in TOML notation, of the key `name`.
fn shown_value(name: &str, value: &str) -> String {
    let kinds = schema::kinds_of_key(name);
    let masked = mask_secrets(value);
    let is_masked = masked.trim_matches(['"', '\'']) == MASK;
    let is_short = value.chars().count() <= LONGEST_VALUE;
    let may_be_shown = match kinds[..] {
        [] if schema::is_harmless_in_profiles(name) => is_short,
        // A path, with secrets inside masked.
        [] if name == "request" => true,
        [] => {
            // A parameter of a profile may have any name, and a PIN has four digits.
            let digits = value.chars().filter(char::is_ascii_digit).count();
            let is_number = value.parse::<f64>().is_ok() && digits <= 3;
            (is_number || value.parse::<bool>().is_ok()) && !names_a_secret(name)
        }
        _ => kinds.into_iter().all(|kind| match kind {
            Kind::Command => false,
            // Shown, with secrets inside masked.
            Kind::Path
            | Kind::AbsolutePath
            | Kind::SocketPath
            | Kind::Url
            | Kind::Credential
            | Kind::Variable
            | Kind::ShellVariable
            | Kind::Group
            | Kind::KeyPrefix => true,
            kind => kind.may_be_shown() && is_short,
        }),
    };
    if may_be_shown && !is_masked { masked.into_owned() } else { MASK.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The excerpt, with `<>` around the marked part. `|` in `line` is the position.
    fn shown(line: &str, is_key: bool) -> String {
        let at = line.find('|').unwrap();
        let Excerpt { mut text, mark } = Excerpt::of(&line.replace('|', ""), at, is_key);
        text.insert(mark.end, '>');
        text.insert(mark.start, '<');
        text
    }

    #[test]
    fn harmless_text_is_shown() {
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
            ("[profile.desk.|query]", "[profile.desk.<query>]"),
            (
                "|request = \"GET v1/auth/token/lookup-self\"",
                "<request> = \"GET v1/auth/token/lookup-self\"",
            ),
            ("query = { |life = \"a b\" }", "query = { <life> = \"a b\" }"),
            ("dead = [{ at = 1, |means = \"end\" }]", "dead = [{ at = ***, <means> = \"end\" }]"),
        ] {
            assert_eq!(shown(line, true), expected, "{line}");
        }
    }

    #[test]
    fn possible_secrets_are_masked() {
        for (line, expected) in [
            ("|value = \"S3CR3T\"", "<value> = ***"),
            ("|password = 12345", "<password> = ***"),
            ("|pin = 4711", "<pin> = ***"),
            ("with = { |otp = 482915 }", "with = { <otp> = ***"),
            ("|file = \"S3CR3T\"", "<file> = ***"),
            ("|fil = \"S3CR3T\" # S3CR3T", "<fil> = ***"),
            ("|url = \"https://user:S3CR3T@h\"", "<url> = \"https://***@h\""),
            ("|url = \"https://h/?key=S3CR3T\"", "<url> = \"https://h/?***\""),
            ("|S3CR3T = 1", "<***> = 1"),
            ("[token.|S3CR3T]", "[token.<***>]"),
            ("|env = \"S3CR3T\"", "<env> = ***"),
            ("|credential = \"S3CR3T\"", "<credential> = ***"),
            ("|server = \"S3CR3T\"", "<server> = ***"),
            ("|life = \"S3CR3T\"", "<life> = ***"),
            ("|request = \"GET s/S3CR3T\"", "<request> = "),
            ("[profile.S3CR3T.|query]", "[profile.***.<query>]"),
            ("|is = \"S3CR3T\"", "<is> = ***"),
            ("|headers = { a = \"S3CR3T\" }", "<headers> = ***"),
            ("|command = [\"/x\", \"S3CR3T\"]", "<command> = ***"),
            ("|level = \"\"\"S3CR3T", "<level> = ***"),
            ("basic = [\"k\", |\"S3CR3T\"]", "basic = [***, <***>]"),
            ("basic = [|'S3CR3T', 'a=b']", "basic = [<***>, ***]"),
            ("  |\"S3CR3T\",", "  <***>,"),
            ("  |S3CR3T", "  <***>"),
            ("  |[\"S3CR3T\"],", "  <[***>],"),
            ("dead = [|\"S3CR3T\", { at = 1 }]", "dead = [<***>, { at = ***"),
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
    fn only_schema_words_are_shown_of_a_line_that_is_not_toml() {
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
    fn position_inside_a_character_or_beyond_the_line_does_not_panic() {
        for at in 0..20 {
            for is_key in [true, false] {
                let Excerpt { text, mark } = Excerpt::of("ä = \"ö\" # ü", at, is_key);
                assert!(text.get(mark).is_some());
            }
        }
    }
}
