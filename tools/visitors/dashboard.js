// A visitor of the page of a training; tools/check_page.sh leads it there and says what it may use.
const data = JSON.parse(document.getElementById('run-data').textContent);
const of = (kind) => data.lines.filter((line) => line.event === kind);
const steps = of('step'), heads = of('heads');
const last = heads.filter((line) => line.step === heads[heads.length - 1].step);
const wanted = 6 + (steps.some((line) => 'output_lse' in line) ? 1 : 0);
check('a chart for each quantity, with a line', $('#charts figure:not([hidden])').length === wanted && $('#charts path.line').length >= wanted);
check('the run is named', document.getElementById('title').textContent.includes(data.run.name));
check('its last step and loss', $('#tiles dd')[0].textContent.includes(steps[steps.length - 1].step.toLocaleString('en')) &&
      $('#tiles dd')[1].textContent === steps[steps.length - 1].loss.toFixed(3));
check('a validation point for each validation', $('#charts circle').length === of('valid').length);
const cells = $('#maps .map')[0].querySelectorAll('.cell');
check('a cell for each layer and head', cells.length === last.reduce((n, line) => n + line.score.length, 0));
pointer(cells[1], 'pointermove', 40, 40);
check('pointing at a cell tells its module, head and number', document.getElementById('tip').textContent.startsWith(`${last[0].layer} · head 1`) &&
      /: [\d.,e-]+$/.test(document.getElementById('tip').textContent));
pointer(cells[1], 'pointerleave', 0, 0);
check('leaving it hides that', document.getElementById('tip').hidden);
const box = $('#charts figure')[0].lastElementChild, area = box.getBoundingClientRect();
pointer(box, 'pointermove', area.left + 60, area.top + 50);
check('pointing at a chart tells the step on all of them', $('.key').filter((key) => /step \d/.test(key.textContent)).length >= 5);
pointer(box, 'pointerleave', 0, 0);
check('events are listed with their reason', $('#list li').length > 0 && $('#list .why').every((why) => why.textContent.length > 5));
const moment = document.getElementById('moment');
const before = $('#maps .cell').map((cell) => cell.textContent).join();
moment.value = 0;
moment.dispatchEvent(new Event('input'));
check('the slider shows an earlier step', document.getElementById('at').textContent === `step ${heads[0].step}` &&
      $('#maps .cell').map((cell) => cell.textContent).join() !== before);
document.getElementById('language').click();
check('the other language', document.documentElement.lang === 'zh-CN' && document.querySelector('h2').textContent === '各层各头的注意力' &&
      ![...document.querySelectorAll('body *')].some((e) => /undefined/.test(e.textContent) && e.tagName !== 'SCRIPT'));
check('nothing is wider than the window in it', fits());
