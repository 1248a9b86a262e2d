"""The suite against other servers: how each of them serves the known models, and the figures that are published."""
