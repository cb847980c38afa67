//! The configuration of `[notify.NAME]`: what is refused, what is a warning, and the plan.

use std::process::Output;

use crate::support::Stage;

const BASE: &str = "[server.sarus]\nurl = \"https://api.example.net\"\n\
                    [token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\n";

async fn run(stage: &Stage, subcommand: &str, arguments: &[&str]) -> Output {
    stage.command(subcommand).args(arguments).output().await.expect("it runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn invalid_notify_is_refused_with_a_remedy() {
    let long = format!("command = [\"/bin/true\"]\ntokens = [\"{}\"]", "q".repeat(257));
    for (keys, message, remedy) in [
        (&*long, "at most 256 bytes", "quotes-*"),
        (
            "command = [\"/bin/true\"]\nevents = [\"token_replacd\"]",
            "no such event",
            "did you mean \"token_replaced\"?",
        ),
        ("command = [\"/bin/true\"]\nevents = []", "must name an event", "leave the key out"),
        ("command = [\"/bin/true\"]\ntokens = []", "must name a token", "quotes-*"),
        (
            "command = [\"/bin/true\"]\ntokens = [\"quotes-**\"]",
            "contains \"quotes-**\", which is not a valid pattern",
            "write names, or patterns with `*` and `?`",
        ),
        ("events = [\"token_replaced\"]", "has none of `command`, `webhook`", "write exactly one"),
        (
            "command = [\"/bin/true\"]\nwebhook = \"https://h/\"",
            "both `command` and `webhook`",
            "keep exactly one",
        ),
        ("webhook = \"http://hooks.example.net/\"", "plain http to another machine", "use https"),
        ("webhook = \"https://h/?key=S3CR3T\"", "contains a query", "write only the base URL"),
        (
            "command = [\"/bin/true\"]\nwebhook_header_credential = \"c\"",
            "has no effect without `webhook`",
            "remove it",
        ),
        ("command = [\"/bin/true\"]\ntimeout = \"11m\"", "100ms to 10m", "timeout = \"100ms\""),
        (
            "command = [\"/bin/true\"]\nevent = \"token_replaced\"",
            "there is no key `event`",
            "did you mean `events`?",
        ),
    ] {
        let stage = Stage::new(&format!("{BASE}[notify.app]\n{keys}\n"));
        let output = run(&stage, "check-config", &[]).await;
        let text = text(&output);
        assert_eq!(output.status.code(), Some(78), "{keys}: {text}");
        assert!(text.contains(message) && text.contains(remedy), "{keys}: {text}");
        assert!(!text.contains("S3CR3T"), "{text}");
    }
}

#[tokio::test]
async fn probable_mistakes_are_warnings() {
    for (keys, message) in [
        (
            "command = [\"/bin/true\"]\ntokens = [\"quotes\", \"qoutes-*\"]",
            "`notify.app.tokens` contains \"qoutes-*\", which matches no token",
        ),
        (
            "command = [\"/bin/true\"]\nevents = [\"daemon_stopped\"]",
            "names daemon_stopped, which is never delivered",
        ),
        ("command = [\"bin/app\"]", "is a relative path"),
        (
            "command = [\"/nonexistent/app\"]",
            "`notify.app.command`, /nonexistent/app: there is no such program",
        ),
        (
            "webhook = \"https://h/\"\nca_file = \"/nonexistent/ca.pem\"",
            "`notify.app.ca_file`, /nonexistent/ca.pem: there is no such file",
        ),
    ] {
        let stage = Stage::new(&format!("{BASE}[notify.app]\n{keys}\n"));
        stage.token("quotes");
        let output = run(&stage, "check-config", &[]).await;
        let text = text(&output);
        assert_eq!(output.status.code(), Some(0), "{keys}: {text}");
        assert!(text.contains(message), "{keys}: {text}");
    }
}

#[tokio::test]
async fn pattern_may_match_tokens_of_an_inventory_and_is_no_warning_then() {
    let stage = Stage::new(&format!(
        "{BASE}[inventory.many]\nserver = \"sarus\"\ndir = \"$DIR/many\"\n\
         [notify.app]\ncommand = [\"/bin/true\"]\ntokens = [\"client-*\"]\n"
    ));
    let text = text(&run(&stage, "check-config", &[]).await);
    assert!(!text.contains("matches no token"), "{text}");
}

#[tokio::test]
async fn plan_lists_receivers_without_the_path_of_a_webhook() {
    let stage = Stage::new(&format!(
        "{BASE}[notify.app]\ncommand = [\"/bin/true\", \"x\"]\nevents = [\"token_replaced\"]\n\
         tokens = [\"quotes*\"]\n\
         [notify.hook]\nwebhook = \"https://hooks.example.net/services/S3CR3T\"\n"
    ));
    let text = text(&run(&stage, "check-config", &[]).await);
    let lines = [
        "notify app: runs /bin/true, at most 30 s for an attempt; token_replaced; of tokens quotes*",
        "notify hook: posts to https://hooks.example.net, at most 30 s for an attempt; all events \
         of level error, and token_recovered; of all tokens",
    ];
    for line in lines {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("S3CR3T"), "{text}");
}

#[tokio::test]
async fn doctor_reports_what_will_fail() {
    let stage = Stage::new(&format!(
        "{BASE}[notify.app]\ncommand = [\"/nonexistent/app\"]\n\
         [notify.hook]\nwebhook = \"http://127.0.0.1:9/\"\nwebhook_header_credential = \"header\"\n"
    ));
    stage.write("credentials/header", "S3CR3T\n");
    let mut command = stage.command("doctor");
    let output = command
        .arg("--offline")
        .env("CREDENTIALS_DIRECTORY", stage.path("credentials"))
        .output()
        .await
        .expect("it runs");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("`notify.app.command`, /nonexistent/app: there is no such program"),
        "{text}"
    );
    assert!(text.contains("the credential must contain one header line"), "{text}");
    assert!(!text.contains("S3CR3T"), "{text}");
}
