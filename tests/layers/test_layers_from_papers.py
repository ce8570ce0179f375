"""Layers whose authors gave out no program: numbers worked by hand, and what must hold by the papers' equations."""

import torch

from vlmtools.layers.hyena_nd import HyenaND, convolution_2d
from vlmtools.layers.lookup import LookupBlock, gather, spread
from vlmtools.layers.reversed_attention import ReversedAttention, keep_senders, reversed_attention
from vlmtools.layers.shared_conv import SharedConv
from vlmtools.layers.strip_attention import StripAttention


def one_head(*values):
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, len(values), 1)


def test_a_child_sends_to_its_parents_what_the_softmax_over_parents_says():
    # scores of child 0: (0, ln 3), of child 1: (0, 0) → child 0 sends 1/4 and 3/4, child 1 halves
    q, k, v = one_head(1.0, 0.0), one_head(0.0, torch.log(torch.tensor(3.0)).item()), one_head(8.0, 2.0)
    ones = torch.ones(1, 1, 2)
    got, sent = reversed_attention(q, k, v, ones, ones[0])
    torch.testing.assert_close(sent[0], torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    torch.testing.assert_close(got.flatten(), torch.tensor([8 * 0.25 + 2 * 0.5, 8 * 0.75 + 2 * 0.5]))


def test_a_silent_child_sends_nothing_and_heads_share_the_rest():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 5, 6)
    selector = torch.rand(2, 4, 5).softmax(1)
    controller = torch.tensor([[0.0, 1, 1, 0.5, 1]] * 2)
    _, sent = reversed_attention(q, k, v, selector, controller)
    torch.testing.assert_close(sent.sum(-1), controller)


def test_the_tokens_that_send_most_stay_in_order():
    x = torch.arange(4.0).reshape(1, 4, 1)
    sent = torch.tensor([[[0.1], [0.9], [0.2], [0.8]]]).expand(1, 4, 4)
    assert keep_senders(x, sent, 2).flatten().tolist() == [1, 3]


def test_reversed_attention_trains_every_weight():
    layer = ReversedAttention(8, 2)
    out, sent = layer(torch.randn(2, 5, 8))
    assert out.shape == (2, 5, 8) and sent.shape == (2, 5, 5)
    out.square().sum().backward()
    assert all(weight.grad is not None for weight in layer.parameters())


def test_the_way_back_is_the_way_there_transposed():
    q, k, v = one_head(1.0), one_head(0.0, torch.log(torch.tensor(3.0)).item()), one_head(4.0, 8.0)
    found, attention = gather(q, k, v)
    torch.testing.assert_close(found.flatten(), torch.tensor([4 * 0.25 + 8 * 0.75]))
    torch.testing.assert_close(spread(attention, one_head(2.0)).flatten(), torch.tensor([0.5, 1.5]))


def test_one_lookup_block_serves_any_number_of_compressed_tokens():
    torch.manual_seed(0)
    block, lookup = LookupBlock(8, 2), torch.randn(2, 16, 8)
    for n in (1, 4, 9):
        few, many = block(torch.randn(2, n, 8), lookup)
        assert few.shape == (2, n, 8) and many.shape == lookup.shape
    (few.sum() + many.square().sum()).backward()
    assert all(weight.grad is not None for weight in block.parameters())


def test_shared_convolution_of_a_whole_image_is_a_linear_layer():
    torch.manual_seed(0)
    layer, x = SharedConv(5, (2, 3)), torch.randn(4, 7, 2, 3)
    linear = x.flatten(2) @ layer.weight.flatten(1).T + layer.bias
    torch.testing.assert_close(layer(x).flatten(2), linear)
    assert layer(torch.randn(1, 2, 4, 4)).shape == (1, 2, 5, 3, 2)


def test_strip_attention_with_equal_scores_is_the_mean_of_the_values():
    layer = StripAttention(4, 2, narrow=1, reduction=2)
    with torch.no_grad():
        layer.q.weight.zero_()
        layer.q.bias.zero_()
    x = torch.randn(1, 4, 6, 4)
    few = layer.reduce(x).flatten(2).transpose(1, 2)
    expected = layer.proj(layer.v(few).mean(1))
    torch.testing.assert_close(layer(x), expected[..., None, None].expand(x.shape))


def test_strip_attention_has_narrow_queries():
    layer = StripAttention(64, 4, narrow=2)
    assert layer.q.out_features == layer.k.out_features == 8 and layer.v.out_features == 64


def test_a_long_convolution_equals_the_padded_one():
    torch.manual_seed(0)
    x, kernel = torch.randn(2, 3, 4, 5), torch.randn(3, 7, 9)
    # torch correlates: turn the filter round
    direct = torch.nn.functional.conv2d(x, kernel.flip(-2, -1)[:, None], padding=(3, 4), groups=3)
    torch.testing.assert_close(convolution_2d(x, kernel), direct, rtol=1e-4, atol=1e-4)


def test_a_filter_with_a_one_in_the_middle_changes_nothing():
    kernel = torch.zeros(1, 3, 5)
    kernel[0, 1, 2] = 1
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    torch.testing.assert_close(convolution_2d(x, kernel), x, rtol=0, atol=1e-5)


def test_hyena_on_maps_takes_any_size_and_sees_everything():
    torch.manual_seed(0)
    layer = HyenaND(4, order=3, hidden=8)
    x = torch.randn(1, 4, 5, 3, requires_grad=True)
    layer(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()
    assert all(weight.grad is not None for weight in layer.parameters())
    assert layer(torch.randn(2, 4, 2, 6)).shape == (2, 4, 2, 6)
