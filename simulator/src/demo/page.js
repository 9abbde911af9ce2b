// The page: tiles, charts, decisions and summary of one record, which is whole in a report and
// grows by Server-Sent Events while the demo runs. Everything is drawn from the record alone.
"use strict";

const record = JSON.parse(document.getElementById("record").textContent);
const about = record.about;
const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const count = (n) => whole.format(n);
const milliseconds = (n) => (n >= 10000 ? `${(n / 1000).toFixed(0)} s` : n >= 1000 ? `${(n / 1000).toFixed(1)} s` : `${n < 100 ? n.toFixed(1) : n.toFixed(0)} ms`);
const roundMilliseconds = (n) => milliseconds(n).replace(".0 ", " ");
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const signed = (share) => `${share > 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(0)} %`;
const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const safe = (text) => String(text).replace(/[&<>"]/g, (c) => escapes[c]);
const p = about.percentile;

function ratioText(prefill, decode) {
  const value = prefill / decode;
  return value >= 1 ? `${value.toFixed(1)} : 1` : `1 : ${(1 / value).toFixed(1)}`;
}

const latency = (limit) => () => ({
  min: 0,
  max: 2 * limit,
  ticks: [0, limit, 2 * limit].map((value) => ({ value, label: roundMilliseconds(value) })),
});
const upTo = (get) => (points) => rangeUpTo(Math.max(1, ...points.map(get)) * 1.02, count);

// Keys without a line of their own: the chart draws limits, misses and the band by itself.
const limitKey = (limit) => ({ name: "limit", get: () => limit, format: roundMilliseconds, color: "ink", dash: true, keyOnly: true });
const worstKey = (get) => ({
  name: "over the limit; worst",
  get: () => Math.max(...record.points.map((q) => get(q) ?? 0)),
  format: milliseconds,
  color: "miss",
  block: true,
  keyOnly: true,
});
const bandKey = (band) => ({ name: `band ${band.lowest} to ${band.highest}`, get: () => "", format: String, color: "gpu", block: true, keyOnly: true });

const definitions = [
  {
    title: "Load",
    range: upTo((q) => q.rps),
    series: [{ name: "requests/s", get: (q) => q.rps, format: count, color: "load", fill: 0.14 }],
  },
  {
    title: "Tokens per request",
    range: upTo((q) => Math.max(q.isl ?? 0, q.osl ?? 0)),
    series: [
      { name: "prompt (ISL)", get: (q) => q.isl, format: count, color: "prefill" },
      { name: "answer (OSL)", get: (q) => q.osl, format: count, color: "decode" },
    ],
  },
  {
    title: `TTFT p${p}`,
    range: latency(about.ttftLimitMs),
    limit: about.ttftLimitMs,
    series: [
      { name: "seen by users", get: (q) => q.ttftMs, format: milliseconds, color: "prefill" },
      limitKey(about.ttftLimitMs),
      worstKey((q) => q.ttftMs),
    ],
  },
  {
    title: `TPOT p${p}`,
    range: latency(about.tpotLimitMs),
    limit: about.tpotLimitMs,
    series: [
      { name: "seen by users", get: (q) => q.tpotMs, format: milliseconds, color: "decode" },
      limitKey(about.tpotLimitMs),
      worstKey((q) => q.tpotMs),
    ],
  },
  {
    title: "Replicas",
    range: upTo((q) => Math.max(q.replicas.prefill.desired, q.replicas.decode.desired)),
    series: [
      { name: "prefill", get: (q) => q.replicas.prefill.desired, format: count, color: "prefill", step: true },
      { name: "ready", get: (q) => q.replicas.prefill.ready, format: count, color: "prefill", step: true, fill: 0.16, block: true },
      { name: "decode", get: (q) => q.replicas.decode.desired, format: count, color: "decode", step: true },
      { name: "ready", get: (q) => q.replicas.decode.ready, format: count, color: "decode", step: true, fill: 0.22, block: true },
    ],
  },
  {
    title: "P:D ratio",
    log: true,
    band: about.ratioBand,
    range: () => ({
      min: 1 / 8,
      max: 8,
      ticks: [[0.25, "1:4"], [1, "1:1"], [4, "4:1"]].map(([value, label]) => ({ value, label })),
    }),
    series: [
      { name: "asked for", get: (q) => q.replicas.prefill.desired / q.replicas.decode.desired, format: (v) => ratioText(v, 1), color: "load", step: true },
    ].concat(about.ratioBand ? [bandKey(about.ratioBand)] : []),
  },
  {
    title: "GPUs",
    range: upTo((q) => staticGpus(q)),
    series: [
      { name: "held", get: (q) => q.gpus, format: count, color: "gpu", step: true, fill: 0.16 },
      { name: "most replicas so far, held all the time", get: staticGpus, format: count, color: "load", step: true, dash: true },
    ],
  },
];
function staticGpus(point) {
  const gpus = about.gpusPerReplica;
  return point.replicasMax.prefill * gpus.prefill + point.replicasMax.decode * gpus.decode;
}

const charts = new Charts(byId("charts"), [byId("axis-top"), byId("axis-bottom")], definitions, about.daySeconds);

function tile(name, value, more, missed) {
  return `<div class="tile${missed ? " miss" : ""}"><div class="name">${name}</div><div class="value">${value}</div><div class="more">${more}</div></div>`;
}

function tiles(point) {
  const { prefill, decode } = point.replicas;
  const starting = prefill.starting + decode.starting;
  const draining = prefill.draining + decode.draining;
  const moving = [starting && `${starting} starting`, draining && `${draining} draining`].filter(Boolean).join(", ");
  const most = point.replicasMax;
  const saved = point.staticGpuHours > 0 ? 1 - point.gpuHours / point.staticGpuHours : 0;
  const over = (value, limit) => value != null && value > limit;
  const band = about.ratioBand ? `band ${about.ratioBand.lowest} to ${about.ratioBand.highest}, soft` : "follows the traffic";
  byId("tiles").innerHTML = [
    tile("Load", `${count(point.rps)} <small>req/s</small>`, `prompt ${count(point.isl ?? 0)} tokens<br>answer ${count(point.osl ?? 0)} tokens`),
    tile(`TTFT p${p}`, point.ttftMs == null ? "–" : milliseconds(point.ttftMs), `limit ${count(about.ttftLimitMs)} ms${over(point.ttftMs, about.ttftLimitMs) ? ", missed" : ""}`, over(point.ttftMs, about.ttftLimitMs)),
    tile(`TPOT p${p}`, point.tpotMs == null ? "–" : milliseconds(point.tpotMs), `limit ${count(about.tpotLimitMs)} ms${over(point.tpotMs, about.tpotLimitMs) ? ", missed" : ""}`, over(point.tpotMs, about.tpotLimitMs)),
    tile("Within both limits", point.attainedSoFar == null ? "–" : percent(point.attainedSoFar), `of ${compact.format(point.requests)} requests<br>goal ${percent(about.attainmentGoal)}`, point.attainedSoFar != null && point.attainedSoFar < about.attainmentGoal),
    tile("Replicas P : D", `<span class="p">${prefill.desired}</span> : <span class="d">${decode.desired}</span>`, `ready ${prefill.ready} : ${decode.ready}<br>${moving}`),
    tile("P:D ratio", ratioText(prefill.desired, decode.desired), band),
    tile("GPUs held", count(point.gpus), `${count(point.gpuHours)} GPU-hours so far`),
    tile("Against static peak", signed(saved), `${count(point.staticGpuHours)} GPU-hours, had ${most.prefill} P + ${most.decode} D run all along`),
  ].join("");
}

function changeText(role, entry, letter) {
  const [from, to] = [entry.from[role], entry.to[role]];
  return from === to ? "" : `<span class="change ${letter}">${role} ${from} → ${to}</span>`;
}

function changesText(entry) {
  return changeText("prefill", entry, "p") + changeText("decode", entry, "d");
}

const chip = (entry) => `<span class="chip" title="${safe(entry.meaning)}">${safe(entry.reason)}</span>`;

function latest(entry) {
  const changed = changesText(entry);
  const outcome = changed || `<span class="muted">stays at <span class="p">${entry.to.prefill} P</span> : <span class="d">${entry.to.decode} D</span></span>`;
  byId("latest").innerHTML = `<div class="when"><time>${clockText(entry.atSeconds)}</time>${chip(entry)}</div><div class="outcome">${outcome}</div><div class="steps">${safe(entry.paragraph)}</div>`;
}

let listed = 0;
function feed(changes) {
  const list = byId("feed");
  for (; listed < changes.length; listed += 1) {
    const entry = changes[listed];
    const item = document.createElement("li");
    item.innerHTML = `<div class="row"><time>${clockText(entry.atSeconds)}</time>${changesText(entry)}${chip(entry)}</div><p>${safe(entry.message)}</p><details><summary>whole report</summary><p>${safe(entry.paragraph)}</p></details>`;
    item.addEventListener("pointerenter", () => charts.hover(entry.atSeconds));
    item.addEventListener("pointerleave", () => charts.hover(null));
    list.prepend(item);
  }
  byId("change-count").textContent = changes.length ? `${changes.length}, newest first` : "";
}

function summary(result) {
  const box = byId("summary");
  box.hidden = false;
  const events = result.scaleEvents;
  const most = result.replicasMax;
  const saved = result.staticGpuHours > 0 ? 1 - result.gpuHours / result.staticGpuHours : 0;
  const fields = [
    ["requests", count(result.requests)],
    ["within both limits", result.attained == null ? "–" : percent(result.attained)],
    ["GPU-hours", count(result.gpuHours)],
    [`static peak (${most.prefill} P + ${most.decode} D)`, `${count(result.staticGpuHours)} GPU-hours`],
    ["saved", percent(saved)],
    ["scale events", `${events.prefill} P, ${events.decode} D`],
    ["dropped by scale-down", count(result.dropped)],
    ["plans that broke an invariant", count(result.auditFindings)],
  ].concat(result.refused ? [["too long for any worker", count(result.refused)]] : []);
  const title = result.complete ? about.daySeconds === 86400 ? "The day in numbers" : "The run in numbers" : `Stopped at ${clockText(result.playedSeconds)}`;
  box.innerHTML = `<h2>${title}</h2><dl>${fields.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join("")}</dl>`;
}

function state(text, kind) {
  byId("state").textContent = text;
  byId("state").className = `pill ${kind}`;
}

function show() {
  const point = record.points.at(-1);
  if (point) {
    byId("clock").textContent = clockText(point.atSeconds);
    byId("day").style.width = `${(100 * point.atSeconds) / about.daySeconds}%`;
    tiles(point);
  }
  charts.update(record.points);
  feed(record.changes);
  if (record.latest) latest(record.latest);
  if (record.summary) {
    summary(record.summary);
    state(record.summary.complete ? about.daySeconds === 86400 ? "day complete" : "complete" : "stopped", "");
  }
}

function listen() {
  const source = new EventSource("events");
  let first = true;
  source.onmessage = (event) => {
    const news = JSON.parse(event.data);
    // A connection that came back starts from the beginning.
    if (first) {
      record.points = [];
      record.changes = [];
      listed = 0;
      byId("feed").textContent = "";
      first = false;
    }
    record.points.push(...news.points);
    record.changes.push(...news.changes);
    record.latest = news.latest ?? record.latest;
    record.summary = news.summary;
    state("live", "live");
    show();
    if (news.summary) source.close();
  };
  source.onerror = () => {
    first = true;
    state("connection lost", "lost");
  };
}

byId("scenario").textContent = `${about.model} · ${about.traffic}, rates × ${about.rateScale} · seed ${about.seed}`;
byId("notes").innerHTML = `<p>Decisions come from the product's own code, every ${about.intervalSeconds} s, from what a scrape of the workers shows. Workers, users and clock are a model: a request-level simulation of prefill queues, KV transfer and continuous batching. A new worker serves after ${about.startupSeconds} s; a removed one finishes what it has. TTFT, TPOT and the share within both limits are taken from every single request, which the controller does not see.</p><p>Static peak is the most replicas of each role that this very run asked for, held for the time played: what it would have cost to own the peak all along. It would also have spared users most of the waits shown above, as it never has to start a worker; and somebody would have had to know it in advance.</p>`;
show();
if (record.live) {
  if (record.points.length === 0) state("connecting", "");
  listen();
}
