"""The contract between the wire formats and the engine. Sans-IO: bytes and dicts in, bytes out.

    bytes -> SSEDecoder -> Chunk -> reader.read(chunk) -> [Piece] -> the engine decides -> writer.write -> bytes

A *reader* finds in each chunk every piece that a policy may have a say about, and says where it stands (a JSON path).
The engine runs the policies and writes its decision into the piece (`piece.out`) or the block (`removed`,
`replacement`). A *writer* turns decided chunks back into bytes: raw bytes where nothing was decided, otherwise the
same JSON text with only the decided places changed (`wire.json_text.patch`).

Rules for readers
-----------------
* Every string of the JSON is accounted for: it is a DELTA, an ECHO, an envelope string that looks like an identifier
  (`is_identifier`), a known enumeration value, or an OPAQUE piece. Object keys that the format does not model and
  that do not look like identifiers are OPAQUE too. Numbers, booleans and nulls are not text.
* Pieces come in the order in which a client would take them.
* A block is made once, at its first piece, with a START piece; its DELTA pieces follow (possibly in other chunks);
  one STOP piece ends it. START, DELTA and STOP may share a chunk. Nothing comes for a block after its STOP: text for
  a closed block is a new block.
* Where clients join the texts of a message, each block says which one it `follows`: that one has its STOP before.
* The reader appends every delta to `block.source` itself.
* A repeat of a block's text (`*.done`, `response.completed`, ...) is an ECHO only when it equals what was assembled
  in `block.source`; a repeat that says something else, or that has no block, is fresh text: a block of its own.
* Fields whose text derives from a block's (logprobs) are DERIVED pieces of it: dropped when the block was changed.
* A reader says `repeats = True` when a frame with one DELTA and nothing else leaves no trace in it but that: the
  engine then need not show it frames that differ in their text only (`wire.alike`). Where that is true already of the
  frame in which a block begins, its START has the path of the DELTA behind it.
* It never raises on any JSON value: shapes it does not understand become OPAQUE pieces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from luthien_guard.events import Channel, Chunk, ToolKind
from luthien_guard.exchange import ChatRequest

if TYPE_CHECKING:
    from luthien_guard.wire.alike import Pattern

__all__ = [
    "Block",
    "Path",
    "Piece",
    "PieceKind",
    "ReadChunk",
    "Reader",
    "WireFormat",
    "Writer",
    "is_identifier",
]

Path: TypeAlias = tuple[str | int, ...]

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_.:/@-]{0,128}\Z")


def is_identifier(text: str) -> bool:
    """True for what an id, a model name or a fingerprint looks like: such envelope strings are not text."""
    return _IDENTIFIER.match(text) is not None


class PieceKind(Enum):
    """What a place in a chunk is."""

    START = "start"  # the block begins; no text of its own
    DELTA = "delta"  # more text of the block (for calls: of its arguments)
    STOP = "stop"  # the block is whole
    ECHO = "echo"  # repeats the block's whole text (for calls: arguments)
    DERIVED = "derived"  # made from the block's text (logprobs): dropped when that was changed
    OPAQUE = "opaque"  # a string that the format does not model: channel `other`, read only
    USAGE = "usage"  # token counts; `value` is the mapping
    FINISH = "finish"  # why the choice ended; `text` is the reason as it came, `value` the choice (None: there is one)
    FAILED = "failed"  # an error object: `text` is its message
    END = "end"  # the terminal event of the stream


class Block:
    """One text or one tool call of a response, shared by reader, engine and writer of one exchange.

    The reader makes it and fills `source`; the engine fills `released`, `changed`, `removed`, `replacement`.
    """

    __slots__ = (
        "changed",
        "channel",
        "choice",
        "closed",
        "codec",
        "follows",
        "id",
        "index",
        "kind",
        "name",
        "new_name",
        "policed",
        "prefix",
        "released",
        "removed",
        "replacement",
        "source",
        "tool_kind",
        "writable",
    )

    def __init__(
        self,
        kind: Literal["text", "call"],
        *,
        choice: int = 0,
        index: int = 0,
        id: str = "",
        name: str = "",
        channel: Channel = "content",
        tool_kind: ToolKind = "function",
        writable: bool = True,
    ) -> None:
        self.kind: Literal["text", "call"] = kind
        self.choice = choice
        self.index = index  # as the format counts: content index, tool index, output index
        self.id = id  # of the call
        self.name = name  # of the tool; complete by STOP at the latest
        self.channel: Channel = channel
        self.tool_kind: ToolKind = tool_kind
        self.writable = writable  # False: may be let through or blocked, never rewritten (signed, encrypted)
        self.closed = False  # set by the reader with STOP
        self.source: list[str] = []  # text or arguments as they came
        # Of a call: the arguments of the closed call that clients take this one to continue.
        self.prefix = ""
        # Of a text: the one that clients read in front of it, where they join texts. It is closed before this one begins.
        self.follows: Block | None = None
        self.codec: Any = None  # the wire format's own notes
        # -- decided by the engine -------------------------------------------------------------------------------
        self.released: list[str] = []  # text or arguments as they leave
        self.changed = False  # `released` differs from `source`
        self.new_name: str | None = None  # of a call that a policy renamed
        self.policed = False  # a policy decides on the whole call: its chunks come to the writer after that
        self.removed = False  # no byte of the block may leave
        self.replacement: str | None = None  # text that stands in the place of a removed block

    @property
    def text(self) -> str:
        return "".join(self.source)

    @property
    def released_text(self) -> str:
        return "".join(self.released)


class Piece:
    """One place in one chunk. `out` is None while it leaves as it came, else the text that leaves instead."""

    __slots__ = ("block", "is_json", "kind", "out", "owner", "path", "text", "value")

    def __init__(
        self,
        kind: PieceKind,
        *,
        block: Block | None = None,
        path: Path = (),
        text: str = "",
        owner: Path = (),
        is_json: bool = False,
        value: Any = None,
    ) -> None:
        self.kind = kind
        self.block = block
        self.path = path  # of the value whose text this is
        self.text = text
        self.owner = owner  # of the element that goes when the block is removed; () if there is none
        self.is_json = is_json  # the value at `path` is JSON, not a string: `text` is its JSON text
        self.value = value
        self.out: str | None = None

    def __repr__(self) -> str:
        return f"Piece({self.kind.value}, {self.path}, {self.text!r}, out={self.out!r})"


class ReadChunk:
    """A chunk with what the reader found in it; what the engine hands to the writer.

    `source` numbers the chunks as they came from upstream (None for chunks that a policy made). With a `pattern` the
    chunk is a frame like that and was not parsed: its `data` is missing.
    """

    __slots__ = ("chunk", "made_by", "pattern", "pieces", "source", "waiting")

    def __init__(
        self,
        chunk: Chunk,
        pieces: Sequence[Piece],
        source: int | None = None,
        pattern: Pattern | None = None,
    ) -> None:
        self.chunk = chunk
        self.pieces = pieces
        self.source = source
        self.pattern = pattern
        self.waiting = 0  # pieces that no policy has released yet; the engine's
        self.made_by: Any = None  # the hook that put it in the place of another; the engine's


class Reader(Protocol):
    """Finds the pieces of one response, chunk by chunk."""

    model: str  # of the response, "" until known
    id: str
    #: Why the chunk that was read last is of no kind that the format knows; "" if it is of one. `foreign.NO_ANSWER` if
    #: nobody can judge it.
    unknown: str

    def read(self, chunk: Chunk) -> list[Piece]:
        """The pieces of a parsed chunk (kinds `data`, `body`, `done`). Never raises."""
        ...

    def close(self) -> list[Piece]:
        """The end of the bytes: STOP pieces of the blocks that are still open (their `closed` stays False if the
        stream was cut inside them)."""
        ...


class Writer(Protocol):
    """Writes one response. Holds the grammar's state, so that what it makes up is legal."""

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        """Bytes of decided chunks, in order, with the source number of those that leave exactly as they came.

        Blocks that are `removed` leave no trace except their `replacement` (as text, in a place that the grammar
        allows); indices, sequence numbers, echoes and finish reasons are made true again. Raises IllegalOutput
        (policy="" and hook="": the engine fills them in) when the result would be illegal.
        """
        ...

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        """End the answer here, well-formed and complete: close what is open, say `message` as text, finish with
        stop / end_turn / completed, usage and the terminal event. Before the first byte this is a whole answer."""
        ...

    def fail(self, status: int, code: str, message: str) -> bytes:
        """The in-band error event of the format (before the first byte of a stream: that alone)."""
        ...

    @property
    def finished(self) -> bool:
        """True once the terminal event has left."""
        ...


