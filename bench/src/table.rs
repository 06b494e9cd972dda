//! The report for readers: tables in Markdown.

use std::fmt::Write;

use crate::{
    figures::Figure,
    plan::{Cell, Who},
    report::{Measured, Report},
    run::Sample,
    syscalls::Syscalls,
    verdict::{Row, Standing},
};

/// The whole report.
pub fn report(report: &Report) -> String {
    let mut text = format!("{}; {} rounds\n\n", report.machine, report.noise.rounds);
    text += &cells(&report.cells);
    text += "\nMedians over the rounds; beside the CPU, from the least to the most. Times in µs, CPU and switches per call.\n";
    text += &syscalls(&report.cells);
    text += &against_other(&report.cells);
    text += &noise(report);
    text += &verdict(&report.rows, &report.complaints);
    if let Some(echo) = report.growth.echo_connections {
        let _ = writeln!(
            text,
            "\nThe echo's own CPU at 10,000 connections is {:.2} ({:.2} to {:.2}) of that at 100.",
            echo.median, echo.low, echo.high
        );
    }
    text
}

fn cells(cells: &[Measured]) -> String {
    let mut text = "\
| who | what | callers | bytes | calls/s | p50 | p99 | p99.9 | server CPU | from, to | Redis CPU | bench CPU | waits | evictions | peak MiB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"
    .to_owned();
    for measured in cells {
        let (cell, spread) = (measured.cell, measured.figure(|sample| sample.server));
        let of = |digits: usize, value: fn(&Sample) -> f64| shown(measured.figure(value), digits);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            cell.who,
            cell.what,
            cell.shown_callers(),
            cell.size,
            of(0, |sample| sample.rate),
            of(0, |sample| sample.p50),
            of(0, |sample| sample.p99),
            of(0, |sample| sample.p999),
            of(1, |sample| sample.server),
            spread.map_or_else(String::new, |figure| format!("{:.1}, {:.1}", figure.low, figure.high)),
            of(1, |sample| sample.redis),
            of(1, |sample| sample.generator),
            of(2, |sample| sample.waits),
            of(2, |sample| sample.evictions),
            of(1, |sample| sample.peak),
        );
    }
    text
}

fn syscalls(cells: &[Measured]) -> String {
    let counted: Vec<_> = cells.iter().filter_map(|cell| Some((cell.cell, cell.syscalls?))).collect();
    if counted.is_empty() {
        return String::new();
    }
    let mut text =
        "\nSystem calls per call:\n\n| who | what | writes | reads | looks | futexes |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for (cell, Syscalls { writes, reads, looks, futexes }) in counted {
        let _ =
            writeln!(text, "| {} | {} | {writes:.2} | {reads:.2} | {looks:.2} | {futexes:.2} |", cell.who, cell.what);
    }
    text
}

/// This build against another.
fn against_other(cells: &[Measured]) -> String {
    let mut text = String::new();
    for theirs in cells.iter().filter(|theirs| theirs.cell.who == Who::Other) {
        let of_ours = |ours: &&Measured| ours.cell == Cell { who: Who::Redis, ..theirs.cell };
        let Some(ours) = cells.iter().find(of_ours) else { continue };
        if text.is_empty() {
            text += "\nThis build against the other, round by round: the median, and from the least to the most.\n\n";
            text += "| what | callers | bytes | server CPU | Redis CPU | calls/s | p50 | p99 |\n|---|---|---|---|---|---|---|---|\n";
        }
        let ratio = |value: fn(&Sample) -> f64| {
            let of = |measured: &Measured| measured.samples.iter().map(value).collect::<Vec<_>>();
            Figure::of_ratios(&of(ours), &of(theirs)).map_or_else(
                || "–".to_owned(),
                |ratio| format!("{:.2} ({:.2}, {:.2})", ratio.median, ratio.low, ratio.high),
            )
        };
        let (Cell { what, size, .. }, callers) = (theirs.cell, theirs.cell.shown_callers());
        let _ = writeln!(
            text,
            "| {what} | {callers} | {size} | {} | {} | {} | {} | {} |",
            ratio(|sample| sample.server),
            ratio(|sample| sample.redis),
            ratio(|sample| sample.rate),
            ratio(|sample| sample.p50),
            ratio(|sample| sample.p99),
        );
    }
    text
}

