// Line charts over the steps of a training: drawn as SVG at the size they are shown in, with a common pointer.
'use strict';
// Charts: a series is {name, look, points: [[x, y], ...]}; points that are no numbers break its line.
const charts = [];
let cursor = null;      // the step that is pointed at
let say = texts.en;     // the language that is chosen
let plannedSteps = 0;   // where the axes end at least
function linearTicks(low, high) {
  const raw = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let i = Math.ceil(low / size - 1e-9); i * size <= high + size * 1e-9; ++i) ticks.push(Math.abs(i) * size === 0 ? 0 : i * size);
  return ticks;
}
function logTicks(low, high) {
  const ticks = [];
  const decades = Math.log10(high / low);
  if (decades < 0.7) return linearTicks(low, high);
  const within = decades > 6 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 3, 5, 7];
  for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); ++d)
    for (const m of within) if (m * 10 ** d >= low * 0.999 && m * 10 ** d <= high * 1.001) ticks.push(m * 10 ** d);
  return ticks;
}
const tickText = (x) => Math.abs(x) >= 1e4 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(0).replace('e+', 'e') : String(Number(x.toPrecision(3)));
/** At most two points a pixel column, the lowest and the highest: spikes stay. */
function thinned(points, width) {
  if (points.length <= 2 * width) return points;
  const every = Math.ceil(points.length / width), kept = [];
  for (let i = 0; i < points.length; i += every) {
    const some = points.slice(i, i + every).map((p, k) => [p, k]).sort((a, b) => a[0][1] - b[0][1]);
    const ends = [some[0], some[some.length - 1]].sort((a, b) => a[1] - b[1]);
    kept.push(...ends.map((e) => e[0]));
  }
  return kept;
}
class Chart {
  constructor(title, series, options = {}) {
    this.title = title;
    this.series = series;
    this.options = options;
    this.head = make('h3');
    this.key = make('div', {className: 'key'});
    this.box = make('div');
    this.figure = make('figure', {}, this.head, this.key, this.box);
    byId('charts').append(this.figure);
    const point = (event) => {
      if (!this.scale) return;
      const area = this.box.getBoundingClientRect();
      cursor = this.scale.stepAt(event.clientX - area.left);
      for (const chart of charts) chart.point();
    };
    this.box.addEventListener('pointermove', point);
    this.box.addEventListener('pointerdown', point);
    this.box.addEventListener('pointerleave', () => { cursor = null; for (const chart of charts) chart.point(); });
    charts.push(this);
  }
  draw() {
    this.head.textContent = say[this.title];
    const log = this.options.log, width = Math.max(260, this.box.clientWidth || 600), height = 190;
    const left = 46, right = 8, top = 8, bottom = 22;
    this.shown = this.series().filter((s) => s.points.length).map((s) => ({...s, points: s.points.map(([x, y]) => [x, number(y)])}));
    this.figure.hidden = !!this.options.optional && !this.shown.length;
    const values = this.shown.flatMap((s) => s.points.map((p) => p[1])).filter((y) => Number.isFinite(y) && (!log || y > 0));
    let low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!values.length) low = log ? 0.1 : 0, high = 1;
    if (this.options.from !== undefined) low = Math.min(low, this.options.from), high = Math.max(high, this.options.to);
    if (low === high) low = log ? low / 2 : low - Math.abs(low || 1) / 2, high = log ? high * 2 : high + Math.abs(high || 1) / 2;
    const last = Math.max(plannedSteps, 1, ...this.shown.map((s) => s.points[s.points.length - 1][0]));
    const x = (step) => left + (width - left - right) * step / last;
    const share = log ? (y) => Math.log(y / low) / Math.log(high / low) : (y) => (y - low) / (high - low);
    const y = (value) => top + (height - top - bottom) * (1 - share(value));
    const root = svg('svg', {width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': say[this.title]});
    for (const tick of (log ? logTicks : linearTicks)(low, high)) {
      root.append(svg('line', {class: 'axis', x1: left, x2: width - right, y1: y(tick), y2: y(tick)}),
                  svg('text', {x: left - 6, y: y(tick), 'text-anchor': 'end', 'dominant-baseline': 'central'}, tickText(tick)));
    }
    for (const tick of linearTicks(0, last).filter((t) => Number.isInteger(t) && x(t) <= width - right - 10))
      root.append(svg('text', {x: x(tick), y: height - 6, 'text-anchor': tick === 0 ? 'start' : 'middle'}, tick.toLocaleString('en')));
    root.append(svg('text', {x: width - right, y: height - 6, 'text-anchor': 'end', class: 'unit'}, say.step));
    for (const s of this.shown) {
      const group = svg('g', {class: s.look});
      let path = '', pen = 'M';
      for (const [px, py] of thinned(s.points, width)) {
        if (!Number.isFinite(py) || (log && py <= 0)) { pen = 'M'; continue; }
        if (s.dots) group.append(svg('circle', {class: 'dot', cx: x(px).toFixed(1), cy: y(py).toFixed(1), r: 3}));
        path += `${pen}${x(px).toFixed(1)} ${y(py).toFixed(1)}`;
        pen = 'L';
      }
      group.append(svg('path', {class: `line ${s.style || ''}`, d: path}));
      root.append(group);
    }
    this.rule = svg('line', {class: 'rule', y1: top, y2: height - bottom, visibility: 'hidden'});
    root.append(this.rule);
    this.scale = {x, stepAt: (px) => Math.min(last, Math.max(0, (px * width / (this.box.clientWidth || width) - left) / (width - left - right) * last))};
    this.box.replaceChildren(root);
    this.point();
  }
  /** The key: names, and the numbers at the step that is pointed at, else the last ones. */
  point() {
    if (!this.shown) return;
    const named = this.shown.filter((s) => s.name);
    let at = null;
    this.key.replaceChildren(...named.map((s) => {
      const nearest = cursor === null ? s.points[s.points.length - 1]
          : s.points.reduce((a, b) => Math.abs(b[0] - cursor) < Math.abs(a[0] - cursor) ? b : a);
      if (cursor !== null && !s.dots && at === null) at = nearest[0];
      const sample = make('i', {className: s.dots ? 'dots' : s.style || ''});
      return make('span', {className: s.look}, sample, make('span', {style: 'color: var(--ink)'}, `${say[s.name]} ${short(nearest[1])}`));
    }));
    if (at !== null) this.key.append(make('span', {}, say.at(at.toLocaleString('en'))));
    this.rule.setAttribute('visibility', at === null ? 'hidden' : 'visible');
    if (at !== null) for (const end of ['x1', 'x2']) this.rule.setAttribute(end, this.scale.x(at));
  }
}
