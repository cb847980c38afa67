//! A plain HTTP client for the control socket, and what its answers are held against.

use serde_json::Value;
use tokenkeep::clock;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{PATIENCE, Stage, millis};

const DESCRIPTION: &str = include_str!("../../../docs/openapi.json");

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn problem(&self) -> String {
        self.json()["error"]["kind"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

/// Asks for a path, and sees that the answer is as described.
pub(crate) async fn get(stage: &Stage, path: &str) -> Answer {
    request(stage, "GET", path).await
}

/// Has something done, and sees that the answer is as described.
pub(crate) async fn post(stage: &Stage, path: &str) -> Answer {
    request(stage, "POST", path).await
}

async fn request(stage: &Stage, method: &str, path: &str) -> Answer {
    let stream = UnixStream::connect(stage.path("control.sock")).await.expect("a socket");
    let answer = read(stream, method, path, "").await;
    conforms(method, path, &answer);
    answer
}

/// A whole number among the metrics; `None` if there is no such sample.
pub(crate) async fn metric(stage: &Stage, name: &str) -> Option<u64> {
    let page = get(stage, "/metrics").await.body;
    let sample = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    sample.map(|value| value.parse().expect("a whole number"))
}

/// Waits until a metric has this value; `None`: until there is no such sample.
pub(crate) async fn until_metric(stage: &Stage, name: &str, value: Option<u64>) {
    let deadline = clock::now() + PATIENCE;
    while metric(stage, name).await != value {
        assert!(clock::now() < deadline, "{name} does not become {value:?}");
        tokio::time::sleep(millis(20)).await;
    }
}

/// Asks over any connection; `headers` are more of them, each with its end.
pub(crate) async fn read(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &str,
) -> Answer {
    let exchange = async {
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        );
        stream.write_all(text.as_bytes()).await.expect("a reader");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    };
    let answer = timeout(PATIENCE, exchange).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Fails unless the description foresees this answer to this request.
fn conforms(method: &str, path: &str, answer: &Answer) {
    let description: Value = serde_json::from_str(DESCRIPTION).expect("JSON");
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (mut ours, mut theirs) = (path.split('/'), template.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(_), Some("{name}")) => {}
                (ours, theirs) if ours == theirs => {}
                _ => return false,
            }
        }
    };
    let paths = description["paths"].as_object().expect("paths");
    let Some((_, known)) = paths.iter().find(|(template, _)| fits(template)) else {
        assert_eq!(answer.status, 404, "{path} is not described");
        return;
    };
    let Some(operation) = known.get(method.to_lowercase()) else {
        assert_eq!(answer.status, 405, "{method} {path} is not described");
        return;
    };
    let response = &operation["responses"][answer.status.to_string()];
    assert!(response.is_object(), "{method} {path} is not described with {}", answer.status);
    match response["content"]["application/json"].get("schema") {
        Some(schema) => holds(&description, schema, &answer.json(), path),
        None if response.get("content").is_none() => assert_eq!(answer.body, ""),
        None => {}
    }
}

/// Fails unless `value` is as `schema` says: the part of JSON Schema that the description uses.
fn holds(description: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(pointer) = schema["$ref"].as_str() {
        let schema = description.pointer(pointer.trim_start_matches('#')).expect("a schema");
        return holds(description, schema, value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let choice = choices.iter().find(|choice| (choice["type"] == "null") == value.is_null());
        return holds(description, choice.expect("a choice"), value, place);
    }
    let own = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    assert!(types.iter().any(|known| known == own), "{place} is a {own}, not {types:?}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place} is {value}, none of {words:?}");
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64()) {
        assert!(number >= least, "{place} is {number}");
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        holds(description, &schema["items"], item, &format!("{place}[{index}]"));
    }
    let Some(fields) = value.as_object() else { return };
    for required in schema["required"].as_array().into_iter().flatten() {
        let required = required.as_str().expect("a name");
        assert!(fields.contains_key(required), "{place} lacks {required}");
    }
    for (name, field) in fields {
        let known = schema["properties"].get(name);
        let known = known.unwrap_or_else(|| panic!("{place}.{name} is not described"));
        holds(description, known, field, &format!("{place}.{name}"));
    }
}
