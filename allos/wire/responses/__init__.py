"""The Responses API: `POST /responses` as pure functions, whole and streamed, in both directions.

https://platform.openai.com/docs/api-reference/responses

Readers take what careless servers leave out; writers set every field that the reference requires.
"""

from allos.wire.responses.decode import Decoder
from allos.wire.responses.encode import TAIL, Encoder, frame
from allos.wire.responses.items import fresh_id
from allos.wire.responses.reply import dump_reply, load_reply
from allos.wire.responses.request import dump_request, load_request
from allos.wire.responses.steady import Steady, wrong_nulls

__all__ = [
    "TAIL",
    "Decoder",
    "Encoder",
    "Steady",
    "dump_reply",
    "dump_request",
    "frame",
    "fresh_id",
    "load_reply",
    "load_request",
    "wrong_nulls",
]
