//! End-to-end tests: the operator on a real control plane, with real identity providers. Each module verifies one
//! guarantee.
//!
//! All modules are one process, so that they share one control plane and one instance of each identity provider. A test
//! that changes cluster-wide state or counts API calls starts a separate control plane (`ControlPlane::start`).

mod adoption;
mod authentication;
mod chains;
mod chart;
mod clock;
mod crd;
mod custom_requests;
mod deletion;
mod egress_and_isolation;
mod examples;
mod expiry;
mod failures;
mod gitops;
mod health;
mod identity_providers;
mod import;
mod leader_election;
mod metrics;
mod migration;
mod notes;
mod oauth_providers;
mod packaging;
mod platform;
mod protected_resource;
mod provider_tenants;
mod provider_trust;
mod providers;
mod rbac;
mod recipe_pages;
mod recipes;
mod reconciliation;
mod refresh_token_apart;
mod refresh_token_safety;
mod renewal;
mod request_bodies;
mod requests;
mod restart;
mod restarts;
mod revocation;
mod rotation;
mod secret_values;
mod self_signed;
mod servers;
mod service_binding;
mod shared_refresh_tokens;
mod signatures;
mod target_data;
mod target_metadata;
mod target_recipes;
mod tenants;
mod traces;
