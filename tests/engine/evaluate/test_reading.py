"""How texts are read together, what stays the same by a seed from version to version, and differences by hand."""

import hashlib
import json
import math
import random
from typing import Any

import numpy as np
import pytest

from engine import arrays
from engine.errors import CheckpointError, DataError, ParameterError
from engine.evaluate import likelihood, measures, robustness
from engine.evaluate.compare import check_vocabularies, compare
from engine.evaluate.comparison import Comparison
from engine.evaluate.conditional import Conditioned, JudgedPair, Restated
from engine.evaluate.difference import Difference, Position, Shift
from engine.evaluate.estimates import bootstrap, share_or_mean
from engine.evaluate.estimates import compare as compared
from engine.evaluate.generated import MAKERS, generated
from engine.evaluate.likelihood import Likelihood, Reader, Request, _groups, _shared, _stem
from engine.evaluate.robustness import VariedItem
from engine.evaluate.tasks import Choices, Item, Question, Task, TaskSettings
from engine.evaluate.variations import TYPOS, Variation, check, contexts, order, text_of, typos, varied
from metal import mx
from tests.fakes import MarkovModel, random_table

# -- texts read together -----------------------------------------------------------------------------------------------


def request(*texts: str, start: int = 1) -> Request:
    return Request(tuple(tuple(text.encode()) for text in texts), (start,) * len(texts))


def test_what_all_begin_with_is_a_prefix_where_it_is_worth_one() -> None:
    long = "x" * 24
    assert bytes(_shared([request(long + "ab", start=25), request(long + "c", start=25)])).decode() == long
    assert _shared([request(long[1:] + "ab", start=24), request(long[1:] + "c", start=24)]) == []  # a token too short
    assert _shared([request(long + "ab", start=25)]) == []  # of one text alone
    assert len(_shared([request(long + "ab", long + "cd", start=25)])) == 24
    assert (
        len(_shared([request(long + "yab", start=30), request(long + "ycd", start=25)])) == 24
    )  # scored from there on
    assert _shared([request("y" + long, start=25), request(long, start=25)]) == []
    assert _stem(request("abcd", "abce")) == 3 and _stem(request("abc", "abcde")) == 2 and _stem(request("abc")) == 2
    assert request("a", "abc").length == 3


def test_requests_of_like_stems_are_a_group_as_long_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    window = [request("s" * n + "ab", "s" * n + "cd") for n in (9, 2, 5, 3)]
    (every,) = _groups(window, 0, 64)
    assert every == [1, 3, 2, 0]  # by the length of the stem
    assert list(_groups(window, 0, 4)) == [[1, 3], [2, 0]] and list(_groups(window, 0, 2)) == [[1], [3], [2], [0]]
    assert list(_groups(window, 2, 5)) == [[1, 3], [2, 0]]
    monkeypatch.setattr(likelihood, "TOKENS", 16)
    wide = list(_groups(window, 0, 64))
    assert [i for group in wide for i in group] == every and len(wide) > 1
    for group in wide:
        least = min(_stem(window[i]) for i in group)
        longest = max(window[i].length for i in group)
        assert len(group) == 1 or (2 * len(group) * (longest - least) <= 16 and len(group) * least <= 16)
    equal = [request("s" * 4 + "a", "s" * 4 + "b") for _ in range(9)]
    assert list(map(len, _groups(equal, 0, 64))) == [4, 4, 1]  # 16 tokens of stems are 4
    monkeypatch.setattr(likelihood, "TOKENS", 1024)
    apart = [request("s" * n + "a", *("s" * n + c for c in "bcdefghijk")) for n in (10, 20, 30)]
    assert list(_groups(apart, 0, 64)) == [[0, 1], [2]]  # read once for each text: 10 x 10, then 20 x 10 more


