#!/usr/bin/env bash
# Opens an attention page in headless Chromium, points at cells, clicks and types as a person would, and checks what the
# page then shows. Usage: tools/check_page.sh build/release/attention_sample.html [folder for screenshots]
set -euo pipefail
page=$(realpath "$1")
shots=${2:-$(dirname "$page")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
browser=(chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile")

# A copy of the page with a visitor in it, whose report becomes the page's last element.
cat > "$work/visitor.js" <<'JS'
const report = [];
const check = (name, holds) => report.push(`${holds ? 'ok' : 'FAILED'}: ${name}`);
window.addEventListener('error', (event) => report.push(`FAILED: script error: ${event.message}`));
try {
  const data = JSON.parse(document.getElementById('attention-data').textContent);
  const $ = (selector) => [...document.querySelectorAll(selector)];
  check('one heat map for each layer and head', $('.thumb').length === data.maps.length);
  check('all tokens of both sides', $('#source .token').length === data.sourceTokens.length &&
        $('#target .token').length === data.targetTokens.length);
  check('a head is enlarged from the start', !document.getElementById('detail').hidden && $('#lines line').length > 0);
  const over = (canvas, row, col, type) => {
    const box = canvas.getBoundingClientRect();
    canvas.dispatchEvent(new PointerEvent(type, {bubbles: true, pointerType: 'mouse',
        clientX: box.left + (col + 0.5) * box.width / canvas.width, clientY: box.top + (row + 0.5) * box.height / canvas.height}));
  };
  const cross = data.maps.filter((map) => map.kind === 'cross').sort((a, b) => a.layer - b.layer || a.head - b.head);
  const expected = (map, row, col) => `${data.targetTokens[row]} reads ${data.sourceTokens[col]}: ${(map.w[row * map.cols + col] / 10000).toFixed(4)}`;
  const thumb = $('.thumb')[1];
  over(thumb.querySelector('canvas'), 2, 1, 'pointermove');
  check('hover on a small map names the pair and its weight', document.getElementById('tip').textContent === expected(cross[1], 2, 1));
  check('hover marks both tokens', $('#target .token')[2].classList.contains('on') && $('#source .token')[1].classList.contains('on'));
  over(thumb.querySelector('canvas'), 2, 1, 'pointerleave');
  check('leaving clears the marks', $('.on').length === 0 && document.getElementById('tip').hidden);
  thumb.click();
  check('a click enlarges that head', document.getElementById('detail-title').textContent === `Cross · layer ${cross[1].layer + 1} · head ${cross[1].head + 1}`);
  over(document.querySelector('#heat canvas'), 1, 2, 'pointerdown');
  check('a tap on the enlarged map names the pair', document.getElementById('readout').textContent === expected(cross[1], 1, 2));
  const press = (key) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  press('ArrowRight');
  check('the right arrow goes to the next head', $('.thumb')[2].getAttribute('aria-pressed') === 'true');
  press('ArrowLeft');
  check('the left arrow goes back', thumb.getAttribute('aria-pressed') === 'true');
  const before = document.querySelector('#heat canvas').toDataURL();
  document.getElementById('faint').click();
  check('faint weights change the colours', document.querySelector('#heat canvas').toDataURL() !== before);
  document.getElementById('faint').click();
  const line = Number(document.querySelector('#lines line').getAttribute('stroke-opacity'));
  check('lines are drawn in the strength of their weight', line > 0 && line <= 1);
  check('nothing is wider than the window', document.documentElement.scrollWidth <= window.innerWidth);
  check('nothing was loaded', performance.getEntriesByType('resource').length === 0);
} catch (error) {
  report.push(`FAILED: ${error.message}`);
}
document.body.append(Object.assign(document.createElement('pre'), {id: 'report', textContent: report.join('\n') + '\n'}));
JS
{
  sed '/<\/body>/,$d' "$page"
  printf '<script>\n'
  cat "$work/visitor.js"
  printf '</script>\n</body>\n</html>\n'
} > "$work/visited.html"

status=0
for size in 1280,900 390,844; do
  result=$("${browser[@]}" --window-size=$size --dump-dom "file://$work/visited.html" 2> "$work/log" |
    sed -n '/id="report"/,/<\/pre>/p' | sed 's/<[^>]*>//g')
  echo "attention page at ${size/,/ x }:"
  echo "$result" | sed '/^$/d; s/^/  /'
  if [[ $(grep -c '^ok' <<< "$result") -lt 14 ]] || grep -q FAILED <<< "$result"; then status=1; fi
  "${browser[@]}" --window-size=${size%,*},1600 --screenshot="$shots/attention_${size%,*}.png" "file://$page" > /dev/null 2>&1
done
if [[ $status != 0 ]]; then echo "check_page: a page that shows what it should, got the failures above" >&2; fi
exit $status
