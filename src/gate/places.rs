//! The places at token endpoints, as data: who has one, who waits, and which hosts fail. The time comes from outside.

#![deny(clippy::disallowed_methods)]

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::host::{Host, Key, Pace, Trouble};

/// The distance of probes is this part of the time that the host has been failing for...
const PROBE_PART: u32 = 20;
/// ...but at least this...
const SHORTEST_PROBE: Duration = Duration::from_secs(1);
/// ...and at most this.
const LONGEST_PROBE: Duration = Duration::from_secs(30);
/// The longest pause that a failing host may ask for all.
const LONGEST_ASKED: Duration = Duration::from_mins(5);
/// What has waited for a host that is back is spread over this time.
const RECOVERY: Duration = Duration::from_secs(8);
/// The longest distance of two requests while that lasts.
const SLOWEST_PACE: Duration = Duration::from_millis(50);
/// A place is kept for so long for one that was called.
const KEPT: Duration = Duration::from_secs(10);

/// An integration that wants to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests at once to one host.
    pub per_host: usize,
    /// Requests at once to all.
    pub total: usize,
}

/// Why one may not go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// As many as may are under way.
    Busy,
    /// The host has been failing for everyone since then.
    Failing(Timestamp),
}

/// What came of a request, as far as the host is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered, be it with a refusal.
    Answers,
    /// It did not, or said that it cannot; it may have asked for a pause.
    Fails(Option<Duration>),
}

/// What can be said of the gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Requests under way.
    pub under_way: usize,
    /// Integrations that wait.
    pub waiting: usize,
    /// Hosts that fail for everyone.
    pub failing: Vec<String>,
}

/// All places.
#[derive(Debug)]
pub struct Places {
    limits: Limits,
    hosts: HashMap<String, Host>,
    /// Where each one waits.
    waiting: HashMap<String, (String, Key)>,
    /// For whom a place is kept, at which host, and since when.
    called: HashMap<String, (String, Instant)>,
    /// Who failed at a host that is back since.
    back: HashSet<String>,
    under_way: usize,
    number: u64,
}

