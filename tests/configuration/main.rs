//! Loading a configuration: what is accepted, what is rejected, and which messages operators see.

mod cluster;
mod profiles;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokenkeep::settings::{
    ConfigError, ConfigErrorKind, ConfigErrors, InventorySource, KeySource, Loaded, Location,
    LogFormat, ReauthMethod, Settings, Source, WarningKind, load, print,
};

/// A temporary configuration directory and an environment.
struct Setup {
    folder: TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl Setup {
    fn new(main: &str) -> Self {
        let setup = Self { folder: TempDir::new().unwrap(), environment: Vec::new() };
        setup.file("tokenkeep.toml", main)
    }

    fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.path("tokenkeep.toml"), self.environment.iter().cloned())
    }

    fn settings(&self) -> Settings {
        self.load().unwrap_or_else(|errors| panic!("{errors}")).settings
    }

    /// Each error as `LOCATION KIND MESSAGE / REMEDY`, with paths relative to the directory.
    fn errors(&self) -> Vec<String> {
        let errors = self.load().expect_err("this configuration should be refused");
        let folder = format!("{}/", self.folder.path().display());
        let line = |ConfigError { location: place, kind, message, remedy, .. }: &ConfigError| {
            format!("{place} {kind:?} {message} / {remedy}").replace(&folder, "")
        };
        errors.iter().map(line).collect()
    }

    /// The only error.
    fn error(&self) -> String {
        let mut errors = self.errors();
        assert_eq!(errors.len(), 1, "one fault was expected: {errors:#?}");
        errors.remove(0)
    }

    fn warnings(&self) -> Vec<(WarningKind, String)> {
        let loaded = self.load().unwrap_or_else(|errors| panic!("{errors}"));
        loaded.warnings.into_iter().map(|warning| (warning.kind, warning.to_string())).collect()
    }
}

const COMPLETE: &str = r#"
[server.sarus]
url = "https://api.example.net"

[reauth.relogin]
command = ["/bin/relogin"]

[token.quotes]
server = "sarus"
file = "/var/lib/tokenkeep/quotes.token"
reauth = "relogin"
"#;

fn shipped() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tokenkeep.toml")).unwrap()
}

/// The shipped file with its example lines (`#` without a space) enabled.
fn shipped_uncommented() -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    shipped().lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

/// Checks a table of: text; location, kind and words of the only error.
#[track_caller]
fn assert_rejected(table: &[(&str, &str, ConfigErrorKind, &[&str])]) {
    for (text, place, kind, words) in table {
        let error = Setup::new(text).error();
        let start = format!("tokenkeep.toml:{place} {kind:?} ");
        assert!(error.starts_with(&start), "{text:?} should begin with {start:?}: {error}");
        for word in *words {
            assert!(error.contains(word), "{text:?} should say {word:?}: {error}");
        }
    }
}

#[test]
fn unknown_key_is_rejected_with_a_suggestion() {
    use ConfigErrorKind::UnknownKey;
    assert_rejected(&[
        ("jitter = 0.1", "1:1", UnknownKey, &["`jitter`", "it belongs to [schedule]"]),
        ("[schedule]\njitterr = 0.1", "2:1", UnknownKey, &["[schedule]", "did you mean `jitter`?"]),
        ("[sever.x]\nurl = \"https://h\"", "1:2", UnknownKey, &["did you mean `server`?"]),
        ("xyzzy = 1", "1:1", UnknownKey, &["remove it", "state_dir"]),
    ]);
}

#[test]
fn value_of_wrong_type_is_rejected_and_not_converted() {
    use ConfigErrorKind::WrongType;
    assert_rejected(&[
        ("max_hooks = \"3\"", "1:1", WrongType, &["\"3\"", "remove the quotes: max_hooks = 3"]),
        ("max_hooks = 3.7", "1:1", WrongType, &["a whole number", "3.7"]),
        ("max_hooks = true", "1:1", WrongType, &["a whole number", "true"]),
        ("[schedule]\njitter = \"0.2\"", "2:1", WrongType, &["remove the quotes"]),
        (
            "[server.s]\nurl = \"https://h\"\nallow_http = 'yes'",
            "3:1",
            WrongType,
            &["\"yes\"", "allow_http = true"],
        ),
        ("[server.s]\nurl = \"https://h\"\nallow_http = 1", "3:1", WrongType, &["true or false"]),
        ("[server.s]\nurl = 1979-05-27", "2:1", WrongType, &["a URL in quotes"]),
        ("state_dir = 5", "1:1", WrongType, &["a path in quotes"]),
        ("log = \"info\"", "1:1", WrongType, &["must be a table", "[log]"]),
        ("[log]\nformat = [\"json\"]", "2:1", WrongType, &["one of", "a list"]),
        ("[[token]]\nserver = \"s\"", "1:3", WrongType, &["list of tables", "[token.NAME]"]),
        ("[token]\nserver = \"s\"", "2:1", WrongType, &["has no name", "[token.NAME]"]),
        (
            "[reauth.r]\ncommand = \"/bin/x -v\"",
            "2:1",
            WrongType,
            &["command = [\"/path/to/program\", \"argument\"]"],
        ),
        ("[reauth.r]\ncommand = [\"/bin/x\", 5]", "2:1", WrongType, &["only text in quotes"]),
        (
            "[reauth.r]\ncommand = [\"/x\"]\nquiet = \"23:45-00:15 UTC\"",
            "3:1",
            WrongType,
            &["a list of strings", "write quiet = [\"23:45-00:15 America/New_York\"]"],
        ),
        (
            "[reauth.r]\ncommand = [\"/x\"]\nquiet = [23:45:00]",
            "3:1",
            WrongType,
            &["only text in quotes", "write quiet = [\"23:45-00:15 America/New_York\"]"],
        ),
    ]);
}

#[test]
fn duration_needs_a_unit_and_must_be_in_range() {
    use ConfigErrorKind::{BadValue, WrongType};
    assert_rejected(&[
        ("[schedule]\nretry_max = 90", "2:1", WrongType, &["90", "write retry_max = \"90s\""]),
        (
            "[schedule]\nretry_max = \"90\"",
            "2:1",
            BadValue,
            &["with its unit", "write retry_max = \"90s\""],
        ),
        ("[schedule]\nmin_interval = \"0s\"", "2:1", BadValue, &["from 1ms to 8760h"]),
        ("[schedule]\nmin_interval = \"-5s\"", "2:1", BadValue, &["above zero"]),
        ("[schedule]\nmax_interval = \"400d\"", "2:1", BadValue, &["from 1ms to 8760h"]),
        (
            "[schedule]\nmax_interval = \"soon\"",
            "2:1",
            BadValue,
            &["not a valid duration", "2h 30m"],
        ),
        (
            "[server.s]\nurl = \"https://h\"\ntimeout = \"0s\"",
            "3:1",
            BadValue,
            &["from 100ms to 10m"],
        ),
        (
            "[server.s]\nurl = \"https://h\"\ntimeout = \"1 month\"",
            "3:1",
            BadValue,
            &["not a valid duration"],
        ),
        (
            "[reauth.r]\ncommand = [\"/x\"]\nreauth_before = \"50ms\"",
            "3:1",
            BadValue,
            &["from 100ms to 24h"],
        ),
        (
            "[reauth.r]\ncommand = [\"/x\"]\nreauth_before = \"25h\"",
            "3:1",
            BadValue,
            &["from 100ms to 24h"],
        ),
    ]);
}

