"""Models as verbs and workers open them: what is passed on to the engine, and what each change tells it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from app import model_provider
from app.cli import VERBS
from app.cli import likely as program
from app.cli.opening import default_model, open_session
from app.looks import OpenLook, Shifted, ShiftLook
from app.model_provider import LoadedModel, LocalModelProvider
from app.requests import ModelOffer
from engine import ranks
from engine.decode.control import RunControl
from engine.diffusion.unmasking import Unmasking
from engine.errors import CheckpointError, ParameterError
from engine.sources import catalogue, checkpoint, store


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Checkpoints and sessions that are only noted."""
    from engine import session
    from engine.tune import stack

    found: list[Any] = []
    loaded = SimpleNamespace(info=SimpleNamespace(weights="w"), precision="f32")
    monkeypatch.setattr(
        checkpoint,
        "load",
        lambda name, **more: found.append((name, {k: v for k, v in more.items() if k != "progress"})) or loaded,
    )
    monkeypatch.setattr(checkpoint, "Parting", lambda together, how: (together, how))
    monkeypatch.setattr(session, "Session", lambda *args, **more: found.append((args[1:], more)) or "session")
    monkeypatch.setattr(stack, "Stack", lambda session: SimpleNamespace(add=lambda *given: found.append(given)))
    monkeypatch.setattr(store, "default", lambda: SimpleNamespace(name="usual"))
    return found


def test_a_session_is_opened_as_it_is_asked_for(
    noted: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert open_session("m") == "session"
    assert noted == [("m", {"parting": None, "activation_bits": None}), ((None,), {"ranks": None})]
    noted.clear()
    open_session("", adapters=["a", "b=0.5"], activation_bits="8", bits=4)
    assert noted[0] == ("usual", {"parting": None, "activation_bits": 8})
    assert noted[1] == ((None,), {"ranks": None, "bits": 4}) and noted[2:] == [("a", 1.0), ("b", 0.5)]
    noted.clear()
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path))
    open_session("m", keep_prefix=True)
    ((prefixes,), _) = noted[1]
    assert prefixes is not None
    for more, line in (
        ({"adapters": ["a=x"]}, "is no number"),
        ({"parallel": "tensor"}, "--parallel is for several ranks"),
    ):
        with pytest.raises(click.UsageError, match=line):
            open_session("m", **more)
    noted.clear()
    together: Any = SimpleNamespace(leads=True)
    monkeypatch.setattr(ranks, "joined", lambda: together)
    with pytest.raises(click.UsageError, match="--adapter is for one process"):
        open_session("m", adapters=["a"])
    open_session("m"), open_session("m", parallel="pipeline"), open_session("m", whole=True, adapters=["a"])
    partings = [more["parting"] for name, more in noted if name == "m"]
    assert partings == [(together, "tensor"), (together, "pipeline"), None]
    assert [more["ranks"] for args, more in noted if isinstance(more, dict) and "ranks" in more] == [
        together,
        together,
        None,
    ]


def test_where_no_model_is_named_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.cli import choosing

    monkeypatch.setattr(store, "default", lambda: None)
    monkeypatch.setattr(choosing, "ask", lambda: "chosen")
    assert default_model() == "chosen"
    monkeypatch.setattr(store, "default", lambda: SimpleNamespace(name="usual"))
    assert default_model() == "usual"


def test_every_default_is_said() -> None:
    """An option with a default says which in its help, or that it has one."""
    silent = []

    def look(command: click.Command, name: str) -> None:
        if isinstance(command, click.Group):
            for each, inner in command.commands.items():
                look(inner, f"{name} {each}")
            return
        for param in command.params:
            if not isinstance(param, click.Option) or param.is_flag or param.hidden:
                continue
            has = (isinstance(param.default, str | int | float) and param.default not in ("", 0)) or param.show_default
            if has and not param.show_default and "efault" not in (param.help or ""):
                silent.append(f"{name} {param.opts[0]}")

    for verb in VERBS:
        command = program.get_command(click.Context(program), verb)  # type: ignore[attr-defined]
        assert command is not None
        look(command, verb)
    assert silent == []
    shown = CliRunner().invoke(program, ["estimate", "curve", "--help"]).output
    assert "[default: 3; " in shown and "[default: estimate]" in shown and "[default: 100; " in shown


