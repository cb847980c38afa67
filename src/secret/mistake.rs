//! Recognizes texts that are not a token value: a whole JSON response instead of one field, an
//! error page, a placeholder word.
//!
//! Pure. Classifies by shape only and never quotes the text.

/// What a text looks like instead of a token value, and the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// A placeholder or status word that programs print instead of a value.
    #[error(
        "it is the word `{0}`, not a token; print the token alone, and exit with an error if there is none (`jq -er` does)"
    )]
    Word(&'static str),
    /// The beginning of a JSON object.
    #[error(
        "it looks like a JSON object; extract the token from it, for example with `jq -er .Result.SessionToken`"
    )]
    JsonObject,
    /// The beginning of a JSON array.
    #[error(
        "it looks like a JSON array; extract the token from it, for example with `jq -er '.[0]'`"
    )]
    JsonArray,
    /// The beginning of an HTML or XML document.
    #[error(
        "it looks like HTML or XML, for example the error page of a proxy; check what the login received (`curl --fail` refuses error pages)"
    )]
    Markup,
    /// A quoted string.
    #[error(
        "it begins with a quotation mark; remove the quotation marks, for example with `jq -er` instead of `jq`"
    )]
    Quoted,
    /// A name, an equals sign and a value.
    #[error(
        "it looks like NAME=value; remove the name and the equals sign if the token begins after them"
    )]
    Assignment,
    /// Characters that no terminal or editor shows.
    #[error(
        "it contains invisible characters, such as a zero-width space, which copying from a web page or a document can add; copy or type the token again"
    )]
    Invisible,
}

/// The words of [`Mistake::Word`], in any case. A real token cannot be guessed, so it is none of
/// these.
const WORDS: [&str; 8] = ["null", "nil", "none", "undefined", "true", "false", "ok", "error"];

impl Mistake {
    /// What `text` looks like; `None` if it may be a token.
    ///
    /// ```
    /// use tokenkeep::secret::Mistake;
    ///
    /// assert_eq!(Mistake::of("{\"SessionToken\": \"abc\"}"), Some(Mistake::JsonObject));
    /// assert_eq!(Mistake::of("abc-123=="), None);
    /// ```
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('\u{feff}').trim();
        match text.chars().next()? {
            '{' => return Some(Self::JsonObject),
            '[' => return Some(Self::JsonArray),
            '<' => return Some(Self::Markup),
            '"' | '\'' => return Some(Self::Quoted),
            _ => {}
        }
        if let Some(word) = WORDS.iter().find(|word| text.eq_ignore_ascii_case(word)) {
            return Some(Self::Word(word));
        }
        if !text.is_ascii() && text.chars().any(is_invisible) {
            return Some(Self::Invisible);
        }
        is_assignment(text).then_some(Self::Assignment)
    }

    /// Whether no token can look like this. The others are worth a warning only: some APIs have
    /// tokens with an equals sign inside.
    pub const fn is_certain(self) -> bool {
        match self {
            Self::Word(_) | Self::JsonObject | Self::JsonArray | Self::Markup | Self::Quoted => {
                true
            }
            Self::Assignment | Self::Invisible => false,
        }
    }
}

/// `NAME=value` as shells write it. The padding of Base64 at the end is no value.
fn is_assignment(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else { return false };
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !value.trim_matches('=').is_empty()
}

/// Characters without a glyph and without an advance width, which [`char::is_control`] and
/// [`char::is_whitespace`] do not cover.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_markup_and_quoted_strings_are_certainly_not_tokens() {
        for (text, expected) in [
            ("{", Mistake::JsonObject),
            ("\u{feff}  {\"SessionToken\": \"abc\"}\r\n", Mistake::JsonObject),
            ("[\"abc\"]", Mistake::JsonArray),
            ("<html>", Mistake::Markup),
            ("<!DOCTYPE html>", Mistake::Markup),
            ("\"abc\"", Mistake::Quoted),
            ("'abc'", Mistake::Quoted),
        ] {
            assert_eq!(Mistake::of(text), Some(expected), "{text}");
            assert!(expected.is_certain(), "{text}");
        }
    }

    #[test]
    fn placeholder_words_in_any_case_are_certainly_not_tokens() {
        for word in WORDS {
            for text in [word.to_owned(), word.to_uppercase(), format!(" {word}\n")] {
                assert_eq!(Mistake::of(&text), Some(Mistake::Word(word)), "{text}");
            }
        }
        assert!(Mistake::Word("null").is_certain());
    }

    #[test]
    fn assignments_and_invisible_characters_cause_only_a_warning() {
        for text in ["KEY=abc", "_k2=abc==", "export=1"] {
            assert_eq!(Mistake::of(text), Some(Mistake::Assignment), "{text}");
        }
        for text in ["a\u{200b}bc", "abc\u{feff}", "\u{202e}abc", "abc\u{2060}", "a\u{ad}b"] {
            assert_eq!(Mistake::of(text), Some(Mistake::Invisible), "{text:?}");
        }
        assert!(!Mistake::Assignment.is_certain() && !Mistake::Invisible.is_certain());
    }

    #[test]
    fn tokens_of_common_formats_are_accepted() {
        for text in [
            "",
            "0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dGVzdA",
            "QUJDRA==",
            "QUJDREU=",
            "abc/def+ghi=",
            "nullify",
            "okay",
            "a{b}",
            "2x=abc",
            "=abc",
            "tökén",
        ] {
            assert_eq!(Mistake::of(text), None, "{text}");
        }
    }
}