def test_a_reader_keeps_what_it_has_read_for_those_that_come_next() -> None:
    model: Any = MarkovModel(random_table(0))
    reader = Reader(model, rows=3)
    shared = "q" * 40
    first = list(reader.read([request(f"{shared}{c}x", start=41) for c in "abcd"]))
    once = model.read
    assert once < 40 + 4 * 3 and sorted(number for number, _ in first) == [0, 1, 2, 3]
    again = dict(reader.read([request(f"{shared}{c}y", start=41) for c in "efgh"]))
    assert model.read - once < 4 * 3 and set(again) == {0, 1, 2, 3}
    other = dict(reader.read([request("w" * 30 + c, start=31) for c in "ab"]))
    fresh = dict(Reader(model).read([request("w" * 30 + c, start=31) for c in "ab"]))
    assert [other[i][0].total for i in (0, 1)] == pytest.approx([fresh[i][0].total for i in (0, 1)], abs=1e-5)
    assert Likelihood(np.array([-1.0, -2.5]), True).total == -3.5
    with pytest.raises(ParameterError, match="from its second on"):
        list(reader.read([Request(((1, 2), (1, 2)), (1, 0))]))


# -- the same from version to version ----------------------------------------------------------------------------------

GENERATED: dict[str, tuple[int, str, int, int, str, str]] = {
    "arithmetic": (3, "numeric", 3, 48, "87179c765eb7", "ab28d9b5b147"),
    "last-letters": (3, "normalised", 3, 48, "81a83d644acd", "71e14510f25c"),
    "sorting": (5, "exact", 3, 48, "3ca595fffdce", "4fea8bf90543"),
    "copying": (8, "exact", 3, 48, "560a3df1051b", "0dacd5d47c4a"),
    "needle": (20, "numeric", 0, 12, "e4a21abcfea3", "54e26709ba27"),
    "lookup": (8, "numeric", 3, 12, "3b081bd48dbb", "1fd1b4f1606f"),
    "brackets": (10, "exact", 3, 48, "a397c28884df", "f0fbd22ca898"),
    "markov": (200, "", 0, 48, "1d6b8e6cab76", "a2d89b96e218"),
    "markov-law": (100, "", 0, 48, "14b6e8ef2ae8", "71b0251691a9"),
}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_items_of_a_seed_are_those_of_every_version(name: str) -> None:
    """Scores of one version are set beside another's: what they are of must not move."""
    size, scorer, shots, longest, usual, other = GENERATED[name]
    for text, digest in ((f"{name}:items=12", usual), (f"{name}:items=5,size=4,seed=3,shots=0", other)):
        made = generated(text)
        assert made is not None
        rows = list(made.rows())
        assert hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12] == digest
        assert len(rows) == (12 + shots if "items=12" in text else 5)
    plain = generated(name)
    assert plain is not None and plain.settings == TaskSettings(
        shots=shots, separator="\n", scorers=(scorer,) if scorer else (), max_tokens=longest, stop=("\n",)
    )
    assert len(list(plain.rows())) == 200 + shots
    assert f"('items', 200), ('seed', 0), ('shots', {shots}), ('size', {size})" in plain.identity
    assert (plain.entropy is not None) == (name == "markov")


def test_generated_items_by_hand() -> None:
    first: dict[str, dict[str, Any]] = {}
    for name in MAKERS:
        made = generated(f"{name}:items=1,size=4,shots=0")
        assert made is not None
        (first[name],) = made.rows()
    assert first["arithmetic"]["prompt"] == "6083 + 8243 ="
    assert first["arithmetic"]["answer"] == "3+3+0=6, 8+4+0=12, 0+2+1=3, 6+8+0=14. The answer is 14326"
    assert first["last-letters"] == {"prompt": "Last letters of night forest light river:", "answer": "tttr"}
    assert first["brackets"] == {"prompt": "Close [ ] [ { with", "answer": "} ]"}
    assert (
        first["lookup"]["prompt"].startswith("apple: 208, bread: 788, winter: 188")
        and first["lookup"]["answer"] == "188"
    )
    assert first["markov-law"] == {"context": " d f b c", "law": {" c": 0.5, " h": 0.25, " e": 0.125, " g": 0.125}}
    chain = generated("markov:size=3")
    assert chain is not None and chain.entropy == pytest.approx((math.log(8) + 2 * 1.75 * math.log(2)) / 3)
    for text in ("arithmetic:size=0", "sorting:items=0", "markov:shots=1", "markov-law:shots=1", "copying:size=-1"):
        with pytest.raises(ParameterError):
            generated(text)
    assert generated("sorting:size=1,items=1") is not None and generated("Sorting") is None


