"""Python as a child process: `command`, the one way in which this program starts it.

The child finds modules in the standard library, then in our folders, then among the installed packages. It looks
neither into the folder that it is started in nor into those of PYTHONPATH: whoever made them may have put a `json.py`
there, and it would be run. The child begins with this file, named by its path. Knows nothing of what is run in it.
"""

import sys
from pathlib import Path

FILE = Path(__file__).resolve()
# the folder that `import likely` finds: the clone, or the installed packages
ROOT = next(folder for folder in FILE.parents if (folder / "likely" / "__init__.py").is_file())


def command(module: str, *arguments: str) -> list[str]:
    """The command line of a child that runs a module, ours or an installed one, as `python -m` would."""
    alone = ["-s"] if sys.flags.no_user_site else []  # packages of the user's own, where we have them too
    return [sys.executable, "-E", "-P", "-S", *alone, str(FILE), module, *arguments]


if __name__ == "__main__":
    import runpy
    import site

    sys.path.append(str(ROOT))
    site.main()  # -S has left the packages out, so that they come last
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