# -- models of this machine ------------------------------------------------------------------------------------------


def info(name: str, nbytes: int) -> Any:
    return SimpleNamespace(name=name, nbytes=nbytes, license="mit", family="llama", quantization="q4")


def known(name: str, nbytes: int = 5) -> Any:
    return SimpleNamespace(name=name, nbytes=nbytes, license="apache", title=name.upper(), good_for="all")


def test_what_is_here_is_offered_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "list", lambda: (info("a", 50), info("b", 51)))
    monkeypatch.setattr(model_provider.machine, "memory", lambda: 100)
    monkeypatch.setattr(catalogue, "offers", lambda memory: [known("c"), known("a")])
    monkeypatch.setattr(catalogue, "KNOWN", {"d": known("d"), "c": known("c")})
    monkeypatch.setattr(catalogue, "fits", lambda each, memory: each.name == "c" and memory == 100)
    assert list(LocalModelProvider().offers()) == [
        ModelOffer("a", 50, "mit", True, True, "llama q4"), ModelOffer("b", 51, "mit", True, False, "llama q4"),
        ModelOffer("c", 5, "apache", False, True, "C: all"), ModelOffer("d", 5, "apache", False, False, "D: all"),
    ]  # fmt: skip


def test_the_first_that_is_here_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str) -> Any:
        if name == "torn":
            raise CheckpointError("torn")
        return info(name, 1) if name == "here" else None

    monkeypatch.setattr(store, "resolve", resolve)
    monkeypatch.setattr(store, "default", lambda: info("usual", 1))
    provider = LocalModelProvider()
    assert provider.choose(["", "gone", "torn", "here"]) == "here" and provider.choose(["gone"]) == "usual"
    monkeypatch.setattr(store, "default", lambda: None)
    assert provider.choose([]) == ""
    assert model_provider.loaded("gone") is None and model_provider.loaded("torn") is None


@pytest.fixture
def lab() -> Any:
    """A loaded model of which only what a test needs is there."""
    made: Any = LoadedModel.__new__(LoadedModel)
    calls: list[Any] = []

    def note(name: str) -> Any:
        return lambda *args, **more: calls.append((name, args, more))

    made.stack = SimpleNamespace(
        attached=("on",), add=note("add"), weigh=note("weigh"), only=note("only"), remove=note("remove"),
        check_name=note("name"),
        shift=lambda ids: len(ids) / 4,
    )  # fmt: skip
    made.inside, made.calls = None, calls
    made.facts = SimpleNamespace(mask=None, title="tiny")
    return made


def test_adapters_are_changed_by_their_names(lab: Any) -> None:
    lab.inside = SimpleNamespace(forget=lambda: lab.calls.append("forgot"))
    for change, args in (("add", ("f", 0.5)), ("weigh", ("f", 0.5)), ("only", ("f", 0.5)), ("remove", ("f",))):
        assert lab.adapt(change, "f", 0.5) == ("on",)
        assert lab.calls == [(change, args, {}), "forgot"], "nothing that was seen inside it holds"
        lab.calls.clear()
    with pytest.raises(ParameterError, match="not 'drop'"):
        lab.adapt("drop", "f", 0.5)


