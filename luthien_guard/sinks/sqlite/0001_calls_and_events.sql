CREATE TABLE conversation_calls (
    call_id TEXT PRIMARY KEY,
    started_at REAL,
    ended_at REAL,
    wire_format TEXT,
    endpoint TEXT,
    model TEXT,
    stream INTEGER,
    session_id TEXT,
    user_id TEXT,
    api_key_hash TEXT,
    outcome TEXT,
    blocked_by TEXT,
    usage TEXT,
    trace_id TEXT,
    writer TEXT
) WITHOUT ROWID;

CREATE TABLE conversation_events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    call_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    event_type TEXT NOT NULL,
    policy TEXT,
    payload TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL,
    UNIQUE (call_id, seq)
);

CREATE INDEX conversation_calls_session ON conversation_calls (session_id, call_id) WHERE session_id IS NOT NULL;
CREATE INDEX conversation_calls_unfinished ON conversation_calls (writer) WHERE ended_at IS NULL;
CREATE INDEX conversation_events_policy ON conversation_events (policy, call_id) WHERE policy IS NOT NULL;
