// Who is calling? Puts the parts together: requests come in batches, and the screen is painted a few times a second.

import { follow, get } from './api.js';
import { count, find, say } from './dom.js';
import * as flows from './flows.js';
import * as requests from './requests.js';
import { refresh } from './state.js';

/** Between two looks at the lists, and so many of them between two of the graph. */
const PAINT_MS = 400;
const PAINTS_PER_GRAPH = 3;
const STATE_MS = 2_000;
/** Requests that are asked for at the start. */
const FIRST = 300;
/** What a rate is the mean of. */
const RATE_PAINTS = 10;

let isDirty = true;
let paints = 0;
let arrived = 0;
let isLive = false;
const arrivals = [];

function take(batch) {
  for (const request of batch) {
    flows.add(request);
    requests.add(request);
  }
  arrived += batch.length;
  isDirty = true;
}

/** Those from before, or from between two connections. */
async function catchUp() {
  const last = await get(`requests?last=${FIRST}&explain=json`);
  const missed = last.reverse().filter(request => request.status !== null && !requests.knows(request));
  for (const request of missed) {
    flows.add(request);
    requests.add(request);
  }
  isDirty = true;
}

function tell(isHeard, why) {
  isLive = isHeard;
  find('connection').className = isHeard ? 'live' : 'lost';
  say(find('connection'), isHeard ? 'live' : `not live: ${why}`);
  // Why that fails is why there are no events.
  catchUp().catch(() => {});
}

function paint() {
  // The total so far, at different times: there is no paint while nobody looks.
  arrivals.push([performance.now(), arrived]);
  if (arrivals.length > RATE_PAINTS) arrivals.shift();
  const [since, before] = arrivals[0];
  const rate = 1000 * (arrived - before) / Math.max(1, performance.now() - since);
  if (isLive) say(find('rate'), `${count(rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate))} requests/s`);
  requests.show();
  paints += 1;
  if (isDirty && paints % PAINTS_PER_GRAPH === 0) {
    isDirty = false;
    flows.show();
  }
}

async function look() {
  if (!document.hidden) {
    try {
      await refresh();
    } catch {
      // The stream says what is wrong.
    }
  }
  setTimeout(look, STATE_MS);
}

setInterval(() => document.hidden || requestAnimationFrame(paint), PAINT_MS);
addEventListener('resize', () => { isDirty = true; });
find('flows').addEventListener('toggle', () => flows.show());
look();
follow(take, tell);