def test_typos_and_orders_of_a_seed_are_those_of_every_version() -> None:
    text = "The quick brown fox jumps over the lazy dog, twice."
    assert [typos(text, random.Random(seed), 0.2) for seed in range(4)] == [
        "Thee quick brown fox hums overr rge lazt og, twice.",
        "The qic rbown fox ujmps over the alyy dog, twwice.",
        "The uiick brpwn gox umos ovre the lazy dog, twiec.",
        "TThe quuick rbown foxx jumps ovre the layz dogg, twuce.",
    ]
    asked = ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0))
    assert [order(Variation("choices", number, seed), i, 4) for number, seed, i in asked] == [
        [0, 1, 2, 3],
        [3, 2, 1, 0],
        [0, 3, 1, 2],
        [1, 3, 0, 2],
        [1, 2, 0, 3],
    ]


class Forced(random.Random):
    """A chance that takes the first places and this way."""

    def __init__(self, how: str) -> None:
        super().__init__(0)
        self.how, self.counts, self.near = how, [], []  # type: ignore[var-annotated]

    def sample(self, places: Any, k: int) -> Any:  # type: ignore[override]
        self.counts.append(k)
        return list(places)[:k]

    def choice(self, of: Any) -> Any:
        if isinstance(of, tuple):
            return self.how
        self.near.append(of)
        return of[-1]


def test_each_way_to_mistype_a_letter() -> None:
    for how, text, found in (
        ("left out", "abc", "bc"),
        ("doubled", "abc", "aabc"),
        ("neighbour", "abc", "sbc"),
        ("neighbour", "Abc", "Sbc"),
        ("swapped", "abc", "bac"),
        ("swapped", "aabc", "aaabc"),
        ("swapped", "a b", "aa b"),
        ("swapped", "a", "aa"),
        ("neighbour", "1q2", "1w2"),
        ("doubled", "é1", "é1"),
    ):
        assert typos(text, Forced(how)) == found, (how, text)
    for letter, near in (("q", "w"), ("p", "o"), ("g", "fh"), ("z", "x"), ("m", "n"), ("l", "k")):
        chance = Forced("neighbour")
        typos(letter, chance)
        assert chance.near == [near]
    for letters, many in ((1, 1), (20, 1), (29, 1), (31, 2), (100, 5)):
        chance = Forced("doubled")
        typos("a" * letters, chance)
        assert chance.counts == [many]
    assert TYPOS == 0.05 and typos("12", Forced("doubled")) == "12"


def task(rows: list[dict[str, Any]], **settings: Any) -> Task:
    return Task("t", lambda: iter(rows), "t", TaskSettings(**settings))


