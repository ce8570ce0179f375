import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vlmtools.crosscheck.judges import nli
from vlmtools.crosscheck.judges._entailment import columns, open_model
from vlmtools.crosscheck.judges.base import Question
from vlmtools.crosscheck.judges.nli import NLI, softmax
from vlmtools.errors import BadInput, NotInstalled
from vlmtools.types import Sample

ITEM = Sample("1")
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a dog cat runs sleeps there is no . the red".split()  # noqa: SIM905
LABELS = ("contradiction", "neutral", "entailment")


def save_tiny(folder, labels=LABELS, positions=64):
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=positions, **special).save_pretrained(
        folder
    )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=len(WORDS),
        max_position_embeddings=positions,
        initializer_range=0.6,
        id2label=dict(enumerate(labels)),
        **sizes,
    )
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("nli"))


class Told:
    """Stands in for a model: one token per word; logits from a table by (first word of premise, claim)."""

    def __init__(self, table, labels=LABELS, max_tokens=512):
        self.table, self.labels, self.max_tokens, self.read = table, labels, max_tokens, []

    def n_tokens(self, premise, claim):
        return len(premise.split()) + len(claim.split())

    def logits(self, pairs, limit):
        self.read.append(list(pairs))
        return np.log(np.array([self.table[premise.split()[0]] for premise, _ in pairs], float))


def told(table, labels=LABELS, max_tokens=512, **fields):
    judge = NLI(**fields)
    judge.__dict__["_entailment"] = Told(table, labels, max_tokens)
    return judge, judge.__dict__["_entailment"]


def supports(judge, questions):
    return {index: [vote.support for vote in votes] for index, votes in judge.judge(questions)}


def test_support_is_entailment_against_contradiction_with_neutral_left_out():
    judge, _ = told({"A": (0.1, 0.6, 0.3)})
    assert supports(judge, [Question(("x.",), "A dog.", ITEM)]) == {0: [pytest.approx(0.75)]}


def test_a_two_way_head_and_any_order_of_labels_are_understood():
    judge, _ = told({"A": (0.8, 0.2)}, labels=("ENTAILMENT", "CONTRADICTION"))
    assert supports(judge, [Question(("x.",), "A dog.", ITEM)]) == {0: [pytest.approx(0.8)]}
    judge, _ = told({"A": (0.8, 0.2)}, labels=("LABEL_0", "LABEL_1"))
    with pytest.raises(BadInput, match=r"label_0, label_1.*labels="):
        supports(judge, [Question(("x.",), "A dog.", ITEM)])


def test_labels_given_by_the_user_win_over_meaningless_ones():
    judge = NLI(labels="contradiction;entailment")
    judge.__dict__["_entailment"] = Told({"A": (0.8, 0.2)}, ("LABEL_0", "LABEL_1"))
    assert supports(judge, [Question(("x.",), "A dog.", ITEM)]) == {0: [pytest.approx(0.2)]}


@pytest.mark.parametrize(
    ("own", "given"),
    [(("a", "b"), "entailment"), (("entailment", "not_entailment"), ""), ((), ""), (("entailment",) * 2, "")],
)
def test_labels_that_do_not_say_what_they_mean_are_refused(own, given):
    with pytest.raises(BadInput, match="labels="):
        columns(own, given, "some/model")


def test_a_long_passage_is_cut_between_sentences_and_the_most_entailing_window_decides():
    judge, model = told({"Sky": (0.05, 0.85, 0.1), "Dog": (0.1, 0.3, 0.6)}, max_tokens=6)
    assert supports(judge, [Question(("a dog.",), "Sky is blue. Dog runs here. Dog.", ITEM)]) == {
        0: [pytest.approx(0.6 / 0.7)]
    }
    assert sorted(premise for premise, _ in model.read[0]) == ["Dog runs here. Dog.", "Sky is blue."]


def test_a_passage_that_fits_is_read_whole_and_equal_pairs_once():
    judge, model = told({"Sky": (0.2, 0.6, 0.2)})
    question = Question(("x.", "x."), "Sky is blue. Dog runs.", ITEM)
    assert supports(judge, [question, question]) == {0: [0.5, 0.5], 1: [0.5, 0.5]}
    assert model.read == [[("Sky is blue. Dog runs.", "x.")]]


def test_an_empty_passage_supports_nothing_and_asks_nothing():
    judge, model = told({})
    assert supports(judge, [Question(("x.",), " ", ITEM), Question(("x.",), None, ITEM)]) == {
        0: [0.0],
        1: [0.0],
    }
    assert model.read == []


def test_votes_are_yielded_block_by_block(monkeypatch):
    monkeypatch.setattr(nli, "BLOCK", 2)
    judge, model = told({"A": (0.1, 0.6, 0.3)}, batch_size=1)
    stream = judge.judge([Question((f"x{n}.",), "A dog.", ITEM) for n in range(5)])
    assert next(stream)[0] == 0 and len(model.read) == 2
    assert [index for index, _ in stream] == [1, 2, 3, 4]


