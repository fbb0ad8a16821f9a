"""What is known of a token, a text and a search, as tables and formulas beside those that were read."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app import export
from app.looks import Doubt, Near
from app.store import Store
from app.tui.chat import candidates, formulas, neighbours, places, ranking, tallies
from app.tui.chat.candidates import Candidate, CandidateTable
from app.tui.chat.inspection import Inspection, entropies, recent
from app.tui.chat.search_choice import SearchTable
from app.tui.chat.token_look import TokenLook
from app.tui.chat.word_surprisals import bits_of_words, running_sum
from app.tui.formula import Formula
from app.tui.sampling import Sampling
from app.tui.theme import GLYPHS
from app.tui.tokens.layout import TokenPlace
from engine.decode.strategies import parse
from engine.trace.trace import Recipe
from tests.pictures import assert_picture
from tests.support.model import ScriptedEngine
from tests.tui.bench import Bench, prompt_of
from tests.tui.test_session_stories import ASK, short

SAMPLING = Sampling().with_value("top_k", 5)


def table_of(table: CandidateTable | None, most: int = 7) -> list[str]:
    """A table in words: its heads, some rows, and what is summed up."""
    if table is None:
        return ["  no table"]
    lines = [f"  {table.title}: {table.name}, {table.numbers}, live {table.live}, exact {table.exact}"]
    lines += [f"  heads {table.OF}, {', '.join(table.HEADS)}; bar {', '.join(table.BAR)}"]
    for row in table.rows[:most]:
        after = "?" if row.after is None else f"{row.after:.4f}"
        facts = f"{row.removed_by}{' chosen' * row.chosen} {' '.join(row.more)}"
        spread = "" if row.spread is None else f" ± {row.spread}"
        lines.append(f"    {row.token} {row.name} {row.before:.4f}{spread} {after} {facts}".rstrip())
    cut = f"cut by {table.cut_by}" if table.cut_by else "nothing cut"
    return [*lines, f"    of {len(table.rows)} rows, vocabulary {table.vocab}, {table.summary(GLYPHS)}, {cut}"]


def formula_of(formula: Formula | None) -> str:
    if formula is None:
        return "  no formula"
    said = "".join(f"[{text}]" if value else text for text, value in formula.parts)
    return f"  {formula.map}: {said} ({formula.note})"


def look_of(
    bench: Bench, look: TokenLook, place: TokenPlace | None, *, cursor: bool, facts: bool = True
) -> Iterator[str]:
    """All that is said of a place."""
    subject = look.subject(place, place if cursor else None, bench.names, bench.facts if facts else None)
    yield f"  bits {['-' if each is None else f'{each:.2f}' for each in subject.bits]}, cursor {subject.cursor}"
    yield f"  to be asked of {subject.model or 'nobody'}"
    yield from table_of(subject.instead) if subject.instead is not None else []
    if subject.at is not None:
        at = subject.at
        yield f"  {at.title}, seed {at.seed}, live {at.live}, upcoming {at.upcoming}, key {at.key}"
        yield from table_of(at.table())
        yield formula_of(formulas.of_token(at))
        yield formula_of(formulas.of_draw(at.table(), at.recipes))
    if subject.exact is not None:
        exact = subject.exact()
        assert exact.prompt is not None
        yield f"  exactly after {list(exact.before)}, {len(exact.steps)} steps, {prompt_of(exact.prompt)}"


def test_tokens_of_a_chat_are_looked_at() -> None:
    bench = Bench(short())
    session, look = bench.session, TokenLook(bench.session, None)
    session.resample(SAMPLING)
    bench.say(ASK)
    lines = []
    for place in (TokenPlace(1, 0), TokenPlace(1, 2), TokenPlace(1, 5), TokenPlace(0, 1), TokenPlace(9, 0), None):
        for cursor in (True, False):
            lines += (
                [f"{place}, under a cursor {cursor}", *look_of(bench, look, place, cursor=cursor)]
                if place != TokenPlace(9, 0) or not cursor
                else []
            )
    lines += ["without a model", *look_of(bench, look, TokenPlace(0, 1), cursor=True, facts=False)]
    session.look(0)
    bench.hear()
    lines += ["a measured word", *look_of(bench, look, TokenPlace(0, 1), cursor=True)]
    lines += ["the first word of all", *look_of(bench, look, TokenPlace(0, 0), cursor=True)]
    session.resample(SAMPLING.biased(bench.ids(" The")[0], -100.0).biased(bench.ids(" glow")[0], 5.0))
    lines += ["under another recipe", *look_of(bench, look, TokenPlace(1, 0), cursor=True)]
    session.resample(Sampling().preset("greedy"))
    lines += ["greedily", *look_of(bench, look, TokenPlace(1, 3), cursor=True)]
    session.submit("And red")
    bench.show()
    bench.hear(4)
    lines += ["while it runs", *look_of(bench, look, TokenPlace(3, 1), cursor=False)]
    lines += ["of another message", *look_of(bench, look, TokenPlace(1, 1), cursor=True)]
    look.forget()
    lines += ["of none", f"  {len(look.around(None))} {len(look.around(TokenPlace(9, 0)))}"]
    lines += ["anew", f"  {len(look.around(TokenPlace(1, 0)))}"]
    assert_picture("tui/pictures/texts/looks.txt", lines)


def test_the_next_token_is_looked_at_in_step_mode() -> None:
    bench = Bench(short())
    session, look = bench.session, TokenLook(bench.session, None)
    session.resample(SAMPLING)
    session.submit(ASK)
    bench.show()
    session.step_on()
    bench.hear()
    lines = ["the first", *look_of(bench, look, None, cursor=False)]
    session.pick(None)
    bench.hear()
    lines += ["the second", *look_of(bench, look, TokenPlace(1, 0), cursor=False)]
    lines += ["under a cursor", *look_of(bench, look, TokenPlace(1, 0), cursor=True)]
    assert session.peek is not None
    logits = bench.engine.logits_after([1, 2])
    for step in (session.peek, None):
        at = Inspection(step, SAMPLING.recipe, bench.names, before=(1, 2), upcoming=True, logits=logits)
        lines += [f"from all logits, drawn {step is not None}", *table_of(at.table())]
        lines += table_of(replace(at, logits=None).table())
        lines += table_of(replace(at, upcoming=False).table())
    assert_picture("tui/pictures/texts/looks-ahead.txt", lines)


def tempered(temperature: float) -> Sampling:
    return Sampling().unshaped().with_value("temp", temperature)


def test_a_token_is_shown_as_it_was_drawn_when_the_temperature_has_moved(tmp_path: Path) -> None:
    """Against a softmax in float64 of the engine's raw logits, at the temperature that held."""
    bench = Bench(ScriptedEngine())
    session, moved = bench.session, 11
    session.resample(tempered(0.8))
    session.submit(ASK)
    bench.show()
    bench.hear(moved + 2)  # what was read comes first
    session.resample(tempered(0.4))
    bench.hear()
    tokens = [step.token for step in session.transcript.shown[1].steps]
    (asked,) = session.transcript.began_ids.values()

    def p(at: int, temperature: float) -> np.ndarray:
        logits = bench.engine.raw([*asked, *tokens[:at]], tokens[at]).astype(np.float64) / temperature
        return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()

    def drawn(looked: Bench, store: Store | None, at: int) -> CandidateTable:
        place = TokenPlace(1, at)
        found = TokenLook(looked.session, store).subject(place, place, looked.names, looked.facts).at
        table = found.table() if found is not None else None
        assert table is not None
        return table

    store = Store(tmp_path / "sessions.db")
    store.save(session.conversation)
    again = Bench(ScriptedEngine())
    again.session.conversation = store.load("c")
    again.session.resample(tempered(0.4))
    again.show()
    export.write(session.conversation, "jsonl", tmp_path / "talk.jsonl")
    imported = Bench(ScriptedEngine())
    imported.session.conversation = export.read(tmp_path / "talk.jsonl", "d", 0.0)
    imported.session.resample(tempered(0.4))
    imported.show()
    for looked, kept in ((bench, None), (again, store), (imported, None)):
        for at in (0, moved - 1, moved, len(tokens) - 1):
            table = drawn(looked, kept, at)
            held = 0.8 if at < moved else 0.4
            shown = [row.after if row.drawn is None else row.drawn for row in table.rows]
            assert shown == pytest.approx([p(at, held)[row.token] for row in table.rows], abs=1e-6)
            assert ("raw %", "drawn %", *(["if moved"] if at < moved else [])) == table.HEADS
            now = [row.after for row in table.rows]
            assert now == pytest.approx([p(at, 0.4)[row.token] for row in table.rows], abs=1e-6)
            step = looked.session.transcript.shown[1].steps[at]
            assert step.logprob_after == pytest.approx(math.log(p(at, held)[tokens[at]]), abs=1e-5)
        assert looked.session.transcript.note(1).startswith("T 0.80 → 0.40 · ")
        tokens_shown = looked.session.transcript.shown[1].block.tokens
        assert {i: it.moved for i, it in enumerate(tokens_shown) if it.moved} == {moved: "T 0.80 → 0.40"}
    assert "from here on T 0.80 → 0.40" in drawn(bench, None, moved).moved
    assert "T 0.80 → 0.40" in "".join(export.page(session.conversation))
    session.resample(tempered(0.8))  # back: what was drawn by it is not moved any more
    assert drawn(bench, None, 0).HEADS == ("raw %", "drawn %") and len(drawn(bench, None, moved).HEADS) == 3


