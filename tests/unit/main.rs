//! Tests without a cluster: pure decisions, models and the command line. Each module verifies one guarantee.

mod adoption;
mod attempt;
mod client_assertions;
mod cookbook;
mod deadline;
mod decision;
mod fetch;
mod fields;
mod gitops;
mod json_keys;
mod key_files;
mod kube_api;
mod layers;
mod limiter;
mod limiter_fairness;
mod messages;
mod metrics;
mod model;
mod name_resolution;
mod oauth;
mod pages;
mod project;
mod providers;
mod reading;
mod slots;
mod target_policy;
