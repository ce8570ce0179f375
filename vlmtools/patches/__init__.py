"""Training-free methods that change a loaded model while attached: one file per method."""