def test_a_snapshot_is_read_from_disk_once(tmp_path: Path) -> None:
    bench = Bench(short())
    bench.say(ASK)
    bench.session.branch(TokenPlace(1, 2))
    bench.hear()
    store = Store(tmp_path / "sessions.db")
    try:
        store.save(bench.session.conversation)
        kept = list(bench.session.transcript.shown[1].steps)
        bare = [replace(step, snapshot=None, removed_by=None) for step in kept]
        bench.session.transcript.shown[1].steps[:] = bare
        look = TokenLook(bench.session, store)
        for token in (0, 1, 2, 3):
            at = look.at(TokenPlace(1, token), bench.names, live=False)
            assert at is not None and at.step is not None and at.step.snapshot is not None
            wanted = kept[token].snapshot
            assert wanted is not None
            assert np.allclose(at.step.snapshot.logits, wanted.logits) and at.step.token == kept[token].token
        store.snapshot = lambda *_: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        assert look.at(TokenPlace(1, 2), bench.names, live=False) is not None
        without = TokenLook(bench.session, None).at(TokenPlace(1, 2), bench.names, live=False)
        assert without is not None and without.table() is not None and without.outcome() is None
    finally:
        store.close()


@pytest.mark.parametrize(
    ("plan", "strategy"),
    [("beams", "beam 3"), ("search", "diverse 4"), ("votes", "vote 4"), ("worked", "vote 3"), ("many", "vote 16")],
)
def test_texts_of_a_search_are_ranked(plan: str, strategy: str) -> None:
    engine = short()
    engine.plans = {strategy: plan}
    bench = Bench(engine)
    bench.session.strategy = parse(strategy)
    bench.session.submit(ASK)
    bench.show()
    lines = []
    for size in (12, 7, 999):
        bench.hear(size)
        bench.session.keep()
        bench.show()
        talk = bench.session.conversation
        count = tallies.tally(talk)
        found = ranking.ranking(talk, count, opened=size == 999)
        lines.append(f"{size} events on")
        if found is not None:
            lines.append(f"  {found.title} {found.heads} {found.words} shared {found.shared} skipped {found.skipped}")
            for row in found.rows:
                facts = f"{' '.join(row.numbers)} {row.state} on {row.on} {row.verdict}"
                lines.append(f"    {row.node} {row.text!r} {facts}")
            lines += [f"    step {step.text!r} {step.number} {step.verdict}" for step in found.steps]
        if count is not None:
            shares = [f"{s.answer} {s.count} {s.low:.3f}-{s.high:.3f}" for s in count.shares]
            lines.append(f"  {count.paths} paths, sampled {count.sampled}, {shares}, said {count.said}")
            lines.append(f"  unanswered {count.unanswered}, winning {tallies.winning(talk, 0)}")
        sums = tallies.AnswerSums(talk)
        for node in talk.nodes.values():
            total, tokens = sums.before(node.id)
            line = [each.id for each in tallies.lineage(talk, node)]
            lines.append(f"  {node.id}: {total:.3f} nats of {tokens} before it, lineage {line}")
        look = TokenLook(bench.session, None)
        for token in range(0, len(bench.session.transcript.shown[-1].steps), 2):
            at = look.at(TokenPlace(1, token), bench.names, live=False)
            if at is not None and at.choice is not None:
                made = at.choice
                ranks = f"ranks {dict(made.ranks)}, ends {made.ends}"
                lines.append(f"  token {token}: {made.total:.3f} nats of {made.length}, {ranks}")
                table = at.table()
                lines += table_of(table, 4)
                if isinstance(table, SearchTable):
                    lines += [
                        formula_of(formulas.of_choice(table, None)),
                        formula_of(formulas.of_choice(table, table.rows[1].token)),
                    ]
    assert_picture(f"tui/pictures/texts/ranks-{strategy.replace(' ', '-')}.txt", lines)


