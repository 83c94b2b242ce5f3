// The last requests: as many rows as can be read, filled anew at each look, and at rest while somebody is in them.

import { clock, count, el, find, say } from './dom.js';
import { explain } from './explain.js';

/** Rows that are shown. */
const ROWS = 100;
/** Requests that are kept of each verdict: a flood of one kind drives out no other. */
const KEPT = 300;
const COLUMNS = ['time', 'client', 'verdict', 'source', 'peer', 'reason', 'request', 'status number', 'ms number'];

const kept = { verified: [], unverified: [], forged: [] };
const body = find('requests').tBodies[0];
const rows = [];
let shown = [];
let verdict = '';
let words = '';
let isPaused = false;
let isInside = false;
let isOver = false;
let news = 0;
let current = 0;

/** Takes note of a request. */
export function add(request) {
  const same = kept[request.verdict];
  same.push(request);
  // Not every time: that moves all of them.
  if (same.length > 2 * KEPT) same.splice(0, same.length - KEPT);
  news += 1;
}

/** Whether this request is among those that are kept. */
export const knows = request => kept[request.verdict].some(known => known.request_id === request.request_id);

/** Shows the newest, unless somebody is reading. */
export function show() {
  say(find('held'), rests() && news ? `resting, ${count(news)} newer` : '');
  if (!rests()) fill();
}

const rests = () => isPaused || isInside || isOver;

function fill() {
  news = 0;
  const lists = verdict ? [kept[verdict]] : Object.values(kept);
  const found = lists.flatMap(all => (words ? all.filter(matches) : all.slice(-ROWS)));
  shown = found.sort((a, b) => (a.time < b.time ? 1 : -1)).slice(0, ROWS);
  while (rows.length < shown.length) rows.push(row(rows.length));
  shown.forEach((request, index) => rows[index].set(request));
  const elements = rows.slice(0, shown.length).map(each => each.element);
  if (body.childElementCount !== elements.length) body.replaceChildren(...elements);
  point(Math.min(current, Math.max(0, shown.length - 1)));
}

function matches(request) {
  const text = [request.client_ip, request.peer_ip, request.method, request.host, request.path, request.request_id, request.status, request.client_ip_source, request.client_ip_reason];
  return text.join(' ').toLowerCase().includes(words);
}

/** A row that can be filled with one request after another. */
function row(index) {
  const button = el('button', { type: 'button', class: 'address', tabindex: '-1' });
  const badge = el('span');
  const cells = COLUMNS.map(name => el('td', { role: 'cell', class: name }));
  const [time, client, mark, source, peer, reason, request, status, ms] = cells;
  client.append(button);
  mark.append(badge);
  const element = el('tr', { role: 'row' }, ...cells);
  element.addEventListener('click', () => open(index));
  const set = to => {
    say(time, clock(to.time));
    say(button, to.client_ip ?? 'unix socket');
    say(badge, to.verdict);
    badge.className = `key ${to.verdict}`;
    say(source, to.client_ip_source);
    say(peer, to.peer_ip ?? 'unix socket');
    say(reason, to.client_ip_reason.replaceAll('_', ' '));
    const what = `${to.method} ${to.host}${to.path}`;
    say(request, what);
    if (request.title !== what) request.title = what;
    if (client.title !== button.textContent) client.title = button.textContent;
    say(status, String(to.status ?? '…'));
    status.classList.toggle('bad', to.status >= 500);
    say(ms, to.duration_ms === null ? '' : to.duration_ms.toFixed(1));
  };
  return { element, button, set };
}

function open(index) {
  const request = shown[index];
  if (!request) return;
  point(index);
  explain(request);
}

/** The row that Tab leads to. */
function point(index) {
  rows[current]?.button.setAttribute('tabindex', '-1');
  current = index;
  rows[current]?.button.setAttribute('tabindex', '0');
}

function rest(change) {
  const before = rests();
  change();
  if (!rests() && before) fill();
}

body.addEventListener('pointerenter', () => rest(() => { isOver = true; }));
body.addEventListener('pointerleave', () => rest(() => { isOver = false; }));
body.addEventListener('focusin', () => rest(() => { isInside = true; }));
body.addEventListener('focusout', event => rest(() => { isInside = body.contains(event.relatedTarget) || find('explanation').open; }));
find('explanation').addEventListener('close', () => {
  const button = rows[current]?.button;
  button?.focus();
  rest(() => { isInside = document.activeElement === button; });
});
body.addEventListener('keydown', event => {
  const to = { ArrowDown: current + 1, ArrowUp: current - 1, Home: 0, End: shown.length - 1 }[event.key];
  if (to === undefined || !rows[to] || to >= shown.length) return;
  event.preventDefault();
  point(to);
  rows[to].button.focus();
});
find('pause').addEventListener('click', event => rest(() => {
  isPaused = !isPaused;
  event.target.setAttribute('aria-pressed', isPaused);
}));
for (const choice of document.querySelectorAll('[data-verdict]')) {
  choice.addEventListener('click', () => {
    verdict = choice.dataset.verdict;
    for (const other of document.querySelectorAll('[data-verdict]')) other.setAttribute('aria-pressed', other === choice);
    fill();
  });
}
find('find').addEventListener('input', event => {
  words = event.target.value.trim().toLowerCase();
  fill();
});