fn noise(report: &Report) -> String {
    let noise = &report.noise;
    let spread =
        |figure: Option<Figure>| figure.map_or_else(|| "?".to_owned(), |figure| format!("{:.2}", figure.spread()));
    format!(
        "\nNoise: load average {} at the start; a fixed spin {} ms; the echo's CPU spread by {}, its throughput by {}; others \
         had {:.0} % of the CPU.\n",
        noise.load_average.map_or_else(|| "?".to_owned(), |load| format!("{load:.2}")),
        noise.spin.map_or_else(|| "?".to_owned(), |spin| format!("{:.1} to {:.1}", spin.low, spin.high)),
        spread(noise.echo_cpu),
        spread(noise.echo_rate),
        noise.foreign * 100.0,
    )
}

/// What must be reached. From a run that was too noisy there are the ratios, and no word on them.
pub fn verdict(rows: &[Row], complaints: &[String]) -> String {
    let mut text = String::new();
    if !complaints.is_empty() {
        let _ = writeln!(text, "\nNO VERDICT: {}. Run it again on a quieter machine.", complaints.join("; "));
    }
    text += "\n| what | must | aim | measured | from, to | |\n|---|---|---|---|---|---|\n";
    for row in rows {
        let sign = if row.at_most { '≤' } else { '≥' };
        let spread =
            row.measured.map_or_else(String::new, |figure| format!("{}, {}", three(figure.low), three(figure.high)));
        let measured = row.measured.map_or_else(|| "–".to_owned(), |figure| three(figure.median));
        let standing = match row.standing {
            Standing::Unmeasured => "not measured",
            _ if !complaints.is_empty() => "no verdict",
            Standing::Aim => "pass, at the aim",
            Standing::Pass => "pass",
            Standing::Short => "SHORT",
        };
        let (must, aim) = (three(row.must), three(row.aim));
        let _ = writeln!(text, "| {} | {sign} {must} | {sign} {aim} | {measured} | {spread} | {standing} |", row.what);
    }
    text
}

/// To three digits or so.
fn three(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn shown(figure: Option<Figure>, digits: usize) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| format!("{:.digits$}", figure.median))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{growth::Growth, verdict};

    #[test]
    fn a_noisy_run_has_figures_and_no_verdict() {
        let growth = Growth { idle: Figure::of([20.0]), ..Growth::default() };
        let rows = verdict::rows(&[], &growth);
        let quiet = super::verdict(&rows, &[]);
        assert!(quiet.contains("| memory when idle (MiB) | ≤ 12.0 | ≤ 8.00 | 20.0 | 20.0, 20.0 | SHORT |"), "{quiet}");
        let loud = super::verdict(&rows, &["others had the CPU".to_owned()]);
        assert!(loud.contains("NO VERDICT: others had the CPU") && loud.contains("| 20.0 | 20.0, 20.0 | no verdict |"));
        assert!(!loud.contains("SHORT") && !loud.contains("pass"), "{loud}");
        assert!(loud.contains("| – |  | not measured |"), "{loud}");
    }

    #[test]
    fn every_line_of_a_table_has_as_many_columns() {
        for text in [super::verdict(&verdict::rows(&[], &Growth::default()), &[]), cells(&[])] {
            let mut columns = text.lines().map(|line| line.matches('|').count()).filter(|columns| *columns > 0);
            let first = columns.next().expect("a heading");
            assert!(columns.all(|columns| columns == first), "{text}");
        }
    }
}
