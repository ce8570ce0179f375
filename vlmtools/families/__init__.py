"""Where things are in each Hugging Face model family: one file per `model_type`."""
