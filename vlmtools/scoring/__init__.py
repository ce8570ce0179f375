"""Official metrics as pure functions of strings."""
