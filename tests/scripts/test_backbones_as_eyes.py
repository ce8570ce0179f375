import backbones_as_eyes as eyes
import build_vlm
import pytest
import small_reference
import torch

import vlmtools as vt


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = small_reference.saved(tmp_path_factory.mktemp("teacher"))
    vlm = vt.load(str(folder))
    assert vlm.model.config.image_token_id
    return vlm


def test_teaching_brings_the_tokens_closer_and_leaves_the_language_model_alone(teacher):
    torch.manual_seed(0)
    model = eyes.seeing("smt", 1, teacher.model)
    words = {name: one.clone() for name, one in model.model.language_model.state_dict().items()}
    before = eyes.unexplained(model, teacher.model, 4)
    eyes.teach(model, teacher.model, steps=12, batch=4)
    assert eyes.unexplained(model, teacher.model, 4) < before
    assert all(torch.equal(one, words[name]) for name, one in model.model.language_model.state_dict().items())


def test_the_language_model_is_a_copy_and_gets_as_many_tokens_as_it_knows(teacher):
    model = eyes.seeing("evit", -1, teacher.model)
    assert build_vlm.n_image_tokens(model) == eyes.N_TOKENS
    theirs, ours = teacher.model.model.language_model, model.model.language_model
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert next(ours.parameters()).data_ptr() != next(theirs.parameters()).data_ptr()


def test_questions_are_asked_about_scenes_and_shares_come_with_an_interval(teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rights = eyes.asked(teacher.model, teacher.processor, 2)
    assert len(rights) == 2 and all(one in (0, 1) for scene in rights for one in scene)
    assert eyes.share([[1, 1], [0, 0], [1, 0]]).startswith("50.0% [")
    assert eyes.share([[1, 1], [1, 1]]) == "100.0% [100.0%, 100.0%]"
