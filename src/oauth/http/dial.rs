//! Connects to an endpoint: name resolution, TCP, the tunnel through a proxy, and TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::oauth::http::bounded_stream::BoundedStream;
use crate::oauth::http::egress::EgressPolicy;
use crate::oauth::http::errors::{SendError, host_and_port};

/// Some servers reject requests without a `User-Agent`.
pub(crate) const USER_AGENT: &str = concat!("oauth-operator/", env!("CARGO_PKG_VERSION"));
/// The delay before the next address is also tried (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The maximum number of addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;
/// The maximum size of the response to CONNECT, in bytes.
const MAX_CONNECT_RESPONSE: usize = 8 << 10;

/// A connection to an endpoint or a proxy.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Which proxy requests use.
#[derive(Clone, Debug)]
pub(crate) enum Proxies {
    /// According to `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    System(Arc<Matcher>),
    /// This one, for all endpoints.
    One(Url),
}

/// A proxy, with the value of `Proxy-Authorization`.
pub(crate) struct ProxyServer {
    url: Url,
    pub(crate) authorization: Option<HeaderValue>,
}

/// Opens connections to endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) egress: Arc<EgressPolicy>,
    pub(crate) proxies: Proxies,
    pub(crate) tls: Arc<ClientConfig>,
    /// For https proxies, which must not see the client certificate.
    pub(crate) proxy_tls: Arc<ClientConfig>,
}

impl Proxies {
    /// The proxy for an endpoint.
    ///
    /// # Errors
    ///
    /// When the proxy in the environment cannot be used.
    pub(crate) fn of(&self, url: &Url) -> Result<Option<ProxyServer>, SendError> {
        match self {
            Self::One(proxy) => Ok(Some(ProxyServer { url: proxy.clone(), authorization: None })),
            Self::System(matcher) => {
                let uri = url[..url::Position::BeforePath].parse().map_err(SendError::Uri)?;
                let Some(found) = matcher.intercept(&uri) else { return Ok(None) };
                let proxy = Url::parse(&found.uri().to_string()).ok();
                let proxy = proxy.filter(|proxy| matches!(proxy.scheme(), "http" | "https"));
                let url = proxy.ok_or_else(|| SendError::Proxy("its URL is not an http or https URL".to_owned()))?;
                Ok(Some(ProxyServer { url, authorization: found.basic_auth().cloned() }))
            }
        }
    }
}

impl Dialer {
    /// Connects to the endpoint of `url`, for a response with a body of up to `max_body` bytes.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub(crate) async fn connect(
        &self,
        url: &Url,
        proxy: Option<&ProxyServer>,
        max_body: usize,
    ) -> Result<Box<dyn Stream>, SendError> {
        let Some(proxy) = proxy else {
            let stream = self.connect_tcp(url, max_body).await?;
            return if url.scheme() == "https" { secure(&self.tls, url, stream).await } else { Ok(stream) };
        };
        let in_proxy = |error| SendError::InProxy { proxy: host_and_port(&proxy.url), error: Box::new(error) };
        let mut stream = self.connect_tcp(&proxy.url, max_body).await.map_err(in_proxy)?;
        if proxy.url.scheme() == "https" {
            stream = secure(&self.proxy_tls, &proxy.url, stream).await.map_err(in_proxy)?;
        }
        if url.scheme() != "https" {
            return Ok(stream);
        }
        tunnel(&mut stream, url, proxy.authorization.as_ref()).await.map_err(in_proxy)?;
        secure(&self.tls, url, stream).await
    }

    async fn connect_tcp(&self, url: &Url, max_body: usize) -> Result<Box<dyn Stream>, SendError> {
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = match url.host() {
            // The egress policy has already checked the address as part of the URL, and the administrator chooses the
            // proxy in the environment.
            Some(Host::Ipv4(address)) => vec![SocketAddr::new(address.into(), port)],
            Some(Host::Ipv6(address)) => vec![SocketAddr::new(address.into(), port)],
            Some(Host::Domain(name)) => self.egress.resolve(name, port).await?,
            None => vec![],
        };
        let stream = connect_first(addresses).await.map_err(SendError::Connect)?;
        stream.set_nodelay(true).map_err(SendError::Connect)?;
        Ok(Box::new(BoundedStream::new(stream, max_body)))
    }
}

