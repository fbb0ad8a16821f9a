"""The shape of the program: who may import whom, and what must stay out of whose import graph."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from likely.app.tui.base import view_table
from tests.support import imports as graph
from tests.support.imports import CHAIN, Sources, layer, parsed

ROOT = Path(__file__).parent.parent
FILES = {
    "likely." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for folder in CHAIN
    for path in (ROOT / folder).rglob("*.py")
}
API = {f"likely.{path.stem}": path for path in (ROOT / "likely").glob("*.py")}  # which nothing of the program needs
SOURCES = {name: path.read_text() for name, path in FILES.items()}
VIEWS = {entry.path.partition(":")[0] for entry in view_table.VIEWS.values()}


@cache
def trees() -> dict[str, list[ast.AST]]:
    """The program, parsed, each file's nodes: only when a test asks, for every process collects this file."""
    return {name: [*ast.walk(parsed(text))] for name, text in SOURCES.items()}


def imports(name: str) -> set[str]:
    """Every module that a file imports, wherever in it, and every name of one."""
    wanted = graph.imports(SOURCES[name])
    return {module for module, _ in wanted} | {f"{module}.{name}" for module, name in wanted}


def within(folder: str) -> list[str]:
    return [name for name in FILES if layer(name) == folder]


def test_a_folder_imports_only_to_its_right() -> None:
    assert not graph.backward(SOURCES)
    assert not [name for name in FILES if imports(name) & {*API, "likely"}]


