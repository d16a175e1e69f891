"""OpenAI's HTTP API and the page, over the engine of `inference/`."""
