//! Takes secrets out of what the outside says, before anybody prints it.
//!
//! Owns the form in which foreign text enters a fault. Never lets a secret that was sent
//! through, be it raw, percent-encoded or in another letter case.

/// The longest foreign text that is kept, in characters: a sentence, not a page.
const MAX_CHARS: usize = 200;

/// What stands in for a secret.
const REDACTED: &str = "[redacted]";

/// Bytes from a secret's beginning that are taken for the secret itself: servers like to
/// quote a shortened token, and half of one is too much already.
const TELLING_BYTES: usize = 8;

/// `text` on one line, without `secret`, cut to a sentence's length.
pub(super) fn clean(text: &str, secret: &str) -> String {
    // Control characters go first: one within an echoed secret would hide it from the search.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let hidden = hide(&text, secret.as_bytes());
    let hidden = hidden.trim();
    match hidden.char_indices().nth(MAX_CHARS) {
        None => hidden.to_owned(),
        Some((end, _)) => format!("{}...", &hidden[..end]),
    }
}

/// `text` with every occurrence of `secret`, or of a telling beginning of it, replaced.
fn hide(text: &str, secret: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let echoed = echo(rest.as_bytes(), secret);
        if echoed == 0 {
            shown.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            shown.push_str(REDACTED);
            let end = (echoed..=rest.len()).find(|&at| rest.is_char_boundary(at));
            rest = &rest[end.unwrap_or(rest.len())..];
        }
    }
    shown
}

/// How many bytes at the beginning of `text` give `secret` away; 0 if none do.
fn echo(text: &[u8], secret: &[u8]) -> usize {
    run(text, secret, false).max(run(text, secret, true))
}

/// [`echo`] with `%XX` read as the byte that it stands for, or (`decode` false) as it is.
fn run(text: &[u8], secret: &[u8], decode: bool) -> usize {
    let mut read = 0;
    let mut matched = 0;
    for wanted in secret {
        let Some((byte, width)) = next_byte(&text[read..], decode) else { break };
        if !byte.eq_ignore_ascii_case(wanted) {
            break;
        }
        read += width;
        matched += 1;
    }
    if matched >= TELLING_BYTES.min(secret.len()) { read } else { 0 }
}

/// The first byte that `text` stands for, and how many bytes it takes there.
fn next_byte(text: &[u8], decode: bool) -> Option<(u8, usize)> {
    let first = *text.first()?;
    if decode && first == b'%' {
        let encoded = text.get(1..3).and_then(|pair| std::str::from_utf8(pair).ok());
        if let Some(byte) = encoded.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            return Some((byte, 3));
        }
    }
    Some((first, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_the_secret_stays_as_it_is() {
        assert_eq!(clean("Session token has expired", "abc-123"), "Session token has expired");
    }

    #[test]
    fn every_occurrence_is_hidden() {
        assert_eq!(clean("abc-123 is not abc-123!", "abc-123"), "[redacted] is not [redacted]!");
    }

    #[test]
    fn a_percent_encoded_secret_is_hidden() {
        for echoed in ["a%2Bb%2Fc%3D", "a%2bb/c%3d", "%61+b/c=", "a+b/c="] {
            assert_eq!(clean(&format!("no {echoed}."), "a+b/c="), "no [redacted].", "{echoed}");
        }
    }

    #[test]
    fn a_secret_that_itself_looks_encoded_is_hidden_raw_and_encoded() {
        assert_eq!(clean("x%25y and x%2525y", "x%25y"), "[redacted] and [redacted]");
    }

    #[test]
    fn a_secret_in_another_letter_case_is_hidden() {
        assert_eq!(clean("no ABC-123", "abc-123"), "no [redacted]");
    }

    #[test]
    fn a_shortened_secret_is_hidden() {
        assert_eq!(clean("no 0123456789...", "0123456789abcdef"), "no [redacted]...");
    }

    #[test]
    fn a_secret_split_by_a_control_character_is_hidden() {
        assert_eq!(clean("no abc\u{0}-123\r\n", "abc-123"), "no [redacted]");
    }

    #[test]
    fn a_secret_at_the_cut_is_hidden_before_the_cut() {
        let text = format!("{}abcdefghij", "x".repeat(195));
        assert!(!clean(&text, "abcdefghij").contains("abc"));
    }

    #[test]
    fn a_long_text_is_cut_to_200_characters_whatever_their_width() {
        let cut = clean(&"\u{e9}".repeat(300), "abc");
        assert_eq!(cut, format!("{}...", "\u{e9}".repeat(200)));
    }

    #[test]
    fn a_secret_of_wide_characters_is_hidden_whole() {
        assert_eq!(clean("<\u{e9}\u{e8}\u{ea}>", "\u{e9}\u{e8}\u{ea}"), "<[redacted]>");
    }
}
