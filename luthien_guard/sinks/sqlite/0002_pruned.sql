-- The youngest call that retention has taken, in one line: what comes later of an older call that is gone is not stored.
CREATE TABLE conversation_pruned (
    call_id TEXT PRIMARY KEY
) WITHOUT ROWID;
