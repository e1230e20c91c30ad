/** A whole matrix as a small picture: where it has more cells than pixels, a pixel shows its largest cell. */

/** The largest byte of each of size x size patches (fewer where the matrix is smaller), row by row. */
export function pooled(codes, queries, keys, size) {
  const rows = Math.min(size, queries);
  const columns = Math.min(size, keys);
  const largest = new Uint8Array(rows * columns);
  for (let query = 0; query < queries; query++) {
    const row = Math.floor((query * rows) / queries) * columns;
    for (let key = 0; key < keys; key++) {
      const place = row + Math.floor((key * columns) / keys);
      const code = codes[query * keys + key];
      if (code > largest[place]) largest[place] = code;
    }
  }
  return { rows, columns, largest };
}

/** Draws one head's weights on a canvas of at most `size` pixels a side; the style sheet gives its size on the page. */
export function drawMatrix(canvas, weights, scale, size) {
  const { rows, columns, largest } = pooled(weights.codes, weights.queries, weights.keys, size);
  const colours = Array.from({ length: 256 }, (_, code) => {
    return scale.table[scale.place(weights.largest * (code / 255) ** 2, weights.top)];
  });
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  largest.forEach((code, place) => image.data.set([...colours[code], 255], place * 4));
  context.putImageData(image, 0, 0);
}
