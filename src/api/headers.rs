//! Names of HTTP headers that a spec must not set.

/// The names, as alternatives of a regular expression; `.*` matches any suffix. Defined once, so that the CEL rule of
/// the CRD and the check in the operator cannot differ.
///
/// First the headers that the request itself needs, then hop-by-hop headers (RFC
/// 9110, section 7.6.1), then headers that make a gateway assume another path, method, host or client than that of
/// the request. This last list can never be complete, since each gateway has its own names: if the allowed endpoint
/// includes a path, only a few headers are sent at all (`oauth::allowed_endpoints`).
macro_rules! reserved {
    () => {
        concat!(
            "host|content-.*|transfer-encoding|dpop|",
            "connection|keep-alive|proxy.*|te|trailer|upgrade|http2-settings|expect|max-forwards|alt-used|via|",
            "forwarded|x-forward.*|x-original.*|x-rewrite.*|x-override.*|x-http-.*|x-method.*|x-real-.*|",
            "x-client-cert.*|x-client-ip.*|x-client-verif.*|x-client-dn.*|x-client-ssl.*|x-client-tls.*|x-client-s-dn|x-client-i-dn|",
            "client-cert.*|client-ip.*|client-verif.*|client-dn.*|",
            "true-client-.*|x-cluster-.*|x-proxy.*|x-host|x-scheme|x-url.*|x-uri.*|x-request-ur.*|request-ur.*|x-path.*|base-url|",
            "x-base-url|destination|front-end-https|x-ssl.*|ssl.*|x-tls.*|x-mtls.*|x-cert.*|x-verify.*|x-arr-.*|x-amzn-.*|x-azure-.*|",
            "x-ms-client-.*|x-goog-.*|cf-.*|cloudfront-.*|fastly-.*|x-envoy-.*|x-istio-.*|x-kong-.*|x-consumer-.*|x-credential-.*|",
            "x-auth-request-.*|x-auth-user.*|x-auth-email.*|x-auth-group.*|x-auth-role.*|x-auth-subject.*|x-auth-cert.*|x-authenticated-.*|x-remote-.*|remote-.*|x-webauth-.*|impersonate-.*|x-accel-.*|x-sendfile.*|x-middleware-.*|",
            "x-backend-.*|sec-.*"
        )
    };
}

/// The names of headers that servers and gateways write to their logs or repeat in responses, in the same form: no place for
/// a secret.
macro_rules! logged {
    () => {
        "accept.*|user-agent|referer|origin|prefer|cache-control|pragma|date|from|server-timing|traceparent|tracestate|.*-id|x-b3-.*|api-version|x-api-version|x-github-api-version"
    };
}

/// The names of headers that carry credentials, in the same form. The operator itself rejects only the first two: objects
/// that are older than the rule may contain the others.
macro_rules! secret {
    () => {
        "authorization|cookie.*|x-api-key|x-api-token|x-apikey|api-key|apikey|x-access-token|x-auth-token|x-auth-key|x-auth-secret|x-vault-token|private-token|x-gitlab-token|x-functions-key|x-shopify-access-token|x-rapidapi-key|x-client-secret|ocp-apim-subscription-key|x-amz-security-token"
    };
}

/// The CEL rule for `request.headers`.
pub(crate) const RULE: &str =
    concat!("self.all(name, !name.lowerAscii().matches('^(", secret!(), "|", reserved!(), ")$'))");
/// The CEL rule for `request.headersFrom`.
pub(crate) const SECRET_RULE: &str =
    concat!("self.all(name, !name.lowerAscii().matches('^(", logged!(), "|", reserved!(), ")$'))");
/// The message of that rule.
pub(crate) const SECRET_MESSAGE: &str = "request.headersFrom must not set headers that the request sets itself, headers that servers log or repeat, such as User-Agent or X-Request-Id, or headers that make a gateway assume another path, method, host or client, such as X-Original-URL, X-HTTP-Method-Override, X-Forwarded-For or X-SSL-Client-Cert";
/// The message of the rule for `request.headers`.
pub(crate) const MESSAGE: &str = "request.headers must not set headers that carry credentials, such as Authorization or X-Api-Key (store the value in the credentials Secret, and use request.headersFrom), headers that the request sets itself (the content type follows request.format), or headers that make a gateway assume another path, method, host or client, such as X-Original-URL, X-HTTP-Method-Override, X-Forwarded-For or X-SSL-Client-Cert";

/// Whether a spec is forbidden to set this header with a value of its own.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    matches(name, reserved!()) || matches(name, "authorization|cookie.*")
}

/// Whether a header usually carries a credential. The API server rejects it in `request.headers`, but objects that are
/// older than the rule may contain it.
#[must_use]
pub fn carries_credential(name: &str) -> bool {
    matches(name, secret!())
}

/// Whether a spec is forbidden to set this header, also with a value of the credentials Secret.
#[must_use]
pub fn is_reserved_for_secrets(name: &str) -> bool {
    matches(name, reserved!()) || matches(name, logged!())
}

fn matches(name: &str, alternatives: &str) -> bool {
    let name = name.to_ascii_lowercase();
    alternatives.split('|').any(|reserved| match (reserved.strip_suffix(".*"), reserved.strip_prefix(".*")) {
        (Some(prefix), _) => name.starts_with(prefix),
        (None, Some(suffix)) => name.ends_with(suffix),
        (None, None) => name == reserved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_that_gateways_act_on_are_reserved() {
        for name in [
            "Authorization",
            "Cookie",
            "Cookie2",
            "HOST",
            "Content-Type",
            "Content-Length",
            "Transfer-Encoding",
            "DPoP",
            "Connection",
            "Upgrade",
            "TE",
            "Via",
            "Proxy-Authorization",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Prefix",
            "X-Original-URL",
            "X-Original-URI",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "X-HTTP-Method",
            "X-Method-Override",
            "X-Real-IP",
            "X-Client-IP",
            "True-Client-IP",
            "X-SSL-Client-Cert",
            "X-SSL-Client-Verify",
            "SSL-Client-Cert",
            "X-Client-Cert",
            "X-Client-Cert-DN",
            "Client-Cert",
            "Client-Cert-Chain",
            "X-Forwarded-Client-Cert",
            "X-ARR-ClientCert",
            "X-Amzn-Mtls-Clientcert",
            "X-Remote-User",
            "Impersonate-User",
            "X-MS-CLIENT-PRINCIPAL",
            "CF-Connecting-IP",
            "X-Envoy-Original-Path",
            "X-Host",
            "X-Middleware-Subrequest",
            "X-Client-Verify",
            "X-Client-S-DN",
            "Client-IP",
            "X-Auth-Request-User",
            "X-Auth-Request-Email",
            "X-Auth-Username",
            "X-Auth-Roles",
            "X-Authenticated-UserId",
            "Remote-User",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in [
            "Accept",
            "User-Agent",
            "X-Tenant",
            "X-GitHub-Api-Version",
            "X-Api-Key",
            "Ocp-Apim-Subscription-Key",
            "Prefer",
            "X-Request-ID",
            // Some vendors require these.
            "Client-Id",
            "X-Client-Id",
            "X-Client-Version",
            "X-Auth-Key",
            "X-Auth-Token",
            "Origin",
            "Referer",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
