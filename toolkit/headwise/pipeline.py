"""The run, step by step: tokens, train, export, analyze, report. Each step can be run alone on a run folder.

A step that is done is not done again; one that was cut continues. What it wrote is recorded in run.json last.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import torch

from headwise import export, progress
from headwise.contracts import ReadOptions, Recipe
from headwise.device import choose_device, deterministic
from headwise.errors import HeadwiseError, RunFolderError, SettingsError
from headwise.failure import Failure
from headwise.measuring import analysis
from headwise.measuring.preparation import Options, merged, refuse_unknown
from headwise.models.model_store import LoadedModel, load_model, save_model
from headwise.models.training import TrainingMaterial, Watch, train
from headwise.models.untrained import built
from headwise.observing.ablation import HOWS, known_way
from headwise.observing.observation import observe
from headwise.registry import PluginWarning, Registry, installed
from headwise.run import Run
from headwise.run_folder import RunFolder
from headwise.settings import RecipeSettings, RunSettings, validated
from headwise.showing.figures import FigureFormat, write_figures
from headwise.showing.rendering import render
from headwise.text import tokenization
from headwise.text.corpus import open_corpus
from headwise.text.token_store import TokenStore
from headwise.text.vocabulary import Vocabulary
from headwise.versions import versions
from headwise.weighing import evidence, roles
from headwise.weighing.ablation_study import ablation_study
from headwise.weighing.emergence import Watcher
from headwise.weighing.held_out import text_with_losses
from headwise.weighing.resampling import Resampling


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The steps of one run, on one folder."""

    folder: RunFolder
    registry: Registry
    settings: RunSettings
    strict: bool = False
    engine: str = "serial"
    workers: int = 2
    recipe: Recipe = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", self.registry.recipe(self.settings.recipe_name))

    @classmethod
    def begin(cls, settings: RunSettings, output: Path, *, registry: Registry | None = None, **how: Any) -> Self:
        """Start a run, or continue the one that the folder holds; everything that can be refused is refused first.

        Raises:
            SettingsError, UnknownNameError, CorpusError, RunFolderError: what cannot be used, and what to do.
        """
        registry = registry or installed(strict=how.get("strict", False))
        recipe = registry.recipe(settings.recipe_name)
        corpus = partial(open_corpus, settings.corpus, ReadOptions(settings.split, settings.column), registry)
        _refuse_all(
            partial(validated, recipe.settings, settings.recipe_options, f"recipe '{recipe.name}'"),
            partial(registry.tokenizer, settings.tokenizer),
            partial(registry.role_rules, settings.rules),
            partial(registry.engine, how.get("engine", "serial")),
            partial(choose_device, settings.device),
            partial(refuse_unknown, settings.analyzers, registry),
            corpus,
        )
        folder = RunFolder.begin(output, settings.model_dump(mode="json"), versions())
        if folder.done("tokens") and tokenization.sha256(corpus()) != folder.manifest["steps"]["tokens"]["sha256"]:
            message = (
                f"the corpus {settings.corpus} is not what it was when {folder.path} was made; name another folder "
                "with --output, or remove that one"
            )
            raise RunFolderError(message)
        return cls(folder, registry, settings, **how)

    @classmethod
    def resume(cls, path: Path, *, registry: Registry | None = None, **how: Any) -> Self:
        """Take up the run in a folder, to do some step of it (again)."""
        folder = RunFolder.open(path)
        settings = validated(RunSettings, folder.manifest["settings"], "run")
        return cls(folder, registry or installed(strict=how.get("strict", False)), settings, **how)

    def run(self, report_format: str = "html") -> None:
        """Do every step that is not done yet; heads are ablated in the first way, others are left to `ablate`."""
        if not self.folder.done("tokens"):
            self.tokenize()
        if not self.folder.done("train"):
            self.train()
        if not self.folder.done("export"):
            self.export(self.settings.keep)
        known = analysis.fingerprint(self.registry.offered("analyzer"), self.settings.analyzers)
        if not self.folder.done("analyze", fingerprint=known):
            self.analyze()
        if self.recipe.losses is not None and not self.folder.done("ablate"):
            self.ablate(HOWS[:1])
        if not self.folder.done("report"):
            self.report(report_format)

    # -- the steps -------------------------------------------------------------------------------------------------

    def tokenize(self) -> None:
        """Corpus -> tokens: read the corpus, decide vocabulary and windows, write tokens.parquet."""
        corpus = open_corpus(
            self.settings.corpus, ReadOptions(self.settings.split, self.settings.column), self.registry
        )
        tokenizer = self.registry.tokenizer(self.settings.tokenizer)
        seen = tokenization.survey(corpus, tokenizer)
        options = self._recipe_settings()
        context = tokenization.resolved_context(options, self.recipe, seen.longest)
        vocabulary = Vocabulary.from_counts(seen.counts, limit=options.vocabulary)
        tokenization.write_tokens(self.folder, corpus, tokenizer, vocabulary, context, seen.tokens)
        self._finish(
            "tokens",
            ["tokens.parquet"],
            corpus=corpus.name,
            source=corpus.source,
            licence=corpus.licence,
            sha256=seen.sha256,
            documents=seen.documents,
            characters=seen.characters,
            tokens=seen.tokens,
            distinct=len(seen.counts),
            longest=seen.longest,
            context=context,
            vocabulary=len(vocabulary.tokens),
            unknown=vocabulary.unknown,
        )

    def train(self) -> None:
        """Tokens -> model: build the recipe's model and carry out its plan; continues from the last checkpoint."""
        about = self._done("tokens")
        store = TokenStore(self.folder.path / "tokens.parquet")
        vocabulary = store.vocabulary(unknown=about["unknown"], size=about["vocabulary"])
        options = self._recipe_settings().model_copy(update={"context": about["context"]})
        device, tokenizer = choose_device(self.settings.device), self.registry.tokenizer(self.settings.tokenizer)
        ids = store.ids(self.folder.work / "ids.npy")
        with deterministic():
            model = built(self.recipe, options, vocabulary, self.settings.seed).to(device)
            material = TrainingMaterial(ids, tuple(store.lengths), vocabulary, device, self.settings.seed)
            plan = self.recipe.plan(model, material, options)
            watcher = self._watcher(LoadedModel(model, self.recipe, options, vocabulary, tokenizer), store)
            watch = Watch(self.settings.watch_every, watcher.look) if self.settings.watch_every else None
            log = train(plan, model, checkpoint=self.folder.work / "checkpoint.safetensors", watch=watch)
        stage = self.folder.stage("train")
        tables = {"training.parquet": log} | ({"emergence.parquet": pa.concat_tables(watch.seen)} if watch else {})
        for name, table in tables.items():
            stage.write_table(name, table)
        files = save_model(stage, model, recipe=self.recipe.name, settings=options, vocabulary=vocabulary,
                           tokenizer=self.settings.tokenizer)  # fmt: skip
        layers, heads = _shape(model, vocabulary, device)
        self._finish(
            "train",
            [*tables, *files],
            staged=stage,
            recipe=self.recipe.name,
            settings=options.model_dump(mode="json"),
            device=str(device),
            steps=plan.steps,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            layers=layers,
            heads=heads,
            watched_windows=sum(map(len, watcher.windows.values())) if watch else 0,
        )

    def _watcher(self, loaded: LoadedModel, store: TokenStore) -> Watcher:
        """Return what looks at the heads while they are trained."""
        return Watcher(
            loaded=loaded,
            store=store,
            offered=self.registry.offered("analyzer"),
            options=self.settings.analyzers,
            rules=self.registry.role_rules(self.settings.rules),
            resampling=self._resampling,
            pad_to=self._pad_to,
            strict=self.strict,
        )

    def export(self, keep: export.Keep) -> None:
        """Blocks -> export: write the attention of the kept windows."""
        shape, about = self._done("train"), self._done("tokens")
        store = TokenStore(self.folder.path / "tokens.parquet")
        lengths = dict(zip(store.names, store.lengths, strict=True))
        kept = export.chosen_windows(lengths, about["context"], keep, shape["layers"] * shape["heads"])
        loaded = load_model(self.folder, self.registry, choose_device(self.settings.device))
        stage, files = export.export_attention(self.folder, loaded, store, kept, self._pad_to)
        total = sum(-(-length // about["context"]) for length in lengths.values())
        self._finish("export", files, staged=stage, keep=keep, kept=kept, windows=total)

    def analyze(self, options: Options | None = None) -> None:
        """Blocks -> measurements -> evidence: measure every window with every analyzer, and weigh the result.

        `options` of analyzers win over those of the settings.
        """
        chosen = merged(self.settings.analyzers, options or {})
        refuse_unknown(chosen, self.registry)
        self._done("train")
        rules = self.registry.role_rules(self.settings.rules)
        with self.registry.engine(self.engine).executor(self.workers) as executor:
            made = analysis.measure_run(
                self.folder,
                self.registry,
                executor,
                pad_to=self._pad_to,
                device=self.settings.device,
                strict=self.strict,
                options=chosen,
            )
        self._tell(made.failures + self._weigh(made.stage))
        self._finish(
            "analyze",
            [*made.files, "evidence.parquet", "roles.parquet"],
            staged=made.stage,
            analyzers=made.analyzers,
            missing=[asdict(one) for one in made.missing],
            options=chosen,
            fingerprint=analysis.fingerprint(self.registry.offered("analyzer"), chosen),
            rules=f"{rules.name} {rules.version}",
            confidence=self.settings.confidence,
            resamples=self.settings.resamples,
        )

    def _weigh(self, stage: RunFolder) -> list[Failure]:
        """Write the evidence and the roles; a rule set that fails costs its own roles alone."""
        with progress.task("Weighing the evidence"):
            measurements = stage.read_table("measurements.parquet").to_pandas()
            stretches = stage.read_table("stretches.parquet").to_pandas()
            weighed = evidence.weigh(measurements, stretches, self._resampling)
            offered = self.registry.offered("rule set")
            weighed, table, failures = roles.give_roles(weighed, offered, self.settings.rules, strict=self.strict)
        stage.write_frame("evidence.parquet", weighed)
        stage.write_frame("roles.parquet", table)
        return failures

    def ablate(self, ways: Iterable[str] = (), windows: int = 512) -> None:
        """Held-out text -> ablation: what the loss gains without each head, on at most so many windows.

        `ways` are some of `headwise.observing.ablation.HOWS`; none of them is all.
        """
        chosen = [known_way(how) for how in dict.fromkeys(ways)] or HOWS
        self._done("train")
        loaded = load_model(self.folder, self.registry, choose_device(self.settings.device))
        text = text_with_losses(loaded, TokenStore(self.folder.path / "tokens.parquet"), windows, self._pad_to)
        with deterministic():
            study = ablation_study(loaded, text, ways=chosen, pad_to=self._pad_to, resampling=self._resampling)
        stage = self.folder.stage("ablate")
        stage.write_frame("ablation.parquet", study.table)
        self._finish(
            "ablate",
            ["ablation.parquet"],
            staged=stage,
            ways=list(chosen),
            windows=len(text.ids),
            of_windows=text.every,
            held_out=text.held_out,
            agreement=study.agreement,
        )

    def report(self, report_format: str = "html") -> Path:
        """measurements, evidence -> report: run the renderers and write the page."""
        self._done("analyze")
        self._done("export")
        chosen = self.registry.report_format(report_format)
        run = Run(self.folder)
        name = f"report{chosen.suffix}"
        with progress.task("Writing the report") as task, self.folder.writing(name) as path:
            sections = []
            for _, section in render(run, self.registry, strict=self.strict, page_only=True):
                sections.append(section)
                task.advance()
            chosen.write(run, sections, path)
        self._finish("report", [name], format=report_format)
        return self.folder.path / name

    def draw(self, output: Path, figure_format: FigureFormat) -> list[Path]:
        """measurements, evidence, attention -> figures: write every picture; those within the run are recorded."""
        self._done("analyze")
        self._done("export")
        written = write_figures(Run(self.folder), output, figure_format, self.registry, strict=self.strict)
        here = self.folder.path.resolve()
        if output.resolve().is_relative_to(here):
            names = [str(path.resolve().relative_to(here)) for path in written]
            self._finish(f"figures-{figure_format}", names)
        return written

    # -- what the steps share --------------------------------------------------------------------------------------

    @property
    def _pad_to(self) -> int | None:
        about = self._done("tokens")
        return min(about["context"], about["longest"]) if self.recipe.pads_to_longest else None

    @property
    def _resampling(self) -> Resampling:
        return Resampling(self.settings.seed, self.settings.resamples, self.settings.confidence)

    def _recipe_settings(self) -> RecipeSettings:
        return validated(self.recipe.settings, self.settings.recipe_options, f"recipe '{self.recipe.name}'")

    def _done(self, step: str) -> dict[str, Any]:
        """Return what a step recorded, and do the step first where it is not done.

        Training takes long, so it is never done by the way.
        """
        steps: dict[str, Callable[[], None]] = {
            "tokens": self.tokenize,
            "export": lambda: self.export(self.settings.keep),
            "analyze": self.analyze,
        }
        if not self.folder.done(step):
            if step not in steps:
                message = f"{self.folder.path} has no trained model yet; give the command again that began it"
                raise RunFolderError(message)
            steps[step]()
        details: dict[str, Any] = self.folder.manifest["steps"][step]
        return details

    def _finish(self, step: str, files: Iterable[str], *, staged: RunFolder | None = None, **details: Any) -> None:
        """Record a step as done; what follows from it has to be done again, and what it left unfinished is gone."""
        of_model = ("export", "analyze", "ablate")
        following = {"tokens": ("train", *of_model), "train": of_model}.get(step, ())
        drawn = [known for known in self.folder.manifest["steps"] if known == "report" or known.startswith("figures-")]
        self.folder.forget(*following, *(drawn if step in {"tokens", "train", *of_model} else ()))
        self.folder.finish(step, files, staged=staged, **details)
        self.folder.clear_work()

    def _tell(self, failures: list[Failure]) -> None:
        for failure in failures:
            warnings.warn(failure.sentence, PluginWarning, stacklevel=3)
        self.folder.manifest["failures"] = [asdict(failure) for failure in failures]


def _refuse_all(*checks: Callable[[], object]) -> None:
    """Make every check, and raise what all of them say together; a single one as it is."""
    refused: list[HeadwiseError] = []
    for check in checks:
        try:
            check()
        except HeadwiseError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise SettingsError("\n".join(str(error) for error in refused))


def _shape(model: torch.nn.Module, vocabulary: Vocabulary, device: torch.device) -> tuple[int, int]:
    """Return layers and heads of a layer, as they are seen when the model reads one token."""
    with torch.no_grad(), observe(model.eval()) as seen:
        model(torch.full((1, 1), vocabulary.padding_id, device=device))
    return len(seen.layers), len(seen.heads) // max(len(seen.layers), 1)
