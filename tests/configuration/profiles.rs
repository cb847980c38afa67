//! `[profile.NAME]`, `server.profile`, `with`, `reauth.login` and `token.refresh`.

use std::fs;

use tokenkeep::lifecycle::Renewal;
use tokenkeep::profile::{BUILTIN, builtin};
use tokenkeep::settings::ConfigErrorKind::{
    BadValue, Conflict, Duplicate, Missing, UnknownKey, UnknownName, WrongType,
};
use tokenkeep::settings::{
    Parameter, ReauthMethod, Server, Source, WarningKind, mask_parameters, print,
};

use super::{Setup, assert_rejected};

/// A profile with every call. Its parameters are `app`, and `user` and `password` of the login.
const PROFILE: &str = r#"
[profile.desk]
unit = "s"
headers = { X-Session = "{token}", X-App-Id = "{app}" }
[profile.desk.query]
request = "GET session"
life = "ttl"
dead = [{ status = 401, at = "code", is = -1, means = "expired" }]
[profile.desk.renew]
request = "POST renew"
json = { Refresh = "{refresh}", deep = { list = [1, 2.5, true, "a"] } }
life = "ttl"
value = "id"
[profile.desk.login]
request = "POST session"
headers = {}
json = { user = "{user}", password = "{password}" }
value = "id"
[profile.desk.revoke]
request = "DELETE session"
"#;

const DESK: &str = r#"
[server.desk]
url = "https://desk.example.net"
profile = "desk"
with = { app = "a1" }
[reauth.desk]
login = true
with = { user = "keeper", password = { file = "/desk.password" } }
[token.desk]
server = "desk"
file = "/desk.token"
refresh = { file = "/desk.refresh" }
reauth = "desk"
"#;

fn desk() -> String {
    format!("{PROFILE}{DESK}")
}

/// The configuration with `from` replaced.
#[track_caller]
fn changed(from: &str, to: &str) -> String {
    let text = desk();
    assert!(text.contains(from), "{from:?}");
    text.replace(from, to)
}

/// The error after `from` was replaced must have this kind and these words.
#[track_caller]
fn assert_error(text: &str, kind: tokenkeep::settings::ConfigErrorKind, words: &[&str]) {
    let error = Setup::new(text).error();
    for word in words.iter().copied().chain([format!(" {kind:?} ").as_str()]) {
        assert!(error.contains(word), "should say {word:?}: {error}\n{text}");
    }
}

fn server(text: &str) -> Server {
    Setup::new(text).settings().servers.remove(0)
}

#[test]
fn server_speaks_the_profile_that_it_names() {
    let settings = Setup::new(&desk()).settings();
    let profile = settings.servers[0].profile.as_ref().expect("a profile");
    let query = profile.query.as_ref().expect("a query");
    let names: Vec<_> = query.request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X-App-Id", "X-Session"], "header names keep their case");
    assert!(profile.login.as_ref().expect("a login").request.headers.is_empty());
    assert_eq!(settings.servers[0].with["app"], Parameter::Text("a1".into()));
    assert_eq!(settings.tokens[0].refresh, Some(Source::File("/desk.refresh".into())));
    let ReauthMethod::Login { with, minutes: 30 } = &settings.reauths[0].method else {
        panic!("{:?}", settings.reauths[0].method);
    };
    assert_eq!(with["password"], Parameter::File("/desk.password".into()));
    assert_eq!(Setup::new(&desk()).warnings(), []);
}

#[test]
fn server_without_a_profile_and_with_sarus_speak_the_native_api() {
    let text = "[server.s]\nurl = \"https://h\"\n";
    assert_eq!(server(text).profile, None);
    assert_eq!(server(&format!("{text}profile = \"sarus\"")), server(text));
}

