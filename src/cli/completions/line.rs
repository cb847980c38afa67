//! Splits the typed command line into words, like a POSIX shell. Pure.
//!
//! The only expansion is a leading `~`. Nothing is ever executed.

/// A line up to the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The words without quotes. The last word ends at the cursor; it is empty after a blank.
    pub(super) words: Vec<String>,
    /// The quote that is still open in the last word.
    pub(super) open: Option<char>,
}

impl Line {
    /// Splits `text`; `~` expands to `home`.
    pub(super) fn parse(text: &str, home: Option<&str>) -> Self {
        let (mut words, mut word, mut begun) = (Vec::new(), String::new(), false);
        let mut open = None;
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            match (open, next) {
                (None, ' ' | '\t' | '\n') => {
                    if std::mem::take(&mut begun) {
                        words.push(std::mem::take(&mut word));
                    }
                    continue;
                }
                (None, '\'' | '"') => open = Some(next),
                (Some(quote), _) if next == quote => open = None,
                (None, '\\') => word.extend(rest.next()),
                (Some('"'), '\\') => {
                    let escaped = rest.next_if(|next| matches!(next, '"' | '\\' | '$' | '`'));
                    word.push(escaped.unwrap_or('\\'));
                }
                (None, '~') if !begun && matches!(rest.peek(), None | Some('/')) => {
                    word.push_str(home.unwrap_or("~"));
                }
                (None | Some(_), _) => word.push(next),
            }
            begun = true;
        }
        words.push(word);
        Self { words, open }
    }
}

/// Quotes `text` for insertion after the open quote `open`.
pub(super) fn quoted(text: &str, open: Option<char>) -> String {
    let mut quoted = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match (open, next) {
            (Some('\''), '\'') => quoted.push_str("'\\''"),
            (Some('"'), '"' | '\\' | '$' | '`') => quoted.extend(['\\', next]),
            // History expansion works within double quotes, except before the closing quote.
            (Some('"'), '!') if !rest.as_str().is_empty() => quoted.push_str("\"\\!\""),
            (None, _) if !is_plain(next) => quoted.extend(['\\', next]),
            (None | Some(_), _) => quoted.push(next),
        }
    }
    quoted
}

/// Whether a character has no special meaning in any shell.
fn is_plain(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '.' | ',' | '+' | '%' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Line::parse(text, Some("/home/me")).words
    }

    #[test]
    fn words_lose_their_quotes_and_the_last_ends_at_the_cursor() {
        assert_eq!(words("tokenkeep status quo"), ["tokenkeep", "status", "quo"]);
        assert_eq!(words("tokenkeep  status "), ["tokenkeep", "status", ""]);
        assert_eq!(words(r#"a\ b 'c "d' "e'\$\f" ''x"#), ["a b", "c \"d", r"e'$\f", "x"]);
        assert_eq!(words(r"--config ~/a ~b c~"), ["--config", "/home/me/a", "~b", "c~"]);
        assert_eq!(words(""), [""]);
    }

    #[test]
    fn an_open_quote_at_the_cursor_is_reported() {
        let open = |text| Line::parse(text, None).open;
        assert_eq!(open("check 'quo"), Some('\''));
        assert_eq!(open("check \"it's"), Some('"'));
        assert_eq!(open(r"check 'quo' it\'s"), None);
    }

    #[test]
    fn quoted_text_is_parsed_back_unchanged() {
        let text = "a b'c\"d$e`f\\g!h*i:j=k~l#m&n;o(p)ö";
        for open in [None, Some('\''), Some('"')] {
            let begin = open.map(String::from).unwrap_or_default();
            let typed = format!("{begin}{}", quoted(text, open));
            assert_eq!(words(&typed), [text], "{typed}");
        }
    }
}
