/** The weights that the page carries, decoded head by head when they are first asked for. */

export const LEVELS = 255;
/** Share of a head's weights that may lie above the darkest shade: a few early rows see so little that they hold 1. */
const ABOVE_SCALE = 0.005;

/** What an element holds deflated and in base64, as a response. */
export function inflated(element) {
  const packed = Uint8Array.from(atob(element.textContent.trim()), (character) => character.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")));
}

/** One head's weights on one window. A byte is 255 times the square root of the weight's share of the largest. */
export class HeadWeights {
  constructor(codes, largest, window) {
    this.codes = codes;
    this.largest = largest;
    this.queries = window.queries;
    this.keys = window.keys;
    this.causal = window.causal;
    /** The weight that the darkest shade of a heat map stands for. */
    this.top = largest * (this.#topCode() / LEVELS) ** 2;
  }

  /** How many keys a query can see. */
  visible(query) {
    return this.causal ? query + 1 : this.keys;
  }

  sees(query, key) {
    return !this.causal || key <= query;
  }

  weight(query, key) {
    return this.largest * (this.codes[query * this.keys + key] / LEVELS) ** 2;
  }

  /** The keys of one query by weight, the strongest first; at most `count`, those with weight alone. */
  strongest(query, count) {
    const row = this.codes.subarray(query * this.keys, (query + 1) * this.keys);
    return Array.from(row.keys())
      .filter((key) => row[key] > 0)
      .sort((one, other) => row[other] - row[one] || one - other)
      .slice(0, count);
  }

  /** The (query, key) of the largest weights; rows that see one key alone are left out, for they must hold 1. */
  largestPairs(count) {
    const first = this.causal ? this.keys : 0;
    const counts = new Uint32Array(LEVELS + 1);
    for (let place = first; place < this.codes.length; place++) counts[this.codes[place]]++;
    let least = LEVELS;
    for (let found = counts[least]; found < count && least > 1; found += counts[least]) least--;
    const places = [];
    for (let place = first; place < this.codes.length; place++) if (this.codes[place] >= least) places.push(place);
    places.sort((one, other) => this.codes[other] - this.codes[one] || one - other);
    return places.slice(0, count).map((place) => [Math.floor(place / this.keys), place % this.keys]);
  }

  #topCode() {
    const counts = new Uint32Array(LEVELS + 1);
    for (const code of this.codes) counts[code]++;
    const cells = this.causal ? (this.queries * (this.queries + 1)) / 2 : this.queries * this.keys;
    let code = LEVELS;
    for (let above = counts[code]; above < cells * ABOVE_SCALE && code > 1; above += counts[code]) code--;
    return code;
  }
}

/** Everything that is embedded, by the place of a window and of a head. */
export class Weights {
  #elements = new Map();
  #decoded = new Map();

  constructor(windows) {
    this.windows = windows;
    for (const element of document.querySelectorAll("script.weights")) {
      this.#elements.set(`${element.dataset.window} ${element.dataset.head}`, element);
    }
  }

  has(window, head) {
    return this.#elements.has(`${window} ${head}`);
  }

  /** A promise of one head's weights on one window. */
  of(window, head) {
    const name = `${window} ${head}`;
    if (!this.#decoded.has(name)) this.#decoded.set(name, this.#decode(this.#elements.get(name), window));
    return this.#decoded.get(name);
  }

  async #decode(element, window) {
    const codes = new Uint8Array(await inflated(element).arrayBuffer());
    return new HeadWeights(codes, Number(element.dataset.largest), this.windows[window]);
  }
}
