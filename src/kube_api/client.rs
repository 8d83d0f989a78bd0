//! The client for the API server: every response passes through the [filter](super::filter) before it is parsed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::response::Parts;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use kube::client::Body;
use kube::{Client, Config};

use crate::kube_api::calls::{ApiCalls, PendingCall};
use crate::kube_api::filter::Filter;
use crate::kube_api::filter::types::{Framing, NotJson};
use crate::kube_api::pages::{MAX_PAGE_COST, Pages};
use crate::kube_api::rules::{Call, Reading};
use crate::kube_api::{error_response, pages};

/// Requests metadata only.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Why a response is rejected.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    NotJson(#[from] NotJson),
    #[error("the API server's response is compressed, which was not requested")]
    Compressed,
    #[error("a single object is too large to be read")]
    TooLarge,
}

/// A client whose responses are filtered.
///
/// # Errors
///
/// If the configuration is invalid, for example if a certificate cannot be read.
pub fn connect(config: Config, calls: &ApiCalls) -> Result<Client, kube::Error> {
    let namespace = config.default_namespace.clone();
    let unfiltered = Client::try_from(config)?;
    let (pages, calls) = (Arc::new(Pages::default()), calls.clone());
    let service =
        tower::service_fn(move |request| counted(calls.clone(), unfiltered.clone(), Arc::clone(&pages), request));
    Ok(Client::new(service, namespace))
}

/// A call, which is counted with the status code of its response. A list that is requested in several attempts counts once.
async fn counted(
    calls: ApiCalls,
    client: Client,
    pages: Arc<Pages>,
    request: Request<Body>,
) -> Result<Response<Filtered>, kube::Error> {
    let mut pending = PendingCall::begin(&calls, &request);
    let result = call(client, pages, request).await;
    if let Ok(response) = &result {
        pending.complete(response.status().as_u16());
    }
    result
}

async fn call(client: Client, pages: Arc<Pages>, request: Request<Body>) -> Result<Response<Filtered>, kube::Error> {
    let reading = Reading::of(&request);
    let (mut head, body) = request.into_parts();
    head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if reading.metadata_only {
        head.headers.insert(ACCEPT, HeaderValue::from_static(METADATA_ONLY));
    }
    if reading.call == Call::List {
        return list(&client, &pages, reading, head).await;
    }
    let response = client.send(Request::from_parts(head, body)).await?;
    let (parts, body) = match classify(response).await? {
        Classified::Failed(response) => return Ok(response),
        Classified::Succeeded(parts, body) => (parts, body),
    };
    if reading.call == Call::Watch {
        let filter = Box::new(Filter::new(reading.rules, Framing::Events));
        return Ok(Response::from_parts(parts, Filtered::Events { body, filter }));
    }
    match collect(body, Filter::new(reading.rules, Framing::One), MAX_PAGE_COST).await? {
        Some((text, read)) if !(reading.whole && read.is_partial) => {
            Ok(Response::from_parts(parts, Filtered::whole(text)))
        }
        _ => Err(unreadable(Unreadable::TooLarge)),
    }
}

/// Requests a page with decreasing limits until its cost is within the bound.
async fn list(
    client: &Client,
    pages: &Pages,
    reading: Reading,
    head: http::request::Parts,
) -> Result<Response<Filtered>, kube::Error> {
    let list = pages::list_of(&head.uri);
    loop {
        let mut head = head.clone();
        let paged = pages::with_limit(&head.uri, pages.limit(&list));
        let can_shrink = paged.is_some();
        head.uri = paged.unwrap_or(head.uri);
        let response = client.send(Request::from_parts(head, Body::empty())).await?;
        let (parts, body) = match classify(response).await? {
            Classified::Failed(response) => return Ok(response),
            Classified::Succeeded(parts, body) => (parts, body),
        };
        match collect(body, Filter::new(reading.rules, Framing::One), MAX_PAGE_COST).await? {
            Some((text, read)) => {
                pages.read(&list, read.cost, read.text);
                return Ok(Response::from_parts(parts, Filtered::whole(text)));
            }
            None if can_shrink && pages.too_heavy(&list) => {}
            None => return Err(unreadable(Unreadable::TooLarge)),
        }
    }
}

enum Classified {
    Failed(Response<Filtered>),
    Succeeded(Parts, Body),
}

async fn classify(response: Response<Body>) -> Result<Classified, kube::Error> {
    let (mut parts, body) = response.into_parts();
    if parts.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(unreadable(Unreadable::Compressed));
    }
    if parts.status.is_client_error() || parts.status.is_server_error() {
        let text = read_failure(body).await?;
        let body = error_response::body(&parts, text.as_deref());
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Ok(Classified::Failed(Response::from_parts(parts, Filtered::whole(body))));
    }
    Ok(Classified::Succeeded(parts, body))
}

