// The page: sentence, tiles, charts, decisions and summary of one record, which is whole in a report
// and grows by Server-Sent Events while the demo runs. Everything is drawn from the record alone.
// The rival, if one plays, is grey wherever it is drawn.
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
const rival = record.rival;
const rivalName = rival ? safe(rival.about.name) : "";
const shorter = about.daySeconds !== 86400;

function ratioText(prefill, decode) {
  const value = prefill / decode;
  return value >= 1 ? `${value.toFixed(1)} : 1` : `1 : ${(1 / value).toFixed(1)}`;
}

const latency = (limit) => () => ({
  min: 0,
  max: 2 * limit,
  ticks: [0, limit, 2 * limit].map((value) => ({ value, label: roundMilliseconds(value) })),
});
// A range that holds both runs; without `ofRival` the rival has no line in the chart.
const upTo = (get, ofRival = true) => (points, rivalPoints) =>
  rangeUpTo(Math.max(1, ...points.map(get), ...(ofRival ? rivalPoints.map(get) : [])) * 1.02, count);

// The same, but a rival far above the product is cut off, so that the product stays to be seen.
const CUT = 3;
const upToCut = (get) => (points, rivalPoints) => {
  const ours = Math.max(1, ...points.map(get));
  return rangeUpTo(Math.min(Math.max(ours, ...rivalPoints.map(get)), CUT * ours) * 1.02, count);
};

// The same of the rival: a grey line below the product's own.
const grey = (get, format, more = {}) => (rival ? [{ name: rivalName, get, format, color: "rival", rival: true, width: 1.3, opacity: 0.75, ...more }] : []);

// Keys without a line of their own: the chart draws limits, misses and the band by itself.
const limitKey = (limit) => ({ name: "limit", get: () => limit, format: roundMilliseconds, color: "ink", dash: true, keyOnly: true, constant: true });
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
    range: upTo((q) => q.rps, false),
    series: [{ name: "requests/s", get: (q) => q.rps, format: count, color: "load", fill: 0.14 }],
  },
  {
    title: "Tokens per request",
    range: upTo((q) => Math.max(q.isl ?? 0, q.osl ?? 0), false),
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
      ...grey((q) => q.ttftMs, milliseconds),
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
      ...grey((q) => q.tpotMs, milliseconds),
      { name: "seen by users", get: (q) => q.tpotMs, format: milliseconds, color: "decode" },
      limitKey(about.tpotLimitMs),
      worstKey((q) => q.tpotMs),
    ],
  },
  replicaChart("Prefill replicas", "prefill", 0.16),
  replicaChart("Decode replicas", "decode", 0.22),
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
    range: upToCut(staticGpus),
    series: [
      ...grey((q) => q.gpus, count, { step: true }),
      { name: "held", get: (q) => q.gpus, format: count, color: "gpu", step: true, fill: 0.16 },
      { name: "most replicas so far, held all the time", get: staticGpus, format: count, color: "load", step: true, dash: true },
    ],
  },
];
function replicaChart(title, role, fill) {
  return {
    title,
    range: upToCut((q) => q.replicas[role].desired),
    series: [
      ...grey((q) => q.replicas[role].desired, count, { step: true }),
      { name: "asked for", get: (q) => q.replicas[role].desired, format: count, color: role, step: true },
      { name: "ready", get: (q) => q.replicas[role].ready, format: count, color: role, step: true, fill, block: true },
    ],
  };
}

const gpuText = (gpus) => (gpus.prefill === gpus.decode ? `${gpus.prefill} per replica` : `${gpus.prefill} per P, ${gpus.decode} per D`);

function staticGpus(point) {
  const gpus = about.gpusPerReplica;
  return point.replicasMax.prefill * gpus.prefill + point.replicasMax.decode * gpus.decode;
}

// The two charts of the first screen: attainment and cost, so far.
function attainmentRange(points, rivalPoints) {
  const seen = [...points, ...rivalPoints].map((q) => q.attainedSoFar ?? 1);
  const least = Math.min(about.attainmentGoal, ...seen) - 0.01;
  const low = Math.max(0, Math.floor(least * 10) / 10);
  return { min: low, max: 1, ticks: [low, (1 + low) / 2, 1].map((value) => ({ value, label: `${Math.round(100 * value)} %` })) };
}

