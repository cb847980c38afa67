//! `check-config`: what it tells of many tokens, and of the ways to new values.

use crate::support::{MARK, PATIENCE, Stage};

const WAYS: &str = r#"
[server.sarus]
url = "https://api.example.net"
[reauth.relogin]
command = ["/usr/local/libexec/relogin"]
max_failures_all = 7
quiet = ["23:45-00:15 UTC"]
reauth_before = "30s"
"#;

async fn plan(stage: &Stage, options: &[&str]) -> String {
    let output = stage.command("check-config").args(options).output().await.expect("it starts");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn check_config_states_login_limits_and_start_times() {
    let token = "[token.quotes]\nserver = \"sarus\"\nenv = \"Q\"\nreauth = \"relogin\"\n";
    let said = plan(&Stage::new(&format!("{WAYS}{token}")), &[]).await;
    for wanted in [
        "re-auth relogin: at most 7 failures of all its tokens in 1 h; maintenance window each day 23:45-00:15 UTC",
        "  before its end by 30 s, if nothing renews it",
        "  when it dies   re-auth relogin runs /usr/local/libexec/relogin, at most 5 times in 1 h",
    ] {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
}

#[tokio::test]
async fn check_config_prints_fifty_tokens_and_counts_the_rest_unless_all() {
    let token =
        |n| format!("[token.t{n:02}]\nserver = \"sarus\"\nenv = \"T{n}\"\nreauth = \"relogin\"\n");
    let stage = Stage::new(&(WAYS.to_owned() + &(0..60).map(token).collect::<String>()));
    let told = |said: &str| said.lines().filter(|line| line.starts_with("token t")).count();
    let said = plan(&stage, &[]).await;
    assert_eq!(told(&said), 50);
    assert!(
        said.contains("60 tokens, at most") && said.contains("\n10 more of 60 tokens"),
        "{said}"
    );
    let said = plan(&stage, &["--all"]).await;
    assert_eq!(told(&said), 60);
    assert!(!said.contains("more of"), "{said}");
}

#[tokio::test]
async fn check_config_warns_of_more_tokens_than_the_rate_limit_serves() {
    let ways = WAYS.replace("[reauth", "rate_limit = 1\n[reauth");
    let token =
        |n| format!("[token.t{n}]\nserver = \"sarus\"\nenv = \"T{n}\"\nreauth = \"relogin\"\n");
    let said = plan(&Stage::new(&(ways + &(0..60).map(token).collect::<String>())), &[]).await;
    let line = |life| said.lines().find(|line| line.starts_with(&format!("  life {life}")));
    let short = line("1 min").expect("a plan");
    assert!(short.ends_with("takes 2 requests a second, and rate_limit allows 1"), "{said}");
    assert!(line("30 min").expect("a plan").contains("survives any outage of"), "{said}");
}

/// Tokens of different alphabets. None begins with a slash: that would be a path.
const PASTED: [&str; 8] = [
    "S3CR3T",
    "0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77",
    "9f86d081884c7d659a2feaa0c55ad015",
    "Zk3v9QpLx7Wm2RtYb5NcHd8sFg4J",
    "NB2HI4B2F4XXC5LPORSXGLTFPA2XA3DF",
    "q-7Vd_2mZx-K9p_Lw3Tn8Rb-5Yc",
    "aB3/dE7+gH1jK5mN9pQ2/sT6vW0=",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.q7Vd2mZxK9pLw3Tn8Rb5Yc",
];

/// Each place of a configuration where a value or a name is written, as `(TABLES, LINE)`: the
/// line stands below the tables, or the tables contain it.
const PLACES: [(&str, &str); 53] = [
    ("", "state_dir = \"%\""),
    ("", "max_hooks = \"%\""),
    ("", "% = 1"),
    ("", "\"%\" = \"%\""),
    ("", "token = \"%\""),
    ("", "%"),
    ("[log]", "level = \"%\""),
    ("[log]", "format = \"%\""),
    ("[log]", "% = \"info\""),
    ("[control]", "socket = \"%\""),
    ("[control]", "listen = \"%\""),
    ("[control]", "listen_hosts = [\"%\"]"),
    ("[schedule]", "retry_max = \"%\""),
    ("[schedule]", "jitter = \"%\""),
    ("[server.s]", "url = \"%\""),
    ("[server.s]", "url = \"https://%@h\""),
    ("[server.s]", "url = \"https://h/api?SessionToken=%\""),
    ("[server.s]", "url = \"https://h/api#%\""),
    ("[server.s]\nurl = \"https://h\"", "proxy = \"http://user:%@h\""),
    ("[server.s]\nurl = \"https://h\"", "ca_file = \"%\""),
    ("[server.s]\nurl = \"https://h\"", "renewal = \"%\""),
    ("[server.s]\nurl = \"https://h\"", "timeout = \"%\""),
    ("[server.\"%\"]", "timeout = \"1s\""),
    ("[reauth.r]", "command = \"%\""),
    ("[reauth.r]", "command = [\"/x\", \"--key\", \"%\"]"),
    ("[reauth.r]", "command = [\"%\"]"),
    ("[reauth.r]", "api_key_file = \"%\""),
    ("[reauth.r]", "api_key_credential = \"%\""),
    ("[reauth.r]", "api_key = \"%\""),
    ("[reauth.r]\ncommand = [\"/x\"]", "quiet = [\"%\"]"),
    ("[reauth.\"%\"]", "minutes = 5"),
    ("$TOKEN", "env = \"%\""),
    ("$TOKEN", "credential = \"%\""),
    ("$TOKEN", "file = \"%\""),
    ("$TOKEN", "value = \"%\""),
    ("$TOKEN\nenv = \"Q\"", "reauth = \"%\""),
    ("$TOKEN\nenv = \"Q\"", "readers = [\"%\"]"),
    ("$TOKEN\nenv = \"Q\"", "\"%\" = true"),
    ("[token.q]\nenv = \"Q\"", "server = \"%\""),
    ("[server.s]\nurl = \"https://h\"\n[token.\"%\"]\nserver = \"s\"", "env = \"Q\""),
    ("[token.\"%\"]\nserver = \"s\"", "env = \"Q\""),
    ("[inventory.i]\nserver = \"s\"", "file = \"%\""),
    ("[inventory.i]\nserver = \"s\"", "command = [\"%\"]"),
    ("[inventory.\"%\"]\nserver = \"s\"", "dir = \"%\""),
    ("[notify.n]\ncommand = [\"/x\"]", "events = [\"%\"]"),
    ("[notify.n]\ncommand = [\"/x\"]", "tokens = [\"%\"]"),
    ("[notify.n]", "command = [\"/x\", \"%\"]"),
    ("[notify.n]", "webhook = \"%\""),
    ("[notify.n]", "webhook = \"https://%@h\""),
    ("[notify.n]", "webhook = \"https://h/?key=%\""),
    ("[notify.n]\nwebhook = \"https://h\"", "webhook_header_credential = \"%\""),
    ("[notify.n]\nwebhook = \"https://h\"", "header = \"Authorization: %\""),
    ("[notify.\"%\"]", "command = [\"%\"]"),
];

const TOKEN: &str = "[server.s]\nurl = \"https://h\"\n[token.q]\nserver = \"s\"";

/// Standard output and standard error of a command.
async fn said(stage: &Stage, subcommand: &str) -> String {
    let output = tokio::time::timeout(PATIENCE, stage.command(subcommand).output()).await;
    let output = output.expect("it ends").expect("it starts");
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8")).concat()
}

/// Whether `text` contains a run of 8 characters of `secret`, or all of a shorter one.
fn shows(text: &str, secret: &str) -> bool {
    let characters: Vec<char> = secret.chars().collect();
    characters
        .windows(8.min(characters.len()))
        .any(|run| text.contains(&run.iter().collect::<String>()))
}

#[tokio::test]
async fn a_token_is_masked_wherever_it_is_pasted_into_the_configuration() {
    let (mut shown, mut unhelpful) = (Vec::new(), Vec::new());
    for token in PASTED {
        for (tables, line) in PLACES {
            let text = format!("{}\n{line}\n", tables.replace("$TOKEN", TOKEN));
            let stage = Stage::new(&text.replace('%', token));
            let printed = said(&stage, "print-config").await;
            let said = said(&stage, "check-config").await;
            let printed: Vec<_> =
                printed.lines().filter(|line| !line.trim_start().starts_with('[')).collect();
            if shows(&said, token) || shows(&printed.join("\n"), token) {
                shown.push(format!("{token} in {text:?}:\n{said}"));
            }
            let misplaced = ["env =", "credential =", "server =", "reauth =", "value =", "api_key"];
            if line.contains('%')
                && misplaced.iter().any(|key| line.starts_with(key))
                && !said.contains("must not be in the configuration")
            {
                unhelpful.push(format!("{token} in {text:?}:\n{said}"));
            }
        }
    }
    assert!(shown.is_empty(), "{} times:\n{}", shown.len(), shown.join("\n"));
    assert!(unhelpful.is_empty(), "{} times:\n{}", unhelpful.len(), unhelpful.join("\n"));
}

#[tokio::test]
async fn a_token_pasted_into_a_variable_is_masked() {
    let stage = Stage::new(&format!("{TOKEN}\nenv = \"Q\"\n"));
    for token in PASTED {
        for variable in ["TOKEN__Q__ENV", "TOKEN__Q__READERS", "LOG__LEVEL", "SERVER__S__URL"] {
            let mut command = stage.command("check-config");
            command.env(format!("TOKENKEEP__{variable}"), token);
            let output = command.output().await.expect("it starts");
            let said =
                [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
            assert!(!shows(&said.concat(), token), "{variable}={token}: {}", said.concat());
        }
    }
}

#[tokio::test]
async fn daemon_masks_a_token_that_was_pasted_as_the_name_of_its_source() {
    // Whatever a daemon writes is searched for this token when it has ended.
    for key in ["env", "credential", "file"] {
        let stage = Stage::new(&format!("{TOKEN}\n{key} = \"{MARK}\"\n"));
        let daemon = stage.start();
        let warning = daemon.event("config_warning", "").await;
        assert!(warning.0.to_string().contains("looks like a secret"), "{key}: {}", warning.0);
        daemon.event("token_missing", "q").await;
        for command in [&["status"][..], &["status", "q"]] {
            let mut asking = stage.command(command[0]);
            let output = asking.args(&command[1..]).output().await.expect("it starts");
            let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
            assert!(text.contains("missing") && !text.contains(MARK), "{key}: {text}");
        }
        daemon.stop().await;
    }
}

#[tokio::test]
async fn ordinary_values_are_not_masked() {
    let text = "[server.s]\nurl = \"htps://api.example.net/v1\"\n[token.quotes-eu-1]\nserver = \"s\"\n\
                env = \"QUOTES_EU_1\"\nreauth = \"relogin-2\"\n[inventory.i]\nserver = \"s\"\n\
                dir = \"/var/lib/tokenkeep/a\"\nfile = \"/srv/b\"\n";
    let said = said(&Stage::new(text), "check-config").await;
    for shown in ["htps://api.example.net/v1", "quotes-eu-1", "relogin-2", "file = \"/srv/b\""] {
        assert!(said.contains(shown), "{shown}:\n{said}");
    }
    assert!(!said.contains("***"), "{said}");
}

#[tokio::test]
async fn check_config_warns_of_a_setup_that_cannot_work() {
    let good = "[server.s]\nurl = \"https://h\"\n[reauth.r]\ncommand = [\"/bin/sh\"]\n\
                [token.q]\nserver = \"s\"\nreauth = \"r\"\nfile = \"/srv/q\"\n";
    let replaced = |from: &str, to: &str| good.replace(from, to);
    let state = "state_dir = \"$DIR\"\n";
    let inventory = "[inventory.i]\nserver = \"s\"\nfile = \"$DIR/empty.jsonl\"\n";
    for (text, words) in [
        (good.to_owned(), ""),
        (replaced("/srv/q", "tokens/q"), "`token.q.file` is a relative path"),
        (replaced("/bin/sh", "./hook"), "`reauth.r.command` is a relative path"),
        (
            replaced("/bin/sh", "/usr/libexec/none"),
            "`reauth.r.command`, /usr/libexec/none: there is no such program",
        ),
        (replaced("/bin/sh", "no-such-program"), "there is no such program in $PATH"),
        (
            replaced("command = [\"/bin/sh\"]", "api_key_file = \"/srv/none\""),
            "`reauth.r.api_key_file`, /srv/none: there is no such file",
        ),
        (
            replaced("https://h", "https://h/v1/QuerySessionToken"),
            "write only the base URL: \"https://h/v1\"",
        ),
        (
            replaced("https://h", "https://h/RenewSessionToken/"),
            "ends in the endpoint name RenewSessionToken",
        ),
        ("[server.s]\nurl = \"https://h\"\n".to_owned(), "no tokens configured"),
    ] {
        let said = said(&Stage::new(&format!("{state}{text}")), "check-config").await;
        let expected = if words.is_empty() { "correct\n" } else { "correct, with 1 warning\n" };
        let warned = said.contains(words) && said.contains("warning: ") != words.is_empty();
        assert!(warned && said.contains(expected), "{text}: {words}:\n{said}");
    }
    let said = said(&Stage::new(good), "check-config").await;
    assert!(said.contains("`state_dir`, ") && said.contains("no such directory"), "{said}");
    let stage = Stage::new(&format!("{state}[server.s]\nurl = \"https://h\"\n{inventory}"));
    stage.write("empty.jsonl", "");
    let said = self::said(&stage, "check-config").await;
    assert!(said.contains("empty.jsonl: it contains no tokens"), "{said}");
}

/// `check-config` of this stage beside a `systemctl` that prints this of any unit.
async fn beside_systemd(stage: &Stage, shown: &str) -> std::process::Output {
    stage.script("bin/systemctl", &format!("cat <<'END'\n{shown}\nEND"));
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", stage.path("bin").display());
    stage.command("check-config").env("PATH", path).output().await.expect("it starts")
}

#[tokio::test]
async fn overrides_of_the_unit_are_checked_as_well() {
    let token = "[token.quotes]\nserver = \"sarus\"\nenv = \"Q\"\n";
    let stage = Stage::new(&format!("{WAYS}{token}"));
    let file = stage.write("default", "# comment\nTOKENKEEP__SERVER__SARUS__RATE_LIMIT=9\n");
    for (shown, status, parts) in [
        (
            "Environment=LANG=C \"TOKENKEEP__SCHEDULE__JITTER=a lot\"".to_owned(),
            78,
            vec!["TOKENKEEP__SCHEDULE__JITTER", "`schedule.jitter`", "tokenkeep.service sets"],
        ),
        (
            format!(
                "Environment=TOKENKEEP__SERVER__SARUS__RATE_LIMIT=8\nEnvironmentFiles={} (ignore_errors=yes)",
                file.display()
            ),
            0,
            vec!["at most 9 requests a second", "TOKENKEEP__SERVER__SARUS__RATE_LIMIT"],
        ),
        ("Environment=".to_owned(), 0, vec!["at most 500 requests a second"]),
        (
            "ExecStart={ path=/usr/bin/tokenkeep ; argv[]=/usr/bin/tokenkeep run ; }\n\
             Environment=TOKENKEEP__SCHEDULE__JITTER=7"
                .to_owned(),
            0,
            vec!["at most 500 requests a second"],
        ),
    ] {
        let output = beside_systemd(&stage, &shown).await;
        let said =
            [output.stdout, output.stderr].map(|said| String::from_utf8(said).expect("UTF-8"));
        let said = said.concat();
        assert_eq!(output.status.code(), Some(status), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[tokio::test]
async fn systemd_that_does_not_respond_delays_the_check_but_does_not_fail_it() {
    let stage = Stage::new(WAYS);
    stage.script("bin/systemctl", "exec sleep 60");
    let path =
        format!("{}:{}", stage.path("bin").display(), std::env::var("PATH").expect("a path"));
    let output = stage.command("check-config").env("PATH", path).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").expect("it starts");
    assert_eq!(output.status.code(), Some(0));
}
