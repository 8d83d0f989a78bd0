//! Keeps OAuth 2.0 tokens fresh in Kubernetes Secrets.
pub mod api;
