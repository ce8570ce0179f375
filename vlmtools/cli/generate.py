"""`vlmtools generate`: ask a model, with or without patches; one answer to the screen, many into a file."""

import shlex
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmtools.cli import _options as opt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vlmtools.answers import AnswerRow
    from vlmtools.engine.base import Engine
    from vlmtools.store.rows import RowFile
    from vlmtools.types import Decoding, Responder, Sample

ASK, DRAW, CHANGE, RUN, OUT = (
    "What is asked",
    "How answers are drawn",
    "What is changed",
    "How it runs",
    "What comes out",
)


def generate(
    model: Annotated[
        str,
        typer.Argument(help="Hub id or folder of a model, or server:MODEL@URL.", show_default=False),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures, folders, quoted patterns, URLs.", show_default=False),
    ] = None,
    prompt: Annotated[
        str,
        opt.option(ASK, "--prompt", "-p", help="The question, for items without one.", show_default=False),
    ] = "",
    items: Annotated[
        str | None, opt.option(ASK, "--items", help="JSONL or CSV: id, image, prompt. Instead of pictures.")
    ] = None,
    limit: opt.Limit = None,
    n: Annotated[int, opt.option(DRAW, "--n", "-n", min=1, help="Answers per item.")] = 1,
    temperature: Annotated[
        float, opt.option(DRAW, "--temperature", "-t", min=0.0, help="0 is greedy.")
    ] = 0.0,
    top_p: Annotated[float, opt.option(DRAW, "--top-p", min=0.0, max=1.0, help="Of random draws.")] = 1.0,
    num_beams: Annotated[int, opt.option(DRAW, "--num-beams", min=1, help="Beams of greedy answers.")] = 1,
    max_new_tokens: Annotated[int, opt.option(DRAW, "--max-new-tokens", min=1, help="Length limit.")] = 256,
    seed: Annotated[int, opt.option(DRAW, "--seed", help="Of random draws.")] = 0,
    patch: opt.Patches = None,
    patch_file: opt.PatchFiles = None,
    prune: opt.Prune = None,
    quant: opt.Quant = None,
    dtype: opt.Dtype = "auto",
    batch_size: opt.BatchSize = None,
    concurrency: opt.Concurrency = None,
    engine: opt.Engine = "local",
    workers: opt.Workers = None,
    gpus_per_worker: opt.GpusPerWorker = None,
    cpus_per_worker: opt.CpusPerWorker = 1.0,
    block: opt.Block = None,
    trust_remote_code: opt.TrustRemoteCode = False,
    offline: Annotated[bool, opt.option(RUN, "--offline", help="Never reach the network.")] = False,
    out: Annotated[
        Path | None, opt.option(OUT, "--out", "-o", help="JSONL file; run the same line again to resume.")
    ] = None,
    stream: Annotated[
        bool | None,
        opt.option(
            OUT, "--stream/--no-stream", help="Show one answer word by word.", show_default="terminal"
        ),
    ] = None,
    json_: Annotated[bool, opt.option(OUT, "--json", help="Print rows as JSON.")] = False,
) -> None:
    """Ask a model: one picture prints the answer, several give one JSONL row each.

    Run the same line again to resume. `vlmtools generate MODEL 'photos/*.jpg' -p 'Describe the image.' -o mine.jsonl`
    writes what `vlmtools crosscheck mine.jsonl others.jsonl` ranks.
    """
    from vlmtools.answers import URLS, wanted_samples
    from vlmtools.engine.spec import open_engine
    from vlmtools.types import Decoding

    samples = wanted_samples(images or [], items, prompt)[:limit]
    decoding = Decoding(temperature, top_p, max_new_tokens, seed)
    options = {
        "quant": quant,
        "dtype": dtype,
        "batch_size": batch_size,
        "concurrency": concurrency,
        "trust_remote_code": trust_remote_code,
        "offline": offline,
        "num_beams": num_beams,
        "prune": prune,
        # a URL that was typed is a picture that was asked for
        "allow_urls": any(one.startswith(URLS) for one in images or ()),
    }
    responder = _responder(model, patch or [], patch_file or [], options, temperature)
    alone = len(samples) == 1 and items is None and out is None
    with open_engine(
        engine,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        block=block,
        batch_size=batch_size,
    ) as made:
        asking = _Asking(responder, samples, decoding, n, made)
        try:
            asking.one(stream, json_) if alone else asking.many(out, json_)
        finally:
            responder.close()


def _responder(
    model: str, patch: list[str], patch_file: list[Path], options: dict[str, Any], temperature: float
) -> "Responder":
    from vlmtools.crosscheck.sources import responder
    from vlmtools.errors import BadInput

    if options["num_beams"] > 1 and temperature > 0:
        raise BadInput("--num-beams searches and --temperature draws: one excludes the other. Leave one out.")
    if model.startswith("server:"):
        if patch or patch_file or options["prune"] or options["num_beams"] > 1:
            raise BadInput(
                "--patch, --prune and --num-beams change a model on this machine, and a server runs its own. Give the "
                "model's hub id or folder instead of server:MODEL@URL."
            )
        return responder(model, **options)
    if options["prune"]:
        from vlmtools.pruning._spec import parse_pruner

        options = options | {"prune": parse_pruner(options["prune"])}
    if patch or patch_file:
        from vlmtools.patches._files import gather_patches

        options = options | {"patches": gather_patches(patch, patch_file)}
    return responder(model, **options)


class _Asking:
    """One command line: who is asked what, and how often."""

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
                failed = self._run((), _print_row, "to stdout")
                self._end(failed, None)
                return
            self._check(file)
            before = len(file)
            self._note(file.path)
            failed = self._run(file.keys, lambda row: _keep(file, row), str(file.path))
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

    def _check(self, file: "RowFile") -> None:
        for item, key in self.keys.items():
            file.check(item, key)

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

    def _rows(self, known: Any) -> "Iterator[AnswerRow]":
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

    def _run(self, known: Any, put: "Callable[[AnswerRow], object]", where: str) -> "Counter[str]":
        from vlmtools.cli._screen import progress
        from vlmtools.crosscheck.collect import reporter, silent

        done = sum(key in known for key in self.keys.values())
        failed: Counter[str] = Counter()
        with progress() as told:
            # rows on the same screen as the bar would tear it
            quiet = where == "to stdout" and sys.stdout.isatty()
            one_more = reporter(silent if quiet else told, f"{self.responder.name}", done, len(self.samples))
            for row in self._rows(set(known)):
                if row.error is None:
                    put(row)
                else:
                    failed[row.error] += 1
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
