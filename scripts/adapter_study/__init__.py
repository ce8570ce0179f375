"""Parts of the study of trained connectors and adapters: which settings, and the table."""
