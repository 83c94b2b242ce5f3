// Where requests come from and where they go: counted over the last of them, drawn as a graph, and told as a table.

import { clock, count, counted, drawn, el, find, say } from './dom.js';

/** Requests that are counted at a time. */
const WINDOW = 10_000;
const VERDICTS = ['verified', 'unverified', 'forged'];
/** Proxies in a row that have a place of their own. */
const MOST_PROXIES = 3;
/** Flows whose claims were in vain that are drawn before others. */
const FORGED = 2;
const TABLE_ROWS = 50;
/** Below this the graph runs downwards. */
const NARROW = 640;
const NOBODY = 'no upstream';
const SEPARATOR = '\n';

const counts = new Map();
const ring = [];
let next = 0;
let oldest;

/** Counts a request, and forgets one that is too long ago. */
export function add(request) {
  const key = [
    request.verdict,
    request.client_network ?? 'unix socket',
    request.upstream ?? NOBODY,
    ...request.via.slice(-MOST_PROXIES).map(proxy => proxy.trusted_as),
  ].join(SEPARATOR);
  oldest ??= request.time;
  if (ring.length === WINDOW) {
    const left = counts.get(ring[next].key) - 1;
    if (left) counts.set(ring[next].key, left);
    else counts.delete(ring[next].key);
    oldest = ring[(next + 1) % WINDOW].time;
  }
  ring[next] = { key, time: request.time };
  next = (next + 1) % WINDOW;
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/** Shows it all. */
export function show() {
  const flows = [...counts].map(([key, requests]) => {
    const [verdict, client, upstream, ...proxies] = key.split(SEPARATOR);
    return { verdict, client, upstream, proxies, requests };
  });
  flows.sort((a, b) => b.requests - a.requests);
  const networks = new Set(flows.map(flow => flow.client)).size;
  const of = verdict => flows.reduce((sum, flow) => sum + (flow.verdict === verdict ? flow.requests : 0), 0);
  const parts = VERDICTS.map(verdict => `${share(of(verdict), ring.length)} ${verdict}`).join(', ');
  if (ring.length) {
    const answer = `${counted(networks, 'network')}, in the last ${counted(ring.length, 'request')} since ${clock(oldest)}: ${parts}.`;
    say(find('answer'), answer);
    say(find('graph-title'), `Requests flow from client networks through trusted proxies and headwater to upstreams. ${answer}`);
  }
  draw(flows);
  if (find('flows').open) tell(flows);
}

function share(part, whole) {
  const percent = 100 * part / whole;
  if (part && percent < 1) return 'under 1 %';
  return part < whole && percent > 99 ? 'over 99 %' : `${Math.round(percent)} %`;
}

function tell(flows) {
  const rows = flows.slice(0, TABLE_ROWS).map(flow => el('tr', null,
    el('td', { class: 'address' }, flow.client),
    el('td', null, flow.proxies.map(shortened).join(', then ') || 'nobody'),
    el('td', null, flow.upstream),
    el('td', null, el('span', { class: `key ${flow.verdict}` }, flow.verdict)),
    el('td', { class: 'number' }, count(flow.requests))));
  find('flows').querySelector('tbody').replaceChildren(...rows);
}

const shortened = entry => entry.replace('preset ', '');

function draw(flows) {
  const graph = find('graph');
  const width = Math.max(300, graph.parentElement.clientWidth);
  const isNarrow = width < NARROW;
  const layers = layered(folded(flows, isNarrow ? 3 : 8));
  const shape = isNarrow ? downwards(width, layers) : sideways(width, layers);
  place(layers, shape);
  graph.setAttribute('viewBox', `0 0 ${width} ${shape.height}`);
  graph.setAttribute('height', shape.height);
  const edges = layers.flatMap(layer => layer.nodes.flatMap(node => node.out)).map(edge => line(edge, shape));
  const nodes = layers.flatMap(layer => layer.nodes.filter(node => node.label)).flatMap(node => box(node, shape));
  const heads = isNarrow ? [] : layers.map(layer => drawn('text', { x: layer.along, y: 12, class: 'head', 'text-anchor': layer.anchor }, layer.title));
  const title = find('graph-title');
  graph.replaceChildren(title, ...edges, ...heads, ...nodes);
}

/** Nodes by layer, joined by edges that know how many requests they stand for. */
function layered(flows) {
  const depth = flows.reduce((most, flow) => Math.max(most, flow.proxies.length), 0);
  const titles = ['client networks', ...Array(depth).fill('').map((_, at) => (at ? '' : 'proxies you trust')), 'headwater', 'upstreams'];
  const layers = titles.map(title => ({ title, nodes: [], byName: new Map() }));
  const node = (at, name, label) => {
    const layer = layers[at];
    if (!layer.byName.has(name)) {
      const made = { layer: at, name, label, out: [], into: [], requests: 0 };
      layer.byName.set(name, made);
      layer.nodes.push(made);
    }
    return layer.byName.get(name);
  };
  for (const flow of flows) {
    const skipped = depth - flow.proxies.length;
    const path = [node(0, flow.client, flow.client)];
    // Whoever comes past a proxy has a place there, too, so that lines don't cross.
    for (let at = 0; at < skipped; at += 1) path.push(node(at + 1, ` ${flow.client}${flow.verdict}`, ''));
    flow.proxies.forEach((proxy, at) => path.push(node(skipped + at + 1, proxy, shortened(proxy))));
    path.push(node(depth + 1, 'headwater', 'headwater'), node(depth + 2, flow.upstream, flow.upstream));
    path[0].rank = Math.min(path[0].rank ?? 9, skipped);
    for (const [at, from] of path.entries()) {
      from.requests += flow.requests;
      if (at + 1 < path.length) join(from, path[at + 1], flow);
    }
  }
  return layers;
}

/** Only so many clients and upstreams are drawn by name: those that are seen most, and some that forged. */
function folded(flows, most) {
  const name = (end, first) => {
    const all = new Set([...first, ...flows].map(flow => flow[end]));
    const shown = new Set([...all].slice(0, most));
    return flow => (shown.has(flow[end]) ? flow[end] : counted(all.size - most, 'other'));
  };
  const client = name('client', flows.filter(flow => flow.verdict === 'forged').slice(0, FORGED));
  const upstream = name('upstream', []);
  return flows.map(flow => ({ ...flow, client: client(flow), upstream: upstream(flow) }));
}

function join(from, to, { verdict, requests }) {
  let edge = from.out.find(known => known.to === to && known.verdict === verdict);
  if (!edge) {
    edge = { from, to, verdict, requests: 0 };
    from.out.push(edge);
    to.into.push(edge);
  }
  edge.requests += requests;
}

function sideways(width, layers) {
  const rows = Math.max(...layers.map(layer => layer.nodes.length));
  const height = Math.min(460, Math.max(190, 60 + rows * 46));
  return { isNarrow: false, from: 26, room: height - 34, height, thickness: Math.min(150, height * 0.4), start: 150, end: width - 150, slot: 38 };
}

function downwards(width, layers) {
  const height = 84 + (layers.length - 1) * 104;
  return { isNarrow: true, from: 0, room: width, height, thickness: width * 0.3, start: 60, end: height - 42, slot: 84 };
}

/** Gives every node and edge its place: `along` the way requests take, and `across` it. */
function place(layers, shape) {
  const total = layers[0].nodes.reduce((sum, node) => sum + node.requests, 0) || 1;
  for (const edge of layers.flatMap(layer => layer.nodes.flatMap(node => node.out))) {
    edge.width = Math.max(2, shape.thickness * edge.requests / total);
  }
  const sum = edges => edges.reduce((all, edge) => all + edge.width, 0);
  layers.forEach((layer, at) => {
    layer.along = shape.start + (shape.end - shape.start) * at / (layers.length - 1);
    layer.anchor = at === 0 ? 'end' : at === layers.length - 1 ? 'start' : 'middle';
    // Names give an order that stays while numbers change; further on, where the lines come from does.
    const weight = node => node.into.reduce((all, edge) => all + edge.from.across * edge.width, 0) / (sum(node.into) || 1);
    const rank = node => (at ? Math.round(weight(node)) : node.rank);
    layer.nodes.sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name, 'en', { numeric: true }));
    const slots = layer.nodes.map(node => Math.max(sum(node.into), sum(node.out), 3) + 8);
    const wanted = layer.nodes.map((node, index) => (node.label ? Math.max(slots[index], shape.slot) : slots[index]));
    const gap = Math.max(0, Math.min(24, (shape.room - wanted.reduce((a, b) => a + b, 0)) / layer.nodes.length));
    const taken = wanted.reduce((a, b) => a + b + gap, 0);
    const squeeze = Math.min(1, shape.room / taken);
    let across = shape.from + (shape.room - taken * squeeze) / 2;
    layer.nodes.forEach((node, index) => {
      const slot = (wanted[index] + gap) * squeeze;
      node.size = Math.max(sum(node.into), sum(node.out), 3);
      node.index = index;
      node.along = layer.along;
      node.across = across + slot / 2;
      node.anchor = layer.anchor;
      across += slot;
    });
  });
  for (const node of layers.flatMap(layer => layer.nodes)) {
    spread(node.out, edge => edge.to, 'leaves', node);
    spread(node.into, edge => edge.from, 'arrives', node);
  }
}

