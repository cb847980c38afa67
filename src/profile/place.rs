//! Places in a response: a path in its JSON body, a header field or a cookie.

use std::fmt;

/// A place in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Keys from the top of the JSON body. The first letter of each key may have either case.
    Body(Vec<Box<str>>),
    /// A header field, by its name in any case.
    Header(Box<str>),
    /// A cookie that the response sets.
    Cookie(Box<str>),
}

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is no place in a response; write the keys of the JSON body with dots between them, such as \
     `data.ttl`, or `header NAME` or `cookie NAME`"
)]
pub struct PlaceError;

impl Place {
    /// Parses `a.b.c`, `header NAME` or `cookie NAME`.
    ///
    /// # Errors
    ///
    /// If the text is none of them.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let is_word = |word: &str| {
            !word.is_empty() && !word.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        if let Some((kind, name)) = text.split_once(' ') {
            let is_token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            let name = Some(name).filter(|name| !name.is_empty() && is_token);
            return match (kind, name) {
                ("header", Some(name)) => Ok(Self::Header(name.into())),
                ("cookie", Some(name)) => Ok(Self::Cookie(name.into())),
                _ => Err(PlaceError),
            };
        }
        let keys: Vec<Box<str>> = text.split('.').map(Into::into).collect();
        if keys.iter().all(|key| is_word(key)) { Ok(Self::Body(keys)) } else { Err(PlaceError) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(keys) => f.write_str(&keys.join(".")),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_a_path_or_a_header_or_a_cookie() {
        for text in ["ttl", "data.ttl", "header X-Auth-Token", "cookie api"] {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_no_places() {
        for text in ["", ".", "a.", ".a", "a..b", "a b", "header ", "header X Y", "cookie a;b"] {
            assert_eq!(Place::parse(text), Err(PlaceError), "{text:?}");
        }
    }
}
