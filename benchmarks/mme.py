"""MME: two yes/no questions per picture; existence, count, position and color are the hallucination subset."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Row, Said, Total, Values, ratio
from vlmtools.errors import BadInput
from vlmtools.scoring import mme
from vlmtools.scoring.yes_no import is_clear
from vlmtools.types import Json, Sample

_PAIR = 2


@dataclass(frozen=True)
class Mme(Benchmark):
    """Accuracy plus accuracy+ (both questions of a picture right) per task, 200 at most, summed over tasks.

    `hallucination` is the sum over existence, count, position and color (800 at most), `perception` over ten tasks
    (2,000), `cognition` over four (800). Per task: `accuracy/task`, `accuracy_plus/task` and their sum in points.

    Reference: arXiv:2306.13394, section 2.2.

    Args:
        tasks: Which: the hallucination subset, perception, cognition, or all fourteen.
    """

    tasks: Literal["hallucination", "perception", "cognition", "all"] = "hallucination"

    protocols: ClassVar[Mapping[str, str]] = {
        "official": "yes, else no, in the first four characters of the answer in lower case; anything else is wrong",
        "lenient": "yes or no as a person reads it",
    }
    reference: ClassVar[str] = "arXiv:2306.13394"
    checked: ClassVar[str] = (
        "The official program on the published answers of LaVIN to all fourteen tasks: equal in all printed digits."
    )
    licence: ClassVar[str] = "academic use, on request to the authors; not to be passed on"
    get: ClassVar[str] = (
        "Ask the authors for MME_Benchmark (github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, branch "
        "Evaluation). Give a folder of <task>.txt files with lines picture<tab>question<tab>Yes or No (the eval_tool's "
        "layout; a fourth column holds answers, and `vlmtools score FOLDER` reads it), or a JSON-lines file with task, "
        "image, question, answer."
    )
    notes: ClassVar[tuple[str, ...]] = (
        "Papers on hallucination print the subset of four tasks (800), others perception (2,000): name which.",
        "Some toolkits read the whole answer and not its first four characters; long answers then score higher.",
    )
    headline: ClassVar[tuple[str, ...]] = ("hallucination", "perception", "cognition")
    units: ClassVar[Mapping[str, str]] = {
        "hallucination": "points of 800",
        "perception": "points of 2,000",
        "cognition": "points of 800",
        "points": "points of 200",
        **{f"points/{task}": "points of 200" for task in (*mme.PERCEPTION, *mme.COGNITION)},
    }
    max_new_tokens: ClassVar[int] = 64
    question_field: ClassVar[str] = "question"

    @property
    def _wanted(self) -> tuple[str, ...]:
        if self.tasks == "all":
            return (*mme.PERCEPTION, *mme.COGNITION)
        return mme.GROUPS[self.tasks]

    def samples(self, data: Path | None) -> Iterable[Sample]:
        """Two questions per picture; ids are task/picture/1 and task/picture/2."""
        place = self.need(data)
        lines = _entries(place) if place.is_file() else self._texts(place)
        met: Counter[tuple[str, str]] = Counter()
        for task, image, question, answer, where in lines:
            if task in self._wanted:
                truth = answer.strip().lower()
                if truth not in ("yes", "no"):
                    raise BadInput(
                        f"{where}: the answer is {answer!r}. MME's questions are answered Yes or No."
                    )
                met[task, image] += 1
                extra = {"task": task, "image": image, "question": question}
                id = f"{task}/{image}/{met[task, image]}"
                yield Sample(id, question, image=f"{task}/{image}", reference=truth, extra=extra)
        odd = next((key for key, count in met.items() if count != _PAIR), None)
        if odd is not None or not met:
            what = (
                f"the picture {odd[1]!r} of {odd[0]} has {met[odd]} questions"
                if odd
                else "no question was found"
            )
            raise BadInput(f"In {str(place)!r}, {what}. Every picture of MME has two. Copy the files again.")

    def _texts(self, folder: Path) -> Iterator[tuple[str, str, str, str, str]]:
        for task, (image, question, truth, *_), where in self._lines(
            folder, 3, "picture, question and answer"
        ):
            yield task, image, question, truth, where

    def answers_in(self, folder: Path) -> Iterable[tuple[str, str | None, str]] | None:
        """The layout of the official eval_tool: `<task>.txt` with lines picture, question, truth, answer."""
        if not any((folder / f"{task}.txt").is_file() for task in self._wanted):
            return None
        return self._told(folder)

    def _told(self, folder: Path) -> Iterator[tuple[str, str, str]]:
        met: Counter[tuple[str, str]] = Counter()
        for task, parts, where in self._lines(folder, 4, "picture, question, truth and the model's answer"):
            met[task, parts[0]] += 1
            yield f"{task}/{parts[0]}/{met[task, parts[0]]}", parts[3], where

    def _lines(self, folder: Path, least: int, what: str) -> Iterator[tuple[str, list[str], str]]:
        """(task, columns, where) of every line that is not blank."""
        for task in self._wanted:
            path = self.find(folder, f"{task}.txt")
            for number, line in enumerate(_content(path).split("\n"), 1):
                parts = line.split("\t")
                where = f"{str(path)!r}, line {number}"
                if line.strip() and len(parts) < least:
                    raise BadInput(f"{where}: it has {len(parts)} columns. A line is {what}, parted by tabs.")
                if line.strip():
                    yield task, parts, where

    def score(self, sample: Sample, said: Said) -> Row:
        """One answer by the protocol's rule."""
        task, image = str(sample.extra["task"]), str(sample.extra["image"])
        read = mme.read(said.text, self.protocol)
        right = read == sample.reference
        return Row(
            sample.id,
            said.text,
            parsed=read,
            label=sample.reference,
            correct=right,
            numbers={f"n/{task}": 1.0, f"right/{task}": float(right)},
            cluster=f"{task}/{image}",
            detail={"task": task, "question": sample.prompt, "clear": is_clear(said.text)},
        )

    def finish(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Half a picture per question, and half of its success when both are right."""
        wrong = {row.cluster for row in rows if not row.correct}
        return [replace(row, numbers={**row.numbers, **_half(row, row.cluster in wrong)}) for row in rows]

    def metrics(self, total: Total) -> Mapping[str, Values]:
        """Sums over tasks, then each task."""
        found: dict[str, Values] = {}
        points: dict[str, Values] = {}
        for task in self._wanted:
            accuracy = ratio(total[f"right/{task}"], total[f"n/{task}"])
            plus = ratio(total[f"both/{task}"], total[f"image/{task}"])
            points[task] = 100 * (accuracy + plus)
            found |= {
                f"points/{task}": points[task],
                f"accuracy/{task}": accuracy,
                f"accuracy_plus/{task}": plus,
            }
        sums: dict[str, Values] = {
            group: sum((points[task] for task in mme.GROUPS[group][1:]), points[mme.GROUPS[group][0]])
            for group in mme.GROUPS
            if set(mme.GROUPS[group]) <= set(self._wanted)
        }
        return sums | found


def _half(row: Row, wrong: bool) -> dict[str, float]:
    task = str(row.detail["task"])
    return {f"image/{task}": 1 / _PAIR, f"both/{task}": 0.0 if wrong else 1 / _PAIR}


def _entries(path: Path) -> Iterator[tuple[str, str, str, str, str]]:
    if path.name.endswith(".txt"):
        raise BadInput(f"{str(path)!r} is one task of MME. Give the folder that holds all the tasks' files.")
    for row in read_entries(path):
        names = ("task", "image", "question", "answer")
        missing = [name for name in names if not isinstance(row.fields.get(name), str)]
        if missing:
            raise BadInput(f"{row.where} has no text in {missing[0]!r}. MME's rows have {', '.join(names)}.")
        task, image, question, answer = (_text(row.fields[name]) for name in names)
        yield task, image, question, answer, row.where


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{str(path)!r} is not UTF-8 ({error}). Convert it, for example with iconv."
        ) from error


def _text(value: Json) -> str:
    return str(value)
