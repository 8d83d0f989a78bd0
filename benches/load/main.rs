//! The cost and the delays of the operator, under load and when endpoints fail. Each scenario has its own control
//! plane and, in the same run, its baseline: the same Secrets and statuses written by a plain loop. Compare figures
//! as ratios; none is asserted.
//!
//! `BENCH` selects scenarios by a substring of their names; `BENCH_MINUTES` sets the duration of the long ones (10 by
//! default).

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod fleet;
mod freshness;
mod providers;
mod renewals;
mod start;

use std::time::Duration;

use renewals::{HostFault, Renewals};

#[tokio::main]
async fn main() {
    let only = std::env::var("BENCH").unwrap_or_default();
    let minutes = std::env::var("BENCH_MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(10);
    let lasts = Duration::from_secs(60 * minutes);
    let is_chosen = |name: &str| name.contains(&only);
    if is_chosen("start") {
        start::run().await;
    }
    let steady = Renewals { integrations: 2_000, lifetime: 120, hosts: 10, lasts, fault: HostFault::None };
    for (name, renewals) in [
        ("steady", steady),
        ("away", Renewals { fault: HostFault::Away(Duration::from_secs(20), 1), ..steady }),
        ("hanging", Renewals { fault: HostFault::OneHangs, ..steady }),
        (
            "outage",
            Renewals {
                integrations: 1_000,
                lifetime: 60,
                hosts: 1,
                // The first outage starts when the renewals are evenly distributed.
                lasts: Duration::from_secs(400),
                fault: HostFault::Away(Duration::from_secs(25), 3),
            },
        ),
    ] {
        if is_chosen(name) {
            renewals.run(name).await;
        }
    }
    if is_chosen("provider") {
        providers::run().await;
    }
    if is_chosen("many") {
        start::many().await;
    }
}
