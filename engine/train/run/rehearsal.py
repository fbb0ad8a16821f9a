"""Rehearsal: the base's own answers to general questions, at which a model stays while it learns its rows.

The pull is KL(base || now) a token of the answers (Learning without Forgetting, arXiv:1606.09282). Logits are W h, with
a W that is not trained: so it is -log p(y) - h . s up to a constant, s the gradient of -log p(y) by the h of before.
That is the base's whole distribution in one vector a token, found once, and a rehearsed row costs what a row costs.
Knows nothing of rows.
"""

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from likely.engine.base import journal
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import read_whole
from likely.engine.decode.prompt import single_turn
from likely.engine.train.data.samples import RehearsedAnswer, TrainingSample
from likely.engine.train.losses import batch_losses
from likely.engine.train.run.probes import as_before, said
from likely.engine.train.run.run import TrainingRun
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.adapters.full import FullWeights
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.metal import mx
from likely.models import Transformer

FILE = "base_answers.jsonl"  # in a run's folder: ids of questions, and of what the base answered
ENTRY = {"asked": [int], "said": [int]}
ANSWER = 24  # tokens of the base's answer to a question
AT_ONCE = 8  # answers that are read together
# of many kinds, and none of those by which a training is judged (`examination.OTHERS`)
QUESTIONS = [
    question.strip()
    for question in """
Name a river in Europe. | What is a cat? | How do I boil an egg? | Why does it rain? | What is a noun? | Write a
sentence about the sea. | What is the capital of Spain? | What is the smallest planet? | How many hours are in a
day? | What do pigs eat? | What is the opposite of big? | What is steam? | Who painted the Mona Lisa? | What is
three plus three? | What colour is snow? | What is the capital of Greece? | What is the capital of Italy? | Which
language is spoken in Mexico? | Name a colour. | What is five minus two? | Is fire hot or cold? | Which animal
meows? | What is the plural of "child"? | Who was Albert Einstein? | Tell me a joke. | How far away is the moon? |
When did the second world war end? | Can birds swim? | Give me a word that rhymes with "light". | What is the
longest river in the world? | Do plants need water? | Write a short poem about autumn. | How tall is Mount Everest?
| What is a computer? | Who was the first man on the moon? | Which season comes after winter? | Explain gravity. |
What does a baker do? | What is a prime number? | Where do penguins live? | List three vegetables. | What should I
cook tonight? | How are you today? | What is the boiling point of water? | Translate "thank you" into Spanish. | Is
a tomato a fruit? | What is the square root of nine? | When is Christmas? | Why is the sea salty? | How can I sleep
better? | Which metal is liquid? | What is the past tense of "run"? | Thank you! | What is your name? | Correct this
sentence: She go to school. | Continue: the quick brown | What is democracy? | Who wrote Don Quixote? | How many
wheels does a car have? | What is the largest ocean? | What time is it? | Give an example of a mammal. | Does ice
float? | What is ten times ten? | Which day comes before Sunday? | Describe a forest. | What is bread made of? |
Where is the Eiffel Tower? | How do I learn to swim? | What is the currency of Japan? | How long does a year last? |
Who invented the telephone? | Name an instrument. | What is love? | What is the opposite of fast? | How old is the
universe? | Should I buy a bicycle? | What is photosynthesis? | Summarise: the cat sat on the mat and slept. | Which
is heavier, iron or wood? | How do bees fly? | Good morning. | What are clouds made of? | What is the chemical
symbol of gold? | Write an email to a friend. | How many players are in a football team? | Can you help me? | What
is a verb? | Where does coffee come from? | What is the meaning of "brave"? | Name a country in Africa. | How do
magnets work? | What is the fastest animal? | Why do leaves fall? | What sound does a cow make? | Who was Cleopatra?
| Give me advice for an interview. | What is a synonym of "happy"? | How many continents are there? | What is the
tallest animal? | Is it safe to eat snow? | Write a line of Python that prints a word. | What is the capital of
Egypt? | What is a haiku? | How much is half of twenty? | When was the printing press invented? | What do you think
of music? | Which planet is red? | Tell me about yourself. | What is the first letter of the alphabet? | Where is
Canada? | What is used to write on a blackboard? | Do fish sleep? | What is the weather like? | How is cheese made?
| Spell "necessary". | What is an atom? | Who composed the Ninth Symphony? | Give me a name for a dog. | Why is the
sky blue?
""".replace("\n", " ").split("|")
]


def asked(run: TrainingRun, questions: int = len(QUESTIONS)) -> list[tuple[str, list[int]]]:
    """The first questions of the list and their ids; without those whose answers the model has no room for."""
    assert run.session is not None
    tokenizer = run.session.tokenizer
    every = [(question, single_turn(question, tokenizer).ids(tokenizer)) for question in QUESTIONS[:questions]]
    return [(question, ids) for question, ids in every if len(ids) + ANSWER <= run.session.context]


def answers(run: TrainingRun, questions: int = len(QUESTIONS), progress: Report = silent) -> list[TrainingSample]:
    """Questions of the list with the greedy answers of the model as it was; what is drawn is kept with the run, and
    what was kept is not drawn again."""
    found, every = [], asked(run, questions)
    with journal.opened(run.folder / FILE, {"answers": 1}, ENTRY) as there:
        known = {tuple(entry["asked"]): entry["said"] for entry in there.entries}
        for number, (question, ids) in enumerate(every):
            if (answer := known.get(tuple(ids))) is None:
                progress("asking the base", number, len(every))
                answer = said(run, ids, ANSWER, base=True).ids
                there.add({"asked": list(ids), "said": list(answer)})
            found.append(TrainingSample((*ids, *answer), (*(False,) * len(ids), *(True,) * len(answer)), question))
    return found


