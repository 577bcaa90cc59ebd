//! What it costs to put a token on a request.
//!
//! ```sh
//! cargo bench --bench injection                          # the tables: everything side by side
//! cargo bench --bench injection -- --chart chart.svg     # and a chart
//! cargo bench --bench injection -- --quick               # a few seconds, only to see that it works
//! cargo bench --bench injection -- --criterion [FILTER]  # criterion's statistics of each design
//! ```
//!
//! The tables take turns: a short round of each design, over and over, on the same threads. What a
//! busy or slowing machine does to one design it does to all, and a ratio is taken between rounds
//! that lie next to each other. Criterion measures one design after the other, so compare its
//! figures with its own earlier ones only.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "it prints its results")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod chart;
#[path = "../common/mod.rs"]
mod common;
mod criterion;
mod designs;
mod rounds;
mod storm;
mod table;

use std::{env, fs, thread::available_parallelism};

use designs::Tokens;
use rounds::{Setting, Size};

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1).map_or("", |value| value.as_str()))
    };
    // Without `--bench` it is run as a test.
    let quick = value("--quick").is_some() || value("--bench").is_none();
    let size = if quick { Size::QUICK } else { Size::FULL };
    let tokens = Tokens::start();

    if let Some(filter) = value("--criterion") {
        criterion::run(&tokens, filter, quick);
        return;
    }

    let mut results = Vec::new();
    for setting in settings() {
        let result = rounds::compare(&designs::all(&tokens, setting.bytes), setting, &size);
        println!("{}", table::rounds(&result));
        results.push(result);
    }
    println!("{}", storm::table(&tokens, &size));
    if let Some(path) = value("--chart") {
        // The other size looks the same.
        results.retain(|result| result.setting.bytes == 200);
        fs::write(path, chart::svg(&results)).expect("the chart can be written");
        println!("the chart is in {path}");
    }
}

/// One thread, and as many as there are cores, in doublings; services kept and cloned; tokens of
/// two sizes.
fn settings() -> Vec<Setting> {
    let most = available_parallelism().map_or(1, usize::from);
    let mut settings = Vec::new();
    for bytes in [200, 4096] {
        let doublings = (0..).map(|n| 1 << n).take_while(|threads| *threads < most);
        for threads in doublings.chain([most]) {
            for cloned in [false, true] {
                settings.push(Setting { bytes, threads, cloned });
            }
        }
    }
    settings
}
