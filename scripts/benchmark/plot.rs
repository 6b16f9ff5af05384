//! The medians as a picture: one bar a variant, one colour a stage.

use crate::report::Report;
use crate::sample::{self, Line, TOTAL};

const WIDTH: f64 = 880.0;
/// Where bars begin, and the room behind the longest for its label.
const LEFT: f64 = 110.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 26.0;
const PITCH: f64 = 46.0;
const TOP: f64 = 44.0;
const LEGEND_ROW: f64 = 20.0;
const LEGEND_COLUMNS: usize = 4;

/// Colours that colour-blind people can distinguish (Okabe and Ito, and greys), in the order in which
/// stages first appear.
const COLOURS: [&str; 12] = [
    "#999999", "#56b4e9", "#0072b2", "#009e73", "#f0e442", "#e69f00", "#d55e00", "#cc79a7",
    "#6a3d9a", "#b15928", "#66a61e", "#444444",
];

struct Bar<'a> {
    variant: &'a str,
    stages: Vec<Line>,
    total: Line,
}

/// Draws what has stages; `None` where nothing has.
pub fn svg(report: &Report) -> Option<String> {
    let bars: Vec<Bar<'_>> = sample::variants(&report.samples)
        .into_iter()
        .filter_map(|variant| {
            let lines = sample::lines(&report.samples, variant);
            let total = lines.iter().find(|line| line.name == TOTAL)?.clone();
            let stages: Vec<Line> = lines.into_iter().filter(|line| line.stage).collect();
            (!stages.is_empty()).then_some(Bar {
                variant,
                stages,
                total,
            })
        })
        .collect();
    let longest = bars
        .iter()
        .map(|bar| bar.total.summary.greatest)
        .max_by(f64::total_cmp)
        .filter(|longest| *longest > 0.0)?;
    let mut names: Vec<&str> = Vec::new();
    for stage in bars.iter().flat_map(|bar| &bar.stages) {
        if !names.contains(&stage.name.as_str()) {
            names.push(&stage.name);
        }
    }
    let step = tick(longest);
    let end = (longest / step).ceil() * step;
    let scale = |seconds: f64| LEFT + seconds / end * (WIDTH - LEFT - RIGHT);
    let axis = TOP + bars.len() as f64 * PITCH;
    let legend = axis + 44.0;
    let rows = names.len().div_ceil(LEGEND_COLUMNS) as f64;
    let height = legend + rows * LEGEND_ROW + 30.0;

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">Seconds from the beginning until each stage \
         is there (medians; the line is the spread of the total)</text>\n"
    );
    let mut at = 0.0;
    while at <= end + step / 2.0 {
        let x = scale(at);
        out.push_str(&format!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{axis}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{at}</text>\n",
            axis + 18.0
        ));
        at += step;
    }
    for (index, bar) in bars.iter().enumerate() {
        draw(
            &mut out,
            bar,
            TOP + index as f64 * PITCH + 8.0,
            &names,
            &scale,
        );
    }
    for (index, name) in names.iter().enumerate() {
        let column = (WIDTH - LEFT) / LEGEND_COLUMNS as f64;
        let x = LEFT + (index % LEGEND_COLUMNS) as f64 * column;
        let y = legend + (index / LEGEND_COLUMNS) as f64 * LEGEND_ROW;
        out.push_str(&format!(
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{}\"/>\n\
             <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>\n",
            y - 11.0,
            colour(&names, name),
            x + 18.0,
            escape(name)
        ));
    }
    out.push_str(&format!(
        "<text x=\"10\" y=\"{:.1}\" font-size=\"11\" fill=\"#555555\">{}</text>\n</svg>\n",
        height - 10.0,
        escape(&crate::report::machine(&report.machine))
    ));
    Some(out)
}

fn draw(out: &mut String, bar: &Bar<'_>, y: f64, names: &[&str], scale: &dyn Fn(f64) -> f64) {
    let middle = y + BAR / 2.0;
    out.push_str(&format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
        LEFT - 10.0,
        middle + 4.0,
        escape(bar.variant)
    ));
    let mut from = scale(0.0);
    for stage in &bar.stages {
        let to = scale(stage.summary.median);
        out.push_str(&format!(
            "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\">\
             <title>{}: {:.1} s</title></rect>\n",
            (to - from).max(0.0),
            colour(names, &stage.name),
            escape(&stage.name),
            stage.summary.median
        ));
        from = to;
    }
    let total = bar.total.summary;
    out.push_str(&format!(
        "<line x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\" stroke=\"#000000\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\">{:.1} s</text>\n",
        scale(total.least),
        scale(total.greatest),
        scale(total.greatest) + 8.0,
        middle + 4.0,
        total.median
    ));
}

fn colour(names: &[&str], name: &str) -> &'static str {
    let index = names.iter().position(|n| *n == name).unwrap_or_default();
    COLOURS[index % COLOURS.len()]
}

/// The distance of marks on the axis: 1, 2 or 5 of a power of ten, at most ten of them.
pub fn tick(longest: f64) -> f64 {
    let power = 10f64.powf((longest / 10.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| longest / step <= 10.0)
        .unwrap_or(power * 10.0)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
