//! A picture: nodes by domain, with the groups in them, as SVG.
//!
//! A pure function of a problem and its placement. Several can be put one below the other, before
//! and after something happened, with the same colours for the same groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{
    node::Node,
    plan::{Outcome, Placement, Slot},
    problem::Problem,
    topology::Topology,
};

/// Eight colours that people with any colour vision tell apart (Okabe and Ito), without black.
const COLOURS: [&str; 8] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a7f00", "#6a51a3",
];

/// Side of a unit of the drawn resource, pixels.
const CELL: usize = 16;
/// Units in a row of a node.
const CELLS_WIDE: usize = 4;
/// Height of a line of text, pixels.
const LINE: usize = 16;
/// Room between neighbours, pixels.
const GAP: usize = 8;
/// Width that is not exceeded where narrower domains can be wrapped, pixels.
const WIDTH: usize = 1_200;

/// One state of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    /// Its title, such as `before`.
    pub title: &'a str,
    /// The facts.
    pub problem: &'a Problem,
    /// The placement.
    pub placement: &'a Placement,
}

/// A part of the picture that knows its size.
struct Block {
    width: usize,
    height: usize,
    svg: String,
}

/// Draws the panels one below the other. Each cell is a unit of `resource`.
pub fn picture(panels: &[Panel<'_>], resource: &str) -> String {
    let groups: BTreeSet<&str> = panels
        .iter()
        .flat_map(|panel| panel.placement.groups.keys())
        .map(String::as_str)
        .collect();
    let colours: BTreeMap<&str, &str> = groups
        .into_iter()
        .zip(COLOURS.iter().copied().cycle())
        .collect();
    let mut blocks = Vec::new();
    for panel in panels {
        let drawing = Drawing {
            panel: *panel,
            colours: &colours,
            resource,
        };
        blocks.push(text(panel.title, "title"));
        blocks.push(drawing.domain(0, &drawing.nodes()));
        blocks.push(drawing.legend());
    }
    let all = stacked(blocks);
    let (width, height) = (all.width + 2 * GAP, all.height + 2 * GAP);
    format!(
        concat!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" ",
            "viewBox=\"0 0 {w} {h}\" font-family=\"sans-serif\" font-size=\"11\">\n",
            "<style>.title{{font-size:15px;font-weight:bold}}.domain{{fill:none;stroke:#888}}",
            ".node{{fill:#fff;stroke:#444}}.lost{{fill:#fbe3e3;stroke:#b00;stroke-dasharray:4 2}}",
            ".free{{fill:#f2f2f2;stroke:#ccc}}.other{{fill:#bbb;stroke:#999}}",
            ".pod{{stroke:#fff}}.letter{{fill:#fff;font-weight:bold;text-anchor:middle}}</style>\n",
            "<rect width=\"{w}\" height=\"{h}\" fill=\"#fff\"/>\n",
            "<g transform=\"translate({gap},{gap})\">\n{svg}</g>\n</svg>\n"
        ),
        w = width,
        h = height,
        gap = GAP,
        svg = all.svg
    )
}

/// A unit of the drawn resource on a node.
struct Cell {
    /// Its attributes.
    look: String,
    letter: String,
    title: String,
}

struct Drawing<'a> {
    panel: Panel<'a>,
    colours: &'a BTreeMap<&'a str, &'a str>,
    resource: &'a str,
}

