//! Keeps OAuth 2.0 tokens fresh in Kubernetes Secrets.
//!
//! Data flows one way, and every step is a module:
//!
//! ```text
//!   watches ──► observe ──► plan ──► perform ──► settle ──► (status, event, requeue)
//!     IO          IO        pure       IO         pure
//! ```
//!
//! The layers, from top to bottom. A file uses only its own directory and the layers below it; `tests/unit/layers.rs`
//! enforces this.
//!
//! | layer | content |
//! |---|---|
//! | [`cli`] | flags, logs, the subcommands `crd`, `fetch` and `import`, exit codes |
//! | [`controller`] | watches, caches, reconciliations, metrics, the HTTP server |
//! | `election` | leader election, and the fence for token requests |
//! | [`kube_api`] | the API server client; the size of responses is limited before they are parsed |
//! | [`acquisition`] | one attempt to obtain a token: request, refresh, fallback |
//! | [`decision`] | `plan`, `settle`, the status and back-off; pure |
//! | [`spec`] | the spec, parsed: requests, credential references, hashes; pure |
//! | [`target`] | the target Secret as data; pure |
//! | [`oauth`] | token and revocation requests and their responses; independent of Kubernetes clients |
//! | [`limiter`] | concurrency limits, circuit breakers, and queues that are fair by namespace |
//! | [`api`] | `OAuthIntegration`, its validation, and the reasons |
//! | `clock`, [`fingerprint`], `failpoints`, [`hardening`], `error_report` | helpers without dependencies on other layers |

#![warn(clippy::pedantic, clippy::expect_used, clippy::panic, clippy::unwrap_used)]
// `kubectl explain` and `--help` print some of these comments, and backticks would be noise there.
#![allow(clippy::doc_markdown)]
// Some domain terms are similar: content and context, name and named.
#![allow(clippy::similar_names)]

pub mod acquisition;
pub mod api;
pub mod cli;
pub(crate) mod clock;
pub mod controller;
pub mod decision;
pub(crate) mod election;
pub(crate) mod error_report;
mod failpoints;
pub mod fingerprint;
pub mod hardening;
pub mod kube_api;
pub mod limiter;
pub mod oauth;
pub mod spec;
pub mod target;