class WireFormat(Protocol):
    """One provider API."""

    name: str  # "openai.chat"
    suffix: str  # of the routes that speak it: "/chat/completions"
    keepalive: bytes  # a legal nothing, for SSE
    #: True where text may not follow a tool call (anthropic.messages): explanations must come first, so the engine
    #: decides all calls of a message before it releases the first.
    calls_last: bool
    #: What a call without arguments says in a body: streams say nothing, and policies must see the same.
    no_arguments: str
    #: What `on_block="error"` answers with, and its code: a status after which this provider's clients do not ask again
    #: (Claude Code retries a 400 six times, Codex a 403).
    refusal: tuple[int, str]
    #: True where it may also end a stream that has begun; clients of the other formats would ask again.
    refuses_in_stream: bool

    def read_request(self, body: bytes) -> ChatRequest:
        """Parse a request strictly. Raises MalformedBody or BodyTooLarge."""
        ...

    def write_request(self, body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
        """`body` with only what differs between the two requests changed."""
        ...

    def reader(self, *, stream: bool, choices: int | None = None) -> Reader:
        """`choices`: how many answers the request asked for; None where that is not known."""
        ...

    def writer(
        self, *, stream: bool, model: str, call_id: str, choices: int | None = None, usage: bool = False
    ) -> Writer:
        """`usage`: the request asked for a chunk of usage alone."""
        ...

    def error(self, status: int, code: str, message: str) -> bytes:
        """A JSON error body, in the shape that this provider's clients read."""
        ...
