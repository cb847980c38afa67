//! What must hold for every input: one function for each target of `fuzz/` (docs/development/fuzzing.md).
//!
//! Each function panics if its property does not hold, and returns otherwise. The properties
//! themselves stand beside the code that they are about, in `properties.rs` of its folder. The unit
//! tests run each of them over its seeds, so every seed is a regression test.
//!
//! Not a stable interface: behind the feature `fuzzing`, for the targets alone.

use crate::{api, control as control_interface, inventory as inventories, settings, store};

/// The body of a response of the API.
pub fn api_envelope(body: &[u8]) {
    api::properties::envelope(body);
}

/// The headers of a response, one on each line.
pub fn retry_after(headers: &[u8]) {
    api::properties::retry_after(headers);
}

/// A secret, a form of it, and the text around it.
pub fn redaction(choices: &[u8]) {
    api::properties::redaction(choices);
}

/// The files of a configuration and environment variables. `@@` stands for a pasted secret.
pub fn configuration(files: &[u8]) {
    settings::properties::configuration(files);
}

/// An inventory of JSON lines.
pub fn inventory(text: &[u8]) {
    inventories::properties::inventory(text);
}

/// A request on the control socket: its first line, its headers, its body.
pub fn control(request: &[u8]) {
    control_interface::properties::control(request);
}

/// Packed lives, rows, or changes to the file of the state database.
pub fn state_database(changes: &[u8]) {
    store::properties::state_database(changes);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Runs `property` over the seeds of its target.
    fn run(target: &str, property: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let seeds: Vec<_> = fs::read_dir(&folder).expect("the seeds").collect();
        assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
        for seed in seeds {
            let path = seed.expect("a seed").path();
            let input = fs::read(&path).expect("a seed");
            let run = std::panic::catch_unwind(|| property(&input));
            assert!(run.is_ok(), "the property does not hold for {}", path.display());
        }
    }

    #[test]
    fn response_bodies_of_the_seeds_are_read_as_they_must_be() {
        run("api_envelope", api_envelope);
    }

    #[test]
    fn retry_after_headers_of_the_seeds_ask_for_a_pause_within_its_limits() {
        run("retry_after", retry_after);
    }

    #[test]
    fn secrets_of_the_seeds_are_redacted_in_every_form() {
        run("redaction", redaction);
    }

    #[test]
    fn configurations_of_the_seeds_are_read_without_showing_a_secret() {
        run("configuration", configuration);
    }

    #[test]
    fn inventories_of_the_seeds_are_read_line_by_line() {
        run("inventory", inventory);
    }

    #[test]
    fn control_requests_of_the_seeds_do_what_their_paths_say() {
        run("control", control);
    }

    #[test]
    fn state_databases_of_the_seeds_are_read_or_set_aside() {
        run("state_database", state_database);
    }
}
