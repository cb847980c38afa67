//! All that was ever in etcd below the prefix. etcd keeps every revision, because nothing compacts it.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokenkeep::cluster::seal::Keys;
use tokio::time::timeout;

use crate::etcd::{Etcd, PREFIX, decoded, range, utf8};
use crate::support::{ISSUED, MARK, PATIENCE};

/// The last key of the prefix, which no replica uses.
const END: &str = "~end";

/// A content that a key had.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) key: String,
    /// `None`: the key was deleted.
    pub(crate) content: Option<Vec<u8>>,
}

/// Every change below the prefix, in order.
pub(crate) async fn read(etcd: &Etcd) -> Vec<Write> {
    etcd.put(END, b"").await;
    let mut request = range();
    request["start_revision"] = json!(1);
    let mut response = etcd.stream("/v3/watch", &json!({ "create_request": request })).await;
    let (mut writes, mut text) = (Vec::new(), Vec::new());
    let all = async {
        loop {
            let chunk = response.chunk().await.expect("a stream").expect("more of it");
            text.extend_from_slice(&chunk);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let message: Value = serde_json::from_slice(&line).expect("JSON");
                let events = message["result"]["events"].as_array().cloned().unwrap_or_default();
                for event in events {
                    let key = utf8(&decoded(&event["kv"]["key"]));
                    if key == format!("{PREFIX}/{END}") {
                        return;
                    }
                    let is_put = event["type"] != "DELETE";
                    let content = is_put.then(|| decoded(&event["kv"]["value"]));
                    writes.push(Write { key, content });
                }
            }
        }
    };
    timeout(PATIENCE, all).await.expect("the history is read");
    writes
}

/// All values that were ever stored, opened with these keys.
pub(crate) fn values(writes: &[Write], keys: &[&str]) -> HashSet<String> {
    let keys: Vec<_> = keys.iter().map(|key| Keys::parse(key, None).expect("a key")).collect();
    let mut values = HashSet::new();
    for write in writes.iter().filter(|write| write.key.starts_with(&format!("{PREFIX}/value/"))) {
        let Some(content) = &write.content else { continue };
        let opened = keys.iter().find_map(|key| key.open_value(content, &write.key).ok());
        let opened = opened.unwrap_or_else(|| panic!("{} cannot be opened", write.key));
        values.insert(opened.value.expose().to_owned());
    }
    values
}

/// Fails if a content has a secret in the clear or in Base64.
pub(crate) fn assert_sealed(writes: &[Write]) {
    let coded = |secret: &str, skipped: usize| {
        let text = STANDARD.encode("x".repeat(skipped) + secret);
        // Only characters whose six bits all belong to the secret.
        let (first, end) = ((skipped * 8).div_ceil(6), (skipped + secret.len()) * 8 / 6);
        text[first..end].to_owned()
    };
    let forms = |secret: &str| {
        let coded = [0, 1, 2].map(|skipped| coded(secret, skipped));
        coded.into_iter().chain([secret.to_owned()]).collect::<Vec<_>>()
    };
    let secrets: Vec<_> = [MARK, ISSUED].into_iter().flat_map(forms).collect();
    for write in writes {
        let text = write.key.clone() + &utf8(write.content.as_deref().unwrap_or_default());
        let shown = secrets.iter().find(|secret| text.contains(&**secret));
        assert!(shown.is_none(), "{} has a secret in the clear: {shown:?}", write.key);
    }
    assert!(!writes.is_empty(), "nothing was written");
}
