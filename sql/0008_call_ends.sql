-- The ends of calls: a call ends once, when every chunk of it is persisted or dead. Subscriptions to ends receive them.
--
-- Locks: none on existing tables.
--
-- While programs of the version before this one are still running: a call that one of them records has no end. If one of
-- them settles the last chunk of a call, a beat of a worker of this version writes the end.

-- The subscriptions to ends. Their places are in sluice.subscription. They have a table of their own, which is hardly ever
-- written, because each recording and each settlement checks whether there is one.
create table if not exists sluice.call_subscription (
  name text primary key
);

-- The open calls. The recording writes the row; the statement that deletes it writes the end, so a call has one end.
create table if not exists sluice.open_call (
  call_id text collate "C" primary key
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- The ends, as a log: see persisted_chunk for xact and seq.
create table if not exists sluice.call_end (
  call_id   text collate "C" primary key,
  -- how many chunks of the call are in the ledger, and how many are dead letters
  persisted integer not null,
  dead      integer not null,
  ended_at  timestamptz not null default now(),
  -- subscription_log.base plus the id of the transaction that wrote it
  xact      xid8 not null,
  seq       bigint not null default nextval('sluice.chunk_seq')
);

create index if not exists call_end_order on sluice.call_end (xact, seq);
