//! OAuth 2.0: token and revocation requests, and the responses. Independent of Kubernetes: uses neither kube nor
//! k8s-openapi. May use `api` for the types of the spec, `limiter`, and the modules below.

pub(crate) mod address;
pub mod allowed_endpoints;
pub mod body;
pub mod certificate_header;
pub mod client;
pub mod credentials;
pub mod custom_body;
pub(crate) mod echo;
pub mod error;
pub(crate) mod exchange;
pub mod expression;
pub(crate) mod host_class;
pub mod http;
pub mod jwk;
pub mod jwt;
pub mod key_error;
pub mod key_file;
pub mod lifetime;
pub mod parameters;
pub mod redaction;
pub mod request;
pub(crate) mod requirements;
pub mod response;
pub mod revocation;
pub mod self_signed;
pub(crate) mod sent_values;
pub(crate) mod signer;
pub mod signing_key;
