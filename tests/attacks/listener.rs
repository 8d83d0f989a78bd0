//! The ports of the operator: clients that open connections or scrape metrics do not obstruct the kubelet or tenants.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::siege::{SHORT_TIMEOUT, Siege};
use test_support::eventually;

/// The number of connections in the original attack.
const CONNECTIONS: usize = 4_211;
/// The timeout for headers, with a margin for a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(15);

/// The source address of the flood: pods and the kubelet have different addresses.
const ATTACKER: &str = "127.0.0.66:0";

/// Connects from the attacker's address.
fn connect_as_attacker(address: &str) -> std::io::Result<TcpStream> {
    let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    let (source, address) = (ATTACKER.parse().map_err(invalid)?, address.parse().map_err(invalid)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(source)?;
        socket.connect(address).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Opens a connection and sends part of a request; `None` if it was closed at once.
fn half_a_request(address: &str) -> Option<TcpStream> {
    let mut stream = connect_as_attacker(address).ok()?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: operator\r\nX-Filler: {}", "x".repeat(4_000)).ok()?;
    Some(stream)
}

/// Whether the server has closed a connection within this time.
fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    let mut buffer = [0; 1_024];
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        stream.set_read_timeout(Some(left)).expect("a timeout");
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            // The data that it sends before it closes.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

/// 4,211 connections with incomplete headers once got the operator killed, and silent ones stayed open forever.
#[tokio::test]
async fn connections_that_never_finish_a_request_are_bounded_and_closed() {
    let siege = Siege::new().await;
    let victim = siege.victim(15).await;
    for address in [siege.operator.address().trim_start_matches("http://"), siege.operator.metrics_address()] {
        let address = address.to_owned();
        let (before, flooded) = (siege.operator.memory(), address.clone());
        // At most 400 at a time, because of the limits of this process; closed ones make room for others.
        let flood = std::thread::spawn(move || {
            let mut open = std::collections::VecDeque::new();
            for _ in 0..CONNECTIONS {
                open.extend(half_a_request(&flooded));
                if open.len() > 400 {
                    open.pop_front();
                }
            }
            open
        });
        let observation = siege.observe(&victim, Duration::from_secs(8)).await;
        observation.assert_unharmed();
        let mut open = flood.join().expect("the flood");
        assert!(!open.is_empty());
        let after = siege.operator.memory();
        assert!(after < before + (16 << 20), "memory grew from {before} to {after} bytes");
        let pid = siege.operator.pid();
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count();
        assert!(descriptors < 300, "{descriptors} descriptors are open");
        for stream in &mut open {
            assert!(is_closed(stream, CLOSED_WITHIN), "a connection without a request stays open");
        }
        // One that sends nothing, and one that is kept open after a request.
        let mut silent = TcpStream::connect(&address).expect("a connection");
        assert!(is_closed(&mut silent, CLOSED_WITHIN), "a silent connection stays open");
        let mut kept = TcpStream::connect(&address).expect("a connection");
        write!(kept, "GET /healthz HTTP/1.1\r\nHost: operator\r\n\r\n").expect("a request");
        assert!(is_closed(&mut kept, CLOSED_WITHIN), "a kept connection stays open forever");
    }
}

/// Metrics contain data of all tenants: only clients that the API server allows may read them.
#[tokio::test]
async fn only_authorized_clients_read_metrics() {
    let siege = Siege::with(&["--metrics-auth=true"]).await;
    let _victim = siege.victim(3_600).await;
    let address = siege.operator.metrics_address().to_owned();
    let get = |token: Option<&str>| test_support::http::get_with_token(&format!("https://{address}/metrics"), token);
    assert_eq!(test_support::http::get(&format!("http://{address}/metrics")).0, 0, "plain HTTP is not accepted");
    assert_eq!(siege.operator.get("/metrics").0, 404, "not on the port of the probes");
    for token in [None, Some("invented"), Some("")] {
        let (status, text) = get(token);
        assert_eq!(status, 401, "{token:?}: {text}");
        assert!(!text.contains("victim"), "{text}");
    }
    // A token of mallory's own pods: valid, but without the permission.
    let create = ["create", "token", "default", "--namespace", "mallory"];
    let token = siege.control_plane.kubectl(&create).trim().to_owned();
    let (status, text) = get(Some(&token));
    assert_eq!(status, 403, "{text}");
    assert!(!text.contains("victim"), "{text}");
    // Prometheus, bound as by the chart value metrics.readers.
    siege.control_plane.kubectl(&[
        "create",
        "clusterrolebinding",
        "prometheus",
        "--clusterrole=oauth-operator-oauth-operator-metrics-reader",
        "--serviceaccount=bob:default",
    ]);
    let create = ["create", "token", "default", "--namespace", "bob"];
    let token = siege.control_plane.kubectl(&create).trim().to_owned();
    eventually("the permission takes effect, and the denial is no longer cached", SHORT_TIMEOUT, async || {
        let (status, text) = get(Some(&token));
        let names_all =
            text.contains(r#"namespace="bob",name="victim""#) && text.contains("\nprocess_start_time_seconds ");
        if status == 200 && names_all { Ok(()) } else { Err(format!("{status} {text}")) }
    })
    .await;
    // Many unknown tokens at once obstruct neither the tenant nor an authorized client.
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for number in 0..20 {
                    assert_eq!(get(Some(&format!("invented-{thread}-{number}"))).0, 401);
                }
            });
        }
        assert_eq!(get(Some(&token)).0, 200);
    });
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
