//! The plots of `docs/congestion.md`, from the simulator. `TOWLINE_BLESS=1` rewrites those that are stale.

use std::fmt::Write;
use std::path::Path;

use super::simulator::{SimulatedPath, Simulator};

const WIDTH: f64 = 760.0;
const PANEL_HEIGHT: f64 = 110.0;
/// From the top of one panel to that of the next.
const PANEL_STEP: f64 = 165.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 34.0;
/// Of the curves: blue, orange, green. These and the grey of all else can be read on white and on black.
const COLORS: [&str; 3] = ["#3b82f6", "#ea7317", "#22a35a"];
const GREY: &str = "#808890";

/// A value for each tenth of a second.
struct Curve {
    name: &'static str,
    values: Vec<f64>,
}

struct Panel {
    title: &'static str,
    max: f64,
    /// What the curves should keep to.
    limit: Vec<f64>,
    curves: Vec<Curve>,
}

#[test]
fn plots_are_what_the_simulator_says() {
    for (name, seconds, panels) in [
        ("startup", 8, startup()),
        ("change", 15, change()),
        ("loss", 12, loss()),
        ("sharing", 24, sharing()),
    ] {
        check(name, &draw(seconds, &panels));
    }
}

fn check(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/congestion-{name}.svg"));
    if std::env::var_os("TOWLINE_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == committed, "{name} is stale: run TOWLINE_BLESS=1 cargo test --lib plots");
}

fn startup() -> Vec<Panel> {
    let mut run = Simulator::new(SimulatedPath::new(30, 100, 100));
    let flow = run.add_ours(0);
    run.run(8000);
    let held = 30_000_000.0 / 8.0 * 0.1;
    let window = run.tenths[flow].iter().map(|tenth| tenth.window as f64 / held).collect();
    vec![
        rates(
            "Delivered, Mbit/s: a link of 30 Mbit/s, round trip and queue of 100 ms",
            &run,
            30,
            &["towline"],
        ),
        Panel {
            title: "Window, as a multiple of what the path holds",
            max: 2.5,
            limit: vec![1.0; 80],
            curves: vec![Curve { name: "", values: window }],
        },
        queue(&run, 100),
    ]
}

fn change() -> Vec<Panel> {
    let rates_mbit = vec![(0, 30), (5000, 3), (10_000, 30)];
    let mut run = Simulator::new(SimulatedPath { rates: rates_mbit, ..SimulatedPath::new(0, 100, 100) });
    run.add_ours(0);
    run.run(15_000);
    let mut delivered = rates(
        "Delivered, Mbit/s: the link falls from 30 to 3 Mbit/s and rises again",
        &run,
        30,
        &["towline"],
    );
    delivered.limit[50..100].fill(3.0);
    vec![delivered, queue(&run, 100)]
}

fn loss() -> Vec<Panel> {
    [
        (10, "Delivered, Mbit/s: 1 % lost at random, each flow alone"),
        (50, "5 % lost at random, each flow alone"),
    ]
    .map(|(loss_permille, title)| {
        let link = SimulatedPath { loss_permille, ..SimulatedPath::new(30, 100, 100) };
        let mut run = Simulator::new(link.clone());
        run.add_ours(0);
        run.run(12_000);
        let mut beside = Simulator::new(link);
        beside.add_cubic(0);
        beside.run(12_000);
        run.tenths.extend(beside.tenths);
        rates(title, &run, 30, &["towline", "CUBIC"])
    })
    .into()
}

fn sharing() -> Vec<Panel> {
    let run = |add: fn(&mut Simulator)| {
        let mut run = Simulator::new(SimulatedPath::new(24, 40, 40));
        add(&mut run);
        run.run(24_000);
        run
    };
    let alike = run(|run| {
        run.add_ours(0);
        run.add_ours(4000);
    });
    let cubic = run(|run| {
        run.add_ours(0);
        run.add_cubic(4000);
    });
    let background = run(|run| {
        run.add_background(0);
        let cubic = run.add_cubic(4000);
        run.stop(cubic, 16_000);
    });
    vec![
        rates(
            "Delivered, Mbit/s: a link of 24 Mbit/s, 40 ms; another towline from 4 s on",
            &alike,
            24,
            &["the first", "the second"],
        ),
        rates("CUBIC from 4 s on", &cubic, 24, &["towline", "CUBIC"]),
        rates("CUBIC from 4 to 16 s", &background, 24, &["towline --background", "CUBIC"]),
    ]
}

/// What the flows of `run` got, of `mbit`.
fn rates(title: &'static str, run: &Simulator, mbit: u32, names: &[&'static str]) -> Panel {
    let of = |flow: usize| run.tenths[flow].iter().map(|tenth| tenth.delivered as f64 * 8.0 / 1e5).collect();
    let curves: Vec<_> =
        names.iter().enumerate().map(|(flow, name)| Curve { name, values: of(flow) }).collect();
    let tenths = curves.iter().map(|curve| curve.values.len()).max().unwrap_or(0);
    Panel { title, max: f64::from(mbit) * 1.2, limit: vec![f64::from(mbit); tenths], curves }
}

