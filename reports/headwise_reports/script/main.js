/** Brings the page to life: one selection, and the views that show it. */
import { Choosers } from "./choosers.js";
import { Exemplars } from "./exemplars.js";
import { HeadFilter } from "./head_filter.js";
import { HeadMap } from "./head_map.js";
import { HeatMap } from "./heat_map.js";
import { ReadingView } from "./reading.js";
import { Scale } from "./scale.js";
import { Selection } from "./selection.js";
import { SideBySide } from "./side_by_side.js";
import { Thumbnails } from "./thumbnails.js";
import { Weights } from "./weights.js";

async function start({ windows, heads, first_head: first, noun }) {
  document.getElementById("explorer").hidden = false;
  await document.fonts.ready;
  const weights = new Weights(windows);
  const selection = new Selection(windows, weights, first);
  const reading = new ReadingView(selection, heads, noun);
  const sideBySide = new SideBySide(selection, heads);
  const heatMap = new HeatMap(selection, heads);
  const thumbnails = new Thumbnails(selection, heads);

  const show = async () => {
    const { window, head } = selection;
    const chosen = await weights.of(window, head);
    if (window !== selection.window || head !== selection.head) return; // chosen anew meanwhile
    reading.show(chosen);
    heatMap.show(chosen);
    sideBySide.redraw();
    thumbnails.show();
  };
  const layOut = () => [reading, sideBySide, thumbnails].forEach((view) => view.layOut());

  new Choosers(selection, heads, noun);
  selection.addEventListener("change", ({ detail }) => {
    if (detail === "window") layOut();
    show();
  });
  Scale.onChange(() => {
    thumbnails.layOut();
    show();
  });
  layOut();
  await show();
}

async function startExemplars({ exemplars, heads, first_head: first, noun }) {
  const view = new Exemplars(exemplars, heads, noun, first);
  Scale.onChange(() => view.redraw());
  await view.show();
  return view;
}

const data = JSON.parse(document.getElementById("data").textContent);
if (data.windows.length) await start(data);
const exemplars = data.exemplars.windows.length ? await startExemplars(data) : null;
if (document.getElementById("head-table")) {
  new HeadFilter();
  new HeadMap(exemplars);
}
document.documentElement.dataset.ready = "true";
