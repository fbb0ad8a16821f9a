"""A release's texts, from what the repository says: `python .github/release.py gather|check|notes|formula ...`

    gather v0.1.0                            what the changelog has as unreleased becomes the version's, of today
    check v0.1.0                             the tag, pyproject.toml and the changelog's first heading are one version
    notes v0.1.0                             what the changelog says above its list
    formula v0.1.0 OWNER/REPO ARCHIVE        the Homebrew formula for the tag's archive

Asks no network. One line and exit code 1 for what does not fit.
"""

import hashlib
import re
import sys
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
UNRELEASED = re.compile(r"^## Unreleased\n(.*?)(?=^## |\Z)", re.M | re.S)
HEADING = re.compile(r"^## (\S+) \((\d{4}-\d{2}-\d{2})\)\n(.*?)(?=^- |^## |\Z)", re.M | re.S)


def gather(tag: str) -> None:
    changelog, version = ROOT / "CHANGELOG.md", tag.removeprefix("v")
    text = changelog.read_text(encoding="utf-8")
    if (found := UNRELEASED.search(text)) is None:
        sys.exit("CHANGELOG.md has nothing under '## Unreleased'")
    rest = text[: found.start()] + text[found.end() :]
    if re.search(rf"^## {re.escape(version)} ", rest, re.M) is None:
        rest = text.replace("## Unreleased", f"## {version} ({datetime.now(UTC).date()})", 1)
    else:
        first = re.search(r"^- ", rest[found.start() :], re.M)
        at = found.start() + (first.start() if first else len(rest))
        rest = f"{rest[:at]}{found[1].strip()}\n{rest[at:]}"
    changelog.write_text(rest, encoding="utf-8")


def entry() -> re.Match[str]:
    """The changelog's first section: its version, its date, and what stands above its list."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## .*$", text, re.M)
    found = HEADING.match(text, first.start()) if first else None
    if found is None:
        sys.exit(f"CHANGELOG.md must begin with '## VERSION (YYYY-MM-DD)', got {first and first[0]!r}: write the date")
    return found


def check(tag: str) -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    version, day, _ = entry().groups()
    if not tag == f"v{written}" == f"v{version}":
        sys.exit(f"one version is wanted: the tag is {tag}, pyproject.toml says {written}, CHANGELOG.md {version}")
    if date.fromisoformat(day) > datetime.now(UTC).date():
        sys.exit(f"CHANGELOG.md dates {version} on {day}, which has not come yet")


def notes(tag: str) -> None:
    check(tag)
    print(entry()[3].strip())


def formula(tag: str, repository: str, archive: str) -> None:
    check(tag)
    text = (ROOT / ".github/homebrew/likely.rb.in").read_text(encoding="utf-8")
    digest = hashlib.sha256(Path(archive).read_bytes()).hexdigest()
    for name, value in (("REPOSITORY", repository), ("VERSION", tag.removeprefix("v")), ("SHA256", digest)):
        text = text.replace(f"@{name}@", value)
    print(text, end="")


if __name__ == "__main__":
    verbs = {"gather": (gather, 1), "check": (check, 1), "notes": (notes, 1), "formula": (formula, 3)}
    verb, wanted = verbs.get(sys.argv[1] if sys.argv[1:] else "", (None, 0))
    if verb is None or len(sys.argv) != wanted + 2:
        sys.exit(__doc__)
    verb(*sys.argv[2:])  # type: ignore[operator]
