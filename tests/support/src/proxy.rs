//! A network that can be interrupted: a TCP proxy on loopback, between the operator and the API server or an endpoint.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The state of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Data is delivered.
    Up,
    /// Data is delivered after a delay.
    Slow(Duration),
    /// Responses are delivered byte by byte, at this interval.
    Trickle(Duration),
    /// Open connections and new ones are reset.
    Cut,
    /// Nothing is delivered, without an error: connections stay open.
    Silent,
    /// Requests are delivered, responses are not: connections are reset after the request was delivered.
    ResponsesLost,
}

#[derive(Debug)]
struct Shared {
    network: Mutex<Network>,
    changed: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

/// A proxy. When dropped, it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy in front of this address.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            network: Mutex::new(Network::Up),
            changed: Condvar::new(),
            connections: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || connect(stream, target, &serving));
            }
        });
        Self { address, shared }
    }

    /// The port on loopback on which it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes the state of the network, also for open connections.
    pub fn set(&self, network: Network) {
        *self.shared.network.lock().unwrap_or_else(PoisonError::into_inner) = network;
        self.shared.changed.notify_all();
        if network == Network::Cut {
            self.shared.reset();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.set(Network::Cut);
        // Wakes up the listener, which waits in `accept`.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn network(&self) -> Network {
        *self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Connections that are already closed are skipped.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Waits until the network is no longer silent, and returns its state.
    fn wait_while_silent(&self) -> Network {
        let mut network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        while *network == Network::Silent {
            network = self.changed.wait(network).unwrap_or_else(PoisonError::into_inner);
        }
        *network
    }
}

fn connect(client: TcpStream, target: SocketAddr, shared: &Arc<Shared>) {
    if shared.wait_while_silent() == Network::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
    for known in [&client, &server] {
        let known = known.try_clone().expect("a second handle");
        shared.connections.lock().unwrap_or_else(PoisonError::into_inner).push(known);
    }
    let there = Arc::clone(shared);
    std::thread::spawn(move || copy(client, server, &there, false));
    copy(server_too, client_too, shared, true);
}

/// Copies until one side closes; `back` is the direction of responses.
fn copy(mut from: TcpStream, mut to: TcpStream, shared: &Shared, back: bool) {
    let mut buffer = [0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let arrived = match shared.wait_while_silent() {
            Network::Cut => false,
            Network::ResponsesLost if back => false,
            Network::Slow(delay) => {
                std::thread::sleep(delay);
                to.write_all(&buffer[..length]).is_ok()
            }
            Network::Trickle(pause) if back => buffer[..length].iter().all(|byte| {
                std::thread::sleep(pause);
                shared.network() != Network::Cut && to.write_all(&[*byte]).is_ok()
            }),
            _ => to.write_all(&buffer[..length]).is_ok(),
        };
        if !arrived {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