def test_steps_of_a_text_are_its_lines_and_sentences() -> None:
    engine = short()
    engine.plans = {"vote 3": "worked"}
    bench = Bench(engine)
    bench.session.strategy = parse("vote 3")
    bench.say(ASK)
    lines = []
    for node in ("n2", "n3"):
        talk = bench.session.conversation.check_out(node)
        found = ranking.ranking(talk, tallies.tally(talk), opened=True)
        assert found is not None
        lines += [f"{node} step {step.text!r} {step.number} {step.verdict}" for step in found.steps]
    assert_picture("tui/pictures/texts/ranked-steps.txt", lines)


def test_places_are_found_on_all_branches() -> None:
    bench = Bench(short())
    session = bench.session
    bench.say(ASK)
    session.branch(TokenPlace(1, 2), bench.ids(" glow")[0])
    bench.hear()
    bench.say("Look, the sky is blue; blue sky")
    lines = []
    talk = session.conversation
    for query in ("sky", "SKY", "blue", "looks blue", "glow", " ", "", "red", "."):
        lines.append(f"{query!r}")
        for hit in places.search(talk, query):
            lines.append(
                f"  {hit.node} {hit.unit} {hit.who} {hit.before!r} [{hit.words}] {hit.after!r} here {hit.here}"
            )
            found = places.on_screen(session.transcript.shown, hit.node, hit.unit)
            lines.append(f"    on the screen {found}")
    for index, shown in enumerate(session.transcript.shown):
        texts = [token.text for token in shown.block.tokens]
        units = [places.of(shown.message, texts, token) for token in range(len(texts))]
        lines.append(f"message {index}: {units}")
        for token, (node, unit) in enumerate(units):
            assert places.on_screen(session.transcript.shown, node, unit) == TokenPlace(index, token)
    for node, unit, words in (
        ("n1", 7, ""),
        ("n2", 1, "seen"),
        ("n2", 4, "not seen"),
        ("n3", 0, ""),
        ("n4", 5, "said"),
    ):
        talk = talk.mark(node, unit, words)
    for query in ("", "seen", "sky", "none such"):
        lines.append(f"marks with {query!r}")
        lines += [
            f"  {hit.node} {hit.unit} {hit.who!r} {hit.before!r} [{hit.words}] {hit.after!r} here {hit.here}"
            for hit in places.marked(talk, query)
        ]
    assert_picture("tui/pictures/texts/places.txt", lines)


