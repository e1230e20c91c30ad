"""The attention of each head on each window that was kept, as a heat map with its tokens on both axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headwise.contracts import Picture, Renderer, Section
from headwise.hookspecs import hookimpl

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.path import Path

    from headwise.block import HeadName
    from headwise.run import Run

    Weights = npt.NDArray[np.float32]

DPI = 100
LARGEST_CELL, SMALLEST_CELL = 36, 4
"""Side of a cell, in pixels."""
MAP_SIDE = 2400
"""Pixels; cells shrink from there on, so that a picture can still be opened."""
LABEL_PIXELS = 11
"""Height of the smallest label that is read without effort; where cells are smaller, not every token is named."""
NUMBERED_CELL = 16
"""Cells of this size and larger hold their number."""
LONGEST_LABEL = 16
"""Characters of a token; of longer ones the rest is cut."""
MARGIN = 26
BAR_WIDTH = 16
SMALLEST_NUMBER = 0.0005
"""Weights below round to 0.0 %; their cells stay empty."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand, in pixels from the top left corner."""

    rows: int
    columns: int
    cell: int
    left: int
    top: int
    rotated: bool
    """Whether the names of the columns are turned, because some are longer than a cell."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        width = self.left + self.columns * self.cell + MARGIN + BAR_WIDTH + 60
        return max(width, 620), self.top + self.rows * self.cell + MARGIN

    @property
    def named_every(self) -> int:
        """One token of so many is named."""
        return -(-LABEL_PIXELS // self.cell)


def render(run: Run) -> Iterator[Section]:
    """Yield one section for each kept window, and head, with one picture."""
    from headwise.fonts import drawable, drawing_style

    for place, (document, window) in enumerate(run.kept.itertuples(index=False)):
        tokens = [drawable(token) or " " for token in run.window_texts(document, window)]
        for head, weights in run.matrices(document, window):
            with drawing_style():
                figure = heat_map(weights, tokens, title=f"{head}   {drawable(document)}, window {window}")
            picture = Picture(
                name=f"heat-map-{place:03d}-{document}-w{window}-{head}",
                figure=figure,
                description=_description(weights, tokens, head, document),
            )
            yield Section(title=f"{head} on {document}, window {window}", text="", pictures=(picture,))


def heat_map(weights: Weights, tokens: Sequence[str], title: str) -> Figure:
    """Draw the weights, float32 (queries, keys), with the tokens on both axes; keys beyond the tokens are padding.

    Every text of the map is drawn as outlines, all in one collection: a text object for each cell, or a tick label
    for each token, takes matplotlib a hundred times as long.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    count = min(len(tokens), weights.shape[1])
    beyond = float(weights[:, count:].sum() / max(len(weights), 1))
    shown = weights[:, :count]
    layout = _layout(len(shown), tokens[:count])
    width, height = layout.size
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes(_box(layout, layout.left, layout.top, count * layout.cell, len(shown) * layout.cell))
    norm = PowerNorm(0.5, vmin=0, vmax=max(float(shown.max(initial=0)), 1e-9))
    image = axes.imshow(np.ma.masked_equal(shown, 0), cmap=_colours(), norm=norm, interpolation="none", aspect="auto")
    axes.set(xticks=[], yticks=[], xlim=(-0.5, count - 0.5), ylim=(len(shown) - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    _name_axes(axes, layout, tokens)
    if layout.cell >= NUMBERED_CELL:
        _number_cells(axes, layout, shown, image.to_rgba(shown))
    bar = figure.add_axes(_box(layout, layout.left + count * layout.cell + MARGIN, layout.top, BAR_WIDTH,
                               min(len(shown) * layout.cell, 260)))  # fmt: skip
    figure.colorbar(image, cax=bar)
    bar.set_title("weight", fontsize=9, loc="left")
    figure.text(16 / width, 1 - 10 / height, title, va="top", fontsize=13, color="#111111")
    figure.text(16 / width, 1 - 36 / height, _legend(layout, beyond), va="top", fontsize=8.5, color="#555555")
    return figure


# -- layout ------------------------------------------------------------------------------------------------------------


def _layout(rows: int, tokens: Sequence[str]) -> Layout:
    cell = max(SMALLEST_CELL, min(LARGEST_CELL, MAP_SIDE // max(rows, len(tokens), 1)))
    size = _label_pixels(cell)
    longest = max((_outline(_cut(token)).get_extents().x1 for token in tokens), default=0) * size
    rotated = longest > max(cell, LABEL_PIXELS)
    return Layout(rows, len(tokens), cell, int(longest) + 44, int(longest if rotated else size) + 104, rotated)


def _label_pixels(cell: int) -> float:
    return max(LABEL_PIXELS, min(0.8 * cell, 15))


def _box(layout: Layout, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Return a rectangle of pixels from the top left corner as matplotlib counts it."""
    across, down = layout.size
    return left / across, 1 - (top + height) / down, width / across, height / down


def _colours() -> Any:  # noqa: ANN401  # a colour map
    import matplotlib

    colours = matplotlib.colormaps["viridis"].copy()
    colours.set_bad("#ececec")
    return colours


def _legend(layout: Layout, beyond: float) -> str:
    numbers = (
        "Numbers: weight in percent, none below 0.05."
        if layout.cell >= NUMBERED_CELL
        else "The cells are too small for numbers."
    )
    named = f" One token of {layout.named_every} is named." if layout.named_every > 1 else ""
    padding = f"\n{beyond:.1%} of the attention falls on padding and is not drawn." if beyond else ""
    return f"Rows: query. Columns: key. Grey: weight 0.\n{numbers}{named}{padding}"


# -- text as outlines --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8192)
def _outline(text: str) -> Path:
    """Return a text as an outline, 1 high where a font is, beginning at (0, 0); y goes up."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import text_to_path

    vertices, codes = text_to_path.get_text_path(FontProperties(), text)
    if len(codes) == 0:
        return Path([(0, 0)])
    return Path([(x / text_to_path.FONT_SCALE, y / text_to_path.FONT_SCALE) for x, y in vertices], codes)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def _texts(
    axes: Axes, texts: Sequence[str], places: Any, *, pixels: float, across: float, angle: float = 0, **colours: Any  # noqa: ANN401
) -> PathCollection:  # fmt: skip
    """Draw texts at these places, float (texts, 2) of the axes' data; `across` 0: begin there, 0.5: centre, 1: end."""
    import numpy as np
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    outlines = {}
    for text in dict.fromkeys(texts):
        outline = _outline(text)
        width = float(outline.get_extents().x1)
        outlines[text] = Path(outline.vertices - np.array([across * width, 0.36]), outline.codes)
    collection = PathCollection([outlines[text] for text in texts], offsets=places, offset_transform=axes.transData,
                                linewidths=0, clip_on=False, **colours)  # fmt: skip
    collection.set_transform(Affine2D().scale(pixels * 72 / DPI).rotate_deg(angle) + axes.figure.dpi_scale_trans.frozen().scale(1 / 72))
    axes.add_collection(collection, autolim=False)
    return collection


def _name_axes(axes: Axes, layout: Layout, tokens: Sequence[str]) -> None:
    """Name queries at the left and keys above."""
    import numpy as np

    pixels, gap = _label_pixels(layout.cell), 6 / layout.cell + 0.5
    rows = np.arange(0, layout.rows, layout.named_every)
    columns = np.arange(0, layout.columns, layout.named_every)
    _texts(axes, [_cut(tokens[row]) if row < len(tokens) else "" for row in rows],
           np.column_stack([np.full(len(rows), -gap), rows]), pixels=pixels, across=1, facecolors="#1a1a1a")  # fmt: skip
    height = gap if layout.rotated else gap + 0.4 * pixels / layout.cell
    _texts(axes, [_cut(tokens[column]) for column in columns],
           np.column_stack([columns, np.full(len(columns), -height)]), pixels=pixels,
           across=0 if layout.rotated else 0.5, angle=90 if layout.rotated else 0, facecolors="#1a1a1a")  # fmt: skip


def _number_cells(axes: Axes, layout: Layout, weights: Weights, colours: npt.NDArray[np.float64]) -> None:
    """Put the weight in percent in each cell; colours, float (queries, keys, 4), are those of the cells."""
    import numpy as np

    from headwise.drawing import text_colours

    rows, columns = np.nonzero(weights >= SMALLEST_NUMBER)
    if len(rows) == 0:
        return
    texts = [f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}" for percent in 100 * weights[rows, columns]]  # noqa: PLR2004
    _texts(axes, texts, np.column_stack([columns, rows]), pixels=min(0.46 * layout.cell, 11), across=0.5,
           facecolors=text_colours(colours[rows, columns]))  # fmt: skip


def _description(weights: Weights, tokens: Sequence[str], head: HeadName, document: str) -> str:
    import numpy as np

    count = min(len(tokens), weights.shape[1])
    shown = weights[:, :count]
    if shown.size == 0:
        return f"Heat map of {head} on {document}: no tokens."
    query, key = np.unravel_index(int(shown.argmax()), shown.shape)
    heaviest = int(shown.mean(0).argmax())
    return (
        f"Heat map of {head} on {document}: {len(shown)} queries by {count} keys. The largest weight, "
        f"{shown.max():.2f}, is that of query {query} ({tokens[query]}) on key {key} ({tokens[key]}); the key with most "
        f"weight over all rows is {heaviest} ({tokens[heaviest]}), {shown[:, heaviest].mean():.2f} on average."
    )


@hookimpl
def headwise_renderers() -> Iterator[Renderer]:
    """Offer the renderer."""
    yield Renderer(
        name="heat-maps",
        summary="the attention of each head on each kept window, tokens on both axes",
        render=render,
        order=100,
        on_page=False,
    )