#[test]
fn number_out_of_range_is_rejected_with_the_range() {
    use ConfigErrorKind::BadValue;
    assert_rejected(&[
        ("[schedule]\ncheck_after = 1.5", "2:1", BadValue, &["between 0 and 1", "1.5"]),
        ("[schedule]\ncheck_after = 1", "2:1", BadValue, &["both excluded"]),
        ("[schedule]\ncheck_after = 0.0", "2:1", BadValue, &["both excluded"]),
        ("[schedule]\njitter = -0.1", "2:1", BadValue, &["from 0 to 1"]),
        ("[schedule]\njitter = nan", "2:1", BadValue, &["from 0 to 1"]),
        ("max_hooks = 0", "1:1", BadValue, &["from 1 to 1000", "but is 0"]),
        ("max_hooks = 99999999999999999999", "1:1", BadValue, &["from 1 to 1000"]),
        ("[server.s]\nurl = \"https://h\"\nrate_limit = 0", "3:1", BadValue, &["from 1 to"]),
        ("[server.s]\nurl = \"https://h\"\nmax_in_flight = -1", "3:1", BadValue, &["from 1 to"]),
        ("[reauth.r]\napi_key_file = \"/k\"\nminutes = 1441", "3:1", BadValue, &["from 1 to 1440"]),
        ("[reauth.r]\ncommand = [\"/x\"]\nmax_attempts = 0", "3:1", BadValue, &["from 1 to"]),
        (
            "[reauth.r]\ncommand = [\"/x\"]\nmax_failures_all = 0",
            "3:1",
            BadValue,
            &["from 1 to 1000000", "but is 0"],
        ),
        (
            "[reauth.r]\ncommand = [\"/x\"]\nmax_failures_all = 1000001",
            "3:1",
            BadValue,
            &["from 1 to 1000000"],
        ),
    ]);
}

#[test]
fn invalid_text_is_rejected_with_an_example() {
    use ConfigErrorKind::BadValue;
    assert_rejected(&[
        ("[log]\nformat = \"jsn\"", "2:1", BadValue, &["did you mean \"json\"?"]),
        ("[log]\nlevel = \"infoo\"", "2:1", BadValue, &["did you mean \"info\"?"]),
        ("[log]\nlevel = \"\"", "2:1", BadValue, &["a level or a tracing filter"]),
        ("[log]\nlevel = \"info,hyper=loud\"", "2:1", BadValue, &["tracing filter"]),
        ("[log]\nlevel = \"a[{b=”c”}]=debug\"", "2:1", BadValue, &["tracing filter"]),
        (
            "[server.s]\nurl = \"https://h\"\nrenewal = \"renw\"",
            "3:1",
            BadValue,
            &["did you mean \"renew\"?"],
        ),
        ("[control]\nlisten = \"localhost:9464\"", "2:1", BadValue, &["127.0.0.1:9464"]),
        ("[control]\nsocket = \"\"", "2:1", BadValue, &["empty"]),
        ("state_dir = \"~/state\"", "1:1", BadValue, &["`~`", "the full path"]),
        ("[reauth.r]\ncommand = []", "2:1", BadValue, &["must name a program"]),
        ("[reauth.r]\ncommand = [\"\"]", "2:1", BadValue, &["begin with a program"]),
    ]);
}

#[test]
fn invalid_maintenance_window_is_rejected_with_the_reason() {
    for (windows, words) in [
        ("\"23:45\"", ["\"23:45\", which is not of the form", "\"23:45-00:15 America/New_York\""]),
        ("\"23:45-24:00 UTC\"", ["an invalid time", "midnight is 00:00"]),
        ("\"23:45-00:15\"", ["has no time zone", "add a time zone after the times"]),
        ("\"09:00-09:00 UTC\"", ["which ends when it starts", "another end time"]),
        ("\"01:00-02:00 Europe/Berln\"", ["time zone is unknown", "did you mean Europe/Berlin?"]),
        ("\"01:00-02:00 UTC\", \"03:00\"", ["\"03:00\"", "not of the form"]),
    ] {
        let error =
            Setup::new(&format!("[reauth.r]\ncommand = [\"/x\"]\nquiet = [{windows}]")).error();
        assert!(
            error.starts_with("tokenkeep.toml:3:1 BadValue `reauth.r.quiet` contains "),
            "{error}"
        );
        for word in words {
            assert!(error.contains(word), "{windows} should say {word:?}: {error}");
        }
    }
}

#[test]
fn url_must_be_https_or_loopback_without_credentials_or_query() {
    use ConfigErrorKind::BadValue;
    assert_rejected(&[
        ("[server.s]\nurl = \"api.example.net\"", "2:1", BadValue, &["not a URL", "https://"]),
        ("[server.s]\nurl = \"ftp://api.example.net\"", "2:1", BadValue, &["https:// or http://"]),
        ("[server.s]\nurl = \"127.0.0.1:80\"", "2:1", BadValue, &["does not begin with https://"]),
        ("[server.s]\nurl = \"https://\"", "2:1", BadValue, &["not a URL"]),
        (
            "[server.s]\nurl = \"http://api.example.net\"",
            "2:1",
            BadValue,
            &["plain http", "allow_http = true"],
        ),
        (
            "[server.s]\nallow_http = false\nurl = \"http://10.0.0.1\"",
            "3:1",
            BadValue,
            &["plain http"],
        ),
        ("[server.s]\nurl = \"https://a:b@h\"", "2:1", BadValue, &["user name or password"]),
        ("[server.s]\nurl = \"https://h/?a=b\"", "2:1", BadValue, &["a query or fragment"]),
        ("[server.s]\nurl = \"https://h/#a\"", "2:1", BadValue, &["a query or fragment"]),
        (
            "[server.s]\nurl = \"https://h\"\nproxy = \"socks5://p\"",
            "3:1",
            BadValue,
            &["https:// or http://"],
        ),
        (
            "[server.s]\nurl = \"https://h\"\nproxy = \"http://:b@p\"",
            "3:1",
            BadValue,
            &["user name or password", "remove it"],
        ),
    ]);
}

