import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from places import cases, data_roots

from vlmtools.errors import BadInput, MissingField
from vlmtools.responders.recorded import Recorded, items_from_images, read_items, read_sources
from vlmtools.store import Store, spool
from vlmtools.types import Answers, Request, Responder, Sample


@pytest.fixture(autouse=True, params=[None, 1], ids=["in memory", "in files"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs twice: small tables stay in memory, and with a limit of one row they do not."""
    if request.param is not None:
        monkeypatch.setattr(spool, "MOST", request.param)


ROWS: list[dict[str, Any]] = [
    {"id": "1", "text": "A dog."},
    {"id": "2", "text": "Zwei Hunde\nund ein Bär, „da“."},
]
WANTED = {row["id"]: row["text"] for row in ROWS}


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(path: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def table(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def texts(path: Path, **fields: str) -> dict[str, str]:
    (source,) = read_sources(path, **fields)
    return {item: answer.text for item, answer in source.answers.items()}


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.json.gz", "a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz"]
)
def test_every_format_gives_the_same_answers_and_the_same_name(tmp_path: Path, name: str) -> None:
    plain = tmp_path / name.removesuffix(".gz")
    if ".jsonl" in name:
        write(plain, jsonl(ROWS))
    elif ".json" in name:
        write(plain, json.dumps(ROWS))
    else:
        table(plain, "," if ".csv" in name else "\t")
    if name.endswith(".gz"):
        write(tmp_path / name, plain.read_bytes())
        plain.unlink()
    (source,) = read_sources(tmp_path / name)
    assert source.name == "a"
    assert {item: answer.text for item, answer in source.answers.items()} == WANTED


def test_a_json_object_gives_one_answer_per_entry(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.json", json.dumps(WANTED))) == WANTED
    inner = {id: {"caption": text} for id, text in WANTED.items()}
    assert texts(write(tmp_path / "b.json", json.dumps(inner)), text_field="caption") == WANTED


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path: Path, name: str) -> None:
    plain = jsonl(ROWS) if name == "a.jsonl" else table(tmp_path / name).read_text(encoding="utf-8")
    path = write(
        tmp_path / name, b"\xef\xbb\xbf" + plain.replace("\r\n", "\n").replace("}\n", "}\r\n").encode()
    )
    assert texts(path) == WANTED


def test_numeric_ids_become_text(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"image_id": 40468, "caption": "a"}, {"image_id": 7.0, "caption": "b"}]
    path = write(tmp_path / "a.jsonl", jsonl(rows))
    assert texts(path, id_field="image_id", text_field="caption") == {"40468": "a", "7": "b"}


def test_line_separators_inside_a_text_do_not_end_a_row(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.jsonl", jsonl([{"id": 1, "text": "a\u2028b\x85c"}]))) == {
        "1": "a\u2028b\x85c"
    }


def test_samples_are_evidence_and_the_first_is_scored_when_there_is_no_text(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "text": "a", "samples": ["b", "c"]},
        {"id": 2, "samples": ["d", "e"]},
    ]
    (source,) = read_sources(write(tmp_path / "a.jsonl", jsonl(rows)))
    assert source.answers["1"].evidence == ("b", "c")
    assert source.answers["2"] == Answers("2", "a", "d", ("d", "e"))
    (same,) = read_sources(write(tmp_path / "b.csv", 'id,text,samples\n1,a,"[""b"", ""c""]"\n2,x,\n'))
    assert same.answers["1"].samples == ("b", "c") and same.answers["2"].samples == ()


def test_a_file_of_several_models_gives_a_source_for_each(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": 1, "text": name, "model": name} for name in ("m/a", "m/b")]
    assert [source.name for source in read_sources(write(tmp_path / "x.jsonl", jsonl(rows)))] == [
        "m/a",
        "m/b",
    ]
    assert [source.name for source in read_sources(write(tmp_path / "x.jsonl", jsonl(rows[:1])))] == ["x"]
    with pytest.raises(BadInput, match=r"line 3.*every row names its own"):
        read_sources(write(tmp_path / "x.jsonl", jsonl([*rows, {"id": 2, "text": "t"}])))


def test_what_rows_tell_about_items_is_picked_up(tmp_path: Path) -> None:
    (tmp_path / "here.jpg").write_bytes(b"")
    rows: list[dict[str, Any]] = [
        {"id": 1, "text": "a", "prompt": "What?", "image": "here.jpg", "reference": "r", "modality": "image"},
        {
            "id": 2,
            "text": "b",
            "video": "gone.mp4",
            "audio": "https://x.org/a.wav",
            "modality": ["audio", "video"],
        },
    ]
    (source,) = read_sources(write(tmp_path / "a.jsonl", jsonl(rows)))
    assert source.samples["1"] == Sample("1", "What?", image=str(tmp_path / "here.jpg"), reference="r")
    assert source.samples["2"] == Sample("2", video="gone.mp4", audio="https://x.org/a.wav")
    assert source.answers["1"].modality == ("image",)
    assert source.answers["2"].modality == ("video", "audio")


def test_repeated_rows_and_missing_answers_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*ROWS, ROWS[0], {"id": 3, "text": None}]
    (source,) = read_sources(write(tmp_path / "a.jsonl", jsonl(rows)))
    assert (source.n_duplicates, source.n_without_text, len(source.answers)) == (1, 1, 2)


def test_an_empty_answer_is_an_answer(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.csv", "id,text\n1,\n")) == {"1": ""}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "te\n', r"line 2 is not JSON.*Correct the line"),
        ("a.jsonl", '[\n{"id": 1, "text": "a"}]', r"line 1 is not JSON.*rename it to \.json"),
        ("a.json", '{"id": 1}\n{"id": 2}', r"is not JSON.*\.jsonl"),
        ("a.json", "3", r"holds a int"),
        ("a.jsonl", "3\n", r"line 1 is a int, not an object.*\"id\": \"1\""),
        (
            "a.jsonl",
            '{"image_id": 1, "text": "a"}',
            r"line 1 has no field 'id'. It has: image_id, text. Try --id-field image_id",
        ),
        (
            "a.csv",
            "id,caption\n1,a\n",
            r"line 2 has no field 'text'. It has: id, caption. Try --text-field caption",
        ),
        ("a.csv", "id;text\n1;a\n", r"It has: id;text. Name the right one with --id-field"),
        ("a.jsonl", "{}", r"It has: nothing"),
        (
            "a.jsonl",
            '{"id": 1, "text": "a"}\n\n{"id": "1", "text": "b"}',
            r"line 3 is a second, different answer of 'a'.*'1'",
        ),
        ("a.jsonl", "", r"has no rows"),
        ("a.csv", "id,text\n", r"has no rows"),
        ("a.jsonl", '{"id": 1, "text": null}', r"null in every row"),
        ("a.jsonl", '{"id": null, "text": "a"}', r"'id' is None"),
        ("a.jsonl", '{"id": "", "text": "a"}', r"'id' is ''"),
        ("a.jsonl", '{"id": true, "text": "a"}', r"'id' is True"),
        ("a.jsonl", '{"id": 1.5, "text": "a"}', r"'id' is 1.5"),
        ("a.jsonl", '{"id": 1, "text": ["a"]}', r"'text' is \['a'\].*holds text"),
        ("a.jsonl", '{"id": 1, "text": NaN}', r"'text' is nan"),
        ("a.jsonl", '{"id": 1, "text": "a", "samples": "b"}', r"'samples' is 'b'.*list of texts"),
        ("a.jsonl", '{"id": 1, "text": "a", "samples": [1]}', r"'samples' is \[1\]"),
        ("a.jsonl", '{"id": 1, "text": "a", "modality": "smell"}', r"'modality'.*image, video, audio, text"),
        ("a.csv", "id,text\n1,a,b\n", r"line 2 has 3 cells. The header has 2"),
        ("a.csv", 'id,text\n1,"a\n', r"line 2: "),
        ("a.csv", "id,text,text\n1,a,b\n", r"'text' is there twice"),
        (
            "a.jsonl",
            b'{"id": 1, "text": "a"}\n{"id": 2, "text": "\xe9"}',
            r"line 2: the byte 0xe9 is not UTF-8",
        ),
        ("a.jsonl.gz", b"\x1f\x8b\x08\x00broken", r"damaged gzip"),
        ("a.parquet", "x", r"'\.parquet'.*Known are \.jsonl"),
        ("a", "x", r"ends in 'nothing'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BadInput, match=f"(?s){name}.*{says}"):
        read_sources(path)


def test_a_missing_file_says_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "answers_b.jsonl", jsonl(ROWS))
    with pytest.raises(BadInput, match=r"No such file.*answers_b\.jsonl"):
        read_sources(tmp_path / "answers_a.jsonl")


def test_a_named_field_that_no_row_has_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(ROWS))
    with pytest.raises(MissingField, match="--model-field"):
        read_sources(path, model_field="who")
    with pytest.raises(MissingField, match="--samples-field"):
        read_sources(path, samples_field="drawn")


def test_a_recorded_source_answers_like_any_responder(tmp_path: Path) -> None:
    (source,) = read_sources(write(tmp_path / "a.jsonl", jsonl([{"id": 1, "text": "a", "samples": ["b"]}])))
    assert isinstance(source, Responder)
    asked = [
        Request(Sample("1")),
        Request(Sample("1"), draw=1),
        Request(Sample("1"), draw=2),
        Request(Sample("2")),
    ]
    replies = [reply for _, reply in source.answer(asked)]
    assert [reply.text for reply in replies] == ["a", "b", None, None]
    assert "no recorded answer" in (replies[3].error or "")


def test_the_identity_is_the_content_and_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (first,) = read_sources(write(tmp_path / "a.jsonl", jsonl(ROWS)))
    (moved,) = read_sources(write(tmp_path / "b" / "a.jsonl", jsonl(ROWS)))
    (other,) = read_sources(write(tmp_path / "b" / "a.jsonl", jsonl(ROWS[:1])))
    assert first.identity() == moved.identity() != other.identity()
    json.dumps(first.identity())


def run_folder(folder: Path) -> Path:
    with Store(folder) as store:
        store.bind({"judge": "nli"})
        store.append("items", "i1", {"id": "1", "prompt": "What?", "image": "/a.jpg"})
        for model in ("m", "n"):
            for draw in (0, 2, 1):
                record = {
                    "item": "1",
                    "model": model,
                    "draw": draw,
                    "text": f"{model}{draw}",
                    "modality": ["image"],
                }
                store.append("answers", f"{model}{draw}", record)
        store.append("answers", "alone", {"item": "2", "model": "m", "draw": 1, "text": "no scored answer"})
    return folder


def test_a_run_folder_gives_a_source_for_each_model(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    sources = read_sources(folder)
    assert [source.name for source in sources] == ["m", "n"]
    assert sources[0].answers == {"1": Answers("1", "m", "m0", ("m1", "m2"), ("image",))}
    assert sources[0].samples == {"1": Sample("1", "What?", image="/a.jpg")}
    assert read_sources(folder / "answers.jsonl") == sources


def test_of_several_answers_to_the_same_call_the_last_one_counts(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    with Store(folder) as store:
        for draw in (2, 0):
            store.append(
                "answers", f"corrected{draw}", {"item": "1", "model": "m", "draw": draw, "text": f"n{draw}"}
            )
    assert read_sources(folder)[0].answers == {"1": Answers("1", "m", "n0", ("m1", "n2"))}


def test_a_run_folder_that_was_killed_gives_what_is_whole(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    file = folder / "answers.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    assert [source.n_damaged for source in read_sources(folder)] == [1, 1]
    file.write_bytes(b"")
    with pytest.raises(BadInput, match="holds no answers"):
        read_sources(folder)


def test_items_are_read_with_media_beside_the_file(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 5, "image": "img/cat.jpg", "prompt": "What?", "reference": "A cat.", "label": [1]},
        {"video": "dog.mp4"},
        {"video": "other/dog.mp4"},
        {"text": "A passage.", "prompt": "Who?"},
        {"id": "w", "image": "https://x.org/c.png"},
    ]
    items = read_items(write(tmp_path / "items.jsonl", jsonl(rows)))
    assert items == [
        Sample("5", "What?", image=str(tmp_path / "img/cat.jpg"), reference="A cat.", extra={"label": [1]}),
        Sample("dog", video=str(tmp_path / "dog.mp4")),
        Sample("dog-2", video=str(tmp_path / "other/dog.mp4")),
        Sample("4", "Who?", text="A passage."),
        Sample("w", image="https://x.org/c.png"),
    ]
    assert read_items(write(tmp_path / "items.csv", "id,prompt\n1,a\n1,a\n")) == [Sample("1", "a")]
    with pytest.raises(BadInput, match=r"line 3.*'1' belongs to an earlier row"):
        read_items(write(tmp_path / "items.csv", "id,prompt\n1,a\n1,b\n"))


def test_pictures_become_items_in_natural_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("p10.jpg", "p2.JPG", "p1.png", "notes.txt", "sub/p1.png"):
        (tmp_path / name).write_bytes(b"")
    items = items_from_images(f"{tmp_path}/*", "What?")
    assert [item.id for item in items] == ["p1", "p2", "p10"] and items[0].prompt == "What?"
    assert items == items_from_images(str(tmp_path), "What?")
    deep = items_from_images(f"{tmp_path}/**/*.png")
    assert [item.id for item in deep] == [f"{tmp_path}/p1.png", f"{tmp_path}/sub/p1.png"]
    with pytest.raises(BadInput, match="No picture matches"):
        items_from_images(f"{tmp_path}/*.txt")


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(data_roots(), "chair/captions/*.jsonl.gz"))
def test_published_captions_are_read_completely(path: Path) -> None:
    (source,) = read_sources(path, id_field="image_id", text_field="caption")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).split(b"\n") if line]
    assert source.name == path.name.removesuffix(".jsonl.gz")
    assert {item: said.text for item, said in source.answers.items()} == {
        str(r["image_id"]): r["caption"] for r in rows
    }
    with pytest.raises(MissingField, match="--id-field image_id"):
        read_sources(path)


def test_a_source_of_nothing_is_still_a_value() -> None:
    assert Recorded().answers == {}
