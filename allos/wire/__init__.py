"""The two APIs as pure functions: JSON dicts to the values of `allos.messages` and back, whole and streamed."""
