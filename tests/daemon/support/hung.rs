//! A folder on a disk that is gone: whoever looks into it waits for ever.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::geteuid;

/// A file system whose server never says anything, until this is dropped.
pub(crate) struct Hung {
    folder: PathBuf,
    server: Child,
}

impl Hung {
    /// Puts one over an empty folder; `None` where this machine does not permit it.
    pub(crate) fn over(folder: &Path) -> Option<Self> {
        const SERVE: &str = "exec 3<>/dev/fuse && mount -i -t fuse \
             -o fd=3,rootmode=40000,user_id=0,group_id=0 hung \"$0\" && exec sleep infinity";
        if !geteuid().is_root() {
            return None;
        }
        fs::create_dir_all(folder).expect("a folder");
        let folder = fs::canonicalize(folder).expect("a path");
        let mut server = Command::new("sh")
            .args(["-c", SERVE])
            .arg(&folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let is_mounted = || {
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            mounts.lines().any(|line| line.split(' ').nth(1).map(Path::new) == Some(&*folder))
        };
        while !is_mounted() {
            if server.try_wait().expect("a status").is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { folder, server })
    }
}

impl Drop for Hung {
    /// With the server's end whoever waits is told that it is gone.
    fn drop(&mut self) {
        // What is left of it is the machine's to clear away.
        let _ = self.server.kill().and_then(|()| self.server.wait());
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
