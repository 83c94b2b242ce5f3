// What runs: upstreams and their endpoints, listeners, certificates, the configuration. And what operators change.

import { ask, get } from './api.js';
import { count, counted, el, find, moment, say, table, terms } from './dom.js';

/** A certificate that has fewer days left wants a look. */
const FEW_DAYS = 14;

const before = new Map();

/** Asks for all of it, and shows what has changed. */
export async function refresh() {
  const names = ['status', 'upstreams', 'certificates', 'listeners', 'suspicions'];
  const [status, upstreams, certificates, listeners, suspicions] = await Promise.all(names.map(get));
  say(find('version'), status.version);
  show('config', status, configuration);
  show('suspicions', suspicions, cards);
  show('upstreams', upstreams, upstreamTable);
  show('certificates', certificates, certificateTable);
  show('listeners', listeners, listenerTable);
}

/** Elements stay while what they show does, so that nobody loses their place. */
function show(id, state, made) {
  const text = JSON.stringify(state);
  if (before.get(id) === text) return;
  before.set(id, text);
  const place = find(id);
  const focused = place.contains(document.activeElement) && document.activeElement.dataset.key;
  place.replaceChildren(made(state));
  if (focused) place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

/** One for each listener whose clients look lost, with what can be done about it. */
function cards(suspicions) {
  return el('div', null, ...suspicions.map(({ listener, cause, code, message, remedies }) => {
    const title = cause === 'untrusted_header' ? 'somebody names clients, and nobody trusts them' : 'the addresses of clients look lost on the way';
    return el('section', { class: 'card warning', 'aria-label': `Suspicion about listener ${listener}` },
      el('h2', null, `${listener}: ${title}`),
      el('p', null, message),
      el('ul', null, ...remedies.map(remedy => el('li', null, remedy))),
      el('p', { class: 'quiet' }, `One of them will do. (${code})`));
  }));
}

function upstreamTable(upstreams) {
  const rows = upstreams.flatMap(upstream => {
    if (upstream.builtin) return [[upstream.name, 'built in', '', '', '', '']];
    const taking = upstream.endpoints.filter(endpoint => endpoint.healthy && !endpoint.drained).length;
    return upstream.endpoints.map(endpoint => [
      upstream.name,
      el('span', { class: 'address' }, endpoint.address),
      health(endpoint),
      change(upstream, endpoint, taking),
      count(endpoint.connections),
      count(endpoint.requests),
    ]);
  });
  if (!rows.length) return el('p', { class: 'quiet' }, 'There is none: headwater answers by itself.');
  return table('Upstreams', ['Upstream', 'Endpoint', 'Health', 'Change', '#Connections', '#Requests'], rows);
}

function health({ healthy, drained, backup, weight }) {
  const [text, kind] = drained ? ['drained', 'warning'] : healthy ? ['healthy', 'good'] : ['unhealthy', 'bad'];
  const more = [backup && 'backup', weight > 1 && `weight ${weight}`].filter(Boolean).join(', ');
  return el('span', null, el('span', { class: `health ${kind}` }, text), more && ` ${more}`);
}

function change({ name }, { address, healthy, drained }, taking) {
  const what = drained ? 'resume' : 'drain';
  const button = el('button', { type: 'button', 'aria-label': `${what} ${address} of ${name}`, 'data-key': `${name} ${address}` }, what);
  const isLast = !drained && taking === (healthy ? 1 : 0);
  button.addEventListener('click', async () => {
    const question = `${address} is the last endpoint of ${name} that takes requests. Drain it all the same?`;
    if (isLast && !confirm(question)) return;
    button.disabled = true;
    const path = `upstreams/${encodeURIComponent(name)}/endpoints/${encodeURIComponent(address)}/${what}`;
    await act(path, () => `${address} of ${name} ${drained ? 'gets requests again' : 'gets no more requests'}`);
    button.disabled = false;
  });
  return button;
}

/** Has something changed, and says what came of it. */
async function act(path, told) {
  try {
    const response = await ask(path, { method: 'POST' });
    const isJson = response.headers.get('content-type') === 'application/json';
    say(find('said'), isJson ? told(await response.json()) : (await response.text()).trim());
    await refresh();
  } catch (error) {
    say(find('said'), `that failed: ${error.message}`);
  }
}

function certificateTable(certificates) {
  if (!certificates.length) return el('p', { class: 'quiet' }, 'There is none: nothing speaks TLS.');
  const rows = certificates.map(({ listener, names, subject, days_left: days, not_after: end }) => {
    const kind = days < 0 ? 'bad' : days < FEW_DAYS ? 'warning' : 'good';
    const left = days < 0 ? 'expired' : counted(days, 'day');
    return [names.join(', ') || subject, listener, el('span', { class: `health ${kind}`, title: end }, left)];
  });
  return table('Certificates', ['Names', 'Listener', 'Left'], rows);
}

function listenerTable(listeners) {
  const rows = listeners.map(({ name, addresses, tls, protocols, proxy_protocol: preamble, connections }) => {
    const spoken = [tls && 'TLS', ...protocols, preamble !== 'off' && `PROXY ${preamble}`].filter(Boolean).join(', ');
    return [name, el('span', { class: 'address' }, addresses.join(' ')), spoken, count(connections)];
  });
  return table('Listeners', ['Name', 'Address', 'Speaks', '#Connections'], rows);
}

function configuration({ config, started, readiness }) {
  const last = config.last_reload;
  const isBad = last && ['rejected', 'failed'].includes(last.result);
  const facts = terms([
    ['from', el('code', null, config.source)],
    ['trust', config.trust],
    ['since', moment(config.since)],
    ['process', `${readiness}, started ${moment(started)}`],
    ['reloads', `${count(config.applied)} applied, ${count(config.rejected)} rejected`],
    ...(last ? [['last', el('span', { class: `health ${isBad ? 'bad' : 'good'}` }, verdict(last)), ` ${moment(last.time)}`]] : []),
  ]);
  return el('div', null, facts, ...(last?.text ? [el('pre', null, last.text.trim())] : []));
}

const verdict = ({ result, changed }) => (changed?.length ? `${result}: ${changed.join(', ')}` : result);

find('reload').addEventListener('click', async event => {
  event.target.disabled = true;
  await act('reload', told => `reload ${verdict(told)}`);
  event.target.disabled = false;
});
