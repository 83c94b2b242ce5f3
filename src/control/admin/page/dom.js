// Elements, made without markup: what comes from the network is text here and never anything else.

const SVG = 'http://www.w3.org/2000/svg';

export const find = id => document.getElementById(id);

/** An HTML element; children are elements or text. */
export function el(name, attributes, ...children) {
  return made(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function drawn(name, attributes, ...children) {
  return made(document.createElementNS(SVG, name), attributes, children);
}

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Sets a text, if it isn't the one that is there. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A table of rows that are lists of cells: text or elements. Names of columns that begin with # are those of numbers. */
export function table(label, columns, rows) {
  const kind = column => column.startsWith('#') ? { class: 'number' } : {};
  const head = columns.map(column => el('th', { scope: 'col', ...kind(column) }, column.replace('#', '')));
  const body = rows.map(row => el('tr', null, ...row.map((cell, index) => el('td', kind(columns[index]), cell))));
  return el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label },
    el('table', null, el('thead', null, el('tr', null, ...head)), el('tbody', null, ...body)));
}

/** Terms and what they stand for. */
export function terms(pairs) {
  return el('dl', null, ...pairs.flatMap(([term, ...what]) => [el('dt', null, term), el('dd', null, ...what)]));
}

const NUMBERS = new Intl.NumberFormat('en');

export const count = number => NUMBERS.format(number);

/** Of one thing, or of several. */
export const counted = (number, one, several = `${one}s`) => `${count(number)} ${number === 1 ? one : several}`;

export const clock = time => new Date(time).toLocaleTimeString('en-GB');

/** The time of day, and the day where it isn't today's. */
export function moment(time) {
  const date = new Date(time);
  const day = date.toDateString() === new Date().toDateString() ? '' : `${date.toLocaleDateString('en-CA')} `;
  return day + clock(time);
}