const heroes = [
  [
    "attained",
    {
      title: "Requests within both limits, so far",
      head: `<span class="delta" id="delta-attained"></span>`,
      range: attainmentRange,
      goal: about.attainmentGoal,
      series: [
        ...grey((q) => q.attainedSoFar, percent, { width: 2.6, opacity: 1 }),
        { name: "PDAutoscaler", get: (q) => q.attainedSoFar, format: percent, color: "gpu", width: 2.6 },
        { name: "goal", get: () => about.attainmentGoal, format: (v) => `${Math.round(100 * v)} %`, color: "ink", dash: true, keyOnly: true, constant: true },
      ],
    },
  ],
  [
    "hours",
    {
      title: "GPU-hours, so far",
      head: `<span class="delta" id="delta-hours"></span>`,
      range: upTo((q) => (rival ? q.gpuHours : Math.max(q.gpuHours, q.staticGpuHours))),
      series: [
        ...grey((q) => q.gpuHours, count, { width: 2.6, opacity: 1, fill: 0.12 }),
        { name: "PDAutoscaler", get: (q) => q.gpuHours, format: count, color: "gpu", width: 2.6, fill: 0.12 },
        ...(rival ? [] : [{ name: "its most replicas so far, held all the time", get: (q) => q.staticGpuHours, format: count, color: "load", dash: true }]),
      ],
    },
  ],
].map(([name, definition]) => new Charts(byId(`duel-${name}`), [byId(`axis-${name}`)], [definition], about.daySeconds, 132));
const charts = new Charts(byId("charts"), [byId("axis-top"), byId("axis-bottom")], definitions, about.daySeconds);
const allCharts = [charts, ...heroes];
for (const one of allCharts) one.linked = allCharts.filter((other) => other !== one);

// The result of both runs: the summaries once both are whole, and else the last moment of both.
function results() {
  const last = Math.min(record.points.length, rival ? rival.points.length : Infinity) - 1;
  const whole = record.summary?.complete && (!rival || rival.summary);
  const result = (summary, point) => (whole ? { attained: summary.attained, gpuHours: summary.gpuHours } : { attained: point.attainedSoFar, gpuHours: point.gpuHours });
  if (last < 0) return null;
  return {
    whole,
    ours: result(record.summary, record.points[last]),
    theirs: rival && result(rival.summary, rival.points[last]),
  };
}

// One sentence that says what is seen.
function sentence() {
  const day = shorter ? "run" : "day";
  const found = results();
  const shown = (result, color) => {
    const attained = result.attained == null ? "–" : percent(result.attained);
    return [`<b class="${color}">${attained}</b>`, `<b class="${color}">${count(result.gpuHours)} GPU-hours</b>`];
  };
  if (!found) {
    byId("sentence").innerHTML = rival
      ? `The same requests are served twice: under <b class="ours">PDAutoscaler</b>, and under <b class="theirs">${safe(rival.about.title)}</b>, drawn in grey.`
      : `A ${day} of requests is served under <b class="ours">PDAutoscaler</b>.`;
    return;
  }
  const [attained, hours] = shown(found.ours, "ours");
  const verb = found.whole ? "served" : "has served";
  const first = `${found.whole ? `Over the ${day}` : "So far"} PDAutoscaler ${verb} ${attained} of requests within both latency limits on ${hours}`;
  if (found.theirs) {
    const [theirAttained, theirHours] = shown(found.theirs, "theirs");
    byId("sentence").innerHTML = `${first}; given the same requests, ${safe(rival.about.title)} ${verb} ${theirAttained} on ${theirHours}.`;
    deltas(found.ours, found.theirs);
  } else {
    const held = record.points.at(-1).staticGpuHours;
    byId("sentence").innerHTML = `${first}; its own peak, held all along, would have taken <b>${count(record.summary?.staticGpuHours ?? held)}</b>.`;
  }
}

// The differences, which are good news or bad.
function deltas(ours, theirs) {
  const put = (id, text, good) => {
    byId(id).textContent = text;
    byId(id).className = `delta ${good ? "good" : "bad"}`;
  };
  if (ours.attained != null && theirs.attained != null) {
    const points = 100 * (ours.attained - theirs.attained);
    put("delta-attained", `${points < 0 ? "−" : "+"}${Math.abs(points).toFixed(1)} points`, points >= 0);
  }
  if (theirs.gpuHours > 0) {
    const saved = 1 - ours.gpuHours / theirs.gpuHours;
    put("delta-hours", signed(saved), saved >= 0);
  }
}

function tile(name, value, more, missed) {
  return `<div class="tile${missed ? " miss" : ""}"><div class="name">${name}</div><div class="value">${value}</div><div class="more">${more}</div></div>`;
}

