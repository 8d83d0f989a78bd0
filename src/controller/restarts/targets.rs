//! The target Secrets that workloads read, from memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::controller::context::Context;
use crate::controller::restarts::workload::{Workload, WorkloadId};
use crate::decision::restarts::RestartTarget;
use crate::decision::status::is_ready;
use crate::target::integrity::Integrity;
use crate::target::snapshot::TargetSnapshot;

/// The targets among the Secrets of workloads, by namespace and name, each with the name of its integration.
pub(crate) struct Targets {
    all: HashMap<String, HashMap<String, (RestartTarget, String)>>,
}

impl Targets {
    /// What is known about the Secrets of these workloads: one pass over the cache.
    pub(crate) fn of(context: &Context, workloads: &[(WorkloadId, Arc<Workload>)], now: Timestamp) -> Self {
        let secrets = workloads.iter().filter_map(|(id, workload)| Some((id, workload.opt_in.as_ref().ok()?)));
        let wanted: HashSet<(&str, &str)> = secrets
            .flat_map(|(id, opt_in)| opt_in.secrets.iter().map(|name| (id.namespace.as_str(), name.as_str())))
            .collect();
        let known = context.targets.find(|snapshot| wanted.contains(&(&*snapshot.namespace, &*snapshot.name)));
        let mut all: HashMap<String, HashMap<_, _>> = HashMap::new();
        for snapshot in &known {
            if let Some(found) = target(context, snapshot, now) {
                all.entry(snapshot.namespace.clone()).or_default().insert(snapshot.name.clone(), found);
            }
        }
        Self { all }
    }

    /// The known targets among the Secrets of a workload, by name.
    pub(crate) fn of_workload<'a>(&self, id: &WorkloadId, workload: &'a Workload) -> BTreeMap<&'a str, RestartTarget> {
        let Some(own) = self.all.get(&id.namespace) else { return BTreeMap::new() };
        let secrets = workload.opt_in.iter().flat_map(|opt_in| &opt_in.secrets);
        secrets.filter_map(|name| Some((name.as_str(), own.get(name)?.0.clone()))).collect()
    }

    /// The integration that writes a target.
    pub(crate) fn integration(&self, namespace: &str, secret: &str) -> Option<&str> {
        self.all.get(namespace)?.get(secret).map(|(_, integration)| integration.as_str())
    }
}

/// A Secret that really is the target of an existing integration, with the name of the integration.
fn target(context: &Context, snapshot: &TargetSnapshot, now: Timestamp) -> Option<(RestartTarget, String)> {
    let (name, uid) = snapshot.owner.as_ref()?;
    let watched = context.integrations.find(&snapshot.namespace, name)?;
    let integration = watched.0.as_ref().ok().filter(|integration| integration.uid().as_ref() == Some(uid))?;
    let wanted = integration.spec.target.secret_name.as_ref().unwrap_or(name);
    if *wanted != snapshot.name {
        return None;
    }
    // A Secret may be cached under another uid, too, after its label was changed.
    if snapshot.integration_uid != *uid {
        return None;
    }
    let times = snapshot.times?;
    let lifetime = times.expires_at.duration_since(times.issued_at);
    let Some(content) = &snapshot.content else {
        return Some((RestartTarget::without_content(times.issued_at, lifetime), name.clone()));
    };
    let is_active = !integration.spec.suspend && integration.metadata.deletion_timestamp.is_none();
    // A change by another actor is followed after it was read and, if necessary, repaired.
    let is_valid = snapshot.integrity == Integrity::Intact && times.expires_at > now;
    let is_usable = is_active && is_valid && integration.status.as_ref().is_some_and(is_ready);
    Some((RestartTarget::new(content, lifetime, is_usable), name.clone()))
}
