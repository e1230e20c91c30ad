/** How numbers and tokens are put in words. */

export const PADDING = "␣";

/** A weight as the rest of the page writes shares: two digits after the point, four where that would show nothing. */
export function formatWeight(weight) {
  if (weight > 0 && weight < 0.00005) return "under 0.0001";
  return weight.toFixed(weight > 0 && weight < 0.01 ? 4 : 2);
}

/** The weight at the dark end of a head's scale. */
export function topOfScale(weights) {
  return weights.top < weights.largest ? `${formatWeight(weights.top)} and more` : formatWeight(weights.top);
}

/** The token at a place of a window, for the eye: padding has a sign of its own. */
export function shown(window, place) {
  return window.texts[place] ?? PADDING;
}

/** The token at a place of a window, for the ear. */
export function spoken(window, place) {
  return window.texts[place] ?? "padding";
}

/** Where a key stands as seen from a query: itself, 3 back, 2 ahead. */
export function distance(query, key) {
  if (key === query) return "itself";
  return key < query ? `${query - key} back` : `${key - query} ahead`;
}
