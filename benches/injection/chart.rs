use std::fmt::Write as _;

use crate::{rounds::Comparison, table::title};

/// Draws the comparisons as bars: the ratio of each design to the static header.
pub(crate) fn svg(comparisons: &[Comparison]) -> String {
    let mut body = String::new();
    let mut y = 30.0;
    for comparison in comparisons {
        let _ = writeln!(
            body,
            r#"<text x="8" y="{y}" font-weight="bold">{}</text>"#,
            title(comparison.setting)
        );
        y += 8.0;
        for row in &comparison.rows {
            let width = row.ratio.min(MOST) * SCALE;
            let fill = if row.name.starts_with("OAuthLayer") { "#2b7a4b" } else { "#9aa5b1" };
            let middle = y + BAR * 0.75;
            let _ = writeln!(
                body,
                r#"<text x="{LEFT}" y="{middle}" text-anchor="end" dx="-6">{}</text>
<rect x="{LEFT}" y="{y}" width="{width:.1}" height="{:.1}" fill="{fill}"/>
<text x="{:.1}" y="{middle}">{:.2} × ({:.0} ns)</text>"#,
                row.name,
                BAR - 3.0,
                LEFT + width + 5.0,
                row.ratio,
                row.nanoseconds,
            );
            y += BAR;
        }
        y += 30.0;
    }
    let floor = LEFT + SCALE;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<line x1="{floor}" y1="0" x2="{floor}" y2="{y}" stroke="#d33" stroke-dasharray="3 3"/>
{body}</svg>
"##
    )
}

const WIDTH: f64 = 820.0;
const LEFT: f64 = 190.0;
const BAR: f64 = 18.0;
/// The width of a static header's time.
const SCALE: f64 = 120.0;
/// Where a bar is cut off.
const MOST: f64 = 4.0;
