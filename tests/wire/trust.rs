//! Whom the client talks to, and whom it believes.

use std::io::Write;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokenkeep::api::{Client, ClientError};
use tokenkeep::outcome::{Connection, Outcome};
use tokenkeep::settings::Server;
use tokenkeep::simulator::{Behaviour, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::{AMPLE, alive_for_a_minute, client, server, unavailable, value};
use crate::doubles::{RawServer, Script};

/// An address that no host may have: only a proxy can answer for it.
const NOWHERE: &str = "http://192.0.2.1:9";

/// Where the child of `proxy_variables_are_never_used` finds its server.
const CHILDS_SERVER: &str = "WIRE_TEST_URL";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

/// A TLS server with a certificate for `host` that says that every token lives. It runs
/// until the test's runtime ends.
async fn tls_server(authority: &Authority, host: &str) -> (String, JoinHandle<()>) {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new([host.to_owned()])
        .and_then(|params| params.signed_by(&key, authority))
        .expect("a certificate");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a private key"),
        )
        .expect("a TLS configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("bound"));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not believe the certificate goes away; that is its right.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(&alive_for_a_minute()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (url, serving)
}

async fn queried(server: &Server) -> Outcome {
    Client::new(server).expect("a client").query(&value(), AMPLE, Connection::Pooled).await
}

#[tokio::test]
async fn the_authority_in_ca_file_is_trusted() {
    let authority = authority();
    let (url, _serving) = tls_server(&authority, "127.0.0.1").await;
    let ca_file = file(&authority.pem());
    let server = Server { ca_file: Some(ca_file.path().to_owned()), ..server(&url) };
    assert!(matches!(queried(&server).await, Outcome::Alive { .. }));
}

#[tokio::test]
async fn with_a_ca_file_no_other_authority_is_trusted() {
    let (url, _serving) = tls_server(&authority(), "127.0.0.1").await;
    let other = file(&authority().pem());
    let server = Server { ca_file: Some(other.path().to_owned()), ..server(&url) };
    let error = unavailable(queried(&server).await).error;
    assert!(error.contains("certificate") && error.contains("set `ca_file`"), "{error}");
}

#[tokio::test]
async fn without_a_ca_file_a_private_authority_is_not_trusted() {
    let (url, _serving) = tls_server(&authority(), "127.0.0.1").await;
    match Client::new(&server(&url)) {
        Ok(client) => {
            let error = unavailable(client.query(&value(), AMPLE, Connection::Pooled).await).error;
            assert!(error.contains("set `ca_file`"), "{error}");
        }
        // A machine that trusts nobody does not trust this one either.
        Err(fault) => assert!(matches!(fault, ClientError::Unusable { .. }), "{fault}"),
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = authority();
    let (url, _serving) = tls_server(&authority, "elsewhere.example").await;
    let ca_file = file(&authority.pem());
    let server = Server { ca_file: Some(ca_file.path().to_owned()), ..server(&url) };
    let error = unavailable(queried(&server).await);
    assert!(error.error.contains("certificate"), "{error:?}");
    assert_eq!(error.class(), "certificate not accepted");
}

#[tokio::test]
async fn https_to_a_server_that_speaks_http_is_told_as_such() {
    let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    let ca_file = file(&authority().pem());
    let url = simulator.url().replace("http:", "https:");
    let server = Server { ca_file: Some(ca_file.path().to_owned()), ..server(&url) };
    let error = unavailable(queried(&server).await);
    assert!(error.error.contains("https server"), "{error:?}");
    assert_eq!(error.class(), "TLS handshake failed");
}

#[tokio::test]
async fn server_with_an_old_tls_version_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("bound"));
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0; 4096];
            if stream.read(&mut hello).await.is_ok() {
                // A fatal alert: protocol_version.
                let _ = stream.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).await;
            }
        }
    });
    let ca_file = file(&authority().pem());
    let server = Server { ca_file: Some(ca_file.path().to_owned()), ..server(&url) };
    let error = unavailable(queried(&server).await).error;
    assert!(error.contains("must offer TLS 1.2 or 1.3"), "{error}");
    serving.abort();
}

#[test]
fn a_ca_file_that_is_not_there_is_named_with_its_remedy() {
    let ca_file = Some("/nonexistent/ca.pem".into());
    let fault =
        Client::new(&Server { ca_file, ..server("https://127.0.0.1") }).expect_err("no file");
    let told = fault.to_string();
    assert!(told.contains("/nonexistent/ca.pem") && told.contains("[server.sarus]"), "{told}");
}

#[test]
fn a_ca_file_without_a_usable_certificate_is_refused() {
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "not PEM", garbled] {
        let ca_file = file(text);
        let ca_file = Some(ca_file.path().to_owned());
        let fault = Client::new(&Server { ca_file, ..server("https://127.0.0.1") });
        let fault = fault.expect_err("no certificate");
        assert!(matches!(fault, ClientError::CaFileInvalid { .. }), "{text:?}: {fault}");
    }
}

#[tokio::test]
async fn a_configured_proxy_gets_every_request() {
    let proxy = RawServer::start(Script::Say(alive_for_a_minute())).await.expect("a port");
    let url = proxy.url().parse().expect("a URL");
    let server = Server { proxy: Some(url), ..server(NOWHERE) };
    assert!(matches!(queried(&server).await, Outcome::Alive { .. }));
    assert!(proxy.requests()[0].starts_with("GET http://192.0.2.1:9/QuerySessionToken?"));
}

#[test]
fn a_proxy_of_an_unknown_kind_is_refused() {
    let proxy = Some("socks5://127.0.0.1:1080".parse().expect("a URL"));
    let fault = Client::new(&Server { proxy, ..server(NOWHERE) }).expect_err("an unknown scheme");
    assert!(fault.to_string().contains("http://HOST:PORT"), "{fault}");
}

#[tokio::test]
async fn proxy_variables_are_never_used() {
    let proxy = RawServer::start(Script::Say(alive_for_a_minute())).await.expect("a port");
    let target = RawServer::start(Script::Say(alive_for_a_minute())).await.expect("a port");
    let mut child = tokio::process::Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", "trust::queries_with_proxy_variables", "--ignored"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    {
        child.env(name, proxy.url());
    }
    child.env(CHILDS_SERVER, target.url()).env_remove("NO_PROXY").env_remove("no_proxy");
    let output = child.output().await.expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((proxy.connections(), target.connections()), (0, 1));
}

#[tokio::test]
#[ignore = "the child of `proxy_variables_are_never_used`, which sets its environment"]
async fn queries_with_proxy_variables() {
    let url = std::env::var(CHILDS_SERVER).expect("the address of the server");
    assert!(matches!(
        client(&url).query(&value(), AMPLE, Connection::Pooled).await,
        Outcome::Alive { .. }
    ));
}

#[tokio::test]
async fn a_request_names_the_program_and_nothing_that_it_need_not() {
    let raw = RawServer::start(Script::Say(alive_for_a_minute())).await.expect("a port");
    client(&raw.url()).query(&value(), AMPLE, Connection::Pooled).await;
    let request = raw.requests().remove(0).to_lowercase();
    let names: Vec<_> =
        request.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert!(request.contains(concat!("user-agent: tokenkeep/", env!("CARGO_PKG_VERSION"))));
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "cache-control", "host", "user-agent"]);
    assert!(request.contains("accept-encoding: identity"), "{request}");
}
