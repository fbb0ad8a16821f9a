"""Mutants: seeded single changes to the program's code, each as the text of a whole file.

Changed are comparisons, arithmetic, conditions, constants, what is returned, and statements that are left out; not
what a person reads, types, imports or declarations. Knows nothing of tests.
"""

import ast
import random
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMED = {"min": "max", "max": "min", "any": "all", "all": "any"}
READ = ("help", "msg", "metavar")  # keywords whose value a person reads


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one change."""

    path: str  # from the root
    line: int
    source: str  # of that line
    function: int  # first line of the innermost function, decorators too; 0 at the level of the module or a class
    before: str
    after: str
    text: str
    place: int  # which of its file's places

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.change}"

    @property
    def change(self) -> str:
        """What is changed, wherever it stands in its file."""
        return f"{self.source}: {self.before} -> {self.after}"


def drawn(root: Path, folder: str, count: int, seed: int) -> list[Mutant]:
    """So many different mutants of a folder's or a file's functions, each place as likely as any other."""
    files = [root / folder] if folder.endswith(".py") else sorted((root / folder).rglob("*.py"))
    places = [(path, n) for path in files for n, (*_, f) in enumerate(_changes(ast.parse(path.read_bytes()))) if f]
    chosen = random.Random(f"{seed} {folder}").sample(places, min(count, len(places)))
    return [_mutant(root, path, n) for path, n in chosen]


def _mutant(root: Path, path: Path, place: int) -> Mutant:
    source = path.read_bytes()
    node, new, function = places(source.decode())[place]
    assert node.end_lineno is not None and node.end_col_offset is not None
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
    shown = ast.unparse(new)
    lines = "\n" * (node.end_lineno - node.lineno - shown.count("\n"))  # what comes after stays in its line
    put = shown + lines if isinstance(new, ast.stmt) else f"({shown}{lines})"
    text = (source[:begin] + put.encode() + source[end:]).decode()
    ast.parse(text)
    line = source.splitlines()[node.lineno - 1].decode().strip()
    return Mutant(str(path.relative_to(root)), node.lineno, line, function, ast.unparse(node), shown, text, place)


def probed(text: str, numbers: Mapping[int, int]) -> str:
    """The text of a file with a probe before the statement of each of these places, which reports its number.

    Of a default or a decorator the function is reported.
    """
    tree = ast.parse(text)
    statements = _statements(tree)
    put: list[tuple[list[ast.stmt], ast.stmt, int]] = []
    changes = list(_changes(tree))
    for place, number in numbers.items():
        body, statement = statements[changes[place][0]]
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            put.append((statement.body, statement.body[0], number))
        else:
            put.append((body, statement, number))
    for body, statement, number in put:
        at = next(i for i, other in enumerate(body) if other is statement)
        at += at == 0 and _is_docstring(statement)
        body[at:at] = ast.parse(f"probe_hit({number})").body
    head = sum(
        _is_docstring(node) or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        for node in tree.body[:2]
    )
    tree.body[head:head] = ast.parse("import tests.mutation.probe").body
    return ast.unparse(ast.fix_missing_locations(tree))


def _statements(tree: ast.Module) -> dict[ast.AST, tuple[list[ast.stmt], ast.stmt]]:
    """Of every node the innermost statement it stands in, and the block of that."""
    found: dict[ast.AST, tuple[list[ast.stmt], ast.stmt]] = {}

    def go(node: ast.AST, here: tuple[list[ast.stmt], ast.stmt] | None) -> None:
        if here is not None:
            found[node] = here
        for _, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    go(child, (value, child) if isinstance(child, ast.stmt) else here)

    go(tree, None)
    return found


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def places(text: str) -> list[tuple[ast.stmt | ast.expr, ast.stmt | ast.expr, int]]:
    """Every place of a file that can be changed, as `_changes` has them."""
    return list(_changes(ast.parse(text)))


def _changes(tree: ast.Module) -> Iterator[tuple[ast.stmt | ast.expr, ast.stmt | ast.expr, int]]:
    """Every node that can be changed, what it becomes, and the function it stands in."""
    yield from _below(tree, 0)


def _below(node: ast.AST, function: int) -> Iterator[tuple[ast.stmt | ast.expr, ast.stmt | ast.expr, int]]:
    if isinstance(node, ast.stmt | ast.expr):
        for new in _changed(node):
            yield node, new, function
    for child in _children(node):
        inner = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = min([child.lineno, *(d.lineno for d in child.decorator_list)])
        yield from _below(child, inner)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in a node, without what a person reads, types and declarations."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from (d for d in [*node.args.defaults, *node.args.kw_defaults] if d is not None)
            yield from node.body
        case ast.ClassDef():
            yield from node.body
        case ast.AnnAssign():
            if node.value is not None:
                yield node.value
        case ast.Raise() | ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Assert():
            return
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Call():
            yield from (node.func, *node.args, *(k.value for k in node.keywords if k.arg not in READ))
        case _:
            yield from ast.iter_child_nodes(node)


def _changed(node: ast.stmt | ast.expr) -> Iterator[ast.stmt | ast.expr]:
    new = copy(node)
    match new:
        case ast.Compare():
            new.ops = [COMPARED[type(new.ops[0])](), *new.ops[1:]]
        case ast.BinOp() if type(new.op) in COUNTED and not any(_is_no_number(side) for side in (new.left, new.right)):
            new.op = COUNTED[type(new.op)]()
        case ast.BoolOp():
            new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield new.operand
            return
        case ast.Constant(value=bool()):
            new.value = not new.value
        case ast.Constant(value=int() | float()):
            new.value = new.value + 1
        case ast.Name(ctx=ast.Load()) if new.id in NAMED:
            new.id = NAMED[new.id]
        case ast.Return() if new.value is not None and not isinstance(new.value, ast.Constant):
            new.value = ast.Constant(None)
        case ast.IfExp():
            new.body, new.orelse = new.orelse, new.body
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
            return
        case ast.Continue():
            yield ast.Break()
            return
        case ast.Break():
            yield ast.Continue()
            return
        case _:
            return
    yield new


def _is_no_number(node: ast.expr) -> bool:
    """Whether a side of an operator is a text or None, as in a type."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | None))
