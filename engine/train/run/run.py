"""A training that is ready to go on: a model with what is trained on it, its rows, and how far it has come."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import artifacts
from likely.engine.base.objectives import OBJECTIVES
from likely.engine.decode.answers.program import Verifier
from likely.engine.train.control import Saved
from likely.engine.train.data import batches, hyperparameters
from likely.engine.train.data.answer_verdicts import Verdicts, compared
from likely.engine.train.data.data import Judging
from likely.engine.train.data.samples import Pair, RehearsedAnswer, RewardedAnswer, TrainingSample
from likely.engine.train.losses import activation_memory
from likely.engine.train.losses.batch_losses import Trained
from likely.engine.train.rewards.figures import Rewarded, Rollout
from likely.engine.train.run import optimizers, state
from likely.engine.train.run.state import Counters, State
from likely.engine.weights.adapters import adapters, full, lora, sites
from likely.engine.weights.adapters.config import Config
from likely.metal import mx
from likely.models import LanguageModel, Transformer
from likely.models.configuration.config import MaskedDiffusion
from likely.models.native_path.reading import packed_of

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.train.data.paraphrases import Rewording


@dataclass(frozen=True)
class Set:
    """Training set: samples, or pairs for preferences; `anchors` are the rows of `kl_data`, `test` those that are
    looked at before and after (`examination`)."""

    train: Sequence[TrainingSample | Pair]
    valid: Sequence[TrainingSample | Pair] = ()
    anchors: Sequence[TrainingSample] = ()
    fingerprint: str = ""
    test: Sequence[TrainingSample | Pair] = ()
    judging: Judging | None = None  # of problems of a task


@dataclass
class TrainingRun:
    """A model with what is trained on it."""

    model: Transformer
    base: LanguageModel  # of whose graph it is, or itself: what is drawn from and compared, after `native.renew`
    trained: Trained
    config: Config
    rows: Set
    folder: Path
    name: str = ""  # of the model, for the adapter's directory
    group: Any = None  # of mx.distributed
    session: "Session | None" = None  # of the same model: what reads and writes text between two steps
    optimiser: dict[str, dict[str, mx.array]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    steps: int = 0
    saved: int = 0  # the step whose weights are in the folder
    chosen: str = ""  # what was chosen by the data, and why
    stamp: tuple[int, int, int] | None = None  # of the state in the folder, as this run knows it
    leans: bool = False  # whether that state has its parameters in the adapter's file
    rehearsed: Sequence[RehearsedAnswer] = ()
    rewording: "Rewording | None" = None
    rewarded: Rewarded | None = None  # figures of what the last step drew
    drawn: Sequence[Rollout] = ()  # that itself
    held: list[tuple[Rollout, ...]] = field(default_factory=list)  # the base's answers to each held-out problem
    answered: list[RewardedAnswer] = field(default_factory=list)  # what the last step learned from
    good: tuple[int, dict[str, mx.array]] | None = None  # the adapter at the least running loss, and its step
    groups: Mapping[str, optimizers.ParameterGroup] = field(default_factory=dict)
    valid_bytes: int | None = None  # of text, that the validation rows which are measured spell; known after the first
    keep: "Callable[[TrainingRun, Path], None] | None" = None  # writes what was trained; None: as an adapter's folder
    made_as: str = ""  # the kind that it is remembered as among what was made here; "" of a passing one

    @property
    def adapts_experts(self) -> bool:
        """Whether an adapter is on products of experts, which not every form of a file can hold (`peft`)."""
        factors = self.trained.factors.values() if isinstance(self.trained, lora.Adapter) else ()
        return any(f.site.kind == "experts" for f in factors)

    @property
    def native(self) -> bool:
        """Whether its steps are taken on the packed weights as they lie in the file (`models.packed_reading`)."""
        return not self.config.dropout and packed_of(self.model) is not None

    @property
    def leads(self) -> bool:
        return self.group is None or self.group.rank() == 0

    @property
    def place(self) -> tuple[int, int]:
        """Its rank, and of how many."""
        return (0, 1) if self.group is None else (self.group.rank(), self.group.size())

    @cached_property
    def planned(self) -> list[list[int]]:
        """The batches of the first pass over the data, as indices: of long data they take a while to be found."""
        c = self.config
        return batches.plan(self.rows.train, size=c.batch, length=c.length, packing=c.packing, seed=c.seed, epoch=0)

    @cached_property
    def verdicts(self) -> Verdicts:
        """Verdicts on the answers that it draws. ParameterError where the verifier cannot be started."""
        c, task = self.config, self.rows.judging
        if c.verifier:
            program = Verifier.of(c.verifier, c.timeout)
            return Verdicts(lambda each, said: program(each.prompt, said, answers=[each.answer]), program.identity)
        if task is None:
            return Verdicts(compared)
        judges = task.judges
        return Verdicts(
            lambda each, said: judges[each.where](said) if each.where in judges else compared(each, said),
            task.identity if task.asks else "",
        )

    @property
    def per_epoch(self) -> int:
        """Batches in a pass over the data."""
        return len(self.planned)


def _own(diffusion: MaskedDiffusion) -> str:
    """The objective by which a diffusion model learns."""
    return next(one.name for one in OBJECTIVES if one.bound and one.blocks == bool(diffusion.block))


def _check_objective(model: Transformer, config: Config) -> None:
    """ParameterError where the objective is of another factorisation than the model's."""
    masked, objective = model.config.diffusion, config.objective
    if masked is None and config.goal.bound:
        raise ParameterError(
            f"objective {objective} needs a diffusion model, and this {model.config.family} is autoregressive (its "
            f"config has no mask_token_id): likely pretrain --objective {objective} makes one, and likely tune "
            "--objective mdlm makes one of it"
        )
    if masked is not None and objective != (own := _own(masked)):
        of = f" of blocks of {masked.block}" if masked.block else ""
        raise ParameterError(f"this is a diffusion model{of}, it learns by objective {own}, got {objective}")