/// The body of an error response; `None` if it is too large.
async fn read_failure(mut body: Body) -> Result<Option<Vec<u8>>, kube::Error> {
    let mut text = Vec::new();
    while let Some(part) = next(&mut body).await? {
        if text.len() + part.len() > error_response::MAX_BODY {
            return Ok(None);
        }
        text.extend_from_slice(&part);
    }
    Ok(Some(text))
}

/// The size of a response.
struct Read {
    cost: usize,
    text: usize,
    is_partial: bool,
}

/// Reads a response through a filter; `None` if the result costs more than `max`.
async fn collect(mut body: Body, mut filter: Filter, max: usize) -> Result<Option<(Vec<u8>, Read)>, kube::Error> {
    let mut text = 0_usize;
    while let Some(part) = next(&mut body).await? {
        text = text.saturating_add(part.len());
        filter.push(&part).map_err(unreadable)?;
        if filter.cost() > max {
            return Ok(None);
        }
    }
    filter.finish().map_err(unreadable)?;
    let (cost, is_partial) = (filter.cost(), filter.is_partial());
    Ok(Some((filter.take(), Read { cost, text, is_partial })))
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, kube::Error> {
    loop {
        match std::future::poll_fn(|task| Pin::new(&mut *body).poll_frame(task)).await {
            None => return Ok(None),
            // Other frames are trailers, which are not used.
            Some(frame) => {
                if let Ok(data) = frame?.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Whether a call failed because the object exceeds the maximum size.
#[must_use]
pub fn is_too_large(error: &kube::Error) -> bool {
    let kube::Error::Service(error) = error else { return false };
    matches!(error.downcast_ref::<kube::Error>(), Some(error) if is_too_large(error))
        || matches!(error.downcast_ref(), Some(Unreadable::TooLarge))
}

fn unreadable(error: impl Into<Unreadable>) -> kube::Error {
    kube::Error::Service(Box::new(error.into()))
}

/// The body of a response, filtered.
enum Filtered {
    /// A response that was read completely.
    Whole(Option<Bytes>),
    /// Events, one by one.
    Events { body: Body, filter: Box<Filter> },
}

impl Filtered {
    fn whole(text: Vec<u8>) -> Self {
        Self::Whole((!text.is_empty()).then(|| text.into()))
    }
}

impl http_body::Body for Filtered {
    type Data = Bytes;
    type Error = kube::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let (body, filter) = match &mut *self {
            Self::Whole(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Events { body, filter } => (body, filter),
        };
        loop {
            let data = match std::task::ready!(Pin::new(&mut *body).poll_frame(task)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            if let Err(error) = filter.push(&data) {
                return Poll::Ready(Some(Err(unreadable(error))));
            }
            let events = filter.take();
            if !events.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(events.into()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use kube::Api;
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::http::trust_stores::MAX_BUNDLE_BYTES;

    /// A client of an API server that returns this object for every request.
    fn client(object: &Value) -> Client {
        let text = object.to_string();
        let server = tower::service_fn(move |_: Request<Body>| {
            let body = Body::from(text.clone().into_bytes());
            async move { Ok::<_, kube::Error>(Response::new(body)) }
        });
        let (unfiltered, pages) = (Client::new(server, "ns"), Arc::new(Pages::default()));
        Client::new(tower::service_fn(move |request| call(unfiltered.clone(), Arc::clone(&pages), request)), "ns")
    }

    #[tokio::test]
    async fn a_secret_is_never_read_partially() {
        let value = STANDARD.encode("x".repeat(300 << 10));
        let target = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "it"},
            "data": {"a": value, "b": value, "c": value, "refreshToken": "eA=="}});
        let secrets = Api::<Secret>::default_namespaced(client(&target));
        let error = secrets.get("it").await.expect_err("too large");
        assert!(is_too_large(&error), "{error:?}");
        assert!(!is_too_large(&kube::Error::LinesCodecMaxLineLengthExceeded));
        // The response to a write may be partial: the write itself was complete.
        let written = secrets.create(&kube::api::PostParams::default(), &Secret::default()).await;
        assert!(written.is_ok());
    }

    #[tokio::test]
    async fn a_bundle_of_the_maximum_size_can_be_read() {
        let line = "x".repeat(64) + "\n";
        let pem = line.repeat(MAX_BUNDLE_BYTES / line.len());
        let secret = json!({"metadata": {"name": "it"}, "data": {"ca.crt": STANDARD.encode(&pem)}});
        let secret = Api::<Secret>::default_namespaced(client(&secret)).get("it").await.expect("a Secret");
        assert_eq!(secret.data.expect("data")["ca.crt"].0, pem.as_bytes());
        let config_map = json!({"metadata": {"name": "it"}, "data": {"ca.crt": pem}});
        let config_map =
            Api::<ConfigMap>::default_namespaced(client(&config_map)).get("it").await.expect("a ConfigMap");
        assert_eq!(config_map.data.expect("data")["ca.crt"], pem);
    }
}