def test_variations_are_known_by_all_that_they_are_of() -> None:
    rows = [
        {"prompt": "one two", "answer": "a", "paraphrase": "other"},
        {"prompt": "12", "answer": "b", "paraphrases": ["12", " "]},
    ]
    plain = task(rows)
    said = {0: ["said"], 1: []}
    names = [
        varied(plain, way)
        for way in (
            Variation("typos", 1),
            Variation("typos", 2),
            Variation("typos", 1, 7),
            Variation("paraphrase", 1),
            Variation("paraphrase", 1, said=said),
            Variation("paraphrase", 1, said={0: ["x"]}),
        )
    ]
    assert len({each.identity for each in names}) == 6 and names[0].name == "t (typos 1)"
    first, second = names[3].items()
    assert isinstance(first, Item) and isinstance(first.body, Question) and first.body.prompt == "other"
    assert str(second).count("paraphrase 1 is no other text") == 1
    given = list(names[4].items())
    assert isinstance(given[0], Item) and text_of(given[0].body) == "said" and "has no paraphrase 1" in str(given[1])
    _, blank = varied(plain, Variation("paraphrase", 2)).items()
    assert "paraphrase 2 is no other text" in str(blank)
    assert "no letter to mistype" in str(list(names[0].items())[1])
    choices = [{"context": "c", "choices": ["x", "y"], "gold": 1}]
    (listed,) = varied(task(choices), Variation("choices", 0)).items()
    assert isinstance(listed, Item) and listed.body == Choices("c\nA. x\nB. y\nAnswer:", ("A", "B"), 1)
    for many, fits in ((26, True), (27, False)):
        (found,) = varied(
            task([{"context": "c", "choices": [str(i) for i in range(many)], "gold": 0}]), Variation("choices", 1)
        ).items()
        assert isinstance(found, Item) == fits
    for kind, of, line in (
        ("melt", plain, "there is no variation melt"),
        ("choices", plain, "choices are varied of choices: t has questions"),
        ("typos", task([{"text": "a"}]), "typos are varied of choices and questions"),
        ("examples", task(rows, shots=1), "has 1 examples: to order them otherwise"),
    ):
        with pytest.raises(ParameterError, match=line):
            check(of, kind)
    check(task(rows, shots=2), "examples")
    other = varied(plain, Variation("paraphrase", 1))
    (both,) = [entry for entry in contexts(plain, other).items() if isinstance(entry, Item)]
    assert (both.body.context, both.body.changed, both.cluster) == ("one two", "other", "0")  # type: ignore[union-attr]
    later = [{"prompt": "", "answer": "a"}, {"prompt": "x", "answer": ""}, {"prompt": "z", "answer": "q"}]
    (none,) = contexts(plain, Task("l", lambda: iter(later), "l")).items()
    assert "no item stands in both" in str(none)


def test_robustness_resamples_items_with_their_clusters() -> None:
    random_ = np.random.default_rng(0)
    scores = random_.random((6, 3))
    for clusters in ([None] * 6, list("aabbcc")):
        each = [{n: VariedItem(c, {"x": float(scores[n, k])}) for n, c in enumerate(clusters)} for k in range(3)]
        found = robustness.figures(each[0], each[1:], "typos", ["x", "none"])
        named = None if None in clusters else clusters
        means = scores[:, 1:].mean(1).tolist()
        assert found["x_typos"] == share_or_mean(means, named)
        assert found["x_typos_change"] == compared(scores[:, 0].tolist(), means, named).estimate
        assert found["x_typos_spread"] == bootstrap(scores, robustness.spread, named, samples=500)
        assert found["x_typos_worst"] == bootstrap(scores, robustness.worst, named, samples=500) and len(found) == 4
    assert robustness.spread(scores) == pytest.approx(np.std(scores.mean(0), ddof=1))
    assert robustness.worst(scores) == scores.mean(0).min()


# -- measures of forms -------------------------------------------------------------------------------------------------


