//! Why inotify cannot watch files: which limit is exhausted, and how to raise it.

use std::fmt;
use std::fs;
use std::io;

use rustix::io::Errno;

use crate::process;

/// Why files cannot be watched. They are polled instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InotifyError {
    /// The user's limit of inotify instances is exhausted.
    InstanceLimit,
    /// The user's limit of inotify watches is exhausted.
    WatchLimit,
    /// The process or the system has no free file descriptor.
    DescriptorLimit,
    /// The system does not provide inotify to this process.
    Unavailable,
}

impl InotifyError {
    /// Classifies an error of creating an inotify instance.
    pub(super) fn from_instance_error(error: &io::Error) -> Self {
        if !process::is_out_of_descriptors(error) {
            Self::Unavailable
        } else if process::has_no_free_descriptor() {
            Self::DescriptorLimit
        } else {
            // The kernel uses the same error code for the limit of instances.
            Self::InstanceLimit
        }
    }

    /// Whether an error of adding a watch means that the limit is exhausted.
    pub(super) fn is_watch_limit(error: &io::Error) -> bool {
        error.raw_os_error() == Some(Errno::NOSPC.raw_os_error())
    }
}

impl fmt::Display for InotifyError {
    /// The exhausted limit with its current value, then the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstanceLimit => {
                limit(f, "instance", "max_user_instances", "max_inotify_instances")
            }
            Self::WatchLimit => limit(f, "watch", "max_user_watches", "max_inotify_watches"),
            Self::DescriptorLimit => {
                let raise = process::descriptor_limit_remedy();
                write!(f, "there is no free file descriptor: {raise}, then restart tokenkeep")
            }
            Self::Unavailable => f.write_str(
                "this system does not offer inotify to the process; let its sandbox permit inotify",
            ),
        }
    }
}

fn limit(f: &mut fmt::Formatter<'_>, what: &str, global: &str, own: &str) -> fmt::Result {
    let read = |path: String| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let global_limit = read(format!("/proc/sys/fs/inotify/{global}"));
    let own_limit = read(format!("/proc/sys/user/{own}"));
    // A user namespace, such as a container's, may have a lower limit.
    let is_own = own_limit.is_some_and(|own| global_limit.is_none_or(|global| own < global));
    let (name, value) = if is_own {
        (format!("user.{own}"), own_limit)
    } else {
        (format!("fs.inotify.{global}"), global_limit)
    };
    let value = value.map(|value| format!(", {value},")).unwrap_or_default();
    write!(
        f,
        "no inotify {what} is left for this user: the limit `{name}`{value} is used up by all its \
         processes together; raise it with `sysctl -w {name}=NUMBER`"
    )?;
    if is_own {
        write!(f, " in this user namespace, and `fs.inotify.{global}`")?;
    }
    f.write_str(", then restart tokenkeep")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_with_its_present_value() {
        for (inotify_error, name) in [
            (InotifyError::InstanceLimit, "max_user_instances"),
            (InotifyError::WatchLimit, "max_user_watches"),
        ] {
            let said = inotify_error.to_string();
            let limit = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap();
            assert!(said.contains(&format!("fs.inotify.{name}`, {},", limit.trim())), "{said}");
        }
    }

    #[test]
    fn error_that_is_not_a_limit_means_inotify_is_unavailable() {
        let error = io::Error::from_raw_os_error(Errno::NOSYS.raw_os_error());
        assert_eq!(InotifyError::from_instance_error(&error), InotifyError::Unavailable);
        let error = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        assert_eq!(InotifyError::from_instance_error(&error), InotifyError::InstanceLimit);
    }
}
