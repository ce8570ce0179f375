"""Look inside a model while it answers, and change nothing.

with Trace(vlm, attention=True, heads=True) as seen:
    vlm.answer("beach.jpg", "How many boats are there?")
seen.mass        (layer, batch, step, head): how much of its attention every head gave the picture
"""

from vlmtools.trace.attribution import head_attribution as head_attribution
from vlmtools.trace.divergence import Options as Options
from vlmtools.trace.divergence import TokenDivergence as TokenDivergence
from vlmtools.trace.divergence import head_divergences as head_divergences
from vlmtools.trace.divergence import t_vhd as t_vhd
from vlmtools.trace.divergence import vhd as vhd
from vlmtools.trace.record import Record as Record
from vlmtools.trace.record import maps_gib as maps_gib
from vlmtools.trace.tracing import Trace as Trace
