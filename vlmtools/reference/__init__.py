"""The bundled small models and their picture world."""
