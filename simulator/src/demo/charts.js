// Small multiples over one time axis, drawn as SVG text. Owns scales, paths and the crosshair that
// all charts share; what is drawn comes from the definitions that page.js passes in. A series is of
// the run itself or of the rival's, whose points are taken at the same times.
"use strict";

const GUTTER = 46;
const RIGHT = 10;

class Charts {
  constructor(root, axes, definitions, daySeconds, height = 86) {
    this.root = root;
    this.axes = axes;
    this.daySeconds = daySeconds;
    this.height = height;
    this.points = [];
    this.rivalPoints = [];
    // Other charts that show the same moment.
    this.linked = [];
    this.hovered = null;
    this.width = 0;
    this.charts = definitions.map((definition) => this.build(definition));
    new ResizeObserver(() => this.draw()).observe(root);
  }

  build(definition) {
    const box = document.createElement("div");
    box.className = "chart";
    const keys = definition.series
      .map((s) => `<span class="key${s.rival ? " of-rival" : ""}${s.keyOnly ? " key-only" : ""}" style="--series:var(--${s.color})"><i class="${s.block ? "block" : s.dash ? "dash" : ""}" style="${s.block ? "background" : "border-color"}:var(--${s.color});${s.block ? "opacity:.35" : ""}"></i>${s.name}<output></output></span>`)
      .join("");
    box.innerHTML = `<div class="chart-head"><b>${definition.title}</b>${definition.head ?? ""}${keys}</div><div class="plot"></div>`;
    this.root.append(box);
    const plot = box.querySelector(".plot");
    plot.addEventListener("pointermove", (event) => {
      const left = plot.getBoundingClientRect().left;
      this.hover(this.timeAt(event.clientX - left));
    });
    plot.addEventListener("pointerleave", () => this.hover(null));
    return { definition, plot, outputs: [...box.querySelectorAll("output")] };
  }

  x(seconds) {
    return GUTTER + (seconds / this.daySeconds) * (this.width - GUTTER - RIGHT);
  }

  timeAt(x) {
    return ((x - GUTTER) / (this.width - GUTTER - RIGHT)) * this.daySeconds;
  }

  update(points, rivalPoints) {
    this.points = points;
    this.rivalPoints = rivalPoints;
    this.draw();
  }

  pointsOf(series) {
    return series.rival ? this.rivalPoints : this.points;
  }

  // Shows the values of the point nearest to a time of the day, or of the last point.
  hover(seconds) {
    for (const charts of [this, ...this.linked]) charts.markAt(seconds);
  }

  markAt(seconds) {
    if (seconds === null || this.points.length === 0) {
      this.hovered = null;
    } else {
      const span = this.points.length > 1 ? this.points[1].atSeconds - this.points[0].atSeconds : 1;
      const index = Math.round((seconds - this.points[0].atSeconds) / span);
      this.hovered = Math.max(0, Math.min(this.points.length - 1, index));
    }
    this.mark();
  }

  draw() {
    this.width = Math.max(this.root.clientWidth, 260);
    for (const chart of this.charts) chart.plot.innerHTML = this.svg(chart.definition);
    const axis = this.axis();
    for (const element of this.axes) element.innerHTML = axis;
    this.mark();
  }

  mark() {
    const index = this.hovered ?? this.points.length - 1;
    const point = this.points[index];
    for (const { definition, plot, outputs } of this.charts) {
      definition.series.forEach((series, place) => {
        const shown = this.pointsOf(series)[index];
        // Limits are known before the first point.
        const value = shown || series.constant ? series.get(shown) : null;
        outputs[place].textContent = value == null ? "–" : series.format(value);
      });
      const cross = plot.querySelector(".cross");
      if (!cross) continue;
      const shown = this.hovered !== null && point;
      cross.style.display = shown ? "" : "none";
      if (shown) {
        cross.setAttribute("x1", this.x(point.atSeconds));
        cross.setAttribute("x2", this.x(point.atSeconds));
      }
    }
    for (const element of this.axes) {
      const label = element.querySelector(".at");
      if (!label) continue;
      const shown = this.hovered !== null && point;
      label.style.display = shown ? "" : "none";
      if (!shown) continue;
      const x = Math.max(GUTTER + 18, Math.min(this.width - RIGHT - 18, this.x(point.atSeconds)));
      label.setAttribute("transform", `translate(${x} 0)`);
      label.querySelector("text").textContent = clockText(point.atSeconds);
    }
  }

  hours() {
    const last = this.daySeconds / 3600;
    const most = this.width < 520 ? 5 : 9;
    const every = [1 / 12, 1 / 6, 1 / 4, 1 / 2, 1, 2, 3, 6, 12, 24, 48].find((step) => last / step < most) ?? 96;
    const hours = [];
    for (let hour = 0; hour <= last; hour += every) hours.push(hour);
    return hours;
  }

