"""The pipeline: draw, filter, deduplicate, decontaminate, balance, split; from one configuration to files, as events.

Drawing and what models score go into journals, a job at a time, so a run that was killed goes on from the last whole
job. All that comes after is computed anew from them, and the same journals give the same files. Over ranks every rank
does every job with the model that they share; rank 0 alone writes. Prints nothing.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from likely.engine.base import distributed, journal
from likely.engine.base.errors import ContextOverflow, DataError
from likely.engine.base.files.home import expanded
from likely.engine.base.files.lock import claimed
from likely.engine.base.files.whole_file import write_whole
from likely.engine.base.machine.installation import adding
from likely.engine.decode.strategy_table import parse
from likely.engine.measure.synth import filters, inputs, stages
from likely.engine.measure.synth.config import WITHOUT_MODEL, PipelineConfig
from likely.engine.measure.synth.instruct import cells
from likely.engine.measure.synth.method import RowMethod
from likely.engine.measure.synth.methods import KINDS
from likely.engine.measure.synth.row import SCHEMA, SynthRow, are_scores, digest, line, of_value
from likely.engine.measure.synth.verified import VerifiedProblems
from likely.engine.measure.synth.writer import Writer
from likely.engine.sampling.presets import recipe
from likely.engine.text.rows.training_row import check_map
from likely.engine.train.data import row_choices

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

ROWS, SCORES, DROPPED = "drawn.jsonl", "scored.jsonl", "dropped.jsonl"
# entries of the journals
DRAWN = {"rows": [SCHEMA]}
SCORED = {"what": str, "model": str, "asked": [str], "scores": {str: dict}}  # numbers, NaN too
FEW = 8  # rows from which one can say that a generator only repeats
REPEATS = 0.05  # the share of different rows at which it does

OpenModel = Callable[[str, Sequence[str]], "Session"]  # a name and adapters


@dataclass(frozen=True, slots=True)
class JobDone:
    """So many jobs are done; how many rows there are so far, and how many of them are aside."""

    done: int
    jobs: int
    rows: int
    aside: int


@dataclass(frozen=True, slots=True)
class RowsScored:
    """So many rows have been scored by a model."""

    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class StageYield:
    """Yield of a stage: rows that came and that were kept, and why the others were not."""

    stage: str
    came: int
    kept: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RowsWarned:
    """Something that the person should know of the rows."""

    line: str


@dataclass(frozen=True, slots=True)
class RowsWritten:
    """The files of rows were written: their folder, and how many rows of each side."""

    folder: Path
    sides: Mapping[str, int]
    dropped: int


SynthEvent = JobDone | RowsScored | StageYield | RowsWarned | RowsWritten


def run(config: PipelineConfig, open_model: OpenModel) -> Iterator[SynthEvent]:
    """Make the rows, or what is left of them to make. Models are opened when something is left for them to do.

    DataError where nothing is left to train on, or what there is must not be trained on: a generator that only repeats,
    a verifier that passes nothing, or wrong answers too. The rows are in `dropped.jsonl` then, and there is no
    `train.jsonl`. LockTaken where another process makes rows there.
    """
    with claimed(expanded(config.out), "synth", "out") if _leads() else nullcontext():
        yield from _run(config, open_model)


def check_lacks(config: PipelineConfig) -> None:
    """DataError with everything that the stages after drawing will want and is not here: packages, files, tasks."""
    lacks = []
    if config.names:
        check_map(config.names, inputs.columns(config))
    for package, wanted, what in (
        ("rensa", config.deduplicate.near, "near duplicates need rensa (or set deduplicate.near = false)"),
        ("py3langid", config.filter.languages, "filter.languages needs py3langid"),
    ):
        if wanted and find_spec(package) is None:
            lacks.append(f"{what}: {adding(package)}")
    for name in (*config.deduplicate.against, *config.decontaminate.against):
        try:
            inputs.training_rows(name, config.names)
        except DataError as error:
            lacks.append(str(error))
    if lacks:
        raise DataError(f"before anything is drawn: {'; '.join(lacks)}")


def _run(config: PipelineConfig, open_model: OpenModel) -> Iterator[SynthEvent]:
    check_lacks(config)
    folder, sessions = expanded(config.out), dict[str, "Session"]()
    g = config.generate

    def session(name: str) -> "Session":
        if name not in sessions:
            sessions[name] = open_model(name, g.adapters if name == g.model else ())
        return sessions[name]

    method = KINDS[g.method](config)
    head = {"pipeline": config.fingerprint, "inputs": method.identity, "jobs": method.jobs}
    with journal.opened(folder / ROWS, head, DRAWN) as drawn:
        try:
            rows = [of_value(value) for entry in drawn.entries for value in entry["rows"]]
        except ValueError:
            raise DataError(f"{folder / ROWS} is damaged: move it away, and the run begins anew") from None
        first = len(drawn.entries)
        if first < method.jobs and g.method not in WITHOUT_MODEL:
            opened = session(g.model)
            strategy = parse(g.strategy).bind({}, opened.tokenizer)
            method.writer = Writer(opened, recipe(g.sampling), strategy, g.max_tokens, g.chat)
        for job in range(first, method.jobs):
            yield JobDone(job, method.jobs, len(rows), sum(bool(row.dropped) for row in rows))
            new = _rows_of(method, job, rows)
            drawn.add({"job": job, "rows": [row.value() for row in new]})
            rows += new
    yield from _finished(config, method, rows, folder, session)


def _finished(
    config: PipelineConfig, method: RowMethod, rows: list[SynthRow], folder: Path, session: "Callable[[str], Session]"
) -> Iterator[SynthEvent]:
    """All that comes after drawing."""
    if _leads():
        for side in stages.SIDES:
            try:
                (folder / f"{side}.jsonl").unlink(missing_ok=True)
            except OSError as error:
                raise DataError(f"cannot replace {folder / side}.jsonl: {error.strerror}") from None
    stage_yield = _yield("generate", len(rows), rows)
    yield stage_yield
    yield from map(RowsWarned, method.remarks(rows))
    wrong, warning = _repeats(rows), ""
    if not wrong and isinstance(method, VerifiedProblems):
        wrong, warning = _blind(method, rows)
    if warning:
        yield RowsWarned(warning)
    if wrong:
        _write(folder / DROPPED, [row if row.dropped else row.out(f"generate: {wrong}") for row in rows])
        raise DataError(f"{wrong}; nothing was written to train on, the rows are in {folder / DROPPED}")
    rows = list(filters.alone(rows, config.filter))
    rows = yield from _scored(config, rows, folder, session)
    after: tuple[tuple[str, Callable[[Sequence[SynthRow]], list[SynthRow]]], ...] = (
        ("filter", lambda rows: filters.tails(rows, config.filter)),
        ("deduplicate", lambda rows: stages.deduplicate(rows, config.deduplicate, config.names)),
        ("decontaminate", lambda rows: stages.decontaminate(rows, config.decontaminate, config.names)),
        ("balance", lambda rows: stages.balance(rows, config.balance, config.seed)),
    )
    for name, stage in after:
        rows = stage(rows)
        stage_yield = _yield(name, stage_yield.kept, rows)
        yield stage_yield
    if choice := row_choices.read(folder / row_choices.NAME):
        before = sum(bool(row.dropped) for row in rows)
        rows = stages.chosen(rows, choice)
        rows = stages.decontaminate(rows, config.decontaminate, config.names)  # of those that are back
        out = sum(row.dropped.startswith("choice: ") for row in rows)
        back = before + out - sum(bool(row.dropped) for row in rows)
        reasons = {why: count for why, count in (("dropped by hand", out), ("kept by hand", back)) if count}
        stage_yield = StageYield("choice", stage_yield.kept, stage_yield.kept - out + back, reasons)
        yield stage_yield
    for missing in _missing(config, rows):
        yield RowsWarned(missing)
    sides = stages.split(rows, config.split, config.seed)
    aside = [row for row in rows if row.dropped]
    _write(folder / DROPPED, aside)
    if not stage_yield.kept:
        raise DataError(f"no row is left of {len(rows)}: {folder / DROPPED} says why; loosen what dropped them")
    if not sides["train"]:  # few parents: all fell on the other sides
        sides = {"train": [row for row in rows if not row.dropped], "valid": [], "test": []}
    for side in reversed(stages.SIDES):  # the one that says that all is there comes last
        if sides[side]:
            _write(folder / f"{side}.jsonl", sides[side])
    yield RowsWritten(folder, {side: len(side_rows) for side, side_rows in sides.items()}, len(aside))


def _scored(
    config: PipelineConfig, rows: list[SynthRow], folder: Path, session: "Callable[[str], Session]"
) -> Generator[SynthEvent, None, list[SynthRow]]:
    """The rows with the numbers that models give them; what is in the journal is not asked again."""
    scorers = config.scorers
    if not scorers:
        return rows
    live = [row for row in rows if not row.dropped]
    with journal.opened(folder / SCORES, {"pipeline": config.fingerprint}, SCORED) as known:
        scores: dict[str, dict[str, float]] = {}
        for what, model in scorers.items():
            score = filters.perplexities if what == "perplexity" else filters.judged
            before = [entry for entry in known.entries if (entry["what"], entry["model"]) == (what, model)]
            if not all(are_scores(values) for entry in before for values in entry["scores"].values()):
                raise DataError(f"{folder / SCORES} is damaged: move it away, and they are asked for again")
            there = {key for entry in before for key in entry["asked"]}
            for entry in before:
                for key, values in entry["scores"].items():
                    scores.setdefault(key, {}).update(values)
            missing = [row for row in live if row.id not in there]
            for low in range(0, len(missing), filters.CHUNK):
                yield RowsScored(what, len(there) + low, len(live))
                part = missing[low : low + filters.CHUNK]
                new = score(session(model), part)
                known.add({"what": what, "model": model, "asked": [row.id for row in part], "scores": new})
                for key, value in new.items():
                    scores.setdefault(key, {}).update(value)
    return [row.scored(**scores.get(row.id, {})) for row in rows]


def _missing(config: PipelineConfig, rows: Sequence[SynthRow]) -> Iterator[str]:
    """Classes and cells of which no row is left."""
    for name in stages.empty_classes(rows, config.balance):
        yield f"class {name!r} has no rows: it will not be learned"
    there = {tuple(row.source.attributes.items()) for row in rows if not row.dropped}
    grid = config.attributes
    empty = [cell for cell in cells(grid) if tuple(cell.items()) not in there] if grid else []
    for cell in empty[:FEW]:
        yield f"no row is left for {', '.join(f'{name} {value}' for name, value in cell.items())}"
    if len(empty) > FEW:
        yield f"nor for {len(empty) - FEW} cells more"


def _rows_of(method: RowMethod, job: int, before: Sequence[SynthRow]) -> list[SynthRow]:
    """The rows of a job; a prompt that leaves no room is a row aside."""
    try:
        return list(method.make(job, before))
    except ContextOverflow as error:
        return [method.row({"text": str(error)}, job, 0, f"job:{job}").out("generate: the prompt is too long")]


def _repeats(rows: Sequence[SynthRow]) -> str:
    """Why nothing is to be trained on rows that are nearly all the same; "" for others."""
    if not rows:
        return "nothing was drawn"
    texts = [row.text for row in rows]
    different = len({digest(text) for text in texts})
    if len(rows) >= FEW and different <= max(1, REPEATS * len(rows)):
        shown = max(set(texts), key=texts.count).strip()[:60]
        return f"the generator only repeats: {different} different rows of {len(rows)}, mostly {shown!r}"
    return ""


def _blind(method: VerifiedProblems, rows: Sequence[SynthRow]) -> tuple[str, str]:
    """Why the verdicts are not to be trusted, or what there is to say of them."""
    judged = [row.scores["verified"] for row in rows if not row.dropped]
    if not any(judged):
        aside = Counter(row.dropped.removeprefix("generate: ") for row in rows if row.dropped)
        why = "".join(f"; {count} left out: {reason}" for reason, count in aside.most_common(1))
        return f"the verifier passes none of {len(judged)} answers{why}", ""
    if not all(judged):
        return "", ""
    passed, probes = method.fooled()
    if passed and 2 * passed >= probes:
        finding = f"the verifier passes every answer, and {passed} of {probes} answers to other problems"
        return f"{finding}: it does not see whether they are right", ""
    of = f"; of {probes} answers to other problems it refuses {probes - passed}" if probes else ""
    return "", f"the verifier passes every answer: the problems are easy for this model{of}"


def _leads() -> bool:
    together = distributed.joined()
    return together is None or together.leads


def _yield(stage: str, came: int, rows: Sequence[SynthRow]) -> StageYield:
    """Yield of a stage, by what it wrote on the rows that it kept aside."""
    reasons = Counter(row.dropped.partition(": ")[2] for row in rows if row.dropped.startswith(f"{stage}: "))
    return StageYield(stage, came, came - reasons.total(), dict(reasons.most_common()))


def _write(path: Path, rows: Sequence[SynthRow]) -> None:
    if _leads():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (line(row.value()) for row in rows))
