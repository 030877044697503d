//! Medians and quantiles of measured values.

/// The value in the middle, or between the two in the middle; not a number if there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// The smallest value that at least this part (0 to 1) of all are not above; not a number if there are none.
pub fn quantile(values: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let sorted = sorted(values);
    let at = ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_edges() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan() && quantile([], 0.5).is_nan());
        let hundred = || (1..=100).rev().map(f64::from);
        assert_eq!(quantile(hundred(), 0.99), 99.0);
        assert_eq!(quantile(hundred(), 1.0), 100.0);
        assert_eq!(quantile([7.0], 0.01), 7.0);
    }
}
