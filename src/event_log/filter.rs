//! Parses `log.level`: any `tracing` filter. A bare level applies to tokenkeep only.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::TARGET;

/// The default filter: dependencies log from level warn.
const BASE: &str = "warn,tokenkeep=info";

/// Checks that `level` is a valid `log.level`.
///
/// ```
/// use tokenkeep::event_log::check_filter;
///
/// assert!(check_filter("debug").is_ok());
/// assert!(check_filter("info,hyper_util=debug").is_ok());
/// assert!(check_filter("loud").unwrap_err().contains("`loud`"));
/// ```
///
/// # Errors
///
/// A sentence that names the invalid part and lists the valid ones.
pub fn check_filter(level: &str) -> Result<(), String> {
    parse(level).map(drop)
}

/// Parses `level` as a filter.
pub(super) fn parse(level: &str) -> Result<EnvFilter, String> {
    // The library panics at some of them. Names of modules and fields have none.
    if !level.is_ascii() {
        return Err(filter_error(level, "it contains a character outside ASCII"));
    }
    let parts: Vec<&str> =
        level.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err("the filter is empty; write a level such as `info`".to_owned());
    }
    let mut directives = BASE.to_owned();
    for part in parts {
        let directive = directive(part)?;
        directives.push(',');
        directives.push_str(&directive);
    }
    EnvFilter::builder().parse(&directives).map_err(|error| filter_error(level, &error.to_string()))
}

/// `part` with an explicit target.
fn directive(part: &str) -> Result<String, String> {
    if part.parse::<LevelFilter>().is_ok() {
        return Ok(format!("{TARGET}={part}"));
    }
    // A misspelt level alone would be parsed as a target and have no effect.
    if !part.contains(['=', '[']) {
        return Err(filter_error(
            part,
            &format!("it is not a level; to log everything of a target, write `{part}=trace`"),
        ));
    }
    EnvFilter::builder()
        .parse(part)
        .map(|_| part.to_owned())
        .map_err(|error| filter_error(part, &error.to_string()))
}

fn filter_error(part: &str, why: &str) -> String {
    format!(
        "`{}` is not a valid filter: {why}; write off, error, warn, info, debug or trace, or `target=level`, separated by commas",
        part.escape_debug()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_with_a_character_outside_ascii_is_rejected() {
        for level in ["a[{b=”c”}]=debug", "größe=debug", "info,x[{\u{201d}"] {
            assert!(parse(level).unwrap_err().contains("outside ASCII"), "{level}");
        }
    }

    fn shown(level: &str) -> String {
        parse(level).unwrap().to_string()
    }

    #[test]
    fn a_bare_level_applies_to_tokenkeep_and_dependencies_stay_at_warn() {
        let filter = shown("debug");
        assert!(filter.contains("tokenkeep=debug"), "{filter}");
        assert!(filter.split(',').any(|part| part == "warn"), "{filter}");
    }

    #[test]
    fn a_target_sets_the_level_of_one_dependency_only() {
        let filter = shown("hyper_util=debug");
        assert!(filter.contains("hyper_util=debug"), "{filter}");
        assert!(filter.contains("tokenkeep=info"), "{filter}");
    }

    #[test]
    fn letter_case_and_spaces_do_not_matter() {
        assert!(shown(" WARN , h2=Debug").contains("tokenkeep=warn"));
    }

    #[test]
    fn a_misspelt_level_is_rejected_with_the_valid_levels() {
        let why = check_filter("info,inof").unwrap_err();
        assert!(why.contains("`inof`") && why.contains("error, warn, info"), "{why}");
    }

    #[test]
    fn an_unknown_level_of_a_target_is_rejected() {
        assert!(check_filter("hyper=loud").unwrap_err().contains("`hyper=loud`"));
    }

    #[test]
    fn an_empty_filter_is_rejected() {
        assert!(check_filter(" , ").is_err());
    }
}
