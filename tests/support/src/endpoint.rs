//! A scripted token endpoint on loopback: records exact bodies, and simulates faults that a real server does not have
//! on demand.
//!
//! It uses plain sockets and one thread per connection: a body can be cut short, a connection dropped or a response
//! withheld, and nothing depends on the runtime of a test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::record;

/// A request, as received.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it was read.
    pub at: SystemTime,
    /// The method of the request line.
    pub method: String,
    /// The target of the request line, including the query.
    pub path: String,
    /// The headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
    /// The body, unchanged.
    pub bytes: Vec<u8>,
}

impl Request {
    /// The body as JSON; `Null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The body as a form.
    pub fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    /// The parameters in the query.
    pub fn query(&self) -> BTreeMap<String, String> {
        let (_, query) = self.path.split_once('?').unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    /// A parameter of the body, in either format, or of the query.
    pub fn parameter(&self, name: &str) -> String {
        match self.json().get(name).and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => self.form().remove(name).or_else(|| self.query().remove(name)).unwrap_or_default(),
        }
    }
}

/// What the endpoint responds.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status, headers, body.
    Http(u16, Vec<(String, String)>, String),
    /// Another reply, delayed.
    Delayed(Duration, Box<Reply>),
    /// The connection stays open and silent.
    NoResponse,
    /// The connection is closed without a response.
    Close,
    /// The body is shorter than the declared length.
    Truncated,
    /// The body is longer than the declared length.
    Overlong,
    /// A body of this many bytes that begins like a token response.
    Oversized(usize),
}

impl Reply {
    /// A response with a JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Http(status, vec![("Content-Type".into(), "application/json".into())], body.to_string())
    }

    /// A response with a text body, as HTML.
    pub fn text(status: u16, body: &str) -> Self {
        Self::Http(status, vec![("Content-Type".into(), "text/html".into())], body.to_owned())
    }

    /// A token with a lifetime in seconds, a different one each time.
    pub fn token(lifetime: u64) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::json(
            200,
            &json!({"access_token": format!("token-{number}-{}", canary()), "token_type": "Bearer", "expires_in": lifetime}),
        )
    }

    /// An error response of RFC 6749, section 5.2.
    pub fn rejected(status: u16, error: &str, description: &str) -> Self {
        Self::json(status, &json!({"error": error, "error_description": description}))
    }

    /// Adds a header to an HTTP response; other replies are unchanged.
    pub fn with_header(self, name: &str, value: &str) -> Self {
        match self {
            Self::Http(status, mut headers, body) => {
                headers.push((name.to_owned(), value.to_owned()));
                Self::Http(status, headers, body)
            }
            other => other,
        }
    }
}

type Handler = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

struct Shared {
    handler: Mutex<Arc<Handler>>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicU64,
    ended: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
}

/// The endpoint. When dropped, it stops.
pub struct Endpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Endpoint {
    /// An endpoint at `127.0.0.1`, without TLS.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, handler)
    }

    /// An endpoint at another loopback address.
    pub fn start_at(address: &str, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind((address, 0)).expect("a port on loopback"), None, handler)
    }

    /// An endpoint with TLS.
    pub fn start_tls(tls: Arc<ServerConfig>, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(Some(tls), handler)
    }

    fn start_with(tls: Option<Arc<ServerConfig>>, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").expect("a port on loopback"), tls, handler)
    }

    fn start_on(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            handler: Mutex::new(Arc::new(Box::new(handler))),
            requests: Mutex::default(),
            connections: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            tls,
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                serving.connections.fetch_add(1, Ordering::Relaxed);
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serve(stream, &serving));
            }
        });
        Self { address, shared }
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its token endpoint; the handler decides about all other paths too.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Changes the response from now on.
    pub fn respond(&self, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.handler) = Arc::new(Box::new(handler));
    }

    /// All requests until now.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// The number of requests until now.
    pub fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// The number of connections until now.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes up the listener, which waits in `accept`.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one connection until one side closes it.
fn serve(stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    match &shared.tls {
        None => converse(stream, shared),
        Some(config) => {
            let connection = ServerConnection::new(Arc::clone(config)).expect("a configuration that fits");
            converse(StreamOwned::new(connection, stream), shared);
        }
    }
}

fn converse(stream: impl Read + Write, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let handler = Arc::clone(&lock(&shared.handler));
        lock(&shared.requests).push(request.clone());
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let reply = handler(&request);
        keep_secrets(&request, &reply);
        if !write(reader.get_mut(), &reply) {
            return;
        }
    }
}

