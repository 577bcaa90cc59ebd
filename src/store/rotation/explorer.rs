//! Tries everything that can happen to two processes that renew one token: every order of their
//! steps, and a fault at every step.
//!
//! The world is a store, a lock, an authorization server and two processes, each of which renews
//! twice. A fault is a crash, an answer that is lost before or after the server did its work, or
//! whose access token is refused, a write that fails (and may have happened), or a lock that expires while its holder stands still.
//! A process that crashed starts again before long; then it takes a stored token if that will do.
//! At the end each process renews once more, without faults: whoever cannot has lost the session.

use std::collections::HashSet;

use super::*;

/// Two processes, which renew twice, and at most `faults` faults.
fn explore(server: Grace, lock: Lock, faults: u8) -> Found {
    let mut explorer = Explorer { seen: HashSet::new(), found: Found::default() };
    explorer.visit(World::new(server, lock, faults));
    explorer.found
}

#[test]
fn rfr_04_without_faults_nothing_is_lost_and_nothing_sent_twice() {
    for server in [Grace::None, Grace::Short, Grace::UntilNewerIsUsed] {
        for lock in [Lock::Kept, Lock::Expires] {
            let found = explore(server, lock, 0);
            assert!(found.ends > 0);
            assert_eq!((found.lost, found.reused), (0, 0));
            // Each renewal is a token request, or adopts another process' one.
            assert!(found.most_requests <= 6, "{found:?}");
        }
    }
}

#[test]
fn f31_f32_f40_with_a_grace_period_no_two_faults_lose_anything() {
    for lock in [Lock::Kept, Lock::Expires] {
        for faults in [1, 2] {
            let found = explore(Grace::UntilNewerIsUsed, lock, faults);
            assert!(found.ends > 0);
            assert_eq!(found.lost, 0, "{lock:?} {faults}");
        }
    }
}

/// Where the grace is over by the time that a token is due again, a renewal that broke off has to be
/// gone on with at once, by whoever starts. All that is lost is what could not be written before its
/// process ended, or lost its lock.
#[test]
fn f31_f32_f40_within_a_short_grace_a_broken_renewal_is_mended() {
    for lock in [Lock::Kept, Lock::Expires] {
        assert_eq!(explore(Grace::Short, lock, 1).lost, 0, "{lock:?}");
        let two = explore(Grace::Short, lock, 2);
        assert_eq!(two.lost, two.lost_unwritten, "{lock:?}");
    }
}

/// A strict server takes every refresh token once. Then all that is lost is what was lost between
/// its commit and the durable write: and that always is.
#[test]
fn f32_a_strict_server_loses_exactly_what_no_client_could_keep() {
    for faults in [1, 2] {
        let found = explore(Grace::None, Lock::Kept, faults);
        assert!(found.lost > 0, "the faults are not where they hurt");
        assert_eq!(found.lost, found.unavoidable, "{faults}");
        assert_eq!(found.lost_avoidably, 0, "{faults}");
    }
}

