/** The overview of a heat map: the whole matrix, with a frame around what the zoom window shows. */
import { drawMatrix } from "./matrix_image.js";

export class Overview {
  constructor(onMove) {
    this.onMove = onMove;
    this.canvas = document.getElementById("overview");
    this.frame = document.getElementById("overview-frame");
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.#move(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.canvas.hasPointerCapture(event.pointerId)) this.#move(event);
    });
  }

  show(weights, scale) {
    this.weights = weights;
    drawMatrix(this.canvas, weights, scale, Math.max(1, Math.round(this.canvas.clientWidth * devicePixelRatio)));
  }

  /** Puts the frame around these rows and columns. */
  mark({ row, rows, column, columns }) {
    const { queries, keys } = this.weights;
    Object.entries({ top: row / queries, height: rows / queries, left: column / keys, width: columns / keys }).forEach(
      ([side, share]) => (this.frame.style[side] = `${100 * share}%`),
    );
  }

  #move(event) {
    const box = this.canvas.getBoundingClientRect();
    const query = Math.floor(((event.clientY - box.top) / box.height) * this.weights.queries);
    const key = Math.floor(((event.clientX - box.left) / box.width) * this.weights.keys);
    this.onMove(query, key);
  }
}
