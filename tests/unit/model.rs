//! Guarantee, explored exhaustively: one integration with two replicas, in every order of their steps and of up to
//! two faults.
//!
//! Time advances in ticks, the same for all clocks. The steps model the operator: decide under the fence, send only in
//! time, hold the response, write it, and prevent a late write from overwriting a newer one. Each safeguard can be
//! disabled; then the same search finds a violation, which shows that it can detect errors in the rules.
//!
//! One window cannot be closed: the server has invalidated a refresh token, and the response is lost with the process
//! that requested it. The model counts this (`lost`) and shows that a refresh token is used twice only after it.

use stateright::{Checker, Model, Property};

/// The lease, the request's timeout, and the write that follows, in ticks.
const LEASE: u8 = 4;
const TIMEOUT: u8 = 2;
const WRITE: u8 = 1;

/// The bounds of the search (ticks, faults and renewals), and whether each safeguard is enabled.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    ticks: u8,
    faults: u8,
    renewals: u8,
    fence: bool,
    timely: bool,
    guarded: bool,
}

const ALL: Bounds = Bounds { ticks: 7, faults: 2, renewals: 2, fence: true, timely: true, guarded: true };

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct World {
    replicas: [Replica; 2],
    /// The holder of the lease, and its remaining time as counted by the other replica.
    holder: Option<usize>,
    lease: u8,
    /// The number of the refresh token in the Secret; the server accepts only the newest one.
    secret: u8,
    newest: u8,
    requests: Vec<Request>,
    reused: bool,
    /// A response was lost with the process that sent the request.
    lost: bool,
    /// A response arrived after the timeout, or could not be written before the lease expired.
    late: bool,
    ticks: u8,
    faults: u8,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Replica {
    alive: bool,
    frozen: bool,
    /// Disconnected from the API server.
    cut: bool,
    /// The remaining time of the lease as counted by this replica.
    left: u8,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The token was read under the fence, this many ticks ago.
    Decided(u8, u8),
    /// The request was sent this many ticks after the decision.
    Sent(u8),
    /// The response has arrived and is not in the Secret yet.
    Holding(u8),
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Request {
    /// The sender; `None` once it has given up or crashed.
    from: Option<usize>,
    /// Whether it was sent in time, so that later consequences are caused by the fault and not by the sender.
    with_timeout: bool,
    token: u8,
    response: Option<Response>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Response {
    Token(u8),
    Rejected,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Step {
    Tick,
    Renew(usize),
    Take(usize),
    Decide(usize),
    Send(usize),
    Process(usize),
    Deliver(usize),
    TimeOut(usize),
    Write(usize),
    Kill(usize),
    Start(usize),
    Freeze(usize),
    Thaw(usize),
    Cut(usize),
    Reconnect(usize),
}

impl Replica {
    fn runs(&self) -> bool {
        self.alive && !self.frozen
    }

    fn reaches_api(&self) -> bool {
        self.runs() && !self.cut
    }
}

impl World {
    /// Whether a working replica holds the newest token and will write it.
    fn is_token_held(&self) -> bool {
        self.replicas.iter().enumerate().any(|(number, replica)| {
            let coming = self
                .requests
                .iter()
                .any(|request| request.from == Some(number) && request.response == Some(Response::Token(self.newest)));
            replica.reaches_api() && (coming || replica.phase == Phase::Holding(self.newest))
        })
    }

    /// Whether the newest token still exists anywhere.
    fn is_somewhere(&self) -> bool {
        let held = |replica: &Replica| replica.alive && replica.phase == Phase::Holding(self.newest);
        let coming =
            |request: &Request| request.from.is_some() && request.response == Some(Response::Token(self.newest));
        self.secret == self.newest || self.replicas.iter().any(held) || self.requests.iter().any(coming)
    }

    /// The sender of a request has crashed.
    fn orphan(&mut self, number: usize) {
        for request in self.requests.iter_mut().filter(|request| request.from == Some(number)) {
            request.from = None;
            self.lost |= matches!(request.response, Some(Response::Token(_)));
        }
        self.requests.retain(|request| request.from.is_some() || request.response.is_none());
    }

    /// Whether a request has timed out for its sender, even if a frozen sender cannot notice it.
    fn is_over(&self, request: &Request) -> bool {
        let over = |number: usize| match self.replicas[number] {
            Replica { frozen: false, phase: Phase::Sent(age), .. } => age >= TIMEOUT,
            replica => !replica.runs(),
        };
        request.with_timeout && request.from.is_none_or(over)
    }

    fn process(&mut self, index: usize) {
        let request = self.requests[index];
        if request.token == self.newest {
            self.late |= self.is_over(&request);
            // The sender no longer waits for it.
            self.lost |= request.from.is_none();
            self.newest += 1;
            self.requests[index].response = Some(Response::Token(self.newest));
        } else {
            self.reused = true;
            // In the window: a request with the same token that has timed out, and a token held by a frozen,
            // disconnected or crashed process.
            let over = |other: &Request| other.token == request.token && self.is_over(other);
            self.late |= self.requests.iter().any(over) || !self.is_token_held();
            self.requests[index].response = Some(Response::Rejected);
        }
        self.requests.retain(|request| request.from.is_some() || request.response.is_none());
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.lease = self.lease.saturating_sub(1);
        for replica in &mut self.replicas {
            replica.left = replica.left.saturating_sub(1);
            replica.phase = match replica.phase {
                Phase::Decided(token, age) => Phase::Decided(token, age + 1),
                Phase::Sent(age) => Phase::Sent(age + 1),
                other => other,
            };
        }
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let idle = Replica { alive: true, frozen: false, cut: false, left: 0, phase: Phase::Idle };
        vec![World {
            replicas: [Replica { left: LEASE, ..idle }, idle],
            holder: Some(0),
            lease: LEASE,
            secret: 0,
            newest: 0,
            requests: vec![],
            reused: false,
            lost: false,
            late: false,
            ticks: 0,
            faults: 0,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        // A running replica abandons a request in time, and one that reaches the API server writes its response before
        // the next tick.
        let overdue = |replica: &Replica| match replica.phase {
            Phase::Sent(age) => replica.runs() && age >= TIMEOUT,
            Phase::Holding(_) => replica.reaches_api(),
            Phase::Idle | Phase::Decided(..) => false,
        };
        if world.ticks < self.ticks && !world.replicas.iter().any(overdue) {
            actions.push(Step::Tick);
        }
        for (number, replica) in world.replicas.iter().enumerate() {
            let renewed = world.holder == Some(number);
            if replica.reaches_api() {
                if renewed && replica.left < LEASE {
                    actions.push(Step::Renew(number));
                }
                if !renewed && world.lease == 0 {
                    actions.push(Step::Take(number));
                }
                let enough = if self.fence { TIMEOUT + WRITE } else { 1 };
                if replica.phase == Phase::Idle && replica.left >= enough && world.newest < self.renewals {
                    actions.push(Step::Decide(number));
                }
                if matches!(replica.phase, Phase::Holding(_)) {
                    actions.push(Step::Write(number));
                }
            }
            if replica.runs() {
                match replica.phase {
                    Phase::Decided(..) => actions.push(Step::Send(number)),
                    Phase::Sent(age) if age >= TIMEOUT => actions.push(Step::TimeOut(number)),
                    _ => {}
                }
            }
            if world.faults < self.faults && replica.runs() {
                actions.extend([Step::Kill(number), Step::Freeze(number)]);
                if !replica.cut {
                    actions.push(Step::Cut(number));
                }
            }
            if !replica.alive {
                actions.push(Step::Start(number));
            }
            if replica.frozen {
                actions.push(Step::Thaw(number));
            }
            if replica.cut {
                actions.push(Step::Reconnect(number));
            }
        }
        for (index, request) in world.requests.iter().enumerate() {
            match (request.response, request.from) {
                (None, _) => actions.push(Step::Process(index)),
                (Some(_), Some(number)) if world.replicas[number].runs() => actions.push(Step::Deliver(index)),
                _ => {}
            }
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        match step {
            Step::Tick => world.tick(),
            Step::Renew(number) | Step::Take(number) => {
                // A replica that was disconnected with a pending response until its lease expired has not written it in
                // time.
                let other = 1 - number;
                let held = matches!(last.replicas[other].phase, Phase::Holding(_));
                let coming = |request: &Request| request.from == Some(other) && request.response.is_some();
                world.late |= matches!(step, Step::Take(_)) && (held || last.requests.iter().any(coming));
                world.holder = Some(number);
                world.lease = LEASE;
                world.replicas[number].left = LEASE;
            }
            Step::Decide(number) => world.replicas[number].phase = Phase::Decided(world.secret, 0),
            Step::Send(number) => {
                let Phase::Decided(token, age) = last.replicas[number].phase else { return None };
                if self.timely && age >= TIMEOUT {
                    world.replicas[number].phase = Phase::Idle;
                } else {
                    world.replicas[number].phase = Phase::Sent(age);
                    world.requests.push(Request {
                        from: Some(number),
                        with_timeout: age < TIMEOUT,
                        token,
                        response: None,
                    });
                }
            }
            Step::Process(index) => world.process(index),
            Step::Deliver(index) => {
                let Request { from, response, .. } = world.requests.remove(index);
                let number = from?;
                world.replicas[number].phase = match response? {
                    Response::Token(token) => Phase::Holding(token),
                    // The fallback, if there is time: a new token family, which invalidates the previous one.
                    Response::Rejected if self.fence && last.replicas[number].left == 0 => Phase::Idle,
                    Response::Rejected => {
                        world.newest += 1;
                        Phase::Holding(world.newest)
                    }
                };
            }
            Step::TimeOut(number) => {
                // Responses that have arrived in the meantime are processed first.
                if last.requests.iter().any(|request| request.from == Some(number) && request.response.is_some()) {
                    return None;
                }
                world.orphan(number);
                world.replicas[number].phase = Phase::Idle;
            }
            Step::Write(number) => {
                let Phase::Holding(token) = last.replicas[number].phase else { return None };
                let is_leader = last.replicas[number].left > 0;
                if is_leader || !self.guarded || token > world.secret {
                    world.secret = token;
                }
                world.replicas[number].phase = Phase::Idle;
            }
            Step::Kill(number) => {
                world.faults += 1;
                world.lost |= matches!(last.replicas[number].phase, Phase::Holding(_));
                world.orphan(number);
                let dead =
                    Replica { alive: false, frozen: false, left: 0, phase: Phase::Idle, ..last.replicas[number] };
                world.replicas[number] = dead;
                // It restarts with another identity, and waits until its own lease expires, like the others.
                world.holder = last.holder.filter(|holder| *holder != number);
            }
            Step::Start(number) => world.replicas[number].alive = true,
            Step::Freeze(number) => {
                world.faults += 1;
                world.replicas[number].frozen = true;
            }
            Step::Thaw(number) => world.replicas[number].frozen = false,
            Step::Cut(number) => {
                world.faults += 1;
                world.replicas[number].cut = true;
            }
            Step::Reconnect(number) => world.replicas[number].cut = false,
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no refresh token is used twice, except after a loss in the window",
                |_, world: &World| !world.reused || world.lost || world.late,
            ),
            Property::always("a live refresh token is never dropped", |_, world: &World| {
                world.lost || world.is_somewhere()
            }),
            Property::sometimes("the other replica takes over and renews", |_, world: &World| {
                world.holder == Some(1) && world.secret == 2 && !world.lost
            }),
            Property::sometimes("the window is hit", |_, world: &World| world.reused),
        ]
    }
}

/// The names of the properties that a search has found violated.
fn broken(bounds: Bounds) -> Vec<&'static str> {
    let checker = bounds.checker().threads(2).spawn_bfs().join();
    println!("{bounds:?}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    let found = checker.discoveries();
    let always = bounds
        .properties()
        .into_iter()
        .filter(|property| matches!(property.expectation, stateright::Expectation::Always));
    always.map(|property| property.name).filter(|name| found.contains_key(name)).collect()
}

#[test]
fn two_replicas_never_reuse_or_drop_a_refresh_token() {
    let checker = ALL.checker().threads(2).spawn_bfs().join();
    println!("{} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn without_the_fence_the_search_finds_two_leaders_at_once() {
    assert!(!broken(Bounds { fence: false, timely: false, ..ALL }).is_empty());
}

#[test]
fn without_the_time_limit_for_sending_a_resumed_process_sends_too_late() {
    assert!(!broken(Bounds { timely: false, ..ALL }).is_empty());
}

#[test]
fn without_the_guard_a_late_write_drops_the_current_token() {
    assert!(!broken(Bounds { guarded: false, ..ALL }).is_empty());
}
