//! The built-in profiles.

use std::sync::Arc;

use toml::Table;

use super::model::Profile;
use super::parse::parse;

/// A built-in profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// The API, in one line.
    pub description: &'static str,
    /// A configuration file that defines it as `[profile.NAME]`.
    pub toml: &'static str,
}

/// The built-in profiles, the default first.
pub const BUILTIN: [Builtin; 5] = [
    Builtin {
        name: "sarus",
        description: "Sarus market data API (the default)",
        toml: include_str!("builtin/sarus.toml"),
    },
    Builtin {
        name: "vault",
        description: "HashiCorp Vault and OpenBao tokens, login by AppRole",
        toml: include_str!("builtin/vault.toml"),
    },
    Builtin {
        name: "oauth2",
        description: "OAuth 2.0 access tokens with refresh tokens and introspection",
        toml: include_str!("builtin/oauth2.toml"),
    },
    Builtin {
        name: "etcd-lease",
        description: "etcd leases, through the JSON gateway",
        toml: include_str!("builtin/etcd-lease.toml"),
    },
    Builtin {
        name: "zabbix",
        description: "Zabbix frontend sessions, through the JSON-RPC API",
        toml: include_str!("builtin/zabbix.toml"),
    },
];

/// The built-in profile `name`. Tests check that all are valid.
///
/// ```
/// use tokenkeep::profile::builtin;
///
/// assert!(builtin("vault").unwrap().login.is_some());
/// assert!(builtin("valt").is_none());
/// ```
pub fn builtin(name: &str) -> Option<Arc<Profile>> {
    let Builtin { toml, .. } = BUILTIN.into_iter().find(|builtin| builtin.name == name)?;
    let file: Table = toml.parse().ok()?;
    parse(name, file.get("profile")?.get(name)?.as_table()?).ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Parses the only profile of a file.
    fn parsed(text: &str) -> Profile {
        let file: Table = text.parse().unwrap();
        let profiles = file["profile"].as_table().unwrap();
        assert_eq!((file.len(), profiles.len()), (1, 1), "one profile in a file");
        let (name, table) = profiles.iter().next().unwrap();
        parse(name, table.as_table().unwrap())
            .unwrap_or_else(|errors| panic!("{name}: {errors:#?}"))
    }

    #[test]
    fn every_built_in_profile_is_valid_and_found_by_its_name() {
        for Builtin { name, toml, .. } in BUILTIN {
            let profile = parsed(toml);
            assert_eq!(profile.name, name);
            assert_eq!(builtin(name).as_deref(), Some(&profile));
        }
    }

    #[test]
    fn every_contributed_profile_is_valid_and_named_like_its_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/profiles");
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let profile = parsed(&fs::read_to_string(&path).unwrap());
            assert_eq!(path.file_stem().unwrap(), profile.name.as_str());
            assert!(builtin(&profile.name).is_none());
            names.push(profile.name);
        }
        names.sort();
        assert_eq!(names, ["betfair", "consul-session", "ibkr", "redfish", "vcenter"]);
    }
}