#[test]
fn name_that_is_no_file_name_is_rejected() {
    use ConfigErrorKind::BadValue;
    let long = format!("[server.{}]\nurl = \"https://h\"", "a".repeat(65));
    assert_rejected(&[
        ("[server.\"\"]\nurl = \"https://h\"", "1:9", BadValue, &["empty name"]),
        ("[server.\"a/b\"]\nurl = \"https://h\"", "1:9", BadValue, &["slash"]),
        ("[server.\".a\"]\nurl = \"https://h\"", "1:9", BadValue, &["dot"]),
        ("[server.\"a\\nb\"]\nurl = \"https://h\"", "1:9", BadValue, &["control character"]),
        (&long, "1:9", BadValue, &["64 characters"]),
    ]);
}

#[test]
fn missing_and_conflicting_keys_are_rejected() {
    use ConfigErrorKind::{Conflict, Missing};
    assert_rejected(&[
        ("[server.s]\ntimeout = \"5s\"", "1:9", Missing, &["[server.s] has no `url`", "https://"]),
        (
            "[server.s]\nurl = \"https://h\"\nclient_key_file = \"/k\"",
            "3:1",
            Missing,
            &["`client_key_file` without `client_cert_file`", "both may name one"],
        ),
        (
            "[server.s]\nurl = \"https://h\"\nclient_cert_file = \"/c\"",
            "3:1",
            Missing,
            &["`client_cert_file` without `client_key_file`"],
        ),
        (
            "[server.s]\nurl = \"https://h\"\nclient_cert_credential = \"c\"",
            "3:1",
            Missing,
            &["`client_cert_credential` without `client_key_file`", "or `client_key_credential`"],
        ),
        (
            "[server.s]\nurl = \"https://h\"\nclient_cert_file = \"/c\"\nclient_key_file = \"/k\"\nclient_key_credential = \"k\"",
            "5:1",
            Conflict,
            &["`client_key_file` and `client_key_credential`"],
        ),
        (
            "[server.s]\nurl = \"https://h\"\nproxy_credential = \"p\"",
            "3:1",
            Missing,
            &["`proxy_credential` without `proxy`", "remove the credentials"],
        ),
        (
            "[server.s]\nurl = \"https://h\"\nproxy = \"http://p\"\nproxy_credential = \"p\"\nproxy_credentials_file = \"/p\"",
            "5:1",
            Conflict,
            &["`proxy_credentials_file` and `proxy_credential`"],
        ),
        (
            "[reauth.r]\ndelay = \"5s\"",
            "1:9",
            Missing,
            &["`command`, `api_key_file`, `api_key_credential`"],
        ),
        (
            "[reauth.r]\ncommand = [\"/x\"]\napi_key_file = \"/k\"",
            "3:1",
            Conflict,
            &["`command` and `api_key_file`"],
        ),
        (
            "[reauth.r]\ncommand = [\"/x\"]\nminutes = 5",
            "3:1",
            Conflict,
            &["no effect together with `command`"],
        ),
        (
            "[reauth.r]\ncommand = [\"/x\"]\ndelay = \"10m\"",
            "3:1",
            Conflict,
            &["(5m by default)", "`delay` (10m)"],
        ),
        (
            "[schedule]\nmin_interval = \"2h\"\nmax_interval = \"1h\"",
            "3:1",
            Conflict,
            &["`max_interval` (1h) is less than `min_interval` (2h)"],
        ),
        (
            "[schedule]\nmin_interval = \"7h\"",
            "2:1",
            Conflict,
            &["(6h from another file or by default)"],
        ),
        (
            "[schedule]\nretry_max = \"500ms\"",
            "2:1",
            Conflict,
            &["raise `retry_max` or lower `retry_initial`"],
        ),
        (
            "[server.s]\nurl = \"https://h\"\nschedule = { retry_initial = \"10m\" }",
            "3:14",
            Conflict,
            &["[server.s.schedule]"],
        ),
    ]);
}

#[test]
fn text_that_is_not_toml_is_rejected_with_its_location() {
    use ConfigErrorKind::Syntax;
    assert_rejected(&[
        ("max_hooks = ", "1:13", Syntax, &["a value is missing here"]),
        ("max_hooks = 4\nmax_hooks = 5", "2:1", Syntax, &["`max_hooks`", "defined twice"]),
        ("[log]\n[control]\n[log]\nlevel = \"info\"", "3:2", Syntax, &["`[log]`", "defined twice"]),
        (
            "[token.a]\nenv = \"A\"\n[token.a]\nenv = \"B\"",
            "3:8",
            Syntax,
            &["`[token.a]`", "keep one"],
        ),
        (
            "[reauth.r]\ncommand = [\"/x\"\n[token.t]\nenv = \"A\"",
            "3:1",
            Syntax,
            &["close the list with `]`"],
        ),
        ("[log]\nlevel = \"info", "2:14", Syntax, &["close the text"]),
        ("[log\nlevel = \"info\"", "1:5", Syntax, &["close what is opened here"]),
        ("state_dir = /var/lib", "1:13", Syntax, &["put quotes around"]),
    ]);
}

#[test]
fn one_typo_is_one_error() {
    for (from, to, meant) in [
        ("[server.sarus]", "[sever.sarus]", "`server`"),
        ("[reauth.relogin]", "[reuth.relogin]", "`reauth`"),
        ("url =", "ulr =", "`url`"),
        ("command =", "comand =", "`command`"),
        ("file =", "fiel =", "`file`"),
        ("server =", "sever =", "`server`"),
    ] {
        let error = Setup::new(&COMPLETE.replacen(from, to, 1)).error();
        assert!(error.contains(&format!("did you mean {meant}?")), "{to}: {error}");
    }
    let two = COMPLETE.replace("[server.sarus]", "[sever.sarus]").replace("[reauth.", "[reuth.");
    assert_eq!(Setup::new(&two).errors().len(), 2);
}

#[test]
fn typographic_quotes_are_named() {
    for (open, close) in
        [('\u{201c}', '\u{201d}'), ('\u{2018}', '\u{2019}'), ('\u{201e}', '\u{201c}')]
    {
        for line in ["url = %https://h%", "url = %https://h\"", "\"url% = 1"] {
            let line = line.replacen('%', &open.to_string(), 1).replace('%', &close.to_string());
            let error = Setup::new(&format!("[server.s]\n{line}\n")).error();
            assert!(error.starts_with("tokenkeep.toml:2:"), "{line}: {error}");
            assert!(error.contains("write straight quotation marks"), "{line}: {error}");
        }
    }
}

#[test]
fn duplicate_table_or_key_names_the_line_of_the_first() {
    for (text, first) in [
        ("\n[log]\n[control]\n[log]\n", 2),
        ("[token.a]\nenv = \"A\"\n[token.b]\n\n[token.a]\n", 1),
        ("max_hooks = 4\n\nmax_hooks = 5\n", 1),
        ("[log]\nlevel = \"info\"\n[schedule]\njitter = 0\nmin_interval = \"1s\"\njitter = 0\n", 4),
    ] {
        let error = Setup::new(text).error();
        let words = format!("defined twice in this file; the first is on line {first}");
        assert!(error.contains(&words), "{text:?}: {error}");
    }
}

