//! Reads what both ends of a connection authenticate with: certificate authorities, the client
//! certificate, the proxy's credentials, and the parameters of a profile.
//!
//! Owns the files and credentials of a `[server.NAME]` and their errors. A fingerprint of their
//! content detects changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::certificate::Validity;
use super::client_error::ClientError;
use super::context::Section;
use crate::clock::wall_clock;
use crate::settings::{ClientCertificate, KeySource, Server};
use crate::token_source::{Variables, no_credentials, read_parameter};

/// Maximum size of a file in bytes: about ten times the authorities of a whole system.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The client certificate chain and its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Everything that was read for one server.
pub(super) struct Materials {
    pub(super) authorities: RootCertStore,
    pub(super) identity: Option<Identity>,
    /// User name and password for the proxy.
    pub(super) proxy: Option<(String, Zeroizing<String>)>,
    /// Parameters of the profile's requests, by name.
    pub(super) parameters: BTreeMap<String, SecretString>,
    /// Equal for equal content within this process.
    pub(super) fingerprint: u64,
    /// When the client certificate is valid.
    pub(super) certificate: Option<CertificateDates>,
}

/// When a client certificate is valid, and where it is from.
pub(super) struct CertificateDates {
    source: KeySource,
    path: PathBuf,
    validity: Validity,
}

/// A client certificate that servers will reject at this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateWarning {
    /// Its file.
    pub path: PathBuf,
    /// The problem.
    pub message: String,
    /// The remedy.
    pub remedy: String,
}

impl Materials {
    /// Reads the files of `server`. The system's authorities are read if a connection is encrypted
    /// and no `ca_file` replaces them.
    pub(super) fn read(server: &Server, variables: Variables<'_>) -> Result<Self, ClientError> {
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
            // Without TLS no authority is needed, so a machine without any is fine.
            None => RootCertStore::empty(),
        };
        let (identity, certificate) = match &server.client_certificate {
            Some(sources) => {
                let (cert, path) = read_source(server, CERT_KEYS, &sources.cert, variables)?;
                let (key, _) = read_source(server, KEY_KEYS, &sources.key, variables)?;
                (&*cert, &*key).hash(&mut hasher);
                let identity = identity(server, sources, &cert, &key)?;
                let validity = identity.0.first().and_then(|first| Validity::of(first));
                let source = sources.cert.clone();
                let dates = validity.map(|validity| CertificateDates { source, path, validity });
                (Some(identity), dates)
            }
            None => (None, None),
        };
        let proxy = match &server.proxy_credentials {
            Some(source) => {
                let (user, password) = proxy_credentials(server, source, variables)?;
                (&user, &*password).hash(&mut hasher);
                Some((user, password))
            }
            None => None,
        };
        let parameters = parameters(server, variables)?;
        for (name, value) in &parameters {
            (name, value.expose_secret()).hash(&mut hasher);
        }
        let fingerprint = hasher.finish();
        Ok(Self { authorities, identity, proxy, parameters, fingerprint, certificate })
    }
}

/// The keys of a configuration that name the source of one secret.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    file: &'static str,
    credential: &'static str,
}

/// Those of the client certificate.
pub(super) const CERT_KEYS: Keys =
    Keys { file: "client_cert_file", credential: "client_cert_credential" };
/// Those of its private key.
pub(super) const KEY_KEYS: Keys =
    Keys { file: "client_key_file", credential: "client_key_credential" };
const PROXY_KEYS: Keys = Keys { file: "proxy_credentials_file", credential: "proxy_credential" };

impl Keys {
    /// The one of them that names this source.
    pub(super) const fn of(self, source: &KeySource) -> &'static str {
        match source {
            KeySource::File(_) => self.file,
            KeySource::Credential(_) => self.credential,
        }
    }

    /// The error of this source, with problem and remedy.
    pub(super) fn invalid(
        self,
        server: &Server,
        source: &KeySource,
        reason: impl Into<String>,
    ) -> ClientError {
        let (key, place, reason) = (self.of(source), place(source), reason.into());
        ClientError::Invalid { server: server.name.clone(), key, place, reason }
    }
}

/// A source, for messages.
pub(super) fn place(source: &KeySource) -> String {
    match source {
        KeySource::File(path) => path.display().to_string(),
        KeySource::Credential(name) => format!("credential {name}"),
    }
}

/// What a file or credential contains, and its path.
fn read_source(
    server: &Server,
    keys: Keys,
    source: &KeySource,
    variables: Variables<'_>,
) -> Result<(Zeroizing<Vec<u8>>, PathBuf), ClientError> {
    let key = keys.of(source);
    let path = match source {
        KeySource::File(path) => path.clone(),
        KeySource::Credential(name) => {
            let folder = variables("CREDENTIALS_DIRECTORY");
            let folder = folder.ok_or_else(|| keys.invalid(server, source, no_credentials()))?;
            Path::new(&folder).join(name)
        }
    };
    Ok((read(server, key, &path)?, path))
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

/// The certificates of a PEM file; `None` if there is none, or one that is not an authority's.
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
        let reason = "the system has no certificate authorities";
        return Err(ClientError::unusable(&server.name, reason));
    }
    Ok(store)
}

