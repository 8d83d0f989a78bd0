//! The values of a request that must not be shown when the response repeats them. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::HashSet;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::oauth::body::Parameter;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::parameters::{RequestKind, RequestParts};
use crate::oauth::request::TokenRequest;

/// The secrets that were sent or used to sign, which must not be shown when the response repeats them. Values of
/// the spec are not secret: users who can read the status can also read the spec.
pub(crate) fn values_to_redact(
    request: &TokenRequest,
    credentials: &Credentials,
    kind: &RequestKind<'_>,
    parts: &RequestParts,
    dpop_proof: Option<&SecretString>,
) -> Vec<Parameter> {
    // Under a custom key, even a client ID may be a secret that the author of the spec must not see.
    let name = |credential: Credential| {
        if credentials.from_custom_keys.contains(&credential) { "value" } else { credential.key() }
    };
    let mut sent: Vec<Parameter> =
        credentials.iter().map(|(credential, value)| (name(credential).to_owned(), value.clone())).collect();
    // For an expression, all values of the Secret are read, but not all are sent.
    let named: Vec<&String> = request.parameters_from.values().chain(request.headers_from.values()).collect();
    let others = credentials.others.iter().filter(|(key, _)| named.contains(key));
    sent.extend(others.flat_map(|(_, value)| sensitive_parts(value.expose_secret())));
    sent.extend(parts.authorization.iter().map(|header| ("authorization".to_owned(), header.secret().clone())));
    sent.extend(dpop_proof.iter().map(|proof| ("dpop".to_owned(), (*proof).clone())));
    // The other values are assertions signed here, tokens requested for this request, or values of the spec. The
    // spec chooses their names, so the names do not show what the values are.
    let in_spec = in_spec(request, kind);
    let is_known = |value: &SecretString| sent.iter().any(|(_, known)| known.expose_secret() == value.expose_secret());
    let others = parts.parameters.iter().filter(|(_, value)| {
        let text = value.expose_secret();
        !in_spec.contains(text) && !text.starts_with("urn:ietf:params:oauth:") && !is_known(value)
    });
    let others: Vec<Parameter> = others
        .map(|(name, value)| {
            let name = if request.parameter_names.values().any(|other| other == name) { "value" } else { name };
            (name.to_owned(), value.clone())
        })
        .collect();
    sent.extend(others);
    sent
}

/// The values of the body that the spec itself contains.
fn in_spec<'a>(request: &'a TokenRequest, kind: &RequestKind<'a>) -> HashSet<&'a str> {
    let TokenRequest { resource, scope, parameters, grant, .. } = request;
    let resources = resource.iter().flat_map(|(_, values)| values);
    let scopes = scope.iter().flat_map(|scope| scope.split_whitespace().chain([scope.as_str()]));
    let mut values: HashSet<&str> = parameters.values().chain(resources).map(String::as_str).chain(scopes).collect();
    values.insert(grant.kind().parameter());
    if let RequestKind::Revocation(revocation) = kind {
        values.insert(revocation.hint);
    }
    values
}

/// A value of the Secret that is sent under a name of the spec, and the password in it if it is a whole header for HTTP Basic.
pub(crate) fn sensitive_parts(value: &str) -> Vec<Parameter> {
    let rest = value.split_once(' ').map(|(_, rest)| rest.trim());
    let decoded = Zeroizing::new(LENIENT.decode(rest.unwrap_or_default()).unwrap_or_default());
    let password = std::str::from_utf8(&decoded).ok().and_then(|text| Some(text.split_once(':')?.1));
    [Some(value), rest, password]
        .into_iter()
        .flatten()
        .map(|text| ("value".to_owned(), SecretString::from(text)))
        .collect()
}

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