#[test]
fn variable_with_too_few_underscores_gets_a_warning() {
    for (name, meant) in [
        ("TOKENKEEP_SCHEDULE_JITTER", "TOKENKEEP__SCHEDULE__JITTER"),
        ("TOKENKEEP_SCHEDULE__JITTER", "TOKENKEEP__SCHEDULE__JITTER"),
        ("tokenkeep_log_level", "TOKENKEEP__LOG__LEVEL"),
        ("TOKENKEEP_MAX_HOOKS", "TOKENKEEP__MAX_HOOKS"),
        ("TOKENKEEP_STATE_DIR", "TOKENKEEP__STATE_DIR"),
        ("TOKENKEEP_SERVER_EU_1_CONNECT_TIMEOUT", "TOKENKEEP__SERVER__EU_1__CONNECT_TIMEOUT"),
        (
            "TOKENKEEP_SERVER_SARUS_SCHEDULE_RETRY_MAX",
            "TOKENKEEP__SERVER__SARUS__SCHEDULE__RETRY_MAX",
        ),
        ("TOKENKEEP_TOKEN_QUOTES_FILE", "TOKENKEEP__TOKEN__QUOTES__FILE"),
    ] {
        let warnings = Setup::new(COMPLETE).var(name, "1").warnings();
        let [(WarningKind::IgnoredVariable, said)] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(said.contains(&format!("did you mean {meant}?")), "{said}");
    }
    // Commands that the daemon runs have these variables, and may run `tokenkeep` themselves.
    for name in ["NAME", "SERVER", "URL", "REASON", "STATUS", "DETAIL", "ATTEMPT", "FILE", "EVENT"]
    {
        let setup = Setup::new(COMPLETE).var(&format!("TOKENKEEP_{name}"), "1");
        assert_eq!(setup.warnings(), [], "{name}");
    }
}

#[test]
fn token_errors_name_missing_and_conflicting_keys() {
    for (token, place, words) in [
        ("server = \"sarus\"", "1:8", "none of `file`, `credential`, `env`"),
        ("file = \"/t\"", "1:8", "has no `server`"),
        ("server = \"sarus\"\nfile = \"/t\"\nenv = \"T\"", "4:1", "both `file` and `env`"),
        ("server = \"sraus\"\nfile = \"/t\"", "2:1", "did you mean \"sarus\"?"),
        ("server = \"other\"\nfile = \"/t\"", "2:1", "define [server.other]"),
        (
            "server = \"sarus\"\nfile = \"/t\"\nreauth = \"rlogin\"",
            "4:1",
            "did you mean \"relogin\"?",
        ),
        (
            "server = \"sarus\"\nfile = \"/t\"\nreauth_before = \"30s\"",
            "4:1",
            "has no effect without `reauth`",
        ),
        ("server = \"sarus\"\nfile = \"/t\"\nrevoke_on_shutdown = 1", "4:1", "true or false"),
        ("server = \"sarus\"\nfile = \"\"", "3:1", "empty"),
        ("server = \"sarus\"\nenv = \"A=B\"", "3:1", "QUOTES_TOKEN"),
        ("server = \"sarus\"\ncredential = \"../x\"", "3:1", "slash"),
        (
            "server = \"sarus\"\nfile = \"/t\"\nurl = \"https://h\"",
            "4:1",
            "it belongs to [server.NAME]",
        ),
        ("server = \"sarus\"\nfile = \"/t\"\nschedule.jitter = 2", "4:10", "from 0 to 1"),
    ] {
        let error =
            Setup::new(COMPLETE).file("conf.d/a.toml", format!("[token.new]\n{token}")).error();
        let start = format!("conf.d/a.toml:{place} ");
        assert!(error.starts_with(&start), "{token:?} should begin with {start:?}: {error}");
        assert!(error.contains(words), "{token:?} should say {words:?}: {error}");
    }
}

#[test]
fn errors_of_all_sources_are_reported_together_in_order() {
    let main = "max_hooks = 0\n[log]\nlevl = \"info\"\n[server.s]\nurl = \"http://h\"\n";
    let errors = Setup::new(main)
        .file("conf.d/20.toml", "[token.b]\nserver = \"x\"\nenv = \"B\"\n")
        .file("conf.d/10.toml", "[token.a]\nserver = \"s\"\n")
        .var("TOKENKEEP__SCHEDULE__JITTER", "2")
        .errors();
    let expected = [
        "tokenkeep.toml:1:1 BadValue ",
        "tokenkeep.toml:3:1 UnknownKey ",
        "tokenkeep.toml:5:1 BadValue ",
        "conf.d/10.toml:1:8 Missing ",
        "conf.d/20.toml:2:1 UnknownName ",
        "environment variable TOKENKEEP__SCHEDULE__JITTER BadValue ",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error} should begin with {expected}");
    }
}

#[test]
fn errors_print_as_paragraphs_and_a_count() {
    let text = Setup::new("a_b = 1\nmax_hooks = 0").load().unwrap_err().to_string();
    assert_eq!(text.split("\n\n").count(), 3, "{text}");
    assert!(text.ends_with("2 errors in the configuration"), "{text}");
}

#[test]
fn syntax_error_does_not_hide_errors_on_other_lines() {
    let errors = Setup::new("max_hooks = =\n[log]\nformat = 'x'\nlevl = 1\n").errors();
    let expected = ["1:13 Syntax", "3:1 BadValue", "4:1 UnknownKey"];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(&format!("tokenkeep.toml:{expected}")), "{error}");
    }
}

#[test]
fn unreadable_file_causes_no_errors_about_missing_keys() {
    let setup = Setup::new(COMPLETE)
        .file("conf.d/a.toml", "[server.other\nurl = \"https://h\"\n")
        .file("conf.d/b.toml", "[token.b]\nserver = \"other\"\nfile = \"/b\"\n")
        .var("TOKENKEEP__SERVER__OTHER__TIMEOUT", "5s");
    assert!(setup.error().starts_with("conf.d/a.toml:1"));
}

