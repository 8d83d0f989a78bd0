//! The client authentication methods that metadata lists.

use std::borrow::Cow;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::api::client_authentication::ClientAuthenticationMethod as Method;
use crate::api::reason::Reason;
use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::http::documents::printable;

/// The client authentication methods that a server supports, as far as they are known here.
#[derive(Clone, Debug, Default)]
pub struct AuthMethods(Vec<&'static str>);

/// OpenID Connect Core 1.0, section 9; RFC 8705, section 2.
const KNOWN_METHODS: [&str; 7] = [
    "client_secret_post",
    "client_secret_basic",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "none",
];

impl<'de> Deserialize<'de> for AuthMethods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = AuthMethods;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of client authentication methods")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AuthMethods, A::Error> {
                let mut methods = AuthMethods::default();
                while let Some(name) = list.next_element::<Cow<'de, str>>()? {
                    let known = KNOWN_METHODS.into_iter().find(|known| *known == name);
                    methods.0.extend(known.filter(|known| !methods.0.contains(known)));
                }
                Ok(methods)
            }

            fn visit_unit<E>(self) -> Result<AuthMethods, E> {
                Ok(AuthMethods::default())
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl AuthMethods {
    /// Whether `of`, whose metadata this is, supports a method. A server that lists no methods may support all; a list
    /// is assumed to be complete.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub(crate) fn check(&self, method: Method, of: UrlKind) -> Result<(), RequestError> {
        let wanted = match method {
            // To the server, the token is an assertion signed by another issuer.
            Method::ServiceAccountToken => "private_key_jwt",
            method => method.as_str(),
        };
        // A self-signed certificate is sent in the same way (RFC 8705, section 2.2).
        let is_self_signed = method == Method::TlsClientAuth && self.0.contains(&"self_signed_tls_client_auth");
        if method == Method::None || self.0.contains(&wanted) || is_self_signed {
            return Ok(());
        }
        let message = format!("{of} offers {} and not {wanted}", printable(&self.0.join(", ")));
        Err(RequestError::new(Reason::InvalidSpec, message).with_advice(Advice::ChangeAuthenticationMethod))
    }
}
