//! A scripted token endpoint on loopback: for the exact bodies, and for the faults that no real server gives on demand.
//!
//! Plain sockets and one thread for each connection, so that a body can be cut short, a connection dropped or an answer
//! withheld, and so that nothing here depends on the runtime of a test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::record;

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: SystemTime,
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Request {
    /// The body as JSON; `Null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The body as a form.
    pub fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    /// A member of the body, in either format.
    pub fn member(&self, name: &str) -> String {
        match self.json().get(name).and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => self.form().get(name).cloned().unwrap_or_default(),
        }
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status, headers, body.
    Http(u16, Vec<(String, String)>, String),
    /// The same, after a while.
    Late(Duration, Box<Reply>),
    /// The connection stays open and silent.
    Never,
    /// The connection is closed without a word.
    Close,
    /// A length is announced, and less is sent.
    Truncated,
    /// A length is announced, and more is sent.
    Overlong,
    /// So many bytes that look like the beginning of a token.
    Huge(usize),
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Http(status, vec![("Content-Type".into(), "application/json".into())], body.to_string())
    }

    pub fn text(status: u16, body: &str) -> Self {
        Self::Http(status, vec![("Content-Type".into(), "text/html".into())], body.to_owned())
    }

    /// A token with a life in seconds, another one each time.
    pub fn token(life: u64) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::json(
            200,
            &json!({"access_token": format!("token-{number}-{}", canary()), "token_type": "Bearer", "expires_in": life}),
        )
    }

    /// An error in the words of RFC 6749, section 5.2.
    pub fn refused(status: u16, error: &str, description: &str) -> Self {
        Self::json(status, &json!({"error": error, "error_description": description}))
    }

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

/// The endpoint. Dropped: it answers no more.
pub struct Endpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Endpoint {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, handler)
    }

    /// One at another address of loopback.
    pub fn start_at(address: &str, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind((address, 0)).expect("a port on loopback"), None, handler)
    }

    /// One that speaks TLS.
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

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.handler) = Arc::new(Box::new(handler));
    }

    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    pub fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // The listener waits in `accept`; this wakes it up.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one connection until one side ends it.
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

/// What was sent to prove something, and what was given for it, also where that reaches no Secret: nobody may see it.
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
    const GIVEN: [&str; 2] = ["access_token", "refresh_token"];
    let proofs = ["authorization", "dpop"].map(|name| request.headers.get(name).cloned().unwrap_or_default());
    let answer = match reply {
        Reply::Http(_, _, body) => serde_json::from_str(body).unwrap_or_default(),
        _ => Value::Null,
    };
    let given = GIVEN.map(|name| answer[name].as_str().unwrap_or_default().to_owned());
    for secret in SENT.map(|name| request.member(name)).into_iter().chain(proofs).chain(given) {
        // One on each line; of several lines each is one.
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
    Some(Request { at: SystemTime::now(), method, path, headers, body: String::from_utf8(body).ok()? })
}

/// Writes an answer, and tells whether the connection goes on.
fn write(stream: &mut (impl Read + Write), reply: &Reply) -> bool {
    match reply {
        Reply::Http(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).is_ok()
        }
        Reply::Late(delay, reply) => {
            std::thread::sleep(*delay);
            write(stream, reply)
        }
        Reply::Never => {
            // Until the other side has had enough.
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
        Reply::Huge(length) => {
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

/// What makes a token of the tests one that stands nowhere by chance.
pub fn canary() -> String {
    format!("kanarie-{}", std::process::id())
}

/// A strict server with rotating refresh tokens, which revokes the family of one that comes again. Who logs in with a user
/// name and the right password gets a new family.
#[derive(Debug)]
pub struct Rotating {
    state: Mutex<RotatingState>,
    life: u64,
}

/// The password of all users.
pub const PASSWORD: &str = "the-password-of-all";

#[derive(Debug, Default)]
struct RotatingState {
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
        let token = format!("refresh-{family}-{}-{}", self.issued, canary());
        self.by_token.insert(token.clone(), family);
        self.families[family].current.clone_from(&token);
        token
    }

    fn begin(&mut self) -> usize {
        self.families.push(Family::default());
        self.families.len() - 1
    }
}

impl Rotating {
    /// A server whose access tokens live for so many seconds.
    pub fn new(life: u64) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), life })
    }

    /// The first refresh token of a family.
    pub fn first(&self) -> String {
        let mut state = lock(&self.state);
        let family = state.begin();
        state.next(family)
    }

    /// Takes this one as the first of a family.
    pub fn accept(&self, token: &str) {
        let mut state = lock(&self.state);
        let family = state.begin();
        state.by_token.insert(token.to_owned(), family);
        state.families[family].current = token.to_owned();
    }

    /// The used refresh tokens that came again.
    pub fn reused(&self) -> Vec<String> {
        lock(&self.state).reused.clone()
    }

    /// How many tokens were given for refresh tokens.
    pub fn renewed(&self) -> usize {
        lock(&self.state).renewed
    }

    /// How many tokens were given for passwords.
    pub fn logins(&self) -> usize {
        lock(&self.state).logins
    }

    /// Whether this is the refresh token that its family goes on with.
    pub fn is_current(&self, token: &str) -> bool {
        let state = lock(&self.state);
        let family = state.by_token.get(token).map(|family| &state.families[*family]);
        family.is_some_and(|family| family.current == token && !family.revoked)
    }

    /// Ends the family of a token, as an administrator would.
    pub fn revoke(&self, token: &str) {
        let mut state = lock(&self.state);
        if let Some(family) = state.by_token.get(token).copied() {
            state.families[family].revoked = true;
        }
    }

    pub fn reply(&self, request: &Request) -> Reply {
        let mut state = lock(&self.state);
        let family = if request.member("username").is_empty() {
            match self.refreshed(&mut state, request.member("refresh_token")) {
                Ok(family) => family,
                Err(reply) => return reply,
            }
        } else if request.member("password") == PASSWORD {
            state.logins += 1;
            state.begin()
        } else {
            return Reply::refused(401, "access_denied", "wrong password");
        };
        let next = state.next(family);
        let access = format!("access-{}-{}", state.issued, canary());
        Reply::json(200, &json!({"access_token": access, "refresh_token": next, "expires_in": self.life}))
    }

    fn refreshed(&self, state: &mut RotatingState, sent: String) -> Result<usize, Reply> {
        let Some(number) = state.by_token.get(&sent).copied() else {
            return Err(Reply::refused(400, "invalid_grant", "the refresh token is not known"));
        };
        let family = &mut state.families[number];
        if family.current != sent {
            family.revoked = true;
            state.reused.push(sent);
            return Err(Reply::refused(400, "invalid_grant", "the refresh token was used before"));
        }
        if family.revoked {
            return Err(Reply::refused(400, "invalid_grant", "the refresh token was revoked"));
        }
        state.renewed += 1;
        Ok(number)
    }
}
