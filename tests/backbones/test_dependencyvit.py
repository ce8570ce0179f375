import torch

from vlmtools.backbones import create
from vlmtools.backbones.dependencyvit import DependencyViT
from vlmtools.layers.reversed_attention import ReversedAttention, senders


def tiny(**changes):
    torch.manual_seed(0)
    return DependencyViT.tiny(**changes).eval()


def test_what_a_token_sends_in_all_is_what_its_controller_says():
    torch.manual_seed(0)
    layer = ReversedAttention(8, 2, temperature=0.1, hidden=4)
    _, sent, controller = layer.exchange(torch.randn(2, 5, 8), torch.rand(2, 5))
    torch.testing.assert_close(sent.sum(-1), controller)


def test_a_token_that_has_fallen_silent_stays_silent():
    layer = ReversedAttention(8, 2)
    before = torch.tensor([[1.0, 0.0, 1.0]])
    _, sent, controller = layer.exchange(torch.randn(1, 3, 8), before)
    assert controller[0, 1] == 0 and sent[0, 1].abs().sum() == 0 and controller[0, 0] > 0


def test_a_cold_selector_uses_one_head():
    layer = ReversedAttention(4, 2, temperature=0.01)
    with torch.no_grad():
        layer.selector.weight.zero_()
        layer.selector.bias.copy_(torch.tensor([1.0, 0.0]))
    x = torch.randn(1, 3, 4)
    q, k, _v = layer.qkv(x).reshape(1, 3, 3, 2, 2).permute(2, 0, 3, 1, 4)
    weights = (q[:, 0] @ k[:, 0].transpose(1, 2) * 2**-0.5).softmax(-1) * layer.controller(x).sigmoid()
    _, sent, _ = layer.exchange(x)
    torch.testing.assert_close(sent, weights)


def test_of_equal_senders_the_first_stay():
    assert senders(torch.tensor([[0.5, 0.9, 0.5, 0.5]]), 2).tolist() == [[0, 1]]


def test_the_lite_form_leaves_a_share_of_all_patches_each_time():
    model = create("dependencyvit_lite_tiny", depth=12, embed_dim=24, mlp_ratio=1, num_classes=0)
    # 196 patches, 16 % of them gone each time: 164.6, 133.3, 101.9, 70.6
    assert [model.n_left(number, 196) for number in (1, 2, 4, 5, 8, 11, 12)] == [
        196,
        164,
        164,
        133,
        101,
        70,
        70,
    ]
    with torch.no_grad():
        tokens, messages, left = model.eval().forward_tokens(torch.randn(1, 3, 224, 224))
    assert tokens.shape[1] == messages.shape[1] == 70 and len(set(left[0].tolist())) == 70


def test_patches_that_are_silenced_are_the_ones_that_go():
    model = tiny(depth=1, prune_after=(1,), prune_ratio=0.5)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, everyone, _ = model.blocks[0].attend(model.embed(x), torch.ones(1, 64))
        _, messages, left = model.forward_tokens(x)
    assert messages.min() >= everyone.sort(descending=True).values[0, 31]
    assert torch.equal(messages, everyone.gather(1, left))


def test_messages_are_multiplied_over_the_blocks_or_decided_anew():
    x = torch.randn(1, 3, 64, 64)
    for cumulative in (True, False):
        model = tiny(prune_after=(), cumulative=cumulative, start_open=0.5)
        with torch.no_grad():
            *_, before, last = model.dependencies(x)
            _, messages, _ = model.forward_tokens(x)
        torch.testing.assert_close(last.sum(-1), messages)
        # each block alone lets through about a half
        assert bool((last.sum(-1) < before.sum(-1)).all()) is cumulative


def test_without_dropping_the_tokens_are_those_of_the_maps():
    model, x = tiny(prune_after=()), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tokens, _, left = model.forward_tokens(x)
        last = model.forward_intermediates(x, 1, norm=True, output_fmt="NLC", intermediates_only=True)[0]
    torch.testing.assert_close(tokens, last)
    assert left[0].tolist() == list(range(64))


def test_the_pooled_vector_is_the_mean_weighted_by_messages():
    model, x = tiny(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tokens, messages, _ = model.forward_tokens(x)
        vector = model.forward_head(model.forward_features(x), pre_logits=True)
    torch.testing.assert_close(vector, (tokens * messages[..., None]).sum(1) / messages.sum(1, keepdim=True))


def test_dependencies_say_how_much_every_patch_sends_to_every_other():
    model = tiny()
    with torch.no_grad():
        found = model.dependencies(torch.randn(2, 3, 64, 64))
    assert [one.shape for one in found] == [(2, 64, 64)] * 3
    sums = torch.stack([one.sum(-1) for one in found])
    assert (sums[1:] <= sums[:-1]).all() and sums.min() > 0 and sums.max() < 1


def test_the_attention_adds_a_selector_and_a_controller_to_deit():
    with torch.device("meta"):
        model = create("dependencyvit_tiny")
    deit = 5_717_416 - 2 * 192  # without the class token and its position
    added = 12 * ((192 * 12 + 12) + (192 * 96 + 96) + (96 + 1))
    assert sum(weight.numel() for weight in model.parameters()) == deit + added