def test_words_and_their_bits() -> None:
    bench = Bench(short())
    steps = list(
        bench.engine.score(bench.engine.tokenizer.encode("Why is the sky so blue?\nBecause air looks  blue ."))
    )
    lines = [
        f"  {w.text!r} {w.start}-{w.end} tokens {w.first}-{w.last} {'none' if w.bits is None else f'{w.bits:.3f}'}"
        for w in bits_of_words(steps)
    ]
    end = replace(steps[1], special=True, text="<end>", piece=b"<end>")
    lines += ["with an end"] + [
        f"  {w.text!r} {w.first}-{w.last}" for w in bits_of_words([*steps[:3], end, *steps[3:5]])
    ]
    lines += [f"  {bits_of_words([])} {bits_of_words([end])}"]
    lines += [" ".join(f"{bits:.3f}" for bits in running_sum(steps))]
    assert running_sum([]) == [0.0]
    lines += [
        formula_of(formulas.of_text(steps)),
        formula_of(formulas.of_text(steps[:1])),
        formula_of(formulas.of_text([])),
    ]
    lines += [formula_of(formulas.of_answers([steps, [], steps[:3]])), formula_of(formulas.of_answers([[]]))]
    lines += [formula_of(formulas.of_ids(1234, 131_072))]
    assert_picture("tui/pictures/texts/words-and-bits.txt", lines)


@pytest.mark.parametrize(
    ("p", "said"),
    [(0.0, "0.00 %"), (1.0, "100.00 %"), (0.5, "50.00 %"), (5e-5, "0.01 %"), (4.9e-5, "2^-14.3"), (2**-20, "2^-20.0")],
)
def test_a_share_is_in_percent_as_long_as_that_says_something(p: float, said: str) -> None:
    assert formulas.share(p) == said


