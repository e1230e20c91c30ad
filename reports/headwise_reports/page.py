"""The page: everything in one file that opens offline and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from headwise.fonts import chinese_font
from headwise.format import format_value
from headwise.summary import HeadSummary, summarize
from headwise_reports import sentences
from headwise_reports.attention_data import BUDGET, EmbeddedAttention, embed
from headwise_reports.font_subset import font_face, subset
from headwise_reports.svg import inline_svg
from headwise_reports.text_layout import language

if TYPE_CHECKING:
    import jinja2

    from headwise.contracts import Section
    from headwise.run import Run

SCRIPTS = (
    "words", "scale", "weights", "selection", "choosers", "reading", "side_by_side", "matrix_image", "overview", "zoom",
    "thumbnails", "heat_map", "main",
)  # fmt: skip
"""The modules of the script, each after those that it imports."""
MODULE_SYNTAX = re.compile(r"^import [^;]*;\n|^export ", re.MULTILINE)
JAVASCRIPT_MARK = "␣·→"
"""Characters that the script writes by itself."""


def page(run: Run, sections: Sequence[Section]) -> str:
    """Return the page of a run as HTML; the same run and sections give the same text."""
    from markupsafe import Markup

    templates = _templates()
    body = templates.get_template("body.html").render(_context(run, sections))
    style, script = _style(body), _script()
    return templates.get_template("page.html").render(
        title=f"{run.manifest['steps']['tokens']['corpus']}: what each attention head does",
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704  # our own, and nothing of it comes from a run
        body=Markup(body),  # noqa: S704  # the template above has escaped it
        script=Markup(script),  # noqa: S704  # our own
    )


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("headwise_reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `tojson` escapes < > & and ' for HTML; other characters stay, for the font is made from what is there.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    environment.filters |= {"cell": _cell, "paragraphs": _paragraphs, "lang": lambda text: language([str(text)])}
    return environment


def _context(run: Run, sections: Sequence[Section]) -> dict[str, Any]:
    heads = summarize(run)
    shown = [_section(number, section) for number, section in enumerate(sections)]
    figures = sum(len(picture["svg"]) for item in shown for picture in item["pictures"])
    embedded = embed(run, {head.name for head in heads if head.clear}, BUDGET - figures)
    return {
        "heads": heads,
        "ablated": any(head.cost for head in heads),
        "embedded": embedded,
        "data": _data(run, heads, embedded),
        "noun": sentences.noun(run),
        "lead": sentences.lead(run),
        "facts": sentences.facts(run, with_role=sum(head.clear for head in heads)),
        "padding": sentences.padding_sentences(run),
        "kept": sentences.kept_sentences(run, embedded),
        "sections": shown,
        "analyze": run.manifest["steps"]["analyze"],
        "resampled": sorted(set(run.evidence(reading=None, null=None)["method"])),
        "provenance": sentences.provenance(run),
        "failures": run.manifest["failures"],
    }


def _data(run: Run, heads: Sequence[HeadSummary], embedded: EmbeddedAttention) -> dict[str, Any]:
    """Return what the script needs, without the weights."""
    windows = [{**window.to_json(), "heads": [head.head for head in window.heads]} for window in embedded.windows]
    readable = windows[0]["heads"] if windows else [0]
    first = next((place for place in readable if heads[place].clear), readable[0])
    return {
        "windows": windows,
        "heads": [{"name": str(head.name), "role": head.role if head.clear else ""} for head in heads],
        "first_head": first,
        "noun": sentences.noun(run),
    }


def _section(number: int, section: Section) -> dict[str, Any]:
    from markupsafe import Markup

    name = f"section-{number}"
    pictures = [
        {
            "id": f"{name}-picture-{place}",
            "svg": Markup(inline_svg(picture, f"{name}-picture-{place}")),  # noqa: S704  # serialised from a parsed tree
            "description": picture.description,
        }
        for place, picture in enumerate(section.pictures)
    ]
    return {"id": name, "section": section, "pictures": pictures}


def _paragraphs(text: str) -> list[str]:
    r"""Part a text at blank lines.

    >>> _paragraphs("One.\n\nTwo,\nstill two.")
    ['One.', 'Two,\nstill two.']
    """
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def _cell(value: object) -> str:
    """Return a cell of a section's table as text."""
    return format_value(value, "") if isinstance(value, float) else str(value)


# -- style, script and what the browser may do -------------------------------------------------------------------------


def _read(*names: str) -> str:
    return files("headwise_reports").joinpath(*names).read_text(encoding="utf-8")


@cache
def _script() -> str:
    """Return all modules as one, without the lines that tie them together."""
    return "\n".join(MODULE_SYNTAX.sub("", _read("script", f"{name}.js")) for name in SCRIPTS)


def _style(body: str) -> str:
    """Return the style sheet, with a font that has every character of the page, where there is one."""
    style = _read("style.css")
    font = chinese_font()
    if font is None:
        return style
    characters = {character for character in set(body) | set(style + JAVASCRIPT_MARK) if character.isprintable()}
    return f"{font_face(subset(font, sorted(characters)))}\n{style}"


def _policy(style: str, script: str) -> str:
    """Return the content-security policy: this style and this script, pictures and fonts of the page itself."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "font-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    """Return the hash by which a policy names an inline element.

    >>> _hash("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
