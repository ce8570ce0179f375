from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vlmtools.adapters.base import Adapter, Connector, Handle, Site, Sizes
from vlmtools.errors import BadInput, CannotAttach


class Block(nn.Module):
    """One layer of the toy host, checkpointed if asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.reentrant = nn.Linear(4, 4), nn.LayerNorm(4), None

    def forward(self, x: Tensor) -> Tensor:
        if self.reentrant is None:
            return x + self.inner(self.norm(x))
        y: Tensor = checkpoint(self._inside, x, use_reentrant=self.reentrant)
        return x + y

    def _inside(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(self.norm(x))
        return y


class Host(nn.Module):
    """Three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return x


@dataclass(eq=False, repr=False)
class Bump(Adapter):
    """Adds a linear map of the input to each inner layer and reports a loss; trains the host's norms too."""

    weight: float = 0.5
    norms: bool = False
    names: tuple[str, ...] = ()

    def find(self, host: nn.Module) -> Sequence[Site]:
        return [Site(n, m, {"dim": m.in_features}) for n, m in host.named_modules() if n.endswith("inner")]

    def layer(self, sizes: Sizes) -> nn.Module:
        return nn.Linear(sizes["dim"], sizes["dim"])

    def wire(self, host: nn.Module, site: Site, layer: Any) -> Iterator[Handle]:
        def add(_: Any, args: Any, y: Tensor) -> Tensor:
            added: Tensor = layer(args[0])
            self.add_loss("size", added.square().mean(), self.weight, site.name)
            return y + added

        yield site.module.register_forward_hook(add)

    def trained_in_host(self, host: nn.Module) -> Sequence[str]:
        return [n for n, _ in host.named_parameters() if "norm" in n] if self.norms else ()


def _host(seed: int = 0) -> tuple[Host, Tensor]:
    torch.manual_seed(seed)
    return Host(), torch.randn(2, 5, 4)


def test_losses_of_one_step_are_summed_over_places_and_forgotten_with_the_next() -> None:
    host, x = _host()
    with Bump().attach(host) as part:
        host(x)
        once = part.aux_losses()["size"].detach()
        host(x)
        assert torch.equal(part.aux_losses()["size"].detach(), once)
        assert len(part.losses.values["size"]) == 3
        torch.testing.assert_close(part.aux_loss().detach(), 0.5 * once)


def test_recomputation_under_checkpointing_counts_no_loss_twice_and_keeps_its_gradient() -> None:
    found = []
    for reentrant in (None, False):
        host, x = _host()
        for block in host.blocks:
            block.reentrant = reentrant
        with Bump().attach(host.train()) as part:
            host(x)
            part.aux_loss().backward()
            found.append([part.aux_loss().detach(), *(p.grad for p in part.parameters())])
    for mine, other in zip(*found, strict=True):
        assert torch.equal(mine, other)


def test_reentrant_checkpointing_which_loses_the_gradient_is_refused() -> None:
    host, x = _host()
    for block in host.blocks:
        block.reentrant = True
    with Bump().attach(host.train()), pytest.raises(BadInput, match="use_reentrant=False"):
        host(x.requires_grad_())


def test_outside_a_forward_pass_no_loss_is_counted() -> None:
    host, x = _host()
    with Bump().attach(host) as part:
        host.blocks[0](x)
        assert part.aux_losses() == {} and float(part.aux_loss()) == 0


def test_parameters_of_the_host_that_train_are_saved_and_put_back(tmp_path: Path) -> None:
    host, x = _host()
    before, weights = host(x), {k: v.clone() for k, v in host.state_dict().items()}
    part = Bump(norms=True).attach(host)
    with torch.no_grad():
        host.blocks[1].norm.weight.add_(1.0)
    trained = host(x)
    part.save_pretrained(tmp_path)
    assert "host.blocks.1.norm.weight" in load_file(tmp_path / "adapter_model.safetensors")
    part.detach()
    assert torch.equal(host(x), before) and all(
        torch.equal(v, weights[k]) for k, v in host.state_dict().items()
    )
    part.attach(host)
    assert torch.equal(host(x), trained)
    part.detach()
    part.save_pretrained(tmp_path)
    again = Bump.from_pretrained(tmp_path, host)
    assert torch.equal(host(x), trained)
    again.detach()
    assert torch.equal(host(x), before)


def test_an_adapter_for_another_architecture_is_refused_with_the_place_that_differs() -> None:
    host, _ = _host()
    part = Bump().attach(host)
    part.detach()
    other, _ = _host()
    other.blocks = other.blocks[:2]
    with pytest.raises(CannotAttach, match=r"blocks\.2\.inner"):
        part.attach(other)


def test_settings_survive_the_file_with_their_types_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    host, _ = _host()
    part = Bump(weight=2.0, names=("a", "b")).attach(host)
    part.save_pretrained(tmp_path)
    part.detach()
    again = Bump.from_pretrained(tmp_path)
    assert (again.weight, again.names, again.host) == (2.0, ("a", "b"), None)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace('"weight"', '"wait"'))
    with pytest.raises(BadInput, match="no setting 'wait'"):
        Bump.from_pretrained(tmp_path)


def test_flags_of_the_host_are_restored_one_by_one() -> None:
    host, _ = _host()
    host.enter.requires_grad_(False)
    with Bump().attach(host):
        assert {n for n, p in host.named_parameters() if p.requires_grad} == {
            n for n, _ in host.named_parameters() if n.startswith("vlmtools_")
        }
    assert {n for n, p in host.named_parameters() if not p.requires_grad} == {"enter.weight", "enter.bias"}


def test_a_host_in_training_mode_puts_the_adapter_into_it() -> None:
    host, _ = _host()
    with Bump().attach(host.train()) as part:
        assert part.training
        host.eval()
        assert not part.training


@dataclass(eq=False, repr=False)
class Plain(Connector):
    """One projection."""

    def build(self) -> None:
        self.projection = nn.Linear(self.d_in, self.d_out)

    def forward(self, features: Tensor) -> Tensor:
        self.add_loss("size", features.mean())
        y: Tensor = self.projection(features)
        return y


def test_a_connector_by_itself_opens_and_closes_its_own_list_of_losses() -> None:
    connector = Plain(3, 5)
    for value in (1.0, 2.0):
        connector(torch.full((1, 2, 3), value))
        assert float(connector.aux_loss()) == value


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(BadInput, match="not to str"):
        Plain().attach("a model")
    with pytest.raises(CannotAttach, match="no connector under a known name"):
        Plain().attach(nn.Linear(2, 2))
