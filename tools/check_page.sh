#!/usr/bin/env bash
# Opens a page in headless Chromium, as wide as a desktop and a phone, with a visitor in it who points, clicks and types as a
# person would; prints what the visitor found, and fails unless all of it holds. Then takes pictures, light and dark and in
# both languages, to look at: they show what no check sees.
# Usage: tools/check_page.sh attention|dashboard PAGE [FOLDER for pictures]
#
# The visitor, tools/visitors/<kind>.js, calls check(name, holds) and may use $(selector), an array, pointer(element, type, x, y)
# and fits(). A visitor who stops before the last check has not found that all is well.
set -euo pipefail
kind=$1
page=$(realpath "$2")
visitor=$(dirname "$(realpath "$0")")/visitors/$kind.js
shots=${3:-$(dirname "$page")}
case $kind in
  attention) addresses=("$page") ;;
  dashboard) addresses=("$page?lang=en" "$page?lang=zh") ;;
  *) echo "check_page: attention or dashboard, got $kind" >&2 && exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
browser=(chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile")

# The page with the visitor, whose report becomes its last element.
{
  sed '/<\/body>/,$d' "$page"
  cat << 'HTML'
<script>
const report = [];
const check = (name, holds) => report.push(`${holds ? 'ok' : 'FAILED'}: ${name}`);
window.addEventListener('error', (event) => report.push(`FAILED: script error: ${event.message}`));
try {
const $ = (selector) => [...document.querySelectorAll(selector)];
const pointer = (element, type, x, y) =>
    element.dispatchEvent(new PointerEvent(type, {bubbles: true, pointerType: 'mouse', clientX: x, clientY: y}));
const fits = () => document.documentElement.scrollWidth <= window.innerWidth;
HTML
  cat "$visitor"
  cat << 'HTML'
check('nothing is wider than the window', fits());
check('nothing was loaded', performance.getEntriesByType('resource').length === 0);
} catch (error) {
  report.push(`FAILED: ${error.message}`);
}
document.body.append(Object.assign(document.createElement('pre'), {id: 'report', textContent: report.join('\n') + '\n'}));
</script>
</body>
</html>
HTML
} > "$work/visited.html"
least=$(($(grep -c "^ *check('" "$visitor") + 2))

status=0
for size in 1280,900 390,844; do
  result=$("${browser[@]}" --window-size=$size --dump-dom "file://$work/visited.html?lang=en" 2> "$work/log" |
    sed -n '/id="report"/,/<\/pre>/p' | sed 's/<[^>]*>//g')
  echo "page $kind at ${size/,/ x }:"
  echo "$result" | sed '/^$/d; s/^/  /'
  if [[ $(grep -c '^ok' <<< "$result") -ne $least ]] || grep -q FAILED <<< "$result"; then status=1; fi
  for address in "${addresses[@]}"; do
    for dress in light dark; do
      picture=${kind}_${size%,*}_$dress
      [[ $address != *zh ]] || picture+=_zh
      "${browser[@]}" --window-size=${size%,*},2400 --virtual-time-budget=2000 --blink-settings=preferredColorScheme=$([[ $dress == dark ]]; echo $?) \
        --screenshot="$shots/$picture.png" "file://$address" > /dev/null 2>&1
    done
  done
done
if [[ $status != 0 ]]; then echo "check_page: $least checks that hold, got the failures above" >&2; fi
exit $status