#[test]
fn error_does_not_quote_a_misplaced_secret() {
    for text in [
        "[token.quotes]\ntoken = \"S3CR3T\"",
        "[token.quotes]\nvalue = \"S3CR3T\"",
        "[token.quotes]\nvalue = S3CR3T",
        "[token.quotes]\nvalue = \"S3CR3T",
        "[token.quotes]\nvalue = \"\"\"\nS3CR3T",
        "[token.quotes]\nvalue = \"S3C\\qS3CR3T\"",
        "[token.quotes]\nvalue = \"abc\nS3CR3T\"",
        "[token.quotes]\nvalue = \"abc\nS3CR3T==\"",
        "[token.quotes] # S3CR3T\n[token.quotes] # S3CR3T",
        "[token.quotes]\nvalue = \"S3CR3T\"\nvalue = \"S3CR3T\"",
        "[token.quotes]\nfile = [\"S3CR3T\"]",
        "[token.quotes]\ncredential = \"../S3CR3T\"",
        "[token.quotes]\nenv = \"S3CR3T=\"",
        "[token.quotes]\nenv = \"S3CR3T\"\nfile = \"S3CR3T\"",
        "[token]\nquotes = \"S3CR3T\"",
        "token = \"S3CR3T\"",
        "password = \"S3CR3T\"",
        "[reauth.r]\napi_key = \"S3CR3T\"",
        "[reauth.r]\napi_key_file = 5\nkey = \"S3CR3T\"",
        "[reauth.r]\napi_key_credential = \"/S3CR3T\"",
        "[reauth.r]\ncommand = \"/bin/x --key S3CR3T\"",
        "[reauth.r]\ncommand = [\"/bin/x\", \"S3CR3T\", 5]",
        "[server.s]\nurl = \"https://user:S3CR3T@h\"",
        "[server.s]\nurl = \"https://h/?SessionToken=S3CR3T\"",
        "[server.s]\nurl = \"https://h h/?SessionToken=S3CR3T\"",
        "[server.s]\nurl = \"https:///?SessionToken=S3CR3T\"",
        "[server.s]\nurl = \"https://h\"\nproxy = \"http://u:S3CR3T@p\"",
        "[control]\nsocket = [\"S3CR3T\"]",
    ] {
        let errors = Setup::new(text).load().expect_err(text);
        let said = format!("{errors} {errors:?}");
        assert!(!said.contains("S3CR3T"), "{text:?} gives itself away: {errors}");
    }
}

#[test]
fn error_does_not_quote_a_secret_in_a_variable() {
    for name in ["VALUE", "FILE__X", "CREDENTIAL", "ENV"] {
        let name = format!("TOKENKEEP__TOKEN__QUOTES__{name}");
        let said = Setup::new(COMPLETE).var(&name, "/S3CR3T=").errors().join("\n");
        assert!(!said.contains("S3CR3T"), "{said}");
    }
}

#[test]
fn misplaced_secret_gets_a_remedy() {
    for (text, words) in [
        ("[token.quotes]\ntoken = \"x\"", "(`env`) of a [token.NAME]"),
        ("token = \"x\"", "(`env`) of a [token.NAME]"),
        ("[reauth.r]\napi_key = \"x\"", "(`api_key_credential`) of a [reauth.NAME]"),
    ] {
        let said = Setup::new(text).errors().join("\n");
        assert!(said.contains(words), "{text:?} should say {words:?}: {said}");
    }
}

#[test]
fn missing_file_is_named_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("none.toml");
    let errors = load(&path, std::iter::empty()).unwrap_err();
    assert_eq!(errors.count(), 1, "{errors}");
    let error = errors.into_iter().next().unwrap();
    assert_eq!((error.kind, &error.location), (ConfigErrorKind::Unreadable, &Location::File(path)));
    assert!(error.remedy.contains("--config"), "{error}");
}

#[test]
fn file_that_is_not_utf_8_is_rejected_at_its_first_invalid_byte() {
    let setup = Setup::new("").file("tokenkeep.toml", b"# ok\nstate_dir = \"\xff\"\n");
    assert!(setup.error().starts_with("tokenkeep.toml:2:14 Unreadable"), "{}", setup.error());
}

#[test]
fn directory_in_place_of_a_file_is_rejected() {
    let setup = Setup::new("");
    fs::create_dir_all(setup.path("conf.d/a.toml")).unwrap();
    assert!(setup.error().starts_with("conf.d/a.toml Unreadable"), "{}", setup.error());
}

#[test]
fn file_in_place_of_a_directory_is_rejected() {
    let setup = Setup::new("").file("conf.d", "");
    assert!(setup.error().starts_with("conf.d Unreadable"), "{}", setup.error());
}

#[test]
fn endless_file_is_not_read_completely() {
    let errors = load(Path::new("/dev/zero"), std::iter::empty()).unwrap_err().to_string();
    assert!(errors.contains("larger than 64 MiB"), "{errors}");
}

#[test]
fn empty_file_loads_with_a_warning() {
    for text in ["", "\n# nothing\n", "\u{feff}"] {
        let warnings = Setup::new(text).warnings();
        let [(WarningKind::NoTokens, said)] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(said.contains("no tokens configured; nothing to keep alive"), "{said}");
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let seconds = Duration::from_secs;
    let settings = Setup::new(COMPLETE).settings();
    assert_eq!(settings.state_dir, Path::new("/var/lib/tokenkeep"));
    assert_eq!(settings.max_hooks.get(), 4);
    assert_eq!(settings.keep_removed, seconds(3600));
    assert_eq!((settings.log.format, settings.log.level.as_str()), (LogFormat::Auto, "info"));
    assert_eq!(settings.control.socket, Path::new("/run/tokenkeep/control.sock"));
    assert_eq!(settings.control.listen, None);
    let server = &settings.servers[0];
    assert_eq!((server.timeout, server.connect_timeout), (seconds(10), seconds(5)));
    assert_eq!((server.max_in_flight.get(), server.rate_limit.get()), (64, 500));
    let reauth = &settings.reauths[0];
    let policy = &reauth.policy;
    assert_eq!((reauth.timeout, policy.window), (seconds(60), seconds(3600)));
    assert_eq!((policy.delay, policy.delay_max), (seconds(1), seconds(300)));
    assert_eq!(policy.max_attempts.get(), 5);
    assert_eq!(
        (reauth.max_failures_all.get(), reauth.maintenance_windows.as_slice()),
        (20, [].as_slice())
    );
    let token = &settings.tokens[0];
    assert_eq!(
        (token.keep_alive.reauth_before, token.keep_alive.revoke_on_shutdown),
        (None, false)
    );
}

#[test]
fn state_dir_defaults_to_the_directory_from_systemd() {
    let given = Setup::new("").var("STATE_DIRECTORY", "/var/lib/first:/var/lib/second");
    assert_eq!(given.settings().state_dir, Path::new("/var/lib/first"));
    let configured = Setup::new("state_dir = \"/s\"").var("STATE_DIRECTORY", "/var/lib/first");
    assert_eq!(configured.settings().state_dir, Path::new("/s"));
}

#[test]
fn the_nearest_schedule_wins_key_by_key() {
    let nested = r#"
        [schedule]
        check_after = 0.5
        jitter = 0
        retry_max = "1m"
        [server.s]
        url = "https://h"
        schedule = { jitter = 0.3, retry_max = "2m" }
        [token.far]
        server = "s"
        env = "A"
        [token.near]
        server = "s"
        env = "B"
        schedule.retry_max = "3m"
    "#;
    let flat = |retry_max: &str| {
        let schedule = format!("check_after = 0.5\njitter = 0.3\nretry_max = \"{retry_max}\"");
        let text = format!("{COMPLETE}\n[schedule]\n{schedule}");
        Setup::new(&text).settings().tokens[0].keep_alive.schedule
    };
    let tokens = Setup::new(nested).settings().tokens;
    assert_eq!(
        (tokens[0].keep_alive.schedule, tokens[1].keep_alive.schedule),
        (flat("2m"), flat("3m"))
    );
}

#[test]
fn the_nearest_reauth_before_wins() {
    let text = r#"
        [server.s]
        url = "https://h"
        [reauth.early]
        command = ["/x"]
        reauth_before = "30s"
        [reauth.late]
        command = ["/x"]
        [token.a_inherits]
        server = "s"
        env = "A"
        reauth = "early"
        [token.b_overrides]
        server = "s"
        env = "B"
        reauth = "early"
        reauth_before = "1500ms"
        [token.c_is_alone]
        server = "s"
        env = "C"
        reauth = "late"
        reauth_before = "2m"
        [token.d_has_none]
        server = "s"
        env = "D"
        reauth = "late"
        [token.e_watches]
        server = "s"
        env = "E"
    "#;
    let tokens = Setup::new(text).settings().tokens;
    let before: Vec<_> = tokens.iter().map(|token| token.keep_alive.reauth_before).collect();
    let millis = |millis| Some(Duration::from_millis(millis));
    assert_eq!(before, [millis(30_000), millis(1_500), millis(120_000), None, None]);
}

#[test]
fn later_list_of_maintenance_windows_replaces_the_earlier_one() {
    let quiet = "[reauth.relogin]\nquiet = [\"23:45-00:15 America/New_York\", \"05:00-06:00 UTC\"]";
    let setup = Setup::new(COMPLETE).file("conf.d/10.toml", quiet);
    let windows = setup.settings().reauths.remove(0).maintenance_windows;
    let texts: Vec<_> = windows.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["23:45-00:15 America/New_York", "05:00-06:00 UTC"]);
    let setup = setup.var("TOKENKEEP__REAUTH__RELOGIN__QUIET", "[]");
    assert_eq!(setup.settings().reauths[0].maintenance_windows, []);
}

