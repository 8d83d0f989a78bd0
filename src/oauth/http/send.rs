//! Sends one request over its own connection, and reads the response.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use url::{Position, Url};
use zeroize::Zeroizing;

use crate::oauth::http::connections::Connection;
use crate::oauth::http::decode::{DecodeError, Decoded, decode};
use crate::oauth::http::dial::{ProxyServer, Stream, USER_AGENT};
use crate::oauth::http::errors::SendError;

/// The maximum size of the head of a response, in bytes. The HTTP library accepts at most 100 headers.
const MAX_HEAD: usize = 64 << 10;

/// A response.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text in UTF-8, or its beginning if there is an error; zeroized on drop.
    pub body: Zeroizing<Vec<u8>>,
    /// Why the rest of the body is missing.
    pub error: Option<DecodeError>,
}

/// How much of a response is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The maximum size of the body, in bytes, also after decompression.
    pub max_body: usize,
    /// Decides by the status whether the body is read.
    pub reads: fn(StatusCode) -> bool,
}

impl Connection {
    /// Sends a request. Redirects are not followed, nothing is retried, and the connection is closed afterwards, or
    /// at once when this future is dropped. `may_send` is asked once there is a connection, because a request without a
    /// body has nothing else that could stop it.
    ///
    /// # Errors
    ///
    /// Why there is no response.
    pub async fn send<B>(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: B,
        may_send: impl Fn() -> bool,
        Reading { max_body, reads }: Reading,
    ) -> Result<Response, SendError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let proxy = self.dialer.proxies.of(url)?;
        let request = request(method, url, headers, body, proxy.as_ref())?;
        let stream = self.dialer.connect(url, proxy.as_ref(), max_body).await?;
        if !may_send() {
            return Err(SendError::DeadlineExceeded);
        }
        exchange(stream, request, max_body, reads).await
    }
}

pub(crate) fn request<B>(
    method: Method,
    url: &Url,
    mut headers: HeaderMap,
    body: B,
    proxy: Option<&ProxyServer>,
) -> Result<Request<B>, SendError> {
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    // Without it, any coding is acceptable (RFC 9110, section 12.5.3). Compressing a short response saves nothing.
    headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
    let host = &url[Position::BeforeHost..Position::AfterPort];
    headers.insert(HOST, HeaderValue::from_str(host).map_err(http::Error::from)?);
    // A proxy receives the whole URL (RFC 9112, section 3.2.2), unless it is used as a tunnel.
    let proxy = proxy.filter(|_| url.scheme() == "http");
    let target = if proxy.is_some() {
        format!("{}{}", &url[..Position::BeforeUsername], &url[Position::BeforeHost..Position::AfterQuery])
    } else {
        url[Position::BeforePath..Position::AfterQuery].to_owned()
    };
    if let Some(value) = proxy.and_then(|proxy| proxy.authorization.clone()) {
        headers.insert(PROXY_AUTHORIZATION, value);
    }
    let mut request = Request::builder().method(method).uri(target).body(body)?;
    *request.headers_mut() = headers;
    Ok(request)
}

async fn exchange<B>(
    stream: Box<dyn Stream>,
    request: Request<B>,
    max_body: usize,
    reads: fn(StatusCode) -> bool,
) -> Result<Response, SendError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    // Driven in this task, so that it ends with the request.
    #[expect(clippy::redundant_async_block, reason = "drops the connection when it is done, which ends the response")]
    let mut driver = pin!(async move { connection.await });
    let mut response = pin!(async move {
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let (body, is_whole) =
            if reads(parts.status) { read(body, max_body).await? } else { (Zeroizing::default(), true) };
        Ok::<_, hyper::Error>((parts, body, is_whole))
    });
    let done = tokio::select! {
        biased;
        done = &mut response => done,
        ended = &mut driver => match (response.await, ended) {
            // The error of the connection is the cause.
            (Err(error), Err(cause)) if error.is_canceled() => Err(cause),
            (done, _) => done,
        },
    };
    let (parts, body, is_whole) = done?;
    let Decoded { text, error } = decode(&parts.headers, body, max_body);
    let error = if is_whole { error } else { Some(DecodeError::TooLarge) };
    Ok(Response { status: parts.status, headers: parts.headers, body: text, error })
}

/// The body up to a bound, and whether it is complete.
async fn read(mut incoming: Incoming, max: usize) -> Result<(Zeroizing<Vec<u8>>, bool), hyper::Error> {
    // Allocated at full size if the length is known, because a reallocation would leave a copy in memory.
    let length = incoming.size_hint().exact().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let mut body = Zeroizing::new(Vec::with_capacity(length.min(max)));
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let Ok(chunk) = frame?.into_data() else { continue };
        let room = max - body.len();
        extend(&mut body, &chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

/// Appends to a body. If it must grow, the old buffer is zeroized.
fn extend(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    let needed = body.len() + chunk.len();
    if needed > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * body.capacity())));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}
