/** The table of many heads: which of them are listed, by role and by words. */

export class HeadFilter {
  constructor() {
    this.rows = [...document.querySelectorAll("#head-table tbody tr")];
    this.role = document.getElementById("filter-role");
    this.words = document.getElementById("filter-words");
    document.getElementById("head-filter").hidden = false;
    this.role.addEventListener("change", () => this.show());
    this.words.addEventListener("input", () => this.show());
    document.getElementById("head-table").addEventListener("toggle", () => this.show());
  }

  /** Lists the heads that have the chosen role and every word. */
  show() {
    const words = this.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of this.rows) {
      const text = row.textContent.toLowerCase();
      const role = !this.role.value || row.cells[1].textContent.trim() === this.role.value;
      row.hidden = !(role && words.every((word) => text.includes(word)));
      shown += row.hidden ? 0 : 1;
    }
    document.getElementById("filter-said").textContent = `${shown} of ${this.rows.length} heads`;
  }
}