/// Records the credentials that were sent and the tokens that were returned, even if they are not stored in a Secret:
/// they must not appear in any output.
fn keep_secrets(request: &Request, reply: &Reply) {
    const SENT: [&str; 8] = [
        "client_secret",
        "password",
        "refresh_token",
        "assertion",
        "client_assertion",
        "subject_token",
        "actor_token",
        "token",
    ];
    const ISSUED: [&str; 2] = ["access_token", "refresh_token"];
    let proofs = ["authorization", "dpop"].map(|name| request.headers.get(name).cloned().unwrap_or_default());
    let response = match reply {
        Reply::Http(_, _, body) => serde_json::from_str(body).unwrap_or_default(),
        _ => Value::Null,
    };
    let issued = ISSUED.map(|name| response[name].as_str().unwrap_or_default().to_owned());
    for secret in SENT.map(|name| request.parameter(name)).into_iter().chain(proofs).chain(issued) {
        // One per line; each line of a longer value counts separately.
        record::keep("given", secret.trim_start_matches("Bearer ").trim_start_matches("Basic "));
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let text = String::from_utf8_lossy(&body).into_owned();
    Some(Request { at: SystemTime::now(), method, path, headers, body: text, bytes: body })
}

/// Writes a response, and returns whether the connection stays open.
fn write(stream: &mut (impl Read + Write), reply: &Reply) -> bool {
    match reply {
        Reply::Http(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).is_ok()
        }
        Reply::Delayed(delay, reply) => {
            std::thread::sleep(*delay);
            write(stream, reply)
        }
        Reply::NoResponse => {
            // Until the client closes the connection.
            let _ = stream.read(&mut [0]);
            false
        }
        Reply::Close => false,
        Reply::Truncated => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"access_token\": \"cut sh");
            false
        }
        Reply::Overlong => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"access_token\": \"longer\"}").is_ok()
        }
        Reply::Oversized(length) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{{\"access_token\": \"");
            let chunk = [b'x'; 65_536];
            let mut going = stream.write_all(head.as_bytes()).is_ok();
            let mut sent = 0;
            while going && sent < *length {
                going = stream.write_all(&chunk).is_ok();
                sent += chunk.len();
            }
            false
        }
    }
}

/// A marker for tokens that does not occur by chance.
pub fn canary() -> String {
    format!("kanarie-{}", std::process::id())
}

/// A strict server with rotating refresh tokens that revokes the family of a reused one. A login with a username and
/// the right password starts a new family.
#[derive(Debug)]
pub struct RotatingTokenServer {
    state: Mutex<RotatingState>,
    lifetime: u64,
}

/// The password of all users.
pub const PASSWORD: &str = "the-password-of-all";

#[derive(Debug, Default)]
struct RotatingState {
    /// Tokens of different servers differ.
    server: u64,
    families: Vec<Family>,
    by_token: BTreeMap<String, usize>,
    reused: Vec<String>,
    issued: u64,
    renewed: usize,
    logins: usize,
}

#[derive(Debug, Default)]
struct Family {
    current: String,
    revoked: bool,
}

impl RotatingState {
    fn next(&mut self, family: usize) -> String {
        self.issued += 1;
        let token = format!("refresh-{}-{family}-{}-{}", self.server, self.issued, canary());
        self.by_token.insert(token.clone(), family);
        self.families[family].current.clone_from(&token);
        token
    }

    fn begin(&mut self) -> usize {
        self.families.push(Family::default());
        self.families.len() - 1
    }
}

impl RotatingTokenServer {
    /// A server with this lifetime of access tokens, in seconds.
    pub fn new(lifetime: u64) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let state = RotatingState { server: NUMBER.fetch_add(1, Ordering::Relaxed), ..RotatingState::default() };
        Arc::new(Self { state: Mutex::new(state), lifetime })
    }

    /// Creates the first refresh token of a family.
    pub fn first(&self) -> String {
        let mut state = lock(&self.state);
        let family = state.begin();
        state.next(family)
    }

    /// Accepts this refresh token as the first of a family.
    pub fn accept(&self, token: &str) {
        let mut state = lock(&self.state);
        let family = state.begin();
        state.by_token.insert(token.to_owned(), family);
        state.families[family].current = token.to_owned();
    }

    /// The refresh tokens that were used again.
    pub fn reused(&self) -> Vec<String> {
        lock(&self.state).reused.clone()
    }

    /// The number of successful refreshes.
    pub fn renewed(&self) -> usize {
        lock(&self.state).renewed
    }

    /// The number of successful logins with a password.
    pub fn logins(&self) -> usize {
        lock(&self.state).logins
    }

    /// Whether this is the current refresh token of its family.
    pub fn is_current(&self, token: &str) -> bool {
        let state = lock(&self.state);
        let family = state.by_token.get(token).map(|family| &state.families[*family]);
        family.is_some_and(|family| family.current == token && !family.revoked)
    }

    /// Revokes the family of a token, as an administrator would.
    pub fn revoke(&self, token: &str) {
        let mut state = lock(&self.state);
        if let Some(family) = state.by_token.get(token).copied() {
            state.families[family].revoked = true;
        }
    }

    /// The response to a token request.
    pub fn reply(&self, request: &Request) -> Reply {
        let mut state = lock(&self.state);
        let family = if request.parameter("username").is_empty() {
            match self.refreshed(&mut state, request.parameter("refresh_token")) {
                Ok(family) => family,
                Err(reply) => return reply,
            }
        } else if request.parameter("password") == PASSWORD {
            state.logins += 1;
            state.begin()
        } else {
            return Reply::rejected(401, "access_denied", "wrong password");
        };
        let next = state.next(family);
        let access = format!("access-{}-{}", state.issued, canary());
        Reply::json(200, &json!({"access_token": access, "refresh_token": next, "expires_in": self.lifetime}))
    }

    fn refreshed(&self, state: &mut RotatingState, sent: String) -> Result<usize, Reply> {
        let Some(number) = state.by_token.get(&sent).copied() else {
            return Err(Reply::rejected(400, "invalid_grant", "the refresh token is not known"));
        };
        let family = &mut state.families[number];
        if family.current != sent {
            family.revoked = true;
            state.reused.push(sent);
            return Err(Reply::rejected(400, "invalid_grant", "the refresh token was used before"));
        }
        if family.revoked {
            return Err(Reply::rejected(400, "invalid_grant", "the refresh token was revoked"));
        }
        state.renewed += 1;
        Ok(number)
    }
}
