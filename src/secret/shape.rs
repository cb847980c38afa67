//! Recognizes texts that look like a token or a key, and masks them in messages.
//!
//! Pure. A heuristic for values that are not known to be secrets, such as a token pasted into
//! the wrong key of the configuration: it decides what a message shows, never what is accepted.

use std::borrow::Cow;

/// Stands in for a masked word.
pub const MASK: &str = "***";

/// Words at least this long keep [`SHOWN`] characters in front of the mask, so that the reader
/// can tell two of them apart.
const LONG: usize = 16;
const SHOWN: usize = 4;

/// Folder names at least this long are judged; shorter ones, such as those of temporary
/// folders, are often random.
const LONG_FOLDER: usize = 20;

/// Whether `word` looks like a token or a key: characters of different classes (digits, capital
/// and small letters) alternate as they do in no name, or a run of one class is too long for one.
///
/// ```
/// use tokenkeep::secret::looks_secret;
///
/// assert!(looks_secret("0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77"));
/// assert!(!looks_secret("quotes-eu-west-1"));
/// ```
pub fn looks_secret(word: &str) -> bool {
    let segments = word.split(|c: char| !c.is_alphanumeric());
    let segments: Vec<_> = segments.filter(|segment| !segment.is_empty()).map(Shape::of).collect();
    if word.starts_with("eyJ") && word.len() >= LONG {
        // A JSON object in Base64: the beginning of a JSON Web Token.
        return true;
    }
    let whole = segments.iter().fold(Shape::default(), |whole, segment| Shape {
        length: whole.length + segment.length,
        switches: whole.switches + segment.switches,
        ..whole
    });
    whole.alternates() || segments.iter().any(|segment| segment.alternates() || segment.is_long())
}

/// How the characters of a run of letters and digits alternate.
#[derive(Debug, Default, Clone, Copy)]
struct Shape {
    length: usize,
    /// Changes between digits, small and capital letters. A capital letter in front of a small
    /// one begins a word, as in `QuerySession`, and counts once.
    switches: usize,
    /// Changes between digits and letters.
    digit_switches: usize,
    digits: usize,
    capitals: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Digit,
    Capital,
    Small,
}

impl Shape {
    fn of(segment: &str) -> Self {
        let class = |c: char| match c {
            c if c.is_numeric() => Class::Digit,
            c if c.is_uppercase() => Class::Capital,
            _ => Class::Small,
        };
        let mut shape = Self::default();
        let (mut last, mut capitals_in_a_row) = (None, 0);
        for class in segment.chars().map(class) {
            shape.length += 1;
            shape.digits += usize::from(class == Class::Digit);
            shape.capitals += usize::from(class == Class::Capital);
            if let Some(last) = last.filter(|last| *last != class) {
                let begins_a_word = last == Class::Capital && capitals_in_a_row == 1;
                shape.switches += usize::from(!(begins_a_word && class == Class::Small));
                shape.digit_switches += usize::from(last == Class::Digit || class == Class::Digit);
            }
            capitals_in_a_row = if class == Class::Capital { capitals_in_a_row + 1 } else { 0 };
            last = Some(class);
        }
        shape
    }

    /// Whether the classes alternate at every third character or more often.
    const fn alternates(self) -> bool {
        let enough = match self.length {
            0..6 => return false,
            6..9 => 4,
            _ => 3,
        };
        self.switches >= enough && self.length <= 3 * self.switches
    }

    /// Whether no name is as long without a separator.
    const fn is_long(self) -> bool {
        let letters = self.length - self.digits;
        let single_case = self.capitals == 0 || self.capitals == letters;
        if self.length < LONG {
            return false;
        }
        self.digit_switches >= 2
            || self.switches * 4 >= self.length
            || self.digits == self.length
            || (self.digits == 0 && single_case && self.length >= 24)
    }
}

/// `text` with every word masked that looks like a token or a key, and without the user names,
/// passwords, queries and fragments of its URLs.
///
/// ```
/// use tokenkeep::secret::mask;
///
/// let masked = mask("env names \"Zk3v9QpLx7Wm2RtYb5Nc\"");
/// assert_eq!(masked, "env names \"Zk3v***\"");
/// assert_eq!(mask("https://u:p@api.example.net/v1?key=x"), "https://***@api.example.net/v1?***");
/// ```
pub fn mask(text: &str) -> Cow<'_, str> {
    let ends_a_word = |c: char| c.is_whitespace() || "\"'`()[]{}<>,;".contains(c);
    let mut masked = String::new();
    for piece in text.split_inclusive(ends_a_word) {
        let word = piece.trim_end_matches(ends_a_word);
        mask_word(word, &mut masked);
        masked.push_str(&piece[word.len()..]);
    }
    if masked == text { Cow::Borrowed(text) } else { Cow::Owned(masked) }
}

fn mask_word(word: &str, masked: &mut String) {
    if let Some((scheme, rest)) = word.split_once("://") {
        mask_parts(scheme, masked);
        masked.push_str("://");
        mask_url(rest, masked);
    } else if word.starts_with('/') && word[1..].contains('/') {
        mask_path(word, LONG_FOLDER, masked);
    } else {
        mask_parts(word, masked);
    }
}

