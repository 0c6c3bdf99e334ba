-- Totals and digests of the ledger, so that operators' questions do not read all of it: how many chunks of each kind were
-- persisted, and which call made a row of the application. Persisting a chunk writes nothing more: the beats of workers
-- count the new lines, in portions of 5,000.
--
-- Locks: none but on the new tables, which nobody uses yet.
--
-- While workers of the version before this one are still running: they persist as before, and their lines are counted. The
-- first beats count the lines that a ledger already has; until then the answers are right, and as slow as before.

-- How far the lines are counted: up to (xact, seq) in the order of the event log. No line can appear before that any more.
-- One row. `base` is that of subscription_log: if it has changed, or the place is ahead of this cluster's transactions, the
-- lines were renumbered or came from another cluster, and counting starts again. It does so without the row, too.
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

-- The rows of the application that a portion of lines made: a hash of each id, by the function of hash indexes, which is the
-- same in all versions. Four bytes for each row; an index on the ledger would cost a twentieth of the time to persist.
create table if not exists sluice.ledger_digest (
  -- the place before the portion's first line
  xact xid8 not null,
  seq  bigint not null,
  ids  integer[] not null,
  primary key (xact, seq)
);

-- Hashes do not compress.
alter table sluice.ledger_digest alter column ids set storage external;