#[test]
fn drop_ins_change_single_keys_in_the_order_of_their_names() {
    let first = "max_hooks = 10\n[server.sarus]\ntimeout = \"3s\"\n[log]\nlevel = \"debug\"\n";
    let setup = Setup::new(COMPLETE)
        .file("conf.d/20.toml", "max_hooks = 20\n")
        .file("conf.d/10.toml", first)
        .file("conf.d/30.toml", "[token.more]\nserver = \"sarus\"\ncredential = \"more\"\n")
        .file("conf.d/.hidden.toml", "nonsense")
        .file("conf.d/README", "nonsense");
    let Loaded { settings, files, .. } = setup.load().unwrap();
    assert_eq!(settings.max_hooks.get(), 20);
    assert_eq!(settings.log.level, "debug");
    assert_eq!(settings.servers[0].timeout, Duration::from_secs(3));
    assert_eq!(settings.servers[0].url.as_str(), "https://api.example.net/");
    assert_eq!(settings.tokens[0].source, Source::Credential("more".into()));
    assert_eq!(settings.tokens[1].name, "quotes");
    let read = ["tokenkeep.toml", "conf.d/10.toml", "conf.d/20.toml", "conf.d/30.toml"];
    assert_eq!(files, read.map(|name| setup.path(name)));
}

#[test]
fn token_in_two_files_is_rejected_with_both_locations() {
    let again = "\n[token.quotes]\nserver = \"sarus\"\nenv = \"Q\"\n";
    let error = Setup::new(COMPLETE).file("conf.d/a.toml", again).error();
    assert!(error.starts_with("conf.d/a.toml:2:8 Duplicate"), "{error}");
    assert!(error.contains("tokenkeep.toml:8:8"), "{error}");
}

#[test]
fn two_drop_ins_cannot_define_the_same_server_or_reauth() {
    for table in ["[server.sarus]\ntimeout = \"3s\"", "[reauth.relogin]\ndelay = \"3s\""] {
        let setup = Setup::new(COMPLETE).file("conf.d/a.toml", table).file("conf.d/b.toml", table);
        let error = setup.error();
        assert!(error.starts_with("conf.d/b.toml:1:9 Duplicate"), "{error}");
        assert!(error.contains("conf.d/a.toml:1:9"), "{error}");
    }
}

#[test]
fn variables_override_files_and_are_type_checked() {
    let more = "max_hooks = 9\n[token.Big__Name]\nserver = \"eu-1\"\nfile = \"/b\"\n";
    let settings = Setup::new(&format!("{COMPLETE}\n[server.eu-1]\nurl = \"https://eu\"\n"))
        .file("conf.d/a.toml", more)
        .var("TOKENKEEP__MAX_HOOKS", "7")
        .var("TOKENKEEP__LOG__LEVEL", "debug")
        .var("TOKENKEEP__SCHEDULE__JITTER", "0.25")
        .var("TOKENKEEP__SERVER__EU_1__ALLOW_HTTP", "true")
        .var("TOKENKEEP__SERVER__EU_1__URL", "http://eu.example")
        .var("TOKENKEEP__SERVER__SARUS__TIMEOUT", "2m 5s")
        .var("TOKENKEEP__SERVER__SARUS__SCHEDULE__RETRY_MAX", "9s")
        .var("TOKENKEEP__REAUTH__RELOGIN__COMMAND", "[\"/bin/other\", \"-v\"]")
        .var("TOKENKEEP__REAUTH__RELOGIN__MAX_FAILURES_ALL", "3")
        .var("TOKENKEEP__REAUTH__RELOGIN__QUIET", "[\"23:45-00:15 Europe/Berlin\"]")
        .var("TOKENKEEP__REAUTH__RELOGIN__REAUTH_BEFORE", "1m")
        .var("TOKENKEEP__TOKEN__QUOTES__REAUTH_BEFORE", "45s")
        .var("TOKENKEEP__TOKEN__QUOTES__REVOKE_ON_SHUTDOWN", "true")
        .var("TOKENKEEP__TOKEN__BIG__NAME__FILE", "/c")
        .var("TOKENKEEP_NAME", "not ours")
        .settings();
    assert_eq!((settings.max_hooks.get(), settings.log.level.as_str()), (7, "debug"));
    assert_eq!(settings.servers[0].url.as_str(), "http://eu.example/");
    assert_eq!(settings.servers[1].timeout, Duration::from_secs(125));
    let command = ["/bin/other", "-v"].map(str::to_owned).to_vec();
    assert_eq!(settings.reauths[0].method, ReauthMethod::Command(command));
    assert_eq!(settings.tokens[0].source, Source::File("/c".into()));
    let reauth = &settings.reauths[0];
    assert_eq!(reauth.max_failures_all.get(), 3);
    assert_eq!(reauth.maintenance_windows, ["23:45-00:15 Europe/Berlin".parse().unwrap()]);
    let quotes = &settings.tokens[1];
    assert_eq!(quotes.keep_alive.reauth_before, Some(Duration::from_secs(45)));
    assert!(quotes.keep_alive.revoke_on_shutdown);
    let printed = print(&settings);
    assert!(printed.contains("jitter = 0.25") && printed.contains("retry_max = \"9s\""));
}

