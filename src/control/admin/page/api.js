// What the page asks of the process, with the token where one is wanted.

import { find, say } from './dom.js';

const KEY = 'headwater-token';
/** Bearer tokens as RFC 6750 has them. */
const WORD = /^[\w.~+/=-]+$/;
/** The process says something every 15 s, if only that nothing is new. */
const SILENCE_MS = 40_000;
const RETRY_MS = [1_000, 2_000, 5_000, 10_000];

let asking;

/** Asks, and again with a token when that is what is missing. */
export async function ask(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(`/api/v1/${path}`, { ...options, headers });
    if (response.status !== 401) return response;
    if (token === sessionStorage.getItem(KEY)) {
      asking ??= askForToken(token !== null).finally(() => { asking = null; });
      await asking;
    }
  }
}

/** The JSON of an answer; throws what the process says instead. */
export async function get(path) {
  const response = await ask(path);
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

/** Hands over requests as they end, many at a time; never ends. `tell` hears whether it hears anything. */
export async function follow(take, tell) {
  for (let failures = 0; ; failures += 1) {
    let why = 'the process closed the connection';
    try {
      let hears = false;
      for await (const events of stream()) {
        if (!hears) tell(true);
        hears = true;
        failures = 0;
        if (events.length) take(events);
      }
    } catch (error) {
      why = error.message;
    }
    tell(false, why);
    await new Promise(done => setTimeout(done, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
  }
}

/** EventSource can show no token, so this reads the stream itself. */
async function* stream() {
  const silence = new AbortController();
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(new Error('nothing was heard for a while')), SILENCE_MS);
  };
  wait();
  try {
    const response = await ask('events', { signal: silence.signal });
    if (!response.ok) throw new Error((await response.text()).trim());
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      wait();
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop();
      yield blocks.flatMap(event);
    }
  } finally {
    clearTimeout(timer);
  }
}

function event(block) {
  const data = block.startsWith('event: request\n') && block.split('\ndata: ')[1];
  return data ? [JSON.parse(data)] : [];
}

function askForToken(wasWrong) {
  const dialog = find('token');
  const form = dialog.querySelector('form');
  const problem = form.querySelector('[role=alert]');
  say(problem, wasWrong ? 'That is not the token.' : '');
  dialog.showModal();
  return new Promise(done => {
    // Without it there is nothing to go back to.
    dialog.oncancel = event => event.preventDefault();
    dialog.onclose = () => dialog.showModal();
    form.onsubmit = event => {
      event.preventDefault();
      const token = form.elements.token.value.trim();
      if (!WORD.test(token)) {
        say(problem, 'A token is one word of letters, digits and -._~+/=');
        return;
      }
      sessionStorage.setItem(KEY, token);
      form.reset();
      dialog.onclose = null;
      dialog.close();
      done();
    };
  });
}
