"""How an endpoint deviates from the API that it speaks, as a value, and what that does to a request body.

Each field has a default that means "as OpenAI's reference says". The rows of `endpoints.toml` set the others.
"""