#[test]
fn built_in_profile_is_found_by_its_name_and_replaced_by_a_configured_one() {
    for name in BUILTIN.iter().map(|built_in| built_in.name).filter(|name| *name != "sarus") {
        let with = match name {
            "oauth2" => "with = { client_id = \"a\", client_secret = { env = \"B\" } }",
            _ => "",
        };
        let text = format!("[server.s]\nurl = \"https://h\"\nprofile = {name:?}\n{with}");
        assert_eq!(server(&text).profile, builtin(name), "{name}");
    }
    let own = desk()
        .replace("\"desk\"\nwith", "\"vault\"\nwith")
        .replace("profile.desk", "profile.vault");
    let profile = server(&own).profile.expect("a profile");
    assert_ne!(Some(&profile), builtin("vault").as_ref());
    assert_eq!(profile.name, "vault");
}

#[test]
fn name_of_the_native_api_is_not_for_a_profile() {
    let text = PROFILE.replace("profile.desk", "profile.sarus");
    assert_error(&text, Conflict, &["[profile.sarus]", "needs no profile", "another name"]);
}

#[test]
fn part_of_a_built_in_profile_is_rejected_with_the_way_to_copy_it() {
    let text = "[profile.oauth2.query]\nrequest = \"POST introspect/{token}\"\n";
    assert_error(
        text,
        Missing,
        &[
            "has no `life`",
            "replaces the built-in profile as a whole",
            "`tokenkeep profile oauth2`",
        ],
    );
}

#[test]
fn unknown_profile_is_rejected_with_the_known_ones() {
    let named = |name: &str| changed("profile = \"desk\"", &format!("profile = \"{name}\""));
    assert_error(&named("dsk"), UnknownName, &["tokenkeep.toml:24:1", "did you mean \"desk\"?"]);
    assert_error(&named("valut"), UnknownName, &["did you mean \"vault\"?"]);
    let all = "write one of desk, etcd-lease, oauth2, sarus, vault, zabbix, or define";
    assert_error(&named("xyzzy"), UnknownName, &[all, "[profile.xyzzy]"]);
}

#[test]
fn error_in_a_profile_has_its_line_and_is_the_only_one() {
    for (from, to, place, kind, words) in [
        ("unit = \"s\"", "unti = \"s\"", "3:1", UnknownKey, "`profile.desk.unti` is no known key"),
        ("\"GET session\"", "\"GET ../session\"", "6:1", BadValue, "`profile.desk.query.request`"),
        ("is = -1, ", "", "8:9", Missing, "`profile.desk.query.dead[0]` has neither"),
        ("is = -1, ", "iss = -1, is = 1, ", "8:38", UnknownKey, "dead[0].iss`"),
        ("[1, 2.5", "[1, 2026-01-01", "11:53", WrongType, "json.deep.list[1]` must not be a date"),
        (
            "value = \"id\"\n[profile.desk.revoke]",
            "[profile.desk.revoke]",
            "14:15",
            Missing,
            "no `value`",
        ),
        ("headers = {}\n", "", "14:15", BadValue, "`profile.desk.login` uses {token}"),
    ] {
        let error = Setup::new(&changed(from, to)).error();
        let start = format!("tokenkeep.toml:{place} {kind:?} ");
        assert!(error.starts_with(&start) && error.contains(words), "{start}{words}: {error}");
    }
    assert_rejected(&[
        ("profile = 5", "1:1", WrongType, &["a table of tables"]),
        ("[profile]\nx = 5", "2:1", WrongType, &["`profile.x` must be a table", "[profile.NAME]"]),
        ("[profile.x]", "1:10", Missing, &["[profile.x] has neither `query` nor `renew`"]),
    ]);
}

