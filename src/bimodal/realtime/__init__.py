"""Real time: one model behind HTTP, in one or several worker processes."""
