//! Reads what the two ends of a connection authenticate each other with: the authorities that a
//! server's certificate must come from, the client certificate, and the proxy's credentials.
//!
//! Owns the files of a `[server.NAME]` and what is wrong with them. Whether they have changed is
//! seen from a fingerprint of all that was read.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::certificate::Validity;
use super::http_client::ClientError;
use crate::clock::wall_clock;
use crate::settings::{ClientCertificate, KeySource, Server};

/// The longest file that is read, in bytes: some ten times what a whole system trusts.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The client certificate with those behind it, and its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// All of it for one server.
pub(super) struct Materials {
    pub(super) authorities: RootCertStore,
    pub(super) identity: Option<Identity>,
    /// User name and password for the proxy.
    pub(super) proxy: Option<(String, Zeroizing<String>)>,
    /// Equal for equal contents, as long as the process runs.
    pub(super) fingerprint: u64,
    /// What is valid and will fail all the same.
    pub(super) warning: Option<CertificateWarning>,
}

/// A client certificate that no server will accept at this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateWarning {
    /// Its file.
    pub path: PathBuf,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Materials {
    /// Reads the files of `server`. The system's authorities are read if something is encrypted
    /// and no `ca_file` replaces them.
    pub(super) fn read(server: &Server) -> Result<Self, ClientError> {
        let mut hasher = DefaultHasher::new();
        let authorities = match &server.ca_file {
            Some(path) => {
                let pem = read(server, "ca_file", path)?;
                pem.hash(&mut hasher);
                authorities(&pem).ok_or_else(|| ClientError::CaFileInvalid {
                    server: server.name.clone(),
                    path: path.clone(),
                })?
            }
            None if is_encrypted(server) => system_authorities(server, &mut hasher)?,
            // Without TLS nothing needs to be trusted, and a machine without authorities will do.
            None => RootCertStore::empty(),
        };
        let (identity, warning) = match &server.client_certificate {
            Some(files) => {
                let cert = read(server, "client_cert_file", &files.cert_file)?;
                let key = read(server, "client_key_file", &files.key_file)?;
                (&*cert, &*key).hash(&mut hasher);
                let identity = identity(server, files, &cert, &key)?;
                let warning = warning(server, files, &identity);
                (Some(identity), warning)
            }
            None => (None, None),
        };
        let proxy = match &server.proxy_credentials {
            Some(source) => {
                let (user, password) = proxy_credentials(server, source)?;
                (&user, &*password).hash(&mut hasher);
                Some((user, password))
            }
            None => None,
        };
        Ok(Self { authorities, identity, proxy, fingerprint: hasher.finish(), warning })
    }
}

fn is_encrypted(server: &Server) -> bool {
    [Some(&server.url), server.proxy.as_ref()].iter().flatten().any(|url| url.scheme() != "http")
}

fn read(
    server: &Server,
    key: &'static str,
    path: &Path,
) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    let mut content = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut content))
        .and_then(|read| match read as u64 {
            ..=MAX_BYTES => Ok(content),
            _ => Err(io::Error::other("it is longer than 4 MiB")),
        })
        .map_err(|source| ClientError::Unreadable {
            server: server.name.clone(),
            key,
            path: path.to_owned(),
            source,
        })
}

/// The certificates of a PEM file; `None` if there is none, or one that is no authority's.
fn authorities(pem: &[u8]) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    CertificateDer::pem_slice_iter(pem)
        .try_for_each(|certificate| store.add(certificate.ok()?).ok())?;
    (!store.is_empty()).then_some(store)
}

fn system_authorities(
    server: &Server,
    hasher: &mut DefaultHasher,
) -> Result<RootCertStore, ClientError> {
    let found = rustls_native_certs::load_native_certs();
    for certificate in &found.certs {
        certificate.as_ref().hash(hasher);
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        return Err(ClientError::Unusable {
            server: server.name.clone(),
            reason: "the system has no certificate authorities".to_owned(),
        });
    }
    Ok(store)
}

