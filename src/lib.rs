//! Keeps OAuth 2.0 tokens fresh in Kubernetes Secrets.
//!
//! Data goes one way, and each step is a module:
//!
//! ```text
//!   watches ──► observe ──► plan ──► perform ──► settle ──► (status, event, next look)
//!     IO          IO        pure       IO         pure
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | [`api`] | what people write and read: `OAuthIntegration`, its rules, and a word for each reason |
//! | [`validated`] | the spec, parsed |
//! | [`watches`] | which integration an event of the cluster is about |
//! | [`controller`] | ties the steps together |
//! | [`observe`] | the only reader of the cluster and the clock |
//! | [`plan`] | decides what to do; pure |
//! | [`grant`], [`oauth`] | the token request and its answer; know no cluster |
//! | [`sandbox`] | evaluates expressions in processes of their own |
//! | [`perform`] | the only writer |
//! | [`revocation`] | gives tokens back |
//! | [`settle`], [`status`] | what follows from what was done; pure |
//! | [`target`], [`credentials`] | the two Secrets as data; pure |
//! | [`cache`] | what is kept between two looks |
//! | [`gate`] | who may ask a token endpoint now, and who waits |
//! | [`leadership`], [`lease`] | of several replicas one acts |
//! | [`fetch`] | the same steps on files instead of a cluster |
//! | [`api_server`], [`config`], [`confine`], [`context`], [`clock`], [`telemetry`], [`metrics`], [`server`], [`error`], [`calls`], [`fingerprint`] | the rest |

#![warn(clippy::pedantic, clippy::expect_used, clippy::panic, clippy::unwrap_used)]
// The same text is what `kubectl explain` and `--help` print, where backticks are noise.
#![allow(clippy::doc_markdown)]
// The words of the domain are near each other: content and context, name and named.
#![allow(clippy::similar_names)]

pub mod api;
pub mod api_server;
pub mod cache;
pub mod calls;
pub mod clock;
pub mod config;
pub mod confine;
pub mod context;
pub mod controller;
pub mod credentials;
pub mod error;
mod failpoints;
pub mod fetch;
pub mod fingerprint;
pub mod gate;
pub mod grant;
pub mod leadership;
pub mod lease;
pub mod metrics;
pub mod oauth;
pub mod observe;
pub mod perform;
pub mod plan;
pub mod revocation;
pub mod sandbox;
pub mod server;
pub mod settle;
pub mod status;
pub mod target;
pub mod telemetry;
pub mod validated;
pub mod watches;
