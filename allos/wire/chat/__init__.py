"""The codec of Chat Completions: requests, replies and streams, in both directions.

It reads with patience, because nearly every service deviates, and writes by the reference.
"""

from allos.wire.chat.decoder import Decoder
from allos.wire.chat.encoder import TAIL, Encoder, frame
from allos.wire.chat.replies import dump_reply, load_reply
from allos.wire.chat.requests import dump_request, load_request

__all__ = ["TAIL", "Decoder", "Encoder", "dump_reply", "dump_request", "frame", "load_reply", "load_request"]
