//! `--with`: parameters of a profile from the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::NATIVE;
use crate::cli::{CliError, eprint_message};
use crate::profile::{Placeholder, Profile};
use crate::secret::mask;
use crate::settings::{Parameter, is_secret_parameter};

/// Parses `KEY=VALUE`, and `KEY=@FILE` for the content of a file. A value that begins with `@` is
/// written with two. Warns about secrets, because other users can read arguments.
pub(in crate::cli) fn parse(options: &[String]) -> Result<BTreeMap<String, Parameter>, CliError> {
    let mut parameters = BTreeMap::new();
    for option in options {
        let (name, parameter) = parse_one(option).map_err(CliError::Usage)?;
        if let Parameter::Text(text) = &parameter
            && is_secret_parameter(&name, text)
        {
            eprint_message(&format!(
                "warning: other users of this machine can read the value of `{name}` in the list of \
                 processes; put it into a file, and write --with {name}=@FILE"
            ));
        }
        if parameters.insert(name.clone(), parameter).is_some() {
            return Err(CliError::Usage(format!(
                "--with {name} is given twice; remove one of them"
            )));
        }
    }
    Ok(parameters)
}

/// Checks that the profile has each of the parameters. `None` is the native API.
pub(in crate::cli) fn check_known(
    profile: Option<&Profile>,
    given: &BTreeMap<String, Parameter>,
) -> Result<(), String> {
    let calls = profile.into_iter().flat_map(Profile::calls);
    let known: BTreeSet<_> = calls.flat_map(|(_, call)| call.parameters()).collect();
    let Some(unknown) = given.keys().find(|name| !known.contains(name.as_str())) else {
        return Ok(());
    };
    let name = profile.map_or(NATIVE, |profile| &profile.name);
    let known = match known.len() {
        0 => "it has none".to_owned(),
        _ => format!("it has {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Err(format!("--with: profile {name} has no parameter `{unknown}`; {known}"))
}

/// Refuses parameters whose text is probably a secret, for a command that writes them into the
/// configuration, which all users can read.
pub(in crate::cli) fn refuse_secrets(
    parameters: &BTreeMap<String, Parameter>,
) -> Result<(), String> {
    let is_secret = |(name, parameter): &(&String, &Parameter)| matches!(parameter, Parameter::Text(text) if is_secret_parameter(name, text));
    match parameters.iter().find(is_secret) {
        None => Ok(()),
        Some((name, _)) => Err(format!(
            "--with: `{name}` is a secret, and all users can read the configuration; put it into a \
             file, and write --with {name}=@FILE"
        )),
    }
}

/// The error does not show the value.
fn parse_one(option: &str) -> Result<(String, Parameter), String> {
    let Some((name, value)) = option.split_once('=') else {
        return Err("--with needs KEY=VALUE, or KEY=@FILE for the content of a file".to_owned());
    };
    if !matches!(Placeholder::parse(name), Ok(Placeholder::Parameter(_))) {
        return Err(format!(
            "--with: `{}` is no name of a parameter; a name has lower-case letters, digits and `_`",
            mask(name)
        ));
    }
    let parameter = match value.strip_prefix('@') {
        Some("") => return Err(format!("--with {name}=@ needs the path of a file after the `@`")),
        Some(text) if text.starts_with('@') => Parameter::Text(text.to_owned()),
        Some(path) => Parameter::File(PathBuf::from(path)),
        None if value.is_empty() => return Err(format!("--with {name}= needs a value")),
        None => Parameter::Text(value.to_owned()),
    };
    Ok((name.to_owned(), parameter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_texts_or_files() {
        let text = |text: &str| Parameter::Text(text.to_owned());
        for (option, expected) in [
            ("user=keeper", ("user", text("keeper"))),
            ("user=a=b", ("user", text("a=b"))),
            ("user=@@home", ("user", text("@home"))),
            ("secret_id=@/etc/s", ("secret_id", Parameter::File("/etc/s".into()))),
        ] {
            let (name, parameter) = parse_one(option).unwrap();
            assert_eq!((&*name, parameter), expected, "{option}");
        }
    }

    #[test]
    fn invalid_parameters_are_refused_without_their_value() {
        for (option, words) in [
            ("S3CR3T", "KEY=VALUE"),
            ("S3CR3T=x", "is no name of a parameter"),
            ("token=S3CR3T", "is no name of a parameter"),
            ("=S3CR3T", "is no name of a parameter"),
            ("user=", "needs a value"),
            ("user=@", "path of a file"),
        ] {
            let error = parse_one(option).unwrap_err();
            assert!(error.contains(words) && !error.contains("S3CR3T"), "{option}: {error}");
        }
    }

    #[test]
    fn parameter_that_is_given_twice_is_refused() {
        let options = ["user=a".to_owned(), "user=b".to_owned()];
        assert!(matches!(parse(&options), Err(CliError::Usage(error)) if error.contains("twice")));
    }
}
