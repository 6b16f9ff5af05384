//! Figures of several rounds as one: medians, spreads, ratios.

/// The middle of several figures, with the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

/// Summarises figures, without those that are not numbers; `None` if there are none.
pub fn summary(figures: &[f64]) -> Option<Summary> {
    let mut sorted: Vec<f64> = figures.iter().copied().filter(|f| f.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let (least, greatest) = (*sorted.first()?, *sorted.last()?);
    let half = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        (sorted[half - 1] + sorted[half]) / 2.0
    };
    Some(Summary {
        median,
        least,
        greatest,
    })
}

/// How many times `below` goes into `above`, round by round: only rounds that have both count,
/// since what slows the machine down slows both.
pub fn ratios(above: &[(u32, f64)], below: &[(u32, f64)]) -> Vec<f64> {
    above
        .iter()
        .filter_map(|(round, a)| {
            let (_, b) = below.iter().find(|(other, _)| other == round)?;
            (*b > 0.0).then(|| a / b)
        })
        .collect()
}

/// Rounds to a number of decimals, so that files contain no meaningless digits.
pub fn rounded(figure: f64, decimals: i32) -> f64 {
    let factor = 10f64.powi(decimals);
    (figure * factor).round() / factor
}
