"""Compiled decoders: from the bytes of messages to columns without a Python object per item.

`memory`, `wire`, `intern`, `text`, `weight` and `accounts` are shared; each other module is the decoder of one format
and equals its counterpart in `reference`.

Kernels take addresses and scalars, never arrays, which would cost more than the work; they raise nothing and report
one status per message. Every read is bounded by the end of the item that is read; a load of eight bytes may go past it,
but not past the padding that `memory.joined` leaves behind the messages, and what lies past the end never decides.
"""
