"""What torch itself finds to compute on: the only part of the survey that imports it."""

from dataclasses import dataclass
from typing import Any

from vlmtools.environment.facts import GIB
from vlmtools.environment.problems import Problem


@dataclass(frozen=True, slots=True)
class Device:
    """Something that models can run on.

    Args:
        name: As torch calls it.
        memory_gib: Its memory in GiB; None for the processor.
        bf16: It computes in bfloat16.
    """

    name: str = ""
    memory_gib: float | None = None
    bf16: bool = False


@dataclass(frozen=True, slots=True)
class Devices:
    """The result of asking torch.

    Args:
        found: The devices, the processor last.
        error: Why torch could not be asked; empty when it could.
        cuda_build: torch was built for CUDA or ROCm.
    """

    found: tuple[Device, ...] = ()
    error: str = ""
    cuda_build: bool = False


def look() -> Devices:
    """Import torch and list what it can compute on; an import that fails is reported, not raised."""
    try:
        import torch
    except Exception as error:  # a broken build fails with any of OSError, ImportError, RuntimeError
        return Devices(error=f"{type(error).__name__}: {error}")
    return Devices(
        (*_gpus(torch), *_apple(torch), _processor(torch)),
        cuda_build=bool(torch.version.cuda or torch.version.hip),
    )


def _gpus(torch: Any) -> list[Device]:
    if not torch.cuda.is_available():
        return []
    count, bf16 = torch.cuda.device_count(), bool(torch.cuda.is_bf16_supported())
    seen = [torch.cuda.get_device_properties(index) for index in range(count)]
    return [Device(gpu.name, gpu.total_memory / GIB, bf16) for gpu in seen]


def _apple(torch: Any) -> list[Device]:
    return [Device("Apple GPU (mps)", None, True)] if torch.backends.mps.is_available() else []


def _processor(torch: Any) -> Device:
    square = torch.ones(2, 2, dtype=torch.bfloat16)
    return Device(f"processor ({torch.get_num_threads()} threads)", None, bool((square @ square == 2).all()))


def device_problems(devices: Devices) -> list[Problem]:
    """What is wrong with what torch found."""
    if devices.error:
        what = f"torch is installed and cannot be imported: {devices.error}"
        cure = "Install torch anew: pip install --force-reinstall torch"
        return [Problem(what, "No model can run without it.", cure, serious=True)]
    if devices.cuda_build and len(devices.found) == 1:
        return [
            Problem(
                "torch is built for GPUs and finds none.",
                "Models run on the processor, many times slower.",
                "On a machine with a GPU, look at what nvidia-smi says and at CUDA_VISIBLE_DEVICES; else ignore this.",
            )
        ]
    return []
