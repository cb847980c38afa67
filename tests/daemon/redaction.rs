//! Echoes of a token in `Errors.Detail`: none reaches the log or a reauth command, in whatever
//! form the server writes it.

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{Stage, seconds, server_table, simulator, token_table, until};

/// Names a form and writes a value in it.
type Form = (&'static str, fn(&str) -> String);

const FORMS: [Form; 16] = [
    ("raw", |value| value.to_owned()),
    ("last_20", |value| value.chars().rev().take(20).collect::<Vec<_>>().iter().rev().collect()),
    ("first_12", |value| value.chars().take(12).collect()),
    ("middle", |value| value.chars().skip(1).take(9).collect()),
    ("percent", percent),
    ("percent_twice", |value| percent(&percent(value))),
    ("plus_as_space", |value| value.replace('+', " ")),
    ("html", |value| each(value, |text, c| write!(text, "&#x{:x};", c as u32))),
    ("html_names", |value| value.replace('+', "&plus;").replace('/', "&sol;")),
    ("json_slashes", |value| value.replace('/', "\\/")),
    ("json", |value| each(value, |text, c| write!(text, "\\u{:04X}", c as u32))),
    ("json_of_percent", |value| {
        each(&percent(value), |text, c| write!(text, "\\u{:04x}", c as u32))
    }),
    ("base64", |value| STANDARD.encode(value)),
    ("base64_url", |value| URL_SAFE_NO_PAD.encode(format!("token={value}"))),
    ("hex", |value| value.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))),
    ("zero_width", |value| each(value, |text, c| write!(text, "{c}\u{200b}"))),
];

fn each(value: &str, add: impl Fn(&mut String, char) -> std::fmt::Result) -> String {
    let mut text = String::new();
    value.chars().for_each(|c| add(&mut text, c).expect("a String takes everything"));
    text
}

fn percent(value: &str) -> String {
    each(value, |text, c| {
        if c.is_ascii_alphanumeric() {
            write!(text, "{c}")
        } else {
            write!(text, "%{:02X}", c as u32)
        }
    })
}

/// A value of this length without a repetition that its parts could be found by.
fn value(alphabet: &[u8], length: usize, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| char::from(alphabet[random.usize(..alphabet.len())])).collect()
}

fn holds_a_part(text: &str, value: &str) -> bool {
    let parts: HashSet<&[u8]> = value.as_bytes().windows(8).collect();
    text.as_bytes().windows(8).any(|run| parts.contains(run))
}

#[tokio::test]
async fn no_form_of_an_echoed_token_reaches_the_log_or_a_command() {
    const HEX: &[u8] = b"0123456789abcdef";
    const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    const ALL: &[u8] = b"!#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz|}~";
    // Fewer log lines than the event log admits in a minute.
    let shapes = [
        ("hex", HEX, 9),
        ("hex", HEX, 32),
        ("base64", BASE64, 24),
        ("base64", BASE64, 200),
        ("url", URL, 9),
        ("url", URL, 4096),
        ("all", ALL, 9),
        ("all", ALL, 60),
        ("all", ALL, 4096),
    ];
    let server = simulator().await;
    let mut configuration = String::from("max_hooks = 16\n");
    configuration += &server_table("sarus", &server, "");
    configuration += "[reauth.seen]\ncommand = [\"$DIR/seen\"]\nmax_attempts = 1\n";
    configuration += "max_failures_all = 1000\n";
    let mut cases = Vec::new();
    for (alphabet, characters, length) in shapes {
        for (form, echo) in FORMS {
            let name = format!("{alphabet}_{length}_{form}");
            let value = value(characters, length, cases.len() as u64);
            configuration += &token_table(&name, "sarus", "reauth = \"seen\"");
            cases.push((name, value, echo));
        }
    }
    let stage = Stage::new(&configuration);
    stage.script(
        "seen",
        "printf '%s|%s|\\n' \"$TOKENKEEP_NAME\" \"$TOKENKEEP_DETAIL\" >> $DIR/details\nexit 1",
    );
    for (name, value, echo) in &cases {
        stage.write(&format!("{name}.token"), value);
        server.add_token(value, seconds(60));
        let detail = format!("Session \u{2014} {} \u{2014} is over", echo(value));
        server.plan_fault(Plan::once(Trouble::Error { status: 410, detail }).for_token(value));
    }
    let daemon = stage.start();
    until("each command was run", || stage.lines_in("details") == cases.len()).await;
    let mut shown = Vec::new();
    for (name, value, _) in &cases {
        let line = daemon.event("token_expired", name).await;
        let detail = line.text("detail").to_owned();
        assert!(detail.starts_with("Session \u{2014}"), "{name}: {detail}");
        assert!(!holds_a_part(&line.0.to_string(), value), "{name}: {detail}");
        shown.push((name, detail));
    }
    let details = stage.read("details");
    for (name, detail) in shown {
        let left =
            detail.trim_start_matches("Session \u{2014} ").trim_end_matches(" \u{2014} is over");
        let left = left.replace("[redacted]", "");
        assert!(left.chars().count() < 8 || left == "Session \u{2014}", "{name}: {detail}");
        assert!(details.contains(&format!("{name}|{detail}|\n")), "{name}: {detail}");
    }
    for (name, value, _) in &cases {
        assert!(!holds_a_part(&details, value), "{name}");
    }
    daemon.stop().await;
}