#[test]
fn parameters_that_are_missing_unused_or_misnamed_are_rejected() {
    let with = |with: &str| changed("with = { app = \"a1\" }", with);
    assert_error(
        &with(""),
        Missing,
        &[
            "[server.desk] has no parameter `app`",
            "`query`, `renew`, `revoke`",
            "{ file = \"/path\" }",
        ],
    );
    let more = |more: &str| with(&format!("with = {{ app = \"a1\", {more} }}"));
    assert_error(
        &more("apq = \"b\""),
        UnknownKey,
        &["server.desk.with.apq", "did you mean `app`?"],
    );
    assert_error(&more("xyzzy = \"b\""), UnknownKey, &["known here: app, password, user"]);
    assert_error(&more("token = \"b\""), BadValue, &["a placeholder with a meaning"]);
    assert_error(&more("App = \"b\""), BadValue, &["lower-case letters"]);
    assert_error(
        &with("with = { app = 5 }"),
        WrongType,
        &["`server.desk.with.app`", "text in quotes"],
    );
    assert_error(&with("with = { app = \"\" }"), BadValue, &["is empty"]);
    assert_error(&with("with = \"a\""), WrongType, &["a table of parameters"]);
    assert_error(&with("with = { app = {} }"), Missing, &["`file`, `credential`, `env`"]);
    assert_error(
        &with("with = { app = { flie = \"/f\" } }"),
        UnknownKey,
        &["did you mean `file`?"],
    );
    let both = "with = { app = { file = \"/f\", env = \"E\" } }";
    assert_error(&with(both), Conflict, &["both `file` and `env`"]);
    let native = "[server.s]\nurl = \"https://h\"\nwith = { a = \"b\" }\n";
    assert_error(native, Conflict, &["`server.s.with` has no effect without `profile`"]);
    let native = format!("{native}profile = \"sarus\"");
    assert_error(&native, Conflict, &["has no effect: the API has no parameters"]);
}

#[test]
fn login_takes_parameters_from_the_method_and_the_server() {
    let user = "with = { user = \"keeper\", password = { file = \"/desk.password\" } }";
    let moved = changed(user, "").replace(
        "with = { app = \"a1\" }",
        "with = { app = \"a1\", user = \"k\", password = { credential = \"c\" } }",
    );
    assert_eq!(Setup::new(&moved).warnings(), []);
    let none = changed(user, "");
    let errors = Setup::new(&none).errors();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    let words = "[reauth.desk] has no parameter `password`, which `login` of the profile \"desk\" needs for \
                 [token.desk]";
    assert!(errors[0].contains(words), "{errors:#?}");
    let more = changed("user = \"keeper\"", "user = \"keeper\", usr = \"k\"");
    assert_error(&more, UnknownKey, &["`reauth.desk.with.usr`", "did you mean `user`?"]);
}

#[test]
fn login_needs_a_profile_that_has_one() {
    let login = changed("[profile.desk.login]", "[profile.other.login]");
    let login = format!(
        "{login}\n[profile.other.query]\nrequest = \"GET s/{{token}}\"\nlife = \"a\"\nunit = \"s\""
    );
    assert_error(&login, Conflict, &["`token.desk.reauth`", "\"desk\" has no `login`"]);
    let native = "[server.s]\nurl = \"https://h\"\n[token.t]\nserver = \"s\"\nfile = \"/f\"\nreauth = \"r\"\n";
    let native_login = format!("{native}[reauth.r]\nlogin = true\n");
    assert_error(&native_login, Conflict, &["[server.s] has no `profile`", "api_key_file"]);
    let key = changed(
        "login = true\nwith = { user = \"keeper\", password = { file = \"/desk.password\" } }",
        "api_key_file = \"/k\"",
    );
    assert_error(&key, Conflict, &["has an API key", "write login = true in [reauth.desk]"]);
    assert_error(
        &changed("login = true", "login = false"),
        BadValue,
        &["`reauth.desk.login` is false"],
    );
    assert_error(
        &changed("login = true", "login = true\ncommand = [\"/x\"]"),
        Conflict,
        &["both `command` and `login`"],
    );
    let with = "[reauth.r]\ncommand = [\"/x\"]\nwith = { a = \"b\" }";
    assert_error(with, Conflict, &["`reauth.r.with` has no effect without `login`"]);
}

#[test]
fn renewal_by_a_call_that_the_profile_does_not_have_is_rejected() {
    let text = "[server.s]\nurl = \"https://h\"\nprofile = \"p\"\n[profile.p]\nunit = \"s\"\nlife = \"a\"\n";
    let query = format!("{text}query = {{ request = \"GET s/{{token}}\" }}\n");
    let renew = format!("{text}renew = {{ request = \"GET s/{{token}}\" }}\n");
    let renewal =
        |text: &str, word: &str| text.replace("\"p\"\n", &format!("\"p\"\nrenewal = \"{word}\"\n"));
    assert_eq!(server(&query).renewal, Renewal::Query);
    assert_eq!(server(&renew).renewal, Renewal::Renew);
    assert_eq!(server(&renewal(&renew, "auto")).renewal, Renewal::Renew);
    assert_error(
        &renewal(&query, "renew"),
        Conflict,
        &["`server.s.renewal` is \"renew\"", "has no `renew`"],
    );
    assert_error(&renewal(&renew, "query"), Conflict, &["has no `query`"]);
}