fn identity(
    server: &Server,
    files: &ClientCertificate,
    cert: &[u8],
    key: &[u8],
) -> Result<Identity, ClientError> {
    let invalid = |key, path: &Path, reason| ClientError::Invalid {
        server: server.name.clone(),
        key,
        place: path.display().to_string(),
        reason,
    };
    let chain: Option<Vec<_>> = CertificateDer::pem_slice_iter(cert).map(Result::ok).collect();
    let chain = chain.filter(|chain| !chain.is_empty()).ok_or_else(|| {
        let reason = "it contains no usable certificate: it must contain the client's certificate \
                      in PEM form (BEGIN CERTIFICATE)";
        invalid("client_cert_file", &files.cert_file, reason.to_owned())
    })?;
    if is_encrypted_key(key) {
        let path = files.key_file.display();
        let reason = format!(
            "its private key is encrypted, and a service has nobody to ask for the passphrase: \
             write a decrypted copy with `umask 077; openssl pkey -in {path} -out NEW_FILE`, \
             readable by the service's user alone"
        );
        return Err(invalid("client_key_file", &files.key_file, reason));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        let reason = "it contains no usable private key: it must contain the key of \
                      `client_cert_file` in PEM form (BEGIN PRIVATE KEY)";
        invalid("client_key_file", &files.key_file, reason.to_owned())
    })?;
    Ok((chain, key))
}

/// Whether a PEM file contains a key in one of the two encrypted forms.
fn is_encrypted_key(pem: &[u8]) -> bool {
    let contains = |text: &str| memchr::memmem::find(pem, text.as_bytes()).is_some();
    contains("BEGIN ENCRYPTED PRIVATE KEY") || contains("Proc-Type: 4,ENCRYPTED")
}

/// What makes servers refuse this certificate at this time.
fn warning(
    server: &Server,
    files: &ClientCertificate,
    (chain, _): &Identity,
) -> Option<CertificateWarning> {
    let Validity { not_before, not_after } = Validity::of(chain.first()?)?;
    let now = wall_clock();
    let (name, path) = (&server.name, files.cert_file.clone());
    if now > not_after {
        let message = format!("the client certificate of [server.{name}] expired at {not_after}");
        let remedy = format!(
            "put a new one into `client_cert_file` ({}), and reload; until then the server will \
             refuse the connections",
            path.display()
        );
        return Some(CertificateWarning { path, message, remedy });
    }
    (now < not_before).then(|| CertificateWarning {
        path,
        message: format!(
            "the client certificate of [server.{name}] is not valid until {not_before}"
        ),
        remedy: format!("check this machine's clock, which says {now}"),
    })
}

fn proxy_credentials(
    server: &Server,
    source: &KeySource,
) -> Result<(String, Zeroizing<String>), ClientError> {
    let (key, place, path) = match source {
        KeySource::File(path) => {
            ("proxy_credentials_file", path.display().to_string(), path.clone())
        }
        KeySource::Credential(name) => {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
            let place = format!("credential {name}");
            let path = folder.as_ref().map(|folder: &OsString| Path::new(folder).join(name));
            let path = path.ok_or_else(|| ClientError::Invalid {
                server: server.name.clone(),
                key: "proxy_credential",
                place: place.clone(),
                reason: "$CREDENTIALS_DIRECTORY is not set; give the unit `LoadCredential=` or \
                         `SetCredentialEncrypted=` for this name"
                    .to_owned(),
            })?;
            ("proxy_credential", place, path)
        }
    };
    let content = read(server, key, &path)?;
    let pair = std::str::from_utf8(&content)
        .ok()
        .map(|text| text.trim_end_matches(['\r', '\n']))
        .filter(|text| !text.contains(char::is_control))
        .and_then(|text| text.split_once(':'))
        .filter(|(user, _)| !user.is_empty());
    match pair {
        Some((user, password)) => Ok((user.to_owned(), Zeroizing::new(password.to_owned()))),
        None => Err(ClientError::Invalid {
            server: server.name.clone(),
            key,
            place,
            reason: "it must contain USER:PASSWORD on one line".to_owned(),
        }),
    }
}
