//! Real servers for the tests: a control plane, identity providers, the operator itself, and a scripted endpoint that
//! simulates faults.
//!
//! Everything that is started here is killed when the test binary exits, however that happens: see [`process`].

pub mod api_front;
pub mod certificate;
pub mod collector;
pub mod control_plane;
pub mod cpu;
pub mod django;
pub mod docs;
pub mod endpoint;
pub mod http;
pub mod hydra;
pub mod jose;
pub mod keycloak;
pub mod keys;
pub mod keystone;
pub mod manifests;
pub mod messages;
pub mod node;
pub mod oidc_provider;
pub mod operator;
pub mod preload;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod record;
pub mod spec;
pub mod tools;
pub mod wait;
pub mod world;
pub mod zitadel;

pub use control_plane::ControlPlane;
pub use endpoint::Endpoint;
pub use operator::Operator;
pub use wait::eventually;
pub use world::World;