/// Connects to the first address that accepts a connection. An address that does not respond delays the others only
/// briefly.
async fn connect_first(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter().take(MAX_ADDRESSES);
    let mut attempts = FuturesUnordered::new();
    let mut failed = io::Error::other("the name has no addresses");
    loop {
        let next = addresses.next();
        if next.is_none() && attempts.is_empty() {
            return Err(failed);
        }
        let has_more = next.is_some();
        attempts.extend(next.map(TcpStream::connect));
        tokio::select! {
            Some(attempt) = attempts.next() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if has_more => {}
        }
    }
}

async fn secure(tls: &Arc<ClientConfig>, url: &Url, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, SendError> {
    let name = match url.host() {
        Some(Host::Ipv4(address)) => ServerName::from(IpAddr::from(address)),
        Some(Host::Ipv6(address)) => ServerName::from(IpAddr::from(address)),
        Some(Host::Domain(name)) => {
            ServerName::try_from(name.to_owned()).map_err(|error| SendError::Tls(io::Error::other(error)))?
        }
        None => return Err(SendError::Tls(io::Error::other("the URL has no host"))),
    };
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(SendError::Tls)?;
    Ok(Box::new(stream))
}

/// Opens a tunnel to an endpoint through a proxy (RFC 9110, section 9.3.6).
async fn tunnel(stream: &mut Box<dyn Stream>, url: &Url, authorization: Option<&HeaderValue>) -> Result<(), SendError> {
    let broken = |error: io::Error| SendError::Proxy(error.to_string());
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    let mut request =
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: {USER_AGENT}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend([b"Proxy-Authorization: ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    stream.write_all(&request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut head = Vec::new();
    // Byte by byte: the bytes after the head belong to TLS.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_CONNECT_RESPONSE {
            return Err(SendError::Proxy(format!("its response has more than {MAX_CONNECT_RESPONSE} bytes")));
        }
        head.push(stream.read_u8().await.map_err(broken)?);
    }
    let status = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "));
    match status.and_then(|rest| rest.get(..3)) {
        Some([b'2', _, _]) => Ok(()),
        Some(b"407") => Err(SendError::Proxy("proxy authorization required".to_owned())),
        Some(status) if status.iter().all(u8::is_ascii_digit) => {
            Err(SendError::Proxy(format!("it responded with {}", String::from_utf8_lossy(status))))
        }
        _ => Err(SendError::Proxy("its response is not HTTP/1.1".to_owned())),
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// The request that a proxy with this response receives, and the result.
    async fn tunneled(response: &str) -> (String, Result<(), SendError>) {
        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        theirs.write_all(response.as_bytes()).await.expect("written");
        let mut stream: Box<dyn Stream> = Box::new(ours);
        let url = Url::parse("https://login.example.com/token?a=b").expect("a URL");
        let authorization = HeaderValue::from_static("Basic dTpw");
        let done = tunnel(&mut stream, &url, Some(&authorization)).await;
        drop(stream);
        let mut received = String::new();
        theirs.read_to_string(&mut received).await.expect("read");
        (received, done)
    }

    #[tokio::test]
    async fn a_proxy_receives_only_the_host_and_its_error_is_bounded() {
        let (received, done) = tunneled("HTTP/1.1 200 Connection established\r\n\r\n").await;
        assert!(done.is_ok(), "{done:?}");
        let expected = format!(
            "CONNECT login.example.com:443 HTTP/1.1\r\nHost: login.example.com:443\r\nUser-Agent: {USER_AGENT}\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
        );
        assert_eq!(received, expected);
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_CONNECT_RESPONSE));
        for (response, says) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy authorization required"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "it responded with 503"),
            ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "is not HTTP/1.1"),
            (&long, "more than 8192 bytes"),
        ] {
            let (_, done) = tunneled(response).await;
            let error = done.expect_err(response).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn proxies_and_their_credentials_are_read_from_the_environment() {
        let matcher = Matcher::builder().all("http://user:word@proxy.example.com:3128").no("near.example.com").build();
        let proxies = Proxies::System(Arc::new(matcher));
        let url = |text: &str| Url::parse(text).expect("a URL");
        let proxy = proxies.of(&url("https://far.example.com/token")).expect("usable").expect("a proxy");
        assert_eq!(proxy.url.as_str(), "http://proxy.example.com:3128/");
        assert_eq!(proxy.authorization, Some(HeaderValue::from_static("Basic dXNlcjp3b3Jk")));
        assert!(proxies.of(&url("https://near.example.com/token")).expect("usable").is_none());
        let socks = Proxies::System(Arc::new(Matcher::builder().all("socks5://proxy.example.com").build()));
        assert!(socks.of(&url("https://far.example.com/token")).is_err());
    }
}