/// `rest` is what follows the scheme.
fn mask_url(rest: &str, masked: &mut String) {
    let (rest, tail) = match rest.find(['?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    // A password may contain a slash.
    let rest = match rest.rsplit_once('@') {
        Some((_, rest)) => {
            masked.push_str(MASK);
            masked.push('@');
            rest
        }
        None => rest,
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    mask_parts(host, masked);
    mask_path(path, 0, masked);
    if let Some(sign) = tail.chars().next() {
        masked.push(sign);
        masked.push_str(if tail.len() > 1 { MASK } else { "" });
    }
}

fn mask_path(path: &str, judged_from: usize, masked: &mut String) {
    for piece in path.split_inclusive('/') {
        let folder = piece.trim_end_matches('/');
        if folder.len() < judged_from {
            masked.push_str(folder);
        } else {
            mask_parts(folder, masked);
        }
        masked.push_str(&piece[folder.len()..]);
    }
}

/// Masks the parts of `word` between these signs, which no common token alphabet contains, or
/// which separate the parts of one token.
fn mask_parts(word: &str, masked: &mut String) {
    let ends_a_part = |c: char| ".:=@?&#|".contains(c);
    for piece in word.split_inclusive(ends_a_part) {
        let part = piece.trim_end_matches(ends_a_part);
        if looks_secret(part) {
            if part.chars().count() >= LONG {
                masked.extend(part.chars().take(SHOWN));
            }
            masked.push_str(MASK);
        } else {
            masked.push_str(part);
        }
        masked.push_str(&piece[part.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A random text of this length; the generator is seeded, so that no run differs.
    fn random(random: &mut fastrand::Rng, alphabet: &str, length: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
    }

    const SMALL: &str = "abcdefghijklmnopqrstuvwxyz";
    const CAPITAL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const DIGITS: &str = "0123456789";

    #[test]
    fn random_tokens_of_every_common_alphabet_and_length_are_masked() {
        let alphabets = [
            "0123456789abcdef".to_owned(),
            "0123456789ABCDEF".to_owned(),
            format!("{CAPITAL}234567"),
            [SMALL, DIGITS].concat(),
            [SMALL, CAPITAL, DIGITS].concat(),
            [SMALL, CAPITAL, DIGITS, "-_"].concat(),
            [SMALL, CAPITAL, DIGITS, "+/"].concat(),
            [SMALL, CAPITAL].concat(),
        ];
        let mut generator = fastrand::Rng::with_seed(11);
        for alphabet in &alphabets {
            // Short ones of letters alone look like several words in one.
            let shortest = if alphabet.contains(['2', '7']) { 24 } else { 40 };
            for length in [24, 32, 40, 64, 256, 4096].into_iter().filter(|n| *n >= shortest) {
                let mut missed = 0;
                for _ in 0..100 {
                    let token = random(&mut generator, alphabet, length);
                    // One that begins with a slash passes for a path.
                    let token = format!("x{token}");
                    let masked = mask(&token);
                    let shown = masked.replace(MASK, "");
                    missed += usize::from(shown.len() >= 8);
                }
                assert!(missed <= 3, "{alphabet} {length}: {missed} of 100 are shown");
            }
        }
    }

    #[test]
    fn uuids_json_web_tokens_and_words_around_a_secret_are_masked() {
        for (text, expected) in [
            ("0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77", "0b5f***"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.dGVzdGVk", "eyJh***.eyJz***.***"),
            ("S3CR3T/quotes+=", "***="),
            ("SessionToken=S3CR3T", "SessionToken=***"),
            ("`token.S3CR3T.env`", "`token.***.env`"),
            ("https://h/api/S3CR3T", "https://h/api/***"),
            ("/S3CR3T", "***"),
            ("https://user:a/S3CR3T@h/x", "https://***@h/x"),
            ("/run/0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77/t", "/run/0b5f***/t"),
        ] {
            let masked = mask(text);
            assert!(!masked.contains("S3CR3T"), "{masked}");
            if !text.contains("dGVz") {
                assert_eq!(masked, expected, "{text}");
            }
        }
    }

    #[test]
    fn names_paths_urls_and_sentences_are_shown() {
        for text in [
            "HISTORY_TOKEN",
            "quotes-app-production-eu-west-1",
            "/var/lib/tokenkeep/quotes.token",
            "/tmp/.tmpX9aB2c/tokenkeep.toml:8:8",
            "https://api2.eu-west-1.example.net:8443/v1beta1/QuerySessionToken",
            "http://[::1]:9464/",
            "info,hyper=debug,tokenkeep::api=trace",
            "23:45-00:15 America/Argentina/ComodRivadavia",
            "node1-rack2-dc3-eu4",
            "systemd/sarus-api-key",
            "x86_64 k8s i18n sha256 utf8 ipv4 v1alpha1 r2d2 EC2",
            "must be a duration from 100ms to 10m, but is \"2h 30m\"",
            "QuerySessionToken RenewSessionToken internationalization",
            "2026-11-29T14:33:06Z 192.168.100.200:65535 fe80::1ff:fe23:4567:890a",
            "größe-für-äußere-töken",
        ] {
            assert_eq!(mask(text), text);
        }
    }
}
