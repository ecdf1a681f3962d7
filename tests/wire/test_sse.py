"""The event reader: any cut of the bytes gives the same events."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allos.wire.sse import Event, Reader, dump


def read(*chunks: bytes) -> list[Event]:
    reader = Reader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return events + reader.end()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_gives_the_same_events(end):
    text = end.join(["event: a", "data: 1", "", ": comment", "", "id: 7", "retry: 10", "data: 2", "data: 3", "", ""])
    assert read(text.encode()) == [Event("a", "1"), Event("", "2\n3")]


def test_a_byte_order_mark_is_no_part_of_the_first_field():
    assert read(b"\xef\xbb\xbfdata: 1\n\n") == [Event("", "1")]


def test_data_without_a_space_is_the_same():
    assert read(b"data:{}\n\n") == [Event("", "{}")]


def test_only_one_space_belongs_to_the_field():
    assert read(b"data:  x\n\n") == [Event("", " x")]


def test_the_last_event_counts_without_a_blank_line():
    assert read(b"data: 1\n\ndata: 2") == [Event("", "1"), Event("", "2")]


def test_an_error_field_becomes_an_error_event():
    assert read(b'error: {"code":500}\n\n') == [Event("error", '{"code":500}')]


def test_comments_are_counted_and_make_no_event():
    reader = Reader()
    assert reader.feed(b": OPENROUTER PROCESSING\n\n: again\n\n") == []
    assert reader.comments == 2


def test_invalid_utf8_is_replaced_and_the_rest_kept():
    assert read(b"data: a\xffb\n\n") == [Event("", "a�b")]


@given(
    st.lists(
        st.sampled_from([b"data", b": ", b"\r", b"\n", b"event", b"\xc3\xa9", b"\xef\xbb\xbf", b"x"]), max_size=30
    ),
    st.data(),
)
def test_any_split_gives_the_same_events(pieces, data):
    whole = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(*chunks) == read(whole)


@given(st.dictionaries(st.text(), st.text()), st.sampled_from(["", "response.created"]))
def test_a_dumped_event_reads_back(payload, name):
    (event,) = read(dump(payload, name))
    assert event.name == name
    assert json.loads(event.data) == payload


def test_a_long_line_in_small_pieces_is_read_in_linear_time():
    line = b"data: " + b"x" * (4 << 20) + b"\n\n"
    (event,) = read(*(line[at : at + 1024] for at in range(0, len(line), 1024)))
    assert len(event.data) == 4 << 20


def test_data_of_several_lines_is_written_as_several_lines() -> None:
    assert Reader().feed(dump("one\ntwo", "name")) == [Event("name", "one\ntwo")]