@pytest.mark.parametrize("folder", ["engine", "models", "metal"])
def test_only_app_prints_and_knows_textual(folder: str) -> None:
    for file in within(folder):
        calls = [n for n in trees()[file] if isinstance(n, ast.Call)]
        prints = [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
        # the simulated kernel prints its source where mx.fast.metal_kernel does: on verbose=True
        assert not prints or file.endswith(".kernel"), f"{file} prints in lines {prints}"
        assert not {n for n in imports(file) if n.partition(".")[0] in ("textual", "rich", "click")}, file


def test_only_the_screen_and_the_command_line_know_the_screen() -> None:
    for file in within("app"):
        if file.startswith(("likely.app.tui", "likely.app.cli")) or file == "likely.app.__main__":
            continue
        wrong = {
            name for name in imports(file) if name.partition(".")[0] == "textual" or name.startswith("likely.app.tui")
        }
        assert not wrong, f"{file} imports {wrong}"


READ = (
    "likely.engine.sampling.transforms",
    "likely.engine.sampling.presets",
    "likely.engine.sampling.trace.replay",
    "likely.engine.sampling.trace.run_trace",
    "likely.engine.sampling.trace.step",
    "likely.engine.sampling.trace.file",
    "likely.engine.chat.conversation",
    "likely.engine.base.errors",
    "likely.engine.decode.prompt",
    "likely.engine.decode.loop.control",
    "likely.engine.decode.loop.events",
    "likely.engine.sampling.trace.observe",
    "likely.engine.base.arrays",
    "likely.engine.sampling.trace.fields",
    "likely.engine.base.statistics.difference",
    "likely.engine.base.statistics.scores",
    "likely.engine.base.statistics.estimates",
    "likely.engine.base.statistics.measures",
    "likely.engine.base.statistics.comparison",
    "likely.engine.measure.evaluate.figures.figures",
    "likely.engine.measure.evaluate.tasks.generated",
    "likely.engine.measure.evaluate.tasks.tasks",
    "likely.engine.measure.evaluate.tasks.task_files",
    "likely.engine.measure.evaluate.tasks.verifiers",
    "likely.engine.train.control",
    "likely.engine.weights.adapters.config",
    "likely.engine.weights.adapters.attached",
    "likely.app.words.heat",
    "likely.app.jobs.jobs",
    "likely.app.jobs.requests",
    "likely.app.jobs.worker",
)


def test_what_the_screen_reads_never_imports_mlx() -> None:
    code = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if any(each.partition(".")[0] == "mlx" for each in sys.modules):
        sys.exit(f"{name} imports mlx")
"""
    out = subprocess.run([sys.executable, "-c", code, *READ], capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr


# -- the house -------------------------------------------------------------------------------------------------------


def classes(prefix: str) -> dict[str, tuple[str, list[str]]]:
    """Classes by name: the module of each, and the names of its bases."""
    return {
        node.name: (name, [ast.unparse(base).split("[")[0].rpartition(".")[2] for base in node.bases])
        for name, nodes in trees().items()
        if name.startswith(prefix)
        for node in nodes
        if isinstance(node, ast.ClassDef)
    }


def test_no_circles() -> None:
    """Nobody has to read one to understand the other, and that one to understand the first."""
    assert not graph.circle(graph.files(SOURCES, types=False)), "files import each other"
    assert not graph.circle(graph.files(SOURCES)), "files import each other for their types"
    for parent, children in graph.levels(SOURCES).items():
        assert not graph.circle(children), f"folders or files of {parent} import each other"


ORDER = {  # a folder imports only folders before it
    "likely.engine": "base text sampling weights decode inside train chat diffusion measure",
    "likely.app": "words store results jobs tools serve lessons tui cli",
}


@pytest.mark.parametrize("parent", ORDER)
def test_a_folder_imports_only_folders_before_it(parent: str) -> None:
    order = [f"{parent}.{name}" for name in ORDER[parent].split()]
    children = graph.levels(SOURCES)[parent]
    assert {child for child in children if child in graph.packages(SOURCES)} == set(order)
    for position, child in enumerate(order):
        assert not children[child] - set(order[:position]), f"{child} imports a folder after it"


@pytest.mark.parametrize("parent", ["likely.engine", "likely.app", "likely.engine.measure", "likely.engine.train"])
def test_a_large_folder_has_few_parts(parent: str) -> None:
    """At most ten folders and eight loose files, so that a person can keep them in mind."""
    children, packages = graph.levels(SOURCES)[parent], graph.packages(SOURCES)
    assert len(set(children) & packages) <= 10 and len(set(children) - packages) <= 8


def test_a_package_says_what_it_uses() -> None:
    for name, beside in graph.neighbours(SOURCES).items():
        assert graph.said(SOURCES[name]) == beside, f"{name} uses {', '.join(sorted(beside)) or 'no other folder'}"


THEN, LATER = "likely.app.tui.base.text.cells", "likely.app.tui.base.text.wrap"  # the latter imports the former
TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


def wrong(sources: Sources) -> list[str]:
    """Which of the rules of imports are broken."""
    rules: dict[str, object] = {
        "files": graph.circle(graph.files(sources, types=False)),
        "types": graph.circle(graph.files(sources)),
        "folders": [name for level in graph.levels(sources).values() for name in graph.circle(level)],
        "chain": graph.backward(sources),
        "uses": [name for name, beside in graph.neighbours(sources).items() if graph.said(sources[name]) != beside],
    }
    return [rule for rule, broken in rules.items() if broken]


@pytest.mark.parametrize(
    ("name", "line", "seen"),
    [
        (THEN, f"def late():\n    import {LATER}", ["files", "types", "folders"]),
        (THEN, f"{TYPES}from {LATER} import Wrapping", ["types", "folders"]),
        ("likely.app.tui.base.planted", "from likely.app.tui.views.view import View", ["folders", "uses"]),
        ("likely.app.tui.inside.planted", "from likely.app.tui.widgets.host import host", ["uses"]),
        ("likely.models.configuration.config", "from likely.engine.base.errors import LikelyError", ["chain"]),
    ],
)
def test_a_planted_import_is_seen(name: str, line: str, seen: list[str]) -> None:
    assert wrong(SOURCES | {name: f"{SOURCES.get(name, '')}\n{line}\n"}) == seen


def test_a_view_is_no_base_of_another_and_imports_none() -> None:
    found = classes("likely.app.tui")
    views = {name for name, (_, bases) in found.items() if "View" in bases}
    assert {found[name][0] for name in views} == VIEWS  # each of them, and one a file
    for name, (module, bases) in found.items():
        assert not views & set(bases), f"{name} in {module} has the view {views & set(bases)} as its base"
    run = graph.files(SOURCES, types=False)
    for name in VIEWS:
        assert not run[name] & (VIEWS - {name}), f"{name} imports another view"


def test_no_class_of_the_screen_is_more_than_three_deep() -> None:
    found = classes("likely.app.tui")

    def depth(name: str) -> int:
        bases = [base for base in found[name][1] if base in found and base != name]
        return 1 + max(map(depth, bases), default=0)

    deep = {name: depth(name) for name in found if depth(name) > 3}
    assert not deep, f"composition, not bases: {deep}"


def test_views_are_asked_by_their_contract() -> None:
    """No `getattr` on a screen, and no `cast` to a class that has the caster among its bases or users."""
    found = classes("likely.app.tui")
    for name, nodes in trees().items():
        if not name.startswith("likely.app.tui"):
            continue
        for node in nodes:
            if not isinstance(node, ast.Call):
                continue
            call, first = ast.unparse(node.func), ast.unparse(node.args[0]) if node.args else ""
            if call in ("getattr", "hasattr"):
                said = any(word in first for word in ("screen", "view", "app", "focus"))
                assert not said, f"{name}:{node.lineno} {ast.unparse(node)}"
            if call == "cast":
                target = first.strip("'\"")
                assert target not in found or "Protocol" in found[target][1] or "Painted" in found[target][1], (
                    f"{name}:{node.lineno} casts to {target}: ask a protocol"
                )


def test_lines_of_c_are_as_wide_as_lines_of_python() -> None:
    width = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["line-length"]
    native = [
        path
        for folder in (*CHAIN, "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".c", ".h", ".cpp", ".metal")
    ]
    assert native
    for path in native:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert len(line) <= width, f"{path.relative_to(ROOT)}:{number} has {len(line)} characters"


def test_a_class_name_stands_for_one_thing() -> None:
    found: dict[str, list[str]] = {}
    for name, nodes in trees().items():
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(name)
    assert not {name: where for name, where in found.items() if len(where) > 1}


def test_docstrings_name_a_role_first() -> None:
    for name, nodes in trees().items():
        for node in nodes:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                assert not (ast.get_docstring(node) or "").startswith("What "), f"{name}: {ast.get_docstring(node)}"


STARTERS = ("multiprocessing", "concurrent.futures.process", "concurrent.futures.ProcessPoolExecutor", "pty")
SHELLS = ("os.exec", "os.spawn", "os.posix_spawn", "os.popen", "os.system", "os.fork")


def test_python_is_started_in_one_way() -> None:
    """By `engine.child_python`: anywhere else the interpreter's path is no more than a word of a sentence."""
    for name, nodes in trees().items():
        if name in (
            "likely.engine.base.concurrency.child_python",
            "likely.app.results.preflight",
        ):  # the latter starts nothing by it, and imports none of ours
            continue
        told = {part for node in nodes if isinstance(node, ast.FormattedValue) for part in ast.walk(node)}
        for node in nodes:
            of_name = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            text = ast.unparse(node) if of_name and node.value.id in ("os", "sys") else ""
            assert text != "sys.executable" or node in told, f"{name}: use child_python.command"
            assert not text.startswith(SHELLS) or text == "os.register_at_fork", f"{name} calls {text}"
            word = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.rpartition("/")[2]
            assert word not in ("python", "python3"), f"{name} names the program {word}"
        wrong = {each for each in imports(name) if each.startswith(STARTERS) or each in ("os.system", "sys.executable")}
        assert not wrong, f"{name} imports {wrong}"


def test_files_are_locked_in_one_way() -> None:
    """By `metal.lock`, which says when a lock ends."""
    assert {name for name in FILES if imports(name) & {"fcntl.flock", "fcntl.lockf"}} <= {"likely.metal.lock"}
    calls = {name for name, nodes in trees().items() for n in nodes if getattr(n, "attr", "") in ("flock", "lockf")}
    assert calls == {"likely.metal.lock"}


BROUGHT = {"rich", "h11", "hf-xet", "anyio", "mcp-types", "httpx2"}  # by textual, uvicorn, huggingface-hub and mcp
EXTRAS = {
    "mcp",
    "pyarrow",
    "rensa",
    "py3langid",
    "math-verify",
    "resvg-py",
    "tensorboardx",
    "torch",
}  # each named by the line of who lacks it


def test_what_is_imported_is_installed_with_it() -> None:
    """A package is a dependency, or brought by one, or an extra that its user is told of."""
    made = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = {re.split(r"[\[>=; ]", each)[0].lower() for each in made["dependencies"]} | BROUGHT | EXTRAS
    wheels = packages_distributions()
    lacking = {
        (file, name)
        for file in FILES
        for name in {each.partition(".")[0] for each in imports(file)} - {"likely", *sys.stdlib_module_names}
        if not own & {wheel.lower().replace("_", "-") for wheel in wheels.get(name, [name])}
    }
    assert not lacking, lacking


def test_only_the_server_pays_for_the_server() -> None:
    for name in FILES:
        if name.startswith(("likely.app.serve", "likely.app.cli.commands.serve")):
            continue
        parts = ("server", "front", "guard", "serving_jobs", "api")  # app/serve/watch is a client, used by the screen
        server = ("starlette", "uvicorn", *(f"likely.app.serve.{part}" for part in parts))
        found = {each for each in imports(name) if each.startswith(server)}
        assert not found, f"{name} imports {found}"


# -- what ties the tests to how the program is built -------------------------------------------------------------------

REPLACERS = ("setattr", "patch", "object")  # of pytest's monkeypatch and of unittest.mock
PICTURED = (".svg", ".txt", ".ans")
MOST = {  # that there may be: a count falls, and is written here then; it never rises
    "private names that tests read": 0,
    "functions of the program that tests replace": 1,
    "methods of a screen that are called on a fake": 0,
    "lines of tests, pictures counted, for a thousand of the program": 690,
    "pictures": 33,
}


def _private_names(nodes: list[ast.AST]) -> int:
    """Reads of `x._name`, but of one's own, and imports of `_name` from the program."""
    found = 0
    for node in nodes:
        if isinstance(node, ast.Attribute) and re.match(r"_[A-Za-z]", node.attr):
            found += not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
        elif isinstance(node, ast.ImportFrom) and layer(node.module or "") in CHAIN:
            found += sum(alias.name.startswith("_") for alias in node.names)
    return found


def _ours(nodes: list[ast.AST]) -> dict[str, str]:
    """Names that a file imports from the program, and from where."""
    return {
        (alias.asname or alias.name).partition(".")[0]: getattr(node, "module", None) or alias.name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if layer(getattr(node, "module", None) or alias.name) in CHAIN
    }


def _methods_called(nodes: list[ast.AST]) -> list[tuple[ast.Call, ast.Attribute]]:
    return [(node, node.func) for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]


def _replaced(nodes: list[ast.AST]) -> int:
    """Calls that put something in the place of a part of the program."""
    found, ours = 0, _ours(nodes)
    for call, function in _methods_called(nodes):
        if function.attr in REPLACERS:
            first = call.args[0] if call.args else None
            while isinstance(first, ast.Attribute):
                first = first.value
            text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
            found += layer(text) in CHAIN or (isinstance(first, ast.Name) and first.id in ours)
    return found


def _on_a_fake(nodes: list[ast.AST]) -> int:
    """Calls `View.method(fake, ...)` of a class of the screen, and screens that are made without being built."""
    found, ours = 0, _ours(nodes)
    screens = {name for name, module in ours.items() if module.startswith("likely.app.tui") and name[:1].isupper()}
    for _, function in _methods_called(nodes):
        if isinstance(function.value, ast.Name) and function.value.id in screens:
            owner = function.value.id
            found += function.attr == "__new__" or _methods().get(f"{ours[owner]}.{owner}", {}).get(
                function.attr, False
            )
    return found


@cache
def _methods() -> dict[str, dict[str, bool]]:
    """Methods of the screen's classes by the class's full name, and whether each wants an instance."""
    return {
        f"{module}.{node.name}": {
            each.name: not {"classmethod", "staticmethod"} & {ast.unparse(one) for one in each.decorator_list}
            for each in node.body
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for module, nodes in trees().items()
        if module.startswith("likely.app.tui")
        for node in nodes
        if isinstance(node, ast.ClassDef)
    }


def _lines(paths: Iterator[Path]) -> int:
    return sum(len(path.read_text(errors="replace").splitlines()) for path in paths)


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (_private_names, "from likely.engine.decode.session import Session\nSession().run._state"),
        (_replaced, "def test(monkeypatch):\n    monkeypatch.setattr('likely.engine.decode.session.Session', None)"),
        (_replaced, "from likely.engine.decode import session\nmock.patch.object(session, 'Session')"),
    ],
)
def test_a_planted_tie_is_seen(count: Callable[[list[ast.AST]], int], line: str) -> None:
    assert count([*ast.walk(parsed(line))]) == 1


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    counted = (_private_names, _replaced, _on_a_fake)
    pictures = [path for path in (ROOT / "tests").rglob("*") if path.is_file() and path.suffix in PICTURED]
    read = {path: [*ast.walk(ast.parse(path.read_text()))] for path in (ROOT / "tests").rglob("*.py")}
    tests, program = _lines(iter([*read, *pictures])), _lines(iter([*FILES.values(), *API.values()]))
    found = [*(sum(map(count, read.values())) for count in counted), -(-1000 * tests // program), len(pictures)]
    return dict(zip(MOST, found, strict=True))


@pytest.mark.parametrize("name", MOST)
def test_ties_of_the_tests_may_only_fall(counts: dict[str, int], name: str) -> None:
    """A test says what is right by what a person presses and a caller calls, so that the rooms may be moved."""
    assert counts[name] <= MOST[name], f"{name}: {counts[name]}, and there may be {MOST[name]}: test what it does"
