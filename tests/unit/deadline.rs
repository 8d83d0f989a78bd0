//! Guarantee: a request whose deadline has passed while the connection was opened is not sent, whether or not it has a
//! body. Another replica may have sent the same refresh token in the meantime.

use std::sync::Arc;

use http::{HeaderMap, Method};
use oauth_operator::oauth::credentials::Credentials;
use oauth_operator::oauth::http::connections::{HttpClients, Settings};
use oauth_operator::oauth::http::egress::EgressPolicy;
use oauth_operator::oauth::http::send::Reading;
use serde_json::json;
use test_support::endpoint::{Endpoint, Reply};
use test_support::spec::validated;

#[tokio::test]
async fn a_request_is_not_sent_after_its_deadline() {
    let endpoint = Endpoint::start(|_| Reply::token(60));
    let allow = vec!["127.0.0.0/8".parse().expect("a network")];
    let egress = EgressPolicy { allow_http: true, allow, ..EgressPolicy::default() };
    let clients = HttpClients::new(Arc::new(egress)).expect("clients");
    let (request, credentials) = (validated(json!({})).token_request, Credentials::default());
    let settings = Settings::anonymous(&request, &credentials);
    let connection = clients.connection(&settings, "tenant").await.expect("a connection");
    let url = endpoint.url().parse().expect("a URL");
    let reading = Reading { max_body: 1 << 10, reads: |_| true };
    let send = async |method: Method, in_time: bool| {
        let body = if method == Method::GET { String::new() } else { "{}".to_owned() };
        connection.send(method, &url, HeaderMap::new(), body, move || in_time, reading).await
    };
    for method in [Method::GET, Method::POST] {
        let late = send(method.clone(), false).await.expect_err("it is late");
        assert_eq!(late.to_string(), "the deadline of the request passed before it was sent", "{method}");
        assert_eq!(endpoint.count(), 0, "{method}");
    }
    send(Method::GET, true).await.expect("a response");
    assert_eq!(endpoint.count(), 1);
}
