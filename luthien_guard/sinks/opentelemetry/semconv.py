"""Every name that leaves this process as telemetry: `gen_ai.*` behind a switch, `luthien.*` ours.

The GenAI conventions moved house in 2026 and go on moving: what `opentelemetry-semantic-conventions` 0.66b2 calls
"Deprecated: Moved" lives in `open-telemetry/semantic-conventions-genai`, where metrics and some attributes get other
names. Backends parse the older ones today. So a set of names is data, chosen when the sink is made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from luthien_guard.errors import ConfigError

__all__ = ["CONVENTIONS", "Conventions", "Semconv", "choose"]

Semconv = Literal["legacy", "stable", "latest"]

SCOPE: Final = "luthien_guard"  # the instrumentation scope

# -- gen_ai.*: the same in every set -----------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # seconds
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 -- "input" or "output"
DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
ERROR_TYPE: Final = "error.type"
STATUS_CODE: Final = "http.response.status_code"

CHOICE_COUNT: Final = "gen_ai.request.choice.count"
#: Numbers of the request: the key in its JSON (any wire format) and the attribute.
PARAMETERS: Final[Mapping[str, str]] = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": CHOICE_COUNT,
}
CHAT: Final = "chat"  # values of `gen_ai.operation.name`
FETCH: Final = "fetch_response"
#: Well-known values of `gen_ai.operation.name` that are a call of a model: only a span of one of these is "the host
#: already instruments this call"; an agent's or a tool's span around it is a parent like any other.
INFERENCE: Final = frozenset({"chat", "text_completion", "generate_content", "completion", "compaction"})
#: Where `opentelemetry-util-genai` says in the context that an inference span is open.
HOST_INFERENCE_KEY: Final = "opentelemetry.genai.client.inference.context"
#: Marks of a call of a model that name no operation: the conventions before 1.29, OpenLLMetry; and OpenInference's.
HOST_MARKS: Final = ("gen_ai.system", "llm.request.type")
HOST_KIND: Final = ("openinference.span.kind", "LLM")
PROVIDERS: Final[Mapping[str, str]] = {
    "openai.chat": "openai",
    "openai.responses": "openai",
    "anthropic.messages": "anthropic",
}

# -- luthien.* ---------------------------------------------------------------------------------------------------------

CALL_ID: Final = "luthien.call_id"
ENDPOINT: Final = "luthien.endpoint"
WIRE_FORMAT: Final = "luthien.wire_format"
MODEL: Final = "luthien.model"
STREAM: Final = "luthien.stream"
CHUNK_COUNT: Final = "luthien.chunk_count"
OUTCOME: Final = "luthien.outcome"
REASON: Final = "luthien.reason"  # policies quote what they saw: content
RETRIES: Final = "luthien.retries"
ATTEMPT: Final = "luthien.attempt"
BLOCKED_BY: Final = "luthien.blocked_by"
LOST: Final = "luthien.records.lost"
EVENTS_DROPPED: Final = "luthien.events.dropped"
POLICY_NAME: Final = "luthien.policy.name"
POLICY_VERDICT: Final = "luthien.policy.verdict"  # block, abort, retry, change, error
POLICY_HOOK: Final = "luthien.policy.hook"
POLICY_ENFORCED: Final = "luthien.policy.enforced"
POLICY_EVENT: Final = "luthien.policy.event"  # the name that a policy gave to its own record
POLICY_SECONDS: Final = "luthien.policy.seconds"

INTERVENTION: Final = "luthien.intervention"  # span events
NOTED: Final = "luthien.response.noted"
FAILED: Final = "luthien.response.failed"
REJECTED: Final = "luthien.request.rejected"
POLICY_RECORD: Final = "luthien.policy.record"

REQUEST_SPAN: Final = "luthien.request"  # the children
UPSTREAM_SPAN: Final = "luthien.upstream"
RESPONSE_SPAN: Final = "luthien.response"
POLICY_SPAN: Final = "luthien.policy"

EXCHANGE_DURATION: Final = "luthien.exchange.duration"  # metrics
POLICY_DURATION: Final = "luthien.policy.duration"
VERDICTS: Final = "luthien.policy.verdicts"
TELEMETRY_DROPPED: Final = "luthien.telemetry.dropped"
RECORDS: Final = "luthien.records"
RECORDS_DROPPED: Final = "luthien.records.dropped"
DROP_REASON: Final = "luthien.drop.reason"
RECORD_STATE: Final = "luthien.record.state"

#: Histogram boundaries that the conventions recommend.
SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS: Final = tuple(4**power for power in range(14))


@dataclass(frozen=True, slots=True)
class Conventions:
    """The names that differ between the sets; "" for what a set does not have."""

    name: str
    provider: str = "gen_ai.provider.name"
    cache_write_tokens: str = "gen_ai.usage.cache_creation.input_tokens"
    client_duration: str = "gen_ai.client.operation.duration"
    client_first_chunk: str = "gen_ai.client.operation.time_to_first_chunk"
    server_duration: str = "gen_ai.server.request.duration"
    server_first_token: str = "gen_ai.server.time_to_first_token"  # noqa: S105
    #: One histogram with `gen_ai.token.type`, or one for each type.
    token_usage: str = "gen_ai.client.token.usage"  # noqa: S105
    input_tokens: str = ""
    output_tokens: str = ""


CONVENTIONS: Final[Mapping[str, Conventions]] = {
    # v1.36.0, what instrumentations emitted before `gen_ai_latest_experimental`
    "legacy": Conventions("legacy", provider="gen_ai.system", client_first_chunk=""),
    # opentelemetry-semantic-conventions 0.66b2: the last names that the main repository had; what backends read
    "stable": Conventions("stable"),
    # open-telemetry/semantic-conventions-genai in November 2026 (docs/gen-ai/client-inference.md)
    "latest": Conventions(
        "latest",
        cache_write_tokens="gen_ai.usage.cache_write.input_tokens",
        client_duration="gen_ai.client.inference.duration",
        client_first_chunk="gen_ai.client.inference.time_to_first_chunk",
        token_usage="",
        input_tokens="gen_ai.client.inference.operation.input_tokens",
        output_tokens="gen_ai.client.inference.operation.output_tokens",
    ),
}


def choose(semconv: str | None) -> Conventions:
    """The set of that name; None asks the environment (`OTEL_SEMCONV_STABILITY_OPT_IN`). Raises ConfigError."""
    if semconv is None:
        opted = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").replace(" ", "").split(",")
        semconv = "latest" if "gen_ai_latest_experimental" in opted else "stable"
    if semconv not in CONVENTIONS:
        raise ConfigError(f"semconv is {semconv!r}: use one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[semconv]
