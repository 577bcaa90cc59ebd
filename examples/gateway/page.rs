//! The page that a person reads: `/status`.

use std::{fmt::Write as _, sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;
use tower_oauth::{State, Status};

use crate::{
    history::{Kind, Recent, seconds},
    timeline,
    upstream::Upstream,
};

pub fn render(upstreams: &[Upstream], nonce: &str) -> String {
    let good = upstreams.iter().filter(|upstream| upstream.tokens.current().is_some()).count();
    let troubled = upstreams.iter().filter(|up| up.tokens.status().failures() > 0).count();
    let (class, headline) = match (upstreams.len() - good, troubled) {
        (0, 0) => ("good", "every API has its token".to_owned()),
        (0, _) => ("notice", "tokens are served, but cannot be renewed".to_owned()),
        (missing, _) => ("bad", format!("{missing} of {} without a token", upstreams.len())),
    };
    let mut main = format!("<main><h1 class={class}><i></i>{headline}</h1><div class=cards>");
    let mut sorted: Vec<_> = upstreams.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for upstream in sorted {
        card(&mut main, upstream);
    }
    main.push_str("</div></main>");
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content='width=device-width,initial-scale=1'>\
         <meta name=color-scheme content='light dark'>\
         <noscript><meta http-equiv=refresh content=2></noscript>\
         <title>{headline}</title><style nonce={nonce}>{STYLE}</style></head><body>\
         <header><b>tower-oauth gateway</b><span class=lost>the gateway does not answer</span>\
         </header>{main}<footer>\
         <span><i class=key></i>a token</span><span><i class='key past'></i>none</span>\
         <span><i class='key refused'></i>refused</span>\
         <span><i class='key failure'></i>expired, or an attempt that failed</span></footer><script nonce={nonce}>{SCRIPT}</script></body></html>"
    )
}

fn card(out: &mut String, upstream: &Upstream) {
    let now = Instant::now();
    let status = upstream.tokens.status();
    let recent = upstream.history.recent();
    let (class, state) = state(&status, upstream.tokens.current().is_some());
    let name = escape(&upstream.name);
    let epoch = status.epoch();
    let failures = status.failures();
    let _ = write!(
        out,
        "<section class=card data-upstream='{name}' data-state={class} data-epoch={epoch} \
         data-failures={failures}><h2>{name}<span class='pill {class}'><i></i>{state}</span></h2>\
         <p class=where>{}/ <span>to</span> {}</p>",
        escape(&upstream.path),
        escape(&upstream.url.to_string())
    );
    if let Some(error) = status.error().filter(|_| failures > 0) {
        let attempts = if failures == 1 { "1 attempt" } else { &format!("{failures} attempts") };
        let why = recent.last_error.as_ref().map_or_else(|| error.to_string(), |e| e.text.clone());
        let next = status.next_attempt().map_or("under way".to_owned(), |at| {
            format!("in {}", seconds(at.saturating_duration_since(now)))
        });
        let _ = write!(
            out,
            "<p class=trouble><b>{attempts} failed in a row.</b> {} <small>The next one is \
             {next}.</small></p>",
            escape(&why)
        );
    }
    out.push_str(&timeline::draw(&recent, now));
    facts(out, upstream, &status, &recent, now);
    lines(out, &recent, now);
    out.push_str("</section>");
}

fn state(status: &Status, served: bool) -> (&'static str, &'static str) {
    match status.state() {
        _ if served && status.failures() > 0 => ("notice", "cannot renew"),
        State::Fresh => ("good", "fresh"),
        State::Due => ("good", "renewing"),
        State::Empty => ("notice", "no token yet"),
        State::Rejected => ("notice", "refused, renewing"),
        State::Expired => ("bad", "expired"),
        State::Failed => ("bad", "failed"),
        State::Stopped => ("bad", "stopped"),
        _ => ("notice", "unknown"),
    }
}

fn facts(out: &mut String, upstream: &Upstream, status: &Status, recent: &Recent, now: Instant) {
    let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
    let until = |at: Option<Instant>| {
        at.map(|at| at.saturating_duration_since(now)).filter(|left| *left > Duration::ZERO)
    };
    let time = |time: Option<Duration>| time.map_or("none".to_owned(), seconds);
    let counts = &upstream.counts;
    let get = |count: &std::sync::atomic::AtomicU64| group(count.load(Ordering::Relaxed));
    out.push_str("<dl>");
    let mut fact = |name: &str, value: String, class: &str| {
        let _ = write!(out, "<div class='{class}'><dt>{name}</dt><dd>{value}</dd></div>");
    };
    fact("token", format!("no. {}", status.epoch()), "");
    fact("age", time(since(status.obtained_at())), "");
    fact("ends in", time(until(status.expires_at())), "");
    fact("renewal in", time(until(status.next_attempt())), "");
    fact("injected", get(&counts.injected), "");
    fact("replayed", get(&upstream.history.replayed), "");
    let bad = |count: &std::sync::atomic::AtomicU64| {
        if count.load(Ordering::Relaxed) > 0 { "bad" } else { "" }
    };
    fact("refused", get(&counts.refused), bad(&counts.refused));
    fact("failed", get(&counts.failed), bad(&counts.failed));
    out.push_str("</dl>");
    let old = recent.last_error.as_ref().filter(|_| status.failures() == 0);
    if let Some(error) = old {
        let _ = write!(
            out,
            "<p class=past>the last error, {} ago: {}</p>",
            seconds(now.saturating_duration_since(error.at)),
            escape(&error.text)
        );
    }
}

fn lines(out: &mut String, recent: &Recent, now: Instant) {
    out.push_str("<ol>");
    for line in recent.lines.iter().take(6) {
        let class = match line.kind {
            Kind::Good => "good",
            Kind::Notice => "notice",
            Kind::Bad => "bad",
        };
        let _ = write!(
            out,
            "<li class={class}><i></i><time>{} ago</time> {}</li>",
            seconds(now.saturating_duration_since(line.at)),
            escape(&line.text)
        );
    }
    out.push_str("</ol>");
}

/// 1 234 567
fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Text from a server or a file is no markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
