//! Repairs JSON with invalid strings, so that the rest of it can be read: bytes that are not UTF-8,
//! raw control characters and unknown escapes in strings, numbers out of range, and nesting deeper
//! than the parser supports.
//!
//! Does not repair the structure: truncated or invalid JSON stays so. No repair removes a value, so
//! that an error never looks like a success.

/// The deepest nesting that is kept. The parser's limit is 128.
const MAX_DEPTH: usize = 100;

/// Replaces deeper values.
const DEEPER: &[u8] = b"\"...\"";

/// `body` with valid strings, readable numbers and bounded nesting.
pub(super) fn repair(body: &[u8]) -> Vec<u8> {
    // Every byte with a meaning in JSON is ASCII, and is kept.
    let text = String::from_utf8_lossy(body);
    let mut rest = text.as_bytes();
    let mut repaired = Vec::with_capacity(rest.len() + rest.len() / 8);
    let mut depth = 0_usize;
    while let Some((&first, after)) = rest.split_first() {
        let kept = repaired.len();
        rest = match first {
            b'"' => string(after, &mut repaired),
            b'-' | b'0'..=b'9' => number(rest, &mut repaired),
            _ => {
                repaired.push(first);
                after
            }
        };
        let deeper = depth > MAX_DEPTH;
        match first {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            repaired.truncate(kept);
        } else if deeper {
            // The bracket that closes the first level beyond the limit.
            repaired.truncate(kept);
            repaired.extend_from_slice(DEEPER);
        }
    }
    repaired
}

/// Reads a string after its opening quotation mark. Returns the rest.
fn string<'a>(mut rest: &'a [u8], repaired: &mut Vec<u8>) -> &'a [u8] {
    repaired.push(b'"');
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'"' => {
                repaired.push(b'"');
                return rest;
            }
            b'\\' => rest = escape(rest, repaired),
            0..=0x1f => repaired.extend_from_slice(format!("\\u{first:04x}").as_bytes()),
            _ => repaired.push(first),
        }
    }
    rest
}

/// Reads an escape after its backslash. Returns the rest.
fn escape<'a>(rest: &'a [u8], repaired: &mut Vec<u8>) -> &'a [u8] {
    let keep = |repaired: &mut Vec<u8>, length: usize| {
        repaired.push(b'\\');
        repaired.extend_from_slice(&rest[..length]);
        &rest[length..]
    };
    match rest.first() {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => keep(repaired, 1),
        Some(b'u') => match rest.get(1..5).and_then(unit) {
            Some(0xd800..=0xdbff) => {
                let low = rest.get(5..7) == Some(b"\\u")
                    && matches!(rest.get(7..11).and_then(unit), Some(0xdc00..=0xdfff));
                if low {
                    return keep(repaired, 11);
                }
                repaired.extend_from_slice(b"\\ufffd");
                &rest[5..]
            }
            Some(0xdc00..=0xdfff) => {
                repaired.extend_from_slice(b"\\ufffd");
                &rest[5..]
            }
            Some(_) => keep(repaired, 5),
            None => {
                repaired.extend_from_slice(b"\\\\u");
                &rest[1..]
            }
        },
        // A literal backslash, as in a Windows path.
        Some(_) => {
            repaired.extend_from_slice(b"\\\\");
            rest
        }
        None => rest,
    }
}

/// The value of four hexadecimal digits.
fn unit(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Reads a number, and converts it to a string if it is out of range. Returns the rest.
fn number<'a>(rest: &'a [u8], repaired: &mut Vec<u8>) -> &'a [u8] {
    let part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let (number, after) = rest.split_at(rest.iter().take_while(|byte| part(byte)).count());
    let text = std::str::from_utf8(number).unwrap_or_default();
    if text.parse().is_ok_and(f64::is_infinite) {
        repaired.push(b'"');
        repaired.extend_from_slice(number);
        repaired.push(b'"');
    } else {
        repaired.extend_from_slice(number);
    }
    after
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn repaired(body: &[u8]) -> Option<Value> {
        serde_json::from_slice(&repair(body)).ok()
    }

    #[test]
    fn invalid_strings_are_repaired() {
        for (body, detail) in [
            (&b"caf\xe9 closed"[..], "caf\u{fffd} closed"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"x\xe2\x82", "x\u{fffd}"),
            (b"a\x00b\nc\td", "a\0b\nc\td"),
            (b"a\\ud83d b", "a\u{fffd} b"),
            (b"a\\udc00\\ud83d\\u0041", "a\u{fffd}\u{fffd}A"),
            (b"\\ud83d\\ude00", "\u{1f600}"),
            (b"C:\\path", "C:\\path"),
            (b"\\x41 \\' \\u12", "\\x41 \\' \\u12"),
            (b"\\\"\\\\\\/", "\"\\/"),
        ] {
            let body = [b"{\"d\":\"", body, b"\"}"].concat();
            assert_eq!(repaired(&body), Some(json!({ "d": detail })), "{:?}", body.escape_ascii());
        }
    }

    #[test]
    fn number_out_of_range_becomes_a_string() {
        assert_eq!(
            repaired(br#"{"a":1e400,"b":-1e999,"c":1.5e3}"#),
            Some(json!({ "a": "1e400", "b": "-1e999", "c": 1500.0 }))
        );
    }

    #[test]
    fn nesting_beyond_the_limit_becomes_a_string_and_the_rest_is_kept() {
        for depth in [MAX_DEPTH - 1, MAX_DEPTH, 128, 10_000] {
            for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
                let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let body = format!(r#"{{"a":{deep},"b":{{"c":2}}}}"#);
                let value = repaired(body.as_bytes()).expect("JSON");
                assert_eq!(value["b"]["c"], 2, "{depth}");
                assert!(!value["a"].is_null(), "{depth}");
            }
        }
    }

    #[test]
    fn truncated_or_invalid_json_stays_invalid() {
        for body in [
            "",
            "{",
            "{\"a\":\"b",
            "{\"a\":\"b\\",
            "<html>",
            "{\"a\":}",
            "{}}",
            "[[]",
            "{\"a\":\"b\\\"}",
            "{\"a\":1.}",
            "{\"a\":01}",
            "{'a':1}",
            "\u{1}{}",
        ] {
            assert_eq!(repaired(body.as_bytes()), None, "{body}");
        }
        assert_eq!(repaired("[".repeat(20_000).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn valid_json_keeps_its_meaning(text in "\\PC{0,40}", number in any::<f64>()) {
            let body = json!({ "t": text, "n": number, "l": [null, true, { "x": text }] });
            let body = body.to_string();
            prop_assert_eq!(repaired(body.as_bytes()), serde_json::from_str(&body).ok());
        }

        #[test]
        fn any_bytes_can_be_repaired(body in prop::collection::vec(any::<u8>(), 0..300)) {
            repair(&body);
        }
    }
}
