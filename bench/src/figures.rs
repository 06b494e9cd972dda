//! Medians, and how far the rounds lie apart.

use serde::Serialize;

/// One figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

impl Figure {
    /// Of these values; none of no values, or of any that is no number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        if sorted.iter().any(|value| !value.is_finite()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let below = if sorted.len().is_multiple_of(2) { middle - 1 } else { middle };
        Some(Self { median: (sorted[below] + sorted[middle]) / 2.0, low, high })
    }

    /// Of the ratios round by round, so that what disturbs one round disturbs both of its sides.
    pub fn of_ratios(these: &[f64], those: &[f64]) -> Option<Self> {
        Self::of(these.iter().zip(those).map(|(this, that)| this / that))
    }

    /// How far the rounds lie apart, as a part of the median.
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / self.median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        assert_eq!(Figure::of([3.0, 1.0, 2.0]), Some(Figure { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Figure::of([4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Figure::of([7.0]).unwrap().spread(), 0.0);
    }

    #[test]
    fn what_was_not_measured_is_no_figure() {
        assert_eq!(Figure::of([]), None);
        assert_eq!(Figure::of([1.0, f64::NAN]), None);
        assert_eq!(Figure::of_ratios(&[1.0], &[0.0]), None);
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The second round was twice as slow for both.
        let ratio = Figure::of_ratios(&[1.0, 2.0], &[2.0, 4.0]).unwrap();
        assert_eq!(ratio, Figure { median: 0.5, low: 0.5, high: 0.5 });
        assert_eq!(ratio.spread(), 0.0);
    }
}
