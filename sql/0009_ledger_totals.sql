-- What operators ask of the ledger, answered without reading all of it: how many chunks of each kind were persisted, and which
-- call made a row of the application. Nothing is added to persisting a chunk: the beats of workers read what was persisted
-- since, in portions of 5,000 lines, each line once.
--
-- Locks: none but on the new tables, which nobody uses yet.
--
-- While workers of the version before this one are still running: they persist as before, and what they persist is counted. On
-- a ledger that is full already the first beats count it; until then the answers are as slow as they were, and as right.

-- How far the lines are counted: those up to (xact, seq) in the order of the event log, where nothing is written any more. One
-- row. `base` is that of subscription_log: when it has changed, or the place is ahead of this cluster's transactions, the
-- lines were renumbered or came from elsewhere, and counting begins anew. Without the row it does as well.
create table if not exists sluice.ledger_place (
  only_row boolean primary key default true check (only_row),
  base     bigint not null,
  xact     xid8 not null,
  seq      bigint not null
);

-- Lines up to that place, by kind.
create table if not exists sluice.ledger_total (
  namespace       text collate "C" not null,
  schema_identity text collate "C" not null,
  chunks          bigint not null,
  primary key (namespace, schema_identity)
);

-- The rows of the application that a portion of lines became: a hash of each one's id, by the function of hash indexes, which
-- is the same in all versions. Four bytes a row of the application: an index on the ledger cost a twentieth of persisting.
create table if not exists sluice.ledger_digest (
  -- the place before the portion's first line
  xact xid8 not null,
  seq  bigint not null,
  ids  integer[] not null,
  primary key (xact, seq)
);

-- Hashes do not compress.
alter table sluice.ledger_digest alter column ids set storage external;
