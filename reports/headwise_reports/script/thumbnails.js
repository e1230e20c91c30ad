/** Small pictures of all heads to choose from, drawn when they come near the view. */
import { drawMatrix } from "./matrix_image.js";
import { Scale } from "./scale.js";

const THUMBNAIL = 96; // pixels a side, at most

export class Thumbnails {
  constructor(selection, heads) {
    this.selection = selection;
    this.heads = heads;
    this.group = document.getElementById("thumbnails");
    this.observer = new IntersectionObserver((entries) => this.#onSight(entries), { rootMargin: "200px" });
    this.group.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Makes a picture for each head of the window. */
  layOut() {
    this.observer.disconnect();
    this.buttons = new Map(this.selection.heads.map((head) => [head, this.#button(head)]));
    this.group.replaceChildren(...this.buttons.values());
    for (const button of this.buttons.values()) this.observer.observe(button);
    this.show();
  }

  /** Marks the chosen head; it alone is reached by the tab key, the others from there by the arrows. */
  show() {
    for (const [head, button] of this.buttons) {
      const chosen = head === this.selection.head;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
  }

  #button(head) {
    const button = document.createElement("button");
    const canvas = document.createElement("canvas");
    const name = document.createElement("span");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.dataset.head = head;
    name.textContent = this.heads[head].name;
    canvas.setAttribute("aria-hidden", "true");
    button.append(canvas, name);
    button.addEventListener("click", () => this.selection.chooseHead(head));
    return button;
  }

  async #onSight(entries) {
    const scale = Scale.current();
    const { window } = this.selection;
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      this.observer.unobserve(target);
      const weights = await this.selection.weights.of(window, Number(target.dataset.head));
      drawMatrix(target.querySelector("canvas"), weights, scale, THUMBNAIL);
    }
  }

  #onKey(event) {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.selection.stepHead(step);
    this.buttons.get(this.selection.head).focus();
  }
}
