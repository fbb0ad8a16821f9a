"""Build hook: the project's addresses, from where it is built.

No address stands in the repository: whoever forks and publishes it has their own. A workflow of GitHub's says it in the
environment; elsewhere the package names none.
"""

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Addresses(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        repository = os.environ.get("GITHUB_REPOSITORY")
        home = f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}"
        pages = {"Source": "", "Changelog": "/blob/main/CHANGELOG.md", "Issues": "/issues"}
        metadata["urls"] = {name: home + page for name, page in pages.items()} if repository else {}
