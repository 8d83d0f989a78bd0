//! Child processes that are killed when the test binary exits, however that happens.
//!
//! Each child runs under a small shell whose standard input is a pipe from the test binary. When the pipe closes,
//! because the [`Process`] was dropped or the test binary exited (statics are not dropped then), panicked or was
//! killed, the shell kills the child and removes its directory.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::record;

/// Starts `"$@"` in a separate process group, and reports its pid and, in a file, its exit status. Descriptor 3 is the
/// pipe, which the child must not keep open. When it closes, the whole group is killed: no process has data to save, and
/// a graceful shutdown would wait for servers that have already exited.
const WATCHDOG: &str = r#"
exec 3<&0
env -u LOG -u WORK -u RECORD setsid "$@" </dev/null 3<&- >"$LOG" 2>&1 &
pid=$!
echo "$pid"
( read -r _ <&3; kill -s KILL -- "-$pid" 2>/dev/null ) &
reader=$!
wait "$pid"
echo $? >"$WORK/exit"
wait "$reader"
[ -z "$RECORD" ] || cp "$LOG" "$RECORD"
rm -rf "$WORK"
"#;

/// The processes whose output is searched for secrets: those of the operator.
const RECORDED: [&str; 2] = ["oauth-operator", "image"];

/// A directory for one process, removed when the process exits.
#[derive(Debug)]
pub struct WorkDir(PathBuf);

impl WorkDir {
    /// A new directory whose name contains `name`.
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("oauth-operator-{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{} cannot be created: {error}", path.display()));
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// A supervised child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    dir: WorkDir,
    watchdog: Child,
    pipe: Option<ChildStdin>,
}

impl Process {
    /// Starts `command` under supervision; its output goes to a file in the directory.
    pub fn start(name: &str, dir: WorkDir, command: Command) -> Self {
        let mut supervised = Command::new("sh");
        supervised.args(["-c", WATCHDOG, "watchdog"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => supervised.env(key, value),
                None => supervised.env_remove(key),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            supervised.current_dir(dir);
        }
        supervised.env("WORK", dir.path()).env("LOG", dir.path().join("log"));
        supervised.env_remove("RECORD");
        if let Some(record) = record::file("logs").filter(|_| RECORDED.contains(&name)) {
            supervised.env("RECORD", record);
        }
        // A separate process group: Ctrl-C in the terminal reaches only the test binary, which stops the others in
        // order.
        supervised.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut watchdog = supervised.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let pipe = watchdog.stdin.take();
        let mut first_line = String::new();
        let output = watchdog.stdout.take().unwrap_or_else(|| panic!("{name} has no output"));
        BufReader::new(output)
            .read_line(&mut first_line)
            .unwrap_or_else(|error| panic!("{name} reports no pid: {error}"));
        let pid =
            first_line.trim().parse().unwrap_or_else(|_| panic!("{name} reports {first_line:?} instead of a pid"));
        Self { name: name.to_owned(), pid, dir, watchdog, pipe }
    }

    /// The name under which it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pid of the child, not of its watchdog.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The output of the process.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The last lines of the log, for a panic message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Sends a signal by its name without `SIG`; panics if there is no such process.
    pub fn signal(&self, signal: &str) {
        let sent =
            Command::new("kill").args([OsString::from(format!("-{signal}")), self.pid.to_string().into()]).status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{} (pid {}) cannot be sent SIG{signal}",
            self.name,
            self.pid
        );
    }

    /// Whether the process exists and is not a zombie.
    pub fn is_alive(&self) -> bool {
        self.state().is_some_and(|state| state != 'Z')
    }

    /// Whether the process exists and is neither a zombie nor stopped.
    pub fn is_running(&self) -> bool {
        self.state().is_some_and(|state| "RSD".contains(state))
    }

    /// The state letter of `/proc/<pid>/stat`, after the name of the program.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit(')').next()?.trim_start().chars().next()
    }

    /// Waits until the process has exited, and returns its exit code (128 plus the signal number if it was killed).
    pub fn wait_for_exit(&self, within: Duration) -> i32 {
        let deadline = Instant::now() + within;
        loop {
            let exit = fs::read_to_string(self.dir.path().join("exit")).unwrap_or_default();
            if let Ok(code) = exit.trim().parse() {
                return code;
            }
            assert!(Instant::now() < deadline, "{} did not exit within {within:?}:\n{}", self.name, self.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Polls `ready` until it is true; panics with the end of the log if the process exits or the timeout expires.
    pub fn wait_until(&self, what: &str, within: Duration, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + within;
        while !ready() {
            assert!(self.is_alive(), "{} exited before {what}:\n{}", self.name, self.log_tail());
            assert!(
                Instant::now() < deadline,
                "{}: {what} took longer than {within:?}:\n{}",
                self.name,
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // The watchdog removes the directory when it exits. Afterwards the ports of the process can be reused.
        let _ = self.watchdog.wait();
    }
}

/// A loopback port that was free a moment ago, is returned only once, and is outside the range of ephemeral ports: an
/// outgoing connection could take one of these before the server does.
pub fn free_port() -> u16 {
    const LOWEST: u16 = 10_000;
    static HANDED_OUT: AtomicU32 = AtomicU32::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let outgoing: u16 = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
    let count = u32::from(outgoing.saturating_sub(LOWEST).max(1));
    // Test binaries that run in parallel start at different ports.
    let first = std::process::id().wrapping_mul(101);
    for _ in 0..count {
        let number = first.wrapping_add(HANDED_OUT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = LOWEST + u16::try_from(number).expect("less than the count of ports");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {LOWEST} to {outgoing}");
}
