//! What must hold for every input: one function for each target of `fuzz/` (docs/development/fuzzing.md).
//!
//! Each function panics if its property does not hold, and returns otherwise. The properties
//! themselves stand beside the code that they are about, in `properties.rs` of its folder. The unit
//! tests run each of them over its seeds, so every seed is a regression test.
//!
//! Not a stable interface: behind the feature `fuzzing`, for the targets alone.

/// The name of a built-in profile and a status, header lines, an empty line, and a body.
pub use crate::api::profile_response;
/// The body of a response of the API.
pub use crate::api::properties::envelope as api_envelope;
/// A secret, a form of it, and the text around it.
pub use crate::api::properties::redaction;
/// The headers of a response, one on each line.
pub use crate::api::properties::retry_after;
/// A kind of request to etcd or a status, and the body of the response.
pub use crate::cluster::etcd::properties::etcd_response;
/// A request on the control socket: its first line, its headers, its body.
pub use crate::control::properties::control;
/// An inventory of JSON lines.
pub use crate::inventory::properties::inventory;
/// The files of a configuration and environment variables. `@@` stands for a pasted secret.
pub use crate::settings::properties::configuration;
/// Packed lives, rows, or changes to the file of the state database.
pub use crate::store::properties::state_database;

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
    fn responses_of_the_seeds_are_read_by_profiles_as_they_must_be() {
        run("profile_response", profile_response);
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
    fn responses_of_etcd_of_the_seeds_are_read_as_they_must_be() {
        run("etcd_response", etcd_response);
    }

    #[test]
    fn state_databases_of_the_seeds_are_read_or_set_aside() {
        run("state_database", state_database);
    }
}
