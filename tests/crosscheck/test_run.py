import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from describers import Scripted, describer, scene

from vlmtools.crosscheck.budget import Budget
from vlmtools.crosscheck.checks import check_settings
from vlmtools.crosscheck.collect import Draws
from vlmtools.crosscheck.folder import default_folder, open_run
from vlmtools.crosscheck.judges.vlm import VLM
from vlmtools.crosscheck.ranking import Ranking
from vlmtools.crosscheck.run import CrossCheck
from vlmtools.errors import (
    BadInput,
    BudgetSpent,
    MixedModality,
    NotStored,
    StoreMismatch,
    UnknownName,
    VlmToolsError,
)
from vlmtools.store import Store
from vlmtools.types import Request, Sample

ITEMS = [Sample(f"item{n}", "Describe the picture.") for n in range(40)]
PLAIN = CrossCheck(judge="ngram", weights="uniform", n_boot=200)


def models(version: str = "1") -> list[Scripted]:
    shares = {"honest": 0.0, "careless": 0.4, "dreaming": 0.9}
    return [Scripted(name, describer(share), version) for name, share in shares.items()]


def run(
    folder: Path, setting: CrossCheck = PLAIN, sources: list[Scripted] | None = None, **more: object
) -> Ranking:
    asked = models() if sources is None else sources
    samples = more.pop("samples", ITEMS)
    with open_run(folder, setting, asked) as store:
        return setting.run(asked, samples, store, **more)  # type: ignore[arg-type]


def lines(folder: Path, kind: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / f"{kind}.jsonl").read_text().splitlines()]


def test_models_that_invent_more_rank_lower(tmp_path: Path) -> None:
    ranking = run(tmp_path)
    assert [row.name for row in ranking.rows] == ["honest", "careless", "dreaming"]
    assert all(row.ci[0] <= row.score <= row.ci[1] for row in ranking.rows)
    assert ranking.rows[0].n_items == 40 and ranking.rows[0].n_claims == 120