fn identity(
    server: &Server,
    sources: &ClientCertificate,
    cert: &[u8],
    key: &[u8],
) -> Result<Identity, ClientError> {
    let chain: Option<Vec<_>> = CertificateDer::pem_slice_iter(cert).map(Result::ok).collect();
    let chain = chain.filter(|chain| !chain.is_empty()).ok_or_else(|| {
        let reason = "it contains no usable certificate: it must contain the client's certificate \
                      in PEM form (BEGIN CERTIFICATE)";
        CERT_KEYS.invalid(server, &sources.cert, reason)
    })?;
    if is_encrypted_key(key) {
        let file = match &sources.key {
            KeySource::File(path) => path.display().to_string(),
            KeySource::Credential(_) => "FILE".to_owned(),
        };
        let reason = format!(
            "its private key is encrypted, and a service cannot ask for the passphrase: write a decrypted copy with `umask 077; openssl pkey -in {file} -out NEW_FILE`, \
             readable by the service's user alone"
        );
        return Err(KEY_KEYS.invalid(server, &sources.key, reason));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        let cert = CERT_KEYS.of(&sources.cert);
        let reason = format!(
            "it contains no usable private key: it must contain the key of `{cert}` in PEM form \
             (BEGIN PRIVATE KEY)"
        );
        KEY_KEYS.invalid(server, &sources.key, reason)
    })?;
    Ok((chain, key))
}

/// Whether a PEM file contains a key in one of the two encrypted forms.
fn is_encrypted_key(pem: &[u8]) -> bool {
    let contains = |text: &str| memchr::memmem::find(pem, text.as_bytes()).is_some();
    contains("BEGIN ENCRYPTED PRIVATE KEY") || contains("Proc-Type: 4,ENCRYPTED")
}

impl CertificateDates {
    /// Why servers reject the certificate at this time.
    pub(super) fn warning(&self, section: Section<'_>) -> Option<CertificateWarning> {
        let Validity { not_before, not_after } = self.validity;
        let (now, path) = (wall_clock(), self.path.clone());
        if now > not_after {
            let message = format!("the client certificate of {section} expired at {not_after}");
            // systemd replaces the credentials of a service when it starts.
            let then = match &self.source {
                KeySource::File(_) => "reload",
                KeySource::Credential(_) => "restart",
            };
            let remedy = format!(
                "put a new one into `{}` ({}), and {then}; until then the server will refuse the \
                 connections",
                CERT_KEYS.of(&self.source),
                place(&self.source)
            );
            return Some(CertificateWarning { path, message, remedy });
        }
        (now < not_before).then(|| CertificateWarning {
            path,
            message: format!("the client certificate of {section} is not valid until {not_before}"),
            remedy: format!("check this machine's clock, which says {now}"),
        })
    }
}

/// The parameters of the profile's calls. Those of `login` alone may be unreadable: each attempt
/// reads them again, and the other calls do not need them.
fn parameters(
    server: &Server,
    variables: Variables<'_>,
) -> Result<BTreeMap<String, SecretString>, ClientError> {
    let calls = server.profile.iter().flat_map(|profile| profile.calls());
    let calls = calls.filter(|(name, _)| *name != "login");
    let needed: BTreeSet<_> = calls.flat_map(|(_, call)| call.parameters()).collect();
    let read = server.with.iter().filter_map(|(name, parameter)| {
        let source = match read_parameter(parameter, variables) {
            Ok(found) => return Some(Ok((name.clone(), found.value))),
            Err(_) if !needed.contains(name.as_str()) => return None,
            Err(source) => source.into(),
        };
        let (server, name) = (server.name.clone(), name.clone());
        Some(Err(ClientError::Parameter { server, name, source }))
    });
    read.collect()
}

fn proxy_credentials(
    server: &Server,
    source: &KeySource,
    variables: Variables<'_>,
) -> Result<(String, Zeroizing<String>), ClientError> {
    let (content, _) = read_source(server, PROXY_KEYS, source, variables)?;
    let pair = std::str::from_utf8(&content)
        .ok()
        .map(|text| text.trim_end_matches(['\r', '\n']))
        .filter(|text| !text.contains(char::is_control))
        .and_then(|text| text.split_once(':'))
        .filter(|(user, _)| !user.is_empty());
    let (user, password) = pair.ok_or_else(|| {
        PROXY_KEYS.invalid(server, source, "it must contain USER:PASSWORD on one line")
    })?;
    Ok((user.to_owned(), Zeroizing::new(password.to_owned())))
}
