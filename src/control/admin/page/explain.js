// Why a request had the client it had, in the words of `headwater explain`.

import { get } from './api.js';
import { el, find, moment, say, table, terms } from './dom.js';

const dialog = find('explanation');
find('close').addEventListener('click', () => dialog.close());
dialog.addEventListener('click', event => {
  if (event.target === dialog) dialog.close();
});

/** Shows it: what came with the request, for by now it may be none of the last any more; else what there is to be had. */
export async function explain(request) {
  say(find('explanation-title'), `Why ${request.client_ip ?? 'nobody'}?`);
  const shown = find('explained');
  shown.replaceChildren(el('p', { class: 'quiet' }, 'Asking …'));
  dialog.showModal();
  find('explanation-title').focus();
  let why;
  try {
    if (request.unexplained) throw new Error(request.unexplained);
    why = page(request.explanation ?? await get(`requests/${encodeURIComponent(request.request_id)}/explain`));
  } catch (error) {
    why = [el('p', { class: 'warning', role: 'alert' }, `There is no explanation: ${error.message}.`)];
  }
  shown.replaceChildren(...why, about(request));
}

function page(why) {
  const lines = Object.entries(why.sent).map(([name, value]) => `${name}: ${value}`);
  const sent = lines.length ? lines.join('\n') : 'nothing about the client';
  const facts = [
    ['client address', el('b', { class: 'address' }, why.client_ip ?? 'unknown'), el('span', { class: 'quiet' }, ` ${why.summary}`)],
    ['found in', why.found_in],
  ];
  const after = [['sent upstream', el('pre', null, sent)]];
  if (why.forged.length) {
    after.unshift(['removed', el('b', { class: 'forged' }, why.forged.join(', ')), ': the peer is not trusted']);
  }
  const hops = why.hops.map(hop => [el('span', { class: 'address' }, hop.party), hop.origin, el('span', { class: kind(hop.verdict) }, hop.verdict)]);
  const more = why.unlisted ? [el('p', { class: 'quiet' }, `and ${why.unlisted} more entries further left`)] : [];
  return [terms(facts), table('Parties, nearest first', ['Party', 'Named by', 'Verdict'], hops), ...more, terms(after)];
}

/** How a verdict is coloured. */
function kind(verdict) {
  if (verdict.includes('->')) return 'client';
  return verdict.startsWith('ignored') ? 'ignored' : 'verified';
}

function about(request) {
  const length = request.duration_ms === null ? '' : ` in ${request.duration_ms.toFixed(1)} ms`;
  return terms([
    ['request', el('code', null, `${request.method} ${request.host}${request.path}`)],
    ['answer', `${request.status ?? 'none yet'}${length}, ${moment(request.time)}`],
    ['way', `listener ${request.listener}, route ${request.route ?? 'none'}, upstream ${request.upstream ?? 'none'}`],
    ['request id', el('code', null, request.request_id)],
  ]);
}
