"""OpenTelemetry instrumentations wrap the SDK's methods: they see calls of our clients as they see those of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chat_only import ChatOnly

import allos

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="`make test-ecosystem` installs OpenTelemetry")
pytestmark = [
    pytest.mark.filterwarnings("ignore::allos.UnsupportedWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the instrumentations themselves
]


@pytest.fixture(params=["opentelemetry.instrumentation.openai", "openinference.instrumentation.openai"])
def spans(request: pytest.FixtureRequest) -> Iterator[Any]:
    module = pytest.importorskip(request.param)
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = module.OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter.get_finished_spans
    instrumentor.uninstrument()


def test_both_apis_leave_spans_with_model_and_tokens(server: ChatOnly, spans: Any) -> None:
    with allos.OpenAI("chat_completions", base_url=server.url) as client:
        client.chat.completions.create(model="obvious", messages=[{"role": "user", "content": "Hello"}])
        client.responses.create(model="obvious", input="Hello")
    assert server.paths == {"/v1/chat/completions"}
    seen = spans()
    assert len(seen) == 2
    for span in seen:
        said = {key: value for key, value in span.attributes.items() if "model" in key}
        assert "obvious" in said.values()
        assert 10 in span.attributes.values(), "the sum of tokens"


def test_the_unified_client_leaves_a_span(server: ChatOnly, spans: Any) -> None:
    with allos.Client("chat_completions", "obvious", base_url=server.url) as client:
        assert client.chat("Hello").text == "You said: Hello"
    (span,) = spans()
    assert "obvious" in span.attributes.values()
