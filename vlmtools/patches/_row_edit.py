"""The second primitive: change attention scores, weights or head outputs of a few rows, under the kernel in use.

The kernel runs as it is; the declared rows are then recomputed, O(heads × keys) each, and written over. Edits of
several patches on one module are chained in front of one softmax, in the order they were attached. A neutral edit,
and one without a picture to act on, hands the kernel's output back untouched.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from vlmtools.errors import CannotAttach
from vlmtools.families._kernel import listen
from vlmtools.families._probe import Attention
from vlmtools.families._prompt import Removable
from vlmtools.families._rows import Edit, Plan, Read, Which
from vlmtools.families._session import Session
from vlmtools.patches.base import Live


@dataclass(frozen=True, slots=True, eq=False)
class RowEdit:
    """What to do to which rows.

    Args:
        which: `answer` (from the last prompt position on), `after_image`, `all`, or `first` (row 0 only).
        scores: Changes scaled scores before mask and softmax: function of (rows, (batch, head, row, key)).
        weights: Changes weights after the softmax; they need not add up to 1.
        output: Changes head outputs (batch, head, row, width).
        read: Is shown the weights finally used.
        neutral: True hands everything back untouched.
        needs_image: Leave prompts without picture alone.
        is_on: Asked at every call on top of that.
    """

    which: Which = "answer"
    scores: Edit | None = None
    weights: Edit | None = None
    output: Edit | None = None
    read: Read | None = None
    neutral: bool = False
    needs_image: bool = True
    is_on: Callable[[], bool] = lambda: True

    def install(self, live: Live, attention: Sequence[Attention]) -> Removable:
        """Switch the edit on for some attention modules, all of the decoder or all of the vision tower.

        Args:
            live: The model.
            attention: The modules.

        Raises:
            CannotAttach: There are none, or their kernel cannot be wrapped.
        """
        if not attention:
            raise CannotAttach(
                f"{live.status.patch.name} is set to layers this model does not have: its decoder has "
                f"{len(live.anatomy.layers)}, counted from 0. Choose other layers in its settings."
            )
        session = live.session
        plans = [
            Plan(
                one,
                session,
                self.which,
                self.scores,
                self.weights,
                self.output,
                self.read,
                self._asks(session),
            )
            for one in attention
        ]
        live.status.modules.extend(one.name for one in attention)
        parts = live.anatomy
        in_decoder = attention[0] in parts.attention
        submodel = parts.decoder if in_decoder else parts.model.get_encoder(modality="image")
        with ExitStack() as stack:
            stack.callback(listen(submodel, plans).remove)
            return Removable(stack.pop_all().close)

    def _asks(self, session: Session) -> Callable[[], bool]:
        if self.neutral:
            return lambda: False
        if not self.needs_image or self.which == "first":
            return self.is_on
        return lambda: session.prompt.has_image and self.is_on()


def image_in_text(live: Live) -> None:
    """Refuse a model whose picture is not among the tokens the decoder attends to.

    Args:
        live: The model.

    Raises:
        CannotAttach: It reads the picture by cross-attention, or its image token is unknown.
    """
    parts = live.anatomy
    if parts.family is not None and not parts.family.image_in_text:
        raise CannotAttach(
            f"{parts.family.model_type} reads the picture in cross-attention layers of its own, so no row sees image "
            f"and text tokens together and {live.status.patch.name} has nothing to shift. Methods on head outputs, "
            "such as vhr, work on it."
        )
    if parts.image_token_id is None:
        raise CannotAttach(
            f"The configuration of {type(parts.model).__name__} names no image token, so the picture cannot be found "
            "among the tokens. Set model.config.image_token_id."
        )
