//! Decides whether a request may be sent: the egress policy of the administrator together with the restrictions of
//! the owners of the credentials. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use url::{Position, Url};

use crate::oauth::allowed_endpoints::AllowedEndpoints;
use crate::oauth::credentials::Credentials;
use crate::oauth::http::denied::Denied;
use crate::oauth::http::egress::EgressPolicy;
use crate::oauth::request::TokenRequest;

/// The destination of a request, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The endpoint.
    pub url: &'a Url,
    /// The proxy of the spec.
    pub proxy: Option<&'a Url>,
    /// The additional headers of the spec.
    pub headers: &'a BTreeMap<String, String>,
    /// Those whose values are credentials.
    pub secret_headers: &'a BTreeMap<String, String>,
    /// Whether TLS trusts a custom CA bundle.
    pub has_custom_ca: bool,
    /// Whether the parameters of the request are added to the query.
    pub extends_query: bool,
}

impl<'a> Destination<'a> {
    /// The destination of a request to `url`.
    #[must_use]
    pub fn new(url: &'a Url, request: &'a TokenRequest, credentials: &Credentials) -> Self {
        let has_custom_ca = credentials.ca_bundle.is_some();
        Self {
            url,
            proxy: request.proxy.as_ref(),
            headers: &request.headers,
            secret_headers: &request.headers_from,
            has_custom_ca,
            extends_query: request.sends_query(),
        }
    }
}

/// The restrictions that owners set for their credentials.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restrictions<'a> {
    /// The allowed endpoints of the annotated credentials; all of them must allow a destination.
    pub pins: &'a [AllowedEndpoints],
    /// The credentials without the annotation.
    pub unpinned: &'a [String],
    /// The owner of a token of another integration, if it allows no endpoint.
    pub not_forwarded: Option<&'a str>,
    /// The Secret that contains the CA bundle.
    pub ca_owner: Option<&'a str>,
}

impl<'a> Restrictions<'a> {
    /// The restrictions of the owners of credentials.
    #[must_use]
    pub fn of(credentials: &'a Credentials) -> Self {
        let Credentials { pins, unpinned, not_forwarded, ca_bundle_owner, .. } = credentials;
        Self { pins, unpinned, not_forwarded: not_forwarded.as_deref(), ca_owner: ca_bundle_owner.as_deref() }
    }

    /// Whether credentials may be sent to an authorization server that only the metadata of a protected resource names.
    /// A compromised resource server could name its own, so the owners of all credentials must say where they may be
    /// sent. This does not depend on where the server is: on the host of the resource, a compromised resource server can
    /// also serve what it likes.
    ///
    /// # Errors
    ///
    /// Why it is denied. `server` is shown.
    pub fn authorize_unconfirmed(&self, server: &str, is_endpoint: bool) -> Result<(), Denied> {
        match self.unpinned.first() {
            Some(owner) => Err(Denied::Unconfirmed { owner: owner.clone(), server: server.to_owned(), is_endpoint }),
            None => Ok(()),
        }
    }

    /// Whether there is neither a credentials Secret nor a ServiceAccount.
    const fn is_anonymous(&self) -> bool {
        self.pins.is_empty() && self.unpinned.is_empty() && self.not_forwarded.is_none()
    }
}

impl EgressPolicy {
    /// Whether a request with credentials may be sent.
    ///
    /// # Errors
    ///
    /// Why it is denied.
    pub fn authorize(&self, to: &Destination<'_>, restrictions: &Restrictions<'_>) -> Result<(), Denied> {
        self.authorize_discovery(to, restrictions)?;
        if let Some(owner) = restrictions.not_forwarded {
            let origin = to.url.origin().ascii_serialization();
            return Err(Denied::NotForwarded { owner: owner.to_owned(), origin });
        }
        for pin in restrictions.pins {
            authorize_pinned(pin, to, restrictions.ca_owner)?;
        }
        let is_pinned = self.require_pin || !restrictions.pins.is_empty();
        if is_pinned && to.url.scheme() == "http" && to.proxy.is_some() {
            return Err(Denied::ProxySeesCredentials);
        }
        match restrictions.unpinned.first() {
            Some(owner) if self.require_pin => {
                Err(Denied::Unrestricted { owner: owner.clone(), origin: to.url.origin().ascii_serialization() })
            }
            _ => Ok(()),
        }
    }

    /// Whether an issuer's metadata may be requested. No credentials are sent there. If the integration has none, the
    /// administrator decides instead of the owner of a Secret. The proxy is also checked, because its errors are
    /// reported and reveal which hosts exist.
    ///
    /// # Errors
    ///
    /// Why it is denied.
    pub fn authorize_discovery(&self, to: &Destination<'_>, restrictions: &Restrictions<'_>) -> Result<(), Denied> {
        self.check_url(to.url)?;
        if !restrictions.is_anonymous() {
            return Ok(());
        }
        self.check_anonymous(to.url, false)?;
        to.proxy.map_or(Ok(()), |proxy| self.check_anonymous(proxy, true))
    }
}

