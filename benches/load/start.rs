//! Time from an empty cluster to ready, and from a restart to ready.

use std::time::{Duration, Instant};

use crate::fleet::{AT_ONCE, Fleet, difference, print_calls};
use test_support::endpoint::{Endpoint, Reply};
use test_support::{Operator, eventually};

/// How long the idle operator is measured.
const IDLE: Duration = Duration::from_secs(60);

/// Beyond this number, there is no baseline: it creates the same number of integrations once more.
const MAX_BASELINE: usize = 10_000;

/// 1,000 integrations get their first tokens.
pub async fn run() {
    first(1_000, "start").await;
}

/// How often metrics are read.
const SCRAPES: u32 = 20;

/// Many integrations get their first tokens, are idle, and are read again by a restarted operator. `BENCH_SIZE` sets their
/// number, 10,000 by default.
pub async fn many() {
    let size = std::env::var("BENCH_SIZE").ok().and_then(|size| size.parse().ok()).unwrap_or(10_000);
    let (fleet, endpoint) = first(size, "many").await;
    let requests_before = endpoint.count();
    let operator = fleet.operator().await;
    tokio::time::sleep(IDLE).await;
    let cpu = operator.cpu_seconds();
    tokio::time::sleep(IDLE).await;
    let cpu = (operator.cpu_seconds() - cpu) / IDLE.as_secs_f64();
    println!("  idle          {:.2} % of a core, over {IDLE:?}", cpu * 100.0);
    println!("  memory        {:.1} MB resident after a restart", operator.memory() as f64 / 1e6);
    drop(operator);
    let started = Instant::now();
    let operator = fleet.operator().await;
    println!("  restart       ready after {:.2} s", started.elapsed().as_secs_f64());
    let metric = "oauth_operator_reconciles_total";
    eventually("all were reconciled", Duration::from_secs(60), async || {
        let reconciliations = operator.sum(metric, "reason=\"TokenValid\"");
        if reconciliations >= fleet.size as f64 { Ok(()) } else { Err(format!("{reconciliations} reconciliations")) }
    })
    .await;
    println!("                all reconciled after {:.2} s", started.elapsed().as_secs_f64());
    println!("                {} token requests during all restarts", endpoint.count() - requests_before);
    scrape(&operator, "with metrics for each object");
    drop(operator);
    let operator = fleet.operator_with(&["--object-metrics=false"]).await;
    scrape(&operator, "with aggregates only");
}

/// The cost of reading the metrics.
fn scrape(operator: &Operator, what: &str) {
    let text = operator.metrics();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    let (started, cpu) = (Instant::now(), operator.cpu_seconds());
    for _ in 0..SCRAPES {
        operator.metrics();
    }
    let (took, cpu) = (started.elapsed() / SCRAPES, (operator.cpu_seconds() - cpu) / f64::from(SCRAPES));
    println!(
        "  scrape        {what}: {series} series, {:.2} MB, {:.1} ms, {:.1} ms of CPU time; {:.1} MB resident afterwards",
        text.len() as f64 / 1e6,
        took.as_secs_f64() * 1000.0,
        cpu * 1000.0,
        operator.memory() as f64 / 1e6,
    );
}

async fn first(size: usize, name: &str) -> (Fleet, Endpoint) {
    println!("\n{name}: {size} integrations, from the start of the process until all are ready");
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let fleet = Fleet::new(size, &[endpoint.url()]).await;
    let calls = fleet.control_plane.calls().await;
    let started = Instant::now();
    let operator = fleet.operator().await;
    fleet.all_ready(|| endpoint.count()).await;
    let took = started.elapsed();
    let (memory, cpu) = (operator.memory(), operator.cpu_seconds());
    let calls = difference(&fleet.control_plane.calls().await, &calls);
    drop(operator);
    println!("  time          {:.2} s", took.as_secs_f64());
    if size <= MAX_BASELINE {
        let baseline = fleet.baseline().await;
        println!(
            "  baseline      {:.2} s  (only writes of the same Secrets and statuses, {AT_ONCE} at a time); {:.2} ms of CPU time for each",
            baseline.took.as_secs_f64(),
            baseline.cpu * 1000.0 / size as f64,
        );
        println!("  ratio         {:.2}", took.as_secs_f64() / baseline.took.as_secs_f64());
    }
    println!("  memory        {:.1} MB resident at the end", memory as f64 / 1e6);
    println!("  CPU           {:.2} ms for each", cpu * 1000.0 / size as f64);
    println!("  connections   {} to the endpoint", endpoint.connections());
    print_calls(&calls, size);
    (fleet, endpoint)
}
