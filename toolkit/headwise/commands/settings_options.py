"""The options that say what a run is, shared by `headwise run` and `headwise train`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from headwise.errors import SettingsError

if TYPE_CHECKING:
    from headwise.settings import RunSettings

RECIPE_OPTIONS = ("layers", "heads", "width", "context", "steps", "vocabulary")
"""Settings of recipes that have an option of their own; the others are reached by --set."""


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument CORPUS and every option that a run depends on."""
    options = [
        click.argument("corpus", required=False),
        click.option(
            "--output", "-o", type=click.Path(path_type=Path), help="Run folder [default: runs/CORPUS-RECIPE]"
        ),
        click.option("--config", type=click.Path(path_type=Path), help="Settings as a TOML file; options win over it."),
        click.option(
            "--recipe", "-r", help="Model and how it is trained, by name (see headwise plugins) [default: reader]"
        ),
        click.option("--seed", type=int, help="Seed of everything random [default: 0]"),
        click.option("--device", help="auto, cpu, cuda or mps [default: auto]"),
        click.option(
            "--tokenizer",
            help="How the text is cut into tokens, by name [default: character, without white space]",
        ),
        click.option("--split", help="What a document is in a .txt file: file, paragraph or line [default: file]"),
        click.option("--column", help="Column that holds the text, in a table [default: text]"),
        click.option("--keep", help="Windows whose attention is kept in full: all, sample or none [default: sample]"),
        click.option("--layers", type=int, help="Layers of the model."),
        click.option("--heads", type=int, help="Heads of a layer."),
        click.option("--width", type=int, help="Width of the model."),
        click.option("--context", type=int, help="Tokens that the model reads at once."),
        click.option("--steps", type=int, help="Training steps."),
        click.option("--vocabulary", type=int, help="Most frequent tokens that the model knows."),
        click.option("--watch-every", type=int, metavar="STEPS", help="Look at the heads while training, so often."),
        click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other setting of the recipe."),
        click.option(
            "--rules", help="Rule set that gives the roles, by name (see headwise plugins) [default: headwise]"
        ),
        click.option("--confidence", type=float, help="Confidence of the intervals [default: 0.95]"),
        click.option("--resamples", type=int, help="Bootstrap resamples [default: 2000]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def settings_of(config: Path | None, given: dict[str, Any]) -> RunSettings:
    """Put the TOML file and the given options together and validate them.

    Raises:
        SettingsError: everything that is wrong with the settings, at once.
    """
    from headwise.registry import installed
    from headwise.settings import RunSettings, read_toml, validated

    values = read_toml(config) if config else {}
    recipe = {"name": RunSettings().recipe_name} | _recipe_table(values.get("recipe", {})) | _more(given.pop("more"))
    for name, value in given.items():
        if value is None:
            continue
        if name == "recipe":
            recipe["name"] = value
        else:
            (recipe if name in RECIPE_OPTIONS else values)[name] = value
    chosen = installed().recipe(str(recipe["name"]))
    problems = []
    for model, part, what in (
        (chosen.settings, {name: value for name, value in recipe.items() if name != "name"}, f"recipe '{chosen.name}'"),
        (RunSettings, values | {"recipe": recipe}, "run"),
    ):
        try:
            settings = validated(model, part, what)
        except SettingsError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError("\n".join(problems))
    return cast("RunSettings", settings)


def _recipe_table(recipe: object) -> dict[str, Any]:
    if isinstance(recipe, str):
        return {"name": recipe}
    if not isinstance(recipe, dict):
        message = f"recipe: {recipe!r} is not allowed; give the name of a recipe, or a table with its name and settings"
        raise SettingsError(message)
    return recipe


def _more(settings: tuple[str, ...]) -> dict[str, Any]:
    """Return what --set was given."""
    more = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            message = f"--set takes NAME=VALUE, not '{setting}'; for example --set dropout=0.0"
            raise SettingsError(message)
        more[name.strip().replace("-", "_")] = toml_value(value.strip())
    return more


def default_output(settings: RunSettings, seeds: int | None = None) -> Path:
    """Return the folder of a run, or of several seeds, that was given none."""
    name = Path(settings.corpus).stem or "corpus"
    return Path("runs") / f"{name}-{settings.recipe_name}{'' if seeds is None else '-seeds'}"


def toml_value(text: str) -> Any:
    """Return what a text says as a TOML value; the text itself where it is none.

    >>> toml_value("0.5"), toml_value('["天", "龍"]'), toml_value("reader")
    (0.5, ['天', '龍'], 'reader')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
