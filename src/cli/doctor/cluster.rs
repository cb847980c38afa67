//! `[cluster]`: its secrets, then each endpoint of etcd.

use super::diagnosis::Diagnosis;
use super::files;
use crate::cli::cluster::check_secrets;
use crate::settings::Cluster;

/// Reads the secrets as the daemon will.
pub(super) fn check_locally(cluster: &Cluster, diagnosis: &Diagnosis) {
    let findings = check_secrets(cluster);
    findings.errors.into_iter().for_each(|error| diagnosis.error(error));
    findings.warnings.into_iter().for_each(|warning| diagnosis.warning(warning));
    for (kind, text) in findings.unreadable {
        files::unreadable(&kind, text, diagnosis);
    }
}