#[test]
fn unknown_or_invalid_variable_is_named() {
    for (name, value, words) in [
        ("TOKENKEEP__SCHEDULE__JITER", "0.2", "did you mean `jitter`?"),
        ("TOKENKEEP__SHEDULE__JITTER", "0.2", "did you mean `schedule`?"),
        ("TOKENKEEP__SCHEDULE", "0.2", "there is no key"),
        ("TOKENKEEP__", "0.2", "there is no key"),
        ("TOKENKEEP__SERVER__SRAUS__TIMEOUT", "5s", "did you mean [server.sarus]?"),
        ("TOKENKEEP__SERVER__NEW__URL", "https://h", "define [server.NAME] in a file"),
        ("TOKENKEEP__SERVER__SARUS__TIMEOUTS", "5s", "did you mean `timeout`?"),
        ("TOKENKEEP__MAX_HOOKS", "many", "a whole number"),
        ("TOKENKEEP__MAX_HOOKS", "\"3\"", "a whole number"),
        ("TOKENKEEP__MAX_HOOKS", "3.7", "a whole number"),
        ("TOKENKEEP__SERVER__SARUS__ALLOW_HTTP", "yes", "true or false"),
        ("TOKENKEEP__SERVER__SARUS__TIMEOUT", "90", "=\"90s\""),
        ("TOKENKEEP__SERVER__SARUS__URL", "http://h", "plain http"),
        ("TOKENKEEP__REAUTH__RELOGIN__MAX_FAILURES_ALL", "0", "from 1 to 1000000"),
        ("TOKENKEEP__REAUTH__RELOGIN__QUIET", "23:45-00:15 UTC", "QUIET=[\"23:45-00:15"),
        ("TOKENKEEP__REAUTH__RELOGIN__QUIET", "[\"23:45-00:15\"]", "has no time zone"),
        ("TOKENKEEP__TOKEN__QUOTES__REAUTH_BEFORE", "30", "=\"30s\""),
        ("TOKENKEEP__TOKEN__QUOTES__REVOKE_ON_SHUTDOWN", "yes", "true or false"),
        ("TOKENKEEP__TOKEN__QUOTES__ENV", "QUOTES", "both `file` and `env`"),
    ] {
        let error = Setup::new(COMPLETE).var(name, value).error();
        assert!(error.starts_with(&format!("environment variable {name} ")), "{error}");
        assert!(error.contains(words), "{name}={value} should say {words:?}: {error}");
    }
}

#[test]
fn ambiguous_variable_is_rejected() {
    let servers = "[server.a-b]\nurl = \"https://h\"\n[server.a_b]\nurl = \"https://h\"\n";
    let error = Setup::new(servers).var("TOKENKEEP__SERVER__A_B__TIMEOUT", "5s").error();
    assert!(error.contains("[server.a-b] and [server.a_b]"), "{error}");
}

#[test]
fn probable_mistakes_get_warnings() {
    let text = r#"
        [server.used]
        url = "http://far.example"
        allow_http = true
        schedule.check_after = 0.95
        [server.idle]
        url = "https://h"
        [reauth.idle]
        command = ["/x"]
        [token.a]
        server = "used"
        file = "/same"
        [token.b]
        server = "used"
        file = "/same"
        [token.c]
        server = "used"
        file = "/own"
        revoke_on_shutdown = true
    "#;
    let warnings = Setup::new(text).warnings();
    let kinds: Vec<_> = warnings.iter().map(|(kind, _)| *kind).collect();
    let expected = [
        WarningKind::PlainHttp,
        WarningKind::LittleRetryRoom,
        WarningKind::Unused,
        WarningKind::Unused,
        WarningKind::SharedSource,
        WarningKind::RevokedForGood,
    ];
    assert_eq!(kinds, expected, "{warnings:#?}");
}

#[test]
fn pasted_secret_gets_a_warning_and_is_masked() {
    let token = "Zk3v9QpLx7Wm2RtYb5NcHd8sFg4J";
    for (key, value) in [("env", token), ("credential", token), ("file", token)] {
        let text = COMPLETE
            .replace("file = \"/var/lib/tokenkeep/quotes.token\"", &format!("{key} = \"{value}\""));
        let warnings = Setup::new(&text).warnings();
        let [(WarningKind::LooksSecret, said)] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(said.contains("(`file`)") && !said.contains(token), "{said}");
    }
    let setup = Setup::new(COMPLETE).var("TOKENKEEP__TOKEN__QUOTES__FILE", token);
    let [(WarningKind::LooksSecret, _)] = &setup.warnings()[..] else { panic!("no warning") };
}

#[test]
fn a_complete_configuration_has_no_warning() {
    assert_eq!(Setup::new(COMPLETE).warnings(), []);
}

#[test]
fn revoke_on_shutdown_with_reauth_has_no_warning() {
    let text = COMPLETE.replace("reauth =", "revoke_on_shutdown = true\nreauth =");
    assert_eq!(Setup::new(&text).warnings(), []);
}

#[test]
fn names_with_dots_spaces_and_capitals_are_unchanged() {
    let token = "[token.\"Quotes.EU [1] 'x'\"]\nserver = \"sarus\"\nenv = \"A\"\n";
    let settings = Setup::new(COMPLETE).file("conf.d/a.toml", token).settings();
    assert_eq!(settings.tokens[0].name, "Quotes.EU [1] 'x'");
}

/// A server and an inventory with these additional keys. The inventory is on line 3.
fn inventory(keys: &str) -> String {
    format!("[server.s]\nurl = \"https://h\"\n[inventory.i]\nserver = \"s\"\n{keys}\n")
}

