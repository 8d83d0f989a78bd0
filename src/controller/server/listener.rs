//! A listener that bounds the number of its connections, their lifetime, and the size of requests.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tracing::{debug, info};

use crate::controller::error::Error;
use crate::controller::server::connections::{Connections, Slot};
use crate::controller::server::tls::Tls;

/// The timeout for the head of a request, and for the next request on a kept-alive connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is closed after this time, even while it is in use.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(30);
/// The maximum size of the head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// The maximum number of headers of a request.
const MAX_HEADERS: usize = 64;
/// The maximum number of connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`. If the queue
/// is full, the kernel drops the attempt of the kubelet too, which repeats it only after a second.
const BACKLOG: u32 = 4_096;
/// The delay after a failed accept, for example without free file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    tls: Option<Tls>,
}

impl Listener {
    /// Binds the address. This happens first, so that the process exits early if the port is in use. `what` is logged
    /// with the address.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr, tls: Option<Tls>, what: &str) -> Result<Self, Error> {
        let listen = |source| Error::Listen { address, source };
        let listener = bind(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        info!(%address, "{what}");
        Ok(Self { listener, tls })
    }

    /// Serves requests forever.
    pub async fn serve(self, router: Router) {
        let connections = Connections::default();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let slot = connections.admit(peer.ip());
                    tokio::spawn(serve_connection(stream, slot, self.tls.clone(), router.clone()));
                }
                Err(error) => {
                    debug!(%error, "failed to accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of the previous process may still be closing on this port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn serve_connection(stream: TcpStream, mut slot: Slot, tls: Option<Tls>, router: Router) {
    let served = async {
        match tls {
            None => serve_http(stream, router).await,
            Some(tls) => match tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve_http(stream, router).await,
                Ok(Err(error)) => debug!(%error, "failed TLS handshake"),
                Err(_) => debug!("TLS handshake timed out"),
            },
        }
    };
    tokio::select! {
        () = served => {}
        () = slot.evicted() => {}
        () = tokio::time::sleep(CONNECTION_LIFETIME) => {}
    }
}

async fn serve_http(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        debug!(%error, "connection ended");
    }
}
