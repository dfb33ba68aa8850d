// The script of a training's page. Data: #run-data, {run, lines}, or null where lines come from /events as the run writes
// them. Every text of the data enters the page as text (textContent), never as markup.
'use strict';
(() => {
  // Language: the reader's choice, else the browser's.
  const remembered = () => { try { return localStorage.getItem('attune-language'); } catch { return null; } };
  const wished = new URLSearchParams(location.search).get('lang') || remembered() || navigator.language || 'en';
  let language = wished.startsWith('zh') ? 'zh' : 'en';
  say = texts[language];

  // What the lines have told so far.
  const kMostMoments = 400;  // of all heads that are kept; beyond, every second is let go
  let run, steps, undone, valid, moments, happened, layers, guardSteps;
  function forget() {
    run = {name: '', steps: 0, facts: []};
    steps = []; undone = []; valid = []; moments = []; happened = []; layers = []; guardSteps = [];
  }
  const before = (list, step) => { while (list.length && list[list.length - 1].step > step) list.pop(); };
  function hear(event) {
    switch (event.event) {
      case 'step':
        steps.push(event);
        break;
      case 'valid':
        valid.push(event);
        break;
      case 'guard_step':
        guardSteps.push(event);
        break;
      case 'heads': {
        if (!layers.includes(event.layer)) layers.push(event.layer);
        let moment = moments[moments.length - 1];
        if (!moment || moment.step !== event.step) {
          if (moments.length >= kMostMoments) moments = moments.filter((_, i) => i % 2 === 1);
          moments.push(moment = {step: event.step, layers: {}});
        }
        moment.layers[event.layer] = event;
        break;
      }
      case 'guard':
        happen(event.action.replace('would_', ''), event.action.startsWith('would_'), event);
        // Steps after the snapshot come again: the first try stays as a faint line.
        if (event.action === 'roll_back') {
          undone.push(steps.filter((s) => s.step >= event.after).concat());
          for (const list of [steps, valid, moments, guardSteps]) before(list, event.after);
        }
        break;
      case 'refused':
        happen('refused', false, event);
        break;
    }
  }
  /** Actions of one kind and step are one entry; so are updates in a row that are held or refused. */
  function happen(kind, would, event) {
    const last = happened.findLast((h) => h.kind === kind && h.would === would);
    const joins = last && (last.to === event.step || ((kind === 'hold' || kind === 'refused') && last.to + 1 === event.step));
    if (!joins) {
      happened.push({kind, would, from: event.step, to: event.step, count: 1, event});
      return;
    }
    last.to = event.step;
    last.count += 1;
    if (number(event.value) > number(last.event.value)) last.event = event;  // the worst stands for all
  }

  const of = (field) => () => steps.map((s) => [s.step, s[field]]);
  const told = (field) => of(field)().filter(([, y]) => y !== undefined);  // not every run has them
  const lost = (field) => undone.map((list) => ({look: 'faint', style: 'gone', points: list.map((s) => [s.step, s[field]])}));
  function smoothed(points) {
    let sum = 0, weight = 0;
    return points.map(([x, y]) => {
      if (!Number.isFinite(number(y))) return [x, NaN];
      sum = 0.85 * sum + 0.15 * y;
      weight = 0.85 * weight + 0.15;
      return [x, sum / weight];
    });
  }
  new Chart('lossChart', () => [...lost('loss'), {name: 'each', look: 'faint', style: 'thin', points: of('loss')()},
      {name: 'smooth', look: 'one', points: smoothed(of('loss')())},
      {name: 'valid', look: 'two', dots: true, style: 'dashes', points: valid.map((v) => [v.step, v.loss])}]);
  new Chart('rateChart', () => [...lost('learning_rate'), {name: 'rate', look: 'one', points: of('learning_rate')()}], {from: 0, to: 0});
  new Chart('factorChart', () => [{name: 'schedule', look: 'one', points: of('schedule')()},
      {name: 'rollback', look: 'two', style: 'dashes', points: of('rollback')()},
      {name: 'plateau', look: 'four', points: told('plateau')},
      {name: 'guard', look: 'three', points: guardFactors()}], {from: 0, to: 1});
  new Chart('normChart', () => [...lost('gradient_norm'), {name: 'norm', look: 'one', points: of('gradient_norm')()}], {log: true});
  new Chart('logitChart', () => [...lost('largest_logit'), {name: 'logit', look: 'one', points: of('largest_logit')()}], {log: true});
  new Chart('entropyChart', () => [{name: 'mean', look: 'one', points: of('entropy')()},
      {name: 'smallest', look: 'two', style: 'dashes', points: of('smallest_entropy')()}], {from: 0, to: 1});
  new Chart('outputChart', () => [{name: 'outputLse', look: 'one', points: told('output_lse')}], {optional: true});
  /** The smallest factor of any head, where the guard acts. */
  function guardFactors() {
    if (happened.some((h) => h.would)) return [];  // it only observes
    return guardSteps.map((g) => [g.step, g.smallest_factor]);
  }

  // Heat maps. Lightness changes evenly with the number, so they read without telling hues apart.
  const ramps = {
    light: [[247, 251, 255], [158, 202, 225], [49, 130, 189], [8, 48, 107]],
    dark: [[11, 22, 34], [31, 78, 121], [95, 168, 211], [242, 246, 195]],
  };
  const darkQuery = matchMedia('(prefers-color-scheme: dark)');
  function colour(share) {
    const ramp = darkQuery.matches ? ramps.dark : ramps.light;
    const x = Math.min(1, Math.max(0, share)) * (ramp.length - 1), i = Math.min(ramp.length - 2, Math.floor(x));
    return ramp[i].map((from, c) => Math.round(from + (ramp[i + 1][c] - from) * (x - i)));
  }
  const onColour = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b > 140 ? '#111' : '#fff';
  // Shares 0 .. 1 of a number's way along the ramp. Scores: by their logarithm, from 1 nat up to tau or the largest.
  const maps = [
    {name: 'mapScore', field: 'score', log: true, low: 1}, {name: 'mapEntropy', field: 'entropy', low: 0, high: 1},
    {name: 'mapFactor', field: 'factor', low: 1, high: 0}, {name: 'mapVariance', field: 'variance', low: 0},
    {name: 'mapProb', field: 'largest_prob', low: 0, high: 1}, {name: 'mapSink', field: 'sink_mass', low: 0, high: 1},
  ];
  let chosen = null;  // index of the moment that is shown; null: the last
  function drawMaps() {
    const slider = byId('moment');
    slider.max = Math.max(0, moments.length - 1);
    if (chosen !== null && chosen >= moments.length - 1) chosen = null;
    slider.value = chosen === null ? slider.max : chosen;
    byId('attention').hidden = !moments.length;
    if (!moments.length) return;
    const moment = moments[Number(slider.value)];
    byId('at').textContent = say.at(moment.step.toLocaleString('en'));
    // Names share a beginning and an end that tell nothing: "encoder.layer0.attention" is shown whole on pointing.
    const shownNames = layers.map((name) => name.replace(/^layers\.|[._]?attention$/g, '').replace(/layers?\.?(\d+)/, 'layer $1') || name);
    byId('maps').replaceChildren(...maps.map((map) => drawMap(map, moment, shownNames)).filter(Boolean));
  }
  function drawMap(map, moment, names) {
    const all = moments.flatMap((m) => Object.values(m.layers).flatMap((l) => l[map.field].map(number))).filter(Number.isFinite);
    if (!all.length || (map.field === 'sink_mass' && all.every((x) => x === 0))) return null;
    if (map.field === 'factor' && !guardSteps.length) return null;
    const most = all.reduce((a, b) => Math.max(a, b), map.low + 1e-9);
    const high = map.high !== undefined ? map.high : map.log ? Math.max(10, most) : most;
    const share = (x) => map.log ? Math.log(Math.max(x, map.low) / map.low) / Math.log(high / map.low) : (x - map.low) / (high - map.low);
    const heads = Math.max(...layers.map((l) => moment.layers[l] ? moment.layers[l][map.field].length : 0));
    const grid = make('div', {className: 'grid'});
    grid.style.gridTemplateColumns = `minmax(3rem, max-content) repeat(${heads}, minmax(${heads > 12 ? '.9rem' : '1.9rem'}, 1fr))`;
    grid.append(make('span', {className: 'name'}, ''));
    for (let h = 0; h < heads; ++h) grid.append(make('span', {className: 'head'}, heads > 12 && h % 4 ? '' : String(h)));
    layers.forEach((layer, i) => {
      grid.append(make('span', {className: 'name', title: layer}, names[i]));
      const row = moment.layers[layer] ? moment.layers[layer][map.field] : [];
      for (let h = 0; h < heads; ++h) {
        const x = h < row.length ? number(row[h]) : NaN;
        const cell = make('span', {className: 'cell'});
        const told = `${layer} · ${say.head} ${h} · ${say[map.name]}: ${h < row.length ? Number.isNaN(x) ? say.none : short(row[h]) : say.none}`;
        if (Number.isNaN(x)) cell.classList.add('none');
        else {
          const c = colour(Number.isFinite(x) ? share(x) : 1);
          cell.style.background = `rgb(${c})`;
          cell.style.color = onColour(c);
          if (heads <= 8) cell.textContent = compact(x);
        }
        cell.setAttribute('aria-label', told);
        cell.addEventListener('pointermove', (event) => showTip(told, event));
        cell.addEventListener('pointerleave', () => showTip(null));
        grid.append(cell);
      }
    });
    const legend = make('div', {className: 'legend'}, short(map.low), make('i'), short(high));
    return make('div', {className: 'map'}, make('h3', {}, say[map.name]), grid, legend);
  }
  const compact = (x) => !Number.isFinite(x) ? '∞' : x === 0 || x === 1 ? String(x) : x >= 100 ? x.toPrecision(3).replace('e+', 'e') : x >= 10 ? x.toFixed(0)
      : x >= 0.995 ? x.toFixed(1) : x < 0.01 ? x.toExponential(0) : x.toFixed(2).slice(1);

  const tip = byId('tip');
  function showTip(text, event) {
    tip.hidden = text === null;
    if (text === null) return;
    tip.textContent = text;
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const y = event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${Math.max(4, y)}px`;
  }

  // Events: a strip over the steps, a row a kind, and a list with reasons.
  const kinds = ['roll_back', 'stop', 'refused', 'hold', 'tighten', 'clip', 'scale'];
  const grave = ['roll_back', 'stop', 'refused'];
  const hiddenKinds = new Set();
  function reason(h) {
    const e = h.event;
    const told = {who: e.layer === undefined || e.layer === '' ? '' : e.head >= 0 ? say.headOf(e.layer, e.head) : e.layer,
                  signal: say.signals[e.signal] || e.signal, value: short(e.value), threshold: short(e.threshold), before: short(e.before),
                  after: short(e.after), loss: short(e.loss), norm: short(e.gradient_norm)};
    const form = h.kind === 'scale' && e.signal === 'weights' ? 'quack' : h.kind;
    return say.why[form] ? say.why[form](told) : `${told.who} ${told.signal} ${told.value}`;
  }
  function drawEvents() {
    const present = kinds.filter((kind) => happened.some((h) => h.kind === kind));
    byId('kinds').replaceChildren(...present.map((kind) => {
      const box = make('input', {type: 'checkbox', checked: !hiddenKinds.has(kind)});
      box.addEventListener('change', () => { if (box.checked) hiddenKinds.delete(kind); else hiddenKinds.add(kind); drawEvents(); });
      return make('label', {}, box, `${say.kinds[kind]} ${happened.reduce((n, h) => n + (h.kind === kind ? h.count : 0), 0).toLocaleString('en')}`);
    }));
    const shown = happened.filter((h) => !hiddenKinds.has(h.kind));
    const rows = present.filter((kind) => !hiddenKinds.has(kind));
    const width = Math.max(260, byId('timeline').clientWidth || 600), left = 104, row = 20;
    const last = Math.max(plannedSteps, 1, ...happened.slice(-1).map((h) => h.to));
    const x = (step) => left + (width - left - 8) * Math.min(1, step / last);
    const root = svg('svg', {width, height: Math.max(1, row * rows.length), viewBox: `0 0 ${width} ${Math.max(1, row * rows.length)}`, role: 'img', 'aria-label': say.events});
    rows.forEach((kind, i) => {
      root.append(svg('line', {class: 'axis', x1: left, x2: width - 8, y1: row * (i + 0.5), y2: row * (i + 0.5)}),
                  svg('text', {x: 0, y: row * (i + 0.5), 'dominant-baseline': 'central'}, say.kinds[kind]));
      for (const h of shown.filter((s) => s.kind === kind)) {
        const bar = svg('rect', {class: 'dot', x: (x(h.from) - 1.5).toFixed(1), y: row * i + 4, height: row - 8, rx: 1.5, width: Math.max(3, x(h.to) - x(h.from)).toFixed(1)});
        const group = svg('g', {class: grave.includes(kind) ? 'two' : 'one'});
        const told = `${when(h)} · ${say.kinds[kind]}: ${reason(h)}`;
        bar.addEventListener('pointermove', (event) => showTip(told, event));
        bar.addEventListener('pointerleave', () => showTip(null));
        group.append(bar);
        root.append(group);
      }
    });
    byId('timeline').replaceChildren(root);
    const items = shown.slice(-200).reverse().map((h) => {
      const many = h.count > 1 && h.from === h.to ? say.many(h.count) : '';
      return make('li', {className: grave.includes(h.kind) ? 'grave' : ''}, make('span', {className: 'when'}, when(h)),
                  make('span', {}, make('b', {}, (h.would ? say.would : '') + say.kinds[h.kind] + many), ' ', make('span', {className: 'why'}, reason(h))));
    });
    if (!items.length) items.push(make('li', {}, make('span', {className: 'why'}, say.nothing)));
    if (shown.length > 200) items.push(make('li', {}, make('span', {className: 'why'}, say.more)));
    byId('list').replaceChildren(...items);
  }
  const when = (h) => say.at(h.from.toLocaleString('en') + (h.to > h.from ? `–${h.to.toLocaleString('en')}` : ''));

  // The head of the page.
  let state = 'waiting';
  function drawHead() {
    document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
    document.title = run.name ? `${run.name} · attune` : 'attune';
    byId('title').textContent = run.name ? say.named(run.name) : say.training;
    byId('language').textContent = say.other;
    byId('language').setAttribute('aria-label', say.otherLabel);
    byId('state').textContent = say[state];
    byId('state').dataset.state = state;
    for (const element of document.querySelectorAll('[data-text]')) element.textContent = say[element.dataset.text];
    byId('facts').replaceChildren(...run.facts.map(([name, value]) => make('div', {}, make('dt', {}, say.facts[name] || name), make('dd', {}, value))));
    const now = steps[steps.length - 1], then = steps[Math.max(0, steps.length - 11)];
    const share = now && run.steps ? 100 * Math.min(1, now.step / run.steps) : 0;
    byId('progress').setAttribute('aria-valuenow', share.toFixed(0));
    byId('progress').firstElementChild.style.width = `${share}%`;
    // Speed over the last lines; of a piece of one line, over all of it.
    const since = now && then !== now ? then : {tokens: 0, seconds: 0, step: 0};
    const seconds = now ? now.seconds - since.seconds : NaN;
    const over = state === 'done' || state === 'saved';
    const loss = (x) => typeof x === 'number' && Math.abs(x) < 1e3 ? x.toFixed(3) : short(x);
    const tiles = [['step', now ? `${now.step.toLocaleString('en')} ${say.of} ${run.steps.toLocaleString('en')}` : '–'],
                   ['loss', now ? loss(now.loss) : '–'], ['valid', valid.length ? loss(valid[valid.length - 1].loss) : '–'],
                   ['rate', now ? short(now.learning_rate) : '–'], ['largest', now ? short(now.largest_logit) : '–'],
                   ['speed', now && seconds > 0 ? Math.round((now.tokens - since.tokens) / seconds).toLocaleString('en') : '–'],
                   ...(over ? [] : [['left', now && now.step > since.step ? duration(seconds / (now.step - since.step) * (run.steps - now.step)) : '–']])];
    const back = happened.filter((h) => h.kind === 'roll_back' && !h.would).length;
    if (back) tiles.push(['rollbacks', String(back)]);
    byId('tiles').replaceChildren(...tiles.map(([name, value]) => make('div', {}, make('dt', {}, say[name]), make('dd', {}, value))));
  }
  /** Where the axes end: at the end of the run, or while that is far off, at its half, quarter, ... */
  function horizon() {
    const now = Math.max(1, ...steps.slice(-1).map((s) => s.step));
    let end = run.steps;
    while (end / 2 > 1.25 * now) end /= 2;
    return Math.ceil(end);
  }
  let due = false, drawnWidth = 0;
  function draw() {
    due = false;
    plannedSteps = horizon();
    drawnWidth = byId('charts').clientWidth;
    drawHead();
    for (const chart of charts) chart.draw();
    drawMaps();
    drawEvents();
  }
  /** Draws soon, at most four times a second: a replay of thousands of lines is drawn once. */
  function drawSoon() {
    if (!due) setTimeout(draw, 250);
    due = true;
  }

  byId('moment').addEventListener('input', (event) => { chosen = Number(event.target.value); drawMaps(); });
  byId('language').addEventListener('click', () => {
    language = language === 'zh' ? 'en' : 'zh';
    say = texts[language];
    try { localStorage.setItem('attune-language', language); } catch { /* a page from a file may have no memory */ }
    draw();
  });
  darkQuery.addEventListener('change', draw);
  // A new width is drawn before it is seen.
  new ResizeObserver(() => { if (byId('charts').clientWidth !== drawnWidth) draw(); }).observe(byId('charts'));

  forget();
  const data = JSON.parse(byId('run-data').textContent);
  if (data) {
    state = 'saved';
    run = data.run;
    data.lines.forEach(hear);
    draw();
    return;
  }
  draw();
  const source = new EventSource('events');
  // A connection begins with the whole log: after an interruption too.
  source.addEventListener('run', (event) => { forget(); run = JSON.parse(event.data); state = 'live'; drawSoon(); });
  source.addEventListener('message', (event) => { hear(JSON.parse(event.data)); drawSoon(); });
  source.addEventListener('end', () => { source.close(); state = 'done'; drawSoon(); });
  source.addEventListener('error', () => { state = 'lost'; drawSoon(); });
})();
