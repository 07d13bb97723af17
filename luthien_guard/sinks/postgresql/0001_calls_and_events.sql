CREATE TABLE conversation_calls (
    call_id TEXT COLLATE "C" PRIMARY KEY,
    started_at DOUBLE PRECISION,
    ended_at DOUBLE PRECISION,
    wire_format TEXT,
    endpoint TEXT,
    model TEXT,
    stream BOOLEAN,
    session_id TEXT,
    user_id TEXT,
    api_key_hash TEXT,
    outcome TEXT,
    blocked_by TEXT,
    usage TEXT, -- JSON, but no jsonb: that takes no \u0000, and then a peer could decide what can be recorded
    trace_id TEXT,
    writer TEXT
);

CREATE SEQUENCE conversation_events_position;

-- By days, of the time that stands in the id (UUIDv7): so that the key can be unique over all of them, and a day can go as
-- a whole.
CREATE TABLE conversation_events (
    position BIGINT NOT NULL DEFAULT nextval('conversation_events_position'),
    call_id TEXT COLLATE "C" NOT NULL,
    seq INTEGER NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    event_type TEXT NOT NULL,
    policy TEXT,
    payload TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (call_id, seq)
) PARTITION BY RANGE (call_id);

CREATE TABLE conversation_events_other PARTITION OF conversation_events DEFAULT;

CREATE INDEX conversation_events_order ON conversation_events (position);
CREATE INDEX conversation_events_policy ON conversation_events (policy, call_id) WHERE policy IS NOT NULL;
CREATE INDEX conversation_calls_started ON conversation_calls (started_at);
-- a hash has no limit of length, and clients choose what they call a session
CREATE INDEX conversation_calls_session ON conversation_calls USING hash (session_id);
CREATE INDEX conversation_calls_unfinished ON conversation_calls (writer) WHERE ended_at IS NULL;
