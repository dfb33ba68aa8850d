// A visitor of the attention page; tools/check_page.sh leads it there and says what it may use.
const data = JSON.parse(document.getElementById('attention-data').textContent);
check('one heat map for each layer and head', $('.thumb').length === data.maps.length);
check('all tokens of both sides', $('#source .token').length === data.sourceTokens.length &&
      $('#target .token').length === data.targetTokens.length);
check('a head is enlarged from the start', !document.getElementById('detail').hidden && $('#lines line').length > 0);
const over = (canvas, row, col, type) => {
  const box = canvas.getBoundingClientRect();
  pointer(canvas, type, box.left + (col + 0.5) * box.width / canvas.width, box.top + (row + 0.5) * box.height / canvas.height);
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