def test_running_the_same_line_again_asks_nothing_and_gives_the_same_ranking(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = models()
    assert run(tmp_path, sources=again) == first
    assert [source.asked for source in again] == [[], [], []]


def test_an_offline_run_replays_what_is_stored_and_says_what_is_missing(tmp_path: Path) -> None:
    run(tmp_path, samples=ITEMS[:20])
    sources = models()
    ranking = run(tmp_path, sources=sources, offline=True)
    assert not any(source.asked for source in sources)
    assert ranking.rows[0].n_items == 20
    assert any("offline" in warning for warning in ranking.warnings)


def test_an_answer_of_one_revision_is_never_taken_for_another(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(StoreMismatch, match="version: stored '1', given '2'"):
        run(tmp_path, sources=models("2"))
    sources = models("2")
    with Store(tmp_path) as store:
        PLAIN.run(sources, ITEMS, store)
    assert all(len(source.asked) == len(ITEMS) for source in sources)


def test_a_changed_prompt_or_length_is_asked_anew(tmp_path: Path) -> None:
    run(tmp_path)
    other = [replace(sample, prompt="What is wrong here?") for sample in ITEMS]
    sources = models()
    run(tmp_path, sources=sources, samples=other)
    assert all(len(source.asked) == len(ITEMS) for source in sources)


def test_failed_calls_are_listed_and_asked_again_alone(tmp_path: Path) -> None:
    tries: list[str] = []

    def flaky(request: object) -> str | None:
        item = request.sample.id  # type: ignore[attr-defined]
        tries.append(item)
        return None if item == "item7" and tries.count(item) == 1 else describer(0.9)(request)  # type: ignore[arg-type]

    sources = [*models()[:2], Scripted("flaky", flaky)]
    first = run(tmp_path, sources=sources)
    assert any("flaky" in warning and "1 calls" in warning for warning in first.warnings)
    second = [*models()[:2], Scripted("flaky", flaky)]
    ranking = run(tmp_path, sources=second)
    assert [request.sample.id for request in second[2].asked] == ["item7"]
    assert not ranking.warnings and all(row.n_items == 40 for row in ranking.rows)


def test_samples_give_self_votes_and_softmax_weights(tmp_path: Path) -> None:
    setting = replace(PLAIN, weights="softmax", include_self=True, draws=Draws(n_samples=3))
    sources = models()
    ranking = run(tmp_path, setting, sources)
    assert len(sources[0].asked) == 40 * 4
    assert {request.seed for request in sources[0].asked} == {0, 1, 2, 3}
    weights = {row.name: row.weight for row in ranking.rows}
    assert weights["honest"] is not None and weights["dreaming"] is not None
    assert weights["honest"] > weights["dreaming"]


def test_softmax_without_samples_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--samples"):
        run(tmp_path, replace(PLAIN, weights="softmax"))


def test_self_mode_compares_each_model_with_its_own_samples_only(tmp_path: Path) -> None:
    run(tmp_path, CrossCheck(mode="self", judge="ngram", n_boot=50, draws=Draws(n_samples=2)))
    assert {(vote["target"], vote["evidence"]) for vote in lines(tmp_path, "votes")} == {
        (name, name) for name in ("honest", "careless", "dreaming")
    }


def test_ref_mode_needs_references_and_uses_them(tmp_path: Path) -> None:
    setting = CrossCheck(mode="ref", judge="ngram", n_boot=50)
    with pytest.raises(BadInput, match="reference"):
        run(tmp_path / "a", setting)
    truth = describer(0.0)
    samples = [replace(s, reference=truth(asked(s))) for s in ITEMS]
    ranking = run(tmp_path / "b", setting, samples=samples)
    assert ranking.rows[0].name == "honest" and ranking.rows[0].score == 0.0


def asked(sample: Sample) -> Request:
    return Request(sample)


def test_the_evidence_can_be_restricted_and_a_wrong_name_is_refused(tmp_path: Path) -> None:
    run(tmp_path, replace(PLAIN, evidence=("honest", "careless")))
    assert {vote["evidence"] for vote in lines(tmp_path, "votes")} == {"honest", "careless"}
    with pytest.raises(UnknownName, match="Did you mean 'honest'"):
        run(tmp_path, replace(PLAIN, evidence=("honets",)))


def test_sources_that_saw_different_inputs_are_refused_or_marked(tmp_path: Path) -> None:
    class Blind(Scripted):
        def answer(self, requests):  # type: ignore[no-untyped-def]
            for request, reply in super().answer(requests):
                yield request, replace(reply, modality=("audio",))

    sources = [*models()[:2], Blind("blind", describer(0.5))]
    pictured = [replace(sample, text="x") for sample in ITEMS]
    with pytest.raises(MixedModality, match="blind: audio"):
        run(tmp_path, sources=sources, samples=pictured)
    marked = run(tmp_path, replace(PLAIN, mixed_modality="mark"), sources, samples=pictured)
    assert any("different inputs" in warning for warning in marked.warnings)


def test_a_budget_stops_before_the_call_too_many_and_the_next_run_goes_on(tmp_path: Path) -> None:
    sources = models()
    with pytest.raises(BudgetSpent, match="50 calls"):
        run(tmp_path, sources=sources, budget=Budget(calls=50))
    assert sum(len(source.asked) for source in sources) == 50
    assert len(lines(tmp_path, "answers")) == 50
    rest = models()
    ranking = run(tmp_path, sources=rest, budget=Budget(calls=70))
    assert sum(len(source.asked) for source in rest) == 70
    assert ranking == run(tmp_path / "undisturbed")


def test_one_source_is_not_a_ranking(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least two sources"):
        run(tmp_path, sources=models()[:1])


def test_sources_without_a_common_item_are_refused_with_their_sizes(tmp_path: Path) -> None:
    def only(prefix: str) -> Scripted:
        return Scripted(prefix, lambda r: "A dog." if r.sample.id.endswith(prefix) else None)

    with pytest.raises(BadInput, match="--id-field"):
        run(tmp_path, sources=[only("1"), only("2")])


def test_items_that_only_one_model_answered_are_left_out_and_said(tmp_path: Path) -> None:
    late = Scripted("late", lambda r: describer(0.9)(r) if int(r.sample.id[4:]) >= 30 else None)
    ranking = run(tmp_path, sources=[*models()[:2], late])
    assert {row.name: row.n_items for row in ranking.rows} == {"honest": 40, "careless": 40, "late": 10}
    assert any("late 10" in warning for warning in ranking.warnings)


def test_each_source_is_closed_before_the_next_is_asked(tmp_path: Path) -> None:
    sources = models()
    open_ones: list[set[str]] = []

    def watched(source: Scripted) -> Scripted:
        inner = source.say

        def say(request):  # type: ignore[no-untyped-def]
            open_ones.append({s.name for s in sources if s.asked and not s.closed})
            return inner(request)

        source.say = say
        return source

    run(tmp_path, sources=[watched(source) for source in sources])
    assert max(map(len, open_ones)) == 1


def test_the_worst_claims_are_invented_ones_with_the_others_words(tmp_path: Path) -> None:
    ranking = run(tmp_path)
    assert ranking.worst and all(
        claim.answer[claim.start : claim.end] == claim.claim for claim in ranking.worst
    )
    assert ranking.worst[0].score == max(claim.score for claim in ranking.worst)
    assert {evidence.model for evidence in ranking.worst[0].evidence} == {
        "honest",
        "careless",
        "dreaming",
    } - {ranking.worst[0].model}


def test_the_same_question_gets_the_same_folder_and_another_gets_another() -> None:
    names = [default_folder(PLAIN, models(), ITEMS) for _ in range(2)]
    assert names[0] == names[1] and names[0].parent.name == "runs"
    assert default_folder(PLAIN, models(), ITEMS[:3]) != names[0]
    assert default_folder(replace(PLAIN, weights="loo"), models(), ITEMS) == names[0]


@pytest.mark.parametrize("setting", [CrossCheck(mode="both"), CrossCheck(weights="best")])  # type: ignore[arg-type]
def test_an_unknown_mode_or_weighting_lists_what_there_is(setting: CrossCheck) -> None:
    with pytest.raises(UnknownName, match="There is: "):
        check_settings(setting)


def test_weights_that_a_mode_cannot_serve_are_refused() -> None:
    with pytest.raises(BadInput, match="one piece of evidence"):
        check_settings(CrossCheck(mode="ref", weights="em"))


def eyes(name: str, lies: float) -> Scripted:
    """Describes like `describer`, and when shown a statement says whether it has errors."""

    def say(request: Request) -> str:
        if request.sample.prompt == "Describe the picture.":
            return describer(lies)(request) or ""
        return (
            "NO"
            if any(f"a {thing}." in request.sample.prompt for thing in scene(request.sample.text or ""))
            else "YES"
        )

    return Scripted(name, say)


@pytest.mark.parametrize("two_step", [False, True])
def test_implicit_mode_lets_every_model_look_again(tmp_path: Path, two_step: bool) -> None:
    sources = [eyes(name, share) for name, share in {"honest": 0.0, "careless": 0.4, "dreaming": 0.9}.items()]
    setting = CrossCheck(mode="implicit", judge=VLM(two_step=two_step), weights="uniform", n_boot=50)
    ranking = run(tmp_path, setting, sources, samples=[replace(sample, text=sample.id) for sample in ITEMS])
    assert [row.name for row in ranking.rows] == ["honest", "careless", "dreaming"]
    assert ranking.rows[0].score == 0.0 and ranking.rows[0].unparsed == 0.0
    pairs = {(vote["target"], vote["evidence"]) for vote in lines(tmp_path, "votes")}
    assert pairs == {(t.name, e.name) for t in sources for e in sources if t is not e}
    assert set(ranking.record["settings"]["judge"]) == {"honest", "careless", "dreaming"}


def test_implicit_mode_needs_a_judge_that_looks(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--judge vlm"):
        run(tmp_path, CrossCheck(mode="implicit", judge="ngram", n_boot=50))


def test_latent_truth_with_two_models_says_that_it_cannot_tell(tmp_path: Path) -> None:
    ranking = run(tmp_path, CrossCheck(judge="objects", n_boot=50), models()[:2])
    assert any("third source" in warning for warning in ranking.warnings)


def test_latent_truth_shows_its_own_ranks_without_each_model(tmp_path: Path) -> None:
    ranking = run(tmp_path, CrossCheck(judge="objects", n_boot=50))
    assert {f"without {name}" for name in ("honest", "careless", "dreaming")} < ranking.sensitivity.keys()
    assert all(set(ranks.values()) <= {1, 2, 3} for ranks in ranking.sensitivity.values())
    assert all(
        row.rank_loo is not None and row.rank_loo[0] <= row.rank <= row.rank_loo[1] for row in ranking.rows
    )


@pytest.mark.parametrize("weights", ["em", "uniform"])
def test_a_model_that_claims_nothing_is_not_ranked_and_said(tmp_path: Path, weights: Any) -> None:
    sources = [*models(), Scripted("mute", lambda _request: "Nothing to see.")]
    ranking = run(tmp_path, CrossCheck(judge="objects", weights=weights, n_boot=50), sources)
    assert [row.name for row in ranking.rows] == ["honest", "careless", "dreaming"]
    assert "mute makes no claims and is not ranked." in ranking.warnings


def test_answers_without_any_claim_are_refused_with_the_likely_cause(tmp_path: Path) -> None:
    sources = [Scripted(name, lambda _request: "Nothing to see.") for name in ("a", "b")]
    with pytest.raises(BadInput, match="--text-field"):
        run(tmp_path, CrossCheck(judge="objects", n_boot=50), sources)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_latent_truth_orders_models_that_bring_samples(tmp_path: Path, k: int) -> None:
    ranking = run(tmp_path, CrossCheck(judge="objects", n_boot=50, draws=Draws(n_samples=k)))
    assert [row.name for row in ranking.rows] == ["honest", "careless", "dreaming"]
    assert ranking.rows[0].score < 0.2 < ranking.rows[2].score < 0.5


def test_sources_without_a_common_item_are_not_declared_different(tmp_path: Path) -> None:
    def half(name: str, share: float, first: bool) -> Scripted:
        say = describer(share)
        return Scripted(name, lambda r: say(r) if (int(r.sample.id[4:]) < 20) is first else None)

    sources = [half("a", 0.0, True), half("b", 0.9, True), half("c", 0.0, False), half("d", 0.9, False)]
    ranking = run(tmp_path, PLAIN, sources)
    p = {(pair.a, pair.b): pair.p_holm for pair in ranking.pairs}
    assert p["a", "d"] == p["c", "b"] == 1.0 and p["a", "b"] < 0.05
    assert any("Hardly compared" in warning and "a and c (0)" in warning for warning in ranking.warnings)


def test_one_item_says_nothing_about_ranks(tmp_path: Path) -> None:
    ranking = run(tmp_path, PLAIN, samples=ITEMS[:1])
    assert all(row.rank_ci == (1, 3) for row in ranking.rows)
    assert any("Only 1 items" in warning for warning in ranking.warnings)


def test_an_offline_run_on_an_empty_folder_says_that_nothing_is_stored(tmp_path: Path) -> None:
    with pytest.raises(NotStored, match="without --offline"):
        run(tmp_path, offline=True)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (CrossCheck(weights="em", evidence=("honest",)), "--evidence"),
        (CrossCheck(weights="em", average="macro"), "--average"),
        (CrossCheck(mode="implicit", judge="ngram", weights="softmax"), "--self"),
        (CrossCheck(beta=0.0), "above 0"),
        (CrossCheck(unit="word"), "There is no unit"),  # type: ignore[arg-type]
        (CrossCheck(mixed_modality="maybe"), "There is no mixed modality"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_would_do_nothing_are_refused(setting: CrossCheck, says: str) -> None:
    with pytest.raises(VlmToolsError, match=says):
        check_settings(setting)


def test_auto_weights_step_back_where_other_settings_exclude_latent_truth() -> None:
    assert CrossCheck().weighting == "em"
    assert CrossCheck(evidence=("a",)).weighting == CrossCheck(average="macro").weighting == "uniform"
    assert CrossCheck(judge="ngram").weighting == CrossCheck(mode="self").weighting == "uniform"
