"""What a run folder asks of the file system: whole-or-nothing files, one writer, fingerprints."""

import os
import time
from pathlib import Path

from vlmtools.errors import StoreError, StoreLocked

_TICK_NS = 20_000_000
_held: set[int] = set()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it holds either the old content or the new, never a part.

    Args:
        path: The file; its folder is made when it does not exist.
        content: The new content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names created, renamed or removed in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, content: bytes) -> None:
    """Hand every byte to the operating system, however many calls it takes."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def fingerprint(path: Path) -> list[int]:
    """Size in bytes and time of change in ns: equal while nobody wrote to the file; empty without a file."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return []
    return [state.st_size, state.st_mtime_ns]


def settle(paths: list[Path]) -> None:
    """Wait until a further write to any of the files would get another time of change (at most 20 ms)."""
    latest = max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)
    wait = latest + _TICK_NS - time.time_ns()
    if 0 < wait <= _TICK_NS:
        time.sleep(wait / 1e9)


def lock(path: Path) -> int:
    """Become the only writer until `unlock`, or until this process ends in whatever way.

    Args:
        path: The lock file; it stays, what counts is the lock the operating system holds on it.

    Returns:
        The handle to give to `unlock`.

    Raises:
        StoreLocked: Another process, or another part of this one, is the writer.
        StoreError: The file system has no locks.
    """
    import fcntl  # not on every operating system, and readers need no lock

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 20).decode(errors="replace").strip()
        os.close(handle)
        raise _refusal(path, holder, error) from error
    os.ftruncate(handle, 0)
    write_all(handle, f"{os.getpid()}\n".encode())
    _held.add(handle)
    return handle


def unlock(handle: int) -> None:
    """Let others write."""
    _held.discard(handle)
    os.ftruncate(handle, 0)
    os.close(handle)


def _leave_to_parent() -> None:
    # Otherwise a forked worker that outlives a killed run would keep the folder locked.
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _refusal(path: Path, holder: str, error: OSError) -> StoreError:
    if isinstance(error, BlockingIOError):
        return StoreLocked(
            f"The run folder {str(path.parent)!r} is being written by process {holder or 'unknown'}. One "
            "process writes to a run folder at a time; any number may read it. Wait for that run to end, "
            "stop it, or choose another --out."
        )
    return StoreError(
        f"The run folder {str(path.parent)!r} cannot be locked ({error.strerror}). A run needs a file system "
        "with locks. Choose an --out on a local disk."
    )