fn queue(run: &Simulator, queue_ms: u32) -> Panel {
    let values: Vec<f64> = run.queues_us.iter().map(|us| *us as f64 / 1000.0).collect();
    let limit = vec![f64::from(queue_ms); values.len()];
    Panel {
        title: "Longest queue, ms",
        max: f64::from(queue_ms) * 1.2,
        limit,
        curves: vec![Curve { name: "", values }],
    }
}

fn draw(seconds: u32, panels: &[Panel]) -> String {
    let height = TOP + PANEL_STEP * panels.len() as f64 - 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{GREY}\">\n"
    );
    for (row, panel) in panels.iter().enumerate() {
        draw_panel(&mut svg, TOP + PANEL_STEP * row as f64, seconds, panel);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(svg: &mut String, top: f64, seconds: u32, panel: &Panel) {
    let right = WIDTH - 12.0;
    let bottom = top + PANEL_HEIGHT;
    let x = |second: f64| LEFT + (right - LEFT) * second / f64::from(seconds);
    let y = |value: f64| bottom - PANEL_HEIGHT * value.min(panel.max) / panel.max;
    let mut end = right;
    for (curve, color) in panel.curves.iter().zip(COLORS).rev().filter(|(curve, _)| !curve.name.is_empty()) {
        writeln!(
            svg,
            "<text x=\"{end}\" y=\"{}\" text-anchor=\"end\" fill=\"{color}\">{}</text>",
            top - 10.0,
            curve.name
        )
        .unwrap();
        end -= 12.0 + 7.0 * curve.name.len() as f64;
    }
    writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\">{}</text>", top - 10.0, panel.title).unwrap();
    for value in [0.0, panel.limit[0] / 2.0, panel.limit[0]] {
        let (line, text) = (y(value), y(value) + 4.0);
        writeln!(
            svg,
            "<path d=\"M{LEFT} {line:.1}H{right}\" stroke=\"{GREY}\" stroke-opacity=\"0.25\"/>\
             <text x=\"{}\" y=\"{text:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 8.0
        )
        .unwrap();
    }
    for second in (0..=seconds).step_by(if seconds > 10 { 3 } else { 1 }) {
        let unit = if second == seconds { " s" } else { "" };
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{second}{unit}</text>",
            x(f64::from(second)) - if unit.is_empty() { 0.0 } else { 6.0 },
            bottom + 18.0
        )
        .unwrap();
    }
    let shown = panel.limit.len().min(seconds as usize * 10);
    let limit = steps(&panel.limit[..shown], &x, &y);
    writeln!(svg, "<path d=\"{limit}\" fill=\"none\" stroke=\"{GREY}\" stroke-dasharray=\"4 3\"/>").unwrap();
    for (curve, color) in panel.curves.iter().zip(COLORS) {
        let shown = curve.values.len().min(seconds as usize * 10);
        let line = steps(&curve.values[..shown], &x, &y);
        writeln!(svg, "<path d=\"{line}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\"/>").unwrap();
    }
}

/// A path that holds each value for its tenth of a second.
fn steps(values: &[f64], x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    for (at, value) in values.iter().enumerate() {
        let start = if at == 0 { format!("M{:.1} ", x(0.0)) } else { "V".to_owned() };
        write!(path, "{start}{:.1}H{:.1}", y(*value), x((at + 1) as f64 / 10.0)).unwrap();
    }
    path
}