def prepare(
    base: LanguageModel,
    config: Config,
    rows: Set,
    folder: Path,
    *,
    name: str = "",
    resume: bool = False,
    asks: bool = False,
    rewords: bool = False,
    group: Any = None,
    groups: Mapping[str, optimizers.ParameterGroup] | None = None,
) -> TrainingRun:
    """Put a fresh adapter on the model (or make its weights parameters), or what a run in `folder` had come to.

    A resumed run goes on to the steps or epochs that are asked for, and where none are to those it was to have.
    `asks`: the run gets a session, so that it can rehearse where nobody says otherwise; `rewords`: as in `amounts`.
    `groups` say for each parameter how it follows its gradient, where that is not as the options say for all.
    ParameterError for options that do not fit the model; DataError for a resumption with others than it began with.
    """
    if not rows.train:
        raise DataError("there is nothing to train on: no row has a target")
    wanted = config
    before, steps, why, stamp = None, 0, "", state.stamp(folder)
    model = sites.trainable(base)
    _check_objective(model, config)
    activation_memory.lean(model)
    if config.quantize:
        sites.pack(model, config.quantize, config.group_size)
    count, known = model.config.layers, sites.sites(model)
    if resume:
        before, steps, config = state.load(folder, config, rows.fingerprint)
    else:
        every = [] if config.kind == "full" else sites.choose(known, config.layers or -1, config.modules, count)
        linear = model.config.logit_softcap is None and all(0 <= site.layer < count for site in every)
        layers = count if asks else 0
        config, why = hyperparameters.chosen(config, rows.train, layers=layers if linear else 0, rewords=rewords)
        if not linear and hyperparameters.chosen(wanted, rows.train, layers=layers)[0].rehearsal > 0:
            cause = "its logits are capped" if model.config.logit_softcap is not None else "its head is trained"
            why += f"; not held to the base's own answers, as {cause}: --kl does that on the rows"
    trained: Trained
    if config.kind == "full":
        trained = full.weights(model, config.layers)
        if config.keeps_start:
            trained.keep()
    else:
        chosen = sites.choose(known, config.layers, config.modules, count)
        if not wanted.rank:
            config = replace(config, rank=min(config.rank, *(min(site.width, site.height) for site in chosen)))
        trained = lora.create(
            chosen, rank=config.rank, scale=config.multiplier, kind=config.kind, seed=config.seed, init=config.init
        )
        if config.warm_start and (before is None or config.goal.drawn):  # a run that goes on has its own
            _begin_at(trained, model, config)
            trained.start = trained.parameters() if config.goal.drawn else None
        lora.attach(trained)
    run = TrainingRun(model, base, trained, config, rows, folder, name, group, chosen=why, stamp=stamp)
    run.groups = groups or _groups(config, trained.parameters())
    if before is not None:
        state.check(folder, before, trained.parameters(), run.groups)
        trained.set(before.parameters)
        run.optimiser, run.counters, run.saved = before.optimiser, before.counters, before.counters.step
        run.leans = bool(before.beside)
        if before.ended:
            run.chosen = "a new start of the optimiser, whose state went as the run had ended (--keep-state keeps it)"
        run.steps = hyperparameters.steps_of(config, rows.train) if wanted.steps or wanted.epochs else steps
        if run.steps < before.counters.step:
            raise DataError(
                f"{folder} has taken {before.counters.step} steps, and {run.steps} were asked for in all: give more "
                "--epochs or --steps, or none to go on as it began"
            )
        return run
    run.steps = hyperparameters.steps_of(config, rows.train)
    if (folder / state.FILE).exists() and run.leads:
        raise DataError(f"{folder} holds a run already: --resume goes on with it, another --out leaves it alone")
    return run