def begin(run: TrainingRun) -> None:
    """Forget what a run in the same folder asked, of which there is no more than that."""
    if run.stamp is None and run.leads:
        (run.folder / FILE).unlink(missing_ok=True)


def unasked(run: TrainingRun) -> list[tuple[str, list[int]]]:
    """Those of the questions of a run that it has not asked yet."""
    lines: list[str] = []
    with suppress(DataError):  # there are none, or the training will say what is wrong
        lines = read_whole(run.folder / FILE).splitlines() if run.stamp else []
    known = set[tuple[int, ...]]()
    for line in lines[1:]:
        with suppress(ValueError):
            known.add(tuple(foreign_json.parse(line, ENTRY)["asked"]))
    return [(question, ids) for question, ids in asked(run, count(run)) if tuple(ids) not in known]


def check(run: TrainingRun) -> None:
    """ParameterError for a run whose logits are no product with a matrix that stays, or without a tokenizer."""
    if run.session is None:
        raise ParameterError("rehearsal needs a tokenizer: give the run a session")
    trained = isinstance(run.trained, FullWeights) or run.trained.head(run.model)
    if trained or run.model.config.logit_softcap is not None:
        raise ParameterError("rehearsal goes with an adapter of a model whose head is neither trained nor capped")


def beside(rows: int) -> int:
    """How many answers are rehearsed beside a batch of so many rows."""
    return math.ceil(rows / 3)


def count(run: TrainingRun) -> int:
    """How many questions a run rehearses: as many as its steps come to, at most all."""
    c = run.config
    return min(len(QUESTIONS), run.steps * c.accumulate * beside(c.batch))


def rehearsed(run: TrainingRun, progress: Report = silent) -> list[RehearsedAnswer]:
    """Answers that a run rehearses, by the model as it was, and the slopes there."""
    check(run)
    samples = answers(run, count(run), progress)
    found = []
    _, around = as_before(run)
    with around():
        for i in range(0, len(samples), AT_ONCE):
            progress("reading what the base answered", i, len(samples))
            part = samples[i : i + AT_ONCE]
            batch = batch_losses.row_of(run.model, part)
            hidden = batch_losses.read(run.model, batch)
            lost, slopes = _with_slopes(run.model, hidden, batch.targets)
            least = lost - (np.asarray(hidden.astype(mx.float32)) * slopes).sum(-1)
            ends = np.cumsum(batch.counts)[:-1]
            parts = zip(part, np.split(slopes, ends), np.split(least, ends), strict=True)
            found += [RehearsedAnswer(sample, own, float(rest.sum())) for sample, own, rest in parts]
    return found


def drawn(found: Sequence[RehearsedAnswer], first: int, count: int) -> list[RehearsedAnswer]:
    """So many of them, one after the other from that place on, again and again."""
    return [found[(first + i) % len(found)] for i in range(min(count, len(found)))]


def gradient(
    model: Transformer,
    trained: batch_losses.Trained,
    rows: Sequence[TrainingSample],
    some: Sequence[RehearsedAnswer],
    config: Config,
) -> tuple[batch_losses.Sums, batch_losses.Parameters]:
    """The sums of rows, and the gradient of their loss and of the pull at some answers, which are read beside them: of
    KL(base || now), nats, the mean of their tokens, as much as `rehearsal` for each target of the rows. The sum of KL
    is that mean by the rows' targets."""
    batch, real = batch_losses.row_of(model, [*rows, *(one.sample for one in some)]), trained.parameters()
    slopes, least = mx.array(np.concatenate([one.slopes for one in some])), sum(one.least for one in some)
    count, keep = sum(batch.counts[: len(rows)]), 0 if config.checkpointing else batch_losses.KEPT

    def total(parameters: batch_losses.Parameters) -> tuple[mx.array, ...]:
        trained.set(parameters)
        hidden = batch_losses.read(model, batch, keep)
        each = batch_losses.nll(model, hidden[:count], batch.targets[:count], config.label_smoothing)
        answers = hidden[count:]
        said = mx.sum(batch_losses.nll(model, answers, batch.targets[count:]))
        kl = count * (said - mx.sum(answers * slopes) - least) / answers.shape[0]
        lost = mx.sum(each)
        return lost + config.rehearsal * kl, lost, kl, each

    with batch_losses.reading_again(model, trained, config):
        (_, lost, kl, each), found = mx.value_and_grad(total)(real)
    trained.set(real)
    return batch_losses.Sums(lost, count, kl, mx.array(0.0), each), found


def _with_slopes(model: Transformer, hidden: mx.array, targets: mx.array) -> tuple[np.ndarray, np.ndarray]:
    """-log p of each target and its gradient by its hidden state."""

    def total(hidden: mx.array) -> tuple[mx.array, mx.array]:
        lost = batch_losses.nll(model, hidden, targets)
        return mx.sum(lost), lost

    (_, lost), slopes = mx.value_and_grad(total)(hidden)
    return np.asarray(lost, np.float64), np.asarray(slopes.astype(mx.float32))
