//! Values of templates, and how values of a response compare with them.

use serde_json::Value;

use super::model::Scalar;
use super::template::{JsonTemplate, Placeholder, Template};

impl JsonTemplate {
    /// The JSON text, with each placeholder replaced by what `value` returns for it. `None` if a
    /// placeholder has no value.
    pub fn render<'v>(&self, value: &dyn Fn(&Placeholder) -> Option<&'v str>) -> Option<String> {
        let mut json = String::new();
        self.write(value, &mut json)?;
        Some(json)
    }

    fn write<'v>(
        &self,
        value: &dyn Fn(&Placeholder) -> Option<&'v str>,
        json: &mut String,
    ) -> Option<()> {
        match self {
            Self::Object(entries) => {
                json.push('{');
                for (at, (key, entry)) in entries.iter().enumerate() {
                    json.push_str(if at == 0 { "" } else { "," });
                    json.push_str(&Value::from(&**key).to_string());
                    json.push(':');
                    entry.write(value, json)?;
                }
                json.push('}');
            }
            Self::List(entries) => {
                json.push('[');
                for (at, entry) in entries.iter().enumerate() {
                    json.push_str(if at == 0 { "" } else { "," });
                    entry.write(value, json)?;
                }
                json.push(']');
            }
            Self::Text(text) => json.push_str(&Value::from(text.text(value)?).to_string()),
            Self::Other(other) => json.push_str(&other.to_string()),
        }
        Some(())
    }
}

impl Template {
    /// The text with each placeholder replaced by what `value` returns for it, unencoded.
    pub fn text<'v>(&self, value: impl Fn(&Placeholder) -> Option<&'v str>) -> Option<String> {
        self.render(value, |value, text| text.push_str(value))
    }
}

impl Scalar {
    /// Whether `found` is this value. Numbers and numeric texts compare as numbers. Placeholders
    /// are replaced by what `value` returns; one without a value is equal to nothing.
    pub fn is<'v>(&self, found: &Value, value: impl Fn(&Placeholder) -> Option<&'v str>) -> bool {
        match (self, found) {
            (Self::Boolean(expected), Value::Bool(found)) => expected == found,
            (Self::Number(expected), Value::Number(_) | Value::String(_)) => {
                number(&text_of(found)).is_some_and(|found| (found - expected).abs() == 0.0)
            }
            (Self::Text(expected), Value::Number(_) | Value::String(_)) => {
                expected.text(value).is_some_and(|expected| is_same(&expected, &text_of(found)))
            }
            _ => false,
        }
    }
}

/// The text of a number, a text or a boolean; empty for others.
pub fn text_of(value: &Value) -> std::borrow::Cow<'_, str> {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Number(_) | Value::Bool(_) => value.to_string().into(),
        Value::Null | Value::Array(_) | Value::Object(_) => "".into(),
    }
}

/// A finite number, or one as text.
pub fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// Whether two texts are the same text or number. Integers are compared exactly: a lease's ID has
/// more digits than a float.
fn is_same(a: &str, b: &str) -> bool {
    let integer = |text: &str| text.trim().parse::<i128>().ok();
    a == b
        || match (integer(a), integer(b)) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((number(a), number(b)), (Some(a), Some(b)) if (a - b).abs() == 0.0),
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(placeholder: &Placeholder) -> Option<&'static str> {
        (*placeholder == Placeholder::Token).then_some("166811474504456455")
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(Template::parse(text).expect("a template"))
    }

    #[test]
    fn json_is_written_with_escapes_and_in_order() {
        let text = |text| JsonTemplate::Text(Template::parse(text).expect("a template"));
        let json = JsonTemplate::Object(vec![
            ("z\"".into(), text("{token}")),
            ("a".into(), JsonTemplate::List(vec![text("x"), JsonTemplate::Other(json!(1))])),
            ("n".into(), JsonTemplate::Object(Vec::new())),
        ]);
        let quoted = |_: &Placeholder| Some("a\"b\\\n");
        let expected = r#"{"z\"":"a\"b\\\n","a":["x",1],"n":{}}"#;
        assert_eq!(json.render(&quoted).as_deref(), Some(expected));
        assert_eq!(json.render(&|_| None), None);
    }

    #[test]
    fn numbers_and_numeric_texts_are_equal() {
        for found in [json!(410), json!(410.0), json!("410"), json!(" 410.0 ")] {
            assert!(Scalar::Number(410.0).is(&found, value), "{found}");
            assert!(text("410").is(&found, value), "{found}");
        }
        assert!(Scalar::Number(-1.0).is(&json!("-1"), value));
        assert!(Scalar::Boolean(false).is(&json!(false), value));
        assert!(text("{token}").is(&json!(166_811_474_504_456_455_u64), value));
    }

    #[test]
    fn other_values_are_not_equal() {
        for found in [json!(411), json!("410x"), json!(""), json!(null), json!(true), json!([410])]
        {
            assert!(!Scalar::Number(410.0).is(&found, value), "{found}");
            assert!(!text("410").is(&found, value), "{found}");
        }
        assert!(!Scalar::Number(f64::NAN).is(&json!("nan"), value));
        assert!(!Scalar::Boolean(false).is(&json!(0), value));
        // They differ by one, and are equal as floats.
        assert!(!text("{token}").is(&json!("166811474504456456"), value));
        assert!(!text("{refresh}").is(&json!("x"), value), "no value is equal to nothing");
    }
}
