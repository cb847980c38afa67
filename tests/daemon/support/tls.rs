//! Certificates, a TLS server that can be given another configuration, and a proxy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::io::{BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The authority's own certificate and key.
    pub(crate) fn pair(&self) -> Pair {
        Pair { cert: self.0.pem(), key: self.0.key().serialize_pem() }
    }

    /// A certificate for `127.0.0.1`.
    pub(crate) fn issue(&self) -> Pair {
        self.issue_with(&["127.0.0.1"], |_| {})
    }

    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Pair { cert, key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        roots
    }
}

/// The two versions of TLS.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A configuration that presents `pair`, and demands a client certificate from `clients`.
pub(crate) fn server_config(
    version: &'static SupportedProtocolVersion,
    pair: &Pair,
    clients: Option<&Authority>,
) -> ServerConfig {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let builder = ServerConfig::builder_with_protocol_versions(&[version]);
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder(Arc::new(authority.roots())).build().expect("a verifier"),
        ),
    };
    builder.with_single_cert(chain, key).expect("a configuration")
}

/// A TLS server that says that every token lives for a minute, one response a connection.
pub(crate) struct TlsServer {
    url: String,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    accepting: JoinHandle<()>,
}

impl TlsServer {
    pub(crate) async fn start(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("bound"));
        let config = Arc::new(Mutex::new(Arc::new(config)));
        let current = Arc::clone(&config);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let config = Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner));
                tokio::spawn(async move {
                    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
                    let mut stream = BufReader::new(stream);
                    if head(&mut stream).await.is_some() {
                        // The client may have gone away.
                        let _ = stream.write_all(ALIVE).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        Self { url, config, accepting }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Another configuration for the connections from now on.
    pub(crate) fn configure(&self, config: ServerConfig) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

const ALIVE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\nConnection: close\r\n\r\n{\"Result\":{\"Remaining\":60000}}";

/// A request line and the headers after it, their names in lower case.
async fn head(
    stream: &mut BufReader<impl AsyncRead + Unpin>,
) -> Option<(String, HashMap<String, String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut lines = lines.into_iter();
    let first = lines.next()?;
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    });
    Some((first, headers.collect()))
}

/// A proxy that demands credentials, and passes on plain requests and tunnels.
pub(crate) struct Proxy {
    url: String,
    policy: Arc<Mutex<Policy>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Policy {
    /// `user:password`.
    credentials: String,
    /// What each authorized request gets instead of a connection.
    status: Option<u16>,
    served: usize,
}

impl Proxy {
    pub(crate) async fn start(credentials: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let policy = Policy { credentials: credentials.to_owned(), ..Policy::default() };
        let policy = Arc::new(Mutex::new(policy));
        let current = Arc::clone(&policy);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let policy = Arc::clone(&current);
                tokio::spawn(async move { pass_on(stream, &policy).await });
            }
        });
        Self { url, policy, accepting }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Refuses each request with this status from now on.
    pub(crate) fn refuse(&self, status: Option<u16>) {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).status = status;
    }

    /// How many requests and tunnels it has passed on.
    pub(crate) fn served(&self) -> usize {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).served
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(stream: TcpStream, policy: &Mutex<Policy>) -> Option<()> {
    let mut client = BufReader::new(stream);
    let (line, headers) = head(&mut client).await?;
    let refusal = {
        let mut policy = policy.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = format!("Basic {}", STANDARD.encode(&policy.credentials));
        let refusal = if headers.get("proxy-authorization") == Some(&wanted) {
            policy.status
        } else {
            Some(407)
        };
        policy.served += usize::from(refusal.is_none());
        refusal
    };
    if let Some(status) = refusal {
        let response =
            format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return client.write_all(response.as_bytes()).await.ok();
    }
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    if method == "CONNECT" {
        let mut server = TcpStream::connect(target).await.ok()?;
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.ok()?;
        copy_bidirectional(&mut client, &mut server).await.ok()?;
        return Some(());
    }
    let target: url::Url = target.parse().ok()?;
    let address = format!("{}:{}", target.host_str()?, target.port_or_known_default()?);
    let mut server = TcpStream::connect(&address).await.ok()?;
    let path = &target[url::Position::BeforePath..];
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    server.write_all(request.as_bytes()).await.ok()?;
    let mut response = Vec::new();
    server.read_to_end(&mut response).await.ok()?;
    client.write_all(&response).await.ok()
}
