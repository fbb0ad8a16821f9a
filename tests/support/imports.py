"""The program as a graph of imports: which file and folder imports which, and what a package says it uses.

Everything is a function of sources, texts by the names of their modules, so that a fault can be planted in a copy. An
import counts wherever it stands, inside functions too. That a package's `__init__` runs before its files does not:
every package that offers names of its files would be a circle.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Set
from functools import cache

CHAIN = ("app", "engine", "models", "metal")  # each imports only from itself and what stands to its right
Sources = Mapping[str, str]
Graph = Mapping[str, Set[str]]


@cache
def parsed(text: str) -> ast.Module:
    """A source's tree."""
    return ast.parse(text)


def statements(tree: ast.AST, *, types: bool) -> Iterator[ast.AST]:
    """Every statement of a module; those that are only there for the type checker where `types`."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        inner = getattr(node, "orelse", ()) if typing and not types else ast.iter_child_nodes(node)
        todo += [child for child in inner if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case)]


@cache
def imports(text: str, *, types: bool = True) -> frozenset[tuple[str, str]]:
    """Every module that a source imports, and the name of it that is wanted, "" for the module alone."""
    wanted: set[tuple[str, str]] = set()
    for node in statements(parsed(text), types=types):
        if isinstance(node, ast.Import):
            wanted |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            wanted |= {(node.module, alias.name) for alias in node.names}
    return frozenset(wanted)


def layer(name: str) -> str:
    """The folder of the chain that a module of ours is in; of any other the first part of its name."""
    return name.removeprefix("likely.").partition(".")[0]


def backward(sources: Sources) -> list[tuple[str, str]]:
    """Imports that go against the chain, or to tests: the file, and what it imports."""
    wrong = []
    for name, text in sources.items():
        forbidden = {*CHAIN[: CHAIN.index(layer(name))], "tests", "benchmarks"}
        wrong += [(name, module) for module, _ in imports(text) if layer(module) in forbidden]
    return sorted(set(wrong))


def files(sources: Sources, *, types: bool = True) -> dict[str, set[str]]:
    """The files of the program that each file imports; only when it runs where not `types`."""
    graph: dict[str, set[str]] = {}
    for name, text in sources.items():
        whole = ((module, f"{module}.{wanted}") for module, wanted in imports(text, types=types))
        graph[name] = {full if full in sources else module for module, full in whole} & set(sources) - {name}
    return graph


def packages(sources: Sources) -> set[str]:
    """The names of all folders with files of ours."""
    return {name.rpartition(".")[0] for name in sources}


def levels(sources: Sources) -> dict[str, dict[str, set[str]]]:
    """For every folder, its children (folders and files), and the other children that each of them imports from."""
    graph = files(sources)
    found: dict[str, dict[str, set[str]]] = {}
    for name, wanted in graph.items():
        parts = name.split(".")
        for depth in range(2, len(parts)):
            parent, child = ".".join(parts[:depth]), ".".join(parts[: depth + 1])
            near = {".".join(module.split(".")[: depth + 1]) for module in wanted if module.startswith(f"{parent}.")}
            found.setdefault(parent, {}).setdefault(child, set()).update(near - {child})
    return found


def circle(graph: Graph) -> list[str]:
    """Those that need each other, and what is between two such circles. Found by taking away, again and again, what
    needs nothing that is left and what nothing left needs."""
    before = -1
    while len(graph) != before:
        before = len(graph)
        graph = {name: wanted & set(graph) for name, wanted in graph.items() if wanted & set(graph)}
        needed = {module for wanted in graph.values() for module in wanted}
        graph = {name: wanted for name, wanted in graph.items() if name in needed}
    return sorted(graph)


def neighbours(sources: Sources) -> dict[str, set[str]]:
    """For every folder below a layer the folders beside it that its files, or those of a folder in it, import from."""
    inside = packages(sources)
    beside: dict[str, set[str]] = {name: set() for name in inside if name.count(".") > 1}
    graph = files(sources)
    for at in beside:
        parent = at.rpartition(".")[0]
        wanted = {module for name in graph if f"{name}.".startswith(f"{at}.") for module in graph[name]}
        near = {module[len(parent) + 1 :].partition(".")[0] for module in wanted if module.startswith(f"{parent}.")}
        beside[at] = {name for name in near if f"{parent}.{name}" in inside} - {at.rpartition(".")[2]}
    return beside


def said(text: str) -> set[str] | None:
    """The neighboring folders that a package's docstring names (`Uses: base, chat.`); None if it names none."""
    match = re.search(r"\bUses: ([\w, ]+)\.", " ".join((ast.get_docstring(parsed(text)) or "").split()))
    if match is None:
        return None
    return set() if match[1] == "no other folder" else set(match[1].split(", "))
