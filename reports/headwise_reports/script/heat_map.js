/** The heat map of one head on one window: overview, zoom window, the value of a cell, the largest as a table. */
import { Overview } from "./overview.js";
import { Scale } from "./scale.js";
import { formatWeight, shown, spoken, topOfScale } from "./words.js";
import { Zoom } from "./zoom.js";

const LISTED = 20;

export class HeatMap {
  constructor(selection, heads) {
    this.selection = selection;
    this.heads = heads;
    this.said = document.getElementById("cell-said");
    this.table = document.getElementById("largest");
    const choose = (query, key) => selection.chooseQuery(query, key);
    this.zoom = new Zoom(document.getElementById("zoom"), {
      choose,
      point: (cell) => this.#say(cell),
      stepHead: (step) => selection.stepHead(step),
    });
    this.overview = new Overview((query, key) => {
      this.zoom.centre(query, key);
      choose(query, key);
    });
    this.table.closest("details").addEventListener("toggle", () => this.#list());
    new ResizeObserver(() => this.weights && this.show(this.weights)).observe(this.zoom.element);
  }

  show(weights) {
    this.weights = weights;
    const scale = Scale.current();
    const { query, text: window } = this.selection;
    this.key = this.selection.key ?? weights.strongest(query, 1)[0] ?? 0;
    this.overview.show(weights, scale);
    this.overview.mark(this.zoom.show({ window, weights, scale, query, key: this.key }));
    scale.drawLegend(document.getElementById("heat-map-legend"));
    document.getElementById("heat-map-most").textContent = topOfScale(weights);
    const name = this.heads[this.selection.head].name;
    document.getElementById("heat-map-head").textContent = name;
    this.overview.canvas.setAttribute("aria-label", `All weights of ${name} in ${window.document}, window ${window.number}`);
    this.zoom.canvas.setAttribute("aria-label", `The weights of ${name} around the chosen cell`);
    this.#say(null);
    this.#list();
  }

  /** Says the value of a cell; of the chosen one where the pointer is over none. */
  #say(cell) {
    const [query, key] = cell ?? [this.selection.query, this.key];
    const { text: window } = this.selection;
    const value = this.weights.sees(query, key)
      ? `${formatWeight(this.weights.weight(query, key))} (by chance ${formatWeight(1 / this.weights.visible(query))})`
      : "not visible";
    this.said.textContent =
      `${spoken(window, query)} (${window.first + query}) → ${spoken(window, key)} (${window.first + key}): ${value}`;
  }

  #list() {
    if (!this.table.closest("details").open || !this.weights) return;
    const { text: window } = this.selection;
    const rows = this.weights.largestPairs(LISTED).map(([query, key]) => {
      const row = document.createElement("tr");
      const cells = [
        [shown(window, query), window.language],
        [String(window.first + query), ""],
        [shown(window, key), window.language],
        [String(window.first + key), ""],
        [formatWeight(this.weights.weight(query, key)), ""],
      ];
      for (const [text, language] of cells) {
        const cell = document.createElement("td");
        cell.textContent = text;
        if (language) cell.lang = language;
        row.append(cell);
      }
      return row;
    });
    this.table.replaceChildren(...rows);
  }
}
