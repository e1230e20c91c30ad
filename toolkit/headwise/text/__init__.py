"""Text becomes documents, tokens and windows."""
