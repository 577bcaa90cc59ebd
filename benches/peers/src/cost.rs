use std::{fmt::Write as _, future::Future, time::Instant};

use http::HeaderValue;
use tokio::runtime::Runtime;
use tower_http::set_header::SetRequestHeader;

use crate::service::{Bare, call, request};

/// Measures designs, each in turns with its bare service and with a static header.
pub struct Bench<'a> {
    pub runtime: &'a Runtime,
    rounds: usize,
    requests: usize,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    /// Beyond its bare service.
    net: f64,
    /// Of the net time of a static header in the same rounds.
    ratio: f64,
    allocations: f64,
}

impl<'a> Bench<'a> {
    pub fn new(runtime: &'a Runtime, quick: bool) -> Self {
        let (rounds, requests) = if quick { (5, 200) } else { (101, 5_000) };
        Self { runtime, rounds, requests, rows: Vec::new() }
    }

    /// A design over the bare service that all share.
    pub fn row(&mut self, name: &str, design: impl AsyncFnMut()) {
        let bare = async || call(&mut Bare, request()).await;
        self.row_over(name, bare, design);
    }

    /// A design over a bare service of its own.
    pub fn row_over(
        &mut self,
        name: &str,
        mut bare: impl AsyncFnMut(),
        mut design: impl AsyncFnMut(),
    ) {
        let mut floor = floor();
        let mut common = async || call(&mut Bare, request()).await;
        let (mut nets, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let bare = self.time(&mut bare);
            let design = self.time(&mut design) - bare;
            let common = self.time(&mut common);
            let floor = self.time(&mut floor) - common;
            nets.push(design);
            ratios.push(design / floor);
        }
        let allocations = self.allocations(&mut design) - self.allocations(&mut bare);
        let (net, ratio) = (median(nets), median(ratios));
        self.rows.push(Row { name: name.to_owned(), net, ratio, allocations });
    }

    pub fn table(&self) -> String {
        let mut text = format!("{:<46} {:>9} {:>8} {:>12}\n", "", "net ns", "ratio", "allocations");
        for Row { name, net, ratio, allocations } in &self.rows {
            let _ = writeln!(text, "{name:<46} {net:>9.0} {ratio:>8.1} {allocations:>12.1}");
        }
        text
    }

    /// Nanoseconds for one request.
    fn time(&self, design: &mut impl AsyncFnMut()) -> f64 {
        let start = Instant::now();
        self.runtime.block_on(self.repeat(design));
        start.elapsed().as_secs_f64() * 1e9 / self.requests as f64
    }

    /// Allocations for one request, on the thread that sends it.
    fn allocations(&self, design: &mut impl AsyncFnMut()) -> f64 {
        let info = allocation_counter::measure(|| self.runtime.block_on(self.repeat(design)));
        // One for the whole run is the runtime's.
        (info.count_total as f64 / self.requests as f64 * 10.0).round() / 10.0
    }

    fn repeat(&self, design: &mut impl AsyncFnMut()) -> impl Future<Output = ()> {
        async {
            for _ in 0..self.requests {
                design().await;
            }
        }
    }
}

pub fn floor() -> impl AsyncFnMut() {
    let value = Some(HeaderValue::from_static(Box::leak(
        format!("Bearer {}", "t".repeat(TOKEN_BYTES)).into_boxed_str(),
    )));
    let name = http::header::AUTHORIZATION;
    let mut service = SetRequestHeader::overriding(Bare, name, value);
    async move || call(&mut service, request()).await
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The length of every token.
pub const TOKEN_BYTES: usize = 1024;
