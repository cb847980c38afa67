//! The plot of `docs/development/performance.md`: memory and lateness against the number of tokens.

use std::fmt::Write as _;

use super::Point;
use super::memory::grouped;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;

/// Right of the panels, for half of the last number.
const ROOM: f64 = 20.0;

/// Around each of the two panels.
const MARGIN: f64 = 56.0;

/// An SVG with a panel for the memory and one for the lateness.
pub(super) fn draw(points: &[Point]) -> String {
    let memory: Vec<_> = points.iter().map(|point| (point.tokens, point.bytes)).collect();
    let late = |point: &Point| Some((point.tokens, point.lateness_ms?));
    let lateness: Vec<_> = points.iter().filter_map(late).collect();
    let width = WIDTH + ROOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    panel(&mut svg, 0.0, "resident bytes a token", &memory, Some(140.0));
    panel(&mut svg, WIDTH / 2.0, "lateness p99 at 700/s, ms", &lateness, Some(10.0));
    svg + "</svg>\n"
}

/// A panel from `left` on: values against tokens, these on a logarithmic axis; with a line at
/// the target.
fn panel(svg: &mut String, left: f64, title: &str, values: &[(u64, f64)], target: Option<f64>) {
    let highest = values.iter().map(|(_, value)| *value).chain(target).fold(0.0, f64::max) * 1.15;
    let (bottom, right) = (HEIGHT - MARGIN, left + WIDTH / 2.0 - MARGIN / 2.0);
    let width = right - left - MARGIN;
    // From 10^4 to 10^6 tokens.
    let x = |tokens: u64| left + MARGIN + ((tokens as f64).log10() - 4.0) / 2.0 * width;
    let y = |value: f64| bottom - value / highest * (bottom - MARGIN);
    let text = |svg: &mut String, x: f64, y: f64, anchor: &str, words: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{words}</text>"
        );
    };
    let line = |svg: &mut String, from: (f64, f64), to: (f64, f64), style: &str| {
        let _ = writeln!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {style}/>",
            from.0, from.1, to.0, to.1
        );
    };
    text(svg, left + MARGIN, MARGIN / 2.0, "start", title);
    line(svg, (left + MARGIN, bottom), (right, bottom), "stroke=\"black\"");
    line(svg, (left + MARGIN, bottom), (left + MARGIN, MARGIN), "stroke=\"black\"");
    if let Some(target) = target {
        let dashed = "stroke=\"firebrick\" stroke-dasharray=\"4 4\"";
        line(svg, (left + MARGIN, y(target)), (right, y(target)), dashed);
        text(svg, left + MARGIN - 4.0, y(target) + 4.0, "end", &format!("{target}"));
    }
    for pair in values.windows(2) {
        let at = |(tokens, value): (u64, f64)| (x(tokens), y(value));
        line(svg, at(pair[0]), at(pair[1]), "stroke=\"steelblue\" stroke-width=\"2\"");
    }
    for (tokens, value) in values {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"steelblue\"/>",
            x(*tokens),
            y(*value)
        );
        text(svg, x(*tokens), y(*value) - 9.0, "middle", &format!("{value:.1}"));
        text(svg, x(*tokens), bottom + 18.0, "middle", &grouped(*tokens));
    }
    text(svg, f64::midpoint(left + MARGIN, right), bottom + 38.0, "middle", "tokens");
}
