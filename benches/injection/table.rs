use std::fmt::Write as _;

use crate::rounds::{Comparison, Setting};

/// What a comparison is about: `2 threads, a clone for each request, 200 B`.
pub(crate) fn title(setting: Setting) -> String {
    let Setting { bytes, threads, cloned } = setting;
    let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
    let service = if cloned { "service cloned for each request" } else { "service kept" };
    format!("{threads}, {service}, token of {bytes} B")
}

pub(crate) fn rounds(comparison: &Comparison) -> String {
    let mut text = format!("{}\n", title(comparison.setting));
    let _ = writeln!(text, "  {:<26} {:>9} {:>9} {:>7}", "", "ns", "net ns", "ratio");
    for row in &comparison.rows {
        let (name, ns, net, ratio) = (row.name, row.nanoseconds, row.net, row.ratio);
        let _ = writeln!(text, "  {name:<26} {ns:>9.1} {net:>9.1} {ratio:>7.3}");
    }
    text
}
