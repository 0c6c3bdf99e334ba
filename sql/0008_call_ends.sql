-- The ends of calls: each is told once, when every chunk of the call is persisted or dead, to the subscriptions that ask for it.
--
-- Locks: none on tables that are there.
--
-- While programs of the version before this one are still running: the end of a call that one of them records is not told. The
-- chunks that they settle are seen at a beat of a worker of this version.

-- The subscriptions that are told ends. Their places are in sluice.subscription. In a table of their own, which is hardly ever
-- written: each recording and each settlement looks whether there is one.
create table if not exists sluice.call_subscription (
  name text primary key
);

-- The calls whose end is to be told. Written by the recording, and deleted by whoever tells the end: each is told once.
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
