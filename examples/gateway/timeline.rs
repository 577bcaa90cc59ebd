//! A picture of the last lifetimes, as SVG.

use std::{fmt::Write as _, time::Duration};

use tokio::time::Instant;

use crate::history::{End, Recent, seconds};

/// Draws the lifetimes from left to right: a bar for each token, a gap where there was none, a mark
/// for each attempt that failed. What is right of the line is to come.
pub fn draw(recent: &Recent, now: Instant) -> String {
    let Some(first) = recent.lives.front() else {
        return "<p class=empty>no token yet</p>".to_owned();
    };
    let start = first.obtained;
    let last = recent.lives.iter().map(|life| life.end.map_or(life.expires, |(at, _)| at)).max();
    let end = last.unwrap_or(now).max(now);
    // A little room on the right, so that the last edge is seen.
    let span = end.saturating_duration_since(start).max(Duration::from_secs(1)).mul_f64(1.01);
    let x = |at: Instant| at.saturating_duration_since(start).as_secs_f64() / span.as_secs_f64();
    let x = |at: Instant| (x(at) * WIDTH).clamp(0.0, WIDTH);

    let mut svg = format!(
        "<svg class=timeline viewBox='0 0 {WIDTH} 60' preserveAspectRatio=none role=img \
         aria-label='the last {} tokens'>",
        recent.lives.len()
    );
    let mut rect = |class: &str, from: f64, to: f64, y: u32, height: u32, title: &str| {
        let width = (to - from).max(1.5);
        let _ = write!(
            svg,
            "<rect class='{class}' x='{from:.1}' y='{y}' width='{width:.1}' height='{height}'>\
             <title>{title}</title></rect>"
        );
    };
    let mut covered = start;
    for life in &recent.lives {
        if life.obtained > covered {
            rect("gap", x(covered), x(life.obtained), 8, 30, "no token");
        }
        let (until, what) = match life.end {
            None => (now.min(life.expires), "is served"),
            Some((at, End::Renewed)) => (at, "was renewed in time"),
            Some((at, End::Rejected)) => (at, "was refused by the API"),
            Some((at, End::Expired)) => (at, "expired"),
        };
        let (from, to) = (x(life.obtained), x(until));
        let title = format!(
            "token {} lived {} and {what}",
            life.epoch,
            seconds(until.saturating_duration_since(life.obtained))
        );
        let even = if life.epoch % 2 == 0 { "life even" } else { "life" };
        rect(even, from, (to - 1.5).max(from), 8, 30, &title);
        match life.end {
            None => rect("rest", to, x(life.expires), 8, 30, "what is left of it"),
            Some((_, End::Rejected)) => rect("refused", to - 6.0, to, 2, 42, &title),
            Some((_, End::Expired)) => rect("expired", to - 6.0, to, 2, 42, &title),
            Some((_, End::Renewed)) => {}
        }
        covered = life.end.map_or(life.expires, |(at, _)| at);
    }
    if now > covered {
        rect("gap", x(covered), x(now), 8, 30, "no token");
    }
    for failure in recent.failures.iter().filter(|failure| failure.at >= start) {
        let at = x(failure.at);
        rect("failure", at - 2.0, at + 2.0, 46, 12, "an attempt that failed");
    }
    rect("now", x(now) - 1.0, x(now) + 1.0, 0, 60, "now");
    svg.push_str("</svg>");
    let (age, left) = (now.saturating_duration_since(start), end.saturating_duration_since(now));
    let _ = write!(svg, "<p class=axis><span>{} ago</span>", seconds(age));
    if left > span.mul_f64(0.05) {
        let _ = write!(svg, "<span>ends in {}</span>", seconds(left));
    }
    svg.push_str("</p>");
    svg
}

const WIDTH: f64 = 1000.0;
