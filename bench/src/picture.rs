//! One picture of the report: what an Open costs, how many there are a second, and how long the slow ones take.

use std::fmt::Write;

use crate::{
    plan::{MAIN, What, Who},
    report::{Report, find},
    run::Sample,
};

const WIDTH: f64 = 720.0;
const LEFT: f64 = 130.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;

const WHO: [Who; 5] = [Who::Textbook, Who::Echo, Who::Tuned, Who::Redis, Who::Memory];

/// A heading, and the value below it.
type Panel = (&'static str, fn(&Sample) -> f64);

const PANELS: [Panel; 3] = [
    ("server CPU per Open, µs (less is better)", |sample| sample.server),
    ("Opens per second (more is better)", |sample| sample.rate),
    ("p99 of Open, µs (less is better)", |sample| sample.p99),
];

/// The picture, as SVG that is read on a light page and on a dark one.
pub fn draw(report: &Report) -> String {
    let panel_height = 30.0 + STEP * WHO.len() as f64;
    let height = 62.0 + panel_height * PANELS.len() as f64;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<style>text{{fill:#24292f}}.b{{fill:#8c959f}}.o{{fill:#1f6feb}}.s{{fill:#57606a}}.w{{stroke:#24292f;stroke-width:1}}@media (prefers-color-scheme:dark){{text{{fill:#e6edf3}}.s{{fill:#9198a1}}.w{{stroke:#e6edf3}}}}</style>
<text x="10" y="20" font-size="14" font-weight="bold">Open of a session of 0.5 KiB, 4 connections with 16 calls under way each</text>
"#
    );
    for (number, (heading, value)) in PANELS.into_iter().enumerate() {
        let top = 34.0 + panel_height * number as f64;
        let _ = writeln!(svg, r#"<text x="10" y="{:.0}" font-weight="bold">{heading}</text>"#, top + 14.0);
        let figures = WHO.map(|who| find(&report.cells, who, What::Open, MAIN).and_then(|cell| cell.figure(value)));
        let most = figures.iter().flatten().map(|figure| figure.high).fold(f64::MIN_POSITIVE, f64::max);
        let scale = (WIDTH - LEFT - 80.0) / most;
        for (row, (who, figure)) in WHO.iter().zip(figures).enumerate() {
            let Some(figure) = figure else { continue };
            let y = top + 22.0 + STEP * row as f64;
            let class = if matches!(who, Who::Redis | Who::Memory) { 'o' } else { 'b' };
            let (length, middle) = (figure.median * scale, y + BAR / 2.0);
            let (low, high) = (LEFT + figure.low * scale, LEFT + figure.high * scale);
            let (text, name) = (middle + 4.0, LEFT - 8.0);
            let _ = writeln!(
                svg,
                r#"<text x="{name:.1}" y="{text:.1}" text-anchor="end">{who}</text><rect class="{class}" x="{LEFT:.1}" y="{y:.1}" width="{length:.1}" height="{BAR}"/><path class="w" d="M{low:.1} {middle:.1}H{high:.1}"/><text x="{:.1}" y="{text:.1}">{}</text>"#,
                high.max(LEFT + length) + 6.0,
                thousands(figure.median),
            );
        }
    }
    let foot = height - 10.0;
    let rounds = report.noise.rounds;
    let machine = report.machine.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text class=\"s\" x=\"10\" y=\"{foot:.0}\" font-size=\"11\">Medians of {rounds} interleaved rounds, lines from the \
         least to the most. {machine}.</text>\n</svg>",
    );
    svg
}

/// With one digit behind the point where it is small, with a comma where it is large.
fn thousands(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let whole = value.round() as u64;
    if whole < 1000 { whole.to_string() } else { format!("{},{:03}", whole / 1000, whole % 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(["7.3", "420", "41,007"].map(str::to_owned), [7.26, 420.4, 41_007.2].map(thousands));
    }
}
