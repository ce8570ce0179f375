"""What `vlmtools generate` does once it knows whom to ask what: one answer to the screen, or rows as they come."""

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from vlmtools.answers import AnswerRow
    from vlmtools.engine.base import Engine
    from vlmtools.store.rows import RowFile
    from vlmtools.types import Decoding, Responder, Sample

MOST_REASONS = 1000
"""Different reasons of failures that are kept apart; a reason may name its item."""


class Asking:
    """One command line: who is asked what, and how often.

    Args:
        responder: Who is asked.
        samples: The items.
        decoding: How answers are drawn.
        n: Answers per item.
        engine: Where the calls are made.
    """

    def __init__(
        self,
        responder: "Responder",
        samples: "Sequence[Sample]",
        decoding: "Decoding",
        n: int,
        engine: "Engine",
    ) -> None:
        from vlmtools.answers import row_keys

        self.responder, self.samples, self.decoding, self.n = responder, samples, decoding, n
        self.engine = engine
        self.keys = row_keys(responder, samples, decoding, n)

    def one(self, stream: bool | None, as_json: bool) -> None:
        """Print the answers to one item; a single one word by word on a terminal."""
        from vlmtools.cli._screen import print_json
        from vlmtools.errors import ResponderError

        show = (stream if stream is not None else sys.stdout.isatty()) and self.n == 1 and not as_json
        row = self._streamed() if show else next(self._rows(()))
        if row.error is not None:
            raise ResponderError(f"{self.responder.name} gave no answer: {row.error}")
        if as_json:
            print_json(row.record())
        elif not show:
            typer.echo("\n\n".join(str(reply.text) for reply in row.replies))

    def many(self, out: Path | None, as_json: bool) -> None:
        """A row per item, into the file or to stdout, as they come."""
        with _maybe(out) as file:
            if file is None:
                failed = self._run((), _print_row, "to stdout", 0)
                self._end(failed, None)
                return
            done, before = sum(file.check(item, key) for item, key in self.keys.items()), len(file)
            self._note(file.path)
            failed = self._run(file, lambda row: _keep(file, row), str(file.path), done)
            told = {
                "out": str(file.path),
                "rows": len(file),
                "new": len(file) - before,
                "failed": dict(failed),
            }
        if as_json:
            from vlmtools.cli._screen import print_json

            print_json(told)
        self._end(failed, told)

    def _streamed(self) -> "AnswerRow":
        from vlmtools.answers import AnswerRow
        from vlmtools.responders.hf import HF
        from vlmtools.types import Request

        if not isinstance(self.responder, HF):  # servers are asked for the whole answer
            row = next(self._rows(()))
            typer.echo(row.replies[0].text or "")
            return row
        sample = self.samples[0]
        reply = self.responder.load().stream(Request(sample, self.decoding), _show)
        typer.echo()
        return AnswerRow(self.keys[sample.id], self.responder.name, sample, (reply,))

    def _rows(self, known: "Container[str]") -> "Iterator[AnswerRow]":
        from vlmtools.answers import ask

        return ask(
            self.responder,
            self.samples,
            self.decoding,
            self.n,
            keys=self.keys,
            known=known,
            engine=self.engine,
        )

    def _run(
        self, known: "Container[str]", put: "Callable[[AnswerRow], object]", where: str, done: int
    ) -> "Counter[str]":
        from vlmtools.cli._screen import progress
        from vlmtools.crosscheck.collect import reporter, silent

        failed: Counter[str] = Counter()
        with progress() as told:
            # rows on the same screen as the bar would tear it
            quiet = where == "to stdout" and sys.stdout.isatty()
            one_more = reporter(silent if quiet else told, f"{self.responder.name}", done, len(self.samples))
            for row in self._rows(known):
                if row.error is None:
                    put(row)
                else:
                    known_reason = row.error in failed or len(failed) < MOST_REASONS
                    failed[row.error if known_reason else "other reasons"] += 1
                one_more()
        return failed

    def _note(self, out: Path) -> None:
        """Beside the rows: what wrote them."""
        import json
        from dataclasses import asdict

        from vlmtools import __version__
        from vlmtools.store.files import write_whole

        record = {
            "command": shlex.join(["vlmtools", *sys.argv[1:]]),
            "vlmtools": __version__,
            "model": dict(self.responder.identity()),
            "decoding": asdict(self.decoding),
            "answers_per_item": self.n,
        }
        write_whole(
            out.with_suffix(".record.json"), json.dumps(record, indent=2, default=str).encode() + b"\n"
        )

    def _end(self, failed: "Counter[str]", told: "dict[str, Any] | None") -> None:
        if told is not None:
            typer.echo(f"{told['out']}: {told['rows']:,} rows, {told['new']:,} of them new.", err=True)
        for reason, often in failed.most_common(5):
            typer.secho(f"Without an answer ({often} items): {reason}", fg="yellow", err=True)
        if failed:
            more = " Run the same line again to ask them once more." if told is not None else ""
            typer.secho(
                f"{failed.total()} of {len(self.samples)} items have no row.{more}", fg="yellow", err=True
            )
            raise typer.Exit(1)
        if told is not None:
            typer.echo(f"Next: vlmtools crosscheck {told['out']} others.jsonl", err=True)


def _maybe(out: Path | None) -> Any:
    from contextlib import nullcontext

    from vlmtools.errors import BadInput
    from vlmtools.store.rows import RowFile

    if out is None:
        return nullcontext()
    if out.suffix != ".jsonl":
        raise BadInput(f"--out {str(out)!r}: rows are written as JSONL. Give a name that ends in .jsonl.")
    return RowFile(out)


def _keep(file: "RowFile", row: "AnswerRow") -> None:
    file.append(row.sample.id, row.key, row.record())


def _print_row(row: "AnswerRow") -> None:
    from vlmtools.lines import encode

    sys.stdout.write(encode(row.key, row.record()).decode() + "\n")
    sys.stdout.flush()


def _show(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()
