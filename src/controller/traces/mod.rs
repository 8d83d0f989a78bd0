//! Traces of renewals, exported with OTLP (https://opentelemetry.io/docs/specs/otlp/) if an endpoint is configured.

pub(crate) mod export;
pub(crate) mod renewal;
