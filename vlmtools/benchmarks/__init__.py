"""The files of the top-level `benchmarks/` folder, importable as `vlmtools.benchmarks.<name>`.

A wheel carries them inside this package; in a checkout they lie beside it.
"""

from pathlib import Path

_beside = Path(__file__).resolve().parents[2] / "benchmarks"
if (_beside.parent / "pyproject.toml").is_file():
    __path__.append(str(_beside))
