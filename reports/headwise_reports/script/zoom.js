/** The zoom window of a heat map: as many cells as fit with the tokens readable on both axes. */
import { shown } from "./words.js";

const CELL_SIZE = 22; // CSS pixels
const LABEL_FONT = 14;
const LONGEST_LABEL = 76;
const MOST_ROWS = 26;

export class Zoom {
  constructor(element, actions) {
    this.element = element;
    this.actions = actions;
    this.canvas = element.querySelector("canvas");
    this.corner = { row: 0, column: 0 };
    this.canvas.addEventListener("pointermove", (event) => actions.point(this.#cell(event)));
    this.canvas.addEventListener("pointerleave", () => actions.point(null));
    this.canvas.addEventListener("click", (event) => {
      const cell = this.#cell(event);
      if (cell) actions.choose(...cell);
    });
    element.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Shows the cells around the chosen one; a step out of sight scrolls, a leap centres. Returns what is shown. */
  show({ window, weights, scale, query, key }) {
    Object.assign(this, { window, weights, scale, query, key });
    const context = this.canvas.getContext("2d");
    this.#measure(context);
    this.corner.row = this.#moved(this.corner.row, query, this.rows, window.queries);
    this.corner.column = this.#moved(this.corner.column, key, this.columns, window.keys);
    this.#draw(context);
    return { row: this.corner.row, rows: this.rows, column: this.corner.column, columns: this.columns };
  }

  /** Puts the chosen cell in the middle at the next showing. */
  centre(query, key) {
    this.corner = { row: query - Math.floor(this.rows / 2), column: key - Math.floor(this.columns / 2) };
  }

  #moved(first, chosen, count, all) {
    const leap = chosen < first - 1 || chosen > first + count;
    const near = leap ? chosen - Math.floor(count / 2) : Math.max(chosen - count + 1, Math.min(first, chosen));
    return Math.max(0, Math.min(near, all - count));
  }

  #measure(context) {
    this.font = `${LABEL_FONT}px ${getComputedStyle(this.element).fontFamily}`;
    context.font = this.font;
    const widest = Math.max(...this.window.texts.map((text) => context.measureText(text).width), LABEL_FONT);
    this.upright = widest <= CELL_SIZE;
    this.margin = Math.min(widest, LONGEST_LABEL) + 10;
    const room = Math.floor((this.element.clientWidth - this.margin - 1) / CELL_SIZE);
    this.columns = Math.max(1, Math.min(this.window.keys, room));
    this.rows = Math.max(1, Math.min(this.window.queries, room, MOST_ROWS));
  }

  #draw(context) {
    const ratio = devicePixelRatio;
    const width = this.margin + this.columns * CELL_SIZE + 1;
    const height = this.margin + this.rows * CELL_SIZE + 1;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    context.scale(ratio, ratio);
    context.font = this.font;
    context.textBaseline = "middle";
    const style = getComputedStyle(this.element);
    this.ink = style.color;
    this.accent = style.getPropertyValue("--accent");
    for (let row = 0; row < this.rows; row++) this.#drawRow(context, row);
    for (let column = 0; column < this.columns; column++) this.#drawKey(context, column);
    context.strokeStyle = this.ink;
    context.lineWidth = 2;
    const [left, top] = [this.#left(this.key - this.corner.column), this.#left(this.query - this.corner.row)];
    context.strokeRect(left, top, CELL_SIZE - 1, CELL_SIZE - 1);
  }

  #left(cell) {
    return this.margin + cell * CELL_SIZE;
  }

  #drawRow(context, row) {
    const query = this.corner.row + row;
    const top = this.#left(row);
    context.textAlign = "right";
    this.#label(context, query, query === this.query, this.margin - 6, top + CELL_SIZE / 2);
    for (let column = 0; column < this.columns; column++) {
      const key = this.corner.column + column;
      if (!this.weights.sees(query, key)) continue;
      context.fillStyle = this.scale.colour(this.scale.place(this.weights.weight(query, key), this.weights.top));
      context.fillRect(this.#left(column), top, CELL_SIZE - 1, CELL_SIZE - 1);
    }
  }

  #drawKey(context, column) {
    const key = this.corner.column + column;
    context.save();
    context.translate(this.#left(column) + CELL_SIZE / 2, this.margin - 6);
    if (!this.upright) context.rotate(-Math.PI / 2);
    context.textAlign = this.upright ? "center" : "left";
    this.#label(context, key, key === this.key, 0, this.upright ? -LABEL_FONT / 2 : 0);
    context.restore();
  }

  #label(context, place, chosen, x, y) {
    context.fillStyle = chosen ? this.accent : this.ink;
    context.fillText(shown(this.window, place), x, y, LONGEST_LABEL);
  }

  /** The [query, key] under a pointer; null over the labels. */
  #cell({ offsetX, offsetY }) {
    const [column, row] = [offsetX, offsetY].map((at) => Math.floor((at - this.margin) / CELL_SIZE));
    if (row < 0 || column < 0 || row >= this.rows || column >= this.columns) return null;
    return [this.corner.row + row, this.corner.column + column];
  }

  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.shiftKey && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      event.preventDefault();
      this.actions.stepHead(event.key === "ArrowLeft" ? -1 : 1);
      return;
    }
    const steps = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      PageUp: [-this.rows, 0],
      PageDown: [this.rows, 0],
      Home: [0, -this.window.keys],
      End: [0, this.window.keys],
    };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    this.actions.choose(this.query + step[0], this.key + step[1]);
  }
}
