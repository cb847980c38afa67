//! Texts with placeholders: `{token}`, `{refresh}`, `{minutes}`, and `{NAME}` for the parameters in
//! `with`. `{{` and `}}` stand for braces.

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Placeholder(Placeholder),
}

/// A placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placeholder {
    /// The token's value.
    Token,
    /// Its refresh token.
    Refresh,
    /// The requested life of a session in minutes.
    Minutes,
    /// The parameter with this name.
    Parameter(Box<str>),
}

/// A text that is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without `}`, or the reverse.
    #[error("a brace is not closed or not opened; write {{{{ or }}}} for a brace itself")]
    Brace,
    /// A name that cannot be one.
    #[error(
        "`{{{0}}}` is no placeholder; a name has lower-case letters, digits and `_`; write {{{{ for \
         a brace itself"
    )]
    Name(String),
}

/// A JSON value whose texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonTemplate {
    /// An object.
    Object(Vec<(String, Self)>),
    /// A list.
    List(Vec<Self>),
    /// A text.
    Text(Template),
    /// A number, a boolean or null.
    Other(serde_json::Value),
}

impl Placeholder {
    /// Parses what is between the braces.
    ///
    /// # Errors
    ///
    /// If it cannot be a name.
    pub fn parse(name: &str) -> Result<Self, TemplateError> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        match name {
            "token" => Ok(Self::Token),
            "refresh" => Ok(Self::Refresh),
            "minutes" => Ok(Self::Minutes),
            _ if !name.is_empty() && name.chars().all(is_name) => Ok(Self::Parameter(name.into())),
            _ => Err(TemplateError::Name(name.chars().take(40).collect())),
        }
    }
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    ///
    /// If a brace is unbalanced or a name cannot be one.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            let brace = &from[..1];
            if from[1..].starts_with(brace) {
                literal.push_str(brace);
                rest = &from[2..];
                continue;
            }
            let (name, after) = from[1..].split_once('}').ok_or(TemplateError::Brace)?;
            if brace == "}" || name.contains('{') {
                return Err(TemplateError::Brace);
            }
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(Part::Placeholder(Placeholder::parse(name)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Self(parts))
    }

    /// The text with each placeholder replaced by what `value` returns for it, which is passed
    /// through `encode`. `None` if a placeholder has no value.
    pub fn render<'v>(
        &self,
        value: impl Fn(&Placeholder) -> Option<&'v str>,
        encode: impl Fn(&str, &mut String),
    ) -> Option<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Placeholder(placeholder) => encode(value(placeholder)?, &mut text),
            }
        }
        Some(text)
    }

    /// Its placeholders, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Placeholder(placeholder) => Some(placeholder),
        })
    }

    /// Its literal parts, in order.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(literal) => Some(&**literal),
            Part::Placeholder(_) => None,
        })
    }

    /// Whether the refresh token is part of it.
    pub fn uses_refresh_token(&self) -> bool {
        self.placeholders().any(|placeholder| *placeholder == Placeholder::Refresh)
    }
}

impl JsonTemplate {
    /// Its placeholders, in order.
    pub fn placeholders(&self) -> Vec<&Placeholder> {
        match self {
            Self::Object(entries) => {
                entries.iter().flat_map(|(_, value)| value.placeholders()).collect()
            }
            Self::List(values) => values.iter().flat_map(Self::placeholders).collect(),
            Self::Text(text) => text.placeholders().collect(),
            Self::Other(_) => Vec::new(),
        }
    }

    /// Whether the refresh token is part of it.
    pub fn uses_refresh_token(&self) -> bool {
        match self {
            Self::Object(entries) => entries.iter().any(|(_, value)| value.uses_refresh_token()),
            Self::List(values) => values.iter().any(Self::uses_refresh_token),
            Self::Text(text) => text.uses_refresh_token(),
            Self::Other(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<Option<String>, TemplateError> {
        let value = |placeholder: &Placeholder| match placeholder {
            Placeholder::Token => Some("T"),
            Placeholder::Refresh => Some("R"),
            Placeholder::Minutes => Some("30"),
            Placeholder::Parameter(name) => (&**name == "user").then_some("U"),
        };
        let encode = |value: &str, text: &mut String| text.push_str(value);
        Ok(Template::parse(text)?.render(value, encode))
    }

    #[test]
    fn placeholders_are_replaced() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{token}", "T"),
            ("a{token}b{refresh}{minutes}/{user}", "aTbR30/U"),
            ("{{token}}", "{token}"),
            ("{{{token}}}", "{T}"),
        ] {
            assert_eq!(rendered(text).unwrap().as_deref(), Some(expected), "{text}");
        }
        assert_eq!(rendered("{other}"), Ok(None));
    }

    #[test]
    fn unbalanced_braces_and_impossible_names_are_refused() {
        for text in ["{", "}", "{token", "token}", "{a{b}}", "a}b"] {
            assert_eq!(rendered(text), Err(TemplateError::Brace), "{text}");
        }
        for text in ["{}", "{Token}", "{a-b}", "{a b}"] {
            assert!(matches!(rendered(text), Err(TemplateError::Name(_))), "{text}");
        }
    }
}
