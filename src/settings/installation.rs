//! The installation that a command concerns: the system's service, or a user's own service.
//!
//! Decides where the configuration is, and the defaults of `state_dir` and `control.socket`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::validate::{DEFAULT_SOCKET, ServiceDirectories};

/// Default path of the system's configuration file.
pub const DEFAULT_PATH: &str = "/etc/tokenkeep/tokenkeep.toml";

/// File name of the control socket.
const SOCKET_NAME: &str = "control.sock";

/// Whose service a command concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The system's service, in `/etc`, `/var/lib` and `/run`.
    System,
    /// The user's own service, in the directories of the XDG specification.
    User,
}

/// `$HOME` or the XDG variables are needed and not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user's own service needs $HOME, or $XDG_CONFIG_HOME and $XDG_STATE_HOME; set them to \
     absolute paths"
)]
pub struct NoHome;

/// A configuration file, and the defaults for keys that it does not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    config: PathBuf,
    /// `None` for the system's service.
    user: Option<UserDirectories>,
}

/// The directories of a user's own service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UserDirectories {
    config: PathBuf,
    state: PathBuf,
    /// `None` without `$XDG_RUNTIME_DIR`.
    runtime: Option<PathBuf>,
}

impl UserDirectories {
    /// Relative paths in the variables are ignored, as the XDG specification demands.
    fn find(variables: &dyn Fn(&str) -> Option<OsString>) -> Option<Self> {
        let absolute =
            |name: &str| variables(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = |name: &str, below_home: &str| {
            let path = absolute(name).or_else(|| Some(absolute("HOME")?.join(below_home)));
            path.map(|path| path.join("tokenkeep"))
        };
        Some(Self {
            config: base("XDG_CONFIG_HOME", ".config")?.join("tokenkeep.toml"),
            state: base("XDG_STATE_HOME", ".local/state")?,
            runtime: absolute("XDG_RUNTIME_DIR").map(|path| path.join("tokenkeep")),
        })
    }
}

impl Installation {
    /// The system's installation with the configuration at `config`.
    pub fn system(config: impl Into<PathBuf>) -> Self {
        Self { config: config.into(), user: None }
    }

    /// Chooses an installation. `scope` decides if it is given. Otherwise a user other than root who
    /// has a configuration of their own uses that, unless `config` is another file. `variables` looks
    /// up environment variables.
    ///
    /// # Errors
    ///
    /// The user's own service was chosen, and its directories are unknown.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use tokenkeep::settings::{DEFAULT_PATH, Installation, Scope};
    ///
    /// let home = |name: &str| (name == "HOME").then(|| "/home/trader".into());
    /// let own = Installation::choose(Some(Scope::User), None, false, &home).unwrap();
    /// assert_eq!(own.config(), Path::new("/home/trader/.config/tokenkeep/tokenkeep.toml"));
    ///
    /// let root = Installation::choose(None, None, true, &home).unwrap();
    /// assert_eq!(root.config(), Path::new(DEFAULT_PATH));
    /// ```
    pub fn choose(
        scope: Option<Scope>,
        config: Option<PathBuf>,
        is_root: bool,
        variables: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, NoHome> {
        let user = match scope {
            Some(Scope::System) => None,
            Some(Scope::User) => Some(UserDirectories::find(variables).ok_or(NoHome)?),
            None if is_root => None,
            None => UserDirectories::find(variables).filter(|user| match &config {
                Some(config) => std::path::absolute(config).is_ok_and(|path| path == user.config),
                None => user.config.symlink_metadata().is_ok(),
            }),
        };
        let default = user.as_ref().map_or(Path::new(DEFAULT_PATH), |user| &user.config);
        let config = config.unwrap_or_else(|| default.to_owned());
        Ok(Self { config, user })
    }

    /// The main configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The directory beside the main file whose `*.toml` files are read after it.
    pub fn drop_ins(&self) -> PathBuf {
        self.config.with_file_name("conf.d")
    }

    /// Whether this is a user's own service.
    pub const fn is_user(&self) -> bool {
        self.user.is_some()
    }

    /// The configuration file that is used without `--config`.
    pub fn default_config(&self) -> &Path {
        self.user.as_ref().map_or(Path::new(DEFAULT_PATH), |user| &user.config)
    }

    /// The control socket if neither the configuration nor `$RUNTIME_DIRECTORY` names another.
    pub fn default_socket(&self) -> PathBuf {
        match &self.user {
            None => DEFAULT_SOCKET.into(),
            Some(user) => user.runtime.as_ref().unwrap_or(&user.state).join(SOCKET_NAME),
        }
    }

    /// The defaults of `state_dir` and `control.socket`.
    pub(super) fn directories(&self) -> ServiceDirectories {
        let Some(user) = &self.user else { return ServiceDirectories::default() };
        let runtime = user.runtime.as_ref().map(|runtime| runtime.join(SOCKET_NAME));
        ServiceDirectories {
            state: Some(user.state.display().to_string()),
            socket: Some(runtime.unwrap_or_else(|| SOCKET_NAME.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The installation of a user who is not root, with these variables.
    fn chosen(
        scope: Option<Scope>,
        config: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Installation {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        Installation::choose(scope, config.map(Into::into), false, &variable).unwrap()
    }

    #[test]
    fn xdg_variables_take_precedence_over_home_and_relative_ones_are_ignored() {
        let home = ("HOME", "/home/a");
        for (variables, config, socket) in [
            (&[home][..], "/home/a/.config", "/home/a/.local/state/tokenkeep/control.sock"),
            (
                &[home, ("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s")],
                "/c",
                "/s/tokenkeep/control.sock",
            ),
            (
                &[home, ("XDG_CONFIG_HOME", "c"), ("XDG_RUNTIME_DIR", "/run/user/7")],
                "/home/a/.config",
                "/run/user/7/tokenkeep/control.sock",
            ),
        ] {
            let own = chosen(Some(Scope::User), None, variables);
            assert_eq!(own.config(), Path::new(config).join("tokenkeep/tokenkeep.toml"));
            assert_eq!(own.default_socket(), Path::new(socket));
        }
    }

    #[test]
    fn a_users_own_configuration_is_the_default_only_if_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let variables = [("XDG_CONFIG_HOME", folder.path().to_str().unwrap()), ("HOME", "/none")];
        assert!(!chosen(None, None, &variables).is_user());
        let own = folder.path().join("tokenkeep/tokenkeep.toml");
        std::fs::create_dir(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(chosen(None, None, &variables).config(), own);
        assert!(chosen(None, own.to_str(), &variables).is_user());
        assert!(!chosen(None, Some("/other.toml"), &variables).is_user());
        assert!(!chosen(Some(Scope::System), None, &variables).is_user());
    }

    #[test]
    fn without_a_home_only_an_explicit_user_scope_is_an_error() {
        let none = |_: &str| None;
        assert!(!Installation::choose(None, None, false, &none).unwrap().is_user());
        assert_eq!(Installation::choose(Some(Scope::User), None, false, &none), Err(NoHome));
    }
}
