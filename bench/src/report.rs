//! All that a run found, as it is written as JSON.

use serde::Serialize;

use crate::{
    figures::Figure,
    growth::Growth,
    noise::Noise,
    plan::{Cell, HALF, Shape, What, Who},
    run::Sample,
    syscalls::Syscalls,
    verdict::Row,
};

/// A cell with its samples, one of each round.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Which cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// Its samples.
    pub samples: Vec<Sample>,
    /// What its server asked of the kernel, if that was counted.
    pub syscalls: Option<Syscalls>,
}

impl Measured {
    /// One figure of it, over the rounds.
    pub fn figure(&self, what: impl Fn(&Sample) -> f64) -> Option<Figure> {
        Figure::of(self.samples.iter().map(what))
    }
}

/// All that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What machine it was.
    pub machine: String,
    /// What was asked for.
    pub command: String,
    /// How quiet it was.
    pub noise: Noise,
    /// The cells.
    pub cells: Vec<Measured>,
    /// Memory and growth.
    pub growth: Growth,
    /// Why there is no verdict, if there is none.
    pub complaints: Vec<String>,
    /// What it must reach, and where it stands.
    pub rows: Vec<Row>,
}

/// Finds a cell among these.
pub fn find(cells: &[Measured], who: Who, what: What, shape: Shape) -> Option<&Measured> {
    cells.iter().find(|measured| measured.cell == Cell { who, what, shape, size: HALF, generators: 1 })
}