def _groups(config: Config, names: Iterable[str]) -> dict[str, optimizers.ParameterGroup]:
    """One optimiser for all; LoRA+ lets B learn faster, and what sets rows apart stays as it was found."""
    step = optimizers.OPTIMISERS[config.optimiser]()
    a = 0.0 if config.init == "contrast" else 1.0
    plain, faster = (optimizers.ParameterGroup(step, rate, config.decay) for rate in (a, config.lora_plus_ratio))
    return {name: faster if name.endswith(".lora_b") else plain for name in names}


def _begin_at(trained: lora.Adapter, model: Transformer, config: Config) -> None:
    """Give a fresh adapter the arrays of a stored one. ParameterError where that is of another form."""
    stored = adapters.read(artifacts.place(config.warm_start))
    if stored.kind != config.kind:
        raise ParameterError(f"warm_start {config.warm_start} is of kind {stored.kind}, and {config.kind} is trained")
    placed = adapters.build(model, stored, config.warm_start)
    there = placed.parameters()
    for name, array in trained.parameters().items():
        there_shape = list(there[name].shape) if name in there else "nothing"
        if there_shape != list(array.shape) or len(there) != len(trained.parameters()):
            raise ParameterError(
                f"warm_start {config.warm_start} is another adapter than is trained: {name} is {list(array.shape)}, "
                f"and {there_shape} there; train with its rank, layers and modules"
            )
    assert isinstance(placed, lora.Adapter)
    for path, f in trained.factors.items():
        if not math.isclose(f.scale, placed.factors[path].scale, rel_tol=1e-6):
            raise ParameterError(
                f"warm_start {config.warm_start} has scale {placed.factors[path].scale:g} at {path}, and {f.scale:g} "
                "is trained, which is another model: train with its scale"
            )
    trained.set(there)


def settle(run: TrainingRun) -> None:
    """Evaluate the weights that a step reads, so that they do not count as its memory."""
    mx.eval(run.trained.parameters(), {} if packed_of(run.model) else run.model.arrays)
    mx.reset_peak_memory()


def save(run: TrainingRun, *, ended: bool = False) -> Saved:
    """Write what was trained, then the state, each landing whole; of a run that has ended without the optimiser's,
    unless that is to be kept."""
    run.saved = run.counters.step
    if run.leads:
        write(run, run.folder)
        gone = ended and not run.config.keep_state
        _write_state(run, gone, adapters.held(run.trained) if gone and run.keep is None else frozenset())
        if run.made_as:
            artifacts.note(run.folder, run.made_as, run.name or run.config.model)
    return Saved(run.counters.step, run.folder)


def stand_alone(run: TrainingRun) -> None:
    """Give a state that leans on the adapter's file parameters of its own, before that file is written anew."""
    if run.leans and run.leads:
        _write_state(run, True, frozenset())


def _write_state(run: TrainingRun, gone: bool, beside: frozenset[str]) -> None:
    snapshot = State(run.trained.parameters(), run.optimiser, run.counters, gone, beside)
    state.save(run.folder, snapshot, run.config, run.rows.fingerprint, run.steps)
    run.stamp, run.leans = state.stamp(run.folder), bool(beside)


def write(run: TrainingRun, folder: Path) -> None:
    """Write what was trained, as it is now: an adapter's directory, or what the run keeps in its place."""
    if not run.leads:
        return
    if run.keep is not None:
        run.keep(run, folder)
    else:
        adapters.save(folder, run.trained, run.model, settings(run))


def settings(run: TrainingRun) -> dict[str, Any]:
    """Further settings in an adapter's config: the options, and the model's name as mlx-lm has it."""
    options = {f.name: getattr(run.config, f.name) for f in fields(run.config) if f.name != "modules"}
    return {**options, "model": run.name or run.config.model, "step": run.counters.step}