/** Puts the edges of a node side by side, in the order of what is at their other ends. */
function spread(edges, other, end, node) {
  edges.sort((a, b) => other(a).across - other(b).across || VERDICTS.indexOf(a.verdict) - VERDICTS.indexOf(b.verdict));
  let at = node.across - edges.reduce((all, edge) => all + edge.width, 0) / 2;
  for (const edge of edges) {
    edge[end] = at + edge.width / 2;
    at += edge.width;
  }
}

function line(edge, { isNarrow }) {
  const point = (along, across) => (isNarrow ? [across, along] : [along, across]).map(number => number.toFixed(1)).join();
  const [from, to] = [edge.from.along, edge.to.along];
  const middle = (from + to) / 2;
  const d = `M${point(from, edge.leaves)}C${point(middle, edge.leaves)} ${point(middle, edge.arrives)} ${point(to, edge.arrives)}`;
  return drawn('path', { d, class: `edge ${edge.verdict}`, 'stroke-width': edge.width.toFixed(1) });
}

function box(node, { isNarrow, room }) {
  const [long, half] = [node.size, node.size / 2];
  const bar = isNarrow
    ? { x: node.across - half, y: node.along - 4, width: long, height: 8 }
    : { x: node.along - 4, y: node.across - half, width: 8, height: long };
  const at = isNarrow ? below(node, room) : beside(node);
  return [
    drawn('rect', { ...bar, rx: 2, class: 'node' }),
    drawn('text', { ...at, class: 'label' }, cut(node.label, isNarrow ? 16 : 19)),
    drawn('text', { ...at, y: at.y + 13, class: 'count' }, count(node.requests)),
  ];
}

function below(node, room) {
  const half = 3.5 * node.label.length;
  // Neighbours at the top have their names at different heights, for there is room for two lines of them.
  const away = node.layer ? 18 : node.index % 2 ? -21 : -49;
  return { x: Math.max(half, Math.min(node.across, room - half)), y: node.along + away, 'text-anchor': 'middle' };
}

function beside(node) {
  const x = { end: node.along - 10, middle: node.along, start: node.along + 10 }[node.anchor];
  const y = node.anchor === 'middle' ? node.across - node.size / 2 - 18 : node.across - 1;
  return { x, y, 'text-anchor': node.anchor };
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
