"""Models: the attention module, training, what is kept of a trained model."""
