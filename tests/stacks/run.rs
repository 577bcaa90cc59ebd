//! One seed: servers, a stack, its requests, and what must hold afterwards.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::util::BoxCloneService;
use tower_oauth::{Origins, TokenHandle, TokenPool};

use crate::{
    broken::{Broken, Fault, Ways},
    caller::{self, Manners},
    common::dice::Dice,
    draw::{self, Circumstances, Stack},
    fixed::Composition,
    ledger::{Counts, Invariant, Ledger},
    middle::{self, Tokens},
    server::Listeners,
    source::Source,
    story::Story,
    tap::{Above, Below},
    terms::{Role, Terms},
    wire::Svc,
};

/// What is run.
#[derive(Clone, Copy)]
pub(crate) enum Subject {
    /// Our layer in a stack that the seed draws.
    Drawn,
    /// A stack whose types are not erased.
    Composed(&'static Composition),
    /// A broken layer in a simple stack.
    Broken(Fault),
    /// A layer that is not broken, and not ours, in a stack that the seed draws.
    Sound,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn => f.write_str("the layer in a stack that was drawn"),
            Self::Composed(composition) => f.write_str(composition.name),
            Self::Broken(fault) => write!(f, "a layer with a fault: {fault:?}"),
            Self::Sound => f.write_str("a layer without a fault"),
        }
    }
}

/// What a run found.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) stack: String,
    pub(crate) violations: Vec<(Invariant, String)>,
    pub(crate) counts: Counts,
    pub(crate) history: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.stack)?;
        for line in &self.history {
            writeln!(f, "  {line}")?;
        }
        for (invariant, what) in &self.violations {
            writeln!(f, "seed {}: {invariant:?}: {what}", self.seed)?;
        }
        Ok(())
    }
}

/// Runs one seed.
pub(crate) async fn run(seed: u64, subject: Subject) -> Report {
    let dice = Dice::new(seed);
    let stack = match subject {
        Subject::Drawn => Stack::draw(&dice),
        Subject::Sound => Stack { tenants: 0, ..Stack::draw(&dice) },
        Subject::Composed(composition) => (composition.like)(),
        Subject::Broken(_) => Stack::simple(),
    };
    let mut circumstances = Circumstances::draw(&dice, &stack);
    if let Subject::Broken(fault) = subject {
        // So that the first token expires while requests are sent, and nothing else is in the way.
        let ms = if fault == Fault::Stale { 50 } else { 3_600_000 };
        circumstances.lifetime = Duration::from_millis(ms);
        circumstances.revoked_after = None;
        circumstances.revoked_at_the_end = false;
    }
    let requests = draw::requests(&dice, &stack, &circumstances);

    let listeners = Listeners::bind().await;
    let origins = listeners.origins.clone();
    let ledger = Arc::new(Ledger::new(origins, circumstances.form, stack.bounds()));
    let servers = listeners.serve(&ledger);
    let lifetime = circumstances.lifetime;
    let source = Source::new(ledger.clone(), 0, lifetime, dice.fork());
    let tokens = tokens(&ledger, &stack, &source, lifetime, &dice);
    let allowed = [Role::Home, Role::Other].map(|role| ledger.origin(role).to_owned());
    let origins = Origins::new(allowed).unwrap();

    let mut permits = Vec::new();
    let client = match subject {
        Subject::Composed(composition) => {
            (composition.build)(&tokens, &origins, ledger.origin(Role::Home))
        }
        _ => build(&stack, subject, &tokens, &source, &origins, &ledger, &mut permits),
    };
    let within = match subject {
        Subject::Broken(_) => Duration::from_secs(2),
        _ => HANGS_AFTER,
    };
    let manners = Manners { grpc: circumstances.grpc, layers_answer: stack.answers(), within };
    wait_for_tokens(client.clone(), &ledger, &stack, manners).await;
    load(client.clone(), &ledger, requests, manners, circumstances.revoked_after).await;
    ledger.calm_down();
    if circumstances.revoked_at_the_end {
        ledger.revoke_all();
    }
    let served_within = if within < HANGS_AFTER { within } else { SERVED_WITHIN };
    calm(client.clone(), &ledger, &stack, manners, served_within).await;
    check_places(&ledger, &stack, &permits).await;
    check_fetches(&ledger, lifetime);
    drop((client, servers));
    Report {
        seed,
        stack: format!("{subject}\n  {stack:?}\n  {circumstances:?}"),
        violations: ledger.violations(),
        counts: ledger.counts(),
        history: ledger.history(),
    }
}

fn tokens(
    ledger: &Arc<Ledger>,
    stack: &Stack,
    source: &Source,
    lifetime: Duration,
    dice: &Dice,
) -> Tokens {
    if stack.tenants == 0 {
        let builder = TokenHandle::builder(source.clone());
        return Tokens::Handle(builder.rejection_interval(REJECTIONS).spawn());
    }
    let make = |tenant| Source::new(ledger.clone(), tenant, lifetime, dice.fork());
    let sources: Vec<_> = (0..stack.tenants).map(make).collect();
    let pool = TokenPool::builder(move |tenant: &u32| sources[*tenant as usize].clone());
    Tokens::Pool(pool.rejection_interval(REJECTIONS).spawn())
}

