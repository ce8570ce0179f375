"""Parts of the study of token pruners."""