#[test]
fn renewal_of_the_server_precedes_that_of_the_profile() {
    let profile = changed("[profile.desk]", "[profile.desk]\nrenewal = \"renew\"");
    assert_eq!(server(&profile).renewal, Renewal::Renew);
    let own = profile.replace("profile = \"desk\"", "profile = \"desk\"\nrenewal = \"query\"");
    assert_eq!(server(&own).renewal, Renewal::Query);
}

/// Without the `query` of the profile. Its login returns a refresh token.
fn only_renews(text: &str) -> String {
    let (query, _) = PROFILE.split_once("[profile.desk.renew]").expect("the call");
    let text = text.replace(&query[query.find("[profile.desk.query]").expect("the call")..], "");
    text.replace("[profile.desk.login]", "[profile.desk.login]\nrefresh = \"refresh\"")
}

#[test]
fn login_must_return_a_refresh_token_if_nothing_else_tells_whether_its_value_lives() {
    let silent = only_renews(&desk()).replace("refresh = \"refresh\"\n", "");
    let words = &["`token.desk.reauth`", "\"desk\"", "`login` of the profile has no `refresh`"];
    assert_error(&silent, Conflict, words);
    let command = "[reauth.desk]\ncommand = [\"/bin/login\"]\n[token.desk]";
    let (head, tail) = silent.split_once("[reauth.desk]").expect("the login");
    let (_, tail) = tail.split_once("[token.desk]").expect("the token");
    let by_command = format!("{head}{command}{tail}");
    assert_eq!(Setup::new(&by_command).warnings(), [], "it can write the file");
    let no_file = by_command.replace("{ file = \"/desk.refresh\" }", "{ env = \"R\" }");
    assert_error(&no_file, Conflict, &["`token.desk.reauth`", "no file for a new refresh token"]);
}

#[test]
fn directory_of_tokens_has_no_refresh_tokens() {
    let directory = "[inventory.i]\nserver = \"desk\"\ndir = \"/dir\"\n";
    assert_eq!(Setup::new(&(desk() + directory)).warnings(), []);
    let text = only_renews(&desk()) + directory;
    assert_error(&text, Conflict, &["`inventory.i.dir`", "\"refresh\""]);
    let file = text.replace("dir = \"/dir\"", "file = \"/tokens.jsonl\"");
    assert_eq!(Setup::new(&file).warnings(), []);
}

#[test]
fn refresh_token_is_for_a_profile_that_renews_with_it() {
    let without = changed("{refresh}", "{token}");
    assert_error(
        &without,
        Conflict,
        &["`token.desk.refresh` has no effect", "does not renew with a refresh"],
    );
    let native = "[server.s]\nurl = \"https://h\"\n[token.t]\nserver = \"s\"\nfile = \"/f\"\nrefresh = { env = \"R\" }";
    assert_error(native, Conflict, &["`token.t.refresh` has no effect", "\"oauth2\""]);
    let only_renew = only_renews(&desk());
    assert_eq!(Setup::new(&only_renew).warnings(), []);
    let none = only_renew.replace("refresh = { file = \"/desk.refresh\" }", "");
    assert_error(
        &none,
        Missing,
        &["[token.desk] has no `refresh`", "can only renew with a refresh token"],
    );
    let by_variable = Setup::new(&none).var("TOKENKEEP__TOKEN__DESK__REFRESH__FILE", "/r");
    assert_eq!(by_variable.settings().tokens[0].refresh, Some(Source::File("/r".into())));
    let none = changed("refresh = { file = \"/desk.refresh\" }", "");
    assert_eq!(Setup::new(&none).settings().tokens[0].refresh, None, "it is queried until it dies");
}