impl Drawing<'_> {
    /// Nodes with their paths, in order.
    fn nodes(&self) -> Vec<(Vec<String>, &Node)> {
        let problem = self.panel.problem;
        let all: Vec<_> = problem.nodes.iter().map(|node| &node.labels).collect();
        let levels = problem.topology.in_force(&all);
        let mut nodes: Vec<(Vec<String>, &Node)> = problem
            .nodes
            .iter()
            .map(|node| {
                let path = Topology::path(&levels, &node.labels);
                let named = levels.iter().zip(path);
                let path = named.map(|(level, value)| format!("{} {value}", level.name));
                (path.collect(), node)
            })
            .collect();
        nodes.sort_by(|one, other| (&one.0, &one.1.name).cmp(&(&other.0, &other.1.name)));
        nodes
    }

    /// All that is in a domain at `depth`, whose nodes are `nodes`, in order.
    fn domain(&self, depth: usize, nodes: &[(Vec<String>, &Node)]) -> Block {
        let mut parts = Vec::new();
        for part in nodes.chunk_by(|one, other| one.0.get(depth) == other.0.get(depth)) {
            let name = part.first().and_then(|(path, _)| path.get(depth));
            if let Some(name) = name {
                let inner = self.domain(depth + 1, part);
                parts.push(framed(&stacked(vec![text(name, "name"), inner])));
            } else {
                parts.extend(part.iter().map(|(_, node)| self.node(node)));
            }
        }
        wrapped(parts)
    }

    fn node(&self, node: &Node) -> Block {
        let units = usize::try_from(node.allocatable.get(self.resource)).unwrap_or(0);
        let mut cells = Vec::new();
        for (group, slot) in self.slots(&node.name) {
            let colour = self.colours.get(group).copied().unwrap_or("#000");
            let letter = slot.role.chars().next().unwrap_or('?').to_uppercase();
            let what = format!("{group}: {} {}", slot.role, slot.replica);
            for unit in 0..self.units(group, slot) {
                cells.push(Cell {
                    look: format!("class=\"pod\" fill=\"{colour}\""),
                    letter: if unit == 0 {
                        letter.to_string()
                    } else {
                        String::new()
                    },
                    title: what.clone(),
                });
            }
        }
        let others = node
            .occupants
            .iter()
            .map(|other| other.requests.get(self.resource));
        let others = usize::try_from(others.sum::<i64>()).unwrap_or(0);
        let plain = |class: &str| Cell {
            look: format!("class=\"{class}\""),
            letter: String::new(),
            title: String::new(),
        };
        cells.extend((0..others).map(|_| plain("other")));
        while cells.len() < units {
            cells.push(plain("free"));
        }
        let rows = cells.len().div_ceil(CELLS_WIDE).max(1);
        let width = (CELLS_WIDE * CELL).max(letters(&node.name)) + GAP;
        let height = LINE + rows * CELL + GAP;
        let is_out = !node.is_ready || node.is_cordoned;
        let class = if is_out { "lost" } else { "node" };
        let mut svg = format!(
            "<rect class=\"{class}\" width=\"{width}\" height=\"{height}\" rx=\"3\"/>\n\
             <text x=\"4\" y=\"12\">{}</text>\n",
            escaped(&node.name)
        );
        for (place, cell) in cells.iter().enumerate() {
            let x = GAP / 2 + place % CELLS_WIDE * CELL;
            let y = LINE + place / CELLS_WIDE * CELL;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" {}>\
                 <title>{}</title></rect>",
                cell.look,
                escaped(&cell.title)
            );
            if !cell.letter.is_empty() {
                let _ = writeln!(
                    svg,
                    "<text class=\"letter\" x=\"{}\" y=\"{}\">{}</text>",
                    x + CELL / 2,
                    y + CELL - 4,
                    escaped(&cell.letter)
                );
            }
        }
        Block { width, height, svg }
    }

    /// Pods of groups on a node.
    fn slots(&self, node: &str) -> Vec<(&str, &Slot)> {
        let plans = self.panel.placement.groups.iter();
        let slots = plans.flat_map(|(group, plan)| {
            let on_node = plan.slots.iter().filter(|slot| slot.node == node);
            on_node.map(move |slot| (group.as_str(), slot))
        });
        slots.collect()
    }

    /// Units of the drawn resource that a pod has.
    fn units(&self, group: &str, slot: &Slot) -> usize {
        let mut groups = self.panel.problem.groups.iter();
        let group = groups.find(|known| known.name == group);
        let pods = group.and_then(|group| group.pods(&slot.role, &slot.kind));
        let units = pods.map_or(0, |pods| pods.shape.requests.get(self.resource));
        usize::try_from(units).unwrap_or(0)
    }

    /// Groups with their colours and states.
    fn legend(&self) -> Block {
        let mut parts = Vec::new();
        for (group, plan) in &self.panel.placement.groups {
            let colour = self.colours.get(group.as_str()).copied().unwrap_or("#000");
            let roles = plan.replicas.iter();
            let roles: Vec<String> = roles
                .map(|(role, count)| format!("{count} {role}"))
                .collect();
            let place = plan.domain.as_ref().map(|domain| format!(" in {domain}"));
            let said = format!(
                "{group}: {}, {}{}",
                outcome(&plan.outcome),
                roles.join(" + "),
                place.unwrap_or_default()
            );
            let width = CELL + GAP + letters(&said);
            parts.push(Block {
                width,
                height: LINE,
                svg: format!(
                    "<rect class=\"pod\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\n\
                     <text x=\"{CELL}\" y=\"10\">{}</text>\n",
                    escaped(&said)
                ),
            });
        }
        stacked(parts)
    }
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Placed => "placed",
        Outcome::Degraded => "degraded",
        Outcome::Waiting => "waiting",
        Outcome::Refused(_) => "refused",
    }
}

/// Width of a text, pixels, about.
fn letters(text: &str) -> usize {
    text.chars().count() * 13 / 2 + GAP
}

fn text(said: &str, class: &str) -> Block {
    Block {
        width: letters(said) * 3 / 2,
        height: LINE + GAP / 2,
        svg: format!(
            "<text class=\"{class}\" x=\"0\" y=\"12\">{}</text>\n",
            escaped(said)
        ),
    }
}

/// A frame around a block.
fn framed(inner: &Block) -> Block {
    let (width, height) = (inner.width + 2 * GAP, inner.height + 2 * GAP);
    Block {
        width,
        height,
        svg: format!(
            "<rect class=\"domain\" width=\"{width}\" height=\"{height}\" rx=\"5\"/>\n\
             <g transform=\"translate({GAP},{GAP})\">\n{}</g>\n",
            inner.svg
        ),
    }
}

/// Blocks one below the other.
fn stacked(blocks: Vec<Block>) -> Block {
    placed(blocks, |_, width| width == 0)
}

/// Blocks side by side, in as many rows as the width takes.
fn wrapped(blocks: Vec<Block>) -> Block {
    placed(blocks, |block, width| {
        width == 0 || width + block.width <= WIDTH
    })
}

/// Blocks in rows; `fits` says whether a block goes into a row of some width.
fn placed(blocks: Vec<Block>, fits: impl Fn(&Block, usize) -> bool) -> Block {
    let mut svg = String::new();
    let (mut x, mut y, mut row, mut width) = (0, 0, 0, 0);
    for block in blocks {
        if !fits(&block, x) {
            (x, y, row) = (0, y + row + GAP, 0);
        }
        let _ = write!(
            svg,
            "<g transform=\"translate({x},{y})\">\n{}</g>\n",
            block.svg
        );
        width = width.max(x + block.width);
        x += block.width + GAP;
        row = row.max(block.height);
    }
    Block {
        width,
        height: y + row,
        svg,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
