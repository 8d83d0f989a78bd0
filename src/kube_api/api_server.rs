//! The addresses of the cluster's own API server, to which tenants' requests must not be sent: the configured ones,
//! and those that the server advertises.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use tracing::warn;

use crate::oauth::http::egress::Addresses;

/// Timeout of one lookup; startup waits for it.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval of lookups: there may be several servers, and their addresses may change.
const REFRESH_INTERVAL: Duration = Duration::from_mins(10);
/// Interval of lookups after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The addresses known at startup. `configured` is the host in the kubeconfig.
pub async fn discover_addresses(configured: Option<String>, client: &Client) -> Addresses {
    let service = std::env::var("KUBERNETES_SERVICE_HOST").ok();
    let hosts = [service, configured, Some("kubernetes.default.svc".to_owned())].into_iter().flatten().collect();
    let known = Addresses::default();
    // If a name does not resolve here, the API server cannot be reached from here by that name either.
    let (configured, advertised) = tokio::join!(resolve_all(hosts), advertised_addresses(client));
    known.add(configured);
    if advertised.is_none() {
        warn!(
            "the addresses that the API server advertises could not be read yet: only the configured ones are denied"
        );
    }
    known.add(advertised.unwrap_or_default());
    known
}

/// Refreshes the advertised addresses until dropped.
pub async fn refresh_addresses(known: Addresses, client: Client) {
    let mut pause = RETRY_INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        pause = match advertised_addresses(&client).await {
            Some(advertised) => {
                known.add(advertised);
                REFRESH_INTERVAL
            }
            None => RETRY_INTERVAL,
        };
    }
}

/// The addresses that the server advertises to every authenticated client (`GET /api`); `None` if the call fails.
async fn advertised_addresses(client: &Client) -> Option<Vec<IpAddr>> {
    let versions = tokio::time::timeout(LOOKUP_TIMEOUT, client.list_core_api_versions()).await.ok()?.ok()?;
    let addresses = versions.server_address_by_client_cidrs.into_iter().map(|entry| entry.server_address);
    // A port may follow.
    let host = |address: String| match address.parse::<IpAddr>() {
        Ok(_) => address,
        Err(_) => address.rsplit_once(':').map_or(address.clone(), |(host, _)| host.to_owned()),
    };
    Some(resolve_all(addresses.map(host).collect()).await)
}

async fn resolve_all(hosts: Vec<String>) -> Vec<IpAddr> {
    let resolve = async |host: String| {
        let host = host.trim_matches(['[', ']']);
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, 443))).await;
        found.ok().and_then(Result::ok).map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
    };
    join_all(hosts.into_iter().map(resolve)).await.into_iter().flatten().flatten().collect()
}