#[test]
fn refresh_token_has_a_source_of_its_own() {
    let refresh = |refresh: &str| {
        changed("refresh = { file = \"/desk.refresh\" }", &format!("refresh = {refresh}"))
    };
    let other =
        |source: &str| format!("[token.z]\nserver = \"desk\"\nfile = \"/z\"\nrefresh = {source}\n");
    for (text, key) in [
        (refresh("{ file = \"/desk.token\" }"), "token.desk.file"),
        (refresh("{ file = \"/desk.password\" }"), "reauth.desk.with.password"),
        (refresh("{ file = \"/e\" }\nenv_file = \"/e\""), "token.desk.env_file"),
        (refresh("{ env = \"R\" }") + &other("{ env = \"R\" }"), "token.desk.refresh"),
        (
            refresh("{ credential = \"r\" }") + &other("{ credential = \"r\" }"),
            "token.desk.refresh",
        ),
        (desk() + &other("{ file = \"/desk.refresh\" }"), "token.desk.refresh"),
        (
            refresh("{ file = \"/dir/a\" }") + "[inventory.i]\nserver = \"desk\"\ndir = \"/dir\"\n",
            "inventory.i.dir",
        ),
    ] {
        let errors = Setup::new(&text).errors();
        let words = format!("is already used by `{key}`");
        assert!(errors.iter().any(|error| error.contains(&words)), "{words}: {errors:#?}");
    }
    assert_error(&refresh("{}"), Missing, &["`file`, `credential`, `env`"]);
    assert_error(&refresh("\"/r\""), WrongType, &["`token.desk.refresh` must be a table"]);
}

#[test]
fn revocation_at_shutdown_needs_the_call() {
    let text = changed("reauth = \"desk\"", "reauth = \"desk\"\nrevoke_on_shutdown = true");
    assert_eq!(Setup::new(&text).warnings(), []);
    let text = text.replace("[profile.desk.revoke]\nrequest = \"DELETE session\"", "");
    assert_error(
        &text,
        Conflict,
        &["`token.desk.revoke_on_shutdown` has no effect", "no `revoke`"],
    );
}

#[test]
fn probable_mistakes_with_profiles_get_warnings() {
    let kinds = |text: &str| -> Vec<_> {
        Setup::new(text).warnings().into_iter().map(|(kind, _)| kind).collect()
    };
    let assumed = r#"
        [server.z]
        url = "https://z"
        profile = "zabbix"
        [token.z]
        server = "z"
        file = "/z"
    "#;
    let warning = Setup::new(assumed).warnings().remove(0);
    assert_eq!(warning.0, WarningKind::AssumedLife);
    assert!(
        warning.1.contains("1 min 30 s is assumed") && warning.1.contains("cannot be proven"),
        "{}",
        warning.1
    );
    let login = "[reauth.z]\nlogin = true\nwith = { user = 'u', password = { file = '/p' } }\n";
    for (of_reauth, of_token, table) in [("30s", "", "reauth"), ("30s", "40s", "token")] {
        let key = |before: &str| match before {
            "" => String::new(),
            before => format!("reauth_before = '{before}'\n"),
        };
        let text = format!("{assumed}\nreauth = 'z'\n{}{login}{}", key(of_token), key(of_reauth));
        let warnings = Setup::new(&text).warnings();
        let words = format!("`{table}.z.reauth_before` has no effect: [server.z] reports no life");
        assert!(warnings.iter().any(|(_, said)| said.contains(&words)), "{warnings:?}");
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        let query = assumed
            .replace("zabbix", "vault")
            .replace("file = \"/z\"", "file = \"/z\"\nreauth_before = '30s'\nreauth = 'z'");
        let login = login.replace("user", "role_id").replace("password", "secret_id");
        assert_eq!(kinds(&format!("{query}\n{login}")), [], "a life is reported");
    }
    assert_eq!(kinds(PROFILE), [WarningKind::NoTokens]);
    let unused = desk() + &PROFILE.replace("profile.desk", "profile.unused");
    assert_eq!(kinds(&unused), [WarningKind::Unused]);
    for (from, to, count) in [
        ("app = \"a1\"", "app = \"0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77\"", 1),
        ("password = { file = \"/desk.password\" }", "password = \"hunter2\"", 1),
        ("user = \"keeper\"", "user = \"keeper@example.net\"", 0),
    ] {
        let warnings = Setup::new(&changed(from, to)).warnings();
        assert_eq!(warnings.len(), count, "{to}: {warnings:?}");
        for (kind, text) in warnings {
            assert_eq!(kind, WarningKind::LooksSecret);
            assert!(!text.contains("hunter2") && !text.contains("52cf"), "{text}");
        }
    }
}