def test_verdicts_of_a_judge_by_their_mass() -> None:
    pair = JudgedPair("p", "x", "y", "a")

    def found(*masses: float) -> dict[str, float]:
        return pair.measures([math.log(m) for m in masses])

    clear = found(0.6, 0.2, 0.1, 0.2, 0.5, 0.1)
    assert clear["win_probability"] == pytest.approx(((0.6 + 0.05) / 0.9 + 1 - (0.2 + 0.05) / 0.8) / 2)
    assert (clear["win_rate"], clear["first_position"], clear["consistent"], clear["agreement"]) == (1, 0.5, 1, 1)
    low = found(0.3, 0.1, 0.09, 0.1, 0.6, 0.1)
    assert (low["win_rate"], low["unclear"], low["consistent"], low["ties"]) == (0.75, 0.5, 0, 0)
    edge = found(0.3, 0.1, 0.1, 0.1, 0.6, 0.1)
    assert edge["unclear"] == 0 and edge["win_rate"] == 1
    tie = found(0.1, 0.1, 0.6, 0.1, 0.1, 0.6)
    assert (tie["ties"], tie["win_rate"], tie["consistent"], tie["agreement"]) == (1, 0.5, 1, 0)
    lost = found(0.1, 0.6, 0.1, 0.6, 0.1, 0.1)
    assert (lost["win_rate"], lost["first_position"], lost["consistent"]) == (0, 0.5, 1)
    nothing = pair.measures([-math.inf] * 6)
    assert nothing["win_probability"] == 0.5 and nothing["unclear"] == 1


def test_information_of_texts_and_paraphrases_in_bits() -> None:
    found = Conditioned("c", "äb", "o").measures([-1.0, -3.0, -2.0])
    bit = math.log(2)
    assert found == pytest.approx(
        {
            "own_context": 1,
            "surprisal_drop": 1 / bit / 3,
            "surprisal_drop_shuffled": -1 / bit / 3,
            "pmi": 1 / bit,
            "pmi_shuffled": -1 / bit,
        }
    )
    assert Conditioned("c", "a", "o").measures([-3.0, -1.0, -2.0])["own_context"] == 0
    two = Restated("o", "p", "q").measures([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.5])
    assert two == pytest.approx(
        {
            "pmi_forward": 5 / bit,
            "pmi_backward": 2 / bit,
            "pmi": 3.5 / bit,
            "pmi_shuffled": (5.5 + 1) / 2 / bit,
            "own_pair": 1,
        }
    )


# -- differences -------------------------------------------------------------------------------------------------------


