//! Properties of configuration loading, for arbitrary input. See `crate::fuzzing`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::collector::Collector;
use super::finding::{Finding, Location};
use super::read_files::sources_of_contents;
use super::validate::ServiceDirectories;
use super::{Loaded, load_sources, print};

/// Placeholder for a secret in an input.
const PASTED: &[u8] = b"@@";

/// Secrets of several formats. The length of the input selects one.
const SECRETS: [&str; 5] = [
    "0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c",
    "Zk3v9QpLx7Wm2RtYb5Nc8Df4Hg6Js1Ka",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJxMTdYN3oifQ.q83vEjRWeJCrze8SNFZ4kA",
    "q7X-2v9Lk_4ZpT8mW1-c6Nd3Rb_5Hy0S",
];

/// No message may show this many consecutive characters of a secret.
const RUN: usize = 8;

/// Starts another file, or the environment with one variable per line.
const PART: &str = "#### ";

/// Reads `input` as configuration files and environment variables. Checks:
/// - Each error has a location, a message and a remedy.
/// - No pasted secret is shown.
/// - A valid configuration can be loaded from its printed form.
pub(crate) fn configuration(input: &[u8]) {
    let secret = SECRETS[input.len() % SECRETS.len()];
    let (files, environment) = parts(input, secret);
    let lines: Vec<Vec<String>> = files.iter().map(|(_, text)| shown_lines(text)).collect();
    let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
    let is_word = is_pasted_as_a_word(input);
    let check = |location: &Location, texts: [&str; 3]| {
        check_place(location, &paths, &lines);
        for text in texts {
            let run = |run: &[u8]| text.as_bytes().windows(RUN).any(|window| window == run);
            let is_shown = is_word && secret.as_bytes().windows(RUN).any(run);
            assert!(!is_shown, "the secret is shown: {text:?}");
        }
    };
    match load(files, environment) {
        Err(errors) => {
            for error in &errors {
                check_finding(error, check);
            }
        }
        Ok(Loaded { settings, warnings, .. }) => {
            for warning in &warnings {
                check_finding(warning, check);
            }
            let printed = print(&settings);
            let file = ("printed.toml".into(), printed.clone().into_bytes());
            match load(vec![file], Vec::new()) {
                Ok(again) => assert_eq!(again.settings, settings, "printed: {printed}"),
                Err(errors) => panic!("printed, but not to be read again: {errors}\n{printed}"),
            }
        }
    }
}

type Files = Vec<(PathBuf, Vec<u8>)>;
type Variables = Vec<(OsString, OsString)>;

fn load(files: Files, environment: Variables) -> Result<Loaded, super::ConfigErrors> {
    let mut collector = Collector::default();
    let sources = sources_of_contents(files, &mut collector);
    load_sources(sources, ServiceDirectories::default(), environment.into_iter(), collector)
}

/// The files and environment variables of an input, with the secret inserted.
fn parts(input: &[u8], secret: &str) -> (Files, Variables) {
    let (mut files, mut environment) = (Files::new(), Variables::new());
    let mut in_environment = false;
    files.push(("tokenkeep.toml".into(), Vec::new()));
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        let line = pasted(line, secret);
        if let Some(name) = line.strip_prefix(PART.as_bytes()) {
            in_environment = name.starts_with(b"environment");
            if !in_environment && files.len() < 4 {
                files.push((format!("conf.d/{}.toml", files.len()).into(), Vec::new()));
            }
        } else if in_environment {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\n').replace('\0', "");
            if let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.is_empty()) {
                environment.push((name.into(), value.into()));
            }
        } else if let Some((_, text)) = files.last_mut() {
            text.extend_from_slice(&line);
        }
    }
    (files, environment)
}

fn pasted(line: &[u8], secret: &str) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.split_off_first() {
        if *first == PASTED[0] && rest.first() == Some(&PASTED[1]) {
            rest = &rest[1..];
            text.extend_from_slice(secret.as_bytes());
        } else {
            text.push(*first);
        }
    }
    text
}

/// Whether the secret is always a separate word. As a part of a longer word it may look like
/// something else.
fn is_pasted_as_a_word(input: &[u8]) -> bool {
    let ends_a_word =
        |byte: Option<&u8>| byte.is_none_or(|byte| b" \t\r\n\"'=,[]{}".contains(byte));
    let mut places = input.windows(2).enumerate().filter(|(_, window)| *window == PASTED);
    places.all(|(at, _)| {
        ends_a_word(at.checked_sub(1).and_then(|at| input.get(at)))
            && ends_a_word(input.get(at + 2))
    })
}

/// The lines of the valid UTF-8 at the start of a file.
fn shown_lines(text: &[u8]) -> Vec<String> {
    let valid = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    valid.split('\n').map(str::to_owned).collect()
}

fn check_finding<K>(finding: &Finding<K>, check: impl Fn(&Location, [&str; 3])) {
    assert!(!finding.message.is_empty() && !finding.remedy.is_empty(), "nothing to be said");
    let excerpt = finding.excerpt.as_ref();
    let shown = excerpt.map_or("", |excerpt| &excerpt.text);
    check(&finding.location, [&finding.message, &finding.remedy, shown]);
    if let Some(excerpt) = excerpt {
        assert!(excerpt.text.get(excerpt.mark.clone()).is_some(), "{excerpt:?}");
        assert!(matches!(finding.location, Location::Text { .. }), "an excerpt of no line");
    }
}

fn check_place(location: &Location, paths: &[PathBuf], lines: &[Vec<String>]) {
    match location {
        Location::Text { file, line, column } => {
            let at = paths.iter().position(|path| path == file).expect("a file of the input");
            let text = lines[at].get(line - 1).expect("a line of the file");
            assert!((1..=text.chars().count() + 1).contains(column), "{line}:{column}: {text:?}");
        }
        Location::File(file) => assert!(paths.contains(file)),
        Location::Variable(name) => assert!(!name.is_empty()),
    }
}
