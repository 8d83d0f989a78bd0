//! Renewals for several minutes, with and without failing endpoints.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::fleet::{AT_ONCE, Fleet, difference, print_calls};
use crate::freshness::{Expiries, Freshness, lock};
use test_support::endpoint::{Endpoint, Reply};
use test_support::proxy::{Network, Proxy};

/// The fault in the middle of the run.
#[derive(Clone, Copy, Debug)]
pub enum HostFault {
    None,
    /// All hosts are down for this time, this many times, at regular intervals.
    Away(Duration, u32),
    /// One host accepts requests and never responds, until the end of the run.
    OneHangs,
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Renewals {
    pub integrations: usize,
    /// Lifetime of a token, in seconds.
    pub lifetime: u64,
    pub hosts: usize,
    pub lasts: Duration,
    pub fault: HostFault,
}

struct Host {
    endpoint: Endpoint,
    network: Proxy,
}

impl Host {
    fn start(lifetime: u64, expiries: &Expiries, hangs: Arc<AtomicBool>) -> Self {
        let expiries = Arc::clone(expiries);
        let number = Mutex::new(0_u64);
        let endpoint = Endpoint::start(move |request| {
            if hangs.load(Ordering::Relaxed) {
                return Reply::NoResponse;
            }
            let mut number = lock(&number);
            *number += 1;
            let token = format!("{}-{number}", request.headers.get("host").cloned().unwrap_or_default());
            lock(&expiries).insert(token.clone(), Instant::now() + Duration::from_secs(lifetime));
            Reply::json(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime}))
        });
        let network = Proxy::start(endpoint.address());
        Self { endpoint, network }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.network.port())
    }
}

impl Renewals {
    pub async fn run(self, name: &str) {
        let Self { integrations, lifetime, lasts, fault, hosts: count } = self;
        println!(
            "\n{name}: {integrations} integrations at {count} hosts, lifetime {lifetime} s, {lasts:?}, fault: {fault:?}"
        );
        let expiries = Expiries::default();
        let hangs = Arc::new(AtomicBool::new(false));
        let never = Arc::new(AtomicBool::new(false));
        let switch = |number| Arc::clone(if number == 0 { &hangs } else { &never });
        let hosts: Vec<Host> = (0..count).map(|number| Host::start(lifetime, &expiries, switch(number))).collect();
        let urls: Vec<String> = hosts.iter().map(Host::url).collect();
        let fleet = Fleet::new(integrations, &urls).await;
        let freshness = Freshness::watch(&fleet.client, &fleet.namespace, &expiries);
        let requests = || hosts.iter().map(|host| host.endpoint.count()).sum();
        let operator = fleet.operator().await;
        fleet.all_ready(requests).await;

        let (began, calls, cpu) = (SystemTime::now(), fleet.control_plane.calls().await, operator.cpu_seconds());
        let mut back = began;
        match fault {
            HostFault::None => tokio::time::sleep(lasts).await,
            HostFault::Away(away, times) => {
                for _ in 0..times {
                    tokio::time::sleep(lasts / (times + 1)).await;
                    hosts.iter().for_each(|host| host.network.set(Network::Cut));
                    tokio::time::sleep(away).await;
                    hosts.iter().for_each(|host| host.network.set(Network::Up));
                    back = SystemTime::now();
                }
                tokio::time::sleep(lasts / (times + 1)).await;
            }
            HostFault::OneHangs => {
                tokio::time::sleep(lasts / 2).await;
                hangs.store(true, Ordering::Relaxed);
                tokio::time::sleep(lasts / 2).await;
            }
        }

        let (cpu, memory) = (operator.cpu_seconds() - cpu, operator.memory());
        let calls = difference(&fleet.control_plane.calls().await, &calls);
        let ready = fleet.ready().await;
        let (elsewhere, longest) =
            freshness.expired(|number| hosts.len() == 1 || number % count != 0 || !is_hanging(fault));
        drop(operator);
        let times: Vec<SystemTime> =
            hosts.iter().flat_map(|host| host.endpoint.requests()).map(|request| request.at).collect();
        let renewals = times.iter().filter(|at| **at >= began).count();
        let which = if is_hanging(fault) { " elsewhere" } else { "" };
        println!(
            "  expired{which}  {elsewhere:.1} s in total, the longest {longest:.1} s; {ready} of {integrations} ready at the end"
        );
        println!("  requests      {renewals}; peak per second {:.2} times the mean", peak(&times, began));
        if matches!(fault, HostFault::Away(..)) {
            println!("    after the outage: {:.2} times", peak(&times, back));
        }
        println!("  CPU           {:.2} ms for each", cpu * 1000.0 / renewals as f64);
        println!("  memory        {:.1} MB resident at the end", memory as f64 / 1e6);
        print_calls(&calls, renewals);
        let baseline = fleet.baseline().await;
        println!(
            "  baseline      {:.2} ms of CPU time for only the writes of one renewal; {integrations} take {:.2} s, {AT_ONCE} at a time",
            baseline.cpu * 1000.0 / integrations as f64,
            baseline.took.as_secs_f64(),
        );
    }
}

fn is_hanging(fault: HostFault) -> bool {
    matches!(fault, HostFault::OneHangs)
}

/// The peak number of requests per second since this time, relative to the mean.
pub fn peak(times: &[SystemTime], since: SystemTime) -> f64 {
    let mut by_second = BTreeMap::<u64, usize>::new();
    for second in times.iter().filter_map(|at| at.duration_since(since).ok()) {
        *by_second.entry(second.as_secs()).or_default() += 1;
    }
    let last = by_second.keys().last().copied().unwrap_or_default() + 1;
    let sum: usize = by_second.values().sum();
    by_second.values().max().copied().unwrap_or_default() as f64 * last as f64 / sum.max(1) as f64
}