/// Whether the owner of a credential allows a destination.
fn authorize_pinned(pin: &AllowedEndpoints, to: &Destination<'_>, ca_owner: Option<&str>) -> Result<(), Denied> {
    let (owner, allowed) = (|| pin.of.clone(), || pin.list());
    // The spec chooses the parameters, so a query that is pinned would not be the one that is sent.
    if !pin.admits(to.url) || (to.extends_query && pin.pins_query(to.url)) {
        // The query matters only if the annotation contains one.
        let end = if allowed().contains('?') { Position::AfterQuery } else { Position::AfterPath };
        let url = to.url[..end].to_owned();
        return Err(Denied::OutsideAllowedEndpoints { owner: owner(), allowed: allowed(), url });
    }
    let plain = to.headers.keys().filter(|name| !pin.admits_header(to.url, name));
    let secret = to.secret_headers.keys().filter(|name| !pin.admits_secret_header(to.url, name));
    if let Some(name) = plain.chain(secret).next() {
        let origin = to.url.origin().ascii_serialization();
        return Err(Denied::Header { owner: owner(), allowed: allowed(), name: name.clone(), origin });
    }
    let is_own_ca = pin.secret.is_some() && pin.secret.as_deref() == ca_owner;
    if to.has_custom_ca && !is_own_ca && !pin.allow_ca_bundle {
        return Err(Denied::ForeignCa { owner: owner() });
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const ENDPOINT: &str = "https://login.example.com/token";

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn pin(endpoints: &str, allow_ca_bundle: bool) -> AllowedEndpoints {
        AllowedEndpoints::parse("Secret it", Some("it"), endpoints, allow_ca_bundle).expect("a pin")
    }

    /// The name of the reason, or `allowed`.
    fn decision(result: Result<(), Denied>) -> String {
        let name = |denied: Denied| format!("{denied:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
        result.map_or_else(name, |()| "allowed".to_owned())
    }

    /// One row of the table. Empty fields are not set; each of `pins` contains the allowed endpoints of one Secret.
    #[derive(Default)]
    #[expect(clippy::struct_excessive_bools, reason = "each is a column of the table")]
    struct Case {
        url: &'static str,
        proxy: &'static str,
        header: &'static str,
        ca_owner: Option<&'static str>,
        pins: &'static [&'static str],
        allow_ca_bundle: bool,
        unpinned: bool,
        require_pin: bool,
        allow_http: bool,
        extends_query: bool,
        not_forwarded: bool,
    }

    impl Case {
        fn decide(&self) -> String {
            let text = |text: &'static str, default| if text.is_empty() { default } else { text };
            let (endpoint, proxy) = (url(text(self.url, ENDPOINT)), url(text(self.proxy, "http://proxy.example.com/")));
            let headers =
                [self.header].into_iter().filter(|name| !name.is_empty()).map(|name| (name.to_owned(), String::new()));
            let pins: Vec<AllowedEndpoints> =
                self.pins.iter().map(|pinned| pin(pinned, self.allow_ca_bundle)).collect();
            let unpinned = if self.unpinned { vec!["Secret other".to_owned()] } else { vec![] };
            let policy = EgressPolicy {
                require_pin: self.require_pin,
                allow_http: self.allow_http,
                anonymous_hosts: vec!["login.example.com".parse().expect("a host")],
                ..EgressPolicy::default()
            };
            let to = Destination {
                url: &endpoint,
                proxy: (!self.proxy.is_empty()).then_some(&proxy),
                headers: &headers.collect(),
                secret_headers: &BTreeMap::new(),
                has_custom_ca: self.ca_owner.is_some(),
                extends_query: self.extends_query,
            };
            let not_forwarded = self.not_forwarded.then_some("Secret other");
            let ca_owner = self.ca_owner;
            decision(policy.authorize(&to, &Restrictions { pins: &pins, unpinned: &unpinned, not_forwarded, ca_owner }))
        }
    }

    #[test]
    fn a_request_is_sent_only_if_the_administrator_and_all_owners_allow_it() {
        const PROXY: &str = "http://proxy.example.com/";
        const PINNED: &[&str] = &[ENDPOINT];
        const HTTP: &str = "http://login.example.com/token";
        let other = Case { url: "https://other.example.com/", ..Case::default() };
        let with_query = "https://login.example.com/token?tenant=1";
        let cases: [(&str, Case, &str); 28] = [
            ("nothing restricts it", Case::default(), "allowed"),
            ("the policy comes first", Case { url: "https://127.0.0.1/", pins: PINNED, ..Case::default() }, "Address"),
            ("no TLS", Case { url: HTTP, ..Case::default() }, "PlainHttp"),
            ("no TLS, but plain HTTP is allowed", Case { url: HTTP, allow_http: true, ..Case::default() }, "allowed"),
            ("an unpinned Secret", Case { unpinned: true, ..Case::default() }, "allowed"),
            ("a required pin", Case { unpinned: true, require_pin: true, ..Case::default() }, "Unrestricted"),
            (
                "one of two is pinned",
                Case { pins: PINNED, unpinned: true, require_pin: true, ..Case::default() },
                "Unrestricted",
            ),
            ("an anonymous request", Case { require_pin: true, ..Case::default() }, "allowed"),
            ("an anonymous request elsewhere", Case { require_pin: true, ..other }, "Anonymous"),
            (
                "an anonymous request through a proxy",
                Case { proxy: PROXY, require_pin: true, ..Case::default() },
                "Anonymous",
            ),
            ("a proxy without pins", Case { proxy: PROXY, ..Case::default() }, "allowed"),
            ("a pinned endpoint", Case { pins: PINNED, require_pin: true, ..Case::default() }, "allowed"),
            (
                "an endpoint outside the pin",
                Case { pins: &["https://other.example.com/"], ..Case::default() },
                "OutsideAllowedEndpoints",
            ),
            (
                "two owners",
                Case { pins: &[ENDPOINT, "https://x.example/"], ..Case::default() },
                "OutsideAllowedEndpoints",
            ),
            ("an empty pin", Case { pins: &[""], ..Case::default() }, "OutsideAllowedEndpoints"),
            ("a header", Case { pins: PINNED, header: "X-Original-URL", ..Case::default() }, "Header"),
            (
                "a token of another integration that its owner does not forward",
                Case { pins: PINNED, not_forwarded: true, ..Case::default() },
                "NotForwarded",
            ),
            ("GET to a pinned path", Case { pins: PINNED, extends_query: true, ..Case::default() }, "allowed"),
            (
                "a pinned query",
                Case { url: with_query, pins: &["https://login.example.com/token?tenant=1"], ..Case::default() },
                "allowed",
            ),
            (
                "GET, which would extend the pinned query",
                Case {
                    url: with_query,
                    pins: &["https://login.example.com/token?tenant=1"],
                    extends_query: true,
                    ..Case::default()
                },
                "OutsideAllowedEndpoints",
            ),
            ("a harmless header", Case { pins: PINNED, header: "Accept", ..Case::default() }, "allowed"),
            ("its own CA", Case { pins: PINNED, ca_owner: Some("it"), ..Case::default() }, "allowed"),
            ("a foreign CA", Case { pins: PINNED, ca_owner: Some("else"), ..Case::default() }, "ForeignCa"),
            (
                "a foreign CA, allowed",
                Case { pins: PINNED, ca_owner: Some("else"), allow_ca_bundle: true, ..Case::default() },
                "allowed",
            ),
            ("a CA without pins", Case { ca_owner: Some("else"), unpinned: true, ..Case::default() }, "allowed"),
            ("https through a proxy", Case { pins: PINNED, proxy: PROXY, ..Case::default() }, "allowed"),
            (
                "http through a proxy",
                Case { url: HTTP, pins: &[HTTP], proxy: PROXY, allow_http: true, ..Case::default() },
                "ProxySeesCredentials",
            ),
            (
                "http through a proxy, unpinned",
                Case { url: HTTP, unpinned: true, proxy: PROXY, allow_http: true, ..Case::default() },
                "allowed",
            ),
        ];
        for (name, case, expected) in cases {
            assert_eq!(case.decide(), expected, "{name}");
        }
    }

    #[test]
    fn metadata_is_requested_without_the_consent_of_owners() {
        let (endpoint, pins, headers) = (url(ENDPOINT), [pin("https://other.example.com/", false)], BTreeMap::new());
        let to = Destination {
            url: &endpoint,
            proxy: None,
            headers: &headers,
            secret_headers: &BTreeMap::new(),
            has_custom_ca: true,
            extends_query: false,
        };
        let restrictions = Restrictions { pins: &pins, ..Restrictions::default() };
        let policy = EgressPolicy { require_pin: true, ..EgressPolicy::default() };
        assert_eq!(decision(policy.authorize_discovery(&to, &restrictions)), "allowed", "no credentials are sent");
        assert_eq!(decision(policy.authorize_discovery(&to, &Restrictions::default())), "Anonymous");
    }
}