  axis() {
    const labels = this.hours()
      .map((hour) => `<text x="${this.x(hour * 3600)}" y="12" text-anchor="middle">${clockText(hour * 3600)}</text>`)
      .join("");
    const at = `<g class="at" style="display:none"><rect x="-20" y="0" width="40" height="16" rx="4" fill="var(--ink)"/><text y="12" text-anchor="middle" style="fill:var(--card);font-weight:600"></text></g>`;
    return `<svg height="16" viewBox="0 0 ${this.width} 16">${labels}${at}</svg>`;
  }

  svg(definition) {
    const range = definition.range(this.points, this.rivalPoints);
    const height = this.height;
    const scale = definition.log ? Math.log2 : (v) => v;
    const [low, high] = [scale(range.min), scale(range.max)];
    const y = (value) => {
      const share = (scale(Math.max(value, definition.log ? 1e-6 : value)) - low) / (high - low);
      return height - 4 - Math.max(0, Math.min(1, share)) * (height - 12);
    };
    const right = this.width - RIGHT;
    const parts = [];
    for (const hour of this.hours()) {
      const x = this.x(hour * 3600);
      parts.push(`<line class="grid" x1="${x}" x2="${x}" y1="2" y2="${height - 4}"/>`);
    }
    for (const tick of range.ticks) {
      const at = y(tick.value);
      parts.push(`<line class="grid" x1="${GUTTER}" x2="${right}" y1="${at}" y2="${at}"/>`);
      parts.push(`<text x="${GUTTER - 7}" y="${at + 4}" text-anchor="end">${tick.label}</text>`);
    }
    if (definition.band) {
      const [top, bottom] = [y(definition.band.most), y(definition.band.least)];
      parts.push(`<rect x="${GUTTER}" width="${right - GUTTER}" y="${top}" height="${bottom - top}" fill="var(--gpu)" opacity="0.1"/>`);
    }
    for (const series of definition.series) parts.push(this.path(series, y));
    const line = definition.limit ?? definition.goal;
    if (line) {
      parts.push(`<line class="limit" x1="${GUTTER}" x2="${right}" y1="${y(line)}" y2="${y(line)}"/>`);
    }
    if (definition.limit) parts.push(this.misses(definition, y));
    parts.push(`<line class="base" x1="${GUTTER}" x2="${right}" y1="${height - 4}" y2="${height - 4}"/>`);
    parts.push(`<line class="cross" y1="0" y2="${height - 4}" style="display:none"/>`);
    const label = `${definition.title} over the day`;
    return `<svg height="${height}" viewBox="0 0 ${this.width} ${height}" role="img" aria-label="${label}">${parts.join("")}</svg>`;
  }

  // A line, a staircase, or the filled area below either. Gaps in the data stay gaps.
  path(series, y) {
    let line = "";
    let area = "";
    let run = [];
    const close = () => {
      if (run.length > 0) {
        const first = run[0].x;
        let path = `M${first} ${run[0].y}`;
        for (let i = 1; i < run.length; i += 1) {
          path += series.step ? `H${run[i].x}V${run[i].y}` : `L${run[i].x} ${run[i].y}`;
        }
        line += path;
        area += `${path}V${this.height - 4}H${first}Z`;
      }
      run = [];
    };
    for (const point of this.pointsOf(series)) {
      const value = series.get(point);
      if (value == null) close();
      else run.push({ x: this.x(point.atSeconds).toFixed(1), y: y(value).toFixed(1) });
    }
    close();
    if (!line || series.keyOnly) return "";
    const filled = series.fill ? `<path d="${area}" fill="var(--${series.color})" opacity="${series.fill}"/>` : "";
    if (series.block) return filled;
    const dash = series.dash ? ` stroke-dasharray="4 3"` : "";
    const faint = series.opacity ? ` opacity="${series.opacity}"` : "";
    return `${filled}<path d="${line}" fill="none"${faint} stroke="var(--${series.color})" stroke-width="${series.width ?? (series.dash ? 1.4 : 1.8)}" stroke-linejoin="round"${dash}/>`;
  }

  // Marks what lies over the limit; what lies beyond the scale gets a mark at the top edge.
  misses(definition, y) {
    const series = definition.series.find((one) => !one.rival);
    const limit = definition.limit;
    const span = this.points.length > 1 ? this.x(this.points[1].atSeconds) - this.x(this.points[0].atSeconds) : 2;
    return this.points
      .filter((point) => series.get(point) > limit)
      .map((point) => {
        const x = this.x(point.atSeconds) - span;
        const top = y(series.get(point));
        return `<rect x="${x.toFixed(1)}" y="${top}" width="${Math.max(span, 2).toFixed(1)}" height="${y(limit) - top}" fill="var(--miss)" opacity="0.75"/>`;
      })
      .join("");
  }
}

function clockText(seconds) {
  const minutes = Math.floor(seconds / 60 + 1e-6);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

// A range from 0 over round numbers that holds `most`.
function rangeUpTo(most, label) {
  const rough = Math.max(most, 1e-9) / 2;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  return { min: 0, max: 2 * step, ticks: [0, step, 2 * step].map((value) => ({ value, label: label(value) })) };
}
