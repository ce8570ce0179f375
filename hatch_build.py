"""Put the top-level content folders inside the package, in real wheels only."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CONTENT_FOLDERS = ("adapters", "benchmarks")


class ContentFolders(BuildHookInterface[Any]):
    """Maps `adapters/` to `vlmtools/adapters/` (and `benchmarks/` likewise), except for editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for folder in CONTENT_FOLDERS:
            build_data["force_include"][folder] = f"vlmtools/{folder}"