#[test]
fn inventory_has_one_source_and_only_keys_that_apply_to_it() {
    use ConfigErrorKind::{Conflict, Missing, UnknownKey, UnknownName};
    let command = inventory("command = [\"/x\"]\nstrict = true\ntimeout = \"5s\"");
    assert_eq!(Setup::new(&command).warnings(), []);
    assert_rejected(&[
        (&inventory(""), "3:12", Missing, &["[inventory.i]", "`file`, `dir`, `command`"]),
        (
            &inventory("file = \"/f\"\ndir = \"/d\""),
            "6:1",
            Conflict,
            &["both `file` and `dir`", "exactly one"],
        ),
        (&inventory("dir = \"/d\"\nstrict = true"), "6:1", Conflict, &["`file` or `command`"]),
        (&inventory("file = \"/f\"\ntimeout = \"5s\""), "6:1", Conflict, &["without `command`"]),
        (&inventory("env = \"A\"\nfile = \"/f\""), "5:1", UnknownKey, &["`env`"]),
        (
            &inventory("file = \"/f\"\nreauth_before = \"5s\""),
            "6:1",
            Missing,
            &["`inventory.i.reauth_before`", "without `reauth`"],
        ),
        ("[inventory.i]\nserver = \"s\"\nfile = \"/f\"", "2:1", UnknownName, &["no [server.s]"]),
    ]);
}

#[test]
fn inventory_has_the_keep_alive_keys_of_a_token() {
    let text = COMPLETE.replace("[token.quotes]", "[inventory.quotes]");
    let inventories = Setup::new(&text).settings().inventories;
    let token = &Setup::new(COMPLETE).settings().tokens[0];
    assert_eq!(inventories[0].keep_alive, token.keep_alive);
    let path = "/var/lib/tokenkeep/quotes.token".into();
    assert_eq!(inventories[0].source, InventorySource::File { path, strict: false });
}

#[test]
fn server_and_reauth_of_an_inventory_count_as_used() {
    let text = COMPLETE.replace("[token.quotes]", "[inventory.quotes]");
    assert_eq!(Setup::new(&text).warnings(), []);
}

#[test]
fn two_inventories_of_one_file_get_a_warning() {
    let text = inventory("file = \"/f\"") + "[inventory.j]\nserver = \"s\"\nfile = \"/f\"\n";
    let warnings = Setup::new(&text).warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].0, WarningKind::SharedSource);
}

#[test]
fn inventory_is_defined_in_one_file_and_changed_by_variables() {
    let text = inventory("file = \"/f\"");
    let twice = "[inventory.i]\nserver = \"s\"\nfile = \"/g\"\n";
    let error = Setup::new(&text).file("conf.d/a.toml", twice).error();
    assert!(error.starts_with("conf.d/a.toml:1:12 Duplicate"), "{error}");
    let settings = Setup::new(&text).var("TOKENKEEP__INVENTORY__I__STRICT", "true").settings();
    let path = "/f".into();
    assert_eq!(settings.inventories[0].source, InventorySource::File { path, strict: true });
}

#[test]
fn shipped_file_loads_with_default_settings() {
    assert_eq!(Setup::new(&shipped()).settings(), Setup::new("").settings());
}

#[test]
fn examples_in_the_shipped_file_load() {
    let setup = Setup::new(&shipped_uncommented());
    let kinds: Vec<_> = setup.warnings().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [WarningKind::AssumedLife], "of the profile that shows `assume`");
    let Settings { servers, reauths, tokens, inventories, .. } = setup.settings();
    assert_eq!((servers.len(), reauths.len(), tokens.len(), inventories.len()), (5, 4, 6, 3));
    let key = KeySource::Credential("sarus-api-key".into());
    assert_eq!(reauths[0].method, ReauthMethod::ApiKey { key, minutes: 60 });
}

#[test]
fn general_examples_in_the_shipped_file_are_the_defaults() {
    let text = shipped_uncommented();
    let general = text.split("\n[cluster]").next().unwrap();
    let mut shown = Setup::new(&format!("{general}\n{COMPLETE}")).settings();
    shown.control.listen = None;
    assert_eq!(shown, Setup::new(COMPLETE).settings());
}

#[test]
fn printed_settings_load_to_equal_settings() {
    let awkward = r#"
        max_hooks = 1
        keep_removed = "90m"
        [log]
        level = "info,hyper=debug"
        [control]
        listen = "[::1]:9464"
        listen_names = false
        [schedule]
        jitter = 0.123456789
        min_interval = "1500ms"
        [server.s]
        url = "http://far.example/a%20path/"
        allow_http = true
        proxy = "http://proxy:3128"
        proxy_credentials_file = "/proxy credentials"
        client_cert_file = "/client.pem"
        client_key_credential = "client-key"
        renewal = "query"
        [reauth.r]
        command = ["/x", "with \"quotes\"", "and\nlines", ""]
        window = "7d"
        max_failures_all = 1000000
        quiet = ["23:45-00:15 america/new_york", "01:00-02:00 UTC"]
        reauth_before = "90s"
        [token."a.b \"c\""]
        server = "s"
        credential = "c"
        schedule.check_after = 0.9
        [token.d]
        server = "s"
        env = "D"
        reauth = "r"
        revoke_on_shutdown = true
        readers = ["app", "@traders", "1001"]
        metrics = true
        [token.e]
        server = "s"
        env = "E"
        reauth = "r"
        reauth_before = "100ms"
        [inventory.lines]
        server = "s"
        file = "/lines"
        strict = true
        [inventory."a folder"]
        server = "s"
        dir = "/folder"
        reauth = "r"
        reauth_before = "1m"
        schedule.check_after = 0.8
        [inventory.printed]
        server = "s"
        command = ["/export", "--all"]
        timeout = "1500ms"
        revoke_on_shutdown = true
    "#;
    for text in ["", COMPLETE, &shipped(), &shipped_uncommented(), awkward] {
        let settings = Setup::new(text).settings();
        let printed = print(&settings);
        assert_eq!(Setup::new(&printed).settings(), settings, "{printed}");
    }
}

#[test]
fn time_to_load_tokens_does_not_grow_with_the_square_of_their_number() {
    let few = time_to_load(1_000);
    let many = time_to_load(10_000);
    // Ten times as many take about ten times as long, and a hundred times in a quadratic algorithm.
    assert!(many < 40 * few, "1,000 tokens: {few:?}, 10,000 tokens: {many:?}");
}

/// The CPU time of this thread for loading a configuration with this number of tokens: the least of
/// three runs, as other processes can only add to it.
fn time_to_load(tokens: usize) -> Duration {
    let mut setup = Setup::new(COMPLETE);
    for file in 0..20 {
        let token = |n: usize| {
            let source = format!("file = \"/tokens/{n}\"");
            format!("[token.t{n}]\nserver = \"sarus\"\n{source}\nreauth = \"relogin\"\n")
        };
        let per_file = tokens / 20;
        let text: String = (0..per_file).map(|n| token(file * per_file + n)).collect();
        setup = setup.file(&format!("conf.d/{file:02}.toml"), text);
    }
    #[expect(clippy::disallowed_methods, reason = "the test measures how long loading takes")]
    let spent = || clock_gettime(ClockId::ThreadCPUTime);
    let runs = (0..3).map(|_| {
        let start = spent();
        assert_eq!(setup.settings().tokens.len(), tokens + 1);
        Duration::try_from(spent() - start).expect("CPU time never decreases")
    });
    runs.min().expect("three runs")
}
