"""Parts of a chat by themselves: attachments, names, the top line, what a command line asked for, texts as trees."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import requests as r
from app.tui.chat import attach, comparison, decoding, diffusing, status, text_document
from app.tui.chat.context import before, turns
from app.tui.chat.greedy_continuation import LONGEST, GreedyContinuation
from app.tui.chat.live_run import LiveRun
from app.tui.chat.start import Start
from app.tui.chat.titler import ASKED, Titler, first_words, name_in
from app.tui.tokens.layout import TokenPlace
from app.worker import Failed
from engine.conversation import Conversation, Fork, Node
from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted, Prefilled, Reloaded, Stats
from engine.errors import DataError, ParameterError
from engine.prompt import Prompt
from engine.trace.trace import Recipe, TokenStep
from tests.pictures import assert_picture
from tests.tui.bench import Bench, prompt_of, text_of, tree
from tests.tui.test_session_stories import ASK, short

FACTS = r.ModelFacts("m", 100, (b"a", b"b"), chat=True, nbytes=98_000_000, title="A model")


def step(text: str, logprob: float | None = -1.0, *, special: bool = False, token: int = 1) -> TokenStep:
    nothing = (None, None, None, None, 0, Recipe(), None, None)
    return TokenStep(token, text.encode(), text, logprob, *nothing, 0, "drawn", special)


# -- attachments -------------------------------------------------------------------------------------------------------


def test_files_that_a_prompt_names_are_attached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("words é\n\n")
    (tmp_path / "two words.md").write_text("```\ncode\n````\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "folder").mkdir()
    found = attach.found('see @a.txt and @"two words.md" x@a.txt @nobody @')
    assert [(each.name, each.text) for each in found] == [
        ("a.txt", "words é\n\n"),
        ("two words.md", "```\ncode\n````\n"),
    ]
    assert (
        attach.joined("look  ", found) == "look\n\n```a.txt\nwords é\n```\n\n`````two words.md\n```\ncode\n````\n`````"
    )
    assert attach.joined("  ", found[:1]) == "```a.txt\nwords é\n```" and attach.joined("words", []) == "words"
    for text, line in (
        ("@folder", "is a folder"), ("@./none.txt", "there is no file none.txt"), ('@"none"', "there is no file none"),
        ("@bytes", "is not UTF-8 text"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=line):
            attach.found(text)
    monkeypatch.setattr(attach, "LARGEST", 8)
    (tmp_path / "a.txt").write_text("x" * 8)
    assert attach.read(tmp_path / "a.txt").text == "x" * 8
    (tmp_path / "a.txt").write_text("x" * 9)
    with pytest.raises(DataError, match=r"a.txt has 0.0 MB: at most 0 MB can be attached"):
        attach.read(tmp_path / "a.txt")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        attach.read(tmp_path / "gone")


@pytest.mark.parametrize(
    ("text", "line"),
    [("@none.txt", "none.txt"), ("@none", ""), ("@none.", ""), ("@a.txt @b.md", "b.md"), ("x", ""), ("a@b.de", "")],
)
def test_a_word_that_looks_like_a_file_is_spoken_of(
    text: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("")
    assert attach.mistaken(text) == (f"there is no file {line} here: it was sent as a word" if line else "")


def test_names_of_files_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ab.txt", "ac", ".hidden", "b"):
        (tmp_path / name).write_text("")
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "in").write_text("")
    assert attach.complete("see @a") == ["see @ab.txt", "see @abc/", "see @ac"]
    assert attach.complete("@") == ["@ab.txt", "@abc/", "@ac", "@b"]
    assert attach.complete("@.h") == ["@.hidden"] and attach.complete("@abc/") == ["@abc/in"]
    assert attach.complete("@none/x") == attach.complete("words") == attach.complete("x@a") == []
    for number in range(60):
        (tmp_path / f"many{number:02}").write_text("")
    assert len(attach.complete("@many")) == 50


def test_a_path_that_is_pasted_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b c.txt").write_text("")
    plain, spaced = f"{tmp_path}/a.txt", f"{tmp_path}/b c.txt"
    for text in (plain, f" {plain}\n", f"file://{plain}", f"'{plain}'"):
        assert attach.pasted(text) == f"@{plain}"
    for text in (spaced, spaced.replace(" ", "\\ "), f"file://{spaced.replace(' ', '%20')}", f'"{spaced}"'):
        assert attach.pasted(text) == f'@"{spaced}"'
    for text in ("", "a.txt", f"{plain}\n{plain}", f"{tmp_path}", f"{tmp_path}/none", "x" * 1001, "/" + "x" * 999):
        assert attach.pasted(text) is None


@pytest.mark.parametrize(("before", "code"), [(0, "one"), (4, "one"), (20, "one"), (21, "two\n~~~"), (99, "two\n~~~")])
def test_the_code_block_is_the_last_that_begins_before_a_place(before: int, code: str) -> None:
    text = "abc\n```py\none\n```\nde\n````\ntwo\n~~~\n````\n```\nopen"
    assert text.index("````\ntwo") == 21
    assert attach.code_block(text, before) == code
    assert attach.code_block("no code", 3) is None


def test_prompts_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "history.jsonl"
    assert attach.read_history(path) == []
    for prompt in ("one", "two\nlines é"):
        attach.append_history(path, prompt)
    path.write_text(path.read_text() + "{broken\n[1]\n" + json.dumps("three") + "\n")
    assert attach.read_history(path) == ["one", "two\nlines é", "three"]
    monkeypatch.setattr(attach, "KEPT", 3)
    path.write_text("".join(f'"{n}"\n' for n in range(9)))
    assert attach.read_history(path) == ["6", "7", "8"]
    attach.append_history(tmp_path / "folder" / "history.jsonl" / "x", "lost")  # nothing else fails


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("Blue skies", "Blue skies"), (' "**Blue skies**" \nmore', "Blue skies"),
        ("# One two three four five", "One two three four five"), ("One two three four five six", ""), ("", ""),
        ("Blue skies.", ""), ("Why blue?", ""), ("Skies:", ""), ("It is blue", ""), ("Blue!", ""), ("blue,", ""),
    ],
)  # fmt: skip
def test_a_name_is_a_few_words_that_are_no_sentence(answer: str, name: str) -> None:
    assert name_in(answer) == name
    assert first_words("  many\n words  " + "x" * 99) == "many words " + "x" * 48 + "…"


def test_a_conversation_is_named_once() -> None:
    asked: list[tuple[r.ModelRequest, Any]] = []
    names: list[str] = []
    titler = Titler(lambda request, heard: asked.append((request, heard)) or 1)  # type: ignore[func-returns-value]
    bench = Bench(short())
    bench.say(ASK)
    talk = bench.session.conversation
    titler.stop()
    titler.ask(Conversation("e").add(Node("u", Fork(), "user", text="x")), FACTS, names.append)
    titler.ask(replace(talk, title="mine"), FACTS, names.append)
    assert not asked and not names
    titler.ask(talk, replace(FACTS, chat=False), names.append)
    cut = replace(talk, nodes={**talk.nodes, "n2": replace(talk.nodes["n2"], finish="cancelled")})
    titler.ask(cut, FACTS, names.append)
    assert not asked and names == [ASK, ASK]
    long = replace(talk, nodes={**talk.nodes, "n1": replace(talk.nodes["n1"], text="y" * 3000)}, title="")
    titler.ask(long, FACTS, names.append)
    titler.ask(long, FACTS, names.append)
    ((request, heard),) = asked
    assert isinstance(request, r.Generate) and request.max_tokens == 14 and request.control.recipe.greedy
    assert request.model == "m" and request.prompt.turns == (
        ("user", "y" * 2000),
        ("assistant", " The sky looks blue."),
        ("user", ASKED),
    )
    heard(1, [Emitted(0, step("Blue")), Emitted(0, step("<end>", special=True)), Emitted(0, step(" skies"))])
    heard(1, [Done(0, "cancelled", Stats(1, 0, 1, 0.1, 0.1))])
    assert names[2:] == ["y" * 59 + "…"] * 2
    heard(1, [Done(0, "length", Stats(1, 0, 1, 0.1, 0.1))])
    assert names[4:] == ["Blue skies"]
    titler.stop()
    assert request.control.cancelled


def test_a_greedy_continuation_is_of_the_newest_text() -> None:
    asked: list[tuple[Any, Any]] = []
    changes: list[str] = []
    it = GreedyContinuation()
    submit = lambda request, heard: asked.append((request, heard)) or 1  # type: ignore[func-returns-value]  # noqa: E731
    it.ask("one", "m", submit, lambda: changes.append(it.text))
    (request, first) = asked[0]
    assert request == r.Generate("m", Prompt(parts=("one",)), request.control, max_tokens=LONGEST) and it.after == "one"
    assert request.control.recipe.greedy
    first(1, [Emitted(0, step(" a", -0.5)), Emitted(0, step("<x>", None, special=True)), Emitted(0, step("b", -1.0))])
    assert (it.text, round(it.bits, 3), it.whole) == (" ab", 2.164, False)
    first(1, [Done(0, "length", Stats(1, 0, 1, 0.1, 0.1))])
    assert not it.whole and changes == [" ab", " ab"]
    it.ask("two", "m", submit, lambda: changes.append("two"))
    assert request.control.cancelled and (it.after, it.text, it.bits) == ("two", "", 0.0)
    first(1, [Emitted(0, step("late"))])
    assert it.text == "" and len(changes) == 2
    for reason, whole in (("eot", True), ("length", False), ("stop", True)):
        asked[1][1](2, [Done(0, reason, Stats(1, 0, 1, 0.1, 0.1))])
        assert it.whole is whole
    it.stop()
    assert asked[1][0].control.cancelled and (it.after, it.text, it.bits, it.whole) == ("", "", 0.0, False)


# -- the top line ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "nbytes", "cached", "facts"),
    [
        (100, 98_000_000, 0, ("9/100 ctx", "0.1 GB")), (9_999, 40_000_000, 0, ("9/9999 ctx", "40 MB")),
        (10_000, 49_000_000, 1_000_000, ("9/10k ctx", "0.1 GB")),
        (131_072, 1_500_000_000, 500_000_000, ("9/131k ctx", "2.0 GB")), (100, 49_999_999, 0, ("9/100 ctx", "50 MB")),
    ],
)  # fmt: skip
def test_the_top_line_tells_the_model_and_its_room(
    context: int, nbytes: int, cached: int, facts: tuple[str, ...]
) -> None:
    bench = Bench(short())
    bench.session.submit(ASK)
    bench.show()
    bench.hear(1)
    bench.session.cache_nbytes = cached
    engine: Any = SimpleNamespace(current=replace(FACTS, context=context, nbytes=nbytes), loading=None)
    assert status.shown(bench.session, engine) == ("A model", facts)
    bench.session.adapters = "calm 1"
    engine.current = replace(engine.current, title="")
    assert status.shown(bench.session, engine)[0] == "m + calm 1"
    bench.session.stats = Stats(1, 0, 1, 0.1, 0.05)
    bench.session.stop()
    assert status.shown(bench.session, engine)[1][1].endswith("tok/s") is bool(bench.session.tokens_per_s())


def test_the_top_line_before_there_is_a_model() -> None:
    bench = Bench(short())
    loading = SimpleNamespace(model="wanted")
    engine: Any = SimpleNamespace(current=None, loading=loading)
    assert status.shown(bench.session, engine) == ("wanted", ("loading",))
    loading.model = ""
    assert status.shown(bench.session, engine) == ("no model", ("loading",))
    engine.loading = None
    assert status.shown(bench.session, engine) == ("no model", ("/model chooses one",))


def test_progress_and_failures_in_words(tmp_path: Path) -> None:
    assert status.progress(r.Progressed("m", "downloading m", 25, 50)) == "downloading m 50 % · esc stops"
    assert status.progress(r.Progressed("m", "loading", 0, 0)) == "loading the model…"
    assert status.progress(r.Progressed("m", "loading", 1, 3)) == "loading the model 33 % · esc stops"
    assert status.progress(r.Progressed("m", "making ready")) == "making ready…"
    assert status.reading(3, 9) == "reading the prompt · 3 of 9 tokens"
    assert status.failed(Failed("no such file"), tmp_path) == "no such file" and not list(tmp_path.iterdir())
    line = status.failed(Failed("a bug", "Traceback"), tmp_path)
    assert (
        line
        == f"the engine stopped: a bug · the text is kept · /reload loads the model again · {tmp_path / 'crash.txt'}"
    )
    assert (tmp_path / "crash.txt").read_text() == "Traceback"
    assert status.failed(Failed("a bug", "Traceback"), tmp_path / "none").endswith("loads the model again")
    on = [
        SimpleNamespace(name="calm", weight=0.5),
        SimpleNamespace(name="off", weight=0.0),
        SimpleNamespace(name="few", weight=1.0),
    ]
    engine: Any = SimpleNamespace(attached=on)
    assert status.adapters(engine) == "calm 0.5 + few 1"


# -- what was asked for, what is offered -------------------------------------------------------------------------------


def test_what_a_command_line_asked_for_is_in_every_new_conversation() -> None:
    bare = Start().fresh("c", 7.0)
    assert (bare.id, bare.created, bare.updated, bare.system) == ("c", 7.0, 7.0, "") and Start().new_seed is None
    recipe = Recipe(greedy=True)
    start = Start(recipe, ("Temperature",), "Be brief.", seed=5)
    found = start.fresh("c", 7.0)
    assert (found.recipe, found.order, found.system) == (recipe, ("Temperature",), "Be brief.")
    kept = Start(system="").of(Conversation("d", system="Its own."))
    assert kept.system == "Its own." and kept.recipe == Conversation("d").recipe
    assert start.new_seed is not None and [start.new_seed() for _ in range(3)] == [5, 6, 7]
    assert Start(seed=0).new_seed is not None


def test_ways_of_decoding_are_offered_and_read() -> None:
    engine: Any = SimpleNamespace(models={"one": FACTS, "two": replace(FACTS, name="two")}, current=FACTS)
    engine.models["one"] = FACTS
    engine.current = engine.models["one"]
    assert decoding.others(engine) == ["two"]
    assert_picture(
        "tui/pictures/texts/strategies.txt", [f"{id!r}: {about}" for id, about in comparison.strategies(["two"])]
    )
    assert [id for id, _ in decoding.offered(engine)] == [id for id, _ in comparison.strategies(["two"])][:-1]
    assert str(decoding.read("strategy beam 3")) == "beam 3" == str(decoding.read(" beam 3"))
    assert decoding.read("") == decoding.read("plain") == decoding.read("strategy ")
    with pytest.raises(ParameterError):
        decoding.read("strategy nothing")


@pytest.mark.parametrize(
    "text", ["", "x", "steps", "steps 1 steps 2", "steps x", "check perhaps", "none 3", "steps 1 check"]
)
def test_what_is_no_option_of_a_canvas_is_refused(text: str) -> None:
    from engine.diffusion.unmasking import Unmasking

    if not text:
        assert diffusing.read("", Unmasking(steps=3)) == Unmasking(steps=3)
        return
    with pytest.raises(ParameterError, match="/unmask wants"):
        diffusing.read(text, Unmasking())


# -- texts as trees ----------------------------------------------------------------------------------------------------


def test_a_text_parts_where_it_was_changed() -> None:
    bench = Bench(short())
    talk = Conversation("t", kind="text")
    talk, fork = text_document.commit(talk, "Look up:", lambda: "n1")
    assert fork == Fork("n1")
    steps = tuple(bench.engine.score([0, *bench.ids(" The", " sky", " looks", " blue")]))[1:]
    end = replace(steps[0], text="<end>", piece=b"<end>", special=True)
    talk = talk.add(Node("n2", Fork("n1"), "text", steps=(*steps[:2], end, *steps[2:]), joins=True))
    assert text_document.text_of(talk) == "Look up: The sky looks blue"
    lines = []
    for text in (
        "Look up: The sky looks blue", "Look up: The sky looks", "Look up: The sky looks ", "Look up: The skies",
        "Look up: The sky", "Look up:", "Look", "Look down: The sky", "", "Other",
        "Look up: The sky looks blue and red", "Look up: A",
    ):  # fmt: skip
        fork, rest = text_document.divide(talk, text)
        found, end_of = text_document.commit(talk, text, lambda: "n3")
        lines += [f"{text!r}: {fork}, {rest!r}, then {end_of}", *tree(found)]
        assert text_document.text_of(found) == text or not rest
    assert_picture("tui/pictures/texts/text-parts.txt", lines)
    assert text_document.spans(talk.nodes["n2"].steps) == [(0, 4), (4, 8), (8, 8), (8, 14), (14, 19)]
    assert text_document.spans([]) == []


def test_prompts_stand_before_their_places() -> None:
    bench = Bench(short(), system="Be brief.")
    bench.say(ASK)
    bench.session.branch(TokenPlace(1, 2), bench.ids(" glow")[0])
    bench.hear()
    bench.say("And red?")
    talk = bench.session.conversation
    talk = talk.add(Node("w", Fork("n2", 1), "assistant", text=" written words", joins=True, finish="edited"))
    lines = []
    for node in talk.nodes.values():
        for at in (0, 1, 3, None):
            fork = Fork(node.id, at)
            lines.append(f"{node.id}@{at}: {prompt_of(before(talk, fork))}; turns {turns(talk, fork)}")
    lines.append(f"{prompt_of(before(talk, Fork()))}; {turns(replace(talk, system=''), Fork())}")
    assert_picture("tui/pictures/texts/prompts.txt", lines)


def test_answers_part_where_their_bytes_differ() -> None:
    a = [step("x"), step("y"), step("z")]
    assert comparison.divergence(a, [step("x"), step("q")]) == 1
    assert comparison.divergence(a, a[:2]) is comparison.divergence(a, a) is comparison.divergence([], a) is None
    assert comparison.divergence(a, [step("q"), step("y"), step("q")], 1) == 2


def test_columns_are_kept_and_taken_apart() -> None:
    columns = []
    for number, finish in enumerate((None, 4)):
        bench = Bench(short())
        bench.session.new_seed = lambda number=number: number
        bench.session.submit(ASK)
        bench.show()
        bench.hear(finish or 99)
        bench.session.keep()
        bench.show()
        columns.append(bench)
        ids = iter(range(99))
        bench.session.new_id = lambda ids=ids, number=number: f"{number}-{next(ids)}"
    shown = [[*bench.session.transcript.shown] for bench in columns]
    for index, messages in enumerate(shown):
        for message in messages:
            segment = message.message.segments[-1]
            node = replace(segment.node, id=f"{segment.node.id}-{index}")
            message.message = replace(message.message, segments=(replace(segment, node=node),))
    answers = [("first", shown[0]), ("second", shown[1])]
    base = Conversation("base", kind="comparison", title="old", system="Be brief.", marks={("x", 1): "m"})
    talk = comparison.gathered(base, answers, 9.0)
    said = [(n.role, n.label, n.finish, n.seed, text_of(n.steps) or n.text) for n in talk.nodes.values()]
    assert said == [
        ("user", "", "", 0, ASK), ("assistant", "first", "eot", 0, " The| sky| looks| blue|.|<|im_end|>"),
        ("assistant", "second", "cancelled", 1, " Blue| light"),
    ]  # fmt: skip
    assert (talk.kind, talk.title, talk.system, talk.created, talk.updated) == ("chat", "", "Be brief.", 9.0, 9.0)
    assert talk.leaf is not None and talk.leaf.label == "second" and talk.id != "base" and not talk.marks
    found = comparison.kept(Conversation("base", kind="comparison"), answers, 3.0)
    assert found.title == ASK and found.updated == 3.0 and list(found.nodes) == ["n1-0", "n2-0", "n2-1"]
    assert found.nodes["n2-1"].finish == "" and len(found.nodes["n2-1"].steps) == 2
    shown[1][1].steps.append(step("!"))
    last = shown[1][1].message.segments[-1]
    done = replace(last.node, finish="eot")
    shown[1][1].message = replace(shown[1][1].message, segments=(replace(last, node=done),))
    again = comparison.kept(found, answers, 4.0)
    assert again.nodes["n2-1"].finish == "eot" and text_of(again.nodes["n2-1"].steps) == " Blue| light|!"
    assert (
        again.nodes["n2-0"] is found.nodes["n2-0"]
        and comparison.kept(again, answers, 4.0).nodes["n2-1"] == again.nodes["n2-1"]
    )
    apart = comparison.columns(again)
    assert [list(each.nodes) for each in apart] == [["n1-0", "n2-0"], ["n1-0", "n2-1"]]
    assert [each.kind for each in apart] == ["chat", "chat"] and apart[0].recipe == again.nodes["n2-0"].steps[-1].recipe
    away = comparison.put_away(again, "n2-0")
    assert [list(each.nodes) for each in comparison.columns(away)] == [["n1-0", "n2-1"]]
    assert comparison.put_away(again, "none") is again


# -- a run -------------------------------------------------------------------------------------------------------------


def test_a_run_tells_what_it_reads_and_what_was_reloaded() -> None:
    talk = Conversation("c").add(Node("u", Fork(), "user", text="x")).add(Node("a", Fork("u"), "assistant"))
    run = LiveRun("a", RunControl(), lambda: "new")
    talk, fresh = run.take(talk, [r.Began((1, 2)), Prefilled(3, 9), Reloaded("a line"), r.Cached(77)])
    assert (run.read, run.ids, run.news, run.cache_nbytes, fresh) == ((3, 9), (1, 2), "a line", 77, [])
    run.take(talk, [Prefilled(9, 9)])
    assert run.read is None and run.news == ""
    talk, fresh = run.take(talk, [Emitted(0, step("a")), Failed("gone")])
    assert run.ended and run.failure == Failed("gone") and len(fresh) == 1 and not talk.nodes["a"].steps
    closed = run.close(talk, "failed")
    assert closed.nodes["a"].finish == "failed" and len(closed.nodes["a"].steps) == 1 and run.nodes == {}
    other = LiveRun("a", RunControl(), lambda: "new")
    assert other.close(talk, "").nodes["a"].finish == "" and other.ended
    assert not other.drop("a") and other.control.given_up == set()
    other.follow(Conversation("empty"))
    assert other.node == "a"
