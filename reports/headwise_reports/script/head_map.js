/** The overview of many heads: the sentence of the one under the pointer or the keyboard, and ways to its details. */

function link(text, action) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "to-reading";
  button.textContent = text;
  button.addEventListener("click", action);
  return button;
}

export class HeadMap {
  constructor(exemplars) {
    this.exemplars = exemplars;
    this.said = document.getElementById("map-said");
    this.cells = [...document.querySelectorAll(".head-map td[data-head]")];
    this.rows = [...document.querySelectorAll(".head-map tbody tr")].map((row) => [...row.querySelectorAll("td")]);
    this.chosen = this.cells.find((cell) => cell.classList.contains("detailed")) ?? this.cells[0];
    this.#enter(this.chosen);
    this.#say(this.chosen);
    for (const map of document.querySelectorAll(".head-map")) {
      map.addEventListener("pointerover", (event) => this.#at(event, (cell) => this.#say(cell)));
      map.addEventListener("pointerleave", () => this.#say(this.chosen));
      map.addEventListener("click", (event) => this.#at(event, (cell) => this.choose(cell)));
      map.addEventListener("keydown", (event) => this.#onKey(event));
      map.addEventListener("focusin", (event) => this.#at(event, (cell) => this.#say(cell)));
    }
  }

  choose(cell) {
    this.#enter(cell);
    cell.focus();
    this.#say(cell);
  }

  #at(event, action) {
    const cell = event.target.closest("td[data-head]");
    if (cell) action(cell);
  }

  /** Makes one cell the one that the tab key reaches. */
  #enter(cell) {
    for (const other of [this.chosen, cell]) {
      other.tabIndex = -1;
      other.removeAttribute("aria-selected");
    }
    this.chosen = cell;
    cell.tabIndex = 0;
    cell.setAttribute("aria-selected", "true");
  }

  /** Says what a head does, in the words of its row of the table. */
  #say(cell) {
    if (cell === this.told) return;
    this.told = cell;
    const head = cell.dataset.head;
    const row = document.getElementById(`head-${head}`);
    const [role, sentence, cost] = [...row.cells].slice(1);
    const line = document.createElement("p");
    const module = cell.parentElement.firstElementChild.title;
    line.append(role.firstElementChild.cloneNode(true), " ", sentence.firstChild.textContent.trim());
    if (cost?.textContent) line.append(` Loss without it: ${cost.textContent}.`);
    if (module) line.append(` Its layer is ${module}.`);
    const ways = document.createElement("p");
    const reading = sentence.querySelector("button");
    const rows = this.exemplars?.has(Number(head));
    if (reading) ways.append(link("Read with it", () => reading.click()), " ");
    if (rows) ways.append(link("Where to look", () => this.exemplars.choose(Number(head))), " ");
    ways.append(link("In the table", () => this.#inTable(row)));
    this.said.replaceChildren(line, ways);
  }

  #inTable(row) {
    document.getElementById("head-table").open = true;
    row.hidden = false;
    row.scrollIntoView({ block: "center" });
  }

  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.said.querySelector("button")?.focus();
      return;
    }
    const row = this.rows.findIndex((cells) => cells.includes(this.chosen));
    const column = this.rows[row].indexOf(this.chosen);
    const places = {
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      Home: [row, 0],
      End: [row, this.rows[row].length - 1],
      PageUp: [0, column],
      PageDown: [this.rows.length - 1, column],
    };
    const place = places[event.key];
    if (!place) return;
    event.preventDefault();
    const cells = this.rows[Math.max(0, Math.min(place[0], this.rows.length - 1))];
    this.choose(cells[Math.max(0, Math.min(place[1], cells.length - 1))]);
  }
}
