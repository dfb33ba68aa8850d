// What the page of a training says, in both languages, and how it writes numbers. The scripts of this page share one scope.
'use strict';
const texts = {
  en: {
    other: '中文', otherLabel: 'Read this page in Chinese', training: 'Training',
    at: (step) => `step ${step}`, named: (run) => `Training: ${run}`,
    waiting: 'waiting for the first step', live: 'live', done: 'training is over', lost: 'connection lost; trying again', saved: 'saved page',
    step: 'step', of: 'of', loss: 'loss', valid: 'validation', rate: 'learning rate', speed: 'tokens a second', left: 'time left', largest: 'largest logit',
    rollbacks: 'rollbacks', lossChart: 'Loss, nats a token', each: 'mean of an interval', smooth: 'smoothed', rateChart: 'Learning rate',
    factorChart: 'Factors of the rate', schedule: 'schedule', rollback: 'rollback and held warm-up', guard: 'guard, smallest head', plateau: 'plateau',
    normChart: 'Gradient norm, before clipping', norm: 'norm', logitChart: 'Largest logit of attention, nats', logit: 'over all heads',
    entropyChart: 'Entropy of attention: 0 one key, 1 all alike', mean: 'mean', smallest: 'sharpest head',
    outputChart: 'Log-sum-exp of the output, nats', outputLse: 'mean over target tokens',
    heads: 'Attention by layer and head', headsAbout: 'Rows are attention modules, columns are heads. Point at a cell for its number.',
    mapScore: 'Largest |score|, nats', mapEntropy: 'Entropy', mapFactor: "Guard's factor of the head's rate", mapVariance: 'Variance of logits, nats²',
    mapProb: 'Largest probability', mapSink: "Sink's share", head: 'head', layer: 'layer', none: 'no number', events: 'Events', nothing: 'Nothing has happened.',
    more: 'Only the last 200 are listed.', headOf: (layer, head) => `${layer}, head ${head}`, many: (n) => ` (${n} heads)`, gone: 'undone by a rollback',
    facts: {}, kinds: {scale: 'rate cut', clip: 'clip', tighten: 'tighter limit', hold: 'warm-up held', roll_back: 'rollback', stop: 'stop', refused: 'refused'},
    would: 'would: ',
    why: {
      scale: (e) => `${e.who}: the update would move scores by ${e.value} nats, limit ${e.threshold}; rate × ${e.after}`,
      quack: (e) => `${e.who}: weights grew ${e.value} times; rate × ${e.after}`,
      clip: (e) => `${e.who}: score ${e.value} above ${e.threshold}; scaled back to ${e.after}`,
      tighten: (e) => `${e.who}: entropy ${e.value} below ${e.threshold} while scores rise and nothing improves; limit ${e.before} → ${e.after} nats`,
      hold: (e) => `${e.signal} ${e.value} above ${e.threshold}: the update does not count as warm-up`,
      roll_back: (e) => `${e.signal} (${e.value}): from step ${e.before} back to ${e.after}, at half the rate`,
      stop: (e) => `${e.signal} (${e.value}): one spike too many`,
      refused: (e) => `loss ${e.loss}, gradient norm ${e.norm}: not applied`,
    },
    signals: {gradient: 'gradient spread (z)', growth: 'growth of a score', entropy: 'collapsing entropy', loss: 'loss spike', not_finite: 'a number that is not finite'},
  },
  zh: {
    other: 'English', otherLabel: '用英文阅读本页', training: '训练',
    at: (step) => `第 ${step} 步`, named: (run) => `训练：${run}`,
    waiting: '等待第一步', live: '实时', done: '训练已结束', lost: '连接中断，正在重试', saved: '已保存的页面',
    step: '步', of: '/', loss: '损失', valid: '验证', rate: '学习率', speed: '每秒词元', left: '剩余时间', largest: '最大 logit',
    rollbacks: '回滚次数', lossChart: '损失（每词元，奈特）', each: '区间平均', smooth: '平滑', rateChart: '学习率',
    factorChart: '学习率的因子', schedule: '调度', rollback: '回滚与暂停的预热', guard: '守护（最小的头）', plateau: '平台期',
    normChart: '梯度范数（裁剪前）', norm: '范数', logitChart: '注意力最大 logit（奈特）', logit: '所有头',
    entropyChart: '注意力的熵：0 为单个键，1 为均匀', mean: '平均', smallest: '最尖锐的头',
    outputChart: '输出的 log-sum-exp（奈特）', outputLse: '目标词元平均',
    heads: '各层各头的注意力', headsAbout: '行是注意力模块，列是头。指向格子可见数值。',
    mapScore: '最大 |得分|（奈特）', mapEntropy: '熵', mapFactor: '守护对该头学习率的因子', mapVariance: 'logit 方差（奈特²）',
    mapProb: '最大概率', mapSink: '汇的份额', head: '头', layer: '层', none: '无数值', events: '事件', nothing: '尚无事件。',
    more: '仅列出最近 200 条。', headOf: (layer, head) => `${layer}，头 ${head}`, many: (n) => `（${n} 个头）`, gone: '已被回滚撤销',
    facts: {task: '任务', model: '模型', attention: '注意力', text: '文本', data: '数据'},
    kinds: {scale: '降低学习率', clip: '裁剪', tighten: '收紧限制', hold: '暂停预热', roll_back: '回滚', stop: '停止', refused: '拒绝'},
    would: '若启用：',
    why: {
      scale: (e) => `${e.who}：更新会使得分移动 ${e.value} 奈特，限制 ${e.threshold}；学习率 × ${e.after}`,
      quack: (e) => `${e.who}：权重增长到 ${e.value} 倍；学习率 × ${e.after}`,
      clip: (e) => `${e.who}：得分 ${e.value} 超过 ${e.threshold}；缩回到 ${e.after}`,
      tighten: (e) => `${e.who}：熵 ${e.value} 低于 ${e.threshold}，得分上升而无改善；限制 ${e.before} → ${e.after} 奈特`,
      hold: (e) => `${e.signal} ${e.value} 超过 ${e.threshold}：该更新不计入预热`,
      roll_back: (e) => `${e.signal}（${e.value}）：从第 ${e.before} 步回到第 ${e.after} 步，学习率减半`,
      stop: (e) => `${e.signal}（${e.value}）：突刺过多`,
      refused: (e) => `损失 ${e.loss}，梯度范数 ${e.norm}：未应用`,
    },
    signals: {gradient: '梯度偏离（z）', growth: '得分增长', entropy: '熵崩溃', loss: '损失突刺', not_finite: '出现非有限数'},
  },
};
const byId = (id) => document.getElementById(id);
/** Makes an element with properties and children; strings become text nodes. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
const svg = (tag, attributes, text) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

/** 0.00193 -> 1.93e-3, 12.3456 -> 12.35; texts ("nan") stay. */
function short(x) {
  if (x === null || x === undefined) return '–';
  if (typeof x !== 'number') return String(x);
  if (!Number.isFinite(x)) return String(x);
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return x.toExponential(2).replace('e+', 'e');
  if (Number.isInteger(x)) return x.toLocaleString('en');
  return size >= 100 ? x.toFixed(1) : size >= 10 ? x.toFixed(2) : size >= 1 ? x.toFixed(3) : String(Number(x.toPrecision(3)));
}
function duration(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  const s = Math.round(seconds), two = (n) => String(n).padStart(2, '0');
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}
const number = (x) => typeof x === 'number' ? x : x === 'inf' ? Infinity : x === '-inf' ? -Infinity : NaN;