function tiles(point) {
  const beside = rival?.points[record.points.length - 1];
  const versus = (get, format) => (beside && get(beside) != null ? `<br><span class="theirs">${rivalName} ${format(get(beside))}</span>` : "");
  const { prefill, decode } = point.replicas;
  const starting = prefill.starting + decode.starting;
  const draining = prefill.draining + decode.draining;
  const moving = [starting && `${starting} starting`, draining && `${draining} draining`].filter(Boolean).join(", ");
  const most = point.replicasMax;
  const saved = point.staticGpuHours > 0 ? 1 - point.gpuHours / point.staticGpuHours : 0;
  const over = (value, limit) => value != null && value > limit;
  const band = about.ratioBand ? `band ${about.ratioBand.lowest} to ${about.ratioBand.highest}, soft` : "follows the traffic";
  byId("tiles").innerHTML = [
    tile("Load", `${count(point.rps)} <small>req/s</small>`, `prompt ${count(point.isl ?? 0)} tokens<br>answer ${count(point.osl ?? 0)} tokens<br>${compact.format(point.requests)} so far`),
    tile(`TTFT p${p}`, point.ttftMs == null ? "–" : milliseconds(point.ttftMs), `limit ${count(about.ttftLimitMs)} ms${over(point.ttftMs, about.ttftLimitMs) ? ", missed" : ""}${versus((q) => q.ttftMs, milliseconds)}`, over(point.ttftMs, about.ttftLimitMs)),
    tile(`TPOT p${p}`, point.tpotMs == null ? "–" : milliseconds(point.tpotMs), `limit ${count(about.tpotLimitMs)} ms${over(point.tpotMs, about.tpotLimitMs) ? ", missed" : ""}${versus((q) => q.tpotMs, milliseconds)}`, over(point.tpotMs, about.tpotLimitMs)),
    tile("Within limits now", point.attained == null ? "–" : percent(point.attained), `goal ${percent(about.attainmentGoal)}${versus((q) => q.attained, percent)}`, point.attained != null && point.attained < about.attainmentGoal),
    tile("Replicas P : D", `<span class="p">${prefill.desired}</span> : <span class="d">${decode.desired}</span>`, `ready ${prefill.ready} : ${decode.ready}${moving && `, ${moving}`}${versus((q) => q.replicas, (both) => `${both.prefill.desired} : ${both.decode.desired}`)}`),
    tile("P:D ratio", ratioText(prefill.desired, decode.desired), band),
    tile("GPUs held", count(point.gpus), `${gpuText(about.gpusPerReplica)}${versus((q) => q.gpus, count)}`),
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
  const most = result.replicasMax;
  const row = (name, kind, run) => {
    const { scaleEvents: events, replicasMax: max } = run;
    const cells = [run.attained == null ? "–" : percent(run.attained), count(run.gpuHours), `${max.prefill} P, ${max.decode} D`, `${events.prefill} P, ${events.decode} D`, count(run.dropped)];
    return `<tr><th scope="row" class="${kind}">${name}</th>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  };
  const saved = result.staticGpuHours > 0 ? 1 - result.gpuHours / result.staticGpuHours : 0;
  const rows = [
    row("PDAutoscaler", "ours", result),
    rival?.summary ? row(safe(rival.about.title), "theirs", rival.summary) : "",
    `<tr><th scope="row">PDAutoscaler's peak, held all the time</th><td></td><td>${count(result.staticGpuHours)}</td><td>${most.prefill} P, ${most.decode} D</td><td></td><td></td></tr>`,
  ].join("");
  const more = [
    `${count(result.requests)} requests`,
    `${percent(saved)} of the peak's GPU-hours saved`,
    `${count(result.decisions)} decisions, ${count(result.auditFindings)} of them broke an invariant`,
    result.refused ? `${count(result.refused)} requests too long for any worker` : "",
  ].filter(Boolean);
  const title = result.complete ? shorter ? "The run in numbers" : "The day in numbers" : `Stopped at ${clockText(result.playedSeconds)}`;
  const names = ["within both limits", "GPU-hours", "most replicas", "scale events", "dropped by scale-down"];
  box.innerHTML = `<h2>${title}</h2><div class="table"><table><thead><tr><td></td>${names.map((name) => `<th scope="col">${name}</th>`).join("")}</tr></thead><tbody>${rows}</tbody></table></div><p>${more.join(" · ")}</p>`;
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
  sentence();
  for (const one of allCharts) one.update(record.points, rival?.points ?? []);
  feed(record.changes);
  if (record.latest) latest(record.latest);
  if (record.summary) {
    summary(record.summary);
    state(record.summary.complete ? shorter ? "complete" : "day complete" : "stopped", "");
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
      if (rival) rival.points = [];
      listed = 0;
      byId("feed").textContent = "";
      first = false;
    }
    record.points.push(...news.points);
    record.changes.push(...news.changes);
    record.latest = news.latest ?? record.latest;
    record.summary = news.summary;
    if (rival) {
      rival.points.push(...news.rivalPoints);
      rival.summary = news.rivalSummary;
    }
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
byId("notes").innerHTML = `<p>Decisions come from the product's own code, every ${about.intervalSeconds} s, from what a scrape of the workers shows. Workers, users and clock are a model: a request-level simulation of prefill queues, KV transfer and continuous batching. A new worker serves after ${about.startupSeconds} s; a removed one finishes what it has. TTFT, TPOT and the share within both limits are taken from every single request, which the controller does not see.</p><p>Static peak is the most replicas of each role that this very run asked for, held for the time played: what it would have cost to own the peak all along. It would also have spared users most of the waits shown above, as it never has to start a worker; and somebody would have had to know it in advance.</p>${rival ? `<p>The rival, in grey, is ${safe(rival.about.title)} (<code>${safe(rival.about.policy)}</code>): ${safe(rival.about.rule)}. It begins with the same replicas, in the same world, and gets the very same requests. Requests count once they have ended; those that wait in a queue at the moment that is shown do not count yet. Grey lines that leave a chart at its top are cut off there; the number beside the name is whole.</p>` : ""}`;
show();
if (record.live) {
  if (record.points.length === 0) state("connecting", "");
  listen();
}
