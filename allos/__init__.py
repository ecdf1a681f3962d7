"""One import and one command for every model that speaks an OpenAI API."""

__version__ = "0.1.0"
