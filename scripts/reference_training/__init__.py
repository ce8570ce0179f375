"""How the reference models are trained; `scripts/train_reference.py` is the command."""
