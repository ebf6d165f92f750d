"""Rankings of neurons: statistics over prompts, metrics, and the order they give."""