/// A lock that expires under a process that stands still lets another one send the same refresh
/// token. Only then is more lost than with one that is kept.
#[test]
fn f41_f42_an_expired_lock_loses_nothing_outside_of_the_exchange() {
    for faults in [1, 2] {
        let found = explore(Grace::None, Lock::Expires, faults);
        assert!(found.lost > 0);
        assert_eq!(found.lost_avoidably, 0, "{faults}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Grace {
    /// A refresh token that comes twice ends the session.
    None,
    /// A spent one is taken until one that was given for it is used.
    UntilNewerIsUsed,
    /// As that, but only until everybody has a token and time passes.
    Short,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lock {
    /// Until it is given back or its holder dies, as a file's.
    Kept,
    /// Also when its holder stands still, as a lease.
    Expires,
}

/// What there is at all the ends.
#[derive(Debug, Default)]
struct Found {
    ends: u64,
    lost: u64,
    /// Ends where a fault fell between the server's commit and the durable write.
    unavoidable: u64,
    lost_avoidably: u64,
    /// Lost after tokens that could not be written, in a process that ended or lost its lock.
    lost_unwritten: u64,
    reused: u64,
    most_requests: u8,
}

/// An access token and a refresh token, by their number.
type Pair = u8;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    grace: Grace,
    lock_kind: Lock,
    faults: u8,
    stored: Entry<Pair>,
    lock: Option<usize>,
    server: Server,
    processes: [Process; 2],
    unavoidable: bool,
    unwritten: bool,
    ended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Server {
    /// Of each token, which one it was given for, and whether it was used.
    tokens: Vec<(Pair, bool)>,
    /// Tokens below this one were issued long ago.
    long_ago: usize,
    requests: u8,
    reused: bool,
    revoked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Process {
    left: u8,
    /// It crashed, and starts in a moment.
    starts: bool,
    memory: Memory<Pair>,
    running: Option<Running>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Running {
    rotation: Rotation<Pair>,
    todo: Do<Pair>,
    /// The server's answer, on its way.
    answer: Option<Heard<Pair>>,
    old: Option<Pair>,
    was_unsaved: bool,
}

struct Explorer {
    seen: HashSet<World>,
    found: Found,
}

impl Explorer {
    fn visit(&mut self, world: World) {
        if self.seen.contains(&world) {
            return;
        }
        self.seen.insert(world.clone());
        let next = world.next();
        if next.is_empty() {
            self.end(world);
        }
        for world in next {
            self.visit(world);
        }
    }

    fn end(&mut self, mut world: World) {
        assert!(world.processes.iter().all(|p| p.left == 0 && p.running.is_none()), "{world:#?}");
        world.faults = 0;
        for i in [0, 1, 0] {
            world.renew_without_faults(i);
        }
        let found = &mut self.found;
        let lost = world.server.revoked || world.ended;
        found.ends += 1;
        found.lost += u64::from(lost);
        found.unavoidable += u64::from(world.unavoidable);
        found.lost_avoidably += u64::from(lost && !world.unavoidable);
        found.reused += u64::from(world.server.reused);
        found.lost_unwritten += u64::from(lost && world.unwritten);
        found.most_requests = found.most_requests.max(world.server.requests);
    }
}

impl World {
    fn new(grace: Grace, lock_kind: Lock, faults: u8) -> Self {
        let stored = Entry { generation: 1, state: RecordState::Clean, tokens: Some(0) };
        let memory = Memory { known: stored.clone(), unsaved: false, aside: None };
        let process = Process { left: 2, starts: false, memory, running: None };
        Self {
            grace,
            lock_kind,
            faults,
            stored,
            lock: None,
            server: Server {
                tokens: vec![(0, false)],
                long_ago: 0,
                requests: 0,
                reused: false,
                revoked: false,
            },
            processes: [process.clone(), process],
            unavoidable: false,
            unwritten: false,
            ended: false,
        }
    }

    /// All that can happen next.
    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        for i in [0, 1] {
            let process = &self.processes[i];
            let Some(running) = &process.running else {
                if process.left > 0 || process.starts {
                    next.push(self.with(|world| world.begin(i)));
                }
                if self.faults > 0 && !process.starts {
                    next.push(self.with(|world| {
                        world.faults -= 1;
                        world.crash(i);
                    }));
                }
                continue;
            };
            if let Some(world) = self.step(i) {
                next.push(world);
            }
            if self.faults == 0 {
                continue;
            }
            let fault = |what: &dyn Fn(&mut Self)| {
                self.with(|world| {
                    world.faults -= 1;
                    what(world);
                })
            };
            next.push(fault(&|world| world.crash(i)));
            if self.lock_kind == Lock::Expires && self.lock == Some(i) {
                next.push(fault(&|world| {
                    world.note_loss(i);
                    world.lock = None;
                }));
            }
            match (&running.todo, &running.answer) {
                (Do::Send { .. }, None) => {
                    next.push(fault(&|world| world.hear(i, Heard::Unknown)));
                }
                (Do::Send { .. }, Some(answer)) => {
                    next.push(fault(&|world| {
                        world.unavoidable |= world.holds_what_nobody_has(i);
                        world.hear(i, Heard::Unknown);
                    }));
                    // Its access token is refused.
                    if let Heard::Granted(pair) = answer {
                        next.push(fault(&|world| world.hear(i, Heard::Replaced(*pair))));
                    }
                }
                (Do::Save { .. }, _) => {
                    next.push(fault(&|world| world.hear(i, Heard::Failed)));
                    // It was written, and nobody was told.
                    next.push(fault(&|world| {
                        world.save(i);
                        world.hear(i, Heard::Failed);
                    }));
                    next.push(fault(&|world| {
                        world.save(i);
                        world.crash(i);
                    }));
                }
                _ => {}
            }
        }
        next
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut world = self.clone();
        change(&mut world);
        world
    }

    fn begin(&mut self, i: usize) {
        let process = &mut self.processes[i];
        if !process.starts {
            process.left = process.left.saturating_sub(1);
        }
        process.starts = false;
        let memory = process.memory.clone();
        let (old, was_unsaved) = (memory.known.tokens, memory.unsaved);
        let rules = Rules { rotates: true, without_store: false, retry_dead: false };
        let rotation = Rotation::new(memory, rules);
        process.running =
            Some(Running { rotation, todo: Do::Acquire, answer: None, old, was_unsaved });
    }

    /// The process does what it is to do, and nothing goes wrong.
    fn step(&self, i: usize) -> Option<Self> {
        let running = self.processes[i].running.as_ref()?;
        Some(match &running.todo {
            Do::Acquire => match self.lock {
                Some(other) if other != i => {
                    // It is waited for, but not for one that is kept until a write succeeds.
                    if self.processes[other].running.is_some() {
                        return None;
                    }
                    self.with(|world| world.hear(i, Heard::Busy))
                }
                _ => self.with(|world| {
                    world.lock = Some(i);
                    world.hear(i, Heard::Found(world.stored.clone()));
                }),
            },
            Do::Read => self.with(|world| world.hear(i, Heard::Found(world.stored.clone()))),
            Do::Save { .. } => self.with(|world| {
                let heard = world.save(i);
                world.hear(i, heard);
            }),
            Do::Send { tokens, .. } => self.with(|world| match &running.answer {
                Some(answer) => world.hear(i, answer.clone()),
                // What is left of the lock's time is looked at right before.
                None if world.lock != Some(i) => world.hear(i, Heard::GaveUp),
                None => {
                    let heard = world.server.refresh(tokens.unwrap_or(0), world.grace);
                    if let Some(running) = &mut world.processes[i].running {
                        running.answer = Some(heard);
                    }
                }
            }),
            Do::Finish(end) | Do::FinishLocked(end) => self.with(|world| {
                let kept = matches!(running.todo, Do::FinishLocked(_));
                if world.lock == Some(i) && !kept {
                    world.lock = None;
                }
                world.ended |= *end == End::Ended;
                world.processes[i].memory = running.rotation.memory.clone();
                world.processes[i].running = None;
                let all_rest = world.processes.iter().all(|p| p.running.is_none() && !p.starts);
                if matches!(end, End::Adopted | End::Obtained | End::Unsaved) && all_rest {
                    world.server.long_ago = world.server.tokens.len();
                    // Its lock expired, and then its write failed.
                    let alone = |j: usize| world.lock != Some(j) && world.holds_what_nobody_has(j);
                    world.unwritten |= alone(0) || alone(1);
                }
            }),
        })
    }

    fn save(&mut self, i: usize) -> Heard<Pair> {
        let todo = self.processes[i].running.as_ref().map(|running| running.todo.clone());
        let Some(Do::Save { expected, entry }) = todo else { unreachable!("only where one saves") };
        if entry.state == RecordState::Intent && self.lock != Some(i) {
            return Heard::Failed;
        }
        if self.stored.generation != expected {
            return Heard::Conflict(self.stored.clone());
        }
        self.stored = entry;
        Heard::Saved
    }

    fn hear(&mut self, i: usize, heard: Heard<Pair>) {
        if let Some(running) = &mut self.processes[i].running {
            let (old, was_unsaved) = (running.old, running.was_unsaved);
            running.answer = None;
            running.todo = running.rotation.next(heard, |pair| was_unsaved || Some(*pair) != old);
        }
    }

    fn crash(&mut self, i: usize) {
        self.note_loss(i);
        if self.lock == Some(i) {
            self.lock = None;
        }
        self.processes[i].running = None;
        self.processes[i].memory = Memory::default();
        self.processes[i].starts = true;
    }

    fn note_loss(&mut self, i: usize) {
        self.unavoidable |= self.holds_what_nobody_has(i);
        let process = &self.processes[i];
        self.unwritten |= match &process.running {
            Some(running) => running.was_unsaved || matches!(running.todo, Do::FinishLocked(_)),
            None => process.memory.unsaved,
        };
    }

    /// Whether the process holds tokens, or is about to get some, that are nowhere else.
    fn holds_what_nobody_has(&self, i: usize) -> bool {
        let process = &self.processes[i];
        let running = process.running.as_ref();
        let memory = running.map_or(&process.memory, |running| &running.rotation.memory);
        let answered = running.is_some_and(|r| matches!(r.answer, Some(Heard::Granted(_))));
        answered || (memory.unsaved && memory.known != self.stored)
    }

    fn renew_without_faults(&mut self, i: usize) {
        self.begin(i);
        while self.processes[i].running.is_some() {
            match self.step(i) {
                Some(world) => *self = world,
                None => panic!("it waits for a process that does nothing: {self:#?}"),
            }
        }
    }
}

impl Server {
    /// Whether what was given for this one was given a moment ago.
    fn spent_lately(&self, token: Pair) -> bool {
        self.tokens.iter().skip(self.long_ago).any(|(from, _)| *from == token)
    }

    fn refresh(&mut self, token: Pair, grace: Grace) -> Heard<Pair> {
        self.requests += 1;
        let newer_used = self.tokens.iter().skip(1).any(|(from, used)| *from == token && *used);
        let spent = self.tokens[usize::from(token)].1;
        let in_time = match grace {
            Grace::None => false,
            Grace::UntilNewerIsUsed => !newer_used,
            Grace::Short => !newer_used && self.spent_lately(token),
        };
        if !self.revoked && spent && !in_time {
            self.reused = true;
            self.revoked = true;
        }
        if self.revoked {
            return Heard::InvalidGrant;
        }
        self.tokens[usize::from(token)].1 = true;
        self.tokens.push((token, false));
        Heard::Granted(Pair::try_from(self.tokens.len() - 1).expect("a few tokens"))
    }
}
