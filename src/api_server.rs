//! The addresses of the cluster's own API server, which no tenant may have asked: those that this process was told, and those that
//! the server tells of itself.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use tracing::warn;

use crate::oauth::reach::Addresses;

/// How long one look may take, which at the start holds everything up.
const LOOK_UP: Duration = Duration::from_secs(3);
/// The server is asked again after this time: there may be several, and they move.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// The same where it did not answer.
const LOOK_AGAIN_SOON: Duration = Duration::from_secs(10);

/// What can be known at the start. `configured` is the host in the kubeconfig.
pub async fn look(configured: Option<String>, client: &Client) -> Addresses {
    let service = std::env::var("KUBERNETES_SERVICE_HOST").ok();
    let hosts = [service, configured, Some("kubernetes.default.svc".to_owned())].into_iter().flatten().collect();
    let known = Addresses::default();
    // A name that leads nowhere here is none by which the API server could be reached from here.
    let (told, own) = tokio::join!(resolved(hosts), own(client));
    known.add(told);
    if own.is_none() {
        warn!(
            "the API server does not tell its own addresses yet: only those are kept from being asked that are configured"
        );
    }
    known.add(own.unwrap_or_default());
    known
}

/// Asks the server again and again.
pub async fn keep_looking(known: Addresses, client: Client) {
    let mut pause = LOOK_AGAIN_SOON;
    loop {
        tokio::time::sleep(pause).await;
        pause = match own(&client).await {
            Some(own) => {
                known.add(own);
                LOOK_AGAIN
            }
            None => LOOK_AGAIN_SOON,
        };
    }
}

/// What the server tells of itself, to everyone who may ask it anything (`GET /api`); `None` where it does not answer.
async fn own(client: &Client) -> Option<Vec<IpAddr>> {
    let versions = tokio::time::timeout(LOOK_UP, client.list_core_api_versions()).await.ok()?.ok()?;
    let addresses = versions.server_address_by_client_cidrs.into_iter().map(|own| own.server_address);
    // A port may follow.
    let host = |address: String| match address.parse::<IpAddr>() {
        Ok(_) => address,
        Err(_) => address.rsplit_once(':').map_or(address.clone(), |(host, _)| host.to_owned()),
    };
    Some(resolved(addresses.map(host).collect()).await)
}

async fn resolved(hosts: Vec<String>) -> Vec<IpAddr> {
    let look = async |host: String| {
        let host = host.trim_matches(['[', ']']);
        let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((host, 443))).await;
        found.ok().and_then(Result::ok).map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
    };
    join_all(hosts.into_iter().map(look)).await.into_iter().flatten().flatten().collect()
}
