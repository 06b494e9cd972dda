//! The bench: `cargo run --release -p sessiond-bench`. `bench/README.md` says what it compares and how to read it.

use std::{env, fs, net::TcpListener, path::PathBuf, process, process::ExitCode, thread};

use anyhow::Context;
use clap::Parser;
use sessiond_bench::{
    figures::Figure,
    generators,
    growth::Growth,
    noise::{self, Noise},
    picture,
    plan::{Cell, Extent, HALF, MAIN, Plan, What, Who},
    report::{Measured, Report, find},
    run::Bench,
    table, tuned,
    verdict::{self, Standing},
};
use tokio::task::LocalSet;

// As sessiond has it: for the tuned echo, and so that the generator is cheap.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures sessiond beside a bare gRPC server and a textbook service, and says whether it is as fast as it must be.
#[derive(Debug, Parser)]
#[command(name = "sessiond-bench")]
struct Options {
    /// Only see whether it works: some seconds, and no verdict.
    #[arg(long, conflicts_with = "full")]
    quick: bool,

    /// Every call at every shape and size: the better part of two hours.
    #[arg(long)]
    full: bool,

    /// How many rounds, instead of the usual number.
    #[arg(long)]
    rounds: Option<usize>,

    /// Only cells whose name contains this, for example "Save" or "sessiond, Redis, Open, 4x16"; no memory, no growth. May be
    /// given more than once, for what contains any of them.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,

    /// Another build of sessiond, to be measured beside this one wherever that is on Redis: for what a change bought.
    #[arg(long, value_name = "BINARY")]
    other: Option<PathBuf>,

    /// Where to write all of it as JSON.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,

    /// Where to draw the picture.
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,

    /// End with 1 if anything that must be reached is not, or if there is no verdict.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let part = env::args().nth(1);
    if part.as_deref() == Some("tuned-echo") {
        return serve_tuned_echo();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if part.as_deref() == Some(generators::ARGUMENT) {
        runtime.block_on(LocalSet::new().run_until(generators::serve()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse();
    let report = runtime.block_on(LocalSet::new().run_until(measure(&options)))?;
    print!("{}", table::report(&report));
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.svg {
        fs::write(path, picture::draw(&report)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let reached = report.complaints.is_empty() && report.rows.iter().all(|row| row.standing != Standing::Short);
    Ok(if options.check && !reached { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn measure(options: &Options) -> anyhow::Result<Report> {
    let extent = match (options.quick, options.full) {
        (true, _) => Extent::Quick,
        (_, true) => Extent::Full,
        _ => Extent::Usual,
    };
    let mut plan = Plan::of(extent);
    plan.rounds = options.rounds.unwrap_or(plan.rounds);
    if !options.only.is_empty() {
        plan.cells.retain(|cell| options.only.iter().any(|only| cell.name().contains(only)));
    }
    // Afterwards: what is left out is left out beside it too.
    if options.other.is_some() {
        plan = plan.with_other();
    }
    let load_average = noise::load_average();
    eprintln!("building and starting what is measured");
    let mut bench = Bench::start(&plan, options.other.as_deref()).await?;
    bench.fill(&plan.cells).await?;
    let mut cells: Vec<Measured> =
        plan.cells.iter().map(|cell| Measured { cell: *cell, samples: Vec::new(), syscalls: None }).collect();
    let mut spins = vec![noise::spin()];
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        spins.push(noise::spin());
        for cell in plan.round(round) {
            let sample = bench.measure(cell).await?;
            cells
                .iter_mut()
                .filter(|measured| measured.cell == cell)
                .for_each(|measured| measured.samples.push(sample));
        }
    }
    let foreign = bench.foreign();
    let asked = |cell: &Cell| {
        extent != Extent::Quick
            && cell.shape == MAIN
            && cell.size == HALF
            && cell.generators == 1
            && cell.who != Who::Direct
    };
    for measured in cells.iter_mut().filter(|measured| asked(&measured.cell)) {
        measured.syscalls = bench.syscalls(measured.cell).await?;
    }
    drop(bench);
    let growth = if options.only.is_empty() {
        eprintln!("memory and growth");
        Growth::measure(extent).await?
    } else {
        Growth::default()
    };
    let echo = find(&cells, Who::Echo, What::Open, MAIN);
    let noise = Noise {
        load_average,
        spin: Figure::of(spins),
        echo_cpu: echo.and_then(|echo| echo.figure(|sample| sample.server)),
        echo_rate: echo.and_then(|echo| echo.figure(|sample| sample.rate)),
        foreign,
        rounds: plan.rounds,
    };
    let (complaints, mut rows) = (noise.complaints(), verdict::rows(&cells, &growth));
    if !options.only.is_empty() {
        rows.retain(|row| row.standing != Standing::Unmeasured);
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let command = format!("cargo run --release -p sessiond-bench -- {}", arguments.join(" "));
    Ok(Report { machine: noise::machine(), command, noise, cells, growth, complaints, rows })
}

/// One of the contestants, here because it has this binary's allocator.
fn serve_tuned_echo() -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    // It ends with its input, so that it does not outlive the bench, however that ended.
    thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        process::exit(0);
    });
    tuned::serve(listener)?;
    Ok(ExitCode::SUCCESS)
}
