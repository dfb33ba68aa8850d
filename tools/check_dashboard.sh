#!/usr/bin/env bash
# Opens the page of a training in headless Chromium, points at cells and charts and changes the language as a person would,
# and checks what the page then shows. Usage: tools/check_dashboard.sh build/release/dashboard_sample.html [folder for screenshots]
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
  const data = JSON.parse(document.getElementById('run-data').textContent);
  const $ = (selector) => [...document.querySelectorAll(selector)];
  const of = (kind) => data.lines.filter((line) => line.event === kind);
  const steps = of('step'), heads = of('heads');
  const last = heads.filter((line) => line.step === heads[heads.length - 1].step);
  check('a chart for each of six quantities, with a line', $('#charts figure').length === 6 && $('#charts path.line').length >= 6);
  check('the run is named', document.getElementById('title').textContent.includes(data.run.name));
  check('its last step and loss', $('#tiles dd')[0].textContent.includes(steps[steps.length - 1].step.toLocaleString('en')) &&
        $('#tiles dd')[1].textContent === steps[steps.length - 1].loss.toFixed(3));
  check('a validation point for each validation', $('#charts circle').length === of('valid').length);
  const cells = $('#maps .map')[0].querySelectorAll('.cell');
  check('a cell for each layer and head', cells.length === last.reduce((n, line) => n + line.score.length, 0));
  const over = (element, type, x, y) => element.dispatchEvent(new PointerEvent(type, {bubbles: true, pointerType: 'mouse', clientX: x, clientY: y}));
  over(cells[1], 'pointermove', 40, 40);
  check('pointing at a cell tells its module, head and number', document.getElementById('tip').textContent.startsWith(`${last[0].layer} · head 1`) &&
        /: [\d.,e-]+$/.test(document.getElementById('tip').textContent));
  over(cells[1], 'pointerleave', 0, 0);
  check('leaving it hides that', document.getElementById('tip').hidden);
  const box = $('#charts figure')[0].lastElementChild, area = box.getBoundingClientRect();
  over(box, 'pointermove', area.left + 60, area.top + 50);
  check('pointing at a chart tells the step on all of them', $('.key').filter((key) => /step \d/.test(key.textContent)).length >= 5);
  over(box, 'pointerleave', 0, 0);
  check('events are listed with their reason', $('#list li').length > 0 && $('#list .why').every((why) => why.textContent.length > 5));
  const moment = document.getElementById('moment');
  const before = $('#maps .cell').map((cell) => cell.textContent).join();
  moment.value = 0;
  moment.dispatchEvent(new Event('input'));
  check('the slider shows an earlier step', document.getElementById('at').textContent === `step ${heads[0].step}` &&
        $('#maps .cell').map((cell) => cell.textContent).join() !== before);
  check('nothing is wider than the window', document.documentElement.scrollWidth <= window.innerWidth);
  document.getElementById('language').click();
  check('the other language', document.documentElement.lang === 'zh-CN' && document.querySelector('h2').textContent === '各层各头的注意力' &&
        ![...document.querySelectorAll('body *')].some((e) => /undefined/.test(e.textContent) && e.tagName !== 'SCRIPT'));
  check('nothing is wider than the window in it', document.documentElement.scrollWidth <= window.innerWidth);
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
  result=$("${browser[@]}" --window-size=$size --dump-dom "file://$work/visited.html?lang=en" 2> "$work/log" |
    sed -n '/id="report"/,/<\/pre>/p' | sed 's/<[^>]*>//g')
  echo "page of a training at ${size/,/ x }:"
  echo "$result" | sed '/^$/d; s/^/  /'
  if [[ $(grep -c '^ok' <<< "$result") -lt 14 ]] || grep -q FAILED <<< "$result"; then status=1; fi
  "${browser[@]}" --window-size=${size%,*},2400 --screenshot="$shots/dashboard_${size%,*}.png" "file://$page?lang=en" > /dev/null 2>&1
done
if [[ $status != 0 ]]; then echo "check_dashboard: a page that shows what it should, got the failures above" >&2; fi
exit $status
