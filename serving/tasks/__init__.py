"""Text to token ids, and what the engine returns to answers: numpy and tokenizers, no torch."""
