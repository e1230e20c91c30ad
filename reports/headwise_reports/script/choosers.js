/** The bar above the reading view and the heat maps: document, window and head. */

export function option(value, text) {
  const element = document.createElement("option");
  element.value = String(value);
  element.textContent = text;
  return element;
}

export class Choosers {
  constructor(selection, heads, noun) {
    this.selection = selection;
    this.heads = heads;
    this.noun = noun;
    this.document = document.getElementById("document-choice");
    this.window = document.getElementById("window-choice");
    this.head = document.getElementById("head-choice");
    const names = [...new Set(selection.windows.map((window) => window.document))];
    this.document.replaceChildren(...names.map((name) => option(name, name)));
    this.document.addEventListener("change", () => this.#chooseDocument());
    this.window.addEventListener("change", () => selection.chooseWindow(Number(this.window.value)));
    this.head.addEventListener("change", () => selection.chooseHead(Number(this.head.value)));
    document.getElementById("previous-head").addEventListener("click", () => selection.stepHead(-1));
    document.getElementById("next-head").addEventListener("click", () => selection.stepHead(1));
    for (const button of document.querySelectorAll("button.to-reading")) {
      button.hidden = false;
      button.addEventListener("click", () => this.#read(Number(button.dataset.head)));
    }
    selection.addEventListener("change", () => this.show());
    this.show();
  }

  show() {
    const { selection } = this;
    this.document.value = selection.text.document;
    const choices = selection.windows.flatMap((window, place) =>
      window.document === selection.text.document ? [option(place, this.#windowName(window))] : [],
    );
    this.window.replaceChildren(...choices);
    this.window.value = String(selection.window);
    this.window.closest("label").hidden = choices.length < 2 && selection.text.count < 2;
    this.head.replaceChildren(...selection.heads.map((head) => option(head, this.#headName(head))));
    this.head.value = String(selection.head);
  }

  #windowName(window) {
    const last = window.first + window.texts.length - 1;
    return `${this.noun}s ${window.first} to ${last}`;
  }

  #headName(head) {
    const { name, role } = this.heads[head];
    return role ? `${name} · ${role}` : name;
  }

  #chooseDocument() {
    const { windows } = this.selection;
    this.selection.chooseWindow(windows.findIndex((window) => window.document === this.document.value));
  }

  /** Goes from the table of heads to the reading view; a window that carries the head is chosen where this one lacks it. */
  #read(head) {
    const { selection } = this;
    if (!selection.heads.includes(head)) {
      const place = selection.windows.findIndex((_, window) => selection.weights.has(window, head));
      if (place >= 0) selection.chooseWindow(place);
    }
    selection.chooseHead(head);
    document.getElementById("reading").scrollIntoView();
    document.getElementById("text").focus({ preventScroll: true });
  }
}