def test_softmax_does_not_overflow():
    assert softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]])).tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_a_saved_cross_encoder_gives_the_same_as_its_own_library(tiny):
    from sentence_transformers import CrossEncoder

    passage, claims = "the dog runs .", ("a dog runs", "a cat sleeps", "no dog is there")
    expected = CrossEncoder(tiny).predict(
        [(passage, claim) for claim in claims], apply_softmax=True, show_progress_bar=False
    )
    entails, contradicts = expected[:, 2], expected[:, 0]
    found = supports(NLI(model=tiny), [Question(claims, passage, ITEM)])[0]
    assert found == pytest.approx((entails / (entails + contradicts)).tolist(), abs=2e-6)
    assert len(set(found)) == 3


def test_votes_do_not_depend_on_the_batch(tiny):
    questions = [Question(("a dog runs", "no cat"), "the red dog sleeps . " * n, ITEM) for n in (1, 2, 3)]
    one, many = (supports(NLI(model=tiny, batch_size=size), questions) for size in (1, 16))
    assert [one[index] for index in range(3)] == [pytest.approx(many[index], abs=2e-6) for index in range(3)]


def test_a_real_model_with_a_limit_reads_every_window(tiny):
    long = " ".join(["the dog runs.", "a cat sleeps."] * 20)
    votes = supports(NLI(model=tiny, max_tokens=20), [Question(("a dog runs",), long, ITEM)])
    assert 0.0 <= votes[0][0] <= 1.0
    model = open_model(Path(tiny), "cpu")
    assert model.max_tokens == 64 and model.n_tokens("the dog", "a cat") == 7


def test_the_fingerprint_tells_two_models_apart(tiny, tmp_path):
    other = save_tiny(tmp_path / "other", labels=("entailment", "neutral", "contradiction"))
    assert NLI(model=tiny).identity()["fingerprint"] != NLI(model=other).identity()["fingerprint"]


@pytest.mark.parametrize("fields", [{"batch_size": 0}, {"max_tokens": 5}])
def test_fields_that_cannot_work_are_refused(fields):
    with pytest.raises(BadInput, match="batch_size="):
        list(NLI(**fields).judge([Question(("x.",), "A.", ITEM)]))


def test_a_folder_without_a_model_says_what_belongs_there(tmp_path):
    with pytest.raises(BadInput, match=r"no safetensors and 0 ONNX files.*tokenizer\.json"):
        open_model(tmp_path, None)


def test_without_onnxruntime_an_onnx_model_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(NotInstalled, match=r"vlmtools\[onnx\]"):
        open_model(tmp_path, None)


def test_an_onnx_model_without_its_configuration_says_what_is_missing(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))
    with pytest.raises(BadInput, match=r"lacks config\.json and tokenizer\.json"):
        open_model(tmp_path, None)


def test_importing_the_judge_loads_no_heavy_package():
    code = (
        "import sys; from vlmtools.crosscheck.judges import nli, prompt, vlm;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'onnxruntime', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.golden
@pytest.mark.skipif(
    not os.environ.get("VLMTOOLS_ONNX_NLI"), reason="$VLMTOOLS_ONNX_NLI names no ONNX entailment model"
)
def test_a_published_onnx_model_ranks_contradiction_below_entailment():
    pytest.importorskip("onnxruntime")
    folder = Path(os.environ["VLMTOOLS_ONNX_NLI"])
    labels = json.loads(os.environ.get("VLMTOOLS_ONNX_NLI_LABELS", '""'))
    judge = NLI(model=str(folder), labels=labels)
    claims = ("A dog is running.", "No animal is moving.")
    yes, no = supports(judge, [Question(claims, "A brown dog runs across the grass.", ITEM)])[0]
    assert yes > no


class FixedShape:
    """Stands in for onnxruntime: a graph that takes exactly 2 rows of 12 tokens and counts the real ones."""

    def __init__(self, file, providers):
        self.shapes = []

    def get_inputs(self):
        return [
            type("Node", (), {"name": name, "shape": [2, 12]}) for name in ("input_ids", "attention_mask")
        ]

    def run(self, outputs, feed):
        assert {name: part.shape for name, part in feed.items()} == dict.fromkeys(feed, (2, 12))
        length = feed["attention_mask"].sum(axis=1, keepdims=True).astype(np.float32)
        return [np.concatenate([length, -length, length * 0], axis=1)]


def test_an_onnx_export_of_fixed_shape_is_fed_what_it_takes(tiny, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((Path(tiny) / name).read_bytes())
    runtime = type(sys)("onnxruntime")
    runtime.InferenceSession = FixedShape
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    model = open_model(tmp_path, None)
    assert (model.max_tokens, model.labels) == (12, LABELS)
    pairs = [("the dog", "a cat"), ("a dog", "a"), ("a dog runs . " * 9, "a cat")]
    assert model.logits(pairs, 12)[:, 0].tolist() == [7, 6, 12]