def test_a_direction_is_made_kept_and_put_on(lab: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from engine.inside import steering, subject

    lab.checkpoint = SimpleNamespace(info=SimpleNamespace(name="m"))
    monkeypatch.setattr(type(lab), "info", property(lambda self: SimpleNamespace(name="m")), raising=False)
    monkeypatch.setattr(subject, "transformer", lambda session: SimpleNamespace(blocks=[0] * 5))
    monkeypatch.setattr(steering, "place", lambda name: tmp_path / name)
    monkeypatch.setattr(steering, "direction", lambda model, toward, away, layer, name: (toward, away, layer, name))
    monkeypatch.setattr(steering, "save", lambda folder, found: lab.calls.append((folder.name, found)))
    assert lab.steer("kind", [[1]], [[2]], None) == ("on",)
    assert lab.calls == [
        ("name", ("kind",), {}),
        ("kind", ([[1]], [[2]], 2, "m")),
        ("add", (tmp_path / "kind",), {"name": "kind"}),
    ]
    lab.steer("mean", [[1]], [[2]], 0)
    assert lab.calls[4][1][2] == 0
    (tmp_path / "kind").mkdir()
    with pytest.raises(ParameterError, match="a direction called kind is kept already"):
        lab.steer("kind", [], [], None)


def test_a_look_is_into_a_model_that_goes_from_left_to_right(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import inside_jobs

    monkeypatch.setattr(
        inside_jobs, "InsideJobs", lambda session: SimpleNamespace(look=lambda ids, look, control: iter([ids]))
    )
    control = RunControl()
    assert list(lab.look_inside(range(300), ShiftLook(), control)) == [Shifted(64.0)]
    assert lab.inside is None and list(lab.look_inside([1], OpenLook(), control)) == [[1]] and lab.inside is not None
    lab.forget = lambda: lab.calls.append("caches")
    lab.close()
    assert lab.inside is None and lab.calls == ["caches"]
    lab.facts.mask = 0
    with pytest.raises(
        ParameterError, match="the inside is shown of models that go from left to right, and tiny fills masks"
    ):
        list(lab.look_inside([1], OpenLook(), control))


def test_a_canvas_is_filled_as_a_text_or_as_an_answer(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.diffusion import answering, bound, denoiser, infilling

    monkeypatch.setattr(type(lab), "info", property(lambda self: SimpleNamespace(name="m")), raising=False)
    lab.model, lab.tokenizer, control = "model", "tokenizer", RunControl()
    monkeypatch.setattr(type(lab), "context", property(lambda self: 9), raising=False)
    monkeypatch.setattr(denoiser, "of_model", lambda model, name: SimpleNamespace(mask=7))
    monkeypatch.setattr(infilling, "canvas", lambda *args: list(args))
    assert lab.canvas("plain") is None and lab.canvas("a [MASK:2]") == ["a [MASK:2]", "tokenizer", 7, 9]
    monkeypatch.setattr(
        answering, "answer_canvas", lambda session, prompt, **more: SimpleNamespace(ids=(len(prompt), *more.values()))
    )
    assert lab.answer_canvas([1, 2], [3], 4, 5) == [2, [3], 4, 5]
    monkeypatch.setattr(
        infilling, "infill", lambda session, ids, how, recipe, *, seed: ("text", ids, recipe() is control.recipe, seed)
    )
    monkeypatch.setattr(
        answering,
        "answer",
        lambda session, canvas, how, recipe, *, seed: (
            "answer",
            canvas.ids,
            canvas.start,
            canvas.mask,
            recipe() is control.recipe,
            seed,
        ),
    )
    assert lab.fill([1, 7], 0, Unmasking(), control, seed=3) == ("text", [1, 7], True, 3)
    assert lab.fill([1, 7], 1, Unmasking(), control, seed=3) == ("answer", (1, 7), 1, 7, True, 3)
    facts = SimpleNamespace(mask=7, block=4)
    monkeypatch.setattr(
        denoiser, "ModelDenoiser", lambda model, name: SimpleNamespace(diffusion=facts, log_probabilities="logs")
    )
    monkeypatch.setattr(bound, "bounding", lambda *args, **more: (args, more))
    assert lab.bounding([1, 7, 7], [1]) == (("logs", [1, 7, 7], 7, [False, True, False]), {"block": 4, "draws": 64})