def rows_of(*rows: Candidate) -> CandidateTable:
    return CandidateTable("T", "name", "numbers", rows, 1000, (2, 3), (0.5, 0.75), "top-k", False, False)


ONE = Candidate(1, "one", 0.5, 0.7)
TWO = Candidate(2, "two", 0.25, 0.0, removed_by="top-k", chosen=True)
THREE = Candidate(3, "three", 1e-7, None)


@pytest.mark.parametrize(
    ("rows", "picked", "value"),
    [
        ((ONE, TWO), None, "0, cut by top-k"), ((ONE, TWO), 1, "70.00 %"), ((ONE, TWO), 9, "70.00 %"),
        ((ONE,), None, "70.00 %"), ((THREE,), None, None), ((), None, None),
    ],
)  # fmt: skip
def test_a_draw_is_of_the_token_picked_else_of_the_one_drawn(
    rows: tuple[Candidate, ...], picked: int | None, value: str | None
) -> None:
    found = formulas.of_draw(rows_of(*rows), (Recipe(),), picked)
    assert (None if found is None else found.parts[1][0]) == value
    assert formulas.of_draw(None, (Recipe(),)) is None
    if found is not None:
        assert ("2 to 3", True) in found.parts and (" of 1,000", False) in found.parts
        assert "nothing changes p" not in found.note and "T 1.00" in found.note


@pytest.mark.parametrize(
    ("kept", "mass", "said"),
    [
        ((3, 3), (0.5, 0.5), "keeps 3 of 1,000 · 50 % of the raw mass"),
        ((2, 30), (0.5, 0.75), "keeps 2 to 30 of 1,000 · 50 to 75 % of the raw mass"),
        ((0, 1234), (0.0, 1.0), "keeps up to 1,234 of 1,000 · up to 100 % of the raw mass"),
        ((1, 1), (0.004, 0.005), "keeps 1 of 1,000 · <1 to 0 % of the raw mass"),
    ],
)  # fmt: skip
def test_what_is_kept_is_a_range_where_no_more_is_known(
    kept: tuple[float, float], mass: tuple[float, float], said: str
) -> None:
    assert replace(rows_of(ONE), kept=kept, mass=mass).summary(GLYPHS) == said


def test_a_doubt_stands_beside_the_candidates_that_it_knows() -> None:
    doubted = rows_of(ONE, TWO).doubted(Doubt(1.0, 0.5, ((2, 0.125),), 8, 0.4))
    assert [row.spread for row in doubted.rows] == [None, 0.125] and doubted.doubt is not None
    assert rows_of(ONE).doubted(None) == rows_of(ONE)


def test_neighbours_are_rows_of_cosines() -> None:
    bench = Bench(short())
    near = Near(((261, 0.875), (262, -0.25)), raw=(0.5, 0.75), median=0.125, below=0.375)
    lines = []
    for found in (near, "an embedding that is not there", None):
        table = neighbours.table("·sky", found, bench.names)
        lines += [
            *table_of(table),
            formula_of(formulas.of_neighbour(table, None)),
            formula_of(formulas.of_neighbour(table, 262)),
        ]
    assert_picture("tui/pictures/texts/neighbours.txt", lines)


def test_few_entropies_are_recent() -> None:
    bench = Bench(short())
    steps = list(bench.engine.score([300, 301, 302]))
    found = entropies(steps[:2])
    assert found[0] is None and found[1] == pytest.approx((steps[1].entropy or 0) / math.log(2))
    assert entropies(steps, found) is found and len(found) == 3
    bits = list(map(float, range(20)))
    assert recent(bits, None) == bits[12:] and recent(bits, 3) == bits[:4] and recent(bits, 10) == bits[3:11]
    assert recent([], None) == []


def test_names_of_a_vocabulary() -> None:
    names = candidates.Names((b"a", b" b", b"a", b"\xff"))
    assert [names.name(token) for token in (-1, 0, 1, 3, 4)] == ["#-1", "a", "·b", "\\xFF", "#4"]
    assert [names.piece(token) for token in (-1, 0, 3, 4)] == [b"", b"a", b"\xff", b""]
    assert [names.encode(text) for text in ("a", " b", "b", "")] == [[0], [1], [], []]
    assert [candidates.bits(nats) for nats in (None, 0.0, -1.0, math.log(2), 1.0)] == ["?", "0.0", "0.0", "1.0", "1.4"]
