//! The inputs of each step of an action, and the tokens that are kept in memory until they are written.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use crate::acquisition::attempt::IssuedToken;
use crate::api::spec::OAuthIntegration;
use crate::clock::now;
use crate::controller::cache::initial_tokens::TokenClaim;
use crate::controller::cache::state::PendingWrite;
use crate::controller::context::Context;
use crate::controller::revoker::job::RevocationJob;
use crate::decision::observed::Observed;
use crate::spec::validated::ValidatedSpec;

/// An observed integration with a valid spec.
pub(crate) struct Work<'a> {
    pub(crate) context: &'a Context,
    pub(crate) observed: &'a Observed,
    pub(crate) spec: &'a ValidatedSpec,
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// The owner reference for its Secrets.
    pub(crate) owner: OwnerReference,
}

impl<'a> Work<'a> {
    /// `None` if the spec is invalid.
    pub(crate) fn new(context: &'a Context, integration: &OAuthIntegration, observed: &'a Observed) -> Option<Self> {
        Some(Self {
            context,
            observed,
            spec: observed.spec.as_deref().ok()?,
            name: integration.name_any(),
            namespace: integration.namespace().unwrap_or_default(),
            owner: integration.controller_owner_ref(&()).unwrap_or_default(),
        })
    }

    /// Keeps a token in memory: until it is written to the Secret, this is the only copy.
    pub(crate) fn set_pending(
        &self,
        issued: IssuedToken,
        superseded: Option<(Duration, RevocationJob)>,
        claim: Option<TokenClaim>,
        planned_at: Option<Timestamp>,
    ) -> Arc<PendingWrite> {
        let claim = claim.map(Arc::new);
        let pending = Arc::new(PendingWrite { superseded, planned_at, claim, ..self.to_pending(issued) });
        self.context.states.set_pending(&self.observed.uid, Arc::clone(&pending));
        pending
    }

    pub(crate) fn to_pending(&self, issued: IssuedToken) -> PendingWrite {
        PendingWrite {
            namespace: self.namespace.clone(),
            owner: self.owner.clone(),
            template: self.spec.template.clone(),
            issued,
            superseded: None,
            received_at: now(),
            planned_at: None,
            claim: None,
        }
    }
}
