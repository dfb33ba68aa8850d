// The attention page's script. Data: #attention-data, weights in ten-thousandths, maps as [rows, cols], row by row.
// Every text of the data enters the page as text (textContent), never as markup.
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('attention-data').textContent);
  const kinds = {
    encoder: {name: 'Encoder', about: 'Each source token (row) reads the source tokens (columns).',
              rows: data.sourceTokens, cols: data.sourceTokens, rowSide: 'source', colSide: 'source'},
    decoder: {name: 'Decoder', about: 'To write a target token (row), the decoder reads what it wrote before (columns).',
              rows: data.targetTokens, cols: data.targetInputs, rowSide: 'target', colSide: null},
    cross: {name: 'Cross', about: 'To write a target token (row), the decoder reads the source tokens (columns).',
            rows: data.targetTokens, cols: data.sourceTokens, rowSide: 'target', colSide: 'source'},
  };
  const order = ['cross', 'decoder', 'encoder'];  // the translation itself first
  const maps = data.maps.slice().sort((a, b) =>
      order.indexOf(a.kind) - order.indexOf(b.kind) || a.layer - b.layer || a.head - b.head);
  const at = (map, row, col) => map.w[row * map.cols + col] / 10000;
  const label = (map) => `${kinds[map.kind].name} · layer ${map.layer} · head ${map.head}`;  // from 0, as in names of weights and in logs
  const byId = (id) => document.getElementById(id);

  /** Makes an element with properties and children; strings become text nodes. */
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // Colours: lightness changes evenly with the weight, so the maps read without telling hues apart.
  const ramps = {
    light: [[247, 251, 255], [158, 202, 225], [49, 130, 189], [8, 48, 107]],
    dark: [[11, 22, 34], [31, 78, 121], [95, 168, 211], [242, 246, 195]],
  };
  const darkQuery = matchMedia('(prefers-color-scheme: dark)');
  let faint = false;  // square root instead of the weight itself
  function colour(weight) {
    const ramp = darkQuery.matches ? ramps.dark : ramps.light;
    const x = Math.min(1, Math.max(0, faint ? Math.sqrt(weight) : weight)) * (ramp.length - 1);
    const i = Math.min(ramp.length - 2, Math.floor(x));
    return ramp[i].map((from, c) => Math.round(from + (ramp[i + 1][c] - from) * (x - i)));
  }

  /** Draws a map, one canvas pixel a cell; the style sheet scales it up without smoothing. */
  function paint(canvas, map) {
    canvas.width = Math.max(1, map.cols);
    canvas.height = Math.max(1, map.rows);
    if (!map.rows || !map.cols) return;
    const context = canvas.getContext('2d');
    const image = context.createImageData(map.cols, map.rows);
    for (let i = 0; i < map.rows * map.cols; ++i) image.data.set([...colour(map.w[i] / 10000), 255], 4 * i);
    context.putImageData(image, 0, 0);
  }

  // What is pointed at: marks the two tokens in the sentences above, and names the pair.
  let marked = [];
  function mark(elements) {
    for (const element of marked) element.classList.remove('on');
    marked = elements.filter(Boolean);
    for (const element of marked) element.classList.add('on');
  }
  const strips = {source: [], target: []};
  const pairText = (map, row, col) => {
    const kind = kinds[map.kind];
    return `${kind.rows[row]} reads ${kind.cols[col]}: ${at(map, row, col).toFixed(4)}`;
  };
  const pairTokens = (map, row, col) => {
    const {rowSide, colSide} = kinds[map.kind];
    const column = colSide ? strips[colSide][col] : strips.target[col - 1];  // column c of a decoder map read token c-1
    return [strips[rowSide][row], column];
  };

  /** A picture of a map that reports the cell under the pointer: onCell(row, col, event), and onLeave(). */
  function picture(map, onCell, onLeave) {
    const canvas = make('canvas');
    const across = make('span', {className: 'cross', hidden: true});
    const down = make('span', {className: 'cross', hidden: true});
    const box = make('span', {className: 'picture'}, canvas, across, down);
    paint(canvas, map);
    const show = (row, col) => {
      across.hidden = down.hidden = row === null;
      if (row === null) return;
      across.style.cssText = `left:0;width:100%;top:${100 * row / map.rows}%;height:${100 / map.rows}%`;
      down.style.cssText = `top:0;height:100%;left:${100 * col / map.cols}%;width:${100 / map.cols}%`;
    };
    const locate = (event) => {
      const area = canvas.getBoundingClientRect();
      const clamp = (x, n) => Math.min(n - 1, Math.max(0, Math.floor(x * n)));
      const row = clamp((event.clientY - area.top) / area.height, map.rows);
      const col = clamp((event.clientX - area.left) / area.width, map.cols);
      show(row, col);
      onCell(row, col, event);
    };
    if (map.rows && map.cols) {
      canvas.addEventListener('pointermove', locate);
      canvas.addEventListener('pointerdown', locate);
      canvas.addEventListener('pointerleave', () => { show(null); onLeave(); });
    }
    return {box, canvas, show};
  }

  // The enlarged head: a heat map with its tokens, and the same weights as lines between two columns of tokens.
  let current = null;   // index into maps
  let heat = null;      // the enlarged picture and its labels
  let drawing = null;   // the lines and their labels
  function point(row, col) {
    const map = maps[current];
    byId('readout').textContent = row === null ? hint(map) : pairText(map, row, col);
    mark(row === null ? [] : [...pairTokens(map, row, col), heat.rowLabels[row], heat.colLabels[col],
                              drawing.left[row], drawing.right[col]]);
    emphasise(row, row === null ? null : col);
  }
  const hint = (map) => map.rows && map.cols ? 'Point at a cell or a token.' : 'This map is empty.';

  function drawHeat(map) {
    const kind = kinds[map.kind];
    const longest = Math.max(0, ...kind.rows.map((token) => [...token].length));
    const room = byId('heat').clientWidth - Math.min(144, 8 * longest + 12);  // what the row labels leave, in pixels
    const cell = Math.floor(Math.min(34, Math.max(15, room / Math.max(1, map.cols))));
    const shown = picture(map, (row, col) => point(row, col), () => point(null));
    shown.box.style.cssText = `width:${cell * map.cols}px;height:${cell * map.rows}px`;
    const labels = (tokens, side) => tokens.map((token) => {
      const span = make('span', {title: token}, token);
      span.style[side] = `${cell}px`;
      return span;
    });
    const rowLabels = labels(kind.rows, 'height'), colLabels = labels(kind.cols, 'width');
    byId('heat').replaceChildren(make('div', {className: 'grid'}, make('div'),
        make('div', {className: 'cols'}, ...colLabels), make('div', {className: 'rows'}, ...rowLabels), shown.box));
    byId('heat-caption').textContent = kind.about;
    heat = {...shown, rowLabels, colLabels};
  }

  const svg = (tag, attributes, text) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  function drawLines(map) {
    const kind = kinds[map.kind];
    const step = 22, width = 420, height = step * Math.max(map.rows, map.cols, 1) + 8;
    const root = svg('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label(map)});
    const y = (i, n) => (height - step * n) / 2 + step * (i + 0.5);
    const short = (token) => [...token].length > 16 ? [...token].slice(0, 15).join('') + '…' : token;
    const paths = [];
    for (let row = 0; row < map.rows; ++row) {
      for (let col = 0; col < map.cols; ++col) {
        const weight = at(map, row, col);
        if (weight < 0.02) continue;  // too faint to see
        const line = svg('line', {x1: 140, y1: y(row, map.rows), x2: 280, y2: y(col, map.cols), stroke: 'currentColor',
                                  'stroke-width': (0.6 + 3.4 * weight).toFixed(2), 'stroke-linecap': 'round'});
        paths.push({line, row, col, weight});
        root.append(line);
      }
    }
    const texts = (tokens, n, x, anchor) => tokens.slice(0, n).map((token, i) => {
      const text = svg('text', {x, y: y(i, n), 'text-anchor': anchor, 'dominant-baseline': 'central'}, short(token));
      root.append(text);
      return text;
    });
    const left = texts(kind.rows, map.rows, 134, 'end'), right = texts(kind.cols, map.cols, 286, 'start');
    byId('lines').replaceChildren(root);
    drawing = {paths, left, right};
    // A token alone: all of its lines, and the heaviest partner by name.
    const hold = (text, row, col) => {
      const strongest = () => {
        const mine = paths.filter((p) => row === null ? p.col === col : p.row === row);
        const best = mine.reduce((a, b) => (b.weight > a.weight ? b : a), mine[0]);
        emphasise(row, col);
        if (!best) return;
        byId('readout').textContent = 'Heaviest: ' + pairText(map, best.row, best.col);
        mark([text, ...pairTokens(map, best.row, best.col)]);
      };
      text.addEventListener('pointerenter', strongest);
      text.addEventListener('pointerdown', strongest);
      text.addEventListener('pointerleave', () => point(null));
    };
    left.forEach((text, row) => hold(text, row, null));
    right.forEach((text, col) => hold(text, null, col));
  }
  /** Fades the lines that touch neither the row nor the column; null is no choice. */
  function emphasise(row, col) {
    for (const p of drawing.paths) {
      const chosen = (row === null || row === undefined || p.row === row) && (col === null || col === undefined || p.col === col);
      const strength = 0.08 + 0.87 * (faint ? Math.sqrt(p.weight) : p.weight);
      p.line.setAttribute('stroke-opacity', (chosen ? strength : 0.03).toFixed(3));
    }
  }

  const thumbs = [];
  function choose(index, scroll) {
    current = (index + maps.length) % maps.length;
    const map = maps[current];
    byId('detail').hidden = false;
    byId('detail-title').textContent = label(map);
    thumbs.forEach((thumb, i) => thumb.button.setAttribute('aria-pressed', String(i === current)));
    drawHeat(map);
    drawLines(map);
    point(null);
    if (scroll) byId('detail').scrollIntoView({behavior: 'smooth', block: 'start'});
  }

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

  // Build the page.
  document.title = data.title;
  byId('title').textContent = data.title;
  for (const [name, value] of data.facts) byId('facts').append(make('div', {}, make('dt', {}, name), make('dd', {}, value)));
  for (const side of ['source', 'target']) {
    strips[side] = data[side + 'Tokens'].map((token) => make('span', {className: 'token'}, token));
    byId(side).append(...strips[side]);
    if (data[side]) byId(side).append(make('span', {className: 'sentence'}, data[side]));
  }
  for (const kind of order) {
    const mine = maps.map((map, index) => ({map, index})).filter(({map}) => map.kind === kind);
    if (!mine.length) continue;
    const grid = make('div', {className: 'thumbs'});
    for (const {map, index} of mine) {
      const leave = () => { showTip(null); mark([]); };
      const shown = picture(map, (row, col, event) => {
        if (event.pointerType !== 'mouse') return;
        showTip(pairText(map, row, col), event);
        mark(pairTokens(map, row, col));
      }, leave);
      shown.box.style.aspectRatio = String(Math.min(2.2, Math.max(0.6, map.cols / Math.max(1, map.rows))));
      const button = make('button', {type: 'button', className: 'thumb'},
          `Layer ${map.layer} · head ${map.head}`, shown.box);
      button.setAttribute('aria-label', `Enlarge ${label(map)}`);
      button.addEventListener('click', () => { leave(); choose(index, true); });
      thumbs[index] = {button, canvas: shown.canvas};
      grid.append(button);
    }
    byId('maps').append(make('section', {}, make('h3', {}, kinds[kind].name),
                             make('p', {className: 'about'}, kinds[kind].about), grid));
  }
  function repaint() {
    thumbs.forEach((thumb, i) => paint(thumb.canvas, maps[i]));
    if (current !== null) choose(current, false);
  }
  byId('previous').addEventListener('click', () => choose(current - 1, false));
  byId('next').addEventListener('click', () => choose(current + 1, false));
  byId('faint').addEventListener('change', (event) => { faint = event.target.checked; repaint(); });
  darkQuery.addEventListener('change', repaint);
  addEventListener('resize', () => requestAnimationFrame(() => { if (current !== null) choose(current, false); }));
  addEventListener('keydown', (event) => {
    if (current === null || event.target.tagName === 'INPUT') return;
    if (event.key === 'ArrowLeft') choose(current - 1, false);
    if (event.key === 'ArrowRight') choose(current + 1, false);
  });
  // Begin with the last layer of the cross attention, or with the first map that there is.
  const last = maps.reduce((best, map, i) => (map.kind === 'cross' && (best < 0 || map.layer > maps[best].layer) ? i : best), -1);
  if (maps.length) choose(Math.max(0, last), false);
})();