fn build(
    stack: &Stack,
    subject: Subject,
    tokens: &Tokens,
    source: &Source,
    origins: &Origins,
    ledger: &Arc<Ledger>,
    permits: &mut Vec<Arc<Semaphore>>,
) -> Svc<Story> {
    let client = stack.client.make(ledger.origin(Role::Home));
    let below = stack.below.iter().fold(client, |service, kind| kind.on(service, permits));
    let below = Below::new(below, ledger);
    let fault = match subject {
        Subject::Broken(fault) => Some(fault),
        Subject::Sound => Some(Fault::Nothing),
        Subject::Drawn | Subject::Composed(_) => None,
    };
    let above = if let (Some(fault), Tokens::Handle(handle)) = (fault, tokens) {
        let ways = Arc::new(Ways {
            ledger: ledger.clone(),
            tokens: handle.clone(),
            source: source.clone(),
            fault,
            first: OnceLock::new(),
        });
        BoxCloneService::new(Above::new(Broken { below, ways }, ledger))
    } else {
        let ours = middle::ours(tokens, stack.replay, origins, below);
        BoxCloneService::new(Above::new(ours, ledger))
    };
    stack.above.iter().fold(above, |service, kind| kind.on(service, permits))
}

/// While others wait for the first token, a request that needs none goes through: those that wait
/// hold nothing of the services below (F61).
async fn wait_for_tokens(
    client: Svc<Story>,
    ledger: &Arc<Ledger>,
    stack: &Stack,
    manners: Manners,
) {
    let mut waiting = JoinSet::new();
    for id in 1_000..1_012 {
        let (client, ledger) = (client.clone(), ledger.clone());
        let tenant = (id % u64::from(stack.tenants.max(1))) as u32;
        waiting.spawn(async move {
            caller::send(client, &ledger, &Terms::plain(id, tenant), manners).await;
        });
    }
    sleep(Duration::from_millis(30)).await;
    if !stack.limits_waiting() {
        let own = Some("Bearer own-2000".to_owned());
        let terms = Terms { own, ..Terms::plain(2_000, 0) };
        let sent = caller::send(client, ledger, &terms, manners);
        let _ = caller::within(middle::WAIT * 3 / 4, sent).await;
        if ledger.arrivals(terms.id) == 0 {
            let what = "a request that needs no token is held up by those that wait for one";
            ledger.violation(Invariant::I1, what.to_owned());
        }
    }
    ledger.open();
    waiting.join_all().await;
}

/// Sends all requests, and waits until each has ended.
async fn load(
    client: Svc<Story>,
    ledger: &Arc<Ledger>,
    requests: Vec<Terms>,
    manners: Manners,
    revoked_after: Option<Duration>,
) {
    let mut callers = JoinSet::new();
    for terms in requests {
        let (client, ledger) = (client.clone(), ledger.clone());
        callers.spawn(async move {
            sleep(terms.starts).await;
            caller::send(client, &ledger, &terms, manners).await;
        });
    }
    let revoker = ledger.clone();
    if let Some(after) = revoked_after {
        callers.spawn(async move {
            sleep(after).await;
            revoker.revoke_all();
        });
    }
    while let Some(ended) = callers.join_next().await {
        if let Err(error) = ended {
            ledger.violation(Invariant::I1, format!("a caller panicked: {error}"));
        }
    }
}

/// Now that the servers behave, plain requests of every tenant succeed: several at once.
async fn calm(
    client: Svc<Story>,
    ledger: &Arc<Ledger>,
    stack: &Stack,
    manners: Manners,
    within: Duration,
) {
    let end = Instant::now() + within;
    let mut callers = JoinSet::new();
    for number in 0..3.max(u64::from(stack.tenants)) {
        let (client, ledger) = (client.clone(), ledger.clone());
        let tenant = u32::try_from(number).unwrap_or(0) % stack.tenants.max(1);
        callers.spawn(async move {
            let mut id = 10_000 * (number + 1);
            while !caller::send(client.clone(), &ledger, &Terms::plain(id, tenant), manners).await {
                if Instant::now() > end {
                    let what = format!("tenant {tenant} is not served again in calm weather");
                    ledger.violation(Invariant::I12, what);
                    return;
                }
                id += 1;
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    callers.join_all().await;
}

/// When all is done, the places of the limits are free.
async fn check_places(ledger: &Ledger, stack: &Stack, permits: &[Arc<Semaphore>]) {
    for (semaphore, (most, held)) in permits.iter().zip(stack.limits()) {
        let end = Instant::now() + Duration::from_secs(3);
        while semaphore.available_permits() + held < most && Instant::now() < end {
            sleep(Duration::from_millis(5)).await;
        }
        let free = semaphore.available_permits();
        if free + held < most {
            let what = format!("{free} of {most} places are free, {held} may be held");
            ledger.violation(Invariant::I12, what);
        }
    }
}

/// Token requests are bounded by time alone, whatever the load.
fn check_fetches(ledger: &Ledger, lifetime: Duration) {
    // The shortest time between two fetches: a part of the lifetime, within bounds.
    let pace = (lifetime / 20).clamp(Duration::from_millis(100), Duration::from_millis(500));
    let fetches = ledger.fetches();
    for tenant in 0..=fetches.iter().map(|fetch| fetch.tenant).max().unwrap_or(0) {
        let ours: Vec<_> = fetches.iter().filter(|fetch| fetch.tenant == tenant).collect();
        let Some((first, last)) = ours.first().zip(ours.last()) else { continue };
        let window = last.at - first.at;
        // The first two may have begun late.
        let most = 3 + (window.as_millis() / pace.as_millis()) as usize;
        if ours.len() > most {
            let what = format!("tenant {tenant}: {} token requests in {window:?}", ours.len());
            ledger.violation(Invariant::I6, what);
        }
    }
}

/// How often a refusal is acted on: often, so that there are replays to see.
const REJECTIONS: Duration = Duration::from_millis(100);
/// Far longer than any request of a run may take on a machine that is busy.
const HANGS_AFTER: Duration = Duration::from_secs(20);
/// As long as the longest back-off and the longest pause between renewals of a short run.
const SERVED_WITHIN: Duration = Duration::from_secs(25);
