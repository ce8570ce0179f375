"""Every patch file × every family file, on tiny random models that are built once and shared."""