#[test]
fn drop_in_changes_single_keys_of_a_profile() {
    let drop_in = "[profile.desk]\nunit = \"ms\"\n[profile.desk.query]\nlife = \"left\"\n\
                   [profile.desk.headers]\nX-More = \"m\"\n";
    let setup = Setup::new(&desk()).file("conf.d/a.toml", drop_in);
    let profile = setup.settings().servers.remove(0).profile.expect("a profile");
    let query = profile.query.as_ref().expect("a query");
    assert_eq!(query.life[0].to_string(), "left");
    assert_eq!(query.request.headers.len(), 3);
    let wrong = drop_in.replace("\"left\"", "\"left over\"");
    let error = Setup::new(&desk()).file("conf.d/a.toml", wrong).error();
    assert!(error.starts_with("conf.d/a.toml:4:1 BadValue"), "{error}");
    let twice = Setup::new(DESK).file("conf.d/a.toml", PROFILE).file("conf.d/b.toml", PROFILE);
    let error = twice.error();
    assert!(
        error.starts_with("conf.d/b.toml:2:10") && error.contains(&format!("{Duplicate:?}")),
        "{error}"
    );
}

#[test]
fn variables_change_the_keys_around_a_profile() {
    let settings = Setup::new(&desk())
        .var("TOKENKEEP__SERVER__DESK__WITH__APP", "a2")
        .var("TOKENKEEP__REAUTH__DESK__WITH__USER", "other")
        .var("TOKENKEEP__TOKEN__DESK__REFRESH__FILE", "/other.refresh")
        .settings();
    assert_eq!(settings.servers[0].with["app"], Parameter::Text("a2".into()));
    assert_eq!(settings.tokens[0].refresh, Some(Source::File("/other.refresh".into())));
    let named = Setup::new(&desk()).var("TOKENKEEP__SERVER__DESK__PROFILE", "vault");
    assert!(named.errors()[0].contains("server.desk.with.app"), "{:?}", named.errors());
    for (name, words) in [
        ("TOKENKEEP__PROFILE__DESK__UNIT", "a variable cannot change a profile"),
        ("TOKENKEEP__TOKEN__DESK__REFRESH__FLIE", "did you mean `file`?"),
        ("TOKENKEEP__SERVER__DESK__WITH__TOKEN", "it has the name of a placeholder"),
    ] {
        let error = Setup::new(&desk()).var(name, "x").error();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn secret_texts_of_parameters_are_masked_for_print_config() {
    let text = changed("password = { file = \"/desk.password\" }", "password = \"hunter2\"");
    let text = text.replace("app = \"a1\"", "app = \"a1\", pin = \"4711\", app_id = \"17\"");
    let text = text.replace("{app}", "{app}{pin}{app_id}");
    let mut settings = Setup::new(&text).settings();
    mask_parameters(&mut settings);
    let printed = print(&settings);
    for secret in ["hunter2", "4711"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    for shown in ["password = \"***\"", "pin = \"***\"", "\"a1\"", "\"17\"", "\"keeper\""] {
        assert!(printed.contains(shown), "{shown}: {printed}");
    }
}

#[test]
fn printed_profiles_load_to_equal_settings() {
    let assumed =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/profiles/betfair.toml"));
    for text in [desk(), PROFILE.to_owned(), assumed.expect("the file")] {
        let settings = Setup::new(&text).settings();
        let printed = print(&settings);
        assert_eq!(Setup::new(&printed).settings(), settings, "{printed}");
    }
}
