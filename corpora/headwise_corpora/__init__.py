"""The bundled passages, the index of texts to download, and the loaders of people's own files."""
