//! Patterns for token names, bounded so that a match takes microseconds.

use glob::Pattern;

/// Maximum length of a name or pattern, in bytes. Names have at most 200. A match takes time in
/// proportion to the product of both lengths, whatever the pattern is.
const MAX_BYTES: usize = 256;

/// The name of a token, or a pattern for names: `*` is any text, `?` any character, `[abc]` one of
/// these characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    /// The error: the text is no valid pattern, and matches itself only.
    pattern: Result<Pattern, &'static str>,
}

impl NamePattern {
    /// Parses a name or pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a predicate: it is longer than 256 bytes.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("must be a name or pattern of at most 256 bytes");
        }
        let pattern = Pattern::new(text).map_err(|error| error.msg);
        Ok(Self { text: text.to_owned(), pattern })
    }

    /// Parses a pattern, which must be valid as such.
    ///
    /// # Errors
    ///
    /// As [`NamePattern::parse`], and the error in the syntax.
    pub fn parse_strictly(text: &str) -> Result<Self, &'static str> {
        let pattern = Self::parse(text)?;
        match pattern.pattern {
            Err(error) => Err(error),
            Ok(_) => Ok(pattern),
        }
    }

    /// Whether the token called `name` is meant. A name may contain the characters of a pattern.
    pub fn matches(&self, name: &str) -> bool {
        self.text == name || self.pattern.as_ref().is_ok_and(|pattern| pattern.matches(name))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_or_pattern_matches() {
        let matches = |text: &str, name| NamePattern::parse(text).unwrap().matches(name);
        assert!(matches("quotes", "quotes") && matches("quo*", "quotes") && matches("*", "a"));
        assert!(matches("a[1", "a[1"), "not a valid pattern");
        assert!(matches("a[1]", "a[1]") && matches("a[1]", "a1"));
        assert!(!matches("quotes", "quotes-1"));
        assert!(NamePattern::parse_strictly("a[1").is_err());
    }

    #[test]
    fn pattern_longer_than_256_bytes_is_rejected() {
        assert!(NamePattern::parse(&"a".repeat(256)).is_ok());
        assert!(NamePattern::parse(&"a".repeat(257)).is_err());
        assert!(NamePattern::parse(&format!("[{}]", "b".repeat(60_000))).is_err());
    }

    /// A matcher that backtracks exponentially would not end: each takes 70 µs in a release build.
    #[test]
    fn no_permitted_pattern_makes_the_matcher_try_all_combinations() {
        let name = "a".repeat(200);
        let patterns = [
            "*a".repeat(127) + "b",
            "*?".repeat(127) + "b",
            format!("*{}b", "a".repeat(100)),
            format!("*[{}]", "b".repeat(250)),
            format!("*{}b", "[!bcdefghijk]".repeat(18)),
            format!("{}b", "*aaaaaaa".repeat(31)),
        ];
        for pattern in patterns {
            let parsed = NamePattern::parse_strictly(&pattern).unwrap();
            assert!(!parsed.matches(&name), "{pattern}");
        }
    }
}