def test_two_models_are_compared_place_by_place() -> None:
    random_ = np.random.default_rng(1)
    p, q = (arrays.logprobs(random_.normal(0, 2, (4, 9)), np) for _ in range(2))
    ids = [3, 0, 5, 8]
    found = compare(
        lambda _: iter([mx.array(p[:3].astype(np.float32)), mx.array(p[3:].astype(np.float32))]),
        lambda _: iter([mx.array(q[:3].astype(np.float32)), mx.array(q[3:].astype(np.float32))]),
        ids,
        ("a", "b"),
        top=2,
        metrics=["tv"],
    )
    a, b = np.exp(p), np.exp(q)
    for i, place in enumerate(found.positions):
        assert place.token == ids[i] and place.kl == pytest.approx(float((b[i] * (q[i] - p[i])).sum()), rel=1e-4)
        assert place.entropy == pytest.approx((-(a[i] * p[i]).sum(), -(b[i] * q[i]).sum()), rel=1e-4)
        assert place.top == (a[i].argmax(), b[i].argmax())
        assert place.next == (None if i == 3 else pytest.approx((p[i, ids[i + 1]], q[i, ids[i + 1]]), abs=1e-5))
        moved = b[i] - a[i]
        up = [t for t in np.argsort(-moved)[:2].tolist() if moved[t] > 0]
        down = [t for t in np.argsort(moved)[:2].tolist() if moved[t] < 0]
        assert [s.token for s in place.risen] == up and [s.token for s in place.fallen] == down
        assert all(s.change == pytest.approx(moved[s.token], abs=1e-5) for s in (*place.risen, *place.fallen))
        likely = {*np.argsort(-a[i])[:2].tolist(), *np.argsort(-b[i])[:2].tolist()}
        assert [s.token for s in place.likely] == sorted(likely, key=lambda t: -b[i, t])
        assert place.metrics == {"tv": pytest.approx(np.abs(a[i] - b[i]).sum() / 2, rel=1e-4)}
    mean_ = b.mean(0) - a.mean(0)
    assert [s.token for s in found.risen] == [t for t in np.argsort(-mean_)[:2].tolist() if mean_[t] > 0]
    assert [s.token for s in found.fallen] == [t for t in np.argsort(mean_)[:2].tolist() if mean_[t] < 0]
    assert found.risen[0].change == pytest.approx(mean_.max(), abs=1e-5)
    kls = [place.kl for place in found.positions]
    assert found.kl == pytest.approx(np.mean(kls)) and found.same_top == np.mean(p.argmax(1) == q.argmax(1))
    costs = [-np.mean([x[i, ids[i + 1]] for i in range(3)]) for x in (p, q)]
    assert found.nll == pytest.approx(costs, abs=1e-5) and found.metrics == {
        "tv": pytest.approx(np.mean(np.abs(a - b).sum(1) / 2), rel=1e-4)
    }
    assert set(found.spread) == {"kl", "tv"} and found.spread["kl"] == pytest.approx(
        {"mean": np.mean(kls), "median": np.median(kls), "p99": np.quantile(kls, 0.99)}
    )
    usual = compare(
        lambda _: iter([mx.array(p.astype(np.float32))]),
        lambda _: iter([mx.array(q.astype(np.float32))]),
        ids,
        ("a", "b"),
    )
    assert (
        max(len(place.risen) for place in usual.positions) <= 5
        and max(len(place.likely) for place in usual.positions) > 5
    )
    with pytest.raises(DataError, match="the text is empty"):
        compare(lambda _: iter([]), lambda _: iter([]), [], ("a", "b"))
    with pytest.raises(CheckpointError, match="a has 9 tokens and b 8"):
        compare(lambda _: iter([mx.zeros((1, 9))]), lambda _: iter([mx.zeros((1, 8))]), [1], ("a", "b"))
    one = Difference(("a", "b"), (Position(1, 0.5, (1.0, 1.0), None, (1, 2), (), ()),))
    assert math.isnan(one.nll[0]) and math.isnan(one.nll[1]) and one.same_top == 0 and one.metrics == {}
    assert Shift(1, math.log(0.25), math.log(0.75)).change == pytest.approx(0.5)


def test_vocabularies_are_the_same_or_refused() -> None:
    class Printed:
        def __init__(self, fingerprint: str) -> None:
            self.fingerprint = fingerprint

    check_vocabularies(Printed("x"), Printed("x"), ("a", "b"))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="a and b have different vocabularies"):
        check_vocabularies(Printed("x"), Printed("y"), ("a", "b"))  # type: ignore[arg-type]


def test_every_metric_of_two_distributions() -> None:
    z, w = np.array([1.0, 0.0, -2.0]), np.array([0.0, 1.0, -1.0])
    p, q = np.exp(z) / np.exp(z).sum(), np.exp(w) / np.exp(w).sum()
    m = (p + q) / 2
    js = (float((p * np.log(p / m)).sum()) + float((q * np.log(q / m)).sum())) / 2
    assert measures.every(z, w) == pytest.approx(
        {
            "kl": float((q * np.log(q / p)).sum()),
            "reverse_kl": float((p * np.log(p / q)).sum()),
            "js": js,
            "tv": float(np.abs(p - q).sum() / 2),
            "same_top": 0.0,
        }
    )
    made = Comparison(["kl"])
    made.add(np.log(np.stack([p, q])), np.log(np.stack([q, p])), np.array([0, 1]))
    assert made.tokens == 2 and made.estimate("kl").mean == pytest.approx(
        ((q * np.log(q / p)).sum() + (p * np.log(p / q)).sum()) / 2
    )
    assert made.perplexity == pytest.approx((1 / p[1], 1 / q[1])) and made.cost.mean == pytest.approx(
        math.log(p[1] / q[1])
    )