impl Places {
    /// None taken.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            hosts: HashMap::new(),
            waiting: HashMap::new(),
            called: HashMap::new(),
            back: HashSet::new(),
            under_way: 0,
            number: 0,
        }
    }

    /// One asks for a place; `ends` is when its token ends. Returns why it has to wait, if it has to, and who else is called.
    pub fn ask(&mut self, caller: &Caller, host: &str, ends: Timestamp, now: Instant) -> (Option<Closed>, Vec<Caller>) {
        self.back.remove(&caller.uid);
        if let Some((kept_at, _)) = self.called.remove(&caller.uid) {
            if kept_at == host {
                return (None, vec![]);
            }
            self.free(&kept_at);
        }
        self.enqueue(caller, host, ends);
        let mut called = self.call(now);
        called.retain(|other| other.uid != caller.uid);
        let closed = self.called.remove(&caller.uid).is_none().then(|| self.closed(host));
        (closed, called)
    }

    /// One does not want to ask any more. Returns who is called instead.
    pub fn leave(&mut self, uid: &str, now: Instant) -> Vec<Caller> {
        self.back.remove(uid);
        self.dequeue(uid);
        let Some((host, _)) = self.called.remove(uid) else { return vec![] };
        self.free(&host);
        self.call(now)
    }

    /// A request is over; without a verdict nothing was learned of the host. Returns who is called.
    pub fn end(
        &mut self,
        host: &str,
        caller: &Caller,
        verdict: Option<Verdict>,
        now: Instant,
        wall: Timestamp,
    ) -> Vec<Caller> {
        self.free(host);
        let mut called = match verdict {
            Some(Verdict::Answers) => self.answers(host, now),
            Some(Verdict::Fails(pause)) => {
                self.fails(host, caller, pause, now, wall);
                vec![]
            }
            None => vec![],
        };
        called.extend(self.call(now));
        self.tidy(host, now);
        called
    }

    /// What has changed by itself: who is called, and when to look again.
    pub fn tick(&mut self, now: Instant) -> (Vec<Caller>, Option<Instant>) {
        self.give_up_places(now);
        (self.call(now), self.next_change(now))
    }

    /// Whether somebody waits, or is called and has not come yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.called.is_empty()
    }

    /// Whether the host at which this one failed has answered since, after it had failed for all.
    #[must_use]
    pub fn is_back(&self, uid: &str) -> bool {
        self.back.contains(uid)
    }

    /// How many requests are under way, how many wait, and which hosts fail for all.
    #[must_use]
    pub fn picture(&self) -> Picture {
        let fails = |host: &Host| host.trouble.as_ref().is_some_and(Trouble::is_for_all);
        Picture {
            under_way: self.under_way,
            waiting: self.waiting.len(),
            failing: self.hosts.iter().filter(|(_, host)| fails(host)).map(|(name, _)| name.clone()).collect(),
        }
    }

    fn enqueue(&mut self, caller: &Caller, host: &str, ends: Timestamp) {
        self.dequeue(&caller.uid);
        self.number += 1;
        let key = (ends, self.number);
        self.hosts.entry(host.to_owned()).or_default().queue.insert(key, caller.clone());
        self.waiting.insert(caller.uid.clone(), (host.to_owned(), key));
    }

    fn dequeue(&mut self, uid: &str) {
        if let Some((host, key)) = self.waiting.remove(uid)
            && let Some(host) = self.hosts.get_mut(&host)
        {
            host.queue.remove(&key);
        }
    }

    fn free(&mut self, host: &str) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(host) = self.hosts.get_mut(host) {
            host.under_way = host.under_way.saturating_sub(1);
        }
    }

    /// Keeps a place for each who may go now.
    fn call(&mut self, now: Instant) -> Vec<Caller> {
        let mut called = vec![];
        while let Some(name) = self.next_host(now) {
            let Some(host) = self.hosts.get_mut(&name) else { break };
            let Some((_, caller)) = host.next(now) else { break };
            host.under_way += 1;
            self.under_way += 1;
            self.waiting.remove(&caller.uid);
            self.called.insert(caller.uid.clone(), (name, now));
            called.push(caller);
        }
        called
    }

    /// The host whose turn it is: the one with the least under way, and of those the one with the most urgent token. The
    /// last quarter of all places is for hosts that have none, so that a few slow ones cannot take them all.
    fn next_host(&self, now: Instant) -> Option<String> {
        let limits = self.limits;
        let free = limits.total.saturating_sub(self.under_way);
        let most = if free == 0 {
            return None;
        } else if free <= limits.total / 4 {
            0
        } else {
            usize::MAX
        };
        let names: HashSet<&String> = self.waiting.values().map(|(host, _)| host).collect();
        names
            .into_iter()
            .filter_map(|name| Some((name, self.hosts.get(name)?)))
            .filter(|(_, host)| host.under_way <= most)
            .filter(|(_, host)| host.opens(limits, now).is_some_and(|at| at <= now))
            .min_by_key(|(_, host)| (host.under_way, host.queue.keys().next().copied()))
            .map(|(name, _)| name.clone())
    }

    fn closed(&self, host: &str) -> Closed {
        let trouble = self.hosts.get(host).and_then(|host| host.trouble.as_ref());
        match trouble.filter(|trouble| trouble.is_for_all()) {
            Some(trouble) => Closed::Failing(trouble.since_wall),
            None => Closed::Busy,
        }
    }

    /// A host that failed for all and answers is back: those who failed get their chance at once, one after the other.
    fn answers(&mut self, name: &str, now: Instant) -> Vec<Caller> {
        let Some(host) = self.hosts.get_mut(name) else { return vec![] };
        let Some(trouble) = host.trouble.take() else { return vec![] };
        if !trouble.is_for_all() {
            return vec![];
        }
        let waited = host.queue.len() + trouble.failed.len();
        let distance = (RECOVERY / u32::try_from(waited.max(1)).unwrap_or(u32::MAX)).min(SLOWEST_PACE);
        host.pace = Some(Pace { distance, next: now, until: now + RECOVERY });
        self.back.extend(trouble.failed.keys().cloned());
        trouble.failed.into_values().collect()
    }

    fn fails(&mut self, name: &str, caller: &Caller, pause: Option<Duration>, now: Instant, wall: Timestamp) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let trouble = host.trouble.get_or_insert_with(|| Trouble {
            since: now,
            since_wall: wall,
            failed: HashMap::new(),
            next_probe: now,
        });
        trouble.failed.insert(caller.uid.clone(), caller.clone());
        let distance = (now.duration_since(trouble.since) / PROBE_PART).clamp(SHORTEST_PROBE, LONGEST_PROBE);
        trouble.next_probe = now + distance.max(pause.unwrap_or_default().min(LONGEST_ASKED));
        host.pace = None;
    }

    fn give_up_places(&mut self, now: Instant) {
        let late = |since: Instant| now.duration_since(since) >= KEPT;
        let lost: Vec<String> =
            self.called.iter().filter(|(_, (_, since))| late(*since)).map(|(uid, _)| uid.clone()).collect();
        for uid in lost {
            if let Some((host, _)) = self.called.remove(&uid) {
                self.free(&host);
            }
        }
    }

    /// When something happens by itself.
    fn next_change(&self, now: Instant) -> Option<Instant> {
        let limits = self.limits;
        let names: HashSet<&String> = self.waiting.values().map(|(host, _)| host).collect();
        let opens =
            names.into_iter().filter_map(|name| self.hosts.get(name)?.opens(limits, now)).filter(|at| *at > now);
        let lapses = self.called.values().map(|(_, since)| *since + KEPT);
        opens.chain(lapses).min()
    }

    fn tidy(&mut self, name: &str, now: Instant) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.pace.take_if(|pace| pace.until <= now && host.queue.is_empty());
            if host.is_idle(now) {
                self.hosts.remove(name);
            }
        }
    }
}
