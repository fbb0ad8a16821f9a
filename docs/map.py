"""Write docs/map.md, the map of the program's folders, from the docstrings of their `__init__` files.

python docs/map.py
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """# Map of the folders

Find the folder for a change here, then open the file that it says to read first. A folder imports only folders
named under "Uses", its own, and the layers below: `app` -> `engine` -> `models` -> `metal`. This page is made from the
folders' docstrings:

    python docs/map.py
"""


def page() -> str:
    """The page as Markdown: a section for each layer, an entry for each folder, nested as the folders are."""
    lines = [HEAD]
    for layer in ("app", "engine", "models", "metal"):
        lines.append(f"\n## {layer}\n")
        for init in sorted((ROOT / layer).rglob("__init__.py"), key=lambda path: path.parent.parts):
            folder = init.parent.relative_to(ROOT)
            text = " ".join((ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or "").split())
            lines.append(f"{'  ' * (len(folder.parts) - 1)}- `{folder.as_posix()}`: {text}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "map.md").write_text(page(), encoding="utf-8")
