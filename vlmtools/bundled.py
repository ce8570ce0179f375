"""Names of the models that come with the package: `reference:clean` stands for a folder inside it."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vlmtools.errors import UnknownName, suggest

PREFIX = "reference:"


@cache
def bundled() -> dict[str, Path]:
    """Name → folder of every bundled model, in alphabetical order; empty when none came along."""
    spec = find_spec("vlmtools")
    roots = list(spec.submodule_search_locations or []) if spec else []
    folders = [
        found for root in roots for found in (Path(root) / "reference" / "models").glob("*/config.json")
    ]
    return {path.parent.name: path.parent for path in sorted(folders)}


def located(name: str) -> str:
    """The folder of a bundled model; any other name as it is.

    Args:
        name: Hub name, folder, or `reference:NAME`.

    Raises:
        UnknownName: No such model is bundled.
    """
    if not name.startswith(PREFIX):
        return name
    wanted = name.removeprefix(PREFIX)
    if wanted not in bundled():
        known = ", ".join(f"{PREFIX}{one}" for one in bundled()) or "none"
        raise UnknownName(
            f"There is no bundled model {name!r}.{suggest(wanted, bundled())} Write it as one of: {known}."
        )
    return str(bundled()[wanted])
